# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The edge for the F5 NGINX Ingress Controller: what is rendered, what is refused, and whether its maker's definitions take it.

The definitions are not ours to publish: PROGRESSIVE_NGINX_DEFINITIONS names a folder with config/crd/bases of its repository. The controller itself was
never run.
"""

from __future__ import annotations

import os
import re
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.progressive.platform.plugins.module_utils._preflight.findings import Finding
from ansible_collections.progressive.platform.plugins.plugin_utils._examine import examine_variables
from ansible_collections.progressive.platform.tests.unit.istio.control_plane import ISTIOD, KUBERNETES, control_plane
from ansible_collections.progressive.platform.tests.unit.roles import rendering

COMPONENTS = ["baseline", "istio", "gateway", "app", "agents"]
DEFINITIONS = Path(os.environ.get("PROGRESSIVE_NGINX_DEFINITIONS", "/nonexistent"))
ROUTES = {
    "default": {"prefix": "/", "service": "progressive-framework-v5-service"},
    "api": {"prefix": "/api/v1", "service": "progressive-framework-v5-service", "attempt_timeout": 10},
    "npa": {
        "prefix": "/api/v1/agents/npa",
        "rewrite": "/api/v1",
        "service": "npa-service",
        "max_body": "1Mi",
        "rate_limit": {"requests": 3, "unit": "minute", "burst": 5},
        "canary": {"service": "npa-service-canary", "weight": 10, "header": "x-canary"},
    },
    "watch": {"prefix": "/grpc.health.v1.Health", "service": "mca-service", "port": 9000, "timeout": 0},
}
NGINX: dict[str, t.Any] = {
    "platform_components": COMPONENTS,
    "gateway_provider": "nginx",
    "platform_accounts": {"application": "progressive-app-sa", "edge": "nginx-ingress/nginx-ingress"},
    "gateway_rate_limits": {"*": {"requests": 100}},
}


def sent(**changes: t.Any) -> list[dict[str, t.Any]]:
    return list(rendering.Cluster("production", {**NGINX, "gateway_routes": ROUTES, **changes}).documents("gateway"))


def test_nothing_of_the_other_provider_is_sent() -> None:
    assert {document["kind"] for document in sent()} == {"VirtualServer", "Policy"}
    assert {document["kind"] for document in sent(gateway_api=False, gateway_rate_limits={})} == {"VirtualServer", "Policy"}


def test_a_server_a_host_redirects_and_lets_the_mesh_choose_the_pod() -> None:
    servers = [one for one in sent() if one["kind"] == "VirtualServer"]
    assert [one["spec"]["host"] for one in servers] == ["progressive.example.com", "api.progressive.example.com"]
    for one in servers:
        assert one["spec"]["tls"] == {"secret": "edge-tls", "redirect": {"enable": True, "code": 301}}
        upstreams = {upstream["name"]: upstream for upstream in one["spec"]["upstreams"]}
        assert all(upstream["use-cluster-ip"] is True for upstream in upstreams.values())
        assert upstreams["npa"]["client-max-body-size"] == "1048576" and upstreams["api"]["client-max-body-size"] == "0"
        assert (
            upstreams["watch"]["type"] == "grpc"
            and upstreams["watch"]["read-timeout"] == "86400s"
            and upstreams["api"]["read-timeout"] == "10s"
        )


@pytest.mark.parametrize(
    ("path", "upstream", "rewritten"),
    [
        ("/api/v1/agents/npa/plan", "npa", "/api/v1/plan"),
        ("/api/v1/agents/npa", "npa", "/api/v1"),
        ("/api/v1/agents/npabc", "api", ""),
        ("/api/v10", "default", ""),
        ("/grpc.health.v1.Health/Check", "watch", ""),
        ("/grpcxhealth.v1.Health/Check", "default", ""),
    ],
)
def test_the_first_regular_expression_that_matches_is_taken(path: str, upstream: str, rewritten: str) -> None:
    """As NGINX does: those in their order, and / at last."""
    for route in next(one for one in sent() if one["kind"] == "VirtualServer")["spec"]["routes"]:
        found = (
            re.search(route["path"].removeprefix("~ "), path) if route["path"].startswith("~") else re.match(re.escape(route["path"]), path)
        )
        if found:
            proxy = (route.get("action") or route["splits"][0]["action"])["proxy"]
            assert proxy["upstream"] == upstream
            assert proxy.get("rewritePath", "").replace("$1", (found[1] or "") if found.re.groups else "") == rewritten
            return
    raise AssertionError(path)


def test_a_canary_by_header_and_by_weight() -> None:
    server = next(one for one in sent() if one["kind"] == "VirtualServer")
    (route,) = [one for one in server["spec"]["routes"] if "npa" in one["path"]]
    (match,) = route["matches"]
    assert match["conditions"] == [{"header": "x-canary", "value": "true"}] and match["action"]["proxy"]["upstream"] == "npa-canary"
    assert [(split["weight"], split["action"]["proxy"]["upstream"]) for split in route["splits"]] == [(90, "npa"), (10, "npa-canary")]
    none = {**ROUTES, "npa": {**ROUTES["npa"], "canary": {"service": "npa-service-canary", "weight": 0}}}
    (route,) = [
        one
        for one in next(one for one in sent(gateway_routes=none) if one["kind"] == "VirtualServer")["spec"]["routes"]
        if "npa" in one["path"]
    ]
    assert "splits" not in route and route["action"]["proxy"]["upstream"] == "npa"


def test_limits_and_headers() -> None:
    documents = sent()
    policies = {one["metadata"]["name"]: one["spec"]["rateLimit"] for one in documents if one["kind"] == "Policy"}
    assert set(policies) == {"edge-route-npa", "edge-host-1", "edge-host-2"}
    assert policies["edge-route-npa"] == {
        "key": "edge-route-npa",
        "rate": "3r/m",
        "burst": 4,
        "noDelay": True,
        "zoneSize": "1M",
        "rejectCode": 429,
    }
    for server in (one for one in documents if one["kind"] == "VirtualServer"):
        for route in server["spec"]["routes"]:
            assert len(route["policies"]) == 1 and route["policies"][0]["name"] in policies
            (page,) = route["errorPages"]
            assert page["codes"] == [429] and {"Retry-After", "X-Frame-Options"} <= {header["name"] for header in page["return"]["headers"]}
            proxy = (route.get("action") or route["splits"][0]["action"])["proxy"]
            assert {"name": "x-internal-user", "value": ""} in proxy["requestHeaders"]["set"]
            assert all(header["always"] for header in proxy["responseHeaders"]["add"])


def examine(**changes: t.Any) -> list[Finding]:
    cluster = rendering.Cluster("production", {**NGINX, **changes})
    found, _needs = examine_variables(cluster.templar, cluster.vars, COMPONENTS)
    return [one for one in found if one.variable.startswith(("gateway", "platform_accounts"))]


@pytest.mark.parametrize(
    ("changes", "variable", "part"),
    [
        ({"gateway_jwt": {"issuer": "https://a.example", "jwks_uri": "https://a.example/k"}}, "gateway_jwt", "NGINX Plus only"),
        ({"gateway_rate_limits": {"*": {"requests": 5, "unit": "hour"}}}, "gateway_rate_limits.*.unit", "second or minute"),
        ({"platform_accounts": {"application": "a", "edge": "edge-istio"}}, "platform_accounts.edge", "nginx-ingress/nginx-ingress"),
    ],
)
def test_what_it_cannot_do_is_refused(changes: dict[str, t.Any], variable: str, part: str) -> None:
    assert [one for one in examine(**changes) if one.variable == variable and part in str(one)], examine(**changes)
    assert examine() == []


@pytest.mark.slow
@pytest.mark.mesh
@pytest.mark.skipif(not DEFINITIONS.is_dir(), reason="PROGRESSIVE_NGINX_DEFINITIONS names no folder")
@pytest.mark.skipif(not (ISTIOD.exists() and KUBERNETES.exists()), reason="the programs of make up and make mesh are not here")
def test_the_makers_definitions_take_every_field(tmp_path: Path) -> None:
    """A real API server refuses what they do not know."""
    documents = [{**one, "metadata": {**one["metadata"], "namespace": "default"}} for one in sent()]
    with control_plane(tmp_path) as plane:
        plane.apply([yaml.load(path.read_text(), yaml.CSafeLoader) for path in sorted(DEFINITIONS.glob("*.yaml"))])
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        assert "virtualserver.k8s.nginx.org/edge-1 serverside-applied" in plane.apply(documents)
        documents[-1]["spec"]["no-such-field"] = 1
        with pytest.raises(AssertionError, match="no-such-field"):
            plane.apply(documents)
