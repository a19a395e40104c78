# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backup, restore to a point in time and drill with real PostgreSQL, Patroni and pgBackRest: what was there is there, and what is wrong is named."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._health.kinds import KINDS
from ansible_collections.progressive.platform.plugins.module_utils._health.postgresql import problems_of
from ansible_collections.progressive.platform.plugins.module_utils._postgresql import backup, restore, scratch
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.converge import INFO_ARGUMENTS
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.converge import opened as opened_members
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.programs import Programs
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.wire import Lost, SqlError
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, Context, PlatformError, Result
from ansible_collections.progressive.platform.tests.postgresql import lab as laboratory
from ansible_collections.progressive.platform.tests.postgresql.faults import record
from ansible_collections.progressive.platform.tests.postgresql.lab import PASSWORDS, SETTINGS, Lab, until
from ansible_collections.progressive.platform.tests.unit.backup import s3

# Forming with an archive, backups and drills take minutes on two cores.
pytestmark = pytest.mark.slow

STANZA = "shop"
simulator = s3.simulator


class Archive:
    """A lab whose primary archives into a repository on this host, and the two modules."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.repository = folder / "repository"
        self.config = folder / "pgbackrest.conf"
        self.members = folder / "members.conf"
        common = {
            "repo1-path": self.repository,
            "repo1-retention-full": 2,
            "lock-path": folder / "lock",
            "log-path": folder / "log",
            "log-level-file": "off",
            "archive-timeout": 60,
            "start-fast": "y",
            "compress-type": "lz4",
            "process-max": 2,
        }
        text = "[global]\n" + "".join(f"{key}={value}\n" for key, value in common.items())
        self.members.write_text(text)
        text += f"[{STANZA}]\n"
        for number, member in enumerate(lab.members, 1):
            text += f"pg{number}-path={member.folder}/data\npg{number}-port={member.ports['sql']}\npg{number}-socket-path={member.folder}\n"
        self.config.write_text(text)

    def settings(self, **parameters: Any) -> dict[str, Any]:
        changed = copy.deepcopy(SETTINGS)
        command = f'pgbackrest --config={self.members} --stanza={STANZA} --pg1-path="$PWD" --log-level-console=off archive-push %p'
        archive = {"archive_mode": "on", "archive_command": command, "archive_timeout": "60s"}
        changed["postgresql"]["parameters"] |= {**archive, **parameters}
        return changed

    def take(self, check: bool = False, **params: Any) -> Result:
        return self._call(backup, check, {"config": str(self.config), **params})

    def put(self, check: bool = False, **params: Any) -> Result:
        return self._call(restore, check, {"config": str(self.members), **params})

    def _call(self, module: Any, check: bool, given: dict[str, Any]) -> Result:
        defaults = {name: option.get("default") for name, option in module.ARGUMENTS.items()}
        return dict(module.run({**defaults, **self.lab.given, "backup_name": STANZA, **given}, Context(check=check)))

    def writes(self, text: str) -> bool:
        with contextlib.suppress(SqlError, Lost, OSError):
            self.sql(text)
            return True
        return False

    def archived(self) -> None:
        """Everything up to now is in the archive."""
        wanted = self.sql("select pg_walfile_name(pg_current_wal_insert_lsn())")[0][0]
        self.sql("select pg_switch_wal()")
        until(lambda: (self.sql("select last_archived_wal from pg_stat_archiver")[0][0] or "") >= wanted, "the archive has it")

    def sql(self, text: str) -> list[list[Any]]:
        return self.lab.sql(self.lab.primary(), text)


@pytest.fixture(scope="module")
def archive() -> Iterator[Archive]:
    with laboratory.lab(3) as lab:
        made = Archive(lab, owned(lab.members[0].folder.parent / "backups"))
        lab.converge(config=SETTINGS)

        def archiving() -> bool:
            lab.converge(config=made.settings())
            return made.sql("show archive_mode") == [["on"]]

        until(archiving, "the primary was restarted with an archive")
        made.sql("create table goods (name text); insert into goods select 'tea ' || n from generate_series(1, 5000) n")
        yield made


def owned(folder: Path) -> Path:
    """A folder that PostgreSQL's user may fill."""
    folder.mkdir(mode=0o755)
    if laboratory.AS_POSTGRES:
        shutil.chown(folder, "postgres", "postgres")
    return folder


