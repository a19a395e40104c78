# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is said of a trace, for what a service and Jaeger said; answers have the form of Jaeger 2.13's /api/v3."""

from __future__ import annotations

import json
import typing as t
import uuid

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._health import tracing
from ansible_collections.progressive.platform.plugins.module_utils._health.cluster import Answer, Endpoint
from ansible_collections.progressive.platform.plugins.module_utils._health.scene import Scene
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, PlatformError

OPTIONS = {
    "namespace": "shop",
    "service": "app-service",
    "port": "http",
    "path": "/api/v1/transaction",
    "body": {},
    "jaeger_namespace": "tracing",
    "jaeger_service": "jaeger",
    "jaeger_port": "query",
    "collector": "otel-collector.tracing.svc:4317",
    "patience": 3.0,
}
STEPS = [("app", "redis"), ("app", "mca"), ("mca", "npa/grpc")]
# Id, parent, service, kind, name; "" stands for the caller.
SPANS = [
    ("a", "", "app", 2, "POST /api/v1/transaction"),
    ("b", "a", "app", 1, "app/redis"),
    ("c", "b", "app", 3, "redis SET"),
    ("d", "a", "app", 1, "app/mca"),
    ("e", "d", "app", 3, "POST /api/v1/plan"),
    ("f", "e", "mca", "SPAN_KIND_SERVER", "POST /api/v1/plan"),
    ("g", "f", "mca", 1, "mca/npa/grpc"),
    ("h", "g", "mca", 3, "grpc.health.v1.Health/Check"),
    ("i", "h", "npa", 2, "grpc.health.v1.Health/Check"),
]


