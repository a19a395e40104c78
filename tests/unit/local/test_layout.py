# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the local cluster is, as data: addresses, arguments, configuration, and what is refused before anything is done."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.progressive.platform.plugins.module_utils._local import layout
from ansible_collections.progressive.platform.plugins.module_utils._local.arguments import ARGUMENTS
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

PROGRAMS = {"kubernetes": {"version": "v1.36.3"}, "pause": {"version": "v1"}}
POOLS = {
    "app": {"labels": {"node-type": "app"}, "taints": []},
    "database": {
        "labels": {"node-type": "database"},
        "taints": [{"key": "database-workload", "value": "true", "effect": "NoSchedule"}],
    },
}
NODES = [{"name": "node-1", "zone": "zone-1", "pool": "app"}, {"name": "node-2", "zone": "zone-2", "pool": "database"}]


def params(**changed: t.Any) -> dict[str, t.Any]:
    wanted = {"cache": "/cache", "nodes": NODES, "pools": POOLS, "programs": PROGRAMS, **changed}
    checked = ArgumentSpecValidator(ARGUMENTS).validate(wanted)
    assert not checked.error_messages, checked.error_messages
    return dict(checked.validated_parameters)


def cluster(**changed: t.Any) -> layout.Cluster:
    return layout.make_cluster(params(**changed))


def options(daemon: layout.Daemon) -> dict[str, str]:
    return dict(part.removeprefix("--").split("=", 1) for part in daemon.command if part.startswith("--"))


def test_addresses_and_traits() -> None:
    wanted = cluster()
    one, two = wanted.nodes
    assert (wanted.address, wanted.server, wanted.dns) == ("10.111.0.1", "https://10.111.0.1:6443", "10.96.0.10")
    assert (one.address, one.pods, one.link) == ("10.111.0.2", "10.244.1.0/24", "pp-1")
    assert (two.address, two.pods, two.link) == ("10.111.0.3", "10.244.2.0/24", "pp-2")
    assert two.all_labels == {"node-type": "database", "topology.kubernetes.io/zone": "zone-2"}
    assert two.taints == ("database-workload=true:NoSchedule",)


@pytest.mark.parametrize(
    ("changed", "seen", "allowed"),
    [
        ({"nodes": []}, "local_cluster_nodes", "at least one"),
        ({"nodes": [NODES[0], NODES[0]]}, "node-1", "more than once"),
        ({"nodes": [{"name": "node-1", "pool": "gpu"}]}, "'gpu'", "app, database"),
        ({"nodes": [{"name": f"node-{index}"} for index in range(65)]}, "65 nodes", "at most 64"),
        ({"nodes": [{"name": "node-1", "taints": ["dedicated"]}]}, "'dedicated'", "key=value:NoSchedule"),
        ({"node_network": "10.111.0.0"}, "local_cluster_node_network", "no room"),
        ({"node_network": "10.111.0.7/24"}, "'10.111.0.7/24'", "such as 10.111.0.0/24"),
        ({"node_network": "fd00::/64"}, "'fd00::/64'", "IPv4 network"),
        ({"node_network": "10.111.0.0/30"}, "10.111.0.0/30", "no room for 2 nodes"),
        ({"pod_network": "10.111.0.0/16"}, "10.111.0.0/16", "must not overlap"),
        ({"pod_network": "10.244.0.0/24"}, "10.244.0.0/24", "one /24 for each"),
        ({"pod_network": "10.244.0.0/23"}, "10.244.0.0/23", "one to spare"),
        ({"service_network": "10.96.0.0/28"}, "10.96.0.0/28", "at least a /26"),
        ({"service_network": "10.244.8.0/24"}, "10.244.8.0/24", "must not overlap"),
        ({"programs": {"pause": {"version": "v1"}}}, "local_cluster_programs", "must name kubernetes"),
        ({"programs": {"kubernetes": {"version": "v1.36.3"}}}, "kubernetes", "must name pause"),
    ],
)
def test_refused(changed: dict[str, t.Any], seen: str, allowed: str) -> None:
    with pytest.raises(PlatformError) as caught:
        cluster(**changed)
    assert seen in caught.value.message
    assert allowed in caught.value.message


def test_a_node_that_joins_changes_nothing_in_the_others() -> None:
    """Routes lead to every node there may be, so no daemon of another node has to be started anew."""
    small, large = cluster(), cluster(nodes=[*NODES, {"name": "node-3"}])
    for make in (layout.holder, layout.containerd, layout.kubelet, layout.kube_proxy):
        for index in (0, 1):
            assert make(small, small.nodes[index]).fingerprint == make(large, large.nodes[index]).fingerprint
    routes = layout.peer_routes(small, small.nodes[0])
    assert routes["10.244.3.0/24"] == "10.111.0.4"
    assert "10.244.1.0/24" not in routes
    assert len(routes) == layout.MAX_NODES - 1


