# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stores behind the services. A backend is used when its environment variable is set, so the next one is one class more."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import socket
import time
import typing as t
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg
from pymongo import AsyncMongoClient, WriteConcern
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure, PyMongoError

from progressive import logs, tracing
from progressive.settings import Address, Environment, SettingsError, addresses

with tracing.absent():  # it would load OpenTelemetry's metrics, and use none of them
    from redis.asyncio import RedisCluster
    from redis.asyncio.cluster import ClusterNode
    from redis.asyncio.retry import Retry
    from redis.backoff import ExponentialBackoff
    from redis.credentials import CredentialProvider
    from redis.exceptions import RedisClusterException, RedisError

# RedisClusterException, raised when no seed answers, is not a RedisError.
REDIS_FAILURES = (RedisError, RedisClusterException, OSError)

# Traces of transactions are proofs, not data.
TRACE_SECONDS = 3600
SCHEMA_VERSION = 1


class BackendError(Exception):
    """Why a backend did not do what was asked: one sentence without secrets, fit for a probe's answer."""


def span(system: str, operation: str, address: Address | None = None) -> contextlib.AbstractContextManager[tracing.Span]:
    """A question to a store, its repetitions included, as traces tell it: never what was asked for."""
    told: dict[str, str | int] = {"db.system.name": system, "db.operation.name": operation}
    return tracing.client(f"{system} {operation}", told | ({"server.address": address[0], "server.port": address[1]} if address else {}))


class Backend(t.Protocol):
    """What the services ask of every store."""

    name: str

    async def check(self) -> None:
        """Return when the backend can serve; raise BackendError with the reason otherwise."""

    async def touch(self, key: str, value: str) -> None:
        """Write, read back and compare one short-lived entry."""

    async def migrate(self) -> tuple[int, int]:
        """Bring the schema to this release's version; returns (version before, version now). Repeating it changes nothing."""

    async def close(self) -> None: ...


@dataclass(frozen=True)
class Item:
    """A value of the app's small store; ``version`` counts its writes from 1."""

    value: t.Any
    version: int


class RedisCredentials(CredentialProvider):
    """User and password of every new connection. A file is read anew each time, so that a password that changes needs no restart."""

    def __init__(self, username: str = "", password: str = "", file: str = "") -> None:
        self.username = username
        self.password = password
        self.file = Path(file) if file else None

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = self.file.read_text(encoding="utf-8").strip() if self.file else self.password
        logs.hide(password)
        return (self.username, password) if self.username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()


