# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the servers would make of the actions: pure, so that check mode can print the whole plan (private: may change without notice)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from ansible_collections.progressive.platform.plugins.module_utils._members.model import Wait
from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import (
    EVICT,
    RECREATE,
    Act,
    Action,
    Decision,
    Desired,
    Entry,
    Node,
    Observation,
    Persistence,
    Transfer,
)
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture, announced
from ansible_collections.progressive.platform.plugins.module_utils._redis.plan import decide

STEPS_AT_MOST = 150
OVER = float("inf")
"""Age of a wait that is taken as over: an owner without a replica has no successor, however long one waits."""


def foresee(observation: Observation, desired: Desired, ages: Mapping[str, float]) -> tuple[list[Decision], Observation]:
    """Every decision from here to the end, and what the nodes would then say.

    Waits that gossip or a synchronisation ends are taken as ended. The list ends with Done, a Refuse, or a Wait nobody can foresee the end of (a node that
    does not answer, an election).
    """
    decisions: list[Decision] = []
    for _step in range(STEPS_AT_MOST):
        decision = decide(Picture(observation, desired, ages))
        decisions.append(decision)
        if isinstance(decision, Act):
            if decision.kind in {"prepare", "slots"}:
                observation = dataclasses.replace(observation, marker=announced(observation, decision.actions))
            observation = moved(after(observation, decision.actions), decision.transfers)
        elif isinstance(decision, Wait) and decision.key in {"moved", "links", "agreement", "epochs", "links down", "verdict", "ready"}:
            observation = rested(observation)
        elif isinstance(decision, Wait) and (decision.state, decision.key) == ("S11", "elections") and not ages:
            ages = {decision.key: OVER}
            continue
        else:
            break
        ages = {key: age for key, age in ages.items() if age == OVER}
        if len(decisions) > 1 and decisions[-1] == decisions[-2]:
            break
    return decisions, observation


def after(observation: Observation, actions: Iterable[Action]) -> Observation:
    """The observation once the actions have been carried out and every node has heard of it."""
    nodes = {node.name: node for node in observation.nodes}
    slot_commands: dict[str, list[tuple[str, ...]]] = {}
    for action in sorted(actions, key=lambda action: action.order):
        if action.command[0] == EVICT:
            nodes[action.node] = _replaced(nodes[action.node])
        elif action.command[0] == RECREATE:
            nodes[action.node] = Node(nodes[action.node].target, problem="its pod and its volume are being made anew", kind="absent")
        elif action.command[:2] == ("CLUSTER", "RESET"):
            nodes = _reset(nodes, nodes[action.node], hard=action.command[2] == "HARD")
        elif action.command[1:2] == ("SETSLOT",):
            slot_commands.setdefault(action.node, []).append(action.command)
        else:
            former = nodes[action.node].master if action.command[1:2] == ("FAILOVER",) else ""
            nodes[action.node] = _changed(nodes, nodes[action.node], action.command)
            if former:
                nodes.update(_followed(nodes, former, nodes[action.node].id))
    for name, commands in slot_commands.items():
        nodes[name] = _with_slots_set(nodes[name], commands)
    return rested(dataclasses.replace(observation, nodes=tuple(nodes[node.name] for node in observation.nodes)))


def _followed(nodes: Mapping[str, Node], former: str, heir: str) -> dict[str, Node]:
    """The former master, where it lives, and its other replicas follow the one that took over."""
    result = {}
    for node in nodes.values():
        if node.live and node.id != heir and former in {node.id, node.master}:
            flags = (node.me.flags - {"master"}) | {"slave"}
            result[node.name] = _with_me(node, dataclasses.replace(node.me, master=heir, slots=0, flags=flags))
    return result


