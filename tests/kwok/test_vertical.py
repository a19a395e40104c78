# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""VPA's real recommender and updater, with the VerticalPodAutoscalers that role autoscaling sends, on a control plane whose nodes and pods are KWOK's.

What containers use is told by `Usage`, which the API server asks as it asks metrics-server. PostgreSQL and the agents are those that their roles send, in the
namespace that role baseline makes. These tests go on from each other: advice first, then what is done by it.
"""

from __future__ import annotations

import json
import ssl
import threading
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._health import autoscalers
from ansible_collections.progressive.platform.plugins.module_utils._health.cluster import Cluster as Seen
from ansible_collections.progressive.platform.plugins.module_utils._health.model import Finding
from ansible_collections.progressive.platform.plugins.module_utils._health.scene import Scene
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.plugins.module_utils._preflight.quantities import quantity
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock
from ansible_collections.progressive.platform.tests.kwok import lab
from ansible_collections.progressive.platform.tests.unit.roles import rendering

pytestmark = pytest.mark.slow  # what it runs is compiled for many minutes

Json = dict[str, Any]
NAMESPACE = "progressive-framework-prod"
MODULE = "k8s.io/autoscaler/vertical-pod-autoscaler@v1.8.1"
RECOMMENDER, UPDATER = "vpa-recommender", "vpa-updater"
MI = 1024 * 1024
# mca's size may be set, as far as nothing else counts by it; the others' is advice.
VERTICAL: Json = {
    "mca-deployment": {
        "container": "mca",
        "resources": ["memory"],
        "mode": "InPlaceOrRecreate",
        "min": {"memory": "256Mi"},
        "max": {"memory": "2Gi"},
    },
    "npa-deployment": {"container": "npa", "resources": ["memory"], "min": {"memory": "512Mi"}, "max": {"memory": "2Gi"}},
    "postgres": {"kind": "StatefulSet", "min": {"cpu": "250m", "memory": "1Gi"}, "max": {"cpu": 4, "memory": "8Gi"}},
}
VARIABLES: Json = {
    "platform_components": ["baseline", "postgresql", "agents", "autoscaling"],
    "platform_metrics_provider": "none",
    "autoscaling_vertical": VERTICAL,
}
# By container, in cores and bytes: postgres uses more cores than it may ever ask for, npa next to nothing.
USED: dict[str, tuple[float, int]] = {
    "postgres": (10.0, 3072 * MI),
    "mca": (0.1, 450 * MI),
    "npa": (0.01, 20 * MI),
    "proxy": (0.05, 900 * MI),
}


class Usage:
    """metrics.k8s.io as metrics-server serves it: what each container of the namespace uses.

    For the recommender, which asks for all pods at once, a minute passes between two looks, and it is told to trust a minute as it would a day.
    A horizontal autoscaler asks for its own pods and is told the time.
    """

    def __init__(self, cluster: lab.Cluster) -> None:
        self.used, self.looks, self.began = dict(USED), 0, datetime.now(UTC) - timedelta(hours=12)
        self.cluster = cluster
        usage = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path, _mark, query = self.path.partition("?")
                body = json.dumps(usage.answer(path, dict(urllib.parse.parse_qsl(query)))).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cluster.folder / "server.crt", cluster.folder / "server.key")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str, query: dict[str, str]) -> Json:
        version = "metrics.k8s.io/v1beta1"
        if not path.endswith("/pods"):
            kind = {"name": "pods", "singularName": "", "namespaced": True, "kind": "PodMetrics", "verbs": ["get", "list"]}
            return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": [kind]}
        selector, at = query.get("labelSelector"), datetime.now(UTC)
        if not selector:
            self.looks += 1
            at = self.began + timedelta(minutes=self.looks)
        with self.cluster.client() as client:
            pods = client.list(client.resource("v1", "Pod"), NAMESPACE, labelSelector=selector)["items"]
        when = {"timestamp": at.strftime("%Y-%m-%dT%H:%M:%SZ"), "window": "1s"}
        items = [{"metadata": pod["metadata"], **when, "containers": self.measured(pod)} for pod in pods]
        return {"kind": "PodMetricsList", "apiVersion": version, "metadata": {}, "items": items}

    def measured(self, pod: Json) -> list[Json]:
        known = [(it["name"], *self.used[it["name"]]) for it in pod["spec"]["containers"] if it["name"] in self.used]
        return [{"name": name, "usage": {"cpu": f"{cores * 1000:.0f}m", "memory": str(memory)}} for name, cores, memory in known]

    def register(self, client: Client) -> None:
        port = self.server.server_address[1]
        spec = {
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "service": {"namespace": NAMESPACE, "name": "usage", "port": port},
            "insecureSkipTLSVerify": True,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        }
        api = {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": "v1beta1.metrics.k8s.io"},
            "spec": spec,
        }
        lab.send(client, lab.loopback("usage", NAMESPACE), api, namespace=NAMESPACE)

    def look(self, times: int) -> None:
        before = self.looks
        lab.until(lambda: self.looks >= before + times, f"the recommender asks {times} times")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab.Cluster]:
    if reason := lab.missing(RECOMMENDER, UPDATER):
        pytest.skip(reason)
    with lab.clusters(tmp_path_factory.mktemp("vertical"), ["one"]) as (made,):
        with made.client() as client:
            lab.define(client, lab.module(MODULE) / "deploy/vpa-v1-crd-gen.yaml")
        yield made


@pytest.fixture(scope="module")
def usage(cluster: lab.Cluster) -> Iterator[Usage]:
    """The platform's namespace with what is in it, and the recommender, which looks every second; an updater is started by the tests."""
    served = Usage(cluster)
    with cluster.client() as client:
        fill(client, served)
    (port,) = lab.free_ports(1)
    quick = ["--recommender-interval=1s", "--confidence-interval-cpu=1m", "--confidence-interval-memory=1m"]
    own = [f"--kubeconfig={cluster.admin}", f"--address=127.0.0.1:{port}", f"--vpa-object-namespace={NAMESPACE}"]
    cluster.start(RECOMMENDER, [lab.CACHE / RECOMMENDER, *own, *quick, "--v=4"])
    yield served
    served.server.shutdown()


