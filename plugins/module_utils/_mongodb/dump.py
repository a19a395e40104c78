# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Collections as files of BSON documents, and what tells two of them apart (private: may change without notice).

mongodump's own module cannot be had everywhere this collection is built, so the documents are read and written by the driver, as they are on the wire.
A file is the documents one after the other, compressed: decompressed, it is what ``mongodump`` writes and ``mongorestore`` and ``bsondump`` read.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import struct
import typing as t
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

HASHES = 1 << 256
SMALLEST, LARGEST = 5, 64 * 1024 * 1024
"""Bytes of a document: its length and its end at least, and no more than any server takes."""


@dataclasses.dataclass
class Census:
    """Number, size and digest of documents. The digest is a sum of hashes, so it is the same in whichever order they come."""

    documents: int = 0
    size: int = 0
    total: int = 0

    def add(self, document: bytes) -> None:
        self.documents += 1
        self.size += len(document)
        self.total = (self.total + int.from_bytes(hashlib.sha256(document).digest(), "big")) % HASHES

    @property
    def digest(self) -> str:
        return f"{self.total:064x}"


@dataclasses.dataclass(frozen=True)
class Collection:
    """One collection of a backup. ``indexes`` are as listIndexes gives them, without the one of ``_id``."""

    database: str
    name: str
    file: str
    documents: int
    size: int
    digest: str
    options: Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    indexes: tuple[Mapping[str, t.Any], ...] = ()

    @property
    def title(self) -> str:
        return f"{self.database}.{self.name}"

    def facts(self) -> dict[str, t.Any]:
        return {**dataclasses.asdict(self), "indexes": [dict(index) for index in self.indexes]}

    @classmethod
    def of(cls, facts: Mapping[str, t.Any]) -> Collection:
        return cls(**{**facts, "indexes": tuple(facts["indexes"])})


def write(path: Path, documents: Iterable[bytes]) -> Census:
    """Write the documents, and count them."""
    census = Census()
    with gzip.open(path, "wb", compresslevel=3) as file:
        for document in documents:
            file.write(document)
            census.add(document)
    return census


def read(path: Path, what: str) -> Iterator[bytes]:
    """The documents of a file. Raises PlatformError when it is cut off or none of ours."""
    try:
        with gzip.open(path, "rb") as file:
            while head := file.read(4):
                if len(head) < 4:
                    raise EOFError
                (length,) = struct.unpack("<i", head)
                if not SMALLEST <= length <= LARGEST:
                    raise ValueError(f"a document of {length} bytes")
                rest = file.read(length - 4)
                if len(rest) < length - 4 or rest[-1:] != b"\0":
                    raise EOFError
                yield head + rest
    except (OSError, EOFError, ValueError) as error:
        raise PlatformError(f"{what} is damaged ({str(error) or 'it ends in the middle of a document'}). Take another backup.") from error


def batches(documents: Iterable[bytes], count: int, size: int) -> Iterator[list[bytes]]:
    """Documents in lists of at most ``count`` and about ``size`` bytes."""
    batch: list[bytes] = []
    held = 0
    for document in documents:
        if batch and (len(batch) >= count or held + len(document) > size):
            yield batch
            batch, held = [], 0
        batch.append(document)
        held += len(document)
    if batch:
        yield batch
