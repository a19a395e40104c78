# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is only done with consent, and what is refused all the same, as tables: takeover, lost slots, two clusters, foreign data, failback, damaged files."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._members.credentials import Access
from ansible_collections.progressive.platform.plugins.module_utils._members.model import Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.closer import answered, questions
from ansible_collections.progressive.platform.plugins.module_utils._redis.converge import Convergence
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Act, Action, Desired, Done, Observation, Persistence
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._redis.placement import Member, assess
from ansible_collections.progressive.platform.plugins.module_utils._redis.plan import decide
from ansible_collections.progressive.platform.plugins.module_utils._redis.rearrange import promote
from ansible_collections.progressive.platform.plugins.module_utils._redis.resp import ReplyError
from ansible_collections.progressive.platform.plugins.module_utils._redis.simulate import foresee
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.membership import forget
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError
from ansible_collections.progressive.platform.tests.unit.clock import FakeClock
from ansible_collections.progressive.platform.tests.unit.redis.views import (
    THIRDS,
    change,
    entry,
    everywhere,
    healthy,
    node,
    node_id,
    seen,
    target,
    without,
)

DEAD = frozenset({"master", "fail"})
SUSPECTED = frozenset({"master", "fail?"})
ELECTION = {"elections": 1000.0}
CRASH = "redis ended 5 times, exit code 1, its last words: Bad file format reading the append only file"


def two_wiped(offsets: tuple[int, int] = (7, 9)) -> Observation:
    """redis-0 and redis-1 lost their volumes; redis-5 has a copy of the first, redis-3 of the second, and redis-2 alone elects nobody."""
    observation = without(without(healthy(keys=5), 0), 1)
    for index in (2, 3, 4, 5):
        for gone in (0, 1):
            observation = seen(observation, index, gone, flags=SUSPECTED, connected=False)
    return change(change(observation, 5, offset=offsets[0]), 3, offset=offsets[1])


def silent_majority() -> Observation:
    observation = healthy(keys=5)
    for index in (0, 1):
        observation = change(observation, index, problem="cannot connect: refused", kind="absent")
    return observation


def hole(first: int, last: int, **keys: dict[int, int]) -> Observation:
    """A cluster of which somebody removed these slots, everywhere; ``n0={slot: keys}`` are the keys that each node still has in them."""
    observation = healthy(keys=5)
    taken = slots.mask([(first, last)])
    nodes = []
    for index, one in enumerate(observation.nodes):
        entries = {key: dataclasses.replace(made, slots=made.slots & ~taken) for key, made in one.entries.items()}
        nodes.append(dataclasses.replace(one, entries=entries, stray_keys=keys.get(f"n{index}", {}), cluster_ok=False))
    return dataclasses.replace(observation, nodes=tuple(nodes))


def orphaned() -> Observation:
    """Three masters without replicas; redis-0 lost its volume and nobody has a copy."""
    observation = without(healthy(3, keys=5), 0)
    kept = observation.nodes[0]
    dead = everywhere(observation, entry(0, owned=THIRDS[0], flags=DEAD, connected=False))
    nodes = tuple(kept if index == 0 else dataclasses.replace(one, stray_keys={}) for index, one in enumerate(dead.nodes))
    return dataclasses.replace(dead, nodes=nodes)


