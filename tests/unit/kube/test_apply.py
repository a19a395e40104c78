# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import stat
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.progressive.platform.plugins.module_utils._kube import apply, graph, secret
from ansible_collections.progressive.platform.plugins.module_utils._kube.applyset import ApplySet
from ansible_collections.progressive.platform.plugins.module_utils._kube.bundle import Key, load
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError
from ansible_collections.progressive.platform.plugins.module_utils._kube.discovery import Resource
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError

DEPLOYMENT = Key("apps", "Deployment", "shop", "web")


def params(**given: Any) -> dict[str, Any]:
    checked = ArgumentSpecValidator(apply.ARGUMENTS, **apply.CONSTRAINTS).validate(given)
    assert not checked.error_messages, checked.error_messages
    return dict(checked.validated_parameters)


def error(code: int, reason: str, message: str = "", causes: list[dict[str, str]] | None = None, kind: str = "") -> ApiError:
    body = {"message": message, "reason": reason, "details": {"causes": causes or [], "kind": kind}}
    return ApiError(f"PATCH /x: {code}", code, reason, body)


def conflict(field: str, message: str) -> dict[str, str]:
    return {"reason": "FieldManagerConflict", "field": field, "message": message}


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        (
            error(
                409,
                "Conflict",
                "Apply failed",
                [conflict(".spec.replicas", 'conflict with "kubectl-scale" with subresource "scale" using apps/v1')],
            ),
            'Deployment shop/web: .spec.replicas is owned by "kubectl-scale" with subresource "scale". '
            "Take the fields over with force: true, or leave them out of the definition.",
        ),
        (
            error(409, "Conflict", "x", [conflict(".data.a", 'conflict with "one" using v1'), conflict(".data.b", 'conflict with "two"')]),
            'Deployment shop/web: .data.a is owned by "one"; .data.b is owned by "two". '
            "Take the fields over with force: true, or leave them out of the definition.",
        ),
        (
            error(404, "NotFound", 'namespaces "shop" not found', kind="namespaces"),
            "Deployment shop/web: the namespace 'shop' does not exist. Put it into the bundle, or run `kubectl create namespace shop`.",
        ),
        (
            error(403, "Forbidden", "being terminated", [{"reason": "NamespaceTerminating", "message": "x"}]),
            "Deployment shop/web: its namespace is being deleted. "
            "Wait for `kubectl wait --for=delete namespace/shop`, then run this again.",
        ),
        (
            error(403, "Forbidden", "exceeded quota: small."),
            "Deployment shop/web: 403 Forbidden: exceeded quota: small. Ask what is allowed with `kubectl auth can-i --list -n shop`.",
        ),
        (
            error(422, "Invalid", "spec.selector: field is immutable"),
            "Deployment shop/web: 422 Invalid: spec.selector: field is immutable. "
            "Such a field is set once: to change it, delete the object first (`kubectl delete deployment web -n shop`).",
        ),
        (
            error(400, "BadRequest", 'strict decoding error: unknown field "spec.replica"'),
            'Deployment shop/web: 400 BadRequest: strict decoding error: unknown field "spec.replica".',
        ),
        (
            error(
                500,
                "InternalError",
                "failed to create typed patch object (shop/web; apps/v1, Kind=Deployment): .spec.replica: field not declared",
            ),
            "Deployment shop/web: .spec.replica: field not declared. Compare with `kubectl explain deployment --recursive`.",
        ),
        (ApiError("The API server https://h refuses connections."), "Deployment shop/web: The API server https://h refuses connections."),
        (PlatformError("Does not serve."), "Deployment shop/web: Does not serve."),
    ],
)
def test_failures_say_what_to_do(failure: PlatformError, sentence: str) -> None:
    assert apply.explain(DEPLOYMENT, failure) == sentence


MANAGED = [{"manager": "progressive.platform.s", "operation": "Apply", "time": "t1", "fieldsV1": {"f:data": {"f:a": {}}}}]


def live(data: dict[str, Any], managed: Sequence[dict[str, Any]] = tuple(MANAGED), **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "c", "managedFields": managed, **metadata}, "data": data, "status": {"seen": len(metadata)}}


@pytest.mark.parametrize(
    ("after", "differs"),
    [
        (live({"a": "1"}), False),
        (live({"a": "1"}, resourceVersion="9", generation=4), False),
        (live({"a": "1"}, [{**MANAGED[0], "time": "t2"}]), True),  # the server renews it only with a write of ours
        (live({"a": "1"}, [*MANAGED, {"manager": "hpa", "operation": "Update"}]), False),
        (live({"a": "1", "theirs": "2"}), False),
        (live({"a": "1"}, annotations={"a-controller": "was here"}), False),
        (live({"a": "2"}), True),
        (live({}), True),
        (live({"a": "1"}, [{**MANAGED[0], "fieldsV1": {"f:data": {"f:a": {}, "f:b": {}}}}]), True),
        (live({"a": "1"}, []), True),
    ],
)
def test_only_what_we_changed_counts(after: dict[str, Any], differs: bool) -> None:
    document = {"metadata": {"name": "c"}, "data": {"a": "1"}}
    before = apply.significant(live({"a": "1"}), document, "progressive.platform.s")
    assert (apply.significant(after, document, "progressive.platform.s") != before) is differs


