# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What UIs behind the gateway, and the frontend of role app's README, render to. Asked for real: test_uis_envoy.py."""

from __future__ import annotations

import re
import typing as t

import pytest
import yaml
from ansible_collections.progressive.platform.plugins.plugin_utils import _roles
from ansible_collections.progressive.platform.plugins.plugin_utils._examine import examine_variables
from ansible_collections.progressive.platform.tests.unit.roles import rendering

Document = dict[str, t.Any]
COMPONENTS = ["baseline", "istio", "gateway", "app", "agents", "monitoring", "tracing"]
HOSTS = {name: f"{name}.example.com" for name in ("grafana", "prometheus", "alertmanager", "jaeger")}
UIS: Document = {
    "platform_components": COMPONENTS,
    "monitoring_grafana": True,
    "gateway_uis": {name: {"host": host} for name, host in HOSTS.items()},
    "gateway_ui_login": {"users": "edge-ui-users"},
}
OIDC = {"issuer": "https://login.example.com:8443/realms/platform", "client": "edge-ui-client", "groups": ["operators"]}
each_inventory = pytest.mark.parametrize("inventory", rendering.INVENTORIES)
each_api = pytest.mark.parametrize("api", [True, False], ids=["Gateway API", "Istio's own API"])


def of(kind: str, documents: list[Document]) -> dict[str, Document]:
    return {one["metadata"]["name"]: one for one in documents if one["kind"] == kind}


def deployment(documents: list[Document], name: str) -> Document:
    return of("Deployment", documents)[name]


def example() -> Document:
    """The frontend as the README of role app has it."""
    text = (rendering.ROOT / "roles/app/README.md").read_text(encoding="utf-8")
    block = re.search(r"(?:^    .*\n|^\n)+", text[text.index("    app_services:") :], re.MULTILINE)
    assert block
    return dict(yaml.safe_load(block[0]))


def matches(selector: Document, labels: Document) -> bool:
    return bool(selector) and selector["matchLabels"].items() <= labels.items()


@each_inventory
def test_our_inventories_may_have_uis_and_the_frontend(inventory: str) -> None:
    cluster = rendering.Cluster(inventory, {**UIS, **example()})
    found, _needs = examine_variables(cluster.templar, cluster.vars, COMPONENTS)
    assert [str(one) for one in found if one.variable.startswith(("gateway", "app", "monitoring"))] == []


