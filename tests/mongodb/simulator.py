# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SIMULATOR, not MongoDB: members of replica sets that speak the wire protocol and hold to the server's rules for elections and reconfigurations.

No mongod can be had where this was written, so its rules were taken from its documentation and source: protocol version 1 with terms and votes,
configurations ordered by (term, version), at most one voter more or less a reconfiguration, a reconfiguration only when a majority of voters has the former
one and the newest write is in the majority, a quorum check of the new one, localhost exception with the few commands it allows. Not modelled: storage,
sessions and transactions, read concern, chained replication, sharding. ``PROGRESSIVE_MONGOD=/path/to/mongod`` runs the same tests on the real server.
"""

from __future__ import annotations

import copy
import random
import ssl
import threading
import time
import typing as t

import bson
from ansible_collections.progressive.platform.tests.mongodb.simulator_wire import (
    Document,
    Failure,
    Listener,
    Scram,
    Session,
    credentials,
    failed,
)

TICK = 0.02
RELEASE, COMPATIBILITY = "7.0.0", "7.0"
OPEN_COMMANDS = frozenset(
    {"hello", "ismaster", "isMaster", "saslStart", "saslContinue", "buildInfo", "endSessions", "ping", "connectionStatus"}
)
EXCEPTION_COMMANDS = frozenset({"createUser", "replSetInitiate", "replSetReconfig", "replSetGetStatus"})
"""What the localhost exception allows while there is no user (authorization_session: replSetConfigure, replSetGetStatus, createUser, grantRole)."""
STATES = {"STARTUP": 0, "PRIMARY": 1, "SECONDARY": 2, "RECOVERING": 3, "STARTUP2": 5, "UNKNOWN": 6, "DOWN": 8, "ROLLBACK": 9, "REMOVED": 10}


class Disk:
    """What a member keeps when it is killed. ``oplog`` holds ((term, seconds, increment), operation)."""

    def __init__(self) -> None:
        self.config: Document | None = None
        self.oplog: list[tuple[tuple[int, int, int], Document]] = []
        self.term = 0
        self.voted = 0
        self.users: dict[str, Document] = {}
        self.data: dict[str, list[Document]] = {}
        self.indexes: dict[str, list[Document]] = {}
        self.concern: Document | None = None

    @property
    def optime(self) -> tuple[int, int, int]:
        return self.oplog[-1][0] if self.oplog else (-1, 0, 0)

    @property
    def has_data(self) -> bool:
        return bool(self.oplog or self.data or self.users)

    def apply(self, operation: Document) -> None:
        match operation["op"]:
            case "insert":
                self.data.setdefault(operation["ns"], []).append(operation["o"])
            case "replace":
                rows = self.data.setdefault(operation["ns"], [])
                rows[:] = [row for row in rows if row["_id"] != operation["o"]["_id"]] + [operation["o"]]
            case "delete":
                rows = self.data.get(operation["ns"], [])
                rows[:] = [row for row in rows if row["_id"] != operation["o"]["_id"]]
            case "create":
                self.data.setdefault(operation["ns"], [])
            case "index":
                self.indexes.setdefault(operation["ns"], []).append(operation["o"])
            case "drop":
                for held in (self.data, self.indexes):
                    held.pop(operation["ns"], None)
            case "user":
                self.users[operation["key"]] = operation["o"]
            case "nobody":
                self.users.pop(operation["key"], None)
            case "concern":
                self.concern = operation["o"]

    def replay(self, oplog: list[tuple[tuple[int, int, int], Document]]) -> None:
        self.users, self.data, self.indexes, self.concern, self.oplog = {}, {}, {}, None, list(oplog)
        for _optime, operation in oplog:
            self.apply(operation)


class SimulatedMongod:
    """One member: its disk, what it believes, and its listener."""

    def __init__(self, network: SimulatedNetwork, port: int, set_name: str, auth: bool) -> None:
        self.network = network
        self.port = port
        self.set_name = set_name
        self.auth = auth
        self.disk = Disk()
        self.listener: Listener | None = None
        self.tls: ssl.SSLContext | None = None
        self.counts: dict[str, int] = {}
        self._forget()

    def _forget(self) -> None:
        self.state = "STARTUP"
        self.primary = ""
        self.heard: dict[int, Document] = {}
        self.deadline = 0.0
        self.synced_at = 0.0
        self.frozen_until = 0.0
        self.alone_since = 0.0
        self.maintenance = False

    # --- what the tests do to it

    def start(self) -> None:
        self.listener = Listener(self.port, self.answer, self.tls)
        with self.network.changed:
            self._forget()
            if self.disk.config is not None:
                self._located()

    def kill(self) -> None:
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.close()

    def wipe(self) -> None:
        self.disk = Disk()

    # --- configuration

    @property
    def running(self) -> bool:
        return self.listener is not None

    @property
    def config(self) -> Document | None:
        return self.disk.config

    @property
    def members(self) -> list[Document]:
        return self.config["members"] if self.config else []

    @property
    def me(self) -> Document | None:
        return next((member for member in self.members if self.network.port_of(member["host"]) == self.port), None)

    @property
    def voters(self) -> list[Document]:
        return [member for member in self.members if votes(member)]

    @property
    def majority(self) -> int:
        return len(self.voters) // 2 + 1

    @property
    def election_timeout(self) -> float:
        return float((self.config or {}).get("settings", {}).get("electionTimeoutMillis", 10_000)) / 1000

    def install(self, config: Document) -> None:
        self.disk.config = copy.deepcopy(config)
        self._located()

    def _located(self) -> None:
        """Where it stands after a start or a new configuration."""
        if self.me is None:
            self.state, self.primary = "REMOVED", ""
        elif self.state in {"STARTUP", "REMOVED"}:
            self.state = "SECONDARY" if self.disk.oplog else "STARTUP2"
            self.synced_at = 0.0
            self.postpone()

    def postpone(self) -> None:
        """The next election, unless a primary is heard of before; a random part keeps two from standing at once."""
        self.deadline = self.network.now() + self.election_timeout * (1 + 0.15 * random.random())

    def reachable(self) -> dict[int, SimulatedMongod]:
        """Members of its configuration that answer it now, itself among them, by ``_id``."""
        found = {}
        for member in self.members:
            other = self.network.find(member["host"])
            if other is not None and self.network.connected(self, other) and other.set_name == self.set_name:
                found[member["_id"]] = other
        return found

    # --- time passes

    def tick(self) -> None:
        if not self.running or self.config is None:
            return
        if self.me is None:
            self._learn()
            return
        self._heartbeats()
        if self.me is None or self.state == "REMOVED":
            return
        if self.state == "PRIMARY":
            self._reign()
        else:
            self._follow()

    def _learn(self) -> None:
        """A removed member still asks those it remembers for a newer configuration."""
        for other in self.reachable().values():
            if other.config is not None and newer(other.config, t.cast(Document, self.config)) and same_set(other.config, self.config):
                self.install(other.config)

    def _heartbeats(self) -> None:
        now = self.network.now()
        seen = self.reachable()
        for key, other in seen.items():
            if other is self:
                continue
            if other.config is None:
                other.install(t.cast(Document, self.config))
            elif not same_set(other.config, self.config):
                self.heard[key] = {"state": "DOWN", "at": 0.0, "message": "replica set IDs do not match"}
                continue
            elif newer(other.config, t.cast(Document, self.config)):
                self.install(other.config)
                if self.me is None:
                    return
            elif newer(t.cast(Document, self.config), other.config):
                other.install(t.cast(Document, self.config))
            self.heard[key] = {"state": other.state, "at": now, "optime": other.disk.optime, "message": ""}
            if other.disk.term > self.disk.term:
                self.disk.term = other.disk.term
                if self.state == "PRIMARY":
                    self.step_down()

    def _reign(self) -> None:
        now = self.network.now()
        voters = {member["_id"] for member in self.voters}
        if len(voters & set(self.reachable())) >= self.majority:
            self.alone_since = 0.0
        elif not self.alone_since:
            self.alone_since = now
        elif now - self.alone_since > self.election_timeout:
            self.step_down()

    def _follow(self) -> None:
        now = self.network.now()
        leader = self.leader()
        self.primary = t.cast(Document, leader.me)["host"] if leader else ""
        source = leader or next((other for other in self.reachable().values() if other is not self and other.disk.oplog), None)
        if source is not None:
            self._replicate(source)
        if leader is None:
            if self.electable() and now > self.deadline and now > self.frozen_until:
                self.stand()
            return
        if now > self.deadline and self._outranks(leader) and now > self.frozen_until:
            self.stand()  # priority takeover
        elif not self._outranks(leader):
            self.postpone()

    def _outranks(self, leader: SimulatedMongod) -> bool:
        mine, its = self.me, leader.me
        return bool(
            mine
            and its
            and self.electable()
            and mine.get("priority", 1) > its.get("priority", 1)
            and self.disk.optime == leader.disk.optime
        )

    def leader(self) -> SimulatedMongod | None:
        return next(
            (one for one in self.reachable().values() if one.state == "PRIMARY" and one.disk.term >= self.disk.term and one.me is not None),
            None,
        )

    def _replicate(self, source: SimulatedMongod) -> None:
        if self.state == "STARTUP2":
            now = self.network.now()
            self.synced_at = self.synced_at or now + self.network.sync_seconds
            if source.disk.oplog and now >= self.synced_at:
                self.disk.replay(source.disk.oplog)
                self.state = "SECONDARY"
            return
        if self.state == "RECOVERING" and not self.maintenance:
            self.state = "SECONDARY"
        if self.state != "SECONDARY" or source.disk.optime < self.disk.optime or (source.disk.optime == self.disk.optime):
            return
        common = 0
        for mine, its in zip(self.disk.oplog, source.disk.oplog, strict=False):
            if mine[0] != its[0]:
                break
            common += 1
        if common < len(self.disk.oplog):
            self.disk.replay(source.disk.oplog)  # rollback: what nobody else has is gone
            return
        for optime, operation in source.disk.oplog[common:]:
            self.disk.oplog.append((optime, operation))
            self.disk.apply(operation)

    # --- elections

    def electable(self) -> bool:
        me = self.me
        return self.state == "SECONDARY" and bool(me and votes(me) and me.get("priority", 1) > 0)

    def stand(self) -> bool:
        """Protocol version 1: a dry run, then a new term, one vote a member a term, none for a candidate with older writes or an older configuration."""
        self.postpone()
        voters = {member["_id"] for member in self.voters}
        electors = [other for key, other in self.reachable().items() if key in voters]
        term = max(self.disk.term, *(other.disk.term for other in electors)) + 1 if electors else self.disk.term + 1
        if sum(other.would_vote(self, term) for other in electors) < self.majority:
            return False
        granted = 0
        for other in electors:
            if other.would_vote(self, term):
                other.disk.voted = other.disk.term = term
                granted += 1
                if other is not self and other.state == "PRIMARY":
                    other.step_down()
        if granted < self.majority:
            return False
        self.disk.term = term
        self.state, self.alone_since, self.primary = "PRIMARY", 0.0, t.cast(Document, self.me)["host"]
        t.cast(Document, self.config)["term"] = term
        self.write({"op": "n", "o": {"msg": "new primary"}})
        return True

    def would_vote(self, candidate: SimulatedMongod, term: int) -> bool:
        return (
            self.config is not None
            and same_set(self.config, candidate.config)
            and not newer(self.config, t.cast(Document, candidate.config))
            and self.disk.optime <= candidate.disk.optime
            and self.disk.voted < term
            and self.disk.term < term
        )

    def step_down(self) -> None:
        self.state, self.primary = "SECONDARY", ""
        self.postpone()

    # --- writes

    def write(self, operation: Document) -> tuple[int, int, int]:
        second = int(time.time())
        last = self.disk.optime
        optime = (self.disk.term, max(second, last[1]), last[2] + 1)
        self.disk.oplog.append((optime, operation))
        self.disk.apply(operation)
        return optime

    def in_majority(self, optime: tuple[int, int, int]) -> bool:
        voters = {member["_id"] for member in self.voters}
        having = [one for key, one in self.reachable().items() if key in voters and one.disk.optime >= optime and one.state != "STARTUP2"]
        return len(having) >= self.majority

    def config_committed(self) -> bool:
        config = t.cast(Document, self.config)
        voters = {member["_id"] for member in self.voters}
        having = [
            one
            for key, one in self.reachable().items()
            if key in voters and one.config and (one.config["version"], one.config["term"]) == (config["version"], config["term"])
        ]
        return len(having) >= self.majority

    # --- commands

    def answer(self, command: Document, session: Session) -> Document:
        name = next(iter(command))
        with self.network.changed:
            if not self.running:
                raise EOFError
            self.counts[name] = self.counts.get(name, 0) + 1
            self._authorise(name, session)
            handler = COMMANDS.get(name)
            if handler is None:
                raise Failure(59, "CommandNotFound", f"no such command: '{name}'")
            return {**(handler(self, command, session) or {}), "ok": 1.0}

    def _authorise(self, name: str, session: Session) -> None:
        if not self.auth or session.user or name in OPEN_COMMANDS:
            return
        if not self.disk.users and name in EXCEPTION_COMMANDS:
            return
        raise Failure(13, "Unauthorized", f"command {name} requires authentication")

    def wait(self, done: t.Callable[[], bool], seconds: float) -> bool:
        end = self.network.now() + seconds
        while not done():
            left = end - self.network.now()
            if left <= 0 or not self.running:
                return False
            self.network.changed.wait(min(left, TICK * 5))
        return True

    def need_set(self) -> None:
        if self.config is None:
            raise Failure(94, "NotYetInitialized", "no replset config has been received")
        if self.state == "REMOVED":
            raise Failure(93, "InvalidReplicaSetConfig", "Our replica set config is invalid or we are not a member of it")

    def need_primary(self) -> None:
        if self.state != "PRIMARY":
            raise Failure(10107, "NotWritablePrimary", "not primary")

    def await_concern(self, command: Document, optime: tuple[int, int, int]) -> Document:
        wanted = command.get("writeConcern") or self.disk.concern or {"w": "majority"}
        limit = float(wanted.get("wtimeout", 0) or 10_000) / 1000
        if wanted.get("w") == "majority" and not self.wait(lambda: self.in_majority(optime), limit):
            return {"writeConcernError": {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "waiting for replication timed out"}}
        return {}


class SimulatedNetwork:
    """All members of a test and the links between them; time passes in one thread, and every change is made under one lock."""

    def __init__(self, sync_seconds: float = 0.1) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.members: dict[int, SimulatedMongod] = {}
        self.cut: set[frozenset[int]] = set()
        self.names: dict[str, int] = {}
        self.sync_seconds = sync_seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="simulated network", daemon=True)
        self._thread.start()

    def now(self) -> float:
        return time.monotonic()

    def add(self, port: int, set_name: str, auth: bool) -> SimulatedMongod:
        with self.changed:
            self.members[port] = member = SimulatedMongod(self, port, set_name, auth)
        return member

    def find(self, host: str) -> SimulatedMongod | None:
        return self.members.get(self.port_of(host))

    def port_of(self, host: str) -> int:
        """Names of this machine are all one to a member: it finds itself by its port. Other names are those of ``names``."""
        name, _colon, port = host.rpartition(":")
        return int(port) if name in {"localhost", "127.0.0.1"} else self.names.get(host, -1)

    def connected(self, one: SimulatedMongod, other: SimulatedMongod) -> bool:
        return other.running and frozenset({one.port, other.port}) not in self.cut

    def partition(self, side: list[int]) -> None:
        """Cut every link between these ports and the others; clients still reach everybody."""
        with self.changed:
            self.cut = {frozenset({one, other}) for one in side for other in self.members if other not in side}

    def heal(self) -> None:
        self.partition([])

    def close(self) -> None:
        self._over.set()
        self._thread.join(10)
        for member in self.members.values():
            member.kill()

    def _run(self) -> None:
        while not self._over.wait(TICK):
            with self.changed:
                for member in list(self.members.values()):
                    member.tick()
                self.changed.notify_all()


# --- configurations


def votes(member: Document) -> bool:
    return bool(member.get("votes", 1))


def newer(one: Document, other: Document) -> bool:
    if -1 in {one["term"], other["term"]}:
        return bool(one["version"] > other["version"])
    return (one["term"], one["version"]) > (other["term"], other["version"])


def same_set(one: Document | None, other: Document | None) -> bool:
    return bool(one and other and one["settings"]["replicaSetId"] == other["settings"]["replicaSetId"])


def invalid(message: str) -> Failure:
    return Failure(93, "InvalidReplicaSetConfig", message)


def validate(config: Document, set_name: str) -> None:
    """Rules that hold for a configuration by itself."""
    members = config.get("members", [])
    if config["_id"] != set_name:
        raise invalid(f"Attempting to initiate a replica set with name {config['_id']}, but command line reports {set_name}; rejecting")
    if not members or len(members) > 50:
        raise invalid(f"Found {len(members)} members, 1 to 50 are allowed")
    for field in ("_id", "host"):
        if len({member[field] for member in members}) < len(members):
            raise invalid(f"Found two member configurations with the same {field}")
    voters = sum(votes(member) for member in members)
    if not 1 <= voters <= 7:
        raise invalid(f"Replica set configuration contains {voters} voting members, but must be at least 1 and no more than 7")
    if not any(member.get("priority", 1) > 0 for member in members):
        raise invalid("Replica set configuration must contain at least one non-arbiter member with priority > 0")
    for member in members:
        if member.get("priority", 1) > 0 and not votes(member):
            raise invalid("priority must be 0 when non-voting (votes:0)")
        if member.get("hidden") and member.get("priority", 1) > 0:
            raise invalid("priority must be 0 when hidden=true")


def successor(old: Document, new: Document, force: bool) -> None:
    """Rules for what may follow what (repl_set_config_checks): versions, names, identities, and one voter at a time."""
    if not force and not newer(new, old):
        raise incompatible(f"New replica set configuration version and term must be greater than old, but {new['version']} is not")
    given = new.get("settings", {}).get("replicaSetId")
    if given is not None and given != old["settings"]["replicaSetId"]:
        raise incompatible("New and old configurations differ in replica set ID")
    before = {member["host"]: member["_id"] for member in old["members"]}
    for member in new["members"]:
        if before.get(member["host"], member["_id"]) != member["_id"]:
            raise incompatible(f"New and old configurations both have members with host of {member['host']} but another _id")
    changed = {member["_id"] for member in old["members"] if votes(member)} ^ {member["_id"] for member in new["members"] if votes(member)}
    if not force and len(changed) > 1:
        raise invalid("Non force replica set reconfig can only add or remove at most 1 voting member.")


def incompatible(message: str) -> Failure:
    return Failure(103, "NewReplicaSetConfigurationIncompatible", message)


# --- commands, by name


def hello(member: SimulatedMongod, command: Document, session: Session) -> Document:
    reply: Document = {
        "helloOk": True,
        "ismaster": member.state == "PRIMARY",
        "isWritablePrimary": member.state == "PRIMARY",
        "secondary": member.state == "SECONDARY",
        "maxBsonObjectSize": 16777216,
        "maxMessageSizeBytes": 48000000,
        "maxWriteBatchSize": 100000,
        "minWireVersion": 0,
        "maxWireVersion": 21,
        "readOnly": False,
        "localTime": time_now(),
    }
    if member.config is None or member.state == "REMOVED":
        reply |= {"isreplicaset": True, "info": "Does not have a valid replica set config"}
    else:
        me = t.cast(Document, member.me)
        reply |= {
            "setName": member.config["_id"],
            "setVersion": member.config["version"],
            "me": me["host"],
            "hosts": [one["host"] for one in member.members],
        }
        if member.state == "PRIMARY" or member.primary:
            reply["primary"] = me["host"] if member.state == "PRIMARY" else member.primary
    asked = command.get("saslSupportedMechs")
    if asked and asked in member.disk.users:
        reply["saslSupportedMechs"] = ["SCRAM-SHA-256"]
    return reply


def time_now() -> t.Any:
    import datetime

    return datetime.datetime.now(datetime.UTC)


def sasl_start(member: SimulatedMongod, command: Document, session: Session) -> Document:
    if command["mechanism"] != "SCRAM-SHA-256":
        raise failed()
    session.scram = Scram(bytes(command["payload"]), lambda user: member.disk.users.get(f"{command['$db']}.{user}", {}).get("credentials"))
    session.scram.user = f"{command['$db']}.{session.scram.user}"
    return {"conversationId": 1, "done": False, "payload": session.scram.challenge}


def sasl_continue(member: SimulatedMongod, command: Document, session: Session) -> Document:
    if session.scram is None:
        raise failed()
    payload = session.scram.finish(bytes(command["payload"]))
    session.user, session.scram = session.scram.user, None
    return {"conversationId": 1, "done": True, "payload": payload}


def initiate(member: SimulatedMongod, command: Document, session: Session) -> Document:
    if member.config is not None:
        raise Failure(23, "AlreadyInitialized", "already initialized")
    config = copy.deepcopy(command["replSetInitiate"])
    validate(config, member.set_name)
    others = [member.network.find(one["host"]) for one in config["members"]]
    if member not in others:
        raise Failure(93, "InvalidReplicaSetConfig", "No host described in new configuration maps to this node")
    for entry, other in zip(config["members"], others, strict=True):
        if other is None or not member.network.connected(member, other) or other.set_name != member.set_name:
            raise Failure(
                74,
                "NodeNotFound",
                f"replSetInitiate quorum check failed because not all proposed set members responded affirmatively: {entry['host']}",
            )
        if other is not member and other.config is not None:
            raise incompatible(f"{entry['host']} already has a configuration")
        if other is not member and other.disk.has_data:
            raise Failure(110, "CannotInitializeNodeWithData", f"'{entry['host']}' has data already, cannot initiate set.")
    config |= {"version": config.get("version", 1), "term": 0}
    config["settings"] = {**config.get("settings", {}), "replicaSetId": bson.ObjectId()}
    member.install(config)
    member.write({"op": "n", "o": {"msg": "initiating set"}})
    member.state = "SECONDARY"
    member.postpone()
    return {}


def get_config(member: SimulatedMongod, command: Document, session: Session) -> Document:
    if member.config is None:
        raise Failure(94, "NotYetInitialized", "no replset config has been received")
    reply: Document = {"config": member.config}
    if command.get("commitmentStatus"):
        member.need_primary()
        reply["commitmentStatus"] = member.config_committed()
    return reply


def get_status(member: SimulatedMongod, command: Document, session: Session) -> Document:
    member.need_set()
    now = member.network.now()
    rows = []
    for entry in member.members:
        mine = member.network.port_of(entry["host"]) == member.port
        heard = member.heard.get(entry["_id"], {})
        alive = mine or now - heard.get("at", 0.0) < TICK * 25
        state = member.state if mine else heard["state"] if alive else "DOWN"
        optime = member.disk.optime if mine else heard.get("optime", (-1, 0, 0))
        row: Document = {"_id": entry["_id"], "name": entry["host"], "health": 1.0 if alive else 0.0, "state": STATES[state]}
        row |= {"stateStr": state if alive else "(not reachable/healthy)", "lastHeartbeatMessage": heard.get("message", "")}
        row["optime"] = {"ts": bson.Timestamp(max(optime[1], 0), max(optime[2], 0)), "t": bson.Int64(optime[0])}
        if mine:
            row["self"] = True
        rows.append(row)
    return {"set": member.set_name, "myState": STATES[member.state], "term": bson.Int64(member.disk.term), "members": rows}


def reconfig(member: SimulatedMongod, command: Document, session: Session) -> Document:
    if member.config is None:
        raise Failure(94, "NotYetInitialized", "no replset config has been received")
    force = bool(command.get("force"))
    new = copy.deepcopy(command["replSetReconfig"])
    limit = float(command.get("maxTimeMS", 30_000)) / 1000
    if not force:
        member.need_set()
        member.need_primary()
        first = next((optime for optime, _operation in member.disk.oplog if optime[0] == member.disk.term), member.disk.optime)
        if not member.wait(lambda: member.config_committed() and member.in_majority(first), limit):
            raise Failure(308, "CurrentConfigNotCommittedYet", "New config is rejected :: Current config is not committed yet")
        member.need_primary()
    validate(new, member.set_name)
    old = member.config
    if force:
        new["version"] = max(new["version"], old["version"]) + random.randint(10_000, 110_000)
    new["term"] = -1 if force else member.disk.term
    successor(old, new, force)
    mine = next((one for one in new["members"] if member.network.port_of(one["host"]) == member.port), None)
    if mine is None:
        raise Failure(74, "NodeNotFound", f"No host described in new configuration with {{version: {new['version']}}} maps to this node")
    if not force:
        if mine.get("priority", 1) <= 0:
            raise Failure(104, "NodeNotElectable", "This node is not electable under the new configuration")
        _quorum(member, new)
    new["settings"] = {**new.get("settings", {}), "replicaSetId": old["settings"]["replicaSetId"]}
    member.install(new)
    if not force:
        member.wait(member.config_committed, limit)
    return {}


def _quorum(member: SimulatedMongod, new: Document) -> None:
    """A majority of the new configuration's voters answers, and nobody who answers is of another set."""
    answering = 0
    for entry in new["members"]:
        other = member.network.find(entry["host"])
        if other is None or not member.network.connected(member, other) or other.set_name != member.set_name:
            continue
        if other.config is not None and not same_set(other.config, member.config):
            raise incompatible(f"Our replica set ID did not match that of {entry['host']}")
        answering += votes(entry)
    voters = sum(votes(entry) for entry in new["members"])
    if answering < voters // 2 + 1:
        raise Failure(
            74,
            "NodeNotFound",
            f"Quorum check failed because not enough voting nodes responded; required {voters // 2 + 1} but only {answering} responded",
        )


