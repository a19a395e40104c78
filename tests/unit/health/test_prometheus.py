# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is said of monitoring, for what Prometheus said; answers have the form of Prometheus 3.13's."""

from __future__ import annotations

import json
import typing as t
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._health import charts, prometheus
from ansible_collections.progressive.platform.plugins.module_utils._health.cluster import Answer, Endpoint
from ansible_collections.progressive.platform.plugins.module_utils._health.scene import Scene
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock

OPTIONS = {
    "namespace": "monitoring",
    "service": "prometheus",
    "port": "web",
    "minimum": 1,
    "delay": 60.0,
    "severities": ["critical"],
    "notifies": True,
    "panels": [],
}
PANEL = {"title": "Requests", "unit": "requests/s", "kind": "line", "expr": "rate(asked[5m])", "legend": "agent {agent}", "queries": None}


def target(pool: str = "app", health: str = "up", error: str = "", **labels: str) -> dict[str, t.Any]:
    return {"scrapePool": pool, "health": health, "lastError": error, "labels": {"instance": "10.0.0.1:9090", "job": pool, **labels}}


def rule(name: str, severity: str = "critical", state: str = "firing", health: str = "ok", error: str = "") -> dict[str, t.Any]:
    alerts = [
        {"labels": {"severity": severity}, "annotations": {"summary": f"{name} it is"}, "state": state, "activeAt": "2026-11-26T17:00:00Z"}
    ]
    return {"type": "alerting", "name": name, "health": health, "lastError": error, "alerts": alerts if state else []}


class Cluster:
    """A Prometheus that says what it is told to."""

    def __init__(self, **said: t.Any) -> None:
        self.targets: list[t.Any] = said.get("targets", [target()])
        self.pools: list[str] = said.get("pools", ["app"])
        self.rules: list[t.Any] = said.get("rules", [rule("Watchdog", "none")])
        self.alertmanagers: list[t.Any] = said.get("alertmanagers", [{"url": "http://10.0.0.9:9093/api/v2/alerts"}])
        self.values: dict[str, float | None] = {
            prometheus.DELAY: said.get("delay", 7.0),
            prometheus.TOLD: said.get("told", 5.0),
            "vector(time())": 7200.0,
        }
        self.series: dict[str, list[t.Any]] = said.get("series", {})
        self.pods: list[str] = said.get("pods", ["prometheus-0"])

    def endpoints(self, namespace: str, service: str, port: str) -> list[Endpoint]:
        return [Endpoint(namespace, pod, 9090) for pod in self.pods]

    def http(self, at: Endpoint, method: str, path: str, until: float) -> Answer:
        asked = urlsplit(path)
        data: dict[str, t.Any] = {
            "/api/v1/targets": {"activeTargets": self.targets},
            "/api/v1/scrape_pools": {"scrapePools": self.pools},
            "/api/v1/rules": {"groups": [{"name": "app", "rules": self.rules}]},
            "/api/v1/alertmanagers": {"activeAlertmanagers": self.alertmanagers},
            "/api/v1/query": {},
            "/api/v1/query_range": {},
        }[asked.path]
        if asked.path.endswith("query_range"):
            asks = parse_qs(asked.query)
            assert (asks["start"], asks["end"], asks["step"]) == (["3600"], ["7200"], ["60"])
            if asks["query"][0] not in self.series:
                return Answer(400, {}, b'{"status": "error", "error": "no such thing"}')
            data = {"resultType": "matrix", "result": self.series[asks["query"][0]]}
        elif asked.path.endswith("query"):
            value = self.values[parse_qs(asked.query)["query"][0]]
            data = {"resultType": "vector", "result": [] if value is None else [{"metric": {}, "value": [1.0, str(value)]}]}
        return Answer(200, {}, json.dumps({"status": "success", "data": data}).encode())


def look(**said: t.Any) -> t.Any:
    options = {**OPTIONS, **said.pop("options", {})}
    return prometheus.prometheus(options, Scene(Cluster(**said), Clock()), 1e9)  # type: ignore[arg-type]


