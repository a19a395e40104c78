# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads the Prometheus text format, and says what is wrong with a text that is not (private: may change without notice).

Rules: https://prometheus.io/docs/instrumenting/exposition_formats/ (text format 0.0.4) and OpenMetrics 1.0, which adds ``# UNIT``,
``# EOF``, exemplars and timestamps with fractions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

TYPES = frozenset(("counter", "gauge", "histogram", "summary", "untyped", "unknown", "info", "stateset", "gaugehistogram"))
_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
_SAMPLE = re.compile(rf"({_NAME})(?:\{{\s*(?:{_LABEL}(?:\s*,\s*{_LABEL})*)?\s*,?\s*\}})?\s+(\S+)(?:\s+-?[0-9.]+)?(?:\s+#\s.*)?\s*")


@dataclass
class Exposition:
    """Sample values by metric name (labels are not kept), and what is wrong, a line each."""

    samples: dict[str, list[float]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def has(self, name: str) -> bool:
        """Whether the metric is there; a counter, histogram or summary also by its family name."""
        return any(name + suffix in self.samples for suffix in ("", "_total", "_count", "_bucket", "_sum"))


def parse(text: str) -> Exposition:
    """Every line is looked at; a text without a single sample is a problem too."""
    result = Exposition()
    typed: set[str] = set()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        if line.startswith("#"):
            words = line.split(None, 3)
            if len(words) >= 3 and words[1] == "TYPE":
                if len(words) < 4 or words[3].strip() not in TYPES:
                    result.problems.append(f"line {number}: unknown type in {line[:80]!r}")
                elif words[2] in typed:
                    result.problems.append(f"line {number}: a second TYPE for {words[2]}")
                typed.add(words[2])
            continue
        match = _SAMPLE.fullmatch(line)
        value = _value(match[2]) if match else None
        if match is None or value is None:
            result.problems.append(f"line {number}: no sample: {line[:80]!r}")
        else:
            result.samples.setdefault(match[1], []).append(value)
    if not result.samples:
        result.problems.append("no sample at all")
    return result


def _value(text: str) -> float | None:
    try:
        return float(text.replace("Inf", "inf"))
    except ValueError:
        return None
