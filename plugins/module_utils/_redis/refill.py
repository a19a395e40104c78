# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keys of RDB files into nodes, by slot, and the comparison afterwards (private: may change without notice).

A value travels as it stands in the file: RESTORE takes it whole or not at all, so a run that was killed has left whole keys behind and nothing else.
"""

from __future__ import annotations

import dataclasses
import threading
import time
import typing as t
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._redis import rdb, slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.backup import AT_ONCE, mapped
from ansible_collections.progressive.platform.plugins.module_utils._redis.resp import (
    Connection,
    ConnectionLost,
    RawCommand,
    RawReply,
    ReplyError,
)
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, PlatformError

BATCH_KEYS, BATCH_BYTES = 2000, 1024 * 1024
"""What goes to a node in one pipeline, whichever is reached first."""
ANSWER_WITHIN, SLOWEST = 30.0, 1e6
"""A pipeline may take so many seconds, and a second more for every so many bytes."""
SKEW = 5000
"""Milliseconds by which the clocks here and there may differ where a key may just have expired."""
SHOWN = 20
"""Differences that are kept with their key; all are counted."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One file of a backup, and the slots whose keys it is the copy of."""

    name: str
    path: Path
    slots: int
    keys: int


@dataclasses.dataclass(frozen=True)
class Receiver:
    """A node that takes the keys of these slots; ``connect`` opens a connection, logged in, and raises ConnectionLost."""

    name: str
    slots: int
    connect: Callable[[], Connection]


@dataclasses.dataclass
class Tally:
    """What a run has done so far; the threads of all files add to it."""

    total: int = 0
    restored: int = 0
    present: int = 0
    expired: int = 0
    stray: int = 0
    equal: int = 0
    differing: int = 0
    size: int = 0
    differences: list[str] = dataclasses.field(default_factory=list)
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock, repr=False)

    def add(self, **counts: int) -> None:
        with self.lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)

    def differ(self, key: bytes, why: str) -> None:
        with self.lock:
            self.differing += 1
            if len(self.differences) < SHOWN:
                self.differences.append(f"{rdb.shown(key)}: {why}")

    @property
    def done(self) -> int:
        return self.restored + self.present + self.expired


class _Stopped(Exception):
    """Another file's thread has failed; this one need not go on."""


class Pace:
    """At most so many keys a second over all threads (0: as fast as the nodes take them), and word of the progress once a second."""

    def __init__(self, clock: Clock, keys_per_second: float, deadline: float, told: Callable[[str], None]) -> None:
        self.clock = clock
        self.deadline = deadline
        self._rate = keys_per_second
        self._began = clock.now()
        self._sent = 0
        self._told = told
        self._last = clock.now()
        self._lock = threading.Lock()
        self.stopped = False

    def wait(self, keys: int, tally: Tally, doing: str) -> None:
        if self.stopped:
            raise _Stopped
        with self._lock:
            self._sent += keys
            due = self._began + self._sent / self._rate if self._rate else 0.0
            now = self.clock.now()
            if now - self._last > 1.0:
                self._last = now
                speed = self._sent / (now - self._began)
                left = max(tally.total - self._sent, 0) / speed
                self._told(f"{doing}: {self._sent} of {tally.total} keys, {speed:.0f} a second, {left:.0f} s left")
        if now > self.deadline:
            raise PlatformError(
                f"{doing}: not finished within the timeout, {self._sent} of {tally.total} keys are done. Run it again to go on."
            )
        while due > now:
            self.clock.sleep(min(due - now, 1.0))
            now = self.clock.now()


class _Lane:
    """A connection to one receiver with at most one pipeline on its way: while the node works on it, the next is made."""

    def __init__(self, receiver: Receiver, pace: Pace) -> None:
        self.receiver = receiver
        self.pace = pace
        self.records: list[rdb.Record] = []
        self.size = 0
        self._connection = receiver.connect()
        self._pending: tuple[list[rdb.Record], int, int] | None = None

    def full(self) -> bool:
        return len(self.records) >= BATCH_KEYS or self.size >= BATCH_BYTES

    def add(self, record: rdb.Record) -> None:
        self.records.append(record)
        self.size += len(record.value) + len(record.key)

    def swap(self, commands: Sequence[RawCommand], take: Callable[[list[rdb.Record], list[RawReply]], None]) -> None:
        """Send the commands of the records gathered, after the replies to the former ones have been taken."""
        self.settle(take)
        if commands:
            self._connection.send(commands, self._limit(self.size))
            self._pending = (self.records, len(commands), self.size)
        self.records, self.size = [], 0

    def settle(self, take: Callable[[list[rdb.Record], list[RawReply]], None]) -> None:
        if self._pending:
            records, count, size = self._pending
            self._pending = None
            take(records, self._connection.receive_raw(count, self._limit(size)))

    def close(self) -> None:
        self._connection.close()

    def _limit(self, size: int) -> float:
        return self.pace.clock.now() + ANSWER_WITHIN + size / SLOWEST


