# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module redis_cluster over pods, by port-forward: six pods over three zones that keep their data only as long as they live."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.plugins.module_utils._redis.converge import ARGUMENTS, INFO_ARGUMENTS, opened, run, run_info
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError, Result

PASSWORD = "never-shown-anywhere"
START = """
printf 'port 6379\\ncluster-enabled yes\\ncluster-node-timeout 3000\\nappendonly no\\nsave ""\\ndir /data\\nprotected-mode no\\n' >/data/redis.conf
printf 'repl-diskless-sync-delay 1\\ncluster-announce-ip %s\\nrequirepass %s\\nmasterauth %s\\n' "$POD_IP" "$PASSWORD" "$PASSWORD" >>/data/redis.conf
exec redis-server /data/redis.conf
"""


def image(client: Client) -> str:
    """The newest imported Redis image."""
    names = [name for node in client.get("/api/v1/nodes")["items"] for one in node["status"]["images"] for name in one.get("names") or []]
    found = sorted(name for name in names if "/progressive/redis:" in name)
    assert found, "no node has the image localhost/progressive/redis: run `make up`"
    return found[-1]


def manifests(namespace: str, reference: str) -> list[dict[str, Any]]:
    labels = {"app": "cache"}
    env = [
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "cache-auth", "key": "password"}}},
    ]
    container = {
        "name": "redis",
        "image": reference,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", START],
        "env": env,
        "ports": [{"containerPort": 6379}, {"containerPort": 16379}],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
    }
    spread = {
        "topologyKey": "topology.kubernetes.io/zone",
        "maxSkew": 1,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": labels},
    }
    pod = {
        "terminationGracePeriodSeconds": 1,
        "tolerations": [{"operator": "Exists"}],
        "securityContext": {"runAsUser": 999, "fsGroup": 1000},
        "topologySpreadConstraints": [spread],
        "containers": [container],
        "volumes": [{"name": "data", "emptyDir": {}}],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "cache-auth", "namespace": namespace},
            "stringData": {"password": PASSWORD},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": "cache", "namespace": namespace},
            "spec": {
                "serviceName": "cache",
                "replicas": 6,
                "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        },
    ]


class Cache:
    """The pods and the two modules that look after them."""

    def __init__(self, client: Client, kubeconfig: str, namespace: str) -> None:
        self.client = client
        self.namespace = namespace
        self.given = {
            "kubeconfig": kubeconfig,
            "validate_certs": True,
            "pods": {"namespace": namespace, "selector": "app=cache", "port": 6379},
            "password_secret": {"namespace": None, "name": "cache-auth", "key": "password"},
            "name": "cache",
        }

    def create(self) -> None:
        for body in manifests(self.namespace, image(self.client)):
            resource = self.client.resource(body["apiVersion"], body["kind"])
            self.client.request("POST", resource.path(self.namespace), body)
        self.until_running()

    def until_running(self, timeout: float = 120) -> None:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            pods = self.pods()
            ready = [pod for pod in pods if any(status.get("ready") for status in pod["status"].get("containerStatuses", []))]
            if len(ready) == len(pods) == 6 and not any("deletionTimestamp" in pod["metadata"] for pod in pods):
                return
            time.sleep(0.2)
        raise AssertionError(f"the pods did not start: {[pod['status'] for pod in self.pods()]}")

    def pods(self) -> list[dict[str, Any]]:
        return list(self.client.get(f"/api/v1/namespaces/{self.namespace}/pods", labelSelector="app=cache")["items"])

    def delete(self, *names: str) -> None:
        for name in names:
            self.client.request("DELETE", f"/api/v1/namespaces/{self.namespace}/pods/{name}", query={"gracePeriodSeconds": 0})

    def converge(self, check: bool = False, **params: Any) -> Result:
        defaults = {name: option.get("default") for name, option in ARGUMENTS.items()}
        return run({**defaults, **self.given, "timeout": 90.0, **params}, Context(check=check, diff=True))

    def info(self) -> Result:
        defaults = {name: option.get("default") for name, option in INFO_ARGUMENTS.items()}
        return run_info({**defaults, **self.given, "masters": 3, "replicas_per_master": 1}, Context())

    def ask(self, commands: list[tuple[str, ...]]) -> dict[str, list[Any]]:
        """The same commands to every pod."""
        defaults = {name: option.get("default") for name, option in ARGUMENTS.items()}
        with opened({**defaults, **self.given}, Context()) as (cluster, _store):
            observed = cluster.observe(None)
            return {node.name: t for node in observed.live for t in [cluster._ask({node.name: commands})[node.name]]}  # type: ignore[misc]

    def fill(self) -> None:
        replies = self.ask([("SET", f"key-{number}", "kept") for number in range(100)])
        assert sum(reply == "OK" for answers in replies.values() for reply in answers) == 100

    def kept(self) -> int:
        replies = self.ask([("GET", f"key-{number}") for number in range(100)])
        return len({number for answers in replies.values() for number, reply in enumerate(answers) if reply == "kept"})


