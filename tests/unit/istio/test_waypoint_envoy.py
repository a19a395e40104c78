# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An ambient mesh as it is sent: taken by a real API server and a real istiod, and its waypoint served by a real Envoy (no cluster and no ztunnel)."""

from __future__ import annotations

import json
import subprocess
import typing as t
from collections.abc import Iterator

import pytest
from ansible_collections.progressive.platform.tests.unit.istio import tunnels
from ansible_collections.progressive.platform.tests.unit.istio.control_plane import (
    ADDRESS,
    BACKEND,
    ISTIOD,
    KUBERNETES,
    Document,
    Plane,
    control_plane,
    pod,
    slice_of,
)
from ansible_collections.progressive.platform.tests.unit.roles import rendering

COMPONENTS = ["baseline", "istio", "gateway", "postgresql", "redis_cluster", "app", "agents"]
CHANGES: Document = {"platform_components": COMPONENTS, "istio_mode": "ambient"}
SENT = {
    *("Gateway", "HTTPRoute", "AuthorizationPolicy", "PeerAuthentication", "DestinationRule"),
    *("ConfigMap", "NetworkPolicy", "Service", "ServiceAccount"),
}
# Workloads by Service: the address of their pod, the container's port and the account.
PODS = {
    "mca": ("10.213.7.2", 8000, "mca-sa"),
    "npa": ("10.213.7.3", 8000, "npa-sa"),
    "progressive-framework-v5": ("10.213.7.4", 3000, "progressive-app-sa"),
    "stray": ("10.213.7.5", 8000, "default"),  # behind the waypoint and without a policy
}
CALLERS = {"application": "progressive-app-sa", "mca": "mca-sa", "npa": "npa-sa", "edge": "edge-istio", "nobody": "default"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.mesh,
    pytest.mark.skipif(not (ISTIOD.exists() and KUBERNETES.exists()), reason="the programs of make up and make mesh are not here"),
    pytest.mark.skipif(
        subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode != 0, reason="no network namespaces here"
    ),
]


