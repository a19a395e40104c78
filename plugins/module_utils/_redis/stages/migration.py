# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Slots that change hands: moves left half done, and nodes that come or go (private: may change without notice)."""

from __future__ import annotations

import typing as t
from collections import Counter
from collections.abc import Mapping, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._members.model import Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Act, Action, Decision, Node, Transfer
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.common import redis_cli, setslot

FULL_BEFORE, FULL_DURING = 0.8, 0.9
"""Share of maxmemory that a move must not be expected to exceed when it begins, and at which a running one pauses."""


def outcast(picture: Picture) -> Decision | None:
    """S30 left half done: a node beyond the wanted ones that the others have forgotten and that still remembers them is made fresh."""
    kept = {node.id for node in picture.kept}
    gone = [
        node
        for node in picture.surplus
        if not node.slots
        and (node.master or node.empty)
        and (kept & set(node.entries) or not node.fresh)
        and not any(other.knows(node.id) for other in picture.kept)
    ]
    if not gone:
        return None
    actions = tuple(action for node in gone for action in _made_fresh(node, 0))
    return Act("S30", "release", f"{', '.join(node.name for node in gone)} left the cluster and are not fresh yet", actions)


def _made_fresh(node: Node, order: int) -> list[Action]:
    """Alone, and with nothing on disk that a restart would load: a reset takes a replica's copy out of memory and leaves its files.

    Until the last step its epoch says that the files may not be empty yet. FLUSHALL is only sent when the reset before it has made the node a master of
    its own.
    """
    why = "its slots and replicas are elsewhere, so it leaves"
    steps: list[tuple[tuple[str, ...], str, int]] = [
        (("CLUSTER", "RESET", "SOFT"), why, 0),
        (("FLUSHALL",), "or its append-only file would bring its copy back", 1),
        (("FUNCTION", "FLUSH"), "every master that stays has them", 1),
        (("SAVE",), "or its snapshot would bring its copy back", 2),
        (("CLUSTER", "RESET", "HARD"), "it may be removed, or join again as a new node", 3),
    ]
    return [Action(node.name, command, reason, order + later) for command, reason, later in steps]


def open_slots(picture: Picture) -> Decision | None:
    """S12 to S15: slots left open are finished where they were bound for, or closed where nothing has moved; keys are never left behind."""
    closing: list[Action] = []
    carried: dict[tuple[str, str, bool], list[int]] = {}
    keys: Counter[tuple[str, str, bool]] = Counter()
    for slot in sorted({slot for node in picture.live for slot in node.me.open_slots}):
        found = _open_slot(picture, slot)
        if isinstance(found, Refuse):
            return found
        for step in found:
            if isinstance(step, Action):
                closing.append(step)
            else:
                giver, taker, cold = step
                pair = (giver.name, taker.name, cold)
                carried.setdefault(pair, []).append(slot)
                keys[pair] += giver.open_keys.get(slot, 0)
    opening = tuple(action for action in closing if action.command[3] == "IMPORTING")
    if opening:  # first of all: an open slot is the only sign of these keys
        return Act("S13", "open", "keys of slots that were left open are where no slot is open", opening)
    binding = tuple(action for action in closing if action.command[3] == "NODE")
    if binding:
        return Act("S13", "bind", "importers whose source has failed are told who owns the slots now", binding)
    if closing:
        return Act("S13", "close", "slots in which nothing has moved were left open", tuple(closing))
    if not carried:
        on_replicas = [node for node in picture.live if node.master and node.me.open_slots]
        return _reset_replicas(picture, on_replicas) if on_replicas else None
    if picture.gap:
        return None  # a cluster with a slot that nobody owns answers CLUSTERDOWN to MIGRATE as well: coverage comes first
    # First what has an end to go to: an owner that migrates would send a key that it has not on to that end.
    bound = {pair: chosen for pair, chosen in carried.items() if not pair[2]}
    transfers = tuple(
        Transfer(giver, taker, slots.mask((slot, slot) for slot in chosen), keys[giver, taker, is_cold], cold=is_cold)
        for (giver, taker, is_cold), chosen in _without_circles(bound or carried).items()
    )
    state = "S13" if transfers[0].cold else "S12"
    what = "keys that went astray go to the owner of their slot" if transfers[0].cold else "a move of slots was left half done"
    return Act(state, "move", what, transfers=transfers)


Step: t.TypeAlias = "Action | tuple[Node, Node, bool]"


