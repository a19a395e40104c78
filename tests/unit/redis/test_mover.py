# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The mover's arithmetic, with servers made of data: batches, windows, what is said of it."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping, Sequence

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._members.model import FOREVER, Wait
from ansible_collections.progressive.platform.plugins.module_utils._redis import mover as mover_module
from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.atomic import parse_job
from ansible_collections.progressive.platform.plugins.module_utils._redis.converge import Convergence
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Act, Desired, Observation, Transfer
from ansible_collections.progressive.platform.plugins.module_utils._redis.mover import (
    BATCH_BYTES,
    BATCH_KEYS,
    WINDOW_KEYS,
    Journey,
    Mover,
    Slice,
)
from ansible_collections.progressive.platform.plugins.module_utils._redis.resp import Command, ReplyError
from ansible_collections.progressive.platform.plugins.module_utils._run import Context
from ansible_collections.progressive.platform.tests.unit.clock import FakeClock
from ansible_collections.progressive.platform.tests.unit.redis.views import change, healthy

MB = 1 << 20


class Servers:
    """Keys of redis-0 by slot, with their sizes; a MIGRATE takes ``pace`` seconds a key. ``sent`` are all commands in order, by node."""

    def __init__(self, clock: FakeClock, keys: Mapping[int, Mapping[str, int]], pace: float = 0.0) -> None:
        self.keys = {slot: dict(sizes) for slot, sizes in keys.items()}
        self.clock = clock
        self.pace = pace
        self.sent: list[tuple[str, Command]] = []
        self.refused: dict[str, str] = {}
        self.rounds: list[int] = []
        self.heard: dict[str, int] = {}
        self.given = self.taken = 7
        self.deaf = 0
        """How often redis-1's replica is asked before it knows what its master has taken."""

    def ask(self, commands: Mapping[str, Sequence[Command]], within: float) -> dict[str, t.Any]:
        answers = {name: [self.answer(name, command) for command in pipeline] for name, pipeline in commands.items()}
        carried = sum(len(command[command.index("KEYS") + 1 :]) for one in commands.values() for command in one if command[0] == "MIGRATE")
        if carried:
            self.rounds.append(carried)
        return answers

    def answer(self, name: str, command: Command) -> t.Any:
        self.sent.append((name, command))
        match command:
            case ("CLUSTER", "GETKEYSINSLOT", slot, count):
                return list(self.keys.get(int(slot), {}))[: int(count)]
            case ("CLUSTER", "COUNTKEYSINSLOT", slot):
                return len(self.keys.get(int(slot), {}))
            case ("CLUSTER", "SETSLOT", slot, "NODE", owner):
                self.heard[owner] = self.heard.get(owner, 0) | slots.mask([(int(slot), int(slot))])
            case ("CLUSTER", "NODES"):
                self.deaf -= name == "redis-3"
                known = {} if name == "redis-3" and self.deaf >= 0 else self.heard
                return "\n".join(
                    f"{owner} 10.0.0.2:6379@16379 master - 0 0 1 connected " + slots.text(it).replace(",", " ")
                    for owner, it in known.items()
                )
            case ("INFO", "replication"):
                return f"slave_repl_offset:{self.taken}" if name == "redis-3" else f"master_repl_offset:{self.given}"
            case ("MEMORY", "USAGE", key):
                return next(sizes[key] for sizes in self.keys.values() if key in sizes)
            case ("TIME",):
                return [str(int(self.clock.time)), str(int(self.clock.time % 1 * 1e6))]
            case ("MIGRATE", *_words):
                moving = command[command.index("KEYS") + 1 :]
                if refusal := self.refused.get(moving[0]):
                    return ReplyError(refusal)
                self.clock.time += len(moving) * self.pace
                for sizes in self.keys.values():
                    for key in moving:
                        sizes.pop(key, None)
                return "OK"
        return "OK"

    def migrations(self) -> list[Command]:
        return [command for _name, command in self.sent if command[0] == "MIGRATE"]


def move(servers: Servers, numbers: Sequence[int], dataset: int = 0, latency: float = 0.05) -> tuple[Slice, list[float]]:
    """From redis-0 to redis-1, with the time for which the cluster was braced."""
    observation: Observation = change(healthy(), 0, dataset=dataset)
    braced: list[float] = []
    mover = Mover(servers.ask, servers.clock, ("AUTH", "secret"), "refuse", latency, braced.append)
    chosen = slots.mask((slot, slot) for slot in numbers)
    return mover.advance([Transfer("redis-0", "redis-1", chosen)], observation, 1000.0), braced


