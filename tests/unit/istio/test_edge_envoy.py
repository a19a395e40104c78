# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The edge as it is sent, of either API, served by a real istiod and a real Envoy: routes, limits, headers (no cluster; see control_plane.py)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.progressive.platform.tests.unit.istio.control_plane import (
    ADDRESS,
    BACKEND,
    MARKS,
    Plane,
    control_plane,
    envoy,
    pod,
    slice_of,
    without_tls,
)
from ansible_collections.progressive.platform.tests.unit.roles import rendering

COMPONENTS = ["baseline", "istio", "gateway", "app", "agents"]
HOSTS = ["progressive.example.com", "api.progressive.example.com"]
ROUTES = {
    "npa": {
        "prefix": "/api/v1/agents/npa",
        "rewrite": "/api/v1",
        "service": "npa-service",
        "rate_limit": {"requests": 6, "unit": "hour", "burst": 3},
        "canary": {"service": "npa-service-canary", "weight": 0, "header": "x-canary"},
    },
    "upload": {"prefix": "/upload", "service": "mca-service", "max_body": "1Ki"},
    "default": {"prefix": "/", "service": "progressive-framework-v5-service"},
}
HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "deny",
    "referrer-policy": "no-referrer",
    "content-security-policy": "frame-ancestors 'none'",
}

pytestmark = MARKS


@pytest.fixture(scope="module", params=[True, False], ids=["Gateway API", "Istio's own API"])
def plane(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    changes = {
        "platform_components": COMPONENTS,
        "gateway_api": request.param,
        "gateway_routes": ROUTES,
        "gateway_rate_limits": {
            "*": {"requests": 1000},
            **({HOSTS[0]: {"requests": 12, "unit": "hour", "burst": 2}} if request.param else {}),
        },
    }
    cluster = rendering.Cluster("production", changes)
    namespace = str(cluster.value("catalog", "platform_namespace"))
    wanted = [one for one in cluster.documents("gateway") if one["kind"] in KINDS]
    wanted.append(refusal(request.param))
    services = [service(name, name) for name in ("npa-service", "npa-service-canary", "mca-service", "progressive-framework-v5-service")]
    for one in [*wanted, *services]:
        one["metadata"]["namespace"] = namespace
    folder: Path = tmp_path_factory.mktemp("plane")
    with control_plane(folder) as made:
        made.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}])
        made.apply([*services, *without_tls(wanted)])
        if request.param:
            ports = [{"name": name, "port": port} for name, port in (("http", 80), ("https", 443))]
            own = {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "edge-istio", "namespace": namespace},
                "spec": {"ports": ports},
            }
            own["metadata"]["labels"] = {"gateway.networking.k8s.io/gateway-name": "edge"}
            made.apply([own | {"spec": {"ports": ports, "selector": {"app": "edge"}}}])
        labels = {"app": "edge", "gateway.networking.k8s.io/gateway-name": "edge", "service.istio.io/canonical-name": "edge"}
        made.run_pod(pod(namespace, "edge", labels))
        made.run_pod(pod(namespace, "backend", {"app": "backend"}))
        ports = [{"name": name, "port": port, "protocol": "TCP"} for name, port in listening(made, namespace)]
        made.apply([slice_of(namespace, "edge-istio", "edge", ports)])
        made.apply(
            [
                slice_of(namespace, one["metadata"]["name"], "backend", [{"name": "http", "port": 8000, "protocol": "TCP"}])
                for one in services
            ]
        )
        made.net.start("backend", "python3", "-c", BACKEND, "backend", ADDRESS, 8000)
        envoy(made, namespace, labels, {})
        made.until(lambda: made.ask("/health")[0] == 200, "a request through the gateway")
        made.gateway_api = request.param
        yield made


def refusal(api: bool) -> dict[str, Any]:
    """A policy of the gateway that refuses one path."""
    target = {"kind": "Gateway", "name": "edge", "group": "gateway.networking.k8s.io"}
    spec = {"targetRefs": [target]} if api else {"selector": {"matchLabels": {"app": "edge"}}}
    rule = {"to": [{"operation": {"paths": ["/refused"]}}]}
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": "no"},
        "spec": {**spec, "action": "DENY", "rules": [rule]},
    }


KINDS = {"Gateway", "HTTPRoute", "VirtualService", "EnvoyFilter", "ConfigMap", "Service"}


