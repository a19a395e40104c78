# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An observation with everything the planner asks of it: pure (private: may change without notice)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from functools import cached_property

from ansible_collections.progressive.platform.plugins.module_utils._members.model import Marker
from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Action, Desired, Entry, Node, Observation
from ansible_collections.progressive.platform.plugins.module_utils._redis.placement import Member, Placement, assess, place


@dataclasses.dataclass(frozen=True)
class Picture:
    """An observation with everything the stages ask of it. ``ages`` are the seconds for which a Wait's key has been seen without a break.

    Targets beyond the wanted ones that are no part of the cluster (any more) are left out of the observation, and are ``released``.
    """

    observation: Observation
    desired: Desired
    ages: Mapping[str, float] = dataclasses.field(default_factory=dict)
    released: tuple[Node, ...] = ()

    def __post_init__(self) -> None:
        released = tuple(node for node in self.observation.nodes if self._beyond(node) and _apart(node, self.observation))
        if released:
            rest = tuple(node for node in self.observation.nodes if node not in released)
            object.__setattr__(self, "released", (*self.released, *released))
            object.__setattr__(self, "observation", dataclasses.replace(self.observation, nodes=rest))

    def _beyond(self, node: Node) -> bool:
        return self.desired.surplus == "release" and node.target.ordinal >= self.desired.count

    @cached_property
    def live(self) -> tuple[Node, ...]:
        return self.observation.live

    @cached_property
    def by_id(self) -> dict[str, Node]:
        return {node.id: node for node in self.live}

    @cached_property
    def kept(self) -> tuple[Node, ...]:
        """Live nodes that are to be part of the cluster."""
        return tuple(node for node in self.live if not self._beyond(node))

    @cached_property
    def surplus(self) -> tuple[Node, ...]:
        """Live nodes that are part of the cluster and are to leave it."""
        return tuple(node for node in self.live if self._beyond(node))

    @cached_property
    def missing(self) -> int:
        """How many targets there are too few."""
        return self.desired.count - sum(not self._beyond(node) for node in self.observation.nodes)

    @cached_property
    def returning(self) -> frozenset[str]:
        """IDs that answer at no target, but whose address in some view is a target's that is absent or loading: they are ours."""
        places = {(node.target.host, node.target.port) for node in self.observation.nodes if not node.live}
        return frozenset(entry.id for entry in self._others() if (entry.host, entry.port) in places)

    @cached_property
    def strangers(self) -> dict[str, list[Entry]]:
        """IDs that some view lists and no target has, with every view's entry."""
        found: dict[str, list[Entry]] = {}
        for entry in self._others():
            if entry.id not in self.returning:
                found.setdefault(entry.id, []).append(entry)
        return found

    def _others(self) -> Iterable[Entry]:
        return (entry for node in self.live for entry in node.entries.values() if entry.id not in self.by_id)

    @cached_property
    def owners(self) -> tuple[Node, ...]:
        return tuple(node for node in self.live if node.slots)

    @cached_property
    def owned(self) -> int:
        result = 0
        for node in self.owners:
            result |= node.slots
        return result

    @cached_property
    def gap(self) -> int:
        """Slots that no live node calls its own, and no node that is expected back."""
        returning = 0
        for entry in self._others():
            if entry.id in self.returning:
                returning |= entry.slots
        return slots.ALL & ~self.owned & ~returning

    @cached_property
    def complete(self) -> bool:
        """Every target answers, and there are as many as the wanted cluster needs."""
        return all(node.live for node in self.observation.nodes) and self.missing <= 0

    @cached_property
    def empty(self) -> bool:
        """No live node holds a key or a function: nothing can be lost."""
        return all(node.empty for node in self.live)

    @cached_property
    def node_timeout(self) -> float:
        """The longest cluster-node-timeout of any node, in seconds (the server's default where it does not say)."""
        return max((node.node_timeout_ms or 15000 for node in self.live), default=15000) / 1000

    @cached_property
    def lost(self) -> str:
        """R3: why the cluster that the marker remembers may be lost and not gone on purpose; empty when nothing speaks against forming one.

        A marker "forming" with one of these very IDs is a formation that was killed. Otherwise what counts is whether the storage is known to be gone:
        the volumes it had, or, where data dies with the pod, the pods.
        """
        marker = self.observation.marker
        if marker is None or marker.fingerprint in self.desired.allow_data_loss:
            return ""
        if marker.state == "forming" and set(marker.ids.values()) & set(self.by_id):
            return ""
        targets = [node.target for node in self.observation.nodes]
        remembered_volumes = {uid for uids in marker.volumes.values() for uid in uids}
        if remembered_volumes:
            return (
                "their volumes are still the same ones"
                if remembered_volumes & {uid for target in targets for uid in target.volumes}
                else ""
            )
        if marker.uids:
            return "their pods are still the same ones" if set(marker.uids.values()) & {target.uid for target in targets} else ""
        return "nothing says that its storage was removed on purpose"

    @cached_property
    def forming(self) -> bool:
        """An empty cluster that has never been complete, as far as the marker knows."""
        marker = self.observation.marker
        return self.empty and (marker is None or marker.state != "formed" or (not self.owned and not self.lost))

    @cached_property
    def members(self) -> list[Member]:
        return [Member(node.id, node.target.node, node.target.zone, node.name) for node in self.live]

    @cached_property
    def attached(self) -> dict[str, str]:
        """Replica ID to master ID, where that master is a live owner, or a taker that is to become one."""
        masters = {node.id for node in (*self.owners, *self.promised)}
        return {node.id: node.master for node in self.live if not node.slots and node.master in masters}

    @cached_property
    def placement(self) -> Placement:
        owners = [node.id for node in self.owners]
        return assess(self.members, owners, {replica: master for replica, master in self.attached.items() if master in owners})

    @cached_property
    def staying(self) -> tuple[Node, ...]:
        """The owners that remain masters: those on kept targets, of too many the lowest ordinals."""
        return tuple(sorted((node for node in self.owners if not self._beyond(node)), key=lambda node: node.target.ordinal))[
            : self.desired.masters
        ]

    @cached_property
    def wanting(self) -> int:
        """How many masters are to come."""
        return self.desired.masters - len(self.staying)

    @cached_property
    def promised(self) -> tuple[Node, ...]:
        """Masters without slots that have replicas already, while masters are wanted: they were chosen by an earlier pass."""
        followed = {node.master for node in self.kept}
        ready = [node for node in self.kept if node.id in followed and not node.slots and not node.master]
        return tuple(ready[: max(self.wanting, 0)]) if self.owners else ()

    @cached_property
    def new_masters(self) -> list[Node]:
        """The wanted number of masters, those that stay included: the ones that spread best over the failure domains together with their replicas to come."""
        kept_ids = {node.id for node in self.kept}
        attached = {replica: master for replica, master in self.attached.items() if {replica, master} <= kept_ids}
        strays = {node.id for node in self.kept if node.master and node.id not in attached}
        strays |= {node.id for node in self.owners if node not in self.staying}
        members = [member for member in self.members if member.id in kept_ids]
        candidates = [member for member in members if member.id not in strays]
        enough = len(candidates) - len(attached) >= self.desired.masters
        fixed = [node.id for node in (*self.staying, *self.promised)]
        best = place(candidates if enough else members, self.desired.masters, fixed, attached if enough else {})
        return [self.by_id[node_id] for node_id in best.masters]

    @cached_property
    def takers(self) -> list[Node]:
        """Masters without slots that are to get some; keys on one can only have come through a slot it is importing."""
        chosen = [node for node in self.new_masters if not node.slots]
        return [node for node in chosen if not node.master and (not node.keys or node.me.open_slots)]

    def who(self, node_id: str) -> str:
        """``name (ID)`` of one of ours, ``node (ID)`` of a stranger with its last address."""
        if node_id in self.by_id:
            return f"{self.by_id[node_id].name} ({node_id})"
        entry = next((entry for entry in self._others() if entry.id == node_id), None)
        return f"{node_id} (last seen at {entry.host or 'no address'}:{entry.port})" if entry else node_id

    def age(self, key: str) -> float:
        return self.ages.get(key, 0.0)


