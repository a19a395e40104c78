# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the inventories render to in the mesh; the original's mistakes (a rule that allows anyone, a route nobody reaches) are here as rules."""

from __future__ import annotations

import functools
import re
import typing as t

import pytest
from ansible_collections.progressive.platform.tests.unit.roles import rendering

Document = dict[str, t.Any]
ROLES = ["baseline", "postgresql", "redis_cluster", "istio", "gateway", "app", "agents"]
MESH: dict[str, t.Any] = {"platform_components": ROLES}
CANARY = {"service": "npa-service-canary", "weight": 10, "header": "x-canary"}
JWT = {"issuer": "https://a.example/auth", "audiences": ["a"], "jwks": {"keys": []}, "claims": {"scope": ["use"]}}
ROUTES = {
    "default": {"prefix": "/", "service": "progressive-framework-v5-service"},
    "api": {"prefix": "/api/v1", "service": "progressive-framework-v5-service", "attempt_timeout": 10},
    "npa": {"prefix": "/api/v1/agents/npa", "rewrite": "/api/v1", "service": "npa-service", "canary": CANARY},
}
each_inventory = pytest.mark.parametrize("inventory", rendering.INVENTORIES)


@functools.cache
def bundle(inventory: str, mesh: bool = True) -> list[Document]:
    cluster = rendering.Cluster(inventory, MESH if mesh else {})
    return [document for role in ROLES if mesh or role not in ("istio", "gateway") for document in cluster.documents(role)]


def of(kind: str, documents: list[Document]) -> list[Document]:
    return [document for document in documents if document["kind"] == kind]


def gateway(**changes: t.Any) -> list[Document]:
    return list(rendering.Cluster("production", {**MESH, "gateway_routes": ROUTES, **changes}).documents("gateway"))


@each_inventory
def test_without_the_mesh_nothing_of_it_is_there(inventory: str) -> None:
    assert not [
        document for document in bundle(inventory, mesh=False) if "istio" in document["apiVersion"] or "gateway" in document["apiVersion"]
    ]
    assert "istio" not in str(bundle(inventory, mesh=False))


@each_inventory
def test_every_pod_is_in_the_mesh_or_says_that_it_is_not(inventory: str) -> None:
    for document in bundle(inventory):
        if document["kind"] in ("Deployment", "StatefulSet"):
            labels = document["spec"]["template"]["metadata"]["labels"]
            outside = labels["tier"] in ("database", "cache")
            assert (labels.get("sidecar.istio.io/inject") == "false") is outside, document["metadata"]["name"]
            assert ("progressive.platform/mesh" in labels) is not outside, "a pod that joins or leaves the mesh is made anew"


@each_inventory
def test_policies_let_named_callers_in_and_nobody_else(inventory: str) -> None:
    documents = bundle(inventory)
    accounts = {document["metadata"]["name"] for document in of("ServiceAccount", documents)} | {"edge-istio"}
    policies = [policy for policy in of("AuthorizationPolicy", documents) if "selector" in policy["spec"]]
    workloads = [one for one in of("Deployment", documents) if "progressive.platform/mesh" in one["spec"]["template"]["metadata"]["labels"]]
    assert workloads
    for workload in workloads:
        name = workload["spec"]["selector"]["matchLabels"]["app"]
        (policy,) = [one for one in policies if one["spec"]["selector"]["matchLabels"] == {"app": name}]
        assert policy["spec"]["action"] == "ALLOW" and policy["spec"]["rules"]
        ports = {str(port["containerPort"]) for one in workload["spec"]["template"]["spec"]["containers"] for port in one["ports"]}
        for rule in policy["spec"]["rules"]:
            assert set(rule) == {"from", "to"}, "who and what stand in one rule: two rules would be alternatives"
            (source,), (operation,) = rule["from"], rule["to"]
            assert source["source"], "no source is everybody"
            assert set(operation["operation"]["ports"]) <= ports and operation["operation"]["ports"]
            for principal in source["source"].get("principals", []):
                assert re.fullmatch(r"cluster\.local/ns/[a-z-]+/sa/[a-z0-9-]+", principal) and principal.rpartition("/")[2] in accounts
    (nothing,) = [policy for policy in of("AuthorizationPolicy", documents) if policy["metadata"]["name"] == "allow-nothing"]
    assert nothing["spec"] == {}


