# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What takes backups and keeps the archive of WAL: pgBackRest, or pg_basebackup beside a running pg_receivewal (private: may change without notice)."""

from __future__ import annotations

import datetime
import json
import os
import shlex
import typing as t
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._backup import storage
from ansible_collections.progressive.platform.plugins.module_utils._backup.catalog import (
    Backup,
    Catalog,
    File,
    new_id,
    parse_time,
    sha256,
    stamp,
)
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.model import Json
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.programs import Programs
from ansible_collections.progressive.platform.plugins.module_utils._run import Params, PlatformError

COMPONENT = "postgresql"
LATEST = "latest"
QUESTION_WITHIN = 120.0
"""Seconds for pgBackRest to say what there is."""
SLOT = "archive"
"""Replication slot of the pg_receivewal that keeps the archive for pg_basebackup's backups."""
MISSING = frozenset({1, 3})
"""Codes of a stanza that is not there yet, in the output of pgbackrest info."""


@dataclass(frozen=True)
class Taken:
    """A backup there is. Times are ISO 8601 in UTC; ``size`` is what it restores to and ``stored`` what it takes in the repository, in bytes."""

    id: str
    kind: str
    started: str
    finished: str
    system: str
    size: int
    stored: int
    damaged: bool = False


class Address(t.NamedTuple):
    """Where a server is, and as whom to copy from it."""

    host: str
    port: int
    user: str
    password: str


class Provider(t.Protocol):
    """All methods raise PlatformError, with the tool's own reason."""

    kinds: t.ClassVar[tuple[str, ...]]
    archived: t.ClassVar[str]
    """Question to the primary: the segment or position up to which the archive has the WAL, and why not further."""

    def __str__(self) -> str:
        """Where the backups are, for people."""

    def system(self) -> str:
        """Identifier of the cluster whose WAL the archive holds; empty when it is new."""

    def prepare(self) -> None:
        """Make the archive of a cluster that has none."""

    def follow(self) -> None:
        """The archive goes on with the same cluster in another major version, which has another identifier."""

    def backups(self) -> list[Taken]:
        """Oldest first."""

    def take(self, kind: str, source: Address, system: str, keep: int, within: float) -> Taken:
        """Take a backup, and let those go that are more than ``keep``, with the WAL that only they needed."""

    def archive_command(self, directory: Path) -> str:
        """What a server on that directory archives with; empty where somebody else fetches its WAL."""

    def restore(self, taken: Taken, directory: Path, target: str, action: str, within: float) -> None:
        """Fill an empty directory that starts as a recovery up to ``target`` (a time, or latest), at which it pauses, ends or becomes a primary."""


def provider_of(params: Params, programs: Programs) -> Provider:
    name = params["backup_name"]
    if params["provider"] == "basebackup":
        if not (params.get("storage") or {}).get("path"):
            raise PlatformError(
                "provider basebackup keeps its backups and the archive of WAL in a directory: storage.path is wanted. For a bucket take provider pgbackrest."
            )
        return BaseBackup(name, params, programs)
    return PgBackRest(name, params["config"], programs)


def chosen(backups: Sequence[Taken], wanted: str, target: str, where: str) -> Taken:
    """The backup of that ID, or the newest that ended before the target. Raises PlatformError that lists what there is."""
    there = ", ".join(f"{one.id} (ended {one.finished})" for one in backups[-10:]) or "none; take one: playbooks/backup.yml"
    if wanted != LATEST:
        found = [one for one in backups if one.id == wanted]
        missing = f"there is no backup {wanted}"
    elif target != LATEST:
        found = [one for one in backups if parse_time(one.finished) <= parse_time(target)]
        missing = f"no backup ended before {target}"
    else:
        found, missing = list(backups), "there is no backup"
    if not found:
        raise PlatformError(f"In {where} {missing}; those that are there: {there}")
    if found[-1].damaged:
        raise PlatformError(
            f"Backup {found[-1].id} in {where} is damaged: pages failed their checksums when it was taken. Name another one: {there}"
        )
    if target != LATEST and parse_time(target) < parse_time(found[-1].finished):
        raise PlatformError(
            f"Backup {found[-1].id} ended at {found[-1].finished}, after {target}: it leads to no earlier point. Those that are there: {there}"
        )
    return found[-1]


