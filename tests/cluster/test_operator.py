# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The operator on a real API server, in a namespace of the test's own with a Redis Cluster (`make operator` before).

PROGRESSIVE_WRITE_DOCS=1 writes the table of docs/operator.md anew; with PROGRESSIVE_THERE=1 the platform of the namespace is there already, and stays.
"""

from __future__ import annotations

import copy
import http.client
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import APPLY, ApiError, Client
from ansible_collections.progressive.platform.tests.cluster.playbooks import ROOT, installed

DOCS = ROOT / "docs/operator.md"
NAMESPACE, HOME = "operator-probes", "operator-probes-operator"
AGENTS = f"/apis/progressive.platform/v1beta1/namespaces/{NAMESPACE}/agents"
USER = f"system:serviceaccount:{HOME}:operator"
HUNDRED = 100
MEASURED: dict[str, str] = {}

pytestmark = [pytest.mark.slow, pytest.mark.operator]

Json = dict[str, Any]


def until(what: Callable[[], Any], seconds: float, words: Callable[[], str] = lambda: "", pause: float = 0.2) -> Any:
    """The first true answer; fails with what was seen last."""
    end = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds:g} s: {words()}"
        time.sleep(pause)


class Scene:
    """The namespace, and ways to ask."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def make(self, name: str, version: str = "v1beta1", dry_run: str | None = None, **spec: Any) -> Json:
        body = {
            "apiVersion": f"progressive.platform/{version}",
            "kind": "Agent",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"specialization": "sleep", **spec},
        }
        path = AGENTS.replace("v1beta1", version) + f"/{name}"
        query = {"fieldManager": "probe", "fieldValidation": "Strict", "dryRun": dry_run, "force": True}
        return self.client.request("PATCH", path, body, query=query, content_type=APPLY)[2]

    def agent(self, name: str) -> Json:
        return self.client.find(f"{AGENTS}/{name}") or {}

    def condition(self, name: str, kind: str = "Ready") -> Json:
        found = {entry["type"]: entry for entry in self.agent(name).get("status", {}).get("conditions", [])}
        return found.get(kind, {})

    def ready(self, name: str, seconds: float = 120.0) -> None:
        until(lambda: self.condition(name).get("status") == "True", seconds, lambda: json.dumps(self.agent(name).get("status")))

    def owned(self, name: str) -> dict[str, Json]:
        found = {}
        for api_version, kind in (
            ("apps/v1", "Deployment"),
            ("v1", "Service"),
            ("v1", "ServiceAccount"),
            ("v1", "ConfigMap"),
            ("autoscaling/v2", "HorizontalPodAutoscaler"),
            ("policy/v1", "PodDisruptionBudget"),
            ("networking.k8s.io/v1", "NetworkPolicy"),
        ):
            for item in self.client.list(self.client.resource(api_version, kind), NAMESPACE)["items"]:
                owners = item["metadata"].get("ownerReferences") or []
                if any((it["kind"], it["name"]) == ("Agent", name) for it in owners):
                    found[f"{kind}/{item['metadata']['name']}"] = item
        return found

    def path(self, kind: str, name: str) -> str:
        api_version = {"Deployment": "apps/v1", "PodDisruptionBudget": "policy/v1"}.get(kind, "v1")
        return self.client.resource(api_version, kind).path(NAMESPACE, name)

    def delete(self, *names: str) -> None:
        for name in names:
            self.client.request("DELETE", f"{AGENTS}/{name}")
        for name in names:
            until(lambda name=name: not self.owned(name), 90, lambda name=name: str(list(self.owned(name))))  # type: ignore[misc]

    def pods(self) -> list[Json]:
        found = self.client.get(f"/api/v1/namespaces/{HOME}/pods", labelSelector="app=operator")["items"]
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def metric(self, name: str) -> float:
        """Of the pod that leads, by its address: this machine reaches the pods of its cluster."""
        for pod in self.pods():
            try:
                connection = http.client.HTTPConnection(pod["status"]["podIP"], 8080, timeout=5)
                connection.request("GET", "/metrics")
                text = connection.getresponse().read().decode()
            except (OSError, http.client.HTTPException, KeyError):
                continue
            if "operator_leader 1.0" in text:
                found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
                return float(found[1]) if found else -1.0
        return -1.0

    def leading(self) -> None:
        until(lambda: self.metric("operator_leader") == 1.0, 90)

    def scale(self, replicas: int) -> None:
        self.client.request(
            "PATCH",
            f"/apis/apps/v1/namespaces/{HOME}/deployments/operator",
            {"spec": {"replicas": replicas}},
            content_type="application/merge-patch+json",
        )


