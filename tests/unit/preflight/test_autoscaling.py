# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wrong inventories of autoscaling, and clusters that it does not fit: refused before anything is sent, by the variable's name."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._preflight import server
from ansible_collections.progressive.platform.plugins.plugin_utils._examine import examine_variables
from ansible_collections.progressive.platform.tests.unit.roles import rendering

COMPONENTS = [*rendering.COMPONENTS, "autoscaling"]
API = "v1beta1.external.metrics.k8s.io"
BOUNDS = {"min": {"cpu": "100m", "memory": "128Mi"}, "max": {"cpu": "2", "memory": "2Gi"}}


def examined(inventory: str = "production", **changes: t.Any) -> tuple[list[t.Any], dict[str, t.Any]]:
    cluster = rendering.Cluster(inventory, {"platform_components": COMPONENTS, **changes})
    findings, needs = examine_variables(cluster.templar, cluster.vars, COMPONENTS)
    return [finding for finding in findings if not finding.warning], needs


@pytest.mark.parametrize(("inventory", "provider"), [("local", "prometheus_adapter"), ("production", "keda"), ("production", "none")])
def test_our_inventories_are_well_with_it(inventory: str, provider: str) -> None:
    findings, needs = examined(inventory, platform_metrics_provider=provider)
    assert not findings
    assert [(owner["service"], owner["brought"]) for owner in needs["owners"]] == {
        "keda": [("keda-operator-metrics-apiserver", False)],
        "prometheus_adapter": [("prometheus-adapter", True)],
        "none": [],
    }[provider]


def agents(**scaling: t.Any) -> dict[str, t.Any]:
    return {"agents_services": {"mca": {"scaling": {"min": 2, "max": 10, **scaling}}}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"platform_metrics_provider": "kedda"}, "platform_metrics_provider: kedda"),
        (
            {"autoscaling_vertical": {"mca-deployment": BOUNDS}},
            "autoscaling_vertical.mca-deployment.resources: cpu; allowed: a resource that agents_services.mca.scaling does not count by",
        ),
        (
            {"autoscaling_vertical": {"mca-deployment": {**BOUNDS, "resources": ["memory"]}}, **agents(memory=80, cpu=None)},
            "Take it out, or set agents_services.mca.scaling.memory to null",
        ),
        (
            {"autoscaling_vertical": {"postgres": {**BOUNDS, "mode": "Auto"}}},
            "autoscaling_vertical.postgres.mode: Auto; allowed: Off or InPlaceOrRecreate",
        ),
        (
            {"autoscaling_vertical": {"postgres": {**BOUNDS, "min": {"cpu": "4", "memory": "1Gi"}}}},
            "autoscaling_vertical.postgres.max.cpu: 2",
        ),
        (
            {"autoscaling_vertical": {"postgres": {"min": {"cpu": 1}, "max": {"cpu": 2, "memory": "1Gi"}}}},
            "autoscaling_vertical.postgres.min.memory",
        ),
        ({"autoscaling_vertical": {"postgres": {"min": {"cpu": 1}}}}, "autoscaling_vertical.postgres.max: nothing"),
        (agents(metric="agent_request_per_second", selector={"a": "b"}), "Did you mean agent_requests_per_second?"),
        (agents(selector={"job": None, "agent": None}), "agents_services.mca.scaling.selector: no label"),
        ({"platform_metrics_provider": "none", **agents(cpu=None, memory=None)}, "requests_per_second alone, which nothing serves"),
        ({"autoscaling_relist": {"interval": 300, "age": 60}}, "autoscaling_relist.age: 60"),
        ({"autoscaling_tls_renew_before": 90}, "autoscaling_tls_renew_before: 90; allowed: less than autoscaling_tls_days (90)"),
        ({"autoscaling_pools": ["gpu"]}, "autoscaling_pools.0: gpu"),
        ({"autoscaling_metrics": ["requests per second"]}, "autoscaling_metrics.0"),
        (
            {
                "autoscaling_node_groups": {
                    "app": {"min": 5, "max": 2, "priority": 1, "cpu": 8, "memory": "16Gi", "instances": [], "pool": "ap"}
                }
            },
            "autoscaling_node_groups.app.max: 2",
        ),
        (
            {
                "autoscaling_nodes": "karpenter",
                "autoscaling_node_groups": {"app": {"min": 1, "max": 2, "priority": 1, "cpu": 8, "memory": "16Gi", "instances": ["a"]}},
            },
            "autoscaling_node_groups: no group with a name at the provider",
        ),
    ],
)
def test_what_is_wrong_is_refused_by_name(changes: dict[str, t.Any], words: str) -> None:
    findings, _needs = examined(**{"platform_metrics_provider": "prometheus_adapter", **changes})
    assert any(words in str(finding) for finding in findings), [str(finding) for finding in findings]


def moving(**strategies: t.Any) -> dict[str, t.Any]:
    return {"autoscaling_descheduler": True, "autoscaling_descheduler_strategies": strategies}


FULL = {"cpu": 50, "memory": 50}


@pytest.mark.parametrize("inventory", ["local", "production"])
@pytest.mark.parametrize(
    "strategies",
    [None, {"LowNodeUtilization": {"thresholds": {"cpu": 20, "memory": 20}, "targetThresholds": FULL}, "RemoveDuplicates": {}}],
)
def test_our_descheduler_is_well(inventory: str, strategies: dict[str, t.Any] | None) -> None:
    changes = {"autoscaling_descheduler": True} if strategies is None else moving(**strategies)
    findings, needs = examined(inventory, **changes)
    assert not findings
    assert [one["name"] for one in needs["pods"] if one["name"] == "descheduler"] == ["descheduler"]
    assert [one["variable"] for one in needs["minors"]] == ["platform_images.descheduler"]