def _open_slot(picture: Picture, slot: int) -> list[Step] | Refuse:
    """What to do about one open slot: commands that close it, or (giver, taker, cold) that carry its keys."""
    claimants = [node for node in picture.owners if node.slots >> slot & 1]
    if not claimants:
        return []  # without an owner it is coverage's
    owner = max(claimants, key=lambda node: node.me.epoch)
    opened = {node.id: node.me.open_slots[slot] for node in picture.live if slot in node.me.open_slots and not node.master}
    steps: list[Step] = []
    target = None
    for node_id, (direction, other_id) in opened.items():
        node = picture.by_id[node_id]
        if direction != "migrating":
            continue
        if node is not owner:  # the new owner has it; what is left here follows
            steps.append((node, owner, False))
            continue
        target = picture.by_id.get(other_id)
        if target is None:
            if other_id not in picture.desired.allow_data_loss:
                return Refuse(
                    "S12",
                    f"Slot {slot} is migrating from {picture.who(owner.id)} to {picture.who(other_id)}, which does not answer: keys that have arrived there "
                    f"would be left behind. Bring it back; or, to go on without them, add its ID to allow_data_loss ({other_id}).",
                )
            steps.append(setslot(owner, slot, "STABLE", "", "the other side is gone, and allow_data_loss names it"))
        elif target.master or (slot not in _importing(target) and not target.open_keys.get(slot)):
            steps.append(setslot(owner, slot, "STABLE", "", "the other side does not import it and holds none of its keys"))
            target = None
        else:
            steps.append((owner, target, False))
    for node_id, (direction, _other) in opened.items():
        node = picture.by_id[node_id]
        if direction != "importing" or node is target:
            continue
        if node is owner:
            steps.append(setslot(node, slot, "STABLE", "", "it owns the slot already"))
        elif slot not in node.open_keys:
            return Refuse(
                "S13", f"{node.name} ({node.id}) imports slot {slot} and does not say how many keys it has ({_count(node, slot)})."
            )
        elif node.open_keys[slot] and not any(entry.slots >> slot & 1 for entry in node.entries.values()):
            # Its source failed and came back as a replica: the slot went from nobody to nobody here, for importers do not listen to new owners.
            steps.append(
                setslot(node, slot, "NODE", owner.id, "it imports the slot and knows no owner of it: MIGRATE would be CLUSTERDOWN")
            )
        elif node.open_keys[slot]:
            steps.append((node, owner, True))
        else:
            steps.append(setslot(node, slot, "STABLE", "", "no key has arrived, and the owner does not migrate it here"))
    for node in picture.live:  # an importer that failed over: its successor has the keys, and no open slot
        if node.open_keys.get(slot) and not node.master and node is not target and node is not owner and node.id not in opened:
            steps.append(setslot(node, slot, "IMPORTING", owner.id, f"holds {node.open_keys[slot]} keys of it, which go to its owner"))
    return steps


def _importing(node: Node) -> set[int]:
    return {slot for slot, (direction, _other) in node.me.open_slots.items() if direction == "importing"}


def _count(node: Node, slot: int) -> str:
    return redis_cli(node, f"CLUSTER COUNTKEYSINSLOT {slot}")


def _without_circles(carried: Mapping[tuple[str, str, bool], list[int]]) -> dict[tuple[str, str, bool], list[int]]:
    """Two nodes that move keys to each other at once wait for each other: whoever gives takes nothing in the same pass."""
    result: dict[tuple[str, str, bool], list[int]] = {}
    for (giver, taker, cold), chosen in carried.items():
        if not any(giver == other_taker or taker == other_giver for other_giver, other_taker, _cold in result):
            result[giver, taker, cold] = chosen
    return result


def _reset_replicas(picture: Picture, replicas: Sequence[Node]) -> Decision:
    """S15: SETSLOT is refused on a replica; made fresh, it joins and copies again. One at a time, and never a copy that its master needs."""
    node = replicas[0]
    listed = slots.text(slots.mask((slot, slot) for slot in node.me.open_slots))
    master = picture.by_id.get(node.master)
    if master is None or not master.slots:
        return Refuse(
            "S15",
            f"Slots {listed} are open on {node.name} ({node.id}), a replica of {picture.who(node.master)}, which owns nothing here: its copy may be the last "
            f"one, so it is not reset. See what it has: {_count(node, next(iter(node.me.open_slots)))}",
        )
    actions = (Action(node.name, ("CLUSTER", "RESET", "SOFT"), "SETSLOT is refused on a replica; it joins and copies its master again"),)
    return Act("S15", "reset", f"slots {listed} are open on {node.name}, a replica of {master.name}", actions)


