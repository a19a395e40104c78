# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real FerretDB on a real PostgreSQL, on loopback: what role mongodb runs locally, without the pods."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
import typing as t
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml
from ansible_collections.progressive.platform.plugins.module_utils._local.builds import Builder, Program
from ansible_collections.progressive.platform.plugins.module_utils._local.shell import default_cache
from pymongo import MongoClient
from pymongo.errors import PyMongoError

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = ROOT / "inventories/local/group_vars/all/mongodb.yml"
ADMIN, PASSWORD = "admin", "admin-never-shown"
PATIENCE = 120.0  # seconds for anything to come about; a busy machine is no failure
# PostgreSQL refuses to be root.
AS_POSTGRES = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"] if os.geteuid() == 0 else []


def program() -> Path:
    """The local inventory's FerretDB, where `make up` has built it; otherwise it is built there now, which takes minutes."""
    described = Program.of("ferretdb", yaml.safe_load(INVENTORY.read_text())["__mongodb_program"])
    cache = default_cache() / "images"
    builder = Builder(cache, cache / f"work-{os.getpid()}", cache / "programs", cache / "logs")  # beside that of images
    builder.build(described, lambda _line: None)
    return builder.binaries / described.file


def until(true: Callable[[], t.Any], what: str) -> t.Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := true()):
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: {what}"
        time.sleep(0.05)
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Postgres:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.binaries = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        self.folder.mkdir()
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            shutil.chown(folder, owner.pw_uid, owner.pw_gid)
        self._run("initdb", "--auth=trust", "--username=ferretdb", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "-D", "data")
        self.start()
        self._run("createdb", "--host=127.0.0.1", f"--port={self.port}", "--username=ferretdb", "ferretdb")

    def start(self) -> None:
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories={self.folder} -c fsync=off"
        self._run("pg_ctl", "start", "--wait", f"--timeout={PATIENCE:g}", "-D", "data", "-l", "log", "-o", options)

    def stop(self) -> None:
        """As a server that is lost: nobody is told, and what was not written is recovered at the next start."""
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate", "-D", "data")

    def _run(self, name: str, *arguments: str) -> None:
        command = [*AS_POSTGRES, str(self.binaries / name), *arguments]
        environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        log = self.folder / f"{name}.out"
        with log.open("wb") as file:
            done = subprocess.run(command, cwd=self.folder, env=environment, stdout=file, stderr=file, timeout=PATIENCE, check=False)
        assert done.returncode == 0, log.read_text(errors="replace")


class Ferret:
    """One FerretDB. Several on the same PostgreSQL serve the same documents."""

    def __init__(self, folder: Path, postgres: Postgres) -> None:
        self.folder = folder
        self.postgres = postgres
        self.port, self.debug = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        folder.mkdir()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        environment = {
            "FERRETDB_LISTEN_ADDR": self.address,
            "FERRETDB_DEBUG_ADDR": f"127.0.0.1:{self.debug}",
            "FERRETDB_STATE_DIR": "-",
            "FERRETDB_TELEMETRY": "disable",
            "FERRETDB_TEST_ENABLE_NEW_AUTH": "true",
            "FERRETDB_SETUP_DATABASE": "admin",
            "FERRETDB_SETUP_USERNAME": ADMIN,
            "FERRETDB_SETUP_PASSWORD": PASSWORD,
            "FERRETDB_POSTGRESQL_URL": f"postgres://127.0.0.1:{self.postgres.port}/ferretdb",
            "PGUSER": "ferretdb",
        }
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([str(program())], cwd=self.folder, env=environment, stdout=log, stderr=log)
        until(self.answers, f"FerretDB answers; its log: {self.folder / 'log'}")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(PATIENCE)

    def answers(self) -> bool:
        assert self.process is None or self.process.poll() is None, (self.folder / "log").read_text(errors="replace")[-3000:]
        try:
            with self.client(timeout=500) as client:
                return bool(client.admin.command("ping")["ok"])
        except PyMongoError:
            return False

    def client(self, username: str = ADMIN, password: str = PASSWORD, timeout: int = 10_000) -> MongoClient[dict[str, t.Any]]:
        login = {"username": username, "password": password} if username else {}
        return MongoClient("127.0.0.1", self.port, serverSelectionTimeoutMS=timeout, socketTimeoutMS=max(timeout, 5000), **login)


@contextlib.contextmanager
def ferret() -> Iterator[Ferret]:
    # Not below pytest's own folders, which only their owner may look into.
    with tempfile.TemporaryDirectory(prefix="progressive-ferret-") as name:
        Path(name).chmod(0o755)
        made = Ferret(Path(name) / "ferret", Postgres(Path(name) / "postgres"))
        try:
            made.start()
            yield made
        finally:
            made.kill()
            with contextlib.suppress(AssertionError):
                made.postgres.stop()
