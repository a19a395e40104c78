# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what the nodes say to the next class of actions: pure, no clock, no network (private: may change without notice).

``decide`` runs the stages in the order of repair (R10); the first that has something to do decides, and whatever it decides is carried out and
observed again before anything else (R1). A state that is not handled yet is a Refuse that says so: it is never taken for another one.
"""

from __future__ import annotations

import dataclasses
import typing as t
from collections import Counter
from collections.abc import Iterable

from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import (
    FORMATION_TIMEOUT,
    Act,
    Action,
    Decision,
    Done,
    Entry,
    Node,
    Refuse,
    Wait,
)
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._redis.placement import WHOLE_SHARD_IN_ZONE, assess, place, way

FORMING_AT_MOST = 10.0
"""Seconds with formation settings; a formation that needs longer goes on with the nodes' own settings, for a timeout of 500 ms is no way to live."""
FOREVER = float("inf")
"""Limit of a wait that only the task's own timeout ends."""
NEXT = "not handled by this version, nothing was changed"


Stage: t.TypeAlias = "t.Callable[[Picture], Decision | None]"


def decide(picture: Picture) -> Decision:
    """The one thing to do now."""
    return next(iter(_decisions(picture)), Done())


def findings(picture: Picture) -> list[Decision]:
    """What every stage has to say, for a report; only the first is acted upon, the others may settle with it."""
    return list(_decisions(picture))


def _decisions(picture: Picture) -> Iterable[Decision]:
    for stage in STAGES:
        decision = stage(picture)
        if isinstance(decision, Wait) and picture.age(decision.key) > decision.limit:
            decision = Refuse(decision.state, decision.refusal)
        if isinstance(decision, Act) and decision.kind not in {"restore", "meet"}:
            decision = _same_version(picture, decision)
        if decision is not None:
            yield decision
            if stage is unusable:
                return


def _same_version(picture: Picture, decision: Act) -> Decision:
    releases = {node.release[:2]: node for node in picture.live}
    if len(releases) < 2:
        return decision
    seen = ", ".join(f"{node.name} {node.version}" for node in releases.values())
    return Refuse(
        "S34",
        f"The nodes run different versions ({seen}), so the topology is left alone ({decision.reason}): finish the upgrade first; {NEXT}.",
    )


def _redis_cli(node: Node, *command: str) -> str:
    return f"redis-cli -h {node.target.host} -p {node.target.port} {' '.join(command)}"


# ---- before anything: are these the nodes, and may they be touched -----------------------------------------------------------------------------------


def unusable(picture: Picture) -> Decision | None:
    """S35 a refused password, a server that is no cluster node, S6 an ID seen twice."""
    refused = [node for node in picture.observation.nodes if node.kind == "auth"]
    if refused:
        listed = "; ".join(f"{node.name}: {node.problem}" for node in refused)
        return Refuse("S35", f"The password is refused ({listed}). Give the one these nodes have in password or password_secret; {NEXT}.")
    foreign = [node for node in picture.observation.nodes if node.kind == "foreign"]
    if foreign:
        return Refuse("S23", "Not a Redis Cluster node: " + "; ".join(f"{node.name}: {node.problem}" for node in foreign))
    doubles = [node_id for node_id, count in Counter(node.id for node in picture.live).items() if count > 1]
    if doubles:
        places = "; ".join(f"{node_id} at {', '.join(node.name for node in picture.live if node.id == node_id)}" for node_id in doubles)
        return Refuse(
            "S6",
            f"One node ID answers at two addresses ({places}): a volume was cloned, or two addresses lead to one server. Keep one and empty the other.",
        )
    return None


def restore_early(picture: Picture) -> Decision | None:
    """Formation settings on a cluster that holds data, or that has been forming for too long, come off before anything else."""
    if not picture.empty or picture.age("forming") > FORMING_AT_MOST:
        return restore(picture)
    return None


