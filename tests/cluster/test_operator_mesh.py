# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Five lines give an agent that serves in the mesh, is scaled and is watched: the operator beside a real mesh and Prometheus (`make together` before)."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.tests.cluster import callers
from ansible_collections.progressive.platform.tests.cluster.playbooks import eventually, installed, playbook

pytestmark = [pytest.mark.slow, pytest.mark.together]

NAMESPACE = "agent-probes"
MESH = [("security.istio.io/v1", "AuthorizationPolicy", "spa"), ("networking.istio.io/v1", "DestinationRule", "spa-service")]
SPA = "apiVersion: progressive.platform/v1beta1\nkind: Agent\nmetadata: {name: spa}\nspec:\n  specialization: sleep\n"
MCA, NPA, SELF = "deploy/mca-deployment", "deploy/npa-deployment", "deploy/spa-deployment"
CALLS = [
    (MCA, "POST", "http://spa-service/api/v1/plan", "200"),
    (MCA, "GET", "http://spa-service/health", "403"),
    (MCA, "DELETE", "http://spa-service/api/v1/plan", "403"),
    (NPA, "POST", "http://spa-service/api/v1/plan", "403"),
    (SELF, "POST", "http://npa-service/api/v1/plan", "403"),
    ("pod/stranger", "POST", "http://spa-service/api/v1/plan", "refused"),
]


class Scene:
    def __init__(self, client: Client, kubectl: Callable[..., str], variables: Path) -> None:
        self.client, self.kubectl, self.variables = client, kubectl, variables

    def find(self, api_version: str, kind: str, name: str) -> Any:
        return self.client.find(self.client.resource(api_version, kind).path(NAMESPACE, name))

    def prometheus(self, query: str) -> list[Any]:
        where = callers.address(self.client, "monitoring", "app=prometheus")
        with urllib.request.urlopen(f"http://{where}:9090/api/v1/query?query={urllib.parse.quote(query)}", timeout=10) as answer:
            return list(json.load(answer)["data"]["result"])


@pytest.fixture(scope="module")
def scene(client: Client, kubectl: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    wanted = {
        "platform_namespace": NAMESPACE,
        "platform_components": ["baseline", "istio", "redis_cluster", "agents", "monitoring", "operator"],
        "operator_platform": {"intervalSeconds": 10, "timeoutSeconds": 10},
    }
    with installed(tmp_path_factory.mktemp("agent"), wanted) as variables:
        callers.stranger(client, kubectl, NAMESPACE)
        kubectl("-n", NAMESPACE, "apply", "-f", "-", stdin=SPA)
        kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", "agent/spa", "--timeout=120s")
        yield Scene(client, kubectl, variables)


def test_it_is_in_the_mesh(scene: Scene) -> None:
    pod = scene.client.get(f"/api/v1/namespaces/{NAMESPACE}/pods", labelSelector="app=spa")["items"][0]
    proxies = [it for it in pod["spec"].get("initContainers", []) if it["name"] == "istio-proxy"]
    assert [it.get("restartPolicy") for it in proxies] == ["Always"], "a native sidecar"
    assert all(it["ready"] for it in pod["status"]["containerStatuses"] + pod["status"]["initContainerStatuses"])
    for api_version, kind, name in MESH:
        assert scene.find(api_version, kind, name)["metadata"]["ownerReferences"][0]["kind"] == "Agent"


@pytest.mark.parametrize(("who", "method", "url", "wanted"), CALLS, ids=[f"{it[0].split('/')[1]}-{it[1]}-{it[3]}" for it in CALLS])
def test_who_may_call_it(scene: Scene, who: str, method: str, url: str, wanted: str) -> None:
    assert callers.settled(lambda: callers.pod(scene.kubectl, NAMESPACE, who, method, url), wanted) == wanted


def test_it_is_scaled(scene: Scene) -> None:
    """The autoscaler reads what the pod uses, its proxy left out."""

    def measured() -> Any:
        found = scene.find("autoscaling/v2", "HorizontalPodAutoscaler", "spa-hpa")
        return [it for it in found["status"].get("currentMetrics") or [] if it.get("containerResource", {}).get("container") == "spa"]

    assert eventually("the processor of container spa, measured", measured, 120)


def test_it_is_watched(scene: Scene) -> None:
    """Prometheus scrapes it with the inventory's agents, and their alerts are about it too."""
    of = f'namespace="{NAMESPACE}",job="agents",agent="spa"'
    up = eventually("its target", lambda: scene.prometheus(f"up{{{of}}} == 1"), 90)
    assert len(up) == 1
    assert eventually("its requests, which came through its proxy", lambda: scene.prometheus(f"agent_requests_total{{{of}}} > 0"), 60)


def test_the_whole_is_well_and_drift_in_the_mesh_is_put_right(scene: Scene) -> None:
    for api_version, kind, name in MESH:
        scene.client.request("DELETE", scene.client.resource(api_version, kind).path(NAMESPACE, name))
        eventually(f"{kind} made anew", lambda it=(api_version, kind, name): scene.find(*it), 30, 0.1)  # type: ignore[misc]

    def healthy() -> bool:
        said = json.loads(scene.kubectl("-n", NAMESPACE, "get", "progressiveplatform", "platform", "-o", "json"))
        return (
            any(it["status"] == "True" for it in said["status"]["conditions"] if it["type"] == "Healthy")
            and said["status"]["agents"]["ready"] == 1
        )

    eventually("a healthy whole with its Agent", healthy, 90)
    assert "changed=0 " in playbook("site", scene.variables)


def test_it_goes_with_its_last_trace(scene: Scene) -> None:
    scene.kubectl("-n", NAMESPACE, "delete", "agent", "spa", "--timeout=60s")
    for api_version, kind, name in (*MESH, ("apps/v1", "Deployment", "spa-deployment")):
        eventually(f"{kind} gone", lambda it=(api_version, kind, name): scene.find(*it) is None, 60)  # type: ignore[misc]
