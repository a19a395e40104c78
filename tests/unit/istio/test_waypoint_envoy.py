# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An ambient mesh as it is sent: taken by a real API server and a real istiod, and its waypoint served by a real Envoy (no cluster and no ztunnel)."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Iterator

import pytest
from ansible_collections.progressive.platform.tests.unit.istio import tunnels
from ansible_collections.progressive.platform.tests.unit.istio.control_plane import (
    ADDRESS,
    BACKEND,
    MARKS,
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

pytestmark = MARKS


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
        for name in PODS:
            self.plane.until(
                lambda name=name: self.conditions("service", f"{name}-service").get("istio.io/WaypointBound", ("", ""))[0] == "True",
                f"{name} behind the waypoint",
            )
        names = [f"inbound-vip|80|http|{name}-service.{self.namespace}.svc.cluster.local" for name in PODS]
        tunnels.connect(self.plane, "waypoint-1", self.namespace, labels, names)
        self.plane.until(lambda: str(tunnels.configuration(self.plane, "waypoint-1")).count("connect_terminate") > 1, "istiod knows it")
        self.plane.until(
            lambda: len(str(tunnels.part(tunnels.configuration(self.plane, "waypoint-1"), "EndpointsConfigDump"))) > 500, "endpoints"
        )
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
        plane.until(
            lambda: plane.kubectl("-n", namespace, "get", "deployment,service", "waypoint", check=False).count("waypoint") >= 2,
            "istiod makes it",
        )
        made.pods()
        made.waypoint()
        made.nodes()
        plane.until(lambda: made.ask("application", "mca", "/health")[0] == 200, "a request through the waypoint")
        yield made


def test_istiod_makes_the_waypoint_and_holds_it_to_be_programmed(ambient: Ambient) -> None:
    found = ambient.conditions("gateway", "waypoint")
    assert found["Accepted"] == ("True", "Accepted") and found["Programmed"][0] == "True", found
    workload = ambient.get("deployment", "waypoint")["spec"]["template"]
    assert workload["metadata"]["annotations"]["istio.io/rev"] == "1-31-1", (
        "the tag's control plane, though the namespace has no istio.io/rev"
    )
    spec = workload["spec"]
    assert spec["priorityClassName"] == f"{ambient.namespace}-application" and spec["terminationGracePeriodSeconds"] == 60
    assert spec["serviceAccountName"] == "waypoint" and spec["containers"][0]["resources"]["limits"] == {"cpu": "2", "memory": "1Gi"}
    assert spec["containers"][0]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, "restricted namespaces want it"
    assert ambient.get("horizontalpodautoscaler", "waypoint")["spec"]["minReplicas"] == 2
    assert ambient.get("poddisruptionbudget", "waypoint")["spec"]["maxUnavailable"] == 1


def test_every_policy_is_taken_by_whom_it_is_for(ambient: Ambient) -> None:
    """Nothing is said to be more than ztunnel can do, and every Service with a policy for requests is behind the waypoint."""
    found = json.loads(ambient.plane.kubectl("-n", ambient.namespace, "get", "authorizationpolicies", "-o", "json"))["items"]
    names = {one["metadata"]["name"] for one in found}
    assert {"allow-nothing", "allow-nothing-waypoint", "mca", "mca-connections"} <= names
    for one in found:
        name = one["metadata"]["name"]
        if name == "edge":
            continue  # of the gateway, whose pods are not here
        told = ambient.conditions("authorizationpolicy", name)
        wanted = "WaypointAccepted" if "targetRefs" in one["spec"] else "ZtunnelAccepted"
        assert told == {wanted: ("True", "Accepted")}, (name, told)
    for name in ("mca-service", "npa-service", "wpa-service", "progressive-framework-v5-service"):
        assert ambient.conditions("service", name)["istio.io/WaypointBound"][0] == "True"


def test_a_database_is_not_behind_the_waypoint(ambient: Ambient) -> None:
    services = json.loads(ambient.plane.kubectl("-n", ambient.namespace, "get", "services", "-o", "json"))["items"]
    behind = {one["metadata"]["name"] for one in services if "istio.io/use-waypoint" in one["metadata"].get("labels", {})}
    assert behind == {"mca-service", "npa-service", "wpa-service", "progressive-framework-v5-service", "stray-service"}
    assert len(services) > len(behind) + 2, "and there are databases"


@pytest.mark.parametrize(
    ("who", "service", "method", "path", "expected"),
    [
        ("application", "mca", "GET", "/health", 200),
        ("application", "mca", "POST", "/api/v1/plan", 200),
        ("application", "mca", "DELETE", "/api/v1/plan", 403),
        ("application", "npa", "GET", "/health", 200),
        ("mca", "npa", "POST", "/api/v1/plan", 200),
        ("mca", "npa", "GET", "/health", 403),
        ("mca", "npa", "GET", "/api/v1/../../health", 403),
        ("mca", "npa", "GET", "/api/v1/%2e%2e/%2e%2e/health", 403),
        ("mca", "npa", "GET", "/api/v1/..%2f..%2fhealth", 403),
        ("mca", "npa", "GET", "/api/v1/..%5c..%5chealth", 403),
        ("mca", "npa", "GET", "//health", 403),
        ("mca", "progressive-framework-v5", "GET", "/api/v1/info", 403),
        ("npa", "mca", "POST", "/api/v1/plan", 403),
        ("edge", "mca", "POST", "/api/v1/plan", 200),
        ("edge", "mca", "GET", "/health", 403),
        ("edge", "progressive-framework-v5", "GET", "/anything", 200),
        ("nobody", "mca", "GET", "/health", 403),
        ("application", "stray", "GET", "/health", 403),
    ],
)
def test_who_may_ask_what_is_what_it_is_with_sidecars(
    ambient: Ambient, who: str, service: str, method: str, path: str, expected: int
) -> None:
    status, body = ambient.ask(who, service, path, method)
    assert status == expected, body
    assert (json.loads(body)["pod"] == service) if expected == 200 else body == "RBAC: access denied"


def test_a_pod_is_asked_by_the_waypoint_as_itself(ambient: Ambient) -> None:
    """Which is whom the policies for connections let in, at the container's port; the caller's own identity ends at the waypoint."""
    assert ambient.ask("application", "mca", "/health")[0] == 200
    came = (ambient.plane.net.folder / "mca.came").read_text().splitlines()
    identity = f"spiffe://cluster.local/ns/{ambient.namespace}/sa/waypoint"
    assert set(came) == {f"{identity} 10.213.7.2:8000"}
    rules = ambient.get("authorizationpolicy", "mca-connections")["spec"]["rules"]
    (rule,) = [one for one in rules if identity.removeprefix("spiffe://") in one["from"][0]["source"].get("principals", [])]
    assert "8000" in rule["to"][0]["operation"]["ports"]
    assert not (ambient.plane.net.folder / "stray.came").read_text(), "a refused request reaches no pod"


def test_a_caller_of_no_mesh_is_not_heard(ambient: Ambient) -> None:
    """Plain text, a certificate of somebody else's authority, one that is over, and none, at the waypoint's port."""
    address = f"{ADDRESS}:{tunnels.HBONE}"
    plain = ambient.plane.net.run("curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", f"http://{address}/health", check=False)
    assert plain == "000"
    other = ambient.plane.net.folder / "other"
    other.mkdir()
    account = (ambient.namespace, "progressive-app-sa")
    stranger, over = tunnels.Authority(other).issue(*account), ambient.authority.issue(*account, days=-1)
    said = {
        name: hello(ambient, files)
        for name, files in (("good", ambient.authority.issue(*account)), ("stranger", stranger), ("over", over), ("none", {}))
    }
    assert "alert" not in said["good"], said["good"]
    assert (
        "alert unknown ca" in said["stranger"]
        and "alert certificate expired" in said["over"]
        and "alert certificate required" in said["none"]
    ), said


def hello(ambient: Ambient, files: Document) -> str:
    """What the waypoint's port says to a client with a certificate, or without."""
    pair = f"-cert {files['certificate_chain']['filename']} -key {files['private_key']['filename']}" if files else ""
    address = f"{ADDRESS}:{tunnels.HBONE}"
    return ambient.plane.net.run("sh", "-c", f"sleep 1 | openssl s_client -connect {address} -alpn h2 {pair} 2>&1", check=False)


def test_traffic_rules_hold_at_the_waypoint(ambient: Ambient) -> None:
    """What a DestinationRule says is what the waypoint's clusters are."""
    configs = tunnels.part(tunnels.configuration(ambient.plane, "waypoint-1"), "ClustersConfigDump")["dynamicActiveClusters"]
    found = {
        one["cluster"]["name"].split("|")[3].partition(".")[0]: one["cluster"]
        for one in configs
        if one["cluster"]["name"].startswith("inbound-vip|80|")
    }
    app, mca = found["progressive-framework-v5-service"], found["mca-service"]
    assert app["lbPolicy"] == "RING_HASH" and mca["lbPolicy"] == "LEAST_REQUEST"
    assert mca["outlierDetection"]["consecutive5xx"] == 3 and mca["outlierDetection"]["interval"] == "30s"
    assert mca["circuitBreakers"]["thresholds"][0]["maxPendingRequests"] == 25
    text = json.dumps(tunnels.part(tunnels.configuration(ambient.plane, "waypoint-1"), "ListenersConfigDump"))
    assert '"headerName": "user-id"' in text, "requests of one user meet one pod"


def test_requests_of_the_edge_go_by_the_waypoint(ambient: Ambient) -> None:
    """istiod tells a gateway to send what is for such a Service to the waypoint's pods, in a tunnel for the Service's address."""
    labels = ambient.get("deployment", "edge-istio")["spec"]["template"]["metadata"]["labels"]
    ambient.plane.run_pod(pod(ambient.namespace, "edge-1", labels, "edge-istio"))
    host = f"mca-service.{ambient.namespace}.svc.cluster.local"
    tunnels.connect(ambient.plane, "edge-1", ambient.namespace, labels, [f"outbound|80||{host}"], kind="router")
    ambient.plane.until(
        lambda: host in str(tunnels.part(tunnels.configuration(ambient.plane, "edge-1"), "EndpointsConfigDump")), "the edge's"
    )
    text = json.dumps(tunnels.part(tunnels.configuration(ambient.plane, "edge-1"), "EndpointsConfigDump"))
    vip = ambient.get("service", "mca-service")["spec"]["clusterIP"]
    assert f"{ADDRESS}:{tunnels.HBONE}" in text and f"{vip}:80" in text and "10.213.7.2" not in text, text


def test_a_rule_about_requests_for_ztunnel_lets_nobody_in(ambient: Ambient) -> None:
    """What a sidecar's policy does in an ambient mesh; our own rules refuse it before (test_lint.py)."""
    rule = {"from": [{"source": {"namespaces": ["default"]}}], "to": [{"operation": {"paths": ["/x"]}}]}
    for action in ("ALLOW", "DENY"):
        name = f"request-{action.lower()}"
        spec = {"selector": {"matchLabels": {"app": "stray"}}, "action": action, "rules": [rule]}
        policy = {
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": name, "namespace": ambient.namespace},
        }
        ambient.plane.apply([policy | {"spec": spec}])
        ambient.plane.until(lambda name=name: ambient.conditions("authorizationpolicy", name), "istiod says what it thinks of it")
        assert ambient.conditions("authorizationpolicy", name)["ZtunnelAccepted"] == ("True", "UnsupportedValue")
        (said,) = ambient.get("authorizationpolicy", name)["status"]["conditions"]
        assert "more restrictive than requested" in said["message"]
    ambient.plane.kubectl("-n", ambient.namespace, "delete", "authorizationpolicy", "request-allow", "request-deny")
