# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A protocol double: no server, but what a server of Valkey 9 or Redis 8.4 says to the module while it moves slots atomically.

Neither can be had where these tests run. The words are those of the servers' documentation and sources: COMMAND INFO of the subcommands, MIGRATESLOTS and
GETSLOTMIGRATIONS at the giver, MIGRATION IMPORT, STATUS and CANCEL at the taker. A job ends after it has been asked for a few times.
"""

from __future__ import annotations

import contextlib
import socketserver
import threading
import typing as t
from dataclasses import dataclass, field

from ansible_collections.progressive.platform.plugins.module_utils._redis import slots

Answer = t.Any


@dataclass
class Job:
    """``polls`` is how often it is still said to be running; ``fate`` is how it ends."""

    id: str
    slots: int
    giver: DoubleNode
    taker: DoubleNode
    fate: str
    polls: int = 2
    state: str = "running"


@dataclass
class DoubleNode:
    id: str
    port: int = 0
    slots: int = 0
    keys: int = 0
    calls: list[tuple[str, ...]] = field(default_factory=list)


class Double:
    """Masters that know of each other; ``flavour`` is valkey or redis. ``fates`` are the ends of the jobs to come, success once there is none left."""

    def __init__(self, flavour: str, owned: t.Sequence[int], keys: int = 1000) -> None:
        self.flavour = flavour
        self.nodes = [DoubleNode(f"{index + 1:x}" * 40, slots=one, keys=keys if one else 0) for index, one in enumerate(owned)]
        self.jobs: list[Job] = []
        self.fates: list[str] = []
        self._lock = threading.Lock()
        self._servers: list[socketserver.ThreadingTCPServer] = []

    def __enter__(self) -> Double:
        for node in self.nodes:
            server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), self._handler(node))
            server.daemon_threads = True
            node.port = server.server_address[1]
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            self._servers.append(server)
        return self

    def __exit__(self, *_exception: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    @property
    def addresses(self) -> list[str]:
        return [f"127.0.0.1:{node.port}" for node in self.nodes]

    def begun(self) -> list[tuple[int, tuple[str, ...]]]:
        """(index of the node that was asked, command) of every command that began a job."""
        return [
            (index, call)
            for index, node in enumerate(self.nodes)
            for call in node.calls
            if call[1:2] == ("MIGRATESLOTS",) or call[1:3] == ("MIGRATION", "IMPORT")
        ]

    def start(self, taker: DoubleNode, giver: DoubleNode, chosen: int) -> Job:
        fate = self.fates.pop(0) if self.fates else "success"
        job = Job(f"{len(self.jobs) + 1:040d}", chosen, giver, taker, fate)
        self.jobs.append(job)
        return job

    def _handler(self, node: DoubleNode) -> type[socketserver.StreamRequestHandler]:
        double = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError, ValueError):
                    while line := self.rfile.readline():
                        words = []
                        for _word in range(int(line[1:])):
                            size = int(self.rfile.readline()[1:])
                            words.append(self.rfile.read(size + 2)[:-2].decode())
                        with double._lock:
                            node.calls.append(tuple(words))
                            self.wfile.write(encoded(double.answer(node, words)))

        return Handler

    def answer(self, node: DoubleNode, words: list[str]) -> Answer:
        match words:
            case ["INFO", *_section]:
                version = "valkey_version:9.0.1\r\n" if self.flavour == "valkey" else ""
                state = "cluster_enabled:1\r\nrole:master\r\nused_memory_dataset:100000"
                return f"redis_version:8.4.0\r\n{version}{state}\r\ndb0:keys={node.keys}\r\n"
            case ["CLUSTER", "MYID"]:
                return node.id
            case ["CLUSTER", "INFO"]:
                return "cluster_state:ok\r\ncluster_current_epoch:9\r\n"
            case ["CLUSTER", "NODES"]:
                return "".join(self._line(one, one is node) for one in self.nodes)
            case ["FUNCTION", "LIST"]:
                return []
            case ["CONFIG", "GET", name]:
                return [name, {"cluster-node-timeout": "2000", "min-replicas-to-write": "0"}.get(name, "0")]
            case ["PING"]:
                return Simple("PONG")
            case ["COMMAND", "INFO", *names]:
                mine = {"valkey": "cluster|migrateslots", "redis": "cluster|migration"}.get(self.flavour)
                return [[name, -4] if name == mine else None for name in names]
            case ["CLUSTER", "COUNTKEYSINSLOT", _slot]:
                return 0
            case ["CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", *bounds, "NODE", target] if self.flavour == "valkey":
                taker = next(one for one in self.nodes if one.id == target)
                return self._begin(node, taker, bounds) or Simple("OK")
            case ["CLUSTER", "GETSLOTMIGRATIONS"] if self.flavour == "valkey":
                return [self._valkey_job(job, node) for job in self._polled(node) if node in (job.giver, job.taker)]
            case ["CLUSTER", "CANCELSLOTMIGRATIONS"] if self.flavour == "valkey":
                return self._cancel(node)
            case ["CLUSTER", "MIGRATION", "IMPORT", *bounds] if self.flavour == "redis":
                giver = next(one for one in self.nodes if one.slots >> int(bounds[0]) & 1)
                return self._begin(giver, node, bounds) or self.jobs[-1].id
            case ["CLUSTER", "MIGRATION", "STATUS", "ALL"] if self.flavour == "redis":
                return [self._redis_job(job, node) for job in self._polled(node) if node in (job.giver, job.taker)]
            case ["CLUSTER", "MIGRATION", "CANCEL", "ID", _id] if self.flavour == "redis":
                return self._cancel(node)
        return Failure(f"ERR unknown command {' '.join(words[:2])}")

    def _begin(self, giver: DoubleNode, taker: DoubleNode, bounds: t.Sequence[str]) -> Answer:
        numbers = list(map(int, bounds))
        chosen = slots.mask(zip(numbers[::2], numbers[1::2], strict=True))
        if giver.slots & chosen != chosen:
            return Failure("ERR slots are not served by this node")
        if giver is taker:
            return Failure("ERR this node is already the owner of the slots")
        if any(job.state == "running" and giver in (job.giver, job.taker) for job in self.jobs):
            return Failure("ERR a slot migration is in progress")
        self.start(taker, giver, chosen)
        return None

    def _polled(self, node: DoubleNode) -> list[Job]:
        """Every question brings the asked node's jobs nearer to their end."""
        for job in self.jobs:
            if job.state == "running" and node in (job.giver, job.taker):
                job.polls -= 1
                if job.polls < 0 and job.fate != "hang":
                    job.state = job.fate
                    if job.fate == "success":
                        moved = job.giver.keys * slots.size(job.slots) // slots.size(job.giver.slots)
                        job.giver.keys -= moved
                        job.taker.keys += moved
                        job.giver.slots &= ~job.slots
                        job.taker.slots |= job.slots
        return self.jobs

    def _cancel(self, node: DoubleNode) -> Answer:
        for job in self.jobs:
            if job.state == "running" and node in (job.giver, job.taker):
                job.state = "cancelled"
        return Simple("OK")

    def _valkey_job(self, job: Job, node: DoubleNode) -> list[Answer]:
        ranges = " ".join(f"{low}-{high}" for low, high in slots.ranges(job.slots))
        operation = "EXPORT" if node is job.giver else "IMPORT"
        state = {"running": "replicating", "success": "success"}.get(job.state, job.state)
        message = "target ran out of memory" if job.state == "failed" else ""
        fields = {
            "name": job.id,
            "operation": operation,
            "slot_ranges": ranges,
            "target_node": job.taker.id,
            "source_node": job.giver.id,
            "create_time": 1,
            "last_update_time": 2,
            "last_ack_time": 2 if job.fate == "hang" else 10 - job.polls,
            "state": state,
            "message": message,
            "cow_size": 0,
        }
        return [part for pair in fields.items() for part in pair]

    def _redis_job(self, job: Job, node: DoubleNode) -> list[Answer]:
        ranges = " ".join(f"{low}-{high}" for low, high in slots.ranges(job.slots))
        state = {"running": "streaming-buffer", "success": "completed", "cancelled": "canceled"}.get(job.state, job.state)
        fields = {
            "id": job.id,
            "slots": ranges,
            "source": job.giver.id,
            "dest": job.taker.id,
            "operation": "import" if node is job.taker else "migrate",
            "state": state,
            "last_error": "target ran out of memory" if job.state == "failed" else "",
            "retries": 0 if job.fate == "hang" else 10 - job.polls,
            "create_time": 1,
            "start_time": 1,
            "end_time": 2,
            "write_pause_ms": 3,
        }
        return [part for pair in fields.items() for part in pair]

    def _line(self, one: DoubleNode, myself: bool) -> str:
        owned = " ".join(f"{low}-{high}" for low, high in slots.ranges(one.slots))
        flags = "myself,master" if myself else "master"
        epoch = self.nodes.index(one) + 1
        return f"{one.id} 127.0.0.1:{one.port}@{one.port + 10000} {flags} - 0 0 {epoch} connected {owned}".strip() + "\n"


class Simple(str):
    __slots__ = ()


class Failure(str):
    __slots__ = ()


def encoded(answer: Answer) -> bytes:
    if isinstance(answer, Failure):
        return f"-{answer}\r\n".encode()
    if isinstance(answer, Simple):
        return f"+{answer}\r\n".encode()
    if isinstance(answer, str):
        return b"$%d\r\n%s\r\n" % (len(answer.encode()), answer.encode())
    if isinstance(answer, int):
        return b":%d\r\n" % answer
    if answer is None:
        return b"*-1\r\n"
    return b"*%d\r\n" % len(answer) + b"".join(map(encoded, answer))