@pytest.fixture(scope="module")
def scene(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    wanted = {
        "platform_namespace": NAMESPACE,
        "platform_components": ["baseline", "redis_cluster", "operator"],
        "operator_platform": {"intervalSeconds": 10, "timeoutSeconds": 10},
    }
    with installed(tmp_path_factory.mktemp("operator"), wanted):
        found = Scene(client)
        found.leading()
        yield found


# ---- what the schema refuses --------------------------------------------------------------------------------------------------

REFUSED: list[tuple[str, Json, str]] = [
    ("Upper", {}, "lower case"),
    ("9lives", {}, "begins with a letter"),
    ("with.dot", {}, "begins with a letter"),
    ("a" * 41, {}, "at most 40"),
    ("ends-", {}, "lower case"),
    ("spa", {"specialization": None}, "specialization"),
    ("spa", {"specialization": ""}, "specialization"),
    ("spa", {"specialization": "Sleep Well"}, "specialization"),
    ("spa", {"specialization": "s" * 51}, "specialization"),
    ("spa", {"specialization": 7}, "specialization"),
    ("spa", {"image": "agents"}, "a tag or a digest"),
    ("spa", {"image": "agents:latest"}, "not latest"),
    ("spa", {"image": "agents:1\n          hostNetwork: true"}, "image"),
    ("spa", {"image": "registry.example.com:5000/agents"}, "a tag or a digest"),
    ("spa", {"environment": {"1ST": "x"}}, "does not begin with a digit"),
    ("spa", {"environment": {"A, value: x}": "x"}}, "a variable has letters"),
    ("spa", {"environment": {"REDIS_PASSWORD_FILE": "/tmp/x"}}, "the platform itself sets"),
    ("spa", {"environment": {"AGENT_TYPE": "mca"}}, "the platform itself sets"),
    ("spa", {"environment": {"A": 1}}, "environment"),
    ("spa", {"environment": {f"V{number}": "" for number in range(65)}}, "65"),
    ("spa", {"config": {"a-b": "x"}}, "a key has letters"),
    ("spa", {"replicas": -1}, "replicas"),
    ("spa", {"replicas": 101}, "replicas"),
    ("spa", {"replicas": 1, "scaling": {"min": 1}}, "either replicas or scaling"),
    ("spa", {"scaling": {"min": 5, "max": 2}}, "min is not more than max"),
    ("spa", {"scaling": {"min": 0}}, "min"),
    ("spa", {"scaling": {"cpu": 101}}, "cpu"),
    ("spa", {"budget": {}}, "one of minAvailable and maxUnavailable"),
    ("spa", {"budget": {"minAvailable": 1, "maxUnavailable": 1}}, "one of minAvailable and maxUnavailable"),
    ("spa", {"budget": {"maxUnavailable": "150%"}}, "maxUnavailable"),
    ("spa", {"resources": {"requests": {"cpu": "a lot"}}}, "cpu"),
    ("spa", {"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}}, "request of memory is not more than its limit"),
    ("spa", {"resources": {"requests": {"cpu": 2}, "limits": {"cpu": "1500m"}}}, "request of cpu is not more than its limit"),
    ("spa", {"pools": []}, "pools"),
    ("spa", {"pools": ["app", "app"]}, "app"),
    ("spa", {"affinitySeconds": 86401}, "affinitySeconds"),
    ("spa", {"graceSeconds": 5}, "graceSeconds"),
    ("spa", {"rules": [{"apiGroups": ["*"]}]}, "rules"),
    ("spa", {"serviceAccountName": "postgres"}, "serviceAccountName"),
    ("spa", {"files": {"x": {"secret": "postgres-auth"}}}, "files"),
]
TAKEN: list[Json] = [
    {},
    {"image": "agents:1", "replicas": 0},
    {"image": f"registry.example.com:5000/agents@sha256:{'a' * 64}"},
    {"environment": {"LOG_LEVEL": "DEBUG"}, "config": {"TONE": "kind"}, "scaling": {"min": 2, "max": 2, "cpu": 50}},
    {
        "budget": {"maxUnavailable": "50%"},
        "resources": {"requests": {"cpu": "1500m", "memory": "1Gi"}, "limits": {"cpu": 2, "memory": "1Gi"}},
    },
    {"pools": ["app", "cache"], "affinitySeconds": 0, "graceSeconds": 25},
]


def test_the_server_refuses_what_makes_no_sense(scene: Scene) -> None:
    wrong = []
    for name, spec, says in REFUSED:
        given = {key: value for key, value in spec.items() if value is not None}
        try:
            if "specialization" in spec and spec["specialization"] is None:
                scene.client.request(
                    "POST",
                    AGENTS,
                    {"apiVersion": "progressive.platform/v1beta1", "kind": "Agent", "metadata": {"name": name}, "spec": {}},
                    query={"dryRun": "All", "fieldValidation": "Strict"},
                )
            else:
                scene.make(name, dry_run="All", **given)
            wrong.append(f"taken: {name} {spec}")
        except ApiError as error:
            if says not in error.server_message:
                wrong.append(f"{name} {spec}: {error.server_message}")
    assert not wrong, "\n".join(wrong)
    for spec in TAKEN:
        scene.make("spa", dry_run="All", **spec)


def test_what_is_not_said_of_a_platform_is_filled_in(scene: Scene) -> None:
    platforms = AGENTS.replace("agents", "progressiveplatforms")
    body = {"apiVersion": "progressive.platform/v1beta1", "kind": "ProgressivePlatform", "metadata": {"name": "bare"}, "spec": {}}
    made = scene.client.request("POST", platforms, body, query={"dryRun": "All"})[2]
    assert made["spec"] == {"intervalSeconds": 60, "timeoutSeconds": 30, "probe": False, "suspended": False}
    for spec in ({"intervalSeconds": 5}, {"timeoutSeconds": 90}, {"components": []}, {"components": ["No Name"]}):
        with pytest.raises(ApiError):
            scene.client.request("POST", platforms, {**body, "spec": spec}, query={"dryRun": "All"})


# ---- an Agent -----------------------------------------------------------------------------------------------------------------


def test_five_lines_give_a_serving_agent(scene: Scene, kubectl: Callable[..., str]) -> None:
    lines = "apiVersion: progressive.platform/v1beta1\nkind: Agent\nmetadata: {name: spa}\nspec:\n  specialization: sleep\n"
    began = time.time()
    kubectl("-n", NAMESPACE, "apply", "-f", "-", stdin=lines)
    scene.ready("spa")
    seconds = time.time() - began
    assert set(scene.owned("spa")) == {
        "ConfigMap/applyset-agent-spa",
        "Deployment/spa-deployment",
        "HorizontalPodAutoscaler/spa-hpa",
        "NetworkPolicy/spa",
        "PodDisruptionBudget/spa-pdb",
        "Service/spa-service",
        "ServiceAccount/spa-sa",
    }
    pod = scene.client.get(f"/api/v1/namespaces/{NAMESPACE}/pods", labelSelector="app=spa")["items"][0]
    turned = {it["type"]: datetime.fromisoformat(it["lastTransitionTime"]).timestamp() for it in pod["status"]["conditions"]}
    itself = turned["Ready"] - datetime.fromisoformat(pod["metadata"]["creationTimestamp"]).timestamp()
    note("an Agent applied, until its status says that it serves", f"{seconds:.1f} s")
    note("of it the pod's own start, by its conditions (whole seconds)", f"{itself:.0f} s")
    answer = ask(pod, 8000, "/health/ready")
    assert answer == 200
    assert seconds <= itself + 1 + 2, f"{seconds:.1f} s for a pod that starts within {itself:.0f} s"
    table = kubectl("-n", NAMESPACE, "get", "agents")
    assert re.search(r"NAME +READY +PODS +WAITING FOR +AGE\nspa +True +1/1", table), table


def ask(pod: Json, port: int, path: str) -> int:
    connection = http.client.HTTPConnection(pod["status"]["podIP"], port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("an object deleted", lambda scene: scene.client.request("DELETE", scene.path("Service", "spa-service"))),
        (
            "a field changed by kubectl",
            lambda scene: scene.client.request(
                "PATCH",
                scene.path("Deployment", "spa-deployment"),
                {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}},
                query={"fieldManager": "kubectl-edit"},
                content_type="application/merge-patch+json",
            ),
        ),
        (
            "labels and owner taken off",
            lambda scene: scene.client.request(
                "PATCH",
                scene.path("PodDisruptionBudget", "spa-pdb"),
                {"metadata": {"labels": {"applyset.kubernetes.io/part-of": None}, "ownerReferences": None}},
                content_type="application/merge-patch+json",
            ),
        ),
    ],
)
def test_drift_is_put_right(scene: Scene, what: str, change: Callable[[Scene], Any]) -> None:
    scene.make("spa")
    scene.ready("spa")

    def wanted() -> Json:
        found = {}
        for name, item in scene.owned("spa").items():
            labels = item["metadata"].get("labels")
            found[name] = (labels, None if name.startswith("Horizontal") else without_generated(item.get("spec")))
        return found

    before = wanted()
    change(scene)
    assert wanted() != before
    began = time.monotonic()
    until(lambda: wanted() == before, 30, lambda: json.dumps(wanted())[:3000], pause=0.05)
    note(f"drift put right: {what}", f"{time.monotonic() - began:.1f} s")


def without_generated(spec: Any) -> Any:
    """A Service that is made anew has another address."""
    found = copy.deepcopy(spec) or {}
    for field in ("clusterIP", "clusterIPs"):
        found.pop(field, None)
    return found


def test_what_is_not_wanted_any_more_is_pruned(scene: Scene) -> None:
    scene.make("spa", replicas=1, config={"TONE": "kind"})
    until(lambda: "ConfigMap/spa-config" in scene.owned("spa") and "HorizontalPodAutoscaler/spa-hpa" not in scene.owned("spa"), 30)
    scene.make("spa")
    until(lambda: "ConfigMap/spa-config" not in scene.owned("spa") and "HorizontalPodAutoscaler/spa-hpa" in scene.owned("spa"), 30)
    scene.ready("spa")


def test_the_older_version_is_served_and_reconciled(scene: Scene) -> None:
    scene.make("old", version="v1alpha1", replicas=0)
    assert scene.agent("old")["apiVersion"] == "progressive.platform/v1beta1"
    scene.ready("old", 60)
    scene.make("old", version="v1alpha1", replicas=0, affinitySeconds=60)
    until(lambda: scene.client.get(scene.path("Service", "old-service"))["spec"]["sessionAffinity"] == "ClientIP", 30)
    crd = scene.client.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/agents.progressive.platform")
    assert crd["status"]["storedVersions"] == ["v1beta1"]
    scene.delete("old")


def test_the_status_names_the_cause(scene: Scene) -> None:
    scene.make("sick", image="localhost/progressive/nowhere:1", replicas=1)
    until(
        lambda: re.search(
            r"pod sick-deployment-\S+: container sick: \w*Image\w*", scene.agent("sick").get("status", {}).get("waitingFor", "")
        ),
        60,
        lambda: json.dumps(scene.agent("sick").get("status")),
    )
    assert scene.condition("sick")["status"] == "False" and scene.condition("sick", "Applied")["status"] == "True"
    scene.make("sick", replicas=1, pools=["nowhere"])
    until(
        lambda: "no node pool is called nowhere" in scene.condition("sick", "Applied").get("message", ""),
        30,
        lambda: json.dumps(scene.agent("sick").get("status")),
    )
    # What is red in an Agent is red in the whole.
    platform = AGENTS.replace("agents", "progressiveplatforms") + "/platform"
    until(
        lambda: "Agent sick is not ready" in scene.client.get(platform).get("status", {}).get("conditions", [{}])[0].get("message", ""), 60
    )
    scene.delete("sick")


def test_what_somebody_else_made_is_left_alone(scene: Scene) -> None:
    """The name of a Deployment that is there."""
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "mine-service", "namespace": NAMESPACE},
        "spec": {"ports": [{"port": 81}]},
    }
    scene.client.request("POST", f"/api/v1/namespaces/{NAMESPACE}/services", theirs)
    before = scene.client.get(scene.path("Service", "mine-service"))
    scene.make("mine", replicas=0)
    until(lambda: "made by somebody else" in scene.condition("mine", "Applied").get("message", ""), 30)
    assert scene.client.get(scene.path("Service", "mine-service")) == before
    scene.delete("mine")
    assert scene.client.get(scene.path("Service", "mine-service")) == before, "and it does not go with the Agent"
    scene.client.request("DELETE", scene.path("Service", "mine-service"))


