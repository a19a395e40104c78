# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Slots that had an owner and have none any more (private: may change without notice)."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.progressive.platform.plugins.module_utils._members.model import Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Act, Action, Decision, Node
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.common import add_slots

COUNT_WITHIN = 10.0
SLOTS_SHOWN = 20


def recover(picture: Picture) -> Decision | None:
    """S11: a slot whose keys are on one master is given to it; one without any key only with consent, one with keys on several nodes never."""
    uncounted = [node.name for node in picture.live if node.keys and node.stray_keys is None]
    if uncounted:
        names = ", ".join(uncounted)
        text = (
            f"{names} did not count the keys of slots {slots.text(picture.gap)} (CLUSTER COUNTKEYSINSLOT), so nobody knows where they are."
        )
        return Wait("S11", "count", f"counting keys of slots without an owner on {names}", COUNT_WITHIN, text)
    counted = {slot for node in picture.live for slot in node.stray_keys or () if picture.gap >> slot & 1}
    holders = {slot: nodes for slot in sorted(counted) if (nodes := _holders(picture, slot))}
    found: dict[str, int] = {}
    for slot, nodes in holders.items():
        if len(nodes) == 1 and not nodes[0].master:
            found[nodes[0].id] = found.get(nodes[0].id, 0) | 1 << slot
    if found:
        return _give(picture, found, "recover", "their keys are here and nowhere else")
    unclear = {slot: nodes for slot, nodes in holders.items() if len(nodes) > 1 or nodes[0].master}
    if unclear:
        return _unclear(picture, unclear)
    chosen = picture.gap & picture.desired.lost_slots
    if chosen:
        return _give(picture, _shares(picture, chosen), "reassign", "no node has a key of them, and allow_data_loss names them")
    owners = ", ".join(
        picture.who(node_id) for node_id, entries in picture.strangers.items() if any(one.slots & picture.gap for one in entries)
    )
    names = slots.text(picture.gap)
    return Refuse(
        "S11",
        f"Slots {names} have no owner ({f'they belonged to {owners}, which is gone' if owners else 'somebody removed them'}), and no node holds a key of them. "
        f"Bring the owner back with its volume, or restore from a backup. To go on with these slots empty: allow_data_loss: ['{names}']",
    )


def _holders(picture: Picture, slot: int) -> list[Node]:
    """Members with keys of the slot; a replica is left out where its master has them too, for it holds a copy."""
    known = {node_id for owner in picture.owners or picture.live for node_id in owner.entries}
    nodes = [node for node in picture.live if (node.stray_keys or {}).get(slot) and node.id in known]
    ids = {node.id for node in nodes}
    return [node for node in nodes if node.master not in ids]


def _shares(picture: Picture, chosen: int) -> dict[str, int]:
    """Masters that are to own slots and have none take them all; otherwise the master with the fewest."""
    takers = picture.takers if len(picture.owners) < picture.desired.masters else []
    if takers:
        return {node.id: share for node, share in zip(takers, slots.split(chosen, len(takers)), strict=True) if share}
    masters = [node for node in picture.live if not node.master]
    smallest = min(masters, key=lambda node: (not node.slots, slots.size(node.slots), node.target.ordinal))
    return {smallest.id: chosen}


def _give(picture: Picture, shares: Mapping[str, int], kind: str, why: str) -> Act:
    """The new epoch comes first: slots that are taken without it, by a run that is killed, would not be believed. A slot that the taker still sees with its
    dead owner is freed in its view before."""
    actions = []
    for node_id, share in shares.items():
        node = picture.by_id[node_id]
        bound = 0
        for entry in node.entries.values():
            bound |= entry.slots & share
        reason = f"takes slots {slots.text(share)}: {why}"
        actions.append(Action(node.name, ("CLUSTER", "BUMPEPOCH"), "its word is to count more than that of the former owner"))
        if bound:
            actions.append(Action(node.name, add_slots(node, bound, "DELSLOTS"), reason))
        actions.append(Action(node.name, add_slots(node, share), reason))
    return Act("S11", kind, f"slots {slots.text(_union(shares))} have lost their owner", tuple(actions))


def _union(shares: Mapping[str, int]) -> int:
    result = 0
    for share in shares.values():
        result |= share
    return result


def _unclear(picture: Picture, unclear: Mapping[int, list[Node]]) -> Refuse:
    shown = list(unclear.items())[:SLOTS_SHOWN]
    listed = "; ".join(
        f"slot {slot}: {', '.join(f'{(node.stray_keys or {})[slot]} keys on {node.name} ({node.id})' for node in nodes)}"
        for slot, nodes in shown
    )
    more = f" and {len(unclear) - len(shown)} more slots" if len(unclear) > len(shown) else ""
    return Refuse(
        "S11",
        f"Slots without an owner have keys on several nodes, or on a replica alone, and only you can say which are right: {listed}{more}. Look at them "
        "(CLUSTER GETKEYSINSLOT), delete the wrong ones there, and run again: the node that still has keys gets the slot.",
    )
