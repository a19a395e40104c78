# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What playbooks cost as nodes, agents and clusters grow, on control planes of their own (tests/kwok/lab.py): nodes and pods are KWOK's.

What is installed is the part of the platform that needs no real server: namespaces, the application, agents. Beside the time that passed stands that of the
processor in Ansible's own processes, which a busy machine changes less. The curves are drawn to docs/large.svg.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.progressive.platform.tests.kwok import lab as laboratory
from ansible_collections.progressive.platform.tests.kwok.lab import Cluster, clusters, inventory, variables
from run import ROOT, Lab, Row

SIZES = [(10, 3), (100, 30), (1000, 100)]  # nodes, agents
ABREAST = 3  # clusters of the smallest size, in one run
ACTIONS = {"site.yml, first": "site", "site.yml, unchanged": "site", "diff.yml": "diff", "verify.yml": "verify"}
TIMEOUT = 590.0  # seconds for one playbook


@dataclass
class Cost:
    """What one playbook took, in seconds, MB and requests."""

    passed: float
    processor: float
    memory: float
    requests: int
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)


def measure(lab: Lab) -> list[Row]:
    if reason := laboratory.missing():
        raise SystemExit(reason)
    seen: dict[str, dict[str, list[Cost]]] = {name: {} for name in ACTIONS}
    beside: dict[str, dict[str, list[Cost]]] = {name: {} for name in ACTIONS}
    for nodes, agents in SIZES:
        series(lab, f"{nodes} nodes, {agents} agents", [f"large-{nodes}"], nodes, agents, seen)
        if not beside["diff.yml"]:  # the smallest is one of the clusters that there are several of then
            beside = {action: {"1 cluster": next(iter(found.values()))} for action, found in seen.items()}
            series(lab, f"{ABREAST} clusters", [f"abreast-{number}" for number in range(1, ABREAST + 1)], nodes, agents, beside)
    (ROOT / "docs" / "large.svg").write_text(picture(seen, beside), encoding="utf-8")
    return [*rows("growing", seen), *rows("several clusters in one run", beside)]


def rows(group: str, seen: dict[str, dict[str, list[Cost]]]) -> list[Row]:
    found = []
    for action, sizes in seen.items():
        for name, costs in sizes.items():
            times = {"passed": [cost.passed for cost in costs], "processor": [cost.processor for cost in costs]}
            note = f"{costs[-1].requests} requests"
            found.append(Row(f"{group}: {action}", name, times, note, max(cost.memory for cost in costs)))
    return found


def series(lab: Lab, what: str, names: list[str], nodes: int, agents: int, seen: dict[str, dict[str, list[Cost]]]) -> None:
    """Every action on fresh control planes; the first site.yml once, for a second would not be the first."""
    lab.say(f"large: {what}: control planes")
    folder = lab.folder / names[0]
    with clusters(folder, names, nodes) as made:
        at = inventory(folder, {cluster.name: cluster.kubeconfig for cluster in made}, variables(agents))
        for action, playbook in ACTIONS.items():
            for _turn in range(1 if "first" in action else lab.repeat):
                cost = run(lab, playbook, at, made)
                seen[action].setdefault(what, []).append(cost)
                most = ", ".join(f"{count} {verb} {kind}" for (verb, kind), count in cost.asked.most_common(6))
                lab.say(
                    f"large: {what}: {action}: {cost.passed:.1f} s, processor {cost.processor:.1f} s, {cost.memory:.0f} MB, "
                    f"{cost.requests} requests ({most}), load {os.getloadavg()[0]:.0f}"
                )
    shutil.rmtree(folder, ignore_errors=True)