@each_inventory
def test_traffic_rules_are_about_services_that_are_there(inventory: str) -> None:
    documents = bundle(inventory)
    namespace = rendering.Cluster(inventory, MESH).value("catalog", "platform_namespace")
    hosts = {f"{service['metadata']['name']}.{namespace}.svc.cluster.local" for service in of("Service", documents)}
    rules = of("DestinationRule", documents)
    assert rules and {rule["spec"]["host"] for rule in rules} <= hosts
    for rule in rules:
        policy = rule["spec"]["trafficPolicy"]
        assert set(policy) == {"loadBalancer", "connectionPool", "outlierDetection"}
        assert len(policy["loadBalancer"]) == 1 and policy["loadBalancer"].get("simple", "LEAST_REQUEST") == "LEAST_REQUEST"
        assert "tls" not in policy, "it would switch the mesh's own encryption off"
    (app,) = [
        rule["spec"]["trafficPolicy"]["loadBalancer"] for rule in rules if rule["metadata"]["name"] == "progressive-framework-v5-service"
    ]
    assert app == {"consistentHash": {"httpHeaderName": "user-id"}}


@each_inventory
def test_versions_are_current(inventory: str) -> None:
    seen = {
        document["apiVersion"]
        for document in bundle(inventory)
        if "istio.io" in document["apiVersion"] or "gateway" in document["apiVersion"]
    }
    seen -= (
        {"networking.istio.io/v1alpha3"}
        if all(one["apiVersion"] != "networking.istio.io/v1alpha3" or one["kind"] == "EnvoyFilter" for one in bundle(inventory))
        else set()
    )
    assert seen <= {"networking.istio.io/v1", "security.istio.io/v1", "telemetry.istio.io/v1", "gateway.networking.k8s.io/v1"}


@each_inventory
def test_autoscalers_look_at_the_services_own_container(inventory: str) -> None:
    for scaler in of("HorizontalPodAutoscaler", bundle(inventory)):
        assert {metric["type"] for metric in scaler["spec"]["metrics"]} <= {"ContainerResource", "Pods"}


@each_inventory
def test_the_operator_file_says_what_the_variables_say(inventory: str) -> None:
    spec = rendering.Cluster(
        inventory, {**MESH, "istio_mesh_config": {"ingressService": "x"}, "istio_values": {"pilot": {"env": {"A": "b"}}}}
    ).value("istio", "__istio_operator")["spec"]
    assert spec["meshConfig"]["outboundTrafficPolicy"] == {"mode": "REGISTRY_ONLY"} and spec["meshConfig"]["ingressService"] == "x"
    values = spec["values"]
    assert values["global"]["proxy"]["seccompProfile"] == {"type": "RuntimeDefault"}, "restricted namespaces want it"
    assert values["pilot"]["cni"]["enabled"] is True and spec["components"]["cni"]["enabled"] is True
    assert values["pilot"]["env"]["A"] == "b" and values["pilot"]["env"]["ENABLE_NATIVE_SIDECARS"] == "true"
    assert values["revisionTags"] == ["platform"] and spec["revision"] == values["defaultRevision"]
    for image in (values["pilot"]["image"], values["global"]["proxy"]["image"], values["cni"]["image"]):
        assert re.search(r"/.*[:@]", image), "a whole reference, not a name below a hub"


def test_routes_of_the_gateway_api() -> None:
    routes = {route["metadata"]["name"]: route for route in of("HTTPRoute", gateway())}
    assert set(routes) == {"edge-redirect", "edge-default", "edge-api", "edge-npa"}
    assert {parent["sectionName"] for parent in routes["edge-redirect"]["spec"]["parentRefs"]} == {"http-1", "http-2"}
    chosen, shared = routes["edge-npa"]["spec"]["rules"]
    assert chosen["matches"][0]["headers"] == [{"name": "x-canary", "value": "true"}]
    assert [entry["name"] for entry in chosen["backendRefs"]] == ["npa-service-canary"]
    assert [(entry["name"], entry["weight"]) for entry in shared["backendRefs"]] == [("npa-service", 90), ("npa-service-canary", 10)]
    assert routes["edge-api"]["spec"]["rules"][0]["timeouts"] == {"request": "30s", "backendRequest": "10s"}
    for route in ("edge-default", "edge-api", "edge-npa"):
        assert all(parent["sectionName"].startswith("https-") for parent in routes[route]["spec"]["parentRefs"]), (
            "plain text only redirects"
        )


def matching(rules: list[Document], path: str, **headers: str) -> str:
    """Name of the route that Istio takes: the first that matches."""
    for rule in rules:
        for match in rule["match"]:
            uri = match["uri"]
            fits = path == uri["exact"] if "exact" in uri else path.startswith(uri["prefix"])
            if fits and all(headers.get(name) == wanted["exact"] for name, wanted in match.get("headers", {}).items()):
                return str(rule["name"])
    raise AssertionError(path)