class PgBackRest:
    """A stanza in a repository that pgBackRest's own configuration file names."""

    kinds: t.ClassVar[tuple[str, ...]] = ("full", "diff", "incr")
    archived: t.ClassVar[str] = (
        "select last_archived_wal, case when last_failed_time > coalesce(last_archived_time, '-infinity') "
        "then 'archive_command failed for ' || last_failed_wal end from pg_stat_archiver"
    )

    def __init__(self, stanza: str, config: str, programs: Programs) -> None:
        self._stanza = stanza
        self._config = config
        self._programs = programs
        if not os.access(config, os.R_OK):
            raise PlatformError(f"pgBackRest's configuration {config} cannot be read on the host the module runs on (config).")

    def __str__(self) -> str:
        return f"pgBackRest's stanza {self._stanza} ({self._config})"

    def system(self) -> str:
        known = self._info().get("db") or []
        return str(known[-1]["system-id"]) if known else ""

    def prepare(self) -> None:
        self._call(QUESTION_WITHIN, "stanza-create")

    def follow(self) -> None:
        self._call(QUESTION_WITHIN, "stanza-upgrade")

    def backups(self) -> list[Taken]:
        info = self._info()
        systems = {one["id"]: str(one["system-id"]) for one in info.get("db") or []}
        return [_taken(one, systems.get(one["database"]["id"], "")) for one in info.get("backup") or []]

    def take(self, kind: str, source: Address, system: str, keep: int, within: float) -> Taken:
        before = {one.id for one in self.backups()}
        retention = [f"--repo1-retention-full={keep}"] if keep else []
        self._call(within, "backup", f"--type={kind}", *retention)
        new = [one for one in self.backups() if one.id not in before]
        if not new:
            raise PlatformError(f"pgbackrest ended well, and {self} shows no new backup. See: pgbackrest --config={self._config} info")
        return new[-1]

    def restore(self, taken: Taken, directory: Path, target: str, action: str, within: float) -> None:
        point = ["--type=default"] if target == LATEST else ["--type=time", f"--target={_moment(target)}", f"--target-action={action}"]
        self._call(within, "restore", f"--set={taken.id}", f"--pg1-path={directory}", *point)

    def archive_command(self, directory: Path) -> str:
        options = [f"--config={self._config}", f"--stanza={self._stanza}", f"--pg1-path={directory}"]
        return f"{shlex.join(['pgbackrest', *options, '--log-level-console=off', 'archive-push'])} %p"

    def _info(self) -> Json:
        text = self._call(QUESTION_WITHIN, "info", "--output=json")
        found: Json = next((one for one in json.loads(text) if one["name"] == self._stanza), {"status": {"code": 1}})
        code = found["status"]["code"]
        if code not in MISSING | {0, 2}:
            reasons = [repo["status"]["message"] for repo in found.get("repo", []) if repo["status"]["code"]] or [
                found["status"].get("message", "")
            ]
            raise PlatformError(f"{self} cannot be read: {'; '.join(reasons)[-600:]}")
        return {} if code in MISSING else found

    def _call(self, within: float, command: str, *options: str) -> str:
        common = [
            f"--config={self._config}",
            f"--stanza={self._stanza}",
            "--log-level-file=off",
            "--log-level-console=off",
            "--log-level-stderr=error",
        ]
        return self._programs.call(["pgbackrest", *common, *options, command], within)


