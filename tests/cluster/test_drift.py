# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Drift on a real API server: what differs, by whom, that looking changes nothing, and that the repair is complete."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube import drift_report
from ansible_collections.progressive.platform.plugins.module_utils._run import Context

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
PLATFORM = "progressive-framework-local"


def document(kind: str, name: str, api_version: str = "v1", **fields: Any) -> Json:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "labels": {"app": "web"}}, **fields}


def bundle(*more: Json) -> list[Json]:
    container = {"name": "web", "image": "localhost/none:1", "args": ["-v"], "env": [{"name": "LEVEL", "value": "info"}]}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": "web"}}, "template": template}
    return [
        document("ConfigMap", "settings", data={"level": "info", "text": "one\ntwo\n"}),
        document("Secret", "auth", data={"password": base64.b64encode(b"correct-horse-battery").decode()}),
        document("Service", "web", spec={"selector": {"app": "web"}, "ports": [{"port": 80}]}),
        document("Deployment", "web", "apps/v1", spec=spec),
        *more,
    ]


def fields(found: Json, kind: str) -> dict[str, Json]:
    item = next(it for it in found["drift"]["objects"] if it["kind"] == kind)
    return {field["path"]: field for field in item["fields"]}


def test_every_kind_of_drift_is_named_with_its_owner_and_repaired(
    apply_module: Callable[..., Json], namespace: str, versions: Callable[..., Any], kubectl: Callable[..., str], client: Any
) -> None:
    call = {"set": "web", "namespace": namespace}
    extra = document("ConfigMap", "extra", data={"a": "b"})
    apply_module(definition=bundle(extra), **call)
    clean = apply_module(state="compared", definition=bundle(extra), **call)
    assert clean["drift"] == {"compared": 5, "objects": [], "refused": []}

    kubectl("-n", namespace, "delete", "service", "web")
    kubectl("-n", namespace, "set", "image", "deployment/web", "web=localhost/none:2")
    kubectl("-n", namespace, "set", "env", "deployment/web", "DB_PASSWORD=tr0ub4dor", "LEVEL-")
    kubectl("-n", namespace, "patch", "configmap", "settings", "--type=merge", "-p", '{"data":{"text":"one\\n2\\n","level":null}}')
    kubectl("-n", namespace, "patch", "secret", "auth", "-p", '{"stringData":{"password":"battery-staple"}}')
    kinds = (("v1", "ConfigMap"), ("v1", "Secret"), ("apps/v1", "Deployment"))
    before = versions(namespace, *kinds)
    found = apply_module(state="compared", definition=bundle(), **call)
    assert versions(namespace, *kinds) == before, "looking changed something"
    assert not found["changed"]

    kindly = {(it["kind"], it["name"]): it["drift"] for it in found["drift"]["objects"]}
    assert kindly == {
        ("Service", "web"): "missing",
        ("Deployment", "web"): "changed",
        ("ConfigMap", "settings"): "changed",
        ("ConfigMap", "extra"): "added",
        ("Secret", "auth"): "changed",
    }
    image = fields(found, "Deployment")["spec.template.spec.containers[name=web].image"]
    assert (image["found"], image["wanted"]) == ("localhost/none:2", "localhost/none:1")
    assert image["owners"][0]["manager"] == "kubectl-set"
    gone = fields(found, "Deployment")["spec.template.spec.containers[name=web].env[name=LEVEL]"]
    assert "found" not in gone
    assert gone["last_writer"]["manager"] == "kubectl-set"
    texts = fields(found, "ConfigMap")
    assert texts["data.text"]["diff"][-2:] == ["-2", "+two"]
    assert texts["data.text"]["owners"][0]["manager"] == "kubectl-patch"
    assert texts["data.level"]["wanted"] == "info"
    foreign = next(it for it in found["drift"]["objects"] if it["kind"] == "Deployment")["foreign"]
    assert any("DB_PASSWORD" in field["path"] for field in foreign)
    for value in ("tr0ub4dor", "battery-staple", "correct-horse-battery"):
        assert value not in json.dumps(found)

    given = {"sets": {"web": found["drift"]}, "cluster": "here", "reports_dir": None, "ignore_managers": [], "ignore_fields": []}
    verdict = drift_report.run({**given, "fail": False}, Context())
    assert verdict["count"] == {"missing": 1, "changed": 3, "added": 1, "ownership": 0, "foreign": 0, "refused": 0}

    conflict = apply_module(definition=bundle(), **call)
    assert conflict["failed"], "without force a field that somebody else took is not taken back silently"
    assert apply_module(definition=bundle(), force=True, **call)["changed"]
    again = apply_module(state="compared", definition=bundle(), **call)["drift"]["objects"]
    assert [(it["kind"], it["drift"]) for it in again] == [("Deployment", "foreign")], "what others put beside ours stays theirs"


def test_taken_over_with_the_same_value_and_what_the_server_refuses(
    apply_module: Callable[..., Json], namespace: str, kubectl: Callable[..., str]
) -> None:
    call = {"set": "web", "namespace": namespace}
    apply_module(definition=bundle(), **call)
    changed = bundle()
    changed[3]["spec"]["selector"]["matchLabels"] = {"app": "other"}
    changed[3]["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    found = apply_module(state="compared", definition=changed, **call)["drift"]
    assert len(found["refused"]) == 1
    assert "immutable" in found["refused"][0]
    # Somebody changes a field and changes it back: it is as wanted, and ours no more.
    for level in ("debug", "info"):
        kubectl("-n", namespace, "patch", "configmap", "settings", "-p", json.dumps({"data": {"level": level}}))
    found = apply_module(state="compared", definition=bundle(), **call)["drift"]
    assert [(it["kind"], it["drift"]) for it in found["objects"]] == [("ConfigMap", "ownership")]
    assert found["objects"][0]["fields"][0]["path"] == "data.level"


def diff(*options: str) -> tuple[int, str, float]:
    command = [str(ROOT / ".venv/bin/ansible-playbook"), "-i", "inventories/local", "playbooks/diff.yml", *options]
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "ANSIBLE_NOCOLOR": "1"}, capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, done.stdout + done.stderr, time.monotonic() - began


@pytest.mark.slow  # it looks at the whole platform four times, and repairs two components
def test_diff_of_the_whole_platform(kubectl: Callable[..., str]) -> None:
    code, printed, seconds = diff()
    assert code == 0, printed[-3000:]
    assert seconds < 10, f"{seconds:.1f} s"  # 5 s on a machine that does nothing else
    report = json.loads((ROOT / "reports/local/drift.json").read_text())
    assert report["ok"]
    assert report["compared"] > 50
    kubectl("-n", PLATFORM, "label", "service", "mca-service", "app.kubernetes.io/part-of=somebody-else", "--overwrite")
    kubectl("-n", PLATFORM, "delete", "poddisruptionbudget", "-l", "app=redis-cluster", check=False)
    try:
        code, printed, _seconds = diff()
        assert code == 2
        assert re.search(r"agents: Service .*mca-service: is not as wanted", printed)
        assert "kubectl-label" in printed
        code, printed, _seconds = diff("-e", "drift_fail=false")
        assert code == 0
    finally:
        code, printed, _seconds = diff("-e", "drift_repair=true")
    assert code == 0, printed[-3000:]
    assert diff()[0] == 0
