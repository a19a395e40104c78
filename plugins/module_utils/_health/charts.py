# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Small charts of what Prometheus has seen in the last hour, for the report's page (private: may change without notice).

A line has the hue of its place in the list below it, so that colours are never the only way to tell one from another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._health.markup import Html, el
from ansible_collections.progressive.platform.plugins.module_utils._health.model import age
from ansible_collections.progressive.platform.plugins.module_utils._health.style import HUES
from ansible_collections.progressive.platform.plugins.module_utils._monitoring.model import Item

WIDTH, HEIGHT, PAD = 330.0, 84.0, 3.0
SHOWN = 6  # lines that are named; the others are drawn

Point = Sequence[float]


def chart(panel: Item) -> Html:
    """A card: what it is, how it went, and what it is now."""
    lines = panel["lines"]
    if not lines:
        return el("figure", el("figcaption", panel["title"]), el("p", "nothing yet", class_="none"), class_="chart")
    if panel["kind"] == "number":
        value = lines[0]["points"][-1][1]
        return el("figure", el("figcaption", panel["title"]), el("p", spoken(value, panel["unit"]), class_="figure"), class_="chart")
    top = max((point[1] for line in lines for point in line["points"]), default=0.0)
    drawing = el(
        "svg",
        el("title", f"{panel['title']}, at most {spoken(top, panel['unit'])}"),
        [
            el("path", d=path(line["points"], panel["start"], panel["end"], top), class_=f"hue{index % HUES}")
            for index, line in enumerate(lines)
        ],
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="img",
        preserveAspectRatio="none",
    )
    named = [
        el("li", el("span", class_=f"swatch hue{index % HUES}"), f"{line['name']} ", el("b", spoken(line["points"][-1][1], panel["unit"])))
        for index, line in enumerate(lines[:SHOWN])
    ]
    if len(lines) > SHOWN:
        named.append(el("li", f"and {len(lines) - SHOWN} more"))
    return el("figure", el("figcaption", panel["title"]), drawing, el("ul", named), class_="chart")


def path(points: Sequence[Point], start: float, end: float, top: float) -> str:
    """From 0 at the bottom to the highest value of the panel; a gap of a minute or two is drawn over, a start in the middle is seen as one."""
    span, scale = max(end - start, 1.0), top if top > 0 else 1.0
    placed = [
        (PAD + (WIDTH - 2 * PAD) * (moment - start) / span, HEIGHT - PAD - (HEIGHT - 2 * PAD) * max(value, 0.0) / scale)
        for moment, value in points
    ]
    if len(placed) == 1:
        placed.append((placed[0][0] + 1, placed[0][1]))
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)


def spoken(value: float, unit: str) -> str:
    """A value with its unit, as people say it."""
    if unit == "share":
        return f"{value * 100:.3g} %"
    if unit == "seconds":
        return f"{value * 1000:.3g} ms" if value < 1 else age(value) if value >= 60 else f"{value:.3g} s"
    if unit in ("bytes", "bytes/s"):
        power = min(int(math.log(value, 1024)), 5) if value >= 1 else 0
        return f"{value / 1024**power:.3g} {['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'][power]}{unit.removeprefix('bytes')}"
    number = f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return number if unit == "count" else f"{number} {unit}"


def named(legend: str, labels: Mapping[str, str]) -> str:
    """``agent {agent_type}`` with the labels of a series."""
    for label, value in labels.items():
        legend = legend.replace(f"{{{label}}}", value)
    return legend
