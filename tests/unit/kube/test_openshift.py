# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventory of docs/openshift.md rendered, and held against what OpenShift publishes of its SCC restricted-v2 and its Routes. Nobody ran it."""

from __future__ import annotations

import copy
import functools
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.progressive.platform.plugins.module_utils._kube import openshift
from ansible_collections.progressive.platform.plugins.module_utils._kube.rollout import pod_of
from ansible_collections.progressive.platform.plugins.plugin_utils import _examine
from ansible_collections.progressive.platform.tests.unit.monitoring import gathered
from ansible_collections.progressive.platform.tests.unit.roles.rendering import Cluster

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[3]


@functools.cache
def profile() -> Json:
    """The first inventory that the documentation shows."""
    block = re.search(r"```yaml\n(# inventories.*?)```", (ROOT / "docs/openshift.md").read_text(), re.DOTALL)
    assert block
    return dict(yaml.safe_load(block[1]))


@functools.cache
def rendered() -> list[Json]:
    """Everything that the roles send, adapted as module apply does."""
    cluster = Cluster("production", profile())
    found = [document for role in profile()["platform_components"] if role != "monitoring" for document in cluster.documents(role)]
    return openshift.adapted(found)


def of_kind(kind: str) -> list[Json]:
    return [document for document in rendered() if document["kind"] == kind]


POD: Json = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web"},
    "spec": {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "web", "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    },
}


def pod(path: str, value: Any) -> Json:
    return changed(POD, path, value)


def changed(document: Json, path: str, value: Any) -> Json:
    """The document with one field of its spec otherwise, or without it; the path is dotted, numbers are places in lists."""
    made = copy.deepcopy(document)
    place: Any = made["spec"]
    *above, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    for step in above:
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return made


CONTEXT = "containers.0.securityContext"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("hostNetwork", True, "hostNetwork is true"),
        ("hostPID", True, "hostPID is true"),
        ("hostIPC", True, "hostIPC is true"),
        ("volumes.0", {"name": "root", "hostPath": {"path": "/"}}, "volume root is a hostPath"),
        ("volumes.0", {"name": "share", "nfs": {}}, "volume share is a nfs"),
        ("volumes.0", {"name": "data", "persistentVolumeClaim": {}}, ""),
        ("securityContext.runAsUser", 1001, "runAsUser of the pod is 1001"),
        ("securityContext.fsGroup", 0, "fsGroup of the pod is 0"),
        ("securityContext.runAsGroup", 1001, ""),
        ("securityContext.runAsNonRoot", False, "the pod may run as root"),
        ("securityContext.seccompProfile.type", "Unconfined", "seccomp profile of the pod is Unconfined"),
        ("securityContext.seccompProfile", None, "container web has no seccomp profile"),
        ("securityContext.seLinuxOptions", {"level": "s0"}, "the pod has SELinux options"),
        ("securityContext.sysctls", [{"name": "net.core.somaxconn", "value": "1"}], "sysctl net.core.somaxconn"),
        ("securityContext.sysctls", [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}], ""),
        (f"{CONTEXT}.runAsUser", 999, "runAsUser of container web is 999"),
        (f"{CONTEXT}.privileged", True, "container web is privileged"),
        (f"{CONTEXT}.allowPrivilegeEscalation", None, "allowPrivilegeEscalation of container web is not false"),
        (f"{CONTEXT}.capabilities.drop", ["NET_RAW"], "container web does not drop ALL"),
        (f"{CONTEXT}.capabilities.add", ["NET_ADMIN"], "container web adds NET_ADMIN"),
        (f"{CONTEXT}.capabilities.add", ["NET_BIND_SERVICE"], ""),
        (f"{CONTEXT}.procMount", "Unmasked", "procMount of container web"),
        ("containers.0.ports", [{"containerPort": 80, "hostPort": 80}], "takes port 80 of the host"),
        ("initContainers", [{"name": "first"}], "container first does not drop ALL"),
    ],
)
def test_what_restricted_v2_refuses(path: str, value: Any, words: str) -> None:
    found = openshift.refused([pod(path, value)])
    assert (not found) if not words else (found and found[0].startswith("Pod web: ")), found
    assert not words or any(words in sentence for sentence in found)