def fill(client: Client, usage: Usage) -> None:
    """Databases have three nodes and volumes of their own; the agents scale by processor time alone; mca has a proxy beside it, as in a mesh."""
    services = rendering.Cluster("production", VARIABLES).value("agents", "agents_services")
    counted = {
        name: {**services[name], "scaling": {**services[name].get("scaling", {}), "min": 2, "memory": None}} for name in ("mca", "npa")
    }
    rendered = rendering.Cluster("production", {**VARIABLES, "agents_services": counted})
    for number in range(3):
        node = lab.node(f"database-{number}")
        node["metadata"]["labels"].update(rendered.value("autoscaling", "platform_pools")["database"]["labels"])
        lab.send(client, node, namespace="")
    baseline = [it for it in rendered.documents("baseline") if it["kind"] in ("Namespace", "PriorityClass", "ResourceQuota", "LimitRange")]
    lab.send(client, *sorted(baseline, key=lambda it: it["kind"] != "Namespace"), namespace=NAMESPACE)
    agents = [it for it in rendered.documents("agents") if {"mca", "npa"} & set(it["metadata"]["name"].split("-"))]
    (mca,) = [it for it in agents if it["metadata"]["name"] == "mca-deployment"]
    containers = mca["spec"]["template"]["spec"]["containers"]
    containers.append({"name": "proxy", "image": "none", "securityContext": containers[0]["securityContext"]})
    wanted = ("ServiceAccount", "PodDisruptionBudget", "HorizontalPodAutoscaler", "Deployment", "StatefulSet")
    documents = [it for it in [*agents, *rendered.documents("postgresql")] if it["kind"] in wanted]
    (postgres,) = [it for it in documents if it["kind"] == "StatefulSet"]
    lab.send(client, *lab.volumes(postgres, 3), *documents, *rendered.documents("autoscaling"), namespace=NAMESPACE)
    usage.register(client)
    lab.until(lambda: {name: len(own) for name, own in pods(client).items()} == {"mca": 2, "npa": 2, "postgres": 3}, "every pod is Ready")


def pods(client: Client) -> dict[str, list[Json]]:
    """The Ready pods of each app that are not leaving."""
    found: dict[str, list[Json]] = {}
    for pod in client.list(client.resource("v1", "Pod"), NAMESPACE)["items"]:
        if lab.is_ready(pod) and not pod["metadata"].get("deletionTimestamp"):
            found.setdefault(pod["metadata"]["labels"]["app"], []).append(pod)
    return found


