# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PostgreSQL on the local cluster, with either place for Patroni's lock: formed, a run that changes nothing, and what a client that writes every 50 ms sees.

Formed is from the moment the StatefulSet is there until three members stream, asked from outside. A fault's figure is the longest time for which the client
got no row acknowledged; a row that was acknowledged and is gone afterwards ends the benchmark. The faults are drawn to docs/postgresql_failover.svg.
"""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client, connect
from ansible_collections.progressive.platform.tests.cluster.postgres import LIMIT, Postgres, Writer
from ansible_collections.progressive.platform.tests.cluster.postgres import Row as Acknowledged
from run import ROOT, Lab, Row

TARGETS = {"primary's pod deleted": 4, "switchover": 2, "primary's node cut off": 25}  # seconds
MODES = {"endpoints": "the lock is the Service's endpoints", "configmaps": "the Service follows the pods' labels"}
NOTHING = "- hosts: all\n  gather_facts: false\n  connection: local\n  tasks:\n    - ansible.builtin.debug:\n"
ROLE = """- hosts: all
  gather_facts: false
  connection: local
  tasks:
    - ansible.builtin.import_role: {name: progressive.platform.catalog, rolespec_validate: false}
    - ansible.builtin.include_role: {name: progressive.platform.postgresql, tasks_from: "{{ item }}"}
      loop: [deploy, converge]
"""

Drawn = tuple[str, str, float, list[Acknowledged]]


def measure(lab: Lab) -> list[Row]:
    rows: list[Row] = []
    drawn: list[Drawn] = []
    with connect({"kubeconfig": lab.kubeconfig}) as client:
        for dcs, note in MODES.items():
            postgres = Postgres(client, lab.kubeconfig, dcs)
            try:
                times = {"formed": [formed(lab, postgres)]}
                for _again in range(lab.repeat - 1):
                    postgres.playbook("teardown")
                    times["formed"].append(formed(lab, postgres))
                rows.append(Row("three members stream", dcs, times, "target 8 s"))
                if dcs == "endpoints":
                    rows += unchanged(lab, postgres)
                writer = Writer(postgres)
                for name, fault in faults(postgres, writer).items():
                    lab.say(f"postgresql: {dcs}, {name}")
                    began, seen = through(writer, fault, f"{dcs}: {name}")
                    rows.append(Row(name, dcs, {"no write": [max(one.silence for one in seen)]}, f"{note}; target {TARGETS[name]} s"))
                    drawn.append((dcs, name, began, seen))
            finally:
                postgres.playbook("teardown")
    (ROOT / "docs" / "postgresql_failover.svg").write_text(picture(drawn), encoding="utf-8")
    return sorted(rows, key=lambda row: list(dict.fromkeys(one.group for one in rows)).index(row.group))


def formed(lab: Lab, postgres: Postgres) -> float:
    """Seconds until all stream. Beside them site.yml goes on: it waits for readiness, makes users and databases, and checks everything."""
    failed: list[BaseException] = []

    def site() -> None:
        try:
            postgres.playbook("site")
        except BaseException as error:  # the thread's own end is of no use to anybody
            failed.append(error)

    playbook = threading.Thread(target=site)
    playbook.start()
    path = f"/apis/apps/v1/namespaces/{postgres.namespace}/statefulsets/postgres"
    eventually(lambda: postgres.client.find(path) is not None or bool(failed), 0.02)
    began = time.perf_counter()
    eventually(lambda: sum(member["streaming"] for member in postgres.info()["members"]) == 2 or bool(failed), 0.1)
    took = time.perf_counter() - began
    playbook.join()
    if failed:
        raise failed[0]
    lab.say(f"postgresql: {postgres.options['postgresql_dcs']}, formed in {took:.1f} s")
    return took


def unchanged(lab: Lab, postgres: Postgres) -> list[Row]:
    """The role's tasks deploy and converge with nothing to do, with Ansible's own start and without."""
    times: dict[str, list[float]] = {"role": [], "debug": []}
    extra = lab.folder / "variables.json"
    extra.write_text(json.dumps(postgres.options))
    for name, text in (("role", ROLE), ("debug", NOTHING)):
        (lab.folder / f"{name}.yml").write_text(text)
    for _turn in range(max(lab.repeat, 3)):
        for name, found in times.items():
            command = [lab.bin / "ansible-playbook", lab.folder / f"{name}.yml", "-i", ROOT / "inventories/local", "-e", f"@{extra}"]
            found.append(lab.timed(lambda command=command: lab.command(*command, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"))))
    alone = [whole - empty for whole, empty in zip(times["role"], times["debug"], strict=True)]
    return [
        Row("a run of the role that changes nothing", "deploy and converge", {"alone": alone, "with Ansible": times["role"]}, "target 1 s"),
        Row("a run of the role that changes nothing", "one debug task", {"with Ansible": times["debug"]}),
    ]


def faults(postgres: Postgres, writer: Writer) -> dict[str, Callable[[], None]]:
    def deleted() -> None:
        primary = postgres.healthy()["primary"]
        postgres.delete(primary)
        postgres.until(lambda seen: seen["primary"] not in ("", primary), "another primary")

    def switched() -> None:
        candidate = next(member["name"] for member in postgres.healthy()["members"] if member["sync"] == "sync")
        postgres.converge(switchover=candidate)

    def node_of(seen: dict[str, Any]) -> str:
        return str(next(member["node"] for member in seen["members"] if member["name"] == seen["primary"]))

    def cut_off() -> None:
        if node_of(postgres.healthy()) == writer.node:  # or the client is cut off too
            switched()
        seen = postgres.healthy()
        node = node_of(seen)
        with cut(postgres.client, node):
            postgres.until(lambda now: now["primary"] not in ("", seen["primary"]), "another primary")
            time.sleep(10)

    return dict(zip(TARGETS, (deleted, switched, cut_off), strict=True))


@contextmanager
def cut(client: Client, node: str) -> Iterator[None]:
    """The node's cable is pulled; back in its place the node is Ready again before this ends."""
    device = f"pp-{node.rpartition('-')[2]}"
    path = f"/api/v1/nodes/{node}"

    def ready(wanted: str) -> bool:
        conditions = (client.find(path) or {}).get("status", {}).get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == wanted for one in conditions)

    subprocess.run(["ip", "link", "set", device, "down"], check=True, timeout=10)
    try:
        yield
    finally:
        subprocess.run(["ip", "link", "set", device, "up"], check=True, timeout=10)
        eventually(lambda: ready("True"), 0.5)