def rivals(shares: tuple[int, int], keys: tuple[int, int]) -> Observation:
    """Two clusters of three nodes whose first node owns the share."""
    parts = [
        [entry(index, owned=share if index % 3 == 0 else 0) for index in half]
        for share, half in zip(shares, ((0, 1, 2), (3, 4, 5)), strict=True)
    ]
    return Observation(tuple(node(index, parts[index // 3], keys=keys[index // 3], stray_keys={}) for index in range(6)))


def remembered(shares: tuple[int, int]) -> Observation:
    """Two clusters with keys that were one when the marker was written."""
    return dataclasses.replace(rivals(shares, (1, 1)), marker=healthy().marker)


def outlived() -> Observation:
    """As rivals with disjoint shares, and redis-1 remembers a former owner of the other's slots whose epoch is higher."""
    observation = rivals((THIRDS[0], THIRDS[1]), (1, 1))
    former = dataclasses.replace(entry(7, owned=THIRDS[1]), epoch=99, flags=frozenset({"master", "fail"}), connected=False)
    nodes = tuple(
        dataclasses.replace(one, entries={**one.entries, former.id: former}) if index == 1 else one
        for index, one in enumerate(observation.nodes)
    )
    return dataclasses.replace(observation, nodes=nodes)


def back_again() -> Observation:
    """redis-1 was forgotten, redis-3 has taken its slots, and now it is back and has not heard of it yet."""
    observation = forgotten()
    for viewer in (0, 2, 3, 4, 5):
        observation = seen(observation, viewer, 3, master="", slots=THIRDS[1], epoch=9, flags=frozenset({"master"}))
    return observation


def two_orphans() -> Observation:
    """Three masters without replicas, and two of them lost their volumes."""
    observation = without(without(healthy(3, keys=5), 0), 1)
    for gone in (0, 1):
        observation = seen(observation, 2, gone, flags=SUSPECTED, connected=False)
    return change(observation, 2, stray_keys={})


def rolling_out(index: int) -> Observation:
    return change(failed_over("abcdef"), index, target=target(index, node="x", zone="", update="outdated"))


def half_dissolved() -> Observation:
    """A dissolution that was killed: redis-3 has forgotten the others and joined redis-0's cluster; redis-4, which owns slots, still knows it."""
    first = [entry(0, owned=slots.ALL), entry(1), entry(2), entry(3)]
    second = [entry(3), entry(4, owned=1), entry(5, master=4)]
    return Observation(tuple(node(index, first if index < 4 else second, keys=5 if index < 4 else 0) for index in range(6)))


def forgotten() -> Observation:
    """Everybody has forgotten redis-1, which owns a third of the slots and still knows everybody."""
    observation = healthy(keys=5)
    nodes = [
        one if index == 1 else dataclasses.replace(one, entries={key: made for key, made in one.entries.items() if key != node_id(1)})
        for index, one in enumerate(observation.nodes)
    ]
    return dataclasses.replace(observation, nodes=tuple(nodes))


def newcomer(strays: dict[int, int] | None, keys: int = 3, **changes: t.Any) -> Observation:
    return change(without(healthy(keys=5), 4), 4, keys=keys, stray_keys=strays, **changes)


def with_hole(observation: Observation, slot: int) -> Observation:
    nodes = tuple(
        dataclasses.replace(
            one,
            entries={key: dataclasses.replace(made, slots=made.slots & ~(1 << slot)) for key, made in one.entries.items()},
            stray_keys=one.stray_keys if one.stray_keys is not None else {},
        )
        for one in observation.nodes
    )
    return dataclasses.replace(observation, nodes=nodes)


def stranger(index: int = 9, **changes: t.Any) -> Observation:
    return everywhere(healthy(keys=5), entry(index, **changes))


def failed_over(domains: str = "") -> Observation:
    """redis-4 has taken over from redis-2, which is its replica now; ``domains`` puts each of the six nodes on one of these hosts."""
    entries = [
        entry(0, owned=THIRDS[0]),
        entry(1, owned=THIRDS[1]),
        entry(2, master=4),
        entry(3, master=1),
        entry(4, owned=THIRDS[2]),
        entry(5, master=0),
    ]
    nodes = []
    for index in range(6):
        made = node(index, entries, keys=5)
        place = {"node": domains[index], "zone": ""} if domains else {}
        nodes.append(dataclasses.replace(made, target=target(index, **place)))
    return dataclasses.replace(healthy(), nodes=tuple(nodes))


def sick(index: int, **changes: t.Any) -> Observation:
    broken = Persistence(
        rdb_ok=False, refusal="MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist on disk."
    )
    return change(healthy(keys=5), index, persistence=broken, **changes)


def at_address(observation: Observation) -> Observation:
    nodes = tuple(dataclasses.replace(one, target=dataclasses.replace(one.target, uid="", volumes=())) for one in observation.nodes)
    return dataclasses.replace(observation, nodes=nodes)


def crashing(index: int) -> Observation:
    return change(healthy(keys=5), index, problem=CRASH, kind="absent", target=target(index, problem=CRASH, crashed=CRASH))


NEW = node_id(12)  # what without() calls redis-4 once its volume is gone

TABLE: list[tuple[str, Observation, dict[str, t.Any], dict[str, float], type, str, tuple[str, ...]]] = [
    # S10
    ("most masters wiped", two_wiped(), {}, {}, Wait, "S10", ("CLUSTER FAILOVER TAKEOVER", "10.0.0.4", "10.0.0.6", node_id(0), node_id(1))),
    ("most masters wiped, for long", two_wiped(), {}, ELECTION, Refuse, "S10", ("allow_takeover: true",)),
    ("most masters wiped, allowed", two_wiped(), {"allow_takeover": True}, {}, Act, "S10", ("allow_takeover is given",)),
    ("most masters silent", silent_majority(), {}, {}, Wait, "S10", ("most masters are gone",)),
    ("most masters silent for long", silent_majority(), {}, ELECTION, Wait, "S10", ("allow_takeover: true sends: redis-cli -h 10.0.0.6",)),
    ("most masters silent, allowed, not yet", silent_majority(), {"allow_takeover": True}, {}, Wait, "S10", ("most masters are gone",)),
    ("most masters silent for long, allowed", silent_majority(), {"allow_takeover": True}, ELECTION, Act, "S10", ("slots 0-5461",)),
    ("most masters wiped, no copies", two_orphans(), {"replicas": 0}, ELECTION, Refuse, "S10", ("allow_data_loss: ['0-10922']", "backup")),
    (
        "most masters wiped, no copies, named",
        two_orphans(),
        {"replicas": 0, "lost_slots": THIRDS[0] | THIRDS[1]},
        {},
        Act,
        "S8",
        ("do not know each other",),
    ),
    # S11
    ("removed slots with keys", hole(0, 9, n0={3: 2}, n5={3: 2}), {}, {}, Act, "S11", ("slots 3 have lost their owner",)),
    (
        "removed slots without keys",
        hole(0, 9),
        {},
        {},
        Refuse,
        "S11",
        ("Slots 0-9 have no owner", "allow_data_loss: ['0-9']", "somebody removed"),
    ),
    ("removed slots, others named", hole(0, 9), {"lost_slots": 1 << 20}, {}, Refuse, "S11", ("Slots 0-9",)),
    ("removed slots, named", hole(0, 9), {"lost_slots": slots.mask([(0, 9)])}, {}, Act, "S11", ("slots 0-9",)),
    (
        "keys on two nodes",
        hole(0, 9, n0={3: 2}, n1={3: 7}),
        {"lost_slots": slots.ALL},
        {},
        Refuse,
        "S11",
        ("slot 3: 2 keys on redis-0", "7 keys on redis-1", "CLUSTER GETKEYSINSLOT"),
    ),
    ("keys on a replica alone", hole(0, 9, n5={3: 2}), {"lost_slots": slots.ALL}, {}, Refuse, "S11", ("slot 3: 2 keys on redis-5",)),
    ("owner gone without a copy", orphaned(), {"replicas": 0}, {}, Wait, "S11", ("is gone and has no replica",)),
    (
        "owner gone without a copy, named",
        orphaned(),
        {"replicas": 0, "lost_slots": THIRDS[0]},
        ELECTION,
        Act,
        "S8",
        ("do not know each other",),
    ),
    # S20
    (
        "both with keys",
        rivals((slots.ALL, slots.ALL), (1, 1)),
        {},
        {},
        Refuse,
        "S20",
        ("2 separate clusters", node_id(0), node_id(3), "cluster import"),
    ),
    ("both with keys, disjoint", rivals((THIRDS[0], THIRDS[1]), (1, 1)), {}, {}, Refuse, "S20", (f"adopt_data: [{node_id(3)}]",)),
    (
        "both with keys, disjoint, adopted",
        rivals((THIRDS[0], THIRDS[1]), (1, 1)),
        {"adopt": frozenset({node_id(3)})},
        {},
        Act,
        "S20",
        ("do not know each other",),
    ),
    (
        "both with keys, adopted but not disjoint",
        rivals((3, 1), (1, 1)),
        {"adopt": frozenset({node_id(3)})},
        {},
        Refuse,
        "S20",
        ("2 separate",),
    ),
    (
        "adopted, and a view would take its slots away",
        outlived(),
        {"adopt": frozenset({node_id(3)})},
        {},
        Act,
        "S20",
        ("owners that are gone would take slots away",),
    ),
    ("both with keys, disjoint, remembered", remembered((THIRDS[0], THIRDS[1])), {}, {}, Act, "S20", ("do not know each other",)),
    ("both with keys, remembered but not disjoint", remembered((3, 1)), {}, {}, Refuse, "S20", ("2 separate",)),
    ("no keys and disjoint", rivals((THIRDS[0], THIRDS[1]), (0, 0)), {}, {}, Act, "S3", ("an empty cluster is formed",)),
    ("one without keys", rivals((slots.ALL, slots.ALL), (1, 0)), {}, {}, Act, "S20", ("all but one without a key",)),
    ("the other without keys", rivals((slots.ALL, slots.ALL), (0, 1)), {}, {}, Act, "S20", ("all but one without a key",)),
    ("dissolved half way", half_dissolved(), {}, {}, Act, "S20", ("all but one without a key",)),
    ("forgotten by all others", forgotten(), {}, {}, Act, "S8", ("do not know each other",)),
    ("back again before it hears of its successor", back_again(), {}, {}, Wait, "S20", ("own the same slots",)),
    (
        "back again and never hears of it",
        back_again(),
        {},
        {"rivals": 1000.0},
        Refuse,
        "S20",
        ("2 separate clusters", node_id(1), node_id(3)),
    ),
    # S21, S22
    ("live foreigner, named", stranger(), {"forget": frozenset({node_id(9)})}, {}, Act, "S21", ("1 IDs are remembered",)),
    (
        "live foreigner with slots, named",
        everywhere(with_hole(healthy(keys=5), 0), entry(9, owned=1)),
        {"forget": frozenset({node_id(9)})},
        {},
        Refuse,
        "S21",
        ("owns slots 0", "reshard"),
    ),
    ("live foreigner, another named", stranger(), {"forget": frozenset({node_id(8)})}, {}, Wait, "S21", ("not among the nodes given",)),
    # S23
    ("newcomer with keys", newcomer({3: 3}), {}, {}, Refuse, "S23", (f"adopt_data: [{NEW}]", f"discard_data: [{NEW}]", "Do not restart")),
    ("newcomer with keys, discarded", newcomer({3: 3}), {"discard": frozenset({NEW})}, {}, Act, "S23", ("data is dropped",)),
    (
        "newcomer with keys, adopted, taken",
        newcomer({3: 3}),
        {"adopt": frozenset({NEW})},
        {},
        Refuse,
        "S23",
        ("slot 3 (3 keys, owned by redis-0)",),
    ),
    ("newcomer with keys, adopted, not counted", newcomer(None), {"adopt": frozenset({NEW})}, {}, Refuse, "S23", ("have an owner",)),
    (
        "newcomer with keys of a hole, adopted",
        with_hole(newcomer({3: 3}), 3),
        {"adopt": frozenset({NEW})},
        {},
        Act,
        "S8",
        ("do not know each other",),
    ),
    (
        "another cluster that answers, discarded",
        newcomer({}, entries={one.id: one for one in (entry(12, host=""), entry(14))}),
        {"discard": frozenset({NEW})},
        {},
        Refuse,
        "S23",
        ("whose nodes answer it", node_id(14)),
    ),
    (
        "another cluster that is gone",
        newcomer({}, keys=0, entries={one.id: one for one in (entry(12, host=""), entry(14, flags=DEAD, connected=False))}),
        {},
        {},
        Refuse,
        "S23",
        ("remembers another cluster", f"discard_data: [{NEW}]"),
    ),
    (
        "another cluster that is gone, discarded",
        newcomer({}, keys=0, entries={one.id: one for one in (entry(12, host=""), entry(14, flags=DEAD, connected=False))}),
        {"discard": frozenset({NEW})},
        {},
        Act,
        "S23",
        ("data is dropped",),
    ),
    # S28 and placement
    ("failed over, left alone", failed_over("abcdef"), {}, {}, Done, "S4", ("",)),
    ("failed over, to come back", failed_over("abcdef"), {"failback": True}, {}, Act, "S28", ("not on the nodes they are meant",)),
    ("failed over, only placement asked for", failed_over("abcdef"), {"rebalance_topology": True}, {}, Done, "S4", ("",)),
    (
        "failed over, too far behind",
        change(change(failed_over("abcdef"), 4, offset=9 << 20), 2, offset=7),
        {"failback": True},
        {},
        Wait,
        "S28",
        ("bytes behind",),
    ),
    (
        "failed over, too far behind for too long",
        change(change(failed_over("abcdef"), 4, offset=9 << 20), 2, offset=7),
        {"failback": True},
        {"roles": 1000.0},
        Refuse,
        "S28",
        ("failback: false",),
    ),
    ("failed over, its pod is to be replaced", rolling_out(2), {"failback": True, "roll": True}, {}, Act, "S34", ("newest template",)),
    ("two masters on a host, left alone", failed_over("abcdbe"), {}, {}, Done, "S4", ("",)),
    ("two masters on a host", failed_over("abcdbe"), {"rebalance_topology": True}, {}, Act, "S28", ("node b holds 2 of 3 masters",)),
    # S33
    ("cannot save", sick(4), {}, {}, Refuse, "S33", ("redis-4", node_id(4), "MISCONF", "recreate_replica: [redis-4]", "BGSAVE")),
    ("a master cannot save", sick(0), {}, {}, Refuse, "S33", ("redis-0", "master")),
    ("cannot save, to be made anew", sick(4), {"recreate": frozenset({"redis-4"})}, {}, Act, "S33", ("made anew from its master",)),
    (
        "a master, to be made anew",
        sick(0),
        {"recreate": frozenset({"redis-0"})},
        {},
        Refuse,
        "S33",
        ("it is a master", "10.0.0.6", "CLUSTER FAILOVER"),
    ),
    (
        "cannot save, nor can its master",
        change(sick(4), 2, persistence=Persistence(aof_ok=False)),
        {"recreate": frozenset({"redis-4"})},
        {},
        Refuse,
        "S33",
        ("its master redis-2", "not healthy", "only good copy"),
    ),
    ("healthy, and named", healthy(), {"recreate": frozenset({"redis-4"})}, {}, Done, "S4", ("",)),
    ("crash loop", crashing(4), {}, {}, Wait, "S33", ("Bad file format",)),
    (
        "crash loop for long",
        crashing(4),
        {},
        {"crashing": 100.0},
        Refuse,
        "S33",
        ("redis-4", "Bad file format", "recreate_replica: [redis-4]"),
    ),
    ("crash loop, to be made anew", crashing(4), {"recreate": frozenset({"redis-4"})}, {}, Act, "S33", ("made anew from its master",)),
    (
        "crash loop of an address",
        at_address(crashing(4)),
        {"recreate": frozenset({"redis-4"})},
        {},
        Refuse,
        "S33",
        ("empty its directory", "redis-2"),
    ),
    (
        "crash loop of an owner",
        crashing(0),
        {"recreate": frozenset({"redis-0"})},
        {},
        Wait,
        "S9",
        ("or for its return",),
    ),
]


@pytest.mark.parametrize(
    ("observation", "desired", "ages", "kind", "state", "texts"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_decision(
    observation: Observation, desired: dict[str, t.Any], ages: dict[str, float], kind: type, state: str, texts: tuple[str, ...]
) -> None:
    decision = decide(Picture(observation, Desired(**desired), ages))
    assert (type(decision), decision.state) == (kind, state), decision
    for text in texts:
        assert text in decision.reason or isinstance(decision, Done)


def commands(observation: Observation, ages: dict[str, float] | None = None, **desired: t.Any) -> list[tuple[str, ...]]:
    decision = decide(Picture(observation, Desired(**desired), ages or {}))
    assert isinstance(decision, Act), decision
    return [(action.node, *action.command) for action in decision.actions]


def test_takeover_goes_to_the_newest_copy() -> None:
    observation = healthy(9, keys=5)
    for index in (0, 1):
        observation = change(observation, index, problem="refused", kind="absent")
    for index, offset in ((5, 10), (8, 20), (3, 7), (6, 7)):
        observation = change(observation, index, offset=offset)
    assert commands(observation, ELECTION, allow_takeover=True, replicas=2) == [
        ("redis-8", "CLUSTER", "FAILOVER", "TAKEOVER"),
        ("redis-3", "CLUSTER", "FAILOVER", "TAKEOVER"),
    ]


def test_a_lost_slot_goes_to_the_node_with_its_keys() -> None:
    assert commands(hole(0, 9, n0={3: 2, 4: 1}, n5={3: 2}, n1={8: 1})) == [
        ("redis-0", "CLUSTER", "BUMPEPOCH"),
        ("redis-0", "CLUSTER", "ADDSLOTSRANGE", "3", "4"),
        ("redis-1", "CLUSTER", "BUMPEPOCH"),
        ("redis-1", "CLUSTER", "ADDSLOTSRANGE", "8", "8"),
    ]


def test_empty_lost_slots_go_to_the_smallest_master_and_only_those_that_are_named() -> None:
    assert commands(hole(0, 9), lost_slots=slots.mask([(0, 4)])) == [
        ("redis-0", "CLUSTER", "BUMPEPOCH"),
        ("redis-0", "CLUSTER", "ADDSLOTSRANGE", "0", "4"),
    ]


def test_slots_of_a_lost_owner_are_freed_in_the_takers_view() -> None:
    observation = dataclasses.replace(hole(0, 9), nodes=everywhere(hole(0, 9), entry(9, owned=3, flags=DEAD, connected=False)).nodes)
    assert commands(observation, ELECTION, lost_slots=slots.mask([(0, 9)])) == [
        ("redis-0", "CLUSTER", "BUMPEPOCH"),
        ("redis-0", "CLUSTER", "DELSLOTSRANGE", "0", "1"),
        ("redis-0", "CLUSTER", "ADDSLOTSRANGE", "0", "9"),
    ]


def test_a_node_that_lost_its_volume_gets_its_slots_back_empty() -> None:
    decisions, after = foresee(orphaned(), Desired(replicas=0, lost_slots=THIRDS[0]), ELECTION)
    decision = next((one for one in decisions if isinstance(one, Act) and one.kind == "meet"), None)
    assert decision is not None
    assert not isinstance(decisions[-1], Refuse), decisions[-1]
    given = next(one for one in decisions if isinstance(one, Act) and one.kind == "reassign")
    assert [action.command[1] for action in given.actions] == ["BUMPEPOCH", "ADDSLOTSRANGE"]
    assert {action.node for action in given.actions} == {"redis-0"}
    assert sum(slots.size(one.slots) for one in after.live) == slots.COUNT


def test_only_the_cluster_without_keys_is_dissolved() -> None:
    assert commands(rivals((slots.ALL, slots.ALL), (0, 1))) == [(f"redis-{index}", "CLUSTER", "RESET", "SOFT") for index in (0, 1, 2)]
    assert commands(half_dissolved()) == [(f"redis-{index}", "CLUSTER", "RESET", "SOFT") for index in (4, 5)]


def test_a_cluster_whose_other_members_may_hold_keys_is_not_dissolved() -> None:
    observation = rivals((slots.ALL, slots.ALL), (1, 0))
    for index in (3, 4, 5):
        one = observation.nodes[index]
        observation = change(observation, index, entries={**one.entries, node_id(9): entry(9, owned=0)})
    decision = decide(Picture(observation, Desired()))
    assert isinstance(decision, Refuse) and decision.state == "S20"


def test_discarding_empties_and_resets() -> None:
    assert commands(newcomer({3: 3}), discard=frozenset({NEW})) == [
        ("redis-4", "FLUSHALL"),
        ("redis-4", "FUNCTION", "FLUSH"),
        ("redis-4", "CLUSTER", "RESET", "HARD"),
    ]
    decisions, _after = foresee(newcomer({3: 3}), Desired(discard=frozenset({NEW})), {})
    assert [one.kind for one in decisions if isinstance(one, Act)][:3] == ["discard", "meet", "replicate"]


def test_an_adopted_node_gets_the_slots_of_its_keys() -> None:
    decisions, _after = foresee(with_hole(newcomer({3: 3}), 3), Desired(adopt=frozenset({NEW})), {})
    acts = [one for one in decisions if isinstance(one, Act)]
    assert [one.kind for one in acts][:2] == ["meet", "recover"], decisions
    assert [action.command for action in acts[1].actions] == [("CLUSTER", "BUMPEPOCH"), ("CLUSTER", "ADDSLOTSRANGE", "3", "3")]


def test_a_pod_is_made_anew() -> None:
    assert commands(sick(4), recreate=frozenset({"redis-4"})) == [("redis-4", "RECREATE", "pod-4")]
    decisions, _after = foresee(sick(4), Desired(recreate=frozenset({"redis-4"})), {})
    assert [one.kind for one in decisions if isinstance(one, Act)] == ["recreate"]
    assert isinstance(decisions[-1], Wait) and "being made anew" in decisions[-1].reason


def test_nobody_forgets_the_master_of_a_live_replica() -> None:
    observation = everywhere(healthy(), entry(9, flags=DEAD, connected=False))
    for viewer in range(6):
        observation = seen(observation, viewer, 4, master=node_id(9))
    decision = forget(Picture(observation, Desired()))
    assert isinstance(decision, Refuse) and decision.state == "S22"
    assert "redis-4 still name it as their master" in decision.reason and "-h 10.0.0.5 -p 6379 CLUSTER REPLICATE" in decision.reason


def test_failback_is_foreseen_one_master_at_a_time() -> None:
    decisions, after = foresee(failed_over("abcdef"), Desired(failback=True), {})
    assert isinstance(decisions[-1], Done)
    assert [one.kind for one in decisions if isinstance(one, Act)] == ["failover"]
    assert {one.name for one in after.live if one.slots} == {"redis-0", "redis-1", "redis-2"}


def test_mixed_versions_let_a_replica_take_over() -> None:
    observation = change(failed_over(), 3, version="7.2.4")
    decision = decide(Picture(observation, Desired(failback=True)))
    assert isinstance(decision, Act) and decision.kind == "failover"
    entries = [*healthy().nodes[0].entries.values(), entry(6), entry(7)]
    grown = Observation(tuple(node(index, entries, version="7.2.4" if index == 7 else "7.0.15") for index in range(8)))
    scaled = decide(Picture(grown, Desired(masters=4)))
    assert isinstance(scaled, Refuse) and scaled.state == "S34"


# ---- second questions --------------------------------------------------------------------------------------------------------------------------------


def test_a_healthy_cluster_is_asked_nothing_more() -> None:
    assert questions(healthy(keys=5).nodes, Access()) == {}


def test_keys_are_counted_in_the_gap_only_and_on_a_newcomer_everywhere() -> None:
    nodes = hole(3, 4).nodes
    asked = questions(nodes, Access())
    assert asked["redis-0"] == [("CLUSTER", "COUNTKEYSINSLOT", "3"), ("CLUSTER", "COUNTKEYSINSLOT", "4")]
    told = answered(nodes, {name: [0, 7] for name in asked}, Access())
    assert told[0].stray_keys == {4: 7}
    assert len(questions(newcomer(None).nodes, Access())["redis-4"]) == slots.COUNT


# ---- promote -----------------------------------------------------------------------------------------------------------------------------------------


def test_promotion_separates_masters_without_moving_a_copy() -> None:
    members = [Member(f"r{index}", node) for index, node in enumerate("aabbc")] + [Member("r5", "c")]
    now = {"r2": "r0", "r4": "r1", "r3": "r5"}
    best = promote(members, ["r0", "r1", "r5"], now, prefer_first=False)
    assert assess(members, ["r0", "r1", "r5"], now).score == 5000 and best.score == 0
    assert {frozenset(pair) for pair in best.master_of.items()} == {frozenset(pair) for pair in now.items()}


def test_promotion_beyond_the_exact_search_still_improves() -> None:
    members = [Member(f"r{index}", f"n{index % 3}") for index in range(48)]
    masters = [f"r{index}" for index in range(0, 48, 3)]  # all sixteen masters on n0
    now = {f"r{index}": f"r{index - index % 3}" for index in range(48) if index % 3}
    assert assess(members, masters, now).score == 5000
    assert promote(members, masters, now, prefer_first=True).score == 0


@pytest.mark.parametrize(("names", "chosen"), [([], "none"), (["0-3,9", "7"], "0-3,7,9"), (["a" * 40, "1234567890123456"], "none")])
def test_slot_lists_among_names(names: list[str], chosen: str) -> None:
    assert slots.text(slots.named(names)) == chosen


def test_a_slot_list_that_is_none() -> None:
    with pytest.raises(PlatformError, match="16380-16390 is not within"):
        slots.named(["16380-16390"])


# ---- the loop --------------------------------------------------------------------------------------------------------------------------------------------


class StillSick:
    """A cluster double: whatever is sent is answered OK, and redis-4 cannot save all the same."""

    def __init__(self, reply: t.Any) -> None:
        self.reply = reply
        self.sent: list[tuple[str, ...]] = []

    def observe(self, marker: t.Any, count: int = 0) -> Observation:
        return dataclasses.replace(sick(4), marker=marker)

    def send(self, actions: t.Iterable[Action]) -> dict[Action, t.Any]:
        chosen = list(actions)
        self.sent += [action.command for action in chosen]
        return dict.fromkeys(chosen, self.reply)

    def ask(self, *_anything: t.Any) -> dict[str, t.Any]:
        return {}


class Nowhere:
    """A store double that remembers nothing and locks nobody out."""

    def read(self) -> None:
        return None

    def write(self, marker: t.Any) -> None:
        raise AssertionError("nothing is to be remembered")

    def lock(self, timeout: float) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def renew(self) -> None:
        return None


@pytest.mark.state("S33")
@pytest.mark.parametrize(
    ("reply", "text", "times"),
    [
        ("OK", "redis-4 was made anew by this run and is damaged again", 1),
        (ReplyError("it may not be deleted: pods is forbidden"), "redis-4 refuses RECREATE pod-4", None),
    ],
)
def test_a_replica_is_made_anew_once_a_run(reply: t.Any, text: str, times: int | None) -> None:
    cluster = StillSick(reply)
    desired = Desired(recreate=frozenset({"redis-4"}))
    with pytest.raises(PlatformError, match=text):
        Convergence(t.cast(t.Any, cluster), t.cast(t.Any, Nowhere()), desired, 60.0, Context(clock=FakeClock())).run()
    assert set(cluster.sent) == {("RECREATE", "pod-4")}
    assert times is None or len(cluster.sent) == times