def sizes(own: list[Json]) -> dict[str, Json]:
    """What each container of each pod may have, by the pod's uid."""
    return {pod["metadata"]["uid"]: {it["name"]: it.get("resources") for it in pod["spec"]["containers"]} for pod in own}


def memory(pod: Json, kind: str = "requests") -> float:
    return float(quantity(pod["spec"]["containers"][0]["resources"][kind]["memory"]))


def advice(client: Client, name: str) -> list[Json]:
    item = client.get(client.resource("autoscaling.k8s.io/v1", "VerticalPodAutoscaler").path(NAMESPACE, name))
    found: list[Json] = ((item.get("status") or {}).get("recommendation") or {}).get("containerRecommendations") or []
    return found


def target(client: Client, name: str, resource: str = "memory") -> float:
    (only,) = advice(client, name)
    return float(quantity(only["target"][resource]))


def health(client: Client) -> Finding:
    scene = Scene(Seen(client, Clock()), Clock())
    return autoscalers.recommendations({"namespace": NAMESPACE, "names": list(VERTICAL)}, scene, 60.0)


class Updater:
    """The real one, which looks every second; nobody stands beside it who would change pods as they are made."""

    def __init__(self, cluster: lab.Cluster) -> None:
        self.cluster = cluster
        (port,) = lab.free_ports(1)
        own = [f"--kubeconfig={cluster.admin}", f"--address=127.0.0.1:{port}", f"--vpa-object-namespace={NAMESPACE}"]
        cluster.start(UPDATER, [lab.CACHE / UPDATER, *own, "--updater-interval=1s", "--use-admission-controller-status=false", "--v=4"])

    @property
    def log(self) -> str:
        return (self.cluster.folder / f"{UPDATER}.log").read_text()

    def look(self, times: int) -> None:
        """Each look passes over the ones that are advice alone, and says so."""

        def looks() -> int:
            assert self.cluster.processes[UPDATER].poll() is None, self.log[-3000:]
            return self.log.count("Skipping VPA object because its mode is not")

        before, advised = looks(), len(VERTICAL) - 1
        lab.until(lambda: looks() >= before + times * advised, f"{times} looks of the updater: {self.log[-3000:]}")


@pytest.fixture
def updater(cluster: lab.Cluster, usage: Usage) -> Iterator[Updater]:
    yield Updater(cluster)
    cluster.stop(UPDATER)


def test_advice_keeps_to_the_bounds_and_to_what_is_ours_to_change(cluster: lab.Cluster, usage: Usage) -> None:
    with cluster.client() as client:
        lab.until(lambda: all(advice(client, name) for name in VERTICAL), "everybody has advice")
        usage.look(3)
        for name, spec in VERTICAL.items():
            (only,) = advice(client, name)
            assert only["containerName"] == spec.get("container", name), "nobody advises a proxy"
            for bound in ("lowerBound", "target", "upperBound"):
                assert set(only[bound]) == set(spec["min"]), "and no resource that a horizontal autoscaler counts by"
                for resource, value in only[bound].items():
                    assert quantity(spec["min"][resource]) <= quantity(value) <= quantity(spec["max"][resource]), (name, bound, value)
        (postgres,) = advice(client, "postgres")
        assert quantity(postgres["target"]["cpu"]) == 4 < quantity(postgres["uncappedTarget"]["cpu"]), "its largest"
        assert target(client, "npa-deployment") == 512 * MI, "its smallest"
        for name, container in {"mca-deployment": "mca", "postgres": "postgres"}.items():
            used = USED[container][1]
            assert used * 1.1 < target(client, name) < used * 1.3, "what is used and 15 % more"


def test_health_holds_requests_beside_real_advice(cluster: lab.Cluster, usage: Usage) -> None:
    with cluster.client() as client:
        found = health(client)
    assert not found.ok
    problems = [problem.partition(", at least ") for problem in found.details["problems"]]
    assert [(asks, least) for asks, _words, least in problems if "mca" not in asks and "1Gi" not in asks] == [
        ("npa-deployment: container npa asks for 128Mi memory", "512Mi is recommended"),
        ("postgres: container postgres asks for 500m cpu", "4 is recommended"),
    ]
    assert [asks for asks, _words, _least in problems if "mca" in asks or "1Gi" in asks] == [
        "mca-deployment: container mca asks for 256Mi memory",
        "postgres: container postgres asks for 1Gi memory",
    ]