@each_inventory
@each_api
def test_one_way_leads_to_each_ui_and_it_is_its_guards(inventory: str, api: bool) -> None:
    """From the edge to the guard, from the guard to the pods of its UI, and from nowhere else: network policies at both ends, the mesh's before the guard."""
    cluster = rendering.Cluster(
        inventory, {**UIS, "gateway_api": api, "__monitoring_gathered": {"scrapes": [], "groups": {}, "documents": []}}
    )
    space = cluster.value("catalog", "platform_namespace")
    gateway = cluster.documents("gateway")
    others = [*cluster.documents("monitoring"), *cluster.documents("tracing")]
    workloads = {**of("StatefulSet", others), **of("Deployment", others)}
    for ui, host in HOSTS.items():
        guard = deployment(gateway, f"edge-ui-{ui}")["spec"]["template"]
        labels, (container,) = guard["metadata"]["labels"], guard["spec"]["containers"]
        own = of("NetworkPolicy", gateway)[f"edge-ui-{ui}"]["spec"]
        assert matches(own["podSelector"], labels) and own["policyTypes"] == ["Ingress", "Egress"]
        assert own["ingress"] == [
            {"from": [{"podSelector": {"matchLabels": {"app": "edge"}}}], "ports": [{"port": 4180, "protocol": "TCP"}]}
        ]
        ((peer,), (port,)) = (own["egress"][0][key] for key in ("to", "ports"))
        pods = workloads[ui]["spec"]["template"]
        ports = {one["name"]: one["containerPort"] for one in pods["spec"]["containers"][0]["ports"]}
        assert len(own["egress"]) == 1 and matches(peer["podSelector"], pods["metadata"]["labels"]) and port["port"] in ports.values()
        assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": workloads[ui]["metadata"]["namespace"]}
        (upstream,) = [one.partition("=")[2] for one in container["args"] if one.startswith("--upstream=")]
        service = of("Service", others)[ui]
        name, number = upstream.removeprefix("http://").rsplit(":", 1)
        assert name == f"{ui}.{service['metadata']['namespace']}.svc.cluster.local"
        assert ports[next(one for one in service["spec"]["ports"] if one["port"] == int(number))["targetPort"]] == port["port"]
        theirs = [
            one["spec"]["ingress"]
            for one in of("NetworkPolicy", others).values()
            if matches(one["spec"]["podSelector"], pods["metadata"]["labels"])
        ]
        let_in = [
            (ports.get(there["port"], there["port"]), who)
            for rules in theirs
            for rule in rules
            for who in rule["from"]
            for there in rule["ports"]
            if (who.get("namespaceSelector") or {}).get("matchLabels") == {"kubernetes.io/metadata.name": space}
        ]
        to_page = [who["podSelector"] for at, who in let_in if at == port["port"]]
        assert len(to_page) == 1 and matches(to_page[0], labels), "of this namespace the guard and nobody else"
        assert "progressive.platform/edge" not in str([rule for rules in theirs for rule in rules])
        (rule,) = of("AuthorizationPolicy", gateway)[f"edge-ui-{ui}"]["spec"]["rules"]
        assert rule == {
            "from": [{"source": {"principals": [f"cluster.local/ns/{space}/sa/edge-istio"]}}],
            "to": [{"operation": {"ports": ["4180"]}}],
        }
        if api:
            route = of("HTTPRoute", gateway)[f"edge-ui-{ui}"]["spec"]
            (listener,) = [
                one for one in of("Gateway", gateway)["edge"]["spec"]["listeners"] if one["name"] == route["parentRefs"][0]["sectionName"]
            ]
            assert (
                len(route["parentRefs"]) == 1 and listener["hostname"] == host == route["hostnames"][0] and listener["protocol"] == "HTTPS"
            )
            assert route["rules"][0]["backendRefs"] == [{"name": f"edge-ui-{ui}", "port": 80}], "no route crosses namespaces"
        else:
            assert of("VirtualService", gateway)[f"edge-ui-{ui}"]["spec"]["hosts"] == [host]
    if api:
        app = [one for name, one in of("HTTPRoute", gateway).items() if "-ui-" not in name and name != "edge-redirect"]
        of_uis = {one["name"] for one in of("Gateway", gateway)["edge"]["spec"]["listeners"] if one["hostname"] in HOSTS.values()}
        assert not {parent["sectionName"] for one in app for parent in one["spec"]["parentRefs"]} & of_uis


@each_inventory
def test_kiali_lets_its_guard_in_and_not_the_edge(inventory: str) -> None:
    cluster = rendering.Cluster(inventory, {**UIS, "istio_kiali": True, "gateway_uis": {"kiali": {"host": "kiali.example.com"}}})
    gateway, space = cluster.documents("gateway"), cluster.value("catalog", "platform_namespace")
    labels = deployment(gateway, "edge-ui-kiali")["spec"]["template"]["metadata"]["labels"]
    ((peer,), (port,)) = (of("NetworkPolicy", gateway)["edge-ui-kiali"]["spec"]["egress"][0][key] for key in ("to", "ports"))
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "kiali"} and port["port"] == 20001
    text = _roles.render(cluster.templar, _roles.role_path("istio") / "templates/kiali.yaml.j2", cluster.variables("istio"))
    (policy,) = [one for one in yaml.safe_load_all(text) if one and one["kind"] == "NetworkPolicy"]
    assert "progressive.platform/edge" not in text
    ((who,),) = [rule["from"] for rule in policy["spec"]["ingress"] if rule["ports"][0]["port"] == "api-port"]
    assert who["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": space} and matches(who["podSelector"], labels)


