# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The execution environment is made of what the collection says that it needs, and of nothing that it does not say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_its_dependencies_are_those_of_the_collection() -> None:
    definition = load("execution-environment.yml")
    wanted = definition["dependencies"]
    collections = {it["name"]: it["version"] for it in wanted["galaxy"]["collections"] if it.get("type") != "file"}
    assert (
        collections == load("galaxy.yml")["dependencies"] == {it["name"]: it["version"] for it in load("requirements.yml")["collections"]}
    )
    assert definition["version"] == 3 and (ROOT / wanted["python"]).is_file()
    assert load("meta/execution-environment.yml")["dependencies"] == {"galaxy": "requirements.yml", "python": wanted["python"]}
    core = re.fullmatch(r"ansible-core(>=[\d.]+)", wanted["ansible_core"]["package_pip"])
    assert core and load("meta/runtime.yml")["requires_ansible"].startswith(core[1])
    assert [it["name"] for it in wanted["galaxy"]["collections"] if it.get("type") == "file"] == [
        "/build/collections/progressive-platform.tar.gz"
    ]
