# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads an RDB file key by key, without a server (private: may change without notice).

A DUMP payload is the value's type and bytes exactly as they stand in an RDB file, the RDB version and a checksum. So a value need only be found, not
understood, to be given to RESTORE: reading skips from key to key, over any number of gigabytes, with a memory map. Only where two encodings of one value
have to be compared (a set has no order, a small hash is packed) it is taken apart, by ``content``.
"""

from __future__ import annotations

import binascii
import struct
import typing as t
from collections.abc import Iterator

from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.crc64 import crc64

Buffer: t.TypeAlias = "t.Any"
"""bytes, or a memory map of a file: what can be indexed and cut."""

SELECT, RESIZE, AUX, EXPIRE_MS, EXPIRE_S = 0xFE, 0xFB, 0xFA, 0xFC, 0xFD
END, FREQUENCY, IDLE, MODULE_AUX, FUNCTION, SLOT_INFO = 0xFF, 0xF9, 0xF8, 0xF7, 0xF5, 0xF4
OPCODES_FROM = 0xF3
TAIL = 9
"""Bytes of the end: its mark and a checksum of the file."""

TYPES = {
    0: "string",
    1: "list",
    2: "set",
    3: "zset",
    4: "hash",
    5: "zset",
    7: "module",
    10: "list",
    11: "set",
    12: "zset",
    13: "hash",
    14: "list",
    15: "stream",
    16: "hash",
    17: "zset",
    18: "list",
    19: "stream",
    20: "set",
    21: "stream",
    24: "hash",
    25: "hash",
}
"""What this reader knows: all types of Redis 5 to 8.0 and Valkey 8 but the pre-release ones."""


class Damaged(Exception):
    """The file ends too early, or holds what no RDB file of a known version holds."""


class Record(t.NamedTuple):
    """A key and where its value stands. ``expires`` is in milliseconds since 1970 (0: never); ``idle`` (s) or ``frequency`` are -1 when not given."""

    key: bytes
    expires: int
    idle: int
    frequency: int
    value: bytes
    """Type and bytes: a DUMP payload without its version and checksum."""

    @property
    def type(self) -> str:
        return TYPES[self.value[0]]


class Function(t.NamedTuple):
    """The source of a function library."""

    code: bytes


class Reader:
    """The keys and function libraries of one RDB file, in its order. ``version`` is known once iteration has begun."""

    def __init__(self, data: Buffer) -> None:
        self._data = data
        self._at = 0
        self.version = 0
        self.aux: dict[str, str] = {}

    def __iter__(self) -> Iterator[Record | Function]:
        """Raises Damaged; whatever came before it was read rightly."""
        try:
            yield from self._records()
        except (IndexError, struct.error, KeyError) as error:
            raise Damaged(f"it ends within a value, at byte {self._at} of {len(self._data)}") from error

    def _records(self) -> Iterator[Record | Function]:
        self.version = version_of(bytes(self._data[:9]))
        self._at = 9
        expires, idle, frequency = 0, -1, -1
        while True:
            kind = self._byte()
            if kind < OPCODES_FROM:
                key = self._string()
                start = self._at
                self._skip(kind)
                if self._at > len(self._data) - TAIL:
                    raise Damaged(f"the value of {shown(key)} ends beyond the file")
                yield Record(key, expires, idle, frequency, bytes([kind]) + bytes(self._data[start : self._at]))
                expires, idle, frequency = 0, -1, -1
            elif kind == EXPIRE_MS:
                expires = int.from_bytes(self._raw(8), "little")
            elif kind == EXPIRE_S:
                expires = int.from_bytes(self._raw(4), "little") * 1000
            elif kind == IDLE:
                idle = self._length()
            elif kind == FREQUENCY:
                frequency = self._byte()
            elif kind == AUX:
                name = self._string()
                self.aux[name.decode(errors="replace")] = self._string().decode(errors="replace")
            elif kind == RESIZE:
                self._lengths(2)
            elif kind == SLOT_INFO:
                self._lengths(3)
            elif kind == SELECT:
                database = self._length()
                if database:
                    raise Damaged(f"it holds keys of database {database}; only database 0 of a cluster can be restored")
            elif kind == FUNCTION:
                yield Function(self._string())
            elif kind == MODULE_AUX:
                self._lengths(3)
                self._skip_module()
            elif kind == END:
                if self._at - 1 != len(self._data) - TAIL:
                    raise Damaged(f"it goes on after its end, at byte {self._at}")
                return
            else:
                raise Damaged(f"it holds a part of kind {kind:#x}, which this collection does not know")

    # ---- the parts -------------------------------------------------------------------------------------------------------

    def _byte(self) -> int:
        value: int = self._data[self._at]
        self._at += 1
        return value

    def _raw(self, size: int) -> bytes:
        data = bytes(self._data[self._at : self._at + size])
        if len(data) < size:
            raise IndexError
        self._at += size
        return data

    def _size(self) -> tuple[int, bool]:
        """A length, or (number, True) of a special encoding."""
        first: int = self._data[self._at]
        self._at += 1
        kind = first >> 6
        if kind == 0:
            return first, False
        if kind == 1:
            return (first & 0x3F) << 8 | self._byte(), False
        if kind == 3:
            return first & 0x3F, True
        return int.from_bytes(self._raw(4 if first == 0x80 else 8), "big"), False

    def _length(self) -> int:
        size, special = self._size()
        if special:
            raise Damaged(f"a length at byte {self._at} is none")
        return size

    def _lengths(self, count: int) -> None:
        for _unused in range(count):
            self._length()

    def _skip_string(self) -> None:
        size, special = self._size()
        if special:
            size = self._length_of_lzf() if size == 3 else 1 << size
        self._at += size

    def _length_of_lzf(self) -> int:
        size = self._length()
        self._length()
        return size

    def _string(self) -> bytes:
        size, special = self._size()
        if not special:
            return self._raw(size)
        if size == 3:
            packed, size = self._length(), self._length()
            return unpacked(self._raw(packed), size)
        return str(int.from_bytes(self._raw(1 << size), "little", signed=True)).encode()

    def _skip(self, kind: int) -> None:
        if kind in {0, 10, 11, 12, 13, 16, 17, 20}:
            self._skip_string()
        elif kind in {1, 2, 4, 14}:
            for _unused in range(self._length() * (2 if kind == 4 else 1)):
                self._skip_string()
        elif kind == 3:
            for _unused in range(self._length()):
                self._skip_string()
                size = self._byte()
                self._at += size if size < 253 else 0
        elif kind == 5:
            for _unused in range(self._length()):
                self._skip_string()
                self._at += 8
        elif kind == 7:
            self._length()
            self._skip_module()
        elif kind == 18:
            for _unused in range(self._length()):
                self._length()
                self._skip_string()
        elif kind in {15, 19, 21}:
            self._skip_stream(kind)
        elif kind == 24:
            self._at += 8
            for _unused in range(self._length()):
                self._length()
                self._skip_string()
                self._skip_string()
        elif kind == 25:
            self._at += 8
            self._skip_string()
        else:
            raise Damaged(f"it holds a value of type {kind}, which this collection does not know (at byte {self._at})")

    def _skip_module(self) -> None:
        sizes = {3: 4, 4: 8}
        while (opcode := self._length()) != 0:
            if opcode in {1, 2}:
                self._length()
            elif opcode in sizes:
                self._at += sizes[opcode]
            elif opcode == 5:
                self._skip_string()
            else:
                raise Damaged(f"a module's value at byte {self._at} cannot be read")

    def _skip_stream(self, kind: int) -> None:
        for _unused in range(self._length()):
            self._skip_string()
            self._skip_string()
        self._lengths(3 if kind == 15 else 8)
        for _group in range(self._length()):
            self._skip_string()
            self._lengths(2 if kind == 15 else 3)
            for _pending in range(self._length()):
                self._at += 24
                self._length()
            for _consumer in range(self._length()):
                self._skip_string()
                self._at += 16 if kind == 21 else 8
                pending = self._length()
                self._at += 16 * pending

    # ---- what a value means ----------------------------------------------------------------------------------------------

    def _content(self) -> t.Any:
        kind = self._byte()
        name = TYPES.get(kind)
        if kind == 0:
            return self._string()
        if kind in {1, 2}:
            items = [self._string() for _unused in range(self._length())]
            return items if name == "list" else frozenset(items)
        if kind == 4:
            return {self._string(): self._string() for _unused in range(self._length())}
        if kind == 3:
            return {self._string(): self._text_score() for _unused in range(self._length())}
        if kind == 5:
            return {self._string(): struct.unpack("<d", self._raw(8))[0] for _unused in range(self._length())}
        if kind == 11:
            return frozenset(integers(self._string()))
        if kind == 14:
            return [item for _unused in range(self._length()) for item in ziplist(self._string())]
        if kind == 18:
            nodes = ((self._length(), self._string()) for _unused in range(self._length()))
            return [item for container, node in nodes for item in ([node] if container == 1 else listpack(node))]
        if kind == 24:
            least = int.from_bytes(self._raw(8), "little")
            fields = [(self._length(), self._string(), self._string()) for _unused in range(self._length())]
            return {field: (value, least + ttl - 1) if ttl else value for ttl, field, value in fields}
        if kind == 25:
            self._raw(8)
            items = listpack(self._string())
            return {
                field: (value, int(expires)) if int(expires) else value
                for field, value, expires in zip(items[::3], items[1::3], items[2::3], strict=True)
            }
        if kind in {10, 12, 13, 16, 17, 20}:
            items = (ziplist if kind < 14 else listpack)(self._string())
            if name == "list":
                return items
            if name == "set":
                return frozenset(items)
            pairs = dict(zip(items[::2], items[1::2], strict=True))
            return pairs if name == "hash" else {member: float(score) for member, score in pairs.items()}
        return bytes(self._data[self._at :])

    def _text_score(self) -> float:
        size = self._byte()
        return {253: float("nan"), 254: float("inf"), 255: float("-inf")}[size] if size > 252 else float(self._raw(size))


def version_of(head: bytes) -> int:
    """The version of an RDB file by its first nine bytes (``REDIS0010``, ``VALKEY080``)."""
    digits = head[5:] if head.startswith(b"REDIS") else head[6:] if head.startswith(b"VALKEY") else b""
    if len(head) < 9 or not digits.isdigit():
        raise Damaged(f"it does not begin as an RDB file ({head!r})")
    return int(digits)


def content(value: bytes) -> tuple[str, t.Any]:
    """(type, what the value means), equal for two encodings of one value. Streams and modules are compared as they are written."""
    reader = Reader(value)
    return TYPES.get(value[0], str(value[0])), reader._content()


def same(one: bytes, other: bytes) -> bool:
    """Whether two values (type and bytes) mean the same."""
    if one == other:
        return True
    try:
        return content(one) == content(other)
    except (IndexError, ValueError, KeyError, struct.error, Damaged):
        return False


def payloads(values: list[bytes], version: int) -> list[bytes]:
    """What RESTORE takes for each value (type and bytes): with the RDB version and the checksum."""
    footed = [value + version.to_bytes(2, "little") for value in values]
    return [text + checksum.to_bytes(8, "little") for text, checksum in zip(footed, crc64(footed), strict=True)]


def value_of(payload: bytes) -> bytes:
    """Type and bytes of a DUMP payload."""
    return payload[:-10]


def slot_of(key: bytes) -> int:
    """The slot of a key: of what stands between its first braces, where that is not empty."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return binascii.crc_hqx(key, 0) % slots.COUNT


