# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module apply on a real API server: what it claims for check mode, diff, idempotence, pruning and conflicts."""

from __future__ import annotations

import base64
import copy
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.applyset import ApplySet
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client

Json = dict[str, Any]
PASSWORD = "correct-horse-battery"
CHECKSUM = "progressive.platform/config-checksum"


def document(kind: str, name: str, api_version: str = "v1", **fields: Any) -> Json:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **fields}


def config(name: str = "settings", **data: str) -> Json:
    return document("ConfigMap", name, data=data or {"level": "info"})


def secret(value: str = PASSWORD) -> Json:
    return document("Secret", "auth", data={"password": base64.b64encode(value.encode()).decode()})


def service() -> Json:
    return document("Service", "web", spec={"selector": {"app": "web"}, "ports": [{"port": 80}]})


def deployment(name: str = "web", **spec: Any) -> Json:
    env = [
        {"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "level"}}},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "auth", "key": "password"}}},
    ]
    template = {
        "metadata": {"labels": {"app": name}, "annotations": {CHECKSUM: ""}},
        "spec": {"containers": [{"name": "c", "image": "localhost/none:1", "env": env}]},
    }
    return document(
        "Deployment", name, "apps/v1", spec={"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": template, **spec}
    )


def bundle() -> list[Json]:
    return [deployment(), service(), secret(), config()]  # in the wrong order on purpose


def actions(result: Json) -> dict[str, str]:
    assert not result.get("failed"), result["msg"]
    return {f"{item['kind']}/{item['name']}": item["action"] for item in result["objects"]}


def live(client: Client, namespace: str, kind: str, name: str, api_version: str = "v1") -> Json:
    return client.get(client.resource(api_version, kind).path(namespace, name))


def all_are(result: Json, action: str) -> bool:
    return set(actions(result).values()) == {action}


Apply = Callable[..., Json]


def test_check_apply_again_drift(
    apply_module: Apply, client: Client, namespace: str, versions: Callable[..., Any], kubectl: Callable[..., str]
) -> None:
    call = {"set": "web", "namespace": namespace}
    untouched = versions(namespace)

    predicted = apply_module(check=True, definition=bundle(), **call)
    assert predicted["changed"]
    assert all_are(predicted, "created")
    assert versions(namespace) == untouched, "check mode changed something"

    first = apply_module(definition=bundle(), **call)
    assert first["changed"] is predicted["changed"]
    assert first["objects"] == predicted["objects"]

    applied = versions(namespace, ("v1", "ConfigMap"), ("v1", "Secret"), ("v1", "Service"))
    again = apply_module(definition=bundle(), **call)
    assert not again["changed"]
    assert all_are(again, "unchanged")
    assert not apply_module(check=True, diff=True, definition=bundle(), **call)["changed"]
    assert versions(namespace, ("v1", "ConfigMap"), ("v1", "Secret"), ("v1", "Service")) == applied, "a resourceVersion moved"

    kubectl("-n", namespace, "delete", "service", "web")
    kubectl(
        "-n", namespace, "patch", "configmap", "settings", "--field-manager=progressive.platform.web", "-p", '{"data":{"level":"drifted"}}'
    )
    drift = apply_module(check=True, definition=bundle(), force=True, **call)
    repaired = apply_module(definition=bundle(), force=True, **call)
    assert drift["objects"] == repaired["objects"]
    assert actions(repaired) | {"Deployment/web": ""} == {
        "Deployment/web": "",
        "Service/web": "created",
        "Secret/auth": "unchanged",
        "ConfigMap/settings": "configured",
    }
    assert live(client, namespace, "ConfigMap", "settings")["data"] == {"level": "info"}
    assert not apply_module(definition=bundle(), force=True, **call)["changed"]


def test_controllers_that_write_meanwhile_are_no_change(apply_module: Apply, namespace: str) -> None:
    """Right after the first run controllers still write status and annotations; none of it is ours."""
    many = [deployment(f"web-{number}") for number in range(20)] + [secret(), config()]
    apply_module(set="web", namespace=namespace, definition=copy.deepcopy(many))
    assert not apply_module(set="web", namespace=namespace, definition=many)["changed"]


def test_the_diff_shows_the_change_and_no_secret(apply_module: Apply, namespace: str, versions: Callable[..., Any]) -> None:
    call = {"set": "web", "namespace": namespace}
    apply_module(definition=bundle(), **call)
    edited = [deployment(), service(), secret("another-password-entirely"), config(level="debug")]
    before = versions(namespace, ("v1", "ConfigMap"), ("v1", "Secret"), ("v1", "Service"))
    predicted = apply_module(check=True, diff=True, definition=copy.deepcopy(edited), **call)
    assert versions(namespace, ("v1", "ConfigMap"), ("v1", "Secret"), ("v1", "Service")) == before
    shown = {entry["before_header"].partition(" ")[0]: entry for entry in predicted["diff"]}
    assert set(shown) == {"ConfigMap", "Secret", "Deployment"}, "the pods roll with their configuration, the Service stays"
    assert "level: info" in shown["ConfigMap"]["before"]
    assert "level: debug" in shown["ConfigMap"]["after"]
    assert "(before)" in shown["Secret"]["before"]
    real = apply_module(diff=True, definition=edited, **call)
    assert real["objects"] == predicted["objects"]
    for text in (str(predicted), str(real)):
        for value in (PASSWORD, "another-password-entirely"):
            assert value not in text
            assert base64.b64encode(value.encode()).decode() not in text


@pytest.mark.parametrize(
    ("edited", "rolls"),
    [([config(level="debug"), secret()], True), ([config(), secret("another-password")], True), ([config(), secret(), service()], False)],
    ids=["config", "secret", "nothing"],
)
def test_pods_roll_with_their_configuration(apply_module: Apply, client: Client, namespace: str, edited: list[Json], rolls: bool) -> None:
    def checksum() -> str:
        return str(live(client, namespace, "Deployment", "web", "apps/v1")["spec"]["template"]["metadata"]["annotations"][CHECKSUM])

    apply_module(set="web", namespace=namespace, definition=bundle())
    first = checksum()
    assert len(first) == 64
    result = apply_module(set="web", namespace=namespace, definition=[*copy.deepcopy(edited), deployment()])
    assert (checksum() != first) is rolls
    assert actions(result)["Deployment/web"] == ("configured" if rolls else "unchanged")


def test_a_stateful_set_shrinks_only_when_allowed(apply_module: Apply, client: Client, namespace: str) -> None:
    """With scale_in false the larger number is sent: in check mode, in the diff and for real; the rest of the object changes all the same."""

    def bundle(replicas: int, **labels: str) -> Json:
        pod = {"metadata": {"labels": {"app": "s"}}, "spec": {"containers": [{"name": "c", "image": "none.invalid/none"}]}}
        spec = {"replicas": replicas, "serviceName": "s", "selector": {"matchLabels": {"app": "s"}}, "template": pod}
        return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "s", "labels": labels}, "spec": spec}

    def replicas() -> int:
        return int(client.get(client.resource("apps/v1", "StatefulSet").path(namespace, "s"))["spec"]["replicas"])

    given: Json = {"set": "stateful", "namespace": namespace}
    assert apply_module(**given, definition=bundle(2), scale_in=False)["changed"] and replicas() == 2
    assert apply_module(**given, definition=bundle(1), scale_in=False, check=True)["changed"] is False
    held = apply_module(**given, definition=bundle(1, tier="new"), scale_in=False, diff=True)
    assert held["changed"] and replicas() == 2 and "replicas: 1" not in held["diff"][0]["after"]
    assert apply_module(**given, definition=bundle(1, tier="new"), scale_in=False)["changed"] is False
    assert apply_module(**given, definition=bundle(3, tier="new"), scale_in=False)["changed"] and replicas() == 3
    assert "replicas: 1" in apply_module(**given, definition=bundle(1, tier="new"), check=True, diff=True)["diff"][0]["after"]
    assert apply_module(**given, definition=bundle(1, tier="new"))["changed"] and replicas() == 1


