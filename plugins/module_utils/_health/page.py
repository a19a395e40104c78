# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as one self-contained page: no script, no request, readable in light and dark (private: may change without notice)."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from ansible_collections.progressive.platform.plugins.module_utils._health import charts, drawing
from ansible_collections.progressive.platform.plugins.module_utils._health.markup import Child, Html, el, join
from ansible_collections.progressive.platform.plugins.module_utils._health.model import plural
from ansible_collections.progressive.platform.plugins.module_utils._health.style import HUES, STYLE

Entry = Mapping[str, t.Any]
Report = Mapping[str, t.Any]

TICK, CROSS, DASH = "M5 9.5l2.8 2.8L13 6.8", "M6 6l6 6M12 6l-6 6", "M5.5 9h7"


def page(report: Report) -> str:
    """The whole document. What is red comes first; everything else is there to be opened."""
    name = report["cluster"]
    verdict = "healthy" if report["ok"] else "not healthy"
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width,initial-scale=1"),
        el("meta", http_equiv="Content-Security-Policy", content="default-src 'none'; style-src 'unsafe-inline'"),
        el("title", f"{name} is {verdict}"),
        el("style", Html(STYLE)),
    )
    body = el(
        "main", _header(report), _wrong(report["checks"]), _where(report), _redis(report), _lately(report), _checks(report), _footer(report)
    )
    return "<!doctype html>\n" + el("html", head, el("body", body), lang="en") + "\n"


def _header(report: Report) -> Html:
    checks = report["checks"]
    red = [check for check in checks if not check["ok"]]
    skipped = sum(1 for check in checks if check.get("skipped"))
    badge = el("svg", el("circle", cx=27, cy=27, r=27), el("path", d="M16 28l8 8 15-16" if report["ok"] else "M19 19l16 16M35 19L19 35"),
               class_="badge" + ("" if report["ok"] else " bad"), viewBox="0 0 54 54", aria_hidden="true")  # fmt: skip
    if not checks:
        sentence = "Nothing was checked."
    elif red:
        sentence = f"{plural(len(red), 'check')} of {len(checks)} {'is' if len(red) == 1 else 'are'} red."
    else:
        sentence = f"All {plural(len(checks) - skipped, 'check')} are green."
    if skipped:
        sentence += f" {skipped} not run in check mode."
    facts = {
        "Checked": _moment(report["time"]),
        "Took": seconds(report["seconds"]),
        "Kubernetes": report["versions"].get("kubernetes") or "not reached",
        "Redis": report["versions"].get("redis", ""),
        "Collection": report["versions"].get("collection", ""),
        "ansible-core": report["versions"].get("ansible", ""),
    }
    return join(
        [
            el("div", badge, el("div", el("h1", f"{report['cluster']} is {'healthy' if report['ok'] else 'not healthy'}"),
                                el("p", sentence, class_="sub")), class_="head"),
            el("dl", [el("div", el("dt", key), el("dd", value)) for key, value in facts.items() if value], class_="facts"),
        ]
    )  # fmt: skip


def _wrong(checks: Sequence[Entry]) -> Child:
    """A card a cause: checks that are red for the same reason share one."""
    shared: dict[str, list[Entry]] = {}
    for check in checks:
        if not check["ok"]:
            shared.setdefault(check["message"], []).append(check)
    cards = []
    for alike in shared.values():
        problems = (alike[0].get("details") or {}).get("problems") or [alike[0]["message"]]
        said = el("p", problems[0]) if len(problems) == 1 else el("ul", [el("li", problem) for problem in problems])
        pair = el("p", f"expected {alike[0]['expected']} · observed {alike[0]['observed']}", class_="pair") if len(alike) == 1 else None
        cards.append(el("section", el("h3", ", ".join(title(check) for check in alike)), said, pair, class_="wrong"))
    return [el("h2", "What is wrong"), cards] if cards else None


def _where(report: Report) -> Child:
    topology = report.get("topology") or {}
    if not topology.get("zones"):
        return None
    zones = topology["zones"]
    nodes = sum(len(zone["nodes"]) for zone in zones)
    pods = sum(len(node["pods"]) for zone in zones for node in zone["nodes"]) + len(topology["homeless"])
    counts = f"{plural(len(zones), 'zone')}, {plural(nodes, 'node')}, {plural(pods, 'pod')}"
    items = [("dot ok", "ready"), ("dot waiting", "not ready"), ("dot bad", "failing"), ("dot done", "completed")]
    if topology["redis"]:
        items += [("master hue0", "Redis master, in its shard's colour"), ("replica hue0", "replica")]
    legend = el("div", [el("span", el("svg", el("circle", cx=6, cy=6, r=4.6, class_=kind), viewBox="0 0 12 12", aria_hidden="true"), text)
                        for kind, text in items], class_="legend")  # fmt: skip
    return [el("h2", "Where it runs", el("small", counts)), drawing.map_of(topology), legend]


def _redis(report: Report) -> Child:
    clusters = (report.get("topology") or {}).get("redis") or []
    return [_ring(cluster) for cluster in clusters]


def _lately(report: Report) -> Child:
    """What the overview's dashboard shows, drawn from the same questions to the same Prometheus."""
    panels = [panel for check in report["checks"] for panel in (check.get("details") or {}).get("panels") or []]
    return (
        [
            el("h2", "How it went", el("small", "the last hour, as Prometheus saw it")),
            el("div", [charts.chart(panel) for panel in panels], class_="charts"),
        ]
        if panels
        else None
    )


