# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Draws the topology as SVG: zones, nodes, pods, and Redis as a ring of slots (private: may change without notice).

Colours are CSS classes, so that a drawing follows the page's light or dark theme. A shard has one of eight hues, the same in the ring,
in its list and at its pods; meaning never rests on colour alone: masters are filled, replicas hollow, bad pods carry their reason.
"""

from __future__ import annotations

import math
import typing as t
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.progressive.platform.plugins.module_utils._health.markup import Html, el
from ansible_collections.progressive.platform.plugins.module_utils._health.model import plural
from ansible_collections.progressive.platform.plugins.module_utils._health.style import HUES
from ansible_collections.progressive.platform.plugins.module_utils._health.topology import Topology

WIDTH = 1120.0
GAP, PAD = 16.0, 14.0
ZONE_HEAD, NODE_HEAD = 40.0, 38.0
CHIP, CHIP_GAP = 24.0, 6.0
SQUARE, SQUARE_GAP = 13.0, 4.0
ZONES_IN_A_ROW = 3
LETTER = 6.9  # width of a letter in a chip; fonts differ, so the widest common one (DejaVu Sans) counts
TROUBLED = ("bad", "waiting")
NAMED = 90  # pods up to which each has a chip with its name; a larger platform is drawn as squares with tooltips
SLOTS = 16384

Pod = Mapping[str, t.Any]


Roles = dict[tuple[str, str], tuple[int, bool]]
"""(namespace, pod) -> (hue of its shard, is master)."""


class Box(t.NamedTuple):
    """Where something is drawn: its upper left corner and its size."""

    x: float
    y: float
    width: float
    height: float


def map_of(topology: Topology) -> Html:
    """The whole platform: a panel a zone, a card a node, a chip a pod."""
    zones = topology["zones"]
    named = sum(len(node["pods"]) for zone in zones for node in zone["nodes"]) <= NAMED
    pen = _Pen(shard_roles(topology["redis"]), named)
    columns = max(1, min(ZONES_IN_A_ROW, len(zones)))
    width = (WIDTH - GAP * (columns - 1)) / columns
    drawn: list[Html] = []
    top = 0.0
    for start in range(0, len(zones), columns):
        row = zones[start : start + columns]
        height = max(pen.zone_height(zone, width) for zone in row)
        drawn += [pen.zone(zone, Box((width + GAP) * index, top, width, height)) for index, zone in enumerate(row)]
        top += height + GAP
    if topology["homeless"]:
        nowhere = {"name": "on no node", "ready": False, "pool": "", "pods": topology["homeless"]}
        height = pen.node_height(nowhere, WIDTH)
        drawn.append(pen.node(nowhere, Box(0, top, WIDTH, height)))
        top += height + GAP
    return el("svg", drawn, viewBox=f"0 0 {WIDTH:g} {max(top - GAP, 1.0):g}", role="img", class_="map", aria_label="Zones, nodes and pods")


def shard_roles(clusters: Sequence[Mapping[str, t.Any]]) -> Roles:
    roles: Roles = {}
    for cluster in clusters:
        for hue, shard in enumerate(cluster["shards"]):
            for member in shard["members"]:
                roles[cluster["namespace"], member["pod"]] = (hue % HUES, bool(member["master"]))
    return roles


@dataclass(frozen=True)
class _Pen:
    """Draws with or without names."""

    roles: Roles
    named: bool

    def per_row(self, width: float) -> int:
        inner = width - 2 * PAD
        return max(1, int((inner + CHIP_GAP) // 150)) if self.named else max(1, int((inner + SQUARE_GAP) // (SQUARE + SQUARE_GAP)))

    def places(self, pods: Sequence[Pod], width: float) -> list[tuple[int, int, Pod]]:
        """(row, column, pod): with names, each pod in trouble has a row for itself, so that its reason can be read, and comes first."""
        columns = self.per_row(width)
        wide = [pod for pod in pods if pod["state"] in TROUBLED] if self.named else []
        rest = [pod for pod in pods if pod not in wide]
        return [(row, 0, pod) for row, pod in enumerate(wide)] + [
            (len(wide) + index // columns, index % columns, pod) for index, pod in enumerate(rest)
        ]

    def node_height(self, node: Mapping[str, t.Any], width: float) -> float:
        rows = max(1, *(row + 1 for row, _pod, _where in self.places(node["pods"], width)), 0)
        return NODE_HEAD + rows * ((CHIP + CHIP_GAP) if self.named else (SQUARE + SQUARE_GAP)) + 8

    def zone_height(self, zone: Mapping[str, t.Any], width: float) -> float:
        inner = width - 2 * PAD
        return ZONE_HEAD + sum(self.node_height(node, inner) + 10 for node in zone["nodes"]) + PAD - 6

    def zone(self, zone: Mapping[str, t.Any], box: Box) -> Html:
        inner = box.width - 2 * PAD
        says = plural(sum(len(node["pods"]) for node in zone["nodes"]), "pod")
        if len(zone["nodes"]) != 1:
            says = f"{plural(len(zone['nodes']), 'node')} · {says}"
        children = [
            el("rect", **box._asdict(), rx=14, class_="zone"),
            el("text", zone["name"], x=box.x + PAD, y=box.y + 26, class_="zone-name"),
            el("text", says, x=box.x + box.width - PAD, y=box.y + 26, class_="faint", text_anchor="end"),
        ]
        top = box.y + ZONE_HEAD
        for node in zone["nodes"]:
            height = self.node_height(node, inner)
            children.append(self.node(node, Box(box.x + PAD, top, inner, height)))
            top += height + 10
        return el("g", children)

    def node(self, node: Mapping[str, t.Any], box: Box) -> Html:
        state = "ok" if node["ready"] else "bad"
        label = node["pool"] if node["ready"] else "NotReady" if node["name"] != "on no node" else "not scheduled"
        children = [
            el("rect", **box._asdict(), rx=10, class_=f"node {state}"),
            el("circle", cx=box.x + PAD + 4, cy=box.y + 19, r=4, class_=f"dot {state}"),
            el("text", node["name"], x=box.x + PAD + 15, y=box.y + 23.5, class_="node-name"),
            el(
                "text",
                label,
                x=box.x + box.width - PAD,
                y=box.y + 23,
                class_="pool" if node["ready"] else "pool bad-text",
                text_anchor="end",
            ),
        ]
        columns = self.per_row(box.width)
        gap, height = (CHIP_GAP, CHIP) if self.named else (SQUARE_GAP, SQUARE)
        width = (box.width - 2 * PAD - CHIP_GAP * (columns - 1)) / columns if self.named else SQUARE
        for row, column, pod in self.places(node["pods"], box.width):
            own = box.width - 2 * PAD if self.named and pod["state"] in TROUBLED else width
            place = Box(box.x + PAD + column * (width + gap), box.y + NODE_HEAD + row * (height + gap), own, height)
            role = self.roles.get((pod["namespace"], pod["name"]))
            children.append(_chip(pod, place, role) if self.named else _square(pod, place, role))
        if not node["pods"]:
            children.append(el("text", "no pods", x=box.x + PAD, y=box.y + NODE_HEAD + 15, class_="faint"))
        return el("g", children)


def _chip(pod: Pod, box: Box, role: tuple[int, bool] | None) -> Html:
    """A pod with its name. A member of a shard carries its hue: filled for a master, hollow for a replica."""
    room = int((box.width - 28) / LETTER)
    text = f"{pod['name']} · {pod['reason']}" if pod["state"] in TROUBLED and pod["reason"] else pod["name"]
    mark = el("circle", cx=box.x + 12, cy=box.y + CHIP / 2, r=4, class_=f"dot {pod['state']}")
    if role:
        mark = el("circle", cx=box.x + 12, cy=box.y + CHIP / 2, r=4.5, class_=f"{'master' if role[1] else 'replica'} hue{role[0]}")
    return el(
        "g",
        el("title", _tooltip(pod, role)),
        el("rect", **box._asdict(), rx=7, class_=f"chip {pod['state']}"),
        mark,
        el("text", shorten(text, room), x=box.x + 22, y=box.y + 16, class_="pod"),
    )


def _square(pod: Pod, box: Box, role: tuple[int, bool] | None) -> Html:
    kind = f"{'master' if role[1] else 'replica'} hue{role[0]}" if role and pod["state"] == "ok" else f"square {pod['state']}"
    return el("rect", el("title", _tooltip(pod, role)), **box._asdict(), rx=3, class_=kind)


def _tooltip(pod: Pod, role: tuple[int, bool] | None) -> str:
    says = pod["reason"] or pod["state"]
    return f"{pod['namespace']}/{pod['name']}: {says}" + (f", {'master' if role[1] else 'replica'}" if role else "")


def shorten(text: str, room: int) -> str:
    """Cuts the middle: the start says which workload, the end which pod."""
    if len(text) <= room:
        return text
    tail = max(4, room // 3)
    return f"{text[: max(1, room - tail - 1)]}…{text[-tail:]}"


def ring_of(cluster: Mapping[str, t.Any]) -> Html:
    """All slots as a ring: an arc a range in its shard's hue, what nobody serves in red."""
    size, radius, thick = 240.0, 92.0, 30.0
    middle = size / 2
    arcs = [
        el("path", el("title", f"slots {first}-{last}: served by nobody"), d=arc(middle, radius, first / SLOTS, (last + 1) / SLOTS),
           class_="ring-gap", fill="none", stroke_width=thick)
        for first, last in unserved(cluster["shards"])
    ]  # fmt: skip
    for hue, shard in enumerate(cluster["shards"]):
        for first, last in shard["slots"]:
            title = el("title", f"{shard['master'] or 'no master'}: slots {first}-{last}")
            arcs.append(el("path", title, d=arc(middle, radius, first / SLOTS, (last + 1) / SLOTS), class_=f"arc hue{hue % HUES}",
                           fill="none", stroke_width=thick))  # fmt: skip
    covered = cluster["covered"]
    texts = [
        el("text", "all slots" if covered == SLOTS else f"{SLOTS - covered} slots", x=middle, y=middle - 4, class_="ring-number"),
        el("text", "are served" if covered == SLOTS else "unserved", x=middle, y=middle + 18,
           class_="ring-label" if covered == SLOTS else "ring-label bad-text"),
    ]  # fmt: skip
    return el(
        "svg", arcs, texts, viewBox=f"0 0 {size:g} {size:g}", role="img", class_="ring", aria_label=f"{covered} of {SLOTS} slots are served"
    )


def unserved(shards: Sequence[Mapping[str, t.Any]]) -> list[tuple[int, int]]:
    """The ranges between the shards' ranges."""
    gaps, at = [], 0
    for first, last in sorted((first, last) for shard in shards for first, last in shard["slots"]):
        if first > at:
            gaps.append((at, first - 1))
        at = max(at, last + 1)
    return gaps + ([(at, SLOTS - 1)] if at < SLOTS else [])


def arc(middle: float, radius: float, start: float, end: float) -> str:
    """The path of a part of a circle, from 12 o'clock, clockwise; shares of the whole. A hair is left between neighbours."""
    hair = 0.0018
    start, end = start + hair, max(start + 2 * hair, end - hair)
    (x1, y1), (x2, y2) = ((middle + radius * math.sin(2 * math.pi * p), middle - radius * math.cos(2 * math.pi * p)) for p in (start, end))
    large = 1 if end - start > 0.5 else 0
    return f"M{x1:.2f} {y1:.2f}A{radius:g} {radius:g} 0 {large} 1 {x2:.2f} {y2:.2f}"