def promote(picture: Picture) -> Decision | None:
    """S30: nodes that are to leave own slots, and too few of those that stay are masters: replicas of the former that stay take over, one at a time."""
    leaving = [node for node in picture.owners if node in picture.surplus]
    if not leaving or picture.wanting <= 0 or picture.gap or not picture.complete:
        return None
    ids = {node.id: node for node in leaving}
    heirs = [node for node in picture.kept if node.master in ids]
    ready = [node for node in heirs if node.link_up]
    if ready:
        heir = min(ready, key=lambda node: node.target.ordinal)
        action = Action(heir.name, ("CLUSTER", "FAILOVER"), f"takes over from {picture.who(heir.master)}, which is to leave")
        return Act(
            "S30", "promote", f"too few masters are on nodes that stay: {heir.name} takes over from {ids[heir.master].name}", (action,)
        )
    if heirs:
        return Wait(
            "S30", "links down", f"{heirs[0].name} has not copied {picture.who(heirs[0].master)} yet", float("inf"), "", own_time=True
        )
    spare = [node for node in picture.kept if not node.slots]
    if not spare:
        return None
    counts = Counter(picture.attached.values())
    node = max(spare, key=lambda one: (counts[one.master], one.target.ordinal))
    master = min(leaving, key=lambda one: one.target.ordinal)
    action = Action(
        node.name, ("CLUSTER", "REPLICATE", master.id), f"copies {picture.who(master.id)}, which is to leave, to take over from it"
    )
    return Act("S30", "replicate", f"none of the replicas of {master.name}, which is to leave, stays", (action,))


def balance(picture: Picture) -> Decision | None:
    """S29 and S30: the wanted masters share all slots evenly, and nobody else has any; slots go straight to where they stay.

    Replicas were attached to the new masters, and have copied them, by stages before this one.
    """
    if picture.gap or not picture.owners or not picture.complete:
        return None
    takers = picture.takers if picture.wanting > 0 else []
    if len(takers) < picture.wanting:
        return _recruit(picture)
    masters = [*picture.owners, *takers]
    staying = [node in picture.staying or node in takers for node in masters]
    wants = slots.shares([node.slots for node in masters], staying)
    plan = slots.moves([node.slots for node in masters], wants)
    if not plan:
        return None
    transfers = tuple(_transfer(masters[giver], masters[taker], part) for giver, taker, part in plan)
    leaving = [node for node, stays in zip(masters, staying, strict=True) if not stays]
    state = "S30" if leaving else "S29"
    objection = _bare(picture, leaving) or _room(picture, state, masters, transfers) or _unready(state, masters, transfers)
    if objection is not None:
        return objection
    moved = sum(slots.size(transfer.slots) for transfer in transfers)
    whom = f"{', '.join(node.name for node in leaving)} hand over all" if leaving else f"{len(masters)} masters share the slots evenly"
    return Act(state, "move", f"{whom}: {moved} slots move", transfers=transfers)


def _recruit(picture: Picture) -> Decision:
    """S29 without a free node: a replica beyond the wanted ones becomes one, where its shard has the most."""
    counts = Counter(picture.attached[node.id] for node in picture.kept if node.id in picture.attached)
    spare = [node for node in picture.kept if counts[picture.attached.get(node.id, "")] > picture.desired.replicas]
    if spare:
        node = max(spare, key=lambda one: (counts[one.master], one.target.ordinal))
        reason = f"{picture.who(node.master)} has {counts[node.master]} replicas, {picture.desired.replicas} are wanted; this one is to be a master"
        action = Action(node.name, ("CLUSTER", "RESET", "SOFT"), reason)
        return Act("S29", "reset", f"{picture.wanting} more masters are wanted, and replicas are to spare", (action,))
    candidates = [node for node in picture.new_masters if not node.slots]
    listed = ", ".join(f"{node.name} ({node.id}, {'replica' if node.master else 'master'}, {node.keys} keys)" for node in candidates)
    return Refuse(
        "S26",
        f"{picture.wanting} more masters are wanted and no empty master without slots is free for it (candidates: {listed or 'none'}). "
        "Add nodes, or want fewer masters.",
    )


def _transfer(giver: Node, taker: Node, part: int) -> Transfer:
    """Keys and bytes as if they were spread evenly over the giver's slots, which a hash does."""
    share = slots.size(part) / slots.size(giver.slots)
    return Transfer(giver.name, taker.name, part, round(giver.keys * share), round(giver.dataset * share) if giver.keys else 0)


