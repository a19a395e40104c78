# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pools take only what is theirs, and a node that is drained moves what it must without breaking a budget, in a namespace of the test's own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.progressive.platform.tests.cluster.playbooks import ROOT, eventually, installed, playbook

NAMESPACE, PLATFORM = "nodes-probes", "progressive-framework-local"
AGENTS = ROOT / "inventories/local/group_vars/all/agents.yml"
PATIENCE = 240  # seconds

pytestmark = [pytest.mark.slow, pytest.mark.alone]

Json = dict[str, Any]


class Cluster:
    def __init__(self, kubectl: Callable[..., str], variables: Path) -> None:
        self.kubectl, self.variables = kubectl, variables

    def named(self, kind: str, namespace: str = NAMESPACE) -> dict[str, Json]:
        found = json.loads(self.kubectl("-n", namespace, "get", kind, "-o", "json"))["items"]
        return {item["metadata"]["name"]: item for item in found if not item["metadata"].get("deletionTimestamp")}

    def pools(self) -> dict[str, str]:
        return {node["metadata"]["labels"]["node-type"]: name for name, node in self.named("nodes").items()}

    def placed(self) -> dict[str, str]:
        """Ready pods by name, and the node of each."""
        return {
            name: pod["spec"]["nodeName"]
            for name, pod in self.named("pods").items()
            if any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", []))
        }

    def broken(self) -> list[str]:
        """Budgets of both platforms with fewer healthy pods than they promise."""
        return [
            f"{namespace}/{name}"
            for namespace in (NAMESPACE, PLATFORM)
            for name, budget in self.named("poddisruptionbudgets", namespace).items()
            if budget["status"]["currentHealthy"] < budget["status"]["desiredHealthy"]
        ]


@pytest.fixture(scope="module")
def cluster(kubectl: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    wanted = {
        "platform_namespace": NAMESPACE,
        "platform_components": ["baseline", "postgresql", "redis_cluster", "agents"],
        "postgresql_pools": ["database"],
        "redis_cluster_pools": ["cache"],
        "redis_cluster_spread": "ScheduleAnyway",
        "agents_defaults": yaml.safe_load(AGENTS.read_text())["agents_defaults"] | {"pools": ["app"]},
    }
    with installed(tmp_path_factory.mktemp("nodes"), wanted) as variables:
        yield Cluster(kubectl, variables)


def test_a_pool_takes_only_its_own(cluster: Cluster) -> None:
    components: dict[str, set[str]] = {}
    for pod in cluster.named("pods").values():
        components.setdefault(pod["spec"]["nodeName"], set()).add(pod["metadata"]["labels"]["component"])
    pools = cluster.pools()
    assert components[pools["database"]] == {"postgresql"}
    assert components[pools["cache"]] == {"redis"}
    assert {one for one in components[pools["app"]] if one.endswith("-agent")} == components[pools["app"]]


def test_a_drained_node_moves_what_it_must_and_breaks_no_budget(cluster: Cluster) -> None:
    """The cache's node becomes one of the application's pool too, or there was nowhere to go. What the other platform has on the drained node it may
    keep: two pods of its Redis are there with their volumes, and its budget lets one go."""
    pools = cluster.pools()
    leaves, takes = pools["app"], pools["cache"]
    moving = {name for name, node in cluster.placed().items() if node == leaves}
    assert len(moving) > 2
    broken: list[str] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.3):
            broken.extend(cluster.broken())

    assert not cluster.broken()
    watcher = threading.Thread(target=watch)
    cluster.kubectl("label", "node", takes, "node-type=app", "--overwrite")
    cluster.kubectl("taint", "node", takes, "cache-workload-")
    try:
        watcher.start()
        options = ("--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=100s")
        said = cluster.kubectl("drain", leaves, *options, check=False)
        print(said[-2000:])
        eventually("every pod is ready elsewhere", lambda: len(cluster.placed()) == len(cluster.named("pods")), PATIENCE)
        over.set()
        watcher.join(60)
        there = cluster.placed()
        print(f"{len(moving)} pods moved from {leaves}; budgets broken: {sorted(set(broken))}")
        assert not broken and not moving & set(there) and leaves not in there.values()
    finally:
        over.set()
        cluster.kubectl("uncordon", leaves)
        cluster.kubectl("taint", "node", takes, "cache-workload=true:NoSchedule", "--overwrite")
        cluster.kubectl("label", "node", takes, "node-type=cache", "--overwrite")
    playbook("verify", cluster.variables)
