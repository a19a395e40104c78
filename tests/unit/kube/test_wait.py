# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why a workload is not ready: pods and events in, sentences out, with a clock of the test's own."""

from __future__ import annotations

from typing import Any, cast

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube import diagnose
from ansible_collections.progressive.platform.plugins.module_utils._kube.bundle import Key
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client
from ansible_collections.progressive.platform.plugins.module_utils._kube.discovery import Resource
from ansible_collections.progressive.platform.plugins.module_utils._kube.wait import Board
from ansible_collections.progressive.platform.plugins.module_utils._kube.watch import ADDED, DELETED, LISTED, Change, Source

PODS = Source(Resource("v1", "Pod", "pods", True), "shop")
EVENTS = Source(Resource("v1", "Event", "events", True), "shop")
DEPLOYMENTS = Source(Resource("apps/v1", "Deployment", "deployments", True), "shop")
WEB = Key("apps", "Deployment", "shop", "web")
DB = Key("apps", "StatefulSet", "shop", "db")
CLAIM = Key("", "PersistentVolumeClaim", "shop", "data")


class ApiDouble:
    """Knows ReplicaSets by name with their revision, and the previous log of every container."""

    def __init__(self, revisions: dict[str, str], log: str = "") -> None:
        self.revisions = revisions
        self.log = log

    def resource(self, api_version: str, kind: str) -> Resource:
        return Resource(api_version, kind, kind.lower() + "s", True)

    def find(self, path: str) -> dict[str, Any] | None:
        revision = self.revisions.get(path.rpartition("/")[2])
        return {"metadata": {"annotations": {"deployment.kubernetes.io/revision": revision}}} if revision else None

    def text(self, _path: str, previous: bool, **_query: Any) -> str:
        if not previous:
            raise ApiError("no log", 400)
        return self.log


def workload(key: Key, revision: str = "2") -> dict[str, Any]:
    metadata = {"name": key.name, "namespace": key.namespace, "annotations": {"deployment.kubernetes.io/revision": revision}}
    return {"apiVersion": "apps/v1", "kind": key.kind, "metadata": metadata, "spec": {"replicas": 1}, "status": {}}


def pod(owner: Key = WEB, *, waiting: str = "", message: str = "", restarts: int = 0, unschedulable: bool = False) -> dict[str, Any]:
    deployment = owner.kind == "Deployment"
    reference = {
        "kind": "ReplicaSet" if deployment else owner.kind,
        "name": f"{owner.name}-abc" if deployment else owner.name,
        "controller": True,
    }
    container: dict[str, Any] = {"name": "c", "image": "registry/it:1", "restartCount": restarts, "state": {"running": {}}}
    if waiting:
        container["state"] = {"waiting": {"reason": waiting, "message": message}}
        container["lastState"] = {"terminated": {"exitCode": 3, "reason": "OOMKilled"}}
    conditions = [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}] if unschedulable else []
    labels = {"pod-template-hash": "abc"} if deployment else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{owner.name}-abc-1", "namespace": "shop", "labels": labels, "ownerReferences": [reference]},
        "status": {"phase": "Pending", "containerStatuses": [container], "conditions": conditions},
    }


def event(reason: str, kind: str, name: str, type_: str = "Warning", message: str = "because") -> dict[str, Any]:
    about = {"kind": kind, "namespace": "shop", "name": name}
    return {
        "kind": "Event",
        "metadata": {"name": "e", "namespace": "shop"},
        "type": type_,
        "reason": reason,
        "message": message,
        "involvedObject": about,
    }


def board(*keys: Key) -> Board:
    return Board({key: workload(key) for key in keys or (WEB,)})


def hopeless(it: Board, now: float, revisions: dict[str, str] | None = None, log: str = "") -> list[str]:
    return it.hopeless(cast(Client, ApiDouble({"web-abc": "2"} if revisions is None else revisions, log)), now)


@pytest.mark.parametrize(
    ("thing", "patience", "said"),
    [
        (pod(waiting="ImagePullBackOff", message="Back-off pulling"), 0, "ImagePullBackOff (image registry/it:1): Back-off pulling"),
        (pod(waiting="InvalidImageName", message="bad"), 0, "InvalidImageName"),
        (pod(waiting="ErrImageNeverPull", message="absent"), 0, "ErrImageNeverPull"),
        (pod(waiting="ErrImagePull", message="not found"), 10, "ErrImagePull"),
        (pod(waiting="CrashLoopBackOff", restarts=2), 0, "CrashLoopBackOff, 2 restarts, last exit code 3, OOMKilled"),
        (pod(waiting="CreateContainerConfigError", message='secret "x" not found'), 5, 'secret "x" not found'),
        (pod(unschedulable=True), 20, "Unschedulable: 0/3 nodes"),
    ],
    ids=lambda it: str(it)[:20],
)
def test_a_pod_in_trouble_ends_the_wait_after_its_patience(thing: dict[str, Any], patience: float, said: str) -> None:
    it = board()
    it.take(Change(PODS, LISTED, [thing]), 100.0)
    if patience:
        assert hopeless(it, 100.0) == []
        assert hopeless(it, 100.0 + patience - 0.1) == []
    (sentence,) = hopeless(it, 100.0 + patience)
    assert sentence.startswith("Deployment shop/web: pod web-abc-1: ")
    assert said in sentence


