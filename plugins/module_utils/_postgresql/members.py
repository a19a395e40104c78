# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the members are, and the questions to them: Patroni's REST interface and the server's SQL (private: may change without notice)."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import http.client
import json
import socket
import typing as t
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.progressive.platform.plugins.module_utils._kube import pods
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client
from ansible_collections.progressive.platform.plugins.module_utils._kube.forward import forward
from ansible_collections.progressive.platform.plugins.module_utils._members.credentials import overlapping
from ansible_collections.progressive.platform.plugins.module_utils._members.places import split_address
from ansible_collections.progressive.platform.plugins.module_utils._postgresql import observe
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.model import (
    Facts,
    Json,
    Member,
    Observation,
    Statement,
    Target,
)
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.objects import MAINTENANCE
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.wire import Lost, Row, Session, SqlError
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, PlatformError

CONNECT_WITHIN = 5.0
ANSWER_WITHIN = 10.0
"""Seconds for one question; a member that is slower counts as silent in that look."""
SWITCH_WITHIN = 60.0
"""Seconds Patroni may take to carry out a switchover or restart before it answers."""
STATEMENT_WITHIN = 120.0
AT_ONCE = 8
REST_USER = "patroni"
UNAUTHORIZED = 401
REFUSED_LOGIN = "28P01"  # SQLSTATE

Dial: t.TypeAlias = "Callable[[Target, int], socket.socket]"
T = t.TypeVar("T")


class Refused(Exception):
    """Patroni's REST interface did not do what it was told; its own words."""


class Source(t.Protocol):
    """Names the members and opens sockets to them."""

    def targets(self) -> list[Target]: ...

    def dial(self, target: Target, port: int) -> socket.socket: ...

    def replace(self, target: Target) -> str:
        """Have the member's pod replaced if it is still this one; returns why not now, empty when it is on its way."""


class Addresses:
    """Members given as ``host:port`` of their REST interface; where the server listens they say themselves."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._places = [split_address(address) for address in addresses]
        if len(set(self._places)) < len(self._places):
            raise PlatformError(f"addresses names a member twice: {', '.join(addresses)}. Give every member once.")

    def targets(self) -> list[Target]:
        return [
            Target(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", host, port, ordinal=place)
            for place, (host, port) in enumerate(self._places)
        ]

    def dial(self, target: Target, port: int) -> socket.socket:
        return socket.create_connection((target.host, port), timeout=CONNECT_WITHIN)

    def replace(self, target: Target) -> str:
        return f"{target.name} is an address and no pod: whoever runs that server replaces it"


class Pods:
    """Members that are the pods of a label selector, reached by port-forward with the kubeconfig's own rights."""

    def __init__(self, client: Client, namespace: str, selector: str, rest_port: int, sql_port: int) -> None:
        self._client = client
        self._namespace = namespace
        self._pods = pods.Pods(client, namespace, selector)
        self._ports = rest_port, sql_port

    def targets(self) -> list[Target]:
        rest, sql = self._ports
        return [
            Target(pod.name, pod.address, rest, sql, pod.uid, pod.node, pod.zone, pod.problem, pod.update, pod.ready, pod.ordinal)
            for pod in self._pods.read()
        ]

    def dial(self, target: Target, port: int) -> socket.socket:
        return forward(self._client, self._namespace, target.name, port)

    def replace(self, target: Target) -> str:
        return self._pods.evict(target.name, target.uid)


class Access(t.NamedTuple):
    """Passwords; an empty one means that what needs it is not done. None of them is ever shown."""

    superuser: str = ""
    rest: str = ""
    superuser_also: tuple[str, ...] = ()
    rest_also: tuple[str, ...] = ()
    """What a rotation may have left: tried where the password itself is refused."""


def access_of(secret: Mapping[str, str]) -> Access:
    """By the values of the role's Secret, those of a rotation under way included."""
    superuser, rest = overlapping(secret, "superuser"), overlapping(secret, "restapi")
    return Access(next(iter(superuser), ""), next(iter(rest), ""), superuser[1:], rest[1:])


def _body(answer: http.client.HTTPResponse) -> bytes:
    """Patroni gives no length, and containerd passes the end of a forwarded connection on a second late: a JSON object ends where it is whole."""
    text = b""
    while piece := answer.read1(65536):
        text += piece
        if text.startswith(b"{"):
            with contextlib.suppress(ValueError):
                json.loads(text)
                break
    return text


