# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One server to talk to, whichever engine it is: the primary or a secondary of a replica set, or any FerretDB (private: may change without notice)."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import typing as t
from collections.abc import Iterator, Mapping, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._kube.arguments import CONNECTION
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client, connect
from ansible_collections.progressive.platform.plugins.module_utils._kube.forward import listen
from ansible_collections.progressive.platform.plugins.module_utils._members import credentials, places
from ansible_collections.progressive.platform.plugins.module_utils._members.credentials import Access
from ansible_collections.progressive.platform.plugins.module_utils._members.model import Target
from ansible_collections.progressive.platform.plugins.module_utils._members.places import Addresses, Pods
from ansible_collections.progressive.platform.plugins.module_utils._members.store import Files, Objects, Store
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.driver import (
    ANSWER_WITHIN,
    LOGIN,
    Connection,
    Door,
    Lost,
    Refused,
    require,
)
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, Context, Params, PlatformError

POLL = 0.5
FERRETDB, MONGODB = "ferretdb", "mongodb"

SERVERS: dict[str, t.Any] = {
    **places.options(27017),
    "name": {"type": "str", "default": "mongodb"},
    **LOGIN,
    **CONNECTION,
}
CONSTRAINTS: dict[str, t.Any] = {
    "required_one_of": [["pods", "addresses"]],
    "mutually_exclusive": [["pods", "addresses"], *credentials.CONSTRAINTS["mutually_exclusive"]],
    "required_by": credentials.CONSTRAINTS["required_by"],
}


@dataclasses.dataclass(frozen=True)
class Server:
    """A server we are logged in to. ``role`` is primary, secondary, or standalone (FerretDB says so of itself)."""

    name: str
    connection: Connection
    engine: str
    version: str
    role: str
    set_name: str = ""

    @property
    def writable(self) -> bool:
        return self.role in {"primary", "standalone"}

    def command(self, document: Mapping[str, t.Any], database: str = "admin") -> dict[str, t.Any]:
        """The reply, which may be a refusal. Raises PlatformError when the connection is lost."""
        try:
            return self.connection.command(document, database)
        except Lost as error:
            raise PlatformError(f"{self.name} was lost: {error}. Run it again.") from error

    def expect(self, document: Mapping[str, t.Any], database: str = "admin") -> dict[str, t.Any]:
        """The reply. Raises PlatformError with the server's words when it refuses; passwords in the command are not shown."""
        reply = self.command(document, database)
        if not reply.get("ok"):
            raise PlatformError(f"{self.name} refuses {next(iter(document))}: {reply.get('errmsg')} (code {reply.get('code')}).")
        return reply


class Place(t.Protocol):
    """Where the servers are."""

    def targets(self) -> list[Target]: ...

    @abc.abstractmethod
    def dial(self, target: Target, secured: bool) -> contextlib.AbstractContextManager[tuple[str, int]]: ...


class Hosts:
    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = Addresses(addresses)

    def targets(self) -> list[Target]:
        return self._addresses.targets()

    def dial(self, target: Target, secured: bool) -> contextlib.AbstractContextManager[tuple[str, int]]:
        return contextlib.nullcontext((target.server_name, target.port))


class Forwards:
    """Pods, each by a loopback address that leads to it; with TLS by the name that certificates are for."""

    def __init__(self, client: Client, namespace: str, selector: str, port: int) -> None:
        self._client = client
        self._namespace = namespace
        self._port = port
        self._pods = Pods(client, namespace, selector, port)

    def targets(self) -> list[Target]:
        return self._pods.targets()

    @contextlib.contextmanager
    def dial(self, target: Target, secured: bool) -> Iterator[tuple[str, int]]:
        with listen(self._client, self._namespace, target.name, self._port) as (host, port):
            yield ("localhost" if secured else host), port


