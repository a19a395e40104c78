# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What preflight makes of a server's answers: versions, sizes, pools, volumes that are there. The answers are plain JSON."""

from __future__ import annotations

import copy
import typing as t

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._preflight.quantities import humane, quantity
from ansible_collections.progressive.platform.plugins.module_utils._preflight.server import Seen, judge, usable

Json = dict[str, t.Any]
TAINT = {"key": "cache-workload", "value": "true", "effect": "NoSchedule"}
POOLS = {"app": {"labels": {"node-type": "app"}}, "cache": {"labels": {"node-type": "cache"}, "taints": [TAINT]}}


def node(name: str, pool: str, zone: str = "a", **spec: t.Any) -> Json:
    return {
        "metadata": {"name": name, "labels": {"node-type": pool, "topology.kubernetes.io/zone": zone}},
        "spec": spec,
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "allocatable": {"cpu": "2", "memory": "4Gi", "ephemeral-storage": "50Gi"},
        },
    }


def pod(**changes: t.Any) -> Json:
    return {
        "variable": "agents_services.npa",
        "name": "npa",
        "least": 2,
        "requests": {"cpu": "500m", "memory": "1Gi"},
        "pools": ["app"],
        **changes,
    }


@pytest.mark.parametrize(
    ("version", "refused", "warned"),
    [
        ("v1.33.9", True, False),
        ("v1.34.2", False, True),
        ("v1.35.0", False, False),
        ("v1.36.3", False, False),
        ("v1.37.1+vendor", False, False),
        ("v1.38.0", False, True),
        ("", True, False),
    ],
)
def test_versions(version: str, refused: bool, warned: bool) -> None:
    found = judge(Seen(version=version, nodes=[], classes=[]), {})
    assert [finding.warning for finding in found] == ([False] if refused else [True] if warned else [])


CLAIM = {"variable": "redis_cluster_storage", "workload": "redis-cluster", "claim": "data", "size": "2Gi", "class": "fast", "count": 6}
FAST = {"metadata": {"name": "fast", "annotations": {}}}
DEFAULT = {"metadata": {"name": "usual", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}}


def stateful(size: str = "2Gi", replicas: int = 6, storage_class: str = "fast") -> Json:
    spec = {"storageClassName": storage_class, "resources": {"requests": {"storage": size}}}
    return {"redis-cluster": {"spec": {"replicas": replicas, "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": spec}]}}}


@pytest.mark.parametrize(
    ("claim", "seen", "named"),
    [
        (CLAIM, Seen(classes=[FAST]), []),
        (CLAIM, Seen(classes=[DEFAULT]), ["redis_cluster_storage.class"]),
        ({**CLAIM, "class": ""}, Seen(classes=[DEFAULT]), []),
        ({**CLAIM, "class": ""}, Seen(classes=[FAST]), ["redis_cluster_storage.class"]),
        (CLAIM, Seen(classes=[FAST], workloads=stateful()), []),
        (CLAIM, Seen(classes=[FAST], workloads=stateful("2048Mi")), []),
        (CLAIM, Seen(classes=[FAST], workloads=stateful("4Gi")), ["redis_cluster_storage.size"]),
        (CLAIM, Seen(classes=[FAST], workloads=stateful("1Gi")), ["redis_cluster_storage.size"]),
        (CLAIM, Seen(classes=[FAST], workloads=stateful(storage_class="slow")), ["redis_cluster_storage.class"]),
        (CLAIM, Seen(classes=[FAST], workloads=stateful(replicas=9)), []),  # redis_cluster empties the surplus pods first
        (CLAIM, Seen(classes=[FAST], workloads=stateful(replicas=3)), []),
    ],
)
def test_volumes(claim: Json, seen: Seen, named: list[str]) -> None:
    answered = Seen(version="v1.36.0", nodes=[], classes=seen.classes, workloads=seen.workloads)
    assert [finding.variable for finding in judge(answered, {"claims": [claim]})] == named


