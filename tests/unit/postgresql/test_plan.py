# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the planner decides in each state, and that its plans lead to where nothing is left to do."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._members.model import Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.model import (
    Act,
    Decision,
    Desired,
    Done,
    Observation,
    Slot,
)
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.plan import Picture, decide, difference, findings
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.simulate import foresee, merged
from ansible_collections.progressive.platform.tests.unit.postgresql import views

member, silent, observation = views.member, views.silent, views.observation

WANTED = Desired(config=views.CONFIG)


def decided(seen: Observation, desired: Desired = WANTED, **ages: float) -> Decision:
    return decide(Picture(seen, desired, {key.replace("_", " "): age for key, age in ages.items()}))


def shown(decision: Decision) -> str:
    return f"{type(decision).__name__}: {decision.reason}"


STATES = [
    ("healthy", "", observation(), Done, "healthy"),
    ("no pod", "P2", dataclasses.replace(observation(), members=()), Wait, "there is no pod"),
    ("all silent", "P2", observation(silent(0), silent(1), silent(2)), Wait, "no member answers"),
    ("another cluster's data", "P1", observation(member(2, system="77")), Refuse, "postgres-2 have system identifier 77"),
    (
        "first start",
        "P4",
        observation(*(member(n, state="stopped", role="uninitialized", system="", leader="") for n in range(3))),
        Wait,
        "no member is primary",
    ),
    ("primary lost", "P4", observation(silent(0)), Wait, "no member is primary yet"),
    ("paused and no primary", "P4", observation(silent(0), member(1, paused=True)), Refuse, "patronictl resume"),
    ("two primaries", "P3", observation(member(1, role="primary", replication="")), Wait, "postgres-0, postgres-1 both run as primary"),
    ("disagreement", "P5", observation(member(2, leader="postgres-1")), Wait, "postgres-2 do not take postgres-0 for the primary"),
    ("nobody gives the settings", "P6", observation(config=None), Wait, "nobody gives the dynamic configuration"),
    ("replica silent", "P9", observation(silent(2)), Wait, "postgres-2: Patroni does not answer"),
    ("replica copies", "P10", observation(member(2, state="creating replica", replication="")), Wait, "postgres-2 is creating replica"),
    ("replica does not stream", "P11", observation(member(2, replication="in archive recovery")), Wait, "not streaming"),
    ("too few", "P8", dataclasses.replace(observation(), members=observation().members[:2]), Wait, "2 of 3 members are there"),
    ("restart pending", "P14", observation(member(1, pending=("max_connections",))), Act, "postgres-1 needs a restart for max_connections"),
    ("restart of the primary", "P14", observation(member(0, pending=("max_connections",))), Act, "postgres-1 takes over from postgres-0"),
]


@pytest.mark.state("P1", "P2", "P3", "P4", "P5", "P6", "P8", "P9", "P10", "P11", "P14")
@pytest.mark.parametrize(("code", "seen", "kind", "words"), [row[1:] for row in STATES], ids=[row[0] for row in STATES])
def test_what_is_decided(code: str, seen: Observation, kind: type[Decision], words: str) -> None:  # type: ignore[valid-type]
    decision = decided(seen)
    assert isinstance(decision, kind) and words in decision.reason and getattr(decision, "state", "") == code, shown(decision)


@pytest.mark.parametrize("seen", [row[2] for row in STATES if row[3] is Wait], ids=[row[0] for row in STATES if row[3] is Wait])
def test_no_wait_is_for_ever(seen: Observation) -> None:
    """Whatever is waited for is refused in the end, with a next step."""
    wait = decided(seen)
    assert isinstance(wait, Wait)
    refusal = decide(Picture(seen, WANTED, {wait.key: wait.limit + 1}))
    assert isinstance(refusal, Refuse) and len(refusal.reason) > 30