@dataclasses.dataclass
class Servers:
    """The servers of one run, and what logs in to them."""

    place: Place
    access: Access
    store: Store
    client: Client | None
    clock: Clock

    @contextlib.contextmanager
    def reached(self, writing: bool, within: float = 0.0, answer: float = ANSWER_WITHIN) -> Iterator[Server]:
        """The server to use: with ``writing`` one that takes writes, otherwise a secondary where there is one. Waits for one up to ``within`` seconds.

        A command may take ``answer`` seconds.
        """
        deadline = self.clock.now() + within
        while True:
            with contextlib.ExitStack() as stack:
                found, reasons = self._look(stack, answer)
                fitting = [one for one in found if one.writable] if writing else sorted(found, key=lambda one: one.role != "secondary")
                if fitting:
                    yield fitting[0]
                    return
            reasons += [f"{one.name} is {one.role}, and takes no writes" for one in found]
            if self.clock.now() >= deadline:
                seen = "; ".join(reasons) or "there is no pod"
                raise PlatformError(
                    f"No MongoDB server can be used ({seen}). See playbooks/debug.yml, or playbooks/site.yml --tags mongodb."
                )
            self.clock.sleep(POLL)

    def lets_in(self, username: str, password: str, server: Server) -> bool:
        """Whether the server takes this login."""
        target = next(one for one in self.place.targets() if one.name == server.name)
        access = dataclasses.replace(self.access, username=username, passwords=(password,))
        with contextlib.closing(Door(access)) as door, self.place.dial(target, access.tls is not None) as (host, port):
            try:
                connection = door.open(host, port)
            except Refused:
                return False
            except (Lost, OSError) as error:
                raise PlatformError(f"{server.name} was lost: {error}. Run it again.") from error
            connection.close()
            return connection.login == "user"

    def _look(self, stack: contextlib.ExitStack, answer: float) -> tuple[list[Server], list[str]]:
        """Every server that lets us in, and why the others do not."""
        found, reasons = [], []
        door = stack.enter_context(contextlib.closing(Door(self.access, answer)))
        for target in self.place.targets():
            if target.problem:
                reasons.append(f"{target.name}: {target.problem}")
                continue
            try:
                host, port = stack.enter_context(self.place.dial(target, self.access.tls is not None))
                connection = door.open(host, port)
                stack.callback(connection.close)
                found.append(_server(target.name, connection))
            except Refused as error:
                reasons.append(f"{target.name}: {error.text}. {error.hint}".rstrip())
            except (Lost, ApiError, OSError) as error:
                reasons.append(f"{target.name}: {error}")
        return found, reasons


def _server(name: str, connection: Connection) -> Server:
    if connection.login == "open" and not connection.command({"usersInfo": 1}).get("ok"):
        raise Refused("auth", "it does not take the login", "Give the user and password this server has.")
    hello = connection.command({"hello": 1})
    build = connection.command({"buildInfo": 1})
    if not build.get("ok"):
        raise Lost(f"it does not say its version: {build.get('errmsg')}")
    set_name = str(hello.get("setName") or "")
    role = "primary" if hello.get("isWritablePrimary") else "secondary" if hello.get("secondary") else "none"
    return Server(
        name,
        connection,
        FERRETDB if "ferretdbVersion" in build else MONGODB,
        str(build.get("version", "")),
        "standalone" if role == "primary" and not set_name else role,
        set_name,
    )


@contextlib.contextmanager
def opened(params: Params, context: Context, api: bool = False) -> Iterator[Servers]:
    """The servers the options name; the API server is only asked when pods or a Secret (or ``api``) need it."""
    require()
    pods = params.get("pods")
    with contextlib.ExitStack() as stack:
        asks = api or pods or credentials.needs_api(params)
        client = stack.enter_context(connect(params, context.clock)) if asks else None
        place: Place
        store: Store
        if pods and client is not None:
            place = Forwards(client, pods["namespace"], pods["selector"], pods["port"])
            store = Objects(client, pods["namespace"], params["name"], context.clock)
        else:
            place = Hosts(params["addresses"])
            store = Files("mongodb", params["addresses"], context.clock)
        access = credentials.access_of(params, client)
        if not access.username:
            access = dataclasses.replace(access, username="admin")
        yield Servers(place, access, store, client, context.clock)