def test_deletion_takes_everything_though_no_operator_runs(scene: Scene) -> None:
    scene.make("gone", replicas=0)
    scene.ready("gone", 60)
    assert len(scene.owned("gone")) == 6 and not scene.agent("gone")["metadata"].get("finalizers")
    scene.scale(0)
    try:
        until(lambda: not scene.pods(), 60)
        scene.delete("gone")
        assert not scene.agent("gone")
    finally:
        scene.scale(1)
        scene.leading()


def test_an_operator_that_is_killed_in_the_middle_goes_on(scene: Scene) -> None:
    names = [f"kill-{number}" for number in range(12)]
    for name in names:
        scene.make(name, replicas=0)
    until(lambda: any(scene.owned(name) for name in names), 30, pause=0.02)
    done = sum(bool(scene.condition(name)) for name in names)
    pod = scene.pods()[0]["metadata"]["name"]
    scene.client.request("DELETE", f"/api/v1/namespaces/{HOME}/pods/{pod}", {"gracePeriodSeconds": 0})
    assert done < len(names), "it was done before it could be killed"
    began = time.monotonic()
    until(lambda: all(scene.condition(name).get("status") == "True" for name in names), 120)
    note("12 Agents whose operator is killed (no grace) while it makes them, all serving after", f"{time.monotonic() - began:.0f} s")
    assert all(len(scene.owned(name)) == 6 for name in names)
    scene.delete(*names)


