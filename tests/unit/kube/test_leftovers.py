# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube import leftovers
from ansible_collections.progressive.platform.plugins.module_utils._kube.applyset import ID, PART_OF, ApplySet
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError
from ansible_collections.progressive.platform.plugins.module_utils._kube.discovery import Resource

Json = dict[str, Any]

KINDS = {
    "ConfigMap": Resource("v1", "ConfigMap", "configmaps", True),
    "Secret": Resource("v1", "Secret", "secrets", True),
    "PersistentVolumeClaim": Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims", True),
    "Namespace": Resource("v1", "Namespace", "namespaces", False),
    "Deployment": Resource("apps/v1", "Deployment", "deployments", True),
    "TokenReview": Resource("authentication.k8s.io/v1", "TokenReview", "tokenreviews", False),
    "Event": Resource("v1", "Event", "events", True),
}
APP, BASE = ApplySet("app", "shop"), ApplySet("baseline", "shop")


def item(name: str, manager: str = "", group: ApplySet | None = None, namespace: str = "shop", **more: Any) -> Json:
    labels = {PART_OF: group.id} if group else {}
    managed = [{"manager": manager, "operation": "Apply", "time": "T"}] if manager else []
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels, "managedFields": managed, **more}}


class Server:
    def __init__(self, **objects: list[Json]) -> None:
        self.objects = objects
        self.accepted: set[str] = set()
        self.discovery = self

    def all(self) -> dict[tuple[str, str], Resource]:
        return {(it.api_version, it.kind): it for it in KINDS.values()}

    def request(self, _method: str, path: str, query: Json, accept: str) -> tuple[int, None, Json]:
        self.accepted.add(accept)
        resource = next(it for it in KINDS.values() if path.endswith(it.plural))
        if resource.kind == "TokenReview":
            raise ApiError("no", 405, "MethodNotAllowed")
        found = self.objects.get(resource.kind, [])
        if "namespaces/" in path:
            found = [it for it in found if it["metadata"]["namespace"] == path.split("/")[-2]]
        if query["labelSelector"]:
            found = [it for it in found if it["metadata"]["labels"].get(PART_OF, "-") in query["labelSelector"]]
        first, rest = found[:1], found[1:]  # page by page
        if query.get("continue") or not rest:
            return 200, None, {"items": rest if query.get("continue") else first}
        return 200, None, {"items": first, "metadata": {"continue": "more"}}


def names(server: Server, sets: list[ApplySet], whole: bool = False) -> tuple[list[str], list[str]]:
    items, missing = leftovers.look(server, sets, whole)  # type: ignore[arg-type]
    assert not missing
    assert server.accepted == {leftovers.METADATA}
    left, kept = leftovers.sort(items)
    return [f"{it['kind']}/{it['name']}" for it in left], [f"{it['kind']}/{it['name']}" for it in kept]


def test_only_what_we_made_counts() -> None:
    server = Server(
        Deployment=[
            item("ours", APP.manager, APP),
            item("label-copied-by-a-controller", "kube-controller-manager", APP),
            item("of-another-set", "progressive.platform.agents", ApplySet("agents", "shop")),
            item("of-another-platform", APP.manager, ApplySet("app", "other"), "other"),
            item("theirs", "kubectl"),
        ],
        ConfigMap=[item("applyset-app", APP.manager, labels={ID: APP.id}), item("theirs", "kubectl")],
    )
    assert names(server, [APP]) == (["ConfigMap/applyset-app", "Deployment/ours"], [])


def test_with_its_namespace_also_what_modules_and_stateful_sets_made() -> None:
    server = Server(
        Secret=[item("passwords", "progressive.platform.secret"), item("theirs", "kubectl")],
        PersistentVolumeClaim=[item("data-0", "kube-controller-manager")],
        Deployment=[item("left", APP.manager, APP)],
        Event=[item("event", APP.manager, APP)],
    )
    assert names(server, [APP, BASE], whole=True) == (["Deployment/left"], ["Secret/passwords", "PersistentVolumeClaim/data-0"])
    assert names(server, [APP]) == (["Deployment/left"], [])
    server.objects["PersistentVolumeClaim"] = []
    assert names(server, [APP, BASE], whole=True) == (["Secret/passwords", "Deployment/left"], [])


def test_a_namespace_is_kept_for_its_volumes_and_left_without() -> None:
    space = item("shop", BASE.manager, BASE, namespace="")
    assert names(Server(Namespace=[space]), [BASE], whole=True) == (["Namespace/shop"], [])
    server = Server(Namespace=[space], PersistentVolumeClaim=[item("data-0")])
    assert names(server, [BASE], whole=True) == ([], ["PersistentVolumeClaim/data-0", "Namespace/shop"])


def held(finalizers: list[str], *managers: tuple[str, list[str]]) -> Json:
    managed = [
        {
            "manager": manager,
            "operation": "Update",
            "time": "T",
            "fieldsV1": {"f:metadata": {"f:finalizers": {f'v:"{it}"': {} for it in theirs}}},
        }
        for manager, theirs in managers
    ]
    return item("held", finalizers=finalizers, managedFields=managed, deletionTimestamp="T")


@pytest.mark.parametrize(
    ("object_", "words"),
    [
        (
            held(["example.org/guard"], ("kubectl-edit", ["example.org/guard"])),
            " (finalizers: example.org/guard), put there by kubectl-edit (Update, T)",
        ),
        (held(["example.org/guard"]), " (finalizers: example.org/guard)"),
        (
            held(["kubernetes.io/pvc-protection"]),
            " (finalizers: kubernetes.io/pvc-protection), kubernetes.io/pvc-protection goes when no pod uses the claim any more",
        ),
        (held([]), " (finalizers: none)"),
    ],
)
def test_what_holds_an_object_is_named_with_its_owner(object_: Json, words: str) -> None:
    assert leftovers.held(object_) == words


def test_what_is_being_deleted_counts_as_left() -> None:
    left, kept = leftovers.sort([(KINDS["PersistentVolumeClaim"], held(["example.org/guard"]))])
    assert not kept
    assert left[0]["why"] == "is being deleted (finalizers: example.org/guard)"


def test_the_words() -> None:
    assert leftovers.spoken([], [], []) == "Nothing is left."
    kept = [
        {"kind": "PersistentVolumeClaim", "namespace": "shop", "name": "data-0"},
        {"kind": "Secret", "namespace": "shop", "name": "passwords"},
    ]
    assert leftovers.spoken([], kept, ["Secret: 403 Forbidden"]).splitlines() == [
        "Nothing is left.",
        "Kept: 1 volumes (data-0), and with them Secret shop/passwords.",
        "Not looked at: Secret: 403 Forbidden.",
    ]
