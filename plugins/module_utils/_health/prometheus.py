# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of monitoring: what Prometheus says of its targets, rules, alerts and of the way to a receiver (private: may change without notice)."""

from __future__ import annotations

import contextlib
import math
import typing as t
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote_plus

from ansible_collections.progressive.platform.plugins.module_utils._health.charts import named
from ansible_collections.progressive.platform.plugins.module_utils._health.cluster import Endpoint
from ansible_collections.progressive.platform.plugins.module_utils._health.model import Finding, Options, age, plural, verdict
from ansible_collections.progressive.platform.plugins.module_utils._health.scene import Scene
from ansible_collections.progressive.platform.plugins.module_utils._monitoring.model import queries
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

Said = Mapping[str, t.Any]

LOOKED_BACK, STEP = 3600, 60  # seconds that the page's charts show
ALWAYS = "Watchdog"  # the alert that fires as long as rules are evaluated
# Of each job: a target that is gone, and was not said to be while Prometheus was away, is seen for five minutes more.
DELAY = "max(time() - max by (job) (timestamp(up)))"
# The receiver of the alert that always fires is told every minute.
TOLD = "sum(increase(alertmanager_notifications_total[5m])) - sum(increase(alertmanager_notifications_failed_total[5m]))"


def prometheus(options: Options, scene: Scene, until: float) -> Finding:
    """Every Prometheus reaches all it scrapes and evaluates all its rules; no alert of the named severities fires; Alertmanager tells a receiver."""
    expected = f"every target up, every rule evaluated, samples younger than {age(options['delay'])}, no alert that is " + (
        " or ".join(options["severities"]) or "of any severity"
    )
    servers = scene.cluster.endpoints(options["namespace"], options["service"], options["port"])
    problems: list[str] = []
    seen: list[str] = []
    details: dict[str, t.Any] = {}
    for at in servers:
        said = Server(scene, at, until)
        targets, rules = said.ask("targets?state=active"), said.ask("rules")
        wrong = target_problems(targets["activeTargets"], said.ask("scrape_pools")["scrapePools"])
        wrong += rule_problems(rules["groups"])
        alerts = firing(rules["groups"])
        wrong += alert_problems(alerts, options["severities"])
        wrong += delay_problems(said.value(DELAY), options["delay"])
        if options["notifies"]:
            wrong += way_problems(alerts, said.ask("alertmanagers")["activeAlertmanagers"], said.value(TOLD))
        # Servers that do the same say the same.
        problems += wrong if len(servers) == 1 else [f"{at.pod}: {problem}" for problem in wrong]
        others = [alert["name"] for alert in alerts if alert["name"] != ALWAYS]
        up = sum(1 for target in targets["activeTargets"] if target["health"] == "up")
        count = sum(len(group["rules"]) for group in rules["groups"])
        seen.append(
            f"{at.pod}: {up} of {plural(len(targets['activeTargets']), 'target')} up, {plural(count, 'rule')}, firing: "
            + (", ".join(sorted(set(others))) or "nothing")
        )
        if "panels" not in details and options["panels"]:
            details["panels"] = said.panels(options["panels"])
        details[at.pod] = {"alerts": alerts, "targets": table(targets["activeTargets"])}
    if len(servers) < options["minimum"]:
        problems.append(f"{plural(len(servers), 'ready Prometheus')}, at least {options['minimum']} wanted")
    return verdict(expected, "; ".join(seen), problems, details)


