# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Members as pods: on the SIMULATOR, behind an API server made of a dictionary whose port-forwards lead to it. No test here can run on a real mongod."""

from __future__ import annotations

import base64
import contextlib
import copy
import typing as t
from collections.abc import Iterator

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError
from ansible_collections.progressive.platform.plugins.module_utils._mongodb import converge, nodes
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.converge import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Result
from ansible_collections.progressive.platform.tests.mongodb.lab import PASSWORD, SETTINGS, defaults, free_port
from ansible_collections.progressive.platform.tests.mongodb.simulator import SimulatedNetwork

DOMAIN = "mongodb-headless.data.svc.cluster.local"
NAMESPACE = "/api/v1/namespaces/data"
STATEFULSETS = "/apis/apps/v1/namespaces/data/statefulsets"


class SimulatedPods:
    """As much of the API as the module asks for; an evicted pod comes back with the newest template, its disk and another UID."""

    def __init__(self, count: int) -> None:
        self.network = SimulatedNetwork()
        self.objects: dict[str, t.Any] = {}
        self.pods: dict[str, dict[str, t.Any]] = {}
        self.evicted: list[str] = []
        self.revision = "one"
        secret = {"password": PASSWORD, "app-password": "of-the-app"}
        self.objects[f"{NAMESPACE}/secrets/mongodb-auth"] = {
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in secret.items()}
        }
        for _number in range(count):
            self.grow()

    def grow(self) -> None:
        name = f"mongodb-{len(self.pods)}"
        member = self.network.add(free_port(), "rs0", auth=True)
        self.network.names[f"{name}.{DOMAIN}:27017"] = member.port
        member.start()
        self.pods[name] = self._pod(name, 0)

    def _pod(self, name: str, generation: int) -> dict[str, t.Any]:
        return {
            "metadata": {
                "name": name,
                "uid": f"{name}-{generation}",
                "labels": {"controller-revision-hash": self.revision},
                "ownerReferences": [{"kind": "StatefulSet", "name": "mongodb"}],
            },
            "spec": {"nodeName": "node", "volumes": []},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
        }

    def port(self, name: str) -> int:
        return self.network.names[f"{name}.{DOMAIN}:27017"]

    @contextlib.contextmanager
    def listen(self, _client: t.Any, _namespace: str, pod: str, _port: int) -> Iterator[tuple[str, int]]:
        yield "127.0.0.1", self.port(pod)

    def get(self, path: str, **_query: t.Any) -> t.Any:
        if path == f"{NAMESPACE}/pods":
            return {"items": copy.deepcopy(list(self.pods.values()))}
        if path == STATEFULSETS:
            return {
                "items": [
                    {"metadata": {"name": "mongodb", "generation": 1}, "status": {"observedGeneration": 1, "updateRevision": self.revision}}
                ]
            }
        return {"items": []}

    def find(self, path: str) -> t.Any:
        return copy.deepcopy(self.objects.get(path))

    def request(self, method: str, path: str, body: t.Any = None, **_options: t.Any) -> tuple[int, t.Any, t.Any]:
        if path.endswith("/eviction"):
            self._evict(body["metadata"]["name"], body["deleteOptions"]["preconditions"]["uid"])
            return 201, None, {}
        path = f"{path}/{body['metadata']['name']}" if method == "POST" else path
        if method == "POST" and path in self.objects:
            raise ApiError("exists", 409)
        self.objects[path] = copy.deepcopy(body) | {"metadata": {**body["metadata"], "resourceVersion": "1"}}
        return 200, None, copy.deepcopy(self.objects[path])

    def _evict(self, name: str, uid: str) -> None:
        assert self.pods[name]["metadata"]["uid"] == uid, "only the pod that was looked at"
        self.evicted.append(name)
        member = self.network.members[self.port(name)]
        member.kill()
        self.pods[name] = self._pod(name, len(self.evicted))
        member.start()

    def module(self, check: bool = False, **options: t.Any) -> Result:
        pods = {"namespace": "data", "selector": "app=mongodb", "port": 27017, "domain": DOMAIN}
        secret = {"namespace": None, "name": "mongodb-auth", "key": "password"}
        params = defaults(ARGUMENTS) | {
            "pods": pods,
            "password_secret": secret,
            "settings": SETTINGS,
            "replica_set": "rs0",
            "timeout": 60.0,
        }
        return run(params | options, Context(check=check))

    def hosts(self) -> list[str]:
        leader = next(member for member in self.network.members.values() if member.state == "PRIMARY")
        return [member["host"] for member in leader.members]


@pytest.fixture
def pods(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedPods]:
    made = SimulatedPods(3)
    monkeypatch.setattr(converge, "connect", lambda *_arguments: contextlib.nullcontext(made))
    monkeypatch.setattr(nodes, "listen", made.listen)
    try:
        yield made
    finally:
        made.network.close()


def kinds(result: Result) -> list[str]:
    return [step["action"] for step in result["plan"]]


def test_simulated_pods_form_a_set_by_their_lasting_names(pods: SimulatedPods) -> None:
    user = {"name": "app", "database": "admin", "roles": ["readWrite@shop"], "password": None}
    users = [{**user, "password_secret": {"namespace": None, "name": "mongodb-auth", "key": "app-password"}}]
    result = pods.module(users=users)
    assert result["changed"] and pods.hosts() == [f"mongodb-{number}.{DOMAIN}:27017" for number in range(3)]
    assert PASSWORD not in str(result) and "of-the-app" not in str(result)
    marker = pods.objects[f"{NAMESPACE}/configmaps/mongodb-marker"]
    assert "replicaSetId" in str(marker)
    again = pods.module(users=users)
    assert not again["changed"] and again["plan"] == []


@pytest.mark.state("M19")
def test_simulated_pods_of_an_older_template_are_replaced_the_primary_last(pods: SimulatedPods) -> None:
    primary = pods.module()["primary"]
    pods.revision = "two"
    assert not pods.module()["changed"], "without roll they are only named"
    foreseen = pods.module(check=True, roll=True)
    assert pods.evicted == []
    result = pods.module(roll=True)
    for plan in (foreseen, result):
        steps = [kind for kind in kinds(plan) if kind in {"replace", "handover"}]
        assert steps == ["replace", "replace", "handover", "replace"]
    assert sorted(pods.evicted) == ["mongodb-0", "mongodb-1", "mongodb-2"] and pods.evicted[-1] == primary
    assert not pods.module(roll=True)["changed"]


@pytest.mark.state("M13")
def test_simulated_pods_leave_the_set_before_they_are_taken_away(pods: SimulatedPods) -> None:
    pods.grow()
    pods.grow()
    pods.module(members=5)
    assert len(pods.hosts()) == 5
    result = pods.module(members=3)
    assert result["removable"] == ["mongodb-3", "mongodb-4"]
    assert pods.hosts() == [f"mongodb-{number}.{DOMAIN}:27017" for number in range(3)]
