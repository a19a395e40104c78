# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What health says of a replica set, on the simulator, or on real members."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._health.mongodb import probe, problems_of
from ansible_collections.progressive.platform.plugins.module_utils._members.credentials import Access
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.driver import Door
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.model import Desired
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.nodes import Cluster, Hosts
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.picture import Picture
from ansible_collections.progressive.platform.tests.mongodb.lab import PASSWORD, SET, Lab, state, until


@pytest.fixture
def formed(lab: Lab) -> Iterator[Lab]:
    lab.add(3)
    lab.module()
    yield lab


def look(lab: Lab, write: bool = True, window: float = 0.0) -> list[str]:
    with Cluster(Hosts(lab.addresses, {}), Door(Access("admin", (PASSWORD,))), closer=True) as cluster:
        picture = Picture(cluster.observe(None), Desired(SET, members=len(lab.addresses)))
        problems = problems_of(picture, 10.0, window)
        return problems + (probe(cluster, picture) if write and picture.primary else [])


def test_a_healthy_set_has_no_problems_and_a_row_comes_back(formed: Lab) -> None:
    assert look(formed) == []
    assert look(formed) == [], "the row is replaced, not added"


def test_a_silent_member_is_named_and_writes_go_on(formed: Lab) -> None:
    silent = formed.secondaries()[0]
    silent.kill()
    problems = look(formed)
    assert len(problems) == 1 and problems[0].startswith(silent.name)


def test_a_lost_majority_is_named(formed: Lab) -> None:
    survivor, *others = [*formed.secondaries(), formed.primary()]
    for member in others:
        member.kill()
    until(lambda: state(formed, survivor) == "SECONDARY", "no primary is left")
    problems = look(formed)
    assert any("there is no primary" in text and "2 are needed" in text for text in problems)


def test_a_member_that_recovers_is_named(formed: Lab) -> None:
    sick = formed.secondaries()[0]
    formed.command(sick, {"replSetMaintenance": True})
    until(lambda: state(formed, sick) == "RECOVERING", "RECOVERING")
    assert any(f"{sick.name} is RECOVERING" in text for text in look(formed))


def test_members_without_a_set_are_named(lab: Lab) -> None:
    lab.add(3)
    assert any("no member has a replica-set configuration" in text for text in look(lab))


def test_an_oplog_that_is_full_and_short_is_named(formed: Lab) -> None:
    """One that is not full yet loses nothing, however short; how much a real one holds is not ours to say, so that is put in."""
    day = 86400.0
    assert look(formed, window=day) == []
    with Cluster(Hosts(formed.addresses, {}), Door(Access("admin", (PASSWORD,))), closer=True) as cluster:
        seen = cluster.observe(None)
    assert all(node.oplog and not node.oplog[2] for node in seen.nodes)
    full = dataclasses.replace(seen, nodes=tuple(dataclasses.replace(node, oplog=(3600, 50, True)) for node in seen.nodes))
    problems = problems_of(Picture(full, Desired(SET, members=3)), 10.0, day)
    assert len(problems) == 3 and all("reaches back 60 min, 24 h is wanted" in text for text in problems), problems
