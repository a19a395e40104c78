# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes the documentation's site in build/site/html: guides out of docs/, and what antsibull-docs reads from modules, filters and roles. ``make site`` runs it.

Nothing of it is committed. A link of a guide to a file that is no guide becomes one to the repository that galaxy.yml names.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCS, SITE = ROOT / "docs", ROOT / "build/site"
BIN = Path(sys.executable).parent
COLLECTION = "ansible_collections/progressive/platform"
ESCAPED = "\\\\)"  # as markup of Ansible wants a parenthesis within C()
LINK = re.compile(r"\]\((?!https?:|#)([^)\s#]*)(#[^)\s]*)?\)")
# What stands first in the sidebar; every other guide is under "Components".
CHAPTERS: dict[str, tuple[str, ...]] = {
    "Begin": ("architecture", "original", "roadmap", "policy", "compose"),
    "Day two": ("upgrade", "drift", "debug", "canary", "teardown", "images", "airgap", "openshift", "large"),
}
CONF = """\
project = "progressive.platform"
copyright = "progressive.platform contributors"
extensions = ["sphinx_antsibull_ext", "myst_parser"]
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
html_theme = "sphinx_ansible_theme"
html_theme_options = {"display_version": False, "vcs_pageview_mode": "", "show_extranav": False}
pygments_style = "ansible"
# Pygments does not know the colons that names of recorded series have in PromQL.
suppress_warnings = ["misc.highlighting_failure"]
"""


# Pages of docs.ansible.com that the reference points to; they are no part of this site.
ANSIBLE = """\
:orphan:

.. _action_plugins:
.. _callback_plugins:
.. _filter_plugins:
.. _common_return_values:
.. _ansible_configuration_settings:
.. _ansible_collections.ansible.builtin.template_module:

Ansible's own pages
===================

Kinds of plugins and the values that every module returns are described in `Ansible's documentation <https://docs.ansible.com/>`_.
"""


def repository() -> str:
    """Where the files are that are no guides."""
    found = re.search(r"^repository:\s*(\S+)", (ROOT / "galaxy.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert found, "galaxy.yml names no repository"
    return f"{found[1]}/blob/main"


def guide(text: str, folder: Path) -> str:
    """A guide's text as the site has it; ``folder`` is where it lies in the repository."""

    def there(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        file = (folder / target).resolve()
        if file.is_relative_to(DOCS) and (file.suffix in (".md", ".svg")):
            return f"]({os.path.relpath(file, folder)}{anchor})"
        return f"]({repository()}/{file.relative_to(ROOT)}{anchor})"

    return LINK.sub(there, text)


def index(guides: list[str], runbooks: list[str]) -> str:
    named = [name for names in CHAPTERS.values() for name in names]
    chapters = {
        **CHAPTERS,
        "Components": tuple(name for name in guides if name not in named),
        "Alerts": tuple(f"alerts/{name}" for name in runbooks),
    }
    parts = ["# progressive.platform", "Installs a whole platform on Kubernetes, looks after it, and proves that it works."]
    for chapter, names in chapters.items():
        there = [name for name in names if name in guides or name.startswith("alerts/")]
        parts.append("```{toctree}\n:caption: " + chapter + "\n:maxdepth: 1\n\n" + "\n".join(there) + "\n```")
    parts.append("```{toctree}\n:caption: Reference\n:maxdepth: 1\n\ncollections/progressive/platform/index\n```")
    return "\n\n".join(parts) + "\n"


def plain(option: dict[str, t.Any]) -> dict[str, t.Any]:
    """An option whose default antsibull-docs takes: a template may stand for text only, so that of anything else is told in the description."""
    found = {**option, **({"options": {name: plain(inner) for name, inner in option["options"].items()}} if option.get("options") else {})}
    default = found.get("default")
    if isinstance(default, str) and "{{" in default and found.get("type") not in ("str", "path", "raw"):
        del found["default"]
        description = found["description"]
        said = f"By default C({default.replace(')', ESCAPED)})."
        found["description"] = [*([description] if isinstance(description, str) else description), said]
    return found


def copied(folder: Path) -> None:
    """What the reference is read from: plugins and roles as they are, defaults of roles as antsibull-docs takes them."""
    for part in ("galaxy.yml", "meta", "plugins", "roles"):
        (shutil.copytree if (ROOT / part).is_dir() else shutil.copy)(ROOT / part, folder / part)  # type: ignore[operator]
    for file in (folder / "roles").glob("*/meta/argument_specs.yml"):
        specs = yaml.safe_load(file.read_text(encoding="utf-8"))
        for entry in specs["argument_specs"].values():
            entry["options"] = {name: plain(option) for name, option in (entry.get("options") or {}).items()}
        file.write_text(yaml.safe_dump(specs, sort_keys=False), encoding="utf-8")


def build() -> None:
    source = SITE / "source"
    shutil.rmtree(SITE, ignore_errors=True)
    for file in sorted(DOCS.rglob("*.md")):
        there = source / file.relative_to(DOCS)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text(guide(file.read_text(encoding="utf-8"), file.parent), encoding="utf-8")
    for file in DOCS.glob("*.svg"):
        shutil.copy(file, source)
    guides = sorted(file.stem for file in DOCS.glob("*.md"))
    (source / "index.md").write_text(index(guides, sorted(file.stem for file in (DOCS / "alerts").glob("*.md"))), encoding="utf-8")
    (source / "conf.py").write_text(CONF, encoding="utf-8")
    (source / "ansible.rst").write_text(ANSIBLE, encoding="utf-8")
    reference = [
        str(BIN / "antsibull-docs"),
        "collection",
        "--use-current",
        "--fail-on-error",
        "--dest-dir",
        str(source),
        "progressive.platform",
    ]
    collections = SITE / "collections"
    (collections / COLLECTION).mkdir(parents=True)
    copied(collections / COLLECTION)
    # It calls ansible and ansible-doc.
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "ANSIBLE_COLLECTIONS_PATH": str(collections)}
    subprocess.run(reference, cwd=ROOT, env=environment, check=True)
    subprocess.run(
        [str(BIN / "sphinx-build"), "-q", "-W", "--keep-going", "-b", "html", str(source), str(SITE / "html")], cwd=ROOT, check=True
    )
    print(SITE / "html/index.html")


if __name__ == "__main__":
    build()
