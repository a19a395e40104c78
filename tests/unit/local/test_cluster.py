# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The small decisions: is a node ready, what has to be patched, what is installed, what is left, what kind is told."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.progressive.platform.plugins.module_utils._local import (
    arguments,
    control_plane,
    leftovers,
    nodes,
    packages,
    providers,
)
from ansible_collections.progressive.platform.plugins.module_utils._local.builds import Program
from ansible_collections.progressive.platform.plugins.module_utils._local.layout import Cluster, Node, Paths
from ansible_collections.progressive.platform.plugins.module_utils._local.shell import default_cache
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError

NODE = Node("n1", "zone-1", "database", {"node-type": "database"}, ("db=true:NoSchedule",), "10.111.0.2", "10.244.1.0/24", "pp-1")
CLUSTER = Cluster(
    Paths(Path("/cache")), {"kubernetes": Program("kubernetes", "v1.36.3")}, (NODE,), "10.111.0.0/24", "10.244.0.0/16", "10.96.0.0/16"
)
OURS = {"key": "db", "value": "true", "effect": "NoSchedule"}
SYSTEM = {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}
LABELS = {"node-type": "database", "topology.kubernetes.io/zone": "zone-1", "kubernetes.io/os": "linux"}


def node(ready: str = "True", beat: str = "2026-11-23T12:00:00Z", **more: t.Any) -> dict[str, t.Any]:
    condition = {"type": "Ready", "status": ready, "lastHeartbeatTime": beat, "message": "container runtime is down"}
    return {"metadata": {"name": "n1", "labels": LABELS}, "spec": {"taints": [OURS]}, "status": {"conditions": [condition]}, **more}


NOON = 1795435200.0  # 2026-11-23T12:00:00Z


@pytest.mark.parametrize(
    ("item", "since", "ready"),
    [
        (None, 0.0, False),
        ({}, 0.0, False),
        (node(), 0.0, True),
        (node("False"), 0.0, False),
        (node("Unknown"), 0.0, False),
        (node(), NOON - 60, True),
        (node(), NOON + 0.9, True),
        (node(), NOON + 1.0, False),  # said by a kubelet that is dead by now
    ],
)
def test_is_ready(item: dict[str, t.Any] | None, since: float, ready: bool) -> None:
    assert control_plane.is_ready(item, since) is ready


def test_why_not_ready() -> None:
    assert control_plane.why_not_ready(None) == "has not registered"
    assert control_plane.why_not_ready({}) == "has not reported yet"
    assert control_plane.why_not_ready(node("False")) == "container runtime is down"


@pytest.mark.parametrize(
    ("labels", "taints", "patch"),
    [
        (LABELS, [OURS], {}),
        (LABELS, [OURS, SYSTEM], {}),
        (LABELS, [SYSTEM], {"spec": {"taints": [OURS, SYSTEM]}}),
        (LABELS, None, {"spec": {"taints": [OURS]}}),
        (LABELS, [OURS, {"key": "other", "effect": "NoSchedule"}], {"spec": {"taints": [OURS]}}),
        ({"node-type": "app"}, [OURS], {"metadata": {"labels": {"node-type": "database", "topology.kubernetes.io/zone": "zone-1"}}}),
    ],
)
def test_node_patch(labels: dict[str, str], taints: list[dict[str, str]] | None, patch: dict[str, t.Any]) -> None:
    item = {"metadata": {"labels": labels}, "spec": {"taints": taints} if taints else {}}
    assert control_plane.node_patch(NODE, item) == patch


def test_user_kubeconfig_has_one_name_for_everything() -> None:
    admin = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "kubernetes", "cluster": {"server": "https://10.111.0.1:6443"}}],
        "users": [{"name": "kubernetes-admin", "user": {"client-key-data": "eA=="}}],
        "contexts": [{"name": "kubernetes-admin@kubernetes", "context": {"cluster": "kubernetes", "user": "kubernetes-admin"}}],
        "current-context": "kubernetes-admin@kubernetes",
    }
    config = yaml.safe_load(control_plane.user_kubeconfig(yaml.safe_dump(admin)))
    name = "progressive-local"
    assert config["current-context"] == name
    assert config["contexts"] == [{"name": name, "context": {"cluster": name, "user": name}}]
    assert config["clusters"] == [{"name": name, "cluster": {"server": "https://10.111.0.1:6443"}}]
    assert config["users"] == [{"name": name, "user": {"client-key-data": "eA=="}}]