def test_a_second_one_takes_over(scene: Scene) -> None:
    scene.scale(2)
    until(lambda: sum(ready(pod) for pod in scene.pods()) == 2, 90)
    leader = scene.client.get(f"/apis/coordination.k8s.io/v1/namespaces/{HOME}/leases/operator")["spec"]["holderIdentity"].rpartition("_")[
        0
    ]
    pod = leader.rpartition("_")[0]
    scene.client.request("DELETE", f"/api/v1/namespaces/{HOME}/pods/{pod}", {"gracePeriodSeconds": 0})
    began = time.monotonic()
    scene.make("after", replicas=0)
    scene.ready("after", 60)
    note("the leader killed, an Agent made at once by the second pod", f"{time.monotonic() - began:.0f} s")
    scene.delete("after")
    scene.scale(1)
    until(lambda: len(scene.pods()) == 1, 60)
    scene.leading()


def ready(pod: Json) -> bool:
    return any(it["type"] == "Ready" and it["status"] == "True" for it in pod["status"].get("conditions") or [])


# ---- what the operator may not ------------------------------------------------------------------------------------------------


def test_the_operator_may_do_no_more_than_an_agent_needs(scene: Scene, kubectl: Callable[..., str]) -> None:
    """As its service account: what its rights and the admission policy say no to."""
    scene.make("spa")
    scene.ready("spa")

    def attempt(document: Json) -> str:
        return kubectl("--as", USER, "-n", NAMESPACE, "create", "--dry-run=server", "-f", "-", stdin=json.dumps(document), check=False)

    deployment = scene.client.get(scene.path("Deployment", "spa-deployment"))
    metadata = {key: deployment["metadata"][key] for key in ("labels", "ownerReferences")}
    fine = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {**metadata, "name": "copy"}, "spec": deployment["spec"]}
    assert "created (server dry run)" in attempt(fine)

    def changed(change: Callable[[Json], Any]) -> Json:
        document = copy.deepcopy(fine)
        change(document)
        return document

    def pod(document: Json) -> Json:
        spec: Json = document["spec"]["template"]["spec"]
        return spec

    for says, change in (
        ("owned by an Agent", lambda it: it["metadata"].pop("ownerReferences")),
        ("as its own service account", lambda it: pod(it).update(serviceAccountName="default")),
        ("as its own service account", lambda it: pod(it).update(automountServiceAccountToken=True)),
        ("read no Secret but", lambda it: pod(it)["volumes"].append({"name": "x", "secret": {"secretName": "postgres-auth"}})),
        ("read no Secret but", lambda it: pod(it)["volumes"].append({"name": "x", "hostPath": {"path": "/"}})),
        ("comes from no Secret", lambda it: pod(it)["containers"][0].update(envFrom=[{"secretRef": {"name": "postgres-auth"}}])),
    ):
        printed = attempt(changed(change))
        assert says in printed, printed
    said = kubectl("--as", USER, "-n", NAMESPACE, "delete", "--dry-run=server", "service/redis-cluster", check=False)
    assert "only what it made for an Agent" in said, said
    for verb, resource, allowed in (
        ("create", "roles", "no"),
        ("create", "pods", "no"),
        ("create", "pods/exec", "no"),
        ("list", "secrets", "no"),
        ("get", "secrets/redis-cluster-auth", "yes"),
        ("get", "secrets/postgres-auth", "no"),
        ("update", "agents", "no"),
        ("patch", "customresourcedefinitions", "no"),
        ("create", "deployments", "yes"),
    ):
        group = {"deployments": ".apps", "agents": ".progressive.platform"}.get(resource, "")
        assert kubectl("--as", USER, "-n", NAMESPACE, "auth", "can-i", verb, resource + group, check=False).split()[0] == allowed, (
            verb,
            resource,
        )
    for elsewhere in ("default", "kube-system"):
        assert kubectl("--as", USER, "-n", elsewhere, "auth", "can-i", "create", "deployments.apps", check=False).split()[0] == "no"


