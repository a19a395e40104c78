# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a canary delivery is told, sees and remembers: data, no behaviour (private: may change without notice)."""

from __future__ import annotations

import typing as t
from dataclasses import asdict, dataclass, field

PREPARING, ANALYSING, PROMOTED, FINISHING, DONE = "Preparing", "Analysing", "Promoted", "Finishing", "Done"
ROLLING_BACK, ROLLED_BACK = "RollingBack", "RolledBack"
ENDED = frozenset((PROMOTED, DONE, ROLLED_BACK))
"""Where a run ends; a later one goes on from Promoted when the stable version has become the canary's, and from all when there is a new one."""


@dataclass(frozen=True)
class Settings:
    """``steps``: weights in percent, one after the other; ``interval``: shortest time of one check; ``sample``: fewest requests of the canary in one;
    ``patience``: longest time a check waits for them; ``passes``: good checks in a row that end a step; ``failures``: failed checks of all steps together
    that end the delivery; ``success``: percent; ``p99``: milliseconds; ``worse``, ``slack``: percent and milliseconds by which the canary's p99 may be
    above the stable version's, both together; ``deadline``: longest time until the canary is ready. Times are seconds."""

    steps: tuple[int, ...] = (10, 25, 50, 100)
    interval: float = 30.0
    sample: int = 100
    patience: float = 300.0
    passes: int = 2
    failures: int = 2
    success: float = 99.0
    p99: float = 500.0
    worse: float = 20.0
    slack: float = 25.0
    deadline: float = 300.0


class Side(t.NamedTuple):
    """One version's requests in a window; ``p99`` in milliseconds, None when there were none to tell it from."""

    requests: float
    errors: float
    p99: float | None

    @property
    def success(self) -> float:
        return 100.0 * (1.0 - self.errors / self.requests) if self.requests else 0.0


class Seen(t.NamedTuple):
    """One look: ``version`` tells the canary's pods from others, ``problem`` why it is not ready, ``adopted`` whether the stable Service has its images and
    is ready; ``weight`` is what the route says; the two sides are None when nothing can be known of them, and ``silence`` is why."""

    now: float
    version: str
    problem: str
    adopted: bool
    weight: int
    since: float
    canary: Side | None
    stable: Side | None
    silence: str = ""


@dataclass(frozen=True)
class Check:
    """One judgement of a window, with every number it rests on."""

    at: float
    seconds: float
    weight: int
    passed: bool
    findings: tuple[str, ...]
    canary: Side | None
    stable: Side | None

    def described(self) -> dict[str, t.Any]:
        sides = {
            name: {**side._asdict(), "success": side.success} if side else None
            for name, side in (("canary", self.canary), ("stable", self.stable))
        }
        return {**asdict(self), "findings": list(self.findings), **sides}


@dataclass(frozen=True)
class State:
    """What is remembered in the cluster between two looks."""

    phase: str
    version: str
    step: int = 0
    passes: int = 0
    failures: int = 0
    since: float = 0.0
    began: float = 0.0
    reason: str = ""

    def described(self) -> dict[str, t.Any]:
        return asdict(self)

    @classmethod
    def of(cls, fields: t.Mapping[str, t.Any]) -> State:
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__ if name in fields})


@dataclass(frozen=True)
class Decision:
    """What follows from a look. ``state`` is kept before ``weight`` is set, so that whoever comes after a killed run sets it again.

    ``fresh``: statistics are counted from now on; ``check`` is the judgement that was made, ``ended`` whether the run has nothing more to do."""

    state: State
    weight: int | None = None
    fresh: bool = False
    check: Check | None = None
    ended: bool = False
    event: str = field(default="")