@pytest.mark.parametrize(
    "thing",
    [
        pod(),
        pod(waiting="ContainerCreating"),
        pod(waiting="PodInitializing"),
        pod(waiting="CrashLoopBackOff", restarts=0),
        {**pod(waiting="ImagePullBackOff"), "metadata": {**pod()["metadata"], "deletionTimestamp": "now"}},
        {**pod(waiting="ImagePullBackOff"), "metadata": {**pod()["metadata"], "ownerReferences": []}},
        pod(DB, waiting="ImagePullBackOff"),
    ],
    ids=["running", "creating", "initialising", "first crash", "being deleted", "nobody's", "another's"],
)
def test_what_is_no_trouble(thing: dict[str, Any]) -> None:
    it = board()
    it.take(Change(PODS, LISTED, [thing]), 0.0)
    hopeless(it, 0.0)
    assert hopeless(it, 1000.0) == []


def test_a_trouble_that_passes_starts_anew() -> None:
    it = board()
    it.take(Change(PODS, ADDED, [pod(unschedulable=True)]), 0.0)
    assert hopeless(it, 0.0) == []
    it.take(Change(PODS, ADDED, [pod()]), 10.0)
    assert hopeless(it, 10.0) == []
    it.take(Change(PODS, ADDED, [pod(unschedulable=True)]), 19.0)
    assert hopeless(it, 19.0) == []
    assert hopeless(it, 25.0) == []
    assert len(hopeless(it, 39.0)) == 1


def test_pods_of_an_old_revision_do_not_count() -> None:
    it = board()
    it.take(Change(PODS, LISTED, [pod(waiting="ImagePullBackOff")]), 0.0)
    assert hopeless(it, 0.0, {"web-abc": "1"}) == []
    assert hopeless(it, 0.0, {}) == []
    assert len(hopeless(it, 0.0, {"web-abc": "2"})) == 1


def test_a_crash_shows_its_last_lines() -> None:
    it = board()
    it.take(Change(PODS, LISTED, [pod(waiting="CrashLoopBackOff", restarts=3)]), 0.0)
    (sentence,) = hopeless(it, 0.0, log="starting\nno such file: /etc/x\n")
    assert sentence.endswith("Its last log lines: starting | no such file: /etc/x")


def test_a_pod_that_was_deleted_is_forgotten() -> None:
    it = board()
    it.take(Change(PODS, LISTED, [pod(waiting="ImagePullBackOff")]), 0.0)
    it.take(Change(PODS, DELETED, [pod(waiting="ImagePullBackOff")]), 1.0)
    assert hopeless(it, 1.0) == []
    it.take(Change(PODS, ADDED, [pod(waiting="ImagePullBackOff")]), 2.0)
    it.take(Change(PODS, LISTED, []), 3.0)  # a list after 410: what is not in it is gone
    assert hopeless(it, 3.0) == []


@pytest.mark.parametrize(
    ("reason", "kind", "name", "patience"),
    [
        ("FailedCreate", "StatefulSet", "db", 5),
        ("FailedMount", "Pod", "db-abc-1", 20),
        ("FailedAttachVolume", "Pod", "db-abc-1", 30),
        ("FailedCreatePodSandBox", "Pod", "db-abc-1", 60),
    ],
)
def test_events_end_the_wait(reason: str, kind: str, name: str, patience: float) -> None:
    it = board(DB)
    it.take(Change(EVENTS, LISTED, []), 0.0)
    it.take(Change(PODS, LISTED, [pod(DB)]), 0.0)
    it.take(Change(EVENTS, ADDED, [event(reason, kind, name)]), 0.0)
    assert hopeless(it, patience - 0.1) == []
    it.take(Change(EVENTS, ADDED, [event(reason, kind, name)]), patience - 0.1)
    (sentence,) = hopeless(it, patience)
    assert f"{reason}: because" in sentence


@pytest.mark.parametrize(
    ("happened", "listed"),
    [
        (event("FailedCreate", "StatefulSet", "db"), True),  # of an earlier run
        (event("FailedCreate", "StatefulSet", "other"), False),
        (event("FailedMount", "Pod", "gone"), False),
        (event("Pulled", "Pod", "db-abc-1", "Normal"), False),
        (event("BackOff", "Pod", "db-abc-1"), False),  # the pod's own status says it better
    ],
)
def test_events_that_mean_nothing(happened: dict[str, Any], listed: bool) -> None:
    it = board(DB)
    it.take(Change(PODS, LISTED, [pod(DB)]), 0.0)
    it.take(Change(EVENTS, LISTED, [happened] if listed else []), 0.0)
    if not listed:
        it.take(Change(EVENTS, ADDED, [happened]), 0.0)
    assert hopeless(it, 59.0) == []


