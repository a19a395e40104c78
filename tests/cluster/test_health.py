# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""health on a real cluster: what is broken on purpose is named, what works is green, and both ways in say the same."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._health import health
from ansible_collections.progressive.platform.tests.cluster.conftest import Json, Module, _module


@pytest.fixture
def health_module(kubeconfig: str) -> Module:
    return _module(health.run, health.ARGUMENTS, {}, {"kubeconfig": kubeconfig, "settle": 0.0})


@pytest.fixture(scope="session")
def image(kubeconfig: str) -> str:
    """An image every node has: the one CoreDNS runs, which serves HTTP health and metrics."""
    from ansible_collections.progressive.platform.plugins.module_utils._kube.client import connect

    with connect({"kubeconfig": kubeconfig}) as client:
        pods = client.list(client.resource("v1", "Pod"), "kube-system", labelSelector="k8s-app=kube-dns")["items"]
    return str(pods[0]["spec"]["containers"][0]["image"])


def deployment(image: str, name: str = "web", replicas: int = 1, **container: Any) -> Json:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "terminationGracePeriodSeconds": 0,
                    "tolerations": [{"operator": "Exists"}],
                    "containers": [{"name": "web", "image": image, **container}],
                },
            },
        },
    }


def serving(image: str, replicas: int = 2) -> list[Json]:
    """A small web server with HTTP health on 8080: CoreDNS with a file of its own."""
    corefile = ".:5353 {\n  health :8080\n  ready :8181\n}\n"
    web = deployment(
        image,
        replicas=replicas,
        args=["-conf", "/etc/coredns/Corefile"],
        ports=[{"name": "http", "containerPort": 8080}],
        readinessProbe={"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 1},
        volumeMounts=[{"name": "config", "mountPath": "/etc/coredns"}],
    )
    web["spec"]["template"]["spec"]["volumes"] = [{"name": "config", "configMap": {"name": "web"}}]
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "data": {"Corefile": corefile}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": ports}},
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "web"},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web"}}},
        },
        web,
    ]


def checks_of(namespace: str) -> list[Json]:
    service = {"namespace": namespace, "service": "web"}
    return [
        {"name": "API", "kind": "api"},
        {"name": "nodes", "kind": "nodes"},
        {"name": "certificates", "kind": "certificates", "namespaces": [namespace]},
        {"name": "web pods", "kind": "workloads", "namespace": namespace, "workloads": ["Deployment/web"], "services": ["web"]},
        {"name": "web answers", "kind": "http", **service, "port": "http", "path": "/health", "minimum": 2},
        {"name": "web budgets", "kind": "budgets", "namespace": namespace},
    ]


def by_name(result: Json) -> dict[str, Json]:
    return {check["name"]: check for check in result["checks"]}


def messages(result: Json) -> dict[str, str]:
    return {check["name"]: check["message"] for check in result["checks"] if not check["ok"]}


def until(ask: Callable[[], str], pieces: list[str], seconds: float = 90.0) -> str:
    """What is asked, once it holds all the pieces: images take a moment to be refused, containers to crash twice."""
    deadline = time.monotonic() + seconds
    while True:
        said = ask()
        missing = [piece for piece in pieces if piece not in said]
        if not missing:
            return said
        assert time.monotonic() < deadline, f"{missing} never showed; last: {said}"
        time.sleep(1)


def test_what_works_is_green_and_reported(apply_module: Module, health_module: Module, namespace: str, image: str, tmp_path: Path) -> None:
    assert not apply_module(set="web", namespace=namespace, wait=True, wait_timeout=120, definition=serving(image)).get("failed")
    result = health_module(checks=checks_of(namespace), cluster="mine", reports_dir=str(tmp_path), settle=5.0)
    assert not result.get("failed"), result["msg"]
    assert (result["ok"], result["changed"]) == (True, False)
    assert by_name(result)["web answers"]["observed"] == "2 of 2 pods"
    report = json.loads((tmp_path / "health.json").read_text())
    assert (report["cluster"], report["ok"], len(report["checks"])) == ("mine", True, 6)
    drawn = [pod["name"] for zone in report["topology"]["zones"] for node in zone["nodes"] for pod in node["pods"]]
    assert len([name for name in drawn if name.startswith("web-")]) == 2
    assert "mine is healthy" in (tmp_path / "health.html").read_text()


