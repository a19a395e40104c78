# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a role wants watched, as its templates ``monitoring.yaml.j2`` and ``dashboards.yaml.j2`` say it (private: may change without notice)."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterable, Iterator, Mapping

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

try:
    import promql_parser
except ImportError:  # a rule with a typo is then Prometheus' own to refuse, which keeps it from starting
    promql_parser = None  # type: ignore[assignment]

Item = dict[str, t.Any]

TARGET: Item = {
    "job": {"type": "str", "required": True},
    # pods: by labels and a named port of theirs. nodes: the kubelets. apiservers: the cluster's own Service.
    "kind": {"type": "str", "default": "pods", "choices": ["pods", "nodes", "apiservers"]},
    "namespace": {"type": "str", "default": ""},
    "selector": {"type": "dict", "default": {}},
    "port": {"type": "str", "default": "metrics"},
    # Where the pod with that port is asked instead: a sidecar answers for it on a port that no container names.
    "number": {"type": "int", "default": 0},
    "path": {"type": "str", "default": "/metrics"},
    "scheme": {"type": "str", "default": "http", "choices": ["http", "https"]},
    "verify": {"type": "bool", "default": True},
    "interval": {"type": "str", "default": ""},
    # A scrape with more samples fails as a whole: a label with too many values is seen here, and not in the memory of Prometheus.
    "samples": {"type": "int", "default": 10000},
    "keep": {"type": "str", "default": ""},
    "drop": {"type": "str", "default": ""},
    "labels": {"type": "dict", "default": {}},
    "honor_labels": {"type": "bool", "default": False},
    # An exporter that asks the pods in Prometheus' place: where it is, and what it is to be told; {pod} is the pod's name.
    "through": {
        "type": "dict",
        "options": {
            "address": {"type": "str", "required": True},
            "target": {"type": "str", "required": True},
            "path": {"type": "str", "default": "/scrape"},
        },
    },
}

RULE: Item = {
    "alert": {"type": "str"},
    "record": {"type": "str"},
    "expr": {"type": "str", "required": True},
    "for": {"type": "str", "default": ""},
    "severity": {"type": "str", "choices": ["critical", "warning", "info", "none"]},
    "summary": {"type": "str"},
    "means": {"type": "str"},
    "do": {"type": "str"},
    "labels": {"type": "dict", "default": {}},
}
OF_ALERTS = ("severity", "summary", "means", "do")

# Units of panels, and Grafana's word for each. Money is an ISO 4217 code by hour or month: EUR/month.
UNITS = {
    "count": "short",
    "share": "percentunit",
    "seconds": "s",
    "bytes": "bytes",
    "bytes/s": "Bps",
    "requests/s": "reqps",
    "operations/s": "ops",
    "cores": "suffix: cores",
}
MONEY = re.compile(r"[A-Z]{3}/(hour|month)")

PANEL: Item = {
    "title": {"type": "str", "required": True},
    "unit": {"type": "str", "required": True},
    "kind": {"type": "str", "default": "line", "choices": ["line", "number", "bars"]},
    # One expression, or several by what is written beside each; {pod} there is a label.
    "expr": {"type": "str"},
    "legend": {"type": "str", "default": ""},
    "queries": {"type": "dict"},
    "means": {"type": "str", "default": ""},
    "warning": {"type": "float"},
    "bad": {"type": "float"},
}
DASHBOARD: Item = {
    "name": {"type": "str", "required": True},
    "title": {"type": "str", "required": True},
    "rows": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "title": {"type": "str", "required": True},
            "panels": {"type": "list", "elements": "dict", "required": True, "options": PANEL},
        },
    },
}

DURATION = re.compile(r"(\d+y)?(\d+w)?(\d+d)?(\d+h)?(\d+m)?(\d+s)?(\d+ms)?(?<=[a-z])")
# {pod} and {value:humanize} in a summary, which Jinja leaves alone.
PLACEHOLDER = re.compile(r"\{(\w+)(?::(\w+))?\}")


class Component(t.NamedTuple):
    """A role's wishes, complete."""

    name: str
    targets: list[Item]
    rules: list[Item]
    dashboards: list[Item]

    @property
    def alerts(self) -> list[Item]:
        return [rule for rule in self.rules if rule["alert"]]