class RedisBackend:
    """Redis Cluster, found through seed host names that are resolved again whenever the topology is read anew."""

    name = "redis"

    # One key, so one slot: atomic on a cluster.
    PUT = "redis.call('HSET', KEYS[1], 'value', ARGV[1]) return redis.call('HINCRBY', KEYS[1], 'version', 1)"
    MIGRATE = (
        "local before = tonumber(redis.call('GET', KEYS[1]) or '0') "
        "if before < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], ARGV[1]) end return before"
    )

    def __init__(
        self, seeds: tuple[Address, ...], credentials: RedisCredentials | None = None, authority: str = "", timeout: float = 2.0
    ) -> None:
        self.seeds = seeds
        self.credentials = credentials
        self.authority = authority
        self.timeout = timeout
        self.client = self._connect()

    @classmethod
    def from_environment(cls, environ: Environment) -> t.Self | None:
        """REDIS_CLUSTER_NODES (host:port,...), REDIS_USERNAME, REDIS_PASSWORD_FILE or REDIS_PASSWORD, REDIS_CA_FILE (TLS where it is set)."""
        text = environ.get("REDIS_CLUSTER_NODES", "")
        try:
            seeds = addresses(text)
        except ValueError as error:
            raise SettingsError([f"REDIS_CLUSTER_NODES is {text!r}: {error}"]) from error
        if not seeds:
            return None
        password, file = environ.get("REDIS_PASSWORD", ""), environ.get("REDIS_PASSWORD_FILE", "")
        credentials = RedisCredentials(environ.get("REDIS_USERNAME", ""), password, file) if password or file else None
        return cls(seeds, credentials, environ.get("REDIS_CA_FILE", ""))

    def _connect(self) -> RedisCluster:
        return RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in self.seeds],
            credential_provider=self.credentials,
            ssl=bool(self.authority),
            ssl_ca_certs=self.authority or None,
            decode_responses=True,
            # The library would replace the seeds by the addresses it discovers; restarted pods have others.
            dynamic_startup_nodes=False,
            socket_timeout=self.timeout,
            socket_connect_timeout=1.0,
            health_check_interval=15,
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 4),
        )

    async def _ask(self, question: t.Awaitable[t.Any], deadline: float | None = None) -> t.Any:
        try:
            async with asyncio.timeout(deadline or self.timeout * 2):
                return await question
        except TimeoutError as error:
            raise BackendError(f"redis did not answer within {deadline or self.timeout * 2:g} s") from error
        except REDIS_FAILURES as error:
            raise BackendError(f"redis: {first_line(error)}") from error

    async def check(self) -> None:
        try:
            info = await self._ask(self.client.execute_command("CLUSTER INFO", target_nodes=RedisCluster.RANDOM), self.timeout)
        except BackendError:
            # A client that lost every node starts again from the seeds; the old one is closed, not left to its retries.
            stale, self.client = self.client, self._connect()
            await _close(stale)
            raise
        state = cluster_info(info)
        if state.get("cluster_state") != "ok":
            covered = state.get("cluster_slots_ok", "0")
            raise BackendError(f"redis: cluster_state is {state.get('cluster_state', 'unknown')} ({covered} of 16384 slots are served)")

    async def touch(self, key: str, value: str) -> None:
        name = f"trace:{key}"
        with span(self.name, "SET"):
            await self._ask(self.client.set(name, value, ex=TRACE_SECONDS))
        with span(self.name, "GET"):
            seen = await self._ask(self.client.get(name))
        if seen != value:
            raise BackendError("redis: read back another value than was written")

    async def migrate(self) -> tuple[int, int]:
        before = int(await self._ask(self.client.eval(self.MIGRATE, 1, "schema:version", str(SCHEMA_VERSION))))
        return before, max(before, SCHEMA_VERSION)

    async def get_item(self, key: str) -> Item | None:
        with span(self.name, "HGETALL"):
            found = await self._ask(self.client.hgetall(f"item:{key}"))
        return Item(json.loads(found["value"]), int(found["version"])) if found else None

    async def put_item(self, key: str, value: t.Any) -> Item:
        with span(self.name, "EVAL"):
            version = await self._ask(self.client.eval(self.PUT, 1, f"item:{key}", json.dumps(value)))
        return Item(value, int(version))

    async def close(self) -> None:
        await _close(self.client)


Link = psycopg.AsyncConnection[tuple[t.Any, ...]]
T = t.TypeVar("T")