def test_whoever_owns_what_is_wanted_and_goes_is_known_before() -> None:
    """KEDA's ScaledObject and its autoscaler, which has the labels of its owner and so the set's, and is no member of it."""
    hpa, scaled, claim = (
        Key(group, kind, "shop", "web")
        for group, kind in (("autoscaling", "HorizontalPodAutoscaler"), ("keda.sh", "ScaledObject"), ("", "PersistentVolumeClaim"))
    )

    def owned(by: str, managed: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
        return live({}, managed, ownerReferences=[{"uid": by}])

    manager = "progressive.platform.s"
    before = {hpa: owned("1"), scaled: live({}, uid="1")}
    assert apply.owned_by_former(before, {hpa}, manager) == {hpa: [scaled]}
    assert apply.owned_by_former(before, {hpa, scaled}, manager) == {}, "both are wanted"
    assert apply.owned_by_former({**before, scaled: live({}, [], uid="1")}, {hpa}, manager) == {}, "somebody else's"
    assert apply.owned_by_former({**before, hpa: owned("2")}, {hpa}, manager) == {}
    assert apply.owned_by_former({hpa: owned("1"), claim: live({}, uid="1")}, {hpa}, manager) == {}, "data stays"
    assert apply.owned_by_former({scaled: live({}, uid="1")}, {hpa}, manager) == {}, "it is not there yet"


@pytest.mark.parametrize(("wanted", "there", "sent"), [(6, 10, 10), (10, 6, 10), (6, 6, 6), (6, None, 6), (None, 4, None), (0, 3, 3)])
def test_a_stateful_set_is_not_made_smaller(wanted: int | None, there: int | None, sent: int | None) -> None:
    document = {"kind": "StatefulSet", "spec": {"serviceName": "s"} | ({} if wanted is None else {"replicas": wanted})}
    found = apply.not_smaller(document, {"spec": {"replicas": there}})
    assert found["spec"].get("replicas") == sent and found["spec"]["serviceName"] == "s"
    assert document["spec"].get("replicas") == wanted, "the bundle itself stays as it is"


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ('299 - "would violate PodSecurity \\"restricted:latest\\""', 'would violate PodSecurity "restricted:latest"'),
        ('299 kube-apiserver "v1beta1 is deprecated" "date"', "v1beta1 is deprecated"),
        ("nonsense", ""),
    ],
)
def test_warnings_are_read(header: str, text: str) -> None:
    assert apply.warning(header) == text


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"set": "Not-A-Name"}, "no name for a set"),
        ({"set": "a" * 54}, "no name for a set"),
        ({"set": "a", "templates": ["x.j2"]}, "rendered on the controller"),
        ({"set": "a", "definition": [1]}, "a mapping is wanted"),
        ({"set": "a", "kubeconfig": "/does/not/exist"}, "/does/not/exist"),
    ],
)
def test_bad_options_are_refused_before_anything_is_sent(given: dict[str, Any], said: str) -> None:
    with pytest.raises(PlatformError, match=said):
        apply.run(params(**given), Context())


BUNDLE = """
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data: {when: 2026-11-23}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: r, namespace: wrong}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.org}
spec: {group: example.org, scope: Cluster, names: {kind: Widget}}
---
apiVersion: example.org/v1
kind: Widget
metadata: {name: w}
"""


def test_rendered_writes_a_file_and_talks_to_nobody(tmp_path: Path) -> None:
    given = params(set="app", namespace="shop", state="rendered", dest=f"{tmp_path}/new/", definition=BUNDLE, kubeconfig="/does/not/exist")
    dest = tmp_path / "new" / "app.yaml"
    assert apply.run(given, Context(check=True))["changed"]
    assert not dest.exists()
    assert apply.run(given, Context())["changed"]
    assert not apply.run(given, Context())["changed"]
    assert [document["metadata"].get("namespace") for document in load(dest.read_text(), "x")] == ["shop", None, None, None]
    assert stat.S_IMODE(dest.stat().st_mode) == 0o644


def test_a_rendered_secret_is_for_its_owner_only(tmp_path: Path) -> None:
    dest = tmp_path / "app.yaml"
    dest.write_text("old")
    dest.chmod(0o644)
    document = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "Yg=="}}
    apply.run(params(set="app", state="rendered", dest=str(dest), definition=document), Context())
    assert stat.S_IMODE(dest.stat().st_mode) == 0o600


