# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wanted, what every node says, and what is to be done: plain immutable data (private: may change without notice).

State codes (S1 ... S35) and rules (R1 ... R10) are those of docs/redis_cluster.md.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.progressive.platform.plugins.module_utils._members.credentials import Access
from ansible_collections.progressive.platform.plugins.module_utils._members.model import Marker, Refuse, Target, Wait
from ansible_collections.progressive.platform.plugins.module_utils._redis.engines import Release

EVICT = "EVICT"
"""First word of the action that has a pod replaced: for the API server, not for Redis; the second word is the pod's UID."""
RECREATE = "RECREATE"
"""First word of the action that deletes a pod with its claims, for its controller to make both anew (S33); then the pod's UID."""
FORMATION_TIMEOUT = 500
"""cluster-node-timeout in milliseconds while an empty cluster forms: the server waits that long (500 at least, 5000 at most) before it says ok."""


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
class Persistence:
    """What INFO says of a node's files. ``saved_at`` is a Unix time, ``changes`` are those not in that snapshot; ``refusal`` is its MISCONF, if any."""

    aof: bool = False
    aof_ok: bool = True
    rdb_ok: bool = True
    saved_at: int = 0
    changes: int = 0
    refusal: str = ""

    @property
    def problem(self) -> str:
        """S33: why this node cannot keep its data on disk; empty when it can."""
        failing = [] if self.rdb_ok else ["its last snapshot failed (rdb_last_bgsave_status:err)"]
        failing += [] if self.aof_ok else ["its last write to the append-only file failed (aof_last_write_status:err)"]
        return "; ".join([*failing, self.refusal] if self.refusal else failing)


@dataclass(frozen=True)
class Node:
    """One target and everything it said of itself and of the others.

    ``problem`` is empty when it answered; otherwise ``kind`` is absent (does not answer), auth (refuses the login or a command), tls (its certificate, or
    the other end of it, is not as wanted), loading, or foreign (not a cluster node at all), and only what could be learned is filled in; ``hint`` says
    what to do about it. ``denied`` names what the user may not ask, where that is no reason to know nothing of the node. ``former_login``
    and ``former_masterauth`` say that it takes, or logs in to its master with, the former password only (S35). ``keys`` and ``functions`` count all
    databases, ``open_keys`` the keys in each of its open slots, ``stray_keys`` those in slots that nobody owns or that a newcomer may not own (only slots
    with keys; None: not asked). ``unheard`` are the (IP, port) of replicas that take what this master sends and have not acknowledged a byte of it, each
    with the seconds for which they have been silent; the port is 0 where the replica could not say it, ``named`` are those that could. Sizes are bytes,
    times as named.
    """

    target: Target
    problem: str = ""
    hint: str = ""
    kind: str = ""
    denied: tuple[str, ...] = ()
    id: str = ""
    engine: str = "redis"
    version: str = ""
    keys: int = 0
    functions: int = 0
    cluster_ok: bool = False
    current_epoch: int = 0
    link_up: bool = True
    syncing: bool = False
    named: frozenset[tuple[str, int]] = frozenset()
    unheard: Mapping[tuple[str, int], int] = field(default_factory=dict)
    offset: int = 0
    used_memory: int = 0
    maxmemory: int = 0
    dataset: int = 0
    min_replicas: int = 0
    loading_eta: int = 0
    node_timeout_ms: int = 0
    sync_delay_s: int = -1
    auth_agrees: bool | None = None
    certificate_ends: int = 0
    former_login: bool = False
    former_masterauth: bool = False
    uptime_s: int = 0
    persistence: Persistence = Persistence()
    stray_keys: Mapping[int, int] | None = None
    config: Mapping[str, str] = field(default_factory=dict)
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

    @property
    def release_of_engine(self) -> Release:
        return Release(self.engine, self.release)

    def knows(self, other: str) -> bool:
        return other in self.entries

    @property
    def fresh(self) -> bool:
        """R2: alone, no slots, epoch 0, every database empty, no functions, not loading, a replica of nobody."""
        alone = self.live and len(self.entries) == 1
        return alone and self.empty and not self.slots and self.me.epoch == 0 and self.current_epoch == 0 and not self.master


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
    """What the cluster ought to be, and what may be done for it.

    ``allow_data_loss`` names IDs or fingerprints, ``lost_slots`` are the slot ranges it names; ``adopt``, ``discard`` and ``forget`` hold IDs, ``recreate``
    names of nodes; ``config`` are settings of running servers, ``roll`` replaces pods of an older template, ``release`` is what the newest one runs, as
    far as is known. ``surplus`` is what becomes of targets whose ordinal is ``count`` or more: release, or keep as further replicas; ``on_conflict`` is
    whose value stays when a key is on both ends of an open slot. Times are seconds, ``node_timeout_ms`` milliseconds (0: not given).
    """

    masters: int = 3
    replicas: int = 1
    surplus: str = "release"
    on_conflict: str = "refuse"
    latency_limit_ms: int = 50
    rebalance_topology: bool = False
    failback: bool = False
    allow_data_loss: frozenset[str] = frozenset()
    lost_slots: int = field(default=0, repr=False)
    allow_takeover: bool = False
    adopt: frozenset[str] = frozenset()
    discard: frozenset[str] = frozenset()
    forget: frozenset[str] = frozenset()
    recreate: frozenset[str] = frozenset()
    node_timeout_ms: int = 0
    access: Access = field(default_factory=Access, repr=False)
    load_timeout: float = 300.0
    agreement_timeout: float = 30.0
    config: Mapping[str, str] = field(default_factory=dict)
    roll: bool = False
    release: str = ""

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
class Transfer:
    """Slots that change hands with their keys, between targets by name. ``cold``: only the keys go, to the owner, from a node that holds them beside it."""

    giver: str
    taker: str
    slots: int = field(repr=False)
    keys: int = 0
    size: int = 0
    cold: bool = False


@dataclass(frozen=True)
class Act:
    """Send these actions, all of one class (R1), or move slots for a while, then observe again."""

    state: str
    kind: str
    reason: str
    actions: tuple[Action, ...] = ()
    transfers: tuple[Transfer, ...] = ()


@dataclass(frozen=True)
class Done:
    """S4: healthy, and what is wanted."""

    state: str = "S4"
    reason: str = "healthy and as wanted"


Decision: t.TypeAlias = Act | Wait | Refuse | Done