class PostgresBackend:
    """PostgreSQL: what is written goes to the primary and is read from a replica, or from the primary while no replica shows it.

    A failover takes seconds, so what fails because there is no primary is tried again for as long as ``timeout``; every write may be repeated.
    """

    name = "postgresql"

    # One version a step; each is done once, whoever starts first.
    SCHEMA = (
        "create table traces (key text primary key, value text not null, at timestamptz not null default now()); create index on traces (at)",
    )
    LOCK = 7_073_001  # of pg_advisory_xact_lock, so that ten pods that start at once migrate one after the other
    WRITE = "insert into traces (key, value) values (%s, %s) on conflict (key) do update set value = excluded.value, at = now()"
    READ = "select value from traces where key = %s"
    FORGET = "delete from traces where key in (select key from traces where at < now() - make_interval(secs => %s) limit 10 for update skip locked)"
    KEPT = 4  # idle connections to each Service
    CATCH_UP = 1.0  # seconds a replica has to show what was just written, before the primary is asked
    PAUSE = 0.1
    RESOLVE = 1.0  # seconds for an answer of DNS

    def __init__(
        self,
        primary: Address,
        replica: Address | None,
        database: str,
        login: Callable[[], tuple[str, str]],
        authority: str = "",
        timeout: float = 6.0,
    ) -> None:
        self.primary = primary
        self.replica = replica
        self.timeout = timeout
        self._database = database
        self._login = login
        self._authority = authority
        self._idle: dict[Address, list[Link]] = {}
        self._resolved: dict[str, list[str]] = {}

    @classmethod
    def from_environment(cls, environ: Environment) -> t.Self | None:
        """POSTGRES_PRIMARY and POSTGRES_REPLICA (host:port), POSTGRES_DATABASE, POSTGRES_CA_FILE, and of POSTGRES_USER and POSTGRES_PASSWORD the value, or
        the file (_FILE)."""
        found: dict[str, Address | None] = {}
        for name in ("POSTGRES_PRIMARY", "POSTGRES_REPLICA"):
            text = environ.get(name, "")
            try:
                given = addresses(text)
            except ValueError as error:
                raise SettingsError([f"{name} is {text!r}: {error}"]) from error
            if len(given) > 1:
                raise SettingsError([f"{name} is {text!r}: one host:port is wanted, the Service's"])
            found[name] = given[0] if given else None
        primary = found["POSTGRES_PRIMARY"]
        if primary is None:
            return None
        user, user_file = environ.get("POSTGRES_USER", ""), environ.get("POSTGRES_USER_FILE", "")
        needed = {"POSTGRES_DATABASE": environ.get("POSTGRES_DATABASE"), "POSTGRES_USER": user or user_file}
        if missing := [name for name, value in needed.items() if not value]:
            raise SettingsError([f"{name} is not set, and POSTGRES_PRIMARY is" for name in missing])
        password, file = environ.get("POSTGRES_PASSWORD", ""), environ.get("POSTGRES_PASSWORD_FILE", "")

        def read(path: str, value: str) -> str:
            return Path(path).read_text(encoding="utf-8").strip() if path else value

        def login() -> tuple[str, str]:
            """Files are read for every new connection, so that a password that changes needs no restart; with it changes the name of the login, so
            that of two looks at the name both see the same."""
            while True:
                name, word = read(user_file, user), read(file, password)
                if name == read(user_file, user):
                    logs.hide(word)
                    return name, word

        return cls(primary, found["POSTGRES_REPLICA"], environ["POSTGRES_DATABASE"], login, environ.get("POSTGRES_CA_FILE", ""))

    async def check(self) -> None:
        if await self._at(self.primary, lambda link: self._value(link, "select pg_is_in_recovery()"), tries=False):
            raise BackendError("postgresql: the primary's Service leads to a replica")

    async def touch(self, key: str, value: str) -> None:
        async def write(link: Link) -> None:
            await link.execute(self.WRITE, (key, value))
            await link.execute(self.FORGET, (TRACE_SECONDS,))

        with span(self.name, "INSERT", self.primary):
            await self._at(self.primary, write)
        if self.replica:
            with span(self.name, "SELECT", self.replica):
                shown = await self._shown(self.replica, key, value)
            if shown:
                return
        with span(self.name, "SELECT", self.primary):
            seen = await self._at(self.primary, lambda link: self._value(link, self.READ, key))
        if seen != value:
            raise BackendError("postgresql: read back another value than was written")

    async def migrate(self) -> tuple[int, int]:
        async def bring(link: Link) -> tuple[int, int]:
            async with link.transaction():
                await link.execute("select pg_advisory_xact_lock(%s)", (self.LOCK,))
                await link.execute("create table if not exists schema_version (version int not null)")
                before = int(await self._value(link, "select coalesce(max(version), 0) from schema_version"))
                for version, statements in enumerate(self.SCHEMA[before:], before + 1):
                    await link.execute(statements)
                    await link.execute("insert into schema_version values (%s)", (version,))
            return before, max(before, len(self.SCHEMA))

        return await self._at(self.primary, bring)

    async def close(self) -> None:
        for links in self._idle.values():
            while links:
                await links.pop().close()

    async def _shown(self, replica: Address, key: str, value: str) -> bool:
        """Whether the replica shows the value before long; one that is away or behind is no failure, the primary has it."""
        deadline = time.monotonic() + self.CATCH_UP
        while time.monotonic() < deadline:
            try:
                if await self._at(replica, lambda link: self._value(link, self.READ, key), tries=False) == value:
                    return True
            except BackendError:
                return False
            await asyncio.sleep(0.02)
        return False

    async def _value(self, link: Link, statement: str, *values: t.Any) -> t.Any:
        row = await (await link.execute(statement, values or None)).fetchone()
        return row[0] if row else None

    async def _at(self, address: Address, work: Callable[[Link], Awaitable[T]], tries: bool = True) -> T:
        """Do something over a connection of our own; with ``tries`` again and again until the timeout, as long as it is the server that is away."""
        deadline = time.monotonic() + self.timeout
        before = ""
        while True:
            try:
                async with asyncio.timeout(max(deadline - time.monotonic(), 0.1)):
                    return await self._once(address, work)
            except TimeoutError as error:
                raise BackendError(f"postgresql did not answer within {self.timeout:g} s{before}") from error
            except (psycopg.Error, OSError) as error:
                # A primary that became a replica refuses to write; its Service leads elsewhere in a moment.
                away = isinstance(error, (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction, OSError))
                if not tries or not away or time.monotonic() + self.PAUSE > deadline:
                    raise BackendError(f"postgresql: {first_line(error)}") from error
                before = f"; before that: {first_line(error)}"
            await asyncio.sleep(self.PAUSE)

    async def _once(self, address: Address, work: Callable[[Link], Awaitable[T]]) -> T:
        """Over an idle connection or a new one. One that failed is closed, and with it the idle ones, which lead to the same place."""
        idle = self._idle.setdefault(address, [])
        link = idle.pop() if idle else None
        try:
            link = link or await self._connect(address)
            result = await work(link)
        except BaseException as error:
            stale = [*([link] if link else []), *(idle if isinstance(error, Exception) else [])]
            idle[:] = [] if isinstance(error, Exception) else idle
            for one in stale:
                await one.close()
            raise
        if len(idle) < self.KEPT and not link.closed:
            idle.append(link)
        else:
            await link.close()
        return result

    async def _connect(self, address: Address) -> Link:
        (host, port), (user, password) = address, self._login()
        hosts = await self._resolve(host)
        return await psycopg.AsyncConnection.connect(
            host=",".join([host] * len(hosts)),
            hostaddr=",".join(hosts),
            port=port,
            user=user,
            password=password,
            autocommit=True,
            connect_timeout=2,
            tcp_user_timeout=3000,
            application_name="progressive",
            dbname=self._database,
            sslmode="verify-full" if self._authority else "prefer",
            sslrootcert=self._authority or None,
        )

    async def _resolve(self, host: str) -> list[str]:
        """The name's addresses; the last known ones while DNS is silent, as one of its servers is with a lost node: a Service keeps its address."""
        try:
            async with asyncio.timeout(self.RESOLVE):
                found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
            self._resolved[host] = list(dict.fromkeys(str(one[4][0]) for one in found))
        except OSError as error:
            if host not in self._resolved:
                raise OSError(f"{host} cannot be resolved: {str(error) or 'DNS is silent'}") from error
        return self._resolved[host]


