# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wrong variables of the mesh and its edge, each refused by its full name; the production inventory in the mesh, with one mistake."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._preflight.findings import Finding
from ansible_collections.progressive.platform.plugins.plugin_utils._examine import examine_variables
from ansible_collections.progressive.platform.tests.unit.roles import rendering

COMPONENTS = ["baseline", "istio", "gateway", "app", "agents"]
KEY = {"kty": "RSA", "n": "x", "e": "AQAB"}
JWT = {"issuer": "https://progressive.example.com/auth", "jwks": {"keys": [KEY]}}
UIS = {"docs": {"host": "docs.example.com", "service": "docs", "namespace": "pages"}}
USERS = {"users": "edge-ui-users"}
OIDC = {"issuer": "https://login.example.com", "client": "edge-ui-client", "groups": ["operators"]}
ROUTE = {"prefix": "/x", "service": "npa-service"}
AMBIENT = {"istio_mode": "ambient"}
SPACE = {"name": "progressive-framework-prod", "labels": {}}


def examine(changes: dict[str, t.Any], inventory: str = "production") -> list[Finding]:
    cluster = rendering.Cluster(inventory, {"platform_components": COMPONENTS} | changes)
    found, _needs = examine_variables(cluster.templar, cluster.vars, COMPONENTS)
    return found


KIALI = {"istio_kiali": True}


@pytest.mark.parametrize("inventory", rendering.INVENTORIES)
def test_our_inventories_are_right_in_the_mesh(inventory: str) -> None:
    assert [
        str(finding)
        for finding in examine({"gateway_jwt": JWT}, inventory)
        if finding.variable.startswith(("istio", "gateway", "platform_mesh"))
    ] == []


