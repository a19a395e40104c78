# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kubernetes quantities as numbers (private: may change without notice)."""

from __future__ import annotations

import re
import typing as t
from decimal import Decimal

# k8s.io/apimachinery/pkg/api/resource: a signed decimal, then a decimal exponent, a decimal or a binary suffix.
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d+)|([numkMGTPE]|[KMGTPE]i))?")
_SCALE = {
    **{suffix: Decimal(10) ** power for suffix, power in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}


def quantity(text: t.Any) -> Decimal:
    """``512Mi`` -> 536870912, ``250m`` -> 0.25, 2 -> 2. Raises ValueError for anything Kubernetes refuses, as ``1Gib``."""
    match = _QUANTITY.fullmatch(str(text)) if not isinstance(text, bool) else None
    if match is None:
        raise ValueError(f"{text!r} is not a Kubernetes quantity, such as 250m, 2, 512Mi or 1Gi")
    number, exponent, suffix = match.groups()
    return Decimal(number + (exponent or "")) * _SCALE.get(suffix or "", Decimal(1))


def humane(number: Decimal | int, like: str = "memory") -> str:
    """A number as people write it: 0.25 cpu -> ``250m``, bytes -> ``512Mi``."""
    value = Decimal(number)
    if like == "cpu":
        return f"{value.normalize():f}" if value == value.to_integral_value() else f"{int(value * 1000)}m"
    for suffix in ("Ti", "Gi", "Mi", "Ki"):
        if value >= _SCALE[suffix]:
            shown = value / _SCALE[suffix]
            return f"{shown.normalize():f}{suffix}" if shown == shown.to_integral_value() else f"{shown:.1f}{suffix}"
    return f"{value:f}"
