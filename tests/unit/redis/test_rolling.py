# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rolling, live settings and engines, as tables over observations made of data."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._members.model import Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._redis.converge import live_settings
from ansible_collections.progressive.platform.plugins.module_utils._redis.engines import Release, parse, refusal
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import EVICT, Act, Desired, Done, Observation
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._redis.plan import decide
from ansible_collections.progressive.platform.plugins.module_utils._redis.simulate import foresee
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.live import same
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.tests.unit.redis.views import THIRDS, change, entry, healthy, node, target

ROLL: dict[str, t.Any] = {"roll": True}


def aged(observation: Observation, *indexes: int, **changes: t.Any) -> Observation:
    """These nodes' pods (all without names) are of an older template."""
    for index in indexes or range(len(observation.nodes)):
        made = dataclasses.replace(observation.nodes[index].target, update="outdated", **changes)
        observation = change(observation, index, target=made)
    return observation


def unready(observation: Observation, index: int) -> Observation:
    return change(observation, index, target=dataclasses.replace(observation.nodes[index].target, ready=False))


def alone(**changes: t.Any) -> Observation:
    """Three masters without replicas."""
    entries = [entry(index, owned=THIRDS[index]) for index in range(3)]
    return Observation(tuple(node(index, entries, keys=3, **changes) for index in range(3)))


def behind(observation: Observation, distance: int) -> Observation:
    return change(change(observation, 0, offset=distance + 7), 5, offset=7)


TABLE: list[tuple[str, Observation, dict[str, t.Any], type, str]] = [
    ("nothing is asked", aged(healthy(keys=1)), {}, Done, ""),
    ("nothing is outdated", healthy(keys=1), ROLL, Done, ""),
    ("the highest replica first", aged(healthy(keys=1)), ROLL, Act, "redis-5 is replaced by a pod of the newest template (0 of 6"),
    ("then the next", aged(healthy(keys=1), 0, 1, 2, 3, 4), ROLL, Act, "redis-4 is replaced"),
    (
        "one at a time",
        unready(aged(healthy(keys=1), 0, 1, 2, 3, 4), 5),
        ROLL,
        Wait,
        "1 of 6 pods have the newest template; redis-5 is not ready",
    ),
    ("an unready one first: the newest may be its cure", unready(aged(healthy(keys=1)), 3), ROLL, Act, "redis-3 is replaced"),
    ("the rest is served first", change(aged(healthy(keys=1), 0), 4, link_up=False), ROLL, Wait, "replication links are coming up"),
    ("a master hands over", aged(healthy(keys=1), 0, 1, 2), ROLL, Act, "redis-2 hands its slots over to redis-4 (3 of 6"),
    ("not to one that is behind", behind(aged(healthy(keys=1), 0), 1 << 21), ROLL, Wait, "2097152 bytes behind"),
    ("but to one that is nearly in step", behind(aged(healthy(keys=1), 0), 900), ROLL, Act, "redis-0 hands its slots over to redis-5"),
    ("no replicas wanted, on volumes", aged(alone()), {"replicas": 0, **ROLL}, Act, "redis-2 has no replica, so its slots are away"),
    (
        "no replicas, no volumes",
        aged(alone(), volumes=()),
        {"replicas": 0, **ROLL},
        Refuse,
        "its data dies with its pod: it is not replaced",
    ),
    (
        "the controller is late",
        change(healthy(keys=1), 2, target=target(2, update="unseen")),
        ROLL,
        Wait,
        "the controller of redis-2 has not seen its newest template yet",
    ),
    (
        "a pod that cannot start is replaced before it is waited for",
        change(aged(healthy(keys=1), 4, problem="pod is Pending"), 4, kind="absent", problem="pod is Pending"),
        ROLL,
        Act,
        "redis-4 does not run (pod is Pending) and there is a newer template",
    ),
    (
        "but not one whose data would die with it",
        change(aged(healthy(keys=1), 4, problem="crashed", volumes=()), 4, kind="absent", problem="crashed"),
        ROLL,
        Wait,
        "redis-4: crashed",
    ),
    ("an older version", aged(healthy(keys=1)), {"release": "redis 6.2", **ROLL}, Refuse, "no way back to an older version"),
    ("a patch release", aged(healthy(keys=1)), {"release": "redis 7.0.11", **ROLL}, Act, "redis-5 is replaced"),
    ("another engine", aged(healthy(keys=1)), {"release": "valkey 8.0", **ROLL}, Act, "redis-5 is replaced"),
    (
        "another engine, backwards",
        change(aged(healthy(keys=1), 0, 1, 2, 3, 4), 5, version="7.4.1"),
        ROLL,
        Act,
        "redis-4 is replaced",
    ),
    (
        "versions seen, backwards",
        change(aged(healthy(keys=1), 0, 1, 2, 3, 4), 5, version="6.2.14"),
        ROLL,
        Refuse,
        "redis-0 runs Redis 7.0.15 and would be followed by Redis 6.2.14",
    ),
]


