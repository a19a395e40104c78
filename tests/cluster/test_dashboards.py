# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every query of every dashboard returns data on the real Prometheus after a load (`make monitoring` before), in a namespace of the test's own.

With PROGRESSIVE_THERE=1 the platform of the namespace is there already, and stays.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_plus

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.tests.cluster.playbooks import installed

NAMESPACE, WATCH = "dashboards-probes", "dashboards-probes-system"
COMPONENTS = ["baseline", "postgresql", "redis_cluster", "mongodb", "app", "agents", "monitoring"]
PATIENCE = 240.0  # seconds until a rate over five minutes has something to show, with rules that are built on rules

SCRAPED = 30.0  # seconds of load before anybody looks

pytestmark = [pytest.mark.slow, pytest.mark.monitoring]


@pytest.fixture(scope="module")
def there(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    wanted = {
        "platform_namespace": NAMESPACE,
        "platform_components": COMPONENTS,
        "monitoring_namespace": WATCH,
        "monitoring_interval": 5,
        "monitoring_dashboards": True,
    }
    with installed(tmp_path_factory.mktemp("dashboards"), wanted):
        yield client


def address(client: Client, namespace: str, selector: str) -> str:
    pods = client.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)["items"]
    return str(next(pod["status"]["podIP"] for pod in pods if pod["status"]["phase"] == "Running"))


def call(host: str, port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=30)
    try:
        connection.request(method, path, body, {"content-type": "application/json"} if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def load(client: Client, enough: threading.Event) -> int:
    """Whole transactions at the application, which asks every backend and agent; how many were answered, well or not: dashboards are there for both."""
    host, answered = address(client, NAMESPACE, "app=progressive-framework-v5"), 0
    while not enough.wait(0.5):
        with contextlib.suppress(OSError, http.client.HTTPException):
            call(host, 3000, "POST", "/api/v1/transaction", b"{}")
            answered += 1
    return answered


def boards(client: Client) -> dict[str, dict[str, Any]]:
    found = client.get(f"/api/v1/namespaces/{WATCH}/configmaps", labelSelector="grafana_dashboard=1")["items"]
    return {one["metadata"]["name"].removeprefix("dashboard-"): json.loads(next(iter(one["data"].values()))) for one in found}


def empty(host: str, expressions: dict[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """Those that have no value now. One that Prometheus does not understand ends the test."""
    without = {}
    for expression, where in expressions.items():
        status, body = call(host, 9090, "GET", f"/api/v1/query?query={quote_plus(expression)}")
        answer = json.loads(body)
        assert status == 200 and answer["status"] == "success", f"{where}: {expression}: {answer.get('error')}"
        if not answer["data"]["result"]:
            without[expression] = where
    return without


def test_every_query_returns_data_after_a_load(there: Client) -> None:
    found = boards(there)
    agents = {f"agent-{name}" for name in ("mca", "npa", "wpa")}
    assert {"overview", "monitoring", "costs", "app", "redis", "postgresql", "mongodb"} | agents <= set(found)
    expressions = {
        target["expr"]: (name, panel["title"])
        for name, board in found.items()
        for panel in board["panels"]
        if panel["type"] != "row"
        for target in panel["targets"]
    }
    prometheus, began = address(there, WATCH, "app=prometheus"), time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        enough, without = threading.Event(), expressions
        answered = pool.submit(load, there, enough)
        try:
            time.sleep(SCRAPED)
            while without and time.monotonic() - began < PATIENCE:
                time.sleep(10)
                without = empty(prometheus, without)
        finally:
            enough.set()
        print(f"{len(expressions)} queries of {len(found)} dashboards, all with data after {time.monotonic() - began:.0f} s but {without}")
        times = sorted((timed(prometheus, expression), where) for expression, where in expressions.items())
        print(f"slowest: {times[-1]}, median: {times[len(times) // 2][0]:.3f} s")
    assert answered.result() > 0, "no transaction was answered: there was no load"
    assert not without, f"no data after {PATIENCE:g} s: {sorted(without.values())}"


def timed(host: str, expression: str) -> float:
    """Seconds that a panel of an hour takes."""
    now, began = time.time(), time.monotonic()
    status, _unused = call(
        host, 9090, "GET", f"/api/v1/query_range?query={quote_plus(expression)}&start={now - 3600:.0f}&end={now:.0f}&step=15"
    )
    assert status == 200
    return time.monotonic() - began