def _ring(cluster: Entry) -> Html:
    rows = []
    for hue, shard in enumerate(cluster["shards"]):
        master = next((member for member in shard["members"] if member["master"]), None)
        ranges = ", ".join(f"{first}-{last}" if first != last else str(first) for first, last in shard["slots"]) or "none"
        copies = [_copy(member) for member in shard["members"] if not member["master"]]
        lead = el("strong", master["pod"]) if master else el("span", "no master", class_="bad-word")
        place = el("span", f" on {master['node']}, {master['zone']}" if master and master["node"] else "")
        rows.append(
            el("div", el("span", class_=f"swatch hue{hue % HUES}"),
               el("div", el("p", lead, place, el("span", f"slots {ranges}", class_="slots")),
                  el("p", _commas(copies) if copies else el("span", "no replica", class_="bad-word"), class_="copies")), class_="shard")
        )  # fmt: skip
    return join([el("h2", f"Redis Cluster {cluster['name']}", el("small", plural(len(cluster["shards"]), "shard"))),
                 el("section", drawing.ring_of(cluster), el("div", rows, class_="shards"), class_="card redis")])  # fmt: skip


def _copy(member: Entry) -> Html:
    place = f" on {member['node']}, {member['zone']}" if member["node"] else ""
    down = el("span", " link down", class_="bad-word") if not member["ok"] else None
    return el("span", f"replica {member['pod']}{place}", down)


def _commas(items: Sequence[Html]) -> list[Child]:
    return [[", " if index else "", item] for index, item in enumerate(items)]


def _checks(report: Report) -> Child:
    total = max(float(report["seconds"]), 0.001)
    groups: dict[str, list[Entry]] = {}
    for check in report["checks"]:
        groups.setdefault(check["component"] or "platform", []).append(check)
    # Red components first, then in the order they were asked for; the same inside a component.
    ordered = sorted(groups.items(), key=lambda item: all(check["ok"] for check in item[1]))
    sections = []
    for component, checks in ordered:
        good = sum(1 for check in checks if check["ok"])
        rows = [_row(check, total) for check in sorted(checks, key=lambda check: bool(check["ok"]))]
        sections.append(el("section", el("header", component, el("span", f"{good} of {len(checks)} ok")), rows, class_="card group"))
    return [el("h2", "Every check", el("small", "open one for what was expected and seen; bars show when it ran")), sections]


def _row(check: Entry, total: float) -> Html:
    state = "skip" if check.get("skipped") else "ok" if check["ok"] else "bad"
    path = {"ok": TICK, "bad": CROSS, "skip": DASH}[state]
    mark = el("svg", el("title", {"ok": "ok", "bad": "red", "skip": "not run"}[state]), el("circle", cx=9, cy=9, r=9), el("path", d=path),
              class_=f"mark {state}", viewBox="0 0 18 18")  # fmt: skip
    start = min(max(check["started"] / total, 0.0), 1.0) * 100
    length = max(1.5, min(check["seconds"] / total * 100, 100 - start))
    track = el(
        "svg",
        el("rect", x=0, y=0, width=100, height=8, rx=3, class_="track"),
        el("rect", x=min(start, 98.5), y=0, width=length, height=8, rx=2, class_="span"),
        class_="bar",
        viewBox="0 0 100 8",
        preserveAspectRatio="none",
        aria_hidden="true",
    )
    summary = el(
        "summary",
        mark,
        el("span", check["name"], class_="name"),
        el("span", check["message"] or check["observed"], class_="says"),
        track,
        el("span", seconds(check["seconds"]), class_="time"),
    )
    facts = {"expected": check["expected"], "observed": check["observed"], "kind": check["kind"]}
    if check["attempts"] > 1:
        facts["looked"] = f"{check['attempts']} times"
    listing = el("dl", [[el("dt", key), el("dd", value)] for key, value in facts.items()])
    return el(
        "details",
        summary,
        el("div", listing, _details(check.get("details") or {}), class_="more"),
        class_="red" if not check["ok"] else None,
    )


def _details(details: Entry) -> list[Child]:
    """Lists of objects as tables, lists of sentences as lists, plain objects as pairs."""
    drawn: list[Child] = []
    for key, value in details.items():
        if key in ("topology", "panels") or value in (None, "", [], {}):
            continue
        if isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
            drawn.append(_table(key, value))
        elif isinstance(value, list):
            drawn.append(el("ul", [el("li", str(item)) for item in value]))
        elif isinstance(value, Mapping):
            drawn.append(_table("", [{key: name, "": _plain(item)} for name, item in value.items()]))
        else:
            drawn.append(el("p", f"{key}: {value}"))
    return drawn


def _table(_key: str, rows: Sequence[Entry]) -> Html:
    columns = list(dict.fromkeys(column for row in rows for column in row))
    head = el("tr", [el("th", column) for column in columns])
    return el("table", head, [el("tr", [_cell(row.get(column)) for column in columns]) for row in rows])


def _cell(value: t.Any) -> Html:
    if isinstance(value, bool):
        return el("td", "yes" if value else "no", class_=None if value else "no")
    return el("td", _plain(value))


def _plain(value: t.Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_plain(item)}" for key, item in value.items())
    if isinstance(value, Iterable) and not isinstance(value, str):
        return ", ".join(_plain(item) for item in value)
    return "" if value is None else str(value)


def _footer(report: Report) -> Html:
    return el("footer", "Made by progressive.platform.health; the same results are in health.json and health.xml beside this page.")


def title(check: Entry) -> str:
    """``component: name``, once when the name says it already."""
    return check["name"] if not check["component"] or check["component"] in check["name"] else f"{check['component']}: {check['name']}"


def seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def _moment(text: str) -> str:
    return datetime.fromisoformat(text).strftime("%-d %B %Y, %H:%M:%S UTC")