def test_prune_deletes_only_what_the_set_applied(apply_module: Apply, client: Client, namespace: str) -> None:
    mine = {"set": "mine", "namespace": namespace}
    claim = document(
        "PersistentVolumeClaim",
        "data",
        spec={"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}, "storageClassName": ""},
    )
    apply_module(definition=[config("a"), config("b"), service(), claim], **mine)
    apply_module(set="other", namespace=namespace, definition=[config("c"), config("d")])
    label = {"applyset.kubernetes.io/part-of": ApplySet("mine", namespace).id}
    stranger = {**config("stranger"), "metadata": {"name": "stranger", "labels": label}}  # as a controller copies labels
    client.request("POST", client.resource("v1", "ConfigMap").path(namespace), stranger)

    predicted = apply_module(check=True, definition=[config("a")], **mine)
    result = apply_module(definition=[config("a")], **mine)
    assert predicted["objects"] == result["objects"]
    assert actions(result) == {
        "ConfigMap/a": "unchanged",
        "ConfigMap/b": "pruned",
        "Service/web": "pruned",
        "PersistentVolumeClaim/data": "kept",
    }
    assert any("kubectl delete persistentvolumeclaim data" in text for text in result["warnings"])
    names = {item["metadata"]["name"] for item in client.list(client.resource("v1", "ConfigMap"), namespace)["items"]}
    assert {"a", "c", "d", "stranger"} <= names
    assert "b" not in names
    again = apply_module(definition=[config("a")], **mine)
    assert not again["changed"]


def test_without_prune_nothing_goes_and_nothing_is_forgotten(apply_module: Apply, namespace: str) -> None:
    call = {"set": "web", "namespace": namespace}
    apply_module(definition=[config("a"), service()], **call)
    assert actions(apply_module(definition=[config("a")], prune=False, **call)) == {"ConfigMap/a": "unchanged"}
    assert actions(apply_module(definition=[config("a")], **call)) == {"ConfigMap/a": "unchanged", "Service/web": "pruned"}


def test_a_set_over_two_namespaces(apply_module: Apply, namespace: str, absent_namespace: str) -> None:
    there = {**config("there"), "metadata": {"name": "there", "namespace": absent_namespace}}
    call = {"set": "wide", "namespace": namespace}
    first = apply_module(definition=[there, config("here"), document("Namespace", absent_namespace)], **call)
    assert all_are(first, "created")
    assert not apply_module(definition=[there, config("here"), document("Namespace", absent_namespace)], **call)["changed"]
    left = actions(apply_module(definition=[config("here"), document("Namespace", absent_namespace)], **call))
    assert left["ConfigMap/there"] == "pruned"


def test_the_set_may_live_in_the_namespace_it_makes(apply_module: Apply, absent_namespace: str) -> None:
    call = {"set": "base", "namespace": absent_namespace}
    definition = [config("a"), document("Namespace", absent_namespace)]
    assert all_are(apply_module(check=True, definition=copy.deepcopy(definition), **call), "created")
    assert all_are(apply_module(definition=copy.deepcopy(definition), **call), "created")
    assert all_are(apply_module(definition=copy.deepcopy(definition), **call), "unchanged")
    gone = apply_module(state="absent", **call)
    assert all_are(gone, "deleted")


def test_absent(apply_module: Apply, client: Client, namespace: str) -> None:
    call = {"set": "web", "namespace": namespace}
    apply_module(definition=bundle(), **call)
    apply_module(set="other", namespace=namespace, definition=[config("c")])
    predicted = apply_module(check=True, state="absent", **call)
    assert live(client, namespace, "ConfigMap", "settings")
    result = apply_module(state="absent", **call)
    assert all_are(result, "deleted")
    assert sorted(map(str, predicted["objects"])) == sorted(map(str, result["objects"]))
    names = {item["metadata"]["name"] for item in client.list(client.resource("v1", "ConfigMap"), namespace)["items"]}
    assert names - {"kube-root-ca.crt"} == {"c", "applyset-other"}
    assert not apply_module(state="absent", **call)["changed"]


def test_absent_names_what_a_finalizer_holds(apply_module: Apply, kubectl: Callable[..., str], namespace: str) -> None:
    held = config("held")
    held["metadata"]["finalizers"] = ["example.org/guard"]
    apply_module(set="web", namespace=namespace, definition=[held])
    result = apply_module(set="web", namespace=namespace, state="absent", wait_timeout=2)
    assert result["failed"]
    assert f"ConfigMap {namespace}/held (finalizers: example.org/guard)" in result["msg"]
    kubectl("-n", namespace, "patch", "configmap", "held", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert apply_module(set="web", namespace=namespace, state="absent")["changed"], "a second run finishes what the first began"


def test_conflicts_name_field_and_owner(apply_module: Apply, client: Client, kubectl: Callable[..., str], namespace: str) -> None:
    call = {"set": "web", "namespace": namespace}
    apply_module(definition=bundle(), **call)
    kubectl("-n", namespace, "patch", "configmap", "settings", "--field-manager=somebody", "-p", '{"data":{"level":"theirs"}}')
    for check in (True, False):
        result = apply_module(check=check, definition=bundle(), **call)
        assert result["failed"]
        assert f'ConfigMap {namespace}/settings: .data.level is owned by "somebody"' in result["msg"]
        assert "force: true" in result["msg"]
        assert "1 objects that need them were not sent" in result["msg"], "the Deployment must not roll with half a configuration"
    assert live(client, namespace, "ConfigMap", "settings")["data"] == {"level": "theirs"}
    assert apply_module(definition=bundle(), force=True, **call)["changed"]
    assert live(client, namespace, "ConfigMap", "settings")["data"] == {"level": "info"}


def test_every_failure_is_reported_and_the_rest_is_applied(apply_module: Apply, client: Client, namespace: str) -> None:
    bad = service()
    bad["spec"]["ports"][0]["port"] = 99999
    typo = {**config("typo"), "dat": {}}
    result = apply_module(set="web", namespace=namespace, definition=[config("good"), bad, typo])
    assert result["failed"]
    assert len(result["failures"]) == 2
    assert "99999" in result["msg"]
    assert ".dat: field not declared in schema" in result["msg"]
    assert result["changed"]
    assert live(client, namespace, "ConfigMap", "good")


def test_check_mode_without_the_namespace(apply_module: Apply, client: Client, absent_namespace: str) -> None:
    call = {"set": "web", "namespace": absent_namespace}
    assert all_are(apply_module(check=True, diff=True, definition=bundle(), **call), "created")
    assert all_are(apply_module(check=True, definition=[document("Namespace", absent_namespace), *bundle()], **call), "created")
    assert client.find(client.resource("v1", "Namespace").path(None, absent_namespace)) is None
    wrong = apply_module(check=True, definition=[{**config(), "dat": {}}], **call)
    assert wrong["failed"], "the server's validation is asked for all the same"
    assert ".dat: field not declared in schema" in wrong["msg"]
    real = apply_module(definition=[config()], **call)
    assert real["failed"]
    assert f"kubectl create namespace {absent_namespace}" in real["msg"]


@pytest.fixture
def widgets(client: Client) -> Iterator[Json]:
    """A CustomResourceDefinition of the test's own group, which does not exist yet; deleted afterwards."""
    group = f"x{secrets.token_hex(4)}.example.org"
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": "Widget", "plural": "widgets", "singular": "widget"}
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}
    yield document("CustomResourceDefinition", f"widgets.{group}", "apiextensions.k8s.io/v1", spec=spec)
    try:
        client.request("DELETE", client.resource("apiextensions.k8s.io/v1", "CustomResourceDefinition").path(None, f"widgets.{group}"))
    except ApiError as error:
        assert error.status == 404, error.message


def test_a_definition_and_its_resources_in_one_bundle(apply_module: Apply, namespace: str, widgets: Json) -> None:
    version = f"{widgets['spec']['group']}/v1"
    definition = [document("Widget", f"w{number}", version, spec={"size": number}) for number in range(5)] + [widgets]
    call = {"set": "widgets", "namespace": namespace}
    predicted = apply_module(check=True, definition=copy.deepcopy(definition), **call)
    assert all_are(predicted, "created")
    assert all_are(apply_module(definition=copy.deepcopy(definition), **call), "created")
    assert all_are(apply_module(definition=copy.deepcopy(definition), **call), "unchanged")
    left = actions(apply_module(definition=definition[:2], **call))
    assert left == {
        "Widget/w0": "unchanged",
        "Widget/w1": "unchanged",
        "Widget/w2": "pruned",
        "Widget/w3": "pruned",
        "Widget/w4": "pruned",
        f"CustomResourceDefinition/{widgets['metadata']['name']}": "kept",
    }
    assert all_are(apply_module(state="absent", **call), "deleted")


def test_a_kind_nobody_knows(apply_module: Apply, namespace: str) -> None:
    result = apply_module(set="web", namespace=namespace, definition=[document("Widget", "w", "nowhere.example.org/v1")])
    assert result["failed"]
    assert "does not know Widget of nowhere.example.org/v1" in result["msg"]


def test_kubectl_sees_the_set(apply_module: Apply, kubectl: Callable[..., str], namespace: str) -> None:
    apply_module(set="web", namespace=namespace, definition=bundle())
    listed = kubectl("-n", namespace, "get", "configmap,secret,service,deployment", "-o", "name", "-l", ApplySet("web", namespace).selector)
    assert set(listed.split()) == {"configmap/settings", "secret/auth", "service/web", "deployment.apps/web"}
    manifest = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings, namespace: {namespace}}}\n"
    options = ("apply", "-n", namespace, "--prune", "--applyset=configmaps/applyset-web", "-f", "-")
    said = kubectl(*options, check=False, stdin=manifest, KUBECTL_APPLYSET="true")
    assert 'managed by tooling "progressive.platform"' in said, "kubectl must know the set, and that it is not its own"


