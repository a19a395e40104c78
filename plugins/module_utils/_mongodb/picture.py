# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An observation with everything the planner asks of it: pure (private: may change without notice)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property

from ansible_collections.progressive.platform.plugins.module_utils._members.model import Marker
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.model import Config, Desired, Entry, Node, Observation


@dataclasses.dataclass(frozen=True)
class Picture:
    """An observation and what is wanted. ``ages`` are the seconds for which a Wait's key has been seen without a break."""

    observation: Observation
    desired: Desired
    ages: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def age(self, key: str) -> float:
        return self.ages.get(key, 0.0)

    @cached_property
    def live(self) -> tuple[Node, ...]:
        return self.observation.live

    @cached_property
    def silent(self) -> tuple[Node, ...]:
        return tuple(node for node in self.observation.nodes if node.kind == "absent")

    @cached_property
    def formed(self) -> tuple[Node, ...]:
        """Live nodes that hold a configuration, be it one they are no longer part of."""
        return tuple(node for node in self.live if node.config is not None)

    @cached_property
    def kept(self) -> tuple[Node, ...]:
        """Targets that are to be members; those with a higher ordinal are to leave."""
        return tuple(node for node in self.observation.nodes if node.target.ordinal < self.desired.members)

    @cached_property
    def missing(self) -> int:
        """How many targets there are too few."""
        return self.desired.members - len(self.kept)

    @cached_property
    def config(self) -> Config | None:
        """The newest configuration anybody has; the primary's where there is one, because only that can be followed by another."""
        if self.primary is not None:
            return self.primary.config
        newest: Config | None = None
        for node in self.formed:
            if newest is None or (node.config is not None and node.config.newer(newest)):
                newest = node.config
        return newest

    @cached_property
    def primary(self) -> Node | None:
        """Who calls itself primary; of two (a partition that has just ended) the one with the higher term."""
        primaries = [node for node in self.formed if node.state == "PRIMARY"]
        return max(primaries, key=lambda node: node.term, default=None)

    @cached_property
    def nodes_of(self) -> dict[int, Node]:
        """Entry to node: by the ``_id`` a live node finds itself by, otherwise by the host the entry names."""
        config = self.config
        if config is None:
            return {}
        own = {node.entry: node for node in self.formed if node.entry >= 0 and node.state != "REMOVED"}
        by_host = {node.host: node for node in self.observation.nodes if node not in own.values()}
        found = {entry.id: own.get(entry.id) or by_host.get(entry.host) for entry in config.entries}
        return {key: node for key, node in found.items() if node is not None}

    @cached_property
    def entries_of(self) -> dict[str, Entry]:
        """Target name to its entry in the configuration."""
        if self.config is None:
            return {}
        return {self.nodes_of[entry.id].name: entry for entry in self.config.entries if entry.id in self.nodes_of}

    @cached_property
    def outside(self) -> tuple[Node, ...]:
        """Live nodes that are to be members and are in no entry."""
        return tuple(node for node in self.kept if node.live and node.name not in self.entries_of)

    @cached_property
    def surplus(self) -> tuple[Entry, ...]:
        """Entries that are to go: of targets beyond the wanted ones, and of hosts that are no target at all."""
        kept = {node.name for node in self.kept}
        entries = self.config.entries if self.config else ()
        return tuple(entry for entry in entries if entry.id not in self.nodes_of or self.nodes_of[entry.id].name not in kept)

    @cached_property
    def removable(self) -> tuple[Node, ...]:
        """Targets beyond the wanted ones that are no part of the set (any more): their pods may go. Nobody's, while the configuration is unknown."""
        if self.config is None:
            return ()
        return tuple(node for node in self.observation.nodes if node not in self.kept and node.name not in self.entries_of)

    @cached_property
    def voting(self) -> tuple[Node, ...]:
        """Live nodes that vote and see themselves in the configuration."""
        voters = {entry.id for entry in self.config.voters} if self.config else set()
        return tuple(node for key, node in self.nodes_of.items() if key in voters and node.live and node.state != "REMOVED" and node.config)

    @cached_property
    def lost(self) -> str:
        """Why the set that the marker remembers may be lost and not gone on purpose; empty when nothing speaks against forming one."""
        marker = self.observation.marker
        if marker is None or marker.fingerprint in self.desired.allow_data_loss:
            return ""
        if marker.volumes or marker.uids:
            former = {uid for uids in marker.volumes.values() for uid in uids} | set(marker.uids.values())
            now = {uid for node in self.observation.nodes for uid in (*node.target.volumes, node.target.uid)}
            if not former & now:
                return ""
            where = "on storage that is still there"
        else:
            where = "at these addresses"
        return (
            f"A replica set was formed here before (fingerprint {marker.fingerprint}), {where}, and no member remembers it. Find out where its data went; "
            f"to form a new, empty set in its place: allow_data_loss: [{marker.fingerprint}]"
        )


def remembered(observation: Observation) -> Marker | None:
    """The marker of the set as it is; None while there is none."""
    ids = {node.config.set_id for node in observation.live if node.config is not None and node.config.set_id}
    if len(ids) != 1:
        return None
    volumes = {node.name: node.target.volumes for node in observation.nodes if node.target.volumes}
    uids = {} if volumes else {node.name: node.target.uid for node in observation.nodes if node.target.uid}
    return Marker("formed", {"replicaSetId": ids.pop()}, uids, volumes)
