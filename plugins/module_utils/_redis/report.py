# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person and the health report read: nodes, slots, placement, the plan, and the topology as YAML (private: may change without notice)."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.access import shown
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Act, Action, Decision, Node, Observation, Transfer
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.ownership import settled
from ansible_collections.progressive.platform.plugins.module_utils._redis.states import STATES


def node_rows(observation: Observation) -> list[dict[str, t.Any]]:
    """One row a target, in ordinal order. Sizes are bytes, times seconds; ``lag`` is how far a replica is behind; what a silent node cannot say is None."""
    live = {node.id: node for node in observation.live}
    return [_row(node, live) for node in observation.nodes]


def _row(node: Node, live: dict[str, Node]) -> dict[str, t.Any]:
    target = node.target
    row: dict[str, t.Any] = {
        "name": target.name,
        "address": f"{target.host}:{target.port}",
        "node": target.node,
        "zone": target.zone,
        "outdated": target.outdated,
        "engine": node.engine,
        "version": node.version,
        "error": node.problem,
    }
    if not node.live:
        empty: dict[str, t.Any] = {
            "id": "",
            "role": "",
            "master": "",
            "link": "",
            "cluster_state": "",
            "slots": [],
            "open_slots": [],
            "memory": {},
        }
        unknown = dict.fromkeys(("lag", "offset", "epoch", "current_epoch", "keys", "functions", "uptime", "node_timeout", "known"))
        return {**row, **empty, **unknown, "persistence": {}}
    master = live.get(node.master)
    files = node.persistence
    return {
        **row,
        "id": node.id,
        "role": "replica" if node.master else "master",
        "master": node.master,
        "slots": _ranges(node.slots),
        "open_slots": [f"{slot} {direction} {other}" for slot, (direction, other) in sorted(node.me.open_slots.items())],
        "offset": node.offset,
        "lag": max(master.offset - node.offset, 0) if master else None,
        "link": ("up" if node.link_up else "copying" if node.syncing else "down") if node.master else "",
        "cluster_state": "ok" if node.cluster_ok else "fail",
        "epoch": node.me.epoch,
        "current_epoch": node.current_epoch,
        "keys": node.keys,
        "functions": node.functions,
        "memory": {"used": node.used_memory, "max": node.maxmemory},
        "uptime": node.uptime_s,
        "node_timeout": node.node_timeout_ms / 1000,
        "known": len(node.entries),
        "persistence": {
            "aof": files.aof,
            "aof_ok": files.aof_ok,
            "rdb_ok": files.rdb_ok,
            "saved_at": files.saved_at,
            "changes": files.changes,
            "problem": files.problem,
        },
    }


def _ranges(chosen: int) -> list[str]:
    return [str(first) if first == last else f"{first}-{last}" for first, last in slots.ranges(chosen)]


def shard_rows(picture: Picture) -> list[dict[str, t.Any]]:
    """One row a slot owner that answers, by its first slot, with its replicas and how far they are behind."""
    rows = []
    for master in sorted(picture.owners, key=lambda node: slots.ranges(node.slots)[0]):
        copies = [node for node in picture.live if node.master == master.id]
        rows.append(
            {
                "master": master.name,
                "id": master.id,
                "slots": _ranges(master.slots),
                "slot_count": slots.size(master.slots),
                "keys": master.keys,
                "memory": master.used_memory,
                "replicas": [
                    {
                        "name": copy.name,
                        "id": copy.id,
                        "link": "up" if copy.link_up else "copying" if copy.syncing else "down",
                        "lag": max(master.offset - copy.offset, 0),
                    }
                    for copy in copies
                ],
            }
        )
    return rows


def open_slots(picture: Picture) -> list[dict[str, t.Any]]:
    """Slots on their way from one node to another, as each end says it; ``keys`` is how many are left or have arrived, None when it did not say."""
    names = {node.id: node.name for node in picture.live}
    return [
        {"slot": slot, "node": node.name, "direction": direction, "other": names.get(other, other), "keys": node.open_keys.get(slot)}
        for node in picture.live
        for slot, (direction, other) in sorted(node.me.open_slots.items())
    ]


