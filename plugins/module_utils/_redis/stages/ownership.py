# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Slots without an owner, and whether all nodes agree on the owners (private: may change without notice)."""

from __future__ import annotations

from ansible_collections.progressive.platform.plugins.module_utils._members.model import FOREVER, Wait
from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Act, Action, Decision, Node
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.common import add_slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.recovery import recover


def coverage(picture: Picture) -> Decision | None:
    """S1 and S3: slots that nobody ever owned go to masters that have none. S11: they were owned once.

    While two nodes call one slot their own, a failover or a migration has not been heard of everywhere: that is S18.
    """
    if sum(slots.size(node.slots) for node in picture.owners) > slots.size(picture.owned):
        return settled(picture)
    if picture.gap:
        return _uncovered(picture)
    return None


def _uncovered(picture: Picture) -> Decision | None:
    wanted = picture.desired.masters - len(picture.owners)
    owned_once = any(entry.slots & picture.gap for entries in picture.strangers.values() for entry in entries)
    if not picture.live or not picture.complete:
        return None
    if owned_once or not picture.forming or wanted <= 0:
        return recover(picture)
    chosen = [node for node in picture.new_masters if not node.slots]
    freed = tuple(
        Action(node.name, ("CLUSTER", "RESET", "SOFT"), "is to be a master, and everything is empty") for node in chosen if node.master
    )
    if freed:
        return Act("S27", "reset", "nodes that are to be masters are replicas of masters without slots", freed)
    actions = tuple(
        Action(node.name, add_slots(node, share), f"becomes the master of slots {slots.text(share)}")
        for node, share in zip(chosen, slots.split(picture.gap, len(chosen)), strict=True)
    )
    return Act("S1" if not picture.owned else "S3", "slots", f"slots {slots.text(picture.gap)} have never had an owner", actions)


def agreement(picture: Picture) -> Decision | None:
    """S18: all views must show the same owners. While an empty cluster forms, replicas are attached meanwhile (see settled)."""
    if picture.forming:
        return None
    return settled(picture)


def settled(picture: Picture) -> Decision | None:
    """S18 without exception.

    A view that shows the right owners and an older epoch of one may yet lose them: what a former owner had sent before is then believed when it arrives.
    """
    truth = {node.id: node.slots for node in picture.owners}
    differing = []
    for viewer in picture.live:
        view = {entry.id: entry.slots for entry in viewer.entries.values() if entry.slots and entry.id not in picture.returning}
        behind = any(owner.id in viewer.entries and viewer.entries[owner.id].epoch < owner.me.epoch for owner in picture.owners)
        if view != truth or behind:
            differing.append(viewer.name)
    if not differing:
        return None
    limit = max(picture.desired.agreement_timeout, 2 * picture.node_timeout + 5)
    text = (
        f"After {limit:.0f} s {', '.join(differing)} still see other slot owners, or older epochs of theirs, than the owners themselves do. "
        "Compare CLUSTER NODES there with: " + ", ".join(f"{node.name} {slots.text(node.slots)}" for node in picture.owners)
    )
    return Wait("S18", "agreement", f"{', '.join(differing)} have not heard of all slot owners yet", limit, text)


def epochs(picture: Picture) -> Decision | None:
    """S19: the servers settle equal epochs themselves; if they do not, one of them is bumped."""
    by_epoch: dict[int, list[Node]] = {}
    for node in picture.owners:
        by_epoch.setdefault(node.me.epoch, []).append(node)
    collisions = [nodes for nodes in by_epoch.values() if len(nodes) > 1]
    if not collisions:
        return None
    listed = "; ".join(f"{', '.join(node.name for node in nodes)} at {nodes[0].me.epoch}" for nodes in collisions)
    if picture.age("epochs") <= 2 * picture.node_timeout:
        return Wait("S19", "epochs", f"masters share a config epoch ({listed}), the servers are settling it", FOREVER, "")
    actions = tuple(
        Action(min(nodes, key=lambda node: node.id).name, ("CLUSTER", "BUMPEPOCH"), "shares its epoch with another master")
        for nodes in collisions
    )
    return Act("S19", "epoch", f"masters still share a config epoch: {listed}", actions)
