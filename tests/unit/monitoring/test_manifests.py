# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What role monitoring sends, for either provider, and the exporter that Redis brings."""

from __future__ import annotations

import typing as t

import pytest
import yaml
from ansible_collections.progressive.platform.plugins.module_utils._preflight.quantities import quantity
from ansible_collections.progressive.platform.tests.unit.monitoring import gathered
from ansible_collections.progressive.platform.tests.unit.roles.rendering import INVENTORIES, Cluster

Document = dict[str, t.Any]
each_inventory = pytest.mark.parametrize("inventory", INVENTORIES)
CHANGES = {"platform_components": gathered.COMPONENTS, "autoscaling_descheduler": True}
ELSEWHERE = ("coredns", "istiod", "envoy")  # pods of the cluster's own, and of Istio's charts and injection


def of(kind: str, documents: list[Document]) -> dict[str, Document]:
    return {document["metadata"]["name"]: document for document in documents if document["kind"] == kind}


def configuration(inventory: str) -> Document:
    made: Document = yaml.safe_load(of("ConfigMap", gathered.manifests(inventory))["prometheus-config"]["data"]["prometheus.yml"])
    return made


def workloads(documents: list[Document]) -> list[Document]:
    return [document for document in documents if document["kind"] in ("Deployment", "StatefulSet", "DaemonSet")]


