# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every inventory renders to, looked at as Kubernetes would; the original's mistakes are here as rules."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import typing as t
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from ansible_collections.progressive.platform.plugins.module_utils._preflight.quantities import quantity
from ansible_collections.progressive.platform.tests.unit.roles import rendering

Document = dict[str, t.Any]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "progressive-platform"
each_inventory = pytest.mark.parametrize("inventory", rendering.INVENTORIES)


@functools.cache
def roles(inventory: str) -> dict[str, list[Document]]:
    return rendering.documents(inventory)


def documents(inventory: str, *kinds: str) -> list[Document]:
    return [document for documents in roles(inventory).values() for document in documents if not kinds or document["kind"] in kinds]


def named(inventory: str, kind: str, name: str) -> Document:
    (found,) = [document for document in documents(inventory, kind) if document["metadata"]["name"] == name]
    return found


def containers(document: Document) -> list[Document]:
    pod = document["spec"]["template"]["spec"]
    return [*pod.get("initContainers", []), *pod["containers"]]


def selects(selector: Document, document: Document) -> bool:
    labels = document["spec"]["template"]["metadata"]["labels"]
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())


@each_inventory
def test_every_image_is_in_the_catalog_and_fixed(inventory: str) -> None:
    catalog = set(rendering.Cluster(inventory).value("catalog", "platform_image_references").values())
    images = {container["image"] for document in documents(inventory, "Deployment", "StatefulSet") for container in containers(document)}
    assert images and images <= catalog
    assert all(re.search(r"[:@][^/]+$", image) and not image.endswith(":latest") for image in images)


@each_inventory
def test_names_are_unique(inventory: str) -> None:
    keys = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in documents(inventory)]
    assert len(keys) == len(set(keys))


@each_inventory
def test_exactly_one_budget_a_pod(inventory: str) -> None:
    budgets = documents(inventory, "PodDisruptionBudget")
    for workload in documents(inventory, "Deployment", "StatefulSet"):
        assert len([one for one in budgets if selects(one["spec"]["selector"], workload)]) == 1, workload["metadata"]["name"]
        if workload["kind"] == "Deployment":
            (budget,) = [one for one in budgets if selects(one["spec"]["selector"], workload)]
            assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


@each_inventory
def test_replicas_belong_to_the_autoscaler(inventory: str) -> None:
    scaled = {one["spec"]["scaleTargetRef"]["name"] for one in documents(inventory, "HorizontalPodAutoscaler")}
    assert scaled == {one["metadata"]["name"] for one in documents(inventory, "Deployment")}
    assert not any("replicas" in one["spec"] for one in documents(inventory, "Deployment"))
    for one in documents(inventory, "HorizontalPodAutoscaler"):
        assert 1 <= one["spec"]["minReplicas"] <= one["spec"]["maxReplicas"]
        assert set(one["spec"]["behavior"]) == {"scaleUp", "scaleDown"}