def test_an_event_that_is_not_repeated_is_forgotten() -> None:
    it = board(DB)
    it.take(Change(EVENTS, LISTED, []), 0.0)
    it.take(Change(EVENTS, ADDED, [event("FailedCreate", "StatefulSet", "db")]), 0.0)
    assert hopeless(it, diagnose.EVENT_MEMORY + 1) == []


def test_quota_shows_in_the_deployments_own_conditions() -> None:
    it = board()
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: small"}
    it.items[WEB]["status"] = {"conditions": [failure]}
    assert hopeless(it, 0.0) == []
    assert hopeless(it, 5.0) == ["Deployment shop/web: FailedCreate: exceeded quota: small"]


@pytest.mark.parametrize(("expected", "gives_up"), [(0, True), (2, False)])
def test_a_budget_that_guards_no_pod_is_not_waited_for_to_the_end(expected: int, gives_up: bool) -> None:
    key = Key("policy", "PodDisruptionBudget", "shop", "web")
    budget = {"apiVersion": "policy/v1", "kind": key.kind, "metadata": {"name": key.name, "namespace": key.namespace}}
    status = {"currentHealthy": 0, "desiredHealthy": 1, "expectedPods": expected}
    it = Board({key: {**budget, "spec": {"selector": {"matchLabels": {"app": "web"}}}, "status": status}})
    assert hopeless(it, 0.0) == []
    found = hopeless(it, diagnose.NO_PODS_PATIENCE)
    assert bool(found) == gives_up and (not found or ("app=web" in found[0] and "kubectl scale --replicas=1" in found[0])), found


def test_the_autoscaler_gets_its_time() -> None:
    it = board()
    it.take(Change(PODS, LISTED, [pod(unschedulable=True)]), 0.0)
    it.take(Change(EVENTS, LISTED, [event("TriggeredScaleUp", "Pod", "web-abc-1", "Normal")]), 0.0)
    assert hopeless(it, 0.0) == []
    assert hopeless(it, 300.0) == []
    assert len(hopeless(it, 600.0)) == 1


def test_a_claim_that_waits_for_its_pod_is_not_waited_for() -> None:
    it = Board({CLAIM: {"apiVersion": "v1", "kind": CLAIM.kind, "metadata": {"name": "data"}, "status": {"phase": "Pending"}}})
    assert list(it.pending()) == [CLAIM]
    it.take(Change(EVENTS, LISTED, [event("WaitForFirstConsumer", CLAIM.kind, "data", "Normal")]), 0.0)
    assert it.pending() == {}


def test_what_vanishes_while_we_wait_is_told() -> None:
    it = board()
    it.take(Change(DEPLOYMENTS, DELETED, [workload(WEB)]), 0.0)
    assert it.pending()[WEB].reason == "does not exist any more"
    it = board()
    it.take(Change(DEPLOYMENTS, LISTED, []), 0.0)
    assert it.pending()[WEB].reason == "does not exist any more"


def test_pods_do_not_count_until_the_controller_has_seen_the_new_spec() -> None:
    it = board()
    it.items[WEB]["metadata"]["generation"] = 2
    it.items[WEB]["status"] = {"observedGeneration": 1}
    it.take(Change(PODS, LISTED, [pod(waiting="ImagePullBackOff")]), 0.0)
    assert hopeless(it, 0.0) == []
    it.items[WEB]["status"] = {"observedGeneration": 2}
    assert len(hopeless(it, 0.0)) == 1


def test_an_autoscaled_workload_is_ready_with_the_pods_it_shall_have() -> None:
    """Its own replicas are seen later than the autoscaler's word, or were seen when there was no autoscaler yet."""
    scaler = Key("autoscaling", "HorizontalPodAutoscaler", "shop", "web")
    asked = {"desiredReplicas": 2, "conditions": [{"type": "ScalingActive", "status": "True"}]}
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    metadata = {"name": "web", "namespace": "shop"}
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": scaler.kind,
        "metadata": metadata,
        "spec": {"minReplicas": 2, "scaleTargetRef": reference},
        "status": asked,
    }
    board = Board({WEB: workload(WEB), scaler: autoscaler})
    assert board.scaled_by(scaler) == WEB and board.scaled_by(WEB) is None
    for replicas, waits_for in ((1, True), (2, False), (0, False)):
        board.items[WEB]["spec"]["replicas"] = replicas
        assert (scaler in board.pending()) == waits_for
    board.items[WEB]["spec"]["replicas"] = 1
    assert board.pending()[scaler].reason == "Deployment web has not heard yet that it shall have 2 pods"
    assert Board({scaler: autoscaler}).pending() == {}, "a workload that is not waited for says nothing"
