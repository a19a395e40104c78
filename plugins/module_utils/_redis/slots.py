# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hash slots as sets held in one integer: bit n is slot n (private: may change without notice)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

COUNT = 16384
ALL = (1 << COUNT) - 1

Range = tuple[int, int]
LIST = re.compile(r"\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*")


def mask(ranges: Iterable[Range]) -> int:
    """The set of all slots of the inclusive ranges."""
    result = 0
    for first, last in ranges:
        if not 0 <= first <= last < COUNT:
            raise PlatformError(f"slot range {first}-{last} is not within 0-{COUNT - 1}")
        result |= ((1 << (last - first + 1)) - 1) << first
    return result


def ranges(slots: int) -> list[Range]:
    """The inclusive ranges of a set, in order."""
    result = []
    position = 0
    while slots:
        gap = (slots & -slots).bit_length() - 1
        slots >>= gap
        length = (~slots & (slots + 1)).bit_length() - 1
        slots >>= length
        result.append((position + gap, position + gap + length - 1))
        position += gap + length
    return result


def numbers(slots: int) -> list[int]:
    return [slot for first, last in ranges(slots) for slot in range(first, last + 1)]


def size(slots: int) -> int:
    return slots.bit_count()


def text(slots: int) -> str:
    """``0-99,200``; ``none`` for the empty set."""
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges(slots)) or "none"


def named(names: Iterable[str]) -> int:
    """The slots of all names that are slot lists as ``text`` writes them; any other name (an ID, a fingerprint) is longer and left alone."""
    result = 0
    for name in names:
        if LIST.fullmatch(name):
            pairs = (part.partition("-") for part in name.split(","))
            result |= mask((int(low), int(high or low)) for low, _dash, high in pairs)
    return result


def first(slots: int, count: int) -> int:
    """The lowest ``count`` slots of the set (all of it when it has fewer)."""
    result = 0
    for start, end in ranges(slots):
        if count <= 0:
            break
        taken = min(end - start + 1, count)
        result |= mask([(start, start + taken - 1)])
        count -= taken
    return result


def split(slots: int, parts: int) -> list[int]:
    """``parts`` disjoint sets in slot order, together the whole set, whose sizes differ by at most one (the larger ones first)."""
    base, extra = divmod(size(slots), parts)
    result = []
    for index in range(parts):
        part = first(slots, base + (1 if index < extra else 0))
        slots &= ~part
        result.append(part)
    return result


def moves(owned: Sequence[int], takers: int) -> list[tuple[int, int, int]]:
    """The fewest slot moves that let ``takers`` empty masters share evenly with the owners: (owner index, taker index, slots).

    Nobody who has less than a fair share gives; the number of moved slots is exactly what the takers' fair shares need.
    """
    masters = len(owned) + takers
    base, extra = divmod(sum(size(slots) for slots in owned), masters)
    by_surplus = sorted(range(len(owned)), key=lambda index: (-size(owned[index]), index))
    keeps = {index: base + (1 if rank < extra else 0) for rank, index in enumerate(by_surplus)}
    wants = [base + (1 if len(owned) + index < extra else 0) for index in range(takers)]
    plan = []
    taker = 0
    for index in by_surplus:
        surplus = owned[index] & ~first(owned[index], keeps[index])
        while surplus and taker < takers:
            part = first(surplus, wants[taker])
            if part:
                plan.append((index, taker, part))
                surplus &= ~part
                wants[taker] -= size(part)
            if wants[taker] == 0:
                taker += 1
    return plan
