# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Replicas: whose they are, whether they copy, and where they sit (private: may change without notice)."""

from __future__ import annotations

from collections import Counter

from ansible_collections.progressive.platform.plugins.module_utils._members.model import FOREVER, Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Act, Action, Decision
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._redis.placement import WHOLE_SHARD_IN_ZONE, assess, place
from ansible_collections.progressive.platform.plugins.module_utils._redis.rearrange import way
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.common import redis_cli, structured

SILENCE_S = 10
"""A replica acknowledges each second; ten without the first one is not a slow start."""


def replicas(picture: Picture) -> Decision | None:
    """S1, S8, S26, S27, S31: live nodes without slots become replicas of the shards that need them, by placement."""
    expanding = picture.complete and not picture.gap and bool(picture.owners) and len(picture.takers) == picture.wanting > 0
    if not structured(picture) and not expanding:
        return None
    masters = [node.id for node in (*picture.staying, *picture.takers)] if expanding else [node.id for node in picture.owners]
    idle = [node for node in picture.kept if not node.slots and node.id not in masters and node.id not in picture.attached]
    if not idle:
        return None
    filled = [node for node in idle if node.keys and not node.master]
    for node in filled:
        if node.id not in picture.desired.discard:
            return Refuse(
                "S26",
                f"{node.name} ({node.id}) is a master without slots that holds {node.keys} keys; as a replica it would lose them. "
                f"Save what is needed; to drop the rest: discard_data: [{node.id}] ({redis_cli(node, 'FLUSHALL')})",
            )
    if filled:
        flush = tuple(Action(node.name, ("FLUSHALL",), f"discard_data names it: {node.keys} keys are dropped") for node in filled)
        return Act("S26", "discard", "masters without slots are emptied", flush)
    kept = {node.id for node in picture.kept}
    attached = {replica: master for replica, master in picture.attached.items() if {replica, master} <= kept}
    best = place([member for member in picture.members if member.id in kept], picture.desired.masters, masters, attached)
    needed = len(picture.attached) < picture.desired.masters * picture.desired.replicas
    state = "S27" if any(node.master for node in idle) else "S8" if picture.strangers else "S31" if needed else "S26"
    actions = tuple(
        Action(
            node.name,
            ("CLUSTER", "REPLICATE", best.master_of[node.id]),
            f"becomes a replica of {picture.who(best.master_of[node.id])}, in zone {node.target.zone or '-'}",
        )
        for node in idle
    )
    return Act("S1" if picture.forming else state, "replicate", "nodes without slots become replicas", actions)


def replication(picture: Picture) -> Decision | None:
    """S7: a replica whose link to its master is down, or is up and silent.

    A full synchronisation that runs is waited for, and so is one that has not begun: a master waits repl-diskless-sync-delay for more replicas, meanwhile
    the replica says nothing of it, and connecting again would start the wait anew.
    """
    down = [picture.by_id[replica] for replica in picture.attached if not picture.by_id[replica].link_up]
    if not down:
        return _silence(picture)
    names = ", ".join(f"{node.name} (of {picture.who(node.master)})" for node in down)
    for node in down:
        if node.auth_agrees is False:
            return Refuse(
                "S7",
                f"{node.name} ({node.id}) cannot log in to its master {picture.who(node.master)}: its masterauth is not the password the nodes take. "
                "Put the same password in requirepass and masterauth.",
            )
    if any(node.syncing for node in down):
        limit = picture.desired.load_timeout
        text = f"The full synchronisation of {names} has not ended within {limit:.0f} s. Look at the logs of both ends (output buffer limit, disk)."
        return Wait("S7", "links down", f"copying the data set to {names}", limit, text, own_time=True)
    delay = max((node.sync_delay_s for node in picture.live), default=0)
    if picture.age("links down") <= max(2 * picture.node_timeout, 3.0) + max(delay, 0) + 5:
        return Wait("S7", "links down", f"replication links are coming up: {names}", FOREVER, "")
    actions = tuple(
        Action(node.name, ("CLUSTER", "REPLICATE", node.master), "its link is down: connect to the same master again") for node in down
    )
    return Act("S7", "relink", f"replication links stay down: {names}", actions)


