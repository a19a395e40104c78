# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._health.workloads import (
    Surroundings,
    endpoint_problems,
    pod_causes,
    telling,
    together,
    workload_problems,
)
from ansible_collections.progressive.platform.tests.unit.health.objects import container, deployment, pod

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC).timestamp()
OPTIONS = {"restarts": 3, "restart_window": 600.0}
AROUND = Surroundings(
    {"node-1": True, "node-2": False},
    {"uid-web-1": "FailedMount: secret is missing", "uid-web": "FailedCreate: exceeded quota"},
    NOW,
    lambda pod, container: "FATAL: no such directive",
)


def ready_in_a_sandbox(since: str) -> list[dict[str, str]]:
    return [{"type": "PodReadyToStartContainers", "status": "True", "lastTransitionTime": since}, {"type": "Ready", "status": "True"}]


@pytest.mark.parametrize(
    ("found", "problems"),
    [
        pytest.param(pod(), [], id="well"),
        pytest.param(pod(ready=False, phase="Succeeded"), [], id="ran to its end"),
        pytest.param(
            pod(ready=False, containerStatuses=[container(waiting="ImagePullBackOff", message="no such image")]),
            ["pod web-1 on node-1: container web: ImagePullBackOff (image shop:1): no such image"],
            id="image",
        ),
        pytest.param(
            pod(ready=False, containerStatuses=[container(waiting="CrashLoopBackOff", restarts=2, ended="2026-11-23T11:00:00Z")]),
            [
                "pod web-1 on node-1: container web: CrashLoopBackOff, 2 restarts, last exit code 1; "
                "its last words: FATAL: no such directive",
            ],
            id="crash loop with its last words",
        ),
        pytest.param(pod(node="node-2"), ["pod web-1 on node-2: node node-2 is NotReady"], id="its node is NotReady, whatever it says"),
        pytest.param(pod(node="node-9"), ["pod web-1 on node-9: node node-9 is gone"], id="its node is gone"),
        pytest.param(pod(deleted=True), ["pod web-1 on node-1: is being deleted"], id="deleted"),
        pytest.param(
            pod(node="", ready=False, phase="Pending", conditions=[
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}
            ]),
            ["pod web-1: Unschedulable: 0/3 nodes are available"],
            id="unschedulable",
        ),
        pytest.param(
            pod(ready=False, phase="Pending", containerStatuses=[container(waiting="ContainerCreating")]),
            ["pod web-1 on node-1: not ready: container web is ContainerCreating; FailedMount: secret is missing"],
            id="waits for a mount: the warning says why",
        ),
        pytest.param(
            pod("web-2", ready=False, containerStatuses=[container()]),
            ["pod web-2 on node-1: Running but not ready: containers are not ready"],
            id="runs but is not ready",
        ),
        pytest.param(
            pod(containerStatuses=[container(restarts=3, ended="2026-11-23T11:58:00Z")]),
            ["pod web-1 on node-1: container web restarted 3 times, the last time 2 min ago (Error)"],
            id="restarts lately",
        ),
        pytest.param(pod(containerStatuses=[container(restarts=3, ended="2026-11-23T11:00:00Z")]), [], id="restarted an hour ago"),
        pytest.param(pod(containerStatuses=[container(restarts=2, ended="2026-11-23T11:59:00Z")]), [], id="restarted seldom"),
        pytest.param(
            pod(containerStatuses=[container(restarts=3, ended="2026-11-23T11:58:00Z", reason="Unknown")]), [], id="restarted with its machine"
        ),
        pytest.param(
            pod(containerStatuses=[container(restarts=3, ended="2026-11-23T11:58:00Z")], conditions=ready_in_a_sandbox("2026-11-23T11:58:09Z")),
            [],
            id="restarted with its machine, and its runtime saw it end",
        ),
        pytest.param(
            pod(containerStatuses=[container(restarts=3, ended="2026-11-23T11:58:00Z")], conditions=ready_in_a_sandbox("2026-11-23T10:58:09Z")),
            ["pod web-1 on node-1: container web restarted 3 times, the last time 2 min ago (Error)"],
            id="restarts lately, in the sandbox it has had for long",
        ),
        pytest.param(
            pod(ready=False, phase="Pending", initContainerStatuses=[container("migrate", restarts=2, ended="2026-11-23T11:58:00Z")]),
            ["pod web-1 on node-1: container migrate failed 2 times, last exit code 1; its last words: FATAL: no such directive"],
            id="between two restarts",
        ),
        pytest.param({"metadata": {"name": "bare"}, "spec": {}}, ["pod bare: unknown but not ready: no reason given"], id="no status"),
    ],
)  # fmt: skip
def test_the_cause_of_a_pod_is_named(found, problems):
    assert together([(found, cause) for cause in pod_causes(found, AROUND, OPTIONS)]) == problems


