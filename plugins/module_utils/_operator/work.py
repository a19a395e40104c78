# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Work that is named and not described: a name that is added twice is done once (private: may change without notice).

What is added while its name is being worked on is done again afterwards, so nothing that happened is forgotten and nothing is done by two
at once. What fails comes back after a pause that doubles.
"""

from __future__ import annotations

import threading
import typing as t
from collections.abc import Hashable

from ansible_collections.progressive.platform.plugins.module_utils._run import Clock

Key = t.TypeVar("Key", bound=Hashable)

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds after a failure


class Queue(t.Generic[Key]):
    """Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._due: dict[Key, float] = {}
        self._busy: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._changed = threading.Condition()
        self.closed = False

    def __len__(self) -> int:
        return len(self._due) + len(self._busy)

    def add(self, key: Key, after: float = 0.0) -> None:
        """Wants ``key`` to be worked on, ``after`` seconds from now at the latest."""
        with self._changed:
            due = self.clock.now() + after
            self._due[key] = min(due, self._due.get(key, due))
            self._changed.notify_all()

    def take(self, most: int, timeout: float) -> list[Key]:
        """The keys that are due and nobody works on, the oldest first; waits up to ``timeout`` seconds for one. Give each to ``done``."""
        deadline = self.clock.now() + timeout
        with self._changed:
            while not self.closed:
                now = self.clock.now()
                free = sorted((due, number, key) for number, (key, due) in enumerate(self._due.items()) if key not in self._busy)
                ready = [key for due, _number, key in free if due <= now][:most]
                if ready or now >= deadline:
                    for key in ready:
                        del self._due[key]
                    self._busy |= set(ready)
                    return ready
                self._changed.wait(max(0.0, min([deadline, *(due for due, _number, _key in free[:1])]) - now))
            return []

    def done(self, key: Key, failed: bool = False) -> None:
        """The key's work is over; one that failed is due again after a pause."""
        with self._changed:
            self._busy.discard(key)
            if failed:
                times = self._failures[key] = self._failures.get(key, 0) + 1
                due = self.clock.now() + min(FIRST_PAUSE * 2.0 ** (times - 1), LONGEST_PAUSE)
                self._due[key] = min(due, self._due.get(key, due))
            else:
                self._failures.pop(key, None)
            self._changed.notify_all()

    def forget(self, key: Key) -> None:
        """Nothing is wanted of this key any more."""
        with self._changed:
            self._due.pop(key, None)
            self._failures.pop(key, None)

    def close(self) -> None:
        """Whoever waits gets nothing, now and later."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()
