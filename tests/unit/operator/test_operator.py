# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The operator without a cluster: what an Agent becomes, what its status says, what waits for what, who leads."""

from __future__ import annotations

import functools
import json
from typing import Any, cast

import pytest
import yaml
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client
from ansible_collections.progressive.platform.plugins.module_utils._kube.lease import DURATION
from ansible_collections.progressive.platform.plugins.module_utils._operator import model, work
from ansible_collections.progressive.platform.plugins.module_utils._operator.controllers import Agents, Sent
from ansible_collections.progressive.platform.plugins.module_utils._operator.lease import GIVE_UP, Leadership
from ansible_collections.progressive.platform.plugins.module_utils._operator.model import Name, Outcome
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.plugins.plugin_utils import _roles
from ansible_collections.progressive.platform.plugins.plugin_utils._agents import Renderer
from ansible_collections.progressive.platform.tests.unit.clock import FakeClock
from ansible_collections.progressive.platform.tests.unit.roles.rendering import INVENTORIES, Cluster

Json = dict[str, Any]

NOW, LATER = "2026-11-27T10:00:00Z", "2026-11-27T11:00:00Z"
SPECS: dict[str, Json] = {
    "little": {"specialization": "sleep"},
    "much": {
        "specialization": "sleep",
        "image": "registry.example.com/agents/sleep:1.2",
        "environment": {"LOG_LEVEL": "DEBUG", "QUOTED": 'a "b": {c}\nd', "NUMBER": "017"},
        "config": {"TONE": "kind"},
        "resources": {"requests": {"cpu": "150m", "ephemeralStorage": "64Mi"}, "limits": {"memory": "300Mi"}},
        "scaling": {"min": 2, "max": 4, "cpu": 50, "requestsPerSecond": 9},
        "budget": {"minAvailable": 1},
        "affinitySeconds": 60,
        "graceSeconds": 50,
        "pools": ["app", "cache"],
    },
    "fixed": {"specialization": "sleep", "replicas": 0, "budget": {"maxUnavailable": "25%"}},
}
# The same as a person writes them into agents_services.
ENTRIES: dict[str, Json] = {
    "little": {"labels": {"component": "sleep-agent"}, "environment": {"AGENT_SPECIALIZATION": "sleep"}},
    "much": {
        "labels": {"component": "sleep-agent"},
        "image": "registry.example.com/agents/sleep:1.2",
        "environment": {"LOG_LEVEL": "DEBUG", "QUOTED": 'a "b": {c}\nd', "NUMBER": "017", "AGENT_SPECIALIZATION": "sleep"},
        "config": {"TONE": "kind"},
        "resources": {"requests": {"cpu": "150m", "ephemeral-storage": "64Mi"}, "limits": {"memory": "300Mi"}},
        "scaling": {"min": 2, "max": 4, "cpu": 50, "requests_per_second": 9},
        "budget": {"min_available": 1},
        "affinity_seconds": 60,
        "grace_seconds": 50,
        "pools": ["app", "cache"],
    },
    "fixed": {
        "labels": {"component": "sleep-agent"},
        "environment": {"AGENT_SPECIALIZATION": "sleep"},
        "replicas": 0,
        "scaling": None,
        "budget": {"min_available": None, "max_unavailable": "25%"},
    },
}


@functools.cache
def variables(inventory: str, changes: str = "{}") -> Json:
    """What role operator writes into variables.json."""
    cluster = Cluster(inventory, json.loads(changes))
    wanted = [str(name) for name in _roles.role_vars("operator")["__operator_variables"]]
    found = {}
    for name, value, problem in _roles.values(cluster.templar, cluster.variables("agents"), wanted):
        assert not problem, problem
        found[name] = value
    return cast(Json, json.loads(json.dumps(found)))


@functools.cache
def manifests(inventory: str) -> list[Json]:
    """What role operator sends."""
    return sent(inventory, {})


