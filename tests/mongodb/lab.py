# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Members of a replica set on loopback, made to be put into any state: the simulator's, or real ones where PROGRESSIVE_MONGOD names a mongod."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import time
import typing as t
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._mongodb.converge import ARGUMENTS, INFO_ARGUMENTS, run, run_info
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Result
from ansible_collections.progressive.platform.tests.mongodb.simulator import SimulatedMongod, SimulatedNetwork
from pymongo import MongoClient
from pymongo.errors import PyMongoError

MONGOD = os.environ.get("PROGRESSIVE_MONGOD", "")
SET = "rs0"
PASSWORD = "s3cret-of-the-test"
KEYFILE = "c2ltdWxhdGVkIGtleSBmaWxlIG9mIHRoZSB0ZXN0cw=="
WRITERS = (
    "replSetInitiate",
    "replSetReconfig",
    "replSetStepDown",
    "replSetStepUp",
    "setDefaultRWConcern",
    "createUser",
    "updateUser",
    "insert",
    "update",
)
SETTINGS = {"electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 200}
"""Of the tests' sets: the server's own election timeout of 10 s would only make them wait."""
PATIENCE = 60.0


class Member:
    """One mongod, simulated or real, with a name that stays."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.name = f"localhost:{port}"

    def start(self) -> None:
        raise NotImplementedError

    def kill(self) -> None:
        raise NotImplementedError

    def wipe(self) -> None:
        """Its disk is empty; only while it is stopped."""
        raise NotImplementedError

    def forget(self) -> None:
        """Its disk has no configuration any more, but everything else; only while it is stopped."""
        raise NotImplementedError


class Simulated(Member):
    def __init__(self, network: SimulatedNetwork, port: int, auth: bool, set_name: str) -> None:
        super().__init__(port)
        self.server: SimulatedMongod = network.add(port, set_name, auth)

    def start(self) -> None:
        self.server.start()

    def kill(self) -> None:
        self.server.kill()

    def wipe(self) -> None:
        self.server.wipe()

    def forget(self) -> None:
        self.server.disk.config = None


class Real(Member):
    def __init__(self, directory: Path, port: int, auth: bool, set_name: str) -> None:
        super().__init__(port)
        self.directory = directory / str(port)
        self.keyfile = directory / "keyfile"
        self.auth = auth
        self.set_name = set_name
        self.process: subprocess.Popen[bytes] | None = None
        self.wipe()

    def start(self) -> None:
        options = ["--replSet", self.set_name, "--port", str(self.port), "--dbpath", str(self.directory), "--bind_ip", "localhost"]
        options += ["--oplogSize", "50", "--wiredTigerCacheSizeGB", "0.25", "--logpath", str(self.directory / "mongod.log")]
        if self.auth:
            self.keyfile.write_text(KEYFILE)
            self.keyfile.chmod(0o600)
            options += ["--keyFile", str(self.keyfile)]
        self.process = subprocess.Popen([MONGOD, *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: answers(self), f"{self.name} answers")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            self.process = None

    def wipe(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)

    def forget(self) -> None:
        """Started alone for a moment, without the set's name, as its manual says."""
        options = [
            "--port",
            str(self.port),
            "--dbpath",
            str(self.directory),
            "--bind_ip",
            "localhost",
            "--logpath",
            str(self.directory / "alone.log"),
        ]
        self.process = subprocess.Popen([MONGOD, *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: answers(self), f"{self.name} answers")
        with MongoClient("localhost", self.port, directConnection=True) as client:
            client.local.system.replset.delete_many({})
        self.process.terminate()
        self.process.wait(60)


class Lab:
    """The members of one test. ``addresses`` is what the module is given."""

    def __init__(self, directory: Path, auth: bool = True) -> None:
        self.directory = directory
        self.auth = auth
        self.network = SimulatedNetwork()
        self.members: list[Member] = []

    def add(self, count: int = 1, set_name: str = SET) -> list[Member]:
        new: list[Member] = []
        for _number in range(count):
            port = free_port()
            new.append(Real(self.directory, port, self.auth, set_name) if MONGOD else Simulated(self.network, port, self.auth, set_name))
        self.members += new
        for member in new:
            member.start()
        return new

    def discard(self) -> None:
        """Every member is gone, with what it held."""
        for member in self.members:
            member.kill()
        self.members = []

    def close(self) -> None:
        self.discard()
        self.network.close()

    @property
    def addresses(self) -> list[str]:
        return [member.name for member in self.members]

    def module(self, check: bool = False, addresses: list[str] | None = None, **options: t.Any) -> Result:
        """mongodb_replicaset with the settings of the tests. Raises PlatformError."""
        params = defaults(ARGUMENTS) | {
            "replica_set": SET,
            "addresses": addresses or self.addresses,
            "settings": SETTINGS,
            "timeout": PATIENCE,
        }
        params |= {"password": PASSWORD} if self.auth else {}
        params |= {"members": len(params["addresses"])}
        return run(params | options, Context(check=check, diff=True))

    def info(self, **options: t.Any) -> Result:
        params = (
            defaults(INFO_ARGUMENTS) | {"replica_set": SET, "addresses": self.addresses} | ({"password": PASSWORD} if self.auth else {})
        )
        return run_info(params | options, Context())

    def quiet(self, **options: t.Any) -> None:
        """A further run changes nothing and sends no command that writes."""
        before = {member.name: self.writes(member) for member in self.members}
        result = self.module(**options)
        assert not result["changed"], result["plan"]
        assert {member.name: self.writes(member) for member in self.members} == before

    def client(self, member: Member) -> MongoClient[dict[str, t.Any]]:
        login = {"username": "admin", "password": PASSWORD} if self.auth else {}
        return MongoClient(
            "localhost", member.port, directConnection=True, serverSelectionTimeoutMS=5000, retryWrites=False, retryReads=False, **login
        )

    def command(self, member: Member, document: dict[str, t.Any], database: str = "admin") -> dict[str, t.Any]:
        with self.client(member) as client:
            return client[database].command(document)

    def writes(self, member: Member) -> dict[str, int]:
        """Calls of every command that writes, since its start."""
        counts = self.command(member, {"serverStatus": 1})["metrics"]["commands"]
        return {name: int(counts[name]["total"]) for name in WRITERS if name in counts and counts[name]["total"]}

    def primary(self) -> Member:
        """Waits until somebody is."""
        found: list[Member] = []

        def look() -> bool:
            found[:] = [member for member in self.members if state(self, member) == "PRIMARY"]
            return len(found) == 1

        until(look, "one primary")
        return found[0]

    def primary_but(self, former: Member) -> None:
        """Waits until another one than the former is."""
        until(lambda: any(state(self, member) == "PRIMARY" for member in self.members if member is not former), "another primary")

    def secondaries(self) -> list[Member]:
        leader = self.primary()
        return [member for member in self.members if member is not leader]

    def insert(self, number: int) -> None:
        self.command(self.primary(), {"insert": "rows", "documents": [{"_id": number}], "writeConcern": {"w": "majority"}}, "test")

    def rows(self, member: Member) -> set[int]:
        found = self.command(member, {"find": "rows", "$readPreference": {"mode": "secondaryPreferred"}}, "test")
        return {row["_id"] for row in found["cursor"]["firstBatch"]}

    def forget_configuration(self, member: Member) -> None:
        """A stopped member loses its configuration and keeps everything else."""
        member.forget()

    def answered_as_member(self, member: Member) -> bool:
        with MongoClient("localhost", member.port, directConnection=True) as client:
            return bool(client.admin.command("hello").get("setName"))

    def config(self) -> dict[str, t.Any]:
        return dict(self.command(self.primary(), {"replSetGetConfig": 1})["config"])


def state(lab: Lab, member: Member) -> str:
    try:
        status = lab.command(member, {"replSetGetStatus": 1})
    except PyMongoError:
        return ""
    return next((row["stateStr"] for row in status["members"] if row.get("self")), "")


def answers(member: Member) -> bool:
    try:
        with MongoClient("localhost", member.port, directConnection=True, serverSelectionTimeoutMS=1000) as client:
            client.admin.command("hello")
    except PyMongoError:
        return False
    return True


def until(done: t.Callable[[], bool], what: str, limit: float = PATIENCE) -> None:
    deadline = time.monotonic() + limit
    while not done():
        assert time.monotonic() < deadline, f"not within {limit:g} s: {what}"
        time.sleep(0.05)


def free_port() -> int:
    """Below the range that the kernel gives to clients, or one of them has it before the server starts."""
    for port in random.sample(range(2000, 5000), 200):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no free port")


def defaults(spec: dict[str, t.Any]) -> dict[str, t.Any]:
    return {name: option.get("default") for name, option in spec.items()}