@pytest.mark.state("P14")
def test_a_restart_begins_with_the_replicas_and_ends_with_the_former_primary() -> None:
    due = ("max_connections",)
    seen = observation(*(member(number, pending=due) for number in range(3)))
    steps = [(step.kind, step.member) for step in foresee(seen, WANTED)[0] if isinstance(step, Act)]
    assert steps == [("restart", "postgres-2"), ("restart", "postgres-1"), ("switchover", "postgres-0"), ("restart", "postgres-0")]


@pytest.mark.state("P14")
def test_what_replicas_may_not_have_less_of_is_lowered_on_the_primary_first() -> None:
    """Seen with Patroni 4.1: a replica restarted earlier starts with the primary's number again, and waits for a restart as before."""
    changes: dict[str, Any] = {"pending": ("max_worker_processes", "work_mem"), "lowered": ("max_worker_processes",)}
    seen = observation(*(member(number, **changes) for number in range(3)))
    steps = [(step.kind, step.member) for step in foresee(seen, WANTED)[0] if isinstance(step, Act)]
    assert steps == [("restart", "postgres-0"), ("restart", "postgres-2"), ("restart", "postgres-1")]


@pytest.mark.state("P14")
@pytest.mark.parametrize(("wanted", "first"), [(50, "postgres-0"), (200, "postgres-2")])
def test_the_order_of_restarts_is_foreseen(wanted: int, first: str) -> None:
    config = {"postgresql": {"parameters": {"max_connections": wanted, "work_mem": "4MB"}}}
    steps = foresee(observation(), dataclasses.replace(WANTED, config=config))[0]
    assert next(step.member for step in steps if isinstance(step, Act) and step.kind == "restart") == first


@pytest.mark.state("P15")
def test_a_roll_goes_the_same_way() -> None:
    seen = observation(*(member(number, target_update="outdated") for number in range(3)))
    steps = [(step.kind, step.member) for step in foresee(seen, dataclasses.replace(WANTED, roll=True))[0] if isinstance(step, Act)]
    assert steps == [("replace", "postgres-2"), ("replace", "postgres-1"), ("switchover", "postgres-0"), ("replace", "postgres-0")]
    assert isinstance(decided(seen), Done), "without roll nobody is replaced"


def test_nobody_is_restarted_while_a_replica_is_away() -> None:
    seen = observation(member(1, pending=("max_connections",)), member(2, replication=""))
    assert isinstance(decided(seen), Wait)


def test_restarts_can_be_forbidden() -> None:
    seen = observation(member(1, pending=("max_connections",)))
    assert isinstance(decided(seen, dataclasses.replace(WANTED, restart=False)), Done)


@pytest.mark.state("P14")
def test_settings_that_take_a_restart_are_foreseen_to_their_end() -> None:
    config = {"postgresql": {"parameters": {"max_connections": 200, "work_mem": "8MB"}}}
    decisions, after = foresee(observation(), dataclasses.replace(WANTED, config=config))
    assert [step.kind for step in decisions if isinstance(step, Act)] == ["config", "restart", "restart", "switchover", "restart"]
    assert isinstance(decisions[-1], Done) and after.primary and after.primary.target.name == "postgres-1"


def test_settings_that_are_reloaded_restart_nobody() -> None:
    config = {"postgresql": {"parameters": {"max_connections": 100, "work_mem": "8MB"}}}
    decisions, _after = foresee(observation(), dataclasses.replace(WANTED, config=config))
    assert [type(step) for step in decisions] == [Act, Done]


@pytest.mark.state("P6")
def test_strict_commits_wait_for_somebody_who_has_them() -> None:
    wanted = dataclasses.replace(WANTED, config={"synchronous_mode_strict": True})
    alone = observation(*(member(number, state="creating replica", replication="") for number in (1, 2)))
    first = decided(dataclasses.replace(alone, config={"synchronous_mode_strict": False}), wanted)
    assert isinstance(first, Wait), "no standby, no strict commits"
    then = decided(dataclasses.replace(observation(), config={"synchronous_mode_strict": False}), wanted)
    assert isinstance(then, Act) and then.body == {"synchronous_mode_strict": True}
    kept = dataclasses.replace(alone, config={"synchronous_mode_strict": True})
    assert not any(isinstance(found, Act) for found in findings(Picture(kept, wanted))), "and it is never taken back by itself"


