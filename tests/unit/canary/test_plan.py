# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is decided about a canary, in a world whose time passes only when somebody sleeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._canary.model import (
    ANALYSING,
    DONE,
    PREPARING,
    PROMOTED,
    ROLLED_BACK,
    ROLLING_BACK,
    Check,
    Decision,
    Seen,
    Settings,
    Side,
    State,
)
from ansible_collections.progressive.platform.plugins.module_utils._canary.plan import judge, plan

SETTINGS = Settings(interval=30, sample=100, patience=120, passes=2, failures=2, deadline=60)
FINE, STABLE = Side(200, 0, 80.0), Side(1800, 2, 75.0)
SEEN = Seen(now=30.0, version="v2", problem="", adopted=False, weight=10, since=0.0, canary=FINE, stable=STABLE)
STATE = State(ANALYSING, "v2")


def test_a_window_that_is_too_short_says_nothing() -> None:
    assert judge(STATE, SEEN._replace(now=29.9), SETTINGS) is None


JUDGED: list[tuple[str, Seen, str]] = [
    ("all is well", SEEN, ""),
    ("1 % of errors is allowed", SEEN._replace(canary=Side(200, 2, 80.0)), ""),
    ("errors", SEEN._replace(canary=Side(200, 3, 80.0)), "98.50 % of 200 requests succeeded; 99 % are wanted"),
    ("slow by itself", SEEN._replace(canary=Side(200, 0, 501.0), stable=Side(1800, 0, 500.0)), "p99 is 501 ms; at most 500 ms"),
    ("slower than stable", SEEN._replace(canary=Side(200, 0, 116.0)), "p99 is 116 ms, the stable version's 75 ms; at most 115 ms"),
    ("a little slower", SEEN._replace(canary=Side(200, 0, 114.0)), ""),
    ("stable has too few to compare with", SEEN._replace(canary=Side(200, 0, 400.0), stable=Side(99, 0, 10.0)), ""),
    ("latencies unknown", SEEN._replace(canary=Side(200, 0, None)), "its latencies are not known"),
    (
        "no statistics",
        SEEN._replace(canary=None, stable=None, silence="edge-1 is silent"),
        "nothing is known of its requests: edge-1 is silent",
    ),
    ("nothing of the stable version", SEEN._replace(stable=None), "nothing is known of its requests"),
    ("not ready", SEEN._replace(problem="0 of 2 pods"), "the canary is not ready: 0 of 2 pods"),
    ("no request for too long", SEEN._replace(now=120.0, canary=Side(0, 0, None)), "0 requests in 120 s; 100 are wanted"),
    ("too few for too long", SEEN._replace(now=120.0, canary=Side(99, 0, 10.0)), "99 requests in 120 s; 100 are wanted"),
]


@pytest.mark.parametrize(("seen", "finding"), [row[1:] for row in JUDGED], ids=[row[0] for row in JUDGED])
def test_a_check_passes_only_when_everything_is_known_and_good(seen: Seen, finding: str) -> None:
    check = judge(STATE, seen, SETTINGS)
    assert check is not None
    assert check.passed is not finding and check.passed == (finding == "")
    assert not finding or any(finding in text for text in check.findings)


def test_too_few_requests_are_waited_for() -> None:
    assert judge(STATE, SEEN._replace(now=119.9, canary=Side(99, 0, 10.0)), SETTINGS) is None


def test_at_100_percent_there_is_nothing_to_compare_with() -> None:
    check = judge(replace(STATE, step=3), SEEN._replace(weight=100, stable=Side(0, 0, None)), SETTINGS)
    assert check and check.passed and check.weight == 100


class World:
    """A route, two versions, and traffic of so many requests a second; carries out what is decided."""

    def __init__(self, behaves: Callable[[World], Side | None] = lambda world: world.good()) -> None:
        self.now, self.weight, self.since = 1000.0, 0, 1000.0
        self.version, self.problem, self.adopted, self.rate = "v2", "", False, 50.0
        self.behaves = behaves
        self.state: State | None = None
        self.weights: list[int] = []
        self.checks: list[Check] = []

    def good(self) -> Side:
        return Side((self.now - self.since) * self.rate * self.weight / 100, 0, 80.0)

    def seen(self) -> Seen:
        canary = self.behaves(self)
        stable = None if canary is None else Side((self.now - self.since) * self.rate * (100 - self.weight) / 100, 0, 75.0)
        return Seen(self.now, self.version, self.problem, self.adopted, self.weight, self.since, canary, stable, "" if canary else "silent")

    def step(self) -> Decision:
        decision = plan(self.state, self.seen(), SETTINGS)
        self.state = decision.state
        self.checks += [decision.check] if decision.check else []
        if decision.fresh:
            self.since = self.now
        if decision.weight is not None:
            self.weight = decision.weight
            self.weights.append(decision.weight)
        return decision

    def run(self, limit: float = 10_000.0) -> State:
        end = self.now + limit
        while self.now < end:
            if self.step().ended:
                assert self.state is not None
                return self.state
            self.now += 2.0
        raise AssertionError(f"not ended: {self.state}")


