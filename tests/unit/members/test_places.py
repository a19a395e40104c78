# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pods as members, the Lease and the marker, against an API server made of a dictionary."""

from __future__ import annotations

import copy
import typing as t

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError
from ansible_collections.progressive.platform.plugins.module_utils._kube.lease import DURATION
from ansible_collections.progressive.platform.plugins.module_utils._members.model import Marker
from ansible_collections.progressive.platform.plugins.module_utils._members.places import Pods
from ansible_collections.progressive.platform.plugins.module_utils._members.store import Files, Objects
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, PlatformError
from ansible_collections.progressive.platform.tests.unit.clock import FakeClock

LEASE = "/apis/coordination.k8s.io/v1/namespaces/cache/leases/redis-converge"


class FakeClient:
    """Objects by path, with resourceVersions that must match on PUT."""

    def __init__(self, objects: dict[str, t.Any] | None = None, forbidden: tuple[str, ...] = ()) -> None:
        self.objects = objects or {}
        self.forbidden = forbidden
        self.requests: list[tuple[str, str]] = []

    def get(self, path: str, **_query: t.Any) -> t.Any:
        if path in self.forbidden:
            raise ApiError("forbidden", 403)
        return copy.deepcopy(self.objects[path])

    def find(self, path: str) -> t.Any:
        return copy.deepcopy(self.objects.get(path))

    def text(self, path: str, **query: t.Any) -> str:
        self.requests.append(("LOG", f"{path} previous={query['previous']}"))
        return str(self.objects.get(path, ""))

    def request(self, method: str, path: str, body: t.Any = None) -> tuple[int, t.Any, t.Any]:
        self.requests.append((method, path))
        if method == "DELETE":
            if self.objects.pop(path, None) is None:
                raise ApiError("not found", 404)
            return 200, None, {}
        path = f"{path}/{body['metadata']['name']}" if method == "POST" else path
        there = self.objects.get(path)
        if method == "PUT" and there is None:
            raise ApiError("not found", 404)
        if method == "POST" and there is not None:
            raise ApiError("exists", 409)
        version = body["metadata"].get("resourceVersion")
        if there is not None and version is not None and version != there["metadata"]["resourceVersion"]:
            raise ApiError("conflict", 409)
        made = copy.deepcopy(body)
        made["metadata"]["resourceVersion"] = str(int(there["metadata"]["resourceVersion"]) + 1 if there else 1)
        self.objects[path] = made
        return 200, None, copy.deepcopy(made)


def objects(client: FakeClient, clock: Clock) -> Objects:
    return Objects(t.cast(t.Any, client), "cache", "redis", clock)


def test_lease_is_taken_renewed_and_given_back() -> None:
    client, clock = FakeClient(), FakeClock()
    store = objects(client, clock)
    with store.lock(5):
        assert client.objects[LEASE]["spec"]["holderIdentity"]
        before = client.objects[LEASE]["metadata"]["resourceVersion"]
        store.renew()
        assert client.objects[LEASE]["metadata"]["resourceVersion"] == before
        clock.sleep(DURATION / 2)
        store.renew()
        assert client.objects[LEASE]["metadata"]["resourceVersion"] != before
    assert client.objects[LEASE]["spec"]["holderIdentity"] == ""


def test_lease_of_a_live_holder_is_respected() -> None:
    client, clock = FakeClient(), FakeClock()
    with objects(client, clock).lock(5), pytest.raises(PlatformError, match="is held by"), objects(client, clock).lock(5):
        pass


def test_lease_of_a_dead_holder_expires_by_standing_still() -> None:
    client, clock = FakeClient(), FakeClock()
    dead = objects(client, clock).lock(5)
    dead.__enter__()
    with objects(client, clock).lock(60):
        assert DURATION < clock.now() < DURATION + 2


def test_a_lease_that_passed_on_says_to_whom_and_since_when() -> None:
    client, clock = FakeClient(), FakeClock()
    sleeper, other = objects(client, clock), objects(client, clock)
    with sleeper.lock(5), other.lock(60):
        clock.sleep(DURATION)
        with pytest.raises(PlatformError, match=r"has passed to \S+/\d+/\w+ \(since 20.*, last heard of at 20") as failure:
            sleeper.renew()
        assert other._lease.identity in failure.value.message
    assert client.objects[LEASE]["spec"]["holderIdentity"] == ""


