# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.progressive.platform.plugins.module_utils._kube import bill
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError

Json = dict[str, Any]

DIGEST = "sha256:" + "a1" * 32
APP = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  template:
    spec:
      initContainers: [{{name: first, image: "registry/tools:2"}}]
      containers: [{{name: web, image: "registry/web:1@{DIGEST}"}}, {{name: istio-proxy, image: auto}}]
      volumes: [{{name: model, image: {{reference: "registry/model:3"}}}}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {{name: job}}
spec: {{jobTemplate: {{spec: {{template: {{spec: {{containers: [{{name: job, image: "registry/tools:2"}}]}}}}}}}}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: injector}}
data: {{values: '{{"proxy": {{"image": "registry/proxyv2:1.31"}}}}'}}
"""
CATALOG = {"tools": {"digest": DIGEST, "licence": "MIT"}, "proxyv2": {"digest": "", "licence": "Apache-2.0"}}
IMAGES = {"tools": "registry/tools:2", "proxyv2": "registry/proxyv2:1.31", "unused": "registry/unused:1", "start": "registry/tool"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rendered = tmp_path / "rendered"
    rendered.mkdir()
    (rendered / "app.yaml").write_text(APP)
    return rendered


def call(folder: Path, check: bool = False, **given: Any) -> Json:
    options = {"rendered": str(folder), "dest": str(folder.parent / "bill.json"), "images": IMAGES, "catalog": CATALOG, **given}
    checked = ArgumentSpecValidator(bill.ARGUMENTS).validate(options)
    assert not checked.error_messages
    return bill.run(checked.validated_parameters, Context(check=check))


def test_every_image_wherever_it_stands(folder: Path) -> None:
    result = call(folder)
    assert {it["reference"]: (it["name"], it["digest"]) for it in result["images"]} == {
        f"registry/web:1@{DIGEST}": ("", DIGEST),
        "registry/tools:2": ("tools", DIGEST),
        "registry/model:3": ("", ""),
        "registry/proxyv2:1.31": ("proxyv2", ""),
    }
    assert result["incomplete"] == ["image registry/model:3 has no digest", "image registry/proxyv2:1.31 has no digest"]


def test_a_second_run_changes_nothing_and_check_mode_writes_nothing(folder: Path) -> None:
    assert call(folder, check=True)["changed"]
    assert not (folder.parent / "bill.json").exists()
    assert call(folder)["changed"]
    assert not call(folder)["changed"]


def test_inventories_become_one_list_and_what_nobody_needs_goes(folder: Path) -> None:
    call(folder, cluster="production", files={"tool": {"version": "1", "address": "https://x", "sha256": "b" * 64}})
    call(folder, cluster="local", files={})
    (folder / "app.yaml").write_text(APP.replace("registry/tools:2", "registry/tools:3"))
    call(folder, cluster="local", files={})
    written = json.loads((folder.parent / "bill.json").read_text())
    users = {it["reference"]: it["clusters"] for it in written["images"]}
    assert users["registry/tools:2"] == ["production"]
    assert users["registry/tools:3"] == ["local"]
    assert users["registry/model:3"] == ["local", "production"]
    assert written["files"][0]["clusters"] == ["production"]


def test_a_file_of_ones_own_has_its_own_checksum(folder: Path) -> None:
    own = folder.parent / "tool"
    own.write_bytes(b"program")
    source = {"version": "1", "address": "https://x", "sha256": "b" * 64}
    files = {
        "own": {**source, "path": str(own)},
        "lost": {**source, "path": "/nowhere"},
        "odd": {"address": "https://y", "sha256": "short"},
    }
    result = call(folder, files=files)
    assert {it["name"]: (it["address"], it["sha256"]) for it in result["files"]} == {
        "own": ("", hashlib.sha256(b"program").hexdigest()),
        "lost": ("", ""),
        "odd": ("https://y", ""),
    }
    assert "file lost has no checksum" in result["incomplete"]


def test_manifests_of_other_roles_do_not_count(folder: Path) -> None:
    (folder / "old.yaml").write_text(APP.replace("registry/tools:2", "registry/old:1"))
    found = call(folder, roles=["progressive.platform.app"])["images"]
    assert "registry/old:1" not in {it["reference"] for it in found}


def test_unpinned_is_a_failure_when_asked(folder: Path) -> None:
    with pytest.raises(PlatformError, match="registry/model:3 has no digest"):
        call(folder, complete=True)


def test_a_bill_that_is_none_is_not_overwritten(folder: Path) -> None:
    (folder.parent / "bill.json").write_text("text")
    with pytest.raises(PlatformError, match="cannot be read"):
        call(folder)
