# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The former release of the collection, as git has it, in a folder of its own: what a platform was installed with before it is upgraded with this checkout.

E(PROGRESSIVE_FORMER) names a commit. Without it the newest release of the changelog is meant that this tree is not itself: its tag, and where tags were not
fetched the commit that wrote its notes.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
GIT_TIMEOUT = 60  # seconds


@dataclass(frozen=True)
class Release:
    """A tree of the collection; ``path`` is the folder with galaxy.yml in it."""

    commit: str
    path: Path

    def environment(self) -> dict[str, str]:
        """For Ansible to take the collection from here and not from the checkout that .venv holds a link to."""
        return {"ANSIBLE_COLLECTIONS_PATH": str(self.path.parents[2]), "ANSIBLE_CONFIG": str(self.path / "ansible.cfg")}


def commit() -> str:
    """The former release's commit, "" where the checkout has none (a shallow one)."""
    if given := os.environ.get("PROGRESSIVE_FORMER", ""):
        return _git("rev-parse", "--verify", f"{given}^{{commit}}")
    releases = set(yaml.safe_load((ROOT / "changelogs/changelog.yaml").read_text())["releases"])
    newest = max(releases - {yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]}, key=Version)
    if tagged := _git("rev-parse", "--verify", f"v{newest}^{{commit}}", check=False):
        return tagged
    for wrote in _git("log", "--format=%H", "--", "changelogs/changelog.yaml", check=False).split():
        if yaml.safe_load(_git("show", f"{wrote}:galaxy.yml"))["version"] == newest:
            return wrote
    return ""


def build(wanted: str, folder: Path) -> Release:
    """The tree of a commit, below ``folder`` where Ansible looks for collections."""
    path = folder / "ansible_collections/progressive/platform"
    path.mkdir(parents=True)
    archive = subprocess.Popen(["git", "archive", wanted], cwd=ROOT, stdout=subprocess.PIPE)
    subprocess.run(["tar", "-xf", "-", "-C", path], stdin=archive.stdout, check=True, timeout=GIT_TIMEOUT)
    assert archive.wait(GIT_TIMEOUT) == 0, f"git archive {wanted} failed; is it a commit of this repository?"
    return Release(wanted, path)


def _git(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=GIT_TIMEOUT, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip() if done.returncode == 0 else ""
