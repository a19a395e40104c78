# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What to do after a look at a canary: data and the time in, one decision out (private: may change without notice).

    Preparing ── ready ──▶ Analysing(step 1..n) ── every step passed ──▶ Promoted ── stable has the images ──▶ Finishing ──▶ Done
        │                      │
        └── not in time ───────┴── enough failed checks ──▶ RollingBack (weight 0) ──▶ RolledBack

A version that was not seen before begins anew, with weight 0. What cannot be known never passes.
"""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.progressive.platform.plugins.module_utils._canary.model import (
    ANALYSING,
    DONE,
    FINISHING,
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


def plan(state: State | None, seen: Seen, settings: Settings) -> Decision:
    """The next thing to do."""
    if state is None or state.version != seen.version:
        began = State(PREPARING, seen.version, since=seen.now, began=seen.now)
        return Decision(began, _other(seen, 0), fresh=True, event="a version that was not tried yet: it gets nothing until it is ready")
    return {
        PREPARING: _preparing,
        ANALYSING: _analysing,
        PROMOTED: _promoted,
        FINISHING: _finishing,
        DONE: _keeps_none,
        ROLLING_BACK: _rolling_back,
        ROLLED_BACK: _keeps_none,
    }[state.phase](state, seen, settings)


def judge(state: State, seen: Seen, settings: Settings) -> Check | None:
    """The check of the window that ends now; None while it is too early to tell."""
    seconds = seen.now - seen.since
    if seconds < settings.interval:
        return None
    findings = []
    if seen.problem:
        findings.append(f"the canary is not ready: {seen.problem}")
    weight = settings.steps[state.step]
    if seen.canary is None or (seen.stable is None and weight < 100):
        findings.append(f"nothing is known of its requests: {seen.silence or 'no statistics'}")
    elif seen.canary.requests < settings.sample:
        if seconds < settings.patience and not findings:
            return None
        findings.append(f"{seen.canary.requests:.0f} requests in {seconds:.0f} s; {settings.sample} are wanted before it is judged")
    else:
        findings += _findings(seen.canary, seen.stable, settings)
    return Check(seen.now, seconds, weight, not findings, tuple(findings), seen.canary, seen.stable)


def _findings(canary: Side, stable: Side | None, settings: Settings) -> list[str]:
    found = []
    if canary.success < settings.success:
        found.append(f"{canary.success:.2f} % of {canary.requests:.0f} requests succeeded; {settings.success:g} % are wanted")
    if canary.p99 is None:
        found.append("its latencies are not known")
    elif canary.p99 > settings.p99:
        found.append(f"p99 is {canary.p99:.0f} ms; at most {settings.p99:g} ms are wanted")
    elif stable and stable.p99 is not None and stable.requests >= settings.sample:
        most = stable.p99 * (1 + settings.worse / 100) + settings.slack
        if canary.p99 > most:
            found.append(f"p99 is {canary.p99:.0f} ms, the stable version's {stable.p99:.0f} ms; at most {most:.0f} ms are wanted")
    return found


def _other(seen: Seen, weight: int) -> int | None:
    return weight if seen.weight != weight else None


def _preparing(state: State, seen: Seen, settings: Settings) -> Decision:
    if seen.weight:
        return Decision(state, 0, fresh=True, event="the weight was not 0")
    if not seen.problem:
        return Decision(
            replace(state, phase=ANALYSING, since=seen.now), settings.steps[0], fresh=True, event=f"ready; {settings.steps[0]} %"
        )
    if seen.now - state.since >= settings.deadline:
        return _back(state, seen, f"not ready within {settings.deadline:g} s: {seen.problem}")
    return Decision(state)


def _analysing(state: State, seen: Seen, settings: Settings) -> Decision:
    if state.step >= len(settings.steps):  # the inventory has fewer steps than when it began
        state = replace(state, step=len(settings.steps) - 1)
    weight = settings.steps[state.step]
    if seen.weight != weight:
        return Decision(state, weight, fresh=True, event=f"the weight was {seen.weight} %; {weight} % again")
    check = judge(state, seen, settings)
    if check is None:
        return Decision(state)
    if not check.passed:
        failed = replace(state, passes=0, failures=state.failures + 1)
        if failed.failures >= settings.failures:
            back = _back(failed, seen, "; ".join(check.findings))
            return replace(back, check=check)
        return Decision(
            failed, fresh=True, check=check, event=f"failed check {failed.failures} of {settings.failures}: {'; '.join(check.findings)}"
        )
    passed = replace(state, passes=state.passes + 1)
    if passed.passes < settings.passes:
        return Decision(passed, fresh=True, check=check, event=f"good check {passed.passes} of {settings.passes} at {weight} %")
    if state.step + 1 < len(settings.steps):
        following = settings.steps[state.step + 1]
        stepped = replace(passed, step=state.step + 1, passes=0, since=seen.now)
        return Decision(
            stepped, following, fresh=True, check=check, event=f"step {state.step + 1} of {len(settings.steps)} is passed; {following} %"
        )
    return Decision(replace(passed, phase=PROMOTED, since=seen.now), check=check, event="every step is passed")


def _back(state: State, seen: Seen, reason: str) -> Decision:
    """Weight 0 comes first, and before anything else is looked at."""
    return Decision(replace(state, phase=ROLLING_BACK, since=seen.now, reason=reason), 0, event=f"rolled back: {reason}")


def _rolling_back(state: State, seen: Seen, settings: Settings) -> Decision:
    if seen.weight:
        return Decision(state, 0, event="weight 0 again")
    return Decision(replace(state, phase=ROLLED_BACK, since=seen.now), ended=True)


def _promoted(state: State, seen: Seen, settings: Settings) -> Decision:
    """All requests stay with the canary until the stable version is the same."""
    if seen.adopted:
        return Decision(
            replace(state, phase=FINISHING, since=seen.now),
            0,
            event="the stable version has the canary's images; its requests go back to it",
        )
    if seen.problem:
        return Decision(state, _other(seen, settings.steps[-1]), ended=True, event=f"promoted, but the canary is not ready: {seen.problem}")
    return Decision(state, _other(seen, settings.steps[-1]), ended=True)


def _finishing(state: State, seen: Seen, settings: Settings) -> Decision:
    if seen.weight:
        return Decision(state, 0, event="weight 0 again")
    return Decision(replace(state, phase=DONE, since=seen.now), ended=True)


def _keeps_none(state: State, seen: Seen, settings: Settings) -> Decision:
    return Decision(state, _other(seen, 0), ended=True)