def test_sealed_values_come_back() -> None:
    documents = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "open"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "Yg=="}, "stringData": {"b": "hidden"}},
    ]
    bare, sealed = apply.seal(documents)
    assert "Yg==" not in str(bare)
    assert "hidden" not in str(bare) + sealed
    assert apply.unseal(bare, sealed) == documents
    assert apply.unseal(documents, None) == documents


# ---- graph --------------------------------------------------------------------------------------------------------------------


def test_everything_is_done_after_what_it_needs() -> None:
    needs = [{1, 2}, {3}, {3}, set(), set()]
    done: list[int] = []
    assert graph.run(needs, lambda index: done.append(index) or index, 4) == [0, 1, 2, 3, 4]  # type: ignore[func-returns-value]
    assert all(done.index(other) < done.index(index) for index, before in enumerate(needs) for other in before)


def test_the_independent_run_together() -> None:
    barrier = threading.Barrier(3)
    assert graph.run([set(), set(), set()], lambda _index: barrier.wait(10) >= 0, 3) == [True, True, True]


def test_a_failure_stops_only_what_needs_it() -> None:
    def work(index: int) -> int:
        if index == 0:
            raise PlatformError("no")
        return index

    outcomes = graph.run([set(), {0}, {1}, set(), {3}], work, 2)
    assert isinstance(outcomes[0], PlatformError)
    assert [isinstance(outcome, graph.Blocked) for outcome in outcomes] == [False, True, True, False, False]
    assert outcomes[3:] == [3, 4]


def test_nothing_to_do() -> None:
    assert graph.run([], lambda index: index, 2) == []


# ---- secret -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("generate", "data", "said"),
    [
        ({}, {}, "at least one"),
        ({"a": {"length": 11}}, {}, "from 12 to 1024"),
        ({"a": {"length": "many"}}, {}, "a whole number"),
        ({"a": {"length": True}}, {}, "a whole number"),
        ({"a": {"size": 20}}, {}, "unknown option 'size'"),
        ({"a": {"turns": ["one"]}}, {}, "two or more different names"),
        ({"a": {"turns": "one, two"}}, {}, "two or more different names"),
        ({"a": {"turns": ["one", "two"], "length": 20}}, {}, "no length beside them"),
        ({"a": {}}, {"a": "b"}, "stands in generate and in data"),
    ],
)
def test_bad_secrets_are_refused(generate: dict[str, Any], data: dict[str, str], said: str) -> None:
    with pytest.raises(PlatformError, match=said):
        secret.check({"generate": generate, "data": data})


def test_lengths_and_letters() -> None:
    assert secret.check({"generate": {"a": {}, "b": {"length": "40"}, "c": None}, "data": {}}) == {"a": 32, "b": 40, "c": 32}
    made = {secret.make(40) for _unused in range(50)}
    assert len(made) == 50
    assert all(len(value) == 40 and value.isalnum() and value.isascii() for value in made)


def webhook(policy: str, **managers: list[str]) -> dict[str, Any]:
    """A configuration as the server has it; each manager owns failurePolicy of the hooks it is given."""
    fields = {who: {"f:webhooks": {f'k:{{"name":"{name}"}}': {"f:failurePolicy": {}} for name in names}} for who, names in managers.items()}
    owned = [{"manager": who, "operation": "Apply" if who == "ours" else "Update", "fieldsV1": entry} for who, entry in fields.items()]
    return {"metadata": {"managedFields": owned}, "webhooks": [{"name": "check", "failurePolicy": policy}]}


@pytest.mark.parametrize(
    ("there", "sent"),
    [
        (webhook("Fail", istiod=["check"]), {}),
        (webhook("Ignore", ours=["check"]), {"failurePolicy": "Ignore"}),
        (webhook("Fail", ours=["check"]), {"failurePolicy": "Ignore"}),  # we closed it once, and now shall open it
        ({"metadata": {}, "webhooks": []}, {"failurePolicy": "Ignore"}),
    ],
)
def test_a_webhook_that_its_controller_closed_stays_closed(there: dict[str, Any], sent: dict[str, str]) -> None:
    document = {"kind": "ValidatingWebhookConfiguration", "webhooks": [{"name": "check", "failurePolicy": "Ignore"}]}
    assert apply.closed_by_controller(document, there, "ours")["webhooks"] == [{"name": "check", **sent}]


def test_what_many_workloads_refer_to_is_read_once() -> None:
    class Client:
        def __init__(self) -> None:
            self.asked: list[str] = []

        def resource(self, _version: str, kind: str) -> Any:
            return Resource("v1", kind, f"{kind.lower()}s", True)

        def find(self, path: str) -> None:
            self.asked.append(path)

    client = Client()
    engine = apply.Engine(client, ApplySet("agents", "shop"), Context())  # type: ignore[arg-type]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _number: engine._live("Secret", "shop", "redis-auth"), range(100)))
    assert found == [None] * 100 and client.asked == ["/api/v1/namespaces/shop/secrets/redis-auth"]
    engine._live("ConfigMap", "shop", "redis-auth")
    assert len(client.asked) == 2