def test_users_are_taken_out_wherever_pods_are_made() -> None:
    spec = pod("securityContext.runAsUser", 1001)["spec"]
    job = {"kind": "CronJob", "metadata": {"name": "j"}, "spec": {"jobTemplate": {"spec": {"template": {"spec": spec}}}}}
    account = {"kind": "ServiceAccount", "metadata": {"name": "a"}}
    assert openshift.refused([job]) == ["CronJob j: runAsUser of the pod is 1001; the namespace's range gives it, so it must not be set"]
    fitting, other = openshift.adapted([job, account])
    assert openshift.refused([fitting]) == [] and other is account
    assert spec["securityContext"]["runAsUser"] == 1001, "what was given is not changed"


def test_every_pod_of_the_profile_is_admitted() -> None:
    pods = [document for document in rendered() if pod_of(document)]
    assert {"Deployment", "StatefulSet"} <= {document["kind"] for document in pods} and len(pods) >= 8
    assert openshift.refused(pods) == []
    assert len([text for text in openshift.refused(Cluster("production", profile()).documents("app")) if "runAsUser" in text]) >= 1


def test_routes_in_place_of_a_gateway() -> None:
    kinds = {document["apiVersion"].partition("/")[0] for document in rendered() if "/" in document["apiVersion"]}
    assert "route.openshift.io" in kinds and not {kind for kind in kinds if "istio" in kind or "gateway.networking" in kind}
    routes = {route["spec"]["path"]: route for route in of_kind("Route")}
    assert set(routes) == {"/", "/api/v1", "/api/v1/agents/mca", "/api/v1/agents/npa", "/api/v1/agents/wpa"}
    services = {service["metadata"]["name"]: service for service in of_kind("Service")}
    for route in routes.values():
        spec = route["spec"]
        ports = services[spec["to"]["name"]]["spec"]["ports"]
        assert spec["port"]["targetPort"] in {port["targetPort"] for port in ports} | {port["name"] for port in ports}
        assert spec["tls"] == {"termination": "edge", "insecureEdgeTerminationPolicy": "Redirect"}
        assert spec["host"] in profile()["gateway_hosts"]
        named = [header["name"].lower() for header in spec["httpHeaders"]["actions"]["response"]]
        # The router's own list of headers that no Route may set.
        assert named and not {"strict-transport-security", "proxy", "host", "cookie", "set-cookie"} & set(named)
    mca = routes["/api/v1/agents/mca"]["metadata"]["annotations"]
    assert mca["haproxy.router.openshift.io/rewrite-target"] == "/api/v1" and mca["haproxy.router.openshift.io/timeout"] == "45s"
    assert mca["haproxy.router.openshift.io/hsts_header"] == "max-age=31536000;includeSubDomains"


def test_the_router_reads_a_certificate_of_ours() -> None:
    found = Cluster("production", {**profile(), "gateway_tls_source": "secret"}).documents("gateway")
    assert {route["spec"]["tls"]["externalCertificate"]["name"] for route in found if route["kind"] == "Route"} == {"edge-tls"}
    (binding,) = [document for document in found if document["kind"] == "RoleBinding"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "router", "namespace": "openshift-ingress"}]


def test_a_canary_by_weight() -> None:
    routes = {"default": {"prefix": "/", "service": "web", "canary": {"service": "web-next", "weight": 10}}}
    changes = {**profile(), "gateway_routes": routes}
    (route,) = [document for document in Cluster("production", changes).documents("gateway") if document["kind"] == "Route"]
    assert route["spec"]["to"]["weight"] == 90
    assert route["spec"]["alternateBackends"] == [{"kind": "Service", "name": "web-next", "weight": 10}]


def edge(**route: Any) -> Json:
    return {"gateway_routes": {"default": {"prefix": "/", "service": "web", **route}}}


HSTS = "haproxy.router.openshift.io/hsts_header"
TIMEOUT = "haproxy.router.openshift.io/timeout"


@pytest.mark.parametrize(
    ("changes", "annotations", "names"),
    [
        # A time of the router's is at least one; without one that it understands it takes thirty seconds.
        (edge(timeout=0), {TIMEOUT: "24d"}, 5),
        (edge(timeout=None), {TIMEOUT: "30s"}, 5),
        (edge(response_headers={"strict-transport-security": "max-age=60; preload"}), {HSTS: "max-age=60;preload"}, 5),
        (edge(response_headers={"Strict-Transport-Security": ""}), {HSTS: None}, 5),
        ({**edge(), "gateway_response_headers": {}, "gateway_removed_headers": []}, {HSTS: None}, 0),
        (
            {**edge(response_headers={"Age": 0}), "gateway_response_headers": {"Strict-Transport-Security": "max-age=1"}},
            {HSTS: "max-age=1"},
            1,
        ),
    ],
)
def test_what_a_route_says_in_the_routers_words(changes: Json, annotations: Json, names: int) -> None:
    (route,) = [it for it in Cluster("production", {**profile(), **changes}).documents("gateway") if it["kind"] == "Route"]
    found = route["metadata"]["annotations"]
    assert {name: found.get(name) for name in annotations} == annotations
    actions = route["spec"]["httpHeaders"]["actions"]["response"]
    assert len(actions) == names and all(isinstance(action["action"]["set"]["value"], str) for action in actions)


