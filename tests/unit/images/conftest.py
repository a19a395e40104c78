# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real Redis Cluster and the services themselves, as processes of this machine on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import typing as t
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

SERVICES = Path(__file__).parents[3] / "images" / "services"
sys.path.insert(0, str(SERVICES))

PASSWORD = "a secret of this test"
WAIT_SECONDS = 20.0


_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, none given twice; below the range the system takes outgoing connections' ports from."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(15000, 30000)
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                found.append(port)
    return found


def eventually(what: str, question: Callable[[], t.Any], timeout: float = WAIT_SECONDS) -> t.Any:
    """The first true answer; the last one is in the failure."""
    deadline = time.monotonic() + timeout
    answer: t.Any = None
    while time.monotonic() < deadline:
        try:
            answer = question()
        except (httpx.HTTPError, OSError) as error:
            answer = error
        else:
            if answer:
                return answer
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {timeout} s; last seen: {answer!r}")


class Redis:
    """Three masters without replicas and all slots, with a password."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = free_ports(3)
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def seeds(self) -> str:
        # A host name, as in a cluster: it is resolved again whenever the client starts anew.
        return ",".join(f"localhost:{port}" for port in self.ports)

    def cli(self, port: int, *command: str) -> str:
        base = ["redis-cli", "-h", "127.0.0.1", "-p", str(port), "--no-auth-warning", "-a", PASSWORD]
        return subprocess.run([*base, *command], capture_output=True, text=True, timeout=10, check=True).stdout

    def start(self) -> None:
        buses = free_ports(3)
        for port, bus in zip(self.ports, buses, strict=True):
            folder = self.folder / str(port)
            folder.mkdir(exist_ok=True)
            (folder / "nodes.conf").unlink(missing_ok=True)
            options = {
                "port": port, "bind": "127.0.0.1", "dir": folder, "requirepass": PASSWORD, "masterauth": PASSWORD, "save": "",
                "cluster-enabled": "yes", "cluster-port": bus, "cluster-node-timeout": 1000, "logfile": folder / "log",
            }  # fmt: skip
            arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
            self.processes.append(subprocess.Popen(["redis-server", *arguments]))
        eventually("redis answers", lambda: all(self.is_up(port) for port in self.ports))
        for index, port in enumerate(self.ports):
            first, last = 16384 * index // 3, 16384 * (index + 1) // 3 - 1
            self.cli(port, "CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
            self.cli(port, "CLUSTER", "SET-CONFIG-EPOCH", str(index + 1))
            if index:
                self.cli(port, "CLUSTER", "MEET", "127.0.0.1", str(self.ports[0]), str(buses[0]))
        eventually("redis forms", lambda: all("cluster_state:ok" in self.cli(port, "CLUSTER", "INFO") for port in self.ports))

    def is_up(self, port: int) -> bool:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait(10)
        self.processes.clear()


class Rotation:
    """What a Service is to its clients: an address that sends each new connection to the next of its endpoints; kept ones stay."""

    def __init__(self, ports: list[int]) -> None:
        self.ports = ports
        self.turn = 0
        (self.port,) = free_ports(1)
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _unused = self.listener.accept()
                self.turn += 1
                try:
                    server = socket.create_connection(("127.0.0.1", self.ports[self.turn % len(self.ports)]), timeout=5)
                except OSError:
                    client.close()
                    continue
                server.settimeout(None)
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self.pump, args=(source, target), daemon=True).start()

    @staticmethod
    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.listener.close()


class Process:
    """One service."""

    def __init__(self, module: str, environ: dict[str, str], log: Path) -> None:
        self.port, self.ops_port, self.grpc_port = free_ports(3)
        self.log = log
        own = {"HOST": "127.0.0.1", "PORT": self.port, "METRICS_PORT": self.ops_port, "GRPC_PORT": self.grpc_port, "CHECK_SECONDS": 0.2}
        self.environ = {
            **os.environ,
            "PYTHONPATH": str(SERVICES),
            "PYTHONDONTWRITEBYTECODE": "1",
            **{k: str(v) for k, v in own.items()},
            **environ,
        }
        with open(log, "ab") as output:
            self.process = subprocess.Popen([sys.executable, "-m", f"progressive.{module}"], env=self.environ, stdout=output, stderr=output)
        self.url = f"http://127.0.0.1:{self.port}"
        self.ops_url = f"http://127.0.0.1:{self.ops_port}"

    def get(self, path: str, timeout: float = 5) -> httpx.Response:
        return httpx.get(f"{self.url}{path}", timeout=timeout, trust_env=False)

    def post(self, path: str, body: t.Any = None, timeout: float = 30) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body, timeout=timeout, trust_env=False)

    def until_ready(self) -> None:
        eventually(f"{self.log.name} is ready", lambda: self.get("/health/ready").status_code == 200)

    def logs(self) -> list[dict[str, t.Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.kill()
        return self.process.wait(10)


@pytest.fixture(scope="session")
def shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    redis = Redis(tmp_path_factory.mktemp("redis"))
    redis.start()
    yield redis
    redis.stop()


@pytest.fixture
def redis(shared_redis: Redis) -> Redis:
    """The cluster, formed; a test that stopped it left it to be started anew here."""
    if not shared_redis.processes:
        shared_redis.start()
    return shared_redis


class Starter:
    """Starts services, and ends them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[Process] = []

    def __call__(self, module: str, name: str = "", **environ: str) -> Process:
        process = Process(module, environ, self.folder / f"{name or module}.log")
        self.running.append(process)
        return process

    def stop(self) -> None:
        for process in self.running:
            process.stop()

    def platform(self, redis: Redis, **more: str) -> dict[str, Process]:
        """App, MCA, NPA and WPA; ``more`` is for all of them."""
        store = {"REDIS_CLUSTER_NODES": redis.seeds, "REDIS_PASSWORD": PASSWORD, **more}
        npa = self("agent", "npa", AGENT_TYPE="npa", AGENT_SPECIALIZATION="nutrition", **store)
        wpa = self("agent", "wpa", AGENT_TYPE="wpa", **store)
        peers = {"PEERS": f"npa={npa.url},wpa={wpa.url}", "PEERS_GRPC": f"npa=127.0.0.1:{npa.grpc_port},wpa=127.0.0.1:{wpa.grpc_port}"}
        mca = self("agent", "mca", AGENT_TYPE="mca", CALL_SECONDS="3", **peers, **store)
        app = self("app", AGENTS=f"mca={mca.url}", DRAIN_SECONDS="2", **store)
        return {"app": app, "mca": mca, "npa": npa, "wpa": wpa}


def ready(platform: dict[str, Process]) -> dict[str, Process]:
    for process in platform.values():
        process.until_ready()
    # gRPC health follows readiness within a check.
    eventually("a transaction succeeds", lambda: platform["app"].post("/api/v1/transaction").status_code == 200)
    return platform


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(tmp_path)
    yield starter
    starter.stop()


@pytest.fixture(scope="session")
def shared_platform(shared_redis: Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Process]]:
    starter = Starter(tmp_path_factory.mktemp("platform"))
    yield starter.platform(shared_redis)
    starter.stop()


@pytest.fixture
def platform(redis: Redis, shared_platform: dict[str, Process]) -> dict[str, Process]:
    """The services on the real Redis, ready; for tests after which every process still lives."""
    return ready(shared_platform)


@pytest.fixture
def own_platform(redis: Redis, start: Starter) -> dict[str, Process]:
    """The same, for a test that ends some of them."""
    return ready(start.platform(redis))
