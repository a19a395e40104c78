# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What role tracing sends, what the application, the agents and the mesh get where it is on, and that nothing of it is there otherwise."""

from __future__ import annotations

import functools
import typing as t

import pytest
import yaml
from ansible_collections.progressive.platform.plugins.module_utils._preflight.quantities import quantity
from ansible_collections.progressive.platform.tests.unit.roles.rendering import COMPONENTS, INVENTORIES, Cluster

Document = dict[str, t.Any]
each_inventory = pytest.mark.parametrize("inventory", INVENTORIES)
CHANGES = {"platform_components": [*COMPONENTS, "tracing"]}
COLLECTOR = "otel-collector.tracing.svc.cluster.local"
LOGIN = {"username": "${env:STORAGE_USERNAME}", "password": "${env:STORAGE_PASSWORD}"}


@functools.cache
def manifests(inventory: str, role: str = "tracing") -> list[Document]:
    return list(Cluster(inventory, CHANGES).documents(role))


def of(kind: str, documents: list[Document]) -> dict[str, Document]:
    return {document["metadata"]["name"]: document for document in documents if document["kind"] == kind}


def workloads(documents: list[Document]) -> dict[str, Document]:
    return of("Deployment", documents) | of("StatefulSet", documents)


def config(name: str, documents: list[Document]) -> Document:
    made: Document = yaml.safe_load(of("ConfigMap", documents)[f"{name}-config"]["data"]["config.yaml"])
    return made


def environment(document: Document) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in document["spec"]["template"]["spec"]["containers"][0]["env"]}


@each_inventory
def test_every_pod_is_restricted_and_bounded(inventory: str) -> None:
    documents = manifests(inventory)
    (namespace,) = of("Namespace", documents).values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert set(workloads(documents)) == set(of("PodDisruptionBudget", documents)) == {"otel-collector", "jaeger"}
    for name, workload in workloads(documents).items():
        pod = workload["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] and pod["automountServiceAccountToken"] is False
        (container,) = pod["containers"]
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] and security["capabilities"] == {"drop": ["ALL"]}
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
        limits = container["resources"]["limits"]
        for resource, wanted in container["resources"]["requests"].items():
            assert quantity(wanted) <= quantity(limits[resource])
        # Go gives memory back before its limit is reached.
        assert quantity(limits["memory"]) * 3 // 4 < quantity(environment(workload)["GOMEMLIMIT"]) < quantity(limits["memory"]), name
        budget = of("PodDisruptionBudget", documents)[name]
        assert budget["spec"]["selector"]["matchLabels"] == workload["spec"]["selector"]["matchLabels"]
    for service in of("Service", documents).values():
        ports = workloads(documents)[service["spec"]["selector"]["app"]]["spec"]["template"]["spec"]["containers"][0]["ports"]
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= {port["name"] for port in ports}


@each_inventory
def test_spans_go_from_the_collector_to_jaeger_and_no_queue_is_without_a_limit(inventory: str) -> None:
    collector, jaeger = config("otel-collector", manifests(inventory)), config("jaeger", manifests(inventory))
    for one in (collector, jaeger):
        (pipeline,) = one["service"]["pipelines"].values()
        assert pipeline["processors"][0] == "memory_limiter", "refused before anything else is done with it"
        assert set(pipeline["processors"]) == set(one["processors"])
        assert set(pipeline["receivers"]) == set(one["receivers"]) and set(pipeline["exporters"]) == set(one["exporters"])
    exporter = collector["exporters"]["otlp"]
    host, _colon, port = exporter["endpoint"].partition(":")
    service = of("Service", manifests(inventory))[host.split(".")[0]]
    assert host.split(".")[1] == service["metadata"]["namespace"]
    assert int(port) in [one["port"] for one in service["spec"]["ports"]]
    assert exporter["sending_queue"]["sizer"] == "items" and exporter["sending_queue"]["queue_size"] > 0
    assert exporter["retry_on_failure"]["max_elapsed_time"] != "0s", "for ever"
    assert jaeger["exporters"]["jaeger_storage_exporter"]["trace_storage"] in jaeger["extensions"]["jaeger_storage"]["backends"]
    assert set(jaeger["service"]["extensions"]) == set(jaeger["extensions"])