def test_all_is_well() -> None:
    finding = look()
    assert finding.ok and finding.observed == "prometheus-0: 1 of 1 target up, 1 rule, firing: nothing"


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"targets": [target(health="down", error="connection refused", pod="app-1")]}, "app app-1 is down: connection refused"),
        ({"pools": ["app", "redis"]}, "job redis has no target at all"),
        ({"rules": []}, "there is no rule"),
        (
            {"rules": [rule("Watchdog", "none"), rule("Slow", state="", health="err", error="many-to-many")]},
            "rule Slow of app fails: many-to-many",
        ),
        ({"rules": [rule("Watchdog", "none"), rule("AppDown")]}, "critical alert AppDown fires: AppDown it is"),
        ({"delay": 200.0}, "the newest samples of a job are 3 min old, at most 60 s is wanted"),
        ({"delay": None}, "nothing has been scraped yet"),
        ({"rules": [rule("Watchdog", "none", state="")]}, "alert Watchdog, which always fires, does not"),
        ({"alertmanagers": []}, "no Alertmanager is known: nobody is told of an alert"),
        ({"told": 0.0}, "no receiver has been told of anything in the last five minutes"),
        ({"told": None}, "no receiver has been told of anything in the last five minutes"),
        ({"options": {"minimum": 2}}, "1 ready Prometheus, at least 2 wanted"),
        ({"pods": ["prometheus-0", "prometheus-1"], "alertmanagers": []}, "prometheus-1: no Alertmanager is known"),
    ],
)
def test_what_is_wrong_is_named(said: dict[str, t.Any], problem: str) -> None:
    finding = look(**said)
    assert not finding.ok and problem in "; ".join(finding.details["problems"])


@pytest.mark.parametrize(
    "said",
    [
        {"targets": [target(), target(health="unknown")]},  # found a moment ago
        {"rules": [rule("Watchdog", "none"), rule("AppDown", state="pending")]},
        {"rules": [rule("Watchdog", "none"), rule("AppSlow", "warning")]},
        {"rules": [rule("Watchdog", "none"), rule("AppDown")], "options": {"severities": []}},
        {"alertmanagers": [], "told": None, "options": {"notifies": False}},
    ],
)
def test_what_is_not_wrong(said: dict[str, t.Any]) -> None:
    assert look(**said).ok


def test_what_fires_is_listed_the_worst_first() -> None:
    finding = look(
        rules=[rule("Watchdog", "none"), rule("B", "warning"), rule("A", "info"), rule("C", "critical")], options={"severities": []}
    )
    assert finding.observed.endswith("firing: A, B, C")
    assert [alert["name"] for alert in finding.details["prometheus-0"]["alerts"]] == ["C", "B", "A", "Watchdog"]


def test_an_answer_that_is_none_is_said() -> None:
    cluster = Cluster()
    cluster.http = lambda *_: Answer(503, {}, b"Service Unavailable")  # type: ignore[method-assign]
    with pytest.raises(Exception, match="answered 503: Service Unavailable"):
        prometheus.prometheus(OPTIONS, Scene(cluster, Clock()), 1e9)  # type: ignore[arg-type]


def test_panels_are_drawn_and_a_question_that_fails_is_no_check() -> None:
    series = {"rate(asked[5m])": [{"metric": {"agent": "mca"}, "values": [[3600, "0"], [3660, "2.5"], [3720, "NaN"]]}]}
    finding = look(options={"panels": [PANEL, {**PANEL, "title": "Broken", "expr": "nonsense("}]}, series=series)
    requests, broken = finding.details["panels"]
    assert finding.ok and requests["lines"] == [{"name": "agent mca", "points": [[3600.0, 0.0], [3660.0, 2.5]]}] and broken["lines"] == []
    drawn, empty = charts.chart(requests), charts.chart(broken)
    assert drawn.count("<path") == 1 and "agent mca" in drawn and "2.5 requests/s" in drawn and "nothing yet" in empty
    # From the bottom to the top, at the left, for an hour is a minute wide.
    assert 'd="M3.0 81.0L8.4 3.0"' in drawn


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0.9995, "share", "100 %"),
        (0.0123, "seconds", "12.3 ms"),
        (7200.0, "seconds", "2 h"),
        (3 * 2**30, "bytes", "3 GiB"),
        (2048.0, "bytes/s", "2 KiB/s"),
        (12345.0, "count", "12,345"),
        (1.5, "cores", "1.5 cores"),
        (0.0, "bytes", "0 B"),
    ],
)
def test_values_are_spoken(value: float, unit: str, words: str) -> None:
    assert charts.spoken(value, unit) == words
