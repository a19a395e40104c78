# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bad input and faults at the edge as it is sent, on a real istiod and a real Envoy (no cluster): tokens, paths, headers, pods that fail or are slow, another
environment. Certificates that are over or somebody else's: test_waypoint_envoy.py, for here everything is in plain text."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.progressive.platform.tests.unit.istio.control_plane import (
    BACKEND,
    MARKS,
    Document,
    Plane,
    control_plane,
    envoy,
    pod,
    slice_of,
    without_tls,
)
from ansible_collections.progressive.platform.tests.unit.istio.tokens import AUDIENCE, ISSUER, Keys
from ansible_collections.progressive.platform.tests.unit.roles import rendering

HOST = "api.progressive.example.com"
COMPONENTS = ["baseline", "istio", "gateway", "app", "agents"]
APP = "progressive-framework-v5"
ROUTES = {
    "npa": {"prefix": "/api/v1/agents/npa", "rewrite": "/api/v1", "service": "npa-service"},
    "wpa": {"prefix": "/api/v1/agents/wpa", "rewrite": "/api/v1", "service": "wpa-service", "timeout": 2},
    "default": {"prefix": "/", "service": f"{APP}-service"},
}
OUTLIERS = {"errors": 3, "interval": 1, "ejection": 15, "most": 50, "healthy": 30}
# Addresses of pods by Service; the gateway itself has 10.213.7.1.
PODS = {
    "npa-service": {"npa-1": "10.213.7.2", "npa-2": "10.213.7.3"},
    "wpa-service": {"wpa-1": "10.213.7.4"},
    f"{APP}-service": {"app-1": "10.213.7.5"},
}
OTHER = "another-environment"
SENT = {
    *("Gateway", "HTTPRoute", "EnvoyFilter", "ConfigMap", "Service"),
    *("DestinationRule", "AuthorizationPolicy", "RequestAuthentication"),
}

pytestmark = MARKS


class Edge:
    """The gateway, its issuer of tokens and the pods behind it."""

    def __init__(self, plane: Plane, namespace: str, keys: Keys) -> None:
        self.plane, self.namespace, self.keys = plane, namespace, keys
        self.folder: Path = plane.net.folder

    def ask(self, path: str, *options: str, token: str | None = "") -> tuple[int, dict[str, str], str]:
        """With a good token unless another, or none at all, is given."""
        bearer = self.keys.token() if token == "" else token
        return self.plane.ask(path, *(("-H", f"authorization: Bearer {bearer}") if bearer else ()), *options, host=HOST)

    def asked(self, name: str) -> list[str]:
        """What a pod was asked."""
        log = self.folder / f"{name}.asked"
        return log.read_text().splitlines() if log.exists() else []

    def start(self, namespace: str, service: str, pods: dict[str, str]) -> None:
        for name, address in pods.items():
            self.plane.net.run("ip", "address", "add", f"{address}/32", "dev", "lo")
            self.plane.run_pod(pod(namespace, name, {"app": service.removesuffix("-service")}), address)
            self.plane.apply([slice_of(namespace, service, name, [{"name": "http", "port": 8000, "protocol": "TCP"}], address)])
            self.plane.net.start(name, "python3", "-c", BACKEND, name, address, 8000)


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    keys = Keys()
    changes: dict[str, Any] = {
        "platform_components": COMPONENTS,
        "gateway_routes": ROUTES,
        "gateway_jwt": {"issuer": ISSUER, "audiences": [AUDIENCE], "jwks": json.dumps(keys.jwks), "claims": {"scope": ["use"]}},
    }
    agents = rendering.Cluster("production", changes).value("agents", "agents_services")
    changes["agents_services"] = {**agents, "npa": {**agents["npa"], "mesh": {"outliers": OUTLIERS}}}
    cluster = rendering.Cluster("production", changes)
    namespace = str(cluster.value("catalog", "platform_namespace"))
    wanted = [one for role in ("istio", "agents", "app", "gateway") for one in cluster.documents(role) if one["kind"] in SENT]
    for one in wanted:
        one["metadata"].setdefault("namespace", namespace)
        if one["kind"] == "Service":
            for port in one["spec"]["ports"]:
                port["targetPort"] = 8000
    with control_plane(tmp_path_factory.mktemp("faults")) as plane:
        made = Edge(plane, namespace, keys)
        plane.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in (namespace, OTHER)])
        plane.apply(without_tls(wanted))
        labels = {"app": "edge", "gateway.networking.k8s.io/gateway-name": "edge", "service.istio.io/canonical-name": "edge"}
        ports = [{"name": name, "port": port, "protocol": "TCP"} for name, port in (("http", 80), ("https", 443))]
        own = {"name": "edge-istio", "namespace": namespace, "labels": {"gateway.networking.k8s.io/gateway-name": "edge"}}
        plane.apply([{"apiVersion": "v1", "kind": "Service", "metadata": own, "spec": {"ports": ports, "selector": {"app": "edge"}}}])
        plane.run_pod(pod(namespace, "edge", labels))
        plane.apply([slice_of(namespace, "edge-istio", "edge", ports)])
        for service, pods in PODS.items():
            made.start(namespace, service, pods)
        envoy(plane, namespace, labels, {})
        plane.until(lambda: made.ask("/health", token=None)[0] == 200, "a request through the gateway")
        plane.until(lambda: made.ask("/api/v1/info")[0] == 200, "one with a token")
        yield made