def _reset(nodes: Mapping[str, Node], node: Node, hard: bool) -> dict[str, Node]:
    """Alone and without slots, a replica without its copy; whoever knew it has to meet it again, and after a hard reset it is another node."""
    node_id = f"the new ID of {node.name}" if hard else node.id
    flags = (node.me.flags - {"slave"}) | {"master"}
    me = dataclasses.replace(node.me, id=node_id, master="", slots=0, epoch=0 if hard else node.me.epoch, flags=flags, open_slots={})
    keys = 0 if node.master else node.keys
    alone = dataclasses.replace(
        node, id=node_id, keys=keys, stray_keys=None, open_keys={}, persistence=Persistence(), entries={node_id: me}
    )
    others = {
        name: dataclasses.replace(other, entries={key: entry for key, entry in other.entries.items() if hard or key != node.id})
        for name, other in nodes.items()
    }
    return {**others, node.name: alone}


def _replaced(node: Node) -> Node:
    """A pod of the newest template: its node comes back with its volume."""
    return dataclasses.replace(node, target=dataclasses.replace(node.target, update="", problem="", ready=True))


def moved(observation: Observation, transfers: Iterable[Transfer]) -> Observation:
    """The observation once the slots and their keys are where they are to go."""
    nodes = {node.name: node for node in observation.nodes}
    for transfer in transfers:
        giver, taker = nodes[transfer.giver], nodes[transfer.taker]
        open_slots = {slot: way for slot, way in giver.me.open_slots.items() if not transfer.slots >> slot & 1}
        left = 0 if giver.slots & ~transfer.slots == 0 else giver.keys - transfer.keys
        nodes[giver.name] = _with_me(
            dataclasses.replace(giver, keys=left, dataset=giver.dataset - transfer.size),
            dataclasses.replace(giver.me, slots=giver.me.slots & ~transfer.slots, open_slots=open_slots),
        )
        open_slots = {slot: way for slot, way in taker.me.open_slots.items() if not transfer.slots >> slot & 1}
        owned = taker.me.slots if transfer.cold else taker.me.slots | transfer.slots
        epoch = max(node.current_epoch for node in nodes.values()) + 1
        nodes[taker.name] = _with_me(
            dataclasses.replace(
                taker,
                keys=taker.keys + transfer.keys,
                dataset=taker.dataset + transfer.size,
                functions=max(taker.functions, giver.functions),
                current_epoch=epoch,
            ),
            dataclasses.replace(taker.me, slots=owned, open_slots=open_slots, epoch=epoch),
        )
    return rested(dataclasses.replace(observation, nodes=tuple(nodes[node.name] for node in observation.nodes)))


def rested(observation: Observation) -> Observation:
    """Gossip has told everybody who can hear it: addresses, roles, owners; links are up, and covered clusters say ok."""
    live = {node.id: node for node in observation.live}
    mutual = {node.id: {other for other in live if node.knows(other) or live[other].knows(node.id)} for node in observation.live}
    own: dict[str, Entry] = {}
    claimed = 0
    for node in sorted(observation.live, key=lambda node: -node.me.epoch):
        entry = dataclasses.replace(node.me, host=node.target.host, port=node.target.port, connected=True, slots=node.me.slots & ~claimed)
        claimed |= entry.slots
        own[node.id] = entry
    result = []
    for node in observation.nodes:
        if not node.live:
            result.append(node)
            continue
        entries = {
            entry.id: dataclasses.replace(entry, slots=entry.slots & ~claimed) for entry in node.entries.values() if entry.id not in live
        }
        for other in mutual[node.id]:
            entries[other] = (
                own[other] if other == node.id else dataclasses.replace(own[other], flags=own[other].flags - {"myself"}, open_slots={})
            )
        covered = slots.ALL
        for entry in entries.values():
            covered &= ~entry.slots
        result.append(dataclasses.replace(node, entries=entries, link_up=True, syncing=False, unheard={}, cluster_ok=not covered))
    return dataclasses.replace(observation, nodes=tuple(result))


