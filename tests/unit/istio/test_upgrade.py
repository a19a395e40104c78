# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An upgrade by revisions: the next step from what is there, and whole ways there and back in a small world."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._istio.upgrade import (
    Mesh,
    Space,
    Step,
    Upgrade,
    Workload,
    leads_to,
    next_step,
    too_far,
)

READY = {"old": "", "new": ""}
AT_OLD = {"tag": "old", "validator": "old"}
AT_NEW = {"tag": "new", "validator": "new"}
STALE, FRESH = Workload("Deployment", "app", stale=True), Workload("Deployment", "app", stale=False)
EDGE = Workload("Deployment", "edge-istio", stale=True, ours=False)

STEPS: list[tuple[str, Mesh, str, str]] = [
    ("no such control plane", Mesh({"old": ""}, AT_OLD), "wait", "there is no such control plane"),
    ("one that is not ready", Mesh({"old": "", "new": "0 of 1 pods are available"}, AT_OLD), "wait", "0 of 1 pods"),
    ("the tag is still with the old one", Mesh(READY, AT_OLD), "point", "tag, validator to new"),
    ("a run that was killed between the two", Mesh(READY, {"tag": "new", "validator": "old"}), "point", "validator to new"),
    ("pods of the old revision", Mesh(READY, AT_NEW, (Space("a", (STALE,)),)), "restart", "Deployment/app"),
    ("which are on their way", Mesh(READY, AT_NEW, (Space("a", (replace(STALE, told="new", busy="1 of 2"),)),)), "wait", "1 of 2"),
    ("which came back as they were", Mesh(READY, AT_NEW, (Space("a", (replace(STALE, told="new"),)),)), "restart", "Deployment/app"),
    (
        "told for another revision",
        Mesh(READY, AT_NEW, (Space("a", (replace(STALE, told="old", busy="1 of 2"),)),)),
        "restart",
        "Deployment/app",
    ),
    ("a gateway's pods are its control plane's", Mesh(READY, AT_NEW, (Space("a", (EDGE,)),)), "wait", "pods of another revision"),
    ("a pod that is not in step", Mesh(READY, AT_NEW, (Space("a", (FRESH,), ("app-1 has not taken",)),)), "wait", "app-1 has not taken"),
    ("the first namespace first", Mesh(READY, AT_NEW, (Space("a", (FRESH,), ("x",)), Space("b", (STALE,)))), "wait", "a: x"),
    ("then the second", Mesh(READY, AT_NEW, (Space("a", (FRESH,)), Space("b", (STALE,)))), "restart", "Deployment/app"),
    ("everything is there", Mesh(READY, AT_NEW, (Space("a", (FRESH,)), Space("b"))), "done", ""),
]


@pytest.mark.parametrize(("mesh", "action", "about"), [row[1:] for row in STEPS], ids=[row[0] for row in STEPS])
def test_the_next_step(mesh: Mesh, action: str, about: str) -> None:
    step = next_step(mesh, "new")
    assert step.action == action and about in step.about


def test_a_rollout_that_fails_says_so() -> None:
    failed = replace(STALE, told="new", busy="ProgressDeadlineExceeded", failed=True)
    assert next_step(Mesh(READY, AT_NEW, (Space("a", (failed,)),)), "new").failed


@pytest.mark.parametrize(
    ("mode", "labels", "proxy", "counts"),
    [
        ("sidecar", {}, True, True),
        ("sidecar", {}, False, True),
        ("sidecar", {"sidecar.istio.io/inject": "false"}, False, False),
        ("sidecar", {"sidecar.istio.io/inject": "false", "gateway.networking.k8s.io/gateway-name": "edge"}, True, True),
        ("ambient", {}, False, False),
        ("ambient", {"sidecar.istio.io/inject": "false", "gateway.networking.k8s.io/gateway-name": "waypoint"}, True, True),
    ],
)
def test_whose_revision_matters(mode: str, labels: dict[str, str], proxy: bool, counts: bool) -> None:
    """A gateway's pods say that they want nothing injected, and have a proxy all the same."""
    upgrade = Upgrade.__new__(Upgrade)
    upgrade.params = {"mode": mode}
    containers = [{"name": "istio-proxy" if proxy else "app"}]
    assert upgrade.counts({"metadata": {"name": "a", "labels": labels}, "spec": {"containers": containers}}) is counts


class World:
    """Two namespaces; a restart takes two looks, and makes pods of the revision that the tag has."""

    def __init__(self, broken: str = "") -> None:
        self.pointers = dict(AT_OLD)
        self.pods = {"a": "old", "b": "old"}
        self.rolling: dict[str, int] = {}
        self.told = {"a": "", "b": ""}
        self.broken = broken

    def look(self) -> Mesh:
        spaces = []
        for name in ("a", "b"):
            if self.rolling.get(name):
                self.rolling[name] -= 1
                if not self.rolling[name] and not (name == self.broken and self.pointers["tag"] == "new"):
                    self.pods[name] = self.pointers["tag"]
            stuck = name == self.broken and self.told[name] == "new" and self.pods[name] == "old" and self.pointers["tag"] == "new"
            busy = "rolls" if self.rolling.get(name) or stuck else ""
            spaces.append((name, busy))
        return Mesh(READY, self.pointers, tuple(Space(name, (self.workload(name, busy),)) for name, busy in spaces))

    def workload(self, name: str, busy: str) -> Workload:
        return Workload("Deployment", name, stale=self.pods[name] != self.target, busy=busy, told=self.told[name])

    def go(self, target: str, looks: int = 100) -> list[str]:
        self.target, done = target, []
        for _again in range(looks):
            step: Step = next_step(self.look(), target)
            if step.action == "point":
                self.pointers = {"tag": target, "validator": target}
            elif step.action == "restart":
                self.rolling[step.stage] = 2
                self.told[step.stage] = target
            done += [f"{step.action} {step.stage}"] if not done or done[-1] != f"{step.action} {step.stage}" else []
            if step.action == "done":
                break
        return done