# ---- the whole ----------------------------------------------------------------------------------------------------------------


def test_the_platform_tells_the_health_of_the_whole(scene: Scene, kubectl: Callable[..., str]) -> None:
    path = AGENTS.replace("agents", "progressiveplatforms") + "/platform"

    def status() -> Json:
        return scene.client.get(path).get("status") or {}

    until(lambda: status().get("conditions", [{}])[0].get("status") == "True", 90, lambda: json.dumps(status()))
    looked = status()["lastChecked"]
    until(lambda: status()["lastChecked"] != looked, 30)
    assert status()["checks"]["total"] >= 5 and status()["summary"] == f"{status()['checks']['total']}/{status()['checks']['total']}"
    budget = next(
        it["metadata"]["name"]
        for it in scene.client.list(scene.client.resource("policy/v1", "PodDisruptionBudget"), NAMESPACE)["items"]
        if "redis" in it["metadata"]["name"]
    )
    there = scene.client.get(scene.path("PodDisruptionBudget", budget))
    scene.client.request("DELETE", scene.path("PodDisruptionBudget", budget))
    try:
        until(lambda: any("disruption" in red["name"] for red in status().get("red", [])), 60, lambda: json.dumps(status()))
        assert status()["conditions"][0]["status"] == "False" and scene.metric("operator_platform_healthy") == 0.0
    finally:
        metadata = {key: there["metadata"][key] for key in ("name", "namespace", "labels")}
        kubectl(
            "apply",
            "--server-side",
            "--field-manager=progressive.platform.redis_cluster",
            "-f",
            "-",
            stdin=json.dumps({**there, "metadata": metadata, "status": None}),
        )
    until(lambda: status()["conditions"][0]["status"] == "True", 60, lambda: json.dumps(status()))


