# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A load by plan: so many requests a second for so many seconds, sent when they are due and not when the last one has been answered.

A service that slows down is not asked less for it, as it would be by callers that wait; and latency counts from when a request was due.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

Addresses = Callable[[], Sequence[tuple[str, int]]]

AT_ONCE = 200  # requests under way; those that are due meanwhile wait, and their waiting counts


class Step(NamedTuple):
    """A part of the plan."""

    rate: float  # requests a second
    seconds: float


class Answer(NamedTuple):
    """One request: when it was due (monotonic), how long it took from then, and whether it was answered with a 200."""

    due: float
    took: float
    ok: bool


@dataclass
class Load:
    """Sends GET ``path`` to the addresses in turn, in a thread of its own; ``addresses`` is asked once a second, as a proxy of Services is told."""

    addresses: Addresses
    path: str
    timeout: float = 10.0
    answers: list[Answer] = field(default_factory=list)
    rate: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)

    def start(self, plan: Sequence[Step]) -> threading.Thread:
        thread = threading.Thread(target=lambda: asyncio.run(self._drive(plan)), daemon=True)
        thread.start()
        return thread

    def stop(self) -> None:
        self._stop.set()

    async def _drive(self, plan: Sequence[Step]) -> None:
        room, tasks = asyncio.Semaphore(AT_ONCE), set[asyncio.Task[None]]()
        places, asked = list(self.addresses()), time.monotonic()
        turn = itertools.count()
        for step in plan:
            self.rate, due = step.rate, time.monotonic()
            end = due + step.seconds
            while due < end and not self._stop.is_set():
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if time.monotonic() - asked >= 1:
                    asked = time.monotonic()
                    places = list(await asyncio.to_thread(self.addresses)) or places
                task = asyncio.create_task(self._one(room, places, next(turn), due))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                due += 1 / step.rate
        self.rate = 0.0
        await asyncio.gather(*tasks)

    async def _one(self, room: asyncio.Semaphore, places: Sequence[tuple[str, int]], turn: int, due: float) -> None:
        async with room:
            ok = False
            # A place that refuses the connection is passed over once: it has left since it was named.
            for attempt in range(min(2, len(places))):
                try:
                    ok = await asyncio.wait_for(self._ask(*places[(turn + attempt) % len(places)]), self.timeout)
                    break
                except ConnectionRefusedError:
                    continue
                except (OSError, TimeoutError, asyncio.IncompleteReadError):
                    break
        self.answers.append(Answer(due, time.monotonic() - due, ok))

    async def _ask(self, host: str, port: int) -> bool:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(f"GET {self.path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
            status = await reader.readline()
            await reader.read()
            return status.split(b" ")[1:2] == [b"200"]
        finally:
            writer.close()
