# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ``istioctl analyze`` says of everything that an inventory sends with a mesh and an edge (`make mesh` builds istioctl)."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml
from ansible_collections.progressive.platform.tests.unit.roles import rendering

ISTIOCTL = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "progressive-platform/bin/istioctl"
COMPONENTS = ["baseline", "istio", "gateway", "postgresql", "redis_cluster", "app", "agents"]
CLUSTER_WIDE = {"Namespace", "PriorityClass", "ClusterRole", "ClusterRoleBinding", "StorageClass", "GatewayClass"}

pytestmark = [pytest.mark.slow, pytest.mark.mesh]


def analyze(bundle: Path) -> list[str]:
    """``CODE Kind/name.namespace: message`` of every finding, notes included."""
    answer = subprocess.run(
        [ISTIOCTL, "analyze", "--use-kube=false", "--all-namespaces", "--output", "json", bundle],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return [f"{one['code']} {one.get('origin', '')}: {one['message']}" for one in json.loads(answer.stdout or "[]") or []]


@pytest.mark.parametrize("api", [True, False], ids=["Gateway API", "Istio's own API"])
@pytest.mark.parametrize("inventory", rendering.INVENTORIES)
def test_nothing_is_found_in_what_an_inventory_sends(inventory: str, api: bool, tmp_path: Path) -> None:
    cluster = rendering.Cluster(inventory, {"platform_components": COMPONENTS, "gateway_api": api})
    namespace = str(cluster.value("catalog", "platform_namespace"))
    found = [one for role in COMPONENTS for one in cluster.documents(role)]
    kinds = {one["kind"] for one in found}
    assert {"PeerAuthentication", "AuthorizationPolicy", "DestinationRule", "HTTPRoute" if api else "VirtualService"} <= kinds
    for one in found:
        if one["kind"] not in CLUSTER_WIDE:
            one["metadata"].setdefault("namespace", namespace)
    bundle = tmp_path / f"{inventory}.yaml"
    bundle.write_text(yaml.safe_dump_all(found))
    assert analyze(bundle) == []


def test_a_fault_is_found(tmp_path: Path) -> None:
    """The test above can fail: a route to a Service that nobody has."""
    rule = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "lost", "namespace": "default"},
        "spec": {"hosts": ["lost.example.com"], "gateways": ["nowhere"], "http": [{"route": [{"destination": {"host": "nobody"}}]}]},
    }
    (tmp_path / "lost.yaml").write_text(yaml.safe_dump(rule))
    assert any("IST0101" in one for one in analyze(tmp_path / "lost.yaml"))
