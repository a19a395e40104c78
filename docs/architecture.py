# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Draws docs/architecture.svg; ``make docs`` runs it. Standard library only, so that the same input gives the same bytes everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

DRAWING = Path(__file__).with_name("architecture.svg")
WIDTH, ROW, GAP, PAD, HEAD = 960, 54, 14, 16, 26  # pixels
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1b1f24}.name{font-weight:600}.small{font-size:11px;fill:#57606a}"
    ".room{fill:#f6f8fa;stroke:#d0d7de}.box{fill:#fff;stroke:#8c959f}.option{stroke-dasharray:4 3}.way{stroke:#57606a;fill:none;marker-end:url(#head)}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#8d96a0}.room{fill:#161b22;stroke:#30363d}.box{fill:#0d1117;stroke:#6e7681}"
    ".way{stroke:#8d96a0}}"
)


class Box(NamedTuple):
    """``option``: off by default."""

    name: str
    what: str
    option: bool = False


# A room a line, from what a person writes down to what runs; each leads to the next.
ROOMS: tuple[tuple[str, tuple[Box, ...]], ...] = (
    ("What you write", (Box("inventories/<environment>", "a host is a cluster; variables say what it should be"),)),
    (
        "What every component does",
        (
            Box("preflight", "refuses early"),
            Box("deploy", "renders and applies"),
            Box("converge", "what manifests cannot say"),
            Box("wait", "by watch, fails fast"),
            Box("verify", "the same checks"),
        ),
    ),
    (
        "What the modules share: module_utils",
        (
            Box("_kube", "client, apply, watch, drift"),
            Box("_redis _postgresql _mongodb", "observe, plan, execute"),
            Box("_health", "checks and report"),
            Box("_preflight", "rules of the inventory"),
        ),
    ),
    (
        "Kubernetes: the edge and the services",
        (
            Box("gateway", "TLS, routes, tokens", True),
            Box("app", "HTTP 3000, metrics 9090"),
            Box("agents", "MCA, NPA, WPA: 8000, gRPC 9000"),
            Box("operator", "Agents as objects", True),
        ),
    ),
    (
        "Kubernetes: the data",
        (
            Box("postgresql", "Patroni, a primary and replicas"),
            Box("redis_cluster", "masters and replicas over zones"),
            Box("mongodb", "replica set, or FerretDB", True),
        ),
    ),
    (
        "Kubernetes: what surrounds them",
        (
            Box("baseline", "namespaces, quotas, policies"),
            Box("istio", "mutual TLS", True),
            Box("monitoring", "Prometheus, alerts", True),
            Box("tracing", "spans, Jaeger", True),
            Box("autoscaling", "by requests", True),
        ),
    ),
)


def drawing() -> str:
    """The whole file."""
    height = PAD + sum(HEAD + ROW + 2 * PAD + GAP for _room in ROOMS) + 20
    head = (
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#57606a"/></marker>'
    )
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="The parts of the platform">'
    note = f'<text class="small" x="{PAD}" y="{height - 10}">Dashed: off by default.</text>'
    return "\n".join([opening, f"<style>{STYLE}</style><defs>{head}</defs>", *_rooms(), note, "</svg>"]) + "\n"


def _rooms() -> Iterator[str]:
    top = PAD
    for number, (title, boxes) in enumerate(ROOMS):
        height = HEAD + ROW + PAD
        if number:
            yield f'<path class="way" d="M{WIDTH // 2} {top - GAP - PAD}V{top - 3}"/>'
        yield f'<rect class="room" x="{PAD}" y="{top}" width="{WIDTH - 2 * PAD}" height="{height}" rx="8"/>'
        yield f'<text class="small" x="{2 * PAD}" y="{top + 18}">{escape(title)}</text>'
        width = (WIDTH - 4 * PAD - GAP * (len(boxes) - 1)) / len(boxes)
        for place, box in enumerate(boxes):
            left = 2 * PAD + place * (width + GAP)
            look = "box option" if box.option else "box"
            yield f'<rect class="{look}" x="{left:.0f}" y="{top + HEAD}" width="{width:.0f}" height="{ROW}" rx="6"/>'
            yield f'<text class="name" x="{left + 10:.0f}" y="{top + HEAD + 22}">{escape(box.name)}</text>'
            yield f'<text class="small" x="{left + 10:.0f}" y="{top + HEAD + 40}">{escape(box.what)}</text>'
        top += height + GAP + PAD


if __name__ == "__main__":
    DRAWING.write_text(drawing(), encoding="utf-8")
    print(DRAWING.name)