Make: t.TypeAlias = "Callable[[list[rdb.Record], int], list[RawCommand]]"
Take: t.TypeAlias = "Callable[[_Lane, list[rdb.Record], list[RawReply]], None]"


def _each_file(parts: Sequence[Part], receivers: Sequence[Receiver], pace: Pace, tally: Tally, doing: str, make: Make, take: Take) -> None:
    """Run through all files side by side, every file with connections of its own to every receiver."""
    by_slot: list[int] = [-1] * slots.COUNT
    for number, receiver in enumerate(receivers):
        for slot in slots.numbers(receiver.slots):
            by_slot[slot] = number

    def one(part: Part) -> None:
        lanes: dict[int, _Lane] = {}

        def flush(lane: _Lane, version: int) -> None:
            pace.wait(len(lane.records), tally, doing)
            lane.swap(make(lane.records, version), lambda records, replies: take(lane, records, replies))

        try:
            with mapped(part.path) as data:
                reader = rdb.Reader(data)
                for record in reader:
                    if isinstance(record, rdb.Function):
                        continue
                    slot = rdb.slot_of(record.key)
                    if not part.slots >> slot & 1:
                        tally.add(stray=1)
                        continue
                    number = by_slot[slot]
                    if number not in lanes:
                        lanes[number] = _Lane(receivers[number], pace)
                    lane = lanes[number]
                    lane.add(record)
                    if lane.full():
                        flush(lane, reader.version)
                for lane in lanes.values():
                    flush(lane, reader.version)
                for lane in lanes.values():
                    lane.swap([], lambda records, replies, lane=lane: take(lane, records, replies))  # type: ignore[misc]
        except rdb.Damaged as error:
            raise PlatformError(f"{part.name} cannot be read: {error}. Take another backup (backup: ID).") from error
        except ConnectionLost as error:
            raise PlatformError(f"{doing}: a node was lost ({error}); what has arrived there stays. Run it again to go on.") from error
        finally:
            for lane in lanes.values():
                lane.close()

    def watched(part: Part) -> Exception | None:
        try:
            one(part)
        except Exception as error:
            pace.stopped = True
            return error
        return None

    with ThreadPoolExecutor(min(AT_ONCE, max(len(parts), 1))) as pool:
        errors = [error for error in pool.map(watched, parts) if error is not None and not isinstance(error, _Stopped)]
    if errors:
        raise errors[0]


def restore(parts: Sequence[Part], receivers: Sequence[Receiver], pace: Pace, replace: bool) -> Tally:
    """Give every key to the receiver of its slot, with its expiry and age. A key that is there stays, unless ``replace``."""
    tally = Tally(total=sum(part.keys for part in parts))

    def make(records: list[rdb.Record], version: int) -> list[RawCommand]:
        return [
            (b"RESTORE", record.key, b"%d" % record.expires, payload, *_options(record, replace))
            for record, payload in zip(records, rdb.payloads([record.value for record in records], version), strict=True)
        ]

    def take(lane: _Lane, records: list[rdb.Record], replies: list[RawReply]) -> None:
        now = time.time() * 1000
        expired = present = size = 0
        for record, reply in zip(records, replies, strict=True):
            size += len(record.value) + len(record.key)
            if reply == "OK":
                expired += bool(record.expires) and record.expires <= now
            elif isinstance(reply, ReplyError) and reply.code == "BUSYKEY":
                present += 1
            else:
                raise PlatformError(f"{lane.receiver.name} refuses key {rdb.shown(record.key)}: {_reason(reply)}")
        tally.add(restored=len(records) - expired - present, expired=expired, present=present, size=size)

    _each_file(parts, receivers, pace, tally, "restore", make, take)
    return tally


def compare(parts: Sequence[Part], receivers: Sequence[Receiver], pace: Pace) -> Tally:
    """Ask for every key of the files and compare value and expiry; a key whose time is over may be gone."""
    tally = Tally(total=sum(part.keys for part in parts))

    def make(records: list[rdb.Record], _version: int) -> list[RawCommand]:
        return [command for record in records for command in ((b"DUMP", record.key), (b"PEXPIRETIME", record.key))]

    def take(lane: _Lane, records: list[rdb.Record], replies: list[RawReply]) -> None:
        equal = expired = size = 0
        now = time.time() * 1000
        for record, payload, expires in zip(records, replies[::2], replies[1::2], strict=True):
            for reply in (payload, expires):
                if isinstance(reply, ReplyError):
                    raise PlatformError(f"{lane.receiver.name} does not show key {rdb.shown(record.key)}: {_reason(reply)}")
            if payload is None or expires == -2:
                if record.expires and record.expires <= now + SKEW:
                    expired += 1
                else:
                    tally.differ(record.key, f"missing on {lane.receiver.name}")
            elif not rdb.same(record.value, rdb.value_of(t.cast(bytes, payload))):
                tally.differ(record.key, f"another value on {lane.receiver.name}")
            elif expires != (record.expires or -1):
                tally.differ(record.key, f"expires at {expires!s} on {lane.receiver.name}, at {record.expires or -1} in the backup")
            else:
                equal += 1
                size += len(record.value) + len(record.key)
        tally.add(equal=equal, expired=expired, size=size)

    _each_file(parts, receivers, pace, tally, "comparison", make, take)
    return tally


