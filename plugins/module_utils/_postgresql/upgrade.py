# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module postgresql_upgrade: a data directory to a newer major version by pg_upgrade, first on a copy (private: may change without notice)."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import tempfile
import time
import typing as t
from collections.abc import Mapping
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._kube.redact import Redactor
from ansible_collections.progressive.platform.plugins.module_utils._postgresql import marker
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.backup import COMPONENT, REPOSITORY
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.programs import Programs
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.providers import LATEST, chosen, provider_of
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.restore import (
    ABANDONED,
    DIGEST_WITHIN,
    FORMER,
    REMEMBERED,
    SHOWN,
)
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.scratch import (
    SETTINGS,
    Server,
    empty_directory,
    refuse_no_room,
)
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.wire import identifier
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

UPGRADED = ".upgraded"
"""What the name of the new directory ends with until it takes the place of the old one."""
ROOM = "progressive-upgrade-"
PLACES = ("/usr/lib/postgresql/{}/bin", "/usr/pgsql-{}/bin")
CHECKSUMS = r"Data page checksum version:\s+([1-9])"
SEGMENT = r"Bytes per WAL segment:\s+(\d+)"
LOCALE = (
    "select pg_encoding_to_char(encoding), datcollate, datctype, (select rolname from pg_roles where oid = 10) "
    "from pg_database where datname = 'template0'"
)
PREPARED = "select string_agg(gid, ', ') from pg_prepared_xacts"
LOGICAL = "select string_agg(slot_name, ', ') from pg_replication_slots where slot_type = 'logical'"
EXTENSIONS = (
    "select quote_ident(e.extname) from pg_extension e join pg_available_extensions a on a.name = e.extname "
    "where e.extversion <> a.default_version order by 1"
)
# Good enough for plans of the first minutes; autovacuum makes the rest.
ANALYZE = "set default_statistics_target = 10; analyze"

ARGUMENTS: dict[str, t.Any] = {
    **{name: REPOSITORY[name] for name in ("provider", "backup_name", "config", "storage", "binaries", "user", "timeout")},
    "mode": {"type": "str", "choices": ["rehearse", "upgrade"], "default": "rehearse"},
    "backup": {"type": "str", "default": LATEST},
    "data": {"type": "path"},
    "scratch": {"type": "path"},
    "former_binaries": {"type": "path"},
    "link": {"type": "bool", "default": False},
    "digest_bytes": {"type": "int", "default": 1073741824},
}
CONSTRAINTS: dict[str, t.Any] = {"required_if": [["mode", "upgrade", ["data"]]]}


def run(params: Params, context: Context) -> Result:
    """The module postgresql_upgrade."""
    if params["timeout"] <= 0 or params["digest_bytes"] < 0:
        raise PlatformError("timeout must be more than 0, and digest_bytes must not be negative.")
    task = _Upgrade(params, context)
    return task.rehearse() if params["mode"] == "rehearse" else task.upgrade()


def major_of(data: Path) -> int:
    """Of the server whose data these are."""
    try:
        return int((data / "PG_VERSION").read_text().strip())
    except (OSError, ValueError) as error:
        raise PlatformError(f"{data} is no data directory of PostgreSQL 10 or newer: its PG_VERSION cannot be read.") from error