TEMPLATE = """
{% for name in names %}
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ name }}
data:
  level: "{{ level }}"
{% endfor %}
---
apiVersion: v1
kind: Secret
metadata:
  name: auth
stringData:
  password: "{{ password }}"
"""


@pytest.mark.parametrize("options", [["--check", "--diff"], ["--diff"], []], ids=["check", "diff", "plain"])
def test_both_ways_in_give_the_same_result(play: Callable[..., Any], namespace: str, options: list[str], tmp_path: Any) -> None:
    results = []
    for connection in ("local", "community.general.chroot"):
        task = {
            "progressive.platform.apply": {
                "set": f"set-{connection[:5]}".replace(".", "-"),
                "namespace": namespace,
                "templates": ["bundle.yaml.j2"],
            },
            "vars": {"names": ["a", "b"], "level": "info", "password": PASSWORD},
        }
        result, printed = play(
            [task],
            *options,
            connection=connection,
            templates={
                "bundle.yaml.j2": TEMPLATE.replace("{{ name }}", "{{ name }}-" + connection[:5]).replace(
                    "name: auth", "name: auth-" + connection[:5]
                )
            },
        )
        assert not result.get("failed"), result["msg"]
        assert PASSWORD not in printed
        assert base64.b64encode(PASSWORD.encode()).decode() not in printed
        text = str({key: result.get(key) for key in ("changed", "objects", "diff", "warnings")})
        set_id = ApplySet(f"set-{connection[:5]}".replace(".", "-"), namespace).id
        results.append(text.replace(connection[:5], "way").replace(set_id, "id"))
    assert results[0] == results[1]


