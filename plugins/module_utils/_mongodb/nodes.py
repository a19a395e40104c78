# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the members are, what they say, and what is sent to them (private: may change without notice)."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import typing as t
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client
from ansible_collections.progressive.platform.plugins.module_utils._kube.forward import listen
from ansible_collections.progressive.platform.plugins.module_utils._members.credentials import Access
from ansible_collections.progressive.platform.plugins.module_utils._members.model import Marker, Target
from ansible_collections.progressive.platform.plugins.module_utils._members.places import Addresses, Pods, split_address
from ansible_collections.progressive.platform.plugins.module_utils._mongodb import documents
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.driver import UNAUTHORIZED, Connection, Door, Lost, Refused
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.model import EVICT, Action, Config, Node, Observation
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

AT_ONCE = 16
MEGABYTE = 1 << 20
FULL = 0.9
"""Share of the oplog's size from which on old operations are on their way out; it is cut off by pieces."""


class Source(t.Protocol):
    """Names the members, by their lasting names, and says where to connect to."""

    def targets(self) -> list[Target]: ...

    def host(self, target: Target) -> str:
        """Its name in the configuration, ``name:port``."""

    def dial(self, target: Target, secured: bool) -> contextlib.AbstractContextManager[tuple[str, int]]: ...

    def evict(self, name: str, uid: str) -> str: ...


class Hosts:
    """Members given as ``name:port``. An IP address is refused: it changes, and with it who the member is to the others."""

    def __init__(self, addresses: Sequence[str], zones: Mapping[str, str]) -> None:
        for address in addresses:
            host, _port = split_address(address)
            with contextlib.suppress(ValueError):
                ipaddress.ip_address(host)
                raise PlatformError(
                    f"addresses: {address} is an IP address. Members know each other by what stands here, so give a DNS name that stays."
                )
        self._addresses = Addresses(addresses, zones)

    def targets(self) -> list[Target]:
        return self._addresses.targets()

    def host(self, target: Target) -> str:
        return target.name

    def dial(self, target: Target, secured: bool) -> contextlib.AbstractContextManager[tuple[str, int]]:
        return contextlib.nullcontext((target.server_name, target.port))

    def evict(self, name: str, uid: str) -> str:
        return self._addresses.evict(name, uid)


class Members:
    """Members that are the pods of a label selector, known to each other by the names their headless Service gives them."""

    def __init__(self, client: Client, namespace: str, selector: str, port: int, domain: str) -> None:
        self._client = client
        self._namespace = namespace
        self._port = port
        self._domain = domain
        self._pods = Pods(client, namespace, selector, port)

    def targets(self) -> list[Target]:
        return self._pods.targets()

    def host(self, target: Target) -> str:
        return f"{target.name}.{self._domain}:{self._port}"

    @contextlib.contextmanager
    def dial(self, target: Target, secured: bool) -> t.Iterator[tuple[str, int]]:
        """The driver wants an address: one on loopback that leads to the pod. A certificate is for names, so with TLS it is called by its own."""
        with listen(self._client, self._namespace, target.name, self._port) as (host, port):
            yield ("localhost" if secured else host), port

    def evict(self, name: str, uid: str) -> str:
        return self._pods.evict(name, uid)


