# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is said of a mesh, for what istiod, a proxy and the API server said."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._health import mesh
from ansible_collections.progressive.platform.plugins.module_utils._health.mesh import Probe

NOW = datetime(2026, 11, 23, 18, 0, tzinfo=UTC).timestamp()
CDS = "type.googleapis.com/envoy.config.cluster.v3.Cluster"


def pod(*containers: str, ready: bool = True, revision: str = "1-31-1", native: bool = True, **labels: str) -> dict[str, Any]:
    apps = [
        {"name": name, "ports": [{"name": "metrics", "containerPort": 9090}, {"name": "http", "containerPort": 8000}]}
        for name in containers
    ]
    proxy = [{"name": "istio-proxy"}] if revision else []
    return {
        "metadata": {"name": "mca-1", "namespace": "shop", "labels": labels, "annotations": {"istio.io/rev": revision} if revision else {}},
        "spec": {"initContainers": proxy if native else [], "containers": [*apps, *([] if native else proxy)]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def status(**resource: str) -> dict[str, Any]:
    return mesh.statuses([[], [{"proxy": "mca-1.shop", "istio_version": "1.31.1", "resources": {CDS: resource}}]])


@pytest.mark.parametrize(
    ("one", "known", "problems"),
    [
        (pod("app"), status(sent="a", acked="a"), []),
        (pod("app", native=False), status(), []),
        (pod("app"), status(sent="b", acked="a"), ["mca-1 has not taken its newest Cluster yet"]),
        (pod("app"), status(sent="b", acked="a", lastError="no such cluster"), ["mca-1 refused its Cluster: no such cluster"]),
        (pod("app"), {}, ["mca-1: no control plane knows its proxy"]),
        (pod("app", ready=False), {}, []),
        (
            pod("app", revision=""),
            {},
            ["mca-1 has no proxy: it was made before its namespace joined (istio.io/rev=prod); restart its workload"],
        ),
        (pod("app", revision="", **{"sidecar.istio.io/inject": "false"}), {}, []),
        (pod("app", revision="1-30-5"), status(), ["mca-1 is of revision 1-30-5, 1-31-1 is wanted; restart its workload"]),
    ],
)
def test_a_pod_by_what_the_control_plane_knows(one: dict[str, Any], known: dict[str, Any], problems: list[str]) -> None:
    assert mesh.pod_problems(one, "1-31-1", "prod", known) == problems


@pytest.mark.parametrize(
    ("ends", "problem"),
    [
        (["2026-11-24T18:00:00Z"], ""),
        (["2026-11-24T18:00:00Z", "2026-11-23T23:00:00Z"], "ends in 5 h"),
        (["2026-11-23T17:00:00Z"], "ended 60 min ago"),
        ([], "has no certificate"),
    ],
)
def test_the_first_certificate_that_ends_counts(ends: list[str], problem: str) -> None:
    certs = {"certificates": [{"ca_cert": [], "cert_chain": [{"expiration_time": end}]} for end in ends]}
    found = mesh.certificate_problems("mca-1", mesh.certificate_left(certs, NOW), 6)
    assert (problem in found[0]) if problem else not found


@pytest.mark.parametrize(
    ("probe", "problem"),
    [
        (Probe(502, 'error trying to reach service: EOF'), ""),
        (Probe(503, "error trying to reach service: read tcp 10.0.0.1->10.0.0.2: read: connection reset by peer"), ""),
        (Probe(0, mesh.SILENCE), ""),
        (Probe(200, "ok"), "was answered on port 8000 (200: ok); is PeerAuthentication STRICT?"),
        (Probe(403, "RBAC: access denied"), "was answered on port 8000 (403"),  # a policy answered, so it was let in
        (Probe(503, "no healthy upstream"), "was answered on port 8000 (503"),
        (Probe(403, 'pods "mca-1" is forbidden: User "x" cannot get resource "pods/proxy"'), "these credentials may not get pods/proxy"),
    ],
)  # fmt: skip
def test_only_silence_is_a_refusal_of_plain_text(probe: Probe, problem: str) -> None:
    found = mesh.plain_text_problems("mca-1", 8000, probe)
    assert (problem in found[0]) if problem else not found


def test_the_port_that_is_probed() -> None:
    assert mesh.served_port(pod("app")) == 8000
    assert mesh.served_port(pod()) is None
    assert mesh.served_port(pod("app", **{"gateway.networking.k8s.io/gateway-name": "edge"})) is None, (
        "it serves the world in plain text as well"
    )


# ---- ambient ----------------------------------------------------------------------------------------------------------------


def taken(one: dict[str, Any]) -> dict[str, Any]:
    one["metadata"]["annotations"]["ambient.istio.io/redirection"] = "enabled"
    return one


@pytest.mark.parametrize(
    ("one", "problem"),
    [
        (taken(pod("app", revision="")), ""),
        (pod("app", revision=""), "is not in the mesh: the CNI plugin of its node has not taken it in"),
        (pod("app", revision="", ready=False), ""),
        (pod("app", revision="", **{"istio.io/dataplane-mode": "none"}), ""),
        (taken(pod("app")), "has a sidecar, which takes the place of ztunnel"),
        (pod("app", native=False), "has a sidecar, which takes the place of ztunnel"),
    ],
)
def test_a_pod_of_an_ambient_namespace(one: dict[str, Any], problem: str) -> None:
    found = mesh.ambient_problems(one)
    assert (problem in found[0]) if problem else not found


def told(name: str, labels: dict[str, str] | None = None, **conditions: tuple[str, str, str]) -> dict[str, Any]:
    entries = [{"type": kind, "status": status, "reason": reason, "message": text} for kind, (status, reason, text) in conditions.items()]
    return {"metadata": {"name": name, "namespace": "shop", "labels": labels or {}}, "spec": {}, "status": {"conditions": entries}}


def test_a_waypoint_is_programmed_or_istiod_says_why_not() -> None:
    assert mesh.programmed_problems("waypoint", "shop", told("waypoint", Programmed=("True", "Programmed", ""))) == []
    (problem,) = mesh.programmed_problems(
        "waypoint", "shop", told("waypoint", Programmed=("False", "AddressNotAssigned", "no instances found"))
    )
    assert problem == "waypoint shop/waypoint is not programmed: no instances found"
    assert "there is no waypoint shop/waypoint" in mesh.programmed_problems("waypoint", "shop", None)[0]
    assert "has not looked at it" in mesh.programmed_problems("waypoint", "shop", told("waypoint"))[0]


def test_a_service_that_asks_for_a_waypoint_is_behind_it() -> None:
    asks = {"istio.io/use-waypoint": "waypoint"}
    assert mesh.bound_problems(told("a")) == [] and mesh.bound_problems(told("a", {"istio.io/use-waypoint": "none"})) == []
    assert mesh.bound_problems(told("a", asks, **{"istio.io/WaypointBound": ("True", "WaypointAccepted", "")})) == []
    (problem,) = mesh.bound_problems(told("a", asks, **{"istio.io/WaypointBound": ("False", "WaypointIsNotReady", "it is not ready")}))
    assert problem == "Service a is not behind its waypoint: it is not ready"
    assert mesh.bound_problems(told("a", asks)) == ["Service a is not behind its waypoint: istiod does not say why"]


@pytest.mark.parametrize(
    ("conditions", "problem"),
    [
        ({}, ""),
        ({"ZtunnelAccepted": ("True", "Accepted", "attached to ztunnel")}, ""),
        ({"WaypointAccepted": ("True", "Accepted", "")}, ""),
        ({"WaypointAccepted": ("False", "AncestorNotBound", "Service a is not bound to a waypoint")}, "is not bound to a waypoint"),
        ({"ZtunnelAccepted": ("True", "UnsupportedValue", "ztunnel does not support HTTP attributes")}, "does not support HTTP attributes"),
    ],
)
def test_a_policy_is_taken_as_it_was_meant(conditions: dict[str, tuple[str, str, str]], problem: str) -> None:
    found = mesh.policy_problems(told("mca", **conditions))
    assert (problem in found[0] and found[0].startswith("AuthorizationPolicy mca: ")) if problem else not found


def test_an_ambient_mesh_is_looked_at_as_a_whole() -> None:
    """A ztunnel that istiod does not know, a waypoint that is away, and a pod with a sidecar are named together; no pod is asked in plain text."""
    gateway = {"gateway.networking.k8s.io/gateway-name": "waypoint"}
    ztunnel = pod("ztunnel", revision="", app="ztunnel")
    ztunnel["metadata"].update(name="ztunnel-1", namespace="istio-system")
    proxy = pod(native=False, **gateway)
    proxy["metadata"]["name"] = "waypoint-1"
    objects = {
        ("Pod", "shop"): [taken(pod("app", revision="")), pod("old"), proxy],
        ("Pod", "istio-system"): [ztunnel],
        ("Gateway", "shop"): [],
        ("Service", "shop"): [told("a", {"istio.io/use-waypoint": "waypoint"})],
        ("AuthorizationPolicy", "shop"): [],
    }
    asked: list[tuple[str, str]] = []

    class Answer:
        def __init__(self, said: Any) -> None:
            self.said = said

        def json(self) -> Any:
            return self.said

    class Cluster:
        client = None

        def objects(self, kind: str, namespace: str) -> list[dict[str, Any]]:
            return objects[kind, namespace]

        def endpoints(self, namespace: str, service: str, _port: None) -> list[Any]:
            return [mesh.Endpoint(namespace, "istiod-1", 8080)]

        def now(self) -> float:
            return NOW

        def http(self, at: Any, _method: str, path: str, _until: float) -> Answer:
            asked.append((at.pod, path))
            if path == "/debug/syncz":
                return Answer([{"proxy": "waypoint-1.shop", "istio_version": "1.31.1", "resources": {}}])
            return Answer({"certificates": [{"cert_chain": [{"expiration_time": "2026-11-24T18:00:00Z"}]}]})

    class Scene:
        cluster = Cluster()

    options = {
        "namespace": "istio-system", "service": "istiod-1-31-1", "namespaces": ["shop"], "revision": "1-31-1", "tag": "platform",
        "certificate_hours": 6.0, "mtls": "STRICT", "mode": "ambient", "waypoint": "waypoint",
    }  # fmt: skip
    found = mesh.mesh(options, Scene(), NOW + 10)  # type: ignore[arg-type]
    said = " ".join([str(found.observed), *map(str, found.problems)]) if hasattr(found, "problems") else str(found)
    for part in (
        "ztunnel-1: no control plane knows",
        "there is no waypoint shop/waypoint",
        "has a sidecar",
        "Service a is not behind",
        "1 proxy",
    ):
        assert part in said, said
    assert asked == [("istiod-1", "/debug/syncz"), ("waypoint-1", "/certs")]
