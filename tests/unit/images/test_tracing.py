# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The services' spans, as a collector of this test gets them over OTLP: complete, sampled as the caller decided, and never waited for."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
import typing as t
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from .conftest import PASSWORD, SERVICES, Process, Redis, Starter, eventually, free_ports, ready

INTERNAL, SERVER, CLIENT = 1, 2, 3
TREE = {
    ("app", SERVER, "POST /api/v1/transaction"): "",
    ("app", INTERNAL, "app/redis"): "app",
    ("app", INTERNAL, "app/mca"): "app",
    ("app", CLIENT, "redis SET"): "app",
    ("app", CLIENT, "redis GET"): "app",
    ("app", CLIENT, "POST /api/v1/plan"): "app",
    ("mca", SERVER, "POST /api/v1/plan"): "app",
    ("mca", CLIENT, "redis SET"): "mca",
    ("mca", CLIENT, "grpc.health.v1.Health/Check"): "mca",
    ("mca", CLIENT, "POST /api/v1/plan"): "mca",
    ("mca", INTERNAL, "mca/npa/grpc"): "mca",
    ("npa", SERVER, "grpc.health.v1.Health/Check"): "mca",
    ("npa", SERVER, "POST /api/v1/plan"): "mca",
    ("npa", CLIENT, "redis GET"): "npa",
    ("wpa", SERVER, "grpc.health.v1.Health/Check"): "mca",
    ("wpa", SERVER, "POST /api/v1/plan"): "mca",
    ("wpa", CLIENT, "redis SET"): "wpa",
}
"""Service, kind and name of spans, and the service that the parent belongs to."""


@dataclass(frozen=True)
class Seen:
    service: str
    kind: int
    name: str
    trace: str
    id: str
    parent: str
    failed: str
    attributes: dict[str, t.Any]


@dataclass
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """The receiving end of OTLP over gRPC."""

    port: int = field(default_factory=lambda: free_ports(1)[0])
    spans: list[Seen] = field(default_factory=list)

    def start(self) -> grpc.Server:
        server = grpc.server(ThreadPoolExecutor(4))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(self, server)
        server.add_insecure_port(f"127.0.0.1:{self.port}")
        server.start()
        return server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def Export(self, request: t.Any, context: t.Any) -> t.Any:
        for group in request.resource_spans:
            service = next(one.value.string_value for one in group.resource.attributes if one.key == "service.name")
            for span in (span for scope in group.scope_spans for span in scope.spans):
                attributes = {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}
                parts = (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(), span.status.message)
                self.spans.append(Seen(service, span.kind, span.name, *parts, attributes))
        return trace_service_pb2.ExportTraceServiceResponse()

    def of(self, trace: str) -> list[Seen]:
        return [span for span in self.spans if span.trace == trace]


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    server = collector.start()
    yield collector
    server.stop(None)


def transact(app: Process, trace: str, flags: str = "01") -> httpx.Response:
    headers = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-{flags}", "x-request-id": f"r-{trace}"}
    return httpx.post(f"{app.url}/api/v1/transaction", headers=headers, trust_env=False, timeout=20)


def test_a_transaction_is_one_trace_without_a_gap(redis: Redis, start: Starter, collector: Collector) -> None:
    # A ratio of zero: only what a caller wants traced is.
    platform = ready(start.platform(redis, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_TRACES_SAMPLER_ARG="0"))
    wanted, unwanted = secrets.token_hex(16), secrets.token_hex(16)
    assert transact(platform["app"], unwanted, "00").status_code == 200
    assert transact(platform["app"], wanted).status_code == 200

    def names() -> set[tuple[str, int, str]]:
        return {(span.service, span.kind, span.name) for span in collector.of(wanted)}

    eventually("every span has come", lambda: set(TREE) <= names())
    spans = {span.id: span for span in collector.of(wanted)}
    roots = [span for span in spans.values() if span.parent not in spans]
    assert [(root.service, root.name) for root in roots] == [("app", "POST /api/v1/transaction")]
    for span in spans.values():
        if span not in roots:
            assert spans[span.parent].service == TREE.get((span.service, span.kind, span.name), spans[span.parent].service)
        if span.kind == INTERNAL:
            assert {one.kind for one in spans.values() if one.parent == span.id} == {CLIENT}, span
    assert not [span.failed for span in spans.values() if span.failed]
    # Nothing else began a trace: not the ratio of zero, the unwanted one, a check of a backend or a probe.
    assert {span.trace for span in collector.spans} == {wanted}
    for name, process in platform.items():
        line = next(line for line in process.logs() if line.get("trace_id") == wanted and line["message"] == "request")
        assert line["id"] == f"r-{wanted}", name
        assert spans[line["span_id"]].service == name


