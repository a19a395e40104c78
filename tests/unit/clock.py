# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Time for unit tests."""

from __future__ import annotations

from ansible_collections.progressive.platform.plugins.module_utils._run import Clock


class FakeClock(Clock):
    """Time that passes only when somebody sleeps."""

    def __init__(self, time: float = 0.0) -> None:
        self.time = time

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds
