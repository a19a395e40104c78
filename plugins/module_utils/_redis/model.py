# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wanted, what every node says, and what is to be done: plain immutable data (private: may change without notice).

State codes (S1 ... S35) and rules (R1 ... R10) are those of docs/redis_cluster.md.
"""

from __future__ import annotations

import hashlib
import typing as t
from collections.abc import Mapping
from dataclasses import dataclass, field

FORMATION_TIMEOUT = 500
"""cluster-node-timeout in milliseconds while an empty cluster forms: the server waits that long (500 at least, 5000 at most) before it says ok."""


@dataclass(frozen=True)
class Target:
    """Where a node ought to be. ``host`` is an IP that the other nodes reach it by (R9); node and zone are failure domains, empty when unknown."""

    name: str
    host: str
    port: int
    ordinal: int
    uid: str = ""
    node: str = ""
    zone: str = ""
    volumes: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Entry:
    """One line of CLUSTER NODES: what one node believes of one ID. ``open_slots`` maps slot to ("migrating"|"importing", other ID)."""

    id: str
    host: str
    port: int
    bus_port: int
    flags: frozenset[str]
    master: str
    epoch: int
    connected: bool
    slots: int = field(repr=False)
    open_slots: Mapping[int, tuple[str, str]] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return bool(self.flags & {"fail", "noaddr"})

    @property
    def suspected(self) -> bool:
        return "fail?" in self.flags

    @property
    def is_master(self) -> bool:
        return "master" in self.flags


@dataclass(frozen=True)
class Node:
    """One target and everything it said of itself and of the others.

    ``problem`` is empty when it answered; otherwise ``kind`` is absent (does not answer), auth (refuses the password), loading, or foreign (not a
    cluster node at all), and only what could be learned is filled in. ``keys`` and ``functions`` count all databases, ``open_keys`` the keys in each of
    its open slots. Sizes are bytes, times as named.
    """

    target: Target
    problem: str = ""
    kind: str = ""
    id: str = ""
    version: str = ""
    keys: int = 0
    functions: int = 0
    cluster_ok: bool = False
    current_epoch: int = 0
    link_up: bool = True
    syncing: bool = False
    offset: int = 0
    used_memory: int = 0
    maxmemory: int = 0
    loading_eta: int = 0
    node_timeout_ms: int = 0
    sync_delay_s: int = -1
    auth_agrees: bool | None = None
    open_keys: Mapping[int, int] = field(default_factory=dict)
    entries: Mapping[str, Entry] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.target.name

    @property
    def live(self) -> bool:
        return not self.problem

    @property
    def me(self) -> Entry:
        return self.entries[self.id]

    @property
    def master(self) -> str:
        return self.me.master

    @property
    def slots(self) -> int:
        return self.me.slots

    @property
    def empty(self) -> bool:
        return self.keys == 0 and self.functions == 0

    @property
    def release(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split(".") if part.isdigit())

    def knows(self, other: str) -> bool:
        return other in self.entries

    @property
    def fresh(self) -> bool:
        """R2: alone, no slots, epoch 0, every database empty, no functions, not loading, a replica of nobody."""
        alone = self.live and len(self.entries) == 1
        return alone and self.empty and not self.slots and self.me.epoch == 0 and self.current_epoch == 0 and not self.master


@dataclass(frozen=True)
class Marker:
    """R3: what is remembered of a cluster outside it. ``settings`` are the values of options that a formation changed and has not yet restored."""

    state: str
    ids: Mapping[str, str]
    uids: Mapping[str, str] = field(default_factory=dict)
    volumes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Names this very cluster: node IDs and, where the data dies with the pod, pod UIDs."""
        parts = sorted(self.ids.values()) + sorted(self.uids.values())
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Observation:
    """All targets in ordinal order, and the marker of an earlier run (None: there is none)."""

    nodes: tuple[Node, ...]
    marker: Marker | None = None

    @property
    def live(self) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if node.live)


@dataclass(frozen=True)
class Desired:
    """What the cluster ought to be. ``allow_data_loss`` names IDs or fingerprints; times are seconds, ``node_timeout_ms`` milliseconds (0: not given)."""

    masters: int = 3
    replicas: int = 1
    rebalance_topology: bool = False
    allow_data_loss: frozenset[str] = frozenset()
    node_timeout_ms: int = 0
    load_timeout: float = 300.0
    agreement_timeout: float = 30.0

    @property
    def count(self) -> int:
        return self.masters * (1 + self.replicas)


@dataclass(frozen=True)
class Action:
    """One command for one node (by target name), with the reason a person reads in the plan. Lower orders are answered before higher are sent."""

    node: str
    command: tuple[str, ...]
    reason: str
    order: int = 0


@dataclass(frozen=True)
class Act:
    """Send these actions, all of one class (R1), then observe again."""

    state: str
    kind: str
    reason: str
    actions: tuple[Action, ...]


@dataclass(frozen=True)
class Wait:
    """Something that the servers settle by themselves. After ``limit`` seconds of the same ``key`` it becomes ``refusal``.

    ``own_time`` waits (loading, copying a data set) are not part of the task's timeout.
    """

    state: str
    key: str
    reason: str
    limit: float
    refusal: str
    own_time: bool = False


@dataclass(frozen=True)
class Refuse:
    """A state that must not be touched, with the names, slots and next command a person needs."""

    state: str
    reason: str


@dataclass(frozen=True)
class Done:
    """S4: healthy, and what is wanted."""

    state: str = "S4"
    reason: str = "healthy and as wanted"


Decision: t.TypeAlias = "Act | Wait | Refuse | Done"