def test_marker_round_trip_in_both_stores(tmp_path: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    marker = Marker("forming", {"redis-0": "a"}, {"redis-0": "uid"}, {"redis-0": ("v1", "v2")}, {"a": {"cluster-node-timeout": "5000"}})
    for store in (objects(FakeClient(), FakeClock()), Files("redis", ["127.0.0.1:7000"], FakeClock())):
        assert store.read() is None
        store.write(marker)
        assert store.read() == marker
        store.write(Marker("formed", {"redis-0": "a"}))
        assert store.read() == Marker("formed", {"redis-0": "a"})


def test_a_damaged_marker_is_named() -> None:
    client = FakeClient({"/api/v1/namespaces/cache/configmaps/redis-marker": {"metadata": {}, "data": {"marker": "{"}}})
    with pytest.raises(PlatformError, match="ConfigMap cache/redis-marker cannot be read"):
        objects(client, FakeClock()).read()


def test_fingerprint_ignores_pods_where_volumes_remember() -> None:
    assert Marker("formed", {"a": "1", "b": "2"}).fingerprint == Marker("forming", {"b": "2", "a": "1"}, volumes={"a": ("v",)}).fingerprint
    assert Marker("formed", {"a": "1"}).fingerprint != Marker("formed", {"a": "1"}, uids={"a": "u"}).fingerprint


def pod(name: str, node: str = "node-1", **changes: t.Any) -> dict[str, t.Any]:
    made: dict[str, t.Any] = {
        "metadata": {"name": name, "uid": f"uid-{name}"},
        "spec": {"nodeName": node, "volumes": [{"persistentVolumeClaim": {"claimName": f"data-{name}"}}, {"configMap": {}}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1"},
    }
    made["metadata"].update(changes.get("metadata", {}))
    made["status"].update(changes.get("status", {}))
    return made


def revisioned(generation: int = 3, seen: int = 3) -> dict[str, t.Any]:
    """The StatefulSet redis, whose controller has seen that generation."""
    return {"metadata": {"name": "redis", "generation": generation}, "status": {"observedGeneration": seen, "updateRevision": "redis-new"}}


def world(*pods: dict[str, t.Any]) -> dict[str, t.Any]:
    claims = [{"metadata": {"name": f"data-{one['metadata']['name']}", "uid": f"claim-{one['metadata']['name']}"}} for one in pods]
    return {
        "/api/v1/namespaces/cache/pods": {"items": list(pods)},
        "/api/v1/namespaces/cache/persistentvolumeclaims": {"items": claims},
        "/apis/apps/v1/namespaces/cache/statefulsets": {"items": [revisioned()]},
        "/api/v1/nodes": {"items": [{"metadata": {"name": "node-1", "labels": {"topology.kubernetes.io/zone": "zone-1"}}}]},
    }


def test_pods_become_targets() -> None:
    waiting = {"containerStatuses": [{"name": "redis", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]}
    owned = {"ownerReferences": [{"kind": "StatefulSet", "name": "redis"}]}
    pods = [
        pod("redis-10", metadata=owned),
        pod("redis-2", metadata=owned, status={"phase": "Pending", "podIP": "", **waiting}),
        pod("redis-1", metadata={**owned, "deletionTimestamp": "now"}),
        pod("redis-0", metadata=owned, node="node-9"),
    ]
    targets = Pods(t.cast(t.Any, FakeClient(world(*pods))), "cache", "app=redis", 6379).targets()
    assert [target.name for target in targets] == ["redis-0", "redis-2", "redis-10"]
    assert [target.ordinal for target in targets] == [0, 2, 10], "by name, also while others are away"
    assert [target.zone for target in targets] == ["", "zone-1", "zone-1"]
    assert targets[2].volumes == ("claim-redis-10",) and targets[2].uid == "uid-redis-10" and not targets[2].problem
    assert targets[1].problem == "pod is Pending (redis: ImagePullBackOff no such image)"


BACKING_OFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}
ENDED = {"terminated": {"exitCode": 1}}
RUNNING = {"running": {"startedAt": "now"}}


def crash_loop(message: str = "", times: int = 5, **changes: t.Any) -> dict[str, t.Any]:
    ended = {"terminated": {"exitCode": 1, "message": message}}
    return {"containerStatuses": [{"name": "redis", "restartCount": times, "state": BACKING_OFF, "lastState": ended, **changes}]}


@pytest.mark.state("S33")
@pytest.mark.parametrize(
    ("status", "crashed", "problem"),
    [
        (crash_loop("words"), True, True),
        (crash_loop("words", times=1, state=ENDED), True, True),
        (crash_loop("words", times=0, state=ENDED, lastState={}), False, False),
        (crash_loop("words", times=3, state=RUNNING), True, False),
        (crash_loop("words", times=2, state=RUNNING), False, False),
        (crash_loop("words", times=9, state=RUNNING, ready=True), False, False),
        (crash_loop("words", times=9, state=RUNNING, lastState={"terminated": {"exitCode": 0}}), False, False),
    ],
    ids=["waiting", "just ended", "ended once", "runs for a moment", "starts again", "ready again", "ended as told"],
)
def test_what_counts_as_a_crash_loop(status: dict[str, t.Any], crashed: bool, problem: bool) -> None:
    target = Pods(t.cast(t.Any, FakeClient(world(pod("redis-0", status=status)))), "cache", "app=redis", 6379).targets()[0]
    assert (bool(target.crashed), bool(target.problem)) == (crashed, problem)


@pytest.mark.state("S33")
@pytest.mark.parametrize("message", ["Unrecoverable error: corrupted cluster config file.", ""], ids=["its own words", "its log"])
def test_a_pod_in_a_crash_loop_says_its_last_words(message: str) -> None:
    log = "/api/v1/namespaces/cache/pods/redis-0/log"
    words = message or "Bad file format reading the append only file"
    objects = {**world(pod("redis-0", status=crash_loop(message))), log: f"1:M starting\n1:M reading\n1:M loading\n{words}\n"}
    client = FakeClient(objects)
    pods = Pods(t.cast(t.Any, client), "cache", "app=redis", 6379)
    for _look in range(3):
        target = pods.targets()[0]
        assert target.crashed.startswith("redis ended 5 times, exit code 1, its last words: ") and target.crashed.endswith(words)
        assert target.problem == target.crashed and "starting" not in target.crashed
    assert client.requests.count(("LOG", f"{log} previous=True")) == (0 if message else 1), "asked once a crash"


@pytest.mark.state("S33")
def test_a_pod_is_made_anew_with_its_claims_if_it_is_still_the_one() -> None:
    path = "/api/v1/namespaces/cache/pods/redis-0"
    claim = "/api/v1/namespaces/cache/persistentvolumeclaims/data-redis-0"
    client = FakeClient({path: pod("redis-0"), claim: {"metadata": {"name": "data-redis-0"}}})
    pods = Pods(t.cast(t.Any, client), "cache", "app=redis", 6379)
    assert pods.recreate("redis-0", "another-uid") == "" and client.requests == []
    assert pods.recreate("redis-0", "uid-redis-0") == ""
    assert client.requests == [("DELETE", claim), ("DELETE", path)]
    assert pods.recreate("redis-0", "uid-redis-0") == ""


def member(name: str, revision: str, ready: str) -> dict[str, t.Any]:
    metadata = {"labels": {"controller-revision-hash": revision}, "ownerReferences": [{"kind": "StatefulSet", "name": "redis"}]}
    return pod(name, metadata=metadata, status={"conditions": [{"type": "Ready", "status": ready}]})


@pytest.mark.parametrize(("seen", "updates"), [(3, ["outdated", "", ""]), (2, ["unseen", "unseen", ""])])
def test_pods_of_an_older_template(seen: int, updates: list[str]) -> None:
    """By label and revision; while the controller has not seen the newest template, nobody knows. A pod of no StatefulSet is never outdated."""
    made = world(member("redis-0", "redis-old", "True"), member("redis-1", "redis-new", "False"), pod("stray-2"))
    made["/apis/apps/v1/namespaces/cache/statefulsets"]["items"] = [revisioned(seen=seen)]
    client = FakeClient(made)
    targets = Pods(t.cast(t.Any, client), "cache", "app=redis", 6379).targets()
    assert [target.update for target in targets] == updates
    assert [target.ready for target in targets] == [True, False, False]


def test_ordinals_of_a_stateful_set_outlive_a_missing_pod() -> None:
    made = world(member("redis-1", "redis-new", "True"), member("redis-10", "redis-new", "True"))
    assert [target.ordinal for target in Pods(t.cast(t.Any, FakeClient(made)), "cache", "app=redis", 6379).targets()] == [1, 10]


@pytest.mark.parametrize(
    ("status", "answer"), [(201, ""), (404, ""), (409, ""), (429, "the disruption budget does not allow it now: too many")]
)
def test_eviction_is_of_this_very_pod_and_within_the_budget(status: int, answer: str) -> None:
    class Evicting(FakeClient):
        def request(self, method: str, path: str, body: t.Any = None, **_options: t.Any) -> tuple[int, t.Any, t.Any]:
            assert (method, path) == ("POST", "/api/v1/namespaces/cache/pods/redis-1/eviction")
            assert body["deleteOptions"] == {"preconditions": {"uid": "uid-1"}}
            if status > 201:
                raise ApiError("refused", status, body={"message": "too many"})
            return status, None, {}

    assert Pods(t.cast(t.Any, Evicting()), "cache", "app=redis", 6379).evict("redis-1", "uid-1") == answer


def test_pods_without_the_right_to_read_nodes_and_claims() -> None:
    forbidden = ("/api/v1/nodes", "/api/v1/namespaces/cache/persistentvolumeclaims", "/apis/apps/v1/namespaces/cache/statefulsets")
    targets = Pods(t.cast(t.Any, FakeClient(world(pod("redis-0")), forbidden)), "cache", "app=redis", 6379).targets()
    assert (targets[0].zone, targets[0].volumes) == ("", ())
