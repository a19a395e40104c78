# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pages for people behind the real edge: Prometheus and Alertmanager behind their guards, the frontend beside the application (`make together` before)."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.tests.cluster import callers
from ansible_collections.progressive.platform.tests.cluster.playbooks import eventually, installed, playbook
from ansible_collections.progressive.platform.tests.unit.istio.test_uis import example
from ansible_collections.progressive.platform.tests.unit.mirror.registry import BCRYPT, PASSWORD, USER

pytestmark = [pytest.mark.slow, pytest.mark.together]

NAMESPACE = "uis-probes"
APPLICATION = "progressive.local"
GUARDED = {name: f"{name}.progressive.local" for name in ("prometheus", "alertmanager")}
LOGIN = {"authorization": "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}


class Edge:
    def __init__(self, client: Client, kubectl: Callable[..., str], variables: Path) -> None:
        self.client, self.kubectl, self.variables = client, kubectl, variables

    def ask(self, host: str, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        status, told, body = callers.world(self.client, NAMESPACE, "GET", host, path, given)
        return status, told, body.decode(errors="replace")


@pytest.fixture(scope="module")
def edge(client: Client, kubectl: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    wanted: dict[str, Any] = {
        **example(),
        "platform_namespace": NAMESPACE,
        "platform_components": ["baseline", "istio", "redis_cluster", "gateway", "app", "agents", "monitoring"],
        "gateway_uis": {name: {"host": host} for name, host in GUARDED.items()},
        "gateway_ui_login": {"users": "edge-ui-users"},
        "baseline_secrets": {"edge-ui-users": {"data": {"htpasswd": f"{USER}:{BCRYPT}\n"}}},
    }
    with installed(tmp_path_factory.mktemp("uis"), wanted) as variables:
        yield Edge(client, kubectl, variables)


def test_who_has_not_signed_in_sees_nothing(edge: Edge) -> None:
    wrong = "Basic " + base64.b64encode(f"{USER}:wrong".encode()).decode()
    for host in GUARDED.values():
        for path in ("/", "/api/v1/query?query=up", "/-/healthy", "/oauth2/../api/v1/status/config"):
            for headers in ({}, {"authorization": wrong}, {"x_forwarded_user": "root", "x_auth_request_user": "root"}):
                status, _headers, body = edge.ask(host, path, **headers)
                assert status in (302, 401, 403), f"{host}{path} {headers}: {status} {body[:200]}"


def test_who_signs_in_sees_the_real_thing(edge: Edge) -> None:
    def up() -> Any:
        status, _headers, body = edge.ask(GUARDED["prometheus"], "/api/v1/query?query=up", **LOGIN)
        assert status == 200, body[:300]
        return json.loads(body)["data"]["result"]

    assert eventually("targets of the real Prometheus", up, 60)
    status, _headers, body = edge.ask(GUARDED["alertmanager"], "/api/v2/status", **LOGIN)
    assert status == 200 and json.loads(body)["cluster"]["status"] == "ready"
    assert PASSWORD not in edge.kubectl("-n", "monitoring", "logs", "prometheus-0", "--all-containers")


def test_a_guard_that_is_away_opens_nothing(edge: Edge) -> None:
    name = edge.kubectl("-n", NAMESPACE, "get", "deploy", "-o", "name", "-l", "progressive.platform/guard=prometheus").strip()
    assert name, edge.kubectl("-n", NAMESPACE, "get", "deploy", "--show-labels")
    edge.kubectl("-n", NAMESPACE, "scale", name, "--replicas=0")
    try:
        eventually("503 without a guard", lambda: edge.ask(GUARDED["prometheus"], "/", **LOGIN)[0] == 503, 60)
        assert edge.ask(GUARDED["alertmanager"], "/api/v2/status", **LOGIN)[0] == 200
        assert "prometheus.progressive.local" in playbook("verify", edge.variables, fails=True)
    finally:
        playbook("site", edge.variables)
    assert edge.ask(GUARDED["prometheus"], "/api/v1/query?query=up", **LOGIN)[0] == 200


def test_pages_are_the_frontends_and_requests_the_applications(edge: Edge) -> None:
    status, headers, page = edge.ask(APPLICATION, "/")
    assert status == 200 and headers["content-type"].startswith("text/html") and "default-src 'self'" in headers["content-security-policy"]
    status, headers, body = edge.ask(APPLICATION, "/api/v1/info")
    assert status == 200 and json.loads(body) and page != body


def test_nothing_changes_twice(edge: Edge) -> None:
    assert "changed=0 " in playbook("site", edge.variables)