def slot_summary(picture: Picture) -> dict[str, t.Any]:
    """``covered`` counts slots whose owner answers and says ok itself."""
    covered = sum(slots.size(node.slots) for node in picture.owners if node.cluster_ok)
    return {
        "assigned": slots.size(picture.owned),
        "covered": covered,
        "total": slots.COUNT,
        "uncovered": slots.text(slots.ALL & ~picture.owned),
    }


def views_agree(picture: Picture) -> bool:
    """Every target answers and sees the same owners as the owners themselves."""
    return bool(picture.live) and len(picture.live) == len(picture.observation.nodes) and settled(picture) is None


def available(picture: Picture) -> bool:
    """All slots have a live owner, and every owner says ok."""
    return picture.owned == slots.ALL and all(node.cluster_ok for node in picture.owners)


def placement(picture: Picture) -> dict[str, t.Any]:
    """Score (0 is faultless) and violations by name."""
    return {"score": picture.placement.score, "violations": list(picture.placement.violations)}


def finding_rows(decisions: Iterable[Decision]) -> list[dict[str, str]]:
    return [
        {
            "state": decision.state,
            "name": STATES[decision.state].name,
            "kind": type(decision).__name__.lower(),
            "message": decision.reason,
        }
        for decision in decisions
    ]


def plan_rows(decisions: Iterable[Decision]) -> list[dict[str, t.Any]]:
    """Steps with their commands; the two commands a slot of an S26 are folded into one row a node pair."""
    return [
        {
            "state": step.state,
            "action": step.kind if isinstance(step, Act) else "wait",
            "reason": step.reason,
            "commands": [*_commands(step.actions), *map(_transfer, step.transfers)] if isinstance(step, Act) else [],
        }
        for step in decisions
    ]


def _transfer(transfer: Transfer) -> dict[str, str]:
    how = "keys only, the owner of the slots is the other" if transfer.cold else f"{slots.size(transfer.slots)} slots"
    return {
        "node": transfer.giver,
        "command": f"move slots {slots.text(transfer.slots)} to {transfer.taker}",
        "reason": f"{how}, about {transfer.keys} keys of {transfer.size} bytes",
    }


def _commands(actions: Sequence[Action]) -> list[dict[str, str]]:
    rows = []
    folded: dict[tuple[str, str, str], int] = {}
    for action in actions:
        if action.command[:2] == ("CLUSTER", "SETSLOT"):
            key = (action.node, " ".join(action.command[3:]), action.reason.replace(f"slot {action.command[2]}", "slots"))
            folded[key] = folded.get(key, 0) | 1 << int(action.command[2])
        else:
            rows.append({"node": action.node, "command": shown(action.command), "reason": action.reason})
    rows += [
        {"node": node, "command": f"CLUSTER SETSLOT {slots.text(chosen)} {rest}", "reason": reason}
        for (node, rest, reason), chosen in folded.items()
    ]
    return rows


def topology(observation: Observation) -> str:
    """The slot map and roles as YAML, one block a node: what --diff compares."""
    names = {node.id: node.name for node in observation.live}
    lines = ["nodes:"]
    for node in observation.nodes:
        lines.append(f"  {_quoted(node.name)}:")
        if not node.live:
            lines.append(f"    problem: {_quoted(node.problem)}")
            continue
        lines.append(f"    role: {'replica' if node.master else 'master'}")
        if node.master:
            lines.append(f"    master: {_quoted(names.get(node.master, node.master))}")
        else:
            lines.append(f"    slots: {_quoted(slots.text(node.slots))}")
        others = sorted(names.get(entry, entry) for entry in node.entries if entry != node.id)
        lines.append(f"    knows: [{', '.join(_quoted(other) for other in others)}]")
        if node.node_timeout_ms:
            lines.append(f"    cluster-node-timeout: {node.node_timeout_ms}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A YAML single-quoted scalar."""
    return "'" + text.replace("'", "''").replace("\n", " ") + "'"