def loading(picture: Picture) -> Decision | None:
    """S16: a node that loads its data is present, not failed."""
    nodes = [node for node in picture.observation.nodes if node.kind == "loading"]
    if not nodes:
        return None
    listed = ", ".join(f"{node.name} (about {node.loading_eta} s left)" for node in nodes)
    limit = picture.desired.load_timeout
    text = f"Still loading after {limit:.0f} s: {listed}. Look at the server's log, or allow more with load_timeout."
    return Wait("S16", "loading", f"loading its data set: {listed}", limit, text, own_time=True)


def absent(picture: Picture) -> Decision | None:
    """Fewer nodes than wanted, or some that do not answer: their return is waited for, a pod may be on its way."""
    silent = [node for node in picture.observation.nodes if node.kind == "absent"]
    missing = picture.desired.count - len(picture.observation.nodes)
    if not silent and missing <= 0:
        return None
    wanted = f"{picture.desired.masters} masters with {picture.desired.replicas} replicas each need {picture.desired.count} nodes"
    parts = [f"{node.name}: {node.problem}" for node in silent]
    if missing > 0:
        parts.append(f"{wanted}, {len(picture.observation.nodes)} are there")
    state = "S1" if not picture.owned else "S17"
    return Wait(state, "absent", "; ".join(parts), FOREVER, "")


# ---- elections ---------------------------------------------------------------------------------------------------------------------------------------


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
        if _reachable(picture.strangers[node_id]):
            return _foreign(picture, node_id)
    replicas = {node_id: [node for node in picture.live if node.master == node_id] for node_id in gone}
    listed = "; ".join(f"{picture.who(node_id)} with slots {slots.text(lost)}" for node_id, lost in gone.items())
    patience = 2 * picture.node_timeout + 10
    if len(picture.owners) < (len(picture.owners) + len(gone)) // 2 + 1:
        commands = "; ".join(_redis_cli(_ahead(copies), "CLUSTER FAILOVER TAKEOVER") for copies in replicas.values() if copies)
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
                        _ahead(replicas[node_id]).name, ("CLUSTER", "FAILOVER", "FORCE"), f"has the newest copy of {picture.who(node_id)}"
                    )
                    for node_id in forced
                ),
            )
    commands = "; ".join(_redis_cli(_ahead(copies), "CLUSTER FAILOVER FORCE") for copies in replicas.values())
    text = (
        f"No replica was elected for {listed} within {patience:.0f} s; its data may be too old (cluster-replica-validity-factor). "
        f"To accept the loss of its last writes add the failed ID to allow_data_loss ({', '.join(gone)}), which sends: {commands}"
    )
    if hopeless:
        newest = (_ahead(replicas[node_id]) for node_id in hopeless)
        held = ", ".join(f"{copy.keys} keys ({copy.name})" for copy in newest)
        text = (
            f"{listed} lost its volume and answers under a new ID at its old address, so its peers do not elect a replica. The newest copies hold {held}: "
            "a replica that has followed that address to the empty node is empty too. To go on with that copy, add the lost ID to "
            f"allow_data_loss ({', '.join(hopeless)}), which sends: {commands}"
        )
        return Refuse("S9", text)
    return Wait("S9", "elections", f"waiting for a replica of {listed} to be elected", patience, text)


def _ahead(nodes: Iterable[Node]) -> Node:
    return max(nodes, key=lambda node: (node.offset, -node.target.ordinal))


def _reachable(entries: Iterable[Entry]) -> bool:
    return any(entry.connected and not entry.failed and not entry.suspected for entry in entries)


def _foreign(picture: Picture, node_id: str) -> Decision:
    """S21; but a node that was killed a moment ago looks the same until its peers have missed it."""
    patience = 2 * picture.node_timeout
    text = (
        f"Node {picture.who(node_id)} belongs to this cluster, is alive, and is not among the nodes given. Add it to them, or remove it yourself "
        f"(CLUSTER FORGET {node_id} on every node); {NEXT}."
    )
    return Wait("S21", f"foreign {node_id}", f"node {picture.who(node_id)} is not among the nodes given", patience, text)


# ---- addresses and links -----------------------------------------------------------------------------------------------------------------------------


