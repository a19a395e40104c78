# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The document that was applied, read back from the object; and a snapshot that is taken once, of this cluster, whole or not at all."""

from __future__ import annotations

import copy
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.progressive.platform.plugins.filter.upgrade_plan import upgrade_plan
from ansible_collections.progressive.platform.plugins.module_utils._kube import snapshot
from ansible_collections.progressive.platform.plugins.module_utils._kube.unchanged import would_change
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError

Json = dict[str, Any]
MANAGER = "progressive.platform.web"

DOCUMENT: Json = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
    "spec": {
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "web",
                        "image": "web:1",
                        "args": ["-v"],
                        "ports": [{"containerPort": 80}],
                        "env": [{"name": "A", "value": "1"}],
                    },
                    {"name": "side", "image": "side:1"},
                ],
                "volumes": [{"name": "run", "emptyDir": {}}],
            },
        },
    },
}
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
                        "f:env": {'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}}},
                        "f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}},
                    },
                    'k:{"name":"side"}': {".": {}, "f:name": {}, "f:image": {}},
                },
                "f:volumes": {'k:{"name":"run"}': {".": {}, "f:name": {}, "f:emptyDir": {}}},
            }
        },
    },
}


def live() -> Json:
    """As the server shows it: with defaults, a status, and what others put beside."""
    item = copy.deepcopy(DOCUMENT)
    item["metadata"] |= {"uid": "u", "resourceVersion": "5", "annotations": {"deployment.kubernetes.io/revision": "3"}}
    item["spec"] |= {"replicas": 4, "progressDeadlineSeconds": 600}
    containers = item["spec"]["template"]["spec"]["containers"]
    containers[0]["ports"][0]["protocol"] = "TCP"
    containers[0]["env"].append({"name": "THEIRS", "value": "x"})
    containers.append({"name": "injected", "image": "proxy:1"})
    entry = {"manager": MANAGER, "operation": "Apply", "apiVersion": "apps/v1", "time": "T", "fieldsV1": OWNED}
    item["metadata"]["managedFields"] = [entry, {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]
    item["status"] = {"replicas": 4}
    return item


def test_what_was_applied_is_read_back() -> None:
    assert snapshot.applied(live(), MANAGER) == DOCUMENT


def test_applying_it_again_changes_nothing() -> None:
    document = snapshot.applied(live(), MANAGER)
    assert document
    assert not would_change(document, live(), MANAGER)


def test_what_others_applied_is_not_ours() -> None:
    assert snapshot.applied(live(), "progressive.platform.other") is None


@pytest.mark.parametrize(
    ("value", "fields", "found"),
    [
        ({"a": 1, "b": 2}, {".": {}, "f:a": {}}, {"a": 1}),
        ({"a": 1}, {".": {}}, {}),
        (["a", "b"], {'v:"b"': {}}, ["b"]),
        ([{"x": 1}], {}, [{"x": 1}]),
        ({"a": None}, {"f:a": {}, "f:gone": {}}, {"a": None}),
        ([{"name": "n", "x": 1}], {'k:{"name":"n"}': {".": {}}}, [{"name": "n", "x": 1}]),
    ],
)
def test_a_part_of_a_value(value: Any, fields: Json, found: Any) -> None:
    assert snapshot.extract(value, fields) == found


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    class Server:
        uid = "one"
        objects: Json = {"agents": [DOCUMENT], "app": []}  # noqa: RUF012
        access = type("Access", (), {"namespace": "shop"})

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_exception: object) -> None:
            pass

    server = Server()
    monkeypatch.setattr(snapshot, "connect", lambda _params, _clock: server)
    monkeypatch.setattr(snapshot, "identity", lambda client: client.uid)
    monkeypatch.setattr(snapshot, "documents_of", lambda client, group: client.objects.get(group.name))

    def run(check: bool = False, **given: Any) -> Json:
        options = {"sets": ["agents", "app", "new"], "namespace": "shop", "path": str(tmp_path / "kept"), **given}
        checked = ArgumentSpecValidator(snapshot.ARGUMENTS).validate(options)
        assert not checked.error_messages
        return snapshot.run(checked.validated_parameters, Context(check=check))

    run.server = server  # type: ignore[attr-defined]
    run.folder = tmp_path / "kept"  # type: ignore[attr-defined]
    return run


def test_taken_resumed_closed_and_taken_anew(call: Any) -> None:
    assert call(check=True)["changed"]
    assert not call.folder.exists()
    first = call()
    assert first["changed"] and not first["resumed"] and first["sets"] == ["agents", "app"]
    assert stat.S_IMODE((call.folder / "agents.json").stat().st_mode) == 0o600
    call.server.objects = {"agents": []}
    again = call()
    assert again["resumed"] and not again["changed"]
    assert json.loads((call.folder / "agents.json").read_text()) == [DOCUMENT], "what a killed run had half done is not kept in its place"
    assert call(state="closed")["changed"]
    assert not call(state="closed")["changed"]
    assert call(state="checked")["sets"] == ["agents", "app"]
    assert call()["changed"]
    assert json.loads((call.folder / "agents.json").read_text()) == []
    assert json.loads((call.folder.with_name("kept.former") / "agents.json").read_text()) == [DOCUMENT]


@pytest.mark.parametrize("state", ["present", "checked", "closed"])
def test_a_snapshot_of_another_cluster_is_refused(call: Any, state: str) -> None:
    call()
    call.server.uid = "two"
    with pytest.raises(PlatformError, match="is of another cluster"):
        call(state=state)


def test_a_snapshot_that_lost_a_file_or_is_none(call: Any) -> None:
    call()
    (call.folder / "agents.json").unlink()
    with pytest.raises(PlatformError, match="not complete: agents"):
        call(state="checked")
    (call.folder / "snapshot.json").write_text("text")
    with pytest.raises(PlatformError, match="cannot be read"):
        call(state="checked")


def test_the_plan_in_words() -> None:
    where = {"apiVersion": "apps/v1", "namespace": "shop"}
    image = {"path": "spec.template.spec.containers[name=web].image", "found": "web:1", "wanted": "web:2", "owners": []}
    plan = upgrade_plan(
        {
            "app": {
                "objects": [
                    {**where, "kind": "Deployment", "name": "web", "drift": "changed", "fields": [image]},
                    {**where, "kind": "Service", "name": "web", "drift": "missing", "fields": []},
                    {**where, "kind": "ConfigMap", "name": "web", "drift": "foreign", "fields": []},
                ],
                "refused": ["Job x: immutable"],
            },
            "agents": {"objects": [], "refused": []},
        }
    )
    assert plan == [
        "1. app: 1 made, 1 changed, 1 refused; image Deployment/web from web:1 to web:2; refused: Job x: immutable; new pods for Deployment/web; "
        "time unknown: no earlier run did this",
        "2. agents: nothing; time unknown: no earlier run did this",
    ]
