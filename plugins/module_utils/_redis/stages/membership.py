# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One cluster: who joins, who is refused, who is forgotten (private: may change without notice)."""

from __future__ import annotations

from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Act, Action, Decision, Node, Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.common import (
    FOREVER,
    NEXT,
    foreign,
    meet,
    reachable,
    redis_cli,
)
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.settings import prepare


def join(picture: Picture) -> Decision | None:
    """S1, S2, S8: nodes that do not know each other meet, unless that could lose data (S20, S23) or hide that data was lost (R3)."""
    if not picture.live:
        return None
    groups = _components(picture)
    refusal = _prior_cluster(picture) or _not_joinable(picture, groups)
    if refusal is not None:
        return refusal
    preparation = prepare(picture)
    if preparation is not None:
        return preparation
    pairs = [(viewer, node) for viewer in picture.live for node in picture.live if viewer is not node and not viewer.knows(node.id)]
    if not pairs:
        return None
    state = "S1" if not picture.owned and len(groups) == len(picture.live) else "S2" if not picture.owned else "S8"
    return Act(
        state,
        "meet",
        "nodes do not know each other yet",
        tuple(meet(viewer, node, f"{viewer.name} meets {node.name}") for viewer, node in pairs),
    )


def _components(picture: Picture) -> list[list[Node]]:
    """Groups of nodes that know of each other, the one to join first: it has slots, or most nodes, or the lowest ordinal."""
    groups: list[list[Node]] = []
    for node in picture.live:
        near = [group for group in groups if any(node.knows(other.id) or other.knows(node.id) for other in group)]
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


def _not_joinable(picture: Picture, groups: list[list[Node]]) -> Decision | None:
    """S20 two clusters; S23 data or foreign knowledge on a node that is to join; S1 data on a node that is to be formed from."""
    with_slots = [group for group in groups if any(node.slots for node in group)]
    if len(with_slots) > 1:
        listed = "; ".join(
            ", ".join(
                f"{node.name} ({node.id}, {node.keys} keys, slots {slots.text(node.slots)})" for node in group if node.slots or node.keys
            )
            for group in with_slots
        )
        return Refuse(
            "S20", f"These nodes are {len(with_slots)} separate clusters; joining them would silently drop one's data: {listed}; {NEXT}."
        )
    newcomers = [node for group in groups[1 if with_slots else 0 :] for node in group]
    for node in newcomers:
        if not node.empty:
            return Refuse(
                "S23" if with_slots else "S1",
                f"{node.name} ({node.id}) is not part of the cluster and holds {node.keys} keys and {node.functions} function libraries: it is not joined. "
                "Do not restart it (a restart can delete keys in slots it does not own). Save what is needed, then empty it yourself: "
                f"{redis_cli(node, 'FLUSHALL')} and {redis_cli(node, 'FUNCTION FLUSH')}",
            )
    for group in groups[1 if with_slots else 0 :]:
        for node in group:
            others = [entry for entry in node.entries.values() if entry.id in picture.strangers]
            if others and (with_slots or any(entry.slots for entry in others) or reachable(others)):
                known = ", ".join(picture.who(entry.id) for entry in others)
                return Refuse(
                    "S23",
                    f"{node.name} ({node.id}) remembers another cluster: {known}. It is not joined. If that cluster is really gone: "
                    f"{redis_cli(node, 'CLUSTER RESET')}",
                )
    return None


def forget(picture: Picture) -> Decision | None:
    """S22: dead IDs without slots that are no target's, on all nodes at once (a node that was left out would tell the others again after 60 s)."""
    dead = []
    for node_id, entries in picture.strangers.items():
        if reachable(entries):
            return foreign(picture, node_id)
        if any(entry.slots for entry in entries):
            return None
        followers = [node.name for node in picture.live if node.master == node_id]
        if followers:
            return Refuse(
                "S22",
                f"{picture.who(node_id)} is gone, but {', '.join(followers)} still name it as their master, so it is not forgotten; {NEXT}.",
            )
        if not any(entry.failed for entry in entries) and picture.age("dying") <= 2 * picture.node_timeout + 10:
            return Wait("S17", "dying", f"{picture.who(node_id)} does not answer its peers any more", FOREVER, "")
        dead.append(node_id)
    if not dead:
        return None
    actions = tuple(
        Action(node.name, ("CLUSTER", "FORGET", node_id), f"{picture.who(node_id)} is gone, has no slots and no replica")
        for node_id in dead
        for node in picture.live
        if node.knows(node_id)
    )
    return Act("S22", "forget", f"{len(dead)} dead IDs are remembered", actions)