def test_a_secret_stays_secret_in_an_error(play: Callable[..., Any], namespace: str) -> None:
    """The server quotes what it refuses; the value of a Secret must not come back that way."""
    definition = [secret(), document("ConfigMap", "c", data={"a": {"nested": PASSWORD}})]
    for connection in ("local", "community.general.chroot"):
        task = {"progressive.platform.apply": {"set": "web", "namespace": namespace, "templates": ["bundle.yaml.j2"]}}
        result, printed = play([task], connection=connection, templates={"bundle.yaml.j2": "\n---\n".join(map(str, definition))})
        assert result["failed"]
        assert base64.b64encode(PASSWORD.encode()).decode() not in printed


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("a: 1\nb: {{ missing_name }}\n", "bundle.yaml.j2, line 2: 'missing_name' is undefined"),
        ("a: 1\n{% for %}\n", "bundle.yaml.j2, line 2: Syntax error"),
        ("a: 1\n  b: 2\n", "bundle.yaml.j2 renders to, line 2"),
        ("a: 1\n", "kind"),
    ],
)
def test_a_bad_template_is_named(play: Callable[..., Any], template: str, said: str) -> None:
    task = {"progressive.platform.apply": {"set": "web", "namespace": "default", "templates": ["bundle.yaml.j2"]}}
    result, _printed = play([task], templates={"bundle.yaml.j2": template})
    assert result["failed"]
    assert said in result["msg"]