@pytest.mark.parametrize("login", [UIS["gateway_ui_login"], OIDC], ids=["users", "issuer"])
def test_a_guard_asks_in_one_way_and_its_secrets_are_files(login: Document) -> None:
    documents = rendering.Cluster("production", {**UIS, "gateway_ui_login": login}).documents("gateway")
    assert not of("Secret", documents)
    pod = deployment(documents, "edge-ui-jaeger")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    flags = dict(one.removeprefix("--").partition("=")[::2] for one in container["args"])
    assert flags["cookie-name"].startswith("__Host-") and flags["cookie-secure"] == "true" and flags["reverse-proxy"] == "false"
    assert flags["pass-basic-auth"] == "false" and not any(
        "skip-auth" in flag or "trusted" in flag or "api-route" in flag for flag in flags
    )
    assert not {"cookie-secret", "basic-auth-password"} & set(flags)
    mounted = {one["name"]: one["secret"]["secretName"] for one in pod["volumes"] if "secret" in one}
    egress = of("NetworkPolicy", documents)["edge-ui-jaeger"]["spec"]["egress"]
    assert (flags.get("pass-authorization-header") == "true") is (login is not OIDC), "an issuer's token would be passed on, too"
    if login is OIDC:
        assert mounted == {"key": "edge-ui", "client": "edge-ui-client"} and "htpasswd-file" not in flags and "client-secret" not in flags
        assert (
            flags["allowed-group"] == "operators"
            and flags["insecure-oidc-skip-nonce"] == "false"
            and flags["oidc-issuer-url"] == OIDC["issuer"]
        )
        assert egress[1:] == [{"ports": [{"port": 8443, "protocol": "TCP"}]}]
    else:
        assert mounted == {"key": "edge-ui", "users": "edge-ui-users"} and "email-domain" not in flags
        addresses = {value for flag, value in flags.items() if flag.endswith("-url") and flag != "redirect-url"}
        assert addresses == {"https://nobody.invalid"} and len(egress) == 1


@pytest.mark.parametrize("domains", [["example.com", "example.org"], ["*"]])
def test_whom_an_issuer_may_send(domains: list[str]) -> None:
    login = {**OIDC, "groups": [], "domains": domains}
    arguments = rendering.Cluster("production", {**UIS, "gateway_ui_login": login}).value("gateway", "__gateway_ui_way")
    assert [one.partition("=")[2] for one in arguments if one.startswith("--email-domain=")] == domains
    assert not any(one.startswith("--allowed-group") for one in arguments)


@each_api
def test_a_token_is_the_applications_and_not_the_uis(api: bool) -> None:
    jwt = {"issuer": "https://a.example/auth", "jwks": {"keys": []}}
    policy = of(
        "AuthorizationPolicy", rendering.Cluster("production", {**UIS, "gateway_api": api, "gateway_jwt": jwt}).documents("gateway")
    )["edge"]
    _opened, tokened, guarded = policy["spec"]["rules"]
    assert not set(HOSTS.values()) & set(tokened["to"][0]["operation"]["hosts"])
    assert guarded == {"to": [{"operation": {"hosts": [*HOSTS.values(), *(f"{host}:*" for host in HOSTS.values())]}}]}


def test_the_certificate_and_the_checks_know_the_hosts() -> None:
    cluster = rendering.Cluster("production", {**UIS, "gateway_tls_source": "cert-manager"})
    names = of("Certificate", cluster.documents("gateway"))["edge-tls"]["spec"]["dnsNames"]
    assert set(HOSTS.values()) < set(names) == set(cluster.value("gateway", "__gateway_all_hosts"))
    checks = yaml.safe_load(
        _roles.render(cluster.templar, _roles.role_path("gateway") / "templates/checks.yaml.j2", cluster.variables("gateway"))
    )
    assert checks[1]["guarded"] == list(HOSTS.values())
    assert checks[0]["workloads"] == ["Deployment/edge-istio", *(f"Deployment/edge-ui-{ui}" for ui in HOSTS)]
    assert cluster.value("monitoring", "monitoring_grafana_address") == "https://grafana.example.com"
    assert cluster.value("gateway", "__gateway_needs")["pods"][1]["count"] == 8


