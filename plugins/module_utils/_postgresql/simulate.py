# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a plan comes to, foreseen step by step without touching anything: check mode (private: may change without notice)."""

from __future__ import annotations

import dataclasses

from ansible_collections.progressive.platform.plugins.module_utils._postgresql.model import (
    Act,
    Decision,
    Desired,
    Json,
    Member,
    Observation,
)
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.observe import CEILINGS, less
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.plan import Picture, decide

STEPS_AT_MOST = 100


def foresee(observation: Observation, desired: Desired) -> tuple[list[Decision], Observation]:
    """Every decision until there is none left to make, or until one must be waited for; and what would be there then."""
    decisions: list[Decision] = []
    for _step in range(STEPS_AT_MOST):
        decision = decide(Picture(observation, desired))
        decisions.append(decision)
        if not isinstance(decision, Act):
            break
        observation, desired = _after(decision, observation, desired)
    return decisions, observation


def _after(act: Act, seen: Observation, desired: Desired) -> tuple[Observation, Desired]:
    if act.kind == "config":
        running = seen.facts.restart if seen.facts else {}
        changed = {key: value for key, value in ((act.body.get("postgresql") or {}).get("parameters") or {}).items() if key in running}
        lowered = {
            key for key, value in changed.items() if key in CEILINGS and less(CEILINGS[key] if value is None else value, running[key][0])
        }
        members = tuple(
            dataclasses.replace(
                member, pending=tuple(sorted({*member.pending, *changed})), lowered=tuple(sorted({*member.lowered, *lowered}))
            )
            if member.live
            else member
            for member in seen.members
        )
        return dataclasses.replace(seen, config=merged(seen.config or {}, act.body), members=members), desired
    if act.kind == "sql":
        return seen, dataclasses.replace(desired, users={}, databases={})
    if act.kind == "reinit":
        return seen, dataclasses.replace(desired, reinit=desired.reinit - {act.member})
    return dataclasses.replace(seen, members=tuple(_changed(act, member, seen) for member in seen.members)), desired


def _changed(act: Act, member: Member, seen: Observation) -> Member:
    mine = member.target.name == act.member
    primary = seen.primary
    if act.kind == "restart" and mine:
        return dataclasses.replace(member, pending=(), lowered=())
    if act.kind == "replace" and mine:
        return dataclasses.replace(member, pending=(), lowered=(), target=dataclasses.replace(member.target, update=""))
    if act.kind != "switchover" or not member.live:
        return member
    timeline = (primary.timeline if primary else member.timeline) + 1
    moved = dataclasses.replace(member, leader=act.body["candidate"], timeline=timeline)
    if member.name == act.body["candidate"]:
        return dataclasses.replace(moved, role="primary", replication="")
    if member.name == act.body["leader"]:
        candidate = seen.named(act.body["candidate"])
        return dataclasses.replace(moved, role="replica", replication="streaming", sync=candidate is not None and candidate.sync)
    return moved


def merged(there: Json, patch: Json) -> Json:
    """The dynamic configuration after a patch: None takes a key away."""
    found = dict(there)
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict) and isinstance(found.get(key), dict):
            found[key] = merged(found[key], value)
        else:
            found[key] = merged({}, value) if isinstance(value, dict) else value
    return found
