# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real descheduler, with the policy and the rights that role autoscaling sends, on a control plane whose nodes and pods are KWOK's.

Everything was put on the only node there was; then two more came. The agent mca is the one that role agents sends.
"""

from __future__ import annotations

import re
import ssl
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.tests.kwok import lab
from ansible_collections.progressive.platform.tests.unit.roles import rendering

pytestmark = pytest.mark.slow  # what it runs is compiled for many minutes

Json = dict[str, Any]
NAMESPACE, ELSEWHERE = "progressive-framework-prod", "elsewhere"
ACCOUNT = "descheduler"
# What stays where it is, and why; all of them have three pods on one node, as mca has.
SPARED = {"of-data": "priority", "with-claim": "volume claim", "kept": "budget", "unwilling": "annotation"}


def wanted(**changes: Any) -> list[Json]:
    components = ["baseline", "agents", "autoscaling"]
    options = {"platform_components": components, "platform_metrics_provider": "none", "autoscaling_descheduler": True, **changes}
    return rendering.Cluster("production", options).documents("autoscaling")


def send(client: Client, *documents: Json) -> None:
    lab.send(client, *documents, namespace=NAMESPACE)


def named(kind: str, name: str, namespace: str = NAMESPACE, version: str = "v1", **rest: Any) -> Json:
    return lab.named(kind, name, namespace, version, **rest)


def workload(name: str, namespace: str = NAMESPACE, annotations: Json | None = None, **spec: Any) -> Json:
    """Three pods that are to be in three zones, if that can be."""
    labels = {"app": name}
    spread = {"topologyKey": "topology.kubernetes.io/zone", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}
    pod = {
        "topologySpreadConstraints": [{**spread, "labelSelector": {"matchLabels": labels}}],
        "containers": [{"name": "main", "image": "none"}],
        **spec,
    }
    template = {"metadata": {"labels": labels, "annotations": annotations or {}}, "spec": pod}
    return named("Deployment", name, namespace, "apps/v1", spec={"replicas": 3, "selector": {"matchLabels": labels}, "template": template})


def places(client: Client, namespace: str = NAMESPACE) -> dict[str, Counter[str]]:
    """How many pods of each workload are on which node; those that are leaving are gone."""
    found: dict[str, Counter[str]] = {}
    for pod in client.list(client.resource("v1", "Pod"), namespace)["items"]:
        node = pod["spec"].get("nodeName")
        if node and not pod["metadata"].get("deletionTimestamp"):
            found.setdefault(pod["metadata"]["labels"]["app"], Counter())[node] += 1
    return found


class Descheduler:
    """The program as the pod runs it, but on this machine: with its ServiceAccount's token and nobody's rights but that one's."""

    def __init__(self, cluster: lab.Cluster, program: str, documents: list[Json], name: str) -> None:
        self.cluster, self.name = cluster, name
        (policy,) = [it["data"]["policy.yaml"] for it in documents if it["kind"] == "ConfigMap"]
        (deployment,) = [it for it in documents if it["kind"] == "Deployment"]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        (self.port,) = lab.free_ports(1)
        path = cluster.folder / f"{name}.yaml"
        path.write_text(policy)
        kubeconfig = cluster.write_account("autoscaling", ACCOUNT)
        # As it is sent, but for where it is and how long it waits.
        given = [flag for flag in container["command"][1:] if not flag.startswith(("--policy", "--secure-port", "--descheduling-interval"))]
        own = [f"--policy-config-file={path}", f"--secure-port={self.port}", "--bind-address=127.0.0.1", f"--kubeconfig={kubeconfig}"]
        cluster.start(name, [program, *given, *own, "--descheduling-interval=2s"])

    @property
    def log(self) -> str:
        return (self.cluster.folder / f"{self.name}.log").read_text()

    def metrics(self) -> dict[str, float]:
        unverified = ssl.create_default_context()
        unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
        with urllib.request.urlopen(f"https://127.0.0.1:{self.port}/metrics", context=unverified, timeout=5) as answer:
            lines = [line.rpartition(" ") for line in answer.read().decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _space, value in lines}

    def looks(self) -> int:
        return self.log.count("Number of evictions/requests")

    def look(self, times: int) -> None:
        before = self.looks()

        def looked() -> bool:
            assert self.cluster.processes[self.name].poll() is None, self.log[-3000:]
            return self.looks() >= before + times

        lab.until(looked, f"{times} looks of {self.name}: {self.log[-3000:]}", 60)


