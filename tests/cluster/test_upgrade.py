# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""upgrade.yml on a platform of its own: the plan, the arrival, and the return by itself from what turns red. In the order of this file."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Json = dict[str, Any]
pytestmark = pytest.mark.slow  # a platform of its own, two upgrades and a teardown

ROOT = Path(__file__).resolve().parents[2]
RUN_TIMEOUT = 400


class Platform:
    """Redis and the agents in a namespace of their own; ``variables`` is what the newer inventory says otherwise."""

    def __init__(self, folder: Path) -> None:
        self.namespace = f"test-upgrade-{secrets.token_hex(3)}"
        self.snapshot = folder / "reports/snapshot"
        self.options = {
            "platform_namespace": self.namespace,
            "platform_components": ["baseline", "redis_cluster", "agents"],
            "platform_reports_dir": str(folder / "reports"),
            "platform_wait_timeout": 120,
            "redis_cluster_delete_volumes": True,
            "teardown_confirm": "local",
        }

    def command(self, name: str, **variables: Any) -> list[str]:
        given = json.dumps({**self.options, **variables})
        return [str(ROOT / ".venv/bin/ansible-playbook"), "-i", "inventories/local", f"playbooks/{name}.yml", "-e", given]

    def play(self, name: str, *options: str, ok: bool = True, **variables: Any) -> str:
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(
            [*self.command(name, **variables), *options],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT,
            check=False,
        )
        assert (done.returncode == 0) is ok, (done.stdout + done.stderr)[-5000:]
        return done.stdout

    def manifest(self) -> Json:
        return dict(json.loads((self.snapshot / "snapshot.json").read_text()))


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    made = Platform(tmp_path_factory.mktemp("upgrade"))
    try:
        made.play("site")
        yield made
    finally:
        made.play("teardown")


def newer(value: str) -> Json:
    """An inventory whose agents have one more variable in their environment, and so new pods."""
    return {
        "agents_services": {
            "mca": {
                "labels": {"component": "coordination-agent"},
                "environment": {"AGENT_SPECIALIZATION": "coordination", "AGENT_NOTE": value},
            },
            "npa": {"labels": {"component": "nutrition-agent"}, "environment": {"AGENT_SPECIALIZATION": "nutrition"}},
        }
    }


@pytest.fixture
def note(platform: Platform, kubectl: Callable[..., str]) -> Callable[[], str]:
    """What the cluster has of that variable."""

    def read() -> str:
        return kubectl("-n", platform.namespace, "get", "deployments,configmaps", "-o", "json")

    return read


def test_the_plan_is_said_and_nothing_done(platform: Platform, note: Callable[[], str]) -> None:
    printed = platform.play("upgrade", "--check", **newer("note-one"))
    assert "baseline: nothing" in printed
    assert "agents: " in printed and "new pods for Deployment/mca-deployment" in printed
    assert "AGENT_NOTE" not in note()
    assert not platform.snapshot.exists()


def test_an_upgrade_arrives(platform: Platform, note: Callable[[], str]) -> None:
    platform.play("upgrade", **newer("note-one"))
    assert "AGENT_NOTE" in note()
    assert not platform.manifest()["open"]


def test_from_what_turns_red_it_returns_by_itself(platform: Platform, note: Callable[[], str], kubectl: Callable[..., str]) -> None:
    before = kubectl(
        "-n", platform.namespace, "get", "deployment", "mca-deployment", "-o", "jsonpath={.spec.template.spec.containers[0].image}"
    )
    printed = platform.play("upgrade", ok=False, **newer("note-one"), agents_image="localhost/nowhere/agent:2")
    assert "turned red, and the platform is again what it was before" in printed
    assert "localhost/nowhere/agent:2" in printed
    after = kubectl(
        "-n", platform.namespace, "get", "deployment", "mca-deployment", "-o", "jsonpath={.spec.template.spec.containers[0].image}"
    )
    assert after == before
    assert "AGENT_NOTE" in note()
    platform.play("verify", **newer("note-one"))
