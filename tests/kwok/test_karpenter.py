# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real Karpenter with the NodePools that role autoscaling sends: it makes nodes of KWOK's for PostgreSQL and an agent, as their roles send them.

Its makers' own provider for tests stands where a cloud's would: the node class is another, and the instances are those of the original's table.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.tests.kwok import lab
from ansible_collections.progressive.platform.tests.unit.roles import rendering

pytestmark = pytest.mark.slow  # what it runs is compiled for many minutes

Json = dict[str, Any]
SLOW = 600.0  # seconds for nodes to go: one after the other, and Karpenter thinks each over for a quarter of a minute
NAMESPACE, PROGRAM = "progressive-framework-prod", "karpenter"
MODULE = "sigs.k8s.io/karpenter@v1.15.0"
DEFINITIONS = [
    *(f"pkg/apis/crds/{name}.yaml" for name in ("karpenter.sh_nodeclaims", "karpenter.sh_nodeoverlays", "karpenter.sh_nodepools")),
    "kwok/apis/crds/karpenter.kwok.sh_kwoknodeclasses.yaml",
]
CLASS = {"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": "default"}
VARIABLES: Json = {
    "platform_components": ["baseline", "postgresql", "agents", "autoscaling"],
    "platform_metrics_provider": "none",
    "autoscaling_nodes": "karpenter",
    "autoscaling_karpenter": {"node_class": CLASS, "capacity": ["on-demand"], "expire_after": "720h", "consolidate_after": "5s"},
}


def instances(groups: Json) -> list[Json]:
    """What the provider can make: each of the groups' instances, of the size that the table says, in three zones."""
    found = []
    for group in filter(None, groups.values()):
        for kind in group["instances"]:
            offered = [
                {"karpenter.sh/capacity-type": "on-demand", "topology.kubernetes.io/zone": f"zone-{zone + 1}"} for zone in range(lab.ZONES)
            ]
            offerings = [
                {
                    "Price": 1,
                    "Available": True,
                    "Requirements": [{"key": key, "operator": "In", "values": [value]} for key, value in it.items()],
                }
                for it in offered
            ]
            size = {"cpu": str(group["cpu"]), "memory": group["memory"], "ephemeral-storage": "200Gi", "pods": "110"}
            found.append({"name": kind, "offerings": offerings, "architecture": "amd64", "operatingSystems": ["linux"], "resources": size})
    return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Cluster]:
    """A cluster without a node."""
    if reason := lab.missing(PROGRAM):
        pytest.skip(reason)
    rendered = rendering.Cluster("production", VARIABLES)
    with lab.clusters(tmp_path_factory.mktemp("karpenter"), ["one"], nodes=0) as (made,):
        table = made.folder / "instances.json"
        table.write_text(json.dumps(instances(rendered.value("autoscaling", "autoscaling_node_groups"))))
        with made.client() as client:
            lab.define(client, *(lab.module(MODULE) / path for path in DEFINITIONS))
            node_class = lab.named(CLASS["kind"], CLASS["name"], "", f"{CLASS['group']}/v1alpha1", spec={})
            lab.send(client, node_class, *rendered.documents("autoscaling"), namespace="")
            fill(client, rendered)
        metrics, probes = lab.free_ports(2)
        settings = {
            "KUBECONFIG": made.admin,
            "SYSTEM_NAMESPACE": "kube-system",
            "DISABLE_LEADER_ELECTION": "true",
            "METRICS_PORT": metrics,
            "HEALTH_PROBE_PORT": probes,
            "INSTANCE_TYPES_FILE_PATH": table,
            "BATCH_MAX_DURATION": "2s",
        }
        made.start(PROGRAM, ["env", *(f"{key}={value}" for key, value in settings.items()), lab.CACHE / PROGRAM])
        yield made