@pytest.mark.parametrize(
    ("path", "headers", "route"),
    [
        ("/api/v1/agents/npa/plan", {}, "npa"),
        ("/api/v1/agents/npa", {}, "npa"),
        ("/api/v1/agents/npa/plan", {"x-canary": "true"}, "npa-canary"),
        ("/api/v1/agents/npabc", {}, "api"),
        ("/api/v1/info", {}, "api"),
        ("/api/v10", {}, "default"),
        ("/", {}, "default"),
    ],
)
def test_no_route_of_istios_own_hides_another(path: str, headers: dict[str, str], route: str) -> None:
    (virtual,) = of("VirtualService", gateway(gateway_api=False))
    assert matching(virtual["spec"]["http"], path, **headers) == route


def test_a_request_is_repeated_only_where_nothing_has_begun() -> None:
    (virtual,) = of("VirtualService", gateway(gateway_api=False))
    for rule in virtual["spec"]["http"]:
        assert set(rule["retries"]["retryOn"].split(",")) == {"connect-failure", "refused-stream", "reset-before-request"}
    mesh = rendering.Cluster("production", MESH).value("istio", "__istio_operator")["spec"]["meshConfig"]
    assert mesh["defaultHttpRetryPolicy"]["retryOn"] == "connect-failure,refused-stream,reset-before-request"


@pytest.mark.parametrize("gateway_api", [True, False])
def test_one_kind_of_gateway_at_a_time(gateway_api: bool) -> None:
    kinds = {(document["apiVersion"].partition("/")[0], document["kind"]) for document in gateway(gateway_api=gateway_api)}
    assert (("gateway.networking.k8s.io", "HTTPRoute") in kinds) is gateway_api
    assert (("networking.istio.io", "VirtualService") in kinds) is not gateway_api
    assert (("apps", "Deployment") in kinds) is not gateway_api


@pytest.mark.parametrize("gateway_api", [True, False])
def test_tokens_and_what_is_open(gateway_api: bool) -> None:
    documents = gateway(gateway_api=gateway_api, gateway_jwt=JWT)
    (asked,) = of("RequestAuthentication", documents)
    (rule,) = asked["spec"]["jwtRules"]
    assert rule["issuer"] == JWT["issuer"] and rule["audiences"] == ["a"] and rule["jwks"] == '{"keys": []}'
    (policy,) = of("AuthorizationPolicy", documents)
    opened, tokened = policy["spec"]["rules"]
    assert [entry["operation"] for entry in opened["to"]] == [{"ports": ["80"]}, {"paths": ["/health"]}]
    assert tokened["from"] == [{"source": {"requestPrincipals": ["https://a.example/auth/*"]}}]
    assert tokened["when"] == [{"key": "request.auth.claims[scope]", "values": ["use"]}]
    for document in (asked, policy):
        assert ("targetRefs" in document["spec"]) is gateway_api and ("selector" in document["spec"]) is not gateway_api


@pytest.mark.parametrize(("api", "kind", "field"), [(True, "HTTPRoute", "rules"), (False, "VirtualService", "http")])
def test_the_weights_of_a_canary_are_yielded_to_its_delivery(api: bool, kind: str, field: str) -> None:
    """Only where there is a canary: everything else is the inventory's."""
    documents = of(kind, gateway(gateway_api=api))
    yielding = {document["metadata"]["name"]: (document["metadata"].get("annotations") or {}) for document in documents}
    wanted = {"progressive.platform/yields": f"progressive.platform.canary:spec.{field}"}
    assert [name for name, annotations in yielding.items() if annotations == wanted] == (["edge-npa"] if api else ["edge"])
    assert not [annotations for annotations in yielding.values() if annotations not in ({}, wanted)]


@pytest.mark.parametrize("api", [True, False])
def test_a_stream_has_no_timeout(api: bool) -> None:
    """gRPC by its port and path, for as long as it lasts. Istio's own API has no 0: a real API server refuses it (test_uis_envoy.py)."""
    routes = {"watch": {"prefix": "/grpc.health.v1.Health", "service": "mca-service", "port": 9000, "timeout": 0}}
    documents = gateway(gateway_api=api, gateway_routes=routes)
    if api:
        (rule,) = next(one for one in of("HTTPRoute", documents) if one["metadata"]["name"] == "edge-watch")["spec"]["rules"]
        assert rule["timeouts"] == {"request": "0s"} and rule["backendRefs"][0]["port"] == 9000
    else:
        (rule,) = of("VirtualService", documents)[0]["spec"]["http"]
        assert "timeout" not in rule and rule["route"][0]["destination"]["port"] == {"number": 9000}