def broken(image: str, what: str) -> Json:
    if what == "image":
        return deployment("localhost/no-such-image:1", imagePullPolicy="IfNotPresent")
    if what == "crash":
        return deployment(image, args=["-conf", "/no/such/file"])
    if what == "place":
        item = deployment(image)
        item["spec"]["template"]["spec"]["nodeSelector"] = {"no-such": "label"}
        return item
    item = deployment(image, args=["-version"])
    item["spec"]["template"]["spec"]["containers"][0]["envFrom"] = [{"secretRef": {"name": "no-such-secret"}}]
    return item


@pytest.mark.parametrize(
    ("what", "pieces"),
    [
        ("image", ["ImagePull", "localhost/no-such-image:1"]),
        ("crash", ["container web", "its last words:", "/no/such/file"]),
        ("place", ["Unschedulable"]),
        ("secret", ["CreateContainerConfigError", "no-such-secret"]),
    ],
)
def test_the_cause_is_named(apply_module: Module, health_module: Module, namespace: str, image: str, what: str, pieces: list[str]) -> None:
    apply_module(set="web", namespace=namespace, definition=broken(image, what))
    check = {"name": "web pods", "kind": "workloads", "namespace": namespace, "workloads": ["Deployment/web"]}
    said = until(lambda: health_module(checks=[check]).get("msg", ""), pieces)
    assert "1 check of 1 red" in said


def test_everything_that_is_missing_is_red_and_all_of_it_is_told(health_module: Module, namespace: str) -> None:
    here = {"namespace": namespace}
    result = health_module(
        checks=[
            {"name": "pods", "kind": "workloads", **here, "workloads": ["StatefulSet/redis"], "services": ["redis"]},
            {"name": "volumes", "kind": "volumes", **here, "selector": {"app": "redis"}, "minimum": 6},
            {"name": "answers", "kind": "http", **here, "service": "redis"},
            {"name": "serves", "kind": "grpc", **here, "service": "redis"},
            {"name": "metrics", "kind": "metrics", **here, "service": "redis"},
            {"name": "transaction", "kind": "transaction", **here, "service": "redis"},
            {"name": "budgets", "kind": "budgets", **here},
            {"name": "redis", "kind": "redis", **here, "selector": "app=redis", "password_secret": {"name": "auth"}},
            {"name": "API", "kind": "api"},
        ]
    )
    assert result["failed"]
    red = messages(result)
    # a namespace without pods breaks no budget, and the API server is there
    assert set(red) == {"pods", "volumes", "answers", "serves", "metrics", "transaction", "redis"}
    assert "StatefulSet redis does not exist" in red["pods"]
    assert "Service redis does not exist" in red["pods"]
    assert "0 claims with app=redis" in red["volumes"]
    assert f"Secret {namespace}/auth (password_secret) is not there" in red["redis"]
    assert all("does not exist" in red[name] for name in ("answers", "serves", "metrics", "transaction"))
    assert all(message in result["msg"] for message in red.values())


def test_red_without_failing(health_module: Module, namespace: str) -> None:
    result = health_module(checks=[{"name": "volumes", "kind": "volumes", "namespace": namespace}], fail=False)
    assert "failed" not in result
    assert result["ok"] is False
    assert result["msg"].startswith("1 check of 1 red")


def test_waiting_turns_red_to_green(apply_module: Module, health_module: Module, namespace: str, image: str) -> None:
    apply_module(set="web", namespace=namespace, definition=serving(image))
    result = health_module(checks=checks_of(namespace), wait=True, wait_timeout=120)
    assert not result.get("failed"), result["msg"]
    assert by_name(result)["web answers"]["attempts"] > 1


def test_two_budgets_and_one_that_blocks(apply_module: Module, health_module: Module, namespace: str, image: str) -> None:
    things = serving(image)
    second = {**things[2], "metadata": {"name": "second"}, "spec": {**things[2]["spec"], "maxUnavailable": 0}}
    apply_module(set="web", namespace=namespace, wait=True, wait_timeout=120, definition=things)
    # Its controller looks at a budget when that is made; of a pod's changes it tells only one of several budgets.
    apply_module(set="web", namespace=namespace, wait=True, wait_timeout=120, definition=[*things, second])
    said = until(
        lambda: health_module(checks=[{"name": "budgets", "kind": "budgets", "namespace": namespace}])["msg"], ["drain would hang"], 30
    )
    assert "2 budgets (second, web): it cannot be evicted at all" in said


