# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Routes of the inventory of docs/openshift.md, sent by module apply to a real API server that has OpenShift's own definition of them.

The definition is what OpenShift publishes in its Go module; MicroShift serves Routes by it, OpenShift by a server of its own with the same rules in Go
(openshift/library-go, pkg/route/validation). What that server asks beyond them, whether the router may read a Route's certificate, is a policy here.
No router runs.
"""

from __future__ import annotations

import contextlib
import copy
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.progressive.platform.plugins.module_utils._kube import apply, openshift
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError
from ansible_collections.progressive.platform.tests.kwok import lab
from ansible_collections.progressive.platform.tests.unit.kube.test_openshift import CONTEXT, POD, changed, findings, pod, profile
from ansible_collections.progressive.platform.tests.unit.roles import rendering

Json = dict[str, Any]
# As Istio's release in the catalog requires it or newer, so it is one that the module proxy has.
MODULE = "github.com/openshift/api@v0.0.0-20260605005319-1194f4c62539"
DEFINITIONS = {
    "Route": "route/v1/zz_generated.crd-manifests/routes.crd.yaml",
    "SecurityContextConstraints": "security/v1/zz_generated.crd-manifests/0000_03_config-operator_01_securitycontextconstraints.crd.yaml",
}
# The object itself is in no module that can be had: a copy of it is named, as `oc get scc restricted-v2 -o yaml` prints it, or of the operator that
# makes it (openshift/cluster-kube-apiserver-operator, bindata/bootkube/scc-manifests).
RESTRICTED = os.environ.get("PROGRESSIVE_SCC", "")
SERVED = {"route.openshift.io", "rbac.authorization.k8s.io", "networking.k8s.io"}


@pytest.fixture(scope="module")
def published() -> dict[str, Json]:
    """OpenShift's definitions by kind; nothing of them is kept here."""
    if not shutil.which("go"):
        pytest.skip("no go, which fetches the definitions from their Go module")
    folder = lab.module(MODULE)
    if not folder.exists():
        pytest.skip(f"{MODULE} cannot be had by `go mod download`")
    return {kind: yaml.safe_load((folder / path).read_text()) for kind, path in DEFINITIONS.items()}


@pytest.fixture(scope="module")
def cluster(published: dict[str, Json], tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Cluster]:
    if reason := lab.missing():
        pytest.skip(reason)
    with lab.clusters(tmp_path_factory.mktemp("openshift"), ["one"], nodes=0) as (made,):
        sent(made, "definitions", "default", list(published.values()))
        yield made


@pytest.fixture(scope="module")
def client(cluster: lab.Cluster) -> Iterator[Client]:
    with cluster.client() as client:
        yield client


def sent(cluster: lab.Cluster, name: str, namespace: str, documents: list[Json], check: bool = False) -> Json:
    """As a task calls module apply."""
    given = {"set": name, "namespace": namespace, "definition": copy.deepcopy(documents), "kubeconfig": str(cluster.admin)}
    checked = ArgumentSpecValidator(apply.ARGUMENTS, **apply.CONSTRAINTS).validate(given)
    assert not checked.error_messages, checked.error_messages
    return apply.run(dict(checked.validated_parameters), Context(check=check))