def test_a_ui_of_ones_own_says_where_it_is() -> None:
    own = {"host": "docs.example.com", "service": "pages", "namespace": "docs", "port": 8000, "target": 8080, "pods": {"name": "pages"}}
    documents = rendering.Cluster("production", {**UIS, "gateway_uis": {"docs": own, "grafana": None}}).documents("gateway")
    assert list(of("Deployment", documents)) == ["edge-ui-docs"]
    (egress,) = of("NetworkPolicy", documents)["edge-ui-docs"]["spec"]["egress"]
    assert egress["ports"] == [{"port": 8080, "protocol": "TCP"}] and egress["to"][0]["podSelector"] == {"matchLabels": {"name": "pages"}}


def test_in_an_ambient_mesh_the_edge_comes_by_a_tunnel() -> None:
    documents = rendering.Cluster("production", {**UIS, "istio_mode": "ambient"}).documents("gateway")
    assert of("Service", documents)["edge-ui-jaeger"]["metadata"]["labels"]["istio.io/use-waypoint"] == "none"
    assert {"port": 15008, "protocol": "TCP"} in of("NetworkPolicy", documents)["edge-ui-jaeger"]["spec"]["ingress"][0]["ports"]
    template = deployment(documents, "edge-ui-jaeger")["spec"]["template"]["metadata"]
    assert template["labels"]["progressive.platform/mesh"] == "ambient" and not any("istio.io" in key for key in template["annotations"])


@each_inventory
def test_without_uis_nothing_of_them_is_there(inventory: str) -> None:
    documents = rendering.Cluster(inventory, {"platform_components": COMPONENTS}).documents("gateway")
    assert not any("-ui-" in one["metadata"]["name"] for one in documents) and not of("Deployment", documents)


# ---- the frontend -----------------------------------------------------------------------------------------------------------


@each_inventory
def test_the_frontend_has_no_password_no_right_and_no_way_out(inventory: str) -> None:
    cluster = rendering.Cluster(inventory, {"platform_components": COMPONENTS, **example()})
    documents = cluster.documents("app")
    pod = deployment(documents, "frontend")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert [list(one) for one in pod["volumes"]] == [["name", "emptyDir"]] and "initContainers" not in pod and "envFrom" not in container
    assert not any("secretKeyRef" in str(one) for one in container["env"]) and pod["automountServiceAccountToken"] is False
    assert [port["containerPort"] for port in container["ports"]] == [8080] and container["securityContext"][
        "readOnlyRootFilesystem"
    ] is True
    policy = of("NetworkPolicy", documents)["frontend"]["spec"]
    assert policy["egress"] == [] and {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == {"http"}
    (rule,) = of("AuthorizationPolicy", documents)["frontend"]["spec"]["rules"]
    assert rule["from"][0]["source"]["principals"][0].endswith("/sa/edge-istio") and rule["to"] == [{"operation": {"ports": ["8080"]}}]
    assert "frontend-role" not in of("Role", documents)
    routes = of("HTTPRoute", cluster.documents("gateway"))
    (default,) = routes["edge-default"]["spec"]["rules"]
    assert default["backendRefs"][0]["name"] == "frontend-service"
    checks = _roles.render(cluster.templar, _roles.role_path("app") / "templates/checks.yaml.j2", cluster.variables("app"))
    asked = {check["name"]: check for check in yaml.safe_load(checks)}
    assert asked["frontend is ready"]["path"] == "/health" and not {"frontend metrics", "frontend transaction"} & set(asked)
    assert {"progressive-framework-v5 metrics", "progressive-framework-v5 transaction"} <= set(asked)


@pytest.mark.parametrize("provider", ["istio", "istio's own", "nginx", "route"])
def test_headers_of_a_route_stand_in_place_of_the_gateways(provider: str) -> None:
    changes = {"gateway_api": provider != "istio's own", "gateway_provider": provider.partition("'")[0]}
    text = str(rendering.Cluster("production", {"platform_components": COMPONENTS, **example(), **changes}).documents("gateway"))
    assert "default-src 'self'; frame-ancestors 'none'" in text and "\"frame-ancestors 'none'\"" in text
