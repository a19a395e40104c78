# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person and the health report read: members, slots, the plan (private: may change without notice)."""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Iterable

from ansible_collections.progressive.platform.plugins.module_utils._members.model import Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.model import Act, Decision, Json, Member, Observation
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.plan import Picture


def member_rows(picture: Picture) -> list[Json]:
    """One row a target, in order. What a silent member cannot say is None or empty."""
    return [_row(member, picture) for member in picture.observation.members]


def _row(member: Member, picture: Picture) -> Json:
    target = member.target
    where = {"name": target.name, "node": target.node, "zone": target.zone, "outdated": target.update == "outdated"}
    if not member.live:
        silent = {"role": "", "state": "", "timeline": None, "streaming": False, "sync": "", "lag": None, "delay": None}
        return {**where, **silent, "pending_restart": [], "version": "", "patroni": "", "system": "", "error": member.problem}
    facts, primary = picture.observation.facts, picture.observation.primary
    links = facts.links if facts else primary.links if primary else ()
    link = next((link for link in links if link.name == member.name), None)
    return {
        **where,
        "role": member.role,
        "state": member.state,
        "timeline": member.timeline,
        "streaming": member.streaming,
        "sync": link.sync if link else "",
        "lag": None if member.primary else picture.lag(member),
        "delay": link.delay if link and not member.primary else None,
        "pending_restart": list(member.pending),
        "version": version(member.version),
        "patroni": member.patroni,
        "system": member.system,
        "error": "",
    }


def version(number: int) -> str:
    """``150018`` as people say it: ``15.18``."""
    return f"{number // 10000}.{number % 10000}" if number else ""


def slot_rows(observation: Observation) -> list[Json]:
    return [dataclasses.asdict(slot) for slot in observation.facts.slots] if observation.facts else []


def archive_row(observation: Observation) -> Json:
    return {**dataclasses.asdict(observation.facts.archive), "failing": observation.facts.archive.failing} if observation.facts else {}


def finding_rows(decisions: Iterable[Decision]) -> list[Json]:
    return [
        {
            "state": decision.state,
            "kind": decision.kind if isinstance(decision, Act) else type(decision).__name__.lower(),
            "message": decision.reason,
        }
        for decision in decisions
        if isinstance(decision, (Act, Wait, Refuse))
    ]


def plan_rows(decisions: Iterable[Decision]) -> list[Json]:
    return [
        {
            "state": step.state,
            "action": step.kind if isinstance(step, Act) else "wait",
            "reason": step.reason,
            "member": step.member if isinstance(step, Act) else "",
            "commands": _commands(step) if isinstance(step, Act) else [],
        }
        for step in decisions
        if isinstance(step, (Act, Wait))
    ]


def _commands(step: Act) -> list[str]:
    if step.kind == "sql":
        return [f"{statement.database}: {statement.shown}" for statement in step.statements]
    if step.kind == "replace":
        return [f"evict pod {step.member}"]
    return [f"{'PATCH' if step.kind == 'config' else 'POST'} /{'reinitialize' if step.kind == 'reinit' else step.kind} {step.body}"]


def topology(picture: Picture) -> t.Any:
    """Roles and the dynamic configuration: what --diff compares."""
    facts = picture.observation.facts
    members = {
        member.target.name: {"role": member.role, "timeline": member.timeline, "pending_restart": list(member.pending)}
        for member in picture.observation.live
    }
    found: Json = {"members": members, "config": picture.observation.config or {}}
    if facts and picture.desired.objects:
        found["users"] = {
            name: {"connection_limit": user.connections, "settings": dict(user.settings), "roles": sorted(user.roles)}
            for name, user in facts.users.items()
            if name in picture.desired.users
        }
        found["databases"] = {
            name: {"owner": one.owner, "extensions": sorted(one.extensions), "grants": dict(one.grants)}
            for name, one in facts.databases.items()
            if name in picture.desired.databases
        }
    return found