@pytest.mark.parametrize(("observation", "desired", "kind", "text"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_rolling(observation: Observation, desired: dict[str, t.Any], kind: type, text: str) -> None:
    decision = decide(Picture(observation, Desired(**desired)))
    assert isinstance(decision, kind), decision
    assert text in decision.reason or isinstance(decision, Done)


def test_a_whole_roll_is_foreseen() -> None:
    """Three replicas, then three times a planned failover and the former master's pod: never two pods at once, each by its UID."""
    decisions, after = foresee(aged(healthy(keys=1)), Desired(roll=True), {})
    acts = [decision for decision in decisions if isinstance(decision, Act)]
    assert [act.kind for act in acts] == ["replace"] * 3 + ["handover", "replace"] * 3
    assert all(len(act.actions) == 1 for act in acts)
    replaced = [act.actions[0] for act in acts if act.kind == "replace"]
    assert [action.command for action in replaced] == [(EVICT, f"pod-{action.node[-1]}") for action in replaced]
    assert sorted(action.node for action in replaced) == [f"redis-{index}" for index in range(6)]
    assert isinstance(decisions[-1], Done) and not any(one.target.outdated for one in after.nodes)
    assert {one.name for one in after.live if one.slots} == {"redis-3", "redis-4", "redis-5"}


def test_of_two_replicas_the_better_placed_takes_over() -> None:
    """redis-0 may hand over to redis-4 (zone 1, where redis-1 is a master) or to redis-6 (zone 0)."""
    pairs = ((3, 1), (4, 0), (5, 1), (6, 0), (7, 2), (8, 2))
    entries = [entry(index, owned=THIRDS[index]) for index in range(3)] + [entry(index, master=master) for index, master in pairs]
    observation = Observation(tuple(node(index, entries, keys=1) for index in range(9)))
    decision = decide(Picture(aged(observation, 0), Desired(replicas=2, roll=True)))
    assert isinstance(decision, Act) and decision.kind == "handover" and decision.actions[0].node == "redis-6"


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("redis 7.0.15", "redis 7.2", ""),
        ("redis 7.2.4", "redis 7.0.15", "no way back"),
        ("redis 7.0.15", "valkey 8.0.1", ""),
        ("redis 7.2.4", "valkey 8.0", ""),
        ("redis 7.2.4", "valkey", ""),
        ("redis 7.4.0", "valkey 8.0", "does not read"),
        ("redis 8.0.1", "valkey 8.1", "does not read"),
        ("valkey 8.0.1", "valkey 8.1.0", ""),
        ("valkey 8.0.1", "valkey 7.2.5", "no way back"),
        ("valkey 8.0.1", "redis 7.2.4", "no Redis is made to read"),
        ("valkey 8.0.1", "redis 8.0", "no Redis is made to read"),
        ("redis 7.0.15", "redis 7", ""),
        ("redis 8.0.15", "redis 7", "no way back"),
    ],
)
def test_data_goes_forward_only(old: str, new: str, text: str) -> None:
    releases = parse(old), parse(new)
    assert releases[0] is not None and releases[1] is not None
    found = refusal(*t.cast(tuple[Release, Release], releases))
    assert text in found and bool(text) == bool(found)