class Server:
    """A Prometheus that is asked through the API server."""

    def __init__(self, scene: Scene, at: Endpoint, until: float) -> None:
        self.scene, self.at, self.until = scene, at, until

    def ask(self, path: str) -> Said:
        answer = self.scene.cluster.http(self.at, "GET", f"/api/v1/{path}", self.until)
        body = answer.json()
        if not isinstance(body, Mapping) or body.get("status") != "success":
            raise PlatformError(f"{self.at.pod}: GET /api/v1/{path} answered {answer.status}: {answer.excerpt()}")
        data: Said = body["data"]
        return data

    def value(self, expression: str) -> float | None:
        """The only value of an expression; None when there is none."""
        found = self.ask(f"query?query={quote_plus(expression)}")["result"]
        return float(found[0]["value"][1]) if found else None

    def panels(self, wanted: Iterable[Options]) -> list[dict[str, t.Any]]:
        """How each panel of a dashboard went. What cannot be asked is shown as nothing: a chart is no check."""
        end = self.value("vector(time())") or 0.0
        return [
            {
                **{key: panel[key] for key in ("title", "unit", "kind")},
                "start": end - LOOKED_BACK,
                "end": end,
                "lines": [line for legend, expression in queries(dict(panel)).items() for line in self.lines(legend, expression, end)],
            }
            for panel in wanted
        ]

    def lines(self, legend: str, expression: str, end: float) -> list[dict[str, t.Any]]:
        found: Sequence[Said] = []
        with contextlib.suppress(PlatformError):
            path = f"query_range?query={quote_plus(expression)}&start={end - LOOKED_BACK:.0f}&end={end:.0f}&step={STEP}"
            found = self.ask(path)["result"]
        lines = []
        for series in found:
            points = [[float(moment), float(value)] for moment, value in series["values"]]
            if points := [point for point in points if math.isfinite(point[1])]:
                lines.append({"name": named(legend, series["metric"]), "points": points})
        return lines


def target_problems(targets: Sequence[Said], pools: Iterable[str]) -> list[str]:
    """What is not scraped; a target that was found a moment ago has not been asked yet."""
    problems = [
        f"{name_of(target)} is down: {target.get('lastError') or 'no reason given'}" for target in targets if target["health"] == "down"
    ]
    found = {target["scrapePool"] for target in targets}
    empty = [pool for pool in pools if pool not in found]
    return problems + [f"job {pool} has no target at all" for pool in empty]


def rule_problems(groups: Sequence[Said]) -> list[str]:
    rules = [(group, rule) for group in groups for rule in group["rules"]]
    if not rules:
        return ["there is no rule"]
    return [
        f"rule {rule['name']} of {group['name']} fails: {rule.get('lastError', '')}" for group, rule in rules if rule["health"] == "err"
    ]


def firing(groups: Sequence[Said]) -> list[dict[str, str]]:
    """Alerts that fire, the worst first."""
    found = [
        {
            "name": rule["name"],
            "severity": alert["labels"].get("severity", ""),
            "summary": alert["annotations"].get("summary", ""),
            "since": alert.get("activeAt", ""),
        }
        for group in groups
        for rule in group["rules"]
        for alert in rule.get("alerts") or []
        if alert["state"] == "firing"
    ]
    order = ("critical", "warning", "info")
    return sorted(found, key=lambda alert: (order.index(alert["severity"]) if alert["severity"] in order else len(order), alert["name"]))


def alert_problems(alerts: Sequence[Said], severities: Sequence[str]) -> list[str]:
    return [f"{alert['severity']} alert {alert['name']} fires: {alert['summary']}" for alert in alerts if alert["severity"] in severities]


def delay_problems(delay: float | None, limit: float) -> list[str]:
    if delay is None:
        return ["nothing has been scraped yet"]
    return [f"the newest samples of a job are {age(delay)} old, at most {age(limit)} is wanted"] if delay > limit else []


def way_problems(alerts: Sequence[Said], alertmanagers: Sequence[Said], told: float | None) -> list[str]:
    """The whole way of an alert: it fires, an Alertmanager is known, and a receiver has taken it lately."""
    problems = []
    if ALWAYS not in [alert["name"] for alert in alerts]:
        problems.append(f"alert {ALWAYS}, which always fires, does not")
    if not alertmanagers:
        problems.append("no Alertmanager is known: nobody is told of an alert")
    elif not told or told <= 0:
        problems.append(
            "no receiver has been told of anything in the last five minutes, although an alert fires that is told of every minute"
        )
    return problems


def table(targets: Sequence[Said]) -> list[dict[str, t.Any]]:
    return [
        {
            "job": target["scrapePool"],
            "target": target["labels"].get("instance", ""),
            "health": target["health"],
            "error": target.get("lastError", ""),
        }
        for target in targets
    ]


def name_of(target: Said) -> str:
    labels = target["labels"]
    return f"{target['scrapePool']} {labels.get('pod') or labels.get('node') or labels.get('instance', '')}"