@pytest.mark.parametrize(
    ("changes", "backend", "volume"),
    [
        ({"tracing_storage": "memory"}, {"memory": {"max_traces": 20000}}, False),
        (
            {"tracing_storage": "badger", "tracing_retention": 24},
            {"badger": {"directories": {"keys": "/data/keys", "values": "/data/values"}, "ephemeral": False, "ttl": {"spans": "24h"}}},
            True,
        ),
        (
            {
                "tracing_storage": "opensearch",
                "tracing_servers": ["https://search:9200"],
                "tracing_secret": "search",
                "tracing_storage_settings": {"indices": {"index_prefix": "shop"}},
            },
            {"opensearch": {"server_urls": ["https://search:9200"], "auth": {"basic": LOGIN}, "indices": {"index_prefix": "shop"}}},
            False,
        ),
        (
            {"tracing_storage": "cassandra", "tracing_servers": ["c-0:9042"], "tracing_storage_settings": {"schema": {"keyspace": "shop"}}},
            {"cassandra": {"connection": {"servers": ["c-0:9042"], "auth": {}}, "schema": {"keyspace": "shop", "create": True}}},
            False,
        ),
    ],
)
def test_storage_is_what_the_variable_says(changes: dict[str, t.Any], backend: Document, volume: bool) -> None:
    documents = list(Cluster("production", CHANGES | changes).documents("tracing"))
    assert config("jaeger", documents)["extensions"]["jaeger_storage"]["backends"] == {"main": backend}
    jaeger = workloads(documents)["jaeger"]
    assert bool(jaeger["spec"].get("volumeClaimTemplates")) is volume
    assert any(mount["mountPath"] == "/data" for mount in jaeger["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]) is volume
    named = {one["name"]: one.get("valueFrom") for one in jaeger["spec"]["template"]["spec"]["containers"][0]["env"]}
    if "tracing_secret" in changes:
        assert named["STORAGE_PASSWORD"] == {"secretKeyRef": {"name": "search", "key": "password"}}
    else:
        assert "STORAGE_PASSWORD" not in named


@each_inventory
@pytest.mark.parametrize("role", ["app", "agents"])
def test_services_send_spans_where_tracing_is_and_only_there(inventory: str, role: str) -> None:
    def base(changes: dict[str, t.Any]) -> Document:
        made: Document = Cluster(inventory, changes).value(role, f"__{role}_base")
        return made

    before, after = base({}), base(CHANGES)
    assert not any(value for name, value in before["environment"].items() if name.startswith("OTEL_")) and "tracing" not in str(before)
    told = {name: value for name, value in after["environment"].items() if name.startswith("OTEL_") and value is not None}
    assert told == {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{COLLECTOR}:4317",
        "OTEL_RESOURCE_ATTRIBUTES": f"service.namespace={Cluster(inventory).value('catalog', 'platform_namespace')}",
        "OTEL_SERVICE_NAME": "{name}",
        "OTEL_TRACES_SAMPLER_ARG": Cluster(inventory, CHANGES).value("catalog", "platform_tracing_ratio"),
    }
    (flow,) = [flow for flow in after["network"]["to"] if flow not in before["network"]["to"]]
    (namespace,) = of("Namespace", manifests(inventory)).values()
    collector = workloads(manifests(inventory))["otel-collector"]["spec"]["template"]["metadata"]["labels"]
    assert flow["namespaces"].items() <= namespace["metadata"]["labels"].items() and flow["pods"].items() <= collector.items()
    assert flow["ports"] == [4317]


@pytest.mark.parametrize("role", ["app", "agents"])
def test_in_the_mesh_the_sending_of_spans_is_not_to_be_traced(role: str) -> None:
    told = Cluster("production", {"platform_components": [*COMPONENTS, "istio", "tracing"]}).value(role, f"__{role}_base")["environment"]
    version, trace, caller, flags = told["OTEL_EXPORTER_OTLP_HEADERS"].removeprefix("traceparent=").split("-")
    assert (version, len(trace), len(caller), flags) == ("00", 32, 16, "00"), "a caller's decision, and it is no"
    without = Cluster("production", {"platform_components": [*COMPONENTS, "istio"]}).value(role, f"__{role}_base")["environment"]
    assert not without["OTEL_EXPORTER_OTLP_HEADERS"]


def test_a_service_is_called_by_its_own_name() -> None:
    for name, deployment in of("Deployment", manifests("local", "agents")).items():
        told = environment(deployment)
        assert told["OTEL_SERVICE_NAME"] == deployment["spec"]["selector"]["matchLabels"]["app"], name
        assert told["OTEL_TRACES_SAMPLER_ARG"] == "1.0"
    for policy in of("NetworkPolicy", manifests("local", "agents")).values():
        assert {"port": 4317, "protocol": "TCP"} in [port for flow in policy["spec"]["egress"] for port in flow["ports"]]


@pytest.mark.parametrize("inventory", ["local", "production"])
def test_proxies_of_the_mesh_send_spans_too(inventory: str) -> None:
    def istio(tracing: bool) -> tuple[Cluster, Document, list[Document]]:
        components = [*COMPONENTS, "istio", *(["tracing"] if tracing else [])]
        cluster = Cluster(inventory, {"platform_components": components})
        return cluster, cluster.value("istio", "__istio_operator")["spec"]["meshConfig"], list(cluster.documents("istio"))

    cluster, mesh, documents = istio(tracing=True)
    assert mesh["extensionProviders"] == [{"name": "tracing", "opentelemetry": {"service": COLLECTOR, "port": 4317}}]
    (telemetry,) = of("Telemetry", documents).values()
    percent = cluster.value("catalog", "platform_tracing_ratio") * 100
    assert telemetry["spec"] == {"tracing": [{"providers": [{"name": "tracing"}], "randomSamplingPercentage": percent}]}
    assert all("tracing/*" in sidecar["spec"]["egress"][0]["hosts"] for sidecar in of("Sidecar", documents).values())
    assert of("Sidecar", documents), "or the line above says nothing"
    _unused, mesh, documents = istio(tracing=False)
    assert not mesh["extensionProviders"] and not of("Telemetry", documents) and "tracing" not in str(documents)


def matches(selector: Document, labels: dict[str, str]) -> bool:
    there = [one["key"] in labels for one in selector.get("matchExpressions", []) if one["operator"] == "Exists"]
    assert set(selector) <= {"matchLabels", "matchExpressions"} and len(there) == len(selector.get("matchExpressions", []))
    return all(there) and selector.get("matchLabels", {}).items() <= labels.items()


def passes(policies: list[Document], direction: str, port: int | str, namespace: dict[str, str], pod: dict[str, str]) -> bool:
    """Whether one of the policies has a rule for a pod of another namespace; a peer without a namespace is one of the policy's own."""
    return any(
        "namespaceSelector" in peer and matches(peer["namespaceSelector"], namespace) and matches(peer.get("podSelector", {}), pod)
        for policy in policies
        for rule in policy["spec"].get(direction) or []
        if port in [one["port"] for one in rule.get("ports", [])]
        for peer in rule.get("to" if direction == "egress" else "from", [])
    )


@pytest.mark.parametrize(
    ("mode", "api"),
    [("sidecar", True), ("sidecar", False), ("ambient", True)],
    ids=["Gateway API", "Istio's own API", "ambient"],
)
def test_no_policy_holds_back_the_spans_of_a_proxy(mode: str, api: bool) -> None:
    """Those of the edge, of guards and of pods whose application sends none; to the collector's namespace and no other. In an ambient mesh the edge alone has
    a proxy, and the waypoint, which is a gateway to these policies as well."""
    changes = {
        "platform_components": [*COMPONENTS, "istio", "gateway", "tracing"],
        "istio_mode": mode,
        "gateway_api": api,
        "istio_namespaces": ["progressive-framework-prod", "shop"],
        "gateway_uis": {"jaeger": {"host": "jaeger.example.com"}},
        "gateway_ui_login": {"users": "edge-ui-users"},
    }
    cluster = Cluster("production", changes)
    documents = [one for role in ("baseline", "istio", "gateway", "app", "agents") for one in cluster.documents(role)]
    home, tracing = str(cluster.value("catalog", "platform_namespace")), list(cluster.documents("tracing"))
    pods = [one["spec"]["template"]["metadata"]["labels"] for one in of("Deployment", documents).values()] if mode == "sidecar" else []
    if api:
        infrastructure = of("Gateway", documents)["edge"]["spec"]["infrastructure"]["labels"]
        pods.append({**infrastructure, "gateway.networking.k8s.io/gateway-name": "edge"})
    assert {"edge"} <= {pod["app"] for pod in pods} and (mode == "ambient" or {"edge-ui-jaeger", "mca"} <= {pod["app"] for pod in pods})
    (space,) = of("Namespace", tracing).values()
    there = {**space["metadata"]["labels"], "kubernetes.io/metadata.name": space["metadata"]["name"]}
    collector = workloads(tracing)["otel-collector"]["spec"]["template"]["metadata"]["labels"]
    received = [of("NetworkPolicy", tracing)["otel-collector"]]
    policies = [one for one in documents if one["kind"] == "NetworkPolicy" and one["metadata"].get("namespace", home) == home]
    for labels in pods:
        own = [one for one in policies if matches(one["spec"]["podSelector"], labels)]
        assert passes(own, "egress", 4317, there, collector), labels
        assert not passes(own, "egress", 4317, {"kubernetes.io/metadata.name": "elsewhere"}, collector), labels
        for name, expected in ((home, True), ("shop", True), ("elsewhere", False)):
            assert passes(received, "ingress", "otlp-grpc", {"kubernetes.io/metadata.name": name}, labels) is expected, name
    further = [one for one in documents if one["kind"] == "NetworkPolicy" and one["metadata"].get("namespace") == "shop"]
    assert passes(further, "egress", 4317, there, collector)


def test_another_collector_needs_no_role() -> None:
    elsewhere = {"platform_tracing": True, "platform_tracing_collector": "collector.observability.svc:4320"}
    cluster = Cluster("production", elsewhere)
    assert cluster.value("app", "__app_base")["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector.observability.svc:4320"
