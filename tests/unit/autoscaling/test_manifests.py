# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What role autoscaling sends, and what monitoring lets in for it."""

from __future__ import annotations

import base64
import typing as t

import pytest
import yaml
from ansible_collections.progressive.platform.plugins.module_utils._preflight.quantities import quantity
from ansible_collections.progressive.platform.plugins.module_utils._preflight.rules import STRATEGIES
from ansible_collections.progressive.platform.tests.unit.monitoring import gathered
from ansible_collections.progressive.platform.tests.unit.roles.rendering import INVENTORIES, Cluster

Document = dict[str, t.Any]
COMPONENTS = ["baseline", "redis_cluster", "agents", "monitoring", "autoscaling"]
ADAPTED: Document = {"platform_components": COMPONENTS, "platform_metrics_provider": "prometheus_adapter"}
DESCHEDULED: Document = {"platform_components": COMPONENTS, "autoscaling_descheduler": True}
CLUSTERED: Document = {"platform_components": COMPONENTS, "autoscaling_nodes": "cluster_autoscaler"}
each_inventory = pytest.mark.parametrize("inventory", INVENTORIES)


def sent(inventory: str, changes: Document, role: str = "autoscaling") -> list[Document]:
    return Cluster(inventory, changes).documents(role)


def one(documents: list[Document], kind: str, name: str = "") -> Document:
    (found,) = [it for it in documents if it["kind"] == kind and (not name or it["metadata"]["name"] == name)]
    return found


@each_inventory
def test_keda_brings_its_own_and_nothing_is_made_beside_it(inventory: str) -> None:
    assert sent(inventory, {"platform_components": COMPONENTS, "platform_metrics_provider": "keda"}) == []