@each_inventory
def test_every_pod_is_restricted_but_the_one_that_reads_its_node(inventory: str) -> None:
    documents = gathered.manifests(inventory) + [
        document for document in Cluster(inventory, CHANGES).documents("redis_cluster") if document["metadata"]["name"] == "redis-exporter"
    ]
    levels = {name: one["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] for name, one in of("Namespace", documents).items()}
    assert levels == {"monitoring": "restricted", "monitoring-nodes": "privileged"}
    assert len(workloads(documents)) == 5
    for workload in workloads(documents):
        pod = workload["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            security = container["securityContext"]
            assert (
                security["readOnlyRootFilesystem"]
                and not security["allowPrivilegeEscalation"]
                and security["capabilities"] == {"drop": ["ALL"]}
            )
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
            for resource, wanted in container["resources"]["requests"].items():
                assert quantity(wanted) <= quantity(container["resources"]["limits"][resource])
        host = workload["metadata"]["name"] == "node-exporter"
        assert bool(pod.get("hostNetwork")) is host
        assert all(("hostPath" in volume) is host for volume in pod.get("volumes", []))


@each_inventory
def test_one_budget_a_pod(inventory: str) -> None:
    documents = gathered.manifests(inventory)
    budgets = [one["spec"]["selector"]["matchLabels"]["app"] for one in of("PodDisruptionBudget", documents).values()]
    assert sorted(budgets) == sorted(
        one["spec"]["selector"]["matchLabels"]["app"] for one in workloads(documents) if one["kind"] != "DaemonSet"
    )


@each_inventory
def test_tokens_and_rights_of_those_who_ask(inventory: str) -> None:
    documents = gathered.manifests(inventory)
    tokens = {one["metadata"]["name"]: one["spec"]["template"]["spec"]["automountServiceAccountToken"] for one in workloads(documents)}
    assert tokens == {"prometheus": True, "kube-state-metrics": True, "alertmanager": False, "node-exporter": False}
    for role in of("ClusterRole", documents).values():
        for rule in role["rules"]:
            assert set(rule["verbs"]) <= {"get", "list", "watch"} and not {"secrets", "configmaps", "*"} & set(rule.get("resources", []))


@each_inventory
def test_everything_that_is_scraped_is_there_with_its_port(inventory: str) -> None:
    """A target's labels and port name are those of pods that the roles send."""
    cluster = Cluster(inventory, CHANGES)
    sent = [document for role in gathered.COMPONENTS if role != "monitoring" for document in cluster.documents(role)] + gathered.manifests(
        inventory
    )
    checked = 0
    for component in gathered.components(inventory):
        for target in component.targets:
            if target["kind"] != "pods" or target["job"] in ELSEWHERE:
                continue
            pods = [one["spec"]["template"] for one in workloads(sent)]
            chosen = [pod for pod in pods if target["selector"].items() <= pod["metadata"]["labels"].items()]
            assert chosen, target["job"]
            for pod in chosen:
                ports = {port["name"] for container in pod["spec"]["containers"] for port in container.get("ports", [])}
                # A sidecar's port is one of the pod that is injected.
                assert target["port"] in ports | ({"http-envoy-prom"} if target["number"] else set()), (
                    f"{target['job']}: no port {target['port']}"
                )
            assert all(label in pod["metadata"]["labels"] for pod in chosen for label in target["labels"].values())
            checked += 1
    assert checked >= 8


@each_inventory
def test_the_configuration(inventory: str) -> None:
    found = configuration(inventory)
    jobs = {job["job_name"]: job for job in found["scrape_configs"]}
    assert {
        "apiserver",
        "kubelet",
        "cadvisor",
        "kube-state-metrics",
        "node-exporter",
        "app",
        "agents",
        "redis",
        "postgresql",
    } <= set(jobs)
    assert all(job["sample_limit"] > 0 for job in jobs.values())
    assert "insecure_skip_verify" not in jobs["apiserver"]["tls_config"]
    target = next(entry for entry in jobs["redis"]["relabel_configs"] if entry.get("target_label") == "__param_target")
    tls = Cluster(inventory, CHANGES).value("redis_cluster", "redis_cluster_tls")
    assert target["replacement"].startswith("rediss://" if tls else "redis://")


@each_inventory
def test_what_is_kept_fits_the_volume(inventory: str) -> None:
    server = of("StatefulSet", gathered.manifests(inventory))["prometheus"]["spec"]
    (size,) = [
        argument.partition("=")[2] for argument in server["template"]["spec"]["containers"][0]["args"] if "retention.size" in argument
    ]
    volume = server["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]
    assert 0 < quantity(size.removesuffix("B")) <= quantity(volume) * 9 / 10


def test_alertmanager_tells_somebody_and_knows_its_peers() -> None:
    changes = {
        **gathered.CHANGES,
        "monitoring_receivers": [{"name": "duty", "webhook_configs": [{"url_file": "/etc/monitoring/secrets/duty"}]}],
        "monitoring_receiver": "duty",
        "monitoring_secret": "receivers",
    }
    cluster = Cluster("production", changes)
    cluster.vars = cluster.vars | {"__monitoring_gathered": gathered.gathered("production")}
    documents = cluster.documents("monitoring")
    found = yaml.safe_load(of("ConfigMap", documents)["alertmanager-config"]["data"]["alertmanager.yml"])
    assert [receiver["name"] for receiver in found["receivers"]] == ["none", "watchdog", "duty"] and found["route"]["receiver"] == "duty"
    assert found["route"]["routes"][0]["receiver"] == "watchdog"
    pod = of("StatefulSet", documents)["alertmanager"]["spec"]["template"]["spec"]
    assert {"name": "secrets", "secret": {"secretName": "receivers", "defaultMode": 0o440}} in pod["volumes"]
    assert len([argument for argument in pod["containers"][0]["args"] if "cluster.peer" in argument]) == 3


@each_inventory
def test_for_an_operator_there_are_only_monitors_rules_and_dashboards(inventory: str) -> None:
    documents = gathered.manifests(inventory, "operator")
    dashboards = [document for document in documents if document["kind"] == "ConfigMap"]
    assert dashboards and all(document["metadata"]["labels"]["grafana_dashboard"] == "1" for document in dashboards)
    watched = [document for document in documents if document["kind"] != "ConfigMap"]
    assert {document["kind"] for document in watched} == {"PodMonitor", "PrometheusRule"}
    assert all(document["metadata"]["labels"]["release"] == "stack" for document in watched)
    assert set(of("PrometheusRule", documents)) == {f"platform-{name.replace('_', '-')}" for name in gathered.gathered(inventory)["groups"]}


@each_inventory
def test_nothing_of_it_without_monitoring(inventory: str) -> None:
    assert "exporter" not in str(Cluster(inventory).documents("redis_cluster"))


def test_the_exporter_shows_no_password_and_trusts_the_authority() -> None:
    documents = Cluster("production", CHANGES).documents("redis_cluster")
    container = of("Deployment", documents)["redis-exporter"]["spec"]["template"]["spec"]["containers"][0]
    variables = {variable["name"]: variable for variable in container["env"]}
    assert variables["REDIS_USER"]["value"] == "monitor"
    assert variables["REDIS_PASSWORD"]["valueFrom"] == {"secretKeyRef": {"name": "redis-cluster-auth", "key": "monitor-password"}}
    assert variables["REDIS_EXPORTER_TLS_CA_CERT_FILE"]["value"] == "/etc/progressive/tls/ca.crt"
