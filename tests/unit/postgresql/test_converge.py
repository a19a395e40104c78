# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The loop, by a clock that jumps: a parameter counts as heard when the primary runs with it, or says that it waits for a restart."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.converge import Convergence
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.model import Desired, Observation
from ansible_collections.progressive.platform.plugins.module_utils._run import Context
from ansible_collections.progressive.platform.tests.unit.clock import FakeClock
from ansible_collections.progressive.platform.tests.unit.postgresql import views

member, observation = views.member, views.observation

OTHERWISE = observation(facts=views.facts(restart={"max_connections": ("90", "")}))


class Recorded:
    """A cluster that shows these observations one after the other, the last for ever."""

    def __init__(self, seen: Iterable[Observation]) -> None:
        self.seen, self.told = list(seen), []  # type: ignore[var-annotated]

    def observe(self, *_unused: Any, **_also_unused: Any) -> Observation:
        return self.seen.pop(0) if len(self.seen) > 1 else self.seen[0]

    def tell(self, to: Any, kind: str, _body: Any) -> str:
        self.told.append((kind, to.target.name))
        return ""


def ran(*seen: Observation, timeout: float = 300.0, **desired: Any) -> tuple[dict[str, Any], Recorded, float]:
    clock, cluster = FakeClock(1000.0), Recorded(seen)
    wanted = dataclasses.replace(Desired(config=views.CONFIG), **desired)
    result = Convergence(cluster, wanted, timeout, Context(clock=clock)).run()  # type: ignore[arg-type]
    return dict(result), cluster, clock.time - 1000.0


def test_what_the_primary_has_not_heard_is_waited_for_and_then_restarted() -> None:
    pending = observation(member(1, pending=("max_connections",)), facts=OTHERWISE.facts)
    _result, cluster, seconds = ran(OTHERWISE, OTHERWISE, OTHERWISE, pending, observation())
    assert cluster.told == [("restart", "postgres-1")] and 0 < seconds < 5


@pytest.mark.parametrize("timeout", [300.0, 20.0])
def test_what_somebody_else_sets_is_a_warning_and_no_error(timeout: float) -> None:
    result, cluster, seconds = ran(OTHERWISE, timeout=timeout)
    assert not cluster.told and not result["changed"] and seconds <= timeout + 1
    assert [text for text in result["warnings"] if "max_connections" in text and "who else sets them" in text]


def test_without_restarts_nothing_is_waited_for() -> None:
    assert ran(OTHERWISE, restart=False)[2] == 0