def test_the_ratio_decides_where_no_caller_does(redis: Redis, start: Starter, collector: Collector) -> None:
    store = {"REDIS_CLUSTER_NODES": redis.seeds, "REDIS_PASSWORD": PASSWORD}
    app = start("app", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_SERVICE_NAME="front", **store)
    app.until_ready()
    for key in ("a", "b"):
        assert app.get(f"/api/v1/items/{key}").status_code == 404
    eventually("both are traced", lambda: [span.name for span in collector.spans].count("GET /api/v1/items/{key}") == 2)
    assert {span.service for span in collector.spans} == {"front"}
    assert {span.name for span in collector.spans} == {"GET /api/v1/items/{key}", "redis HGETALL"}


def test_a_failure_is_in_its_span_without_a_secret(redis: Redis, start: Starter, collector: Collector) -> None:
    (nowhere,) = free_ports(1)
    store = {"REDIS_CLUSTER_NODES": redis.seeds, "REDIS_PASSWORD": PASSWORD}
    app = start("app", AGENTS=f"mca=http://127.0.0.1:{nowhere}", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **store)
    app.until_ready()
    trace = secrets.token_hex(16)
    assert transact(app, trace).status_code == 503
    eventually("the failed call has come", lambda: [span for span in collector.of(trace) if span.name == "POST /api/v1/transaction"])
    failed = {span.name: span for span in collector.of(trace) if span.failed}
    assert set(failed) == {"POST /api/v1/plan", "app/mca", "POST /api/v1/transaction"}
    assert failed["POST /api/v1/plan"].attributes["error.type"] == "ConnectError"
    assert PASSWORD not in str(collector.spans)


def test_a_collector_that_is_away_costs_nobody_anything(redis: Redis, start: Starter) -> None:
    """The port of nobody, a queue of 20: every transaction is answered as without it, the queue does not grow, and the process ends in time."""
    collector = Collector()
    store = {"REDIS_CLUSTER_NODES": redis.seeds, "REDIS_PASSWORD": PASSWORD}
    app = start("app", DRAIN_SECONDS="0", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_MAX_QUEUE_SIZE="20", **store)
    app.until_ready()
    seconds = []
    for _unused in range(60):
        before = time.monotonic()
        assert app.post("/api/v1/transaction").status_code == 200
        seconds.append(time.monotonic() - before)
    assert max(seconds) < 5, "what a batch is tried for (SEND_TIMEOUT)"
    # It comes: what it gets is what fitted into the queue, not what was made meanwhile.
    server = collector.start()
    eventually("what was kept has come", lambda: collector.spans)
    time.sleep(2)
    assert len(collector.spans) <= 20 * 3, "the queue, and what was under way"
    server.stop(None).wait()
    app.post("/api/v1/transaction")
    app.terminate()
    assert app.process.wait(15) == 0


@pytest.mark.parametrize("endpoint", ["", "http://127.0.0.1:9"])
def test_without_a_collector_no_library_is_loaded(endpoint: str) -> None:
    code = (
        "import os, sys; from progressive import app, settings, tracing; tracing.configure(settings.app_settings(os.environ));"
        "print(tracing.enabled(), any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    environ = {"PYTHONPATH": str(SERVICES), "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == [str(bool(endpoint))] * 2
