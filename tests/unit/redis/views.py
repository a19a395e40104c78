# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes and observations made of data, for the tables of the unit tests."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.progressive.platform.plugins.module_utils._members.model import Marker, Target
from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Entry, Node, Observation

THIRDS = slots.split(slots.ALL, 3)


def target(index: int, **changes: t.Any) -> Target:
    """redis-<index> at 10.0.0.<index+1>, on node n<index % 3> in zone z<index % 3>, with a pod and a volume of its own."""
    made = Target(
        f"redis-{index}",
        f"10.0.0.{index + 1}",
        6379,
        index,
        uid=f"pod-{index}",
        node=f"n{index % 3}",
        zone=f"z{index % 3}",
        volumes=(f"volume-{index}",),
    )
    return dataclasses.replace(made, **changes)


def node_id(index: int) -> str:
    return f"{index:x}" * 40


def entry(index: int, *, owned: int = 0, master: int | None = None, epoch: int | None = None, **changes: t.Any) -> Entry:
    made = Entry(
        id=node_id(index),
        host=f"10.0.0.{index + 1}",
        port=6379,
        bus_port=16379,
        flags=frozenset({"master" if master is None else "slave"}),
        master="" if master is None else node_id(master),
        epoch=index + 1 if epoch is None else epoch,
        connected=True,
        slots=owned,
    )
    return dataclasses.replace(made, **changes)


def node(index: int, entries: t.Iterable[Entry], **changes: t.Any) -> Node:
    made = Node(
        target(index),
        id=node_id(index),
        version="7.0.15",
        cluster_ok=True,
        current_epoch=6,
        node_timeout_ms=5000,
        sync_delay_s=5,
        entries={one.id: one for one in entries},
    )
    return dataclasses.replace(made, **changes)


def fresh(count: int = 6) -> Observation:
    """``count`` nodes that have never met."""
    return Observation(tuple(node(index, [entry(index, epoch=0, host="")], cluster_ok=False, current_epoch=0) for index in range(count)))


def healthy(count: int = 6, masters: int = 3, keys: int = 0, marker: bool = True) -> Observation:
    """Masters redis-0.., then replicas: redis-3 follows redis-1 and so on, never on the same node."""
    shares = slots.split(slots.ALL, masters)
    entries = [entry(index, owned=shares[index]) for index in range(masters)]
    entries += [entry(index, master=(index + 1) % masters) for index in range(masters, count)]
    nodes = tuple(node(index, entries, keys=keys) for index in range(count))
    remembered = Marker("formed", {one.name: one.id for one in nodes}, volumes={one.name: one.target.volumes for one in nodes})
    return Observation(nodes, remembered if marker else None)


def change(observation: Observation, index: int, **changes: t.Any) -> Observation:
    """One node of the observation, changed."""
    nodes = tuple(dataclasses.replace(one, **changes) if position == index else one for position, one in enumerate(observation.nodes))
    return dataclasses.replace(observation, nodes=nodes)


def everywhere(observation: Observation, made: Entry) -> Observation:
    """An entry put into every live node's view."""
    nodes = tuple(dataclasses.replace(one, entries={**one.entries, made.id: made}) if one.live else one for one in observation.nodes)
    return dataclasses.replace(observation, nodes=nodes)


def seen(observation: Observation, viewer: int, index: int, **changes: t.Any) -> Observation:
    """How one node sees another, changed."""
    one = observation.nodes[viewer]
    return change(observation, viewer, entries={**one.entries, node_id(index): dataclasses.replace(one.entries[node_id(index)], **changes)})


def without(observation: Observation, index: int) -> Observation:
    """The target is another, isolated, empty node now (its volume is gone); the others still list the old ID."""
    made = node(index, [entry(index + 8, epoch=0, host="")], id=node_id(index + 8), cluster_ok=False, current_epoch=0, keys=0)
    return dataclasses.replace(
        observation, nodes=tuple(made if position == index else one for position, one in enumerate(observation.nodes))
    )
