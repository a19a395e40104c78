# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role redis_cluster by site.yml in a namespace of its own, while a writer and a reader use it: scaling, rolling, settings, engines, a total loss of pods.

The clients are on this machine and reach the pods by their own addresses, as they do on the local cluster.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client
from ansible_collections.progressive.platform.tests.redis.traffic import Account, Traffic
from ansible_collections.progressive.platform.tests.redis.traffic import Client as ClusterClient
from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.cluster import ClusterNode
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry

ROOT = Path(__file__).resolve().parents[2]
RUN_TIMEOUT = 900  # seconds a playbook may take

Json = dict[str, Any]


class Cache:
    """The cluster of one namespace: its playbook runs, its pods, its clients."""

    def __init__(self, client: Client, kubeconfig: str, namespace: str, reports: Path) -> None:
        self.client = client
        self.namespace = namespace
        self.given = {
            "platform_namespace": namespace,
            "platform_kubeconfig": kubeconfig,
            "platform_reports_dir": str(reports),
            "platform_components": "[baseline, redis_cluster]",
            "redis_cluster_delete_volumes": "true",
        }
        self.printed = ""

    def play(self, name: str = "site", ok: bool = True, **variables: str) -> int:
        """Runs a playbook; the number of changed tasks."""
        extra = "{" + ", ".join(f"{key}: {value}" for key, value in {**self.given, **variables}.items()) + "}"
        command = [str(ROOT / ".venv/bin/ansible-playbook"), "-i", "inventories/local", f"playbooks/{name}.yml", "-v", "-e", extra]
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=RUN_TIMEOUT, check=False)
        self.printed = done.stdout + done.stderr
        assert (done.returncode == 0) is ok, self.printed[-6000:]
        return int(re.findall(r"changed=(\d+)", self.printed)[-1])

    def pods(self) -> list[Json]:
        path = self.client.resource("v1", "Pod").path(self.namespace)
        items: list[Json] = self.client.get(path, labelSelector="app=redis-cluster")["items"]
        return [pod for pod in items if not pod["metadata"].get("deletionTimestamp")]

    def uids(self) -> set[str]:
        return {pod["metadata"]["uid"] for pod in self.pods()}

    def addresses(self) -> list[str]:
        """Of the pods whose server runs; one that waits for its image has an address as well."""
        running = [
            pod["status"]
            for pod in self.pods()
            if all("running" in one["state"] for one in pod["status"].get("containerStatuses", [{"state": {}}]))
        ]
        return [status["podIP"] for status in running if status.get("podIP")]

    def login(self, user: str = "application") -> Json:
        data = self.client.get(self.client.resource("v1", "Secret").path(self.namespace, "redis-cluster-auth"))["data"]
        key = "password" if user == "operator" else f"{user}-password"
        return {"username": user, "password": base64.b64decode(data[key]).decode()}

    def ask(self, *command: str) -> list[Any]:
        """The answer of every pod; raises what redis-py raises."""
        found = []
        for address in self.addresses():
            with Redis(host=address, port=6379, decode_responses=True, socket_timeout=5, **self.login("operator")) as connection:
                found.append(connection.execute_command(*command))
        return found

    def works(self, count: int = 6) -> bool:
        """Every pod is there, and each says that all slots are served."""
        try:
            answers = self.ask("CLUSTER", "INFO")
        except (RedisError, OSError):
            return False
        return len(answers) == count and all(
            "cluster_state:ok" in str(answer) or _field(answer, "cluster_state") == "ok" for answer in answers
        )

    def until(self, condition: Any, timeout: float = 300) -> float:
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < timeout, f"not so after {timeout} s"
            time.sleep(0.2)
        return time.monotonic() - began


class Clients(Traffic):
    """A writer and a reader as the application's user; a client begins at the pods there are when it begins."""

    def __init__(self, cache: Cache) -> None:
        super().__init__([], pause=0.005)
        self.cache = cache

    def client(self) -> ClusterClient:
        return ClusterClient(
            startup_nodes=[ClusterNode(address, 6379) for address in self.cache.addresses()],
            decode_responses=True,
            socket_timeout=10,
            retry=Retry(ExponentialBackoff(cap=1, base=0.02), 12),
            **self.cache.login(),
        )


def _field(answer: Any, name: str) -> Any:
    return answer.get(name) if isinstance(answer, dict) else None


def settle(what: str, traffic: Clients, account: Account) -> None:
    """Nothing failed, nothing was read wrong, and every acknowledged write is there."""
    lost = traffic.lost()
    longest = max(seconds for _end, seconds in account.times)
    print(
        f"{what}: {len(account.times)} operations, {len(account.errors)} failed, {len(account.wrong)} read wrong, "
        f"{len(lost)} of {len(account.written)} keys lost, the longest operation took {longest:.2f} s"
    )
    assert account.errors == [] and account.wrong == [] and lost == []
    assert len(account.written) > 100


@pytest.fixture(scope="module")
def cache(client: Client, kubeconfig: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cache]:
    """Three masters with a replica each, formed by site.yml."""
    made = Cache(client, kubeconfig, f"test-{secrets.token_hex(4)}", tmp_path_factory.mktemp("reports"))
    try:
        made.play()
        yield made
    finally:
        try:
            client.request("DELETE", client.resource("v1", "Namespace").path(None, made.namespace))
        except ApiError as error:
            assert error.status == 404, error.message


def kept(cache: Cache) -> list[str | None]:
    """What the test has written, read by a client that begins now; nothing while it cannot."""
    try:
        reader = Clients(cache).client()
        try:
            return [reader.get(f"kept-{number}") for number in range(300)]
        finally:
            reader.close()
    except (RedisError, RedisClusterException, OSError):  # the second is no RedisError; a node may still name addresses of before
        return []