class _Upgrade:
    def __init__(self, params: Params, context: Context) -> None:
        self.params = params
        self.context = context
        self.clock = context.clock
        self.began = self.clock.now()
        self.deadline = self.began + params["timeout"]
        self.new = Programs(params.get("binaries") or "", params["user"])
        said = self.new.call([self.new.path("postgres"), "--version"], 30.0)
        found = re.search(r"PostgreSQL\)? (\d+)", said)
        if not found:
            raise PlatformError(f"The version of {self.new.path('postgres')} is not known: it said {said.strip()!r}.")
        self.major = int(found[1])
        self.seconds: dict[str, float] = {}

    # ---- on a copy, which is thrown away ---------------------------------------------------------------------------------------

    def rehearse(self) -> Result:
        provider = provider_of(self.params, self.new)
        taken = chosen(provider.backups(), self.params["backup"], LATEST, str(provider))
        result: Result = {"changed": False, "backup": {"id": taken.id, "recovery_point": taken.finished}, "to": self.major}
        if self.context.check:
            return result
        room = self._room()
        try:
            refuse_no_room(room, taken.size * (1 if self.params["link"] else 2), "A rehearsal")
            copy = empty_directory(room / "data", self.new)
            self._told(f"rehearsal: backup {taken.id} is restored")
            began = self.clock.now()
            provider.restore(taken, copy, LATEST, "promote", self._left())
            result["from"] = self._older(copy)
            with Server(copy, self._former(copy), self.clock, self.deadline) as server:
                server.start()
                server.until("select not pg_is_in_recovery()", "it is a primary")
                server.stop()
            self.seconds["restore"] = round(self.clock.now() - began, 1)
            result |= self._upgraded(copy, room / "new")
        finally:
            shutil.rmtree(room, ignore_errors=True)
        self._told(f"rehearsal: {result['from']} to {self.major} works", done=True)
        return {**result, "rehearsed": True}

    # ---- the data themselves -----------------------------------------------------------------------------------------------------

    def upgrade(self) -> Result:
        """The server must stand still, stopped as a primary. A run that was killed leaves the old directory where it was."""
        data = Path(self.params["data"])
        new, former = data.with_name(f"{data.name}{UPGRADED}"), data.with_name(f"{data.name}{FORMER}")
        if not data.is_dir() and former.is_dir() and new.is_dir():
            new.rename(data)  # killed between the two steps of changing places
        found = major_of(data)
        result: Result = {"changed": found != self.major, "from": found, "to": self.major, "data": str(data)}
        if found == self.major:
            return result
        self._older(data)
        if self._runs(data):
            raise PlatformError(f"A server is running on {data}. Stop it in an orderly way, after all its replicas, then run again.")
        if (data / "standby.signal").exists():
            raise PlatformError(f"{data} is a replica's. Upgrade the primary's data, stopped after all its replicas; those copy it anew.")
        if self.context.check:
            return result
        shutil.rmtree(new, ignore_errors=True)
        if not self.params["link"]:
            refuse_no_room(data.parent, _size(data), f"A copy of {data}; link: true makes none,")
        try:
            result |= self._upgraded(data, new)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        remembered = data / REMEMBERED
        if remembered.exists():
            shutil.copy2(remembered, new / REMEMBERED)
            self.new.own(new / REMEMBERED)
        shutil.rmtree(former, ignore_errors=True)
        data.rename(former)
        new.rename(data)
        self._told(f"{data} is PostgreSQL {self.major}'s; what was before is {former}", done=True)
        return {**result, "former": str(former)}

    # ---- both --------------------------------------------------------------------------------------------------------------------

    def _upgraded(self, data: Path, target: Path) -> Result:
        """Make ``target`` of ``data``, start it once, and compare every table; the old server is started and stopped first, as pg_upgrade wants it."""
        former = self._former(data)
        control = former.call([former.path("pg_controldata"), str(data)], 60.0)
        with Server(data, former, self.clock, self.deadline) as server:
            server.start()
            encoding, collate, ctype, owner = server.query(LOCALE)[0]
            prepared = server.query(PREPARED)[0][0]
            if prepared:
                raise PlatformError(f"There are prepared transactions ({prepared}). Commit them or roll them back, then run again.")
            lost = server.query(LOGICAL)[0][0]
            wanted, left_out = marker.digests(_asked(server), self.params["digest_bytes"])
            server.stop()
        self._told(f"pg_upgrade: {major_of(data)} to {self.major}")
        began = self.clock.now()
        empty_directory(target, self.new)
        options = [
            f"--encoding={encoding}",
            f"--lc-collate={collate}",
            f"--lc-ctype={ctype}",
            f"--username={owner}",
            "--auth=trust",
            "--no-sync",
        ]
        options += ["--data-checksums"] if re.search(CHECKSUMS, control) else ["--no-data-checksums"] if self.major >= 18 else []
        segment = re.search(SEGMENT, control)
        options += [f"--wal-segsize={int(segment[1]) // 1048576}"] if segment else []
        self.new.call([self.new.path("initdb"), *options, f"--pgdata={target}"], self._left())
        self._pg_upgrade(former, data, target, str(owner))
        self.seconds["upgrade"] = round(self.clock.now() - began, 1)
        began = self.clock.now()
        facts: Result = {"tables": len(wanted), "left_out": left_out, "extensions": [], "lost_slots": lost.split(", ") if lost else []}
        with Server(target, self.new, self.clock, self.deadline) as server:
            server.start()
            seen, _left_out = marker.digests(_asked(server), self.params["digest_bytes"])
            wrong = marker.differing(wanted, seen)
            if wrong:
                raise PlatformError(f"{len(wrong)} of {len(wanted)} tables are not as they were before: {'; '.join(wrong[:SHOWN])}.")
            for (database,) in server.query(marker.DATABASES):
                for (extension,) in server.query(EXTENSIONS, str(database)):
                    server.query(f"alter extension {extension} update", str(database), DIGEST_WITHIN)
                    facts["extensions"].append(f"{identifier(str(database))}: {extension}")
                server.query(ANALYZE, str(database), self._left())
            facts["system"] = server.query("select system_identifier::text from pg_control_system()")[0][0]
            server.query("checkpoint", within=DIGEST_WITHIN)
            server.stop()
        self.seconds["compare and analyze"] = round(self.clock.now() - began, 1)
        return {**facts, "seconds": {**self.seconds, "all": round(self.clock.now() - self.began, 1)}}

    def _pg_upgrade(self, former: Programs, data: Path, target: Path, owner: str) -> None:
        room = self._room()
        try:
            access = room / "pg_hba.conf"
            access.write_text("local all all trust\n", encoding="utf-8")
            self.new.own(access)
            # It names the socket's folder itself; what a server must not do while it is upgraded is what a restored one must not do.
            settings: Mapping[str, str] = {name: value for name, value in SETTINGS.items() if name not in ("port", "listen_addresses")}
            given = shlex.join(
                [part for name, value in {**settings, "hba_file": str(access)}.items() for part in ("-c", f"{name}={value}")]
            )
            command = [
                *[self.new.path("pg_upgrade"), f"--username={owner}", f"--socketdir={room}", "--no-sync"],
                *[f"--old-datadir={data}", f"--new-datadir={target}"],
                *[f"--old-bindir={Path(former.path('postgres')).parent}", f"--new-bindir={Path(self.new.path('postgres')).parent}"],
                *[f"--old-options={given}", f"--new-options={given}"],
            ]
            for more in (["--check"], ["--link"] if self.params["link"] else []):
                try:
                    self.new.call([*command, *more], self._left(), cwd=room)
                except PlatformError as error:
                    raise PlatformError(f"{error.message} {_reports(target, error.message)}".strip()) from error
        finally:
            shutil.rmtree(room, ignore_errors=True)

    def _former(self, data: Path) -> Programs:
        """The programs of the version that the data are of."""
        major = major_of(data)
        folders = [self.params["former_binaries"]] if self.params.get("former_binaries") else [place.format(major) for place in PLACES]
        for folder in folders:
            if (Path(folder) / "postgres").exists():
                return Programs(str(folder), self.params["user"])
        raise PlatformError(
            f"The programs of PostgreSQL {major} are not on this host (looked in {', '.join(map(str, folders))}); pg_upgrade needs those of both versions. "
            "Take an image that has both, or name their folder in former_binaries."
        )

    def _runs(self, data: Path) -> bool:
        former = self._former(data)
        with contextlib.suppress(PlatformError):
            return "server is running" in former.call([former.path("pg_ctl"), "status", f"--pgdata={data}"], 30.0)
        return False

    def _older(self, data: Path) -> int:
        found = major_of(data)
        if found >= self.major:
            raise PlatformError(
                f"The data are PostgreSQL {found}'s and the programs PostgreSQL {self.major}'s: there is nothing to upgrade to."
            )
        return found

    def _room(self) -> Path:
        try:
            room = Path(tempfile.mkdtemp(prefix=ROOM, dir=self.params.get("scratch")))
        except OSError as error:
            raise PlatformError(f"scratch {self.params.get('scratch')} cannot be written to: {error.strerror}.") from error
        for left in room.parent.glob(f"{ROOM}*"):  # of runs that were killed
            if time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)
        return self.new.own(room)

    def _left(self) -> float:
        return max(self.deadline - self.clock.now(), 1.0)

    def _told(self, text: str, done: bool = False) -> None:
        self.context.progress.report(COMPONENT, text, done=done)


def _asked(server: Server) -> marker.Ask:
    return lambda text, database: server.query(text, database, DIGEST_WITHIN)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _reports(target: Path, said: str) -> str:
    """What pg_upgrade wrote about what it does not take, by file; else the last error of the logs that it sends its reader to, which go with the copy."""
    output = target / "pg_upgrade_output.d"
    texts = {path.name: path for path in sorted(output.glob("*/*.txt"))}
    texts = texts or {path.name: path for path in sorted(output.glob("*/log/*.log")) if path.name in said}
    hide = Redactor().text  # a log of roles has their passwords' verifiers
    told = []
    for name, path in list(texts.items())[:SHOWN]:
        text = hide(" ".join(path.read_text(errors="replace").split()))
        told.append(f"{name}: {text[max(text.rfind('error:'), 0) :][:500]}")
    return "; ".join(told)
