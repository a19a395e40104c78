# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real PostgreSQL servers under real Patroni processes on loopback, each on an address of its own.

Patroni's lock is in its own Raft store here, so that no cluster is needed: what the modules see of it, its REST interface, is the same.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.converge import ARGUMENTS, INFO_ARGUMENTS, run, run_info
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.wire import Session
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Result

BINARIES = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
PASSWORDS = {
    "superuser": "super-never-shown",
    "replication": "copy-never-shown",
    "rewind": "rewind-never-shown",
    "restapi": "rest-never-shown",
}
# PostgreSQL refuses to be root; Python and the checkout may lie where only root can look, so that right is kept.
_READ = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
AS_POSTGRES = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups", *_READ] if os.geteuid() == 0 else []
PATIENCE = 120.0  # seconds for anything to come about; a busy machine is no failure
HBA = [
    "local all all trust",
    "local replication all trust",
    "host replication replicator 127.0.0.0/8 scram-sha-256",
    "host all all 127.0.0.0/8 scram-sha-256",
]
SETTINGS: dict[str, Any] = {
    "ttl": 20,
    "loop_wait": 1,
    "retry_timeout": 3,
    "primary_start_timeout": 10,
    "maximum_lag_on_failover": 1048576,
    "synchronous_mode": True,
    "postgresql": {
        "use_pg_rewind": True,
        "use_slots": True,
        "remove_data_directory_on_rewind_failure": True,
        "pg_hba": HBA,
        "parameters": {
            "max_connections": 30,
            "shared_buffers": "16MB",
            "fsync": "off",
            "wal_level": "logical",
            "log_min_messages": "warning",
        },
    },
}


class Member:
    """One Patroni with its PostgreSQL."""

    def __init__(self, folder: Path, host: str, ports: dict[str, int], partners: list[str]) -> None:
        self.folder, self.host, self.ports = folder, host, ports
        self.name = f"{host}:{ports['rest']}"
        self.process: subprocess.Popen[bytes] | None = None
        owner = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        folder.mkdir()
        config = {
            "scope": "lab",
            "name": f"member-{host.rpartition('.')[2]}",
            "raft": {"data_dir": str(folder / "raft"), "self_addr": f"{host}:{ports['raft']}", "partner_addrs": partners},
            "restapi": {
                "listen": self.name,
                "connect_address": self.name,
                "authentication": {"username": "patroni", "password": PASSWORDS["restapi"]},
            },
            "bootstrap": {"dcs": SETTINGS, "initdb": ["data-checksums", {"encoding": "UTF8"}, {"locale": "C.UTF-8"}, "no-sync"]},
            "postgresql": {
                "listen": f"{host}:{ports['sql']}",
                "connect_address": f"{host}:{ports['sql']}",
                "bin_dir": str(BINARIES),
                "data_dir": str(folder / "data"),
                "pgpass": str(folder / "pgpass"),
                "parameters": {"unix_socket_directories": str(folder)},
                "basebackup": [{"checkpoint": "fast"}, "no-sync"],
                "authentication": {
                    "superuser": {"username": "postgres", "password": PASSWORDS["superuser"]},
                    "replication": {"username": "replicator", "password": PASSWORDS["replication"]},
                    "rewind": {"username": "rewind", "password": PASSWORDS["rewind"]},
                },
            },
        }
        (folder / "patroni.yml").write_text(yaml.safe_dump(config))
        shutil.chown(folder, owner.pw_uid, owner.pw_gid)
        shutil.chown(folder / "patroni.yml", owner.pw_uid, owner.pw_gid)

    def start(self) -> None:
        program = Path(sys.executable).with_name("patroni")
        command = [*AS_POSTGRES, str(program), str(self.folder / "patroni.yml")]
        environment = {"PATH": f"{BINARIES}:{os.environ['PATH']}", "LANG": "C.UTF-8", "HOME": str(self.folder)}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=log, stderr=log)

    def stop(self) -> None:
        """As a pod that is deleted: Patroni stops PostgreSQL and gives up the lock."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(PATIENCE)

    def kill(self) -> None:
        """As a node that is lost."""
        postmaster = self.postmaster()
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)
        if postmaster:
            with contextlib.suppress(ProcessLookupError):
                os.kill(postmaster, signal.SIGQUIT)  # all its children go with it, at once and without a checkpoint
            until(lambda: not Path(f"/proc/{postmaster}").exists(), "the server is gone")

    def postmaster(self) -> int:
        with contextlib.suppress(OSError, ValueError):
            return int((self.folder / "data/postmaster.pid").read_text().split()[0])
        return 0

    def words(self) -> str:
        return (self.folder / "log").read_text(errors="replace")


class Lab:
    """Some members, and the two modules that look after them."""

    def __init__(self, folder: Path, count: int = 3) -> None:
        folder.chmod(0o755)
        places = [(f"127.0.77.{number}", {kind: free_port() for kind in ("rest", "sql", "raft")}) for number in range(1, count + 1)]
        rafts = [f"{host}:{ports['raft']}" for host, ports in places]
        self.members = [
            Member(folder / f"member-{number}", host, ports, [other for other in rafts if not other.startswith(f"{host}:")])
            for number, (host, ports) in enumerate(places)
        ]
        self.given: dict[str, Any] = {
            "addresses": [member.name for member in self.members],
            "password": PASSWORDS["superuser"],
            "rest_password": PASSWORDS["restapi"],
            "validate_certs": True,
        }

    def start(self) -> None:
        for member in self.members:
            member.start()

    def close(self) -> None:
        for member in self.members:
            member.kill()

    def converge(self, check: bool = False, **params: Any) -> Result:
        defaults = {name: option.get("default") for name, option in ARGUMENTS.items()}
        return run({**defaults, **self.given, "members": len(self.members), "timeout": PATIENCE, **params}, Context(check=check, diff=True))

    def info(self) -> Result:
        defaults = {name: option.get("default") for name, option in INFO_ARGUMENTS.items()}
        return run_info({**defaults, **self.given, "members": len(self.members)}, Context())

    def primary(self) -> Member:
        """The member that says it is, once one does."""
        found: list[Member] = []

        def look() -> bool:
            found[:] = [member for member in self.members if rest(member, "/primary")]
            return len(found) == 1

        until(look, "one primary")
        return found[0]

    def sql(self, member: Member, text: str, database: str = "postgres", user: str = "postgres", password: str = "") -> list[list[Any]]:
        with socket.create_connection((member.host, member.ports["sql"]), timeout=10) as sock:
            session = Session(sock, user, password or PASSWORDS["superuser"], database)
            return [list(row) for row in session.query(text)]


def rest(member: Member, path: str) -> bool:
    import http.client

    connection = http.client.HTTPConnection(member.host, member.ports["rest"], timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def until(condition: Callable[[], bool], what: str, limit: float = PATIENCE) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit:g} s: {what}"
        time.sleep(0.1)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.contextmanager
def lab(count: int = 3) -> Iterator[Lab]:
    folder = Path(tempfile.mkdtemp(prefix="postgresql-lab-"))
    made = Lab(folder, count)
    try:
        made.start()
        yield made
    except BaseException:
        for member in made.members:
            print(f"---- {member.name}\n{member.words()[-4000:]}")
        raise
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


def quiet(lab_: Lab) -> list[list[Any]]:
    """What a run that has nothing to do leaves as it is: no transaction has written, and no setting has changed."""
    return [*lab_.sql(lab_.primary(), "select pg_snapshot_xmax(pg_current_snapshot())::text"), [lab_.info()["config"]]]
