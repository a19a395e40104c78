# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.readiness import State, readiness, waits

READY, PENDING, FAILED = State.READY, State.PENDING, State.FAILED
VERSIONS = {
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "ReplicaSet": "apps/v1",
    "Job": "batch/v1",
    "CustomResourceDefinition": "apiextensions.k8s.io/v1",
    "APIService": "apiregistration.k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "Gateway": "gateway.networking.k8s.io/v1",
    "GatewayClass": "gateway.networking.k8s.io/v1",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
    "Widget": "example.org/v1",
}


def item(kind: str, status: dict[str, Any] | None = None, generation: int = 2, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": VERSIONS.get(kind, "v1"),
        "kind": kind,
        "metadata": {"name": "it", "generation": generation},
        "spec": spec,
        "status": status,
    }


def condition(kind: str, status: str = "True", reason: str = "", **more: Any) -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason, "message": "", **more}


def conditions(*entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"conditions": list(entries), **more}


def rolled(replicas: int = 3, **more: int) -> dict[str, Any]:
    counts = {
        "observedGeneration": 2,
        "replicas": replicas,
        "updatedReplicas": replicas,
        "availableReplicas": replicas,
        "readyReplicas": replicas,
    }
    return {**counts, **more}


REVISIONS = {"currentRevision": "b", "updateRevision": "b"}
BLIND = condition("ScalingActive", "False", "FailedGetResourceMetric")
EXCEEDED = condition("Progressing", "False", "ProgressDeadlineExceeded")
QUOTA = condition("ReplicaFailure", "True", "FailedCreate", message="exceeded quota: q")
PARENT = {"parentRef": {"name": "gw"}, "conditions": [condition("Accepted"), condition("ResolvedRefs")]}


