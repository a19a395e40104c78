# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The planner as a table: a state made of data, and the decision it must lead to."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._members.model import Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Act, Desired, Done, Observation
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._redis.plan import decide, findings
from ansible_collections.progressive.platform.plugins.module_utils._redis.simulate import foresee
from ansible_collections.progressive.platform.tests.unit.redis.views import (
    THIRDS,
    change,
    entry,
    everywhere,
    fresh,
    healthy,
    node,
    node_id,
    seen,
    target,
    without,
)

DEAD = frozenset({"master", "fail"})
DEAD_REPLICA = frozenset({"slave", "fail"})


def open_at(observation: Observation, index: int, slot: int, direction: str, other: int, keys: int) -> Observation:
    """An open slot on one node, with that many keys in it."""
    changed = seen(observation, index, index, open_slots={slot: (direction, node_id(other))})
    return change(changed, index, open_keys={slot: keys})


def owned_by_nobody(observation: Observation, slot: int) -> Observation:
    """A slot that is no node's in any view; everybody has counted, and has no key of it."""
    nodes = tuple(
        dataclasses.replace(
            one, stray_keys={}, entries={key: dataclasses.replace(it, slots=it.slots & ~(1 << slot)) for key, it in one.entries.items()}
        )
        for one in observation.nodes
    )
    return dataclasses.replace(observation, nodes=nodes)


def lost_master(keys: int = 5) -> Observation:
    """redis-0's volume is gone, the others see its old ID fail; redis-5 has its copy."""
    observation = without(healthy(keys=keys), 0)
    return everywhere_but(observation, 0, dataclasses.replace(entry(0, owned=THIRDS[0]), flags=DEAD, connected=False))


def everywhere_but(observation: Observation, index: int, made: t.Any) -> Observation:
    kept = observation.nodes[index]
    return dataclasses.replace(
        everywhere(observation, made),
        nodes=tuple(kept if position == index else one for position, one in enumerate(everywhere(observation, made).nodes)),
    )


