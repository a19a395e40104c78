# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Formation of 3 masters with 3 replicas: our module beside ``redis-cli --cluster create``, on the same processes and to the same end point.

The end point is asked from outside, every 10 ms: every node says cluster_state:ok, all of them agree on the owners of 16384 slots, every replica's
master_link_status is up. redis-cli returns before that, so both are timed until the end point, whatever their process says. The nodes are redis-server
processes on loopback with the settings of production.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.progressive.platform.tests.redis.lab import Lab as Nodes
from run import Lab, Row

ENDS_WITHIN = 60.0  # seconds
SYNC_DELAY = "5"
NODE_TIMEOUT = "5000"  # the role's; redis-server's own default of 15000 changes nothing, for the rejoin delay is 5 s at most

Times = dict[str, list[float]]


def time_both(nodes: Nodes, work: Callable[[], Any], times: Times) -> None:
    """Seconds until ``work`` returned, and until the end point."""
    began = time.perf_counter()
    work()
    times.setdefault("process", []).append(time.perf_counter() - began)
    while not nodes.settled():
        if time.perf_counter() - began > ENDS_WITHIN:
            raise SystemExit(f"no end point within {ENDS_WITHIN} s")
        time.sleep(0.01)
    times.setdefault("end point", []).append(time.perf_counter() - began)


def start_over(nodes: Nodes) -> None:
    """All nodes alone and empty, with the settings of production."""
    nodes.reset()
    for server in nodes.servers:
        server.pipeline(
            [("CONFIG", "SET", "cluster-node-timeout", NODE_TIMEOUT), ("CONFIG", "SET", "repl-diskless-sync-delay", SYNC_DELAY)]
        )


def redis_cli(nodes: Nodes) -> None:
    command = ["redis-cli", "--cluster", "create", *nodes.addresses, "--cluster-replicas", "1", "--cluster-yes"]
    subprocess.run(command, check=True, capture_output=True, timeout=ENDS_WITHIN)


def measure(lab: Lab) -> list[Row]:
    """The two ways take turns, so that both meet the same machine."""
    ours: Times = {}
    theirs: Times = {}
    before = os.environ.get("XDG_STATE_HOME")
    nodes = Nodes(lab.folder / "redis")
    try:
        nodes.add(6)
        time.sleep(2.1)  # CLUSTER_WRITABLE_DELAY: no master says ok earlier than 2 s after its start
        for turn in range(lab.repeat):
            os.environ["XDG_STATE_HOME"] = str(lab.folder / f"state-{turn}")
            start_over(nodes)
            time_both(nodes, nodes.converge, ours)
            ours.setdefault("again", []).append(lab.timed(nodes.converge))
            start_over(nodes)
            time_both(nodes, lambda: redis_cli(nodes), theirs)
    finally:
        nodes.stop()
        os.environ.pop("XDG_STATE_HOME", None)
        if before is not None:
            os.environ["XDG_STATE_HOME"] = before
    group = "3+3 formed on local processes"
    return [
        Row(group, "module redis_cluster", ours, "target 0.8 s; again: readers only"),
        Row(group, "redis-cli --cluster create", theirs, "returns before the cluster is ok"),
    ]