@pytest.mark.parametrize(
    ("thing", "state", "reason"),
    [
        (item("Deployment", rolled(), replicas=3), READY, ""),
        (item("Deployment", rolled(1)), READY, ""),
        (item("Deployment", rolled(0), replicas=0), READY, ""),
        (item("Deployment", None, replicas=3), PENDING, "has not seen generation 2"),
        (item("Deployment", rolled(observedGeneration=1), replicas=3), PENDING, "has not seen generation 2"),
        (item("Deployment", rolled(updatedReplicas=1), replicas=3), PENDING, "1 of 3 pods are of the new revision"),
        (item("Deployment", {**rolled(updatedReplicas=1), **conditions(QUOTA)}, replicas=3), PENDING, "exceeded quota"),
        (item("Deployment", rolled(replicas=4, updatedReplicas=3, availableReplicas=4), replicas=3), PENDING, "1 pods of the old revision"),
        (item("Deployment", rolled(availableReplicas=2), replicas=3), PENDING, "2 of 3 pods are available"),
        (item("Deployment", {**rolled(availableReplicas=2), **conditions(EXCEEDED)}, replicas=3), FAILED, "ProgressDeadlineExceeded"),
        (item("Deployment", rolled(), replicas=3, paused=True), PENDING, "paused"),
        (item("StatefulSet", {**rolled(), **REVISIONS}, replicas=3), READY, ""),
        (item("StatefulSet", {**rolled(0), **REVISIONS}, replicas=0), READY, ""),
        (item("StatefulSet", None, replicas=3), PENDING, "has not seen"),
        (item("StatefulSet", {**rolled(readyReplicas=1), **REVISIONS}, replicas=3), PENDING, "1 of 3 pods are ready"),
        (item("StatefulSet", {**rolled(4), **REVISIONS}, replicas=3), PENDING, "1 pods too many"),
        (item("StatefulSet", {**rolled(updatedReplicas=1), **REVISIONS}, replicas=3), PENDING, "1 of 3 pods are of the new revision"),
        (item("StatefulSet", {**rolled(), **REVISIONS, "currentRevision": "a"}, replicas=3), PENDING, "the revision b is not complete"),
        (
            item(
                "StatefulSet",
                {**rolled(updatedReplicas=0), "currentRevision": "a", "updateRevision": "b"},
                replicas=3,
                updateStrategy={"type": "OnDelete"},
            ),
            READY,
            "",
        ),
        (item("StatefulSet", {**rolled(readyReplicas=2), **REVISIONS}, replicas=3, updateStrategy={"type": "OnDelete"}), PENDING, "2 of 3"),
        (
            item(
                "StatefulSet",
                {**rolled(updatedReplicas=1), "currentRevision": "a", "updateRevision": "b"},
                replicas=3,
                updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 2}},
            ),
            READY,
            "",
        ),
        (
            item("DaemonSet", {"observedGeneration": 2, "desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 3}),
            READY,
            "",
        ),
        (
            item("DaemonSet", {"observedGeneration": 2, "desiredNumberScheduled": 3, "updatedNumberScheduled": 1, "numberAvailable": 3}),
            PENDING,
            "1 of 3",
        ),
        (
            item("DaemonSet", {"observedGeneration": 2, "desiredNumberScheduled": 3, "updatedNumberScheduled": 3}),
            PENDING,
            "0 of 3 nodes have",
        ),
        (
            item(
                "DaemonSet",
                {"observedGeneration": 2, "desiredNumberScheduled": 3, "numberAvailable": 3},
                updateStrategy={"type": "OnDelete"},
            ),
            READY,
            "",
        ),
        (item("ReplicaSet", {"observedGeneration": 2, "availableReplicas": 1}), READY, ""),
        (item("ReplicaSet", {"observedGeneration": 2}), PENDING, "0 of 1"),
        (item("Job", conditions(condition("Complete"))), READY, ""),
        (item("Job", conditions(condition("Failed", reason="BackoffLimitExceeded"))), FAILED, "BackoffLimitExceeded"),
        (item("Job", {"active": 1}), PENDING, "1 active"),
        (item("Job", None, suspend=True), PENDING, "suspended"),
        (item("Job", None), PENDING, "has not completed"),
        (item("Pod", {"phase": "Running", **conditions(condition("Ready"))}), READY, ""),
        (item("Pod", {"phase": "Running", **conditions(condition("Ready", "False", "ContainersNotReady"))}), PENDING, "ContainersNotReady"),
        (item("Pod", {"phase": "Succeeded"}), READY, ""),
        (item("Pod", {"phase": "Failed", "reason": "Evicted", "message": "disk"}), FAILED, "Evicted disk"),
        (item("Pod", None), PENDING, "not seen"),
        (item("PersistentVolumeClaim", {"phase": "Bound"}), READY, ""),
        (item("PersistentVolumeClaim", {"phase": "Pending"}), PENDING, "is Pending"),
        (item("PersistentVolumeClaim", {"phase": "Lost"}), FAILED, "lost"),
        (item("PersistentVolumeClaim", None), PENDING, "not seen"),
        (item("CustomResourceDefinition", conditions(condition("Established"), condition("NamesAccepted"))), READY, ""),
        (item("CustomResourceDefinition", conditions(condition("Established", "False", "Installing"))), PENDING, "Installing"),
        (item("CustomResourceDefinition", conditions(condition("NamesAccepted", "False", "PluralConflict"))), FAILED, "PluralConflict"),
        (item("CustomResourceDefinition", None), PENDING, "not reported"),
        (item("APIService", conditions(condition("Available"))), READY, ""),
        (item("APIService", conditions(condition("Available", "False", "MissingEndpoints"))), PENDING, "MissingEndpoints"),
        (item("APIService", None), PENDING, "not reported"),
        (item("Namespace", {"phase": "Active"}), READY, ""),
        (item("Namespace", {"phase": "Terminating"}), PENDING, "Terminating"),
        (item("Namespace", None), READY, ""),
        (item("PodDisruptionBudget", {"observedGeneration": 2, "currentHealthy": 2, "desiredHealthy": 2}), READY, ""),
        (item("PodDisruptionBudget", {"observedGeneration": 2, "currentHealthy": 1, "desiredHealthy": 2}), PENDING, "1 of 2"),
        (item("PodDisruptionBudget", None), PENDING, "has not seen"),
        (item("HorizontalPodAutoscaler", {**conditions(condition("ScalingActive")), "desiredReplicas": 2}, minReplicas=2), READY, ""),
        (
            item("HorizontalPodAutoscaler", {**conditions(condition("ScalingActive")), "desiredReplicas": 1}, minReplicas=2),
            PENDING,
            "1 of at least 2",
        ),
        (item("HorizontalPodAutoscaler", conditions(condition("AbleToScale", "False", "FailedGetScale"))), PENDING, "FailedGetScale"),
        (item("HorizontalPodAutoscaler", conditions(condition("ScalingActive", "False", "InvalidSelector"))), PENDING, "InvalidSelector"),
        (
            item(
                "HorizontalPodAutoscaler",
                {**conditions(condition("ScalingActive", "False", "FailedGetResourceMetric")), "desiredReplicas": 1},
            ),
            READY,
            "",
        ),
        (item("HorizontalPodAutoscaler", conditions(condition("ScalingActive", "False", "ScalingDisabled"))), READY, ""),
        (item("HorizontalPodAutoscaler", {**conditions(BLIND), "desiredReplicas": 0, "currentReplicas": 1}, minReplicas=1), READY, ""),
        (
            item("HorizontalPodAutoscaler", {**conditions(BLIND), "desiredReplicas": 0, "currentReplicas": 1}, minReplicas=2),
            PENDING,
            "asks for 1 of at least 2",
        ),
        (item("HorizontalPodAutoscaler", None), PENDING, "not seen it yet"),
        (item("Service", {"loadBalancer": {}}, type="ClusterIP"), READY, ""),
        (item("Service", {"loadBalancer": {}}, type="LoadBalancer"), PENDING, "no address"),
        (item("Service", {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}, type="LoadBalancer"), READY, ""),
        (item("ConfigMap", None), READY, ""),
        (item("GatewayClass", conditions(condition("Accepted"))), READY, ""),
        (item("GatewayClass", conditions(condition("Accepted", "Unknown", "Pending"))), PENDING, "Accepted is Unknown"),
        (item("Gateway", conditions(condition("Accepted"), condition("Programmed"))), READY, ""),
        (
            item("Gateway", conditions(condition("Accepted"), condition("Programmed", "False", "AddressNotAssigned"))),
            PENDING,
            "AddressNotAssigned",
        ),
        (
            item("Gateway", conditions(condition("Accepted"), condition("Programmed", observedGeneration=1))),
            PENDING,
            "Programmed is not reported",
        ),
        (
            item(
                "Gateway",
                conditions(
                    condition("Accepted"),
                    condition("Programmed"),
                    listeners=[
                        {
                            "name": "https",
                            "conditions": [condition("Accepted"), condition("ResolvedRefs", "False", "InvalidCertificateRef")],
                        }
                    ],
                ),
            ),
            PENDING,
            "listener https: ResolvedRefs is False",
        ),
        (item("Gateway", None), PENDING, "not reported"),
        (item("HTTPRoute", {"parents": [PARENT]}, parentRefs=[{"name": "gw"}]), READY, ""),
        (item("HTTPRoute", {"parents": []}, parentRefs=[{"name": "gw"}]), PENDING, "not every parent"),
        (item("HTTPRoute", None, parentRefs=[{"name": "gw"}]), PENDING, "not every parent"),
        (
            item(
                "HTTPRoute",
                {"parents": [{**PARENT, "conditions": [condition("Accepted"), condition("ResolvedRefs", "False", "BackendNotFound")]}]},
                parentRefs=[{"name": "gw"}],
            ),
            PENDING,
            "parent gw: ResolvedRefs is False (BackendNotFound)",
        ),
        (item("Widget", None), READY, ""),
        (item("Widget", conditions(condition("Ready"))), READY, ""),
        (item("Widget", conditions(condition("Ready", "False", "Broken"))), PENDING, "Broken"),
        (item("Widget", conditions(condition("Ready", observedGeneration=1))), PENDING, "older generation"),
        (item("Widget", conditions(condition("Ready"), observedGeneration=1)), PENDING, "has not seen generation 2"),
        (item("Widget", conditions(condition("Ready", "False"), condition("Stalled", reason="Hopeless"))), FAILED, "Hopeless"),
        (item("Widget", conditions(condition("Reconciling", reason="Progressing"), condition("Ready"))), PENDING, "Progressing"),
        (item("Widget", conditions(condition("Available", "False", "NoPods"))), PENDING, "NoPods"),
        (item("Widget", {"conditions": "no list of conditions"}), READY, ""),
        ({"apiVersion": "v1", "kind": "ConfigMap"}, READY, ""),
        ({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": None, "spec": None, "status": None}, PENDING, "0 of 1"),
    ],
)
def test_verdict(thing: dict[str, Any], state: State, reason: str) -> None:
    verdict = readiness(thing)
    assert verdict.state is state, verdict
    assert reason in verdict.reason
    assert bool(verdict.reason) is (state is not READY)


def test_what_is_being_deleted_is_not_ready() -> None:
    thing = item("ConfigMap")
    thing["metadata"] |= {"deletionTimestamp": "2026-11-23T00:00:00Z", "finalizers": ["example.org/guard"]}
    assert "example.org/guard" in readiness(thing).reason


@pytest.mark.parametrize(
    ("api_version", "kind", "watched"),
    [
        ("v1", "ConfigMap", False),
        ("rbac.authorization.k8s.io/v1", "Role", False),
        ("apps/v1", "Deployment", True),
        ("example.org/v1", "Widget", True),
    ],
)
def test_only_what_can_be_unready_is_watched(api_version: str, kind: str, watched: bool) -> None:
    assert waits(api_version, kind) is watched
