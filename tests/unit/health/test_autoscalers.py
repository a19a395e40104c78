# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is said of autoscalers and of recommended sizes; objects have the form of Kubernetes 1.36 and VPA 1.8."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._health import autoscalers
from ansible_collections.progressive.platform.plugins.module_utils._health.model import Finding
from ansible_collections.progressive.platform.plugins.module_utils._health.scene import Scene
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock

Object = dict[str, t.Any]
API, OWNER = "v1beta1.external.metrics.k8s.io", "autoscaling/prometheus-adapter"
CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}
REQUESTS = {"type": "External", "external": {"metric": {"name": "requests"}, "target": {"type": "AverageValue", "averageValue": "50"}}}
READ_CPU = {"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 23, "averageValue": "20m"}}}
READ_REQUESTS = {"type": "External", "external": {"metric": {"name": "requests"}, "current": {"averageValue": "0"}}}


def condition(kind: str, status: str, reason: str = "", message: str = "") -> Object:
    return {"type": kind, "status": status, "reason": reason, "message": message}


WELL = [condition("AbleToScale", "True"), condition("ScalingActive", "True"), condition("ScalingLimited", "False")]
BLIND = "unable to get external metric shop/requests/nil: no metrics returned from external metrics API"


def autoscaler(states: list[Object] | None = None, read: list[Object] | None = None) -> Object:
    spec = {"minReplicas": 2, "maxReplicas": 10, "metrics": [CPU, REQUESTS]}
    seen = {"conditions": WELL if states is None else states, "currentMetrics": [READ_CPU, READ_REQUESTS] if read is None else read}
    return {"metadata": {"name": "mca-hpa"}, "spec": spec, "status": {"currentReplicas": 2, **seen}}


def service(owner: str = OWNER, available: str = "True", message: str = "") -> Object:
    namespace, _unused, name = owner.partition("/")
    spec = {"service": {"namespace": namespace, "name": name}}
    return {"metadata": {"name": API}, "spec": spec, "status": {"conditions": [condition("Available", available, "Reason", message)]}}


class Cluster:
    def __init__(self, api: Object | None = None, **objects: list[Object]) -> None:
        self.api, self.lists = api, objects

    def objects(self, kind: str, namespace: str | None = None) -> list[Object]:
        return self.lists.get(kind, [])

    def find(self, kind: str, namespace: str | None, name: str) -> Object | None:
        return self.api


def look(item: Object, api: Object | None = None, owner: str = OWNER, scaled: Object | None = None) -> Finding:
    objects = {"HorizontalPodAutoscaler": [item], **({"ScaledObject": [scaled]} if scaled else {})}
    scene = Scene(t.cast("t.Any", Cluster(api if api is not None else service(), **objects)), Clock(), False)
    return autoscalers.autoscalers({"namespace": "shop", "owner": owner, "api": API, "keda": scaled is not None}, scene, 10.0)


def test_an_autoscaler_that_reads_everything() -> None:
    found = look(autoscaler())
    assert found.ok and found.observed == "mca-hpa 2 of 2 to 10"
    assert found.details["autoscalers"][0]["reads"] == "cpu, requests"


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (autoscaler([]), "has not been looked at yet"),
        (
            autoscaler([condition("AbleToScale", "False", "FailedGetScale", "deployments.apps not found")]),
            "cannot scale: deployments.apps not found",
        ),
        (
            autoscaler([condition("AbleToScale", "True"), condition("ScalingActive", "False", "FailedGetExternalMetric", BLIND)]),
            f"cannot read its metrics and leaves the pods as many as they are: {BLIND}",
        ),
        (autoscaler(read=[READ_CPU]), "cannot read requests: it may grow by its other metrics and will not shrink"),
        (autoscaler(read=[READ_CPU, {"type": ""}]), "cannot read requests"),
        (autoscaler(read=[READ_REQUESTS, {"type": "Resource", "resource": {"name": "cpu", "current": {}}}]), "cannot read cpu"),
    ],
)
def test_what_an_autoscaler_does_not_see(item: Object, words: str) -> None:
    found = look(item)
    assert not found.ok and words in found.message, found.message


def test_one_that_sleeps_is_well() -> None:
    assert look(autoscaler([condition("AbleToScale", "True"), condition("ScalingActive", "False", "ScalingDisabled")])).ok


@pytest.mark.parametrize(
    ("api", "words"),
    [
        (service("keda/keda-operator-metrics-apiserver"), f"belongs to Service keda/keda-operator-metrics-apiserver, not to {OWNER}"),
        (service(available="False", message="no response from 10.0.0.1"), "is not available: no response from 10.0.0.1"),
    ],
)
def test_the_owner_of_the_api(api: Object, words: str) -> None:
    found = look(autoscaler(), api)
    assert not found.ok and words in found.message
    assert look(autoscaler(), api, owner="").ok


