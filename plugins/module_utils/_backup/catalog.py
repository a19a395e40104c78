# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a backup is: files, and a manifest that is written last and says what they ought to be (private: may change without notice).

Of every database. A backup lies under ``<component>/<name>/<id>/``; files without a manifest are a backup that was not finished, and are never taken for one.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import re
import typing as t
from collections.abc import Iterable, Mapping
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._backup.storage import Storage
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

FORMAT = 1
MANIFEST = "manifest.json"
LATEST = "latest"
STAMP = "%Y%m%dT%H%M%SZ"
IDENTIFIER = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4,16}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")
ABANDONED = datetime.timedelta(days=1)
"""Age at which files without a manifest are left over, and not a backup on its way."""
CHUNK = 1024 * 1024


@dataclasses.dataclass(frozen=True)
class File:
    """A file of a backup; ``size`` in bytes."""

    name: str
    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Backup:
    """A manifest. ``facts`` are what the database's own part wants to know of it; times are ISO 8601 in UTC."""

    component: str
    name: str
    id: str
    started: str
    finished: str
    files: tuple[File, ...]
    facts: Mapping[str, t.Any]

    @property
    def folder(self) -> str:
        return f"{self.component}/{self.name}/{self.id}"

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def to_json(backup: Backup) -> str:
    return json.dumps({"format": FORMAT, **dataclasses.asdict(backup)}, indent=1) + "\n"


def from_json(text: str | bytes, where: str) -> Backup:
    """Raises PlatformError when the manifest at ``where`` is damaged or of a format that is not known here."""
    try:
        fields = json.loads(text)
        written = fields.pop("format")
        if written != FORMAT:
            raise PlatformError(
                f"The manifest {where} has format {written}; this collection reads format {FORMAT}. Use the one that wrote it."
            )
        files = tuple(File(file["name"], int(file["size"]), file["sha256"]) for file in fields.pop("files"))
        backup = Backup(files=files, **fields)
        parse_time(backup.started), parse_time(backup.finished)
        if any("/" in file.name or file.name.startswith(".") for file in files) or not isinstance(backup.facts, dict):
            raise ValueError("it names files outside the backup")
        return backup
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlatformError(f"The manifest {where} is damaged ({type(error).__name__}: {error}). Take another backup.") from error


def new_id(now: datetime.datetime, salt: bytes) -> str:
    """Sorts by time, of one second by microseconds; the salt keeps two of one moment apart. At most 5 bytes of salt."""
    return f"{now.strftime(STAMP)}-{now.microsecond:05x}{salt.hex()}"


def taken(identifier: str) -> datetime.datetime:
    return datetime.datetime.strptime(identifier[:16], STAMP).replace(tzinfo=datetime.UTC)


def stamp(now: datetime.datetime) -> str:
    return now.isoformat(timespec="milliseconds")


def parse_time(text: str) -> datetime.datetime:
    found = datetime.datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return found


def expired(identifiers: Iterable[str], keep: int, keep_days: float, now: datetime.datetime) -> list[str]:
    """Which complete backups may go: those that neither the number nor the age keeps (0: that rule keeps none). The newest always stays."""
    newest_first = sorted(identifiers, reverse=True)
    if not keep and not keep_days:
        return []
    oldest = now - datetime.timedelta(days=keep_days)
    return [one for rank, one in enumerate(newest_first) if rank >= max(keep, 1) and (not keep_days or taken(one) < oldest)]


class Catalog:
    """The backups of one database in a storage."""

    def __init__(self, storage: Storage, component: str, name: str) -> None:
        if not NAME.fullmatch(name):
            raise PlatformError(f"name is {name!r}; as part of a path it may have letters, digits, dots, dashes and underscores only.")
        self.storage = storage
        self.component = component
        self.name = name
        self._root = f"{component}/{name}"

    def complete(self) -> list[str]:
        """Newest first."""
        return sorted((one for one, names in self._folders().items() if MANIFEST in names), reverse=True)

    def find(self, wanted: str) -> Backup:
        """The backup of that ID, or the latest. Raises PlatformError that lists what there is."""
        found = self.complete()
        identifier = found[0] if wanted == LATEST and found else wanted
        if identifier not in found:
            there = ", ".join(found[:10]) or "none"
            asked = "there is no complete backup" if wanted == LATEST else f"there is no complete backup {wanted}"
            raise PlatformError(f"In {self.storage} under {self._root} {asked}; complete ones: {there}. Take one: playbooks/backup.yml")
        name = f"{self._root}/{identifier}/{MANIFEST}"
        backup = from_json(self.storage.read(name), f"{self.storage}: {name}")
        if (backup.component, backup.name, backup.id) != (self.component, self.name, identifier):
            raise PlatformError(f"The manifest {name} is that of {backup.folder}: files were moved. Take another backup.")
        return backup

    def keep(self, backup: Backup) -> None:
        """Makes a backup of the files that have been uploaded."""
        self.storage.write(f"{backup.folder}/{MANIFEST}", to_json(backup).encode())

    def prune(self, keep: int, keep_days: float, now: datetime.datetime) -> list[str]:
        """Remove what retention does not keep, and files that a run left without a manifest; returns their IDs. The manifest goes first."""
        folders = self._folders()
        whole = [one for one, names in folders.items() if MANIFEST in names]
        left = [one for one in folders if one not in whole and taken(one) < now - ABANDONED]
        gone = expired(whole, keep, keep_days, now) + left
        for one in gone:
            names = sorted(folders[one], key=lambda name: name != MANIFEST)
            self.storage.remove([f"{self._root}/{one}/{name}" for name in names])
        return sorted(gone)

    def checked(self, backup: Backup, directory: Path) -> dict[str, Path]:
        """Local copies of all files, each compared with the manifest; raises PlatformError that names the first damaged one."""
        paths = {}
        for file in backup.files:
            path = self.storage.fetch(f"{backup.folder}/{file.name}", directory)
            size = path.stat().st_size
            where = f"{file.name} of backup {backup.id} in {self.storage}"
            if size != file.size:
                raise PlatformError(f"{where} is damaged: it has {size} bytes, {file.size} were written. Take another backup (backup: ID).")
            if sha256(path) != file.sha256:
                raise PlatformError(f"{where} is damaged: its SHA-256 is not the one that was written. Take another backup (backup: ID).")
            paths[file.name] = path
        return paths

    def _folders(self) -> dict[str, list[str]]:
        """Names of the files of every ID."""
        folders: dict[str, list[str]] = {}
        for name in self.storage.names(self._root):
            identifier, _slash, rest = name.removeprefix(f"{self._root}/").partition("/")
            if rest and IDENTIFIER.fullmatch(identifier):
                folders.setdefault(identifier, []).append(rest)
        return folders


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