def read(wishes: Mapping[str, t.Any]) -> list[Component]:
    """The components by role. Raises PlatformError with everything that is wrong in all of them."""
    problems: list[str] = []
    found = []
    for name, wish in wishes.items():
        if not isinstance(wish, Mapping) or set(wish) - {"targets", "rules", "dashboards"}:
            problems.append(f"role {name} says something else than targets, rules and dashboards")
            continue
        targets = [_complete(TARGET, entry, f"{name}: target {_label(entry, 'job')}", problems) for entry in wish.get("targets") or []]
        rules = [_complete(RULE, entry, f"{name}: rule {_label(entry, 'alert', 'record')}", problems) for entry in wish.get("rules") or []]
        problems += [f"{name}: {problem}" for rule in rules if rule for problem in _nonsense(rule)]
        boards = [
            _complete(DASHBOARD, entry, f"{name}: dashboard {_label(entry, 'name')}", problems) for entry in wish.get("dashboards") or []
        ]
        problems += [f"{name}: dashboard {board['name']}: {problem}" for board in boards if board for problem in _unseen(board)]
        found.append(Component(name, targets, rules, boards))
    if not problems:
        problems += _twice(found)
    if problems:
        raise PlatformError("What is to be watched is not valid: " + "; ".join(problems) + ".", problems=problems)
    return found


def queries(wanted: Item) -> dict[str, str]:
    """A panel's expressions by what is written beside each."""
    if wanted["expr"]:
        return {wanted["legend"] or wanted["title"]: str(wanted["expr"]).strip()}
    return {str(legend): str(expression).strip() for legend, expression in wanted["queries"].items()}


def spoken(summary: str) -> str:
    """``Pod {pod}: {value:humanize}`` in the templates of Prometheus."""

    def filled(match: re.Match[str]) -> str:
        name, function = match.groups()
        variable = "$value" if name == "value" else f"$labels.{name}"
        return "{{ " + variable + (f" | {function}" if function else "") + " }}"

    return PLACEHOLDER.sub(filled, summary)


def _complete(spec: Item, entry: t.Any, label: str, problems: list[str]) -> Item:
    if not isinstance(entry, Mapping):
        problems.append(f"{label} is {type(entry).__name__}, not a mapping")
        return {}
    outcome = ArgumentSpecValidator(spec).validate(dict(entry))
    problems += [f"{label}: {message}" for message in outcome.error_messages]
    return {} if outcome.error_messages else dict(outcome.validated_parameters)


def _nonsense(rule: Item) -> Iterator[str]:
    """What types cannot say."""
    if bool(rule["alert"]) == bool(rule["record"]):
        yield f"a rule is an alert or a record ({rule['expr']})"
    elif rule["alert"]:
        missing = [key for key in OF_ALERTS if not rule[key]]
        if missing:
            yield f"alert {rule['alert']} has no {', '.join(missing)}"
    name = f"rule {rule['alert'] or rule['record'] or '?'}"
    yield from _misspelt(name, rule["expr"])
    if rule["for"] and not DURATION.fullmatch(rule["for"]):
        yield f"{name} fires for {rule['for']}, which is no time like 5m or 1h30m"


def _misspelt(name: str, expression: str) -> Iterator[str]:
    """What Prometheus would not understand, where its grammar is here (PyPI: promql-parser)."""
    if promql_parser is None:
        return
    try:
        promql_parser.parse(expression)
    except ValueError as error:
        yield f"{name} is no PromQL: {' '.join(str(error).split())} ({' '.join(expression.split())})"


def _unseen(board: Item) -> Iterator[str]:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", board["name"]) or len(board["name"]) > 30:
        yield "a name has at most 30 small letters, digits and dashes"
    for panel in (panel for row in board["rows"] for panel in row["panels"]):
        if bool(panel["expr"]) == bool(panel["queries"]):
            yield f"panel {panel['title']} has either expr or queries"
        else:
            for legend, expression in queries(panel).items():
                yield from _misspelt(f"panel {panel['title']}, {legend},", expression)
        if panel["unit"] not in UNITS and not MONEY.fullmatch(panel["unit"]):
            yield f"panel {panel['title']} has unit {panel['unit']}; there are {', '.join(UNITS)}, and money (EUR/month)"


def _twice(components: Iterable[Component]) -> Iterator[str]:
    owners: dict[str, str] = {}
    boards: dict[str, str] = {}
    for component in components:
        for board in component.dashboards:
            if (owner := boards.setdefault(board["name"], component.name)) != component.name:
                yield f"dashboard {board['name']} is of role {owner} and of role {component.name}"
        for target in component.targets:
            owner = owners.setdefault(target["job"], component.name)
            if owner != component.name:
                yield f"job {target['job']} is of role {owner} and of role {component.name}"


def _label(entry: t.Any, *keys: str) -> str:
    return str(next((entry[key] for key in keys if entry.get(key)), "?")) if isinstance(entry, Mapping) else "?"
