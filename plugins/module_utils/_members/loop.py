# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Observe, do the first thing that is to be done, observe again, until nothing is left (private: may change without notice)."""

from __future__ import annotations

import abc
import contextlib
import typing as t
from collections.abc import Iterator, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._members.model import Marker, Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._members.store import LOCK_WITHIN, Store
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError, Result

Seen = t.TypeVar("Seen")
Step = t.TypeVar("Step")


class Loop(abc.ABC, t.Generic[Seen, Step]):
    """One run: from what is there to what is wanted, or to the reason why not.

    ``Seen`` is an observation of all members, ``Step`` a decision of the component's planner, among them Wait and Refuse. A component says how it looks,
    what it finds, and how it acts; ``timeout`` is in seconds. Only a run that finds something to do takes the lock.
    """

    component: t.ClassVar[str]
    poll: t.ClassVar[tuple[float, float, float]]
    """Seconds between two looks while nothing is sent: at first, the factor they grow by, at most."""

    def __init__(self, store: Store, timeout: float, context: Context) -> None:
        self.store = store
        self.timeout = timeout
        self.context = context
        self.clock = context.clock
        self.deadline = self.clock.now() + timeout
        self.marker: Marker | None = None
        self.steps: list[Step] = []
        self.since: dict[str, float] = {}
        self.told = ""

    @abc.abstractmethod
    def observe(self) -> Seen: ...

    @abc.abstractmethod
    def found(self, seen: Seen, ages: dict[str, float]) -> Sequence[Step]:
        """What every stage of the planner has to say; ``ages`` are the seconds for which a key has been timed."""

    @abc.abstractmethod
    def act(self, decision: t.Any, observation: Seen) -> bool:
        """Do it; False when it is to be looked at again a moment later."""

    @abc.abstractmethod
    def check_time(self, decision: t.Any, observation: Seen) -> None:
        """Raises when the time is up."""

    @abc.abstractmethod
    def error(self, text: str, observation: Seen, decision: t.Any) -> PlatformError: ...

    @abc.abstractmethod
    def remembered(self, seen: Seen) -> tuple[Marker, Step] | None:
        """What the marker ought to hold of a cluster that is as wanted, and the step that says so."""

    @abc.abstractmethod
    def foreseen(self, seen: Seen) -> Result:
        """Check mode: the whole plan."""

    @abc.abstractmethod
    def result(self, before: Seen, after: Seen, steps: Sequence[Step]) -> Result: ...

    def timed(self, found: Sequence[Step]) -> set[str]:
        """Keys whose ages count: those of every Wait that any stage has, so that its patience runs from when it was first seen."""
        return {step.key for step in found if isinstance(step, Wait)}

    def pause(self, _step: Step, seconds: float) -> float:
        """How long to wait before the next look."""
        return seconds

    def run(self) -> Result:
        self.marker = self.store.read()
        before = after = self.observe()
        if self.context.check:
            return self.foreseen(before)
        if self.found(before, {}):
            with self.store.lock(min(LOCK_WITHIN, self.timeout)):
                self.marker = self.store.read()
                after = self.until_done()
        news = self.remembered(after)
        if news is not None and news[0] != self.marker:
            self.store.write(news[0])
            self.steps.append(news[1])
        return self.result(before, after, self.steps)

    def until_done(self) -> Seen:
        first, growth, last = self.poll
        seconds = first
        while True:
            self.store.renew()
            seen = self.observe()
            step = self._first(seen)
            if step is None:
                self.tell("healthy", done=True)
                return seen
            if isinstance(step, Refuse):
                raise self.error(step.reason, seen, step)
            self.tell(t.cast(t.Any, step).reason)
            self.check_time(step, seen)
            if not isinstance(step, Wait) and self.act(step, seen):
                seconds = first
                continue
            self.clock.sleep(self.pause(step, seconds))
            seconds = min(seconds * growth, last)

    def _first(self, seen: Seen) -> Step | None:
        """The first finding decides."""
        now = self.clock.now()
        found = self.found(seen, {key: now - since for key, since in self.since.items()})
        self.since = {key: self.since.get(key, now) for key in self.timed(found)}
        return found[0] if found else None

    def tell(self, reason: str, done: bool = False) -> None:
        """Progress, each reason once."""
        if reason != self.told:
            self.told = reason
            self.context.progress.report(self.component, reason, done)


@contextlib.contextmanager
def noted(errors: list[str]) -> Iterator[None]:
    """For those that only look: a failure is one of the errors."""
    try:
        yield
    except PlatformError as error:
        errors.append(error.message)