def _silence(picture: Picture) -> Decision | None:
    """A replica whose PSYNC is refused (NOAUTH, NOPERM) falls back to SYNC, and one that was let in by that acknowledges nothing (Redis 7.0).

    It counts neither for WAIT nor for min-replicas-to-write, and no planned failover can take it. Its count of bytes began anew, under the master's
    replication ID: made again, the link may be continued with PSYNC from a place where the replica is not. So its copy is made anew.
    """
    if picture.forming:
        return None
    silent = []
    for replica, master in picture.attached.items():
        seen, said = picture.by_id[master].entries.get(replica), picture.by_id[master]
        if seen is None:
            continue
        place = (seen.host, seen.port if (seen.host, seen.port) in said.named else 0)  # its REPLCONF was refused too: it has no port there
        if place in said.unheard:
            silent.append((said.unheard[place], picture.by_id[replica]))
    if not silent:
        return None
    names = ", ".join(f"{node.name} (of {picture.who(node.master)})" for _seconds, node in silent)
    seconds, node = max(silent, key=lambda one: one[0])
    if seconds < SILENCE_S:
        return Wait("S7", "unheard", f"the first acknowledgement is awaited of {names}", FOREVER, "")
    reason = f"its master has not heard of it for {seconds} s; it joins and copies its master again"
    return Act(
        "S7", "reset", f"masters hear nothing from their replicas: {names}", (Action(node.name, ("CLUSTER", "RESET", "SOFT"), reason),)
    )


def distribution(picture: Picture) -> Decision | None:
    """S24: a shard has fewer replicas than wanted while another has more than it needs; one replica moves at a time."""
    if not structured(picture):
        return None
    kept = {node.id for node in picture.kept}
    attached = {replica: master for replica, master in picture.attached.items() if replica in kept}
    counts = Counter(attached.values())
    needy = [node for node in picture.owners if counts[node.id] < picture.desired.replicas]
    if not needy:
        return None
    options = []
    for replica_id, master_id in attached.items():
        if counts[master_id] <= picture.desired.replicas:
            continue
        for master in needy:
            after = assess(picture.members, [node.id for node in picture.owners], {**picture.attached, replica_id: master.id})
            options.append((counts[master.id], after.score, picture.by_id[replica_id].target.ordinal, replica_id, master))
    if not options:
        listed = ", ".join(f"{node.name} ({node.id}) has {counts[node.id]}" for node in needy)
        return Refuse(
            "S24",
            f"{picture.desired.replicas} replicas a shard are wanted, {listed}, and no shard has one to spare: moving one would leave it without. Add nodes.",
        )
    _count, _score, _ordinal, replica_id, master = min(options, key=lambda option: option[:4])
    replica = picture.by_id[replica_id]
    if 0 < replica.maxmemory < master.used_memory:
        return Refuse(
            "S24",
            f"{replica.name} may hold {replica.maxmemory} bytes and {master.name} uses {master.used_memory}: the copy would not fit. Raise maxmemory.",
        )
    reason = (
        f"moves from {picture.who(replica.master)} ({counts[replica.master]} replicas) to {picture.who(master.id)} ({counts[master.id]})"
    )
    return Act("S24", "replicate", "replicas are unevenly spread", (Action(replica.name, ("CLUSTER", "REPLICATE", master.id), reason),))


def topology(picture: Picture) -> Decision | None:
    """S25, only when asked for: replicas change places when that separates copies, one at a time and never at the cost of a copy."""
    if not picture.desired.rebalance_topology or not structured(picture) or any(node.me.open_slots for node in picture.live):
        return None
    owner_ids = [node.id for node in picture.owners]
    now = picture.placement
    best = place(picture.members, picture.desired.masters, owner_ids)
    if now.score - best.score < WHOLE_SHARD_IN_ZONE:
        return None
    spared = 0 if picture.empty else picture.desired.replicas
    path = way(picture.members, owner_ids, picture.attached, now.score - WHOLE_SHARD_IN_ZONE, spared, picture.desired.replicas)
    if path:
        replica, master = path[0]
        reason = (
            f"moves from {picture.who(picture.attached[replica])} to {picture.who(master)}, step 1 of {len(path)} to a better placement"
        )
        return Act(
            "S25", "replicate", "; ".join(now.violations), (Action(picture.by_id[replica].name, ("CLUSTER", "REPLICATE", master), reason),)
        )
    if min(Counter(picture.attached.values()).get(owner, 0) for owner in owner_ids) < picture.desired.replicas:
        return None
    return Refuse(
        "S25",
        f"{'; '.join(now.violations)}. No replica can move without leaving a shard that holds data with fewer than {picture.desired.replicas} replicas for a "
        "while. Add one node for the time of the change (surplus: keep), and run again.",
    )
