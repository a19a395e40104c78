# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Carries slots with their keys from master to master while clients go on (private: may change without notice).

Every giver is a lane of its own, and all lanes go in step: one round trip opens a chunk of slots everywhere, the next reads the names of their keys, some
carry them, the last ones hand the slots over: the taker first, for it is the one whose word counts, then the giver, then the others. A server writes
nodes.conf once for all commands that it reads at once, which is why SETSLOT is never sent alone. Whatever is cut off leaves open slots, and those are
what the next run finds and finishes (S12): every step here may be repeated.
"""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Callable, Iterable, Iterator, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Act, Node, Observation, Transfer
from ansible_collections.progressive.platform.plugins.module_utils._redis.observe import parse_info, parse_nodes
from ansible_collections.progressive.platform.plugins.module_utils._redis.resp import Command, ConnectionLost, Reply, ReplyError
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock

SLICE = 1.5
"""Seconds of work after which the cluster is observed again."""
CHUNK = 128
"""Slots of one lane that are open at a time: a client that meets one is redirected by ASK."""
NAMES = 1000
"""Keys of a slot that are asked for at a time."""
BATCH_KEYS, BATCH_BYTES = 200, 4 << 20
"""What one MIGRATE carries at most; the giver serves nobody meanwhile."""
WINDOW_KEYS = (32, 2000)
"""What one round trip carries from a giver at least and at most; in between the latency bound decides."""
SMALL = 32 << 20
"""A data set of so many bytes holds no big key, so the size of each is not asked for."""
BIG = 64 << 20
"""A key of so many bytes is warned of: it goes in one piece, and both ends serve nobody meanwhile."""
SLOWEST = 8 << 20
"""Bytes a second that a big key is carried at the least: what its timeout is made from."""
ANSWER_WITHIN = 10.0
"""Seconds for a round trip, and for each MIGRATE of ordinary size."""

HEARD_WITHIN = 2.0
"""Seconds in which a taker's replicas hear what it has taken: its word goes out at once, and again with every ping, one a second."""

ANY = ""
"""Accepted in a Step: every reply, for the caller looks at it."""

Ask: t.TypeAlias = "t.Callable[[t.Mapping[str, Sequence[Command]], float], dict[str, list[Reply] | ConnectionLost]]"


@dataclasses.dataclass
class Slice:
    """What was done in one slice; ``problem`` says why it ended early, and leaves it to the next look at the cluster, unless it is a ``conflict``;
    ``busy`` says that servers move slots by themselves meanwhile."""

    slots: int = 0
    keys: int = 0
    problem: str = ""
    conflict: bool = False
    busy: bool = False
    warnings: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Journey:
    """A whole move, of many slices: what a person is told of it. ``failing`` is the problem of the last slice and since when it is that one."""

    state: str
    slots_in_all: int
    keys_in_all: int
    began: float
    slots: int = 0
    keys: int = 0
    failing: tuple[str, float] = ("", 0.0)

    @classmethod
    def of(cls, decision: Act, now: float) -> Journey:
        in_all = sum(slots.size(transfer.slots) for transfer in decision.transfers)
        return cls(decision.state, in_all, sum(transfer.keys for transfer in decision.transfers), now)

    def text(self, now: float) -> str:
        took = max(now - self.began, 0.001)
        left = took * max(self.slots_in_all - self.slots, 0) / self.slots if self.slots else 0.0
        return (
            f"moving slots: {self.slots} of {self.slots_in_all}, {self.keys} of about {max(self.keys_in_all, self.keys)} keys, "
            f"{self.keys / took:.0f} keys/s, about {left:.0f} s left"
        )


class Halt(Exception):
    """Something is not as it was observed: the slice ends here."""


class Conflict(Halt):
    """A key has two values, and nobody has said which one stays."""


@dataclasses.dataclass(eq=False)
class Lane:
    """One giver with the slots that are in hand, and the keys of each that are still to go (sizes where they were asked for)."""

    transfer: Transfer
    giver: Node
    taker: Node
    chunk: list[int]
    keys: dict[int, list[str]] = dataclasses.field(default_factory=dict)
    left: dict[int, int] = dataclasses.field(default_factory=dict)
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)


