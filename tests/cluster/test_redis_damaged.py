# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""S33 on pods with volumes: a damaged nodes.conf keeps a server in a crash loop, and the replica is made anew with its claim, by name only."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.tests.cluster import test_redis_cluster as pods

DAMAGE = "[ ! -e /data/damaged ] || echo damaged >/data/nodes.conf"
CLAIM = {
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}},
}


class Kept(pods.Cache):
    """The same six pods, each with a volume that outlives it."""

    def create(self) -> None:
        for body in pods.manifests(self.namespace, pods.image(self.client)):
            if body["kind"] == "StatefulSet":
                body["spec"]["volumeClaimTemplates"] = [CLAIM]
                pod = body["spec"]["template"]["spec"]
                del pod["volumes"]
                pod["containers"][0]["command"][2] = pods.START.replace("exec redis-server", f"{DAMAGE}\nexec redis-server")
            resource = self.client.resource(body["apiVersion"], body["kind"])
            self.client.request("POST", resource.path(self.namespace), body)
        self.until_running(240)

    def uids(self, name: str) -> tuple[str, str]:
        """Of the pod and of its claim."""
        space = f"/api/v1/namespaces/{self.namespace}"
        paths = (f"{space}/pods/{name}", f"{space}/persistentvolumeclaims/data-{name}")
        return tuple(self.client.get(path)["metadata"]["uid"] for path in paths)  # type: ignore[return-value]

    def until_crashing(self, name: str, timeout: float = 240) -> None:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            pod = self.client.get(f"/api/v1/namespaces/{self.namespace}/pods/{name}")
            for status in pod["status"].get("containerStatuses", []):
                if status["restartCount"] >= 3 and status["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff":
                    return
            time.sleep(0.5)
        raise AssertionError(f"{name} is in no crash loop")


@pytest.mark.slow  # three crashes, and a minute of patience
@pytest.mark.state("S33")
def test_s33_a_damaged_replica_is_made_anew_with_its_claim(
    client: Client, kubeconfig: str, namespace: str, kubectl: Callable[..., str]
) -> None:
    cache = Kept(client, kubeconfig, namespace)
    cache.create()
    formed = cache.converge()
    cache.fill()
    replica: dict[str, Any] = next(node for node in formed["nodes"] if node["role"] == "replica")
    name = replica["name"]
    before = cache.uids(name)
    kubectl("-n", namespace, "exec", name, "--", "sh", "-c", "touch /data/damaged && kill 1")
    cache.until_crashing(name)

    with pytest.raises(PlatformError) as refused:
        cache.converge(timeout=180.0)
    assert refused.value.details["state"] == "S33"
    assert "corrupted cluster config file" in str(refused.value) and f"recreate_replica: [{name}]" in str(refused.value)
    foreseen = cache.converge(check=True, recreate_replica=[name])
    assert [step["action"] for step in foreseen["plan"]][:1] == ["recreate"]
    assert cache.uids(name) == before

    healed = cache.converge(recreate_replica=[name], timeout=240.0)
    assert healed["state"] == "S4"
    assert {"recreate", "meet", "replicate"} <= {step["action"] for step in healed["plan"]}
    after = cache.uids(name)
    assert after[0] != before[0] and after[1] != before[1]
    assert cache.kept() == 100
    assert cache.converge(recreate_replica=[name])["changed"] is False
