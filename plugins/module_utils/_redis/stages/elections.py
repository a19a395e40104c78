# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Failed owners, and who takes over (private: may change without notice)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._members.model import FOREVER, Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Act, Action, Decision, Node
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.common import (
    ahead,
    foreign,
    meet,
    reachable,
    redis_cli,
)
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.network import moved

Copies = Mapping[str, Sequence[Node]]


def reunion(picture: Picture) -> Decision | None:
    """S6 and S8 before S9 and S10: an election takes votes, and nobody votes who looks for the others elsewhere or has been told to forget them."""
    if not _gone(picture) or picture.age("elections") > _patience(picture):
        return None
    elsewhere = moved(picture)
    if isinstance(elsewhere, Act):
        return elsewhere
    kept = picture.kept
    pairs = [
        (viewer, node) for viewer in kept for node in kept if viewer is not node and node.knows(viewer.id) and not viewer.knows(node.id)
    ]
    if not pairs:
        return None
    actions = tuple(meet(viewer, node, f"{viewer.name} has forgotten {node.name}, which is of its cluster") for viewer, node in pairs)
    return Act("S8", "meet", "members that an election needs do not know each other", actions)


def elections(picture: Picture) -> Decision | None:
    """S9 a failed owner with a live replica, S10 most owners gone, S11 an owner gone without a copy, S21 an owner that is not ours.

    An owner whose node is merely silent counts too: the cluster elects its successor without asking whether it is coming back.
    """
    gone = _gone(picture)
    if not gone:
        return None
    for node_id in gone:
        if node_id in picture.strangers and reachable(picture.strangers[node_id]):
            return foreign(picture, node_id)
    copies = {node_id: [node for node in picture.live if node.master == node_id] for node_id in gone}
    if len(picture.owners) < (len(picture.owners) + len(gone)) // 2 + 1:
        return _minority(picture, gone, copies)
    orphaned = {node_id: lost for node_id, lost in gone.items() if not copies[node_id]}
    if len(orphaned) < len(gone):
        return _election(picture, gone, {node_id: nodes for node_id, nodes in copies.items() if nodes})
    named = not picture.gap & ~picture.desired.lost_slots
    if _silent(picture) or named or picture.age("elections") > _patience(picture):
        return None  # absent says whom the task waits for; what is gone for good is recovered slot by slot (S11)
    return Wait("S11", "elections", f"{_listed(picture, orphaned)} is gone and has no replica", FOREVER, "")


def _gone(picture: Picture) -> dict[str, int]:
    """Owners that do not answer, with those of their slots that no live node has taken over."""
    gone: dict[str, int] = {}
    for node in picture.live:
        for entry in node.entries.values():
            lost = entry.slots & ~picture.owned
            if lost and entry.id not in picture.by_id:
                gone[entry.id] = gone.get(entry.id, 0) | lost
    return gone


def _silent(picture: Picture) -> bool:
    return any(not node.live for node in picture.observation.nodes)


def _patience(picture: Picture) -> float:
    return 2 * picture.node_timeout + 10


def _listed(picture: Picture, gone: Mapping[str, int]) -> str:
    return "; ".join(f"{picture.who(node_id)} with slots {slots.text(lost)}" for node_id, lost in gone.items())


def _minority(picture: Picture, gone: Mapping[str, int], copies: Copies) -> Decision | None:
    """S10: whoever is left cannot elect anybody, for most of those who would vote are gone."""
    listed = _listed(picture, gone)
    newest = {node_id: ahead(nodes) for node_id, nodes in copies.items() if nodes}
    if not newest and not _silent(picture) and not picture.gap & ~picture.desired.lost_slots:
        return None  # nothing is left to take over from, and its loss is accepted (S11)
    patience = _patience(picture)
    waited = picture.age("elections") > patience
    if picture.desired.allow_takeover and newest and (waited or not _silent(picture)):
        actions = tuple(
            Action(
                node.name,
                ("CLUSTER", "FAILOVER", "TAKEOVER"),
                f"has the newest copy of {picture.who(node_id)} (offset {node.offset}); nobody votes, writes it had not received are lost",
            )
            for node_id, node in newest.items()
        )
        return Act("S10", "takeover", f"most masters are gone, and allow_takeover is given: {listed}", actions)
    commands = "; ".join(redis_cli(node, "CLUSTER FAILOVER TAKEOVER") for node in newest.values())
    for_good = f"if they are lost for good, allow_takeover: true sends: {commands}"
    if not newest:
        for_good = (
            f"no replica has a copy: restore from a backup, or go on with their slots empty: allow_data_loss: ['{slots.text(picture.gap)}']"
        )
    text = f"Most masters are gone, so no election can be won: {listed}. Bring those nodes back with their volumes; {for_good}"
    if _silent(picture):
        return Wait("S10", "elections", text if waited else f"most masters are gone: {listed}", FOREVER, "")
    return Wait("S10", "elections", text, patience, text)


def _election(picture: Picture, gone: Mapping[str, int], copies: Copies) -> Decision:
    """S9: the cluster elects by itself; a replica that it does not elect is promoted with consent only."""
    lost = {node_id: gone[node_id] for node_id in copies}
    listed = _listed(picture, lost)
    patience = _patience(picture)
    newest = {node_id: ahead(nodes) for node_id, nodes in copies.items()}
    # A node that is found under another ID at its old address is never failed by its peers (they drop the address and stop pinging it), so nobody is elected.
    strangers = picture.strangers
    hopeless = [node_id for node_id in lost if node_id in strangers and all("noaddr" in entry.flags for entry in strangers[node_id])]
    forced = [node_id for node_id in lost if node_id in picture.desired.allow_data_loss]
    # Nobody who might be that master is on the way, or it has been waited for long enough; a majority votes in any case.
    if forced and (hopeless or not _silent(picture) or picture.age("elections") > patience):
        actions = tuple(
            Action(
                newest[node_id].name,
                ("CLUSTER", "FAILOVER", "FORCE"),
                f"has the newest copy of {picture.who(node_id)} (offset {newest[node_id].offset})",
            )
            for node_id in forced
        )
        return Act("S9", "failover", "no replica is elected, and allow_data_loss names the failed master", actions)
    commands = "; ".join(redis_cli(node, "CLUSTER FAILOVER FORCE") for node in newest.values())
    if hopeless:
        held = ", ".join(f"{newest[node_id].keys} keys ({newest[node_id].name})" for node_id in hopeless)
        text = (
            f"{listed} lost its volume and answers under a new ID at its old address, so its peers do not elect a replica. The newest copies hold {held}: "
            "a replica that has followed that address to the empty node is empty too. To go on with that copy, add the lost ID to "
            f"allow_data_loss ({', '.join(hopeless)}), which sends: {commands}"
        )
        return Refuse("S9", text)
    text = (
        f"No replica was elected for {listed} within {patience:.0f} s; its data may be too old (cluster-replica-validity-factor), or it may not stand for "
        f"election (cluster-replica-no-failover). Bring the master back with its volume, or accept the loss of its last writes: add its ID to allow_data_loss "
        f"({', '.join(lost)}), which sends: {commands}"
    )
    if _silent(picture):
        return Wait("S9", "elections", f"waiting for a replica of {listed} to be elected, or for its return", FOREVER, "")
    return Wait("S9", "elections", f"waiting for a replica of {listed} to be elected", patience, text)
