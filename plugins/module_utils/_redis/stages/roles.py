# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which copy of a shard is its master, once all of them are healthy (private: may change without notice)."""

from __future__ import annotations

from ansible_collections.progressive.platform.plugins.module_utils._members.model import Wait
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Act, Action, Decision
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._redis.rearrange import promote
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.common import structured

LAG_AT_MOST = 1 << 20
"""Bytes that a replica may be behind when its master is asked to hand over: it pauses its clients until the replica has them."""


def roles(picture: Picture) -> Decision | None:
    """S28, only when asked for: masters come back to where they spread best (and with failback to the lowest ordinals), one planned failover at a time."""
    desired = picture.desired
    if not (desired.failback or desired.rebalance_topology) or not structured(picture):
        return None
    if picture.surplus or any(node.me.open_slots or not node.link_up for node in picture.live):
        return None
    if desired.roll and any(node.target.outdated for node in picture.live):
        return None  # a master that has handed over because its pod is to be replaced would get its slots back before
    now = picture.placement
    best = promote(picture.members, now.masters, now.master_of, prefer_first=desired.failback)
    chosen = [node_id for node_id in best.masters if node_id not in now.masters]
    if not chosen:
        return None
    ready = [picture.by_id[node_id] for node_id in chosen]
    behind = {node.id: max(picture.by_id[node.master].offset - node.offset, 0) for node in ready}
    node = min(ready, key=lambda one: (behind[one.id] > LAG_AT_MOST, one.target.ordinal))
    master = picture.by_id[node.master]
    if behind[node.id] > LAG_AT_MOST:
        text = f"{node.name} is to become the master of {picture.who(master.id)}'s shard and is {behind[node.id]} bytes behind it"
        refusal = f"{text}, more than {LAG_AT_MOST} for too long. Run again when it has caught up, or leave the roles as they are (failback: false)."
        return Wait("S28", "roles", text, desired.agreement_timeout, refusal)
    why = f"placement score {now.score} becomes {best.score}" if best.score < now.score else "it has the lower ordinal"
    reason = f"becomes the master in place of {picture.who(master.id)}, {behind[node.id]} bytes behind: {why}"
    summary = "; ".join(now.violations) if best.score < now.score else "masters are not on the nodes they are meant to be on"
    return Act("S28", "failover", summary, (Action(node.name, ("CLUSTER", "FAILOVER"), reason),))
