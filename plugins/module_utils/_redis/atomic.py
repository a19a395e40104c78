# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Slots moved by the servers themselves, whole and at once, where they can (private: may change without notice).

Valkey 9 is asked at the giver (CLUSTER MIGRATESLOTS, GETSLOTMIGRATIONS, CANCELSLOTMIGRATIONS), Redis 8.4 at the taker (CLUSTER MIGRATION IMPORT, STATUS,
CANCEL). Which of them a server has is asked of the server (COMMAND INFO) and not told by its version. A job lives in the servers: one that a killed run
began goes on, and is waited for by the next.
"""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Iterable, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Node, Observation, Transfer
from ansible_collections.progressive.platform.plugins.module_utils._redis.mover import SLICE, Ask, Halt, Slice
from ansible_collections.progressive.platform.plugins.module_utils._redis.resp import Command, ConnectionLost, Reply, ReplyError
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock

AT_ONCE = 400
"""Slots of one job: its giver keeps what is written meanwhile in memory."""
STALLED = 300.0
"""Seconds for which a job may show no change at all before it is cancelled."""
POLL = 0.1
ANSWER_WITHIN = 10.0
SUCCEEDED = frozenset({"success", "completed"})
FAILED = frozenset({"failed", "cancelled", "canceled"})


@dataclasses.dataclass(frozen=True)
class Job:
    """One line of a server's account of its jobs; ``fields`` is all it says, so that a job that gets on is told from one that does not."""

    id: str
    operation: str
    slots: int
    state: str
    message: str
    fields: tuple[str, ...] = ()

    @property
    def active(self) -> bool:
        return self.state not in SUCCEEDED | FAILED


@dataclasses.dataclass(frozen=True)
class Kind:
    """What is asked of whom. ``own`` is what the account calls the jobs of the end that is asked."""

    command: str
    at_giver: bool
    own: frozenset[str]
    status: Command

    def begin(self, chosen: int, taker: Node) -> Command:
        bounds = [str(bound) for pair in slots.ranges(chosen) for bound in pair]
        if self.at_giver:
            return ("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", *bounds, "NODE", taker.id)
        return ("CLUSTER", "MIGRATION", "IMPORT", *bounds)

    def cancel(self, job: Job) -> Command:
        return ("CLUSTER", "CANCELSLOTMIGRATIONS") if self.at_giver else ("CLUSTER", "MIGRATION", "CANCEL", "ID", job.id)


KINDS = (
    Kind("cluster|migrateslots", True, frozenset({"export"}), ("CLUSTER", "GETSLOTMIGRATIONS")),
    Kind("cluster|migration", False, frozenset({"import", "importing"}), ("CLUSTER", "MIGRATION", "STATUS", "ALL")),
)


@dataclasses.dataclass(frozen=True)
class Begun:
    """Slots of a job that this slice began, and the jobs that were there before it: a server keeps account of old ones too."""

    slots: int
    before: frozenset[str]


