# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes that were scaled away and come back with their files: nothing of what they once held may come back with them."""

from __future__ import annotations

import signal

import pytest
from ansible_collections.progressive.platform.tests.redis.lab import Lab, kinds


@pytest.mark.parametrize("options", [{"appendonly": "yes"}, {"save": "3600 1"}], ids=["append-only file", "snapshot"])
def test_s30_what_was_scaled_away_returns_fresh(lab: Lab, options: dict[str, str]) -> None:
    """A reset takes a replica's copy out of memory only; its files would make it the owner of the slots of their keys at the next start."""
    added = lab.add(4, **options)
    lab.converge(masters=5)
    lab.fill(1000)
    for server in added:
        server("SAVE")
    shrunk = lab.converge(masters=3)
    assert shrunk["removable"] == [server.name for server in added]
    for server in added:
        server.kill(signal.SIGKILL)
        server.start()
    lab.wait(lambda: all(server("DBSIZE") == 0 for server in added))
    assert all(len(str(server("CLUSTER", "NODES")).splitlines()) == 1 for server in added)
    assert lab.quiet(masters=3)["removable"] == [server.name for server in added]
    assert ("S29", "move") in kinds(lab.converge(masters=5))
    assert lab.read(1000) == 1000


@pytest.mark.parametrize("after", range(4))
def test_s31_a_release_that_was_killed_is_finished(lab: Lab, after: int) -> None:
    """By hand as far as a killed run would have come: forgotten, reset, emptied."""
    added = lab.add(3, appendonly="yes")
    lab.converge(replicas_per_master=2)
    lab.fill(300)
    victim = added[2]
    others = [server for server in lab.servers if server is not victim]
    steps = [
        lambda: [server("CLUSTER", "FORGET", victim.id()) for server in others[:4]],
        lambda: [server("CLUSTER", "FORGET", victim.id()) for server in others[4:]],
        lambda: victim("CLUSTER", "RESET", "SOFT"),
        lambda: victim("FLUSHALL"),
    ]
    for step in steps[: after + 1]:
        step()
    done = lab.converge()
    assert done["removable"] == [server.name for server in added]
    lab.quiet()
    for server in added:
        server.kill(signal.SIGKILL)
        server.start()
    lab.wait(lambda: all(server("DBSIZE") == 0 for server in added))
    assert lab.read() == 300