def tokens(keys: Keys) -> dict[str, str | None]:
    good, later = keys.token(), int(time.time()) + 3600
    return {
        "good": good,
        "none": None,
        "no token at all": "x.y.z",
        "signature of another key": Keys().token(),
        "changed after signing": good[:-8] + ("AAAAAAAA" if not good.endswith("AAAAAAAA") else "BBBBBBBB"),
        "algorithm none": keys.token("none"),
        "the public key as a secret": keys.token("HS256"),
        "of another issuer": keys.token(iss="https://elsewhere.example"),
        "of an issuer whose name begins alike": keys.token(iss=f"{ISSUER}/../evil"),
        "expired": keys.token(lasts=-3600),
        "not valid yet": keys.token(nbf=later, exp=later + 3600),
        "for another audience": keys.token(aud="somebody-else"),
        "without the claim that is asked for": keys.token(scope="look"),
    }


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("good", 200),
        ("none", 403),
        ("no token at all", 401),
        ("signature of another key", 401),
        ("changed after signing", 401),
        ("algorithm none", 401),
        ("the public key as a secret", 401),
        ("of another issuer", 401),
        ("of an issuer whose name begins alike", 401),
        ("expired", 401),
        ("not valid yet", 401),
        ("for another audience", 403),
        ("without the claim that is asked for", 403),
    ],
)
def test_only_a_good_token_opens(edge: Edge, kind: str, status: int) -> None:
    before = len(edge.asked("app-1"))
    seen, headers, body = edge.ask("/api/v1/info", token=tokens(edge.keys)[kind])
    assert seen == status, body
    assert len(edge.asked("app-1")) - before == (1 if status == 200 else 0), "who is refused reaches no pod"
    assert headers["x-frame-options"] == "deny", "also on a refusal"


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/info",
        "/health/../api/v1/info",
        "/health/%2e%2e/api/v1/info",
        "/health/%2E%2E/api/v1/info",
        "/health/..%2fapi/v1/info",
        "/health%2f..%2fapi/v1/info",
        "/health/..%5capi/v1/info",
        "/health\\..\\api\\v1\\info",
        "/health/./../api/v1/info",
        "/./api/v1/info",
        "//api/v1/info",
        "/health//../api/v1/info",
        "/health/",
        "/healthy",
        "/Health",
        "/health;/../api/v1/info",
        "/api/v1/info?/health",
        "/api/v1/info%00/health",
        "/api/v1/info#/health",
        "/%68ealth/../api/v1/info",
    ],
)
def test_no_spelling_of_a_path_is_the_open_one(edge: Edge, path: str) -> None:
    """Without a token; 400 is as good, for some are no path at all."""
    before = edge.asked("app-1")
    status, _headers, body = edge.ask(path, token=None)
    assert status in (400, 403), body
    assert edge.asked("app-1") == before


def test_what_is_open_is_open_in_its_plain_spelling(edge: Edge) -> None:
    """Else the test before would hold for a gateway that refuses everything."""
    for path in ("/health", "/health?x=/api", "/%68ealth", "//health", "/x/../health"):
        assert edge.ask(path, token=None)[0] == 200, path
    assert edge.asked("app-1")[-1] == "GET /health", "a pod is asked for what the policy was asked for"


def test_headers_of_the_platform_cannot_come_from_outside(edge: Edge) -> None:
    claims = {
        "x-internal-user": "root",
        "X-INTERNAL-ROLES": "admin",
        "x-forwarded-client-cert": "By=spiffe://cluster.local/ns/a/sa/b;URI=spiffe://cluster.local/ns/a/sa/admin",
        "x-envoy-internal": "true",
        "x-envoy-original-path": "/health",
        "x-envoy-upstream-rq-timeout-ms": "100000",
        "x-envoy-retry-on": "5xx",
        "x-envoy-decorator-operation": "x",
    }
    options = [word for name, value in claims.items() for word in ("-H", f"{name}: {value}")]
    status, _headers, body = edge.ask("/api/v1/info", *options, "-H", "x-request-source: mine")
    got = json.loads(body)["headers"]
    assert status == 200 and got["x-request-source"] == "mine", "what belongs to nobody passes"
    told = {name.lower(): value for name, value in claims.items()}
    assert not {name: value for name, value in got.items() if told.get(name) == value}, got
    assert edge.ask("/api/v1/info", "-H", "x_internal_user: root")[0] == 400, "an application may read it as the other"
    twice = edge.ask("/api/v1/info", "-H", "x-internal-user: a", "-H", "x-internal-user: b")[2]
    assert "x-internal-user" not in json.loads(twice)["headers"]


