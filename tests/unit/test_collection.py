# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection holds to its own plan: every module in the action group, every role with the same verbs, every claim documented."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml
from ansible_collections.progressive.platform.tests.unit import original

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
VERBS = ["absent", "converge", "deploy", "main", "preflight", "verify"]
LIBRARIES = {"catalog", "workload"}  # data and templates that other roles use: nothing to verify or remove by themselves


def documentation(module: str) -> dict[str, object]:
    imported = importlib.import_module(f"ansible_collections.progressive.platform.plugins.modules.{module}")
    return yaml.safe_load(imported.DOCUMENTATION)


def test_action_group_is_the_module_list() -> None:
    runtime = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())
    assert runtime["action_groups"]["platform"] == MODULES
    assert runtime["requires_ansible"] == ">=2.19.0"


@pytest.mark.parametrize("module", MODULES)
def test_module_documents_itself(module: str) -> None:
    documented = documentation(module)
    assert documented["module"] == module
    assert {"check_mode", "diff_mode", "idempotent", "action_group"} <= set(documented["attributes"])  # type: ignore[arg-type]
    imported = importlib.import_module(f"ansible_collections.progressive.platform.plugins.modules.{module}")
    assert yaml.safe_load(imported.EXAMPLES), "no example"
    assert all(f"progressive.platform.{module}" in str(example) for example in yaml.safe_load(imported.EXAMPLES)[:1])
    assert yaml.safe_load(imported.RETURN), "no return value described"


@pytest.mark.parametrize("module", MODULES)
def test_module_is_thin(module: str) -> None:
    tail = (ROOT / f"plugins/modules/{module}.py").read_text().split("def main(")[1]
    assert tail.count("\n") < 30, "the work belongs in module_utils"


@pytest.mark.parametrize("role", ROLES)
def test_role_has_every_verb(role: str) -> None:
    directory = ROOT / "roles" / role
    assert (directory / "README.md").is_file()
    assert (directory / "meta/argument_specs.yml").is_file()
    if role not in LIBRARIES:
        assert sorted(path.stem for path in (directory / "tasks").glob("*.yml") if path.stem in VERBS) == VERBS
        assert (ROOT / "molecule" / role / "molecule.yml").is_file()


@pytest.mark.parametrize("role", [role for role in ROLES if role not in LIBRARIES])
def test_main_of_a_role_only_includes(role: str) -> None:
    for task in yaml.safe_load((ROOT / f"roles/{role}/tasks/main.yml").read_text()):
        assert {key for key in task if "include" in key or "import" in key}, task


def test_no_machine_path_and_no_floating_tag() -> None:
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    found = []
    for name in files:
        path = ROOT / name
        if (
            path.suffix not in {".py", ".yml", ".yaml", ".j2", ".md", ".toml", ".cfg", ""}
            or not path.is_file()
            or name.startswith("tests/")
        ):
            continue
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if re.search(r"(/root/|/home/[a-z]+/|image: \S+:latest)", line):
                found.append(f"{name}:{number}: {line.strip()}")
    assert not found, "\n".join(found)


def test_no_filter_that_loses_the_order() -> None:
    """Ansible's filters of sets give another order with every run: manifests would differ, and components come before what they need."""
    files = [path for folder in ("roles", "playbooks", "molecule", "inventories", ".config") for path in (ROOT / folder).rglob("*.*")]
    lines = [(path, line) for path in files if path.suffix in (".yml", ".j2") for line in path.read_text().splitlines()]
    found = [
        f"{path.relative_to(ROOT)}: {line}" for path, line in lines if re.search(r"\| *(symmetric_)?(difference|intersect|union)\(", line)
    ]
    assert len(lines) > 5000 and not found, "\n".join(found)


def test_the_tarball_holds_what_git_knows_and_nothing_else(tmp_path: Path) -> None:
    """What caches and reports leave in a checkout stays there (build_ignore of galaxy.yml)."""
    galaxy = [Path(sys.executable).with_name("ansible-galaxy"), "collection", "build", "--output-path", tmp_path, ROOT]
    subprocess.run(galaxy, check=True, capture_output=True, timeout=120)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as tarball:
        packed = {member.name for member in tarball if member.isfile()} - {"FILES.json", "MANIFEST.json"}
    listing = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    )
    assert packed <= set(listing.stdout.splitlines()), sorted(packed - set(listing.stdout.splitlines()))[:5]


def test_the_originals_sections_are_all_answered_for() -> None:
    assert original.problems() == []
    assert original.DOCUMENT.read_text(encoding="utf-8") == original.rewritten(), "make docs"


def test_versions_that_follow_the_collection() -> None:
    """What carries the plugins in an image is of the collection's version; a plugin says no release that did not have it."""
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    images = yaml.safe_load((ROOT / "images/images.yml").read_text())
    catalog = yaml.safe_load((ROOT / "roles/catalog/defaults/main.yml").read_text())["catalog_images"]
    assert {images[name]["version"] for name in ("backup", "operator")} | {catalog[name]["tag"] for name in ("backup", "operator")} == {
        version
    }
    releases = yaml.safe_load((ROOT / "changelogs/changelog.yaml").read_text())["releases"]
    for module in MODULES:
        added = documentation(module)["version_added"]
        listed = {it["name"] for it in releases.get(added, {}).get("modules", [])}
        assert module in listed if added in releases else added == version, f"{module} says {added}"