def run(lab: Lab, playbook: str, at: Path, made: list[Cluster]) -> Cost:
    before = Counter(request for cluster in made for request in cluster.requests())
    command = [str(lab.bin / "ansible-playbook"), "-i", str(at), str(ROOT / "playbooks" / f"{playbook}.yml"), "--forks", "10"]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    output = lab.folder / "output"
    began = time.perf_counter()
    with output.open("wb") as file:
        # The largest of the processes, and the time of them all, by the kernel's account of a child that has waited for its own.
        child = subprocess.Popen([sys.executable, "-c", ACCOUNT, *command], cwd=lab.folder, env=environment, stdout=file, stderr=file)
        child.wait(timeout=TIMEOUT)
    passed = time.perf_counter() - began
    *printed, last = output.read_text(errors="replace").splitlines()
    account = json.loads(last)
    if account["code"]:
        raise SystemExit("\n".join(printed)[-4000:])
    asked = Counter(request for cluster in made for request in cluster.requests()) - before
    return Cost(passed, account["processor"], account["memory"], asked.total(), asked)


ACCOUNT = """
import json, resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"code": code, "processor": used.ru_utime + used.ru_stime, "memory": used.ru_maxrss / 1024}))
"""


# ---- the picture ------------------------------------------------------------------------------------------------------------

LEFT, WIDTH, HEIGHT, TOP, GAP = 80, 300, 150, 64, 70
COLOURS = ("#1f6fb2", "#2e7d32", "#c0504d", "#8a6d3b")


def picture(seen: dict[str, dict[str, list[Cost]]], beside: dict[str, dict[str, list[Cost]]]) -> str:
    """Processor time, requests and memory over the size, and time over the number of clusters; a line for each playbook."""

    def middle(costs: list[Cost], what: str) -> float:
        return statistics.median(getattr(cost, what) for cost in costs)

    panels = [
        ("s of processor", seen, "processor", "nodes and agents"),
        ("requests", seen, "requests", "nodes and agents"),
        ("MB", seen, "memory", "nodes and agents"),
        ("s passed", beside, "passed", "clusters in one run"),
    ]
    across, down = LEFT + WIDTH + 20, HEIGHT + GAP
    width, height = 2 * across + 20, TOP + 2 * down
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        "<title>What playbooks cost as nodes, agents and clusters grow</title>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="{LEFT}" y="22" font-size="14">The application and agents on simulated nodes: what a playbook costs</text>',
    ]
    for place, action in enumerate(ACTIONS):
        parts.append(f'<text x="{LEFT + 170 * place}" y="42" fill="{COLOURS[place]}">{action}</text>')
    for index, (title, data, what, along) in enumerate(panels):
        left, top = LEFT + index % 2 * across, TOP + index // 2 * down
        sizes = list(next(iter(data.values())))
        most = max(middle(costs, what) for found in data.values() for costs in found.values()) or 1.0
        parts.append(f'<path d="M{left} {top}V{top + HEIGHT}H{left + WIDTH}" fill="none" stroke="#888"/>')
        parts.append(f'<text x="{left - 8}" y="{top + 4}" text-anchor="end">{most:.0f}</text>')
        parts.append(f'<text x="{left - 8}" y="{top + HEIGHT + 4}" text-anchor="end">0</text>')
        turned = f"{left - 44} {top + HEIGHT / 2:.0f}"
        parts.append(
            f'<text x="{left - 44}" y="{top + HEIGHT / 2:.0f}" transform="rotate(-90 {turned})" text-anchor="middle">{title}</text>'
        )

        def at(number: int, left: int = left, count: int = len(sizes)) -> float:
            return left + WIDTH * (number + 0.5) / count

        for number, size in enumerate(sizes):
            label = size.replace(" nodes, ", " / ").replace(" agents", "").partition(" cluster")[0]
            parts.append(f'<text x="{at(number):.0f}" y="{top + HEIGHT + 16}" text-anchor="middle">{label}</text>')
        parts.append(f'<text x="{left + WIDTH / 2:.0f}" y="{top + HEIGHT + 32}" text-anchor="middle" fill="#555">{along}</text>')
        for place, found in enumerate(data.values()):
            points = [(at(number), top + HEIGHT - HEIGHT * middle(found[size], what) / most) for number, size in enumerate(sizes)]
            drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(f'<polyline points="{drawn}" fill="none" stroke="{COLOURS[place]}" stroke-width="1.6"/>')
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{COLOURS[place]}"/>' for x, y in points]
    return "\n".join([*parts, "</svg>", ""])