@pytest.mark.parametrize(
    ("changes", "variable", "part"),
    [
        ({"platform_sources": {"istioctl": {"version": "1.29.8"}}}, "catalog_sources.istioctl.version", "1.30 or newer"),
        ({"platform_sources": {"istioctl": {"version": "1.30.3"}}}, "catalog_sources.istioctl.version", "ISTIO-SECURITY-2026-006"),
        ({"istio_mtls": "DISABLE"}, "istio_mtls", "STRICT"),
        ({**KIALI, "istio_kiali_auth": {"strategy": "anonymous"}}, "istio_kiali_auth.strategy", "would see the whole mesh"),
        ({**KIALI, "istio_kiali_auth": {"strategy": "openid"}}, "istio_kiali_auth.openid.issuer_uri", "the provider of identities"),
        ({**KIALI, "istio_kiali_namespace": "istio-system"}, "istio_kiali_namespace", "a namespace of its own"),
        ({"istio_scaling": {"min": 3, "max": 2}}, "istio_scaling.min", "at most istio_scaling.max (2)"),
        ({"istio_cni": False}, "istio_cni", "progressive-framework-prod is not privileged"),
        ({"istio_tracing": {"port": 4317}}, "istio_tracing.service", "the collector's Service"),
        ({"istio_tracing": {"service": "otel-collector"}}, "istio_tracing.service", "with its namespace"),
        ({"istio_egress": {"all": {"hosts": ["*"], "ports": {"https": 443}}}}, "istio_egress.all.hosts", "let everything out"),
        ({"istio_egress": {"pay": {"hosts": ["a.example"]}}}, "istio_egress.pay.ports", "required"),
        (
            {"platform_components": [*COMPONENTS, "redis_cluster"], "platform_unmeshed_labels": {}},
            "platform_unmeshed_labels['sidecar.istio.io/inject']",
            "no proxy carries that",
        ),
        ({"istio_mode": "proxyless"}, "istio_mode", "sidecar or ambient"),
        ({**AMBIENT, "istio_cni": False}, "istio_cni", "nothing in a pod could"),
        ({**AMBIENT, "istio_outbound": "REGISTRY_ONLY"}, "istio_outbound", "ztunnel passes on what it does not know"),
        ({**AMBIENT, "istio_visible": ["./*"]}, "istio_visible", "which ztunnel and waypoints do not read"),
        ({**AMBIENT, "istio_native_sidecars": False}, "istio_native_sidecars", "There are no sidecars"),
        (
            {**AMBIENT, "istio_waypoint_scaling": {"min": 3, "max": 2}},
            "istio_waypoint_scaling.min",
            "at most istio_waypoint_scaling.max (2)",
        ),
        ({**AMBIENT, "istio_waypoint_scaling": {"min": 0, "max": 2}}, "istio_waypoint_scaling.min", "at least 1"),
        ({**AMBIENT, "platform_accounts": {"application": "a", "edge": "b"}}, "platform_accounts.waypoint", "the name of the waypoints'"),
        ({**AMBIENT, "platform_mesh_mode": "sidecar"}, "platform_mesh_mode", "ambient, as istio_mode says"),
        (
            {**AMBIENT, "baseline_namespaces": [SPACE]},
            "baseline_namespaces.0.labels['istio.io/dataplane-mode']",
            "would not be in the mesh",
        ),
        (
            {**AMBIENT, "baseline_namespaces": [SPACE | {"labels": {"istio.io/dataplane-mode": "ambient", "istio.io/rev": "platform"}}]},
            "baseline_namespaces.0.labels['istio.io/rev']",
            "It gives every pod a sidecar",
        ),
        (
            {"baseline_namespaces": [SPACE | {"labels": {"istio.io/dataplane-mode": "ambient"}}]},
            "baseline_namespaces.0.labels['istio.io/dataplane-mode']",
            "Its pods would have both",
        ),
        (
            {
                **AMBIENT,
                "platform_components": [*COMPONENTS, "redis_cluster"],
                "platform_unmeshed_labels": {"sidecar.istio.io/inject": "false"},
            },
            "platform_unmeshed_labels['istio.io/dataplane-mode']",
            "none where there are databases",
        ),
        (
            {**AMBIENT, "platform_images": {"pilot": "a.example/pilot:1"}},
            "platform_images.ztunnel",
            "a Rust program that only Istio's releases have",
        ),
        ({"platform_mesh": False}, "platform_mesh", "true where there is a gateway"),
        ({"gateway_hosts": []}, "gateway_hosts", "at least one host"),
        ({"gateway_hosts": ["a.example", "a.example"]}, "gateway_hosts.1", "It is there already"),
        ({"gateway_hosts": ["Your Domain"]}, "gateway_hosts.0", "a DNS name"),
        ({"gateway_tls_days": 30}, "gateway_tls_renew_before", "Every run would issue"),
        ({"gateway_uis": UIS}, "gateway_ui_login", "Without one anybody could look at them"),
        (
            {"gateway_uis": UIS, "gateway_ui_login": {**USERS, **OIDC}},
            "gateway_ui_login",
            "both issuer and users; allowed: issuer or users, one of",
        ),
        ({"gateway_uis": UIS, "gateway_ui_login": {**USERS, "groups": ["a"]}}, "gateway_ui_login.groups", "nothing where there are users"),
        ({"gateway_uis": UIS, "gateway_ui_login": {**USERS, "hours": 0}}, "gateway_ui_login.hours", "1 to 168"),
        (
            {"gateway_uis": UIS, "gateway_ui_login": {**OIDC, "issuer": "http://a.example"}},
            "gateway_ui_login.issuer",
            "begins with https://",
        ),
        ({"gateway_uis": UIS, "gateway_ui_login": {**OIDC, "client": None}}, "gateway_ui_login.client", "client-id and client-secret"),
        ({"gateway_uis": UIS, "gateway_ui_login": {**OIDC, "groups": []}}, "gateway_ui_login.groups", "An issuer may know the whole world"),
        ({"gateway_uis": {"docs": {}}, "gateway_ui_login": USERS}, "gateway_uis.docs.host", "required"),
        (
            {"gateway_uis": {"docs": {**UIS["docs"], "host": "*.a.example"}}, "gateway_ui_login": USERS},
            "gateway_uis.docs.host",
            "without a star",
        ),
        (
            {"gateway_uis": {"docs": {"host": "docs.example.com"}}, "gateway_ui_login": USERS},
            "gateway_uis.docs.service",
            "are known by name",
        ),
        (
            {"gateway_uis": {"docs": {**UIS["docs"], "host": "api.progressive.example.com"}}, "gateway_ui_login": USERS},
            "gateway_uis.docs.host",
            "gateway_hosts has it already",
        ),
        (
            {"gateway_uis": {**UIS, "others": UIS["docs"]}, "gateway_ui_login": USERS},
            "gateway_uis.others.host",
            "gateway_uis.docs has it already",
        ),
        (
            {"gateway_uis": {"kiali": {"host": "kiali.example.com"}}, "gateway_ui_login": USERS},
            "istio_kiali",
            "true where gateway_uis has kiali",
        ),
        (
            {"gateway_uis": {"jaeger": {"host": "jaeger.example.com"}}, "gateway_ui_login": USERS},
            "gateway_uis.jaeger",
            "tracing is not among them",
        ),
        (
            {"gateway_uis": UIS, "gateway_ui_login": USERS, "gateway_provider": "nginx"},
            "gateway_uis",
            "Guards stand behind Istio's gateway alone",
        ),
        (
            {"gateway_uis": UIS, "gateway_ui_login": USERS, "gateway_rate_limits": {"doc.example.com": {"requests": 1}}},
            "gateway_rate_limits['doc.example.com']",
            "Did you mean docs.example.com?",
        ),
        ({"gateway_routes": {"a": ROUTE, "b": ROUTE}}, "gateway_routes.b.prefix", "Route a has it already"),
        ({"gateway_routes": {"a": {**ROUTE, "prefix": "/x/"}}}, "gateway_routes.a.prefix", "does not end with one"),
        ({"gateway_routes": {"a": {**ROUTE, "prefix": "/a/../b"}}}, "gateway_routes.a.prefix", "a path that begins with a slash"),
        ({"gateway_routes": {"a": {"prefix": "/x"}}}, "gateway_routes.a.service", "required"),
        ({"gateway_routes": {"a": {**ROUTE, "host": "b"}}}, "gateway_routes.a.host", "does not exist"),
        ({"gateway_routes": {"a": {**ROUTE, "service": "nap-service"}}}, "gateway_routes.a.service", "Did you mean npa-service?"),
        ({"gateway_routes": {"a": {**ROUTE, "timeout": 5, "attempt_timeout": 6}}}, "gateway_routes.a.attempt_timeout", "at most the whole"),
        ({"gateway_routes": {"a": {**ROUTE, "canary": {"weight": 10}}}}, "gateway_routes.a.canary.service", "the Service of the canary"),
        ({"gateway_routes": {"a": {**ROUTE, "canary": {"service": "npa-service"}}}}, "gateway_routes.a.canary.service", "another Service"),
        (
            {"gateway_routes": {"a": {**ROUTE, "canary": {"service": "npa-service-canary"}}}},
            "gateway_routes.a.canary.service",
            "one of the Services",
        ),
        (
            {"gateway_routes": {"a": {**ROUTE, "canary": {"service": "wpa-service", "weight": 110}}}},
            "gateway_routes.a.canary.weight",
            "0 to 100",
        ),
        ({"gateway_rate_limits": {"*": {"requests": 0}}}, "gateway_rate_limits.*.requests", "1 to 1000000"),
        ({"gateway_rate_limits": {"*": {"requests": 5, "unit": "day"}}}, "gateway_rate_limits.*.unit", "second or minute or hour"),
        ({"gateway_rate_limits": {"*": {"burst": 5}}}, "gateway_rate_limits.*.requests", "required"),
        (
            {"gateway_rate_limits": {"api.progressive.example.org": {"requests": 5}}},
            "gateway_rate_limits['api.progressive.example.org']",
            "Did you mean",
        ),
        (
            {"gateway_api": False, "gateway_rate_limits": {"api.progressive.example.com": {"requests": 5}}},
            "gateway_rate_limits['api.progressive.example.com']",
            "limited together",
        ),
        (
            {"gateway_routes": {"a": {**ROUTE, "rate_limit": {"requests": 5, "burst": 0}}}},
            "gateway_routes.a.rate_limit.burst",
            "1 to 1000000",
        ),
        ({"gateway_routes": {"a": {**ROUTE, "max_body": "0"}}}, "gateway_routes.a.max_body", "a size such as"),
        ({"gateway_routes": {"a": {**ROUTE, "max_body": "4Gi"}}}, "gateway_routes.a.max_body", "below 4096Mi"),
        ({"gateway_routes": {"a": {**ROUTE, "max_body": "1Mi", "port": 9000}}}, "gateway_routes.a.max_body", "stops a stream"),
        ({"gateway_clients": {"headers_kb": 10000}}, "gateway_clients.headers_kb", "1 to 8192"),
        ({"gateway_jwt": {**JWT, "issuer": ""}}, "gateway_jwt.issuer", "who issues the tokens"),
        ({"gateway_jwt": {**JWT, "jwks": ""}}, "gateway_jwt.jwks", "one of them"),
        ({"gateway_jwt": {**JWT, "jwks_uri": "https://a.example/k"}}, "gateway_jwt.jwks", "one of them"),
        ({"gateway_jwt": {"issuer": "a", "jwks_uri": "http://a.example/k"}}, "gateway_jwt.jwks_uri", "https://"),
        ({"gateway_jwt": {**JWT, "jwks": "no json"}}, "gateway_jwt.jwks", "no JSON Web Key Set"),
        (
            {"gateway_jwt": {**JWT, "jwks": {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}}},
            "gateway_jwt.jwks",
            "A secret key would sign as well",
        ),
        ({"gateway_jwt": {**JWT, "jwks": {"keys": [{**KEY, "d": "c2VjcmV0"}]}}}, "gateway_jwt.jwks", "a private key"),
        ({"gateway_jwt": JWT, "gateway_public_paths": ["/*"]}, "gateway_public_paths", "opens everything"),
    ],
)
def test_is_refused_by_name(changes: dict[str, t.Any], variable: str, part: str) -> None:
    found = [finding for finding in examine(changes) if finding.variable == variable]
    assert found, [str(finding) for finding in examine(changes)]
    assert any(part in str(finding) for finding in found), found
    assert not any(finding.warning for finding in found)
    assert "c2VjcmV0" not in str(found)


@pytest.mark.parametrize("inventory", rendering.INVENTORIES)
def test_an_ambient_mesh_is_taken_where_its_parts_can_be_had(inventory: str) -> None:
    """On the local cluster Istio is built from source, and ztunnel is no Go program: there it is refused, for that reason alone."""
    found = [
        one for one in examine(AMBIENT, inventory) if one.variable.startswith(("istio", "gateway", "platform_", "baseline_namespaces"))
    ]
    assert [one.variable for one in found] == (["platform_images.ztunnel"] if inventory == "local" else []), [str(one) for one in found]


def test_kiali_without_a_prometheus_of_ours_is_a_warning() -> None:
    (finding,) = [finding for finding in examine(KIALI) if finding.variable.startswith("istio_kiali")]
    assert finding.warning and "with monitoring among platform_components" in str(finding)
