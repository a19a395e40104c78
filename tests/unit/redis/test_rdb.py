# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The RDB reader and the checksum, over bytes made by hand: encodings that no server here writes any more, and files that are not whole.

Older encodings are also given to a real redis-server, which must read the same out of them.
"""

from __future__ import annotations

import os
import random
import struct
import time
import typing as t

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._redis import crc64, rdb, slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.restore import parse_slots, scratch_server
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock

# ---- checksum ---------------------------------------------------------------------------------------------------------------


def test_checksum_of_the_specification() -> None:
    assert crc64.crc64([b"123456789"]) == [0xE9C6D914C4B8D9CA]


@pytest.mark.parametrize("seed", range(8))
def test_many_at_once_are_as_one_by_one(seed: int) -> None:
    chance = random.Random(seed)
    sizes = [chance.choice([0, 1, 7, 255, 256, 257, 512, 1000, 70000]) for _unused in range(chance.choice([1, 3, 4, 50]))]
    payloads = [chance.randbytes(size) for size in sizes]
    assert crc64.crc64(payloads) == [crc64._plain(payload) for payload in payloads]


# ---- files ------------------------------------------------------------------------------------------------------------------


def text(data: bytes) -> bytes:
    assert len(data) < 64 * 256
    return (bytes([len(data)]) if len(data) < 64 else struct.pack(">H", 0x4000 | len(data))) + data


def file(*parts: bytes, head: bytes = b"REDIS0010") -> bytes:
    return head + b"".join(parts) + b"\xff" + bytes(8)


def record(kind: int, key: bytes, value: bytes) -> bytes:
    return bytes([kind]) + text(key) + value


WHOLE = file(
    b"\xfa" + text(b"redis-ver") + text(b"7.0.15"),
    b"\xf5" + text(b"#!lua name=shop\ncode"),
    b"\xfe\x00\xfb\x02\x01",
    b"\xfc" + (4102444800123).to_bytes(8, "little") + record(0, b"one", text(b"1")),
    b"\xfd" + (4102444800).to_bytes(4, "little") + b"\xf8\x40\x99" + record(0, b"two", b"\xc1\x10\x27"),
    b"\xf9\x07" + record(2, b"three", b"\x02" + text(b"a") + text(b"b")),
    b"\xf4\x01\x02\x03" + record(0, b"four", text(b"x" * 300)),
)


def test_a_file_with_all_its_parts() -> None:
    reader = rdb.Reader(WHOLE)
    function, *records = list(reader)
    assert function == rdb.Function(b"#!lua name=shop\ncode") and rdb.library(function.code) == "shop"
    assert (reader.version, reader.aux) == (10, {"redis-ver": "7.0.15"})
    facts = [(one.key, one.expires, one.idle, one.frequency, rdb.content(one.value)) for one in t.cast(list[rdb.Record], records)]
    assert facts == [
        (b"one", 4102444800123, -1, -1, ("string", b"1")),
        (b"two", 4102444800000, 0x99, -1, ("string", b"10000")),
        (b"three", 0, -1, 7, ("set", frozenset({b"a", b"b"}))),
        (b"four", 0, -1, -1, ("string", b"x" * 300)),
    ]


def test_cut_anywhere_it_is_damaged() -> None:
    for size in range(len(WHOLE)):
        with pytest.raises(rdb.Damaged):
            list(rdb.Reader(WHOLE[:size]))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "does not begin as an RDB file"),
        (b"PK\3\4" + WHOLE, "does not begin as an RDB file"),
        (WHOLE + b"\0", "goes on after its end"),
        (file(record(99, b"key", b"")), "a value of type 99, which this collection does not know"),
        (file(b"\xf3"), "a part of kind 0xf3, which this collection does not know"),
        (file(b"\xfe\x03" + record(0, b"key", b"\x00")), "keys of database 3"),
        (file(record(0, b"key", b"\x7f\xff")), "ends beyond the file"),
    ],
)
def test_what_is_no_file_of_ours(data: bytes, says: str) -> None:
    with pytest.raises(rdb.Damaged, match=says):
        list(rdb.Reader(data))


def test_valkey_says_its_version_in_three_digits() -> None:
    reader = rdb.Reader(file(record(0, b"key", text(b"x")), head=b"VALKEY080"))
    assert len(list(reader)) == 1 and reader.version == 80


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        (b"foo", 12182),
        (b"bar", 5061),
        (b"123456789", 12739),
        (b"{user1000}.following", 3443),
        (b"{user1000}.followers", 3443),
        (b"user1000", 3443),
        (b"foo{{bar}}zap", 4015),
    ],
)
def test_slots_as_the_cluster_specification_counts_them(key: bytes, slot: int) -> None:
    assert rdb.slot_of(key) == slot


def test_an_empty_tag_is_none() -> None:
    assert rdb.slot_of(b"foo{}{bar}") != rdb.slot_of(b"bar") and rdb.slot_of(b"a{") != rdb.slot_of(b"{")


@pytest.mark.parametrize("ranges", [[], [(0, 16383)], [(0, 0), (5, 9), (16383, 16383)]])
def test_slots_of_a_manifest(ranges: list[slots.Range]) -> None:
    assert parse_slots(slots.text(slots.mask(ranges))) == slots.mask(ranges)


# ---- encodings that servers of today only read ------------------------------------------------------------------------------


def packed(*entries: bytes) -> bytes:
    """A ziplist: every entry after the length of the one before it."""
    body, before = b"", 0
    for entry in entries:
        whole = (bytes([before]) if before < 254 else b"\xfe" + before.to_bytes(4, "little")) + entry
        body += whole
        last, before = len(body) - len(whole), len(whole)
    return struct.pack("<IIH", 11 + len(body), 10 + last, len(entries)) + body + b"\xff"


def word(data: bytes) -> bytes:
    return (bytes([len(data)]) if len(data) < 64 else struct.pack(">H", 0x4000 | len(data))) + data


def number(value: int) -> bytes:
    if 0 <= value <= 12:
        return bytes([0xF1 + value])
    for code, width in ((0xFE, 1), (0xC0, 2), (0xF0, 3), (0xD0, 4), (0xE0, 8)):
        if -(1 << 8 * width - 1) <= value < 1 << 8 * width - 1:
            return bytes([code]) + value.to_bytes(width, "little", signed=True)
    raise ValueError(value)


LONG = b"y" * 250
OLD: list[tuple[int, bytes, tuple[str, t.Any]]] = [
    (1, b"\x02" + text(b"a") + text(b"b"), ("list", [b"a", b"b"])),
    (3, b"\x02" + text(b"a") + b"\x031.5" + text(b"b") + b"\xff", ("zset", {b"a": 1.5, b"b": float("-inf")})),
    (10, text(packed(word(b"a"), number(12), number(-100))), ("list", [b"a", b"12", b"-100"])),
    (12, text(packed(word(b"a"), number(1), word(b"b"), number(2))), ("zset", {b"a": 1.0, b"b": 2.0})),
    (13, text(packed(word(LONG), number(30000), word(b"k"), number(-(10**12)))), ("hash", {LONG: b"30000", b"k": b"-1000000000000"})),
    (
        14,
        b"\x02" + text(packed(word(LONG), word(LONG), word(b"z"))) + text(packed(number(8000000))),
        ("list", [LONG, LONG, b"z", b"8000000"]),
    ),
]


@pytest.mark.parametrize(("kind", "value", "meaning"), OLD)
def test_an_old_encoding(kind: int, value: bytes, meaning: tuple[str, t.Any]) -> None:
    (only,) = rdb.Reader(file(record(kind, b"key", value)))
    assert isinstance(only, rdb.Record) and only.type == meaning[0] and rdb.content(only.value) == meaning


def test_a_real_server_reads_the_same_out_of_old_encodings() -> None:
    with scratch_server(Clock()) as server:
        connection = server.connect()
        for kind, value, meaning in OLD:
            whole = bytes([kind]) + value
            payload = rdb.payloads([whole], 9)[0]
            restored, dumped = connection.call_raw([("RESTORE", "key", "0", payload, "REPLACE"), ("DUMP", "key")], time.monotonic() + 10)
            assert restored == "OK", (kind, restored)
            again = rdb.value_of(t.cast(bytes, dumped))
            assert rdb.content(again) == meaning and rdb.same(whole, again), kind
        connection.close()


def test_a_hash_with_fields_that_expire() -> None:
    """Redis 7.4, of which there is no server here: by its source's format."""
    value = (5000).to_bytes(8, "little") + b"\x02" + b"\x00" + text(b"a") + text(b"1") + b"\x0b" + text(b"b") + text(b"2")
    (only,) = rdb.Reader(file(record(24, b"key", value)))
    assert isinstance(only, rdb.Record) and rdb.content(only.value) == ("hash", {b"a": b"1", b"b": (b"2", 5010)})


@pytest.mark.parametrize(("one", "other", "same"), [(b"ab", b"ba", True), (b"ab", b"ac", False)])
def test_a_set_has_no_order(one: bytes, other: bytes, same: bool) -> None:
    first, second = (b"\x02\x02" + b"".join(text(bytes([byte])) for byte in members) for members in (one, other))
    assert rdb.same(first, second) is same


def test_compressed_strings() -> None:
    assert rdb.unpacked(b"\x00a\xe0\x29\x00", 51) == b"a" * 51
    assert rdb.unpacked(b"\x02abc\x20\x02", 6) == b"abcabc"
    for damaged in (b"\x00a\x20\x09", b"\x00a"):
        with pytest.raises(rdb.Damaged):
            rdb.unpacked(damaged, 5)
    assert not rdb.same(b"\0" + text(os.urandom(9)), b"\0\xc3\x01\x05\x00")
