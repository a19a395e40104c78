# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an object must look like for its apply to be left out. The objects are as a 1.36 API server answered them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.unchanged import would_change

Json = dict[str, Any]

DOCUMENT: Json = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [
                    {"name": "web", "image": "web:1", "args": ["-v", "-x"], "ports": [{"containerPort": 80}], "stdin": False},
                    {"name": "side", "image": "side:1"},
                ],
                "volumes": [{"name": "run", "emptyDir": {}}],
            },
        },
    },
}
LEAF: Json = {}
OWNED: Json = {
    "f:metadata": {"f:labels": {"f:app": LEAF}},
    "f:spec": {
        "f:replicas": LEAF,
        "f:selector": LEAF,
        "f:template": {
            "f:metadata": {"f:labels": {"f:app": LEAF}},
            "f:spec": {
                "f:containers": {
                    'k:{"name":"web"}': {
                        ".": LEAF,
                        "f:name": LEAF,
                        "f:image": LEAF,
                        "f:args": LEAF,
                        "f:stdin": LEAF,
                        "f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': {".": LEAF, "f:containerPort": LEAF}},
                    },
                    'k:{"name":"side"}': {".": LEAF, "f:name": LEAF, "f:image": LEAF},
                },
                "f:volumes": {'k:{"name":"run"}': {".": LEAF, "f:name": LEAF, "f:emptyDir": LEAF}},
            },
        },
    },
}


def live() -> Json:
    item = copy.deepcopy(DOCUMENT)
    item["metadata"] |= {
        "uid": "1",
        "managedFields": [
            {"manager": "kubelet", "operation": "Update", "apiVersion": "apps/v1", "fieldsV1": {"f:status": {}}},
            {"manager": "ours", "operation": "Apply", "apiVersion": "apps/v1", "fieldsV1": copy.deepcopy(OWNED)},
        ],
    }
    item["spec"]["progressDeadlineSeconds"] = 600
    item["spec"]["template"]["spec"]["containers"][0]["ports"][0]["protocol"] = "TCP"
    item["status"] = {"replicas": 2}
    return item


def pod(item: Json) -> Json:
    return item["spec"]["template"]["spec"]


def entry(item: Json) -> Json:
    return item["metadata"]["managedFields"][1]


def test_an_object_as_applied_needs_no_request() -> None:
    assert not would_change(DOCUMENT, live(), "ours")


def test_a_field_that_another_manager_added_is_not_ours() -> None:
    there = live()
    pod(there)["containers"].append({"name": "injected", "image": "mesh:1"})
    there["metadata"]["labels"]["zone"] = "a"
    assert not would_change(DOCUMENT, there, "ours")


def test_a_set_is_compared_by_its_values() -> None:
    document = {"apiVersion": "v1", "kind": "X", "metadata": {"name": "x", "finalizers": ["a/b", "c/d"]}}
    fields = {"f:metadata": {"f:finalizers": {".": {}, 'v:"a/b"': {}, 'v:"c/d"': {}}}}
    there = copy.deepcopy(document)
    there["metadata"]["managedFields"] = [{"manager": "ours", "operation": "Apply", "apiVersion": "v1", "fieldsV1": fields}]
    assert not would_change(document, there, "ours")
    there["metadata"]["finalizers"].reverse()
    assert would_change(document, there, "ours")


def other_value(item: Json) -> None:
    item["spec"]["replicas"] = 3


def other_type(item: Json) -> None:
    pod(item)["containers"][0]["stdin"] = 0


def other_atomic_value(item: Json) -> None:
    pod(item)["containers"][0]["args"].reverse()


def other_empty_value(item: Json) -> None:
    pod(item)["volumes"][0]["emptyDir"] = {"medium": "Memory"}


def item_gone(item: Json) -> None:
    del pod(item)["containers"][1]


def other_order(item: Json) -> None:
    pod(item)["containers"].reverse()


def field_gone(item: Json) -> None:
    del pod(item)["volumes"]


def written_in_another_way(item: Json) -> None:
    item["spec"]["replicas"] = "2"


def no_longer_owned(item: Json) -> None:
    del entry(item)["fieldsV1"]["f:spec"]["f:replicas"]


def owned_beyond_the_document(item: Json) -> None:
    entry(item)["fieldsV1"]["f:spec"]["f:paused"] = {}


def item_owned_beyond_the_document(item: Json) -> None:
    entry(item)["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"old"}'] = {".": {}}


def never_applied(item: Json) -> None:
    entry(item)["manager"] = "theirs"


def applied_in_another_version(item: Json) -> None:
    entry(item)["apiVersion"] = "apps/v1beta1"


def written_not_applied(item: Json) -> None:
    entry(item)["operation"] = "Update"


def being_deleted(item: Json) -> None:
    item["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"


def without_managed_fields(item: Json) -> None:
    del item["metadata"]["managedFields"]


def unreadable_fields(item: Json) -> None:
    entry(item)["fieldsV1"]["f:metadata"]["f:labels"] = {"i:0": {}}


@pytest.mark.parametrize(
    "spoil",
    [
        other_value,
        other_type,
        other_atomic_value,
        other_empty_value,
        item_gone,
        other_order,
        field_gone,
        written_in_another_way,
        no_longer_owned,
        owned_beyond_the_document,
        item_owned_beyond_the_document,
        never_applied,
        applied_in_another_version,
        written_not_applied,
        being_deleted,
        without_managed_fields,
        unreadable_fields,
    ],
)
def test_whatever_is_not_certain_is_sent(spoil: Callable[[Json], None]) -> None:
    there = live()
    spoil(there)
    assert would_change(DOCUMENT, there, "ours")


def change(document: Json) -> None:
    pod(document)["containers"][0]["image"] = "web:2"


def add(document: Json) -> None:
    document["spec"]["paused"] = True


def leave_out(document: Json) -> None:
    del document["spec"]["replicas"]


def leave_out_an_item(document: Json) -> None:
    del pod(document)["containers"][1]


def say_null(document: Json) -> None:
    document["spec"]["replicas"] = None


def say_nothing(document: Json) -> None:
    del document["spec"]
    del document["metadata"]["labels"]


@pytest.mark.parametrize("edit", [change, add, leave_out, leave_out_an_item, say_null, say_nothing])
def test_an_edited_document_is_sent(edit: Callable[[Json], None]) -> None:
    document = copy.deepcopy(DOCUMENT)
    edit(document)
    assert would_change(document, live(), "ours")


@pytest.mark.parametrize("zero", [0, False, "", []])
def test_a_zero_that_the_server_leaves_out_is_there(zero: int | bool | str | list[str]) -> None:
    """A probe's ``initialDelaySeconds: 0`` and ``tolerations: []`` are owned and not shown; without this every workload was sent again in every run."""
    document: Json = {"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "it"}, "spec": {"field": zero, "other": 1}}
    entry = {"manager": "m", "operation": "Apply", "apiVersion": "v1", "fieldsV1": {"f:spec": {"f:field": {}, "f:other": {}}}}
    there: Json = {"metadata": {"name": "it", "managedFields": [entry]}, "spec": {"other": 1}}
    assert not would_change(document, there, "m")
    for sent in ({"field": 1, "other": 1}, {"field": None, "other": 1}, {"field": {}, "other": 1}):
        assert would_change({**document, "spec": sent}, there, "m"), "no zero, so the server is asked"
    lost = {**entry, "fieldsV1": {"f:spec": {"f:other": {}}}}
    assert would_change(document, {**there, "metadata": {"name": "it", "managedFields": [lost]}}, "m"), "somebody took the field away"