def step_down(member: SimulatedMongod, command: Document, session: Session) -> Document:
    member.need_set()
    member.need_primary()
    seconds = int(command["replSetStepDown"]) or 60
    catch_up = float(command.get("secondaryCatchUpPeriodSecs", 10))

    def heir() -> SimulatedMongod | None:
        ready = [
            one for one in member.reachable().values() if one is not member and one.electable() and one.disk.optime >= member.disk.optime
        ]
        return ready[0] if ready else None

    if not member.wait(lambda: heir() is not None, catch_up) and not command.get("force"):
        raise Failure(262, "ExceededTimeLimit", "No electable secondaries caught up")
    member.need_primary()
    chosen = heir()
    member.step_down()
    member.frozen_until = member.network.now() + seconds
    if chosen is not None:
        chosen.stand()  # election handoff
    return {}


def step_up(member: SimulatedMongod, command: Document, session: Session) -> Document:
    member.need_set()
    if member.state == "PRIMARY":
        return {}
    if not member.electable() or not member.stand():
        raise Failure(125, "CommandFailed", "Election failed.")
    return {}


def freeze(member: SimulatedMongod, command: Document, session: Session) -> Document:
    member.need_set()
    seconds = int(command["replSetFreeze"])
    member.frozen_until = member.network.now() + seconds if seconds else 0.0
    return {}