@pytest.fixture
def rows(archive: Archive) -> int:
    """How many goods there are, one more than before, in a backup of this test's own."""
    archive.sql("insert into goods values ('milk')")
    return int(archive.sql("select count(*) from goods")[0][0])


@contextlib.contextmanager
def opened(archive: Archive, directory: Path) -> Iterator[scratch.Server]:
    """A restored directory, started by hand."""
    with scratch.Server(directory, Programs(), Clock(), time.monotonic() + laboratory.PATIENCE) as server:
        server.start({"restore_command": "", "recovery_target_time": ""})
        yield server
        server.stop()


def said(archive: Archive) -> str:
    """What health says of the servers."""
    options = {name: option.get("default") for name, option in KINDS["postgresql"].options.items()}
    defaults = {name: option.get("default") for name, option in INFO_ARGUMENTS.items()}
    with opened_members({**defaults, **archive.lab.given}, Context()) as (cluster, _client):
        return "; ".join(problems_of(cluster.observe(), options))


def moment(archive: Archive) -> str:
    """Now, by the primary, with a commit on either side."""
    said = archive.sql("select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US+00:00')")[0][0]
    time.sleep(0.1)
    return str(said)


def test_backups_follow_each_other_and_a_drill_proves_them(archive: Archive, rows: int) -> None:
    assert archive.take(check=True)["plan"] == [
        f"a full backup of {archive.lab.primary().name} goes to pgBackRest's stanza shop ({archive.config})"
    ]
    full = archive.take()["backup"]
    assert full["kind"] == "full" and full["bytes"] > full["stored_bytes"] > 0
    archive.sql("insert into goods values ('bread')")
    again = archive.take(kind="incr")
    assert again["backup"]["stored_bytes"] < full["stored_bytes"] / 2
    assert [one["kind"] for one in again["backups"]][-2:] == ["full", "incr"]
    drilled = archive.put(mode="drill", scratch=str(archive.folder))
    drill = drilled["drill"]
    assert drill["ok"] and drill["tables"] == 1 and drill["backup"] == again["backup"]["id"]
    assert drill["rpo_seconds"] is not None and 0 < drill["rto_seconds"] < laboratory.PATIENCE
    assert not list(archive.folder.glob("progressive-drill-*")) and "never-shown" not in json.dumps([again, drilled])


def test_a_point_in_time_before_the_accident(archive: Archive, rows: int, tmp_path: Path) -> None:
    archive.take()
    archive.sql("insert into goods values ('sugar')")
    before = moment(archive)
    archive.sql("delete from goods")
    target = archive.folder / "restored"
    with pytest.raises(PlatformError, match="the archive does not reach it yet"):
        archive.put(target=before, data=str(target))
    assert not target.exists()
    archive.archived()
    restored = archive.put(target=before, data=str(target))
    try:
        assert restored["restored"]["timeline"] > 1 and restored["restored"]["system"] == restored["backup"]["system"]
        with opened(archive, target) as server:
            assert server.query("select count(*) from goods")[0][0] == str(rows + 1)
        with pytest.raises(PlatformError, match="restored is not empty, so nothing is restored into it"):
            archive.put(target=before, data=str(target))
        assert archive.sql("select count(*) from goods") == [["0"]]
    finally:
        shutil.rmtree(target)
        archive.sql("insert into goods select 'tea ' || n from generate_series(1, 5000) n")


def test_what_cannot_be_restored_is_refused_by_name(archive: Archive, rows: int) -> None:
    archive.take()
    target = archive.folder / "never"
    for given, words in (
        ({"backup": "20200101-000000F"}, "there is no backup 20200101-000000F; those that are there: 20"),
        ({"target": "2020-01-01T00:00:00+00:00"}, "no backup ended before 2020-01-01T00:00:00"),
        ({"target": "2020-01-01T00:00:00"}, "has no time zone"),
        ({"target": "2999-01-01T00:00:00+00:00"}, "which is not over yet"),
        ({"system": "7000000000000000000"}, "is of another cluster: its system identifier is"),
        ({"data": "/nowhere/at/all"}, "/nowhere/at is not there"),
        ({"backup_name": "other"}, "there is no backup"),
    ):
        with pytest.raises(PlatformError, match=re.escape(words)):
            archive.put(**{"data": str(target), **given})
    assert not target.exists()