def namespace(client: Client, name: str) -> str:
    with contextlib.suppress(ApiError):
        client.request("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


def rendered(**changes: Any) -> list[Json]:
    """What the role sends and this server has kinds for: there is no cert-manager."""
    found = rendering.Cluster("production", {**profile(), **changes}).documents("gateway")
    return [document for document in found if document["apiVersion"].partition("/")[0] in SERVED]


def of_kind(kind: str, documents: list[Json]) -> list[Json]:
    return [document for document in documents if document["kind"] == kind]


def one(**spec: Any) -> Json:
    return {"gateway_routes": {"default": {"prefix": "/", "service": "web", **spec}}}


WELL: dict[str, tuple[Json, int]] = {
    "router": ({}, 5),
    "authority": ({"gateway_tls_source": "authority"}, 5),
    "secret": ({"gateway_tls_source": "secret", "gateway_tls_secret": "from.elsewhere"}, 5),
    "cert-manager": ({"gateway_tls_source": "cert-manager"}, 5),
    "hosts": ({"gateway_hosts": ["progressive.apps.example.com", "api.apps.example.com", "www.example.com"]}, 15),
    "canary": (one(canary={"service": "web-next", "weight": 10}), 1),
    "canary-without": (one(canary={"service": "web-next"}), 1),
    "canary-alone": (one(canary={"service": "web-next", "weight": 100}), 1),
    "stream": (one(timeout=0), 1),
    "hour": (one(timeout=3600, rewrite="/api/v1"), 1),
    "own-headers": (
        one(response_headers={"X-Frame-Options": "SAMEORIGIN", "Expires": 0, "X-Rate": "50 %%", "Server": "%[res.hdr(X-A),lower]"}),
        1,
    ),
    "own-hsts": (one(response_headers={"strict-transport-security": "max-age=60"}), 1),
    "no-headers": ({**one(), "gateway_response_headers": {}, "gateway_removed_headers": []}, 1),
    "hsts-alone": ({**one(), "gateway_response_headers": {"Strict-Transport-Security": "max-age=60"}}, 1),
}


def versions(client: Client, namespace: str) -> dict[str, str]:
    items = client.list(client.resource("route.openshift.io/v1", "Route"), namespace)["items"]
    return {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in items}


@pytest.mark.parametrize("name", WELL)
def test_the_server_takes_every_route_and_a_second_time_nothing_moves(cluster: lab.Cluster, client: Client, name: str) -> None:
    changes, count = WELL[name]
    assert [finding for finding in findings(**changes) if "one of the Services" not in finding] == []
    documents = rendered(**changes)
    assert len(of_kind("Route", documents)) == count
    assert sent(cluster, "gateway", namespace(client, name), documents)["changed"]
    before = versions(client, name)
    assert len(before) == count
    again = sent(cluster, "gateway", name, documents)
    assert not again["changed"] and versions(client, name) == before


TWENTY_ONE = {f"X-{number}": "a" for number in range(21)}

# What an inventory may say, and neither the server nor preflight takes: how the server begins, and what preflight calls it.
REFUSED: list[tuple[Json, str, str]] = [
    ({"gateway_hosts": ["*.apps.example.com"]}, "spec.host", "gateway_hosts.0: *.apps.example.com; allowed: a name without a star"),
    ({"gateway_hosts": ["Apps_.example.com"]}, "spec.host", "gateway_hosts.0: Apps_.example.com"),
    (one(prefix="web"), "spec.path", "gateway_routes.default.prefix: web"),
    (one(canary={"service": "web-next", "weight": 101}), "spec.to.weight", "gateway_routes.default.canary.weight: 101"),
    (one(canary={"service": "web-next", "weight": -160}), "spec.to.weight", "gateway_routes.default.canary.weight: -160"),
    (one(response_headers={"Set-Cookie": "a=b"}), "set-cookie header may not be modified", "gateway_routes.default.response_headers"),
    ({"gateway_response_headers": {"proxy": "a"}}, "proxy header may not be modified", "gateway_response_headers.proxy"),
    ({"gateway_removed_headers": ["Cookie"]}, "cookie header may not be modified", "gateway_removed_headers.Cookie"),
    (
        {"gateway_removed_headers": ["Strict-Transport-Security"]},
        "strict-transport-security header may not be modified",
        "gateway_removed_headers",
    ),
    ({"gateway_removed_headers": ["x user"]}, "request[0].name", "gateway_removed_headers"),
    (one(response_headers={"X-Rate": "50 %"}), "not in correct format", "A percent sign is written twice"),
    (one(response_headers={"X-A": "%[src]"}), "not in correct format", "gateway_routes.default.response_headers.X-A"),
    (one(response_headers={"X-A": "a\nb"}), "not in correct format", "gateway_routes.default.response_headers.X-A"),
    (one(response_headers={"X-A": ""}), "should be at least 1 chars long", "gateway_routes.default.response_headers.X-A"),
    ({"gateway_response_headers": TWENTY_ONE}, "Too many", "gateway_response_headers: 21 headers; allowed: at most 20"),
    ({"gateway_removed_headers": list(TWENTY_ONE)}, "Too many", "gateway_removed_headers: 21 headers; allowed: at most 20"),
]


@pytest.mark.parametrize(("changes", "server", "preflight"), REFUSED)
def test_what_the_server_refuses_preflight_has_refused_before(
    cluster: lab.Cluster, client: Client, changes: Json, server: str, preflight: str
) -> None:
    assert any(preflight in finding for finding in findings(**changes)), findings(**changes)
    with pytest.raises(PlatformError) as failure:
        sent(cluster, "gateway", namespace(client, "refused"), of_kind("Route", rendered(**changes)))
    assert server in str(failure.value), failure.value
    assert not versions(client, "refused")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("tls.termination", "Edge", 'supported values: "edge", "reencrypt", "passthrough"'),
        ("tls.termination", "passthrough", "must validate at least one schema (anyOf)"),
        ("tls.termination", None, "Required value"),
        ("tls.insecureEdgeTerminationPolicy", "redirect", "insecureEdgeTerminationPolicy: Unsupported value"),
        ("tls.certificate", "-----BEGIN", "cannot have both spec.tls.certificate and spec.tls.externalCertificate"),
        ("tls.destinationCACertificate", "-----BEGIN", "spec.tls"),
        ("tls.externalCertificate.namespace", "elsewhere", "field not declared in schema"),
        ("to.weight", 257, "less than or equal to 256"),
        ("to.weight", "90", "spec.to.weight"),
        ("to.kind", "Deployment", "Unsupported value"),
        ("to.name", "", "at least 1 chars long"),
        ("port.targetPort", "", "spec.port.targetPort"),
        ("port.targetPort", 0, "spec.port.targetPort"),
        ("wildcardPolicy", "Any", "Unsupported value"),
        ("alternateBackends", [{"kind": "Service", "name": f"web-{number}"} for number in range(4)], "Too many"),
        ("timeout", "30s", "field not declared in schema"),
    ],
)
def test_the_definition_refuses_what_is_no_route(cluster: lab.Cluster, client: Client, path: str, value: Any, words: str) -> None:
    (route,) = of_kind("Route", rendered(**one(), gateway_tls_source="secret"))
    with pytest.raises(PlatformError) as failure:
        sent(cluster, "gateway", namespace(client, "refused"), [changed(route, path, value)])
    assert words in str(failure.value), failure.value