def test_a_service_that_selects_nobody(apply_module: Module, health_module: Module, namespace: str, image: str) -> None:
    things = serving(image)
    things[1]["spec"]["selector"] = {"app": "webb"}
    apply_module(set="web", namespace=namespace, wait=True, wait_timeout=120, definition=things)
    check = {"name": "web pods", "kind": "workloads", "namespace": namespace, "workloads": ["Deployment/web"], "services": ["web"]}
    assert "Service web has no endpoint: no pod has its labels" in health_module(checks=[check])["msg"]


def test_a_port_that_nobody_listens_on(apply_module: Module, health_module: Module, namespace: str, image: str) -> None:
    things = serving(image)
    things[1]["spec"]["ports"][0]["targetPort"] = 8081
    apply_module(set="web", namespace=namespace, wait=True, wait_timeout=120, definition=things)
    service = {"namespace": namespace, "service": "web", "port": "http"}
    result = health_module(checks=[{"name": "http", "kind": "http", **service}, {"name": "grpc", "kind": "grpc", **service}], timeout=10)
    red = messages(result)
    assert "port 8081 failed" in red["http"]
    assert "0 of 2 pods" in by_name(result)["http"]["observed"]
    assert "pod web-" in red["grpc"]


def test_a_page_is_no_exposition(apply_module: Module, health_module: Module, namespace: str, image: str) -> None:
    apply_module(set="web", namespace=namespace, wait=True, wait_timeout=120, definition=serving(image))
    check = {"name": "metrics", "kind": "metrics", "namespace": namespace, "service": "web", "port": 80, "path": "/health", "names": ["up"]}
    said = messages(health_module(checks=[check]))["metrics"]
    assert "line 1: no sample: 'OK'" in said
    assert "missing: up" in said


def test_http_is_not_grpc(apply_module: Module, health_module: Module, namespace: str, image: str) -> None:
    apply_module(set="web", namespace=namespace, wait=True, wait_timeout=120, definition=serving(image))
    check = {"name": "grpc", "kind": "grpc", "namespace": namespace, "service": "web", "port": "http"}
    assert "gRPC" in messages(health_module(checks=[check], timeout=10, settle=0.0))["grpc"]


def test_a_server_that_is_down_is_one_cause(health_module: Module) -> None:
    result = health_module(
        kubeconfig=None,
        host="https://127.0.0.1:1",
        checks=[
            {"name": "API", "kind": "api"},
            {"name": "nodes", "kind": "nodes"},
            {"name": "volumes", "kind": "volumes", "namespace": "x"},
        ],
    )
    assert result["failed"]
    assert all("refuses connections" in message for message in messages(result).values())
    assert len(result["checks"]) == 3


def test_nothing_to_check_is_not_green(health_module: Module) -> None:
    assert "nothing to check" in health_module(checks=[])["msg"]


def test_both_ways_in_say_the_same(play: Callable[..., Any], apply_module: Module, namespace: str, image: str, tmp_path: Path) -> None:
    apply_module(set="web", namespace=namespace, wait=True, wait_timeout=120, definition=serving(image))
    seen = []
    for connection in ("local", "community.general.chroot"):
        for fail in (False, True):
            checks = [*checks_of(namespace), {"name": "volumes", "kind": "volumes", "namespace": namespace}]
            folder = tmp_path / f"{connection}-{fail}"
            task = {"progressive.platform.health": {"checks": checks, "cluster": "mine", "reports_dir": str(folder), "fail": fail}}
            result, _unused = play([task], connection=connection)
            assert bool(result.get("failed")) is fail
            assert (folder / "health.html").is_file()
            seen.append([(check["name"], check["ok"], check["expected"], check["observed"]) for check in result["checks"]])
    assert seen[1:] == seen[:1] * 3
    assert [name for name, ok, *_unused in seen[0] if not ok] == ["volumes"]


def test_check_mode_looks_and_writes_nothing(
    health_module: Module, apply_module: Module, versions: Callable[..., dict[str, str]], namespace: str, image: str
) -> None:
    apply_module(set="web", namespace=namespace, wait=True, wait_timeout=120, definition=serving(image))
    before = versions(namespace)
    transaction = {"name": "transaction", "kind": "transaction", "namespace": namespace, "service": "web"}
    result = health_module(check=True, checks=[*checks_of(namespace), transaction], settle=5.0)
    assert not result.get("failed"), result["msg"]
    assert by_name(result)["transaction"]["skipped"] is True
    assert result["msg"].endswith("not run in check mode: transaction")
    assert versions(namespace) == before
