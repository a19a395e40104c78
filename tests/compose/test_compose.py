# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""compose.dev.yml on podman, with the images that `make up` has built: the transaction through all services, a changed source, data that stay.

No systemd runs podman's health checks here, so the test runs them itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.progressive.platform.tests.unit.roles import rendering

ROOT = Path(__file__).resolve().parents[2]
IMAGES = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "progressive-platform/images"
PROJECT = "progressive-compose-test"
CHECKED = ["postgres", "redis", "app", "mca", "npa", "wpa"]
# Podman's own default is more than a machine in a machine may set.
LIMITS = '[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n'

pytestmark = pytest.mark.slow


class Compose:
    """The project under a name of the tests' own."""

    def __init__(self, folder: Path, images: dict[str, str]) -> None:
        limits = folder / "containers.conf"
        limits.write_text(LIMITS)
        self.environment = {**os.environ, "CONTAINERS_CONF": str(limits), "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}"}
        self.environment |= {f"{name.upper()}_IMAGE": reference for name, reference in images.items()}

    def run(self, *command: str, check: bool = True) -> str:
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=300, check=False)
        assert not check or done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def __call__(self, *arguments: str, check: bool = True) -> str:
        return self.run("podman-compose", "-p", PROJECT, "-f", "compose.dev.yml", *arguments, check=check)

    def healthy(self, service: str) -> bool:
        command = ["podman", "healthcheck", "run", f"{PROJECT}_{service}_1"]
        return subprocess.run(command, env=self.environment, capture_output=True, timeout=30, check=False).returncode == 0


def load(compose: Compose, images: dict[str, str]) -> None:
    for name, reference in images.items():
        archive = IMAGES / f"{name}-{reference.rpartition(':')[2]}.tar"
        assert archive.exists(), f"{archive.name} is not built; run `make up`"
        compose.run("podman", "load", "--quiet", "--input", str(archive))


def ask(path: str, method: str = "GET", body: Any = None, port: int = 3000) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def eventually(true: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if true():
                return
        except (OSError, urllib.error.URLError):
            pass
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    built = rendering.Cluster("local").value("catalog", "platform_images")
    images = {name: built[name] for name in ("app", "agent", "redis", "postgresql", "ferretdb")}
    made = Compose(tmp_path_factory.mktemp("compose"), images)
    made("down", "--volumes", "--timeout", "5", check=False)  # what a killed run left
    load(made, images)
    try:
        made("up", "--detach", "--no-build")
        yield made
    finally:
        made("--profile", "monitoring", "down", "--volumes", "--timeout", "5", check=False)


def test_the_transaction_passes_through_all_services(compose: Compose) -> None:
    eventually(lambda: ask("/api/v1/transaction", "POST", {})["ok"])
    answer = ask("/api/v1/transaction", "POST", {})
    done = {(step["component"], step["backend"]) for step in answer["steps"] if step["ok"]}
    stores = {(one, store) for one in ("app", "mca", "npa", "wpa") for store in ("redis", "postgresql", "mongodb")}
    assert stores | {("app", "mca"), ("mca", "npa"), ("mca", "wpa")} <= done
    for service in CHECKED:
        eventually(lambda service=service: compose.healthy(service), 30)
    network = json.loads(compose.run("podman", "network", "inspect", f"{PROJECT}_progressive-network"))
    assert network[0]["subnets"][0]["subnet"] == "172.20.0.0/16"


def test_a_changed_source_is_running_at_once(compose: Compose) -> None:
    eventually(lambda: ask("/api/v1/transaction", "POST", {})["ok"])

    def starts() -> int:
        done = compose.run("sh", "-c", f"podman logs {PROJECT}_mca_1 2>&1")
        return done.count('"message": "serving"')

    before = starts()
    (ROOT / "images/services/progressive/planning.py").touch()
    eventually(lambda: starts() > before, 30)
    eventually(lambda: ask("/api/v1/transaction", "POST", {})["ok"])


def test_data_stay_when_the_containers_go(compose: Compose) -> None:
    eventually(lambda: ask("/api/v1/items/kept", "PUT", "a value")["value"] == "a value")
    compose("down", "--timeout", "5")
    compose("up", "--detach", "--no-build")
    eventually(lambda: ask("/api/v1/items/kept")["value"] == "a value")


@pytest.mark.monitoring
def test_the_monitoring_profile_scrapes_all_services(compose: Compose) -> None:
    built = rendering.Cluster("local", {"platform_monitoring": True}).value("catalog", "platform_images")
    load(compose, {"prometheus": built["prometheus"]})
    compose.environment["PROMETHEUS_IMAGE"] = built["prometheus"]
    compose("--profile", "monitoring", "up", "--detach", "--no-build", "prometheus")

    def up() -> bool:
        found = ask("/api/v1/query?query=up", port=9091)["data"]["result"]
        return len(found) == 4 and all(one["value"][1] == "1" for one in found)

    eventually(up)
