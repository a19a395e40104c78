# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Spans of the mesh as it is sent: a real istiod, real Envoys as the gateway and as the application's sidecar, and the real application and coordinator between
and behind them (no cluster; see control_plane.py).

The application's pod is a network namespace of its own, where iptables does what Istio's CNI plugin does: what comes in and what goes out passes the sidecar.
The collector is the test's own and takes OTLP over gRPC. Here nobody hands out certificates, so proxies talk in plain text.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._health.tracing import KINDS, Span, context
from ansible_collections.progressive.platform.tests.unit.istio.control_plane import (
    ADDRESS,
    BACKEND,
    INNER,
    MARKS,
    OUTER,
    PROXY,
    Document,
    Net,
    Plane,
    control_plane,
    envoy,
    pod,
    slice_of,
    without_tls,
)
from ansible_collections.progressive.platform.tests.unit.roles import rendering

# No proxy and no service begins a trace by itself, unless a test says so.
CHANGES: Document = {"platform_components": ["baseline", "istio", "gateway", "app", "agents", "tracing"], "platform_tracing_ratio": 0.0}
APP = "progressive-framework-v5"
# From the client to the coordinator: who says it, and as what.
WAY = [
    ("edge", "server"),
    ("edge", "client"),
    ("sidecar", "server"),
    (APP, "server"),
    (APP, "internal"),
    (APP, "client"),
    ("sidecar", "client"),
    ("mca", "server"),
]
SENT = {
    "istio": {"Sidecar", "Telemetry"},
    "gateway": {"Gateway", "HTTPRoute", "EnvoyFilter", "ConfigMap"},
    "app": {"Service"},
    "agents": {"Service"},
    "tracing": {"Service"},
}

# By this, whatever is in it, a client's own decision is Envoy's as well.
FORCED = {"x_client_trace_id": "yes"}

# The receiving end of OTLP over gRPC; a line a span.
COLLECTOR = """
import json, sys, concurrent.futures, grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb, trace_service_pb2_grpc as rpc
class Collector(rpc.TraceServiceServicer):
    def Export(self, request, context):
        for group in request.resource_spans:
            service = next((one.value.string_value for one in group.resource.attributes if one.key == "service.name"), "?")
            for span in (span for scope in group.scope_spans for span in scope.spans):
                found = {"service": service, "name": span.name, "kind": span.kind, "trace": span.trace_id.hex(), "id": span.span_id.hex()}
                with open("spans", "a") as log:
                    print(json.dumps({**found, "parent": span.parent_span_id.hex()}), file=log)
        return pb.ExportTraceServiceResponse()
server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
rpc.add_TraceServiceServicer_to_server(Collector(), server)
assert server.add_insecure_port(sys.argv[1])
server.start()
server.wait_for_termination()
"""

pytestmark = MARKS


class Mesh:
    """The gateway, the application's pod, and what their collector got."""

    def __init__(self, plane: Plane, place: Net, namespace: str) -> None:
        self.plane, self.place, self.namespace = plane, place, namespace
        self.collect()

    def collect(self) -> None:
        self.plane.net.start("collector", sys.executable, "-c", COLLECTOR, "0.0.0.0:4317")
        self.collector = self.plane.net.programs[-1]

    @property
    def spans(self) -> list[tuple[str, Span]]:
        """With their traces, as health reads them."""
        log = self.plane.net.folder / "spans"
        lines = log.read_text().split("\n")[:-1] if log.exists() else []
        return [
            (it["trace"], Span(it["service"], it["name"], KINDS[it["kind"]], it["id"], it["parent"], step="", seconds=0.0, failed=""))
            for it in map(json.loads, lines)
        ]

    def of(self, trace: str) -> dict[str, Span]:
        return {span.id: span for its, span in self.spans if its == trace}

    def ask(self, path: str, **headers: str) -> tuple[int, Document]:
        """A request of the world; one of a transaction has a body."""
        body = ("-d", "{}") if path.endswith("/transaction") else ()
        given = [word for name, value in headers.items() for word in ("-H", f"{name.replace('_', '-')}: {value}")]
        status, _headers, said = self.plane.ask(path, *given, *body)
        return status, json.loads(said) if said.startswith("{") else {}

    def arrived(self, path: str, spans: int) -> tuple[str, str]:
        """Trace and caller of a request that is traced, whose spans have come; with them everything has that was sent before by the same proxies."""
        trace, caller = secrets.token_hex(16), secrets.token_hex(8)
        assert self.ask(path, traceparent=f"00-{trace}-{caller}-01", **FORCED)[0] == 200
        self.plane.until(lambda: len(self.of(trace)) >= spans, f"{spans} spans of {path}")
        return trace, caller

    def sample(self, ratio: float) -> None:
        """Telemetry as an inventory with that ratio has it, in force at both proxies."""
        cluster = rendering.Cluster("production", CHANGES | {"platform_tracing_ratio": ratio})
        self.plane.apply([one for one in cluster.documents("istio") if one["kind"] == "Telemetry"])
        for net, admin in ((self.plane.net, 15000), (self.place, 15100)):
            self.plane.until(lambda net=net, admin=admin: percentages(net, admin) == {ratio * 100}, f"{ratio} at {admin}")