@pytest.mark.parametrize("options", [{}, {"gracePeriodSeconds": "0"}], ids=["in peace", "at once"])
def test_all_pods_deleted_together_lose_nothing(cache: Cache, options: dict[str, str]) -> None:
    """Node IDs are on the volumes, and everybody has a new address: they find each other by their names (meet.sh), and serve before any run.
    At once means that no new pod hears an address from an old one."""
    writer = Clients(cache).client()
    for number in range(300):
        writer.set(f"kept-{number}", number)
    writer.close()
    time.sleep(1.5)  # appendfsync everysec
    before = cache.uids()
    pods = cache.client.resource("v1", "Pod")
    began = time.monotonic()
    cache.client.request("DELETE", pods.path(cache.namespace), query={"labelSelector": "app=redis-cluster", **options})
    cache.until(lambda: not cache.uids() & before)
    gone = time.monotonic() - began
    cache.until(lambda: kept(cache) == [str(number) for number in range(300)], 90)
    print(f"all pods deleted: gone after {gone:.1f} s, every key read again after {time.monotonic() - began:.1f} s")
    cache.until(cache.works)
    healed = cache.play()
    print(*re.findall(r'"(?:reason|why|summary)": "[^"]*"', cache.printed), sep="\n")
    assert healed <= 1, cache.printed[-6000:]  # what is left is who is whose replica
    assert cache.play() == 0, cache.printed[-6000:]


def test_settings_change_without_a_restart_and_drift_is_repaired(cache: Cache) -> None:
    before = cache.uids()
    policy: dict[str, str] = {"redis_cluster_maxmemory_policy": "noeviction", "redis_cluster_config": "{slowlog-log-slower-than: 5000}"}
    assert cache.play(**policy) == 2, "the ConfigMap and the running servers"
    values = [_value(answer) for answer in cache.ask("CONFIG", "GET", "maxmemory-policy")]
    assert values == ["noeviction"] * 6 and cache.uids() == before
    cache.ask("CONFIG", "SET", "slowlog-log-slower-than", "77")
    assert cache.play(**policy) == 1 and cache.play(**policy) == 0
    assert {_value(answer) for answer in cache.ask("CONFIG", "GET", "slowlog-log-slower-than")} == {"5000"}
    cache.play()
    assert cache.uids() == before


def _value(answer: Any) -> Any:
    """Of CONFIG GET, as a mapping or as a list."""
    return next(iter(answer.values())) if isinstance(answer, dict) else answer[1]


@pytest.mark.slow
def test_three_masters_become_five_and_three_again(cache: Cache) -> None:
    """Pods first on the way out, slots first on the way in; the writer's account of both, and nothing to do afterwards."""
    for masters, pods in ((5, 10), (3, 6)):
        traffic = Clients(cache)
        with traffic as account:
            cache.until(lambda account=account: len(account.written) > 100)
            assert cache.play(redis_cluster_masters=str(masters)) >= 1
        settle(f"{masters} masters", traffic, account)
        assert len(cache.pods()) == pods and cache.works(pods)
        assert cache.play(redis_cluster_masters=str(masters)) == 0


@pytest.mark.slow
def test_one_replica_becomes_two_and_one_again(cache: Cache) -> None:
    for replicas, pods in ((2, 9), (1, 6)):
        traffic = Clients(cache)
        with traffic as account:
            cache.until(lambda account=account: len(account.written) > 100)
            assert cache.play("scale", redis_cluster_replicas_per_master=str(replicas)) >= 1
        assert f"{replicas} replicas each, {pods} pods" in cache.printed
        settle(f"{replicas} replicas", traffic, account)
        assert len(cache.pods()) == pods and cache.works(pods)
        assert cache.play(redis_cluster_replicas_per_master=str(replicas)) == 0


@pytest.mark.slow
def test_a_roll_replaces_every_pod_and_nobody_notices(cache: Cache) -> None:
    before = cache.uids()
    changes: dict[str, str] = {"redis_cluster_config": "{databases: 8}"}
    traffic = Clients(cache)
    with traffic as account:
        cache.until(lambda: len(account.written) > 100)
        assert cache.play(**changes) >= 1
    settle("roll", traffic, account)
    assert len(cache.uids()) == 6 and not cache.uids() & before and cache.works()
    assert {_value(answer) for answer in cache.ask("CONFIG", "GET", "databases")} == {"8"}
    assert cache.play(**changes) == 0


@pytest.mark.slow
def test_an_image_that_does_not_exist_costs_one_replica_until_it_is_corrected(cache: Cache) -> None:
    cache.play(ok=False, redis_cluster_image="localhost/progressive/redis:7-nowhere", redis_cluster_converge_timeout="60")
    assert "Pull" in cache.printed
    assert cache.works(5)
    assert cache.play() >= 1
    assert cache.works() and cache.play() == 0


@pytest.mark.slow
def test_redis_becomes_valkey_and_not_redis_again(cache: Cache) -> None:
    """Last, for there is no way back."""
    engine = {"redis_cluster_engine": "valkey"}
    cache.play("images", **engine)
    traffic = Clients(cache)
    with traffic as account:
        cache.until(lambda: len(account.written) > 100)
        assert cache.play(**engine) >= 1
    settle("Redis to Valkey", traffic, account)
    assert all("valkey_version" in str(answer) for answer in cache.ask("INFO", "server"))
    assert cache.play(**engine) == 0
    before = cache.uids()
    cache.play(ok=False)
    assert (
        "no Redis is made to read what Valkey 8" in cache.printed.replace("\n", " ")
        or "No Redis is made to read what Valkey 8" in cache.printed
    )
    assert cache.uids() == before and cache.works()
