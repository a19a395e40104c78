# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""D3: a run killed after any of its commands leaves nothing that the next run does not heal."""

from __future__ import annotations

import os
import signal
import typing as t

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._redis.resp import Command, Connection
from ansible_collections.progressive.platform.tests.redis.lab import SYNC_DELAY, Lab, own_entry

READERS = {
    ("INFO",),
    ("PING",),
    ("FUNCTION", "LIST"),
    ("CONFIG", "GET"),
    ("CLUSTER", "MYID"),
    ("CLUSTER", "INFO"),
    ("CLUSTER", "NODES"),
    ("CLUSTER", "COUNTKEYSINSLOT"),
    ("CLUSTER", "GETKEYSINSLOT"),
    ("MEMORY", "USAGE"),
    ("FUNCTION", "DUMP"),
    ("ASKING",),
}


Kill = t.Callable[[Command, int], bool]


def nth(word: str, number: int) -> Kill:
    """Before the n-th command that says this word, such as MIGRATING."""
    seen = 0

    def at(command: Command, _sent: int) -> bool:
        nonlocal seen
        seen += word in command
        return word in command and seen >= number

    return at


def killed_after(lab: Lab, writes: int | Kill, **params: t.Any) -> bool:
    """Run the module in a child that sends itself SIGKILL after its n-th writing command has been answered; False when it ended before that."""
    here = writes if callable(writes) else lambda _command, sent: sent > writes
    child = os.fork()
    if child == 0:
        original = Connection.send
        sent = 0

        def send(self: Connection, commands: t.Sequence[Command], deadline: float) -> None:
            nonlocal sent
            for position, command in enumerate(commands):
                if command[:2] not in READERS and command[:1] != ("INFO",):
                    sent += 1
                    if here(command, sent):
                        original(self, commands[:position], deadline)
                        self.receive(position, deadline)
                        os.kill(os.getpid(), signal.SIGKILL)
            original(self, commands, deadline)

        Connection.send = send  # type: ignore[method-assign]
        try:
            lab.converge(**params)
            os._exit(0)
        except BaseException:
            os._exit(1)
    _pid, status = os.waitpid(child, 0)
    assert status in {0, signal.SIGKILL}, "the child ended in an error of its own"
    return status != 0


# A formation of 3+3 sends 18 settings and epochs, 30 meetings, 3 slot ranges, 3 replications and 12 settings: every boundary, and some steps inside.
FORMATION = [0, 1, 2, 3, 4, 9, 17, 18, 19, 23, 29, 40, 47, 48, 49, 50, 51, 52, 53, 54, 55, 59, 65]


@pytest.mark.parametrize("writes", FORMATION)
def test_formation(lab: Lab, writes: int) -> None:
    assert killed_after(lab, writes)
    lab.converge()
    assert lab.settled()
    for setting, value in (("cluster-node-timeout", "2000"), ("repl-diskless-sync-delay", SYNC_DELAY)):
        assert [server("CONFIG", "GET", setting)[1] for server in lab.servers] == [value] * 6
    assert len({own_entry(server).epoch for server in lab.masters()}) == 3
    lab.quiet()


# The third of three masters takes 5461 slots: IMPORTING on it, MIGRATING on the givers, NODE on all, 128 slots of each giver at a time.
BALANCE = [260, 5462, 14000]


@pytest.mark.parametrize("writes", BALANCE)
def test_balance_of_empty_slots(lab: Lab, writes: int) -> None:
    lab.meet(*lab.servers)
    lab.servers[0]("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
    lab.servers[1]("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
    lab.wait(lambda: all("cluster_state:ok" in server("CLUSTER", "INFO") for server in lab.servers), 15)
    killed_after(lab, writes)
    lab.converge()
    assert lab.settled()
    assert all(not own_entry(server).open_slots for server in lab.servers)
    assert sorted(own_entry(server).slots.bit_count() for server in lab.masters()) == [5461, 5461, 5462]
    lab.quiet()


@pytest.mark.parametrize("writes", [0, 1, 5, 9, 10, 11, 12, 14])
def test_return_of_a_wiped_replica(lab: Lab, writes: int) -> None:
    lab.converge()
    lab.fill()
    replica = lab.replicas_of(lab.masters()[0])[0]
    replica.kill()
    replica.wipe()
    replica.start()
    killed_after(lab, writes)
    lab.converge()
    lab.whole()


# ---- slots with keys, three masters to five and back -------------------------------------------------------------------------------------------------

STEP = int(os.environ.get("PROGRESSIVE_KILL_STEP", "1499"))
"""Of the some 45,000 writing commands of a move each way, make test-all kills the run before every so manieth: 1 is every single one."""
OUT = [
    ("MEET", 9),
    ("IMPORTING", 200),
    ("MIGRATING", 130),
    ("MIGRATE", 1),
    ("MIGRATE", 300),
    ("NODE", 1),
    ("NODE", 257),
    ("NODE", 20000),
]
IN = [("MIGRATE", 40), ("NODE", 300), ("FORGET", 1), ("FORGET", 4), ("RESET", 1), ("RESET", 3)]


def moved(lab: Lab, grown: bool, kill: int | Kill, replicas: int) -> bool:
    """Three masters to five, or back, killed and then run again; whether there was anything to kill."""
    count = 5 * (1 + replicas)
    lab.add(max(count - len(lab.servers), 0))
    params = {"addresses": lab.addresses[:count], "replicas_per_master": replicas, "timeout": 120.0}
    lab.converge(**params, masters=3 if grown else 5)
    lab.fill(1000)
    masters = 5 if grown else 3
    killed = killed_after(lab, kill, masters=masters, **params)
    result = lab.converge(masters=masters, **params)
    assert lab.read(1000) == 1000
    assert all(not own_entry(server).open_slots for server in lab.servers)
    sizes = sorted(own_entry(server).slots.bit_count() for server in lab.masters())
    assert sizes == ([3276, 3277, 3277, 3277, 3277] if grown else [5461, 5461, 5462])
    assert [len(lab.replicas_of(master)) for master in lab.masters()] == [replicas] * masters
    assert len(result["removable"]) == count - masters * (1 + replicas)
    lab.quiet(masters=masters, **params)
    return killed


@pytest.mark.parametrize(("word", "number"), OUT)
def test_three_masters_to_five(lab: Lab, word: str, number: int) -> None:
    assert moved(lab, True, nth(word, number), replicas=1 if word in {"MEET", "REPLICATE"} else 0)


@pytest.mark.parametrize(("word", "number"), IN)
def test_five_masters_to_three(lab: Lab, word: str, number: int) -> None:
    assert moved(lab, False, nth(word, number), replicas=1 if word in {"FORGET", "RESET"} else 0)


@pytest.mark.slow
@pytest.mark.parametrize("writes", range(0, 47000, STEP))
@pytest.mark.parametrize("grown", [True, False], ids=["out", "in"])
def test_every_step_of_a_move(lab: Lab, grown: bool, writes: int) -> None:
    moved(lab, grown, writes, replicas=0)