class Ambient:
    """The control plane with everything of an ambient platform that it reads, and a waypoint that serves."""

    def __init__(self, plane: Plane, namespace: str) -> None:
        self.plane, self.namespace, self.ports = plane, namespace, {}
        self.authority = tunnels.Authority(plane.net.folder)

    def get(self, kind: str, name: str) -> Document:
        return t.cast(Document, json.loads(self.plane.kubectl("-n", self.namespace, "get", kind, name, "-o", "json")))

    def conditions(self, kind: str, name: str) -> dict[str, tuple[str, str]]:
        """Status and reason by type."""
        found = self.get(kind, name).get("status", {}).get("conditions", [])
        return {one["type"]: (one["status"], one["reason"]) for one in found}

    def waypoint(self) -> None:
        """A pod for the Deployment that istiod made, and Envoys in its place."""
        labels = self.get("deployment", "waypoint")["spec"]["template"]["metadata"]["labels"]
        self.plane.run_pod(pod(self.namespace, "waypoint-1", labels, "waypoint"))
        ports = [{"name": one["name"], "port": one["port"], "protocol": "TCP"} for one in self.get("service", "waypoint")["spec"]["ports"]]
        self.plane.apply([slice_of(self.namespace, "waypoint", "waypoint-1", ports)])
        bound = ["Service", "service"]
        for name in PODS:
            self.plane.until(
                lambda name=name: self.conditions(bound[1], f"{name}-service").get("istio.io/WaypointBound", ("", ""))[0] == "True",
                f"{name} behind the waypoint",
            )
        names = [f"inbound-vip|80|http|{name}-service.{self.namespace}.svc.cluster.local" for name in PODS]
        tunnels.connect(self.plane, "waypoint-1", self.namespace, labels, names)
        self.plane.until(lambda: str(tunnels.configuration(self.plane, "waypoint-1")).count("connect_terminate") > 1, "istiod knows it")
        self.plane.until(lambda: len(str(tunnels.part(tunnels.configuration(self.plane, "waypoint-1"), "EndpointsConfigDump"))) > 500, "endpoints")
        configs = tunnels.configuration(self.plane, "waypoint-1")
        (self.plane.net.folder / "dump.json").write_text(json.dumps(configs))
        own = self.authority.issue(self.namespace, "waypoint")
        tunnels.start(self.plane, "waypoint", tunnels.runnable(configs, own, self.authority.trusted), 15100)

    def pods(self) -> None:
        for name, (address, port, account) in PODS.items():
            self.plane.net.run("ip", "address", "add", f"{address}/32", "dev", "lo")
            labels = {"app": name, "progressive.platform/mesh": "ambient"}
            # As the CNI plugin marks who it has taken in.
            self.plane.run_pod(pod(self.namespace, f"{name}-1", labels, account, **{"ambient.istio.io/redirection": "enabled"}), address)
            ports = [{"name": "http", "port": port, "protocol": "TCP"}]
            self.plane.apply([slice_of(self.namespace, f"{name}-service", f"{name}-1", ports, address)])
            self.plane.net.start(f"pod-{name}", "python3", "-c", BACKEND, name, address, port)

    def nodes(self) -> None:
        """What ztunnel would be: the callers' tunnels to the waypoint, and the ends of its own at the pods."""
        parts, trusted = [], self.authority.trusted
        for number, (service, who) in enumerate((service, who) for service in PODS for who in CALLERS):
            target = f"{self.get('service', f'{service}-service')['spec']['clusterIP']}:80"
            self.ports[who, service] = 20000 + number
            parts.append(tunnels.caller(20000 + number, self.authority.issue(self.namespace, CALLERS[who]), trusted, target))
        for name, (address, port, account) in PODS.items():
            own = self.authority.issue(self.namespace, account)
            parts.append(tunnels.receiver(name, address, port, own, trusted, self.plane.net.folder / f"{name}.came"))
        tunnels.start(self.plane, "nodes", tunnels.together(parts), 15200)

    def ask(self, who: str, service: str, path: str, method: str = "GET") -> tuple[int, str]:
        """Status and body of a request to a Service, as an account."""
        address = f"http://127.0.0.1:{self.ports[who, service]}{path}"
        options = ("-s", "-m", "20", "--path-as-is", "-X", method, "-w", "\n%{http_code}", "-H", f"host: {service}-service")
        body, _line, status = self.plane.net.run("curl", *options, address, check=False).rpartition("\n")
        return int(status or 0), body


@pytest.fixture(scope="module")
def ambient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ambient]:
    cluster = rendering.Cluster("production", CHANGES)
    namespace = str(cluster.value("catalog", "platform_namespace"))
    documents = [one for role in COMPONENTS for one in cluster.documents(role)]
    stray = {"name": "stray-service", "labels": {"istio.io/use-waypoint": "waypoint"}}
    spec = {"selector": {"app": "stray"}, "ports": [{"name": "http", "port": 80, "targetPort": 8000}]}
    documents.append({"apiVersion": "v1", "kind": "Service", "metadata": stray, "spec": spec})
    for one in documents:
        one["metadata"].setdefault("namespace", namespace)
    with control_plane(tmp_path_factory.mktemp("ambient"), CHANGES) as plane:
        spaces = [one for one in documents if one["kind"] == "Namespace"]
        for one in spaces:
            one["metadata"].pop("namespace")
        plane.apply(spaces)
        plane.apply([one for one in documents if one["kind"] in SENT])
        made = Ambient(plane, namespace)
        plane.until(lambda: plane.kubectl("-n", namespace, "get", "deployment,service", "waypoint", check=False).count("waypoint") >= 2, "istiod makes it")
        made.pods()
        made.waypoint()
        made.nodes()
        plane.until(lambda: made.ask("application", "mca", "/health")[0] == 200, "a request through the waypoint")
        yield made


def test_it_serves(ambient: Ambient) -> None:
    assert ambient.ask("application", "mca", "/health")[0] == 200