def maintenance(member: SimulatedMongod, command: Document, session: Session) -> Document:
    member.need_set()
    if member.state == "PRIMARY":
        raise Failure(95, "NotSecondary", "primaries can't modify maintenance mode")
    member.maintenance = bool(command["replSetMaintenance"])
    member.state = "RECOVERING" if member.maintenance else "SECONDARY"
    return {}


def create_user(member: SimulatedMongod, command: Document, session: Session) -> Document:
    member.need_primary()
    key = f"{command['$db']}.{command['createUser']}"
    if key in member.disk.users:
        raise Failure(51003, "Location51003", f'User "{command["createUser"]}@{command["$db"]}" already exists')
    user = {"user": command["createUser"], "db": command["$db"], "roles": command["roles"], "credentials": credentials(command["pwd"])}
    return member.await_concern(command, member.write({"op": "user", "key": key, "o": user}))


def update_user(member: SimulatedMongod, command: Document, session: Session) -> Document:
    member.need_primary()
    key = f"{command['$db']}.{command['updateUser']}"
    if key not in member.disk.users:
        raise Failure(11, "UserNotFound", f"Could not find user {key}")
    changes = {"roles": command["roles"]} if "roles" in command else {}
    changes |= {"credentials": credentials(command["pwd"])} if "pwd" in command else {}
    return member.await_concern(command, member.write({"op": "user", "key": key, "o": {**member.disk.users[key], **changes}}))