@pytest.mark.parametrize("api", [True, False])
def test_limits_are_where_they_are_said(api: bool) -> None:
    """What Envoy makes of them: tests/unit/istio/test_edge_envoy.py."""
    (plain,) = of("EnvoyFilter", gateway(gateway_api=api))
    assert [patch["applyTo"] for patch in plain["spec"]["configPatches"]] == ["NETWORK_FILTER"], "no limit, no filter"
    limits = {"*": {"requests": 100, "unit": "minute", "burst": 500}}
    routes = {**ROUTES, "npa": {**ROUTES["npa"], "rate_limit": {"requests": 7}, "max_body": "1Mi"}}
    (full,) = of("EnvoyFilter", gateway(gateway_api=api, gateway_routes=routes, gateway_rate_limits=limits))
    patches = full["spec"]["configPatches"]
    hosts = [patch for patch in patches if patch["applyTo"] == "VIRTUAL_HOST"]
    assert len(hosts) == (2 if api else 1), "by Istio's own API the hosts are one"
    rate = hosts[0]["patch"]["value"]["typed_per_filter_config"]["envoy.filters.http.local_ratelimit"]
    assert rate["token_bucket"] == {"max_tokens": 500, "tokens_per_fill": 100, "fill_interval": "60s"}
    assert rate["response_headers_to_add"][0]["header"] == {"key": "retry-after", "value": "1"}
    named = [patch["match"]["routeConfiguration"]["vhost"]["route"]["name"] for patch in patches if patch["applyTo"] == "HTTP_ROUTE"]
    space = "progressive-framework-prod"
    assert named == ([f"{space}.edge-npa.0", f"{space}.edge-npa.1"] if api else ["npa-canary", "npa"])


def test_the_gateways_envoys_count_what_a_delivery_reads() -> None:
    wanted = {"sidecar.istio.io/statsInclusionRegexps": r"cluster\.outbound.*upstream_rq.*"}
    (edge,) = of("Gateway", gateway())
    assert edge["spec"]["infrastructure"]["annotations"] == wanted
    (workload,) = of("Deployment", gateway(gateway_api=False))
    assert wanted.items() <= workload["spec"]["template"]["metadata"]["annotations"].items()


def test_a_control_plane_beside_another_leads_nobody_to_it() -> None:
    values = rendering.Cluster("production", MESH).value("istio", "__istio_beside")["spec"]["values"]
    assert values["revisionTags"] == [] and values["defaultRevision"] == "" and values["revision"]


# ---- ambient ----------------------------------------------------------------------------------------------------------------

AMBIENT: dict[str, t.Any] = {**MESH, "istio_mode": "ambient"}


@functools.cache
def ambient(inventory: str) -> list[Document]:
    cluster = rendering.Cluster(inventory, AMBIENT)
    return [document for role in ROLES for document in cluster.documents(role)]


@each_inventory
def test_in_an_ambient_mesh_nothing_asks_for_a_sidecar(inventory: str) -> None:
    documents = ambient(inventory)
    spaces = {one["metadata"]["name"]: one["metadata"]["labels"] for one in of("Namespace", documents)}
    namespace = rendering.Cluster(inventory, AMBIENT).value("catalog", "platform_namespace")
    assert spaces[namespace]["istio.io/dataplane-mode"] == "ambient" and "istio.io/rev" not in spaces[namespace]
    assert spaces["istio-system"]["pod-security.kubernetes.io/enforce"] == "privileged"
    assert not of("Sidecar", documents)
    for one in [*of("Deployment", documents), *of("StatefulSet", documents)]:
        labels = one["spec"]["template"]["metadata"]["labels"]
        outside = labels["tier"] in ("database", "cache")
        assert (labels.get("istio.io/dataplane-mode") == "none") is outside and "sidecar.istio.io/inject" not in labels
        assert outside or labels["progressive.platform/mesh"] == "ambient", "a pod that had a sidecar is made anew"
    for one in of("Gateway", documents):
        assert one["metadata"]["labels"]["istio.io/rev"] == "platform", "the namespace does not say whose it is"


