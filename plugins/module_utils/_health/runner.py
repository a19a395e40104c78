# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs checks side by side and brings back every result (private: may change without notice)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ansible_collections.progressive.platform.plugins.module_utils._health.model import Check, Finding, Result
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, PlatformError, Progress

SIDE_BY_SIDE = 16  # looks at the same time; more only queue up in the API server
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 2.0  # seconds between two looks of a red check

Look = Callable[[Check, float], Finding]
"""Looks once; the second argument is the time of the clock by which it must be back."""


@dataclass(frozen=True)
class Patience:
    """How long a red check may still turn green (``settle``), and how long a single look may take (``timeout``), in seconds."""

    settle: float = 2.0
    timeout: float = 30.0

    def of(self, check: Check) -> float:
        return self.settle if check.wait is None else check.wait


def attempt(check: Check, look: Look, until: float) -> Finding:
    """One look. An error is a red finding: what could not be seen does not pass."""
    try:
        return look(check, until)
    except PlatformError as error:
        return Finding(False, "an answer", "an error", error.message)
    except Exception as error:
        return Finding(
            False, "an answer", f"{type(error).__name__}", f"The check could not be carried out: {type(error).__name__}: {error}"
        )


def persist(check: Check, look: Look, patience: Patience, clock: Clock, told: Callable[[Finding], None]) -> Result:
    """Looks until the check is green or its time is over; the last look counts. ``started`` is a time of the clock."""
    started = clock.now()
    deadline = started + patience.of(check)
    pause, attempts = FIRST_PAUSE, 0
    while True:
        attempts += 1
        finding = attempt(check, look, clock.now() + patience.timeout)
        left = deadline - clock.now()
        if finding.ok or left <= 0:
            return Result(check, finding, started, clock.now() - started, attempts)
        told(finding)
        clock.sleep(min(pause, left))
        pause = min(pause * 2, LONGEST_PAUSE)


def run_checks(checks: Sequence[Check], look: Look, patience: Patience, clock: Clock, progress: Progress) -> list[Result]:
    """All results in the order of the checks. A check that never comes back is red when its time is over: nothing holds up the others."""
    begin = clock.now()
    turn = threading.Semaphore(SIDE_BY_SIDE)
    results: list[Result | None] = [None] * len(checks)
    seen: dict[int, Finding] = {}
    changed = threading.Condition()

    def in_turn(check: Check, until: float) -> Finding:
        with turn:
            return look(check, until)

    def work(index: int) -> None:
        def told(finding: Finding) -> None:
            with changed:
                seen[index] = finding
            progress.report(checks[index].name, finding.message)

        result = persist(checks[index], in_turn, patience, clock, told)
        result = replace(result, started=result.started - begin)
        if result.attempts > 1:
            progress.report(checks[index].name, result.finding.message, done=True)
        with changed:
            results[index] = result
            changed.notify_all()

    for index in range(len(checks)):
        # Not a pool: its threads are joined at exit, and a stuck one would keep the process.
        threading.Thread(target=work, args=(index,), name=f"check {checks[index].name}", daemon=True).start()
    ends = [begin + patience.of(check) + patience.timeout for check in checks]
    with changed:
        while any(result is None for result in results):
            left = max(end for end, result in zip(ends, results, strict=True) if result is None) - clock.now()
            if left <= 0 or not changed.wait(left):
                break
        return [result or _lost(checks[index], seen.get(index), clock.now() - begin) for index, result in enumerate(results)]


def _lost(check: Check, last: Finding | None, seconds: float) -> Result:
    said = f" Before that: {last.message}" if last else ""
    finding = Finding(False, last.expected if last else "an answer", "no answer", f"No answer within {seconds:.0f} s.{said}")
    return Result(check, finding, 0.0, seconds)
