# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waiting on a real cluster with real kubelets: what becomes ready, and what ends the wait at once with its reason."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.plugins.module_utils._kube.forward import forward, listen

Json = dict[str, Any]
Module = Callable[..., Json]
COREFILE = ".:5353 {\n  health :8080\n  ready :8181\n}\n"


@pytest.fixture(scope="session")
def image(client: Client) -> str:
    """An image that every node has: the cluster DNS's own, a program that serves HTTP, or ends at once with a bad argument."""
    path = client.resource("apps/v1", "Deployment").path("kube-system", "coredns")
    return str(client.get(path)["spec"]["template"]["spec"]["containers"][0]["image"])


def workload(image: str, kind: str = "Deployment", **container: Any) -> Json:
    labels = {"app": "it"}
    pod = {
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "c", "image": image, "imagePullPolicy": "IfNotPresent", **container}],
    }
    spec: Json = {"template": {"metadata": {"labels": labels}, "spec": pod}}
    if kind == "Job":
        pod["restartPolicy"] = "Never"
        spec["backoffLimit"] = 0
    else:
        spec |= {"replicas": 1, "selector": {"matchLabels": labels}}
    if kind == "StatefulSet":
        spec["serviceName"] = "it"
    return {"apiVersion": "batch/v1" if kind == "Job" else "apps/v1", "kind": kind, "metadata": {"name": "it"}, "spec": spec}


def server(image: str, kind: str = "Deployment") -> list[Json]:
    """The DNS server with a configuration of its own, ready when it says so."""
    probe = {"httpGet": {"port": 8181, "path": "/ready"}, "periodSeconds": 1}
    thing = workload(
        image, kind, args=["-conf", "/etc/it/Corefile"], readinessProbe=probe, volumeMounts=[{"name": "v", "mountPath": "/etc/it"}]
    )
    thing["spec"]["template"]["spec"]["volumes"] = [{"name": "v", "configMap": {"name": "corefile"}}]
    return [thing, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "corefile"}, "data": {"Corefile": COREFILE}}]


def refused(result: Json, began: float, within: float, *said: str) -> None:
    assert result.get("failed"), result
    assert time.monotonic() - began < within, f"not at once: {result['msg']}"
    for text in said:
        assert text in result["msg"]
    assert result["changed"], "what was applied is told all the same"
    assert result["objects"]


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_ready(apply_module: Module, wait_module: Module, client: Client, namespace: str, image: str, kind: str) -> None:
    call = {"set": "it", "namespace": namespace, "wait": True, "wait_timeout": 120}
    result = apply_module(definition=server(image, kind), **call)
    assert not result.get("failed"), result
    again = apply_module(definition=server(image, kind), **call)
    assert not again["changed"]
    waited = wait_module(sets=["it"], namespace=namespace)
    assert [item["kind"] for item in waited["objects"]] == [kind]

    pod = client.list(client.resource("v1", "Pod"), namespace)["items"][0]["metadata"]["name"]
    with forward(client, namespace, pod, 8080) as sock:
        sock.settimeout(20)
        sock.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert sock.recv(1000).startswith(b"HTTP/1.0 200")
    with forward(client, namespace, pod, 9) as sock:
        sock.settimeout(20)
        assert sock.recv(1) == b""
        assert "refused" in sock.failure
    with listen(client, namespace, pod, 8080) as address:
        assert address[0] == "127.0.0.1"


def test_a_rollout_is_waited_for(apply_module: Module, client: Client, namespace: str, image: str) -> None:
    call = {"set": "it", "namespace": namespace, "wait": True, "wait_timeout": 120}
    apply_module(definition=server(image), **call)
    edited = server(image)
    edited[0]["spec"]["template"]["metadata"]["annotations"] = {"edited": "yes"}
    assert not apply_module(definition=edited, **call).get("failed")
    status = client.get(client.resource("apps/v1", "Deployment").path(namespace, "it"))["status"]
    assert status["replicas"] == status["updatedReplicas"] == status["availableReplicas"] == 1


def test_an_image_that_cannot_be_pulled(apply_module: Module, namespace: str) -> None:
    began = time.monotonic()
    result = apply_module(set="it", namespace=namespace, wait=True, definition=workload("localhost/does/not:exist"))
    refused(
        result,
        began,
        60,
        f"Deployment {namespace}/it: pod it-",
        "Err" if "ErrImage" in result["msg"] else "ImagePullBackOff",
        "localhost/does/not:exist",
    )


def test_an_image_name_that_is_none(apply_module: Module, namespace: str) -> None:
    began = time.monotonic()
    result = apply_module(set="it", namespace=namespace, wait=True, definition=workload("UPPER/CASE:tag"))
    refused(result, began, 30, "InvalidImageName")