@pytest.mark.parametrize(
    ("changed", "restarted"),
    [
        ({"programs": {**PROGRAMS, "kubernetes": {"version": "v1.36.4"}}}, {"etcd", "kube-apiserver", "kubelet", "kube-proxy"}),
        ({"node_grace": 20}, set()),
        ({"service_network": "10.97.0.0/16"}, {"kube-apiserver", "kubelet"}),
        ({"pod_network": "10.240.0.0/16"}, {"holder", "containerd", "kube-proxy"}),
        ({"node_network": "10.112.0.0/24"}, {"holder", "etcd", "kube-apiserver", "kubelet", "kube-proxy"}),
        ({"nodes": [{"name": "node-1", "zone": "zone-9", "pool": "app"}, NODES[1]]}, {"kubelet"}),
    ],
)
def test_what_a_change_restarts(changed: dict[str, t.Any], restarted: set[str]) -> None:
    def prints(wanted: layout.Cluster) -> dict[str, str]:
        node = wanted.nodes[0]
        daemons = [layout.etcd(wanted), layout.kube_apiserver(wanted)]
        daemons += [
            layout.holder(wanted, node),
            layout.containerd(wanted, node),
            layout.kubelet(wanted, node),
            layout.kube_proxy(wanted, node),
        ]
        return {daemon.name.removesuffix("-node-1"): daemon.fingerprint for daemon in daemons}

    before, after = prints(cluster()), prints(cluster(**changed))
    assert {name for name in before if before[name] != after[name]} == restarted


def test_only_the_bridge_is_served() -> None:
    wanted = cluster()
    assert options(layout.kube_apiserver(wanted))["bind-address"] == "10.111.0.1"
    assert options(layout.kube_controller_manager(wanted))["bind-address"] == "10.111.0.1"
    assert options(layout.kube_scheduler(wanted))["bind-address"] == "10.111.0.1"
    etcd = options(layout.etcd(wanted))
    assert etcd["listen-client-urls"] == "https://10.111.0.1:2379"
    assert etcd["client-cert-auth"] == "true"


def test_kubelet_configuration() -> None:
    wanted = cluster()
    daemon = layout.kubelet(wanted, wanted.nodes[1])
    config = json.loads(daemon.files[Path("/cache/run/nodes/node-2/kubelet.json")])
    assert config["registerWithTaints"] == [{"key": "database-workload", "value": "true", "effect": "NoSchedule"}]
    assert config["cgroupRoot"] == "/progressive-platform/nodes/node-2/pods"
    assert config["clusterDNS"] == ["10.96.0.10"]
    assert config["failCgroupV1"] is False
    assert options(daemon)["node-labels"] == "node-type=database,topology.kubernetes.io/zone=zone-2"


def test_what_is_neither_node_nor_pod_is_refused() -> None:
    rules = layout.packet_filter(cluster()).splitlines()
    closed = [rule.removeprefix("-A CLOSED ") for rule in rules if rule.startswith("-A CLOSED ")]
    assert closed[:3] == ["-o lo -j RETURN", "-d 10.111.0.0/24 -j RETURN", "-d 10.244.0.0/16 -j RETURN"]
    assert closed[3:] == ["-p tcp -j REJECT --reject-with tcp-reset", "-j REJECT"]
    assert {"-A FORWARD -j CLOSED", "-A OUTPUT -j CLOSED"} <= set(rules)


def test_pods_keep_their_own_addresses() -> None:
    """Masquerading would show a Redis peer the node's address; the cluster would never join."""
    bridge = json.loads(layout.cni(cluster().nodes[0]))["plugins"][0]
    assert bridge["ipMasq"] is False
    assert bridge["ipam"]["ranges"] == [[{"subnet": "10.244.1.0/24"}]]


def test_everything_a_node_writes_is_in_the_cache() -> None:
    wanted = cluster()
    node = wanted.nodes[0]
    assert all(str(source).startswith("/cache/run/nodes/node-1/") for source in layout.mounts(wanted, node).values())
    script = layout.holder(wanted, node).command[-1]
    assert script.index("--make-rprivate /") < script.index("--make-rshared /") < script.index("--bind")
    assert "upperdir=/cache/run/nodes/node-1/programs,workdir=/cache/run/nodes/node-1/programs.work' programs /usr/lib/cni" in script
    assert script.splitlines()[-1] == "exec '/cache/bin/pause-v1'"


@pytest.mark.parametrize(
    ("written", "text", "parsed"),
    [
        ("a=b:NoSchedule", "a=b:NoSchedule", {"key": "a", "value": "b", "effect": "NoSchedule"}),
        ("a:NoExecute", "a:NoExecute", {"key": "a", "effect": "NoExecute"}),
        ({"key": "a", "value": "b", "effect": "NoSchedule"}, "a=b:NoSchedule", {"key": "a", "value": "b", "effect": "NoSchedule"}),
        ({"key": "x.io/a", "effect": "NoSchedule"}, "x.io/a=:NoSchedule", {"key": "x.io/a", "effect": "NoSchedule"}),
    ],
)
def test_taints(written: str | dict[str, str], text: str, parsed: dict[str, str]) -> None:
    assert layout.taint_text(written) == text
    assert layout.parse_taint(text) == parsed


def test_kubeadm_configuration_is_two_documents() -> None:
    init, configuration = (json.loads(text) for text in layout.kubeadm_config(cluster(), "node-1").split("---"))
    assert init["localAPIEndpoint"] == {"advertiseAddress": "10.111.0.1", "bindPort": 6443}
    assert configuration["certificatesDir"] == "/cache/run/pki"
    assert configuration["kubernetesVersion"] == "v1.36.3"
