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
}


def killed_after(lab: Lab, writes: int) -> bool:
    """Run the module in a child that sends itself SIGKILL after its n-th writing command has been answered; False when it ended before that."""
    child = os.fork()
    if child == 0:
        original = Connection.send
        sent = 0

        def send(self: Connection, commands: t.Sequence[Command], deadline: float) -> None:
            nonlocal sent
            for position, command in enumerate(commands):
                if command[:2] not in READERS and command[:1] != ("INFO",):
                    sent += 1
                    if sent > writes:
                        original(self, commands[:position], deadline)
                        self.receive(position, deadline)
                        os.kill(os.getpid(), signal.SIGKILL)
            original(self, commands, deadline)

        Connection.send = send  # type: ignore[method-assign]
        try:
            lab.converge()
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


# The third of three masters takes 5461 slots: 5461 times IMPORTING, MIGRATING, NODE on the taker and NODE on the givers.
BALANCE = [5462, 14000, 17000]


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
    assert lab.settled() and lab.read() == 300
    lab.quiet()