def sent(inventory: str, changes: Json, *checks: Json) -> list[Json]:
    """What role operator sends, with checks beside that of Redis."""
    components = ["baseline", "redis_cluster", "agents", "operator"]
    cluster = Cluster(inventory, {"platform_components": components, "platform_images": {}, **changes})
    check = {"name": "redis", "kind": "redis", "namespace": "here", "password_secret": {"name": "redis-auth"}, "selector": "app=redis"}
    tls = {"name": "certificates", "kind": "certificates", "namespaces": ["there"]}
    cluster.vars = {**cluster.variables("agents"), "__operator_gathered": {"rendered": [check, tls, *checks]}}
    definitions = _roles.render(cluster.templar, _roles.role_path("operator") / "templates/crds.yaml.j2", cluster.variables("operator"))
    return [document for document in yaml.safe_load_all(definitions) if document] + cluster.documents("operator")


def agent(spec: Json, name: str = "spa", **metadata: Any) -> Json:
    given = {"name": name, "namespace": "here", "uid": "1-2", "generation": 3, "resourceVersion": "7", **metadata}
    return {"apiVersion": model.API_VERSION, "kind": "Agent", "metadata": given, "spec": spec}


# ---- what an Agent becomes ----------------------------------------------------------------------------------------------------


def test_fields_become_options_of_role_workload() -> None:
    for name, spec in SPECS.items():
        assert model.options(spec) == ENTRIES[name]


OTHERWISE: list[Json] = [{"platform_mesh": True}, {"platform_metrics_provider": "keda"}, {"platform_tracing": True}]


@pytest.mark.parametrize(
    ("inventory", "changes"), [*((inventory, {}) for inventory in INVENTORIES), *(("production", changes) for changes in OTHERWISE)]
)
def test_an_agent_becomes_what_the_role_makes_of_the_same_entry(inventory: str, changes: Json) -> None:
    """To the last field: the role's own documents, rendered by the role, against those of the operator."""
    role: dict[str, list[Json]] = {}
    for document in Cluster(inventory, {"agents_services": {"mca": {}, **ENTRIES}, **changes}).documents("agents"):
        role.setdefault(document["metadata"]["labels"]["app"], []).append(document)
    renderer = Renderer(variables(inventory, json.dumps(changes)))
    namespace = renderer.variables["platform_namespace"]
    made = renderer.render({Name(namespace, name): spec for name, spec in SPECS.items()}, {namespace: list(SPECS)})
    for name in SPECS:
        assert made[Name(namespace, name)] == role[name]