@pytest.mark.parametrize(
    ("image", "env", "release", "refused"),
    [
        ("redis:7.2.11-alpine", {}, "redis 7.2.11", ""),
        ("redis:7.2.11-alpine", {"ENGINE": "redis"}, "valkey 8.0.6", ""),
        (
            "registry.example.com:5000/redis:7.4.2",
            {"ENGINE": "redis"},
            "valkey 8.0.6",
            "Redis 7.4.2 writes a data format that Valkey does not read",
        ),
        ("valkey/valkey:8.0.6", {"ENGINE": "valkey"}, "redis 7.2.11", "No Redis is made to read"),
        ("redis:7.2.11", {}, "redis 7.0", "Redis 7.0 may not be able to read"),
        ("localhost/progressive/redis:7-0123abcd", {}, "valkey 8", ""),
        ("mirror.example.com/redis@sha256:00", {}, "redis 7.2", ""),
    ],
)
def test_engines(image: str, env: dict[str, str], release: str, refused: str) -> None:
    there = stateful()
    container = {"name": "redis", "image": image, "env": [{"name": name, "value": value} for name, value in env.items()]}
    there["redis-cluster"]["spec"]["template"] = {"spec": {"containers": [container]}}
    claim = {**CLAIM, "container": "redis", "release": release, "engine": "redis_cluster_engine"}
    found = judge(Seen(version="v1.36.0", nodes=[], classes=[FAST], workloads=there), {"claims": [claim]})
    assert [finding.variable for finding in found] == (["redis_cluster_engine"] if refused else [])
    assert refused in str(found)


@pytest.mark.parametrize(
    ("one", "pools", "expected"),
    [
        (node("a", "app"), ["app"], True),
        (node("a", "app"), ["cache"], False),
        (node("a", "cache", taints=[TAINT]), ["cache"], True),
        (node("a", "cache", taints=[TAINT]), ["app"], False),
        (node("a", "app", taints=[TAINT]), ["app"], False),
        (node("a", "app", taints=[TAINT]), ["app", "cache"], True),
        (node("a", "app", taints=[{**TAINT, "effect": "PreferNoSchedule"}]), ["app"], True),
        (node("a", "app", unschedulable=True), ["app"], False),
        ({**node("a", "app"), "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}, ["app"], False),
    ],
)
def test_nodes_a_pod_may_use(one: Json, pools: list[str], expected: bool) -> None:
    assert usable(one, pools, POOLS) is expected


@pytest.mark.parametrize(
    ("pods", "variable", "part"),
    [
        ([pod()], None, ""),
        ([pod(requests={"cpu": "3"})], "agents_services.npa.resources.requests.cpu", "at most 2"),
        ([pod(requests={"memory": "5Gi"}, least=1)], "agents_services.npa.resources.requests.memory", "at most 4Gi"),
        ([pod(least=9)], "platform_pools.app", "at least 4500m"),
        ([pod(least=4), pod(name="wpa", least=5)], "platform_pools.app", "npa, wpa ask for"),
        ([pod(pools=["cache"])], "platform_pools.cache", "node-type=cache"),
    ],
)
def test_sizes(pods: list[Json], variable: str | None, part: str) -> None:
    seen = Seen(version="v1.36.0", nodes=[node("a", "app"), node("b", "app", "b")], classes=[])
    found = judge(seen, {"pods": pods, "pools": POOLS})
    if variable is None:
        assert found == []
    else:
        assert variable in [finding.variable for finding in found]
        assert any(part in str(finding) for finding in found), found


def test_few_zones_are_a_warning() -> None:
    seen = Seen(version="v1.36.0", nodes=[node("a", "app", "a"), node("b", "app", "a")], classes=[])
    needs = {"pools": POOLS, "zones": [{"variable": "redis_cluster_masters", "pools": ["app"], "members": 3}]}
    assert [(finding.variable, finding.warning) for finding in judge(seen, needs)] == [("redis_cluster_masters", True)]


def test_no_metrics_are_a_warning() -> None:
    found = judge(Seen(version="v1.36.0", nodes=[], classes=[], metrics=False), {"scales": True})
    assert [finding.warning for finding in found] == [True]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("250m", "0.25"),
        ("2", "2"),
        (2, "2"),
        (0.5, "0.5"),
        ("1Gi", "1073741824"),
        ("1k", "1000"),
        ("1e3", "1000"),
        ("64Mi", "67108864"),
        (".5", "0.5"),
    ],
)
def test_quantities(text: t.Any, number: str) -> None:
    assert str(quantity(text).normalize()) in (number, str(quantity(number).normalize()))


