# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A tree of another commit is what Ansible runs, though .venv holds a link to this checkout: tests of upgrades rest on that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.progressive.platform.tests.cluster import former
from packaging.version import Version


def test_ansible_takes_the_former_release(tmp_path: Path) -> None:
    release = former.build("HEAD", tmp_path)
    assert (release.path / "galaxy.yml").is_file() and not (release.path / ".git").exists()
    command = [str(Path(sys.executable).with_name("ansible-doc")), "--json", "progressive.platform.snapshot"]
    environment = {**os.environ, **release.environment()}
    done = subprocess.run(command, cwd=release.path, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout)["progressive.platform.snapshot"]["doc"]["filename"].startswith(str(release.path))


@pytest.mark.parametrize("tags", [True, False])
def test_without_a_name_it_is_the_newest_release(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tags: bool) -> None:
    monkeypatch.delenv("PROGRESSIVE_FORMER", raising=False)
    if not tags:
        git = former._git
        monkeypatch.setattr(former, "_git", lambda *words, check=True: "" if words[0] == "rev-parse" else git(*words, check=check))
    wanted = former.commit()
    if not wanted:
        pytest.skip("a shallow checkout")
    release = former.build(wanted, tmp_path)
    there, here = (yaml.safe_load((path / "galaxy.yml").read_text())["version"] for path in (release.path, former.ROOT))
    newest = max(set(yaml.safe_load((former.ROOT / "changelogs/changelog.yaml").read_text())["releases"]) - {here}, key=Version)
    assert there == newest != here


def test_which_commit_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROGRESSIVE_FORMER", "HEAD")
    assert len(former.commit()) == 40
    monkeypatch.setenv("PROGRESSIVE_FORMER", "no-such-commit")
    with pytest.raises(AssertionError, match="single revision"):
        former.commit()
