# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._health.model import Check, Finding, verdict
from ansible_collections.progressive.platform.plugins.module_utils._health.runner import Patience, persist, run_checks
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, PlatformError, Progress
from ansible_collections.progressive.platform.tests.unit.clock import FakeClock

GREEN, RED = Finding(True, "a", "a"), Finding(False, "a", "b", "b is not a")


def script(*findings: Finding | Exception):
    """A look that gives one after the other, the last for ever."""
    left = list(findings)

    def look(_check: Check, _until: float) -> Finding:
        found = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(found, Exception):
            raise found
        return found

    return look


@pytest.mark.parametrize(
    ("findings", "wait", "ok", "attempts", "message"),
    [
        pytest.param([GREEN], None, True, 1, "", id="green at once"),
        pytest.param([RED, RED, GREEN], None, True, 3, "", id="turns green while it settles"),
        pytest.param([RED], 0.0, False, 1, "b is not a", id="no patience: one look"),
        pytest.param([RED], None, False, 5, "b is not a", id="stays red: looks at 0, 0.25, 0.75, 1.75 and 3 s"),
        pytest.param([RED], 10.0, False, 9, "b is not a", id="the check's own patience"),
        pytest.param([PlatformError("no right"), GREEN], None, True, 2, "", id="an error is a red look"),
        pytest.param([PlatformError("no right")], 0.0, False, 1, "no right", id="an error never passes"),
        pytest.param(
            [KeyError("status")], 0.0, False, 1, "The check could not be carried out: KeyError: 'status'", id="nor does a mistake"
        ),
    ],
)
def test_a_check_is_looked_at_until_green_or_out_of_time(findings, wait, ok, attempts, message):
    clock = FakeClock()
    result = persist(Check("c", "k", wait=wait), script(*findings), Patience(settle=3.0), clock, lambda _: None)
    assert (result.ok, result.attempts, result.finding.message) == (ok, attempts, message)
    assert result.seconds <= (3.0 if wait is None else wait)


def test_all_results_come_back_in_order_although_the_first_is_red():
    checks = [Check(name, "k", wait=0.0) for name in ("a", "b", "c")]
    looks = {"a": RED, "b": GREEN, "c": RED}
    results = run_checks(checks, lambda check, _: looks[check.name], Patience(), Clock(), Progress(""))
    assert [(result.check.name, result.ok) for result in results] == [("a", False), ("b", True), ("c", False)]


def test_checks_run_side_by_side():
    meeting = threading.Barrier(8, timeout=10)

    def look(_check: Check, _until: float) -> Finding:
        meeting.wait()
        return GREEN

    assert all(result.ok for result in run_checks([Check(str(n), "k") for n in range(8)], look, Patience(), Clock(), Progress("")))


def test_a_check_that_never_comes_back_is_red_and_holds_up_nobody():
    release = threading.Event()

    def look(check: Check, _until: float) -> Finding:
        if check.name == "stuck":
            release.wait(30)
        return GREEN

    checks = [Check("stuck", "k", wait=0.0), Check("quick", "k", wait=0.0)]
    stuck, quick = run_checks(checks, look, Patience(timeout=0.2), Clock(), Progress(""))
    release.set()
    assert quick.ok
    assert not stuck.ok
    assert stuck.finding.message.startswith("No answer within 0 s.")


def test_waiting_is_told_to_the_progress(tmp_path):
    path = tmp_path / "progress"
    run_checks([Check("redis", "k", wait=5.0)], script(RED, GREEN), Patience(), Clock(), Progress(str(path)))
    assert [line.split(", ")[1:] for line in path.read_text().splitlines()] == [
        ['"message": "b is not a"', '"done": false}'],
        ['"message": ""', '"done": true}'],
    ]


def test_a_verdict_names_the_first_problems_and_keeps_all():
    found = verdict("six", "none", [f"pod {n} is gone" for n in range(9)] + ["pod 0 is gone"])
    assert not found.ok
    assert found.message.endswith("pod 5 is gone; and 3 more")
    assert len(found.details["problems"]) == 9