@pytest.fixture
def cache(client: Client, kubeconfig: str, namespace: str) -> Iterator[Cache]:
    made = Cache(client, kubeconfig, namespace)
    made.create()
    yield made


LEFT = (("v1", "ConfigMap"), ("coordination.k8s.io/v1", "Lease"), ("v1", "Secret"), ("apps/v1", "StatefulSet"))


def test_a_cluster_of_pods(cache: Cache, versions: Callable[..., dict[str, str]]) -> None:
    """Formed, unchanged, healed after a pod was deleted, formed anew after all were."""
    before = versions(cache.namespace, *LEFT)
    foreseen = cache.converge(check=True)
    assert foreseen["changed"] and versions(cache.namespace, *LEFT) == before

    formed = cache.converge()
    assert formed["changed"] and formed["state"] == "S4"
    assert formed["placement"] == {"score": 0, "violations": []}
    assert formed["diff"] == foreseen["diff"]
    masters = [node for node in formed["nodes"] if node["role"] == "master"]
    assert len({node["zone"] for node in masters}) == 3 and "" not in {node["zone"] for node in masters}
    settings = cache.ask([("CONFIG", "GET", "cluster-node-timeout"), ("CONFIG", "GET", "repl-diskless-sync-delay")])
    assert all(answers == [["cluster-node-timeout", "3000"], ["repl-diskless-sync-delay", "1"]] for answers in settings.values())

    after = versions(cache.namespace, *LEFT)
    assert cache.converge()["changed"] is False
    assert versions(cache.namespace, *LEFT) == after
    info = cache.info()
    assert info["is_available"] and info["views_agree"] and info["state"] == "S4" and info["errors"] == []

    cache.fill()
    victim = masters[0]
    old_addresses = {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in cache.pods()}
    cache.delete(victim["name"])
    healed = cache.converge()
    assert healed["changed"] and healed["state"] == "S4"
    assert cache.kept() == 100
    back = next(node for node in healed["nodes"] if node["name"] == victim["name"])
    assert back["role"] == "replica" and back["id"] != victim["id"] and not back["address"].startswith(old_addresses[victim["name"]] + ":")
    assert cache.converge()["changed"] is False

    cache.delete(*(pod["metadata"]["name"] for pod in cache.pods()))
    again = cache.converge()
    assert again["state"] == "S4" and any("is gone with its storage" in text for text in again["warnings"])
    assert cache.kept() == 0
    for shown in (foreseen, formed, healed, again, info):
        assert PASSWORD not in json.dumps(shown) and base64.b64encode(PASSWORD.encode()).decode() not in json.dumps(shown)


def test_both_ways_into_the_modules_agree(cache: Cache, play: Callable[..., tuple[dict[str, Any], str]]) -> None:
    """The action plugin in the worker forms the cluster; the module, sent as to another host, finds nothing to do."""
    pods = {"namespace": cache.namespace, "selector": "app=cache"}
    options = {"pods": pods, "password_secret": {"name": "cache-auth"}, "name": "cache"}
    task = {"progressive.platform.redis_cluster": options, "register": "outcome"}
    formed, printed = play([task])
    assert formed["changed"] and formed["state"] == "S4" and PASSWORD not in printed
    again, printed = play([task], connection="community.general.chroot")
    assert again["changed"] is False and again["plan"] == [] and PASSWORD not in printed
    seen, printed = play(
        [{"progressive.platform.redis_cluster_info": options, "register": "outcome"}], "--check", connection="community.general.chroot"
    )
    assert seen["is_available"] and seen["views_agree"] and PASSWORD not in printed


def test_a_missing_secret_and_key_are_named(cache: Cache) -> None:
    for secret, text in (({"name": "none"}, "is not there"), ({"name": "cache-auth", "key": "other"}, "its keys: password")):
        with pytest.raises(PlatformError, match=text):
            cache.converge(password_secret={"namespace": None, "key": "password", **secret})
