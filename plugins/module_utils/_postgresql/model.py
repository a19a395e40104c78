# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wanted, what every member says, and what is to be done: plain immutable data (private: may change without notice)."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.progressive.platform.plugins.module_utils._members.model import Refuse, Wait

Json: t.TypeAlias = "dict[str, t.Any]"


@dataclass(frozen=True)
class Target:
    """Where a member ought to be: ``host`` and the ports of Patroni's REST interface and of the server (0: as the cluster says).

    ``ordinal`` counts the members, also while one of them is away.

    ``problem`` says why it cannot be connected to; ``update`` is that of _kube.pods.Pod. Node and zone are empty when unknown.
    """

    name: str
    host: str
    rest_port: int
    sql_port: int = 0
    uid: str = ""
    node: str = ""
    zone: str = ""
    problem: str = ""
    update: str = ""
    ready: bool = True
    ordinal: int = 0


@dataclass(frozen=True)
class Link:
    """One line of pg_stat_replication by the primary's word; ``lag`` is in bytes and ``delay`` in seconds until applied, None where it does not say."""

    name: str
    state: str
    sync: str
    lag: int | None = None
    delay: float | None = None


@dataclass(frozen=True)
class Slot:
    """A replication slot of the primary; ``retained`` is the bytes of WAL it holds back."""

    name: str
    kind: str
    active: bool
    retained: int = 0
    status: str = ""


@dataclass(frozen=True)
class Archive:
    """pg_stat_archiver: ``mode`` is off, on or always; ages are seconds, None where it never happened."""

    mode: str = "off"
    archived: int = 0
    failed: int = 0
    last: float | None = None
    last_failure: float | None = None

    @property
    def failing(self) -> bool:
        """The last attempt failed."""
        return self.last_failure is not None and (self.last is None or self.last_failure < self.last)


@dataclass(frozen=True)
class Member:
    """One target and everything it said of itself and of the others.

    ``problem`` is empty when its Patroni answered; otherwise only the target is known. ``name`` is Patroni's name of it, ``leader`` whom it takes for
    the primary, ``known`` the members its cluster has. ``pending`` are the parameters that wait for its restart, ``lowered`` those of them that it may
    have less of only after its primary has (CEILINGS of observe). Positions are bytes of WAL, ``silence`` the seconds since it last heard of the lock's store.
    """

    target: Target
    problem: str = ""
    name: str = ""
    state: str = ""
    role: str = ""
    timeline: int = 0
    system: str = ""
    version: int = 0
    patroni: str = ""
    position: int = 0
    received: int = 0
    replication: str = ""
    sync: bool = False
    pending: tuple[str, ...] = ()
    lowered: tuple[str, ...] = ()
    leader: str = ""
    known: tuple[str, ...] = ()
    paused: bool = False
    failsafe: bool = False
    silence: float = 0.0
    links: tuple[Link, ...] = ()

    @property
    def live(self) -> bool:
        return not self.problem

    @property
    def running(self) -> bool:
        return self.live and self.state == "running"

    @property
    def primary(self) -> bool:
        return self.running and self.role == "primary"

    @property
    def streaming(self) -> bool:
        """A replica that streams from its primary; being ready says less."""
        return self.running and self.role == "replica" and self.replication == "streaming"


@dataclass(frozen=True)
class User:
    """A role that logs in. ``password`` is what it should be (observed: the stored verifier; empty: none of our business); settings are those of
    ALTER ROLE SET.

    A server knows one password a role, so a user whose password changes has two logins that take turns: itself, and one that is a member ``of`` it and
    works as it. One that is ``over`` has no password any more. Of a ``system`` user, one of Patroni's own, nothing but the password is ours.
    ``roles`` are the server's own that it is a member of.
    """

    connections: int = -1
    settings: Mapping[str, str] = field(default_factory=dict)
    password: str = field(default="", repr=False)
    of: str = ""
    attributes: str = ""
    over: bool = False
    system: bool = False
    roles: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Database:
    """``grants`` maps a user to connect, read or write."""

    owner: str
    extensions: frozenset[str] = frozenset()
    grants: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """What only the primary's SQL tells. ``restart`` are the parameters that take effect by a restart alone, with what they are and the
    unit of that (empty: it has none)."""

    slots: tuple[Slot, ...] = ()
    archive: Archive = Archive()
    links: tuple[Link, ...] = ()
    users: Mapping[str, User] = field(default_factory=dict)
    databases: Mapping[str, Database] = field(default_factory=dict)
    restart: Mapping[str, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Observation:
    """All targets in order, the dynamic configuration (None: nobody could say), and the primary's facts (None: not asked, or it did not answer)."""

    members: tuple[Member, ...]
    config: Json | None = None
    facts: Facts | None = None
    facts_problem: str = ""

    @property
    def live(self) -> tuple[Member, ...]:
        return tuple(member for member in self.members if member.live)

    @property
    def primaries(self) -> tuple[Member, ...]:
        return tuple(member for member in self.members if member.primary)

    @property
    def primary(self) -> Member | None:
        return self.primaries[0] if len(self.primaries) == 1 else None

    @property
    def replicas(self) -> tuple[Member, ...]:
        return tuple(member for member in self.live if member not in self.primaries)

    def named(self, name: str) -> Member | None:
        """By the target's name or by Patroni's."""
        return next((member for member in self.members if name in (member.target.name, member.name)), None)


@dataclass(frozen=True)
class Desired:
    """What the cluster ought to be, and what may be done for it.

    ``config`` is merged into the dynamic configuration; of ``postgresql.parameters`` and ``pg_hba`` it is the whole. ``switchover`` is the target to
    become primary, ``reinit`` those to be copied anew; ``restart`` allows restarts for parameters, ``roll`` has pods of an older template replaced.
    """

    members: int = 3
    config: Json = field(default_factory=dict)
    restart: bool = True
    roll: bool = False
    switchover: str = ""
    reinit: frozenset[str] = frozenset()
    users: Mapping[str, User] = field(default_factory=dict)
    databases: Mapping[str, Database] = field(default_factory=dict)
    copy_timeout: float = 3600.0
    election_timeout: float = 90.0

    @property
    def objects(self) -> bool:
        return bool(self.users or self.databases)


@dataclass(frozen=True)
class Statement:
    """One statement in one database. ``shown`` is what a person may read of it: never a password, nor what is stored of one."""

    database: str
    text: str = field(repr=False)
    shown: str


@dataclass(frozen=True)
class Act:
    """One class of action, and the state (a key of states.STATES) that it is for. ``member`` is the target, ``body`` what Patroni's REST interface gets,
    ``statements`` go to the primary."""

    state: str
    kind: str
    reason: str
    member: str = ""
    body: Json = field(default_factory=dict)
    statements: tuple[Statement, ...] = ()


@dataclass(frozen=True)
class Done:
    """Healthy, and what is wanted."""

    reason: str = "healthy and as wanted"


Decision: t.TypeAlias = Act | Wait | Refuse | Done