def moved(picture: Picture) -> Decision | None:
    """S5 one node, S6 many have another address than their peers remember. A link that works is never touched, whatever address it uses."""
    pairs = []
    for viewer in picture.live:
        for entry in viewer.entries.values():
            node = picture.by_id.get(entry.id)
            if node is not None and node is not viewer and _bad(entry) and (entry.host, entry.port) != (node.target.host, node.target.port):
                pairs.append((viewer, node))
    if not pairs:
        return None
    movers = sorted({node.name for _viewer, node in pairs})
    patience = 2 * picture.node_timeout
    if len(movers) == 1 and picture.age("moved") <= patience:
        return Wait("S5", "moved", f"{movers[0]} has a new address, its peers are learning it", patience, "")
    actions = tuple(
        _meet(viewer, node, f"{node.name} has moved; {viewer.name} still looks for it at its old address") for viewer, node in pairs
    )
    return Act("S6", "meet", f"{', '.join(movers)} answer at new addresses", actions)


def _bad(entry: Entry) -> bool:
    return entry.failed or entry.suspected or not entry.connected


def _meet(viewer: Node, node: Node, reason: str) -> Action:
    """R9: an IP, never a name. The bus port is given only where it is not the usual one."""
    port = node.target.port
    bus = (str(node.me.bus_port),) if node.me.bus_port not in {0, port + 10000} else ()
    return Action(viewer.name, ("CLUSTER", "MEET", node.target.host, str(port), *bus), reason)


def suspicions(picture: Picture) -> Decision | None:
    """Links are looked at before anything is repaired; but while an empty cluster forms they come up beside the rest, and are looked at in the end."""
    return None if picture.forming else links(picture)


def links(picture: Picture) -> Decision | None:
    """S17 a live node that some suspect; once it lasts, S18: the pairs whose bus connection is blocked."""
    pairs = [
        (viewer, picture.by_id[entry.id])
        for viewer in picture.live
        for entry in viewer.entries.values()
        if entry.id in picture.by_id and entry.id != viewer.id and _bad(entry)
    ]
    if not pairs:
        return None
    shown = ", ".join(f"{viewer.name} -> {node.name} ({node.target.host}:{node.me.bus_port})" for viewer, node in pairs)
    if picture.age("links") <= picture.node_timeout:
        return Wait("S17", "links", f"not yet sure of each other: {shown}", FOREVER, "")
    limit = max(picture.desired.agreement_timeout, 2 * picture.node_timeout + 5)
    text = f"These nodes cannot reach each other on the cluster bus: {shown}. Open those ports between them (firewall, NetworkPolicy) and run again."
    return Wait("S18", "links", f"no bus connection: {shown}", limit, text)


# ---- one cluster -------------------------------------------------------------------------------------------------------------------------------------


def join(picture: Picture) -> Decision | None:
    """S1, S2, S8: nodes that do not know each other meet, unless that could lose data (S20, S23) or hide that data was lost (R3)."""
    if not picture.live:
        return None
    groups = _components(picture)
    refusal = _prior_cluster(picture) or _not_joinable(picture, groups)
    if refusal is not None:
        return refusal
    preparation = _prepare(picture)
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
        tuple(_meet(viewer, node, f"{viewer.name} meets {node.name}") for viewer, node in pairs),
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
                f"{_redis_cli(node, 'FLUSHALL')} and {_redis_cli(node, 'FUNCTION FLUSH')}",
            )
    for group in groups[1 if with_slots else 0 :]:
        for node in group:
            others = [entry for entry in node.entries.values() if entry.id in picture.strangers]
            if others and (with_slots or any(entry.slots for entry in others) or _reachable(others)):
                known = ", ".join(picture.who(entry.id) for entry in others)
                return Refuse(
                    "S23",
                    f"{node.name} ({node.id}) remembers another cluster: {known}. It is not joined. If that cluster is really gone: "
                    f"{_redis_cli(node, 'CLUSTER RESET')}",
                )
    return None