SWITCHES = [
    ("postgres-1", observation(), "switchover", "postgres-1 takes over from postgres-0"),
    ("postgres-2", observation(), "", "postgres-2 is no synchronous standby (postgres-1 is)"),
    ("postgres-0", observation(), "", "healthy"),
    ("postgres-9", observation(), "", "which is no member; there are postgres-0, postgres-1, postgres-2"),
]


@pytest.mark.state("P16")
@pytest.mark.parametrize(("name", "seen", "kind", "words"), SWITCHES, ids=[row[0] for row in SWITCHES])
def test_a_switchover_that_is_asked_for(name: str, seen: Observation, kind: str, words: str) -> None:
    decision = decided(seen, dataclasses.replace(WANTED, switchover=name))
    assert words in decision.reason and getattr(decision, "kind", "") == kind


def test_who_takes_over_has_every_commit() -> None:
    """The synchronous standby before one that is further, and nobody of another timeline."""
    ahead = observation(member(1, position=4000, received=4000), member(2, position=5000), facts=None)
    best = Picture(ahead, WANTED).best()
    assert best and best.target.name == "postgres-1"
    unsaid = observation(member(1, timeline=0), member(2, timeline=0))
    assert (best := Picture(unsaid, WANTED).best()) and best.target.name == "postgres-1"
    elsewhere = observation(member(1, timeline=2), member(2, timeline=2))
    assert Picture(elsewhere, WANTED).best() is None


@pytest.mark.state("P13")
def test_a_copy_is_made_once_and_never_of_the_primary() -> None:
    again = dataclasses.replace(WANTED, reinit=frozenset({"postgres-2"}))
    decisions, _after = foresee(observation(), again)
    assert [getattr(step, "kind", "") for step in decisions] == ["reinit", ""]
    stuck = observation(member(1), member(2, replication="in archive recovery"))
    assert isinstance(first := decided(stuck, again), Act) and first.member == "postgres-2", "not waited for until it streams by itself"
    silent = observation(member(1), member(2, problem="does not answer"))
    assert isinstance(first := decided(silent, again), Wait) and first.state == "P9"
    primary = decided(observation(), dataclasses.replace(WANTED, reinit=frozenset({"postgres-0"})))
    assert isinstance(primary, Refuse) and "switch over first" in primary.reason


ROUNDS = {"loop_wait": 5, "member_slots_ttl": 1800}


@pytest.mark.state("P6", "P12")
def test_a_cluster_that_forms_goes_its_rounds_quicker_until_everybody_streams() -> None:
    wanted = dataclasses.replace(WANTED, config=ROUNDS)
    forming = {"loop_wait": 1, "member_slots_ttl": 1800, "synchronous_mode": True}
    copying = observation(member(2, state="creating replica", replication=""), config=forming)
    assert isinstance(decided(copying, wanted), Wait)
    unsynchronized = decided(observation(member(1, sync=False), config=forming), wanted)
    assert isinstance(unsynchronized, Wait) and unsynchronized.state == "P12"
    formed = decided(observation(config=forming), wanted)
    assert isinstance(formed, Act) and formed.body == {"loop_wait": 5}
    slower = decided(dataclasses.replace(copying, config=forming | {"loop_wait": 10}), wanted)
    assert isinstance(slower, Act) and slower.body == {"loop_wait": 5}, "only a quicker one is left alone"


