# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which fields differ, who owns them, and what the report says. The objects are as a 1.36 API server answers them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube import drift, drift_report, ownership
from ansible_collections.progressive.platform.plugins.module_utils._kube.masks import HIDDEN
from ansible_collections.progressive.platform.plugins.module_utils._kube.redact import Redactor
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError

Json = dict[str, Any]

OURS = "progressive.platform.app"
T1, T2 = "2026-11-26T10:00:00Z", "2026-11-26T11:00:00Z"
OWNED: Json = {
    "f:metadata": {"f:labels": {"f:app": {}}},
    "f:spec": {
        "f:selector": {},
        "f:template": {
            "f:spec": {
                "f:containers": {
                    'k:{"name":"web"}': {
                        ".": {},
                        "f:name": {},
                        "f:image": {},
                        "f:args": {},
                        "f:env": {'k:{"name":"LEVEL"}': {".": {}, "f:name": {}, "f:value": {}}},
                    },
                    'k:{"name":"side"}': {".": {}, "f:name": {}, "f:image": {}},
                }
            }
        },
    },
}


def wanted() -> Json:
    containers = [
        {"name": "web", "image": "web:1", "args": ["-v", "-x"], "env": [{"name": "LEVEL", "value": "info"}]},
        {"name": "side", "image": "side:1"},
    ]
    managed = [{"manager": OURS, "operation": "Apply", "apiVersion": "apps/v1", "time": T1, "fieldsV1": copy.deepcopy(OWNED)}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}, "resourceVersion": "1", "managedFields": managed},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {"spec": {"containers": containers}}},
        "status": {"replicas": 2},
    }


def container(item: Json, number: int = 0) -> Json:
    return item["spec"]["template"]["spec"]["containers"][number]


def taken(item: Json, fields: Json, manager: str = "kubectl-edit") -> Json:
    """The object after somebody else wrote these fields."""
    item["metadata"]["managedFields"].append({"manager": manager, "operation": "Update", "time": T2, "fieldsV1": fields})
    return item


def in_container(fields: Json, name: str = "web") -> Json:
    return {"f:spec": {"f:template": {"f:spec": {"f:containers": {f'k:{{"name":"{name}"}}': fields}}}}}


def paths(before: Json, after: Json) -> list[str]:
    fields = ownership.tree(before, after)
    return [ownership.shown(difference.path) for difference in ownership.differences(before, after, fields)]


def test_nothing_differs() -> None:
    assert paths(wanted(), wanted()) == []


def test_fields_are_named_as_a_person_writes_them() -> None:
    before = wanted()
    container(before)["image"] = "web:2"
    container(before)["args"] = ["-v"]
    container(before)["env"].append({"name": "EXTRA", "value": "1"})
    del container(before)["env"][0]
    before["metadata"]["labels"]["example.com/odd"] = "x"
    assert paths(before, wanted()) == [
        "metadata.labels[example.com/odd]",
        "spec.template.spec.containers[name=web].args",
        "spec.template.spec.containers[name=web].env[name=EXTRA]",
        "spec.template.spec.containers[name=web].env[name=LEVEL]",
        "spec.template.spec.containers[name=web].image",
    ]


def test_a_container_that_moved_is_no_difference_and_one_that_went_is_named() -> None:
    moved = wanted()
    moved["spec"]["template"]["spec"]["containers"].reverse()
    assert paths(moved, wanted()) == []
    gone = wanted()
    del gone["spec"]["template"]["spec"]["containers"][1]
    assert paths(gone, wanted()) == ["spec.template.spec.containers[name=side]"]


def test_a_set_of_values_and_a_list_without_keys() -> None:
    book = [{"manager": "x", "fieldsV1": {"f:metadata": {"f:finalizers": {'v:"a"': {}}}}}]
    old = {"metadata": {"finalizers": ["a", "b"], "managedFields": book}, "spec": {"rules": [{"to": 1}, {"to": 2}], "more": [1]}}
    new = {"metadata": {"finalizers": ["b"], "managedFields": book}, "spec": {"rules": [{"to": 1}, {"to": 3}], "more": [1, 2]}}
    assert paths(old, new) == ["metadata.finalizers[a]", "spec.more", "spec.rules[1].to"]


@pytest.mark.parametrize(
    ("path", "managers"),
    [
        (("spec", "template", "spec", "containers", 'k:{"name":"web"}', "image"), ["kubectl-edit", OURS]),
        (("spec", "template", "spec", "containers", 'k:{"name":"web"}', "args", "[0]"), [OURS]),  # the list is owned whole
        (("spec", "template", "spec", "containers", 'k:{"name":"web"}'), ["kubectl-edit", OURS]),
        (("spec", "template", "spec", "containers", 'k:{"name":"other"}'), []),
        (("spec", "selector", "matchLabels", "app"), [OURS]),
        (("spec", "replicas"), []),
    ],
)
def test_owners(path: tuple[str, ...], managers: list[str]) -> None:
    item = taken(wanted(), in_container({"f:image": {}}))
    assert [owner.manager for owner in ownership.owners(item, path)] == managers


def described(action: str, before: Json | None, after: Json | None, known: tuple[str, ...] = ()) -> Json | None:
    identity = {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "web"}
    return drift.described(action, identity, before, after, OURS, Redactor(known))


def lines(*found: Json | None) -> list[str]:
    return list(drift.sentences([{"set": "app", **item} for item in found if item]))


def test_what_is_as_wanted_is_not_reported() -> None:
    status = {
        "manager": "kube-controller-manager",
        "operation": "Update",
        "subresource": "status",
        "fieldsV1": {"f:status": {"f:replicas": {}}},
    }
    item = wanted()
    item["metadata"]["managedFields"].append(status)
    assert described("unchanged", item, item) is None