def test_an_empty_slot_needs_no_migrate_and_the_taker_is_told_first() -> None:
    servers = Servers(FakeClock(), {})
    done, _braced = move(servers, [5])
    assert (done.slots, done.keys, done.problem) == (1, 0, "")
    words = [(name, command[3] if command[1] == "SETSLOT" else command[1]) for name, command in servers.sent if command[0] == "CLUSTER"]
    assert words[:3] == [("redis-1", "IMPORTING"), ("redis-0", "MIGRATING"), ("redis-0", "GETKEYSINSLOT")]
    assert words[3:] == [("redis-1", "NODE"), ("redis-1", "NODES"), ("redis-3", "NODES"), ("redis-0", "NODE"), ("redis-2", "NODE")]


def test_the_giver_lets_go_when_the_takers_replica_knows_whose_the_slot_is() -> None:
    servers = Servers(FakeClock(), {})
    servers.deaf = 3
    done, _braced = move(servers, [5])
    assert (done.slots, done.problem) == (1, "")
    words = [(name, command[1]) for name, command in servers.sent if command[0] == "CLUSTER"][3:]
    assert words == [
        ("redis-1", "SETSLOT"),
        *[("redis-1", "NODES"), ("redis-3", "NODES")] * 4,
        ("redis-0", "SETSLOT"),
        ("redis-2", "SETSLOT"),
    ]


@pytest.mark.parametrize("behind", ["of the slots", "of the keys"])
def test_a_replica_that_stays_behind_ends_the_move_before_the_giver_lets_go(behind: str) -> None:
    servers = Servers(FakeClock(), {})
    servers.deaf = 10**9 if behind == "of the slots" else 0
    servers.taken -= behind == "of the keys"
    done, _braced = move(servers, [5])
    assert done.slots == 0 and done.problem.startswith("redis-3 did not learn within 2 s what redis-1 has taken")
    assert not any(name == "redis-0" and command[3:4] == ("NODE",) for name, command in servers.sent)


def test_takers_take_one_after_the_other_for_each_gives_itself_an_epoch_above_all_it_knows() -> None:
    servers = Servers(FakeClock(), {})
    mover = Mover(servers.ask, servers.clock, (), "refuse", 0.05, lambda _seconds: None)
    done = mover.advance(
        [Transfer("redis-0", "redis-1", 1), Transfer("redis-2", "redis-1", 2), Transfer("redis-3", "redis-2", 4)], healthy(), 1000.0
    )
    assert (done.slots, done.problem) == (3, "")
    words = [(name, command[3] if command[1] == "SETSLOT" else command[1]) for name, command in servers.sent if command[0] == "CLUSTER"]
    first = words.index(("redis-1", "NODE"))
    assert words[first:][:6] == [
        *[("redis-1", "NODE")] * 2,
        *[("redis-1", "NODES"), ("redis-2", "NODES"), ("redis-3", "NODES")],
        ("redis-2", "NODE"),
    ], "the second taker has heard of the first one's epoch, and the first one's replica too"


def test_batches_are_of_one_slot_and_bounded_by_count() -> None:
    servers = Servers(FakeClock(), {slot: {f"{slot}-{number}": 0 for number in range(450)} for slot in (1, 2)})
    done, _braced = move(servers, [1, 2])
    assert done.slots == 2 and done.keys == 900
    for command in servers.migrations():
        keys = command[command.index("KEYS") + 1 :]
        assert len(keys) <= BATCH_KEYS and len({key.split("-")[0] for key in keys}) == 1
        assert command[:6] == ("MIGRATE", "10.0.0.2", "6379", "", "0", "10000") and command[6:8] == ("AUTH", "secret")
        assert "REPLACE" not in command