def test_the_monitoring_stack_that_is_there_reads_what_is_sent() -> None:
    found = gathered.manifests_of("production", profile())
    assert {document["kind"] for document in found} == {"PodMonitor", "PrometheusRule", "ConfigMap"}
    # The rule that a PodMonitor of users may look at no other namespace than its own.
    monitors = [document for document in found if document["kind"] == "PodMonitor"]
    assert len(monitors) > 5 and not [document for document in monitors if document["spec"].get("namespaceSelector", {}).get("any")]


def findings(**changes: Any) -> list[str]:
    cluster = Cluster("production", {**profile(), **changes})
    found, _needs = _examine.examine_variables(cluster.templar, cluster.vars, cluster.value("catalog", "platform_components"))
    return [str(finding) for finding in found if not finding.warning]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"platform_components": ["baseline", "istio", "app"]}, "platform_components: istio"),
        ({"gateway_provider": "istio", "gateway_tls_source": "authority", "platform_mesh": True}, "gateway_provider: istio"),
        ({"gateway_jwt": {"issuer": "https://a.example.com", "jwks_uri": "https://a.example.com/keys"}}, "gateway_jwt: a token"),
        ({"platform_distribution": "kubernetes"}, "gateway_provider: route; allowed: istio"),
        ({"monitoring_provider": "builtin"}, "monitoring_provider: builtin"),
        ({"monitoring_namespace": "monitoring"}, "monitoring_namespace: monitoring"),
        (
            {
                "gateway_routes": {
                    "api": {"prefix": "/", "service": "mca-service", "canary": {"service": "npa-service", "header": "x-next"}}
                }
            },
            "gateway_routes.api.canary.header: x-next",
        ),
        # tests/kwok/test_openshift.py has what the server refuses as well; here is what it would take, and the router would not do.
        ({"gateway_rate_limits": {"*": {"requests": 5, "unit": "second"}}}, "gateway_rate_limits: limits"),
        (edge(service="mca-service", rate_limit={"requests": 5, "unit": "second"}), "gateway_routes.default.rate_limit"),
        (edge(service="mca-service", max_body="1Mi"), "gateway_routes.default.max_body: 1Mi"),
        (edge(service="mca-service", port=9000), "gateway_routes.default.port: 9000"),
        (edge(service="mca-service", port=80, response_headers={"X-Rate": "50 %%"}), ""),
        (edge(service="mca-service", response_headers={"X-Rate": "50 %"}), "gateway_routes.default.response_headers.X-Rate: 50 %"),
        ({"gateway_hosts": ["*.apps.example.com"]}, "gateway_hosts.0: *.apps.example.com"),
    ],
)
def test_preflight_refuses_what_does_not_fit(changes: Json, words: str) -> None:
    found = findings(**changes)
    assert (found == []) if not words else any(words in finding for finding in found), found


def test_the_module_sends_only_what_is_admitted(tmp_path: Path) -> None:
    """As a task calls it: pods lose their users, and a hostPath ends it with the object and the field."""
    (tmp_path / "good.yml").write_text(yaml.safe_dump(pod("securityContext.runAsUser", 1001)))
    (tmp_path / "bad.yml").write_text(yaml.safe_dump(pod("volumes.0", {"name": "root", "hostPath": {"path": "/"}})))
    tasks = [
        {
            "progressive.platform.apply": {
                "set": name,
                "files": [str(tmp_path / f"{name}.yml")],
                "state": "rendered",
                "dest": f"{tmp_path}/{name}.out",
            },
            "register": name,
            "ignore_errors": True,
        }
        for name in ("good", "bad")
    ]
    told = {"ansible.builtin.debug": {"msg": "{{ bad.msg }}"}}
    play = [{"hosts": "localhost", "gather_facts": False, "vars": {"platform_distribution": "openshift"}, "tasks": [*tasks, told]}]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(play))
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local", str(tmp_path / "play.yml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert "volume root is a hostPath" in done.stdout, done.stdout + done.stderr
    assert not (tmp_path / "bad.out").exists()
    assert openshift.refused([yaml.safe_load((tmp_path / "good.out").read_text())]) == []
