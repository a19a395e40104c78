# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Redis Cluster on local processes: forming, moving slots with their keys, observing, failing over; ours beside ``redis-cli --cluster``.

The end point is asked from outside, every 10 ms: every node says cluster_state:ok, all of them agree on the owners of 16384 slots, every replica's
master_link_status is up. redis-cli returns before that, so both are timed until the end point, whatever their process says. The nodes are redis-server
processes on loopback with the settings of production. What clients saw of three masters becoming five and three again is drawn to docs/redis_scaling.svg.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import resource
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.observe import parse_info
from ansible_collections.progressive.platform.tests.redis.lab import Lab as Nodes
from ansible_collections.progressive.platform.tests.redis.lab import Server, own_entry
from ansible_collections.progressive.platform.tests.redis.traffic import Client, Traffic
from redis.backoff import ConstantBackoff
from redis.cluster import ClusterNode
from redis.retry import Retry
from run import ROOT, Lab, Row

ENDS_WITHIN = 300.0  # seconds
SYNC_DELAY = "5"
NODE_TIMEOUT = "5000"  # the role's; redis-server's own default of 15000 changes nothing, for the rejoin delay is 5 s at most
KEYS, SIZE = 240_000, 100

Times = dict[str, list[float]]


def time_both(nodes: Nodes, work: Callable[[], Any], times: Times) -> None:
    """Seconds until ``work`` returned, and until the end point; and of processors, the servers' and the caller's, which a busy machine changes least."""
    spent = processors(nodes)
    began = time.perf_counter()
    work()
    times.setdefault("process", []).append(time.perf_counter() - began)
    times.setdefault("processors", []).append(processors(nodes) - spent)
    while not nodes.settled():
        if time.perf_counter() - began > ENDS_WITHIN:
            raise SystemExit(f"no end point within {ENDS_WITHIN} s")
        time.sleep(0.01)
    times.setdefault("end point", []).append(time.perf_counter() - began)


