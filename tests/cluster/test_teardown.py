# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""teardown.yml on a namespace of its own: volumes keep it, finalizers are named, and in the end nothing is left. In this order."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.progressive.platform.plugins.module_utils._kube import leftovers
from ansible_collections.progressive.platform.plugins.module_utils._run import Context

Json = dict[str, Any]
pytestmark = pytest.mark.slow  # four playbooks, one of which waits for a finalizer in vain

ROOT = Path(__file__).resolve().parents[2]
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "precious"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
}


class Space:
    def __init__(self, folder: Path, kubeconfig: str) -> None:
        self.name = f"test-teardown-{secrets.token_hex(3)}"
        self.kubeconfig = kubeconfig
        self.options = {
            "platform_namespace": self.name,
            "platform_components": ["baseline"],
            "platform_reports_dir": str(folder / "reports"),
            "platform_wait_timeout": 25,
            "teardown_confirm": "local",
        }

    def play(self, name: str, ok: bool = True) -> str:
        command = [
            str(ROOT / ".venv/bin/ansible-playbook"),
            "-i",
            "inventories/local",
            f"playbooks/{name}.yml",
            "-e",
            json.dumps(self.options),
        ]
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False)
        assert (done.returncode == 0) is ok, (done.stdout + done.stderr)[-4000:]
        return " ".join((done.stdout + done.stderr).split())  # long messages are wrapped

    def left(self) -> Json:
        given = {"sets": ["baseline"], "namespace": self.name, "kubeconfig": self.kubeconfig, "fail": False}
        return leftovers.run(ArgumentSpecValidator(leftovers.ARGUMENTS).validate(given).validated_parameters, Context())


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory, kubeconfig: str) -> Iterator[Space]:
    made = Space(tmp_path_factory.mktemp("teardown"), kubeconfig)
    made.play("site")
    yield made
    made.play("teardown")


def test_what_is_there_is_left(space: Space) -> None:
    found = {(it["kind"], it["name"]) for it in space.left()["left"]}
    assert {("Namespace", space.name), ("ConfigMap", "applyset-baseline")} <= found
    assert any(kind == "PriorityClass" for kind, _name in found)
    assert not any(name == "kube-root-ca.crt" for _kind, name in found), "only what we made"


def test_a_volume_keeps_its_namespace(space: Space, kubectl: Callable[..., str]) -> None:
    kubectl("-n", space.name, "apply", "-f", "-", stdin=json.dumps(CLAIM))
    kubectl("-n", space.name, "create", "secret", "generic", "theirs", "--from-literal=a=b")
    printed = space.play("teardown")
    assert f"Namespace {space.name} was kept, because there are volumes in it: precious" in printed
    assert "Kept: 1 volumes (precious)" in printed
    assert "precious" in kubectl("-n", space.name, "get", "pvc")
    assert not kubectl("-n", space.name, "get", "networkpolicies,resourcequotas", "-o", "name")
    again = space.play("teardown")
    assert "Kept: 1 volumes (precious)" in again, "the set still knows what it left"


def test_a_finalizer_is_named_and_not_removed(space: Space, kubectl: Callable[..., str]) -> None:
    kubectl("-n", space.name, "create", "configmap", "held", "--from-literal=a=b")
    kubectl("-n", space.name, "patch", "configmap", "held", "--type=merge", "-p", '{"metadata":{"finalizers":["example.org/guard"]}}')
    kubectl("-n", space.name, "delete", "pvc", "precious", "--wait=false")
    printed = space.play("teardown", ok=False)
    assert "Deleted but not gone in time" in printed
    assert f"ConfigMap {space.name}/held (finalizers: example.org/guard)" in printed, printed[-3000:]
    assert "example.org/guard" in kubectl("-n", space.name, "get", "configmap", "held", "-o", "jsonpath={.metadata.finalizers}")
    stuck = space.left()["left"]
    assert [it["why"].split(" (")[0] for it in stuck if it["kind"] == "Namespace"] == ["is being deleted"]


def test_in_the_end_nothing_is_left(space: Space, kubectl: Callable[..., str]) -> None:
    kubectl("-n", space.name, "patch", "configmap", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert "Nothing is left." in space.play("teardown")
    assert space.left() == {"changed": False, "left": [], "kept": [], "missing": [], "msg": "Nothing is left."}
    assert "NotFound" in kubectl("get", "namespace", space.name, check=False)