def percentages(net: Net, admin: int) -> set[float]:
    """What an Envoy traces of the requests that nobody has decided about, in each of its listeners."""

    def look(value: Any) -> Iterator[float]:
        if isinstance(value, dict):
            if "random_sampling" in value:
                yield float(value["random_sampling"].get("value", 0))
            value = list(value.values())
        for inner in value if isinstance(value, list) else ():
            yield from look(inner)

    said = net.run("curl", "-s", "-m", "20", f"http://127.0.0.1:{admin}/config_dump", check=False)
    return set(look(json.loads(said))) if said.startswith("{") else set()


def way(spans: dict[str, Span], last: str) -> tuple[list[tuple[str, str]], str]:
    """From the first span to one: who says each, and as what; and the first one's parent."""
    found: list[tuple[str, str]] = []
    while last in spans:
        found.insert(0, (spans[last].service, spans[last].kind))
        last = spans[last].parent
    return found, last


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    cluster = rendering.Cluster("production", CHANGES)
    namespace, folder = str(cluster.value("catalog", "platform_namespace")), tmp_path_factory.mktemp("spans")
    documents = {role: cluster.documents(role) for role in SENT}
    sent = [one for role, kinds in SENT.items() for one in documents[role] if one["kind"] in kinds]
    environment = {}
    for one in (one for role in ("app", "agents") for one in documents[role] if one["kind"] == "Deployment"):
        (container,) = one["spec"]["template"]["spec"]["containers"]
        environment[one["spec"]["selector"]["matchLabels"]["app"]] = {
            each["name"]: each["value"] for each in container["env"] if each["name"].startswith("OTEL_")
        }
    for one in sent:
        one["metadata"].setdefault("namespace", namespace)
    plain = {"name": "default", "namespace": "istio-system"}
    policy = {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": plain, "spec": {"mtls": {"mode": "DISABLE"}}}
    with control_plane(folder, CHANGES) as plane, contextlib.closing(Net(folder)) as place:
        plane.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in (namespace, "tracing")])
        plane.apply([*without_tls(sent), policy])
        lead_to(place, plane.net)
        made = Mesh(plane, place, namespace)
        start(made, environment)
        for path in ("/api/v1/info", "/api/v1/agents/mca/info", "/api/v1/agents/npa/x"):
            plane.until(lambda path=path: made.ask(path)[0] == 200, f"{path} through the gateway")
        yield made


def lead_to(place: Net, net: Net) -> None:
    """The way between the two networks, and in the pod's what Istio's CNI plugin does there."""
    net.join(place)
    place.run("ip", "address", "del", f"{ADDRESS}/32", "dev", "lo")
    place.run("ip", "route", "add", "default", "via", OUTER)
    for rule in (
        f"OUTPUT -p tcp -m owner --gid-owner {PROXY} -j RETURN",
        "OUTPUT -p tcp -o lo -j RETURN",
        "OUTPUT -p tcp -j REDIRECT --to-ports 15001",
        "PREROUTING -p tcp -i inner -j REDIRECT --to-ports 15006",
    ):
        place.run("iptables", "-w", "-t", "nat", "-A", *rule.split())


