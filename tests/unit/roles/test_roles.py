# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A role says the same in its defaults, its specification and its README, and keeps to the house's form."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.progressive.platform.tests.unit.roles import readme

ROLES = Path(__file__).resolve().parents[3] / "roles"
NAMES = [
    "agents",
    "app",
    "autoscaling",
    "baseline",
    "catalog",
    "gateway",
    "istio",
    "mongodb",
    "monitoring",
    "operator",
    "postgresql",
    "redis_cluster",
    "tracing",
    "workload",
]
WITH_TASKS = [name for name in NAMES if name not in ("catalog", "workload")]
VERBS = ["absent", "converge", "deploy", "main", "preflight", "verify"]
# Of their own playbooks, where a component has them.
MORE_VERBS = {
    "backup",
    "canary",
    "debug",
    "drill",
    "info",
    "major_upgrade",
    "restore",
    "restore_beside",
    "restore_in_place",
    "retire",
    "rotate",
}
MORE_VERBS |= {"upgrade"}
PREFIXES = {"catalog": ("catalog_", "platform_")}


def load(role: str, file: str) -> dict[str, t.Any]:
    path = ROLES / role / file
    return (yaml.safe_load(path.read_text()) or {}) if path.is_file() else {}


def options(role: str) -> dict[str, t.Any]:
    specs = load(role, "meta/argument_specs.yml")["argument_specs"]
    return {name: option for entry in specs.values() for name, option in entry["options"].items()}


def nested(option: dict[str, t.Any]) -> t.Any:
    """The value that the defaults of an option's options make."""
    if "default" in option:
        return option["default"]
    return {name: nested(inner) for name, inner in option["options"].items()} if option.get("options") else None


@pytest.mark.parametrize("role", NAMES)
def test_defaults_and_specification_have_the_same_variables(role: str) -> None:
    assert list(load(role, "defaults/main.yml")) == list(options(role)), "same names, same order"


@pytest.mark.parametrize("role", NAMES)
def test_defaults_and_specification_have_the_same_values(role: str) -> None:
    defaults = load(role, "defaults/main.yml")
    specified = {name: nested(option) for name, option in options(role).items()}
    if role == "workload":  # the complete service is internal; an inventory lays its own defaults over it
        assert load(role, "vars/main.yml")["__workload_base"] == specified.pop("workload_defaults")
        assert defaults.pop("workload_defaults") == {}
    assert defaults == specified


@pytest.mark.parametrize("role", NAMES)
def test_defaults_have_the_specified_types(role: str) -> None:
    defaults = {name: value for name, value in load(role, "defaults/main.yml").items() if "{{" not in str(value)}
    checked = ArgumentSpecValidator({name: option for name, option in options(role).items() if name in defaults}).validate(defaults)
    assert checked.error_messages == []
    for name, value in defaults.items():
        kinds = {"str": str, "int": int, "bool": bool, "float": float, "list": list, "dict": dict}
        assert value.__class__ is kinds[options(role)[name].get("type", "str")], name


@pytest.mark.parametrize("role", NAMES)
def test_names_carry_the_role(role: str) -> None:
    public = load(role, "defaults/main.yml")
    assert all(name.startswith(PREFIXES.get(role, f"{role}_")) for name in public)
    assert all(name.startswith(f"__{role}_") for name in load(role, "vars/main.yml"))


@pytest.mark.parametrize("role", NAMES)
def test_defaults_need_no_facts_and_no_lookups(role: str) -> None:
    for file in ("defaults/main.yml", "vars/main.yml"):
        assert not re.search(r"ansible_facts|lookup\(|query\(|hostvars", str(load(role, file)))


@pytest.mark.parametrize("role", WITH_TASKS)
def test_role_has_the_six_verbs(role: str) -> None:
    found = {path.stem for path in (ROLES / role / "tasks").glob("*.yml")}
    assert set(VERBS) <= found and found - set(VERBS) <= MORE_VERBS
    steps = load(role, "tasks/main.yml")
    assert [step["ansible.builtin.include_tasks"] for step in steps] == [  # type: ignore[index]
        f"{verb}.yml" for verb in ("preflight", "deploy", "converge", "verify")
    ]
    assert all(len(load(role, f"tasks/{verb}.yml")) <= 3 for verb in VERBS if verb != "main"), "few tasks, much data"


@pytest.mark.parametrize("role", NAMES)
def test_catalog_comes_first(role: str) -> None:
    wanted = {"catalog": [], "app": ["workload"], "agents": ["workload"], "mongodb": ["workload"], "operator": ["workload"]}.get(
        role, ["catalog"]
    )
    named = [entry["role"].rpartition(".")[2] for entry in load(role, "meta/main.yml")["dependencies"]]
    assert named == wanted


@pytest.mark.parametrize("role", readme.documented())
def test_readme_shows_the_specification(role: str) -> None:
    assert (ROLES / role / "README.md").read_text() == readme.rewritten(role), "run: make docs"


def test_our_readmes_have_a_table() -> None:
    assert set(NAMES) <= set(readme.documented())