def test_nobody_serves_the_api() -> None:
    assert list(autoscalers.owner_problems(None, API, OWNER)) == [
        f"nobody serves {API}; Service {OWNER} was expected to: run the playbook site.yml"
    ]


def scaled_object(*states: Object, health: Object | None = None) -> Object:
    """As KEDA 2.21 leaves it; its metrics are named by the place of their triggers."""
    triggers = [{"type": "cpu", "metadata": {"value": "70"}}, {"type": "prometheus", "metadata": {"query": "sum(requests)"}}]
    return {
        "metadata": {"name": "mca"},
        "spec": {"scaleTargetRef": {"name": "mca"}, "triggers": triggers, "fallback": {"failureThreshold": 3}},
        "status": {"conditions": list(states), "health": health or {}},
    }


READY, FELL_BACK = condition("Ready", "True"), condition("Fallback", "True", "FallbackExists", "At least one trigger is falling back")
PARTIAL = condition("Ready", "Unknown", "PartialTriggerError", "Some triggers defined in ScaledObject are not working correctly")
FAILING = {"s1-prometheus": {"status": "Failing", "numberOfFailures": 4}}


@pytest.mark.parametrize(
    ("scaled", "words"),
    [
        (scaled_object(READY, condition("Fallback", "False")), ""),
        (
            scaled_object(PARTIAL, FELL_BACK, health=FAILING),
            "KEDA cannot read sum(requests) and leaves the pods of mca as many as they are",
        ),
        (scaled_object(READY, health={"odd": FAILING["s1-prometheus"], "s9-cpu": {"status": "Happy"}}), "KEDA cannot read odd and"),
        (scaled_object(READY, health={"s1-prometheus": {"status": "Failing", "numberOfFailures": 3}}), ""),
        (scaled_object(PARTIAL), "ScaledObject mca is not ready: Some triggers"),
        (scaled_object(condition("Ready", "Unknown")), "ScaledObject mca is not ready: KEDA has not looked at it yet"),
        (scaled_object(), "KEDA has not looked at it yet"),
        (scaled_object(condition("Ready", "False"), condition("Paused", "True")), ""),
    ],
)
def test_what_keda_does_not_see(scaled: Object, words: str) -> None:
    """The autoscaler itself sees nothing missing: it is served what the fallback makes up."""
    found = look(autoscaler(), scaled=scaled)
    assert found.ok is not bool(words) and words in found.message, found.message


def test_one_that_is_paused_is_shown() -> None:
    assert look(autoscaler(), scaled=scaled_object(condition("Paused", "True"))).observed == "mca-hpa 2 of 2 to 10, mca paused"


def sized(advice: list[Object], request: str, *states: Object) -> Finding:
    vertical = {
        "metadata": {"name": "mca"},
        "spec": {"targetRef": {"kind": "Deployment", "name": "mca"}},
        "status": {"recommendation": {"containerRecommendations": advice}} if advice else {},
    }
    labels = {"app": "mca"}
    pod = {
        "metadata": {"name": "mca-1", "labels": labels},
        "spec": {"containers": [{"name": "mca", "resources": {"requests": {"memory": request}}}]},
        "status": {"conditions": list(states)},
    }
    workload = {"metadata": {"name": "mca"}, "spec": {"selector": {"matchLabels": labels}}}
    cluster = Cluster(VerticalPodAutoscaler=[vertical], Deployment=[workload], Pod=[pod])
    return autoscalers.recommendations({"namespace": "shop", "names": ["mca"]}, Scene(t.cast("t.Any", cluster), Clock(), False), 10.0)


ADVICE = {"containerName": "mca", "target": {"memory": "209715200"}, "lowerBound": {"memory": "104857600"}, "upperBound": {"memory": "1Gi"}}


def test_sizes_beside_what_is_recommended() -> None:
    found = sized([ADVICE], "128Mi")
    assert found.ok and found.observed == "mca memory 128Mi (recommended 200Mi)"
    found = sized([ADVICE], "64Mi")
    assert not found.ok and found.message == "mca: container mca asks for 64Mi memory, at least 100Mi is recommended"
    assert "recommends nothing yet" in sized([], "64Mi").message


def test_a_size_that_a_node_does_not_give() -> None:
    """The request is the new one all the same."""
    found = sized([ADVICE], "128Mi", condition("PodResizePending", "True", "Infeasible", "Node didn't have enough capacity: memory"))
    assert not found.ok
    assert (
        found.message == "mca: pod mca-1 has not been given the size that it asks for: Infeasible: Node didn't have enough capacity: memory"
    )
    assert sized([ADVICE], "128Mi", condition("PodResizeInProgress", "True")).ok


def test_a_recommendation_that_nobody_made() -> None:
    scene = Scene(t.cast("t.Any", Cluster()), Clock(), False)
    found = autoscalers.recommendations({"namespace": "shop", "names": ["mca"]}, scene, 10.0)
    assert not found.ok and "there is no VerticalPodAutoscaler mca" in found.message
