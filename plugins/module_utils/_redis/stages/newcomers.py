# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes that are not one cluster yet: what must be settled before they may meet (private: may change without notice).

A meeting joins two clusters for good, and wherever both own a slot the higher epoch wins without a word: so nothing meets here that could lose a key.
"""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.progressive.platform.plugins.module_utils._members.model import Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Act, Action, Decision, Entry, Node
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.common import discard, reachable, redis_cli

Group = Sequence[Node]
SLOTS_SHOWN = 20


def strangeness(picture: Picture) -> Decision | None:
    """R3 a cluster that was lost, S20 two clusters, S23 and S1 data on a node that is to join."""
    return _prior_cluster(picture) or _rivals(picture) or _newcomers(picture)


def components(picture: Picture, mutual: bool = False) -> list[list[Node]]:
    """Groups of nodes that know of each other, the one to join first: it has slots, or most nodes, or the lowest ordinal.

    One-sided knowledge connects too (a node that was forgotten belongs to those it still knows), unless only ``mutual`` knowledge counts.
    """
    needed = 2 if mutual else 1
    groups: list[list[Node]] = []
    for node in picture.live:
        near = [group for group in groups if any(node.knows(other.id) + other.knows(node.id) >= needed for other in group)]
        groups = [group for group in groups if group not in near] + [[other for group in near for other in group] + [node]]
    return sorted(
        groups, key=lambda group: (not any(node.slots for node in group), -len(group), min(node.target.ordinal for node in group))
    )


def _prior_cluster(picture: Picture) -> Decision | None:
    """R3: nobody owns a slot, yet a cluster was here before. Forming another would hide what became of it."""
    marker = picture.observation.marker
    if picture.owned or marker is None or not picture.live or not picture.lost:
        return None
    ids = ", ".join(sorted(marker.ids.values()))
    return Refuse(
        "S1",
        f"A cluster was formed on these nodes before (fingerprint {marker.fingerprint}, node IDs {ids}), now none of them owns a slot, and {picture.lost}. "
        "Check that the data directories are mounted where they were (nodes.conf is in them). To form a new, empty cluster all the same: "
        f"allow_data_loss: [{marker.fingerprint!r}]",
    )


def _rivals(picture: Picture) -> Decision | None:
    """S20: several groups own slots. They may meet where no slot has two owners and either they were one cluster before or nothing is in them.

    A group without a single key is dissolved and joins the other; two with keys are never touched. What counts as one group is who knows each other: a
    dissolution that was killed half way leaves nodes that know others who have forgotten them.
    """
    rivals = [group for group in components(picture, mutual=True) if any(node.slots for node in group)]
    if len(rivals) < 2:
        return None
    disjoint = sum(slots.size(node.slots) for node in picture.owners) == slots.size(picture.owned)
    acquainted = sum(any(node.slots for node in group) for group in components(picture)) == 1
    filled = [group for group in rivals if any(not node.empty for node in group)]
    guests = [group for group in filled if not all(node.id in picture.desired.adopt for node in group if node.slots)]
    if disjoint and (acquainted or _were_one(picture) or not filled or len(guests) <= 1 < len(filled)):
        return None
    kept = filled[0] if filled else rivals[0]
    empty = [group for group in rivals if group is not kept and group not in filled]
    if len(filled) > 1 or any(_foreign(picture, node) for group in empty for node in group):
        refusal = _inventory(picture, rivals, disjoint)
        if acquainted:  # a former owner that is just back hears of its successor in a moment
            return Wait("S20", "rivals", "groups that know each other own the same slots", 2 * picture.node_timeout + 2, refusal.reason)
        return refusal
    actions = tuple(
        Action(node.name, ("CLUSTER", "RESET", "SOFT"), f"its cluster holds no key; it leaves that and joins the one of {kept[0].name}")
        for group in empty
        for node in group
    )
    return Act("S20", "reset", f"these nodes are {len(rivals)} clusters, all but one without a key", actions)


def _were_one(picture: Picture) -> bool:
    """The marker remembers every owner as a member of the cluster that was formed here: they have only forgotten each other."""
    marker = picture.observation.marker
    return marker is not None and marker.state == "formed" and {node.id for node in picture.owners} <= set(marker.ids.values())


def _inventory(picture: Picture, rivals: Sequence[Group], disjoint: bool) -> Refuse:
    listed = "; ".join(
        f"{number}) "
        + ", ".join(
            f"{node.name} ({node.id}, {node.keys} keys, slots {slots.text(node.slots)})" for node in group if node.slots or node.keys
        )
        for number, group in enumerate(rivals, 1)
    )
    others = [node.id for group in rivals[1:] for node in group if node.slots]
    remedy = (
        f"No slot has two owners, so if they belong together: adopt_data: [{', '.join(others)}]"
        if disjoint
        else "Decide which one stays; copy the other's keys into it (redis-cli --cluster import), empty it (FLUSHALL on its masters), and run again"
    )
    return Refuse(
        "S20",
        f"These nodes are {len(rivals)} separate clusters; joining them would silently drop one's data where both own a slot: {listed}. {remedy}.",
    )


def _newcomers(picture: Picture) -> Decision | None:
    """S23 data or foreign knowledge on a node that is to join, S1 on one that is to be formed from: dropped, or taken in, only by name."""
    groups = components(picture)
    formed = any(node.slots for node in groups[0])
    candidates = [node for group in groups[1:] if not any(node.slots for node in group) for node in group]
    candidates += [] if formed else groups[0]
    state = "S23" if formed else "S1"
    emptied: list[Action] = []
    for node in candidates:
        others = _foreign(picture, node)
        strange = [entry for entry in others if formed or entry.slots or reachable([entry])]
        if node.empty and not strange:
            continue
        if node.id in picture.desired.discard and not reachable(others):
            emptied += discard(node)
        elif node.id not in picture.desired.adopt or not formed or strange or node.master:
            return _refusal(picture, node, strange, state)
        elif _taken(picture, node):
            return _not_adopted(picture, node)
    return Act(state, "discard", "discard_data names nodes whose data is dropped", tuple(emptied)) if emptied else None


def _foreign(picture: Picture, node: Node) -> list[Entry]:
    return [entry for entry in node.entries.values() if entry.id in picture.strangers]


def _refusal(picture: Picture, node: Node, strange: Sequence[Entry], state: str) -> Refuse:
    adopt = (
        f" To keep its keys, where nobody else owns their slots: adopt_data: [{node.id}]."
        if state == "S23" and node.keys and not strange
        else ""
    )
    drop = f"To drop them and use it: discard_data: [{node.id}] ({redis_cli(node, 'FLUSHALL')}; FUNCTION FLUSH; CLUSTER RESET HARD)."
    if not strange:
        return Refuse(
            state,
            f"{node.name} ({node.id}) is not part of the cluster and holds {node.keys} keys and {node.functions} function libraries: it is not joined. "
            f"Do not restart it (a restart can delete keys in slots it does not own).{adopt} {drop}",
        )
    known = ", ".join(picture.who(entry.id) for entry in strange)
    if reachable(strange):
        return Refuse(
            "S23",
            f"{node.name} ({node.id}, {node.keys} keys) remembers another cluster, whose nodes answer it: {known}. It is theirs and is not joined; "
            "give the address of a node of this cluster instead, or take it out of the other one first.",
        )
    return Refuse(
        "S23",
        f"{node.name} ({node.id}, {node.keys} keys) remembers another cluster: {known}. It is not joined. If that cluster is really gone, "
        f"drop what is on it: discard_data: [{node.id}] ({redis_cli(node, 'CLUSTER RESET HARD')}).",
    )


def _taken(picture: Picture, node: Node) -> int:
    """Slots in which a newcomer has keys and that somebody owns; all of them while it has not counted its keys."""
    return slots.ALL if node.stray_keys is None else slots.mask((slot, slot) for slot in node.stray_keys) & picture.owned


def _not_adopted(picture: Picture, node: Node) -> Refuse:
    taken = _taken(picture, node)
    counts = node.stray_keys or {}
    listed = ", ".join(
        f"slot {slot} ({counts.get(slot, 0)} keys, owned by {next(owner.name for owner in picture.owners if owner.slots >> slot & 1)})"
        for slot in slots.numbers(taken & picture.owned)[:SLOTS_SHOWN]
    )
    return Refuse(
        "S23",
        f"adopt_data names {node.name} ({node.id}), but {sum(counts.get(slot, 0) for slot in slots.numbers(taken))} of its keys are in slots that have an "
        f"owner: {listed}. Copy them over (redis-cli --cluster import, which asks before it replaces a key), then: discard_data: [{node.id}]",
    )