def fill(client: Client, rendered: rendering.Cluster) -> None:
    """Three databases, of which a node takes one, and three pods of an agent that want two processors each; nobody has a node."""
    baseline = [it for it in rendered.documents("baseline") if it["kind"] in ("Namespace", "PriorityClass")]
    agents = [it for it in rendered.documents("agents") if "mca" in it["metadata"]["name"].split("-")]
    (mca,) = [it for it in agents if it["kind"] == "Deployment"]
    mca["spec"]["replicas"] = 3
    mca["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "2", "memory": "1Gi"}}
    wanted = ("ServiceAccount", "PodDisruptionBudget", "Deployment", "StatefulSet")
    documents = [it for it in [*agents, *rendered.documents("postgresql")] if it["kind"] in wanted]
    (postgres,) = [it for it in documents if it["kind"] == "StatefulSet"]
    postgres["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "3", "memory": "4Gi"}}
    lab.send(client, *sorted(baseline, key=lambda it: it["kind"] != "Namespace"), namespace=NAMESPACE)
    lab.send(client, *lab.volumes(postgres, 5), *documents, namespace=NAMESPACE)


def scale(client: Client, kind: str, name: str, replicas: int) -> None:
    path = client.resource("apps/v1", kind).path(NAMESPACE, name)
    client.request("PATCH", f"{path}/scale", {"spec": {"replicas": replicas}}, content_type="application/merge-patch+json")


def nodes(client: Client) -> dict[str, Json]:
    return {it["metadata"]["name"]: it for it in client.list(client.resource("v1", "Node"))["items"]}


def pools(client: Client) -> Counter[str]:
    """How many nodes of each pool there are."""
    return Counter(node["metadata"]["labels"]["node-type"] for node in nodes(client).values())


def pods(client: Client, app: str) -> list[Json]:
    found = client.list(client.resource("v1", "Pod"), NAMESPACE, labelSelector=f"app={app}")["items"]
    return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]


def ready(client: Client, app: str) -> int:
    return sum(lab.is_ready(pod) for pod in pods(client, app))


def log(cluster: lab.Cluster) -> str:
    return (cluster.folder / f"{PROGRAM}.log").read_text()[-3000:]


def test_pods_that_wait_get_nodes_of_their_pool(cluster: lab.Cluster) -> None:
    with cluster.client() as client:
        lab.until(lambda: (ready(client, "postgres"), ready(client, "mca")) == (3, 3), f"everybody has a node: {log(cluster)}")
        found = nodes(client)
        stands = {app: [found[pod["spec"]["nodeName"]] for pod in pods(client, app)] for app in ("postgres", "mca")}
        said = ("karpenter.sh/nodepool", "node-type", "node.kubernetes.io/instance-type")
        for app, wanted in {"postgres": ("database", "database", "r5.xlarge"), "mca": ("app", "app", "c5.2xlarge")}.items():
            assert {tuple(node["metadata"]["labels"][label] for label in said) for node in stands[app]} == {wanted}
        for node in stands["postgres"]:
            taints = {(it["key"], it["effect"]) for it in node["spec"]["taints"]}
            assert ("database-workload", "NoSchedule") in taints, "by which everybody else stays away"
        assert not any(it["key"] == "database-workload" for node in stands["mca"] for it in node["spec"].get("taints") or [])
        assert len({node["metadata"]["name"] for node in stands["postgres"]}) == 3
        assert len({node["metadata"]["labels"]["topology.kubernetes.io/zone"] for node in stands["postgres"]}) == 3, "a zone each"
        lab.until(lambda: pools(client) == used(client), f"no node is there for nothing: {log(cluster)}", SLOW)


def used(client: Client) -> Counter[str]:
    """How many nodes of each pool somebody stands on."""
    taken = {pod["spec"].get("nodeName") for app in ("postgres", "mca") for pod in pods(client, app)}
    return Counter(node["metadata"]["labels"]["node-type"] for name, node in nodes(client).items() if name in taken)


def test_no_group_grows_beyond_its_largest(cluster: lab.Cluster) -> None:
    """Three nodes' processors are what the original has for databases; the fourth pod and the fifth wait, and are told why."""
    with cluster.client() as client:
        before = pools(client)["database"]
        scale(client, "StatefulSet", "postgres", 5)

        def refused() -> set[str]:
            events = client.list(client.resource("v1", "Event"), NAMESPACE, fieldSelector="reason=FailedScheduling")["items"]
            told = [it for it in events if "exceed" in it["message"] and "limits" in it["message"]]
            return {it["involvedObject"]["name"] for it in told}

        lab.until(lambda: refused() == {"postgres-3", "postgres-4"}, f"two are refused: {log(cluster)}")
        assert (pools(client)["database"], ready(client, "postgres")) == (before, 3)
        scale(client, "StatefulSet", "postgres", 3)
        lab.until(lambda: len(pods(client, "postgres")) == 3, "they are gone")


def test_empty_nodes_go_and_data_stays_where_it_is(cluster: lab.Cluster) -> None:
    with cluster.client() as client:
        before = {pod["metadata"]["uid"]: pod["spec"]["nodeName"] for pod in pods(client, "postgres")}
        scale(client, "Deployment", "mca-deployment", 0)
        lab.until(lambda: pools(client) == {"database": 3}, f"nobody stands on the application's nodes: {log(cluster)}", SLOW)
        assert {pod["metadata"]["uid"]: pod["spec"]["nodeName"] for pod in pods(client, "postgres")} == before
        scale(client, "StatefulSet", "postgres", 2)
        lab.until(lambda: pools(client) == {"database": 2}, f"nor on the third of the databases': {log(cluster)}", SLOW)