def test_what_a_person_writes_is_no_template() -> None:
    renderer = Renderer(variables("production"))
    spec = {"specialization": "sleep", "environment": {"A": "{{ lookup('ansible.builtin.pipe', 'id') }}", "B": "{% raw %}"}}
    ((_name, documents),) = renderer.render({Name("here", "spa"): spec}, {}).items()
    assert isinstance(documents, list)
    deployment = next(it for it in documents if it["kind"] == "Deployment")
    found = {it["name"]: it.get("value") for it in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert {"A": found["A"], "B": found["B"]} == spec["environment"]


def test_a_bad_agent_spoils_no_other() -> None:
    renderer = Renderer(variables("production"))
    specs = {Name("here", "good"): SPECS["little"], Name("here", "bad"): {"specialization": "sleep", "pools": ["nowhere"]}}
    found = renderer.render(specs, {})
    error = found[Name("here", "bad")]
    assert isinstance(error, PlatformError) and "no node pool is called nowhere" in error.message
    assert isinstance(found[Name("here", "good")], list)


def test_an_agent_of_the_coordinators_name_is_told_of_all_others() -> None:
    renderer = Renderer({**variables("production"), "agents_services": {}})
    everybody = {"here": ["mca", "npa", "spa"]}
    ((_name, documents),) = renderer.render({Name("here", "mca"): {"specialization": "coordination"}}, everybody).items()
    assert isinstance(documents, list)
    deployment = next(it for it in documents if it["kind"] == "Deployment")
    found = {it["name"]: it.get("value") for it in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert found["PEERS"] == "npa=http://npa-service,spa=http://spa-service"


def test_everything_is_owned_by_its_agent_and_of_a_kind_it_may_be() -> None:
    renderer = Renderer(variables("production"))
    documents = renderer.render({Name("here", "spa"): SPECS["much"]}, {})[Name("here", "spa")]
    assert isinstance(documents, list)
    ours = model.dressed(documents, agent(SPECS["much"]))
    assert {(it["apiVersion"], it["kind"]) for it in ours} == set(model.KINDS)
    for item in ours:
        assert item["metadata"]["labels"][model.LABEL] == "spa" and item["metadata"]["namespace"] == "here"
        assert [it["uid"] for it in item["metadata"]["ownerReferences"]] == ["1-2"]
    parent = model.group(agent({})).parent(model.group(agent({})).contents(None))
    assert parent["metadata"]["ownerReferences"][0]["kind"] == "Agent"
    foreign = [{**documents[0], "kind": "ClusterRole", "apiVersion": "rbac.authorization.k8s.io/v1"}]
    with pytest.raises(PlatformError, match="An Agent becomes no ClusterRole"):
        model.dressed(foreign, agent({}))
    with pytest.raises(PlatformError, match="An Agent becomes no ServiceAccount elsewhere/"):
        model.dressed([{**documents[0], "metadata": {**documents[0]["metadata"], "namespace": "elsewhere"}}], agent({}))


# ---- status -------------------------------------------------------------------------------------------------------------------


def deployment(ready: int, wanted: int = 2, **status: Any) -> Json:
    counts = {"observedGeneration": 1, "replicas": wanted, "updatedReplicas": wanted, "readyReplicas": ready, "availableReplicas": ready}
    containers = [{"image": "agents:1"}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "spa-deployment", "generation": 1, "uid": "3", "resourceVersion": "9"},
        "spec": {"replicas": wanted, "template": {"spec": {"containers": containers}}},
        "status": {**counts, **status},
    }


@pytest.mark.parametrize(
    ("outcome", "ready", "reason", "waits"),
    [
        (Outcome(deployment=deployment(2)), "True", "Serving", None),
        (Outcome(deployment=deployment(1)), "False", "Waiting", "1 of 2 pods are available"),
        (Outcome(deployment=deployment(0), trouble="pod a: no image"), "False", "Waiting", "0 of 2 pods are available; pod a: no image"),
        (Outcome(failure="Service here/spa-service: 403"), "False", "NotApplied", "Service here/spa-service: 403"),
        (Outcome(), "Unknown", "NoDeployment", "its Deployment is made anew"),
        (
            Outcome(
                deployment=deployment(1, conditions=[{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}])
            ),
            "False",
            "Failed",
            "Progressing is False (ProgressDeadlineExceeded)",
        ),
        (Outcome(deployment=deployment(0, wanted=0)), "True", "Serving", None),
    ],
)
def test_the_status_says_what_is_waited_for(outcome: Outcome, ready: str, reason: str, waits: str | None) -> None:
    status = model.status(agent({}), outcome, NOW)
    found = {it["type"]: it for it in status["conditions"]}
    assert (found["Ready"]["status"], found["Ready"]["reason"], status.get("waitingFor")) == (ready, reason, waits)
    assert found["Applied"]["status"] == ("False" if outcome.failure else "True") and status["observedGeneration"] == 3


def test_a_conditions_time_moves_with_its_status_only() -> None:
    first = model.status(agent({}), Outcome(deployment=deployment(1)), NOW)
    second = model.status({**agent({}), "status": first}, Outcome(deployment=deployment(0)), LATER)
    third = model.status({**agent({}), "status": second}, Outcome(deployment=deployment(2)), LATER)
    times = [{it["type"]: it["lastTransitionTime"] for it in status["conditions"]} for status in (first, second, third)]
    assert times == [{"Applied": NOW, "Ready": NOW}, {"Applied": NOW, "Ready": NOW}, {"Applied": NOW, "Ready": LATER}]
    assert model.patch(third, third) is None
    assert model.patch(second, third) == {
        **{key: third[key] for key in ("conditions", "readyReplicas", "pods")},
        "waitingFor": None,
    }


@pytest.mark.parametrize(
    ("outcome", "agents", "value", "says"),
    [
        ({"checks": [{"name": "a", "ok": True, "message": ""}]}, [], "True", "1 checks green."),
        (
            {"checks": [{"name": "a", "ok": False, "message": "pod x is away"}, {"name": "b", "ok": True, "message": ""}]},
            [],
            "False",
            "1 of 2 checks red. a: pod x is away",
        ),
        ({"checks": [{"name": "a", "ok": True, "message": ""}]}, [agent({})], "False", "0 of 1 checks red. Agent spa is not ready"),
        ({"msg": "It is suspended."}, [], "Unknown", "It is suspended."),
    ],
)
def test_the_platform_says_what_is_red(outcome: Json, agents: list[Json], value: str, says: str) -> None:
    status = model.platform_status(agent({}), outcome, agents, NOW)
    assert (status["conditions"][0]["status"], status["conditions"][0]["message"]) == (value, says)
    assert status["agents"] == {"total": len(agents), "ready": 0}


# ---- what waits for what ------------------------------------------------------------------------------------------------------


def test_a_name_that_is_added_twice_is_done_once_and_again_when_it_was_added_meanwhile() -> None:
    queue: work.Queue[str] = work.Queue(FakeClock())
    for key in ("a", "b", "a"):
        queue.add(key)
    assert queue.take(9, 0) == ["a", "b"]
    queue.add("a")
    assert queue.take(9, 0) == []
    queue.done("a")
    queue.done("b")
    assert queue.take(9, 0) == ["a"]


def test_what_fails_comes_back_after_a_pause_that_doubles() -> None:
    clock = FakeClock()
    queue: work.Queue[str] = work.Queue(clock)
    queue.add("a")
    for pause in (1.0, 2.0, 4.0):
        assert queue.take(1, 0) == ["a"]
        queue.done("a", failed=True)
        clock.sleep(pause - 0.01)
        assert queue.take(1, 0) == []
        clock.sleep(0.01)
    assert queue.take(1, 0) == ["a"]
    queue.done("a")
    queue.add("a", after=5)
    queue.forget("a")
    clock.sleep(10)
    assert queue.take(1, 0) == []


class Quiet:
    """A controller whose work is only written down."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.agents = Agents(cast(Client, None), lambda _specs, _everybody: {}, "mca", self.clock)

    def due(self) -> list[tuple[str, Name]]:
        keys = self.agents.queue.take(99, 0)
        for key in keys:
            self.agents.queue.done(key)
        return sorted(keys)


MANAGER = "progressive.platform.agent-spa"


def service(port: int, owned: bool = True) -> Json:
    entry = {"manager": MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {"f:port": {}}}, "time": NOW}
    metadata = {"name": "spa-service", "namespace": "here", "labels": {model.LABEL: "spa"}, "managedFields": [entry] if owned else []}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"port": port, "clusterIP": "10.0.0.1"}}


@pytest.mark.parametrize(
    ("event", "there", "again"),
    [
        ("MODIFIED", service(80), False),
        ("MODIFIED", {**service(80), "spec": {"port": 80, "clusterIP": "10.0.0.2"}, "status": {"new": True}}, False),
        ("MODIFIED", service(81), True),
        ("MODIFIED", service(80, owned=False), True),
        ("DELETED", service(80), True),
        ("ADDED", {**service(80), "metadata": {**service(80)["metadata"], "name": "another"}}, True),
    ],
)
def test_only_drift_is_put_right(event: str, there: Json, again: bool) -> None:
    quiet = Quiet()
    quiet.agents.seen("ADDED", agent({}))
    quiet.due()
    document = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "spa-service", "namespace": "here"}, "spec": {"port": 80}}
    known = quiet.agents.known[Name("here", "spa")]
    known.sent = {model_key(document): Sent.of(document, service(80), MANAGER)}
    quiet.agents.owned(event, there)
    assert quiet.due() == ([("apply", Name("here", "spa"))] if again else [])


def model_key(document: Json) -> Any:
    from ansible_collections.progressive.platform.plugins.module_utils._kube.bundle import key_of

    return key_of(document)


def test_a_status_of_our_own_is_no_reason_to_apply_and_another_spec_is() -> None:
    quiet = Quiet()
    quiet.agents.seen("ADDED", agent({}))
    assert quiet.due() == [("apply", Name("here", "spa"))]
    quiet.agents.known[Name("here", "spa")].generation = 3
    quiet.agents.seen("MODIFIED", {**agent({}), "status": {"pods": "1/1"}})
    assert quiet.due() == []
    quiet.agents.seen("MODIFIED", agent({}, generation=4))
    assert quiet.due() == [("apply", Name("here", "spa"))]
    quiet.agents.seen("DELETED", agent({}, generation=4))
    assert quiet.due() == [] and quiet.agents.known == {}


def test_the_coordinator_hears_of_agents_that_come_and_go() -> None:
    quiet = Quiet()
    quiet.agents.seen("ADDED", agent({}, "mca"))
    quiet.due()
    quiet.agents.seen("ADDED", agent({}))
    quiet.clock.sleep(1)
    assert ("apply", Name("here", "mca")) in quiet.due()
    quiet.agents.seen("DELETED", agent({}))
    quiet.clock.sleep(1)
    assert quiet.due() == [("apply", Name("here", "mca"))]


# ---- who leads ----------------------------------------------------------------------------------------------------------------


class Leases:
    """An API server that has nothing but one Lease; a write with another resourceVersion than its own is refused."""

    def __init__(self) -> None:
        self.item: Json | None = None
        self.version = 0
        self.away = False

    def find(self, path: str) -> Json | None:
        if self.away:
            raise ApiError("away")
        return json.loads(json.dumps(self.item)) if self.item else None

    def request(self, method: str, path: str, body: Json) -> tuple[int, Json, Json]:
        if self.away:
            raise ApiError("away")
        if method == "PUT" and (self.item is None or body["metadata"]["resourceVersion"] != self.item["metadata"]["resourceVersion"]):
            raise ApiError("conflict", 409)
        if method == "POST" and self.item is not None:
            raise ApiError("exists", 409)
        self.version += 1
        self.item = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
        return 200, {}, self.item


def test_one_leads_until_it_is_silent_for_too_long() -> None:
    server, clock = Leases(), FakeClock()
    first, second = (Leadership(cast(Client, server), "here", "operator", name, clock) for name in ("a", "b"))
    assert first.try_to_lead() and not second.try_to_lead() and second.holder == "a"
    clock.sleep(DURATION - 1)
    assert first.try_to_lead() and not second.try_to_lead()
    clock.sleep(DURATION - 1)
    assert not second.try_to_lead(), "it was renewed since, and that counts from when we saw it"
    clock.sleep(1.1)
    assert second.try_to_lead() and not first.try_to_lead() and first.holder == "b"
    assert server.item and server.item["spec"]["leaseTransitions"] == 1
    second.release()
    assert first.try_to_lead()


def test_a_leader_that_reaches_no_server_ends_before_another_begins() -> None:
    server, clock = Leases(), FakeClock()
    lease = Leadership(cast(Client, server), "here", "operator", "a", clock)
    assert lease.try_to_lead()
    server.away = True
    clock.sleep(GIVE_UP - 1)
    assert not lease.try_to_lead() and not lease.lost()
    clock.sleep(1)
    assert lease.lost() and GIVE_UP < DURATION


# ---- what the role sends ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_the_rights_are_few_and_named(inventory: str) -> None:
    allowed = {"get", "list", "watch", "create", "patch", "delete", "update"}
    for role in (it for it in manifests(inventory) if it["kind"] in ("Role", "ClusterRole")):
        for rule in role["rules"]:
            words = {*rule["apiGroups"], *rule["resources"], *rule["verbs"]}
            assert "*" not in words and set(rule["verbs"]) <= allowed
            assert "rbac.authorization.k8s.io" not in words and not words & {"escalate", "bind", "impersonate"}
            if "secrets" in rule["resources"]:
                assert rule["verbs"] == ["get"] and rule["resourceNames"]
            if role["kind"] == "ClusterRole":
                assert (rule["resources"], rule["verbs"]) == (["nodes"], ["get", "list"])
            if set(rule["verbs"]) & {"create", "delete"} and role["metadata"]["name"].endswith("-agents"):
                plural = {kind.lower().removesuffix("y") + ("ies" if kind.endswith("y") else "s") for _version, kind in model.KINDS}
                assert set(rule["resources"]) <= plural
    places = {role["metadata"].get("namespace") for role in manifests(inventory) if role["kind"] == "Role"}
    namespace = variables(inventory)["platform_namespace"]
    assert places == {namespace, f"{namespace}-operator", "here", "kube-node-lease"}


MESH_CHECK = {"name": "proxies", "kind": "mesh", "namespace": "istio-system", "namespaces": ["here"]}
SCALED_CHECK = {"name": "autoscalers", "kind": "autoscalers", "namespace": "here", "owner": "keda/keda"}
SIZED_CHECK = {"name": "sizes", "kind": "recommendations", "namespace": "here"}


@pytest.mark.parametrize(
    ("changes", "check", "wanted"),
    [
        ({"platform_mesh": True}, MESH_CHECK, {"here": {"pods/proxy"}, "istio-system": {"pods/proxy"}}),
        (
            {"platform_mesh": True, "platform_mesh_mode": "ambient"},
            MESH_CHECK,
            {
                "here": {"pods/proxy", "gateways", "authorizationpolicies"},
                "istio-system": {"pods/proxy", "gateways", "authorizationpolicies"},
            },
        ),
        ({}, SCALED_CHECK, {"": {"apiservices"}}),
        ({"platform_metrics_provider": "keda"}, SCALED_CHECK, {"": {"apiservices"}, "here": {"scaledobjects"}}),
        ({}, SIZED_CHECK, {"here": {"verticalpodautoscalers"}}),
    ],
    ids=["mesh", "ambient", "autoscalers", "keda", "recommendations"],
)
def test_a_check_may_read_what_it_looks_at(changes: Json, check: Json, wanted: dict[str, set[str]]) -> None:
    """And where it is not among the checks nobody has that right."""

    def rights(*checks: Json) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for role in sent("production", changes, *checks):
            if role["kind"] in ("Role", "ClusterRole") and not role["metadata"]["name"].endswith("-agents"):
                of = found.setdefault(role["metadata"].get("namespace", ""), set())
                of |= {resource for rule in role["rules"] for resource in rule["resources"]}
        return found

    without, seen = rights(), rights(check)
    common = without["here"]
    more = {place: found - (common if place else without[""]) for place, found in seen.items() if place not in ("kube-node-lease",)}
    assert {place: found for place, found in more.items() if found and not place.endswith("-operator")} == wanted
    assert common.isdisjoint({"pods/proxy", "gateways", "authorizationpolicies", "scaledobjects", "verticalpodautoscalers"})


def test_both_versions_have_one_schema_and_the_newest_is_stored() -> None:
    for item in (it for it in manifests("production") if it["kind"] == "CustomResourceDefinition"):
        old, new = item["spec"]["versions"]
        assert (old["name"], new["name"]) == ("v1alpha1", model.VERSION) and item["spec"]["conversion"] == {"strategy": "None"}
        assert old["served"] and new["served"] and old["deprecated"] and not old["storage"] and new["storage"]
        assert old["schema"] == new["schema"] and new["subresources"] == {"status": {}} and new["additionalPrinterColumns"]


def test_the_checks_that_read_every_secret_are_left_out() -> None:
    config = next(it for it in manifests("production") if it["kind"] == "ConfigMap")
    assert [check["name"] for check in json.loads(config["data"]["checks.json"])] == ["redis"]
    assert json.loads(config["data"]["variables.json"]) == variables(
        "production", '{"platform_components": ["baseline", "redis_cluster", "agents", "operator"], "platform_images": {}}'
    )
