# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Work whose pieces need each other, done as much side by side as they allow (private: may change without notice)."""

from __future__ import annotations

import queue
import typing as t
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

Outcome = t.TypeVar("Outcome")


class Blocked(Exception):
    """A piece that was not begun because ``by``, which it needs, failed."""

    def __init__(self, by: int) -> None:
        super().__init__(f"needs {by}")
        self.by = by


def run(needs: Sequence[set[int]], work: Callable[[int], Outcome], workers: int) -> list[Outcome | Exception]:
    """Calls ``work(index)`` for every index, each as soon as all it ``needs`` have succeeded, in ``workers`` threads.

    Gives the outcome or the exception of every index. What needs a failed piece is not begun and gets Blocked; everything else
    goes on, so that one run tells all that is wrong.
    """
    outcomes: list[t.Any] = [None] * len(needs)
    missing = [len(before) for before in needs]
    dependents: list[list[int]] = [[] for _unused in needs]
    for index, before in enumerate(needs):
        for other in before:
            dependents[other].append(index)
    done: queue.SimpleQueue[tuple[int, Outcome | Exception]] = queue.SimpleQueue()

    def step(index: int) -> None:
        try:
            done.put((index, work(index)))
        except Exception as error:  # handed to whoever asked, with the outcomes of the rest
            done.put((index, error))

    with ThreadPoolExecutor(workers, thread_name_prefix="apply") as pool:
        futures: list[Future[None]] = [pool.submit(step, index) for index, count in enumerate(missing) if not count]
        open_pieces = len(needs)
        settled = [False] * len(needs)
        while open_pieces and futures:
            index, outcome = done.get()
            stack = [(index, outcome)]
            while stack:
                index, outcome = stack.pop()
                if settled[index]:
                    continue
                settled[index] = True
                outcomes[index] = outcome
                open_pieces -= 1
                for dependent in dependents[index]:
                    missing[dependent] -= 1
                    if isinstance(outcome, Exception):
                        stack.append((dependent, Blocked(index)))
                    elif not missing[dependent] and not settled[dependent]:
                        futures.append(pool.submit(step, dependent))
    return outcomes