def users_info(member: SimulatedMongod, command: Document, session: Session) -> Document:
    return {"users": [{name: user[name] for name in ("user", "db", "roles")} for user in member.disk.users.values()]}


def set_concern(member: SimulatedMongod, command: Document, session: Session) -> Document:
    member.need_primary()
    return member.await_concern(command, member.write({"op": "concern", "o": command["defaultWriteConcern"]}))


def get_concern(member: SimulatedMongod, command: Document, session: Session) -> Document:
    implicit = member.disk.concern is None
    return {
        "defaultWriteConcern": member.disk.concern or {"w": "majority"},
        "defaultWriteConcernSource": "implicit" if implicit else "global",
    }


def insert(member: SimulatedMongod, command: Document, session: Session) -> Document:
    member.need_primary()
    optime = member.disk.optime
    for document in command["documents"]:
        optime = member.write({"op": "insert", "ns": f"{command['$db']}.{command['insert']}", "o": document})
    return {"n": len(command["documents"]), **member.await_concern(command, optime)}


def update(member: SimulatedMongod, command: Document, session: Session) -> Document:
    """Whole documents by their _id, with upsert."""
    member.need_primary()
    optime = member.disk.optime
    for change in command["updates"]:
        optime = member.write({"op": "replace", "ns": f"{command['$db']}.{command['update']}", "o": change["u"]})
    return {"n": len(command["updates"]), **member.await_concern(command, optime)}