def test_a_repaired_image_is_not_held_against_the_new_pods(apply_module: Module, namespace: str, image: str) -> None:
    call = {"set": "it", "namespace": namespace, "wait": True, "wait_timeout": 120}
    assert apply_module(definition=workload("UPPER/CASE:tag"), **call)["failed"]
    assert not apply_module(definition=server(image), **call).get("failed")


def test_a_crash_shows_the_last_lines(apply_module: Module, namespace: str, image: str) -> None:
    """With a probe: without one Kubernetes itself calls a container ready as soon as it runs, if only for a moment."""
    began = time.monotonic()
    thing = workload(image, args=["-conf", "/no/such/Corefile"], readinessProbe={"httpGet": {"port": 8181, "path": "/ready"}})
    result = apply_module(set="it", namespace=namespace, wait=True, definition=thing)
    refused(result, began, 120, "CrashLoopBackOff", "last exit code 1", "Its last log lines", "/no/such/Corefile")


def test_a_secret_that_is_not_there(apply_module: Module, namespace: str, image: str) -> None:
    began = time.monotonic()
    env = [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "nowhere", "key": "a"}}}]
    result = apply_module(set="it", namespace=namespace, wait=True, definition=workload(image, env=env))
    refused(result, began, 60, "CreateContainerConfigError", 'secret "nowhere" not found')


def test_a_pod_that_fits_nowhere(apply_module: Module, namespace: str, image: str) -> None:
    began = time.monotonic()
    result = apply_module(set="it", namespace=namespace, wait=True, definition=workload(image, resources={"requests": {"cpu": "1000"}}))
    refused(result, began, 60, "Unschedulable", "Insufficient cpu")


def test_a_volume_that_cannot_be_mounted(apply_module: Module, namespace: str, image: str) -> None:
    began = time.monotonic()
    thing = server(image)[:1]  # without its ConfigMap
    refused(
        apply_module(set="it", namespace=namespace, wait=True, definition=thing), began, 90, "FailedMount", 'configmap "corefile" not found'
    )


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_a_quota_that_is_full(apply_module: Module, namespace: str, image: str, kind: str) -> None:
    began = time.monotonic()
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    result = apply_module(set="it", namespace=namespace, wait=True, definition=[quota, workload(image, kind)])
    refused(result, began, 60, f"{kind} {namespace}/it", "exceeded quota: none")


def test_an_admission_that_refuses_the_pods(apply_module: Module, kubectl: Callable[..., str], namespace: str, image: str) -> None:
    kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    began = time.monotonic()
    result = apply_module(set="it", namespace=namespace, wait=True, definition=workload(image))
    refused(result, began, 60, "violates PodSecurity")


def test_jobs(apply_module: Module, namespace: str, image: str) -> None:
    good, bad = workload(image, "Job", args=["-version"]), workload(image, "Job", args=["-conf", "/no"])
    bad["metadata"]["name"] = "bad"
    assert not apply_module(set="good", namespace=namespace, wait=True, wait_timeout=120, definition=good).get("failed")
    began = time.monotonic()
    result = apply_module(set="bad", namespace=namespace, wait=True, wait_timeout=120, definition=bad)
    refused(result, began, 60, f"Job {namespace}/bad", "BackoffLimitExceeded")


def test_time_runs_out(apply_module: Module, namespace: str, image: str) -> None:
    thing = server(image)
    thing[0]["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["httpGet"]["path"] = "/never"
    began = time.monotonic()
    result = apply_module(set="it", namespace=namespace, wait=True, wait_timeout=6, definition=thing)
    refused(result, began, 30, "Not ready in time", "0 of 1 pods are available", f"kubectl -n {namespace} describe deployment it")


def test_many_sets_are_waited_for_together(
    apply_module: Module, wait_module: Module, kubectl: Callable[..., str], namespace: str, image: str
) -> None:
    """The wait is a watch: it ends when the last pod turns ready, without anybody asking again."""
    first, second = server(image), server(image)[0]
    second["metadata"]["name"] = "second"
    second["spec"]["replicas"] = 0
    second["spec"]["selector"]["matchLabels"] = second["spec"]["template"]["metadata"]["labels"] = {"app": "second"}
    apply_module(set="one", namespace=namespace, definition=first)
    apply_module(set="two", namespace=namespace, definition=second)
    threading.Timer(1, lambda: kubectl("-n", namespace, "scale", "deployment", "second", "--replicas=1")).start()
    result = wait_module(sets=["one", "two"], namespace=namespace, wait_timeout=120)
    assert not result.get("failed"), result
    assert {item["name"] for item in result["objects"]} == {"it", "second"}


def test_a_set_that_does_not_exist(wait_module: Module, namespace: str) -> None:
    assert wait_module(check=True, sets=["nothing"], namespace=namespace) == {"changed": False, "objects": []}
    result = wait_module(sets=["nothing"], namespace=namespace)
    assert result["failed"]
    assert f"no ApplySet 'nothing' in the namespace '{namespace}'" in result["msg"]