class BaseBackup:
    """Tar files in a catalog, and a folder that a running pg_receivewal fills."""

    kinds: t.ClassVar[tuple[str, ...]] = ("full",)
    archived: t.ClassVar[str] = (
        "select max(restart_lsn)::text, case when coalesce(bool_or(active), false) then null else 'no pg_receivewal reads from slot archive' end "
        "from pg_replication_slots where slot_name = 'archive'"
    )

    def __init__(self, name: str, params: Params, programs: Programs) -> None:
        self._catalog = Catalog(storage.storage_of(params), COMPONENT, name)
        self._programs = programs
        self._path = Path(params["storage"]["path"])
        self.wal = self._path / f"{COMPONENT}-wal" / name

    def __str__(self) -> str:
        return f"{self._path} ({COMPONENT}/{self._catalog.name})"

    def system(self) -> str:
        known = self.backups()
        return known[-1].system if known else ""

    def prepare(self) -> None:
        if not self.wal.is_dir():
            raise PlatformError(
                f"{self.wal}, the archive of WAL, is not there. Have it filled: pg_receivewal --directory={self.wal} --slot={SLOT}, under a supervisor."
            )

    def follow(self) -> None:
        raise PlatformError("Provider basebackup keeps one version's WAL under a name: give the upgraded cluster a backup_name of its own.")

    def backups(self) -> list[Taken]:
        found = []
        for identifier in reversed(self._catalog.complete()):
            backup = self._catalog.find(identifier)
            facts = backup.facts
            found.append(Taken(backup.id, "full", backup.started, backup.finished, facts["system"], int(facts["size"]), backup.size))
        return found

    def take(self, kind: str, source: Address, system: str, keep: int, within: float) -> Taken:
        started = datetime.datetime.now(datetime.UTC)
        kept = self._catalog.storage
        with kept.spool() as spool:
            target = self._programs.own(spool) / "base"
            password = spool / "pgpass"
            password.touch(mode=0o600)
            password.write_text(
                f"*:*:*:{source.user}:{source.password.replace(chr(92), chr(92) * 2).replace(':', chr(92) + ':')}\n", encoding="utf-8"
            )
            self._programs.own(password)
            options = ["--format=tar", "--gzip", "--compress=1", "--wal-method=stream", "--checkpoint=fast", "--no-password"]
            where = [f"--host={source.host}", f"--port={source.port}", f"--username={source.user}", f"--pgdata={target}"]
            self._programs.call([self._programs.path("pg_basebackup"), *where, *options], within, {"PGPASSFILE": str(password)})
            paths = sorted(path for path in target.iterdir() if path.is_file())
            manifest = json.loads((target / "backup_manifest").read_text(encoding="utf-8"))
            facts = {
                "system": system,
                "size": sum(int(file["Size"]) for file in manifest["Files"]),
                "wal": manifest["WAL-Ranges"],
                "first": _segment(manifest["WAL-Ranges"][0]["Timeline"], manifest["WAL-Ranges"][0]["Start-LSN"]),
            }
            files = tuple(File(path.name, path.stat().st_size, sha256(path)) for path in paths)
            finished = stamp(datetime.datetime.now(datetime.UTC))
            backup = Backup(COMPONENT, self._catalog.name, new_id(started, os.urandom(4)), stamp(started), finished, files, facts)
            for path in paths:
                kept.upload(f"{backup.folder}/{path.name}", path)
            self._catalog.keep(backup)
        self._forget(keep)
        return Taken(backup.id, "full", backup.started, backup.finished, system, facts["size"], backup.size)

    def restore(self, taken: Taken, directory: Path, target: str, action: str, within: float) -> None:
        backup = self._catalog.find(taken.id)
        with self._catalog.storage.spool() as spool:
            paths = self._catalog.checked(backup, spool)
            self._unpack(paths["base.tar.gz"], directory, within)
            (directory / "backup_manifest").write_bytes(paths["backup_manifest"].read_bytes())
            self._programs.own(directory / "backup_manifest")
            self._programs.call([self._programs.path("pg_verifybackup"), "--no-parse-wal", "--quiet", str(directory)], within)
            self._unpack(paths["pg_wal.tar.gz"], directory / "pg_wal", within)
        wal = shlex.quote(str(self.wal))
        settings = {"restore_command": f"cp {wal}/%f %p 2>/dev/null || cp {wal}/%f.partial %p"}
        if target != LATEST:
            settings |= {"recovery_target_time": _moment(target), "recovery_target_action": action}
        with (directory / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
            file.writelines(f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in settings.items())
        (directory / "recovery.signal").touch(mode=0o600)
        self._programs.own(directory / "recovery.signal")

    def archive_command(self, directory: Path) -> str:
        return ""

    def _unpack(self, archive: Path, directory: Path, within: float) -> None:
        with archive.open("rb") as file:
            self._programs.call(["tar", "--extract", "--gzip", f"--directory={directory}"], within, stdin=file)

    def _forget(self, keep: int) -> None:
        self._catalog.prune(keep, 0.0, datetime.datetime.now(datetime.UTC))
        oldest = self._catalog.find(self._catalog.complete()[-1])
        if keep and self.wal.is_dir():
            self._programs.call([self._programs.path("pg_archivecleanup"), str(self.wal), str(oldest.facts["first"])], QUESTION_WITHIN)


def _taken(one: Json, system: str) -> Taken:
    started, finished = (stamp(datetime.datetime.fromtimestamp(one["timestamp"][edge], datetime.UTC)) for edge in ("start", "stop"))
    info = one["info"]
    return Taken(
        one["label"], one["type"], started, finished, system, int(info["size"]), int(info["repository"]["delta"]), bool(one.get("error"))
    )


def _moment(text: str) -> str:
    """As PostgreSQL reads a point in time."""
    return parse_time(text).astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00")


def position(text: str) -> int:
    """Bytes of WAL before ``16/B374D848``."""
    high, _slash, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def _segment(timeline: int, lsn: str, size: int = 16 * 1024 * 1024) -> str:
    """Name of the file that holds a position, for segments of the usual size."""
    number = position(lsn) // size
    return f"{timeline:08X}{number // (2**32 // size):08X}{number % (2**32 // size):08X}"
