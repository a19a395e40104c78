# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module postgresql_restore: a backup and the archive's WAL into a directory, or into a server that is thrown away (private: may change without notice)."""

from __future__ import annotations

import contextlib
import datetime
import secrets
import shutil
import tempfile
import time
import typing as t
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._backup.catalog import parse_time
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, connect
from ansible_collections.progressive.platform.plugins.module_utils._postgresql import marker
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.backup import (
    COMPONENT,
    REPOSITORY,
    age_of,
    now,
    primary_of,
    store_of,
)
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.converge import CONSTRAINTS as MEMBER_CONSTRAINTS
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.converge import opened, secret_of
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.members import Cluster
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.model import Member
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.programs import Programs
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.providers import (
    LATEST,
    Provider,
    Taken,
    chosen,
    provider_of,
)
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.scratch import Server, empty_directory, refuse_no_room
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.wire import (
    Lost,
    Row,
    SqlError,
    identifier,
    literal,
    verifier,
)
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, Context, Params, PlatformError, Result

ARCHIVED_WITHIN = 120.0
"""Seconds for the archive to get the segment that a drill's rows are in."""
DIGEST_WITHIN = 600.0
SHOWN = 5
RESTORED, FORMER = ".restored", ".former"
"""What a data directory's name ends with until it takes the place of the data, and afterwards."""
ROOM = "progressive-drill-"
REMEMBERED = "patroni.dynamic.json"
"""Where Patroni keeps a cluster's settings beside its data, the archive among them; a copy that is another cluster must not begin with them."""
ABANDONED = 86400.0
"""Seconds after which a drill's directory is nobody's any more."""

ARGUMENTS: dict[str, t.Any] = {
    **REPOSITORY,
    "mode": {"type": "str", "choices": ["restore", "drill", "prepare", "finish"], "default": "restore"},
    "backup": {"type": "str", "default": LATEST},
    "target": {"type": "str", "default": LATEST},
    "data": {"type": "path"},
    "scratch": {"type": "path"},
    "system": {"type": "str"},
    "archive": {"type": "bool", "default": True},
    "digest_bytes": {"type": "int", "default": 1073741824},
}
CONSTRAINTS: dict[str, t.Any] = {
    "mutually_exclusive": MEMBER_CONSTRAINTS["mutually_exclusive"],
    "required_if": [
        ["mode", "restore", ["data"]],
        ["mode", "prepare", ["data"]],
        ["mode", "finish", ["data"]],
        ["mode", "drill", ["pods", "addresses"], True],
    ],
}


def run(params: Params, context: Context) -> Result:
    """The module postgresql_restore."""
    if params["timeout"] <= 0 or params["digest_bytes"] < 0:
        raise PlatformError("timeout must be more than 0, and digest_bytes must not be negative.")
    if params["target"] != LATEST:
        _refuse_unreadable(params["target"])
    if params["mode"] == "drill" and (params["target"] != LATEST or params.get("data")):
        raise PlatformError("A drill chooses its points in time and its directory itself: leave out target and data.")
    programs = Programs(params.get("binaries") or "", params["user"])
    provider = provider_of(params, programs)
    taken = chosen(provider.backups(), params["backup"], params["target"], str(provider))
    if params.get("system") and taken.system != params["system"]:
        raise PlatformError(
            f"Backup {taken.id} is of another cluster: its system identifier is {taken.system}, wanted is {params['system']}. "
            "Nothing was restored; name the other cluster's backups with backup_name, or leave out system."
        )
    task = _Task(params, context, programs, provider, taken)
    return {"drill": task.drill, "restore": task.restore, "prepare": task.prepare, "finish": task.finish}[params["mode"]]()


def _refuse_unreadable(target: str) -> None:
    try:
        if parse_time(target) > datetime.datetime.now(datetime.UTC):
            raise PlatformError(f"target is {target}, which is not over yet.")
    except ValueError as error:
        raise PlatformError(
            f"target is {target!r}: {error}. Wanted is {LATEST}, or a time with its zone: 2026-11-23T15:01:02+00:00."
        ) from error