OPERATIONS = {"insert": "i", "replace": "u", "delete": "d"}


def logged(optime: tuple[int, int, int], operation: Document) -> Document:
    """An operation as the oplog shows it: what makes whole documents, by its letter; everything else is none of a reader's business."""
    letter = OPERATIONS.get(operation["op"], "n")
    entry: Document = {"ts": bson.Timestamp(optime[1], optime[2]), "t": bson.Int64(optime[0]), "op": letter}
    if letter == "n":
        return {**entry, "ns": "", "o": {}}
    return {**entry, "ns": operation["ns"], "o": operation["o"], **({"o2": {"_id": operation["o"]["_id"]}} if letter == "u" else {})}


def fits(value: t.Any, wanted: t.Any) -> bool:
    """Equality, and the comparisons a reader of the oplog makes."""
    if isinstance(wanted, dict) and wanted and all(name.startswith("$") for name in wanted):
        compare = {"$gte": lambda limit: value >= limit, "$lte": lambda limit: value <= limit, "$lt": lambda limit: value < limit}
        return value is not None and all(compare[name](limit) for name, limit in wanted.items())
    return bool(value == wanted)


def find(member: SimulatedMongod, command: Document, session: Session) -> Document:
    """By equality, and of the oplog by its moments; everything in one batch."""
    if member.state not in {"PRIMARY", "SECONDARY"} and command["$db"] != "local":
        raise Failure(13436, "NotPrimaryOrSecondary", "node is not in primary or recovering state")
    name = f"{command['$db']}.{command['find']}"
    documents: list[Document] = (
        [logged(optime, operation) for optime, operation in member.disk.oplog]
        if name == "local.oplog.rs"
        else member.disk.data.get(name, [])
    )
    if command.get("sort", {}).get("$natural") == -1:
        documents = documents[::-1]
    wanted = command.get("filter", {})
    found = [document for document in documents if all(fits(document.get(key), value) for key, value in wanted.items())]
    return {"cursor": {"id": bson.Int64(0), "ns": name, "firstBatch": found[: command.get("limit") or None]}}


