# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hundreds of checks and thousands of nodes: what is asked of the API server does not grow with both."""

from __future__ import annotations

import datetime
from email.utils import format_datetime
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._health import foundation
from ansible_collections.progressive.platform.plugins.module_utils._health.cluster import Cluster
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError
from ansible_collections.progressive.platform.plugins.module_utils._kube.discovery import Resource

NOW = datetime.datetime(2026, 11, 23, 12, 0, 0, tzinfo=datetime.UTC).timestamp()


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        return self.time


class Client:
    """Counts what is asked; ``status`` is what a kubelet's address answers, 0 for well."""

    def __init__(self, status: int = 0) -> None:
        self.lists = self.versions = 0
        self.kubelets: list[str] = []
        self.status = status

    def resource(self, version: str, kind: str) -> Resource:
        return Resource(version, kind, f"{kind.lower()}s", True)

    def list(self, _resource: Resource, _namespace: str | None) -> dict[str, Any]:
        self.lists += 1
        return {"items": [{"metadata": {"name": f"number-{self.lists}"}}]}

    def request(self, _method: str, _path: str, timeout: float) -> tuple[int, dict[str, str], dict[str, Any]]:
        self.versions += 1
        return 200, {"Date": format_datetime(datetime.datetime.fromtimestamp(NOW, datetime.UTC), usegmt=True)}, {}

    def text(self, path: str, timeout: float) -> str:
        self.kubelets.append(path.split("/")[4])
        if self.status:
            raise ApiError("no", self.status, "No", {"message": "no"})
        return "ok"


def test_the_first_look_of_the_last_check_takes_the_list_that_is_there_and_a_second_look_does_not() -> None:
    client, clock = Client(), Clock()
    cluster = Cluster(client, clock)  # type: ignore[arg-type]
    for _check in range(400):
        with cluster.look(first=True):
            assert cluster.objects("Node")[0]["metadata"]["name"] == "number-1"
        clock.time += 0.2
    assert client.lists == 1
    with cluster.look(first=False):
        assert cluster.objects("Node")[0]["metadata"]["name"] == "number-2"
    assert cluster.objects("Node")[0]["metadata"]["name"] == "number-2", "still fresh"
    clock.time += 1.0
    assert cluster.objects("Node")[0]["metadata"]["name"] == "number-3", "outside a check a list serves for a second, as ever"


def test_the_servers_time_is_asked_for_once() -> None:
    client, clock = Client(), Clock()
    cluster = Cluster(client, clock)  # type: ignore[arg-type]
    began = cluster.now()
    clock.time += 20.0
    assert (began, cluster.now(), client.versions) == (NOW, NOW + 20.0, 1)


def lease(seconds_ago: float) -> dict[str, Any]:
    renewed = datetime.datetime.fromtimestamp(NOW - seconds_ago, datetime.UTC).isoformat()
    return {"spec": {"leaseDurationSeconds": 40, "renewTime": renewed}}


@pytest.mark.parametrize(
    ("found", "count", "asked"),
    [
        pytest.param(lease(1), 100, True, id="of a hundred each is asked"),
        pytest.param(lease(9), 101, False, id="of more, one that has just renewed is well"),
        pytest.param(lease(11), 101, True, id="one that is late is asked"),
        pytest.param(None, 1000, True, id="and one without a lease"),
        pytest.param({"spec": {}}, 1000, True, id="that was never renewed"),
    ],
)
def test_which_kubelets_are_asked(found: dict[str, Any] | None, count: int, asked: bool) -> None:
    assert foundation.doubtful(found, NOW, count) is asked


@pytest.mark.parametrize(("status", "asked", "problems"), [(0, 50, 0), (403, 1, 0), (502, 50, 50)])
def test_who_may_not_ask_one_kubelet_asks_no_other(status: int, asked: int, problems: int) -> None:
    client = Client(status)
    scene = SimpleNamespace(cluster=SimpleNamespace(client=client), clock=Clock())
    found = foundation.kubelet_problems(scene, [f"node-{number}" for number in range(50)], 30.0)  # type: ignore[arg-type]
    assert len(client.kubelets) == asked
    assert sum(bool(problem) for problem in found.values()) == problems