@pytest.fixture(scope="module")
def program() -> str:
    """As its image is made of."""
    found = lab.CACHE.with_name("images") / "programs/descheduler"
    return str(found) if found.exists() else pytest.skip("no descheduler: `make monitoring` builds its image and runs this")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, program: str) -> Iterator[lab.Cluster]:
    if reason := lab.missing():
        pytest.skip(reason)
    with lab.clusters(tmp_path_factory.mktemp("descheduler"), ["one"], nodes=1) as (made,):
        with made.client() as client:
            fill(client)
        made.nodes(3)
        yield made


def fill(client: Client) -> None:
    """The platform's namespace with mca and what is to be spared, another namespace, and what the role sends; all pods on the only node."""
    send(client, *(named("Namespace", name, "") for name in (NAMESPACE, ELSEWHERE, "autoscaling")))
    for name, value in {"data": 1000000, "application": 100000}.items():
        send(client, named("PriorityClass", f"{NAMESPACE}-{name}", "", "scheduling.k8s.io/v1", value=value))
    agents = rendering.Cluster("production", {"platform_components": ["baseline", "agents"]}).documents("agents")
    (mca,) = [it for it in agents if it["kind"] == "Deployment" and it["metadata"]["name"] == "mca-deployment"]
    mca["spec"]["replicas"] = 6
    mine = [it for it in agents if it["kind"] in ("ServiceAccount", "PodDisruptionBudget") and "mca" in it["metadata"]["name"]]
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeName": "there"}
    claimed = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    volume = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/nowhere"}, "storageClassName": ""}
    budget = {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "kept"}}}
    send(
        client,
        *mine,
        mca,
        named("PersistentVolume", "there", "", spec=volume),
        named("PersistentVolumeClaim", "data", spec={**claim, "storageClassName": ""}),
        named("PodDisruptionBudget", "kept", version="policy/v1", spec=budget),
        workload("of-data", priorityClassName=f"{NAMESPACE}-data"),
        workload("with-claim", volumes=[claimed]),
        workload("kept"),
        workload("unwilling", annotations={"descheduler.alpha.kubernetes.io/prefer-no-eviction": "true"}),
        workload("stranger", ELSEWHERE),
        *(it for it in wanted() if it["kind"] in ("ServiceAccount", "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")),
    )

    def all_there() -> bool:
        return places(client) == {"mca": {"node-0": 6}, **{name: {"node-0": 3} for name in SPARED}} and len(places(client, ELSEWHERE)) == 1

    lab.until(all_there, "every pod is on the only node")


@pytest.fixture
def descheduler(cluster: lab.Cluster, program: str, request: pytest.FixtureRequest) -> Iterator[Callable[..., Descheduler]]:
    name = request.node.originalname

    yield lambda **changes: Descheduler(cluster, program, wanted(**changes), name)
    if name in cluster.processes:
        cluster.stop(name)


def spares(**changes: Any) -> Json:
    return {"autoscaling_descheduler_spares": {"priority": "data", "replicas": 2, "age": 0, "scratch": False, **changes}}


def test_the_young_stay(cluster: lab.Cluster, descheduler: Callable[..., Descheduler]) -> None:
    """The policy as production has it: every pod is younger than ten minutes."""
    running = descheduler()
    running.look(2)
    with cluster.client() as client:
        assert places(client)["mca"] == {"node-0": 6}


