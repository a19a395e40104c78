# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One cluster: who joins, who is refused, who is forgotten (private: may change without notice)."""

from __future__ import annotations

from ansible_collections.progressive.platform.plugins.module_utils._members.model import FOREVER, Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Act, Action, Decision
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.common import (
    add_slots,
    foreign,
    meet,
    reachable,
    redis_cli,
)
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.newcomers import components, strangeness
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.settings import prepare


def join(picture: Picture) -> Decision | None:
    """S1, S2, S8, S20, S29, S31: nodes that do not know each other meet, unless that could lose data (see newcomers)."""
    if not picture.live:
        return None
    decision = strangeness(picture) or prepare(picture)
    if decision is not None:
        return decision
    staying = [node for node in picture.live if node.slots or node not in picture.surplus]
    pairs = [(viewer, node) for viewer in staying for node in staying if viewer is not node and not viewer.knows(node.id)]
    if not pairs:
        return None
    obsolete = _obsolete(picture)
    if obsolete:
        return Act(_meeting(picture), "unbind", "owners that are gone would take slots away from whoever has them now", obsolete)
    return Act(
        _meeting(picture),
        "meet",
        "nodes do not know each other yet",
        tuple(meet(viewer, node, f"{viewer.name} meets {node.name}") for viewer, node in pairs),
    )


def _obsolete(picture: Picture) -> tuple[Action, ...]:
    """What a view says of the slots of an owner that it has not met, where the epoch it remembers is no lower: it would tell that owner so, and the server
    drops a slot together with its keys when it hears of a higher epoch (clusterUpdateSlotsConfigWith)."""
    actions = []
    for viewer in picture.live:
        bound = 0
        for owner in picture.owners:
            if owner is viewer or viewer.knows(owner.id):
                continue
            for entry in viewer.entries.values():
                if entry.id not in {viewer.id, *picture.returning} and entry.epoch >= owner.me.epoch:
                    bound |= entry.slots & owner.slots
        if bound:
            reason = f"whom it remembers as the owner of slots {slots.text(bound)} is not; the one who has them is about to be met"
            actions.append(Action(viewer.name, add_slots(viewer, bound, "DELSLOTS"), reason))
    return tuple(actions)


def _meeting(picture: Picture) -> str:
    """Why nodes meet: the first forming, a cluster in two pieces, one that is to grow, or a node that came back as another."""
    groups = components(picture)
    if not picture.owned:
        return "S1" if len(groups) == len(picture.live) else "S2"
    if sum(any(node.slots for node in group) for group in groups) > 1:
        return "S20"
    if picture.strangers:
        return "S8"
    if len(picture.owners) < picture.desired.masters:
        return "S29"
    return "S31" if len(picture.attached) < picture.desired.masters * picture.desired.replicas else "S8"


def forget(picture: Picture) -> Decision | None:
    """S22 dead IDs without slots, S21 live ones by name: on all nodes at once (one that was left out would tell the others again after 60 s)."""
    leaving = []
    for node_id, entries in picture.strangers.items():
        alive = reachable(entries)
        if alive and (node_id not in picture.desired.forget or any(entry.slots for entry in entries)):
            return foreign(picture, node_id)
        if any(entry.slots for entry in entries):
            return None
        followers = [node for node in picture.live if node.master == node_id]
        if followers:
            names = ", ".join(node.name for node in followers)
            return Refuse(
                "S22",
                f"{picture.who(node_id)} is to be forgotten, but {names} still name it as their master: a node does not forget its master, and an election "
                f"needs to know it. Give them one that is there: {redis_cli(followers[0], 'CLUSTER REPLICATE <its ID>')}",
            )
        if not alive and not any(entry.failed for entry in entries) and picture.age("dying") <= 2 * picture.node_timeout + 10:
            return Wait("S17", "dying", f"{picture.who(node_id)} does not answer its peers any more", FOREVER, "")
        leaving.append((node_id, alive))
    if not leaving:
        return None
    actions = tuple(
        Action(
            node.name,
            ("CLUSTER", "FORGET", node_id),
            f"{picture.who(node_id)} {'is alive, and forget_node_ids names it' if alive else 'is gone'}; it has no slots and no replica",
        )
        for node_id, alive in leaving
        for node in picture.live
        if node.knows(node_id)
    )
    state = "S21" if any(alive for _unused, alive in leaving) else "S22"
    return Act(state, "forget", f"{len(leaving)} IDs are remembered that are to be forgotten", actions)