def listing(namespace: str, documents: list[Document]) -> Document:
    return {"cursor": {"id": bson.Int64(0), "ns": namespace, "firstBatch": documents}}


def namespaces(member: SimulatedMongod, database: str = "") -> list[str]:
    return sorted(name for name in member.disk.data if not database or name.startswith(f"{database}."))


def list_databases(member: SimulatedMongod, command: Document, session: Session) -> Document:
    names = sorted({"admin", "local", *(name.partition(".")[0] for name in namespaces(member))})
    return {"databases": [{"name": name, "sizeOnDisk": 4096} for name in names]}


def list_collections(member: SimulatedMongod, command: Document, session: Session) -> Document:
    names = [name.partition(".")[2] for name in namespaces(member, command["$db"])]
    return listing(f"{command['$db']}.$cmd.listCollections", [{"name": name, "type": "collection", "options": {}} for name in names])


def list_indexes(member: SimulatedMongod, command: Document, session: Session) -> Document:
    name = f"{command['$db']}.{command['listIndexes']}"
    return listing(name, [{"v": 2, "key": {"_id": 1}, "name": "_id_"}, *member.disk.indexes.get(name, [])])


def create(member: SimulatedMongod, command: Document, session: Session) -> Document:
    member.need_primary()
    name = f"{command['$db']}.{command['create']}"
    if name in member.disk.data:
        raise Failure(48, "NamespaceExists", f"Collection {name} already exists.")
    return member.await_concern(command, member.write({"op": "create", "ns": name, "o": {}}))


