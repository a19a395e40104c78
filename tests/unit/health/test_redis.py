# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import re

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._health.redis import key_for, probe, problems_of, shards_of
from ansible_collections.progressive.platform.plugins.module_utils._members.model import Target
from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Action, Entry, Node
from ansible_collections.progressive.platform.plugins.module_utils._redis.resp import ConnectionLost, ReplyError

THIRDS = [(0, 5460), (5461, 10922), (10923, 16383)]
ZONES = ["a", "b", "c", "b", "c", "a"]


def entry(index: int, **changes: object) -> Entry:
    """Nodes 0-2 are masters of a third each, 3-5 their replicas."""
    master = index < 3
    plain = Entry(
        id=f"id{index}",
        host=f"10.0.0.{index}",
        port=6379,
        bus_port=16379,
        flags=frozenset({"master" if master else "slave"}),
        master="" if master else f"id{index - 3}",
        epoch=index + 1,
        connected=True,
        slots=slots.mask([THIRDS[index]]) if master else 0,
    )
    return dataclasses.replace(plain, **changes)


def cluster(count: int = 6) -> list[Node]:
    entries = {f"id{index}": entry(index) for index in range(count)}
    return [
        Node(
            Target(f"redis-{index}", f"10.0.0.{index}", 6379, index, node=f"node-{ZONES[index]}", zone=f"zone-{ZONES[index]}"),
            id=f"id{index}",
            version="7.0.15",
            cluster_ok=True,
            entries=entries,
        )
        for index in range(count)
    ]


def changed(nodes: list[Node], index: int, **changes: object) -> list[Node]:
    return [dataclasses.replace(node, **changes) if position == index else node for position, node in enumerate(nodes)]


def seen_by(nodes: list[Node], viewers: list[int], index: int, **changes: object) -> list[Node]:
    """The viewers believe something else of one member."""
    for viewer in viewers:
        nodes = changed(nodes, viewer, entries={**nodes[viewer].entries, f"id{index}": entry(index, **changes)})
    return nodes


def without(index: int) -> list[Node]:
    """A node whose pod runs but does not answer; the others hold it for failed."""
    nodes = seen_by(cluster(), [n for n in range(6) if n != index], index, flags=entry(index).flags | {"fail"})
    return changed(nodes, index, problem="cannot connect: refused", kind="absent", entries={}, id="")


def moved(index: int, place: str) -> list[Node]:
    nodes = cluster()
    return changed(nodes, index, target=dataclasses.replace(nodes[index].target, node=f"node-{place}", zone=f"zone-{place}"))


@pytest.mark.parametrize(
    ("nodes", "patterns"),
    [
        pytest.param(cluster(), [], id="well"),
        pytest.param(
            without(3),
            [
                "redis-3: cannot connect: refused",
                r"5 nodes say that node id3 \(no such pod\) has failed",
                "master redis-0 has 0 replicas instead of 1",
            ],
            id="a replica is gone",
        ),
        pytest.param(
            without(0),
            [
                "redis-0: cannot connect: refused",
                "5 nodes say that",
                r"5461 slots served by no answering master: 0-5460 \(their owner is gone\)",
            ],
            id="a master is gone",
        ),
        pytest.param(
            cluster(5),
            ["5 Redis pods instead of 6", "master redis-2 has 0 replicas instead of 1"],
            id="a pod is missing",
        ),
        pytest.param(
            [dataclasses.replace(node, problem="pod is Pending", kind="absent", entries={}) for node in cluster()],
            [rf"redis-{index}: pod is Pending" for index in range(6)] + ["no node answers"],
            id="nobody is there",
        ),
        pytest.param(changed(cluster(), 2, cluster_ok=False), ["redis-2 says cluster_state:fail"], id="one says fail"),
        pytest.param(
            seen_by(cluster(), [4], 0, slots=slots.mask([(0, 100)])),
            ["the nodes have 2 different views of the cluster; redis-4 differ from the rest"],
            id="views differ",
        ),
        pytest.param(
            seen_by(cluster(), [1], 0, flags=frozenset({"master", "fail?"})), ["redis-1 says that redis-0 has failed"], id="suspicion"
        ),
        pytest.param(seen_by(cluster(), [0], 0, open_slots={7: ("migrating", "id1")}), ["redis-0 has slot 7 migrating"], id="an open slot"),
        pytest.param(changed(cluster(), 4, link_up=False), ["the link of replica redis-4 to redis-1 is down"], id="a link is down"),
        pytest.param(
            moved(3, "a"),
            [
                "all copies of the shard of redis-0 are in node node-a: redis-0, redis-3",
                "all copies of the shard of redis-0 are in zone zone-a",
            ],
            id="a shard in one node",
        ),
        pytest.param(
            seen_by(cluster(), list(range(6)), 3, master="id1"),
            ["master redis-0 has 0 replicas instead of 1", "master redis-1 has 2 replicas instead of 1"],
            id="a replica at the wrong master",
        ),
        pytest.param(
            seen_by(cluster(), list(range(6)), 5, flags=frozenset({"master"}), master=""),
            ["master redis-2 has 0 replicas instead of 1", "redis-5 is a member without slots and without a master"],
            id="an idle master",
        ),
    ],
)
def test_what_is_wrong_is_named(nodes, patterns):
    problems = problems_of(nodes, 6, 1)
    for pattern in patterns:
        assert any(re.match(pattern, problem) for problem in problems), (pattern, problems)
    assert bool(problems) == bool(patterns)


