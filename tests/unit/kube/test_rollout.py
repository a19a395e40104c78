# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube import rollout

SPEC = {
    "initContainers": [{"name": "i", "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "init", "key": "a"}}}]}],
    "containers": [
        {
            "name": "c",
            "envFrom": [{"configMapRef": {"name": "all"}}, {"secretRef": {"name": "all"}}],
            "env": [{"name": "B", "valueFrom": {"secretKeyRef": {"name": "one", "key": "b"}}}, {"name": "C", "value": "plain"}],
        }
    ],
    "imagePullSecrets": [{"name": "registry"}],
    "volumes": [
        {"name": "v", "configMap": {"name": "files"}},
        {"name": "w", "secret": {"secretName": "tls"}},
        {"name": "x", "projected": {"sources": [{"configMap": {"name": "p"}}, {"secret": {"name": "q"}}, {"downwardAPI": {}}]}},
        {"name": "y", "emptyDir": {}},
    ],
}
LIVE: dict[tuple[str, str], dict[str, Any]] = {
    ("ConfigMap", "all"): {"metadata": {"resourceVersion": "1"}, "data": {"a": "b"}},
    ("Secret", "one"): {"metadata": {"uid": "u", "resourceVersion": "5"}, "data": {"b": "c2VjcmV0"}},
}


def workload(kind: str = "Deployment", annotated: bool = True) -> dict[str, Any]:
    template = {"metadata": {"annotations": {rollout.ANNOTATION: ""} if annotated else {}}, "spec": SPEC}
    spec = {"jobTemplate": {"spec": {"template": template}}} if kind == "CronJob" else {"template": template}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "w"}, "spec": spec}


def checksum(live: dict[tuple[str, str], dict[str, Any]], kind: str = "Deployment") -> str:
    filled = rollout.fill(workload(kind), lambda kind, name: live.get((kind, name)))
    template = rollout.template_of(filled)
    assert template is not None
    return str(template["metadata"]["annotations"][rollout.ANNOTATION])


def test_every_reference_is_found() -> None:
    assert rollout.references({"spec": SPEC}) == {
        ("ConfigMap", "init"),
        ("ConfigMap", "all"),
        ("Secret", "all"),
        ("Secret", "one"),
        ("ConfigMap", "files"),
        ("Secret", "tls"),
        ("ConfigMap", "p"),
        ("Secret", "q"),
    }


@pytest.mark.parametrize(
    ("place", "path", "value", "rolls"),
    [
        (("ConfigMap", "all"), ("data", "a"), "c", True),
        (("ConfigMap", "all"), ("metadata", "resourceVersion"), "2", False),
        (("Secret", "one"), ("metadata", "resourceVersion"), "6", True),
        (("Secret", "one"), ("metadata", "uid"), "v", True),
        (("Secret", "one"), ("data", "b"), "b3RoZXI=", False),  # the values are not looked at: a real change moves the version
    ],
)
def test_what_makes_pods_roll(place: tuple[str, str], path: tuple[str, str], value: str, rolls: bool) -> None:
    changed = copy.deepcopy(LIVE)
    changed[place][path[0]][path[1]] = value
    assert (checksum(changed) != checksum(LIVE)) is rolls


def test_a_config_map_for_the_first_start_only_rolls_nothing() -> None:
    ignored = {"metadata": {"annotations": {rollout.ANNOTATION: rollout.IGNORED}}, "data": {"a": "b"}}
    changed = {**ignored, "data": {"a": "c"}}
    place = ("ConfigMap", "all")
    assert checksum({**LIVE, place: ignored}) == checksum({**LIVE, place: changed}) != checksum(LIVE)


def test_a_reference_that_appears_makes_pods_roll() -> None:
    assert checksum({}) != checksum(LIVE)


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "CronJob"])
def test_every_workload_has_its_template(kind: str) -> None:
    assert rollout.wanted(workload(kind))
    assert not rollout.wanted(workload(kind, annotated=False))
    assert checksum(LIVE, kind) == checksum(LIVE)


def test_other_kinds_want_nothing() -> None:
    assert not rollout.wanted({"kind": "ConfigMap", "metadata": {}, "data": {}})


def test_the_given_document_stays_as_it_was() -> None:
    document = workload()
    rollout.fill(document, lambda _kind, _name: None)
    assert document == workload()
