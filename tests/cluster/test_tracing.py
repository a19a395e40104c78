# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole platform with its traces (`make monitoring` before), in a namespace of the test's own: what health finds, and what it says when spans are lost.

With PROGRESSIVE_THERE=1 the platform of the namespace is there already, and stays.
"""

from __future__ import annotations

import http.client
import itertools
import json
import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.tests.cluster.playbooks import eventually, installed, playbook

NAMESPACE, SYSTEM = "tracing-probes", "tracing-probes-system"
COMPONENTS = ["baseline", "postgresql", "mongodb", "redis_cluster", "app", "agents", "tracing"]
MIB = 2**20
Json = dict[str, Any]

pytestmark = [pytest.mark.slow, pytest.mark.monitoring]


class Traced:
    """The platform, and ways to ask it."""

    def __init__(self, client: Client, kubectl: Callable[..., str], variables: Path) -> None:
        self.client, self.kubectl, self.variables = client, kubectl, variables

    def verified(self) -> dict[str, Json]:
        """The checks of a report by name."""
        playbook("verify", self.variables, fails=None)
        return {check["name"]: check for check in json.loads((self.variables.parent / "reports/health.json").read_text())["checks"]}

    def pods(self, selector: str, namespace: str = NAMESPACE) -> list[Json]:
        found = self.client.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)["items"]
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp") and pod["status"].get("podIP")]

    def ask(self, selector: str, port: int, method: str, path: str, namespace: str = NAMESPACE, **headers: str) -> tuple[int, Json]:
        """A pod, by its address: this machine reaches the pods of its cluster."""
        pod = self.pods(selector, namespace)[0]
        connection = http.client.HTTPConnection(pod["status"]["podIP"], port, timeout=30)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except OSError as error:
            name = pod["metadata"]["name"]
            raise AssertionError(f"{error!r} of {name}: {self.kubectl('-n', namespace, 'describe', 'pod', name)}") from error
        finally:
            connection.close()

    def transact(self, **headers: str) -> tuple[int, Json]:
        return self.ask("component=core", 3000, "POST", "/api/v1/transaction", **headers)

    def memory(self, container: str = "app") -> int:
        """Bytes that the largest process of the first application's pod has resident."""
        name = self.pods("component=core")[0]["metadata"]["name"]
        script = "grep -h VmRSS /proc/[0-9]*/status | sort -n -k2 | tail -1"
        said = self.kubectl("-n", NAMESPACE, "exec", name, "-c", container, "--", "sh", "-c", script)
        return int(said.split()[1]) * 1024


@pytest.fixture(scope="module")
def traced(client: Client, kubectl: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    wanted = {"platform_namespace": NAMESPACE, "platform_tracing_namespace": SYSTEM, "platform_components": COMPONENTS}
    with installed(tmp_path_factory.mktemp("tracing"), wanted) as variables:
        yield Traced(client, kubectl, variables)


def test_health_finds_one_trace_from_the_application_to_every_database(traced: Traced) -> None:
    checks = traced.verified()
    assert [check["message"] for check in checks.values() if not check["ok"]] == []
    trace = checks["trace of a transaction"]
    spans = {span["id"]: span for span in trace["details"]["spans"]}
    roots = [span for span in spans.values() if span["parent"] not in spans]
    assert [(root["service"], root["name"]) for root in roots] == [("progressive-framework-v5", "POST /api/v1/transaction")]

    def tree(span: Json, depth: int = 0) -> Iterator[str]:
        yield f"{'  ' * depth}{span['service']}: {span['name']} ({span['kind']}) {span['seconds'] * 1000:.1f} ms"
        for child in sorted((one for one in spans.values() if one["parent"] == span["id"]), key=lambda one: one["name"]):
            yield from tree(child, depth + 1)

    print(trace["observed"], *tree(roots[0]), sep="\n")
    seen = {(span["service"], span["name"]) for span in spans.values()}
    assert {service for service, _name in seen} == {"progressive-framework-v5", "mca", "npa", "wpa"}
    assert {("progressive-framework-v5", f"{store}") for store in ("postgresql INSERT", "redis SET", "mongodb replaceOne")} <= seen
    assert {(agent, f"{store}") for agent in ("mca", "npa", "wpa") for store in ("redis SET", "mongodb replaceOne")} <= seen


def test_a_trace_is_found_from_a_line_of_any_log(traced: Traced) -> None:
    trace = secrets.token_hex(16)
    status, _answer = traced.transact(traceparent=f"00-{trace}-{secrets.token_hex(8)}-01")
    assert status == 200
    for selector in ("component=core", "app=mca", "app=npa", "app=wpa"):
        lines = traced.kubectl("-n", NAMESPACE, "logs", "-l", selector, "--tail=-1", "--since=120s", "--all-containers").splitlines()
        found = [json.loads(line) for line in lines if trace in line]
        assert [line["message"] for line in found] == ["request"], selector
    path = f"/api/v3/traces/{trace}"
    eventually("Jaeger has it", lambda: traced.ask("app=jaeger", 16686, "GET", path, SYSTEM)[0] == 200, 60)


def test_without_a_collector_everything_goes_on_and_health_names_it(traced: Traced) -> None:
    assert traced.transact()[0] == 200
    traced.kubectl("-n", SYSTEM, "scale", "deployment/otel-collector", "--replicas=0")
    try:
        eventually("the collector is gone", lambda: not traced.pods("app=otel-collector", SYSTEM), 60)
        seconds, sizes = [], [traced.memory()]
        for _unused in range(4):
            for _unused in range(300):
                began = time.monotonic()
                assert traced.transact()[0] == 200
                seconds.append(time.monotonic() - began)
            sizes.append(traced.memory())
        grown = [(after - before) / MIB for before, after in itertools.pairwise(sizes)]
        print(f"1200 transactions without a collector: median {statistics.median(seconds) * 1000:.0f} ms, grown by {grown} MiB")
        # The first 300 fill the queue, the others find it full: kept, their spans would take 5 MiB and more for each 300.
        assert grown[0] < 24 and sum(grown[1:]) < 8
        red = {name: check["message"] for name, check in traced.verified().items() if not check["ok"]}
        print(red)
        assert set(red) == {"tracing pods", "trace of a transaction"}
        assert "otel-collector" in red["tracing pods"]
        assert f"collector (otel-collector.{SYSTEM}" in red["trace of a transaction"]
    finally:
        traced.kubectl("-n", SYSTEM, "scale", "deployment/otel-collector", "--replicas=1")
    eventually("health is green again", lambda: all(check["ok"] for check in traced.verified().values()), 240)


def test_a_service_with_a_wrong_endpoint_is_the_span_that_is_missing(traced: Traced) -> None:
    traced.kubectl("-n", NAMESPACE, "set", "env", "deployment/npa-deployment", "OTEL_EXPORTER_OTLP_ENDPOINT=http://nowhere.invalid:4317")
    traced.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/npa-deployment", "--timeout=170s")
    try:
        assert eventually("a transaction goes well", lambda: traced.transact()[0] == 200, 60)
        trace = traced.verified()["trace of a transaction"]
        print(trace["message"])
        assert not trace["ok"] and {"missing: step npa/redis", "missing: step npa/mongodb"} == set(trace["details"]["problems"])
    finally:
        traced.kubectl(
            "-n",
            NAMESPACE,
            "set",
            "env",
            "deployment/npa-deployment",
            f"OTEL_EXPORTER_OTLP_ENDPOINT=http://otel-collector.{SYSTEM}.svc.cluster.local:4317",
        )
        traced.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/npa-deployment", "--timeout=170s")