# ---- many ---------------------------------------------------------------------------------------------------------------------


def test_a_hundred_agents_with_one_process(scene: Scene) -> None:
    before = scene.metric("operator_apply_seconds_count")
    names = [f"many-{number}" for number in range(HUNDRED)]
    began = time.monotonic()
    for name in names:
        scene.make(name, replicas=0)
    sent = time.monotonic() - began

    def serving() -> int:
        items = scene.client.get(AGENTS)["items"]
        found = [{it["type"]: it["status"] for it in (item.get("status") or {}).get("conditions") or []} for item in items]
        return sum(it.get("Ready") == "True" for it in found)

    until(lambda: scene.metric("operator_apply_seconds_count") - before >= HUNDRED, 240, lambda: str(serving()), pause=0.5)
    applied = time.monotonic() - began
    until(lambda: serving() >= HUNDRED, 240, lambda: str(serving()), pause=0.5)
    memory = scene.metric("process_resident_memory_bytes") / 2**20
    note(f"{HUNDRED} Agents (no pods) sent one after the other", f"{sent:.0f} s")
    note(f"{HUNDRED} Agents, 600 objects, brought about since the first was sent", f"{applied:.0f} s")
    note(f"{HUNDRED} Agents, every status says so", f"{time.monotonic() - began:.0f} s")
    note("resident memory of the process then", f"{memory:.0f} MiB")
    assert 0 < memory < 150
    pod = scene.pods()[0]["metadata"]["name"]
    scene.client.request("DELETE", f"/api/v1/namespaces/{HOME}/pods/{pod}", {"gracePeriodSeconds": 0})
    until(lambda: scene.metric("operator_apply_seconds_count") >= HUNDRED, 240, pause=0.5)
    began = time.monotonic()
    seconds, count = scene.metric("operator_apply_seconds_sum"), scene.metric("operator_apply_seconds_count")
    note("an Agent looked at by an operator that has just started, nothing to do, mean", f"{seconds / count:.2f} s")
    note("resident memory after the start anew", f"{scene.metric('process_resident_memory_bytes') / 2**20:.0f} MiB")
    scene.client.request("DELETE", AGENTS)
    until(lambda: not scene.client.get(AGENTS)["items"], 60)


def note(what: str, seen: str) -> None:
    MEASURED[what] = seen
    print(f"{what}: {seen}")


def test_the_documentation_says_what_was_measured() -> None:
    """Last: the table of docs/operator.md names the same; written there when PROGRESSIVE_WRITE_DOCS is set."""
    lines = ["| what | seen |", "| --- | --- |", *(f"| {what} | {seen} |" for what, seen in MEASURED.items())]
    pattern = re.compile(r"(<!-- measured: [^\n]*-->\n\n).*?(\n\n<!-- end -->)", re.DOTALL)
    text = DOCS.read_text()
    found = pattern.search(text)
    assert found, "docs/operator.md has no place for the table"
    if os.environ.get("PROGRESSIVE_WRITE_DOCS"):
        DOCS.write_text(pattern.sub(lambda place: place[1] + "\n".join(lines) + place[2], text))
    else:
        assert all(f"| {what} |" in found[0] for what in MEASURED), "docs/operator.md says otherwise than was measured"