STRATEGIES = "autoscaling_descheduler_strategies"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (moving(RemoveDuplicate={}), f"{STRATEGIES}.RemoveDuplicate: a strategy that does not exist"),
        (moving(RemoveDuplicate={}), "Did you mean RemoveDuplicates?"),
        (moving(RemoveDuplicates=None), f"{STRATEGIES}: nothing; allowed: at least one"),
        (moving(RemoveDuplicates={"excludeOwnerKind": ["Job"]}), "Did you mean excludeOwnerKinds?"),
        (moving(RemoveDuplicates={"namespaces": {"include": ["a"]}}), "autoscaling_descheduler_namespaces, for all of them"),
        (moving(RemoveDuplicates=["Job"]), f"{STRATEGIES}.RemoveDuplicates"),
        (moving(LowNodeUtilization={"thresholds": FULL}), f"{STRATEGIES}.LowNodeUtilization.targetThresholds: nothing"),
        (moving(LowNodeUtilization={"thresholds": FULL, "targetThresholds": {"cpu": 60}}), "the resources of thresholds (cpu, memory)"),
        (moving(LowNodeUtilization={"thresholds": FULL, "targetThresholds": FULL}), "cpu: 50; allowed: above thresholds.cpu (50)"),
        (moving(LowNodeUtilization={"thresholds": {"cpu": 120}, "targetThresholds": {"cpu": 130}}), "cpu: 120; allowed: 0 to 100 percent"),
        (
            moving(
                LowNodeUtilization={"thresholds": {"cpu": 1}, "targetThresholds": {"cpu": 2}},
                HighNodeUtilization={"thresholds": {"cpu": 1}},
            ),
            "One empties nodes that the other fills.",
        ),
        ({"autoscaling_descheduler_namespaces": []}, "autoscaling_descheduler_namespaces: nothing"),
        ({"autoscaling_descheduler_namespaces": ["kube-system"]}, "The cluster's own parts are not its to move."),
        ({"autoscaling_descheduler_limits": {"node": 20, "namespace": 5, "total": 10}}, "autoscaling_descheduler_limits.node: 20"),
        ({"autoscaling_descheduler_interval": 0}, "autoscaling_descheduler_interval: 0"),
        (
            {"autoscaling_descheduler_spares": {"priority": "date", "replicas": 2, "age": 10, "scratch": False}},
            "autoscaling_descheduler_spares.priority: date; allowed: one of baseline_priority_classes: data, application",
        ),
        (
            {"autoscaling_descheduler_spares": {"priority": "", "replicas": 2, "age": 10, "scratch": False}},
            "autoscaling_descheduler_spares.priority: an empty text",
        ),
    ],
)
def test_a_policy_that_would_end_the_descheduler_or_harm_is_refused(changes: dict[str, t.Any], words: str) -> None:
    findings, _needs = examined(**{"autoscaling_descheduler": True, **changes})
    assert any(words in str(finding) for finding in findings), [str(finding) for finding in findings]


def held_by(service: str) -> dict[str, t.Any]:
    namespace, _unused, name = service.partition("/")
    return {API: {"spec": {"service": {"namespace": namespace, "name": name}}}}


OWNER = {"variable": "platform_metrics_provider", "api": API, "namespace": "autoscaling", "service": "prometheus-adapter", "brought": True}
KEDA = {**OWNER, "namespace": "keda", "service": "keda-operator-metrics-apiserver", "brought": False}


@pytest.mark.parametrize(
    ("owner", "seen", "words"),
    [
        (OWNER, {}, ""),
        (OWNER, held_by("autoscaling/prometheus-adapter"), ""),
        (OWNER, held_by("keda/keda-operator-metrics-apiserver"), f"{API}, which Service keda/keda-operator-metrics-apiserver owns"),
        (KEDA, held_by("keda/keda-operator-metrics-apiserver"), ""),
        (KEDA, held_by("autoscaling/prometheus-adapter"), "which Service autoscaling/prometheus-adapter owns"),
        (KEDA, {}, f"nobody serves {API}"),
    ],
)
def test_the_metrics_api_has_one_owner(owner: dict[str, t.Any], seen: dict[str, t.Any], words: str) -> None:
    found = server.judge(server.Seen(version="v1.36.3", nodes=[], owners=seen), {"owners": [owner]})
    assert [words in str(finding) for finding in found] == ([True] if words else [])


def test_definitions_of_others_are_there() -> None:
    needs = {"definitions": [{"variable": "autoscaling_vertical", "api": "autoscaling.k8s.io/v1", "brings": "the Vertical Pod Autoscaler"}]}
    (finding,) = server.judge(server.Seen(version="v1.36.3", nodes=[], absent=["autoscaling.k8s.io/v1"]), needs)
    assert "the cluster has no autoscaling.k8s.io/v1" in str(finding) and not finding.warning
    assert server.judge(server.Seen(version="v1.36.3", nodes=[]), needs) == []


@pytest.mark.parametrize(("version", "warned"), [("v1.36.3", False), ("v1.35.1-eks-1", True)])
@pytest.mark.parametrize("image", ["autoscaling/cluster-autoscaler:v1.36.1", "descheduler/descheduler:v0.36.0"])
def test_what_simulates_the_scheduler_is_of_the_clusters_minor(image: str, version: str, warned: bool) -> None:
    needs = {"minors": [{"variable": f"platform_images.{image.partition('/')[0]}", "image": f"r.example.com/{image}"}]}
    found = server.judge(server.Seen(version=version, nodes=[]), needs)
    assert [finding.warning for finding in found] == ([True] if warned else [])
