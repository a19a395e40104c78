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


def shares(owned: Sequence[int], staying: Sequence[bool]) -> list[int]:
    """How many slots each is to have in the end: those who stay the same number but for one, those who leave none.

    The odd slots are left with those who have most, which is why no slot moves for their sake.
    """
    total = sum(size(one) for one in owned)
    stay = [index for index, stays in enumerate(staying) if stays]
    base, extra = divmod(total, len(stay))
    result = [0] * len(owned)
    for rank, index in enumerate(sorted(stay, key=lambda index: (-size(owned[index]), index))):
        result[index] = base + (1 if rank < extra else 0)
    return result


def moves(owned: Sequence[int], wants: Sequence[int]) -> list[tuple[int, int, int]]:
    """The fewest slot moves that give everybody the wanted number: (owner index, taker index, slots), each pair once.

    Whoever gives takes nothing, so no slot moves twice and no two nodes ever wait for each other. Ranges stay whole where they can: a giver parts with its
    small ranges first and then with the end of its last one, and a piece goes to the taker whose slots it touches before it goes to another.
    """
    lacks = {index: wants[index] - size(slots) for index, slots in enumerate(owned) if wants[index] > size(slots)}
    held = list(owned)
    plan: dict[tuple[int, int], int] = {}

    def give(giver: int, taker: int, part: int) -> None:
        plan[giver, taker] = plan.get((giver, taker), 0) | part
        held[taker] |= part
        lacks[taker] -= size(part)
        if not lacks[taker]:
            del lacks[taker]

    for near in (True, False):
        for giver, slots in enumerate(owned):
            given = sum(size(part) for (one, _taker), part in plan.items() if one == giver)
            left = slots & ~sum(part for (one, _taker), part in plan.items() if one == giver)
            for start, end in _pieces(left, size(slots) - wants[giver] - given):
                piece = mask([(start, end)])
                while piece and lacks:
                    low, high = ranges(piece)[0][0], ranges(piece)[-1][1]
                    before = next((index for index in lacks if low and held[index] >> low - 1 & 1), None)
                    after = next((index for index in lacks if held[index] >> high + 1 & 1), None)
                    if before is not None:
                        taker, part = before, first(piece, lacks[before])
                    elif after is not None:
                        taker, part = after, piece & ~first(piece, size(piece) - lacks[after])
                    elif near:
                        break
                    else:
                        taker = next(iter(lacks))
                        part = first(piece, lacks[taker])
                    give(giver, taker, part)
                    piece &= ~part
    return [(giver, taker, part) for (giver, taker), part in plan.items()]


def _pieces(slots: int, count: int) -> list[Range]:
    """Ranges with ``count`` slots in all to part with: the shortest whole ones, then the end of the next."""
    result = []
    for start, end in sorted(ranges(slots), key=lambda pair: (pair[1] - pair[0], -pair[0])):
        if count <= 0:
            break
        taken = min(end - start + 1, count)
        result.append((end - taken + 1, end))
        count -= taken
    return sorted(result)