def test_a_changed_field_with_its_owner() -> None:
    before = taken(wanted(), in_container({"f:image": {}}))
    container(before)["image"] = "web:2"
    del before["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"web"}']["f:image"]
    found = described("configured", before, wanted())
    assert lines(found) == [
        "app: Deployment shop/web: is not as wanted",
        f'    spec.template.spec.containers[name=web].image: wanted "web:1", found "web:2" by kubectl-edit (Update, {T2})',
    ]


def test_a_field_that_is_gone_names_the_last_writer() -> None:
    before = taken(wanted(), {"f:spec": {"f:replicas": {}}}, "kubectl-patch")
    del container(before)["args"]
    del before["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"web"}']["f:args"]
    found = described("configured", before, wanted())
    assert found
    assert lines(found)[1] == (
        '    spec.template.spec.containers[name=web].args: wanted ["-v", "-x"], found nothing; nobody owns it, '
        f"the object was last written by kubectl-patch (Update, {T2})"
    )


def test_an_environment_variable_that_somebody_added_is_foreign_and_its_secret_hidden() -> None:
    before = taken(wanted(), in_container({"f:env": {'k:{"name":"DB_PASSWORD"}': {".": {}, "f:name": {}, "f:value": {}}}}))
    container(before)["env"].append({"name": "DB_PASSWORD", "value": "tr0ub4dor"})
    found = described("unchanged", before, before)
    assert found
    assert found["drift"] == "foreign"
    assert "tr0ub4dor" not in json.dumps(found)
    assert {field["path"].rpartition(".")[2] for field in found["foreign"]} == {"name", "value"}


def test_a_text_of_many_lines_is_shown_as_a_diff_without_what_is_secret() -> None:
    before = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c"},
        "data": {"redis.conf": "port 6379\nrequirepass old-one\n"},
    }
    after = {**before, "data": {"redis.conf": "port 6379\nrequirepass new-one\nsave ''\n"}}
    found = described("configured", before, after)
    assert found
    assert found["fields"][0]["diff"][3:] == [" port 6379", f"-requirepass {HIDDEN}", f"+requirepass {HIDDEN}", "+save ''"]


def test_values_of_a_secret_never_show() -> None:
    before = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": "b2xkLXZhbHVl"}}
    found = described("configured", before, {**before, "data": {"k": "bmV3LXZhbHVl"}})
    assert found
    assert "b2xk" not in json.dumps(found)
    assert found["fields"][0]["path"] == "data.k"


def test_missing_added_and_lost() -> None:
    assert lines(described("created", None, wanted())) == ["app: Deployment shop/web: is missing"]
    assert lines(described("pruned", wanted(), None)) == [f"app: Deployment shop/web: is no longer wanted by {OURS} (Apply, {T1})"]
    before = wanted()
    del before["metadata"]["managedFields"][0]["fieldsV1"]["f:metadata"]
    found = described("configured", taken(before, {"f:metadata": {"f:labels": {"f:app": {}}}}), wanted())
    assert found
    assert found["drift"] == "ownership"
    assert found["fields"][0]["path"] == "metadata.labels.app"
    assert found["fields"][0]["owners"][0]["manager"] == "kubectl-edit"


def params(**given: Any) -> Json:
    return {"cluster": "here", "reports_dir": None, "ignore_managers": [], "ignore_fields": [], "fail": True, **given}


def sets(*objects: Json, refused: tuple[str, ...] = ()) -> Json:
    return {"app": {"compared": 7, "objects": list(objects), "refused": list(refused)}}


def foreign(manager: str, path: str = "spec.x") -> Json:
    field = {"path": path, "found": 1, "manager": manager, "operation": "Update", "time": T2}
    identity = {"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "web"}
    return {**identity, "drift": "foreign", "fields": [], "foreign": [field]}


@pytest.mark.parametrize(
    ("manager", "path", "counts"),
    [
        ("kubectl-edit", "spec.x", True),
        ("kube-controller-manager", "spec.x", False),
        ("keda-operator", "spec.x", False),
        ("progressive.platform.secret", "spec.x", False),
        ("kubectl", "spec.template.metadata.annotations[kubectl.kubernetes.io/restartedAt]", False),
        ("our-operator", "spec.x", False),
        ("other", "metadata.annotations[team.example.com/note]", False),
    ],
)
def test_controllers_and_what_the_inventory_ignores_do_not_count(manager: str, path: str, counts: bool) -> None:
    given = params(
        sets=sets(foreign(manager, path)), fail=False, ignore_managers=["our-*"], ignore_fields=["metadata.annotations[[]team.*"]
    )
    assert drift_report.run(given, Context())["ok"] is not counts


def test_the_report_fails_and_is_written(tmp_path: Path) -> None:
    found = described("created", None, wanted())
    assert found
    with pytest.raises(PlatformError) as error:
        drift_report.run(params(sets=sets(found, refused=("Job shop/x: field is immutable",)), reports_dir=str(tmp_path / "a")), Context())
    assert "here drifted (1 missing, 1 refused):" in error.value.message
    assert "app: refused: Job shop/x: field is immutable" in error.value.message
    written = json.loads((tmp_path / "a/drift.json").read_text())
    assert written["count"]["missing"] == 1
    assert written["drifted"] == ["app"]
    assert written["compared"] == 7
    assert not written["ok"]


def test_nothing_compared_is_not_green() -> None:
    with pytest.raises(PlatformError, match="Nothing was compared"):
        drift_report.run(params(sets={}), Context())


def test_a_default_that_stands_nowhere_is_no_drift() -> None:
    """The server leaves out false and 0, and after a return to a snapshot nobody owns them."""
    before = wanted()
    before["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"] = {"f:selector": {}}
    assert described("configured", before, wanted()) is None
