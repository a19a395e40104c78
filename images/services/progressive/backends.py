# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stores behind the services. A backend is used when its environment variable is set, so the next one is one class more."""

from __future__ import annotations

import asyncio
import json
import typing as t
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import RedisClusterException, RedisError

from progressive import logs
from progressive.settings import Address, Environment, SettingsError, addresses

# RedisClusterException, raised when no seed answers, is not a RedisError.
REDIS_FAILURES = (RedisError, RedisClusterException, OSError)

# Traces of transactions are proofs, not data.
TRACE_SECONDS = 3600
SCHEMA_VERSION = 1


class BackendError(Exception):
    """Why a backend did not do what was asked: one sentence without secrets, fit for a probe's answer."""


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
        await self._ask(self.client.set(name, value, ex=TRACE_SECONDS))
        seen = await self._ask(self.client.get(name))
        if seen != value:
            raise BackendError("redis: read back another value than was written")

    async def migrate(self) -> tuple[int, int]:
        before = int(await self._ask(self.client.eval(self.MIGRATE, 1, "schema:version", str(SCHEMA_VERSION))))
        return before, max(before, SCHEMA_VERSION)

    async def get_item(self, key: str) -> Item | None:
        found = await self._ask(self.client.hgetall(f"item:{key}"))
        return Item(json.loads(found["value"]), int(found["version"])) if found else None

    async def put_item(self, key: str, value: t.Any) -> Item:
        version = await self._ask(self.client.eval(self.PUT, 1, f"item:{key}", json.dumps(value)))
        return Item(value, int(version))

    async def close(self) -> None:
        await _close(self.client)


FACTORIES = (RedisBackend.from_environment,)


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