def test_a_pod_that_answers_5xx_is_left_out_and_comes_back(edge: Edge) -> None:
    def answers(times: int) -> list[tuple[int, str]]:
        found = [edge.ask("/api/v1/agents/npa/plan") for _again in range(times)]
        return [(status, json.loads(body)["pod"]) for status, _headers, body in found]

    assert {name for _status, name in answers(20)} == {"npa-1", "npa-2"}, "both serve"
    (edge.folder / "npa-2.broken").touch()
    seen = answers(20)
    failed = [entry for entry in seen if entry[0] == 500]
    assert OUTLIERS["errors"] <= len(failed) <= 2 * OUTLIERS["errors"], seen
    assert set(answers(8)) == {(200, "npa-1")}, "nobody meets it any more"
    (edge.folder / "npa-2.broken").unlink()
    edge.plane.until(lambda: (200, "npa-2") in answers(10), "it comes back")


def test_the_last_pods_are_not_left_out(edge: Edge) -> None:
    """Half of them at most: where all fail a failing one is asked rather than nobody."""
    edge.plane.until(
        lambda: {json.loads(edge.ask("/api/v1/agents/npa/plan")[2])["pod"] for _again in range(10)} == {"npa-1", "npa-2"}, "both"
    )
    for name in ("npa-1", "npa-2"):
        (edge.folder / f"{name}.broken").touch()
    seen = {edge.ask("/api/v1/agents/npa/plan")[0] for _again in range(30)}
    for name in ("npa-1", "npa-2"):
        (edge.folder / f"{name}.broken").unlink()
    assert seen == {500}, "the pods' own answer, and no 503 of the gateway"
    edge.plane.until(lambda: [edge.ask("/api/v1/agents/npa/plan")[0] for _again in range(10)] == [200] * 10, "they serve again")


def test_a_slow_pod_costs_the_time_of_its_route_and_nothing_else(edge: Edge) -> None:
    (edge.folder / "wpa-1.slow").write_text("8")
    before, began = len(edge.asked("wpa-1")), time.monotonic()
    status, headers, _body = edge.ask("/api/v1/agents/wpa/plan", "-X", "POST", "-d", "x")
    took = time.monotonic() - began
    (edge.folder / "wpa-1.slow").unlink()
    assert status == 504 and 2 <= took < 7, took
    assert headers["x-frame-options"] == "deny"
    assert len(edge.asked("wpa-1")) - before == 1, "a request that a pod has begun is not made again"
    assert edge.ask("/api/v1/agents/npa/plan")[0] == 200 and edge.ask("/api/v1/agents/wpa/plan")[0] == 200


def test_another_environment_with_the_same_hosts_takes_nothing(edge: Edge) -> None:
    """Its own gateway for our host, and a route of it that names ours: istiod refuses the one and keeps the other apart."""
    edge.start(OTHER, "thief-service", {"thief-1": "10.213.7.9"})
    port = [{"name": "http", "port": 80, "targetPort": 8000}]
    service: Document = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "thief-service", "namespace": OTHER}}
    theirs = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "edge", "namespace": OTHER}}
    listener = {"name": "http", "hostname": HOST, "port": 443, "protocol": "HTTP"}
    edge.plane.apply(
        [
            service | {"spec": {"selector": {"app": "thief"}, "ports": port}},
            theirs | {"spec": {"gatewayClassName": "istio", "listeners": [listener]}},
            *(route(name, namespace) for name, namespace in (("own", OTHER), ("across", edge.namespace))),
        ]
    )

    def reasons(name: str) -> set[str]:
        said = json.loads(edge.plane.kubectl("-n", OTHER, "get", "httproute", name, "-o", "json")).get("status", {})
        return {one["reason"] for parent in said.get("parents", []) for one in parent["conditions"] if one["type"] == "Accepted"}

    edge.plane.until(lambda: reasons("own") and reasons("across"), "istiod has looked at both")
    assert reasons("own") == {"Accepted"} and reasons("across") == {"NotAllowedByListeners"}
    for path in ("/api/v1/agents/npa/plan", "/api/v1/stolen", "/"):
        seen = {json.loads(edge.ask(path)[2])["pod"] for _again in range(5)}
        assert "thief-1" not in seen, path
    assert edge.asked("thief-1") == []


def route(name: str, parent: str) -> Document:
    """All of our host's requests for the other environment's pod, longer than any prefix of ours."""
    matches = [{"path": {"type": "PathPrefix", "value": value}} for value in ("/", "/api/v1/agents/npa/plan", "/api/v1/stolen")]
    rules = [{"matches": matches, "backendRefs": [{"name": "thief-service", "port": 80}]}]
    spec = {"hostnames": [HOST], "parentRefs": [{"name": "edge", "namespace": parent}], "rules": rules}
    metadata = {"name": name, "namespace": OTHER}
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": metadata, "spec": spec}