class Cluster:
    """All questions of one run. Each look goes to all members side by side."""

    def __init__(self, source: Source, access: Access, clock: Clock, now: Callable[[], float]) -> None:
        self._source = source
        self._access = access
        self._clock = clock
        self._now = now
        self._targets: list[Target] = []
        self._sessions: dict[tuple[str, str], Session] = {}

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_exception: object) -> None:
        for session in self._sessions.values():
            session.close()

    # ---- looking ------------------------------------------------------------------------------------------------------------

    def observe(self, users: Iterable[str] = (), databases: Iterable[str] = (), ask_sql: bool = True) -> Observation:
        """One look at every member, and with the superuser's password at the primary's SQL."""
        self._targets = self._source.targets()
        members = observe.sent_to(tuple(self._each(self._look, self._targets)))
        seen = Observation(members)
        teller = seen.primary or next(iter(seen.live), None)
        if teller is not None:
            with contextlib.suppress(Refused):
                seen = dataclasses.replace(seen, config=self.ask(teller.target, "GET", "/config"))
        primary = seen.primary
        if primary and ask_sql and self._access.superuser:
            try:
                seen = dataclasses.replace(seen, facts=self._facts(primary, tuple(users), frozenset(databases)))
            except (SqlError, Lost, OSError, ApiError) as error:
                self._forget(primary.target.name)
                seen = dataclasses.replace(seen, facts_problem=str(error))
        return seen

    def _look(self, target: Target) -> Member:
        if target.problem:
            return Member(target, problem=target.problem)
        try:
            status = self.ask(target, "GET", "/patroni")
        except Refused as error:
            return Member(target, problem=str(error))
        try:
            cluster = self.ask(target, "GET", "/cluster")
        except Refused:  # the lock's store is away for it, which its ``silence`` tells; of itself it still knows
            cluster = {}
        return observe.member_of(target, status, cluster, self._now())

    def _facts(self, primary: Member, users: tuple[str, ...], databases: frozenset[str]) -> Facts:
        def rows(text: str, database: str = MAINTENANCE) -> list[Row]:
            return self.query(primary, text, database)

        there = rows(observe.DATABASES)
        known_users = observe.users_of(rows(observe.USERS))
        grantees = [user for user in users if user in known_users]
        looked = [str(name) for name, _owner in there if name in databases]
        return Facts(
            slots=observe.slots_of(rows(observe.SLOTS)),
            archive=observe.archive_of(rows(observe.ARCHIVE)),
            links=observe.links_of(rows(observe.LINKS)),
            users=known_users,
            databases=observe.databases_of(
                there,
                {name: rows(observe.EXTENSIONS, name) for name in looked},
                {name: rows(observe.grants_question(grantees), name) for name in looked if grantees},
            ),
            restart={str(name): (str(setting), str(unit)) for name, setting, unit in rows(observe.RESTART)},
        )

    # ---- doing --------------------------------------------------------------------------------------------------------------

    def ask(self, target: Target, method: str, path: str, body: Json | None = None, within: float = ANSWER_WITHIN) -> Json:
        """One request to a member's REST interface; raises Refused with the reason, in Patroni's words where it gave some."""
        for password in (self._access.rest, *self._access.rest_also):
            status, text = self._request(target, method, path, body, within, "" if method == "GET" else password)
            if status != UNAUTHORIZED:
                break
        # The status is that of the member (503 for one that does not run), not of the question; a body tells.
        if method == "GET" and text.startswith("{"):
            return t.cast(Json, json.loads(text))
        if status >= 300:
            hint = "; it wants the password of its restapi section" if status == UNAUTHORIZED else ""
            raise Refused(f"{method} {path}: {status} {text.strip()[:300]}{hint}")
        return {"said": text.strip()}

    def _request(self, target: Target, method: str, path: str, body: Json | None, within: float, password: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(target.host or "localhost", target.rest_port, timeout=within)
        headers = {"content-type": "application/json"}
        if password:
            headers["authorization"] = "Basic " + base64.b64encode(f"{REST_USER}:{password}".encode()).decode()
        try:
            connection.sock = self._source.dial(target, target.rest_port)
            connection.sock.settimeout(within)
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, _body(answer).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException, ApiError) as error:
            reason = getattr(connection.sock, "failure", "") or str(error) or type(error).__name__
            raise Refused(f"Patroni does not answer: {reason}") from error
        finally:
            connection.close()

    def tell(self, member: Member, kind: str, body: Json) -> str:
        """Have Patroni do something; returns why it did not, empty when it did."""
        method, path = {"config": ("PATCH", "/config"), "reinit": ("POST", "/reinitialize")}.get(kind, ("POST", f"/{kind}"))
        try:
            self.ask(member.target, method, path, body, ANSWER_WITHIN if kind == "config" else SWITCH_WITHIN)
        except Refused as error:
            return str(error)
        return ""

    def replace(self, member: Member) -> str:
        return self._source.replace(member.target)

    def execute(self, primary: Member, statements: Sequence[Statement]) -> None:
        """One after the other; raises SqlError or Lost at the first that fails."""
        for statement in statements:
            self.query(primary, statement.text, statement.database, STATEMENT_WITHIN)

    def query(self, member: Member, text: str, database: str = MAINTENANCE, within: float = 0) -> list[Row]:
        """A statement to one member as superuser, over a connection that is kept; one that broke is opened again once."""
        key = (member.target.name, database)
        if key in self._sessions:
            try:
                return self._sessions[key].query(text, within)
            except Lost:
                self._sessions.pop(key).close()
        self._sessions[key] = self._session(member.target, database)
        return self._sessions[key].query(text, within)

    def _session(self, target: Target, database: str) -> Session:
        """By the superuser's password, or by one that a rotation has left, which is then the first to be tried."""
        passwords = (self._access.superuser, *self._access.superuser_also)
        for password in passwords:
            sock = self._source.dial(target, target.sql_port)
            try:
                session = Session(sock, "postgres", password, database)
            except SqlError as error:
                sock.close()
                if error.code != REFUSED_LOGIN or password == passwords[-1]:
                    raise
            except BaseException:
                sock.close()
                raise
            else:
                self._access = self._access._replace(superuser=password, superuser_also=tuple(one for one in passwords if one != password))
                return session
        raise AssertionError("unreachable")

    def _forget(self, name: str) -> None:
        for key in [key for key in self._sessions if key[0] == name]:
            self._sessions.pop(key).close()

    def _each(self, function: Callable[[Target], T], targets: Sequence[Target]) -> Iterator[T]:
        if len(targets) < 2:
            return map(function, targets)
        with ThreadPoolExecutor(max_workers=min(AT_ONCE, len(targets))) as pool:
            return iter(list(pool.map(function, targets)))


def sources(pods: Mapping[str, t.Any] | None, addresses: Sequence[str] | None, client: Client | None) -> Source:
    if pods and client is not None:
        return Pods(client, pods["namespace"], pods["selector"], pods["rest_port"], pods["port"])
    return Addresses(addresses or ())
