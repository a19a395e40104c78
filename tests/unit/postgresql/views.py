# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Observations made up for tests of the planner: a healthy cluster, and changes to it."""

from __future__ import annotations

import dataclasses
from typing import Any

from ansible_collections.progressive.platform.plugins.module_utils._postgresql.model import Facts, Link, Member, Observation, Target

SYSTEM = "7711387712839569435"
CONFIG: dict[str, Any] = {"ttl": 20, "synchronous_mode": True, "postgresql": {"parameters": {"max_connections": 100, "work_mem": "4MB"}}}
RESTART = {"max_connections": ("100", ""), "shared_buffers": ("16384", "8kB")}


def member(number: int, **changes: Any) -> Member:
    """``postgres-<number>``: the primary is number 0, number 1 is its synchronous standby. ``target_*`` changes the target."""
    target = Target(
        f"postgres-{number}",
        f"10.0.0.{number + 1}",
        8008,
        5432,
        uid=f"uid-{number}",
        node=f"node-{number}",
        zone=f"zone-{number}",
        ordinal=number,
    )
    aimed = {key.removeprefix("target_"): changes.pop(key) for key in list(changes) if key.startswith("target_")}
    found = Member(
        dataclasses.replace(target, **aimed),
        name=f"postgres-{number}",
        state="running",
        role="replica" if number else "primary",
        timeline=3,
        system=SYSTEM,
        version=150018,
        patroni="4.1.5",
        position=5000,
        received=5000 if number else 0,
        replication="streaming" if number else "",
        sync=number == 1,
        leader="postgres-0",
        known=("postgres-0", "postgres-1", "postgres-2"),
    )
    return dataclasses.replace(found, **changes)


def silent(number: int, problem: str = "Patroni does not answer: refused") -> Member:
    return Member(member(number).target, problem=problem)


def facts(**changes: Any) -> Facts:
    links = (Link("postgres-1", "streaming", "sync", 0, 0.0), Link("postgres-2", "streaming", "async", 0, 0.0))
    return dataclasses.replace(Facts(links=links, restart=RESTART), **changes)


def observation(*members: Member, **changes: Any) -> Observation:
    """The healthy cluster with these members in place of its own."""
    own = {one.target.name: one for one in members}
    found = [own.pop(f"postgres-{number}", member(number)) for number in range(3)]
    return dataclasses.replace(Observation((*found, *own.values()), CONFIG, facts()), **changes)