class Time(Clock):
    """Time goes by only while somebody sleeps."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


class Cluster:
    """A service and a Jaeger, which has a span after so many questions."""

    def __init__(self, spans: list[t.Any], status: int = 200, late: int = 0, jaeger: int = 200) -> None:
        self.spans, self.status, self.late, self.jaeger = spans, status, late, jaeger
        self.context: list[str] = []
        self.asked = 0

    def endpoints(self, namespace: str, service: str, port: str) -> list[Endpoint]:
        return [Endpoint(namespace, f"{service}-0", 1)]

    def http(self, at: Endpoint, method: str, path: str, until: float, body: t.Any = None, headers: t.Any = None) -> Answer:
        if method == "POST":
            self.context = headers["traceparent"].split("-")
            self.request = headers["x-request-id"]
            steps = [{"component": component, "backend": backend, "ok": True} for component, backend in STEPS]
            return Answer(self.status, {}, json.dumps({"ok": self.status == 200, "steps": steps}).encode())
        assert path == f"/api/v3/traces/{self.context[1]}"
        self.asked += 1
        if self.jaeger != 200:
            return Answer(self.jaeger, {}, b"storage is away")
        if not self.spans or self.asked <= self.late:
            return Answer(404, {}, b'{"error":{"httpCode":404,"message":"No traces found"}}')
        groups = [
            {
                "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
                "scopeSpans": [{"spans": [self.span(*one) for one in self.spans if one[2] == service]}],
            }
            for service in sorted({one[2] for one in self.spans})
        ]
        return Answer(200, {}, json.dumps({"result": {"resourceSpans": groups}}).encode())

    def span(self, identity: str, parent: str, service: str, kind: t.Any, name: str) -> dict[str, t.Any]:
        marked = [{"key": "progressive.step", "value": {"stringValue": name}}] if kind == 1 else []
        times = {"startTimeUnixNano": "1000000000", "endTimeUnixNano": "1500000000"}
        return {"spanId": identity, "parentSpanId": parent or self.context[2], "name": name, "kind": kind, "attributes": marked, **times}


def look(cluster: Cluster, check_mode: bool = False) -> t.Any:
    return tracing.trace(OPTIONS, Scene(cluster, Time(), check_mode), 1e9)  # type: ignore[arg-type]


def without(*names: str) -> list[t.Any]:
    return [span for span in SPANS if f"{span[2]} {span[4]}" not in names]


def test_a_whole_trace() -> None:
    cluster = Cluster(SPANS, late=2)
    finding = look(cluster)
    assert finding.ok, finding.message
    assert finding.observed == f"trace {cluster.context[1]}: 9 spans of app, mca, npa, complete after 1.0 s"
    assert (len(cluster.context[1]), len(cluster.context[2]), cluster.context[3]) == (32, 16, "01"), "always traced"
    assert str(uuid.UUID(cluster.request)) == cluster.request and cluster.request[14] == "9", "by proxies too"
    assert look(cluster, check_mode=True).skipped


# The same in a mesh: a proxy at each end of a call. Health's own request comes by port-forward, past the proxy of the pod; the second way is the world's.
CALLED = [("p", "e", "app.shop", 3, "mca-service:80/*"), ("q", "p", "mca.shop", "SPAN_KIND_SERVER", "mca-service:80/*")]
MESHED = [*(span for span in SPANS if span[0] != "f"), *CALLED, ("f", "q", "mca", 2, "POST /api/v1/plan")]
BY_THE_EDGE = [
    ("r", "", "edge.shop", 2, "app-service:80/*"),
    ("s", "r", "edge.shop", 3, "router outbound|80||app-service; egress"),
    ("t", "s", "app.shop", 2, "app-service:80/*"),
    ("a", "t", "app", 2, "POST /api/v1/transaction"),
    *(span for span in MESHED if span[0] != "a"),
]


@pytest.mark.parametrize("spans", [MESHED, BY_THE_EDGE], ids=["past the pod's proxy", "by the edge"])
def test_a_trace_with_the_spans_of_proxies_between_is_whole(spans: list[t.Any]) -> None:
    finding = look(Cluster(spans))
    assert finding.ok, finding.message
    assert "app.shop" in finding.observed


@pytest.mark.parametrize(
    ("cluster", "problems"),
    [
        (Cluster(without("app redis SET")), ["missing: the call of step app/redis (client)"]),
        (
            Cluster(without("app app/redis", "app redis SET")),
            ["missing: step app/redis"],
        ),
        (
            Cluster(without("app POST /api/v1/transaction")),
            [
                "missing: app-service: POST /api/v1/transaction (server)",
                "missing: what called app: app/redis (internal), span a",
                "missing: what called app: app/mca (internal), span a",
            ],
        ),
        (Cluster(without("mca POST /api/v1/plan")), ["missing: what called mca: mca/npa/grpc (internal), span f"]),
        (
            Cluster([span for span in SPANS if span[2] == "app"]),
            ["missing: step mca/npa/grpc"],
        ),
        (
            Cluster([span for span in MESHED if span[0] != "q"]),
            ["missing: what called mca: POST /api/v1/plan (server), span q"],
        ),
        (
            Cluster([span for span in BY_THE_EDGE if span[0] != "t"]),
            ["missing: what called app: POST /api/v1/transaction (server), span t"],
        ),
        (
            Cluster([span for span in BY_THE_EDGE if span[0] != "a"]),
            ["missing: what called app: app/redis (internal), span a", "missing: what called app: app/mca (internal), span a"],
        ),
        (Cluster(SPANS, status=503), ["the transaction itself: the transaction answered 503 with ok=False"]),
    ],
)
def test_what_is_missing_is_named(cluster: Cluster, problems: list[str]) -> None:
    finding = look(cluster)
    assert not finding.ok and finding.details["problems"] == problems


def test_a_trace_that_does_not_come_names_the_way() -> None:
    cluster = Cluster([])
    finding = look(cluster)
    (problem,) = finding.details["problems"]
    assert problem.startswith(
        f"no span of trace {cluster.context[1]} came to Jaeger within 3 s; the way is service, collector (otel-collector."
    )
    assert cluster.asked > 3


def test_a_jaeger_in_trouble_is_no_missing_trace() -> None:
    with pytest.raises(PlatformError, match=r"Jaeger \(jaeger-0\) answered 500 when it was asked for a trace: storage is away"):
        look(Cluster(SPANS, jaeger=500))
