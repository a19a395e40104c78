# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real redis-server processes on loopback, for tests and benchmarks: made to be put into any state, and always stopped."""

from __future__ import annotations

import fcntl
import functools
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import typing as t
import weakref
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._redis.converge import ARGUMENTS, INFO_ARGUMENTS, run, run_info
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Entry
from ansible_collections.progressive.platform.plugins.module_utils._redis.observe import parse_info, parse_nodes
from ansible_collections.progressive.platform.plugins.module_utils._redis.resp import Connection, ConnectionLost, Reply
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, Context, Result

WRITERS = (
    "meet",
    "addslots",
    "addslotsrange",
    "delslots",
    "setslot",
    "replicate",
    "forget",
    "reset",
    "failover",
    "bumpepoch",
    "set-config-epoch",
)
NODE_TIMEOUT = 2000
SYNC_DELAY = "1"
"""Seconds; the servers' own default of 5 would only make the tests wait."""
SERVERS: weakref.WeakSet[Server] = weakref.WeakSet()
"""All of this process that a lab still has: one that is stopped leaves its port free and stays an address of its lab."""


class Server:
    """One redis-server in cluster mode with a directory of its own."""

    def __init__(self, directory: Path, host: str = "127.0.0.1", **options: str) -> None:
        self.host = host
        self.port = free_port(host)
        SERVERS.add(self)
        self.directory = directory
        self.options = options
        self.password = ""
        self.process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True)

    @property
    def name(self) -> str:
        return f"{self.host}:{self.port}"

    def launch(self, **options: str) -> None:
        settings = {
            "bind": self.host,
            "bind-source-addr": self.host,
            "port": str(self.port),
            "protected-mode": "no",
            "cluster-enabled": "yes",
            "cluster-node-timeout": str(NODE_TIMEOUT),
            "cluster-allow-replica-migration": "no",
            "repl-diskless-sync-delay": SYNC_DELAY,
            "appendonly": "no",
            "save": "",
            "dir": str(self.directory),
            "logfile": "redis.log",
            "enable-debug-command": "yes",
            **self.options,
            **options,
        }
        arguments = [part for key, value in settings.items() for part in (f"--{key}", value)]
        self.process = subprocess.Popen(
            ["redis-server", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            restore_signals=False,  # SIGXFSZ stays ignored: a file that may not grow is then a failed write, as on a full disk
        )

    def ready(self, timeout: float = 20.0) -> None:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                if self("PING") is not None:
                    return
            except (OSError, ConnectionLost):
                time.sleep(0.02)
        raise AssertionError(f"{self.name} did not start: {(self.directory / 'redis.log').read_text()[-500:]}")

    def start(self, **options: str) -> None:
        self.launch(**options)
        self.ready()

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(20)
            self.process = None

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def renumber(self) -> None:
        """Another port for the next start: what a new pod IP is to a real cluster."""
        self.port = free_port(self.host)

    def wipe(self) -> None:
        shutil.rmtree(self.directory)
        self.directory.mkdir()

    def __call__(self, *command: object) -> t.Any:
        return self.pipeline([tuple(str(part) for part in command)])[0]

    def pipeline(self, commands: list[tuple[str, ...]], within: float = 10) -> list[Reply]:
        connection = Connection(socket.create_connection((self.host, self.port), timeout=5), Clock())
        try:
            deadline = time.monotonic() + within
            if self.password:
                connection.call([("AUTH", self.password)], deadline)
            return connection.call(commands, deadline)
        finally:
            connection.close()

    def id(self) -> str:
        return str(self("CLUSTER", "MYID"))

    def writes(self) -> dict[str, int]:
        """Calls of every command that changes a cluster or a server, since the last CONFIG RESETSTAT."""
        stats = parse_info(str(self("INFO", "commandstats")))
        counts = {name.removeprefix("cmdstat_"): int(value.split("calls=")[1].split(",")[0]) for name, value in stats.items()}
        names = {f"cluster|{verb}" for verb in WRITERS} | {
            "config|set",
            "config|rewrite",
            "flushall",
            "set",
            "del",
            "migrate",
            "function|load",
        }
        return {name: count for name, count in counts.items() if name in names}


class Lab:
    """Servers under one temporary directory. ``addresses`` is what the module is given."""

    kind: type[Server] = Server

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.servers: list[Server] = []
        self.made = 0

    def add(self, count: int, host: str = "127.0.0.1", **options: str) -> list[Server]:
        new = [self.kind(self.directory / f"node-{self.made + index}", host, **options) for index in range(count)]
        self.made += count
        self.servers += new
        for server in new:
            server.launch()
        for server in new:
            server.ready()
        return new

    def stop(self) -> None:
        for server in self.servers:
            if server.process is not None:
                server.resume()
                server.kill()

    def reset(self) -> None:
        """Every running server empty and alone again, with the settings it was started with."""
        for server in self.servers:
            server("REPLICAOF", "NO", "ONE")
            replies = server.pipeline(
                [("FLUSHALL",), ("FUNCTION", "FLUSH"), ("CLUSTER", "RESET", "HARD"), ("FLUSHALL",), ("CLUSTER", "RESET", "HARD")]
            )
            # What others say of a clone can make a node a master that goes on copying another, or give it the clone's address for its own.
            if replies[-1] != "OK" or own_entry(server).port != server.port:
                server.kill()
                server.wipe()
                server.start()
            timeout = server.options.get("cluster-node-timeout", str(NODE_TIMEOUT))
            server.pipeline(
                [
                    ("CONFIG", "SET", "cluster-node-timeout", timeout),
                    ("CONFIG", "SET", "repl-diskless-sync-delay", SYNC_DELAY),
                    ("DEBUG", "DROP-CLUSTER-PACKET-FILTER", "-1"),
                ]
            )
        self.wait(lambda: all(self._all_alone() for _look in range(3)))

    def _all_alone(self) -> bool:
        """A MEET that was on its way reaches a node after its reset: then it is reset again. CLUSTER NODES hides who is still shaking hands."""
        time.sleep(0.05)
        met = [server for server in self.servers if parse_info(str(server("CLUSTER", "INFO")))["cluster_known_nodes"] != "1"]
        for server in met:
            server("CLUSTER", "RESET", "HARD")
        return not met

    @property
    def addresses(self) -> list[str]:
        return [server.name for server in self.servers]

    def restore(self, count: int) -> None:
        """The first ``count`` servers running, fresh and with default settings; the others are gone."""
        for server in self.servers[count:]:
            if server.process is not None:
                server.resume()
                server.kill()
        del self.servers[count:]
        for server in self.servers:
            if server.process is not None and server.process.poll() is not None:
                server.process = None  # it ended by itself
            if server.process is not None:
                server.resume()
                if server.password:
                    server.kill()
            if server.process is None:
                server.wipe()
                server.password = ""
                server.start()
        self.reset()

    def server(self, node_id: str) -> Server:
        return next(server for server in self.servers if server.process is not None and server.id() == node_id)

    def slot(self, key: str) -> int:
        return int(self.servers[0]("CLUSTER", "KEYSLOT", key))

    def masters(self) -> list[Server]:
        """Servers that own slots, by their own word."""
        return [server for server in self.servers if server.process is not None and own_entry(server).slots]

    def replicas_of(self, master: Server) -> list[Server]:
        return [server for server in self.servers if server.process is not None and own_entry(server).master == master.id()]

    def meet(self, *servers: Server) -> None:
        for server in servers:
            for other in servers:
                if server is not other:
                    assert server("CLUSTER", "MEET", other.host, other.port) == "OK"
        self.wait(lambda: all(len(parse_nodes(server("CLUSTER", "NODES"))) >= len(servers) for server in servers))

    def fill(self, count: int = 300) -> None:
        """Distinct values on all masters; read checks them."""
        commands = [("SET", f"key-{number}", f"value-{number}") for number in range(count)]
        assert sum(reply == "OK" for master in self.masters() for reply in master.pipeline(commands)) == count

    def read(self, count: int = 300) -> int:
        """How many of the keys that fill wrote are there with their values."""
        commands = [("GET", f"key-{number}") for number in range(count)]
        found = {
            number for master in self.masters() for number, reply in enumerate(master.pipeline(commands)) if reply == f"value-{number}"
        }
        return len(found)

    def quiet(self, **params: t.Any) -> Result:
        """R7: another run changes nothing and sends no command that could."""
        self.wait(self.in_step)  # or a replica counts as its own what its master is still sending
        for server in self.servers:
            server("CONFIG", "RESETSTAT")
        result = self.converge(**params)
        assert result["changed"] is False, result["plan"]
        assert result["plan"] == []
        sent = {server.name: writes for server in self.servers if (writes := server.writes())}
        assert not sent, sent
        return result

    def in_step(self) -> bool:
        """Every replica whose link is up has all that its master has."""
        running = [server for server in self.servers if server.process is not None]
        infos = {server.port: parse_info(str(server("INFO", "replication"))) for server in running}
        return all(
            int(info["slave_repl_offset"]) >= int(infos[int(info["master_port"])]["master_repl_offset"])
            for info in infos.values()
            if info.get("master_link_status") == "up" and int(info["master_port"]) in infos
        )

    def restart_filled(self, meanwhile: t.Callable[[Server], None] | None = None) -> None:
        """A formed cluster with keys on disk ends as it is told to, all of it, and starts again."""
        for server in self.servers:
            server("CONFIG", "SET", "appendonly", "yes")
        self.converge()
        self.fill()
        for server in self.servers:
            server.kill(signal.SIGTERM)
        for server in self.servers:
            if meanwhile is not None:
                meanwhile(server)
            server.launch(appendonly="yes")
        for server in self.servers:
            server.ready()

    def whole(self, **params: t.Any) -> Result:
        """Healed: settled, every key that fill wrote is there, and another run has nothing to do."""
        assert self.settled() and self.read() == 300
        return self.quiet(**params)

    def converge(self, check: bool = False, diff: bool = False, **params: t.Any) -> Result:
        return run(arguments(ARGUMENTS, {"addresses": self.addresses, "timeout": 40.0, **params}), Context(check=check, diff=diff))

    def info(self, **params: t.Any) -> Result:
        return run_info(arguments(INFO_ARGUMENTS, {"addresses": self.addresses, **params}), Context())

    def settled(self) -> bool:
        """The end point of a formation, asked from outside: every node says ok, all agree on 16384 slots, every replica's link is up."""
        views = set()
        for server in self.servers:
            info, cluster, nodes = server.pipeline([("INFO", "replication"), ("CLUSTER", "INFO"), ("CLUSTER", "NODES")])
            entries = parse_nodes(str(nodes))
            views.add(tuple(sorted((entry.id, entry.slots) for entry in entries.values() if entry.slots)))
            replication = parse_info(str(info))
            if parse_info(str(cluster)).get("cluster_state") != "ok" or len(entries) < len(self.servers):
                return False
            if replication["role"] == "slave" and replication["master_link_status"] != "up":
                return False
        return len(views) == 1 and sum(slots.bit_count() for _id, slots in next(iter(views))) == 16384

    def wait(self, condition: t.Callable[[], bool], timeout: float = 20.0) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, "the lab did not reach the state to be tested in time"
            time.sleep(0.02)


def own_entry(server: Server) -> Entry:
    nodes, own = server.pipeline([("CLUSTER", "NODES"), ("CLUSTER", "MYID")])
    return parse_nodes(str(nodes))[str(own)]


def kinds(result: Result) -> list[tuple[str, str]]:
    """(state, action) of every step of a plan."""
    return [(step["state"], step["action"]) for step in result["plan"]]


def arguments(spec: dict[str, t.Any], given: dict[str, t.Any]) -> dict[str, t.Any]:
    """The module's parameters: its defaults, then what is given."""
    unknown = set(given) - set(spec)
    assert not unknown, unknown
    return {**{name: option.get("default") for name, option in spec.items()}, **given}


def free_port(host: str) -> int:
    """A port whose bus port (10000 higher) is free too; both stay under the range that the kernel gives to clients."""
    taken = {server.port for server in SERVERS}
    ports = [port for port in own_ports() if port not in taken]
    for port in random.sample(ports, len(ports)):
        try:
            with socket.socket() as first, socket.socket() as second:
                first.bind((host, port))
                second.bind((host, port + 10000))
                return port
        except OSError:
            continue
    raise AssertionError("no free pair of ports")


@functools.cache
def own_ports() -> range:
    """Ports that only this process chooses from, as long as it lives.

    A server that is stopped leaves its port free and stays an address of its lab: one of another test process that took the port would be joined to it.
    """
    for first_port in range(12000, 22000, 500):
        lock = os.open(Path(tempfile.gettempdir()) / f"progressive-redis-ports-{first_port}", os.O_CREAT | os.O_RDWR, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return range(first_port, first_port + 500)
    raise AssertionError("twenty test processes have all the ports")


def scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="progressive-redis-"))