def test_pods_with_a_folder_of_their_own_stay_where_that_is_wanted(cluster: lab.Cluster, descheduler: Callable[..., Descheduler]) -> None:
    """So nobody of ours moves at all, for each service has an emptyDir for /tmp; the default is the next test's."""
    running = descheduler(**spares(scratch=True))
    running.look(2)
    with cluster.client() as client:
        assert places(client)["mca"] == {"node-0": 6}


def test_pods_go_where_the_scheduler_would_put_them_and_data_stays(cluster: lab.Cluster, descheduler: Callable[..., Descheduler]) -> None:
    with cluster.client() as client:
        before = pods(client)
        running = descheduler(**spares())
        lab.until(lambda: sorted(places(client).get("mca", {}).values()) == [2, 2, 2], "mca is in three zones", 60)
        running.look(3)
        found = places(client)
        assert sorted(found["mca"].values()) == [2, 2, 2], "and it comes to rest"
        assert {name: found[name] for name in SPARED} == {name: {"node-0": 3} for name in SPARED}, SPARED
        assert places(client, ELSEWHERE)["stranger"] == {"node-0": 3}
        after = pods(client)
    assert {uid for uid, app in before.items() if app != "mca"} <= set(after), "not one of them was started again"
    assert len({uid for uid, app in before.items() if app == "mca"} & set(after)) == 2, "four of six had to go, and no more did"
    # What it lacks would stand here; the budget's refusals do.
    assert "forbidden" not in running.log.lower(), running.log[-3000:]
    assert re.search(r"Cannot evict pod as it would violate the pod's disruption budget", running.log), running.log[-3000:]
    metrics = running.metrics()
    evicted = {name: value for name, value in metrics.items() if name.startswith("descheduler_pods_evicted_total{")}
    results: Counter[str] = Counter()
    for name, value in evicted.items():
        assert f'namespace="{NAMESPACE}"' in name and 'strategy="' in name
        results[re.search(r'result="([^"]*)"', name)[1]] += int(value)  # type: ignore[index]
    assert results["success"] == 4 and results["error"] > 0, results
    assert metrics["descheduler_loop_duration_seconds_count"] > 3


def test_a_taint_empties_a_node_of_who_may_go(cluster: lab.Cluster, descheduler: Callable[..., Descheduler]) -> None:
    with cluster.client() as client:
        taint(client, "node-1")
        descheduler(**spares())
        lab.until(lambda: not places(client)["mca"]["node-1"] and sum(places(client)["mca"].values()) == 6, "mca has left node-1", 60)


def test_without_its_rights_it_moves_nobody_and_says_so(cluster: lab.Cluster, descheduler: Callable[..., Descheduler]) -> None:
    """That the token counts is seen by taking the right to evict away."""
    with cluster.client() as client:
        binding = client.resource("rbac.authorization.k8s.io/v1", "RoleBinding").path(NAMESPACE, "autoscaling-descheduler")
        client.request("DELETE", binding)
        before = {uid for uid, app in pods(client).items() if app == "mca"}
        taint(client, "node-2")
        running = descheduler(**spares())
        lab.until(lambda: "forbidden" in running.log, "it is told that it may not", 60)
        assert before == {uid for uid, app in pods(client).items() if app == "mca"}


def taint(client: Client, name: str) -> None:
    path = client.resource("v1", "Node").path("", name)
    node = client.get(path)
    node["spec"]["taints"] = [{"key": "database-workload", "value": "true", "effect": "NoSchedule"}]
    client.request("PUT", path, node)


def pods(client: Client) -> dict[str, str]:
    """The workload of each pod by uid."""
    items = client.list(client.resource("v1", "Pod"), NAMESPACE)["items"]
    return {it["metadata"]["uid"]: it["metadata"]["labels"]["app"] for it in items}
