# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a check is and what it found (private: may change without notice)."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Options = Mapping[str, t.Any]
Details = dict[str, t.Any]

SHOWN = 6  # problems in a message; the details hold all of them


@dataclass(frozen=True)
class Check:
    """One thing to look at. ``wait``: how long a red answer may still turn green, in seconds; None: as the whole run says."""

    name: str
    kind: str
    options: Options = field(default_factory=dict)
    component: str = ""
    wait: float | None = None


@dataclass(frozen=True)
class Finding:
    """What one look saw. ``message`` is a sentence for people; a red one names the cause. ``skipped``: check mode forbade to look."""

    ok: bool
    expected: str
    observed: str
    message: str = ""
    details: Details = field(default_factory=dict)
    skipped: bool = False


@dataclass(frozen=True)
class Result:
    """A finding with its check and its time: ``started`` and ``seconds`` count from the start of the run, in seconds."""

    check: Check
    finding: Finding
    started: float = 0.0
    seconds: float = 0.0
    attempts: int = 1

    @property
    def ok(self) -> bool:
        return self.finding.ok

    def as_dict(self) -> dict[str, t.Any]:
        """The form of reports and of the module's result."""
        entry: dict[str, t.Any] = {
            "name": self.check.name,
            "ok": self.finding.ok,
            "expected": self.finding.expected,
            "observed": self.finding.observed,
            "message": self.finding.message,
            "seconds": round(self.seconds, 3),
            "started": round(self.started, 3),
            "attempts": self.attempts,
            "kind": self.check.kind,
            "component": self.check.component,
        }
        if self.finding.skipped:
            entry["skipped"] = True
        if self.finding.details:
            entry["details"] = self.finding.details
        return entry


def verdict(expected: str, observed: str, problems: Sequence[str], details: Details | None = None) -> Finding:
    """Green without problems; red with all of them, the first few in the message."""
    entries = list(dict.fromkeys(problems))
    if not entries:
        return Finding(True, expected, observed, observed, details or {})
    more = f"; and {len(entries) - SHOWN} more" if len(entries) > SHOWN else ""
    return Finding(False, expected, observed, "; ".join(entries[:SHOWN]) + more, {**(details or {}), "problems": entries})


def plural(count: int, noun: str) -> str:
    """``1 pod``, ``3 pods``."""
    return f"{count} {noun}" + ("" if count == 1 else "es" if noun.endswith("s") else "s")


def age(seconds: float) -> str:
    """A span as people say it: ``40 s``, ``12 min``, ``5 h``, ``80 days``."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