def test_who_may_be_set_is_set_where_it_stands_and_nobody_else(cluster: lab.Cluster, usage: Usage, updater: Updater) -> None:
    with cluster.client() as client:
        before = pods(client)
        lab.until(lambda: all(memory(pod) > USED["mca"][1] for pod in pods(client)["mca"]), "mca has what is advised")
        updater.look(3)
        after = pods(client)
        wanted = target(client, "mca-deployment")
        assert sizes(after["mca"]).keys() == sizes(before["mca"]).keys(), "in place: not one pod was started again"
        for pod in after["mca"]:
            own, proxy = pod["spec"]["containers"]
            assert memory(pod) == wanted and memory(pod, "limits") == pytest.approx(4 * wanted, rel=0.01), "limits in proportion"
            assert own["resources"]["requests"]["cpu"] == "250m", "by which its horizontal autoscaler counts"
            assert proxy["resources"] == before["mca"][0]["spec"]["containers"][1]["resources"]
        assert {app: sizes(after[app]) for app in ("npa", "postgres")} == {app: sizes(before[app]) for app in ("npa", "postgres")}, (
            "advice alone"
        )
        events = client.list(client.resource("v1", "Event"), NAMESPACE, fieldSelector="reason=InPlaceResizedByVPA")["items"]
        assert {it["involvedObject"]["uid"] for it in events} == set(sizes(after["mca"]))
        assert {problem.partition(":")[0] for problem in health(client).details["problems"]} == {"npa-deployment", "postgres"}
        lab.until(lambda: seen(client).ok, f"the horizontal autoscalers count on: {seen(client).message}")


def seen(client: Client) -> Finding:
    return autoscalers.autoscalers(
        {"namespace": NAMESPACE, "owner": "", "api": "", "keda": False}, Scene(Seen(client, Clock()), Clock()), 60.0
    )


def test_where_a_node_has_no_room_a_pod_is_evicted_within_its_budget(cluster: lab.Cluster, usage: Usage, updater: Updater) -> None:
    """A kubelet says Infeasible; KWOK's says nothing, so it is said here."""
    with cluster.client() as client:
        stuck, other = (pod["metadata"] for pod in pods(client)["mca"])
        condition = {"type": "PodResizePending", "status": "True", "reason": "Infeasible", "message": "Node didn't have enough capacity"}
        path = client.resource("v1", "Pod").path(NAMESPACE, stuck["name"])
        merge = "application/strategic-merge-patch+json"
        client.request("PATCH", f"{path}/status", {"status": {"conditions": [condition]}}, content_type=merge)
        refused = f"mca-deployment: pod {stuck['name']} has not been given the size that it asks for: Infeasible"
        assert any(problem.startswith(refused) for problem in health(client).details["problems"])
        usage.used["mca"] = (0.1, 800 * MI)

        def moved() -> bool:
            own = {pod["metadata"]["uid"]: memory(pod) for pod in pods(client).get("mca", [])}
            return len(own) == 2 and stuck["uid"] not in own and other["uid"] in own and min(own.values()) > 800 * MI

        lab.until(moved, f"one pod is another, both have what is advised: {updater.log[-3000:]}")
        events = client.list(client.resource("v1", "Event"), NAMESPACE, fieldSelector="reason=EvictedByVPA")["items"]
        assert {it["involvedObject"]["uid"] for it in events} == {stuck["uid"]}, "and nobody else, advised or not"


def test_health_is_green_when_all_ask_for_what_is_advised(cluster: lab.Cluster, usage: Usage) -> None:
    """Whoever is only advised changes the size himself: the variables of the roles."""
    with cluster.client() as client:
        for kind, name, request in [
            ("StatefulSet", "postgres", {"cpu": "4", "memory": "4Gi"}),
            ("Deployment", "npa-deployment", {"memory": "512Mi"}),
        ]:
            path = client.resource("apps/v1", kind).path(NAMESPACE, name)
            item = client.get(path)
            resources = item["spec"]["template"]["spec"]["containers"][0]["resources"]
            resources["requests"].update(request)
            resources["limits"].update({"cpu": "8", "memory": "8Gi"})
            client.request("PUT", path, item)
        for pod in pods(client)["postgres"]:  # which role postgresql would start again, one after the other
            client.request("DELETE", client.resource("v1", "Pod").path(NAMESPACE, pod["metadata"]["name"]))
        lab.until(lambda: health(client).ok, f"health is green: {health(client).message}")