Document = dict[str, t.Any]
Documents = AsyncDatabase[Document]


class MongoBackend:
    """MongoDB's protocol, spoken by a replica set of mongod or by FerretDB on PostgreSQL.

    FerretDB offers no retryable writes, and its PostgreSQL fails over too, so what fails is tried again for as long as ``timeout``; every write here
    replaces a whole document by its ``_id`` and may be repeated.
    """

    name = "mongodb"

    # One version a step; each may be done twice, as ten pods that start at once do.
    SCHEMA: tuple[tuple[tuple[str, str], ...], ...] = ((("traces", "at"),),)  # (collection, indexed field)
    VERSION = "version"
    NOT_LET_IN = (13, 18)  # codes: the login has ended, or was refused
    PAUSE = 0.1
    FORGET_EVERY = 60.0  # seconds; there is no expiry that both servers know
    CLOSE_AFTER = 10.0  # seconds for which a client whose login was changed may finish what it has under way

    def __init__(
        self,
        seeds: tuple[Address, ...],
        database: str,
        login: Callable[[], tuple[str, str]] | None = None,
        authority: str = "",
        timeout: float = 6.0,
    ) -> None:
        self.seeds = seeds
        self.database = database
        self.login = login
        self.authority = authority
        self.timeout = timeout
        self._client: AsyncMongoClient[Document] | None = None
        self._logged_in_as: tuple[str, str] | None = None
        self._forgotten = 0.0
        self._closing: set[asyncio.Task[None]] = set()

    @classmethod
    def from_environment(cls, environ: Environment) -> t.Self | None:
        """MONGODB_NODES (host:port,...), MONGODB_DATABASE, MONGODB_CA_FILE, and of MONGODB_USER and MONGODB_PASSWORD the value, or the file (_FILE)."""
        text = environ.get("MONGODB_NODES", "")
        try:
            seeds = addresses(text)
        except ValueError as error:
            raise SettingsError([f"MONGODB_NODES is {text!r}: {error}"]) from error
        if not seeds:
            return None
        if not environ.get("MONGODB_DATABASE"):
            raise SettingsError(["MONGODB_DATABASE is not set, and MONGODB_NODES is"])

        def current(name: str) -> str:
            file = environ.get(f"{name}_FILE", "")
            return Path(file).read_text(encoding="utf-8").strip() if file else environ.get(name, "")

        def login() -> tuple[str, str]:
            """Files are read anew each time: a login is changed by giving another user, and that needs no restart."""
            user, password = current("MONGODB_USER"), current("MONGODB_PASSWORD")
            logs.hide(password)
            return user, password

        known = any(environ.get(name) for name in ("MONGODB_USER", "MONGODB_USER_FILE"))
        return cls(seeds, environ["MONGODB_DATABASE"], login if known else None, environ.get("MONGODB_CA_FILE", ""))

    async def check(self) -> None:
        async def look(documents: Documents) -> None:
            await documents.command("ping")

        await self._do(look, tries=False)

    async def touch(self, key: str, value: str) -> None:
        await self.put("traces", key, {"value": value})
        seen = await self.get("traces", key)
        if seen is None or seen.get("value") != value:
            raise BackendError("mongodb: read back another value than was written")
        if time.monotonic() - self._forgotten > self.FORGET_EVERY:
            self._forgotten = time.monotonic()
            old = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=TRACE_SECONDS)
            await self._do(lambda documents: documents.traces.delete_many({"at": {"$lt": old}}))

    async def put(self, collection: str, key: str, document: Document) -> None:
        """Make this the document of that key, with the time it was written."""
        whole = {**document, "_id": key, "at": datetime.datetime.now(datetime.UTC)}
        with span(self.name, "replaceOne"):
            await self._do(lambda documents: documents[collection].replace_one({"_id": key}, whole, upsert=True))

    async def get(self, collection: str, key: str) -> Document | None:
        with span(self.name, "find"):
            return await self._do(lambda documents: documents[collection].find_one({"_id": key}))

    async def migrate(self) -> tuple[int, int]:
        async def bring(documents: Documents) -> tuple[int, int]:
            found = await documents.schema.find_one({"_id": self.VERSION}) or {}
            before = int(found.get("version", 0))
            for version, indexes in enumerate(self.SCHEMA[before:], before + 1):
                for collection, indexed in indexes:
                    await documents[collection].create_index(indexed)
                await documents.schema.update_one({"_id": self.VERSION}, {"$max": {"version": version}}, upsert=True)
            return before, max(before, len(self.SCHEMA))

        return await self._do(bring, self.timeout * 5)

    async def close(self) -> None:
        for task in list(self._closing):
            task.cancel()
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _do(self, work: Callable[[Documents], Awaitable[T]], timeout: float = 0.0, tries: bool = True) -> T:
        """Again and again until the time is up, whatever the reason: FerretDB has one code for everything that its PostgreSQL says."""
        limit = timeout or self.timeout
        deadline = time.monotonic() + limit
        before = ""
        while True:
            try:
                async with asyncio.timeout(max(deadline - time.monotonic(), 0.1)):
                    return await work(self._documents())
            except TimeoutError as error:
                raise BackendError(f"mongodb did not answer within {limit:g} s{before}") from error
            except (PyMongoError, OSError) as error:
                if isinstance(error, OperationFailure) and error.code in self.NOT_LET_IN:
                    self._leave()  # a client logs in as one user only; the next one asks who that is by now
                if not tries or time.monotonic() + self.PAUSE > deadline:
                    raise BackendError(f"mongodb: {first_line(error)}") from error
                before = f"; before that: {first_line(error)}"
            await asyncio.sleep(self.PAUSE)

    def _documents(self) -> Documents:
        """The database, by a client that is logged in as the user of this moment."""
        login = self.login() if self.login else None
        if self._client is not None and login != self._logged_in_as:
            self._leave()
        if self._client is None:
            self._logged_in_as = login
            self._client = self._connect(login)
        return self._client.get_database(self.database, write_concern=WriteConcern("majority", wtimeout=int(self.timeout * 1000)))

    def _leave(self) -> None:
        """Close the client, but not at once: others of its requests are under way."""
        stale, self._client = self._client, None
        if stale is not None:
            task = asyncio.create_task(self._close(stale))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _close(self, client: AsyncMongoClient[Document]) -> None:
        try:
            await asyncio.sleep(self.CLOSE_AFTER)
        finally:
            await client.close()

    def _connect(self, login: tuple[str, str] | None) -> AsyncMongoClient[Document]:
        options: dict[str, t.Any] = {"username": login[0], "password": login[1]} if login and login[0] else {}
        options |= {"tls": True, "tlsCAFile": self.authority} if self.authority else {}
        # A member of a replica set tells the driver of the others; behind a Service there is always one that answers.
        return AsyncMongoClient(
            [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.seeds],
            appname="progressive",
            connectTimeoutMS=1000,
            serverSelectionTimeoutMS=2000,
            # Longer than a busy server needs, and short enough for a second try.
            socketTimeoutMS=int(self.timeout * 500),
            maxPoolSize=16,
            maxIdleTimeMS=60_000,
            tz_aware=True,
            **options,
        )


FACTORIES = (RedisBackend.from_environment, PostgresBackend.from_environment, MongoBackend.from_environment)


def backends_from(environ: Environment) -> dict[str, Backend]:
    """Every backend the environment configures, by name."""
    found = (factory(environ) for factory in FACTORIES)
    return {backend.name: backend for backend in found if backend is not None}


def cluster_info(answer: t.Any) -> Mapping[str, str]:
    """CLUSTER INFO as a mapping: the client gives text, a mapping, or one of them by node."""
    if isinstance(answer, dict):
        return answer if "cluster_state" in answer else cluster_info(next(iter(answer.values()), ""))
    return dict(line.split(":", 1) for line in str(answer).splitlines() if ":" in line)


def first_line(error: BaseException) -> str:
    """An error as one short line; an exception without text is named by its type."""
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__


async def _close(client: RedisCluster) -> None:
    try:
        async with asyncio.timeout(1):
            await client.aclose()
    except (TimeoutError, *REDIS_FAILURES):
        pass  # it was broken, that is why it goes