def two_clusters() -> Observation:
    halves = [[entry(index, owned=slots.ALL if index % 3 == 0 else 0) for index in half] for half in ((0, 1, 2), (3, 4, 5))]
    return Observation(tuple(node(index, halves[index // 3], keys=1) for index in range(6)))


def two_owners(keys: int = 0) -> Observation:
    halves = slots.split(slots.ALL, 2)
    entries = [entry(index, owned=halves[index] if index < 2 else 0) for index in range(6)]
    return Observation(tuple(node(index, entries, keys=keys if index < 2 else 0) for index in range(6)))


def crowded() -> Observation:
    """Every replica is on its master's node."""
    entries = [entry(index, owned=THIRDS[index]) for index in range(3)] + [entry(index, master=index - 3) for index in range(3, 6)]
    return dataclasses.replace(healthy(), nodes=tuple(node(index, entries) for index in range(6)))


WAITS = (
    "absent",
    "loading",
    "elections",
    "moved",
    "links",
    "agreement",
    "epochs",
    "links down",
    "verdict",
    "dying",
    "foreign " + node_id(9),
)
LONG = dict.fromkeys(WAITS, 1000.0)


def every(observation: Observation, **changes: t.Any) -> Observation:
    return dataclasses.replace(observation, nodes=tuple(dataclasses.replace(one, **changes) for one in observation.nodes))


def forgotten(observation: Observation, index: int) -> Observation:
    """The others do not know that node any more; it still knows them."""
    nodes = tuple(
        one
        if position == index
        else dataclasses.replace(one, entries={key: line for key, line in one.entries.items() if key != node_id(index)})
        for position, one in enumerate(observation.nodes)
    )
    return dataclasses.replace(observation, nodes=(*nodes[:6], *nodes[index:]))


def gone(observation: Observation) -> Observation:
    """Two nodes beyond the wanted six: one fresh, one silent at an address that nobody lists."""
    kept = healthy().nodes
    alone = node(6, [entry(6, epoch=0)], cluster_ok=False, current_epoch=0)
    silent = change(observation, 7, problem="refused", kind="absent", entries={}).nodes[7]
    return dataclasses.replace(healthy(), nodes=(*kept, alone, silent))


def forgetful(observation: Observation, viewer: int, index: int) -> Observation:
    """One node has been told to forget another."""
    rest = {key: one for key, one in observation.nodes[viewer].entries.items() if key != node_id(index)}
    return change(observation, viewer, entries=rest)


def uncounted(index: int) -> Observation:
    return change(open_at(healthy(keys=9), index, 5, "importing", 0, 2), index, open_keys={})


def arranged(masters: dict[int, int], replicas: dict[int, int], **changes: t.Any) -> Observation:
    """Masters by index with their slots, replicas with the index of their master."""
    entries = [entry(index, owned=owned) for index, owned in masters.items()]
    entries += [entry(index, master=master) for index, master in replicas.items()]
    return Observation(tuple(node(index, entries, keys=5, **changes) for index in sorted({*masters, *replicas})))


def leaving() -> Observation:
    """Two masters and four replicas stay; the third master is to leave, one of its replicas stays."""
    return arranged({0: THIRDS[0], 1: THIRDS[1], 6: THIRDS[2]}, {2: 0, 3: 1, 4: 0, 5: 6})


def bare() -> Observation:
    """The master that is to leave has a replica, those that stay have none."""
    quarters = slots.split(slots.ALL, 4)
    return arranged(dict(enumerate(quarters)), {4: 3, 5: 3})


def expanded() -> Observation:
    """Three owners, and two masters without slots that have their replicas already."""
    observation = arranged({**dict(enumerate(THIRDS)), 6: 0, 7: 0}, {3: 0, 4: 1, 5: 2, 8: 6, 9: 7})
    return change(change(observation, 6, keys=0), 7, keys=0)


def full_taker() -> Observation:
    return change(change(expanded(), 6, keys=3), 7, keys=3)


def uneven() -> Observation:
    """The second master has 100 slots of the first."""
    some = slots.first(THIRDS[0], 100)
    return arranged({0: THIRDS[0] & ~some, 1: THIRDS[1] | some, 2: THIRDS[2]}, {3: 0, 4: 1, 5: 2})


def silent(host: str, port: int, seconds: int) -> dict[str, t.Any]:
    """What a master says of a replica that acknowledges nothing; the port is 0 where it could not say it."""
    return {"unheard": {(host, port): seconds}, "named": frozenset({(host, port)} if port else ())}


TABLE: list[tuple[str, Observation, dict[str, t.Any], dict[str, float], type, str, str]] = [
    ("fresh nodes", fresh(), {}, {}, Act, "S1", "an empty cluster is formed"),
    ("too few nodes", fresh(5), {}, {}, Wait, "S1", "need 6 nodes, 5 are there"),
    (
        "keys before forming",
        change(fresh(), 2, keys=7),
        {},
        {},
        Refuse,
        "S1",
        f"redis-2 ({node_id(2)}) is not part of the cluster and holds 7 keys",
    ),
    ("functions before forming", change(fresh(), 2, functions=1), {}, {}, Refuse, "S1", "1 function libraries"),
    ("healthy", healthy(), {}, {}, Done, "S4", ""),
    ("healthy with data", healthy(keys=9), {}, {}, Done, "S4", ""),
    ("more replicas than wanted", healthy(8), {}, {}, Act, "S31", "redis-6, redis-7 leave the cluster"),
    ("more replicas than wanted, kept", healthy(8), {"surplus": "keep"}, {}, Done, "S4", ""),
    ("too few replicas to write with", every(healthy(8), min_replicas=2), {}, {}, Refuse, "S31", "CONFIG SET min-replicas-to-write 1"),
    ("left and still remembers", forgotten(healthy(8), 7), {}, {}, Act, "S30", "redis-7 left the cluster"),
    ("left", gone(healthy(8)), {}, {}, Done, "S4", ""),
    (
        "a node absent",
        change(healthy(), 4, problem="connection refused", kind="absent"),
        {},
        {},
        Wait,
        "S17",
        "redis-4: connection refused",
    ),
    ("absent for long", change(healthy(), 4, problem="connection refused", kind="absent"), {}, LONG, Wait, "S17", "redis-4"),
    ("loading", change(healthy(), 4, problem="loading", kind="loading", loading_eta=9), {}, {}, Wait, "S16", "redis-4 (about 9 s left)"),
    ("loading for long", change(healthy(), 4, problem="loading", kind="loading"), {}, LONG, Refuse, "S16", "Still loading after 300 s"),
    ("wrong password", change(healthy(), 4, problem="AUTH is answered WRONGPASS", kind="auth"), {}, {}, Refuse, "S35", "WRONGPASS"),
    (
        "no cluster node",
        change(healthy(), 4, problem="cluster-enabled is not yes", kind="foreign"),
        {},
        {},
        Refuse,
        "S23",
        "cluster-enabled",
    ),
    ("one moved", seen(healthy(), 0, 4, host="10.9.9.9", connected=False), {}, {}, Wait, "S5", "redis-4 has a new address"),
    ("one moved for long", seen(healthy(), 0, 4, host="10.9.9.9", connected=False), {}, LONG, Act, "S6", "redis-4"),
    (
        "two moved",
        seen(seen(healthy(), 0, 4, host="10.9.9.9", connected=False), 0, 5, flags=frozenset({"slave", "noaddr"}), host="", port=0),
        {},
        {},
        Act,
        "S6",
        "redis-4, redis-5",
    ),
    ("another address that works", seen(healthy(), 0, 4, host="192.168.1.1"), {}, {}, Done, "S4", ""),
    ("cloned volume", change(healthy(), 4, id=node_id(5)), {}, {}, Refuse, "S6", node_id(5)),
    ("suspected", seen(healthy(keys=1), 0, 4, flags=frozenset({"slave", "fail?"})), {}, {}, Wait, "S17", "redis-0 -> redis-4"),
    ("blocked", seen(healthy(keys=1), 0, 4, connected=False), {}, {"links": 10.0}, Wait, "S18", "redis-0 -> redis-4 (10.0.0.5:16379)"),
    (
        "blocked for long",
        seen(healthy(keys=1), 0, 4, connected=False),
        {},
        LONG,
        Refuse,
        "S18",
        "cannot reach each other on the cluster bus",
    ),
    ("election", lost_master(), {}, {}, Wait, "S9", "waiting for a replica"),
    (
        "an election among members that moved",
        everywhere_but(lost_master(), 0, entry(1, owned=THIRDS[1], host="10.9.9.1", connected=False)),
        {},
        {},
        Wait,
        "S9",
        "waiting for a replica",
    ),
    (
        "an election among members that moved, for long",
        everywhere_but(lost_master(), 0, entry(1, owned=THIRDS[1], host="10.9.9.1", connected=False)),
        {},
        {"moved": 100.0},
        Act,
        "S6",
        "redis-1 answer at new addresses",
    ),
    ("an election needs a member that was forgotten", forgetful(lost_master(), 2, 5), {}, {}, Act, "S8", "that an election needs"),
    ("an election, and nobody comes back", forgetful(lost_master(), 2, 5), {}, LONG, Refuse, "S9", f"allow_data_loss ({node_id(0)})"),
    ("no election", lost_master(), {}, LONG, Refuse, "S9", f"allow_data_loss ({node_id(0)})"),
    ("no election, allowed", lost_master(), {"allow_data_loss": frozenset({node_id(0)})}, LONG, Act, "S9", "no replica is elected"),
    ("absent owner may come back", change(lost_master(), 5, problem="gone", kind="absent"), {}, LONG, Wait, "S17", "redis-5: gone"),
    ("two clusters", two_clusters(), {}, {}, Refuse, "S20", "2 separate clusters"),
    ("live foreigner", everywhere(healthy(), entry(9)), {}, {}, Wait, "S21", node_id(9)),
    ("live foreigner for long", everywhere(healthy(), entry(9)), {}, LONG, Refuse, "S21", f"CLUSTER FORGET {node_id(9)}"),
    ("dead ID", everywhere(healthy(), entry(9, flags=DEAD, connected=False)), {}, {}, Act, "S22", "1 IDs are remembered"),
    (
        "dying ID",
        everywhere(healthy(), entry(9, flags=frozenset({"master"}), connected=False)),
        {},
        {},
        Wait,
        "S17",
        "does not answer its peers",
    ),
    ("newcomer", without(healthy(keys=5), 4), {}, {}, Act, "S8", "do not know each other"),
    ("newcomer with keys", change(without(healthy(keys=5), 4), 4, keys=3), {}, {}, Refuse, "S23", "holds 3 keys"),
    (
        "newcomer of another cluster",
        change(without(healthy(), 4), 4, entries={one.id: one for one in (entry(12, host=""), entry(14))}),
        {},
        {},
        Refuse,
        "S23",
        "remembers another cluster",
    ),
    (
        "resumable open slot",
        open_at(open_at(healthy(keys=9), 0, 5, "migrating", 1, 0), 1, 5, "importing", 0, 0),
        {},
        {},
        Act,
        "S12",
        "left half done",
    ),
    (
        "open slot with keys",
        open_at(open_at(healthy(keys=9), 0, 5, "migrating", 1, 4), 1, 5, "importing", 0, 0),
        {},
        {},
        Act,
        "S12",
        "left half done",
    ),
    (
        "open slot with keys, and another slot without an owner",
        owned_by_nobody(open_at(open_at(healthy(keys=9), 0, 5, "migrating", 1, 4), 1, 5, "importing", 0, 0), 7),
        {},
        {},
        Refuse,
        "S11",
        "Slots 7 have no owner",
    ),
    ("only importing", open_at(healthy(keys=9), 1, 5, "importing", 0, 0), {}, {}, Act, "S13", "nothing has moved"),
    ("only importing, keys came", open_at(healthy(keys=9), 1, 5, "importing", 0, 2), {}, {}, Act, "S13", "go to the owner"),
    ("only importing, count refused", uncounted(1), {}, {}, Refuse, "S13", "does not say how many keys"),
    ("only migrating", open_at(healthy(keys=9), 0, 5, "migrating", 1, 4), {}, {}, Act, "S13", "nothing has moved"),
    (
        "only migrating, keys came",
        change(open_at(healthy(keys=9), 0, 5, "migrating", 1, 4), 1, open_keys={5: 3}),
        {},
        {},
        Act,
        "S12",
        "left half done",
    ),
    (
        "keys of an open slot where it is not open",
        change(open_at(healthy(keys=9), 0, 5, "migrating", 1, 4), 2, open_keys={5: 3}),
        {},
        {},
        Act,
        "S13",
        "no slot is open",
    ),
    ("migrating to nobody", open_at(healthy(keys=9), 0, 5, "migrating", 9, 4), {}, {}, Refuse, "S12", f"allow_data_loss ({node_id(9)})"),
    (
        "migrating to nobody, allowed",
        open_at(healthy(keys=9), 0, 5, "migrating", 9, 4),
        {"allow_data_loss": frozenset({node_id(9)})},
        {},
        Act,
        "S13",
        "nothing has moved",
    ),
    (
        "two importers",
        open_at(open_at(open_at(healthy(keys=9), 0, 5, "migrating", 1, 4), 1, 5, "importing", 0, 2), 2, 5, "importing", 0, 0),
        {},
        {},
        Act,
        "S13",
        "nothing has moved",
    ),
    (
        "two importers with keys",
        open_at(open_at(open_at(healthy(keys=9), 0, 5, "migrating", 1, 4), 1, 5, "importing", 0, 2), 2, 5, "importing", 0, 1),
        {},
        {},
        Act,
        "S12",  # first what has an end to go to; then the astray keys follow
        "left half done",
    ),
    ("open on a replica", open_at(healthy(keys=9), 4, 5, "importing", 0, 0), {}, {}, Act, "S15", "5 are open on redis-4"),
    ("too many owners", healthy(6, masters=6), {}, {}, Act, "S30", "redis-3, redis-4, redis-5 hand over all: 8191 slots move"),
    ("a master is to leave, its replica stays", leaving(), {}, {}, Act, "S30", "redis-5 takes over from redis-6"),
    ("no room", every(healthy(6, masters=6, keys=9), maxmemory=100, used_memory=70, dataset=50), {}, {}, Refuse, "S30", "Raise maxmemory"),
    (
        "no room during a move",
        every(healthy(6, masters=6, keys=9), maxmemory=100, used_memory=91, dataset=50),
        {},
        {"moving": 1.0},
        Wait,
        "S30",
        "moving pauses",
    ),
    ("no copy for what has one", bare(), {}, {}, Refuse, "S30", "their data would have no copy"),
    (
        "two owners of one slot",
        seen(healthy(keys=1), 1, 1, slots=THIRDS[1] | 1),
        {},
        {},
        Wait,
        "S18",
        "have not heard of all slot owners",
    ),
    ("views differ", seen(healthy(keys=1), 4, 0, slots=0), {}, {}, Wait, "S18", "redis-4"),
    ("views differ for long", seen(healthy(keys=1), 4, 0, slots=0), {}, LONG, Refuse, "S18", "After 30 s redis-4"),
    ("an owner's older epoch is seen", seen(healthy(keys=1), 4, 0, epoch=0), {}, {}, Wait, "S18", "redis-4"),
    ("a newer one than its own is remembered", seen(healthy(keys=1), 4, 0, epoch=9), {}, {}, Done, "S4", ""),
    ("equal epochs", seen(healthy(keys=1), 1, 1, epoch=1), {}, {}, Wait, "S19", "redis-0, redis-1 at 1"),
    ("equal epochs for long", seen(healthy(keys=1), 1, 1, epoch=1), {}, LONG, Act, "S19", "still share"),
    ("link down", change(healthy(), 4, link_up=False), {}, {}, Wait, "S7", "redis-4"),
    ("link down for long", change(healthy(), 4, link_up=False), {}, LONG, Act, "S7", "stay down"),
    ("link down, wrong masterauth", change(healthy(), 4, link_up=False, auth_agrees=False), {}, {}, Refuse, "S7", "masterauth"),
    (
        "an unheard replica",
        change(healthy(), 2, **silent("10.0.0.5", 6379, 10)),
        {},
        {},
        Act,
        "S7",
        "hear nothing from their replicas: redis-4",
    ),
    ("an unheard replica without a port", change(healthy(), 2, **silent("10.0.0.5", 0, 10)), {}, {}, Act, "S7", "redis-4"),
    ("somebody else without a port", change(healthy(), 2, **silent("10.0.0.6", 0, 10)), {}, {}, Done, "S4", ""),
    ("not heard yet", change(healthy(), 2, **silent("10.0.0.5", 6379, 9)), {}, {}, Wait, "S7", "awaited of redis-4"),
    ("unheard by who is not its master", change(healthy(), 1, **silent("10.0.0.5", 6379, 10)), {}, {}, Done, "S4", ""),
    ("copying", change(healthy(), 4, link_up=False, syncing=True), {}, {"links down": 100.0}, Wait, "S7", "copying"),
    ("copying for long", change(healthy(), 4, link_up=False, syncing=True), {}, LONG, Refuse, "S7", "has not ended within 300 s"),
    ("crowded, left alone", crowded(), {}, {}, Done, "S4", ""),
    ("crowded and empty", crowded(), {"rebalance_topology": True}, {}, Act, "S25", "are on node n0"),
    (
        "crowded with data",
        dataclasses.replace(crowded(), nodes=tuple(dataclasses.replace(one, keys=3) for one in crowded().nodes)),
        {"rebalance_topology": True},
        {},
        Refuse,
        "S25",
        "Add one node",
    ),
    ("wanted master without slots", two_owners(), {}, {}, Act, "S1", "become replicas"),
    ("wanted master without slots, keys", two_owners(keys=4), {}, {}, Act, "S31", "become replicas"),
    ("more masters, replicas to spare", healthy(10, masters=3), {"masters": 5}, {}, Act, "S29", "replicas are to spare"),
    (
        "more masters, no node to spare",
        healthy(10, masters=3),
        {"masters": 4, "replicas": 2},
        {},
        Wait,
        "S17",
        "4 masters with 2 replicas each need 12 nodes",
    ),
    ("master that holds keys", full_taker(), {"masters": 5}, {}, Refuse, "S26", "2 more masters are wanted"),
    ("new masters not ok yet", change(expanded(), 6, cluster_ok=False), {"masters": 5}, {}, Wait, "S29", "redis-6 do not say ok yet"),
    ("new masters", expanded(), {"masters": 5}, {}, Act, "S29", "6553 slots move"),
    ("uneven", uneven(), {}, {}, Act, "S29", "99 slots move"),
    ("not ok yet", change(healthy(), 4, cluster_ok=False), {}, {}, Wait, "S32", "redis-4"),
    ("not ok for long", change(healthy(), 4, cluster_ok=False), {}, LONG, Refuse, "S32", "still say cluster_state:fail"),
    (
        "mixed versions, change needed",
        change(
            change(without(healthy(keys=5), 4), 4, version="7.2.4", entries={**without(healthy(), 4).nodes[4].entries}), 5, link_up=False
        ),
        {},
        {},
        Act,
        "S8",
        "do not know each other",
    ),
    (
        "mixed versions, topology",
        change(everywhere(healthy(), entry(9, flags=DEAD, connected=False)), 4, version="7.2.4"),
        {},
        {},
        Refuse,
        "S34",
        "redis-4 7.2.4",
    ),
]


@pytest.mark.parametrize(
    ("observation", "desired", "ages", "kind", "state", "text"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_decision(observation: Observation, desired: dict[str, t.Any], ages: dict[str, float], kind: type, state: str, text: str) -> None:
    decision = decide(Picture(observation, Desired(**desired), ages))
    assert isinstance(decision, kind), decision
    assert decision.state == state
    assert text in decision.reason or isinstance(decision, Done)


@pytest.mark.parametrize("observation", [row[1] for row in TABLE], ids=[row[0] for row in TABLE])
def test_every_stage_bears_every_picture(observation: Observation) -> None:
    """A report asks all stages, also behind one that already refused."""
    for ages in ({}, LONG):
        for decision in findings(Picture(observation, Desired(rebalance_topology=True), ages)):
            assert decision.state.startswith("S") and decision.reason


@pytest.mark.parametrize(
    ("observation", "steps"),
    [
        (fresh(), ["prepare", "meet", "slots", "replicate", "restore"]),
        (without(healthy(keys=5), 4), ["meet", "replicate"]),
        (two_owners(), ["replicate", "move"]),
        (everywhere(healthy(), entry(9, flags=DEAD, connected=False)), ["forget"]),
        (crowded(), ["replicate", "replicate", "replicate"]),
    ],
)
def test_foreseen_steps(observation: Observation, steps: list[str]) -> None:
    decisions, after = foresee(observation, Desired(rebalance_topology=True), {})
    done = [decision.kind for decision in decisions if isinstance(decision, Act)]
    assert [kind for kind in done if kind != "forget"] == [kind for kind in steps if kind != "forget"] or done == steps
    assert isinstance(decisions[-1], (Done, Wait))
    assert sum(slots.size(one.slots) for one in after.live) == slots.COUNT


def test_formation_spreads_masters_and_replicas() -> None:
    _decisions, after = foresee(fresh(), Desired(), {})
    picture = Picture(after, Desired())
    assert picture.placement.score == 0
    assert sorted(slots.size(one.slots) for one in picture.owners) == [5461, 5461, 5462]
    assert len(picture.attached) == 3


@pytest.mark.parametrize(
    ("changes", "allowed", "refused"),
    [
        ({}, frozenset(), True),
        ({"volumes": ("another",)}, frozenset(), False),
        ({"volumes": ()}, frozenset(), False),
        ({}, "fingerprint", False),
    ],
    ids=["same volumes", "other volumes", "no volumes", "named"],
)
def test_r3_a_lost_cluster(changes: dict[str, t.Any], allowed: t.Any, refused: bool) -> None:
    marker = healthy().marker
    assert marker is not None
    nodes = tuple(dataclasses.replace(one, target=target(index, **changes)) for index, one in enumerate(fresh().nodes))
    # New IDs: the old cluster's nodes.conf files are gone.
    nodes = tuple(
        dataclasses.replace(one, id=node_id(index + 8), entries={node_id(index + 8): entry(index + 8, epoch=0)})
        for index, one in enumerate(nodes)
    )
    names = frozenset({marker.fingerprint}) if allowed == "fingerprint" else allowed
    decision = decide(Picture(Observation(nodes, marker), Desired(allow_data_loss=names)))
    assert isinstance(decision, Refuse if refused else Act)
    assert not refused or marker.fingerprint in decision.reason


@pytest.mark.parametrize(("uids", "refused"), [({"redis-0": "pod-0"}, True), ({"redis-0": "older-pod"}, False)])
def test_r3_without_volumes_the_pods_count(uids: dict[str, str], refused: bool) -> None:
    marker = dataclasses.replace(t.cast(t.Any, healthy().marker), volumes={}, uids=uids, ids={"redis-0": node_id(12)})
    decision = decide(Picture(dataclasses.replace(fresh(), marker=marker), Desired()))
    assert isinstance(decision, Refuse) is refused


def test_meeting_uses_addresses_and_unusual_bus_ports() -> None:
    observation = change(fresh(), 1, entries={node_id(1): entry(1, epoch=0, bus_port=7777)})
    observation = dataclasses.replace(
        observation,
        nodes=tuple(dataclasses.replace(one, node_timeout_ms=500, sync_delay_s=0, current_epoch=1) for one in observation.nodes),
    )
    decision = decide(Picture(observation, Desired()))
    assert isinstance(decision, Act) and decision.kind == "meet"
    commands = {action.command for action in decision.actions if action.node == "redis-0"}
    assert ("CLUSTER", "MEET", "10.0.0.2", "6379", "7777") in commands
    assert ("CLUSTER", "MEET", "10.0.0.3", "6379") in commands
    assert len(decision.actions) == 30


@pytest.mark.parametrize(("version", "verb"), [("7.0.15", "ADDSLOTSRANGE"), ("8.0.1", "ADDSLOTSRANGE"), ("6.2.14", "ADDSLOTS")])
def test_slot_commands_follow_the_version(version: str, verb: str) -> None:
    met = healthy()
    entries = [entry(index) for index in range(6)]
    nodes = tuple(node(index, entries, version=version, node_timeout_ms=500, sync_delay_s=0) for index in range(6))
    decision = decide(Picture(dataclasses.replace(met, nodes=nodes, marker=None), Desired()))
    assert isinstance(decision, Act) and decision.kind == "slots"
    assert {action.command[1] for action in decision.actions} == {verb}
    assert len(decision.actions) == 3


def test_formation_settings_come_off_first_when_data_arrived() -> None:
    observation = healthy(keys=3)
    marker = dataclasses.replace(t.cast(t.Any, observation.marker), settings={node_id(0): {"cluster-node-timeout": "5000"}})
    observation = change(dataclasses.replace(observation, marker=marker), 0, node_timeout_ms=500, link_up=False)
    decision = decide(Picture(observation, Desired()))
    assert isinstance(decision, Act) and decision.kind == "restore"
    assert [action.command for action in decision.actions] == [("CONFIG", "SET", "cluster-node-timeout", "5000")]