class _Task:
    """One run, with a backup that was chosen."""

    def __init__(self, params: Params, context: Context, programs: Programs, provider: Provider, taken: Taken) -> None:
        self.params = params
        self.context = context
        self.clock: Clock = context.clock
        self.programs = programs
        self.provider = provider
        self.taken = taken
        self.began = self.clock.now()
        self.deadline = self.began + params["timeout"]

    # ---- into a directory ------------------------------------------------------------------------------------------------

    def restore(self) -> Result:
        """A directory that was recovered up to the target, looked at, and stopped as a primary of a timeline of its own."""
        data = Path(self.params["data"])
        result: Result = {**self._facts(), "changed": True, "target": self.params["target"], "data": str(data)}
        if self.context.check:
            return result
        if not data.parent.is_dir():
            raise PlatformError(f"{data.parent} is not there; data is a directory in one that is.")
        refuse_no_room(data.parent, self.taken.size, f"Backup {self.taken.id}")
        directory = empty_directory(data, self.programs)
        try:
            with self._server(directory, self.params["target"]) as server:
                server.until("select not pg_is_in_recovery()", "it is a primary")
                result["restored"] = {**self._reached(server), "seconds": round(self.clock.now() - self.began, 3)}
                server.query("checkpoint", within=DIGEST_WITHIN)
                server.stop()
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)  # it was empty before; half of a cluster is of no use to anybody
            raise
        self._told(f"backup {self.taken.id} is restored to {data}", done=True)
        return result

    def _reached(self, server: Server) -> dict[str, t.Any]:
        text = "select (pg_control_checkpoint()).timeline_id, (pg_control_system()).system_identifier, pg_current_wal_lsn()"
        _timeline, system, lsn = server.query(text)[0]
        timeline = int(str(server.query("select pg_walfile_name(pg_current_wal_lsn())")[0][0])[:8], 16)
        ticks = server.query("select to_regclass('progressive_platform.tick') is not null")[0][0] == "t"
        last = server.query("select max(at)::text from progressive_platform.tick")[0][0] if ticks else None
        return {"timeline": timeline, "system": system, "lsn": lsn, "last_marker": last}

    # ---- in the place of a cluster's data, in two steps: only the second needs it to stand still -----------------------------

    def prepare(self) -> Result:
        """A directory beside the data that has been recovered up to the target, and waits there. What a killed run left of it is replaced."""
        data = Path(self.params["data"])
        restored = data.with_name(f"{data.name}{RESTORED}")
        result: Result = {**self._facts(), "changed": True, "target": self.params["target"], "data": str(data)}
        if self.context.check:
            return result
        shutil.rmtree(restored, ignore_errors=True)
        refuse_no_room(data.parent, self.taken.size, f"Backup {self.taken.id}, beside the data that are there,")
        directory = empty_directory(restored, self.programs)
        try:
            latest = {"recovery_target": "immediate", "recovery_target_action": "pause"} if self.params["target"] == LATEST else {}
            with self._server(directory, self.params["target"], "pause", latest) as server:
                server.until("select pg_get_wal_replay_pause_state() = 'paused'", f"it has come to {self.params['target']}")
                server.stop()
        except BaseException:
            shutil.rmtree(restored, ignore_errors=True)
            raise
        result["restored"] = {"seconds": round(self.clock.now() - self.began, 3)}
        return result

    def finish(self) -> Result:
        """Make it a primary of a timeline that the archive knows, with today's passwords, and put it in the place of the data, which stay beside it."""
        data = Path(self.params["data"])
        restored, former = data.with_name(f"{data.name}{RESTORED}"), data.with_name(f"{data.name}{FORMER}")
        if not restored.is_dir():
            raise PlatformError(f"{restored} is not there, so there is nothing to put in the place of {data}. Prepare it first.")
        result: Result = {**self._facts(), "changed": True, "target": self.params["target"], "data": str(data)}
        if self.context.check:
            return result
        latest = {"recovery_target": "", "recovery_target_time": ""} if self.params["target"] == LATEST else {}
        secret = _secret(self.params, self.context)
        with Server(restored, self.programs, self.clock, self.deadline) as server:
            command = self.provider.archive_command(restored) if self.params["archive"] else ""
            archive = {"archive_mode": "on", "archive_command": command} if command else {}
            server.start({"recovery_target_action": "promote", **archive, **latest})
            server.until("select not pg_is_in_recovery()", "it is a primary")
            for login, password in logins(secret).items():
                server.query(f"alter role {identifier(login)} password {literal(verifier(password))}")
            result["restored"] = self._reached(server)
            server.query("checkpoint", within=DIGEST_WITHIN)
            if command:
                self._archived(_scratch_asker(server))
            server.stop()
        if not self.params["archive"]:
            (restored / REMEMBERED).unlink(missing_ok=True)
        shutil.rmtree(former, ignore_errors=True)
        if data.exists():
            data.rename(former)
        restored.rename(data)
        result["restored"]["seconds"] = round(self.clock.now() - self.began, 3)
        return result

    # ---- drill -----------------------------------------------------------------------------------------------------------

    def drill(self) -> Result:
        """Restore a point in time and then the latest into a server that is thrown away, and compare rows with the primary's."""
        with opened(self.params, self.context) as (cluster, client):
            primary = primary_of(cluster.observe())
            if primary.system != self.taken.system:
                raise PlatformError(
                    f"Backup {self.taken.id} is of another cluster: its system identifier is {self.taken.system}, this one's {primary.system}."
                )
            if self.context.check:
                return {**self._facts(), "changed": True}
            store = store_of(self.params, client, self.clock)
            note: dict[str, t.Any] = {"backup": self.taken.id, "at": now(), "ok": False}
            result: Result = {**self._facts(), "changed": True}
            try:
                self._prove(cluster, primary, note)
            except PlatformError as error:
                note["problem"] = error.message[:500]
                store.keep("drill", note)
                raise PlatformError(f"The drill failed. {error.message}", **result, drill=note) from error
            note["ok"] = True
            store.keep("drill", note)
        self._told(f"drill with backup {self.taken.id}: a point in time and the latest are as they were", done=True)
        return {**result, "drill": note}

    def _prove(self, cluster: Cluster, primary: Member, note: dict[str, t.Any]) -> None:
        ask = _asker(cluster, primary)
        ask(marker.CREATE, "postgres")
        note["rpo_seconds"] = self._loss(ask)
        word = secrets.token_hex(8)
        before, left_out = marker.digests(ask, self.params["digest_bytes"])
        ask(marker.write(f"{word}-in"), "postgres")
        point = str(ask("select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US+00:00')", "postgres")[0][0])
        after, _left_out = marker.digests(ask, self.params["digest_bytes"])
        ask(marker.write(f"{word}-later"), "postgres")
        # What was the same before and after has stood still at that point.
        still = {table: digest for table, digest in before.items() if after.get(table) == digest}
        self._told("drill: the archive gets what was just written")
        self._archived(ask)
        began = self.clock.now()
        with self._directory() as directory, self._server(directory, point, "pause") as server:
            server.until("select pg_get_wal_replay_pause_state() = 'paused'", f"it has come to {point}")
            self._expect(server, word, later=False, point=point)
            seen, _left_out = marker.digests(_scratch_asker(server), self.params["digest_bytes"])
            wrong = marker.differing(still, seen)
            if wrong:
                more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
                raise PlatformError(
                    f"{len(wrong)} of {len(still)} tables are not as they were at {point}: {'; '.join(wrong[:SHOWN])}{more}."
                )
            server.stop()
            server.start({"recovery_target_time": "", "recovery_target_action": "promote"})
            server.until("select not pg_is_in_recovery()", "it has come to the end of the archive")
            self._expect(server, word, later=True, point=LATEST)
            note["rto_seconds"] = round(self.clock.now() - began, 3)
            note |= {"tables": len(still), "moved": len(before) - len(still), "left_out": left_out, "bytes": self.taken.size}

    def _loss(self, ask: marker.Ask) -> float | None:
        """RPO: how much would be lost if everything but the archive were gone now."""
        until = marker.secured(ask(self.provider.archived, "postgres")[0][0])
        seconds = ask(marker.loss(until), "postgres")[0][0]
        return round(float(seconds), 1) if seconds else None

    def _archived(self, ask: marker.Ask) -> None:
        """Wait until the rows just written are in the archive."""
        wanted = marker.secured(ask("select pg_current_wal_insert_lsn()", "postgres")[0][0])
        ask("select pg_switch_wal()", "postgres")
        deadline = min(self.deadline, self.clock.now() + ARCHIVED_WITHIN)
        while True:
            archived, why = ask(self.provider.archived, "postgres")[0]
            if marker.secured(archived) >= wanted:
                return
            if self.clock.now() > deadline:
                reason = why or f"it has {archived or 'nothing'}"
                raise PlatformError(
                    f"{self.provider} does not get the primary's WAL within {ARCHIVED_WITHIN:.0f} s: {reason}. See the primary's log."
                )
            self.clock.sleep(0.2)

    def _expect(self, server: Server, word: str, later: bool, point: str) -> None:
        """The marker's row of before the point is there, the one after it only in the latest."""
        for name, wanted in ((f"{word}-in", True), (f"{word}-later", later)):
            there = server.query(marker.has(name))[0][0] == "t"
            if there != wanted:
                what = "lacks a row that was written before it" if wanted else "has a row that was written after it"
                raise PlatformError(f"The server restored to {point} {what}.")

    # ---- common ----------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _directory(self) -> Iterator[Path]:
        """Somewhere for a whole cluster, gone with the context."""
        try:
            room = Path(tempfile.mkdtemp(prefix=ROOM, dir=self.params.get("scratch")))
            for left in room.parent.glob(f"{ROOM}*"):  # of runs that were killed; a server whose directory goes ends by itself
                if time.time() - left.stat().st_mtime > ABANDONED:
                    shutil.rmtree(left, ignore_errors=True)
        except OSError as error:
            raise PlatformError(f"scratch {self.params.get('scratch')} cannot be written to: {error.strerror}.") from error
        try:
            self.programs.own(room)
            refuse_no_room(room, self.taken.size, "A drill")
            yield empty_directory(room / "data", self.programs)
        finally:
            shutil.rmtree(room, ignore_errors=True)

    @contextlib.contextmanager
    def _server(self, directory: Path, target: str, action: str = "promote", settings: Mapping[str, str] | None = None) -> Iterator[Server]:
        self._told(f"backup {self.taken.id}: {self.taken.size / 1e6:.0f} MB are restored")
        self.provider.restore(self.taken, directory, target, action, self.deadline - self.clock.now())
        self._told(f"backup {self.taken.id}: the archive's WAL is applied up to {target}")
        with Server(directory, self.programs, self.clock, self.deadline) as server:
            server.start(settings)
            yield server

    def _facts(self) -> dict[str, t.Any]:
        return {
            "backup": {
                "id": self.taken.id,
                "kind": self.taken.kind,
                "system": self.taken.system,
                "recovery_point": self.taken.finished,
                "age_seconds": round(age_of(self.taken.finished), 1),
            },
        }

    def _told(self, text: str, done: bool = False) -> None:
        self.context.progress.report(COMPONENT, text, done=done)