class Cluster:
    """All connections of one run. Every look goes to all members side by side; a connection that fails is opened again in the next pass."""

    def __init__(self, source: Source, door: Door, closer: bool = False) -> None:
        self._source = source
        self._door = door
        self._closer = closer
        self._targets: list[Target] = []
        self._connections: dict[str, tuple[Connection, contextlib.ExitStack]] = {}
        self._stale = True

    @property
    def access(self) -> Access:
        return self._door.access

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_exception: object) -> None:
        for name in list(self._connections):
            self._drop(name)
        self._door.close()

    def observe(self, marker: Marker | None, count: int = 0) -> Observation:
        """One look at every member. Where they are is asked again when a connection broke, or while there are fewer than ``count``."""
        if self._stale or len(self._targets) < count:
            self._locate()
        with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
            nodes = list(pool.map(self._look, self._targets))
        self._stale = any(node.kind == "absent" or node.target.update == "unseen" or not node.target.ready for node in nodes)
        return Observation(tuple(nodes), marker)

    def send(self, action: Action) -> Mapping[str, t.Any]:
        """The server's reply, which may be a refusal. Raises Lost."""
        if action.verb == EVICT:
            self._stale = True
            why_not = self._source.evict(action.node, str(action.command[EVICT]))
            return {"ok": 0.0, "code": 0, "errmsg": why_not} if why_not else {"ok": 1.0}
        if action.node not in self._connections:
            raise Lost("not connected")
        try:
            reply = self._connections[action.node][0].command(action.command, action.database)
        except Lost:
            self._drop(action.node)
            raise
        if action.verb == "createUser" and reply.get("ok"):
            self._drop(action.node)  # nobody is let in without a login from now on
        return reply

    def _locate(self) -> None:
        targets = self._source.targets()
        known = {target.name: target for target in self._targets}
        for target in targets:
            before = known.get(target.name)
            if before is not None and (before.uid, before.host) != (target.uid, target.host):
                self._drop(target.name)
        self._targets = targets

    def _drop(self, name: str) -> None:
        if name in self._connections:
            self._connections.pop(name)[1].close()

    def _look(self, target: Target) -> Node:
        node = Node(target, self._source.host(target))
        if target.problem:
            return dataclasses.replace(node, problem=target.problem, kind="absent")
        try:
            connection = self._connected(target)
            node = _looked(dataclasses.replace(node, login=connection.login), connection)
            return _closer(node, connection) if self._closer and node.config else node
        except Refused as error:
            return dataclasses.replace(node, problem=error.text, hint=error.hint, kind=error.kind)
        except (Lost, ApiError, OSError) as error:
            self._drop(target.name)
            return dataclasses.replace(node, problem=str(error), kind="absent")

    def _connected(self, target: Target) -> Connection:
        known = self._connections.get(target.name)
        if known is not None:
            if known[0].login != "open" or known[0].command({"replSetGetStatus": 1}).get("code") != UNAUTHORIZED:
                return known[0]
            self._drop(target.name)  # its first user has arrived meanwhile
        with contextlib.ExitStack() as stack:
            host, port = stack.enter_context(self._source.dial(target, self._door.access.tls is not None))
            connection = self._door.open(host, port)
            stack.callback(connection.close)
            self._connections[target.name] = (connection, stack.pop_all())
        return connection


def _looked(node: Node, connection: Connection) -> Node:
    hello = connection.command({"hello": 1})
    if not (hello.get("setName") or hello.get("isreplicaset") or hello.get("info")):
        what = "a mongos" if hello.get("msg") == "isdbgrid" else "a server that was started without --replSet"
        raise Refused("foreign", f"it is {what}", "Start every member with --replSet and the name of the set.")
    node = documents.with_hello(node, hello)
    status = connection.command({"replSetGetStatus": 1})
    node = documents.with_status(node, status)
    if status.get("code") == documents.NOT_INITIALISED:
        return node
    reply = connection.command({"replSetGetConfig": 1, "commitmentStatus": node.state == "PRIMARY"})
    if not reply.get("ok"):
        # Without a user only a few commands are allowed: the status names the members, and that is enough until there is one.
        return dataclasses.replace(node, config=_assumed(status, hello)) if status.get("ok") else node
    node = dataclasses.replace(
        node,
        config=documents.config_of(reply["config"]),
        committed=bool(reply.get("commitmentStatus", True)),
        version=str(connection.command({"buildInfo": 1}).get("version", "")),
    )
    return _as_primary(node, connection) if node.state == "PRIMARY" else node


def _assumed(status: Mapping[str, t.Any], hello: Mapping[str, t.Any]) -> Config:
    """What hello and the status tell of a configuration that cannot be read yet."""
    members = [{"_id": member["_id"], "host": member["name"]} for member in status.get("members", [])]
    return documents.config_of(
        {"_id": status["set"], "version": hello.get("setVersion", 1), "term": status.get("term", -1), "members": members}
    )


def _as_primary(node: Node, connection: Connection) -> Node:
    concern = connection.command({"getDefaultRWConcern": 1})
    parameter = connection.command({"getParameter": 1, "featureCompatibilityVersion": 1})
    accounts = connection.command({"usersInfo": {"forAllDBs": True}})
    return dataclasses.replace(
        node,
        write_concern=_told(concern),
        compatibility=str((parameter.get("featureCompatibilityVersion") or {}).get("version", "")),
        users=documents.users_of(accounts) if accounts.get("ok") else None,
    )


def _closer(node: Node, connection: Connection) -> Node:
    """How far back the oplog goes, for those who look only."""
    ends = [
        connection.command({"find": "oplog.rs", "sort": {"$natural": order}, "limit": 1, "projection": {"ts": 1}}, "local")
        for order in (1, -1)
    ]
    batches = [end.get("cursor", {}).get("firstBatch", []) for end in ends]
    if not all(batches):
        return node
    first, last = (batch[0]["ts"].time for batch in batches)
    stats = connection.command({"collStats": "oplog.rs"}, "local")
    room, used = int(stats.get("maxSize", 0)), int(stats.get("size", 0))
    return dataclasses.replace(node, oplog=(int(last - first), room // MEGABYTE, bool(room) and used >= room * FULL))


def _told(concern: Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The default that somebody has set; the server's own assumption is none."""
    return {} if concern.get("defaultWriteConcernSource") == "implicit" else dict(concern.get("defaultWriteConcern") or {})
