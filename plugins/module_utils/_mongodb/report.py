# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person and the health report read: members, the plan, and the set as YAML (private: may change without notice)."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Iterable

from ansible_collections.progressive.platform.plugins.module_utils._mongodb.model import (
    HIDDEN_FIELDS,
    SERVING,
    Act,
    Action,
    Decision,
    Entry,
    Node,
)
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.picture import Picture


def node_rows(picture: Picture) -> list[dict[str, t.Any]]:
    """One row a target, in ordinal order. ``lag`` is in seconds behind the primary; what a silent member cannot say is None or empty."""
    return [_row(picture, node) for node in picture.observation.nodes]


def _row(picture: Picture, node: Node) -> dict[str, t.Any]:
    entry = picture.entries_of.get(node.name)
    return {
        "name": node.name,
        "host": node.host,
        "id": entry.id if entry else None,
        "state": node.state if node.live else "",
        "primary": node.primary,
        "votes": entry.votes if entry else 0,
        "priority": entry.priority if entry else 0,
        "hidden": entry.hidden if entry else False,
        "lag": lag(picture, node),
        "oplog_window": node.oplog[0] if node.oplog else None,
        "oplog_size_mb": node.oplog[1] if node.oplog else None,
        "version": node.version,
        "node": node.target.node,
        "zone": node.target.zone,
        "outdated": node.target.outdated,
        "error": node.problem,
    }


def lag(picture: Picture, node: Node) -> int | None:
    if picture.primary is None or not node.live or node.state not in SERVING:
        return None
    return max(picture.primary.optime[1] - node.optime[1], 0)


def available(picture: Picture) -> bool:
    """A primary that a majority of the voters follows: writes with w: majority are taken."""
    primary, config = picture.primary, picture.config
    if primary is None or config is None or primary.name not in picture.entries_of:
        return False
    host = picture.entries_of[primary.name].host
    following = [node for node in picture.voting if node is primary or (node.primary == host and node.state == "SECONDARY")]
    return len(following) >= config.majority


def finding_rows(decisions: Iterable[Decision]) -> list[dict[str, str]]:
    return [{"state": decision.state, "kind": type(decision).__name__.lower(), "message": decision.reason} for decision in decisions]


def plan_rows(decisions: Iterable[Decision]) -> list[dict[str, t.Any]]:
    return [
        {
            "state": step.state,
            "action": step.kind if isinstance(step, Act) else "wait",
            "reason": step.reason,
            "commands": [command_row(step.action)] if isinstance(step, Act) else [],
        }
        for step in decisions
    ]


def command_row(action: Action) -> dict[str, str]:
    return {"node": action.node, "command": shown(action), "reason": action.reason}


def shown(action: Action) -> str:
    """The command as relaxed JSON. Passwords are never shown; of a configuration only what a person looks for."""
    command: dict[str, t.Any] = {name: "********" if name in HIDDEN_FIELDS else value for name, value in action.command.items()}
    for verb in ("replSetReconfig", "replSetInitiate"):
        if verb in command:
            config = command[verb]
            members = [_member(member) for member in config["members"]]
            command[verb] = {"_id": config["_id"], "version": config["version"], "members": members}
            if config.get("settings"):
                command[verb]["settings"] = {name: value for name, value in config["settings"].items() if name != "replicaSetId"}
    return json.dumps(command, default=str)


def _member(member: dict[str, t.Any]) -> dict[str, t.Any]:
    shown_always = {"_id": member["_id"], "host": member["host"], "votes": member["votes"], "priority": member["priority"]}
    return {**shown_always, **{name: member[name] for name in ("hidden", "tags") if member.get(name)}}


def warnings(picture: Picture) -> list[str]:
    """What is no fault of the set and still a reason to look."""
    texts: list[str] = []
    config, primary = picture.config, picture.primary
    if config is None:
        return texts
    arbiters = [entry.host for entry in config.entries if entry.arbiter]
    if arbiters:
        texts.append(f"{', '.join(arbiters)} is an arbiter: with it a majority can elect a primary that lacks acknowledged writes")
    if len(config.voters) % 2 == 0:
        texts.append(f"{len(config.voters)} members vote; one more or one less survives as much and elects sooner")
    if primary is not None and primary.compatibility and not primary.version.startswith(primary.compatibility):
        texts.append(
            f"featureCompatibilityVersion is {primary.compatibility} on {primary.version}: once no older version is wanted any more, "
            "setFeatureCompatibilityVersion"
        )
    return texts


def topology(picture: Picture) -> str:
    """The set as YAML, one block a member: what --diff compares."""
    config = picture.config
    lines = [f"set: {config.name if config else 'none'}", "members:"]
    for node in picture.observation.nodes:
        entry = picture.entries_of.get(node.name)
        role = "none" if not node.live else "primary" if node is picture.primary else node.state.lower()
        lines.append(f"  {node.name!r}:")
        lines += [f"    {name}: {value}" for name, value in _entry_lines(entry)]
        lines.append(f"    role: {role}")
    others = [entry.host for entry in config.entries if entry.id not in picture.nodes_of] if config else []
    lines += [f"  {host!r}: no target" for host in others]
    if config is not None:
        lines.append("settings:")
        lines += [f"  {name}: {value!r}" for name, value in sorted(config.settings.items())]
    if picture.primary is not None:
        lines.append(f"users: [{', '.join(sorted(picture.primary.users or {}))}]")
        lines.append(f"write_concern: {(picture.primary.write_concern or {}).get('w', 'not set')}")
    return "\n".join(lines) + "\n"


def _entry_lines(entry: Entry | None) -> list[tuple[str, t.Any]]:
    if entry is None:
        return [("host", "not in the configuration")]
    return [
        ("host", entry.host),
        ("votes", entry.votes),
        ("priority", entry.priority),
        ("hidden", entry.hidden),
        ("tags", dict(entry.tags)),
    ]
