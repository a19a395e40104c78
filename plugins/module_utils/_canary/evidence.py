# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The evidence of a canary as one self-contained page with its plots: no script, no request (private: may change without notice)."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from ansible_collections.progressive.platform.plugins.module_utils._canary.model import DONE, PROMOTED, ROLLED_BACK
from ansible_collections.progressive.platform.plugins.module_utils._health.markup import Html, el
from ansible_collections.progressive.platform.plugins.module_utils._health.style import STYLE

Record = Mapping[str, t.Any]
Check = Mapping[str, t.Any]

WIDTH, HEIGHT = 1100.0, 190.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 16.0, 14.0, 26.0
OWN = """
.plot { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 12px 14px; margin: 0 0 12px }
.plot svg { width: 100%; height: auto; display: block }
.plot text { fill: var(--soft); font-size: 12px }
.grid { stroke: var(--line); fill: none }
.one, .two { fill: none; stroke-width: 2.2 }
.one { stroke: var(--h2) } .two { stroke: var(--h0); stroke-dasharray: 6 4 }
.dot { fill: var(--good) } .dot.bad { fill: var(--bad) }
.limit { stroke: var(--bad); stroke-dasharray: 2 4; fill: none }
.key { color: var(--soft); font-size: 13px; margin: 0 0 6px }
table { border-collapse: collapse; width: 100%; font-size: 14px } th, td { text-align: left; padding: 6px 10px; border-bottom: 1px solid var(--line) }
th { color: var(--soft); font-weight: 500 } td.n { text-align: right; font-variant-numeric: tabular-nums } .scroll { overflow-x: auto }
"""
VERDICTS = {
    PROMOTED: "passed every step and has all requests",
    DONE: "passed every step; the stable version is the same now",
    ROLLED_BACK: "was rolled back and gets no request",
}


def page(record: Record) -> str:
    state, checks = record["state"], record["checks"]
    good = state["phase"] in (PROMOTED, DONE)
    title = f"{record['canary']} {VERDICTS.get(state['phase'], 'is under way: ' + state['phase'])}"
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width,initial-scale=1"),
        el("meta", http_equiv="Content-Security-Policy", content="default-src 'none'; style-src 'unsafe-inline'"),
        el("title", title),
        el("style", Html(STYLE + OWN)),
    )
    badge = el("svg", el("circle", cx=27, cy=27, r=27), el("path", d="M16 28l8 8 15-16" if good else "M19 19l16 16M35 19L19 35"),
               class_="badge" + ("" if good else " bad"), viewBox="0 0 54 54", aria_hidden="true")  # fmt: skip
    wanted = record["settings"]
    facts = {
        "Route": record["route"],
        "Stable": record["stable"],
        "Version": state["version"],
        "Weight now": f"{record['weight']} %",
        "Steps": ", ".join(f"{step} %" for step in wanted["steps"]),
        "Wanted": f"{wanted['success']:g} % success, p99 at most {wanted['p99']:g} ms, {wanted['sample']} requests a check",
        "Counted by": record["source"],
        "Began": moment(state["began"]),
    }
    body = el(
        "main",
        el("div", badge, el("div", el("h1", title), el("p", state["reason"] or f"{len(checks)} checks", class_="sub")), class_="head"),
        el("dl", [el("div", el("dt", name), el("dd", value)) for name, value in facts.items()], class_="facts"),
        el("h2", "What was seen"),
        el(
            "p",
            "Orange: the canary. Blue, dashed: the stable version. Dotted red: the limit. A dot is a check, red when it failed.",
            class_="key",
        ),
        plot("Success, %", checks, lambda side: side["success"], limit=wanted["success"]),
        plot("p99, ms", checks, lambda side: side["p99"], limit=wanted["p99"]),
        plot("Requests in a check", checks, lambda side: side["requests"]),
        weights(checks),
        el("h2", "Checks"),
        el("div", _checks(checks), class_="scroll"),
        el("h2", "What was done"),
        el("ul", [el("li", f"{moment(event['at'])}  {event['text']}") for event in record["events"]]),
    )
    return "<!doctype html>\n" + el("html", head, el("body", body), lang="en") + "\n"


def moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _checks(checks: Sequence[Check]) -> Html:
    rows = []
    for number, check in enumerate(checks, 1):
        cells = [el("td", number, class_="n"), el("td", moment(check["at"])), el("td", f"{check['weight']} %", class_="n")]
        for name in ("canary", "stable"):
            side = check[name]
            p99 = "-" if side is None or side["p99"] is None else f"{side['p99']:.0f}"
            success = "-" if side is None or not side["requests"] else f"{side['success']:.2f}"
            cells += [
                el("td", "-" if side is None else f"{side['requests']:.0f}", class_="n"),
                el("td", success, class_="n"),
                el("td", p99, class_="n"),
            ]
        rows.append(el("tr", cells, el("td", "; ".join(check["findings"]) or "passed")))
    names = (
        ["", "When", "Weight"]
        + [f"{side} {what}" for side in ("Canary", "Stable") for what in ("requests", "success, %", "p99, ms")]
        + ["Verdict"]
    )
    return el("table", el("tr", [el("th", name) for name in names]), rows)


def weights(checks: Sequence[Check]) -> Html:
    return _chart(
        "Weight, %",
        [(check["at"], float(check["weight"])) for check in checks],
        [],
        [bool(check["passed"]) for check in checks],
        None,
        100.0,
    )


def plot(title: str, checks: Sequence[Check], value: t.Callable[[Mapping[str, t.Any]], float | None], limit: float | None = None) -> Html:
    lines: dict[str, list[tuple[float, float]]] = {"canary": [], "stable": []}
    passed = []
    for check in checks:
        for name, line in lines.items():
            side = check[name]
            found = value(side) if side is not None and side["requests"] else None
            if found is not None:
                line.append((check["at"], found))
                if name == "canary":
                    passed.append(bool(check["passed"]))
    return _chart(title, lines["canary"], lines["stable"], passed, limit)


def _chart(
    title: str,
    one: Sequence[tuple[float, float]],
    two: Sequence[tuple[float, float]],
    passed: Sequence[bool],
    limit: float | None,
    top: float = 0.0,
) -> Html:
    points = [*one, *two]
    if not points:
        return el("div", el("strong", title), el("p", "nothing was seen", class_="sub"), class_="plot")
    first, last = min(x for x, _y in points), max(x for x, _y in points)
    highest = max([y for _x, y in points] + [top, limit or 0.0]) or 1.0
    inner = WIDTH - LEFT - RIGHT

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x = LEFT + inner * ((point[0] - first) / (last - first) if last > first else 0.5)
        return x, TOP + (HEIGHT - TOP - BOTTOM) * (1 - point[1] / highest)

    def line(row: Sequence[tuple[float, float]], kind: str) -> Html:
        return el("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, row)), class_=kind)

    drawn = []
    for share in (0.0, 0.5, 1.0):
        y = place((first, highest * share))[1]
        drawn += [
            el("path", d=f"M{LEFT:g} {y:.1f}H{WIDTH - RIGHT:g}", class_="grid"),
            el("text", f"{highest * share:.4g}", x=LEFT - 8, y=y + 4, text_anchor="end"),
        ]
    if limit is not None:
        drawn.append(el("path", d=f"M{LEFT:g} {place((first, limit))[1]:.1f}H{WIDTH - RIGHT:g}", class_="limit"))
    drawn += [line(two, "two"), line(one, "one")]
    for point, well in zip(one, passed, strict=True):
        x, y = place(point)
        drawn.append(el("circle", cx=x, cy=y, r=4, class_="dot" + ("" if well else " bad")))
    drawn += [
        el("text", moment(first)[11:19], x=LEFT, y=HEIGHT - 8),
        el("text", moment(last)[11:19], x=WIDTH - RIGHT, y=HEIGHT - 8, text_anchor="end"),
    ]
    return el(
        "div", el("strong", title), el("svg", drawn, viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}", role="img", aria_label=title), class_="plot"
    )