@each_inventory
def test_every_pod_is_restricted(inventory: str) -> None:
    """Pod Security "restricted", a read-only root, sizes on everything written."""
    for workload in documents(inventory, "Deployment", "StatefulSet"):
        pod = workload["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(workload):
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
            assert security["capabilities"] == {"drop": ["ALL"]} and security["runAsUser"] > 0
            for side in ("requests", "limits"):
                assert set(container["resources"][side]) == {"cpu", "memory", "ephemeral-storage"}
            for resource, wanted in container["resources"]["requests"].items():
                assert quantity(wanted) <= quantity(container["resources"]["limits"][resource])
        assert all(volume["emptyDir"].get("sizeLimit") for volume in pod["volumes"] if "emptyDir" in volume)


@each_inventory
def test_tokens_only_with_rules(inventory: str) -> None:
    bound = {one["subjects"][0]["name"] for one in documents(inventory, "RoleBinding")}
    for workload in documents(inventory, "Deployment", "StatefulSet"):
        pod = workload["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is (pod["serviceAccountName"] in bound)
    assert all(account["automountServiceAccountToken"] is False for account in documents(inventory, "ServiceAccount"))
    assert not any("secrets" in rule["resources"] for role in documents(inventory, "Role") for rule in role["rules"])


@each_inventory
def test_every_pod_has_its_probes_and_they_differ(inventory: str) -> None:
    for workload in documents(inventory, "Deployment", "StatefulSet"):
        for container in workload["spec"]["template"]["spec"]["containers"]:
            probes = [container[f"{probe}Probe"] for probe in ("startup", "readiness", "liveness")]
            assert probes[1] != probes[2]


@each_inventory
def test_everything_carries_the_labels(inventory: str) -> None:
    for document in documents(inventory):
        labels = document["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "progressive-platform"
        assert labels["app.kubernetes.io/managed-by"] == "progressive.platform"
        assert labels["app.kubernetes.io/name"] and labels["app.kubernetes.io/component"]


@each_inventory
def test_services_find_their_pods(inventory: str) -> None:
    for service in documents(inventory, "Service"):
        if "selector" not in service["spec"]:
            assert service["metadata"]["name"].startswith("postgres-primary"), "only Patroni writes endpoints of its own"
            continue
        (workload,) = [
            one for one in documents(inventory, "Deployment", "StatefulSet") if selects({"matchLabels": service["spec"]["selector"]}, one)
        ]
        offered = {port["name"] for container in containers(workload) for port in container.get("ports", [])}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= offered


@each_inventory
def test_flows_are_opened_at_both_ends(inventory: str) -> None:
    """Who may call Redis or an agent by its own policy is let in by theirs, on the port."""
    workloads = documents(inventory, "Deployment", "StatefulSet")
    policies = [one for one in documents(inventory, "NetworkPolicy") if one["spec"]["podSelector"]]
    checked = 0
    for caller in workloads:
        for policy in (one for one in policies if selects(one["spec"]["podSelector"], caller)):
            for rule in policy["spec"].get("egress") or []:
                for callee in workloads:
                    peers = [peer for peer in rule["to"] if "podSelector" in peer and "namespaceSelector" not in peer]
                    if not any(selects(peer["podSelector"], callee) for peer in peers):
                        continue
                    ports = {
                        port["name"]: port["containerPort"]
                        for one in callee["spec"]["template"]["spec"]["containers"]
                        for port in one["ports"]
                    }
                    opened = {
                        ports.get(port["port"], port["port"])
                        for their in policies
                        if selects(their["spec"]["podSelector"], callee)
                        for let_in in their["spec"].get("ingress") or []
                        if any(selects(peer.get("podSelector", {}), caller) for peer in let_in["from"] if "namespaceSelector" not in peer)
                        for port in let_in["ports"]
                    }
                    wanted = {port["port"] for port in rule["ports"]}
                    assert wanted <= opened, f"{caller['metadata']['name']} -> {callee['metadata']['name']}: {wanted - opened} is closed"
                    checked += 1
    assert checked >= 10


@each_inventory
def test_redis_memory_leaves_room(inventory: str) -> None:
    limit = quantity(
        named(inventory, "StatefulSet", "redis-cluster")["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
    )
    conf = dict(
        line.split(" ", 1)
        for line in named(inventory, "ConfigMap", "redis-cluster")["data"]["redis.conf"].splitlines()
        if line[:1].isalpha()
    )
    assert Decimal("0.6") <= Decimal(conf["maxmemory"]) / limit <= Decimal("0.75")
    assert conf["cluster-allow-replica-migration"] == "no"
    assert "requirepass" not in conf


@each_inventory
def test_no_secret_is_rendered(inventory: str) -> None:
    assert not documents(inventory, "Secret"), "passwords are generated in the cluster; those of the vault are not in these inventories"


def test_production_has_the_originals_numbers() -> None:
    hpas = {
        one["metadata"]["name"]: (one["spec"]["minReplicas"], one["spec"]["maxReplicas"])
        for one in documents("production", "HorizontalPodAutoscaler")
    }
    assert hpas == {"progressive-framework-v5-hpa": (3, 20), "mca-hpa": (2, 10), "npa-hpa": (1, 5), "wpa-hpa": (1, 5)}
    app = named("production", "Deployment", "progressive-framework-v5")["spec"]
    assert app["strategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 2}
    assert app["template"]["spec"]["containers"][0]["resources"] == {
        "requests": {"memory": "512Mi", "cpu": "500m", "ephemeral-storage": "1Gi"},
        "limits": {"memory": "2Gi", "cpu": "2", "ephemeral-storage": "5Gi"},
    }
    mca = named("production", "Deployment", "mca-deployment")["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert (mca["requests"]["memory"], mca["requests"]["cpu"], mca["limits"]["memory"], mca["limits"]["cpu"]) == (
        "256Mi",
        "250m",
        "1Gi",
        "1",
    )
    npa = named("production", "Service", "npa-service")["spec"]
    assert npa["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 3600}}
    assert named("production", "PodDisruptionBudget", "progressive-framework-v5-pdb")["spec"]["minAvailable"] == 2
    assert named("production", "PodDisruptionBudget", "mca-pdb")["spec"]["minAvailable"] == 1
    assert named("production", "PodDisruptionBudget", "npa-pdb")["spec"]["maxUnavailable"] == "50%"
    redis = named("production", "StatefulSet", "redis-cluster")["spec"]
    assert (redis["replicas"], redis["podManagementPolicy"]) == (6, "Parallel")
    assert redis["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] == "100Gi"
    assert redis["volumeClaimTemplates"][0]["spec"]["storageClassName"] == "fast-ssd"


def test_custom_metrics_only_where_they_are_served() -> None:
    def metrics(provider: str) -> list[dict[str, t.Any]]:
        found = rendering.Cluster("production", {"platform_metrics_provider": provider}).documents("agents")
        (hpa,) = [one for one in found if one["metadata"]["name"] == "mca-hpa"]
        assert hpa["kind"] == "HorizontalPodAutoscaler"
        made: list[dict[str, t.Any]] = hpa["spec"]["metrics"]
        return made

    assert [metric["resource"]["name"] for metric in metrics("none")] == ["cpu", "memory"]
    *others, requests = metrics("prometheus_adapter")
    assert others == metrics("none")
    assert requests["external"] == {
        "metric": {"name": "agent_requests_per_second", "selector": {"matchLabels": {"job": "agents", "agent": "mca"}}},
        "target": {"type": "AverageValue", "averageValue": "50"},
    }


def test_a_keda_that_is_there_makes_the_same_autoscaler() -> None:
    cluster = rendering.Cluster("production", {"platform_metrics_provider": "keda"})
    found = cluster.documents("agents")
    assert "HorizontalPodAutoscaler" not in {one["kind"] for one in found}
    (scaled,) = [one["spec"] for one in found if one["kind"] == "ScaledObject" and one["metadata"]["name"] == "mca-deployment"]
    hpa = named("production", "HorizontalPodAutoscaler", "mca-hpa")["spec"]
    config = scaled["advanced"]["horizontalPodAutoscalerConfig"]
    assert (config["name"], config["behavior"]) == ("mca-hpa", hpa["behavior"])
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (hpa["minReplicas"], hpa["maxReplicas"])
    assert scaled["scaleTargetRef"] == hpa["scaleTargetRef"]
    cpu, memory, requests = scaled["triggers"]
    assert (cpu["metadata"], memory["metadata"]) == ({"value": "70"}, {"value": "80"})
    assert requests["metadata"] == {
        "serverAddress": "http://prometheus.monitoring.svc.cluster.local:9090",
        "query": 'sum(agent_requests_per_second{namespace="progressive-framework-prod", job="agents", agent="mca"})',
        "threshold": "50",
        "ignoreNullValues": "false",
    }
    # Services that count no requests keep their autoscaler.
    assert {one["kind"] for one in cluster.documents("app")} >= {"HorizontalPodAutoscaler"}


def test_a_fourth_agent_is_five_lines() -> None:
    added = yaml.safe_load("""
      spa:
        labels: {component: sleep-agent}
        environment: {AGENT_SPECIALIZATION: sleep}
        scaling: {max: 3}
        budget: {max_unavailable: 1}
    """)
    given = yaml.safe_load((rendering.ROOT / "inventories/local/group_vars/all/agents.yml").read_text())["agents_services"]
    before = {(one["kind"], one["metadata"]["name"]): one for one in roles("local")["agents"]}
    after = {
        (one["kind"], one["metadata"]["name"]): one for one in rendering.documents("local", {"agents_services": given | added})["agents"]
    }
    assert {name for _unused, name in set(after) - set(before)} == {"spa", "spa-deployment", "spa-service", "spa-sa", "spa-hpa", "spa-pdb"}
    changed = [key for key in before if before[key] != after[key]]
    assert changed == [("Deployment", "mca-deployment")], "only the coordinator is told"
    peers = {one["name"]: one.get("value") for one in containers(after[changed[0]])[0]["env"]}["PEERS"]
    assert peers == "npa=http://npa-service,wpa=http://wpa-service,spa=http://spa-service"


def test_options_can_be_switched_off() -> None:
    given = {
        "npa": {"scaling": None, "budget": None, "replicas": 4, "volumes": {"logs": None}, "probes": {"startup": None}},
        "mca": {},
        "wpa": None,
    }
    found = rendering.documents("local", {"agents_services": given})["agents"]
    names = {(one["kind"], one["metadata"]["name"]) for one in found}
    assert ("HorizontalPodAutoscaler", "npa-hpa") not in names and ("PodDisruptionBudget", "npa-pdb") not in names
    assert not any(name.startswith("wpa") for _unused, name in names)
    (npa,) = [one for one in found if one["metadata"]["name"] == "npa-deployment"]
    assert npa["spec"]["replicas"] == 4
    assert [volume["name"] for volume in npa["spec"]["template"]["spec"]["volumes"]] == ["tmp", "redis", "mongodb"]
    assert "startupProbe" not in containers(npa)[0]
    whole = {"environment": None, "files": None, "volumes": None, "init": None, "environment_secrets": None, "ports": {"metrics": None}}
    changes = {"agents_services": {**given, "npa": whole}, "platform_mesh": True}
    documents = [one for one in rendering.documents("local", changes)["agents"] if one["metadata"]["name"] in ("npa", "npa-deployment")]
    (pod,) = [one["spec"]["template"]["spec"] for one in documents if one["kind"] == "Deployment"]
    assert not pod["volumes"] and "initContainers" not in pod and all("fieldRef" in one["valueFrom"] for one in pod["containers"][0]["env"])
    (policy,) = [one for one in documents if one["kind"] == "AuthorizationPolicy"]
    assert "metrics" not in str(policy) and "'8090'" not in str(policy), "nobody is let in to a port that is not there"


def test_secrets_of_the_vault_reach_the_namespace() -> None:
    secrets = {"registry": {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "{}"}}}
    (secret,) = [one for one in rendering.documents("staging", {"baseline_secrets": secrets})["baseline"] if one["kind"] == "Secret"]
    assert (secret["type"], secret["data"]) == ("kubernetes.io/dockerconfigjson", {".dockerconfigjson": "e30="})


def test_kube_score_finds_nothing_critical_in_production(tmp_path: Path) -> None:
    """The original's own manifests have 82 such findings. The program is built with the local cluster."""
    program = CACHE / "bin/kube-score"
    assert program.exists(), "make up builds it"
    bundle = tmp_path / "production.yaml"
    found = [{**one, "metadata": {"namespace": "progressive-framework-prod", **one["metadata"]}} for one in documents("production")]
    bundle.write_text(yaml.safe_dump_all(found))
    answer = subprocess.run(
        [str(program), "score", "--output-format", "ci", str(bundle)], capture_output=True, text=True, timeout=60, check=False
    )
    assert "[OK]" in answer.stdout
    assert [line for line in answer.stdout.splitlines() if line.startswith("[CRITICAL]")] == []


@each_inventory
def test_priorities_exist_and_are_this_platforms_own(inventory: str) -> None:
    made = {one["metadata"]["name"]: one["value"] for one in documents(inventory, "PriorityClass")}
    used = {
        one["metadata"]["name"]: one["spec"]["template"]["spec"]["priorityClassName"]
        for one in documents(inventory, "Deployment", "StatefulSet")
    }
    assert set(used.values()) <= set(made)
    namespace = rendering.Cluster(inventory).value("catalog", "platform_namespace")
    assert all(name.startswith(f"{namespace}-") for name in made)
    assert made[used["redis-cluster"]] > made[used["mca-deployment"]], "data is evicted last"
