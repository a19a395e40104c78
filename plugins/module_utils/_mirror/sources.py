# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that others publish, fetched once: named by address and checksum, kept by checksum (private: may change without notice).

Whatever lies in the cache is complete (written beside its name and renamed), so a run that was killed leaves nothing half-done.
"""

from __future__ import annotations

import fnmatch
import hashlib
import shutil
import tarfile
import typing as t
import urllib.parse
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ansible.module_utils.urls import open_url
from ansible_collections.progressive.platform.plugins.module_utils._local.shell import unfinished
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, PlatformError

OPTIONS: dict[str, t.Any] = {
    "version": {"type": "str", "default": ""},
    "address": {"type": "str", "default": ""},
    "sha256": {"type": "str", "default": ""},
    "path": {"type": "path"},
    "members": {"type": "list", "elements": "str", "default": []},
    "licence": {"type": "str", "default": ""},
    "end_of_life": {"type": "str", "default": ""},
}
BLOCK = 1 << 20
SILENCE = 30.0  # seconds without a byte


@dataclass(frozen=True)
class Source:
    """One line of the catalog: a file at ``address`` whose checksum is ``sha256``, or one that is here already (``path``).

    ``members`` are patterns of the files wanted out of it when it is an archive; ``name`` is what messages call it.
    """

    name: str
    version: str = ""
    address: str = ""
    sha256: str = ""
    path: str = ""
    members: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, options: t.Mapping[str, t.Any]) -> Source:
        wanted = {key: str(options.get(key) or "") for key in ("version", "address", "sha256", "path")}
        return cls(name, **wanted, members=tuple(options.get("members") or ()))


def files(source: Source, cache: Path, clock: Clock, timeout: float) -> list[Path]:
    """The file, or the wanted members of the archive that it is; fetched where it is not here yet."""
    archive = Path(source.path) if source.path else _fetched(source, cache, clock.now() + timeout, clock)
    if not archive.is_file():
        raise PlatformError(
            f"{source.name}: {archive} is wanted and not there. Build it, or take path out of platform_sources.{source.name}."
        )
    if source.path and source.sha256 and (seen := sha256(archive)) != source.sha256 and _is_archive(archive):
        raise PlatformError(
            f"{source.name}: {archive} has the SHA-256 {seen}, and {source.sha256} is wanted. Get it anew, or correct the checksum."
        )
    if not source.members or not _is_archive(archive):
        return [archive]
    patterns = hashlib.sha256("\n".join(source.members).encode()).hexdigest()[:12]
    return _members(source, archive, cache / (source.sha256 or sha256(archive)) / f"members-{patterns}")


def present(source: Source, cache: Path) -> Path | None:
    """The file, or the first wanted member, where it is on this machine already; nothing is fetched."""
    archive = Path(source.path) if source.path else cache / place(source.sha256 or "-", source.address)
    return next(iter(files(source, cache, Clock(), 0.0)), None) if archive.is_file() else None


def place(checksum: str, address: str) -> str:
    """Where a file lies below a cache, and below a mirror, so that one can be served as the other."""
    return f"{checksum}/{PurePosixPath(urllib.parse.urlsplit(address).path).name}"


def keep(content: t.IO[bytes], target: Path, checksum: str, wrong: str, each: Callable[[], None] = lambda: None) -> None:
    """Read ``content`` to its end into a file, whole or not at all. PlatformError with ``wrong``, in which ``{seen}`` is the SHA-256 seen, when that is
    another than ``checksum``; ``each`` is called after every block."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = unfinished(target)
    digest = hashlib.sha256()
    try:
        with open(part, "wb") as file:
            while block := content.read(BLOCK):
                digest.update(block)
                file.write(block)
                each()
        if digest.hexdigest() != checksum:
            raise PlatformError(wrong.replace("{seen}", digest.hexdigest()))
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _fetched(source: Source, cache: Path, deadline: float, clock: Clock) -> Path:
    if not source.address or not source.sha256:
        raise PlatformError(
            f"{source.name}: an address and its SHA-256 are wanted, or the path of a file that is here. Set platform_sources.{source.name}."
        )
    url = urllib.parse.urlsplit(source.address)
    if url.scheme not in ("http", "https"):
        raise PlatformError(
            f"{source.name}: {source.address!r} is no address like https://example.com/file. Correct platform_sources.{source.name}."
        )
    target = cache / place(source.sha256, source.address)
    if target.is_file():
        return target

    def in_time() -> None:
        if clock.now() > deadline:
            raise PlatformError(
                f"{source.name}: {source.address} did not come in time. Name a nearer mirror in platform_sources.{source.name}."
            )

    wrong = f"{source.name}: what {source.address} gave has the SHA-256 {{seen}}, and {source.sha256} is wanted. It was thrown away."
    try:
        with open_url(source.address, timeout=SILENCE) as answer:
            keep(answer, target, source.sha256, wrong, in_time)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise PlatformError(
            f"{source.name}: {source.address} cannot be fetched: {reason}. Name a mirror, or the path of a copy, in platform_sources.{source.name}."
        ) from error
    return target


def _members(source: Source, archive: Path, folder: Path) -> list[Path]:
    """The members by their last names, in the archive's order; unpacked once."""
    if not folder.is_dir():
        part = unfinished(folder)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        try:
            for name, mode, content in _walk(archive, source.members):
                target = part / PurePosixPath(name).name
                if target.exists():
                    raise PlatformError(f"{source.name}: {archive} has two files called {target.name}. Make members narrower.")
                with open(target, "wb") as file:
                    shutil.copyfileobj(content, file, BLOCK)
                target.chmod(0o755 if mode & 0o100 else 0o644)
            part.rename(folder)
        except (tarfile.TarError, zipfile.BadZipFile, OSError) as error:
            if not folder.is_dir():  # another run may have been quicker
                raise PlatformError(f"{source.name}: {archive} cannot be unpacked: {error}. Remove it, then run again.") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
    found = sorted(path for path in folder.iterdir())
    if not found:
        shutil.rmtree(folder)
        raise PlatformError(f"{source.name}: {archive} has no file called {' or '.join(source.members)}. Correct members.")
    return found


def _walk(archive: Path, patterns: tuple[str, ...]) -> Iterator[tuple[str, int, t.IO[bytes]]]:
    """Name, mode and content of every file of an archive that matches."""

    def wanted(name: str) -> bool:
        return any(fnmatch.fnmatch(name.removeprefix("./"), pattern) for pattern in patterns)

    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for entry in packed.infolist():
                if not entry.is_dir() and wanted(entry.filename):
                    with packed.open(entry) as content:
                        yield entry.filename, entry.external_attr >> 16, content
    else:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and wanted(member.name) and (file := tar.extractfile(member)):
                    yield member.name, member.mode, file


def _is_archive(path: Path) -> bool:
    return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
