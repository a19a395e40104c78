# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""As many requests in flight as the API server bears (private: may change without notice).

Additive increase, multiplicative decrease, as TCP does it: every full window of good answers widens the window by one,
every 429 halves it and holds all requests back for as long as the server's Retry-After says.
"""

from __future__ import annotations

import threading

from ansible_collections.progressive.platform.plugins.module_utils._run import Clock

START = 8  # requests; more gain nothing on a server of 2 cores, fewer lose on one that is 50 ms away
LARGEST = 24  # requests; under API Priority and Fairness a single user gets a few dozen seats


class Limiter:
    """Hands out places for requests; thread-safe."""

    def __init__(self, clock: Clock, start: int = START, largest: int = LARGEST) -> None:
        self.clock = clock
        self.window = start
        self.largest = largest
        self.in_flight = 0
        self._good = 0
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

    def release(self, throttled_for: float | None = None) -> None:
        """Gives the place back; ``throttled_for`` is the pause in seconds that the server asked for with a 429."""
        with self._free:
            self.in_flight -= 1
            if throttled_for is None:
                self._good += 1
                if self._good >= self.window:
                    self._good = 0
                    self.window = min(self.window + 1, self.largest)
            else:
                now = self.clock.now()
                if now >= self._resume_at:  # a burst of 429s is one event
                    self.window = max(1, self.window // 2)
                self._good = 0
                self._resume_at = max(self._resume_at, now + throttled_for)
            self._free.notify_all()