def through(writer: Writer, fault: Callable[[], None], what: str) -> tuple[float, list[Acknowledged]]:
    began = 0.0

    def timed() -> None:
        nonlocal began
        began = time.time()
        fault()

    seen = writer.seen(timed, what)
    return began, seen


def eventually(condition: Callable[[], bool], pause: float) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"postgresql: not within {LIMIT:g} s")
        time.sleep(pause)


# ---- the picture ------------------------------------------------------------------------------------------------------------

LEFT, WIDTH, HEIGHT, TOP, LINE = 190, 720, 34, 64, 58
BEFORE, AFTER, BUCKET = 2.0, 34.0, 0.25  # seconds


def picture(drawn: list[Drawn]) -> str:
    """One strip a fault and mode: rows acknowledged over the time around the fault."""
    across = WIDTH / (BEFORE + AFTER)
    bottom = TOP + LINE * len(drawn)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 110} {bottom + 40}" font-family="sans-serif" font-size="12">',
        "<title>What a client of PostgreSQL that writes every 50 ms sees of faults</title>",
        f'<rect width="{LEFT + WIDTH + 110}" height="{bottom + 40}" fill="#fff"/>',
        f'<text x="{LEFT}" y="22" font-size="14">Rows acknowledged to a client that writes every 50 ms; none of them was lost</text>',
        f'<text x="{LEFT}" y="40" fill="#555">per {BUCKET:g} s; the line is the fault; to the right the longest time without a row</text>',
    ]
    for index, (dcs, name, began, seen) in enumerate(drawn):
        top = TOP + LINE * index
        buckets = [0] * int((BEFORE + AFTER) / BUCKET)
        for one in seen:
            place = int((one.at - began + BEFORE) / BUCKET)
            if 0 <= place < len(buckets):
                buckets[place] += 1
        most = max(*buckets, 1)
        parts.append(f'<text x="{LEFT - 10}" y="{top + 15}" text-anchor="end">{name}</text>')
        parts.append(f'<text x="{LEFT - 10}" y="{top + 30}" text-anchor="end" fill="#777">{dcs}</text>')
        for place, count in enumerate(buckets):
            tall = HEIGHT * count / most
            left = LEFT + place * BUCKET * across
            parts.append(
                f'<rect x="{left:.1f}" y="{top + HEIGHT - tall:.1f}" width="{BUCKET * across:.1f}" height="{tall:.1f}" fill="#1f6fb2"/>'
            )
        fault = LEFT + BEFORE * across
        parts.append(f'<path d="M{fault:.1f} {top - 4}V{top + HEIGHT + 4}" stroke="#c0504d" stroke-width="1.5"/>')
        parts.append(f'<path d="M{LEFT} {top + HEIGHT}H{LEFT + WIDTH}" stroke="#888"/>')
        silence = max(one.silence for one in seen)
        parts.append(f'<text x="{LEFT + WIDTH + 12}" y="{top + 22}" font-weight="bold">{silence:.1f} s</text>')
    for second in range(0, int(AFTER) + 1, 5):
        parts.append(f'<text x="{LEFT + (BEFORE + second) * across:.1f}" y="{bottom + 16}" text-anchor="middle">{second} s</text>')
    return "\n".join([*parts, "</svg>", ""])