def test_a_damaged_backup_is_named_and_leaves_nothing(archive: Archive, rows: int) -> None:
    identifier = archive.take()["backup"]["id"]
    damaged = max((archive.repository / f"backup/{STANZA}/{identifier}/pg_data/base").rglob("*.lz4"), key=lambda path: path.stat().st_size)
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 0xFF
    damaged.write_bytes(data)
    target = archive.folder / "never"
    with pytest.raises(PlatformError, match=r"pgbackrest failed: .*(checksum|lz4|restore file)"):
        archive.put(data=str(target))
    assert not target.exists()
    with pytest.raises(PlatformError, match=r"The drill failed\. pgbackrest failed") as failed:
        archive.put(mode="drill", scratch=str(archive.folder))
    assert not failed.value.details["drill"]["ok"] and failed.value.details["drill"]["problem"]
    words = re.sub(r"/tmp/\S+/", "", failed.value.message)[:300]
    record("a file of a backup is damaged", words, "refused, and nothing is written; another backup is named, or taken", where="loopback")


def test_an_archive_of_another_cluster_gets_nothing(archive: Archive) -> None:
    """Its first segment would be the end of what is there."""
    other = archive.folder / "other"
    programs = Programs()
    programs.call([programs.path("initdb"), "--no-sync", "--auth=trust", "--username=postgres", f"--pgdata={other}"], laboratory.PATIENCE)
    with scratch.Server(other, programs, Clock(), time.monotonic() + laboratory.PATIENCE) as server:
        server.start()
        room = server._room
        common = [f"--config={archive.members}", "--stanza=other", f"--pg1-path={other}", f"--pg1-socket-path={room}", "--no-online"]
        programs.call(["pgbackrest", *common, "stanza-create"], laboratory.PATIENCE)
    for module in (lambda: archive.take(backup_name="other"), lambda: archive.take(backup_name="other", check=True)):
        with pytest.raises(PlatformError, match="holds the backups of another cluster"):
            module()
    shutil.rmtree(other)