def test_installed_packages() -> None:
    states = {"runc": "install ok installed", "gone": "deinstall ok config-files", "half": "install ok half-configured"}
    status = "".join(f"Package: {name}\nStatus: {state}\nVersion: 1\n\n" for name, state in states.items())
    assert packages.installed(status) == {"runc"}


def test_mounts_below_a_directory() -> None:
    mounts = "a /cache/run/x tmpfs rw 0 0\nb /cache/run/x/y\\040z tmpfs rw 0 0\nc /cache/runs tmpfs rw 0 0\nd / ext4 rw 0 0\n"
    assert leftovers.mounted_below(Path("/cache/run"), mounts) == ["/cache/run/x/y z", "/cache/run/x"]


def test_mountpoints_are_noted_and_only_ours_removed(tmp_path: Path) -> None:
    assert nodes.make_directories(tmp_path / "a/b/c") == [str(tmp_path / part) for part in ("a", "a/b", "a/b/c")]
    assert nodes.make_directories(tmp_path / "a/b") == []
    assert nodes.make_directories(tmp_path / "a/d") == [str(tmp_path / "a/d")]
    paths = Paths(tmp_path / "cache")
    paths.run.mkdir(parents=True)
    (paths.run / nodes.CREATED).write_text("".join(f"{tmp_path / part}\n" for part in ("a", "a/b", "a/b/c")))
    cluster = Cluster(paths, {}, (), "", "", "")
    assert nodes.remove_mountpoints(cluster) == [f"directory {tmp_path / part}" for part in ("a/b/c", "a/b")]
    assert (tmp_path / "a/d").exists(), "somebody has put something there"


def test_kind_gets_the_same_nodes() -> None:
    config = providers.kind_config(CLUSTER)
    assert config["nodes"] == [
        {"role": "control-plane"},
        {"role": "worker", "labels": {"node-type": "database", "topology.kubernetes.io/zone": "zone-1"}},
    ]
    assert config["networking"] == {"podSubnet": "10.244.0.0/16", "serviceSubnet": "10.96.0.0/16"}
    assert [providers.kind_nodes(count) for count in (1, 3)] == [
        ["progressive-worker"],
        ["progressive-worker", "progressive-worker2", "progressive-worker3"],
    ]


def test_kind_without_its_programs_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlatformError, match="wants the programs kind and docker"):
        providers.kind({"state": "up"}, Context())


@pytest.mark.parametrize("state", ["up", "down", "status"])
def test_existing_cluster_that_does_not_answer(tmp_path: Path, state: str) -> None:
    params = {
        "provider": "existing",
        "state": state,
        "host": "https://127.0.0.1:1",
        "api_key": "secret",
        "kubeconfig": None,
        "context": None,
    }
    if state == "up":
        with pytest.raises(PlatformError, match=r"127\.0\.0\.1:1"):
            arguments.run(params, Context())
        return
    result = arguments.run(params, Context())
    assert result["changed"] is False
    assert result["state"] == {"down": "unknown", "status": "down"}[state]
    assert "secret" not in str(result)


@pytest.mark.parametrize(("xdg", "home"), [("/xdg", "/xdg/progressive-platform"), ("", "/home/a/.cache/progressive-platform")])
def test_default_cache(monkeypatch: pytest.MonkeyPatch, xdg: str, home: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    monkeypatch.setenv("HOME", "/home/a")
    assert default_cache() == Path(home)


def test_component_of_an_unknown_program_is_refused() -> None:
    with pytest.raises(PlatformError, match="neither a path nor one of the programs kubernetes"):
        arguments.component_images({"components": {"x": {"tag": "v1", "files": {"/x": "nothing"}}}}, CLUSTER)