@each_inventory
@pytest.mark.parametrize("changes", [ADAPTED, CLUSTERED, DESCHEDULED])
def test_pods_are_restricted_sized_probed_and_have_one_budget(inventory: str, changes: Document) -> None:
    cluster = Cluster(inventory, {**changes, "platform_metrics_provider": changes.get("platform_metrics_provider", "none")})
    documents = cluster.documents("autoscaling")
    (workload,) = [document for document in documents if document["kind"] == "Deployment"]
    budget = one(documents, "PodDisruptionBudget")
    pod = workload["spec"]["template"]["spec"]
    assert budget["spec"]["selector"] == workload["spec"]["selector"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"] and security["capabilities"] == {"drop": ["ALL"]}
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
    for resource, wanted in container["resources"]["requests"].items():
        assert quantity(wanted) <= quantity(container["resources"]["limits"][resource])


def test_the_adapter_serves_sums_by_the_labels_that_autoscalers_name() -> None:
    documents = sent("production", ADAPTED)
    config = yaml.safe_load(one(documents, "ConfigMap")["data"]["config.yaml"])
    assert set(config) == {"externalRules"}, "pods' own metrics and metrics.k8s.io stay with those who have them"
    (rule,) = config["externalRules"]
    assert rule["seriesQuery"] == '{__name__=~"agent_requests_per_second|app_requests_per_second", namespace!=""}'
    assert rule["metricsQuery"] == "sum(<<.Series>>{<<.LabelMatchers>>})"
    used = {
        metric["external"]["metric"]["name"]
        for document in sent("production", ADAPTED, "agents")
        if document["kind"] == "HorizontalPodAutoscaler"
        for metric in document["spec"]["metrics"]
        if metric["type"] == "External"
    }
    assert used == {"agent_requests_per_second"}


def test_the_api_server_verifies_the_adapter() -> None:
    assert "caBundle" not in one(sent("production", ADAPTED), "APIService")["spec"], "before there is a certificate"
    cluster = Cluster("production", ADAPTED)
    cluster.vars = cluster.vars | {"__autoscaling_issued": {"authority": "PEM"}}
    spec = one(cluster.documents("autoscaling"), "APIService")["spec"]
    assert base64.b64decode(spec["caBundle"]) == b"PEM" and "insecureSkipTLSVerify" not in spec
    assert spec["service"] == {"name": "prometheus-adapter", "namespace": "autoscaling", "port": 443}


def test_rights_are_the_least() -> None:
    adapter = sent("production", ADAPTED)
    assert not [document for document in adapter if document["kind"] in ("Role", "ClusterRole")]
    bound = {document["roleRef"]["name"] for document in adapter if document["kind"].endswith("Binding")}
    assert bound == {"system:auth-delegator", "extension-apiserver-authentication-reader"}
    cluster = [
        document
        for document in sent("production", {**CLUSTERED, "platform_metrics_provider": "none"})
        if document["kind"] in ("Role", "ClusterRole")
    ]
    rules = [rule for document in cluster for rule in document["rules"]]
    assert not any("*" in rule["verbs"] + rule["resources"] or "secrets" in rule["resources"] for rule in rules)
    writes = {(resource, verb) for rule in one(cluster, "ClusterRole")["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    writes = {(resource, verb) for resource, verb in writes if verb not in ("get", "list", "watch")}
    assert writes == {
        ("nodes", "update"),
        ("pods/eviction", "create"),
        ("pods/status", "update"),
        ("events", "create"),
        ("events", "patch"),
    }


def test_prometheus_lets_the_adapter_in() -> None:
    cluster = Cluster("production", ADAPTED)
    variables = cluster.variables("autoscaling")
    from ansible_collections.progressive.platform.plugins.plugin_utils import _roles

    text = _roles.render(cluster.templar, _roles.role_path("autoscaling") / "templates/namespace.yaml.j2", variables)
    labels = yaml.safe_load(text)["metadata"]["labels"]
    cluster.vars = cluster.vars | {"__monitoring_gathered": {"scrapes": [], "groups": {}, "documents": []}}
    policy = one(cluster.documents("monitoring"), "NetworkPolicy", "prometheus")
    selectors = [
        peer["namespaceSelector"]["matchLabels"]
        for flow in policy["spec"]["ingress"]
        for peer in flow["from"]
        if "namespaceSelector" in peer and "podSelector" not in peer  # whole namespaces, and not the guard of its page
    ]
    assert selectors and all(selector.items() <= labels.items() for selector in selectors)


@pytest.mark.parametrize(
    ("provider", "flags"),
    [
        ("aws", ["--nodes=5:20:app", "--nodes=3:3:database", "--nodes=3:3:cache"]),
        ("clusterapi", ["--node-group-auto-discovery=clusterapi:clusterName=production"]),
    ],
)
def test_the_cluster_autoscaler_knows_the_originals_groups(provider: str, flags: list[str]) -> None:
    sizes = {"requests": {"cpu": "100m", "memory": "300Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
    chosen = {"provider": provider, "cluster": "production", "annotations": {}, "environment": {"AWS_REGION": "eu-central-1"}, "secret": ""}
    changes = {
        **CLUSTERED,
        "autoscaling_cluster_autoscaler": {**chosen, "arguments": {"max-node-provision-time": "15m"}, "resources": sizes},
    }
    documents = sent("production", {**changes, "platform_metrics_provider": "none"})
    (container,) = one(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert [flag for flag in container["command"] if flag.startswith(("--nodes", "--node-group"))] == flags
    assert {"--expander=priority,least-waste", "--max-nodes-total=29", "--max-node-provision-time=15m"} <= set(container["command"])
    assert container["env"] == [{"name": "AWS_REGION", "value": "eu-central-1"}]
    priorities = yaml.safe_load(one(documents, "ConfigMap")["data"]["priorities"])
    assert priorities == {0: [".*database.*", ".*cache.*"], 10: [".*app.*"]}


def test_karpenters_pools_are_the_originals_with_their_labels_and_taints() -> None:
    documents = sent(
        "production", {"platform_components": COMPONENTS, "autoscaling_nodes": "karpenter", "platform_metrics_provider": "none"}
    )
    assert [document["metadata"]["name"] for document in documents] == ["app", "database", "cache"]
    app, database, cache = (document["spec"] for document in documents)
    assert (app["limits"], database["limits"]["cpu"], cache["limits"]["cpu"]) == ({"cpu": 160, "memory": 20 * 16 * 2**30}, 12, 6)
    assert app["template"]["spec"]["taints"] == []
    assert database["template"]["spec"]["taints"] == [{"key": "database-workload", "value": "true", "effect": "NoSchedule"}]
    assert cache["template"]["metadata"]["labels"] == {"node-type": "cache"}
    assert [spec["disruption"]["consolidationPolicy"] for spec in (app, database, cache)] == [
        "WhenEmptyOrUnderutilized",
        "WhenEmpty",
        "WhenEmpty",
    ]


def test_sizes_are_recommended_unless_they_may_be_set() -> None:
    bounds = {"min": {"memory": "256Mi"}, "max": {"memory": "2Gi"}}
    wanted = {
        "mca-deployment": {**bounds, "container": "mca", "resources": ["memory"], "mode": "InPlaceOrRecreate"},
        "postgres": {"kind": "StatefulSet", "mode": False, "min": {"cpu": 1, "memory": "1Gi"}, "max": {"cpu": 4, "memory": "8Gi"}},
    }
    documents = sent("production", {"platform_components": COMPONENTS, "autoscaling_vertical": wanted, "platform_metrics_provider": "none"})
    mca, postgres = (document["spec"] for document in documents)
    assert (mca["updatePolicy"]["updateMode"], postgres["updatePolicy"]["updateMode"]) == ("InPlaceOrRecreate", "Off")
    assert mca["targetRef"]["kind"] == "Deployment" and postgres["targetRef"]["kind"] == "StatefulSet"
    own, others = mca["resourcePolicy"]["containerPolicies"]
    assert (own["containerName"], own["controlledResources"], own["minAllowed"]) == ("mca", ["memory"], {"memory": "256Mi"})
    assert others == {"containerName": "*", "mode": "Off"}


def policy(**changes: t.Any) -> tuple[Document, Document]:
    """The descheduler's policy, and who is moved at all."""
    documents = sent("production", {**DESCHEDULED, "platform_metrics_provider": "none", **changes})
    found = yaml.safe_load(one(documents, "ConfigMap")["data"]["policy.yaml"])
    (profile,) = found["profiles"]
    return found, next(it["args"] for it in profile["pluginConfig"] if it["name"] == "DefaultEvictor")


def test_the_descheduler_spares_data_the_young_the_last_and_other_namespaces() -> None:
    found, evictor = policy()
    assert evictor["priorityThreshold"] == {"name": "progressive-framework-prod-data"}
    assert evictor["podProtections"] == {"extraEnabled": ["PodsWithPVC"], "defaultDisabled": ["PodsWithLocalStorage"]}
    assert (evictor["nodeFit"], evictor["minReplicas"], evictor["minPodAge"]) == (True, 2, "10m")
    (only,) = evictor["namespaceLabelSelector"]["matchExpressions"]
    assert (only["key"], only["values"]) == ("kubernetes.io/metadata.name", ["progressive-framework-prod"])
    limits = [found[f"maxNoOfPodsToEvict{part}"] for part in ("PerNode", "PerNamespace", "Total")]
    assert limits == [2, 5, 10]
    spares = {"priority": "system-cluster-critical", "replicas": 3, "age": 0, "scratch": True}
    evictor = policy(autoscaling_descheduler_spares=spares)[1]
    assert evictor["priorityThreshold"] == {"name": "system-cluster-critical"} and evictor["podProtections"]["defaultDisabled"] == []


def test_strategies_are_enabled_where_they_belong_with_their_arguments() -> None:
    wanted = {"LowNodeUtilization": {"thresholds": {"cpu": 20}, "targetThresholds": {"cpu": 60}}, "RemovePodsViolatingNodeTaints": {}}
    found, _evictor = policy(autoscaling_descheduler_strategies={**wanted, "RemoveDuplicates": None})
    (profile,) = found["profiles"]
    assert profile["plugins"] == {
        "deschedule": {"enabled": ["RemovePodsViolatingNodeTaints"]},
        "balance": {"enabled": ["LowNodeUtilization"]},
    }
    assert {it["name"]: it["args"] for it in profile["pluginConfig"][1:]} == wanted
    balancing = set(Cluster("production", DESCHEDULED).value("autoscaling", "__autoscaling_balancing"))
    assert balancing <= set(STRATEGIES), "what preflight knows"


def test_the_descheduler_evicts_in_its_namespaces_alone_and_deletes_nothing() -> None:
    documents = sent(
        "production", {**DESCHEDULED, "autoscaling_descheduler_namespaces": ["one", "two"], "platform_metrics_provider": "none"}
    )
    rules = [rule for document in documents if document["kind"] == "ClusterRole" for rule in document["rules"]]
    assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert not any("secrets" in rule["resources"] or "*" in rule["resources"] for rule in rules)
    roles = {document["metadata"]["namespace"]: document["rules"] for document in documents if document["kind"] == "Role"}
    assert set(roles) == {"one", "two"}
    writes = {(resource, verb) for rule in roles["one"] for resource in rule["resources"] for verb in rule["verbs"]}
    assert writes == {("pods/eviction", "create"), ("events", "create"), ("events", "patch")}


def test_the_operators_prometheus_does_not_verify_the_deschedulers_own_certificate_either() -> None:
    wanted = gathered.gathered("production")
    (job,) = [scrape for scrape in wanted["scrapes"] if scrape["job_name"] == "descheduler"]
    assert (job["scheme"], job["tls_config"]) == ("https", {"insecure_skip_verify": True})
    (monitor,) = [it for it in wanted["documents"] if it["kind"] == "PodMonitor" and it["metadata"]["name"] == "descheduler"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["scheme"], endpoint["tlsConfig"]) == ("https", {"insecureSkipVerify": True})