def test_a_good_canary_gets_every_step_and_keeps_all() -> None:
    world = World()
    assert world.run().phase == PROMOTED
    assert world.weights == [10, 25, 50, 100]
    assert [check.weight for check in world.checks] == [10, 10, 25, 25, 50, 50, 100, 100] and all(check.passed for check in world.checks)
    assert all(check.canary and check.canary.requests >= 100 and check.seconds >= 30 for check in world.checks)


def test_when_the_stable_version_is_the_same_its_requests_go_back_to_it() -> None:
    world = World()
    world.run()
    assert world.run().phase == PROMOTED and world.weight == 100, "a second run changes nothing"
    world.adopted = True
    assert world.run().phase == DONE and world.weight == 0
    assert world.run().phase == DONE and world.weights[-1] == 0


def test_a_bad_canary_goes_back_after_its_failed_checks() -> None:
    world = World(lambda world: world.good()._replace(errors=world.good().requests * 0.2))
    state = world.run()
    assert state.phase == ROLLED_BACK and "80.00 %" in state.reason
    assert world.weights == [10, 0] and len(world.checks) == SETTINGS.failures


def test_one_that_becomes_bad_later_goes_back_from_there() -> None:
    world = World(lambda world: world.good()._replace(p99=900.0 if world.weight >= 50 else 80.0))
    assert world.run().phase == ROLLED_BACK
    assert world.weights == [10, 25, 50, 0]


def test_without_requests_it_goes_back() -> None:
    world = World(lambda world: Side(0, 0, None))
    assert world.run().phase == ROLLED_BACK and "0 requests in" in (world.state or STATE).reason
    assert world.weights == [10, 0]


def test_without_statistics_it_goes_back() -> None:
    world = World(lambda world: None)
    assert world.run().phase == ROLLED_BACK and "silent" in (world.state or STATE).reason


def test_one_bad_moment_is_no_end_and_starts_the_row_anew() -> None:
    world = World()
    world.behaves = lambda world: world.good()._replace(p99=900.0 if len(world.checks) == 1 else 80.0)
    assert world.run().phase == PROMOTED
    assert [check.passed for check in world.checks[:4]] == [True, False, True, True]
    assert [check.weight for check in world.checks[:5]] == [10, 10, 10, 10, 25]


def test_it_gets_nothing_until_it_is_ready() -> None:
    world = World()
    world.problem = "0 of 1 pods are available"
    for _again in range(20):
        assert not world.step().ended and world.weight == 0
        world.now += 2
    world.problem = ""
    world.step()
    assert world.weight == 10


def test_one_that_is_never_ready_goes_back() -> None:
    world = World()
    world.problem = "ImagePullBackOff"
    assert world.run().phase == ROLLED_BACK and world.weights in ([], [0])
    assert "not ready within 60 s: ImagePullBackOff" in (world.state or STATE).reason


def test_one_whose_pods_die_on_the_way_goes_back() -> None:
    world = World()
    while world.weight != 25:
        world.step()
        world.now += 2
    world.problem = "CrashLoopBackOff"
    assert world.run().phase == ROLLED_BACK and world.weight == 0


def test_another_version_begins_anew_with_nothing() -> None:
    world = World()
    while world.weight != 50:
        world.step()
        world.now += 2
    world.version = "v3"
    decision = world.step()
    assert (decision.state.phase, decision.state.step, world.weight) == (PREPARING, 0, 0)
    assert world.run().phase == PROMOTED and world.weights == [10, 25, 50, 0, 10, 25, 50, 100]


def test_a_version_that_went_back_stays_back() -> None:
    world = World(lambda world: None)
    world.run()
    world.behaves, world.weight = lambda world: world.good(), 10  # and somebody gave it a tenth by hand
    assert world.run().phase == ROLLED_BACK and world.weight == 0


@pytest.mark.parametrize("at", [0, 25, 50, 90])
def test_a_weight_that_somebody_changed_is_set_again_and_counted_anew(at: int) -> None:
    world = World()
    while world.weight != 10:
        world.step()
    world.now += 29
    world.weight = at
    decision = world.step()
    assert world.weight == 10 and decision.fresh and not world.checks


def test_fewer_steps_than_when_it_began() -> None:
    decision = plan(replace(STATE, step=3), SEEN._replace(weight=100, now=5.0), replace(SETTINGS, steps=(10, 50)))
    assert decision.weight == 50 and decision.state.step == 1


def test_rolling_back_does_not_look_at_anything_else() -> None:
    state = State(ROLLING_BACK, "v2", reason="it was bad")
    assert plan(state, SEEN._replace(weight=25), SETTINGS).weight == 0
    assert plan(state, SEEN._replace(weight=25, problem="x", canary=None), SETTINGS).weight == 0
    after = plan(state, SEEN._replace(weight=0), SETTINGS)
    assert after.ended and after.state.phase == ROLLED_BACK and after.state.reason == "it was bad"
