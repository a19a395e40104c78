# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A roll on real servers: a source that restarts a process with new options stands in for the API server that has a pod made anew."""

from __future__ import annotations

import dataclasses
import signal
import threading

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._members.credentials import Access
from ansible_collections.progressive.platform.plugins.module_utils._members.model import Target
from ansible_collections.progressive.platform.plugins.module_utils._members.places import Addresses
from ansible_collections.progressive.platform.plugins.module_utils._members.store import Files
from ansible_collections.progressive.platform.plugins.module_utils._redis.converge import Convergence
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Desired
from ansible_collections.progressive.platform.plugins.module_utils._redis.nodes import Cluster
from ansible_collections.progressive.platform.plugins.module_utils._redis.resp import ConnectionLost
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, Context, PlatformError, Result
from ansible_collections.progressive.platform.tests.redis.lab import Lab, Server, kinds, own_entry
from ansible_collections.progressive.platform.tests.redis.traffic import Traffic

NEWEST = {"databases": "8"}


class Restarts(Addresses):
    """Every server is of an older template until it has been evicted. ``budget`` is the number of refusals before an eviction is allowed."""

    def __init__(self, lab: Lab, budget: int = 0, bad: frozenset[str] = frozenset()) -> None:
        super().__init__(lab.addresses)
        self.servers = {server.name: server for server in lab.servers}
        self.outdated = set(self.servers)
        self.order: list[str] = []
        self.budget = budget
        self.bad = bad
        self.ending: set[str] = set()

    def targets(self) -> list[Target]:
        """A server that is being restarted is not there, as a pod that is ending is none."""
        return [
            dataclasses.replace(
                target,
                uid=f"uid-{target.name}",
                volumes=(f"volume-{target.name}",),
                update="outdated" if target.name in self.outdated else "",
                ready=self._ready(self.servers[target.name]),
            )
            for target in super().targets()
            if target.name not in self.ending
        ]

    def evict(self, name: str, uid: str) -> str:
        assert uid == f"uid-{name}"
        assert not self.ending, "one at a time"
        if self.budget:
            self.budget -= 1
            return "the disruption budget does not allow it now"
        self.outdated.discard(name)
        self.order.append(name)
        self.ending.add(name)
        threading.Thread(target=self._restart, args=(self.servers[name],), daemon=True).start()
        return ""

    def _restart(self, server: Server) -> None:
        server.kill(signal.SIGTERM)
        if server.name not in self.bad:
            server.start(**NEWEST)
            self.ending.discard(server.name)

    @staticmethod
    def _ready(server: Server) -> bool:
        try:
            return bool(server("PING"))
        except (OSError, ConnectionLost):
            return False


def roll(lab: Lab, source: Restarts, timeout: float = 60.0, **desired: object) -> Result:
    clock = Clock()
    with Cluster(source, Access(), clock) as cluster:
        wanted = Desired(roll=True, **desired)  # type: ignore[arg-type]
        return Convergence(cluster, Files("redis", lab.addresses, clock), wanted, timeout, Context(clock=clock)).run()


def test_s34_a_roll_loses_nothing_and_nobody_notices(lab: Lab) -> None:
    """Six restarts under a writer and a reader: replicas first, one planned failover a shard, no lost write and no failed operation."""
    lab.converge()
    replicas = {server.name for server in lab.servers if own_entry(server).master}
    source = Restarts(lab, budget=2)
    traffic = Traffic(lab.servers)
    with traffic as account:
        lab.wait(lambda: len(account.written) > 200)
        result = roll(lab, source)
    assert [action for _state, action in kinds(result) if action in {"replace", "handover"}] == ["replace"] * 3 + [
        "handover",
        "replace",
    ] * 3
    assert set(source.order[:3]) == replicas and sorted(source.order) == sorted(lab.addresses)
    assert all(server("CONFIG", "GET", "databases") == ["databases", "8"] for server in lab.servers)
    assert account.errors == [] and account.wrong == []
    assert traffic.lost() == []
    longest = max(seconds for _end, seconds in account.times)
    print(f"{len(account.times)} operations, none failed, the longest took {longest:.2f} s")
    assert longest < 10
    assert not source.outdated and roll(lab, source)["plan"] == []


def test_s34_a_roll_that_was_interrupted_is_taken_up(lab: Lab) -> None:
    """The first replaced server does not come back: the run ends and says so. What is replaced already is not replaced again."""
    lab.converge()
    lab.fill()
    source = Restarts(lab)
    source.bad = frozenset({max((s for s in lab.servers if own_entry(s).master), key=lab.servers.index).name})
    with pytest.raises(PlatformError, match=r"not as wanted after 8 s.*6 nodes, 5 are there"):
        roll(lab, source, timeout=8)
    assert source.order == list(source.bad)
    source.bad = frozenset()
    source.ending.clear()
    next(server for server in lab.servers if server.process is None).start(**NEWEST)
    assert roll(lab, source)["changed"] and sorted(source.order) == sorted(lab.addresses)
    assert lab.read() == 300


def test_s34_an_older_version_is_not_rolled_out(lab: Lab) -> None:
    lab.converge()
    source = Restarts(lab)
    with pytest.raises(PlatformError, match=r"runs Redis 7\.0\.15 and would be followed by Redis 6\.2: .* no way back"):
        roll(lab, source, release="redis 6.2")
    assert source.order == []
