# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wanted, what every member says, and what is to be done: plain immutable data (private: may change without notice).

State codes (M1 ... M22) are those of docs/mongodb.md. Where nodes are, waits and refusals are the same things as in a Redis Cluster, and so the same types.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.progressive.platform.plugins.module_utils._members.model import Marker, Refuse, Target, Wait

EVICT = "evict"
"""Command that has a pod replaced: for the API server, not for MongoDB; its value is the pod's UID."""
HIDDEN_FIELDS = ("pwd",)
"""Fields of commands whose values are never shown."""
VOTERS_AT_MOST = 7
"""The server's own limit; so is the one of members."""
MEMBERS_AT_MOST = 50
COPYING = frozenset({"STARTUP", "STARTUP2"})
SERVING = frozenset({"PRIMARY", "SECONDARY"})


@dataclass(frozen=True)
class Entry:
    """One member of a replica-set configuration. ``raw`` is its document, with fields this collection has nothing to say about."""

    id: int
    host: str
    votes: int = 1
    priority: float = 1
    hidden: bool = False
    arbiter: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    raw: Mapping[str, t.Any] = field(default_factory=dict, repr=False)

    @property
    def electable(self) -> bool:
        return self.priority > 0 and self.votes > 0 and not self.arbiter

    def document(self) -> dict[str, t.Any]:
        """For replSetReconfig: the server's own fields stay as they are. ``newlyAdded`` is the server's to set and to remove."""
        kept = {name: value for name, value in self.raw.items() if name != "newlyAdded"}
        return {
            **kept,
            "_id": self.id,
            "host": self.host,
            "votes": self.votes,
            "priority": self.priority,
            "hidden": self.hidden,
            "tags": dict(self.tags),
        }


@dataclass(frozen=True)
class Config:
    """A replica-set configuration. Of two the one with the higher term, then version, is newer; without a term (forced) the version decides."""

    name: str
    version: int
    term: int
    entries: tuple[Entry, ...]
    set_id: str = ""
    settings: Mapping[str, t.Any] = field(default_factory=dict)
    raw: Mapping[str, t.Any] = field(default_factory=dict, repr=False)

    @property
    def voters(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.votes)

    @property
    def majority(self) -> int:
        return len(self.voters) // 2 + 1

    @property
    def election_timeout(self) -> float:
        """Seconds."""
        return float(self.settings.get("electionTimeoutMillis", 10_000)) / 1000

    def newer(self, other: Config) -> bool:
        if -1 in (self.term, other.term):
            return self.version > other.version
        return (self.term, self.version) > (other.term, other.version)


@dataclass(frozen=True)
class Peer:
    """What one member believes of an entry of its configuration."""

    host: str
    state: str
    healthy: bool = True
    message: str = ""


@dataclass(frozen=True)
class Node:
    """One target and everything it said.

    ``host`` is the name the configuration ought to have for it. ``problem`` is empty when it answered; otherwise ``kind`` is absent (does not answer),
    auth (refuses the login), tls, or foreign (no member of a replica set: started without --replSet, or a mongos), and ``hint`` says what to do.
    ``login`` is "user", "open" (let in without one: access control is off, or nobody has made a user yet), or "former" (a former password was taken).
    ``entry`` is the ``_id`` by which it finds itself in its configuration (-1: it does not). ``optime`` is (term, seconds, increment) of its newest write,
    ``users`` maps ``database.name`` to roles (None: not asked), ``oplog`` is (seconds between the oldest and the newest write, megabytes,
    whether it is full, so that every write pushes an old one out).
    """

    target: Target
    host: str
    problem: str = ""
    kind: str = ""
    hint: str = ""
    login: str = "user"
    state: str = "STARTUP"
    entry: int = -1
    config: Config | None = None
    committed: bool = True
    term: int = 0
    primary: str = ""
    optime: tuple[int, int, int] = (0, 0, 0)
    peers: tuple[Peer, ...] = ()
    version: str = ""
    compatibility: str = ""
    write_concern: t.Any = None
    users: Mapping[str, frozenset[str]] | None = None
    oplog: tuple[int, int, bool] | None = None

    @property
    def name(self) -> str:
        return self.target.name

    @property
    def live(self) -> bool:
        return not self.problem

    @property
    def fresh(self) -> bool:
        """No configuration and no users: a member that nobody has used. What other data it holds, only the server itself can tell (it refuses with 110)."""
        return self.live and self.config is None and self.login == "open"


@dataclass(frozen=True)
class Observation:
    """All targets in ordinal order, and the marker of an earlier run (None: there is none)."""

    nodes: tuple[Node, ...]
    marker: Marker | None = None

    @property
    def live(self) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if node.live)


@dataclass(frozen=True)
class Wanted:
    """What one member ought to be in the configuration."""

    votes: int = 1
    priority: float = 1
    hidden: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class User:
    """A user that ought to exist; ``roles`` are ``role@database``."""

    name: str
    database: str
    roles: frozenset[str]
    password: str = field(default="", repr=False)

    @property
    def key(self) -> str:
        return f"{self.database}.{self.name}"


@dataclass(frozen=True)
class Desired:
    """What the set ought to be, and what may be done for it.

    ``options`` are by target name. ``admin`` is made first, where nobody can log in yet. ``force`` names the members (targets) that a forced reconfiguration
    keeps, ``remove`` hosts of entries without a target, ``allow_data_loss`` fingerprints. Times are seconds.
    """

    name: str
    members: int = 3
    options: Mapping[str, Wanted] = field(default_factory=dict)
    settings: Mapping[str, t.Any] = field(default_factory=dict)
    write_concern: str = "majority"
    admin: User | None = None
    users: tuple[User, ...] = ()
    force: frozenset[str] = frozenset()
    remove: frozenset[str] = frozenset()
    allow_data_loss: frozenset[str] = frozenset()
    roll: bool = False
    sync_timeout: float = 3600.0
    return_timeout: float = 120.0
    agreement_timeout: float = 30.0

    def of(self, target: Target) -> Wanted:
        wanted = self.options.get(target.name)
        if wanted is not None:
            return wanted
        return Wanted() if target.ordinal < VOTERS_AT_MOST else Wanted(votes=0, priority=0)


@dataclass(frozen=True)
class Action:
    """One command for one member (by target name), with the reason a person reads in the plan."""

    node: str
    command: Mapping[str, t.Any]
    reason: str
    database: str = "admin"

    @property
    def verb(self) -> str:
        return next(iter(self.command))


@dataclass(frozen=True)
class Act:
    """Send this, then observe again. Never more than one command a pass: the next one depends on what this one has made of the set."""

    state: str
    kind: str
    reason: str
    action: Action


@dataclass(frozen=True)
class Done:
    """M4: healthy, and what is wanted."""

    state: str = "M4"
    reason: str = "healthy and as wanted"


Decision: t.TypeAlias = Act | Wait | Refuse | Done