class Step(t.NamedTuple):
    """A command for a node by name, and the error reply that is no error: one that holds this text. None: every error is one."""

    node: str
    command: Command
    accepted: str | None = None


class Mover:
    """Moves for one run. ``login`` is what a giver logs in to a taker with: the words AUTH or AUTH2 and what follows, or nothing; ``brace`` is called
    before a big key keeps its giver and taker busy for at most so many seconds."""

    def __init__(
        self, ask: Ask, clock: Clock, login: Sequence[str], on_conflict: str, latency: float, brace: Callable[[float], None]
    ) -> None:
        self._ask = ask
        self._brace = brace
        self._clock = clock
        self.login = tuple(login)
        self._on_conflict = on_conflict
        self._latency = latency
        self._window: dict[str, int] = {}
        self._nodes: dict[str, Node] = {}
        self._settled: set[str] = set()
        self._slice = Slice()

    def advance(self, transfers: Iterable[Transfer], observation: Observation, seconds: float = SLICE) -> Slice:
        """Move slots for about so long, and leave none of them open; a problem ends it early."""
        self._slice = Slice()
        self._nodes = {node.name: node for node in observation.live}
        self._settled = {node.name for node in observation.live if node.slots}
        until = self._clock.now() + seconds
        try:
            queues = self._queues(transfers)
            self._copy_functions(transfers)
            carried: list[Lane] = []
            while True:
                lanes = [self._next(queue) for queue in queues.values() if queue] if self._clock.now() < until else []
                if not lanes and not carried:
                    break
                self._turn(carried, lanes)
                self._slice.slots += sum(len(lane.chunk) for lane in carried)
                self._settled |= {lane.taker.name for lane in carried}
                while any(lane.keys for lane in lanes):
                    self._carry(lanes)
                carried = lanes
        except Halt as halt:
            self._slice.problem = str(halt)
            self._slice.conflict = isinstance(halt, Conflict)
        return self._slice

    def _queues(self, transfers: Iterable[Transfer]) -> dict[str, list[tuple[Transfer, list[int]]]]:
        """By giver: one at a time, because MIGRATE keeps it busy anyway."""
        queues: dict[str, list[tuple[Transfer, list[int]]]] = {}
        for transfer in transfers:
            if {transfer.giver, transfer.taker} <= set(self._nodes):
                queues.setdefault(transfer.giver, []).append((transfer, slots.numbers(transfer.slots)))
        return queues

    def _next(self, queue: list[tuple[Transfer, list[int]]]) -> Lane:
        """The giver's next slots; only one for a taker that has none yet: nobody is elected for a master without slots, and its keys would die with it."""
        transfer, numbers = queue[0]
        count = CHUNK if transfer.taker in self._settled else 1
        chunk, rest = numbers[:count], numbers[count:]
        queue[:1] = [(transfer, rest)] if rest else []
        return Lane(transfer, self._nodes[transfer.giver], self._nodes[transfer.taker], chunk)

    # ---- handing over and opening ----------------------------------------------------------------------------------------------------------------

    def _turn(self, carried: Sequence[Lane], lanes: Sequence[Lane]) -> None:
        """Hand over the slots whose keys have been carried and open the next ones.

        The takers come first, both times: a giver that lets go before the taker holds would leave the slot to nobody, and one that migrates to a node that
        does not import would send clients astray. Whoever else is a master hears of it with the givers.
        """
        steps = [
            Step(lane.taker.name, _setslot(slot, "IMPORTING", lane.giver.id), "already the owner")
            for lane in _warm(lanes)
            for slot in lane.chunk
        ]
        taken: dict[str, list[int]] = {}
        for lane in _warm(carried):
            taken.setdefault(lane.taker.name, []).extend(lane.chunk)
        for name, numbers in taken.items():
            taker = self._nodes[name]
            self._each([*steps, *(Step(name, _setslot(slot, "NODE", taker.id)) for slot in numbers)])
            self._until_heard(taker, slots.mask((slot, slot) for slot in numbers), [self._nodes[other] for other in taken if other != name])
            steps = []
        self._each(steps)
        steps = []
        for lane in _warm(carried):
            for node in self._nodes.values():
                if node is lane.giver or (not node.master and node is not lane.taker and node.knows(lane.taker.id)):
                    # Who has become a replica meanwhile refuses, and needs no telling.
                    steps += [Step(node.name, _setslot(slot, "NODE", lane.taker.id), "SETSLOT only with masters") for slot in lane.chunk]
        steps += [Step(lane.giver.name, _setslot(slot, "STABLE")) for lane in carried if lane.transfer.cold for slot in lane.chunk]
        steps += [
            Step(lane.giver.name, _setslot(slot, "MIGRATING", lane.taker.id), "not the owner")
            for lane in _warm(lanes)
            for slot in lane.chunk
        ]
        self._name([(lane, slot) for lane in lanes for slot in lane.chunk], steps)

    def _until_heard(self, taker: Node, taken: int, others: Iterable[Node]) -> None:
        """Wait until the taker's replicas have its keys, and they and the other takers know what it owns, and by which epoch.

        A replica claims what it knows its master to own, nobody is elected for a master that owns nothing as far as its replica knows, and no SETSLOT can
        tell it (a replica refuses). A taker gives itself a new epoch, the highest it knows plus one, without asking anybody: two that do so at once have the
        same, and one of them takes another; whoever is elected before that is heard of has an epoch that the failed master beats when it comes back, empty
        as it may be. A new replica is sent nothing before its first acknowledgement, a second after its copy.
        """
        listeners = [*others, *(node for node in self._nodes.values() if node.master == taker.id)]
        until = self._clock.now() + HEARD_WITHIN
        wanted = -1
        while listeners:
            asked = (taker, *listeners)
            replies = self._each(
                [Step(node.name, command) for node in asked for command in (("CLUSTER", "NODES"), ("INFO", "replication"))]
            )
            own, *views = [parse_nodes(str(reply)).get(taker.id) for reply in replies[::2]]
            offsets = [_offset(str(reply)) for reply in replies[1::2]]
            wanted = offsets[0] if wanted < 0 else wanted
            listeners = [
                node
                for node, seen, offset in zip(listeners, views, offsets[1:], strict=True)
                if not own or not seen or taken & ~seen.slots or seen.epoch != own.epoch or (node.master == taker.id and offset < wanted)
            ]
            if listeners and self._clock.now() >= until:
                names = ", ".join(node.name for node in listeners)
                raise Halt(f"{names} did not learn within {HEARD_WITHIN:g} s what {taker.name} has taken: a failover now could lose it")
            if listeners:
                self._clock.sleep(0.002)

    def _name(self, pairs: Sequence[tuple[Lane, int]], before: Sequence[Step] = ()) -> None:
        """The keys of these slots, or the first of them; a slot that migrates gets no new ones."""
        questions = [Step(lane.giver.name, ("CLUSTER", "GETKEYSINSLOT", str(slot), str(NAMES))) for lane, slot in pairs]
        replies = self._each([*before, *questions])[len(before) :]
        for (lane, slot), reply in zip(pairs, replies, strict=True):
            names = t.cast(list[str], reply)
            if names:
                lane.keys[slot] = names
        self._weigh([lane for lane in dict.fromkeys(lane for lane, _slot in pairs) if lane.giver.dataset > SMALL])

    def _weigh(self, lanes: Sequence[Lane]) -> None:
        pairs = [(lane, key) for lane in lanes for keys in lane.keys.values() for key in keys if key not in lane.sizes]
        replies = self._each([Step(lane.giver.name, ("MEMORY", "USAGE", key)) for lane, key in pairs])
        for (lane, key), reply in zip(pairs, replies, strict=True):
            lane.sizes[key] = reply if isinstance(reply, int) else 0
            if lane.sizes[key] >= BIG:
                self._slice.warnings.append(
                    f"key {key[:60]!r} of about {lane.sizes[key] >> 20} MB moves from {lane.giver.name} to {lane.taker.name} in one piece: "
                    "both serve nobody meanwhile"
                )

    # ---- carrying --------------------------------------------------------------------------------------------------------------------------------

    def _carry(self, lanes: Sequence[Lane]) -> None:
        """One window of every lane side by side. A slot whose known keys have gone is counted: what is left of it is asked for and goes next."""
        batches = [(lane, slot, keys) for lane in lanes for slot, keys in self._take(lane)]
        emptied = [(lane, slot) for lane, slot in dict.fromkeys((lane, slot) for lane, slot, _keys in batches) if slot not in lane.keys]
        patience = dict.fromkeys(lanes, 0.0)
        # The giver's own clock before and after: a slow way to it, or a busy machine here, keeps no client waiting.
        steps = [Step(lane.giver.name, ("TIME",), ANY) for lane in lanes]
        for lane, _slot, keys in batches:
            timeout = max(ANSWER_WITHIN, sum(lane.sizes.get(key, 0) for key in keys) / SLOWEST)
            patience[lane] += timeout - ANSWER_WITHIN
            steps.append(Step(lane.giver.name, self._migrate(lane, keys, timeout), ANY))
        steps += [Step(lane.giver.name, ("CLUSTER", "COUNTKEYSINSLOT", str(slot))) for lane, slot in emptied]
        steps += [Step(lane.giver.name, ("TIME",), ANY) for lane in lanes]
        longest = max(patience.values())
        if longest:
            self._brace(ANSWER_WITHIN + longest)
        replies = self._each(steps, ANSWER_WITHIN + longest)
        before, replies, after = replies[: len(lanes)], replies[len(lanes) : -len(lanes)], replies[-len(lanes) :]
        for lane, one, other in zip(lanes, before, after, strict=True):
            self._adapt(lane, sum(len(keys) for mine, _slot, keys in batches if mine is lane), _between(one, other))
        for (lane, slot, keys), reply in zip(batches, replies, strict=False):
            if isinstance(reply, ReplyError):
                self._failed(lane, slot, keys, reply)
            self._slice.keys += len(keys)
        rest = [(lane, slot, t.cast(int, count)) for (lane, slot), count in zip(emptied, replies[len(batches) :], strict=True) if count]
        for lane, slot, count in rest:
            if count >= lane.left.get(slot, count + 1):
                raise Halt(f"{count} keys of slot {slot} stay on {lane.giver.name} although {lane.taker.name} has taken them")
            lane.left[slot] = count
        if rest:
            self._name([(lane, slot) for lane, slot, _count in rest])

    def _take(self, lane: Lane) -> Iterator[tuple[int, list[str]]]:
        """Batches of one slot each, by count and by bytes, as many as the lane's window holds."""
        left = self._window.get(lane.giver.name, BATCH_KEYS)
        room = BATCH_BYTES
        while left > 0 and room > 0 and (slot := next(iter(lane.keys), -1)) >= 0:
            keys = lane.keys.pop(slot)
            count = size = 0
            while count < min(len(keys), left, BATCH_KEYS) and (not count or size + lane.sizes.get(keys[count], 0) <= room):
                size += lane.sizes.get(keys[count], 0)
                count += 1
            if count < len(keys):
                lane.keys[slot] = keys[count:]
            left -= count
            room -= size
            yield slot, keys[:count]

    def _adapt(self, lane: Lane, carried: int, took: float) -> None:
        """A server works off all that it has read before it serves anybody else: a window takes no longer than the latency bound."""
        name = lane.giver.name
        window = self._window.get(name, BATCH_KEYS)
        if took > self._latency:
            self._window[name] = max(window // 2, WINDOW_KEYS[0])
        elif took < self._latency / 2 and carried >= window // 2:
            self._window[name] = min(window * 2, WINDOW_KEYS[1])

    def _migrate(self, lane: Lane, keys: Sequence[str], timeout: float, *options: str) -> Command:
        seen = lane.giver.entries.get(lane.taker.id)
        host, port = (seen.host, seen.port) if seen and seen.host else (lane.taker.target.host, lane.taker.target.port)
        milliseconds = str(int(timeout * 1000))
        return ("MIGRATE", host, str(port), "", "0", milliseconds, *options, *self.login, "KEYS", *keys)

    def _failed(self, lane: Lane, slot: int, keys: list[str], reply: ReplyError) -> None:
        if "BUSYKEY" not in reply:
            raise Halt(f"{lane.giver.name} cannot move keys of slot {slot} to {lane.taker.name}: {reply}")
        self._resolve(lane, slot, keys)

    def _resolve(self, lane: Lane, slot: int, keys: Sequence[str]) -> None:
        """Keys that are on both ends. A copy that a cut off MIGRATE left is the same and may be replaced; of two values the option chooses, or nobody."""
        here, there = (
            self._each([Step(name, command, ANY) for key in keys for command in (("ASKING",), ("DUMP", key))])[1::2]
            for name in (lane.giver.name, lane.taker.name)
        )
        both = {key: one == other for key, one, other in zip(keys, here, there, strict=True) if _is_there(one) and _is_there(other)}
        differing = [key for key, same in both.items() if not same]
        winner = lane.taker if (self._on_conflict == "importer") != lane.transfer.cold else lane.giver
        if differing and self._on_conflict == "refuse":
            owner = lane.taker if lane.transfer.cold else lane.giver
            raise Conflict(
                f"Slot {slot} is open, and {len(differing)} of its keys are with different values on {lane.giver.name} ({lane.giver.id}) and "
                f"{lane.taker.name} ({lane.taker.id}), the first {differing[0][:60]!r}. {owner.name} owns the slot: on_conflict: owner keeps its values, "
                "on_conflict: importer those of the other node."
            )
        dropped = differing if winner is lane.taker else []
        self._each([Step(lane.giver.name, command) for key in dropped for command in (("ASKING",), ("UNLINK", key))])
        replaced = [key for key in both if key not in dropped]
        if replaced:
            replies = self._each([Step(lane.giver.name, self._migrate(lane, replaced, ANSWER_WITHIN, "REPLACE"), ANY)])
            if isinstance(replies[0], ReplyError):
                raise Halt(f"{lane.giver.name} cannot move keys of slot {slot} to {lane.taker.name}: {replies[0]}")

    def _copy_functions(self, transfers: Iterable[Transfer]) -> None:
        """A new master has the same functions before its first slot."""
        for taker, giver in {transfer.taker: transfer.giver for transfer in transfers}.items():
            if taker in self._nodes and giver in self._nodes and self._nodes[giver].functions and not self._nodes[taker].functions:
                dump = self._each([Step(giver, ("FUNCTION", "DUMP"))])[0]
                self._each([Step(taker, ("FUNCTION", "RESTORE", t.cast(str, dump)))])

    def _each(self, steps: Sequence[Step], within: float = ANSWER_WITHIN) -> list[Reply]:
        """One round trip, each node's steps as one pipeline; the replies in the order of the steps. An error that is not accepted ends the slice."""
        pipelines: dict[str, list[Command]] = {}
        for step in steps:
            pipelines.setdefault(step.node, []).append(step.command)
        answers = self._ask(pipelines, within) if pipelines else {}
        replies: list[Reply] = []
        rest: dict[str, Iterator[Reply]] = {}
        for name, answer in answers.items():
            if isinstance(answer, ConnectionLost):
                raise Halt(f"{name} was lost while slots were moved: {answer}")
            rest[name] = iter(answer)
        for step in steps:
            reply = next(rest[step.node])
            if isinstance(reply, ReplyError) and (step.accepted is None or step.accepted not in reply):
                raise Halt(f"{step.node} answers {' '.join(step.command[:4])} with {reply}")
            replies.append(reply)
        return replies


def _between(one: Reply, other: Reply) -> float:
    """Seconds between two answers to TIME; 0 when the server does not say."""
    if not isinstance(one, list) or not isinstance(other, list):
        return 0.0
    seconds, micros = (int(str(b)) - int(str(a)) for a, b in zip(one, other, strict=True))
    return seconds + micros / 1e6


def _offset(info: str) -> int:
    """What a master has sent, or a replica has taken, of the replication stream, in bytes."""
    said = parse_info(info)
    return int(said.get("slave_repl_offset") or said.get("master_repl_offset") or 0)


def _is_there(dump: Reply) -> bool:
    """A node that migrates the slot answers ASK for a key that it has not."""
    if isinstance(dump, ReplyError) and dump.code != "ASK":
        raise Halt(f"keys cannot be compared: {dump}")
    return dump is not None and not isinstance(dump, ReplyError)


def _warm(lanes: Iterable[Lane]) -> list[Lane]:
    return [lane for lane in lanes if not lane.transfer.cold]


def _setslot(slot: int, verb: str, *other: str) -> Command:
    return ("CLUSTER", "SETSLOT", str(slot), verb, *other)
