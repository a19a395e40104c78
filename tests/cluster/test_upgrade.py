# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""upgrade.yml on a platform of its own: the plan, the arrival, the return by itself from what turns red and by choice, and going on after a kill at every
step; then from the former release. In the order of this file.

The last one runs with `make test`; the others make many runs, and are slow.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.progressive.platform.tests.cluster import former

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
RUN_TIMEOUT = 400


class Platform:
    """Redis and the agents in a namespace of their own; ``variables`` is what the newer inventory says otherwise."""

    def __init__(self, folder: Path, release: former.Release | None = None) -> None:
        self.tree = release.path if release else ROOT
        self.environment = release.environment() if release else {}
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
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", **self.environment}
        done = subprocess.run(
            [*self.command(name, **variables), *options],
            cwd=self.tree,
            env=environment,
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT,
            check=False,
        )
        assert (done.returncode == 0) is ok, (done.stdout + done.stderr)[-5000:]
        return done.stdout

    def killed(self, task: str, **variables: Any) -> str:
        """What an upgrade printed up to the end of the task with this name, at which the run and all its workers were killed."""
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "PYTHONUNBUFFERED": "1"}
        lines: list[str] = []
        with subprocess.Popen(
            self.command("upgrade", **variables),
            cwd=self.tree,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as running:
            assert running.stdout
            watchdog = threading.Timer(RUN_TIMEOUT, os.killpg, (running.pid, signal.SIGKILL))
            watchdog.start()
            reached = False
            for line in running.stdout:
                lines.append(line)
                reached = reached or f"TASK [{task}]" in line
                if reached and line.startswith(("ok:", "changed:")):
                    os.killpg(running.pid, signal.SIGKILL)
                    break
            watchdog.cancel()
        printed = "".join(lines)
        assert reached and running.wait(30) == -signal.SIGKILL, printed[-5000:]
        return printed

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


@pytest.mark.slow
def test_the_plan_is_said_and_nothing_done(platform: Platform, note: Callable[[], str]) -> None:
    printed = platform.play("upgrade", "--check", **newer("note-one"))
    assert "1. baseline: nothing; time unknown: no earlier run did this" in printed
    assert "No backups are configured" in printed
    assert "agents: " in printed and "new pods for Deployment/mca-deployment" in printed
    assert "AGENT_NOTE" not in note()
    assert not platform.snapshot.exists()


@pytest.mark.slow
def test_an_upgrade_arrives(platform: Platform, note: Callable[[], str]) -> None:
    platform.play("upgrade", **newer("note-one"))
    assert "AGENT_NOTE" in note()
    assert not platform.manifest()["open"]
    runs = json.loads((platform.snapshot.parent / "durations.json").read_text())
    assert runs["agents"]["runs"][-1]["work"] == "pods" and runs["baseline"]["runs"][-1]["work"] == "nothing"


@pytest.mark.slow
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


@pytest.mark.slow
def test_back_by_choice(platform: Platform, note: Callable[[], str]) -> None:
    """From note-two to what was there before it; the time of the second run is known by then."""
    printed = platform.play("upgrade", **newer("note-two"))
    assert "new pods for Deployment/mca-deployment; about " in printed
    assert "note-two" in note()
    assert "would be what was applied before" in platform.play("return", "--check", **newer("note-two"))
    assert "note-two" in note()
    platform.play("return", **newer("note-two"))
    assert "note-one" in note() and "note-two" not in note()
    platform.play("verify", **newer("note-one"))


@pytest.mark.slow
def test_back_to_another_clusters_snapshot_is_refused(platform: Platform, note: Callable[[], str]) -> None:
    before = platform.snapshot / "snapshot.json"
    kept = before.read_text()
    before.write_text(json.dumps({**json.loads(kept), "cluster": "another"}))
    try:
        printed = platform.play("return", ok=False, **newer("note-one"))
    finally:
        before.write_text(kept)
    assert "is of another cluster (another, this one is " in printed
    assert "note-one" in note()


@pytest.mark.slow
@pytest.mark.parametrize(
    "step",
    [
        "Keep what is applied now, or find what a killed run kept",
        "Be done with baseline",
        "Be done with redis-cluster",
        "Begin agents",
        "Be done with agents",
    ],
)
def test_killed_at_a_step_it_goes_on(platform: Platform, note: Callable[[], str], step: str) -> None:
    """Each run begins where the former one arrived; the snapshot stays what was there before the run that was killed."""
    was = note()
    value = f"note-{secrets.token_hex(3)}"
    platform.killed(step, **newer(value))
    assert platform.manifest()["open"]
    taken = (platform.snapshot / "agents.json").read_text()
    assert value not in taken and value not in was
    printed = platform.play("upgrade", **newer(value))
    assert value in note()
    assert (platform.snapshot / "agents.json").read_text() == taken, "the snapshot was taken again, of what the killed run had half done"
    assert not platform.manifest()["open"]
    assert "failed=0" in printed


@pytest.mark.slow
def test_killed_and_red_it_returns_to_what_was_before_the_kill(platform: Platform, note: Callable[[], str]) -> None:
    value = f"note-{secrets.token_hex(3)}"
    platform.killed("Begin agents", **newer(value))
    printed = platform.play("upgrade", ok=False, **newer(value), agents_image="localhost/nowhere/agent:2")
    assert "turned red, and the platform is again what it was before" in printed
    assert value not in note()


def test_from_the_former_release(tmp_path: Path, kubectl: Callable[..., str]) -> None:
    """A platform that the former release installed, with its own inventory, is upgraded with this checkout, and is healthy with its data."""
    wanted = former.commit()
    if not wanted:
        pytest.skip("a shallow checkout: name a commit with PROGRESSIVE_FORMER")
    old = Platform(tmp_path, former.build(wanted, tmp_path / "former"))
    new = Platform(tmp_path)
    new.namespace, new.options = old.namespace, old.options
    secret = ("-n", old.namespace, "get", "secrets", "-o", "jsonpath={range .items[*]}{.metadata.name}={.data}{end}")
    try:
        old.play("images")
        old.play("site")
        passwords = kubectl(*secret)
        printed = new.play("upgrade")
        assert "failed=0" in printed
        assert not new.manifest()["open"]
        assert kubectl(*secret) == passwords, "an upgrade makes no new passwords"
        new.play("verify")
        new.play("diff")
        new.play("return")
        old.play("verify")
    finally:
        new.play("teardown")