@pytest.mark.parametrize("text", ["1Gib", "1 Gi", "", "Gi", "1K", "two", None, True, "1.2.3", "0x10"])
def test_no_quantities(text: t.Any) -> None:
    with pytest.raises(ValueError, match="is not a Kubernetes quantity"):
        quantity(text)


@pytest.mark.parametrize(
    ("number", "like", "text"),
    [
        ("0.25", "cpu", "250m"),
        ("2", "cpu", "2"),
        ("1073741824", "memory", "1Gi"),
        ("1610612736", "memory", "1.5Gi"),
        ("500", "memory", "500"),
    ],
)
def test_humane(number: str, like: str, text: str) -> None:
    assert humane(quantity(number), like) == text


@pytest.mark.parametrize(
    ("condition", "word"),
    [
        ({"type": "DiskPressure", "status": "True"}, "node n1 has DiskPressure"),
        ({"type": "Ready", "status": "Unknown"}, "node n1 is NotReady"),
    ],
)
def test_nodes_that_are_ill_are_named_and_not_their_labels(condition: Json, word: str) -> None:
    ill = node("n1", "app", taints=[{"key": "node.kubernetes.io/ill", "effect": "NoSchedule"}])
    others = [one for one in ill["status"]["conditions"] if one["type"] != condition["type"]]
    ill["status"]["conditions"] = [*others, condition]
    other_pool = copy.deepcopy(ill) | {"metadata": {"name": "n2", "labels": {"node-type": "of-another-pool"}}}
    (found,) = judge(Seen(version="v1.36.0", nodes=[ill, other_pool], classes=[]), {"pods": [pod()], "pools": POOLS})
    assert found.seen == f"no ready node is of pool app ({word})" and "kubectl describe nodes" in found.remedy


def edge_of(kind: str, host: str, namespace: str = "staging") -> dict[str, list[Json]]:
    specs = {
        "Gateway": {"listeners": [{"hostname": host}, {}]},
        "Gateway of Istio": {"servers": [{"hosts": [f"./{host}"]}]},
        "VirtualServer": {"host": host},
        "Ingress": {"rules": [{"host": host}, {}]},
    }
    return {kind: [{"metadata": {"name": "edge", "namespace": namespace}, "spec": specs[kind]}]}


@pytest.mark.parametrize(
    ("edges", "part"),
    [
        (edge_of("Gateway", "api.a.example"), "api.a.example, which Gateway staging/edge answers for already"),
        (edge_of("Gateway of Istio", "api.a.example"), "Gateway of Istio staging/edge"),
        (edge_of("VirtualServer", "api.a.example"), "VirtualServer staging/edge"),
        (edge_of("Ingress", "*.a.example"), "Ingress staging/edge"),
        (edge_of("Gateway", "*.a.example"), "Gateway staging/edge"),
        (edge_of("Gateway", "api.a.example", "prod"), ""),
        (edge_of("Gateway", "*"), ""),
        (edge_of("Gateway", "b.example"), ""),
        (edge_of("Gateway", "*.b.example"), ""),
        ({}, ""),
    ],
)
def test_hosts_of_two_environments(edges: t.Any, part: str) -> None:
    needs = {"hosts": [{"variable": "gateway_hosts", "hosts": ["api.a.example"], "namespace": "prod"}]}
    found = judge(Seen(version="v1.36.3", nodes=[], classes=[], edges=edges), needs)
    assert [one.variable for one in found] == (["gateway_hosts"] if part else []) and part in "".join(map(str, found))