def create_indexes(member: SimulatedMongod, command: Document, session: Session) -> Document:
    member.need_primary()
    name = f"{command['$db']}.{command['createIndexes']}"
    optime = member.disk.optime
    for index in command["indexes"]:
        if index["name"] not in {one["name"] for one in member.disk.indexes.get(name, [])}:
            optime = member.write({"op": "index", "ns": name, "o": {"v": 2, **index}})
    return member.await_concern(command, optime)


def drop(member: SimulatedMongod, command: Document, session: Session) -> Document:
    member.need_primary()
    optime = member.disk.optime
    whole = command["$db"] if "dropDatabase" in command else ""
    for name in namespaces(member, whole) if whole else [f"{command['$db']}.{command['drop']}"]:
        optime = member.write({"op": "drop", "ns": name, "o": {}})
    return member.await_concern(command, optime)


def apply_operations(member: SimulatedMongod, command: Document, session: Session) -> Document:
    """Whole documents by their _id: what is there already is replaced, so it may be done twice."""
    member.need_primary()
    optime = member.disk.optime
    for entry in command["applyOps"]:
        operation = {"i": "replace", "u": "replace", "d": "delete"}[entry["op"]]
        optime = member.write({"op": operation, "ns": entry["ns"], "o": entry["o"]})
    return {"applied": len(command["applyOps"]), **member.await_concern(command, optime)}


