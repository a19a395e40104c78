# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the platform promises, shown on the local cluster (`make up` before): nothing changes twice, edits show exactly, faults turn red and heal.

Each test leaves the platform green. They run site.yml and verify.yml as a person would, and read what those print and write.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.alone

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "progressive-platform"
NAMESPACE = "progressive-framework-local"
RUN_TIMEOUT = 540  # seconds a playbook may take before it counts as hanging


class Outcome:
    """What a playbook run printed, and its exit code."""

    def __init__(self, process: subprocess.CompletedProcess[str]) -> None:
        self.text = process.stdout + process.stderr
        self.ok = process.returncode == 0

    @property
    def changed(self) -> int:
        return int(re.findall(r"changed=(\d+)", self.text)[-1])


def playbook(name: str, *options: str, inventory: Path | None = None) -> Outcome:
    command = [ROOT / ".venv/bin/ansible-playbook", f"playbooks/{name}.yml", "-i", inventory or ROOT / "inventories/local", *options]
    environment = {**os.environ, "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"}
    return Outcome(subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=RUN_TIMEOUT, check=False))


def kubectl(*arguments: str, timeout: float = 120) -> str:
    command = [CACHE / "bin/kubectl", "--kubeconfig", CACHE / "run/kubeconfig", "-n", NAMESPACE, *arguments]
    process = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout


def report() -> dict[str, Any]:
    return json.loads((ROOT / "reports/local/health.json").read_text())


def red(found: dict[str, Any]) -> dict[str, str]:
    """The red checks' names with what they observed and said."""
    return {check["name"]: f"{check['observed']} {check['message']}" for check in found["checks"] if not check["ok"]}


def verify_red() -> dict[str, str]:
    outcome = playbook("verify")
    assert not outcome.ok, "the exit code is zero although the report should be red"
    return red(report())


def assert_site_heals() -> None:
    outcome = playbook("site")
    assert outcome.ok, outcome.text[-4000:]
    assert report()["ok"], red(report())


def eventually_green(seconds: float) -> None:
    """The pods bring it back by themselves: verify turns green without site.yml."""
    deadline = time.monotonic() + seconds
    while not (outcome := playbook("verify")).ok:
        assert time.monotonic() < deadline, outcome.text[-4000:]
        time.sleep(2)


def edited_inventory(folder: Path, file: str, change: tuple[str, str]) -> Path:
    """A copy of inventories/local with one edit in one file; the edit must apply."""
    copy = folder / "local"
    shutil.copytree(ROOT / "inventories/local", copy, dirs_exist_ok=True)
    path = copy / "group_vars/all" / file
    before = path.read_text()
    assert before.count(change[0]) == 1, f"{change[0]!r} stands {before.count(change[0])} times in {file}"
    path.write_text(before.replace(*change))
    return copy


def applied_versions() -> dict[str, str]:
    """Each object of ours with its resourceVersion; an autoscaler's own controller writes its status all the time, so there it is the spec."""
    kinds = (
        "deployments,statefulsets,services,configmaps,secrets,serviceaccounts,roles,rolebindings,"
        "poddisruptionbudgets,networkpolicies,resourcequotas,limitranges,horizontalpodautoscalers"
    )
    items = json.loads(kubectl("get", kinds, "-l", "app.kubernetes.io/part-of=progressive-platform", "-o", "json"))["items"]
    return {
        f"{item['kind']}/{item['metadata']['name']}": json.dumps(item["spec"])
        if item["kind"] == "HorizontalPodAutoscaler"
        else item["metadata"]["resourceVersion"]
        for item in items
    }


@pytest.fixture(autouse=True, scope="module")
def green() -> Iterator[None]:
    assert_site_heals()
    yield
    assert_site_heals()


def test_second_run_changes_nothing() -> None:
    before = applied_versions()
    assert len(before) > 20, sorted(before)
    outcome = playbook("site")
    assert outcome.ok, outcome.text[-4000:]
    assert outcome.changed == 0, outcome.text
    assert applied_versions() == before


def test_check_mode_shows_exactly_the_edit(tmp_path: Path) -> None:
    nutrition = "environment: {AGENT_SPECIALIZATION: nutrition}\n"
    edit = (nutrition, f"{nutrition}    image: localhost/progressive/agent:edited\n")
    before = applied_versions()
    outcome = playbook("site", "--check", "--diff", inventory=edited_inventory(tmp_path, "agents.yml", edit))
    assert outcome.ok, outcome.text[-4000:]
    assert outcome.changed == 1, outcome.text
    added = [line for line in outcome.text.splitlines() if re.match(r"\+[^+]", line)]
    removed = [line for line in outcome.text.splitlines() if re.match(r"-[^-]", line)]
    assert [line for line in added if "localhost/progressive/agent:edited" in line] and len(added) == len(removed) == 1, outcome.text
    assert "npa-deployment" in outcome.text
    assert applied_versions() == before


def test_a_fourth_agent_in_five_lines(tmp_path: Path) -> None:
    workout = "    environment: {AGENT_SPECIALIZATION: workout}\n"
    spa = [
        "spa:",
        "  labels: {component: sleep-agent}",
        "  environment: {AGENT_SPECIALIZATION: sleep}",
        "  scaling: {min: 1, max: 2}",
    ]
    edit = (workout, workout + "".join(f"  {line}\n" for line in spa))
    outcome = playbook("site", inventory=edited_inventory(tmp_path, "agents.yml", edit))
    assert outcome.ok, outcome.text[-4000:]
    assert kubectl("get", "deployment", "spa-deployment", "-o", "jsonpath={.status.readyReplicas}") == "1"
    transaction = next(check for check in report()["checks"] if "transaction" in check["name"])
    assert transaction["ok"] and "spa" in json.dumps(transaction), transaction
    assert_site_heals()  # the old inventory: the fourth agent is pruned again
    assert "spa-deployment" not in kubectl("get", "deployments", "-o", "name")


def test_redis_deleted_with_its_volumes() -> None:
    kubectl("delete", "statefulset", "redis-cluster", "--wait=true")
    kubectl("delete", "pods", "-l", "app=redis-cluster", "--wait=true", "--ignore-not-found")
    kubectl("delete", "persistentvolumeclaims", "-l", "app=redis-cluster", "--wait=true")
    found = verify_red()
    assert any("redis" in name for name in found), found
    assert "redis-cluster" in " ".join(found.values()), found
    assert_site_heals()


def test_one_redis_pod_deleted() -> None:
    kubectl("delete", "pod", "redis-cluster-0", "--wait=true")
    eventually_green(120)


def test_all_redis_pods_at_once() -> None:
    kubectl("delete", "pods", "-l", "app=redis-cluster", "--wait=true", "--grace-period=0", "--force")
    found = verify_red()
    assert any("redis" in f"{name} {text}" for name, text in found.items()), found
    assert_site_heals()


def test_killed_kubelet() -> None:
    record = json.loads((CACHE / "run/processes/kubelet-node-2.json").read_text())
    assert "kubelet" in Path(f"/proc/{record['pid']}/cmdline").read_text()
    os.kill(record["pid"], signal.SIGKILL)
    deadline = time.monotonic() + 90
    while kubectl("get", "node", "node-2", "-o", 'jsonpath={.status.conditions[?(@.type=="Ready")].status}') == "True":
        assert time.monotonic() < deadline, "the node controller never noticed"
        time.sleep(1)
    found = verify_red()
    assert "node-2" in " ".join(found.values()), found
    assert playbook("local_cluster").ok  # make up
    assert_site_heals()
