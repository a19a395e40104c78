# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Guides hold together: links lead somewhere, anchors exist, examples are YAML and name playbooks that are there, the drawing is what its script draws."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "roles").glob("*/README.md"))]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
NAME = re.compile(rf"\b(?:platform|{'|'.join(ROLES)})_[a-z0-9_]+\b")  # what begins as variables of the collection do
GIVEN = re.compile(r"-e [\"']?\{?\"?([a-z_0-9]+)[\"=:]")
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)\s#]*)(?:#([^)\s]*))?\)")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The headings as GitHub names them in addresses."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    titles = [re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), f"{target} is not there"
        assert not anchor or there.suffix != ".md" or anchor in anchors(there), f"{target}#{anchor} is no heading"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_examples_are_yaml_and_name_playbooks_that_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for kind, block in BLOCK.findall(text):
        if kind == "yaml":
            list(yaml.safe_load_all(block))
        for playbook in re.findall(r"ansible-playbook (?:\S*playbooks/(\w+)\.yml|progressive\.platform\.(\w+))", block):
            assert (ROOT / f"playbooks/{''.join(playbook)}.yml").is_file(), playbook


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Variables by their argument specs, what playbooks and plugins read or are called, names of alerts' metrics in templates, and pages."""
    specs = [
        yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"] for path in (ROOT / "roles").glob("*/meta/argument_specs.yml")
    ]
    variables = {option for spec in specs for entry in spec.values() for option in entry.get("options") or {}}
    sources = [*(ROOT / "playbooks").rglob("*.yml"), *(ROOT / "plugins").rglob("*.py"), *(ROOT / "roles").rglob("templates/*.j2")]
    words = {word for path in sources for word in re.findall(r"[a-z0-9_]+", path.read_text(encoding="utf-8"))}
    return variables | words | {path.stem for path in sources + PAGES}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_variables_of_guides_and_examples_are_there(page: Path, known: set[str]) -> None:
    text = LINK.sub("", page.read_text(encoding="utf-8"))
    assert {*NAME.findall(text), *GIVEN.findall(text)} - known - {*ROLES} == set()


def test_the_drawing_is_what_its_script_draws(tmp_path: Path) -> None:
    script = tmp_path / "architecture.py"
    script.write_text((ROOT / "docs/architecture.py").read_text(encoding="utf-8"), encoding="utf-8")
    subprocess.run([sys.executable, script], check=True, timeout=30, capture_output=True)
    assert (tmp_path / "architecture.svg").read_bytes() == (ROOT / "docs/architecture.svg").read_bytes(), "make docs"