def _bare(picture: Picture, leaving: Sequence[Node]) -> Refuse | None:
    """Data that has a copy must not go where it has none."""
    counts = Counter(picture.attached.values())
    if not any(counts[node.id] for node in leaving) or not picture.desired.replicas:
        return None
    bare = [node for node in picture.staying if not counts[node.id]]
    if not bare:
        return None
    listed = ", ".join(f"{node.name} ({node.id})" for node in bare)
    return Refuse(
        "S30",
        f"{', '.join(node.name for node in leaving)} have replicas and {listed}, which are to take their slots, have none: their data would have no copy. "
        f"Give them replicas first: {redis_cli(bare[0], 'CLUSTER REPLICATE ...')} on a free node.",
    )


def _room(picture: Picture, state: str, masters: Sequence[Node], transfers: Sequence[Transfer]) -> Decision | None:
    """Memory of the takers: the forecast before the first move, what is used during it."""
    for node in masters:
        incoming = sum(transfer.size for transfer in transfers if transfer.taker == node.name)
        if not node.maxmemory or not any(transfer.taker == node.name for transfer in transfers):
            continue
        if picture.age("moving"):
            if node.used_memory > FULL_DURING * node.maxmemory:
                text = f"{node.name} ({node.id}) uses {node.used_memory} of {node.maxmemory} bytes, so nothing more is moved to it. Raise maxmemory."
                return Wait(state, "memory", f"moving pauses: {node.name} uses {node.used_memory} of {node.maxmemory} bytes", 60.0, text)
        elif node.used_memory + incoming > FULL_BEFORE * node.maxmemory:
            return Refuse(
                state,
                f"{node.name} ({node.id}) uses {node.used_memory} bytes and would get about {incoming} more, together more than {FULL_BEFORE:.0%} of its "
                f"maxmemory ({node.maxmemory}). Nothing was moved. Raise maxmemory, or want more masters.",
            )
    return None


def _unready(state: str, masters: Sequence[Node], transfers: Sequence[Transfer]) -> Wait | None:
    """A new node says ok last; whoever is sent to it before is told CLUSTERDOWN."""
    names = {name for transfer in transfers for name in (transfer.giver, transfer.taker)}
    unready = [node.name for node in masters if node.name in names and not node.cluster_ok]
    if not unready:
        return None
    text = f"{', '.join(unready)} still say cluster_state:fail after 60 s, so no slot is moved. Look at their logs."
    return Wait(state, "ready", f"{', '.join(unready)} do not say ok yet", 60.0, text)


def retire(picture: Picture) -> Decision | None:
    """S30 and S31: nodes beyond the wanted ones, empty or copies by now, are forgotten by all others and made fresh."""
    leaving = picture.surplus
    if not leaving or picture.gap or not picture.complete or any(node.slots for node in leaving):
        return None
    kept = {node.id for node in picture.kept}
    counts = Counter(master for replica, master in picture.attached.items() if replica in kept)
    if len(picture.owners) != picture.desired.masters or any(counts[node.id] < picture.desired.replicas for node in picture.owners):
        return None
    state = "S30" if any(not node.master for node in leaving) else "S31"
    libraries = min(node.functions for node in picture.owners)
    for node in leaving:
        if not node.master and node.keys:
            return Refuse(
                state,
                f"{node.name} ({node.id}) is to leave, owns no slot and still holds {node.keys} keys; they would be lost. "
                f"See which: {redis_cli(node, 'SCAN 0')}",
            )
        if not node.master and node.functions > libraries:
            return Refuse(
                state,
                f"{node.name} ({node.id}) is to leave and holds {node.functions} function libraries, others only {libraries}. Load them everywhere, or drop "
                f"them: {redis_cli(node, 'FUNCTION FLUSH')}",
            )
    careful = [node for node in picture.owners if node.min_replicas > picture.desired.replicas]
    if careful:
        listed = ", ".join(f"{node.name} ({node.id}) wants {node.min_replicas}" for node in careful)
        return Refuse(
            "S31",
            f"{picture.desired.replicas} replicas a master are wanted, but masters take writes only with more of them (min-replicas-to-write: {listed}). "
            f"Lower it first: {redis_cli(careful[0], f'CONFIG SET min-replicas-to-write {picture.desired.replicas}')}",
        )
    actions = [
        Action(other.name, ("CLUSTER", "FORGET", node.id), f"{node.name} leaves the cluster")
        for node in leaving
        for other in picture.kept
        if other.knows(node.id)
    ]
    for node in leaving:
        actions += _made_fresh(node, 1)
    return Act(state, "release", f"{', '.join(node.name for node in leaving)} leave the cluster", tuple(actions))