def service(name: str, app: str) -> dict[str, Any]:
    spec = {"selector": {"app": app}, "ports": [{"name": "http", "port": 80, "targetPort": 8000}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def listening(plane: Plane, namespace: str) -> list[tuple[str, int]]:
    """The ports of the gateway's Service, as endpoints have them."""
    spec = json.loads(plane.kubectl("-n", namespace, "get", "service", "edge-istio", "-o", "json"))["spec"]
    return [(port["name"], port["port"]) for port in spec["ports"]]


def test_the_longest_prefix_is_taken_and_rewritten(plane: Plane) -> None:
    assert json.loads(plane.ask("/somewhere")[2])["path"] == "/somewhere"
    status, _headers, body = plane.ask("/api/v1/agents/npa/plan", "-H", "x-internal-user: me")
    assert status == 200 and json.loads(body)["path"] == "/api/v1/plan"
    assert "x-internal-user" not in json.loads(body)["headers"], "only the platform itself may set it"


def test_over_the_limit_of_a_route_there_is_429_and_elsewhere_not(plane: Plane) -> None:
    """The test before took one of the three at most; none comes back within the ten minutes that one takes."""
    answers = [plane.ask("/api/v1/agents/npa/plan") for _again in range(4)]
    statuses = [status for status, _headers, _body in answers]
    assert statuses[0] == 200 and statuses[-1] == 429 and statuses == sorted(statuses)
    headers = answers[-1][1]
    assert headers["retry-after"] == "600" and headers["x-ratelimit-limit"] == "3" and headers["x-ratelimit-remaining"] == "0"
    assert HEADERS.items() <= headers.items(), "also on an answer of the gateway's own"
    assert plane.ask("/api/v1/agents/npa/plan", "-H", "x-canary: true")[0] == 200, "who asks for the canary has a measure of its own"
    assert [plane.ask("/other")[0] for _again in range(5)] == [200] * 5


def test_the_limit_of_a_host_is_for_that_host(plane: Plane) -> None:
    answers = [plane.ask("/", host=HOSTS[0]) for _again in range(3)]
    if answers[0][1]["x-ratelimit-limit"] == "2":  # Istio's own API has one measure for all hosts
        assert [status for status, _headers, _body in answers] == [200, 200, 429]
    else:
        assert plane.gateway_api is False and [answer[1]["x-ratelimit-limit"] for answer in answers] == ["1000"] * 3
    status, headers, _body = plane.ask("/", host=HOSTS[1])
    assert status == 200 and headers["x-ratelimit-limit"] == "1000"


def test_a_body_that_is_too_large_is_refused(plane: Plane) -> None:
    assert json.loads(plane.ask("/upload", "--data-binary", "x" * 1000)[2])["got"] == 1000
    status, headers, _body = plane.ask("/upload", "--data-binary", "x" * 2000)
    assert status == 413 and HEADERS.items() <= headers.items()
    assert json.loads(plane.ask("/elsewhere", "--data-binary", "x" * 2000)[2])["got"] == 2000


def test_headers_are_on_every_answer(plane: Plane) -> None:
    for status, headers, _body in (plane.ask("/"), plane.ask("/", port=80), plane.ask("/x", "-H", "under_score: 1")):
        assert HEADERS.items() <= headers.items(), (status, headers)


def test_a_limit_counts_before_policies_do_and_is_told_on_every_answer(plane: Plane) -> None:
    """Health reads it where a token is asked for, too."""
    status, headers, _body = plane.ask("/refused")
    assert status == 403 and headers["x-ratelimit-limit"] == "1000" and HEADERS.items() <= headers.items()


def test_port_80_only_redirects(plane: Plane) -> None:
    status, headers, _body = plane.ask("/x?y=1", port=80)
    assert status == 301 and headers["location"] in (f"https://{HOSTS[1]}/x?y=1", f"https://{HOSTS[1]}:443/x?y=1")


def test_what_a_client_may_do(plane: Plane) -> None:
    assert plane.ask("/", "-H", "x-long: " + "x" * 70_000)[0] == 431
    assert plane.ask("/", "-H", "under_score: 1")[0] == 400, "an application may read it as another header"
    assert plane.ask("/", "--http2-prior-knowledge")[0] == 200
