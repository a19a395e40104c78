# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Kiali's own chart, rendered by a real helm with the role's values, taken by a real API server. Kiali itself is not run: its pods are KWOK's.

The chart cannot be fetched from everywhere, so a copy is named: PROGRESSIVE_KIALI_CHART=kiali-server-2.29.0.tgz. Its checksum is the catalog's.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.progressive.platform.plugins.module_utils._istio import manifest
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.plugins.module_utils._mirror.sources import Source
from ansible_collections.progressive.platform.plugins.module_utils._run import Context
from ansible_collections.progressive.platform.plugins.plugin_utils import _roles
from ansible_collections.progressive.platform.tests.kwok import lab
from ansible_collections.progressive.platform.tests.unit.roles import rendering

Json = dict[str, Any]
CHART = os.environ.get("PROGRESSIVE_KIALI_CHART", "")
OPTIONS: Json = {"platform_components": ["baseline", "istio", "monitoring", "tracing"], "istio_kiali": True}


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> list[Json]:
    if not CHART or not shutil.which("helm"):
        pytest.skip("PROGRESSIVE_KIALI_CHART names no chart, or there is no helm in PATH")
    cluster = rendering.Cluster("production", OPTIONS)
    entry = json.loads(json.dumps(cluster.value("istio", "__istio_kiali_chart")))
    entry["source"] = {**entry["source"], "path": str(Path(CHART).resolve())}  # and its checksum, so it is the catalog's very chart
    cache = tmp_path_factory.mktemp("sources")

    def rendered() -> list[Json]:
        return manifest._Chart.of(entry, cache, Context(), 60.0).render("helm", cache)

    found = rendered()
    assert rendered() == found, "nothing of it is thrown by dice"
    assert Source.of("kiali", entry["source"]).sha256
    variables = cluster.variables("istio")
    text = _roles.render(cluster.templar, _roles.role_path("istio") / "templates/kiali.yaml.j2", variables)
    return found + [document for document in yaml.safe_load_all(text) if document]


@pytest.fixture(scope="module")
def client(documents: list[Json], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    if reason := lab.missing():
        pytest.skip(reason)
    with contextlib.ExitStack() as stack:
        (cluster,) = stack.enter_context(lab.clusters(tmp_path_factory.mktemp("kiali"), ["one"]))
        client = stack.enter_context(cluster.client())
        priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1000}
        send(client, {**priority, "metadata": {"name": "progressive-framework-prod-application"}})
        key = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "kiali-signing-key", "namespace": "kiali"},
            "stringData": {"key": "k" * 32},
        }
        order = sorted([*documents, key], key=lambda it: it["kind"] != "Namespace")
        for document in order:
            send(client, document)
        yield client


def send(client: Client, document: Json) -> None:
    """Unknown fields are refused."""
    resource = client.resource(document["apiVersion"], document["kind"])
    path = resource.path(document["metadata"].get("namespace", ""))
    client.request("POST", path, document, query={"fieldValidation": "Strict"})


def test_the_server_takes_it_and_pod_security_lets_its_pod_in(client: Client) -> None:
    def ready() -> bool:
        found = client.get(client.resource("apps/v1", "Deployment").path("kiali", "kiali"))
        return bool(found.get("status", {}).get("readyReplicas"))

    lab.until(ready, "the pod is let in by Pod Security restricted, and made")


def test_its_account_reads_and_no_secrets(client: Client) -> None:
    def may(verb: str, resource: str, group: str = "", namespace: str = "progressive-framework-prod") -> bool:
        wanted = {"verb": verb, "resource": resource.partition("/")[0], "subresource": resource.partition("/")[2], "group": group}
        spec = {"user": "system:serviceaccount:kiali:kiali", "resourceAttributes": {**wanted, "namespace": namespace}}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        return bool(client.request("POST", path, review)[2]["status"]["allowed"])

    assert may("list", "pods") and may("list", "services") and may("list", "virtualservices", "networking.istio.io")
    assert not any(may(verb, "secrets") for verb in ("get", "list", "watch"))
    assert not may("get", "pods/log")
    for verb in ("create", "update", "patch", "delete"):
        # One thing that its makers' role lets it do beside reading: it asks proxies for their configuration so.
        assert may(verb, "pods/portforward") is (verb == "create")
        assert not may(verb, "deployments", "apps") and not may(verb, "virtualservices", "networking.istio.io") and not may(verb, "pods")


def test_its_configuration_leads_to_what_our_roles_bring(documents: list[Json]) -> None:
    (config,) = [yaml.safe_load(it["data"]["config.yaml"]) for it in documents if it["kind"] == "ConfigMap"]
    assert config["auth"]["strategy"] == "token" and config["deployment"]["view_only_mode"] is True
    assert config["login_token"]["signing_key"] == "secret:kiali-signing-key:key"
    services = config["external_services"]
    assert services["prometheus"]["url"] == "http://prometheus.monitoring.svc.cluster.local:9090"
    assert services["tracing"]["internal_url"] == "http://jaeger.tracing.svc.cluster.local:16686"
    (workload,) = [it for it in documents if it["kind"] == "Deployment"]
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "registry.example.com/progressive/kiali/kiali:v2.29.0", "as the inventory's registry has it"
    ports = {port["name"] for port in container["ports"]}
    (policy,) = [it for it in documents if it["kind"] == "NetworkPolicy"]
    assert {port["port"] for flow in policy["spec"]["ingress"] for port in flow["ports"]} == ports