# As openshift/library-go does it: spec.tls.externalCertificate is looked after before a Route is stored, by the rights of the router's account. That the
# Secret is there it asks as well, which a policy cannot.
MAY = "authorizer.serviceAccount('openshift-ingress', 'router').group('').resource('secrets').namespace(object.metadata.namespace)"
POLICY: Json = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingAdmissionPolicy",
    "metadata": {"name": "router"},
    "spec": {
        "matchConstraints": {
            "resourceRules": [
                {"apiGroups": ["route.openshift.io"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["routes"]}
            ]
        },
        "matchConditions": [{"name": "named", "expression": "has(object.spec.tls) && has(object.spec.tls.externalCertificate)"}],
        "validations": [
            {
                "expression": f"{MAY}.name(object.spec.tls.externalCertificate.name).check('{verb}').allowed()",
                "message": f"spec.tls.externalCertificate: Forbidden: router serviceaccount does not have permission to {verb} this secret",
            }
            for verb in ("get", "watch", "list")
        ],
    },
}
BINDING: Json = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingAdmissionPolicyBinding",
    "metadata": {"name": "router"},
    "spec": {"policyName": "router", "validationActions": ["Deny"]},
}


@pytest.fixture
def asked(cluster: lab.Cluster, client: Client) -> Iterator[None]:
    """The server asks whether its router may read a certificate; when it does, for a policy takes a moment."""
    (route,) = of_kind("Route", rendered(**one(), gateway_tls_source="secret"))
    path = client.resource("route.openshift.io/v1", "Route").path(namespace(client, "asked"))
    sent(cluster, "policy", "default", [POLICY, BINDING])

    def refused() -> bool:
        try:
            client.request("POST", path, route, query={"dryRun": "All"})
        except ApiError as error:
            return "router serviceaccount" in error.server_message
        return False

    lab.until(refused, "a Route is refused whose certificate the router may not read")
    yield
    sent(cluster, "policy", "default", [])


def test_the_router_may_read_a_certificate_before_its_routes_are_sent(asked: None, cluster: lab.Cluster, client: Client) -> None:
    documents = rendered(gateway_tls_source="secret")
    where = namespace(client, "certificates")
    said = sent(cluster, "gateway", where, documents, check=True)
    assert said["changed"] and not versions(client, where), "check mode knows that the rights would be there"
    assert sent(cluster, "gateway", where, documents)["changed"]
    before = versions(client, where)
    assert len(before) == 5
    assert not sent(cluster, "gateway", where, documents)["changed"] and versions(client, where) == before


def test_a_route_waits_for_rights_that_come_a_little_later(asked: None, cluster: lab.Cluster, client: Client) -> None:
    """As they do where another set brings them, or the server that is asked has not heard of them yet; and a certificate that is being issued."""
    documents, where = rendered(**one(), gateway_tls_source="secret"), namespace(client, "later")
    with ThreadPoolExecutor(1) as pool:
        routes = pool.submit(sent, cluster, "gateway", where, of_kind("Route", documents))
        with pytest.raises(TimeoutError):
            routes.result(1.0)
        sent(cluster, "rights", where, [document for document in documents if document["kind"] in ("Role", "RoleBinding")])
        assert routes.result(30.0)["changed"]


def test_without_those_rights_a_route_is_refused_and_it_is_said_why(
    asked: None, cluster: lab.Cluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply, "UNREADABLE_TIMEOUT", 1.0)
    with pytest.raises(PlatformError, match="router serviceaccount does not have permission to get this secret"):
        sent(cluster, "gateway", namespace(client, "rightless"), of_kind("Route", rendered(**one(), gateway_tls_source="secret")))


