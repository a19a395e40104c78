# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The local cluster itself: what is killed comes back, a healthy one is left alone, and it lets nothing out."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.alone

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "progressive-platform"
BUSYBOX = "localhost/progressive/busybox:1.35"


def playbook(state: str = "up", **environment: str) -> tuple[int, str]:
    """Number of changed tasks, and everything ``local_cluster.yml`` said."""
    command = [
        str(ROOT / ".venv/bin/ansible-playbook"),
        "-i",
        "inventories/local",
        "playbooks/local_cluster.yml",
        "-e",
        f"local_cluster_state={state}",
    ]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    changed = re.search(r"changed=(\d+)", done.stdout)
    assert changed, done.stdout
    return int(changed[1]), done.stdout


def record(name: str) -> dict[str, object]:
    return json.loads((CACHE / f"run/processes/{name}.json").read_text())


@pytest.fixture(autouse=True)
def ours(kubeconfig: str) -> None:
    assert kubeconfig == str(CACHE / "run/kubeconfig"), "these tests are about the local cluster, not about the one of KUBECONFIG"


def test_healthy_cluster_is_left_alone() -> None:
    before = {path.name: path.read_text() for path in (CACHE / "run/processes").iterdir()}
    assert playbook()[0] == 0
    assert {path.name: path.read_text() for path in (CACHE / "run/processes").iterdir()} == before


@pytest.mark.parametrize("names", [["kube-scheduler", "kubelet-node-2"], ["kube-apiserver"], ["containerd-node-3", "kube-proxy-node-3"]])
def test_killed_daemons_are_told_and_come_back(names: list[str], kubectl: Callable[..., str]) -> None:
    pods = kubectl("get", "pods", "-A", "-o", "jsonpath={.items[*].status.containerStatuses[*].containerID}")
    killed = {name: record(name)["pid"] for name in names}
    for pid in killed.values():
        os.kill(int(str(pid)), signal.SIGKILL)
    _changed, said = playbook("status")
    assert all(name in said for name in names), said
    assert playbook()[0] > 0
    assert all(record(name)["pid"] != killed[name] for name in names)
    assert playbook()[0] == 0
    assert kubectl("get", "nodes", "-o", "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}").split() == ["True"] * 3
    still = kubectl("get", "pods", "-A", "-o", "jsonpath={.items[*].status.containerStatuses[*].containerID}")
    assert set(pods.split()) & set(still.split()), "containers live on while their daemons do not"


def test_nodes_have_their_zones_and_pools(kubectl: Callable[..., str]) -> None:
    nodes = {item["metadata"]["name"]: item for item in json.loads(kubectl("get", "nodes", "-o", "json"))["items"]}
    labels = {
        name: (item["metadata"]["labels"]["topology.kubernetes.io/zone"], item["metadata"]["labels"]["node-type"])
        for name, item in nodes.items()
    }
    assert labels == {"node-1": ("zone-1", "app"), "node-2": ("zone-2", "database"), "node-3": ("zone-3", "cache")}
    taints = {name: [taint["key"] for taint in item["spec"].get("taints", [])] for name, item in nodes.items()}
    assert taints == {"node-1": [], "node-2": ["database-workload"], "node-3": ["cache-workload"]}


def test_metrics_are_served(kubectl: Callable[..., str]) -> None:
    names = sorted(line.split()[0] for line in kubectl("top", "nodes", "--no-headers").splitlines())
    assert names == ["node-1", "node-2", "node-3"]


def test_pods_reach_each_other_and_nothing_else(kubectl: Callable[..., str]) -> None:
    """Between nodes by address and through DNS; the machine's other addresses and the world refuse at once."""
    pods = ("closed-1", "closed-3")
    for name in pods:
        spec = {"nodeName": f"node-{name[-1]}", "terminationGracePeriodSeconds": 0, "tolerations": [{"operator": "Exists"}]}
        script = "while true; do echo here | nc -l -p 8080; done"
        overrides = json.dumps({"spec": spec})
        kubectl(
            "run", name, f"--image={BUSYBOX}", f"--overrides={overrides}", "--restart=Never", "--command", "--", "/bin/sh", "-c", script
        )
    try:
        kubectl("wait", "--for=condition=Ready", "--timeout=60s", *(f"pod/{name}" for name in pods))
        address = kubectl("get", "pod", "closed-3", "-o", "jsonpath={.status.podIP}")
        assert kubectl("exec", "closed-1", "--", "nc", "-w", "5", address, "8080").strip() == "here"
        assert "10.96.0.1" in kubectl("exec", "closed-1", "--", "nslookup", "kubernetes.default.svc.cluster.local")
        for outside in ("198.51.100.7", "203.0.113.9"):  # documentation addresses (RFC 5737): nobody has them
            assert "refused" in kubectl("exec", "closed-1", "--", "nc", "-w", "5", outside, "80", check=False)
    finally:
        kubectl("delete", "pod", *pods, "--ignore-not-found", "--wait=false")


def test_volume_by_the_default_class(kubectl: Callable[..., str]) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "default-class"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    container = {
        "name": "writer",
        "image": BUSYBOX,
        "command": ["/bin/sh", "-c", "echo kept > /data/file && sleep 600"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    spec = {
        "nodeSelector": {"node-type": "cache"},
        "tolerations": [{"operator": "Exists"}],
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "default-class"}}],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "writer"}, "spec": spec}
    kubectl("create", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": [claim, pod]}))
    try:
        kubectl("wait", "--for=condition=Ready", "--timeout=90s", "pod/writer")
        volume = kubectl("get", "pvc", "default-class", "-o", "jsonpath={.spec.volumeName}")
        assert [path.read_text() for path in (CACHE / "run/nodes/node-3/volumes").glob(f"{volume}*/file")] == ["kept\n"]
    finally:
        kubectl("delete", "pod/writer", "pvc/default-class", "--ignore-not-found", "--wait=false")


def test_kubeconfig_is_private() -> None:
    assert (CACHE / "run/kubeconfig").stat().st_mode & 0o777 == 0o600


def test_another_cache_does_not_harm_this_cluster(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="runs on this machine already"):
        playbook("down", XDG_CACHE_HOME=str(tmp_path))
    assert playbook()[0] == 0