def _prepare(picture: Picture) -> Decision | None:
    """Distinct epochs while the nodes are alone (only then SET-CONFIG-EPOCH is legal), and settings that let an empty cluster form in half a second."""
    if not picture.forming or not picture.gap or picture.strangers:
        return None
    if picture.age("forming") > FORMING_AT_MOST:
        return None
    actions = []
    epoch = max(max(node.me.epoch, node.current_epoch) for node in picture.live)
    for node in picture.live:
        if node.node_timeout_ms > FORMATION_TIMEOUT:
            reason = f"says ok after 0.5 s and not after {min(node.node_timeout_ms, 5000) / 1000:g} s while the cluster is empty; restored afterwards"
            actions.append(Action(node.name, ("CONFIG", "SET", "cluster-node-timeout", str(FORMATION_TIMEOUT)), reason))
        if node.sync_delay_s > 0:
            reason = f"its replicas do not wait {node.sync_delay_s} s for company while the cluster is empty; restored afterwards"
            actions.append(Action(node.name, ("CONFIG", "SET", "repl-diskless-sync-delay", "0"), reason))
        if node.fresh:
            epoch += 1
            actions.append(Action(node.name, ("CLUSTER", "SET-CONFIG-EPOCH", str(epoch)), "distinct epochs, so that masters never collide"))
    return Act("S1" if not picture.owned else "S3", "prepare", "an empty cluster is formed", tuple(actions)) if actions else None


# ---- slots -------------------------------------------------------------------------------------------------------------------------------------------


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
                    actions.append(_setslot(node, slot, "NODE", other_id, "its new owner has it already"))
                elif owner is node and slot not in other.me.open_slots:
                    actions.append(_setslot(node, slot, "STABLE", "", "the other side does not import it"))
            elif owner is node:
                actions.append(_setslot(node, slot, "STABLE", "", "it owns the slot already"))
            elif owner is other and other.me.open_slots.get(slot) == ("migrating", node.id):
                if other.open_keys.get(slot, 0):
                    return _open_refusal(picture, node, here, f"{other.open_keys[slot]} keys are still on {other.name}")
                actions.append(_setslot(node, slot, "NODE", node.id, "no key is left on the old owner"))
            elif owner is other and not node.open_keys[slot]:
                actions.append(_setslot(node, slot, "STABLE", "", "no key has arrived and the owner does not migrate it"))
            else:
                return _open_refusal(picture, node, here, f"{node.open_keys[slot]} keys have arrived, the owner is {owner.name}")
    return Act("S12", "close", "slots without keys were left open", tuple(actions)) if actions else None


def _ids(pair: tuple[Node, Node] | None) -> tuple[str, str]:
    return (pair[0].id, pair[1].id) if pair else ("", "")


def _setslot(node: Node, slot: int, verb: str, argument: str, reason: str) -> Action:
    command = ("CLUSTER", "SETSLOT", str(slot), verb, argument) if argument else ("CLUSTER", "SETSLOT", str(slot), verb)
    return Action(node.name, command, reason)


def _open_refusal(picture: Picture, node: Node, here: tuple[int, str, str], why: str) -> Refuse:
    slot, direction, other = here
    state = "S15" if node.master else "S12" if direction == "migrating" else "S13"
    count = _redis_cli(node, f"CLUSTER COUNTKEYSINSLOT {slot}")
    text = f"Slot {slot} is {direction} on {node.name} ({node.id}), other side {picture.who(other)}: {why}. Finish the migration by hand ({count}); {NEXT}."
    return Refuse(state, text)