@pytest.mark.parametrize("text", ["mysql 8", "redis 7.x", "8.0", ""])
def test_what_is_no_release(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    ("name", "wanted", "seen", "equal"),
    [
        ("maxmemory", "64mb", "67108864", True),
        ("maxmemory", "64m", "64000000", True),
        ("maxmemory", "65mb", "67108864", False),
        ("maxmemory-policy", "allkeys-lru", "allkeys-lru", True),
        ("appendonly", "yes", "no", False),
        ("save", "", "", True),
        ("save", "3600 1 300 100", "3600 1 300 100", True),
        ("notify-keyspace-events", "KEA", "AKE", True),
        ("notify-keyspace-events", "KE", "AKE", False),
        ("client-output-buffer-limit", "normal 0 0 0 replica 1mb 512kb 60", "normal 0 0 0 slave 1048576 524288 60 pubsub 1 1 1", True),
        ("client-output-buffer-limit", "replica 2mb 512kb 60", "normal 0 0 0 slave 1048576 524288 60 pubsub 1 1 1", False),
        ("latency-tracking-info-percentiles", "50 99 99.9", "50 99 99.9", True),
    ],
)
def test_a_setting_in_other_words(name: str, wanted: str, seen: str, equal: bool) -> None:
    assert same(name, wanted, seen) is equal


def configured(observation: Observation, **settings: str) -> Observation:
    for index in range(len(observation.nodes)):
        observation = change(observation, index, config={key.replace("_", "-"): value for key, value in settings.items()})
    return observation


def test_live_settings_are_set_where_they_differ() -> None:
    observation = change(
        configured(healthy(keys=1), maxmemory_policy="noeviction", hz="10"), 2, config={"maxmemory-policy": "allkeys-lru", "hz": "10"}
    )
    desired = Desired(config={"maxmemory-policy": "noeviction", "hz": "10"})
    decision = decide(Picture(observation, desired))
    assert isinstance(decision, Act) and decision.kind == "config"
    assert [(action.node, action.command) for action in decision.actions] == [
        ("redis-2", ("CONFIG", "SET", "maxmemory-policy", "noeviction"))
    ]
    decisions, _after = foresee(observation, desired, {})
    assert [type(one) for one in decisions] == [Act, Done]


def test_a_pod_that_is_replaced_needs_no_setting_and_gets_no_more_memory() -> None:
    observation = configured(aged(healthy(keys=1), 5), maxmemory="100", hz="10")
    wanted = {"maxmemory": "200", "hz": "20"}
    for roll, of_redis_5 in ((True, set()), (False, {"hz"})):
        decision = decide(Picture(observation, Desired(config=wanted, roll=roll)))
        assert isinstance(decision, Act) and decision.kind == "config"
        assert {action.command[2] for action in decision.actions if action.node == "redis-5"} == of_redis_5
        assert {action.command[2] for action in decision.actions if action.node == "redis-0"} == {"maxmemory", "hz"}


def test_a_setting_that_the_server_does_not_have() -> None:
    decision = decide(Picture(configured(healthy(keys=1), hz="10"), Desired(config={"io-uring": "yes"})))
    assert isinstance(decision, Refuse) and "io-uring (redis-5, redis 7.0.15)" in decision.reason


def test_settings_as_the_words_of_a_command() -> None:
    wanted = {"appendonly": True, "hz": 20, "save": ["3600 1", "300 100"], "maxmemory-policy": "noeviction"}
    assert live_settings(wanted) == {"appendonly": "yes", "hz": "20", "save": "3600 1 300 100", "maxmemory-policy": "noeviction"}
    for name in ("requirepass", "masterauth", "tls-key-file-pass", "cluster-node-timeout"):
        with pytest.raises(PlatformError, match=name):
            live_settings({name: "x"})
    with pytest.raises(PlatformError, match="neither a value"):
        live_settings({"hz": {"a": 1}})
