# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Atomic slot migration, against the protocol double of double.py: no Valkey 9 and no Redis 8.4 can be had where these tests run."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._redis import atomic, slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.converge import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError, Result
from ansible_collections.progressive.platform.tests.redis.double import Double
from ansible_collections.progressive.platform.tests.redis.lab import arguments, kinds

THREE_OF_FIVE = [*slots.split(slots.ALL, 3), 0, 0]
FLAVOURS = ["valkey", "redis"]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def converge(double: Double, check: bool = False, **params: t.Any) -> Result:
    given = {"addresses": double.addresses, "masters": 5, "replicas_per_master": 0, "timeout": 30.0, **params}
    return run(arguments(ARGUMENTS, given), Context(check=check))


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_servers_that_can_move_the_slots_themselves(flavour: str) -> None:
    with Double(flavour, THREE_OF_FIVE) as double:
        result = converge(double)
        assert ("S29", "move") in kinds(result)
        assert sorted(slots.size(node.slots) for node in double.nodes) == [3276, 3277, 3277, 3277, 3277]
        assert sum(slots.size(job.slots) for job in double.jobs) == 6553 and max(slots.size(job.slots) for job in double.jobs) <= 400
        asked = {index for index, _command in double.begun()}
        assert asked == ({0, 1, 2} if flavour == "valkey" else {3, 4}), "the giver is asked of Valkey, the taker of Redis"
        calls = [call for node in double.nodes for call in node.calls]
        assert not any("SETSLOT" in call or call[0] == "MIGRATE" for call in calls)
        before = len(double.jobs)
        assert converge(double)["changed"] is False and len(double.jobs) == before


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_check_mode_begins_nothing(flavour: str) -> None:
    with Double(flavour, THREE_OF_FIVE) as double:
        assert ("S29", "move") in kinds(converge(double, check=True))
        assert double.jobs == []


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_job_of_a_killed_run_is_waited_for(flavour: str) -> None:
    with Double(flavour, THREE_OF_FIVE) as double:
        giver, taker = double.nodes[0], double.nodes[3]
        killed = double.start(taker, giver, slots.mask([(5000, 5100)]))
        killed.polls = 6
        converge(double)
        assert killed.state == "success"
        assert sorted(slots.size(node.slots) for node in double.nodes) == [3276, 3277, 3277, 3277, 3277]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_job_that_fails_once_is_begun_again(flavour: str) -> None:
    with Double(flavour, THREE_OF_FIVE) as double:
        double.fates = ["failed"]
        converge(double)
        assert [job.state for job in double.jobs].count("failed") == 1
        assert sorted(slots.size(node.slots) for node in double.nodes) == [3276, 3277, 3277, 3277, 3277]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_job_that_always_fails_ends_in_the_servers_own_words(flavour: str) -> None:
    with Double(flavour, THREE_OF_FIVE) as double:
        double.fates = ["failed"] * 1000
        with pytest.raises(PlatformError, match="target ran out of memory") as refused:
            converge(double, timeout=8.0)
        assert refused.value.details["state"] == "S29"
        assert [slots.size(node.slots) for node in double.nodes[3:]] == [0, 0]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_job_that_does_not_get_on_is_cancelled(flavour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "STALLED", 2.0)
    with Double(flavour, THREE_OF_FIVE) as double:
        double.fates = ["hang"]
        converge(double)
        assert [job.state for job in double.jobs].count("cancelled") == 1
        assert sorted(slots.size(node.slots) for node in double.nodes) == [3276, 3277, 3277, 3277, 3277]


def test_servers_that_cannot_are_served_by_the_mover() -> None:
    """One node without the command, such as in the middle of an upgrade: nothing atomic is begun."""
    with Double("valkey", THREE_OF_FIVE) as double:
        double.flavour = "none"
        with pytest.raises(PlatformError, match=r"unknown command CLUSTER SETSLOT|answers CLUSTER SETSLOT"):
            converge(double, timeout=3.0)
        assert double.jobs == []
