# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A node's data set as an RDB file, by the replication protocol (private: may change without notice).

What ``redis-cli --rdb`` does: the node forks and sends a snapshot, consistent in itself, of the moment in which it says FULLRESYNC. Nothing is written to
its disk, it works on replicas, and through whatever the connection goes through.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._redis.resp import Connection, ConnectionLost, ReplyError
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, PlatformError

SILENCE = 60.0
"""Seconds without a byte after which the node is taken for dead; while it forks and saves it sends a line feed every second."""
MARK = 40
"""Bytes that end a snapshot of unknown length; the node says which."""


@dataclass(frozen=True)
class Snapshot:
    """A file that was received whole; ``replication`` and ``offset`` name the moment in the history of the shard."""

    replication: str
    offset: int
    size: int
    sha256: str


def take(connection: Connection, path: Path, clock: Clock, deadline: float, told: Callable[[int], None]) -> Snapshot:
    """Write the node's data set to ``path``. Raises PlatformError with the node's reason; ``told`` gets the bytes received so far."""
    try:
        _prepare(connection, min(deadline, clock.now() + SILENCE))
        stream = _Stream(connection, clock, deadline)
        head = stream.line().decode(errors="replace")
        if not head.startswith("+FULLRESYNC "):
            raise PlatformError(_refusal(head))
        _word, replication, offset = head.split(" ")
        size, sha256 = _body(stream, path, told)
        return Snapshot(replication, int(offset), size, sha256)
    except ConnectionLost as error:
        raise PlatformError(f"the snapshot broke off: {error}") from error
    except OSError as error:
        raise PlatformError(f"the snapshot cannot be written: {error.strerror or error} ({path.parent})") from error


def _prepare(connection: Connection, deadline: float) -> None:
    replies = connection.call([("REPLCONF", "capa", "eof", "capa", "psync2"), ("REPLCONF", "rdb-only", "1")], deadline)
    for reply in replies:
        if isinstance(reply, ReplyError):
            raise PlatformError(_refusal(f"-{reply}"))
    connection.send([("PSYNC", "?", "-1")], deadline)


def _refusal(head: str) -> str:
    hints = {
        "-NOPERM": "the user needs +psync and +replconf",
        "-NOMASTERLINK": "it has no link to its master",
        "-LOADING": "it is loading its data set",
        "-MASTERDOWN": "it has no link to its master",
    }
    hint = hints.get(head.split(" ", maxsplit=1)[0], "")
    return f"it refuses a snapshot: {head.removeprefix('-')[:200]}" + (f" ({hint})" if hint else "")


def _body(stream: _Stream, path: Path, told: Callable[[int], None]) -> tuple[int, str]:
    head = stream.line()
    if not head.startswith(b"$"):
        raise PlatformError(f"it sends something else than a snapshot: {head[:80]!r}")
    mark = head[5:] if head.startswith(b"$EOF:") else b""
    if mark and len(mark) != MARK:
        raise PlatformError(f"it sends a snapshot with an end mark of {len(mark)} bytes, {MARK} are usual")
    left = -1 if mark else int(head[1:])
    digest = hashlib.sha256()
    size = 0
    with path.open("wb") as file:

        def put(data: bytes) -> None:
            nonlocal size
            digest.update(data)
            file.write(data)
            size += len(data)
            told(size)

        held = b""
        while left:
            data = stream.some()
            if mark:
                held += data
                end = held.find(mark)
                if end >= 0:
                    put(held[:end])
                    break
                put(held[:-MARK])
                held = held[-MARK:]
            else:
                put(data[:left])
                left = max(left - len(data), 0)
    return size, digest.hexdigest()


class _Stream:
    """The bytes after PSYNC."""

    def __init__(self, connection: Connection, clock: Clock, deadline: float) -> None:
        self._connection = connection
        self._clock = clock
        self._deadline = deadline
        self._held = b""

    def some(self) -> bytes:
        if self._held:
            data, self._held = self._held, b""
            return data
        now = self._clock.now()
        if now >= self._deadline:
            self._connection.close()
            raise ConnectionLost("it was not finished within the timeout")
        return self._connection.some(min(self._deadline, now + SILENCE))

    def line(self) -> bytes:
        """The next line that is not empty: line feeds alone keep the connection alive."""
        data = b""
        while b"\n" not in (data := data.lstrip(b"\r\n") + self.some()).lstrip(b"\r\n"):
            pass
        line, _feed, self._held = data.lstrip(b"\r\n").partition(b"\n")
        return line.rstrip(b"\r")