@each_inventory
def test_in_an_ambient_mesh_requests_are_the_waypoints_and_connections_ztunnels(inventory: str) -> None:
    """Both say the same of who: a caller of one is a caller of the other, or comes by the waypoint."""
    documents = ambient(inventory)
    cluster = rendering.Cluster(inventory, AMBIENT)
    waypoint = f"cluster.local/ns/{cluster.value('catalog', 'platform_namespace')}/sa/waypoint"
    policies = {one["metadata"]["name"]: one["spec"] for one in of("AuthorizationPolicy", documents)}
    before = {one["metadata"]["name"]: one["spec"] for one in of("AuthorizationPolicy", bundle(inventory))}
    services = {one["metadata"]["name"]: one for one in of("Service", documents)}
    workloads = [one for one in of("Deployment", documents) if "progressive.platform/mesh" in one["spec"]["template"]["metadata"]["labels"]]
    assert workloads and policies["allow-nothing"] == {} and policies["allow-nothing-waypoint"].keys() == {"targetRefs"}
    for workload in workloads:
        name = workload["spec"]["selector"]["matchLabels"]["app"]
        requests, connections = policies[name], policies[f"{name}-connections"]
        (target,) = requests["targetRefs"]
        service = services[target["name"]]
        assert service["metadata"]["labels"]["istio.io/use-waypoint"] == "waypoint"
        assert service["metadata"]["labels"]["istio.io/ingress-use-waypoint"] == "true"
        assert "selector" not in requests and [rule["from"] for rule in requests["rules"]] == [
            rule["from"] for rule in before[name]["rules"]
        ]
        ports = {str(port["port"]) for port in service["spec"]["ports"]}
        containers = {str(port["containerPort"]) for one in workload["spec"]["template"]["spec"]["containers"] for port in one["ports"]}
        for rule in requests["rules"]:
            assert set(rule["to"][0]["operation"]["ports"]) <= ports
        assert connections["selector"] == {"matchLabels": {"app": name}} and connections["rules"][0]["from"] == [
            {"source": {"principals": [waypoint]}}
        ]
        for rule in connections["rules"]:
            assert set(rule["to"][0]["operation"]) == {"ports"} and set(rule["to"][0]["operation"]["ports"]) <= containers
            assert set(rule) == {"from", "to"} and rule["from"][0]["source"]
        limited = [one["from"] for one in requests["rules"] if set(one["to"][0]["operation"]) != {"ports"}]
        assert not [rule for rule in connections["rules"] if rule["from"] in limited], "who is held to paths comes by the waypoint alone"


@each_inventory
def test_in_an_ambient_mesh_tunnels_and_probes_pass_the_network_policies(inventory: str) -> None:
    found = {one["metadata"]["name"]: one["spec"] for one in of("NetworkPolicy", ambient(inventory))}
    ingress = found["allow-mesh"]["ingress"]
    assert ingress[0] == {"from": [{"ipBlock": {"cidr": "169.254.7.127/32"}}]}, "the kubelet's probes come from there"
    tunnel = [{"port": 15008, "protocol": "TCP"}]
    chosen = {"matchLabels": {"gateway.networking.k8s.io/gateway-name": "waypoint"}}
    assert ingress[1] == {"from": [{"podSelector": chosen}], "ports": tunnel} and found["allow-mesh"]["egress"][0]["ports"] == tunnel
    assert found["waypoint"]["podSelector"] == chosen and found["waypoint"]["ingress"][0]["ports"] == tunnel
    for flow in found["mca"]["ingress"]:
        assert tunnel[0] in flow["ports"], "from pod to pod it is a tunnel too"
    databases = [spec for spec in found.values() if "redis" in str(spec["podSelector"])]
    assert databases and not any("15008" in str(spec) for spec in databases)


@each_inventory
def test_the_operator_file_of_an_ambient_mesh(inventory: str) -> None:
    cluster = rendering.Cluster(inventory, {**AMBIENT, "istio_ztunnel_resources": {"requests": {"cpu": "1m"}}})
    spec = cluster.value("istio", "__istio_operator")["spec"]
    assert spec["components"]["ztunnel"]["enabled"] is True and spec["components"]["cni"]["enabled"] is True
    assert spec["values"]["cni"]["ambient"] == {"enabled": True} and spec["values"]["pilot"]["env"]["PILOT_ENABLE_AMBIENT"] == "true"
    assert spec["meshConfig"]["outboundTrafficPolicy"] == {"mode": "ALLOW_ANY"}
    assert spec["meshConfig"]["defaultConfig"]["proxyMetadata"] == {"ISTIO_META_ENABLE_HBONE": "true"}
    ztunnel = spec["values"]["ztunnel"]
    assert ztunnel["revision"] == spec["revision"] and ztunnel["resources"] == {"requests": {"cpu": "1m"}} and "/" in ztunnel["image"]
    assert cluster.value("istio", "__istio_beside")["spec"]["components"]["ztunnel"]["enabled"] is False, "it leads to its control plane"
    plain = rendering.Cluster(inventory, MESH).value("istio", "__istio_operator")["spec"]
    assert plain["components"]["ztunnel"]["enabled"] is False and plain["values"]["ztunnel"] is None