def test_batches_are_bounded_by_bytes_and_a_big_key_goes_alone_with_time_and_a_warning() -> None:
    sizes = {**{f"a{number}": MB for number in range(10)}, "big": 200 * MB}
    servers = Servers(FakeClock(), {1: sizes})
    done, braced = move(servers, [1], dataset=210 * MB)
    assert done.keys == 11 and len(done.warnings) == 1 and "'big' of about 200 MB" in done.warnings[0]
    for command in servers.migrations():
        keys = command[command.index("KEYS") + 1 :]
        assert sum(sizes[key] for key in keys) <= BATCH_BYTES or keys == ("big",)
    slow = next(command for command in servers.migrations() if command[-1] == "big")
    assert int(slow[5]) == 25_000 and braced == [pytest.approx(25.0)]


def test_sizes_are_not_asked_of_a_data_set_that_cannot_hold_a_big_key() -> None:
    servers = Servers(FakeClock(), {1: {"a": 5}})
    move(servers, [1], dataset=mover_module.SMALL)
    assert not any(command[0] == "MEMORY" for _name, command in servers.sent)


def test_the_window_follows_the_latency_limit() -> None:
    clock = FakeClock()
    servers = Servers(clock, {slot: {f"{slot}-{number}": 0 for number in range(100)} for slot in range(60)}, pace=0.001)
    done, _braced = move(servers, range(60), latency=0.05)
    assert done.keys == 6000
    assert servers.rounds[0] == BATCH_KEYS and max(servers.rounds[4:]) <= 50, "0.05 s hold 50 keys of a millisecond each"
    assert min(servers.rounds[:-2]) >= WINDOW_KEYS[0], "a bound that nothing can keep does not stop the move"
    quick = Servers(FakeClock(), {slot: {f"{slot}-{number}": 0 for number in range(100)} for slot in range(60)})
    move(quick, range(60))
    assert max(quick.rounds) > BATCH_KEYS


def test_a_slot_is_not_handed_over_while_a_key_is_left() -> None:
    servers = Servers(FakeClock(), {1: {"a": 0, "b": 0}})
    servers.refused["a"] = "IOERR error or timeout reading from target instance"
    done, _braced = move(servers, [1])
    assert "cannot move keys of slot 1" in done.problem and "IOERR" in done.problem and done.slots == 0
    assert not any(command[1:2] == ("SETSLOT",) and command[3] == "NODE" for _name, command in servers.sent)
    assert "secret" not in done.problem


def test_an_election_in_the_middle_is_no_time_in_which_a_move_fails() -> None:
    move = Act("S29", "move", "", transfers=(Transfer("a", "b", slots.mask([(0, 99)]), keys=1000),))
    clock = FakeClock(100.0)
    run = Convergence(t.cast(t.Any, Servers(clock, {})), t.cast(t.Any, None), Desired(), 60.0, Context(clock=clock))
    run.journey = Journey.of(move, now=10.0)
    run.journey.failing = ("CLUSTERDOWN", 95.0)
    run.check_time(move, healthy())
    assert run.journey.failing == ("CLUSTERDOWN", 95.0)
    run.check_time(Wait("S9", "election", "its replica is being elected", FOREVER, ""), healthy())
    assert run.journey.failing == ("CLUSTERDOWN", 100.0)


def test_what_a_person_is_told() -> None:
    journey = Journey.of(Act("S29", "move", "", transfers=(Transfer("a", "b", slots.mask([(0, 99)]), keys=1000),)), now=10.0)
    assert journey.text(10.0) == "moving slots: 0 of 100, 0 of about 1000 keys, 0 keys/s, about 0 s left"
    journey.slots, journey.keys = 25, 260
    assert journey.text(12.0) == "moving slots: 25 of 100, 260 of about 1000 keys, 130 keys/s, about 6 s left"


@pytest.mark.parametrize(
    ("words", "job"),
    [
        (
            ["name", "n1", "operation", "EXPORT", "slot_ranges", "0-9 20-20", "state", "success", "message", ""],
            ("n1", "export", slots.mask([(0, 9), (20, 20)]), "success", "", False),
        ),
        (
            ["id", "t1", "slots", "5-6", "operation", "import", "state", "streaming-buffer", "last_error", "lost", "retries", 2],
            ("t1", "import", slots.mask([(5, 6)]), "streaming-buffer", "lost", True),
        ),
        ([], ("", "", 0, "", "", True)),
    ],
)
def test_jobs_of_both_kinds_of_servers(words: list[t.Any], job: tuple[t.Any, ...]) -> None:
    parsed = parse_job(words)
    assert (parsed.id, parsed.operation, parsed.slots, parsed.state, parsed.message, parsed.active) == job