class Atomic:
    """Moves for one run, where all nodes of a move can."""

    def __init__(self, ask: Ask, clock: Clock) -> None:
        self._ask = ask
        self._clock = clock
        self._kinds: dict[str, Kind | None] = {}
        self._seen: dict[tuple[str, str], tuple[tuple[str, ...], float]] = {}

    def able(self, transfers: Sequence[Transfer]) -> bool:
        """Whether every node of these transfers has the same kind of command; asked once a node."""
        names = {name for transfer in transfers for name in (transfer.giver, transfer.taker)}
        unknown = [name for name in names if name not in self._kinds]
        question: Command = ("COMMAND", "INFO", *(kind.command for kind in KINDS))
        for name, replies in self._ask({name: [question] for name in unknown}, ANSWER_WITHIN).items() if unknown else ():
            answer = replies if isinstance(replies, ConnectionLost) else replies[0]
            has = answer if isinstance(answer, list) else []
            self._kinds[name] = next((kind for kind, found in zip(KINDS, has, strict=False) if found), None)
        kinds = {self._kinds.get(name) for name in names}
        return len(kinds) == 1 and None not in kinds and not any(transfer.cold for transfer in transfers)

    def advance(self, transfers: Iterable[Transfer], observation: Observation, seconds: float = SLICE) -> Slice:
        """Have a job running for every pair, for about so long; jobs that are not done by then go on by themselves."""
        result = Slice()
        nodes = {node.name: node for node in observation.live}
        waiting = [transfer for transfer in transfers if {transfer.giver, transfer.taker} <= set(nodes)]
        until = self._clock.now() + seconds
        done: dict[Transfer, int] = {}
        begun: dict[Transfer, Begun] = {}
        try:
            while waiting:
                waiting = [transfer for transfer in waiting if self._step(transfer, nodes, begun, done, self._clock.now() < until)]
                if self._clock.now() >= until:
                    break
                self._clock.sleep(POLL)
        except Halt as halt:
            result.problem = str(halt)
        result.slots = sum(slots.size(moved) for moved in done.values())
        result.busy = bool(waiting) and not result.problem
        return result

    def _step(
        self, transfer: Transfer, nodes: t.Mapping[str, Node], begun: dict[Transfer, Begun], done: dict[Transfer, int], early: bool
    ) -> bool:
        """Look at what became of the pair's job, and begin the next; False when all of its slots have moved."""
        kind = t.cast(Kind, self._kinds[transfer.giver])
        where = transfer.giver if kind.at_giver else transfer.taker
        jobs = self._jobs(where, kind)
        there = self._jobs(transfer.taker if kind.at_giver else transfer.giver, kind)
        self._watch(where, kind, [job for job in jobs if job.active and job.operation in kind.own])
        mine = begun.get(transfer)
        if any(job.active for job in (*jobs, *there)):  # one job a node at a time, whichever end of it the node is
            if mine is None and any(job.active and job.slots & transfer.slots for job in (*jobs, *there)):
                begun[transfer] = Begun(0, frozenset())
            return True
        if mine is not None and not mine.slots:  # a killed run's job has ended, so the slots are not where they were observed
            return False
        if mine is not None:
            last = next((job for job in jobs if job.slots == mine.slots and job.id not in mine.before), None)
            if last is not None and last.state in FAILED:
                raise Halt(f"{where} could not move slots {slots.text(last.slots)} ({last.state}): {last.message or 'it does not say why'}")
            done[transfer] = done.get(transfer, 0) | mine.slots
            del begun[transfer]
        chosen = slots.first(transfer.slots & ~done.get(transfer, 0), AT_ONCE)
        if chosen and early:
            begun[transfer] = Begun(chosen, frozenset(job.id for job in jobs))
            reply = self._one(where, kind.begin(chosen, nodes[transfer.taker]))
            if isinstance(reply, (ReplyError, ConnectionLost)):
                raise Halt(f"{where} does not begin to move slots {slots.text(chosen)}: {reply}")
        return bool(chosen)

    def _jobs(self, where: str, kind: Kind) -> list[Job]:
        reply = self._one(where, kind.status)
        if not isinstance(reply, list):
            raise Halt(f"{where} does not say what became of its slot migrations: {reply}")
        return [parse_job(job) for job in reply]

    def _watch(self, where: str, kind: Kind, jobs: Iterable[Job]) -> None:
        """Cancel what does not get on: the taker may be gone, and the giver would hold its memory for ever."""
        now = self._clock.now()
        for job in jobs:
            fields, since = self._seen.get((where, job.id), ((), now))
            since = since if fields == job.fields else now
            self._seen[where, job.id] = (job.fields, since)
            if now - since > STALLED:
                self._one(where, kind.cancel(job))
                raise Halt(
                    f"the migration of slots {slots.text(job.slots)} at {where} showed no change for {STALLED:.0f} s and was cancelled ({job.state})"
                )

    def _one(self, where: str, command: Command) -> Reply | ConnectionLost:
        answer = self._ask({where: [command]}, ANSWER_WITHIN)[where]
        return answer if isinstance(answer, ConnectionLost) else answer[0]


def parse_job(reply: Reply) -> Job:
    """One item of a status reply: field, value, field, value."""
    words = [str(word) for word in reply] if isinstance(reply, list) else []
    said = dict(zip(words[::2], words[1::2], strict=False))
    ranges = said.get("slot_ranges") or said.get("slots") or ""
    bounds = [part.partition("-") for part in ranges.replace(",", " ").split()]
    chosen = slots.mask((int(low), int(high or low)) for low, _dash, high in bounds)
    message = said.get("message") or said.get("last_error") or ""
    return Job(
        said.get("name") or said.get("id") or "", said.get("operation", "").lower(), chosen, said.get("state", ""), message, tuple(words)
    )