@pytest.mark.state("P17")
def test_a_primary_that_is_to_go_hands_over_first() -> None:
    fewer = dataclasses.replace(WANTED, members=2)
    third = (
        member(0, role="replica", replication="streaming", leader="postgres-2"),
        member(1, leader="postgres-2"),
        member(2, role="primary", replication="", leader="postgres-2"),
    )
    decisions, after = foresee(observation(*third), fewer)
    assert [(step.kind, step.state, step.body["candidate"]) for step in decisions if isinstance(step, Act)] == [
        ("switchover", "P17", "postgres-1")
    ]
    assert [one.target.name for one in Picture(after, fewer).surplus] == ["postgres-2"] and Picture(after, fewer).complete
    nobody = decided(observation(*third[2:], member(0, replication=""), member(1, replication="")), fewer)
    assert isinstance(nobody, Wait), "never without one that could take over"


def test_a_member_that_is_away_gives_its_place_to_nobody() -> None:
    """postgres-1 is being made anew: postgres-3 is still one too many."""
    seen = dataclasses.replace(observation(member(3)), members=(member(0), member(2), member(3)))
    assert [one.target.name for one in Picture(seen, WANTED).surplus] == ["postgres-3"]
    decision = decided(seen)
    assert isinstance(decision, Wait) and decision.state == "P8"


SLOTS = (Slot("postgres_1", "physical", True), Slot("postgres_2", "physical", True))
GONE, OTHERS = Slot("postgres_3", "physical", False, 5), (Slot("backup_3", "physical", False), Slot("postgres_4", "logical", False))


@pytest.mark.state("P18")
def test_the_slot_of_a_member_that_is_gone_goes_and_nobody_elses() -> None:
    wanted = dataclasses.replace(WANTED, config=ROUNDS)

    def decided_with(*slots: Slot, ttl: int = 1800) -> Decision:
        return decided(observation(facts=views.facts(slots=SLOTS + slots), config=ROUNDS | {"member_slots_ttl": ttl}), wanted)

    assert isinstance(decided_with(*OTHERS), Done), "a slot of another name or kind is somebody else's"
    assert isinstance(decided_with(dataclasses.replace(GONE, active=True)), Wait), "it is being left"
    shorter = decided_with(GONE)
    assert isinstance(shorter, Act) and shorter.body == {"member_slots_ttl": 1}
    waited = decided_with(GONE, ttl=1)
    assert isinstance(waited, Wait) and waited.state == "P18"
    restored = decided_with(ttl=1)
    assert isinstance(restored, Act) and restored.body == {"member_slots_ttl": 1800}


def test_the_slot_of_a_pod_that_is_made_anew_stays() -> None:
    away = dataclasses.replace(observation(), members=observation().members[:2])
    assert Picture(dataclasses.replace(away, facts=views.facts(slots=SLOTS)), WANTED).stale == ()


DIFFERENCES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"ttl": 20}, {"ttl": 20}, {}),
    ({"ttl": "20"}, {"ttl": 20}, {}),
    ({"ttl": 30, "pause": True}, {"ttl": 20}, {"ttl": 20}),
    ({}, {"postgresql": {"use_slots": True}}, {"postgresql": {"use_slots": True}}),
    (
        {"postgresql": {"parameters": {"work_mem": "4MB", "jit": "off"}}},
        {"postgresql": {"parameters": {"work_mem": "8MB"}}},
        {"postgresql": {"parameters": {"work_mem": "8MB", "jit": None}}},
    ),
    ({"postgresql": {"pg_hba": ["a", "b"]}}, {"postgresql": {"pg_hba": ["b"]}}, {"postgresql": {"pg_hba": ["b"]}}),
]


@pytest.mark.parametrize(("there", "wanted", "patch"), DIFFERENCES)
def test_the_patch_is_what_differs_and_leaves_no_difference(there: dict[str, Any], wanted: dict[str, Any], patch: dict[str, Any]) -> None:
    assert difference(there, wanted) == patch
    assert difference(merged(there, patch), wanted) == {}