def coverage(picture: Picture) -> Decision | None:
    """S1 and S3: slots that nobody ever owned go to masters that have none. S11: they were owned once. S30: more owners than wanted.

    While two nodes call one slot their own, a failover or a migration has not been heard of everywhere: that is S18, not S30.
    """
    if sum(slots.size(node.slots) for node in picture.owners) > slots.size(picture.owned):
        return settled(picture)
    if len(picture.owners) > picture.desired.masters:
        names = ", ".join(f"{node.name} ({node.id}, {slots.size(node.slots)} slots)" for node in picture.owners)
        return Refuse(
            "S30", f"{len(picture.owners)} masters own slots and {picture.desired.masters} are wanted: {names}; scaling in is {NEXT}."
        )
    if not picture.gap:
        return None
    if any(entry.slots & picture.gap for entries in picture.strangers.values() for entry in entries):
        return None
    if not picture.forming:
        holders = ", ".join(f"{node.name} ({node.keys} keys)" for node in picture.live if not node.empty) or "none"
        return Refuse(
            "S11",
            f"Slots {slots.text(picture.gap)} have no owner, and the cluster has been complete or holds data (nodes with keys: {holders}). "
            f"Look for their keys with CLUSTER COUNTKEYSINSLOT on every node before CLUSTER ADDSLOTSRANGE; {NEXT}.",
        )
    wanted = picture.desired.masters - len(picture.owners)
    if not picture.complete:
        return None
    if wanted <= 0:
        return Refuse(
            "S11",
            f"Slots {slots.text(picture.gap)} have no owner and all {picture.desired.masters} masters have slots already: somebody removed them; {NEXT}.",
        )
    chosen = [node for node in picture.new_masters if not node.slots]
    if any(node.master for node in chosen) or len(chosen) < wanted:
        return Refuse(
            "S27",
            f"Slots {slots.text(picture.gap)} need {wanted} more masters, and the nodes left are replicas of masters without slots; {NEXT}.",
        )
    actions = []
    for node, share in zip(chosen, slots.split(picture.gap, len(chosen)), strict=True):
        actions.append(Action(node.name, _add_slots(node, share), f"becomes the master of slots {slots.text(share)}"))
    return Act("S1" if not picture.owned else "S3", "slots", f"slots {slots.text(picture.gap)} have never had an owner", tuple(actions))


def _add_slots(node: Node, share: int) -> tuple[str, ...]:
    """ADDSLOTSRANGE exists from 7.0; one command either way, so that a master has all of its slots or none."""
    if node.release >= (7,):
        return ("CLUSTER", "ADDSLOTSRANGE", *(str(bound) for pair in slots.ranges(share) for bound in pair))
    return ("CLUSTER", "ADDSLOTS", *(str(slot) for slot in slots.numbers(share)))


def agreement(picture: Picture) -> Decision | None:
    """S18: all views must show the same owners. While an empty cluster forms, replicas are attached meanwhile (see settled)."""
    if picture.forming:
        return None
    return settled(picture)


def settled(picture: Picture) -> Decision | None:
    """S18 without exception."""
    truth = {node.id: node.slots for node in picture.owners}
    differing = []
    for viewer in picture.live:
        view = {entry.id: entry.slots for entry in viewer.entries.values() if entry.slots and entry.id not in picture.returning}
        if view != truth:
            differing.append(viewer.name)
    if not differing:
        return None
    limit = max(picture.desired.agreement_timeout, 2 * picture.node_timeout + 5)
    text = (
        f"After {limit:.0f} s {', '.join(differing)} still see other slot owners than the owners themselves do. Compare CLUSTER NODES there with: "
        + ", ".join(f"{node.name} {slots.text(node.slots)}" for node in picture.owners)
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


# ---- replicas ----------------------------------------------------------------------------------------------------------------------------------------


def _structured(picture: Picture) -> bool:
    """All nodes are there and the wanted number of masters owns all slots: only then replicas are placed."""
    return picture.complete and not picture.gap and len(picture.owners) == picture.desired.masters


def replicas(picture: Picture) -> Decision | None:
    """S1, S8, S26, S27: live nodes without slots become replicas of the shards that need them, by placement."""
    if not _structured(picture):
        return None
    idle = [node for node in picture.live if not node.slots and node.id not in picture.attached]
    if not idle:
        return None
    for node in idle:
        if node.keys and not node.master:
            return Refuse(
                "S26",
                f"{node.name} ({node.id}) is a master without slots that holds {node.keys} keys; as a replica it would lose them. "
                f"Save what is needed, then empty it yourself: {_redis_cli(node, 'FLUSHALL')}",
            )
    best = place(picture.members, picture.desired.masters, [node.id for node in picture.owners], picture.attached)
    state = "S1" if picture.forming else "S27" if any(node.master for node in idle) else "S8" if picture.strangers else "S26"
    actions = tuple(
        Action(
            node.name,
            ("CLUSTER", "REPLICATE", best.master_of[node.id]),
            f"becomes a replica of {picture.who(best.master_of[node.id])}, in zone {node.target.zone or '-'}",
        )
        for node in idle
    )
    return Act(state, "replicate", "nodes without slots become replicas", actions)


def replication(picture: Picture) -> Decision | None:
    """S7: a replica whose link to its master is down.

    A full synchronisation that runs is waited for, and so is one that has not begun: a master waits repl-diskless-sync-delay for more replicas, meanwhile
    the replica says nothing of it, and connecting again would start the wait anew.
    """
    down = [picture.by_id[replica] for replica in picture.attached if not picture.by_id[replica].link_up]
    if not down:
        return None
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


def distribution(picture: Picture) -> Decision | None:
    """S24: a shard has fewer replicas than wanted while another has more than it needs; one replica moves at a time."""
    if not _structured(picture):
        return None
    counts = Counter(picture.attached.values())
    needy = [node for node in picture.owners if counts[node.id] < picture.desired.replicas]
    if not needy:
        return None
    options = []
    for replica_id, master_id in picture.attached.items():
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
    if not picture.desired.rebalance_topology or not _structured(picture):
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
        "while. Add one node for the time of the change.",
    )