def test_one_node_of_a_machine_is_no_crowd():
    nodes = [dataclasses.replace(node, target=dataclasses.replace(node.target, node="laptop", zone="")) for node in cluster()]
    assert problems_of(nodes, 6, 1) == []


def test_shards_are_drawn_in_slot_order_also_without_their_master():
    healthy = shards_of(cluster())
    assert [(shard["master"], shard["slots"], [m["pod"] for m in shard["members"]]) for shard in healthy] == [
        ("redis-0", [[0, 5460]], ["redis-0", "redis-3"]),
        ("redis-1", [[5461, 10922]], ["redis-1", "redis-4"]),
        ("redis-2", [[10923, 16383]], ["redis-2", "redis-5"]),
    ]
    orphaned = shards_of(without(0))
    assert [(shard["master"], [m["pod"] for m in shard["members"]]) for shard in orphaned][-1] == ("", ["redis-3"])


@pytest.mark.parametrize(
    "owned", [slots.mask([(0, 0)]), slots.mask([(5461, 10922)]), slots.mask([(16383, 16383)])], ids=["first", "third", "last"]
)
def test_a_key_lies_in_the_masters_slots(owned):
    assert re.fullmatch(r"progressive\.platform:health:\{word\d+\}", key_for(owned, "word"))


def test_the_slot_of_a_key_is_that_of_the_cluster_specification():
    # The specification's own example: CRC16 of 123456789 is 0x31C3, slot 12739.
    assert key_for(slots.mask([(12739, 12739)]), "12345678").endswith("{123456789}")


class FakeCluster:
    """Keeps what masters are told and gives replicas what they replicate."""

    def __init__(self, refuses: dict[str, object] | None = None, deaf: str = "") -> None:
        self.data: dict[str, str] = {}
        self.sent: list[Action] = []
        self.refuses = refuses or {}
        self.deaf = deaf

    def send(self, actions):
        found = {}
        for action in actions:
            self.sent.append(action)
            verb, *rest = action.command
            if action.node in self.refuses:
                found[action] = self.refuses[action.node]
            elif verb == "SET":
                self.data[rest[0]] = rest[1]
                found[action] = "OK"
            elif verb == "GET":
                found[action] = None if action.node == self.deaf else self.data.get(rest[0])
            elif verb == "DEL":
                found[action] = int(self.data.pop(rest[0], None) is not None)
        return found


@pytest.mark.parametrize(
    ("fake", "written", "problems"),
    [
        pytest.param(FakeCluster(), 3, [], id="well"),
        pytest.param(
            FakeCluster(refuses={"redis-1": ReplyError("OOM command not allowed")}),
            2,
            ["master redis-1 does not take a write: OOM command not allowed"],
            id="a master is full",
        ),
        pytest.param(
            FakeCluster(refuses={"redis-2": ConnectionLost("it did not answer in time")}),
            2,
            ["master redis-2 does not take a write: it did not answer in time"],
            id="a master is silent",
        ),
        pytest.param(
            FakeCluster(deaf="redis-4"),
            3,
            ["replica redis-4 does not have the key just written to its master redis-1"],
            id="replication stands still",
        ),
    ],
)
def test_keys_are_written_read_and_removed(fake, written, problems):
    assert probe(fake, cluster()) == (written, problems)
    assert fake.data == {}
    assert all(action.command[3:] == ("PX", "60000") for action in fake.sent if action.command[0] == "SET")
