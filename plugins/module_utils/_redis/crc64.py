# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checksum of a DUMP payload, for many payloads at once (private: may change without notice).

A byte at a time plain Python reaches about 10 MB/s, which a restore would wait for. So many blocks are worked on side by side: the registers of all of
them stand as eight byte strings ("planes"), and one step is eight bytes.translate and one exclusive or of long integers, all in C: 4 to 5 times as fast.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache

POLYNOMIAL = 0x95AC9329AC4BC9B5
"""CRC-64/Jones, bits reversed; the register begins at 0, so zero bytes before a message do not change its checksum."""
BLOCK = 256
LANES = 8192
"""Blocks worked on at once: 2 MB."""


@cache
def _table() -> list[int]:
    table = []
    for value in range(256):
        for _bit in range(8):
            value = (value >> 1) ^ (POLYNOMIAL if value & 1 else 0)  # noqa: PLW2901
        table.append(value)
    return table


@cache
def _planes() -> list[bytes]:
    """The table, a byte of every entry at a time."""
    return [bytes(entry >> 8 * plane & 0xFF for entry in _table()) for plane in range(8)]


@cache
def _advance() -> list[list[int]]:
    """What BLOCK further zero bytes make of a register, a table for each of its bytes."""
    return [[_plain(bytes(BLOCK), value << 8 * plane) for value in range(256)] for plane in range(8)]


def _plain(data: bytes, register: int = 0) -> int:
    table = _table()
    for byte in data:
        register = table[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register


def crc64(payloads: Sequence[bytes]) -> list[int]:
    """The checksum of every payload, in order."""
    longest = max((len(payload) for payload in payloads), default=0)
    if len(payloads) < 4 and longest < 4 * BLOCK:
        return [_plain(payload) for payload in payloads]
    width = min(max(longest, 1), BLOCK)
    counts = [-(-len(payload) // width) or 1 for payload in payloads]
    padded = b"".join(payload.rjust(count * width, b"\0") for payload, count in zip(payloads, counts, strict=True))
    step = LANES * width
    registers = [register for start in range(0, len(padded), step) for register in _lanes(padded[start : start + step], width)]
    return [_joined(registers, end - count, end) for count, end in zip(counts, itertools.accumulate(counts), strict=True)]


def _joined(registers: Sequence[int], first: int, end: int) -> int:
    """The checksum of a payload from those of its blocks."""
    value = registers[first]
    for register in registers[first + 1 : end]:
        moved = register
        for plane, table in enumerate(_advance()):
            moved ^= table[value >> 8 * plane & 0xFF]
        value = moved
    return value


def _lanes(data: bytes, width: int) -> list[int]:
    """The checksum of every block of ``width`` bytes."""
    lanes = len(data) // width
    planes = _planes()
    low = (1 << 8 * lanes) - 1
    register = 0  # plane 0 of all lanes in the lowest bytes, then plane 1 of all, ...
    for column in range(width):
        index = ((register & low) ^ int.from_bytes(data[column::width], "little")).to_bytes(lanes, "little")
        register = (register >> 8 * lanes) ^ int.from_bytes(b"".join(index.translate(plane) for plane in planes), "little")
    raw = register.to_bytes(8 * lanes, "little")
    return [int.from_bytes(raw[lane::lanes], "little") for lane in range(lanes)]
