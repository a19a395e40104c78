# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""As many requests in flight as the API server bears (private: may change without notice).

The window opens while more requests do not make answers slower (a distant server) and stays where it is when they do (a server
that is busy). Every 429 halves it, holds all requests back for as long as the server's Retry-After says, and makes it open by
single steps from then on.
"""

from __future__ import annotations

import math
import threading

from ansible_collections.progressive.platform.plugins.module_utils._run import Clock

START = 4  # requests, enough for a server of two cores
LARGEST = 24  # requests; API Priority and Fairness gives one user a few dozen seats
SLOWER = 2.0  # times the fastest answer; a mean above it says that requests wait in the server


class Limiter:
    """Hands out places for requests; thread-safe."""

    def __init__(self, clock: Clock, start: int = START, largest: int = LARGEST) -> None:
        self.clock = clock
        self.window = start
        self.largest = largest
        self.in_flight = 0
        self._good = 0
        self._spent = 0.0
        self._fastest = math.inf
        self._careful = False
        self._resume_at = 0.0
        self._free = threading.Condition()

    def acquire(self, deadline: float) -> bool:
        """Waits for a place until ``deadline`` (the clock's seconds); False when there was none by then."""
        with self._free:
            while True:
                now = self.clock.now()
                held = self._resume_at - now
                if self.in_flight < self.window and held <= 0:
                    self.in_flight += 1
                    return True
                if now >= deadline:
                    return False
                self._free.wait(min(deadline - now, held) if held > 0 else deadline - now)

    def release(self, seconds: float, throttled_for: float | None = None) -> None:
        """Gives the place back after an answer that took ``seconds``; ``throttled_for``: the pause a 429 asked for, in seconds."""
        with self._free:
            self.in_flight -= 1
            if throttled_for is not None:
                self._throttled(throttled_for)
            else:
                self._fastest = min(self._fastest, seconds)
                self._good += 1
                self._spent += seconds
                if self._good >= self.window:
                    if self._spent / self._good <= SLOWER * self._fastest:
                        self.window = min(self.window + 1 if self._careful else 2 * self.window, self.largest)
                    self._good, self._spent = 0, 0.0
            self._free.notify_all()

    def _throttled(self, pause: float) -> None:
        now = self.clock.now()
        if now >= self._resume_at:  # a burst of 429s is one event
            self.window = max(1, self.window // 2)
            self._careful = True
        self._good, self._spent = 0, 0.0
        self._resume_at = max(self._resume_at, now + pause)