@pytest.mark.parametrize(
    ("item", "pods", "problems"),
    [
        pytest.param(deployment(), [pod()], [], id="well"),
        pytest.param(deployment(wanted=0, available=0), [], [], id="scaled to nothing"),
        pytest.param(deployment(), [pod(), pod("web-0", deleted=True)], [], id="the last pod of the old revision leaves"),
        pytest.param(
            deployment(available=0),
            [pod("web-0", deleted=True)],
            ["pod web-0 on node-1: is being deleted", "Deployment web: 0 of 1 pods are available"],
            id="a pod leaves and is missed",
        ),
        pytest.param(deployment(), [], ["Deployment web has no pods"], id="says it is ready but nobody is there"),
        pytest.param(
            deployment(available=0),
            [],
            ["Deployment web: 0 of 1 pods are available (FailedCreate: exceeded quota)"],
            id="no pods: the warning says why",
        ),
        pytest.param(
            deployment(available=0),
            [pod("web-2", ready=False, containerStatuses=[container(waiting="InvalidImageName", message="bad")])],
            ["pod web-2 on node-1: container web: InvalidImageName (image shop:1): bad", "Deployment web: 0 of 1 pods are available"],
            id="the cause first",
        ),
    ],
)
def test_workloads(item, pods, problems):
    assert workload_problems(item, pods, AROUND, OPTIONS) == problems


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", ""),
        ("starting\n\nbye\n", "bye"),
        ("*** FATAL CONFIG FILE ERROR ***\nline 3\n", "*** FATAL CONFIG FILE ERROR ***"),
        ("Traceback\n  File x\nImportError: libx.so: cannot open\n", "ImportError: libx.so: cannot open"),
        ("open /x: no such file\nmaxprocs: leaving\n", "open /x: no such file"),
        ("x" * 400, "x" * 300),
    ],
)
def test_the_telling_line_of_a_log(log, words):
    assert telling(log) == words


def test_pods_with_the_same_cause_share_a_sentence():
    crashes = [(pod(f"redis-{n}"), f"CrashLoopBackOff, {n + 2} restarts") for n in range(5)]
    assert together([*crashes, (pod("redis-5"), "is being deleted")]) == [
        "5 pods (redis-0, redis-1, redis-2, ...): CrashLoopBackOff, 2 restarts",
        "pod redis-5 on node-1: is being deleted",
    ]


def stateful(pods_of: str, strategy: str) -> dict:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "redis", "generation": 1},
        "spec": {"replicas": 1, "updateStrategy": {"type": strategy}},
        "status": {
            "observedGeneration": 1, "replicas": 1, "readyReplicas": 1, "updatedReplicas": 1, "availableReplicas": 1,
            "updateRevision": "redis-2", "currentRevision": "redis-2" if strategy == "RollingUpdate" else pods_of,
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("revision", "strategy", "problems"),
    [
        ("redis-2", "OnDelete", []),
        (
            "redis-1",
            "OnDelete",
            [
                "pod redis-0 on node-1: still runs an older template (redis-1, not redis-2): "
                "run the playbook site.yml, or replace one at a time with `kubectl -n shop delete pod NAME`"
            ],
        ),
        ("redis-2", "RollingUpdate", []),
    ],
)
def test_pods_that_nobody_replaces_are_named(revision, strategy, problems):
    found = pod("redis-0", labels={"controller-revision-hash": revision}, owner="StatefulSet/redis")
    assert workload_problems(stateful(revision, strategy), [found], AROUND, OPTIONS) == problems


def endpoint(name: str, ready: bool = True) -> dict:
    return {"addresses": [f"10.0.0.{name[-1]}"], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": name}}


@pytest.mark.parametrize(
    ("pods", "endpoints", "problems"),
    [
        ([pod()], [endpoint("web-1")], []),
        ([pod(ready=False)], [endpoint("web-1", ready=False)], ["Service web has no endpoint: none of its pods is ready"]),
        ([pod(ready=False)], [endpoint("web-1")], []),
        ([], [], ["Service web has no endpoint: no pod has its labels"]),
        ([pod(), pod("web-2")], [endpoint("web-1")], ["Service web does not lead to web-2, although ready"]),
        ([pod()], [endpoint("web-1"), endpoint("web-7")], ["Service web leads to 10.0.0.7, where no pod is"]),
        ([pod(), pod("web-2", deleted=True)], [endpoint("web-1"), endpoint("web-2", ready=False)], []),
    ],
    ids=["well", "not ready", "published although not ready", "no pods", "pod left out", "pod gone", "pod leaving"],
)
def test_endpoints_are_really_there(pods, endpoints, problems):
    assert endpoint_problems("web", pods, endpoints) == problems