def _changed(nodes: Mapping[str, Node], node: Node, command: tuple[str, ...]) -> Node:
    me = node.me
    match command:
        case ("ACL", "SETUSER", *_user):
            return dataclasses.replace(node, former_login=False)
        case ("CONFIG", "SET", "masterauth", *_password):
            return dataclasses.replace(node, former_masterauth=False)
        case ("CONFIG", "SET", "cluster-node-timeout", value):
            return dataclasses.replace(node, node_timeout_ms=int(value))
        case ("CONFIG", "SET", "repl-diskless-sync-delay", value):
            return dataclasses.replace(node, sync_delay_s=int(value))
        case ("CONFIG", "SET", name, value):
            return dataclasses.replace(node, config={**node.config, name: value})
        case ("CLUSTER", "SET-CONFIG-EPOCH", value):
            return _with_me(dataclasses.replace(node, current_epoch=int(value)), dataclasses.replace(me, epoch=int(value)))
        case ("CLUSTER", "BUMPEPOCH"):
            epoch = max(other.current_epoch for other in nodes.values()) + 1
            return _with_me(dataclasses.replace(node, current_epoch=epoch), dataclasses.replace(me, epoch=epoch))
        case ("CLUSTER", "MEET", host, port, *_bus):
            met = next(other for other in nodes.values() if (other.target.host, str(other.target.port)) == (host, port))
            return dataclasses.replace(node, entries={**node.entries, met.id: met.me})
        case ("CLUSTER", "ADDSLOTSRANGE", *bounds):
            pairs = zip(map(int, bounds[::2]), map(int, bounds[1::2]), strict=True)
            return _with_me(node, dataclasses.replace(me, slots=me.slots | slots.mask(pairs)))
        case ("CLUSTER", "ADDSLOTS", *numbers):
            return _with_me(node, dataclasses.replace(me, slots=me.slots | slots.mask((int(slot), int(slot)) for slot in numbers)))
        case ("CLUSTER", "DELSLOTSRANGE", *bounds):
            return _freed(node, slots.mask(zip(map(int, bounds[::2]), map(int, bounds[1::2]), strict=True)))
        case ("CLUSTER", "DELSLOTS", *numbers):
            return _freed(node, slots.mask((int(slot), int(slot)) for slot in numbers))
        case ("FLUSHALL",):
            return dataclasses.replace(node, keys=0, stray_keys=None)
        case ("SAVE",):
            return node
        case ("FUNCTION", "FLUSH"):
            return dataclasses.replace(node, functions=0)
        case ("CLUSTER", "REPLICATE", master):
            return _with_me(node, dataclasses.replace(me, master=master, flags=(me.flags - {"master"}) | {"slave"}))
        case ("CLUSTER", "FORGET", other_id):
            return dataclasses.replace(node, entries={key: entry for key, entry in node.entries.items() if key != other_id})
        case ("CLUSTER", "FAILOVER", *_how):
            epoch = max(other.current_epoch for other in nodes.values()) + 1
            taken = node.entries[me.master].slots
            return _with_me(
                dataclasses.replace(node, current_epoch=epoch),
                dataclasses.replace(me, master="", slots=taken, epoch=epoch, flags=(me.flags - {"slave"}) | {"master"}),
            )
    raise ValueError(f"no model of {command}")


def _freed(node: Node, chosen: int) -> Node:
    entries = {key: dataclasses.replace(entry, slots=entry.slots & ~chosen) for key, entry in node.entries.items()}
    return dataclasses.replace(node, entries=entries)


def _with_slots_set(node: Node, commands: Iterable[tuple[str, ...]]) -> Node:
    """All SETSLOT commands of one node at once: there can be thousands."""
    open_slots = dict(node.me.open_slots)
    open_keys = dict(node.open_keys)
    owned, epoch = node.me.slots, node.me.epoch
    for _cluster, _setslot, number, verb, *other in commands:
        slot = int(number)
        open_slots.pop(slot, None)
        if verb in {"IMPORTING", "MIGRATING"}:
            open_slots[slot] = (verb.lower(), other[0])
            open_keys.setdefault(slot, 0)
        elif verb == "NODE" and other[0] == node.id:
            owned |= 1 << slot
            epoch = max(node.current_epoch, node.me.epoch) + 1
        elif verb == "NODE":
            owned &= ~(1 << slot)
    me = dataclasses.replace(node.me, open_slots=open_slots, slots=owned, epoch=epoch)
    return _with_me(dataclasses.replace(node, open_keys=open_keys), me)


def _with_me(node: Node, me: Entry) -> Node:
    return dataclasses.replace(node, entries={**node.entries, node.id: me})
