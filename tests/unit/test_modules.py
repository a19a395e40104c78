# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every module as a task calls it, with something wrong: it is refused, or reported where it only looks, before anything is changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = "/nowhere/at/all"

# Module: what it is given, and what it says. Those that only look return their errors and do not fail.
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "apply": ({"set": "Not A Name", "definition": []}, "set: 'Not A Name' is no name for a set"),
    "bill": ({"rendered": NOWHERE, "dest": f"{NOWHERE}/bill.json"}, f"{NOWHERE} holds no rendered manifests"),
    "canary": (
        {"namespace": "x", "route": "y", "stable": "a", "canary": "b", "steps": [50, 10]},
        "steps: [50, 10] is no rising row of percents",
    ),
    "certificate": ({"name": "x"}, "missing required arguments: names"),
    "debug_bundle": ({"namespace": "x", "log_lines": 0}, "log_lines is 0; at least 1 is wanted"),
    "drift": ({"sets": {}}, "Nothing was compared"),
    "duration": ({"path": f"{NOWHERE}/durations.json", "state": "begun"}, "state is begun but all of the following are missing: component"),
    "health": (
        {"checks": [{"name": "x", "kind": "nonsense"}], "reports_dir": NOWHERE},
        "check x: kind is 'nonsense'; it must be one of api",
    ),
    "image_build": ({"names": ["x"]}, "missing required arguments: bases"),
    "image_digests": (
        {"bill": f"{NOWHERE}/bill.json", "dest": f"{NOWHERE}/digests.yml"},
        f"{NOWHERE}/bill.json is wanted, the list of what is needed",
    ),
    "istio_manifest": ({"istioctl": {"version": "1"}, "operator": {}}, "istioctl: an address and its SHA-256 are wanted"),
    "istio_upgrade": ({"tag": "x"}, "missing required arguments: revision"),
    "job": ({"namespace": "x", "cronjob": "y", "timeout": 0}, "timeout must be more than 0"),
    "leftovers": ({"sets": []}, "sets names no set"),
    "local_cluster": ({"state": "sideways"}, "value of state must be one of: up, down, status"),
    "mirror": ({"bill": f"{NOWHERE}/bill.json", "registry": "a.example/b"}, f"{NOWHERE}/bill.json is wanted, the list of what is needed"),
    "mongodb_backup": ({"addresses": ["a:1"]}, "missing required arguments: storage"),
    "mongodb_replicaset": ({"addresses": ["a:1", "b:2"], "members": 2}, "2 members would vote; an odd number is wanted"),
    "mongodb_replicaset_info": ({"addresses": ["10.0.0.1:27017"]}, "10.0.0.1:27017 is an IP address"),
    "mongodb_restore": ({"addresses": ["a:1"], "storage": {"path": NOWHERE}}, "there is no complete backup"),
    "mongodb_users": (
        {
            "addresses": ["a:1"],
            "passwords_secret": {"namespace": "x", "name": "y"},
            "users": [{"name": "a", "logins": ["b", "b"], "roles": []}],
        },
        "users a: logins is ['b', 'b']; different names are wanted",
    ),
    "monitoring_gather": ({"components": {"shop": {"rules": [{"expr": "1"}]}}}, "shop: a rule is an alert or a record (1)"),
    "postgresql_backup": ({"addresses": ["a:1"], "config": NOWHERE}, f"pgBackRest's configuration {NOWHERE} cannot be read"),
    "postgresql_cluster": ({"addresses": ["a:1"], "members": 0}, "members is 0; at least 1 is wanted"),
    "postgresql_cluster_info": ({"addresses": ["a"]}, "'a' is not host:port"),
    "postgresql_restore": ({"data": NOWHERE, "target": "yesterday"}, "target is 'yesterday'"),
    "postgresql_restore_in_place": (
        {"pods": {"namespace": "x", "selector": "a=b"}, "cronjob": "y", "target": "yesterday"},
        "target is 'yesterday'",
    ),
    "postgresql_upgrade": ({"timeout": 0}, "timeout must be more than 0"),
    "postgresql_upgrade_in_place": (
        {"pods": {"namespace": "x", "selector": "a=b"}, "cronjob": "y", "members": 0},
        "members must be at least 1",
    ),
    "preflight": ({"roles": ["nonsense"], "server": False}, "there is no role nonsense"),
    "redis_cluster": ({"addresses": ["a:1"], "masters": 2}, "masters is 2; a Redis Cluster needs at least 3"),
    "redis_cluster_backup": ({"addresses": ["a:1"]}, "missing required arguments: storage"),
    "redis_cluster_info": ({"addresses": ["a"]}, "'a' is not host:port"),
    "redis_cluster_restore": ({"addresses": ["a:1"], "storage": {"path": NOWHERE}}, "there is no complete backup"),
    "redis_users": ({"addresses": ["a:1"], "users": [{"name": "a b"}]}, "users: 'a b' cannot be a user here"),
    "secret": ({"name": "x", "namespace": "y", "generate": {"a": {"length": 1}}}, "generate.a.length: 1; a whole number from 12"),
    "snapshot": ({"path": NOWHERE, "state": "checked"}, f"There is no snapshot in {NOWHERE}"),
    "wait": ({"sets": ["x"], "kubeconfig": NOWHERE}, f"{NOWHERE} (from the kubeconfig option) does not exist"),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The results of all modules, from one playbook."""
    folder = tmp_path_factory.mktemp("modules")
    tasks: list[dict[str, Any]] = [
        {f"progressive.platform.{name}": options, "register": f"said_{name}", "ignore_errors": True}
        for name, (options, _words) in WRONG.items()
    ]
    everything = "{{ {" + ", ".join(f"'{name}': said_{name}" for name in WRONG) + "} | to_json }}"
    tasks.append({"ansible.builtin.copy": {"dest": str(folder / "answers.json"), "content": everything, "mode": "0600"}})
    (folder / "play.yml").write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    interpreter = f"ansible_python_interpreter={sys.executable}"
    command = ["ansible-playbook", "-i", "localhost,", "-c", "local", "-e", interpreter, str(folder / "play.yml")]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return dict(json.loads((folder / "answers.json").read_text()))


def test_every_module_is_here() -> None:
    assert set(WRONG) == {path.stem for path in (ROOT / "plugins/modules").glob("*.py")}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(name: str, answers: dict[str, dict[str, Any]]) -> None:
    answer, words = answers[name], WRONG[name][1]
    assert not answer["changed"]
    assert answer.get("failed", False) != name.endswith("_info")
    assert words in json.dumps(answer, ensure_ascii=False)