def start(mesh: Mesh, environment: dict[str, dict[str, str]]) -> None:
    """The pods, as istiod is told of them and as what runs there; ``environment`` is what role app and role agents tell of tracing."""
    plane, namespace = mesh.plane, mesh.namespace
    labels = {"app": "edge", "gateway.networking.k8s.io/gateway-name": "edge", "service.istio.io/canonical-name": "edge"}
    http = {"name": "http", "protocol": "TCP"}
    ports = [http | {"port": 80}, http | {"name": "https", "port": 443}]
    own = {"name": "edge-istio", "namespace": namespace, "labels": {"gateway.networking.k8s.io/gateway-name": "edge"}}
    plane.apply([{"apiVersion": "v1", "kind": "Service", "metadata": own, "spec": {"ports": ports, "selector": {"app": "edge"}}}])
    plane.run_pod(pod(namespace, "edge", labels))
    plane.apply([slice_of(namespace, "edge-istio", "edge", ports)])
    for space, service, name, port, address in (
        (namespace, f"{APP}-service", APP, http | {"port": 3000}, INNER),
        (namespace, "mca-service", "mca", http | {"port": 8000}, OUTER),
        (namespace, "npa-service", "npa", http | {"port": 8100}, ADDRESS),
        ("tracing", "otel-collector", "otel-collector", {"name": "otlp-grpc", "protocol": "TCP", "port": 4317}, OUTER),
    ):
        plane.run_pod(pod(space, name, {"app": name}), address)
        plane.apply([slice_of(space, service, name, [port], address)])

    def at(space: str, service: str) -> str:
        return str(json.loads(plane.kubectl("-n", space, "get", "service", service, "-o", "json"))["spec"]["clusterIP"])

    python = {"PYTHONPATH": str(rendering.ROOT / "images/services"), "PYTHONDONTWRITEBYTECODE": "1"}
    told = environment["mca"] | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{OUTER}:4317"}
    plane.net.start("mca", sys.executable, "-m", "progressive.agent", **python, **told, AGENT_TYPE="mca")
    told = environment[APP] | {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{at('tracing', 'otel-collector')}:4317"}
    mesh.place.start("app", sys.executable, "-m", "progressive.app", **python, **told, AGENTS=f"mca=http://{at(namespace, 'mca-service')}")
    plane.net.start("npa", "python3", "-c", BACKEND, "npa", ADDRESS, 8100)
    envoy(plane, namespace, labels, {})
    envoy(plane, namespace, {"app": APP}, {}, "sidecar", "sidecar", 15100, INNER, mesh.place, OUTER)


def test_one_trace_leads_from_the_client_to_the_agent_behind_the_application(mesh: Mesh) -> None:
    """Its parts hang on each other in the order of the request, and nothing else is in it."""
    trace, caller = mesh.arrived("/api/v1/transaction", len(WAY))
    spans = mesh.of(trace)
    (last,) = [span.id for span in spans.values() if span.service == "mca"]
    assert way(spans, last) == (WAY, caller) and len(spans) == len(WAY)


def test_a_transaction_of_healths_is_traced_at_every_ratio(mesh: Mesh) -> None:
    """As health sends it to the pod, here by its proxy and in a cluster past it; the ratio is none."""
    identity, caller = secrets.token_hex(16), secrets.token_hex(8)
    headers = [word for name, value in context(identity, caller).items() for word in ("-H", f"{name}: {value}")]
    said = mesh.plane.net.run("curl", "-s", "-m", "20", *headers, "-d", "{}", f"http://{INNER}:3000/api/v1/transaction", check=False)
    assert json.loads(said)["ok"] is True
    mesh.plane.until(lambda: len(mesh.of(identity)) >= len(WAY) - 2, "the spans of health's transaction")
    spans = mesh.of(identity)
    (last,) = [span.id for span in spans.values() if span.service == "mca"]
    assert way(spans, last) == (WAY[2:], caller)


@pytest.mark.parametrize(
    ("ratio", "given", "traced"),
    [
        (0.0, {}, False),
        (0.0, {"flags": "00"}, False),
        (0.0, {"flags": "01"}, False),
        (0.0, {"flags": "01", **FORCED}, True),
        (1.0, {}, True),
        (1.0, {"flags": "01"}, True),
        (1.0, {"flags": "00"}, False),
    ],
    ids=["none", "none, declined", "none, asked for", "none, insisted on", "all", "all, asked for", "all, declined"],
)
def test_the_ratio_decides_at_the_edge(mesh: Mesh, ratio: float, given: dict[str, str], traced: bool) -> None:
    """Who is called is told what was decided, with the gateway's span as the parent. This Envoy (1.40) traces what both it and the client decided on;
    an older one does what the client says."""
    mesh.sample(ratio)
    mesh.arrived("/api/v1/agents/npa/x", 2)
    before, told, more = len(mesh.spans), [], dict(given)
    flags = more.pop("flags", "")
    for _again in range(5):
        trace, caller = (secrets.token_hex(16), secrets.token_hex(8)) if flags else ("", "")
        status, seen = mesh.ask("/api/v1/agents/npa/x", **({"traceparent": f"00-{trace}-{caller}-{flags}"} if flags else {}), **more)
        assert status == 200
        told.append((*seen["headers"]["traceparent"].split("-")[1:], caller))
        assert not trace or told[-1][0] == trace, "the client's trace goes on"
    mark, _caller = mesh.arrived("/api/v1/agents/npa/x", 2)
    came = {span.id: (its, span) for its, span in mesh.spans[before:] if its != mark}
    spans = {identity: span for identity, (_trace, span) in came.items()}
    assert len(came) == (10 if traced else 0)
    for trace, parent, decided, caller in told:
        assert decided == ("01" if traced else "00")
        assert not traced or (came[parent][0] == trace and way(spans, parent) == (WAY[:2], caller))


def test_what_sends_spans_is_not_traced_itself(mesh: Mesh) -> None:
    """The application's own go through its sidecar, which would begin a trace for each batch of them."""
    mesh.sample(1.0)
    for _again in range(2):
        mesh.arrived("/api/v1/transaction", len(WAY))
        time.sleep(1.5)  # the application sends once a second
    mesh.arrived("/api/v1/transaction", len(WAY))
    assert not [span for _trace, span in mesh.spans if "otel-collector" in span.name]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["gone", "silent"])