# ---- the end -----------------------------------------------------------------------------------------------------------------------------------------


def forget(picture: Picture) -> Decision | None:
    """S22: dead IDs without slots that are no target's, on all nodes at once (a node that was left out would tell the others again after 60 s)."""
    dead = []
    for node_id, entries in picture.strangers.items():
        if _reachable(entries):
            return _foreign(picture, node_id)
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
            opening.append(_setslot(taker, slot, "IMPORTING", giver.id, f"takes slot {slot} from {giver.name}"))
        if giver.me.open_slots.get(slot) != ("migrating", taker.id):
            opening.append(dataclasses.replace(_setslot(giver, slot, "MIGRATING", taker.id, f"gives slot {slot} to {taker.name}"), order=1))
    names = ", ".join(node.name for node in takers)
    if opening:
        return Act("S26", "open", f"{names} get their share of empty slots", tuple(opening))
    closing = tuple(_setslot(taker, slot, "NODE", taker.id, "no key is on the old owner") for slot, (_giver, taker) in transfer.items())
    return Act("S26", "close", f"{names} own their share from now on", closing)


def restore(picture: Picture) -> Decision | None:
    """Formation settings back to what each node had; cluster-node-timeout to node_timeout_ms where the caller gives it."""
    marker = picture.observation.marker
    actions = []
    for node in picture.live:
        saved = dict(marker.settings.get(node.id, {})) if marker else {}
        if picture.desired.node_timeout_ms:
            saved["cluster-node-timeout"] = str(picture.desired.node_timeout_ms)
        now = {"cluster-node-timeout": str(node.node_timeout_ms), "repl-diskless-sync-delay": str(node.sync_delay_s)}
        actions += [
            Action(node.name, ("CONFIG", "SET", name, value), f"as it was before the formation, {now[name]} now")
            for name, value in saved.items()
            if now.get(name) != value and int(now.get(name, "0")) >= 0
        ]
    return Act("S1", "restore", "the nodes' own settings come back", tuple(actions)) if actions else None


def verdict(picture: Picture) -> Decision | None:
    """S32: everything is assigned and agreed, but a node does not say ok yet."""
    not_ok = [node.name for node in picture.live if not node.cluster_ok]
    if not not_ok:
        return None
    limit = max(picture.desired.agreement_timeout, 2 * picture.node_timeout + 5)
    text = f"All slots are owned and agreed, but after {limit:.0f} s {', '.join(not_ok)} still say cluster_state:fail. Look at their logs."
    return Wait("S32", "verdict", f"cluster_state is not ok yet on {', '.join(not_ok)}", limit, text)


STAGES: tuple[Stage, ...] = (
    unusable,
    restore_early,
    loading,
    absent,
    elections,
    moved,
    join,
    suspicions,
    open_slots,
    coverage,
    agreement,
    epochs,
    replicas,
    replication,
    topology,
    distribution,
    forget,
    balance,
    links,
    settled,
    verdict,
    restore,
)