def functions_of(parts: Sequence[Part]) -> dict[str, bytes]:
    """Library name to source, of all files; they stand before the keys, so only the beginning is read. Raises PlatformError when two shards disagree."""
    found: dict[str, bytes] = {}
    for part in parts:
        for code in _functions(part):
            name = rdb.library(code)
            if found.setdefault(name, code) != code:
                raise PlatformError(
                    f"The shards of this backup hold different versions of function library {name}; load the right one by hand first."
                )
    return found


def _functions(part: Part) -> list[bytes]:
    found: list[bytes] = []
    with mapped(part.path) as data:
        try:
            for item in rdb.Reader(data):
                if not isinstance(item, rdb.Function):
                    break
                found.append(item.code)
        except rdb.Damaged as error:
            raise PlatformError(f"{part.name} cannot be read: {error}. Take another backup (backup: ID).") from error
    return found


def held_functions(connection: Connection, clock: Clock) -> dict[str, bytes]:
    """The libraries a node has."""
    reply = connection.call_raw([("FUNCTION", "LIST", "WITHCODE")], clock.now() + ANSWER_WITHIN)[0]
    if not isinstance(reply, list):
        raise PlatformError(f"FUNCTION LIST is answered {_reason(reply)}")
    libraries = [dict(zip(item[::2], item[1::2], strict=True)) for item in reply if isinstance(item, list)]
    return {t.cast(bytes, one[b"library_name"]).decode(errors="replace"): t.cast(bytes, one[b"library_code"]) for one in libraries}


def load_functions(wanted: Mapping[str, bytes], receivers: Sequence[Receiver], clock: Clock, replace: bool) -> int:
    """Give every receiver the libraries it lacks; returns how many were loaded. One that is there with another source stays, unless ``replace``."""
    loaded = 0
    for receiver in receivers if wanted else ():
        connection = receiver.connect()
        try:
            held = held_functions(connection, clock)
            missing = {name: code for name, code in wanted.items() if held.get(name) != code}
            other = sorted(set(missing) & set(held))
            if other and not replace:
                raise PlatformError(
                    f"{receiver.name} has another version of function library {', '.join(other)}; delete it, or name the overwrite token."
                )
            commands: list[RawCommand] = [(b"FUNCTION", b"LOAD", b"REPLACE", code) for code in missing.values()]
            for reply in connection.call_raw(commands, clock.now() + ANSWER_WITHIN):
                if isinstance(reply, ReplyError):
                    raise PlatformError(f"{receiver.name} refuses a function library: {reply}")
            loaded += len(missing)
        except ConnectionLost as error:
            raise PlatformError(f"{receiver.name} was lost: {error}. Run it again to go on.") from error
        finally:
            connection.close()
    return loaded


def accepts(receiver: Receiver, version: int, clock: Clock) -> str:
    """Why the receiver cannot read values of this RDB version; empty when it can. Asked with a key that expired in 1970, so that nothing is made."""
    key = next(name for name in (b"probe-%d" % number for number in range(10**6)) if receiver.slots >> rdb.slot_of(name) & 1)
    payload = rdb.payloads([b"\0\0"], version)[0]
    try:
        connection = receiver.connect()
        try:
            reply = connection.call_raw([(b"RESTORE", key, b"1", payload, b"ABSTTL")], clock.now() + ANSWER_WITHIN)[0]
        finally:
            connection.close()
    except ConnectionLost as error:
        raise PlatformError(f"{receiver.name} was lost: {error}. Run it again.") from error
    return str(reply) if isinstance(reply, ReplyError) and reply.code != "BUSYKEY" else ""


def _options(record: rdb.Record, replace: bool) -> tuple[bytes, ...]:
    options: tuple[bytes, ...] = (b"ABSTTL",) if record.expires else ()
    if record.frequency >= 0:
        options += (b"FREQ", b"%d" % record.frequency)
    elif record.idle >= 0:
        options += (b"IDLETIME", b"%d" % record.idle)
    return (*options, b"REPLACE") if replace else options


def _reason(reply: RawReply) -> str:
    text = reply.decode(errors="replace")[:200] if isinstance(reply, bytes) else str(reply)[:200]
    if text.startswith(("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "READONLY")):
        return f"{text}. The cluster has changed meanwhile; let it settle and run the same again to go on."
    if text.startswith("OOM"):
        return f"{text}. Give the masters more memory and run the same again to go on."
    return text
