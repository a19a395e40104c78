# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the servers would make of a command: pure, so that check mode can print the whole plan (private: may change without notice)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from ansible_collections.progressive.platform.plugins.module_utils._members.model import Wait
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.documents import config_of
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.model import (
    EVICT,
    Act,
    Action,
    Config,
    Decision,
    Desired,
    Node,
    Observation,
)
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.plan import decide

STEPS_AT_MOST = 200
SETTLING = frozenset({"copying", "agreement"})
"""Waits that the servers end by themselves."""


def foresee(observation: Observation, desired: Desired, ages: Mapping[str, float]) -> tuple[list[Decision], Observation]:
    """Every decision from here to the end, and what the members would then say.

    The list ends with Done, a Refuse, or a Wait nobody can foresee the end of (a member that does not answer, an election).
    """
    decisions: list[Decision] = []
    for _step in range(STEPS_AT_MOST):
        decision = decide(Picture(observation, desired, ages))
        decisions.append(decision)
        if isinstance(decision, Act):
            observation = after(observation, decision.action, desired)
        elif isinstance(decision, Wait) and decision.key in SETTLING:
            observation = settled(observation, desired)
        else:
            break
        ages = {}
        if len(decisions) > 1 and decisions[-1] == decisions[-2]:
            break
    return decisions, observation


def after(observation: Observation, action: Action, desired: Desired) -> Observation:
    """The observation once the command has been carried out and every member has heard of it."""
    nodes = {node.name: node for node in observation.nodes}
    node = nodes[action.node]
    match action.verb:
        case "replSetInitiate":
            nodes = _with_config(nodes, config_of({**action.command["replSetInitiate"], "term": 0}), node.name)
        case "replSetReconfig":
            term = node.term if node.config else 1
            nodes = _with_config(nodes, config_of({**action.command["replSetReconfig"], "term": term}), node.name)
        case "replSetStepDown":
            heirs = [one for one in Picture(observation, desired).voting if one is not node and one.state == "SECONDARY"]
            nodes = _elected(nodes, max(heirs, key=lambda one: (one.optime, -one.target.ordinal)).name)
        case "replSetStepUp":
            nodes = _elected(nodes, node.name)
        case "setDefaultRWConcern":
            nodes[node.name] = dataclasses.replace(node, write_concern=dict(action.command["defaultWriteConcern"]))
        case "createUser" | "updateUser":
            key = f"{action.database}.{action.command[action.verb]}"
            granted = frozenset(f"{role['role']}@{role['db']}" for role in action.command["roles"])
            users = {**(node.users or {}), key: granted}
            nodes = {name: dataclasses.replace(one, login="user") if one.live else one for name, one in nodes.items()}
            nodes[node.name] = dataclasses.replace(nodes[node.name], users=users)
        case verb if verb == EVICT:
            nodes[node.name] = dataclasses.replace(node, target=dataclasses.replace(node.target, update="", problem="", ready=True))
        case verb:
            raise ValueError(f"no model of {verb}")
    return dataclasses.replace(observation, nodes=tuple(nodes[one.name] for one in observation.nodes))


def settled(observation: Observation, desired: Desired) -> Observation:
    """Initial syncs have ended, and every member has the newest configuration and follows the primary."""
    picture = Picture(observation, desired)
    if picture.config is None or picture.primary is None:
        return observation
    nodes = {node.name: node for node in observation.nodes}
    nodes = _with_config(nodes, picture.config, picture.primary.name)
    for name, node in nodes.items():
        if node.live and node.config is not None and node.state in {"STARTUP", "STARTUP2"}:
            nodes[name] = dataclasses.replace(node, state="SECONDARY", login="user")
    return dataclasses.replace(observation, nodes=tuple(nodes[node.name] for node in observation.nodes))


def _with_config(nodes: dict[str, Node], config: Config, primary: str) -> dict[str, Node]:
    """Everybody whom the configuration names has it; who is in it for the first time begins to copy, unless there is nothing to copy yet."""
    first = all(node.config is None for node in nodes.values())
    ids = {entry.host: entry.id for entry in config.entries}
    own = {node.entry: name for name, node in nodes.items() if node.entry >= 0}
    leader = nodes[primary]
    result = {}
    for name, node in nodes.items():
        entry = ids.get(
            node.host, next((key for key in (node.entry,) if key in {one.id for one in config.entries} and own.get(key) == name), -1)
        )
        if not node.live or (entry < 0 and node.config is None):
            result[name] = node
            continue
        state = (
            "PRIMARY" if name == primary else "SECONDARY" if first or (node.entry == entry and node.state == "SECONDARY") else "STARTUP2"
        )
        if entry < 0:
            state = "REMOVED"
        elif node.state in {"PRIMARY", "SECONDARY"} and name != primary:
            state = "SECONDARY"
        host = next(
            (one.host for one in config.entries if one.id == (leader.entry if leader.entry >= 0 else ids.get(leader.host, -1))), leader.host
        )
        result[name] = dataclasses.replace(
            node,
            config=config,
            entry=entry,
            state=state,
            primary=host if entry >= 0 else "",
            committed=True,
            term=max(leader.term, 1),
            users=node.users if node.users is not None else {} if name == primary else None,
        )
    return result


def _elected(nodes: dict[str, Node], name: str) -> dict[str, Node]:
    """The new primary and its followers; what only a primary tells goes over to it."""
    former = next((node for node in nodes.values() if node.state == "PRIMARY"), None)
    config = nodes[name].config
    host = next((entry.host for entry in config.entries if entry.id == nodes[name].entry), "") if config else ""
    term = max(node.term for node in nodes.values()) + 1
    result = {}
    for key, node in nodes.items():
        if not node.live or node.state not in {"PRIMARY", "SECONDARY"}:
            result[key] = node
            continue
        result[key] = dataclasses.replace(node, state="SECONDARY", primary=host, term=term)
    told = former or nodes[name]
    result[name] = dataclasses.replace(
        result[name], state="PRIMARY", write_concern=told.write_concern, users=told.users, compatibility=told.compatibility
    )
    return result