def _secret(params: Params, context: Context) -> dict[str, str]:
    """The values of the Secret with the cluster's own passwords; empty when none is named."""
    if not params.get("password_secret"):
        return {}
    with connect(params, context.clock) as client:
        return secret_of(params, client, "password_secret")


def logins(secret: Mapping[str, str]) -> dict[str, str]:
    """The passwords that a cluster has now, by login; the restored data may have older ones."""
    found = {"postgres": secret.get("superuser", "")}
    for login, key in (("replicator", "replication"), ("rewind", "rewind")):
        found[secret.get(f"{key}.login") or login] = secret.get(key, "")
    return {login: password for login, password in found.items() if password}


def _asker(cluster: Cluster, primary: Member) -> marker.Ask:
    def ask(text: str, database: str) -> Sequence[Row]:
        try:
            return cluster.query(primary, text, database, DIGEST_WITHIN)
        except (SqlError, Lost, OSError, ApiError) as error:
            raise PlatformError(f"Primary {primary.target.name} does not answer: {error}.") from error

    return ask


def _scratch_asker(server: Server) -> marker.Ask:
    def ask(text: str, database: str) -> Sequence[Row]:
        try:
            return server.query(text, database, DIGEST_WITHIN)
        except (SqlError, Lost, OSError) as error:
            raise PlatformError(f"The restored server does not answer: {error}; {server.words()}") from error

    return ask