def processors(nodes: Nodes) -> float:
    """Seconds that this process, the commands it has waited for, and the servers have spent so far."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = time.process_time() + children.ru_utime + children.ru_stime
    for server in nodes.servers:
        info = parse_info(str(server("INFO", "cpu")))
        used += float(info["used_cpu_sys"]) + float(info["used_cpu_user"])
    return used


def start_over(nodes: Nodes) -> None:
    """All nodes alone and empty, with the settings of production."""
    nodes.reset()
    for server in nodes.servers:
        server.pipeline(
            [("CONFIG", "SET", "cluster-node-timeout", NODE_TIMEOUT), ("CONFIG", "SET", "repl-diskless-sync-delay", SYNC_DELAY)]
        )


def redis_cli(*arguments: str) -> None:
    subprocess.run(["redis-cli", "--cluster", *arguments, "--cluster-yes"], check=True, capture_output=True, timeout=ENDS_WITHIN)


def measure(lab: Lab) -> list[Row]:
    """The ways take turns, so that all meet the same machine."""
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = str(lab.folder / "state")
    try:
        rows = []
        for section in (forming, moving, looking, failing_over):
            nodes = Nodes(lab.folder / section.__name__)
            try:
                rows += section(lab, nodes)
            finally:
                nodes.stop()
        nodes = Nodes(lab.folder / "drawn")
        try:
            draw(nodes)
        finally:
            nodes.stop()
        return rows
    finally:
        os.environ.pop("XDG_STATE_HOME", None)
        if before is not None:
            os.environ["XDG_STATE_HOME"] = before


def started(nodes: Nodes, count: int) -> None:
    nodes.add(count)
    time.sleep(2.1)  # CLUSTER_WRITABLE_DELAY: no master says ok earlier than 2 s after its start


def restarted(nodes: Nodes) -> None:
    """Servers that never took part in an election: after one they stand in no other for four node timeouts, a reset between them or not."""
    for server in nodes.servers:
        server.kill()
        server.wipe()
        server.launch()
    for server in nodes.servers:
        server.ready()
    start_over(nodes)
    time.sleep(2.1)


def forming(lab: Lab, nodes: Nodes) -> list[Row]:
    ours: Times = {}
    theirs: Times = {}
    started(nodes, 6)
    for turn in range(lab.repeat):
        os.environ["XDG_STATE_HOME"] = str(lab.folder / f"state-{turn}")
        start_over(nodes)
        time_both(nodes, nodes.converge, ours)
        ours.setdefault("again", []).append(lab.timed(nodes.converge))
        start_over(nodes)
        time_both(nodes, lambda: redis_cli("create", *nodes.addresses, "--cluster-replicas", "1"), theirs)
    group = "3+3 formed on local processes"
    return [
        Row(group, "module redis_cluster", ours, "target 0.8 s; again: readers only"),
        Row(group, "redis-cli --cluster create", theirs, "returns before the cluster is ok"),
    ]


def filled(nodes: Nodes) -> None:
    """Three masters with all keys, and two more that have met them."""
    start_over(nodes)
    os.environ["XDG_STATE_HOME"] = f"{nodes.directory}-{time.monotonic_ns()}"
    nodes.converge(addresses=nodes.addresses[:3], replicas_per_master=0)
    value = "x" * SIZE
    for master in nodes.servers[:3]:
        for first in range(0, KEYS, 10_000):
            master.pipeline([("SET", f"key-{number}", value) for number in range(first, first + 10_000)], within=60)
    nodes.meet(*nodes.servers)
    nodes.wait(nodes.settled, 60)


def moving(lab: Lab, nodes: Nodes) -> list[Row]:
    started(nodes, 5)
    start = nodes.servers[0].name
    rebalance = ("rebalance", start, "--cluster-use-empty-masters")
    ways: dict[str, Callable[[], Any]] = {
        "module redis_cluster": lambda: nodes.converge(masters=5, replicas_per_master=0, timeout=ENDS_WITHIN),
        "redis-cli --cluster rebalance": lambda: redis_cli(*rebalance),
        "redis-cli ... --cluster-pipeline 100": lambda: redis_cli(*rebalance, "--cluster-pipeline", "100"),
    }
    times: dict[str, Times] = {name: {} for name in ways}
    for _turn in range(lab.repeat):
        for name, work in ways.items():
            filled(nodes)
            time_both(nodes, work, times[name])
            there = [server("DBSIZE") for server in nodes.servers]
            shares = [slots.size(own_entry(server).slots) for server in nodes.servers]
            if sum(there) != KEYS or not all(shares):
                raise SystemExit(f"{name} left {sum(there)} of {KEYS} keys, slots {shares}")
    group = f"about 6553 slots with {KEYS} keys of {SIZE} bytes, 3 to 5 masters"
    notes = ["target 5 s; the fewest slots, 6553", "6552 slots in 2 % steps", "6552 slots"]
    return [Row(group, name, times[name], note) for name, note in zip(ways, notes, strict=True)]


def looking(lab: Lab, nodes: Nodes) -> list[Row]:
    """Reading the state, and a run that has nothing to do."""
    rows = []
    started(nodes, 60)
    for count in (6, 60):
        start_over(nodes)
        os.environ["XDG_STATE_HOME"] = str(lab.folder / f"looking-{count}")
        params = {"addresses": nodes.addresses[:count], "masters": count // 2, "replicas_per_master": 1}
        nodes.converge(**params, timeout=ENDS_WITHIN)
        times: Times = {}
        for _turn in range(max(lab.repeat, 3)):
            times.setdefault("info", []).append(lab.timed(lambda params=params: nodes.info(**params)))
            times.setdefault("no-op run", []).append(lab.timed(lambda params=params: nodes.converge(**params)))
        rows.append(Row("observing, and a run that changes nothing", f"{count} nodes", times))
    return rows


def failing_over(lab: Lab, nodes: Nodes) -> list[Row]:
    """The longest time for which a client could not write to a slot of the master that failed or handed over."""
    started(nodes, 6)
    planned: Times = {}
    unplanned: Times = {}
    for _turn in range(lab.repeat):
        for kind, times in (("planned", planned), ("unplanned", unplanned)):
            restarted(nodes)
            os.environ["XDG_STATE_HOME"] = f"{nodes.directory}-{time.monotonic_ns()}"
            nodes.converge()
            nodes.wait(nodes.settled, 60)
            master = nodes.masters()[0]
            replica = nodes.replicas_of(master)[0]
            times.setdefault("gap", []).append(longest_gap(nodes, master, replica, kind == "planned"))
    group = "failover as a client sees it, node timeout 5000"
    return [
        Row(group, "planned (CLUSTER FAILOVER)", planned, "target 2 s"),
        Row(
            group,
            "unplanned (kill -9)",
            unplanned,
            "target 8 s: half the timeout until a ping is due, all of it until it is missed, 1 s of election",
        ),
    ]


def longest_gap(nodes: Nodes, master: Server, replica: Server, planned: bool) -> float:
    key = next(name for name in map(str, range(100_000)) if own_entry(master).slots >> nodes.slot(name) & 1)
    client = Client(
        startup_nodes=[ClusterNode(server.host, server.port) for server in nodes.servers],
        socket_timeout=1,
        retry=Retry(ConstantBackoff(0.05), 2),
    )
    done = [time.perf_counter()]
    until = done[0] + 30
    struck = False
    while time.perf_counter() < until:
        try:
            client.set(key, "x")
            done.append(time.perf_counter())
        except Exception:  # whatever it is, the client could not write
            time.sleep(0.01)
        if not struck and len(done) > 50:
            struck = True
            if planned:
                replica("CLUSTER", "FAILOVER")
            else:
                master.kill()
            until = time.perf_counter() + (5 if planned else 20)
    client.close()
    return max(after - before for before, after in itertools.pairwise(done))


# ---- the picture -------------------------------------------------------------------------------------------------------------------------------------

BUCKET = 0.25  # seconds
WIDTH, HEIGHT, LEFT, TOP = 860, 150, 70, 46


def draw(nodes: Nodes) -> None:
    """Clients of their own process write and read while the module grows the cluster and shrinks it again."""
    started(nodes, 10)
    start_over(nodes)
    os.environ["XDG_STATE_HOME"] = f"{nodes.directory}-state"
    nodes.converge()
    nodes.fill(60_000)
    here, there = multiprocessing.Pipe()
    clients = multiprocessing.get_context("fork").Process(target=drive, args=(nodes.servers[:3], there), daemon=True)
    clients.start()
    began = time.monotonic()
    time.sleep(4)
    phases = []
    for name, masters in (("3 to 5 masters", 5), ("5 to 3 masters", 3)):
        start = time.monotonic() - began
        nodes.converge(masters=masters, timeout=ENDS_WITHIN)
        phases.append((name, start, time.monotonic() - began))
        time.sleep(4)
    here.send("stop")
    operations, errors, lost = here.recv()
    clients.join(60)
    spans = [(end - began, took) for end, took in operations if end >= began]
    (ROOT / "docs" / "redis_scaling.svg").write_text(picture(spans, phases, errors, lost), encoding="utf-8")
    print(f"\nredis: {len(spans)} operations while scaling, {errors} failed, {lost} acknowledged writes lost; docs/redis_scaling.svg")


def drive(servers: Sequence[Server], pipe: Connection) -> None:
    traffic = Traffic(servers, pause=0.0, size=100)
    with traffic as account:
        pipe.recv()
    pipe.send((account.times, len(account.errors) + len(account.wrong), len(traffic.lost())))


def picture(spans: Sequence[tuple[float, float]], phases: Sequence[tuple[str, float, float]], errors: int, lost: int) -> str:
    """Two panels over the same time: operations a second, and how long they took (middle, 99th of a hundred, slowest)."""
    last = max(end for end, _took in spans)
    buckets: list[list[float]] = [[] for _bucket in range(int(last / BUCKET) + 1)]
    for end, took in spans:
        buckets[int(end / BUCKET)].append(took * 1000)
    buckets = buckets[:-1]
    rates = [len(bucket) / BUCKET for bucket in buckets]
    middle = [statistics.median(bucket) if bucket else 0.0 for bucket in buckets]
    high = [sorted(bucket)[int(len(bucket) * 0.99)] if bucket else 0.0 for bucket in buckets]
    slowest = [max(bucket, default=0.0) for bucket in buckets]
    duration = len(buckets) * BUCKET

    def across(seconds: float) -> float:
        return LEFT + WIDTH * seconds / duration

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 20} {2 * HEIGHT + TOP + 110}" font-family="sans-serif" font-size="12">',
        "<title>Clients while a Redis Cluster goes from three masters to five and back</title>",
        f'<rect width="{LEFT + WIDTH + 20}" height="{2 * HEIGHT + TOP + 110}" fill="#fff"/>',
        f'<text x="{LEFT}" y="18" font-size="14">A writer and a reader while three masters become five and three again: '
        f"{len(spans)} operations, {errors} failed, {lost} writes lost</text>",
    ]
    for name, start, end in phases:
        parts.append(
            f'<rect x="{across(start):.1f}" y="{TOP - 6}" width="{across(end) - across(start):.1f}" height="{2 * HEIGHT + 52}" fill="#eef3fb"/>'
        )
        parts.append(f'<text x="{across(start) + 4:.1f}" y="{TOP - 12}" fill="#345">{name}, {end - start:.1f} s</text>')
    panels: list[tuple[str, int, list[tuple[str, str, list[float]]]]] = [
        ("operations/s", TOP, [("both clients", "#1f6fb2", rates)]),
        ("latency ms", TOP + HEIGHT + 46, [("slowest", "#d9a3a3", slowest), ("99 %", "#c0504d", high), ("middle", "#2e7d32", middle)]),
    ]
    for title, top, lines in panels:
        most = max((max(values, default=0.0) for _name, _colour, values in lines), default=0.0) or 1.0
        parts.append(f'<text x="{LEFT - 8}" y="{top + 4}" text-anchor="end">{most:.0f}</text>')
        parts.append(f'<text x="{LEFT - 8}" y="{top + HEIGHT + 4}" text-anchor="end">0</text>')
        parts.append(
            f'<text x="14" y="{top + HEIGHT / 2:.0f}" transform="rotate(-90 14 {top + HEIGHT / 2:.0f})" text-anchor="middle">{title}</text>'
        )
        parts.append(f'<path d="M{LEFT} {top}V{top + HEIGHT}H{LEFT + WIDTH}" fill="none" stroke="#888"/>')
        for index, (name, colour, values) in enumerate(lines):
            points = " ".join(
                f"{across((position + 0.5) * BUCKET):.1f},{top + HEIGHT - HEIGHT * value / most:.1f}"
                for position, value in enumerate(values)
            )
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.4"/>')
            parts.append(f'<text x="{LEFT + 8 + 90 * index}" y="{top + HEIGHT + 18}" fill="{colour}">{name}</text>')
    for second in range(0, int(duration) + 1, max(int(duration / 10), 1)):
        parts.append(f'<text x="{across(second):.1f}" y="{2 * HEIGHT + TOP + 90}" text-anchor="middle">{second} s</text>')
    return "\n".join([*parts, "</svg>", ""])
