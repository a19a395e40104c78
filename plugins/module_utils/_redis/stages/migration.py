# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Slots that change hands: moves left half done, and masters that are to have more or fewer (private: may change without notice)."""

from __future__ import annotations

import dataclasses

from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Act, Action, Decision, Node, Refuse
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.common import NEXT, redis_cli, setslot


def open_slots(picture: Picture) -> Decision | None:
    """Slots left open: those without keys are closed (S12-S14, such as a killed S26 leaves), any other is refused."""
    actions: list[Action] = []
    for node in picture.live:
        for slot, (direction, other_id) in node.me.open_slots.items():
            other = picture.by_id.get(other_id)
            if other is not None and _ids(picture.transfer.get(slot)) in {(node.id, other_id), (other_id, node.id)}:
                continue
            owner = next((owner for owner in picture.owners if owner.slots >> slot & 1), None)
            here = (slot, direction, other_id)
            if node.master or other is None or owner is None or node.open_keys.get(slot, -1) < 0:
                return _open_refusal(picture, node, here, "an end is unreachable, unknown or a replica")
            if direction == "migrating":
                if owner is other:
                    actions.append(setslot(node, slot, "NODE", other_id, "its new owner has it already"))
                elif owner is node and slot not in other.me.open_slots:
                    actions.append(setslot(node, slot, "STABLE", "", "the other side does not import it"))
            elif owner is node:
                actions.append(setslot(node, slot, "STABLE", "", "it owns the slot already"))
            elif owner is other and other.me.open_slots.get(slot) == ("migrating", node.id):
                if other.open_keys.get(slot, 0):
                    return _open_refusal(picture, node, here, f"{other.open_keys[slot]} keys are still on {other.name}")
                actions.append(setslot(node, slot, "NODE", node.id, "no key is left on the old owner"))
            elif owner is other and not node.open_keys[slot]:
                actions.append(setslot(node, slot, "STABLE", "", "no key has arrived and the owner does not migrate it"))
            else:
                return _open_refusal(picture, node, here, f"{node.open_keys[slot]} keys have arrived, the owner is {owner.name}")
    return Act("S12", "close", "slots without keys were left open", tuple(actions)) if actions else None


def _ids(pair: tuple[Node, Node] | None) -> tuple[str, str]:
    return (pair[0].id, pair[1].id) if pair else ("", "")


def _open_refusal(picture: Picture, node: Node, here: tuple[int, str, str], why: str) -> Refuse:
    slot, direction, other = here
    state = "S15" if node.master else "S12" if direction == "migrating" else "S13"
    count = redis_cli(node, f"CLUSTER COUNTKEYSINSLOT {slot}")
    text = f"Slot {slot} is {direction} on {node.name} ({node.id}), other side {picture.who(other)}: {why}. Finish the migration by hand ({count}); {NEXT}."
    return Refuse(state, text)


def balance(picture: Picture) -> Decision | None:
    """S26: a wanted master that has no slots gets its share, as long as these slots hold no keys.

    Everything is opened on both sides before anything is closed. A run killed while it opens is taken up here, for the same transfer follows from the same
    owners; one killed while it closes has made the taker an owner, and open_slots closes the rest.
    """
    wanted = picture.desired.masters - len(picture.owners)
    if picture.gap or wanted <= 0 or not picture.owners or not picture.complete:
        return None
    takers = picture.takers
    if len(takers) < wanted:
        candidates = [node for node in picture.new_masters if not node.slots]
        listed = (
            ", ".join(f"{node.name} ({node.id}, {'replica' if node.master else 'master'}, {node.keys} keys)" for node in candidates)
            or "none"
        )
        return Refuse(
            "S26", f"{wanted} more masters are wanted and no empty master without slots is free for it (candidates: {listed}); {NEXT}."
        )
    transfer = picture.transfer
    if not transfer:
        giver = max(picture.owners, key=lambda node: node.keys)
        return Refuse(
            "S26",
            f"{', '.join(f'{node.name} ({node.id})' for node in takers)} should own a share of the slots of {giver.name} ({giver.id}, slots "
            f"{slots.text(giver.slots)}), which holds {giver.keys} keys: moving keys is {NEXT}. By hand: "
            f"redis-cli --cluster rebalance {giver.target.host}:{giver.target.port} --cluster-use-empty-masters",
        )
    opening = []
    for slot, (giver, taker) in transfer.items():
        if taker.me.open_slots.get(slot) != ("importing", giver.id):
            opening.append(setslot(taker, slot, "IMPORTING", giver.id, f"takes slot {slot} from {giver.name}"))
        if giver.me.open_slots.get(slot) != ("migrating", taker.id):
            opening.append(dataclasses.replace(setslot(giver, slot, "MIGRATING", taker.id, f"gives slot {slot} to {taker.name}"), order=1))
    names = ", ".join(node.name for node in takers)
    if opening:
        return Act("S26", "open", f"{names} get their share of empty slots", tuple(opening))
    closing = tuple(setslot(taker, slot, "NODE", taker.id, "no key is on the old owner") for slot, (_giver, taker) in transfer.items())
    return Act("S26", "close", f"{names} own their share from now on", closing)