def library(code: bytes) -> str:
    """The name a function library gives itself in its first line (``#!lua name=mylib``)."""
    words = code.partition(b"\n")[0].split()
    return next((word[5:].decode(errors="replace") for word in words if word.startswith(b"name=")), "")


def shown(key: bytes) -> str:
    """A key as a message shows it."""
    text = key[:80].decode("utf-8", "backslashreplace")
    return repr(text + "..." if len(key) > 80 else text)


def unpacked(data: bytes, size: int) -> bytes:
    """LZF: a control byte says how many bytes follow as they are, or how far back and how long a repetition is."""
    out = bytearray()
    at = 0
    while at < len(data):
        control = data[at]
        at += 1
        if control < 32:
            out += data[at : at + control + 1]
            at += control + 1
            continue
        length = control >> 5
        if length == 7:
            length += data[at]
            at += 1
        back = ((control & 0x1F) << 8 | data[at]) + 1
        at += 1
        length += 2
        start = len(out) - back
        if start < 0:
            raise Damaged("a compressed string refers to what is before its beginning")
        if back >= length:
            out += out[start : start + length]
        else:
            out += (bytes(out[start:]) * (length // back + 1))[:length]
    if len(out) != size:
        raise Damaged("a compressed string has another length than it says")
    return bytes(out)


def integers(data: bytes) -> list[bytes]:
    """The members of an intset."""
    width, count = struct.unpack_from("<II", data)
    return [str(number).encode() for (number,) in struct.iter_unpack({2: "<h", 4: "<i", 8: "<q"}[width], data[8 : 8 + width * count])]


def ziplist(data: bytes) -> list[bytes]:
    """The entries of a ziplist (Redis before 7.0)."""
    items = []
    at = 10
    while data[at] != 0xFF:
        at += 5 if data[at] == 0xFE else 1
        first = data[at]
        if first < 0xC0:
            if first < 0x40:
                size, head = first, 1
            elif first < 0x80:
                size, head = (first & 0x3F) << 8 | data[at + 1], 2
            else:
                size, head = int.from_bytes(data[at + 1 : at + 5], "big"), 5
            items.append(data[at + head : at + head + size])
            at += head + size
        elif 0xF1 <= first <= 0xFD:
            items.append(str((first & 0x0F) - 1).encode())
            at += 1
        else:
            width = {0xC0: 2, 0xD0: 4, 0xE0: 8, 0xF0: 3, 0xFE: 1}[first]
            items.append(_number(data, at + 1, width))
            at += 1 + width
    return items


def listpack(data: bytes) -> list[bytes]:
    """The entries of a listpack; each is followed by its own length, for walking backwards."""
    items = []
    at = 6
    widths = {0xF1: 2, 0xF2: 3, 0xF3: 4, 0xF4: 8}
    while (first := data[at]) != 0xFF:
        start = at
        if first < 0x80:
            items.append(str(first).encode())
            at += 1
        elif first < 0xC0:
            at += 1 + (first & 0x3F)
            items.append(data[start + 1 : at])
        elif first < 0xE0:
            number = (first & 0x1F) << 8 | data[at + 1]
            items.append(str(number - 0x2000 if number >= 0x1000 else number).encode())
            at += 2
        elif first < 0xF1:
            size = (first & 0x0F) << 8 | data[at + 1] if first < 0xF0 else int.from_bytes(data[at + 1 : at + 5], "little")
            head = 2 if first < 0xF0 else 5
            at += head + size
            items.append(data[start + head : at])
        else:
            items.append(_number(data, at + 1, widths[first]))
            at += 1 + widths[first]
        size = at - start
        at += 1 if size < 128 else 2 if size < 16384 else 3 if size < 2097152 else 4 if size < 268435456 else 5
    return items


def _number(data: bytes, at: int, width: int) -> bytes:
    return str(int.from_bytes(data[at : at + width], "little", signed=True)).encode()
