# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A writer and a reader that use a cluster as an application does, with redis-py's own cluster client, and keep account of every operation."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ansible_collections.progressive.platform.tests.redis.lab import Server
from redis import RedisCluster
from redis.backoff import ExponentialBackoff
from redis.cluster import ClusterNode
from redis.retry import Retry


class Client(RedisCluster):
    """redis-py cannot follow ASK to a node that it has not seen yet (redis/redis-py#2432: 'NoneType' object has no attribute 'redis_connection'); other
    clients can."""

    def get_node(self, host: str | None = None, port: int | None = None, node_name: str | None = None) -> ClusterNode:
        node = super().get_node(host, port, node_name)
        if node is None:
            name, _colon, number = (node_name or f"{host}:{port}").rpartition(":")
            node = ClusterNode(name, int(number))
            self.nodes_manager.nodes_cache[node.name] = node
        return node


@dataclass
class Account:
    """What was written and acknowledged, what failed, what was read back wrong; ``times`` are (end on the monotonic clock, seconds) of each operation."""

    written: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    times: list[tuple[float, float]] = field(default_factory=list)


class Traffic:
    """``with Traffic(servers) as account``: two threads, until the end of the block. A key is written once more now and then, with a newer value."""

    def __init__(self, servers: Sequence[Server], pause: float = 0.001, size: int = 0) -> None:
        self.account = Account()
        self._nodes = [ClusterNode(server.host, server.port) for server in servers]
        self._pause = pause
        self._filler = "x" * size
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._write, self._read)]

    def client(self) -> Client:
        """The settings an application would take: the library's own cluster retry, a bounded socket timeout."""
        return Client(
            startup_nodes=self._nodes,
            decode_responses=True,
            socket_timeout=10,
            retry=Retry(ExponentialBackoff(cap=1, base=0.02), 12),
        )

    def __enter__(self) -> Account:
        for thread in self._threads:
            thread.start()
        return self.account

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a client hangs"

    def lost(self) -> list[str]:
        """Acknowledged writes that are not there, or not with their last value."""
        client = self.client()
        try:
            return [key for key, value in self.account.written.items() if client.get(key) != value]
        finally:
            client.close()

    def _write(self) -> None:
        client = self.client()
        number = 0
        while not self._stop.is_set():
            number += 1
            key, value = f"traffic-{number % 5000}", f"{number}{self._filler}"
            if self._timed(f"SET {key}", lambda key=key, value=value: client.set(key, value)):
                self.account.written[key] = value
            time.sleep(self._pause)
        client.close()

    def _read(self) -> None:
        client = self.client()
        number = 0
        while not self._stop.is_set():
            number += 7
            key = f"traffic-{number % 5000}"
            before = self.account.written.get(key)
            found: list[str | None] = []
            if before is not None and self._timed(f"GET {key}", lambda key=key, found=found: found.append(client.get(key)) or True):
                value = found[0]
                if value is None or _number(value) < _number(before):
                    self.account.wrong.append(f"{key}: {value!r} after {before!r}")
            time.sleep(self._pause)
        client.close()

    def _timed(self, what: str, work: object) -> bool:
        began = time.monotonic()
        try:
            return bool(work())  # type: ignore[operator]
        except Exception as error:  # whatever it is, an application would have seen it
            self.account.errors.append(f"{what}: {type(error).__name__} {error}")
            return False
        finally:
            now = time.monotonic()
            self.account.times.append((now, now - began))


def _number(value: str) -> int:
    return int(value.rstrip("x"))
