# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Failed owners, and who takes over (private: may change without notice)."""

from __future__ import annotations

from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Act, Action, Decision, Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.common import NEXT, ahead, foreign, reachable, redis_cli


def elections(picture: Picture) -> Decision | None:
    """S9 a failed owner with a live replica, S10 most owners gone, S11 an owner gone without a copy, S21 an owner that is not ours."""
    gone = {}
    for node_id, entries in picture.strangers.items():
        lost = 0
        for entry in entries:
            lost |= entry.slots
        if lost & picture.gap:
            gone[node_id] = lost & picture.gap
    if not gone:
        return None
    for node_id in gone:
        if reachable(picture.strangers[node_id]):
            return foreign(picture, node_id)
    replicas = {node_id: [node for node in picture.live if node.master == node_id] for node_id in gone}
    listed = "; ".join(f"{picture.who(node_id)} with slots {slots.text(lost)}" for node_id, lost in gone.items())
    patience = 2 * picture.node_timeout + 10
    if len(picture.owners) < (len(picture.owners) + len(gone)) // 2 + 1:
        commands = "; ".join(redis_cli(ahead(copies), "CLUSTER FAILOVER TAKEOVER") for copies in replicas.values() if copies)
        text = (
            f"Most masters are gone, so no election can be won: {listed}. Bring those nodes back with their volumes; "
            f"if they are lost for good: {commands or 'no replica has a copy, restore from a backup'}; {NEXT}."
        )
        return Wait("S10", "elections", f"most masters are gone: {listed}", patience, text)
    for node_id, lost in gone.items():
        if not replicas[node_id]:
            text = (
                f"Slots {slots.text(lost)} belonged to {picture.who(node_id)}, which is gone, and no live node has a copy. "
                f"Bring it back with its volume, or restore from a backup; {NEXT}."
            )
            return Wait("S11", "elections", f"owner {picture.who(node_id)} is gone and has no replica", patience, text)
    # A node that is found under another ID at its old address is never failed by its peers (they drop the address and stop pinging it), so nobody is elected.
    hopeless = [node_id for node_id in gone if all("noaddr" in entry.flags for entry in picture.strangers[node_id])]
    if hopeless or picture.age("elections") > patience:
        forced = [node_id for node_id in gone if node_id in picture.desired.allow_data_loss]
        if forced:
            return Act(
                "S9",
                "failover",
                "no replica is elected, and allow_data_loss names the failed master",
                tuple(
                    Action(
                        ahead(replicas[node_id]).name, ("CLUSTER", "FAILOVER", "FORCE"), f"has the newest copy of {picture.who(node_id)}"
                    )
                    for node_id in forced
                ),
            )
    commands = "; ".join(redis_cli(ahead(copies), "CLUSTER FAILOVER FORCE") for copies in replicas.values())
    text = (
        f"No replica was elected for {listed} within {patience:.0f} s; its data may be too old (cluster-replica-validity-factor). "
        f"To accept the loss of its last writes add the failed ID to allow_data_loss ({', '.join(gone)}), which sends: {commands}"
    )
    if hopeless:
        newest = (ahead(replicas[node_id]) for node_id in hopeless)
        held = ", ".join(f"{copy.keys} keys ({copy.name})" for copy in newest)
        text = (
            f"{listed} lost its volume and answers under a new ID at its old address, so its peers do not elect a replica. The newest copies hold {held}: "
            "a replica that has followed that address to the empty node is empty too. To go on with that copy, add the lost ID to "
            f"allow_data_loss ({', '.join(hopeless)}), which sends: {commands}"
        )
        return Refuse("S9", text)
    return Wait("S9", "elections", f"waiting for a replica of {listed} to be elected", patience, text)
