# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run that is killed at any of its commands leaves what the next run completes; on the simulator, or on real members."""

from __future__ import annotations

import contextlib
import typing as t
from collections.abc import Callable, Mapping

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.model import Action
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.nodes import Cluster
from ansible_collections.progressive.platform.tests.mongodb.lab import Lab


class Killed(BaseException):
    """Nothing in the module catches it: the process is gone."""


def killed_at(monkeypatch: pytest.MonkeyPatch, number: int, answered: bool) -> Callable[[], int]:
    """The run dies at its command of this number, before it is sent or after it was answered; gives how many were begun."""
    send = Cluster.send
    begun = 0

    def dying(self: Cluster, action: Action) -> Mapping[str, t.Any]:
        nonlocal begun
        begun += 1
        if begun == number and not answered:
            raise Killed
        reply = send(self, action)
        if begun == number:
            raise Killed
        return reply

    monkeypatch.setattr(Cluster, "send", dying)
    return lambda: begun


@pytest.mark.parametrize("answered", [False, True], ids=["before", "after"])
def test_a_formation_killed_at_any_command_is_completed(lab: Lab, monkeypatch: pytest.MonkeyPatch, answered: bool) -> None:
    for number in range(1, 20):
        lab.discard()
        lab.add(3)
        with monkeypatch.context() as patched:
            begun = killed_at(patched, number, answered)
            with contextlib.suppress(Killed):
                lab.module()
            if begun() < number:
                break
        lab.module()
        assert lab.info()["state"] == "M4"
        lab.quiet()
    assert number > 3, "a formation has several commands"


@pytest.mark.parametrize("answered", [False, True], ids=["before", "after"])
def test_growing_from_one_to_three_killed_at_any_command_is_completed(lab: Lab, monkeypatch: pytest.MonkeyPatch, answered: bool) -> None:
    for number in range(1, 20):
        lab.discard()
        lab.add(1)
        lab.module()
        lab.insert(1)
        lab.add(2)
        with monkeypatch.context() as patched:
            begun = killed_at(patched, number, answered)
            with contextlib.suppress(Killed):
                lab.module()
            if begun() < number:
                break
        lab.module()
        assert {member["votes"] for member in lab.config()["members"]} == {1}
        assert all(lab.rows(member) == {1} for member in lab.members)
    assert number == 5, "two joins and two votes"
