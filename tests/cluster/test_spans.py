# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One trace through the real mesh: gateway, sidecars, application and agents, in a platform of the test's own (`make together` before)."""

from __future__ import annotations

import http.client
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._health.tracing import Span, spans_of
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.tests.cluster import callers
from ansible_collections.progressive.platform.tests.cluster.playbooks import eventually, installed, playbook
from ansible_collections.progressive.platform.tests.unit.istio.test_spans_envoy import way

NAMESPACE, SYSTEM = "spans-probes", "spans-probes-system"
HOST, APP = "api.progressive.local", "progressive-framework-v5"
# From the client to the coordinator: who says it, and as what. A proxy is its pod's label and namespace.
WAY = [
    (f"edge.{NAMESPACE}", "server"),
    (f"edge.{NAMESPACE}", "client"),
    (f"{APP}.{NAMESPACE}", "server"),
    (APP, "server"),
    (APP, "internal"),
    (APP, "client"),
    (f"{APP}.{NAMESPACE}", "client"),
    (f"mca.{NAMESPACE}", "server"),
    ("mca", "server"),
]

pytestmark = [pytest.mark.slow, pytest.mark.together]


class Mesh:
    """The platform in the mesh, with Jaeger beside it."""

    def __init__(self, client: Client, variables: Path) -> None:
        self.client, self.variables = client, variables

    def jaeger(self, path: str) -> tuple[int, dict[str, Any]]:
        """Its API, by the address of its pod: this machine reaches the pods of its cluster."""
        connection = http.client.HTTPConnection(callers.address(self.client, SYSTEM, "app=jaeger"), 16686, timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, dict(json.loads(answer.read()))
        finally:
            connection.close()

    def of(self, trace: str) -> dict[str, Span]:
        status, body = self.jaeger(f"/api/v3/traces/{trace}")
        return {span.id: span for span in spans_of(body)} if status == 200 else {}


@pytest.fixture(scope="module")
def mesh(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    wanted = {
        "platform_namespace": NAMESPACE,
        "platform_tracing_namespace": SYSTEM,
        "platform_components": ["baseline", "istio", "redis_cluster", "gateway", "app", "agents", "tracing"],
    }
    with installed(tmp_path_factory.mktemp("spans"), wanted) as variables:
        yield Mesh(client, variables)


def test_one_trace_leads_from_the_client_to_the_agents(mesh: Mesh) -> None:
    """Gateway, sidecars, application and agents are parts of the client's trace, each below who called it."""
    trace, caller = secrets.token_hex(16), secrets.token_hex(8)
    status, _headers, body = callers.world(
        mesh.client, NAMESPACE, "POST", HOST, "/api/v1/transaction", {"traceparent": f"00-{trace}-{caller}-01"}
    )
    assert status == 200, body[:500]
    wanted = {service for service, _kind in WAY} | {agent + space for agent in ("npa", "wpa") for space in ("", f".{NAMESPACE}")}

    def whole() -> dict[str, Span]:
        spans = mesh.of(trace)
        ends = {span.parent for span in spans.values()} - set(spans)
        return spans if ends == {caller} and wanted <= {span.service for span in spans.values()} else {}

    try:
        eventually("the whole trace is in Jaeger", whole, 60)
    finally:
        print(*(f"{span.id} below {span.parent}: {span.shown}" for span in mesh.of(trace).values()), sep="\n")
    spans = mesh.of(trace)
    (last,) = [span.id for span in spans.values() if (span.service, span.name, span.kind) == ("mca", "POST /api/v1/plan", "server")]
    assert way(spans, last) == (WAY, caller)
    assert [span.service for span in spans.values() if span.parent == caller] == [f"edge.{NAMESPACE}"]


def test_health_finds_the_trace_whole_with_proxies_in_it(mesh: Mesh) -> None:
    playbook("verify", mesh.variables)
    report = json.loads((mesh.variables.parent / "reports/health.json").read_text())
    (check,) = [check for check in report["checks"] if check["name"] == "trace of a transaction"]
    print(check["observed"])
    assert check["ok"], check["message"]
    services = {span["service"] for span in check["details"]["spans"]}
    assert {APP, "mca", "npa", "wpa", *(f"{name}.{NAMESPACE}" for name in (APP, "mca", "npa", "wpa"))} <= services


def test_what_sends_spans_is_not_traced_itself(mesh: Mesh) -> None:
    """Last, for everybody has sent spans by now."""
    for service in (APP, "mca"):
        status, body = mesh.jaeger(f"/api/v3/operations?service={service}.{NAMESPACE}")
        assert status == 200 and "-service" in json.dumps(body), body
        assert "otel-collector" not in json.dumps(body)