def test_a_collector_that_is_away_costs_no_request(mesh: Mesh, how: signal.Signals) -> None:
    mesh.sample(1.0)
    seconds: dict[str, list[float]] = {"before": [], "away": []}
    for name, taken in seconds.items():
        if name == "away":
            mesh.collector.send_signal(how)
        until = time.monotonic() + 12  # Envoys send every five seconds
        while time.monotonic() < until:
            for path in ("/api/v1/transaction", "/api/v1/agents/npa/x"):
                began = time.monotonic()
                assert mesh.ask(path)[0] == 200, f"{path} {name}"
                taken.append(time.monotonic() - began)
    print({name: f"{len(taken)} requests, median {statistics.median(taken):.3f} s, {max(taken):.3f} s" for name, taken in seconds.items()})
    # Who waited for one that is silent would not be answered at all; how fast it is says more of the machine.
    assert max(seconds["away"]) < 10
    if how == signal.SIGKILL:
        mesh.collector.wait(timeout=10)
        mesh.collect()
    else:
        mesh.collector.send_signal(signal.SIGCONT)
    before = len(mesh.spans)

    def again() -> bool:
        assert mesh.ask("/api/v1/transaction")[0] == 200
        return {name for name, _kind in WAY} <= {span.service for _trace, span in mesh.spans[before:]}

    mesh.plane.until(again, "spans of everybody, once it is back")