# ---- restricted-v2 ----------------------------------------------------------------------------------------------------------------

# Every field that an SCC has: what restricted-v2 says in it, and what a pod may not do therefore.
RULES: dict[str, tuple[Any, list[tuple[str, Any]]]] = {
    "allowHostDirVolumePlugin": (False, [("volumes.0", {"name": "root", "hostPath": {"path": "/"}})]),
    "allowHostIPC": (False, [("hostIPC", True)]),
    "allowHostNetwork": (False, [("hostNetwork", True)]),
    "allowHostPID": (False, [("hostPID", True)]),
    "allowHostPorts": (False, [("containers.0.ports", [{"containerPort": 80, "hostPort": 80}])]),
    "allowPrivilegeEscalation": (False, [(f"{CONTEXT}.allowPrivilegeEscalation", True)]),
    "allowPrivilegedContainer": (False, [(f"{CONTEXT}.privileged", True)]),
    "allowedCapabilities": (sorted(openshift.ADDABLE), [(f"{CONTEXT}.capabilities.add", ["NET_RAW"])]),
    "allowedFlexVolumes": (None, [("volumes.0", {"name": "own", "flexVolume": {"driver": "own"}})]),
    "allowedUnsafeSysctls": (None, [("securityContext.sysctls", [{"name": "net.core.somaxconn", "value": "1"}])]),
    "defaultAddCapabilities": (None, []),
    "defaultAllowPrivilegeEscalation": (None, []),
    "forbiddenSysctls": (None, []),
    "fsGroup": ({"type": "MustRunAs"}, [("securityContext.fsGroup", 1001)]),
    "groups": ([], []),
    "priority": (None, []),
    "readOnlyRootFilesystem": (False, []),
    "requiredDropCapabilities": (["ALL"], [(f"{CONTEXT}.capabilities.drop", ["NET_RAW"]), (f"{CONTEXT}.capabilities", None)]),
    "runAsUser": ({"type": "MustRunAsRange"}, [("securityContext.runAsUser", 1001), (f"{CONTEXT}.runAsUser", 0)]),
    "seLinuxContext": ({"type": "MustRunAs"}, [("securityContext.seLinuxOptions", {"level": "s0"})]),
    "seccompProfiles": (["runtime/default"], [("securityContext.seccompProfile.type", "Unconfined")]),
    "supplementalGroups": ({"type": "RunAsAny"}, []),
    "userNamespaceLevel": ("AllowHostLevel", []),
    "users": ([], []),
    # Images came in last; an OpenShift that is a little older refuses them, so we do. Nor has one before 4.13 the kind csi, before 4.12 ephemeral.
    "volumes": (
        sorted(openshift.VOLUMES | {"image"}),
        [("volumes.0", {"name": "share", "nfs": {}}), ("volumes.0", {"name": "share", "image": {}})],
    ),
}
WANTED = {field: value for field, (value, _unused) in RULES.items()}


def constraints(client: Client, document: Json) -> Json:
    """Its fields as the server has them, defaults filled in."""
    resource = client.resource("security.openshift.io/v1", "SecurityContextConstraints")
    stored = client.request("POST", resource.path(), document, query={"dryRun": "All", "fieldValidation": "Strict"})[2]
    return {field: stored.get(field) for field in RULES}


def test_the_rules_are_about_every_field_that_is_published(published: dict[str, Json]) -> None:
    (version,) = published["SecurityContextConstraints"]["spec"]["versions"]
    assert set(version["schema"]["openAPIV3Schema"]["properties"]) - {"apiVersion", "kind", "metadata"} == set(RULES)


def test_what_they_forbid_is_refused_before_it_is_sent() -> None:
    assert openshift.refused([POD]) == []
    accepted = [change for _unused, changes in RULES.values() for change in changes if not openshift.refused([pod(*change)])]
    assert accepted == []


def test_they_are_such_an_object(client: Client) -> None:
    head = {"apiVersion": "security.openshift.io/v1", "kind": "SecurityContextConstraints", "metadata": {"name": "restricted-v2"}}
    assert constraints(client, head | WANTED) == WANTED


def test_they_say_what_the_published_object_says(client: Client) -> None:
    if not RESTRICTED:
        pytest.skip("PROGRESSIVE_SCC names no copy of the SCC restricted-v2")
    document = yaml.safe_load(Path(RESTRICTED).read_text())
    assert document["metadata"]["name"] == "restricted-v2"
    found = constraints(client, {**document, "metadata": {"name": "restricted-v2"}})
    assert {**found, "volumes": sorted(found["volumes"])} == WANTED