def test_there_and_back() -> None:
    world = World()
    assert world.go("new") == ["point tag", "restart a", "wait a", "restart b", "wait b", "done done"]
    assert world.go("new") == ["done done"]
    assert world.go("old") == ["point tag", "restart a", "wait a", "restart b", "wait b", "done done"]


def test_one_that_does_not_come_up_is_taken_back_and_the_rest_was_never_touched() -> None:
    world = World(broken="a")
    assert world.go("new", looks=12)[-1] == "wait a" and world.pods == {"a": "old", "b": "old"}
    assert world.go("old")[-1] == "done done" and world.pods == {"a": "old", "b": "old"} and world.pointers == AT_OLD
    assert world.told["b"] == ""


def test_a_killed_run_is_gone_on_with_from_any_point() -> None:
    for looks in range(1, 12):
        world = World()
        world.go("new", looks=looks)
        assert world.go("new")[-1] == "done done" and world.pods == {"a": "new", "b": "new"}
        world = World()
        world.go("new", looks=looks)
        assert world.go("old")[-1] == "done done" and world.pods == {"a": "old", "b": "old"}


@pytest.mark.parametrize(
    ("here", "wanted", "far"),
    [
        ("1.31.2", "1.32.0", False),
        ("1.30.4", "1.32.0", True),
        ("1.32.0", "1.31.0", False),
        ("1.32.0", "2.0.0", True),
        ("", "1.32.0", False),
        ("unknown", "1", False),
    ],
)
def test_one_minor_at_a_time(here: str, wanted: str, far: bool) -> None:
    assert too_far(here, wanted) is far


def webhook(name: str, revision: str) -> dict[str, Any]:
    hooks = [
        {"name": one, "failurePolicy": "Fail", "clientConfig": {"caBundle": "abc", "service": {"name": f"istiod-{revision}", "port": 443}}}
        for one in "xy"
    ]
    return {
        "metadata": {"name": name, "resourceVersion": "1", "labels": {"istio.io/rev": revision, "istio.io/tag": "prod"}},
        "webhooks": hooks,
    }


class Objects:
    """What a tag is made of, and merge patches of it."""

    def __init__(self) -> None:
        labels = {"istio.io/rev": "old", "istio.io/tag": "prod"}
        self.items = {
            "istio-revision-tag-prod": webhook("istio-revision-tag-prod", "old"),
            "istiod-default-validator": webhook("istiod-default-validator", "old"),
            "istiod-revision-tag-prod": {
                "metadata": {"name": "istiod-revision-tag-prod", "resourceVersion": "1", "labels": labels},
                "spec": {"selector": {"app": "istiod", "istio.io/rev": "old"}, "ports": [{"port": 443}]},
            },
        }
        self.patches = 0

    def find(self, path: str) -> dict[str, Any] | None:
        return copy.deepcopy(self.items.get(path.rpartition("/")[2]))

    def request(self, method: str, path: str, body: dict[str, Any], **_more: Any) -> None:
        def merge(into: dict[str, Any], patch: dict[str, Any]) -> None:
            for key, value in patch.items():
                merge(into.setdefault(key, {}), value) if isinstance(value, dict) else into.update({key: value})

        assert method == "PATCH"
        self.patches += 1
        merge(self.items[path.rpartition("/")[2]], copy.deepcopy(body))


def upgrade_of(objects: Objects) -> Upgrade:
    made = Upgrade.__new__(Upgrade)
    made.client, made.params, made.changed = objects, {"tag": "prod", "namespace": "istio-system", "revision": "new"}, False  # type: ignore[assignment]
    return made


def test_a_tag_is_a_webhook_and_a_service_and_both_move() -> None:
    """A control plane that keeps one of them goes on making the gateway's Deployment, against the new one that makes it too: seen on the cluster."""
    objects, before = Objects(), Objects()
    upgrade = upgrade_of(objects)
    assert upgrade.before() == "old"
    upgrade.point("new")
    assert {name: leads_to(item) for name, item in objects.items.items()} == dict.fromkeys(objects.items, "new")
    assert upgrade.before() == "old" and objects.patches == 3
    upgrade.point("new")
    assert objects.patches == 3, "what leads there already is left alone"
    upgrade.point("old")
    del objects.items["istio-revision-tag-prod"]["metadata"]["annotations"]
    assert objects.items == before.items, "and everything else stayed"


def test_one_that_was_killed_between_label_and_name_leads_to_several() -> None:
    item = webhook("x", "old")
    item["webhooks"][0]["clientConfig"]["service"]["name"] = "istiod-new"
    assert leads_to(item) == "several"