def _apart(node: Node, observation: Observation) -> bool:
    """No part of the cluster: alone and fresh, or silent at an address that nobody lists."""
    if node.live:
        return node.fresh
    place_of = (node.target.host, node.target.port)
    return node.kind == "absent" and not any(
        (one.host, one.port) == place_of for other in observation.live for one in other.entries.values()
    )


def remembered(observation: Observation) -> Marker:
    """The marker of the cluster that is there. Pod UIDs only count where the data dies with the pod, so that a restart does not change it."""
    targets = {node.name: node.target for node in observation.live}
    return Marker(
        state="formed",
        ids={node.name: node.id for node in observation.live},
        uids={name: target.uid for name, target in targets.items() if target.uid and not target.volumes},
        volumes={name: target.volumes for name, target in targets.items() if target.volumes},
    )


def announced(observation: Observation, actions: Iterable[Action]) -> Marker:
    """What the marker must say before a formation sends its first command: these IDs are forming, and the settings that a killed run leaves to restore."""
    by_name = {node.name: node for node in observation.live}
    settings = {node_id: dict(saved) for node_id, saved in (observation.marker.settings if observation.marker else {}).items()}
    for action in actions:
        if action.command[:2] == ("CONFIG", "SET"):
            node = by_name[action.node]
            value = node.node_timeout_ms if action.command[2] == "cluster-node-timeout" else node.sync_delay_s
            settings.setdefault(node.id, {}).setdefault(action.command[2], str(value))
    return dataclasses.replace(remembered(observation), state="forming", settings=settings)