def test_the_primary_lives_on_without_its_archive(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.take()
    monkeypatch.setattr(restore, "ARCHIVED_WITHIN", 3.0)
    gone = archive.repository.rename(archive.folder / "away")
    try:
        archive.repository.touch()
        archive.sql("insert into goods values ('salt'); select pg_switch_wal()")
        until(lambda: archive.lab.info()["archive"]["failing"], "the archive fails")
        archive.sql("insert into goods values ('pepper')")
        record(
            "the archive's target is gone",
            said(archive),
            "the primary keeps the WAL and takes writes; archived once it is back",
            where="loopback",
        )
        with pytest.raises(PlatformError, match=r"pgBackRest's stanza shop|pgbackrest failed"):
            archive.take()
        with pytest.raises(PlatformError, match=r"pgBackRest's stanza shop|pgbackrest failed"):
            archive.put(mode="drill", scratch=str(archive.folder))
    finally:
        archive.repository.unlink()
        gone.rename(archive.repository)
    until(lambda: not archive.lab.info()["archive"]["failing"], "the archive goes on where it was")
    assert archive.put(mode="drill", scratch=str(archive.folder))["drill"]["ok"]


def test_backups_go_on_after_a_failover(archive: Archive, rows: int) -> None:
    archive.take()
    former = archive.lab.primary()
    former.kill()
    until(lambda: archive.writes("insert into goods values ('after the failover')"), "another one takes over")
    drill = archive.put(mode="drill", scratch=str(archive.folder))["drill"]
    assert drill["ok"] and drill["tables"] == 1
    former.start()
    archive.lab.converge(config=archive.settings())


def test_killed_anywhere_the_next_run_heals(archive: Archive) -> None:
    """SIGKILL to the module and everything it started, at many moments of a backup and of a drill."""
    archive.sql("create table if not exists ballast as select n, repeat('x', 500) from generate_series(1, 60000) n")
    for run in ("take", "put"):
        given = {"mode": "drill", "scratch": str(archive.folder)} if run == "put" else {"kind": "full"}
        for moment_ in (0.2, 0.5, 1.0, 1.5, 2.0, 3.0):
            child = os.fork()
            if not child:
                os.setsid()
                with contextlib.suppress(BaseException):
                    getattr(archive, run)(**given)
                os._exit(0)
            time.sleep(moment_)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
        assert archive.take()["backup"]["id"]
        assert archive.put(mode="drill", scratch=str(archive.folder))["drill"]["ok"]
    archive.sql("drop table ballast")


def test_a_bucket_holds_backups_and_archive_as_well(archive: Archive, simulator: str, tmp_path: Path) -> None:
    """Against moto, a simulator of S3, over TLS, without which pgBackRest speaks to no bucket."""
    files = (archive.config, archive.members)
    before = [file.read_text() for file in files]
    archive.folder.joinpath("ca").mkdir()
    with s3.secure(simulator, archive.folder / "ca") as (port, authority):
        s3.emptied(simulator)
        options = {
            "repo1-type": "s3",
            "repo1-path": "/shop",
            "repo1-s3-bucket": "backups",
            "repo1-s3-endpoint": "localhost",
            "repo1-s3-region": "us-east-1",
            "repo1-s3-uri-style": "path",
            "repo1-s3-key": "key",
            "repo1-s3-key-secret": s3.SECRET,
            "repo1-storage-port": port,
            "repo1-storage-ca-file": authority,
        }
        lines = "".join(f"{name}={value}\n" for name, value in options.items())
        try:
            for file, text in zip(files, before, strict=True):
                file.write_text(text.replace(f"repo1-path={archive.repository}\n", lines))
            archive.sql("insert into goods values ('in a bucket')")
            taken = archive.take()
            point = moment(archive)
            archive.sql("insert into goods values ('later')")
            drilled = archive.put(mode="drill", scratch=str(archive.folder))
            assert drilled["drill"]["ok"] and drilled["backup"]["id"] == taken["backup"]["id"]
            target = archive.folder / "from-bucket"
            assert archive.put(target=point, data=str(target))["restored"]["timeline"] > 1
            shutil.rmtree(target)
            assert s3.SECRET not in json.dumps([taken, drilled])
        finally:
            for file, text in zip(files, before, strict=True):
                file.write_text(text)
    shutil.rmtree(archive.folder / "ca")


def test_in_the_place_of_the_data(archive: Archive, rows: int) -> None:
    """The two halves of a restore in place: recovered beside the data, and only then a primary, with today's passwords, that the archive knows."""
    archive.take()
    point = moment(archive)
    archive.sql("insert into goods values ('too late')")
    archive.archived()
    place = owned(archive.folder / "volume") / "pgdata"
    owned(place)
    (place / "of-the-old-cluster").touch()
    given = {"data": str(place), "target": point}
    archive.put(mode="prepare", **given)
    archive.put(mode="prepare", **given)
    assert (place / "of-the-old-cluster").exists() and (place.parent / "pgdata.restored/recovery.signal").exists()
    restored = archive.put(mode="finish", **given)["restored"]
    history = archive.repository / f"archive/{STANZA}/15-1/{restored['timeline']:08X}.history"
    assert history.exists() and restored["timeline"] > 1 and (place.parent / "pgdata.former/of-the-old-cluster").exists()
    with opened(archive, place) as server:
        assert server.query("select count(*) from goods")[0][0] == str(rows)
    with pytest.raises(PlatformError, match="there is nothing to put in the place of"):
        archive.put(mode="finish", **given)
    shutil.rmtree(place.parent)
    # A dead branch in the archive, which whoever restores the latest would follow.
    for path in history.parent.glob(f"{restored['timeline']:08X}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_a_copy_beside_leaves_the_archive_to_the_other(archive: Archive, rows: int) -> None:
    """The same two halves for a new cluster: no data are there yet, and its timeline is nobody else's business."""
    archive.take()
    point = moment(archive)
    archive.sql("insert into goods values ('too late')")
    archive.archived()
    place = owned(archive.folder / "new") / "pgdata"
    before = {path.name for path in (archive.repository / f"archive/{STANZA}/15-1").iterdir()}
    given = {"data": str(place), "target": point}
    archive.put(mode="prepare", **given)
    prepared = place.with_name("pgdata.restored")
    assert "archive_command" in (prepared / restore.REMEMBERED).read_text(), "what Patroni would begin with, and write into the archive"
    archive.put(mode="finish", archive=False, **given)
    assert not (place / restore.REMEMBERED).exists() and not place.with_name("pgdata.former").exists()
    with opened(archive, place) as server:
        assert server.query("select count(*) from goods")[0][0] == str(rows)
    assert {path.name for path in (archive.repository / f"archive/{STANZA}/15-1").iterdir()} == before
    assert archive.put(mode="drill", scratch=str(archive.folder))["drill"]["ok"]
    shutil.rmtree(place.parent)


# ---- the fallback: nothing but PostgreSQL's own programs -----------------------------------------------------------------------


@contextlib.contextmanager
def receiving(archive: Archive) -> Iterator[dict[str, Any]]:
    """A pg_receivewal that fills the archive, and the options that go with it."""
    folder = owned(archive.folder / "fallback")
    wal = folder / "postgresql-wal" / STANZA
    for path in (wal.parent, wal):
        owned(path)
    primary = archive.lab.primary()
    if not archive.sql("select from pg_replication_slots where slot_name = 'archive'"):
        archive.sql("select pg_create_physical_replication_slot('archive', true)")
    where = f"host={primary.host} port={primary.ports['sql']} user=replicator password={PASSWORDS['replication']}"
    command = [Programs().path("pg_receivewal"), "--directory", str(wal), "--slot=archive", "--synchronous", "--dbname", where]
    process = subprocess.Popen(command, **Programs().identity())
    until(lambda: bool(archive.sql("select from pg_replication_slots where slot_name = 'archive' and active")), "pg_receivewal reads")
    try:
        yield {"provider": "basebackup", "storage": {"path": str(folder), "s3": None, "spool": None}}
    finally:
        process.kill()
        process.wait(10)
        until(lambda: not archive.sql("select from pg_replication_slots where slot_name = 'archive' and active"), "it is gone")
        archive.sql("select pg_drop_replication_slot('archive')")
        shutil.rmtree(folder)


@pytest.fixture
def fallback(archive: Archive) -> Iterator[dict[str, Any]]:
    with receiving(archive) as given:
        yield given


def test_the_fallback_does_the_same(archive: Archive, rows: int, fallback: dict[str, Any]) -> None:
    given = {**fallback, "replication_password": PASSWORDS["replication"], "keep": 1}
    first = archive.take(**given)["backup"]
    archive.sql("insert into goods values ('flour'); select pg_switch_wal()")
    taken = archive.take(**given)
    assert [one["id"] for one in taken["backups"]] == [taken["backup"]["id"]] != [first["id"]]
    drill = archive.put(mode="drill", scratch=str(archive.folder), **fallback)["drill"]
    assert drill["ok"] and drill["tables"] == 1 and drill["rpo_seconds"] is not None
    with pytest.raises(PlatformError, match="kind is incr; provider basebackup takes full"):
        archive.take(**given, kind="incr")
    with pytest.raises(PlatformError, match=r"storage\.path is wanted"):
        archive.take(**{**given, "storage": None})
    base = next(Path(fallback["storage"]["path"]).rglob("base.tar.gz"))
    base.write_bytes(base.read_bytes()[:-100])
    with pytest.raises(PlatformError, match=r"base.tar.gz of backup .* is damaged"):
        archive.put(data=str(archive.folder / "never"), **fallback)
    assert not (archive.folder / "never").exists() and "never-shown" not in json.dumps([taken, drill])