def drop_user(member: SimulatedMongod, command: Document, session: Session) -> Document:
    member.need_primary()
    key = f"{command['$db']}.{command['dropUser']}"
    if key not in member.disk.users:
        raise Failure(11, "UserNotFound", f"User '{command['dropUser']}@{command['$db']}' not found")
    return member.await_concern(command, member.write({"op": "nobody", "key": key, "o": {}}))


def server_status(member: SimulatedMongod, command: Document, session: Session) -> Document:
    commands = {name: {"failed": bson.Int64(0), "total": bson.Int64(count)} for name, count in member.counts.items()}
    return {"host": f"localhost:{member.port}", "version": RELEASE, "metrics": {"commands": commands}}


COMMANDS: dict[str, t.Callable[[SimulatedMongod, Document, Session], Document]] = {
    "hello": hello,
    "ismaster": hello,
    "isMaster": hello,
    "saslStart": sasl_start,
    "saslContinue": sasl_continue,
    "ping": lambda *_arguments: {},
    "endSessions": lambda *_arguments: {},
    "buildInfo": lambda *_arguments: {"version": RELEASE, "versionArray": [7, 0, 0, 0]},
    "replSetInitiate": initiate,
    "replSetGetConfig": get_config,
    "replSetGetStatus": get_status,
    "replSetReconfig": reconfig,
    "replSetStepDown": step_down,
    "replSetStepUp": step_up,
    "replSetFreeze": freeze,
    "replSetMaintenance": maintenance,
    "createUser": create_user,
    "updateUser": update_user,
    "usersInfo": users_info,
    "setDefaultRWConcern": set_concern,
    "getDefaultRWConcern": get_concern,
    "getParameter": lambda *_arguments: {"featureCompatibilityVersion": {"version": COMPATIBILITY}},
    "insert": insert,
    "update": update,
    "find": find,
    "listDatabases": list_databases,
    "listCollections": list_collections,
    "listIndexes": list_indexes,
    "create": create,
    "createIndexes": create_indexes,
    "drop": drop,
    "dropDatabase": drop,
    "applyOps": apply_operations,
    "dropUser": drop_user,
    "collStats": lambda *_arguments: {"maxSize": 50 << 20, "size": 1 << 20},
    "serverStatus": server_status,
}
