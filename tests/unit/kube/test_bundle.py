# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube import bundle
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

VERSIONS = {
    "APIService": "apiregistration.k8s.io/v1",
    "Certificate": "cert-manager.io/v1",
    "ClusterRole": "rbac.authorization.k8s.io/v1",
    "CustomResourceDefinition": "apiextensions.k8s.io/v1",
    "CronJob": "batch/v1",
    "Deployment": "apps/v1",
    "Job": "batch/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PriorityClass": "scheduling.k8s.io/v1",
    "Role": "rbac.authorization.k8s.io/v1",
    "RoleBinding": "rbac.authorization.k8s.io/v1",
    "Route": "route.openshift.io/v1",
    "StatefulSet": "apps/v1",
    "StorageClass": "storage.k8s.io/v1",
    "ValidatingWebhookConfiguration": "admissionregistration.k8s.io/v1",
    "Widget": "example.org/v1",
}


def doc(kind: str, name: str = "it", namespace: str = "", **spec: Any) -> bundle.Document:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": VERSIONS.get(kind, "v1"), "kind": kind, "metadata": metadata, "spec": spec}


WIDGETS = doc("CustomResourceDefinition", "widgets.example.org", group="example.org", names={"kind": "Widget"}, scope="Namespaced")
METRICS = doc("APIService", "v1.example.org", group="example.org", service={"namespace": "a", "name": "s"})


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (doc("Namespace", "a"), doc("ConfigMap", namespace="a")),
        (doc("Namespace", "a"), doc("Widget", namespace="a")),
        (WIDGETS, doc("Widget", namespace="a")),
        (METRICS, doc("Widget", namespace="a")),
        (doc("Deployment", namespace="a"), METRICS),
        (doc("StorageClass"), doc("PersistentVolumeClaim", namespace="a")),
        (doc("ResourceQuota", namespace="a"), doc("PersistentVolumeClaim", namespace="a")),
        (doc("Role", namespace="a"), doc("RoleBinding", namespace="a")),
        (doc("ClusterRole"), doc("RoleBinding", namespace="a")),
        *[
            (doc(kind, namespace="a"), doc(workload, namespace="a"))
            for kind in ("ConfigMap", "Secret", "ServiceAccount", "PersistentVolumeClaim", "Service", "RoleBinding", "NetworkPolicy")
            for workload in ("Deployment", "StatefulSet", "Job", "CronJob", "Pod")
        ],
        (doc("PriorityClass"), doc("Deployment", namespace="a")),
        *[(doc(kind, namespace="a"), doc("Route", namespace="a")) for kind in ("Certificate", "Secret", "RoleBinding")],
        (doc("Deployment", namespace="a"), doc("ValidatingWebhookConfiguration")),
        (doc("ConfigMap", namespace="b"), doc("ValidatingWebhookConfiguration")),
    ],
    ids=lambda it: it["kind"],
)
def test_first_comes_before_second(first: bundle.Document, second: bundle.Document) -> None:
    assert bundle.prerequisites([first, second]) == [set(), {0}]
    assert bundle.prerequisites([second, first]) == [{1}, set()]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (doc("ConfigMap", namespace="a"), doc("Secret", namespace="a")),
        (doc("ConfigMap", namespace="a"), doc("Deployment", namespace="b")),
        (doc("Namespace", "a"), doc("ConfigMap", namespace="b")),
        (doc("Deployment", namespace="a"), doc("StatefulSet", namespace="a")),
        (WIDGETS, doc("ConfigMap", namespace="a")),
        (doc("Service", namespace="a"), doc("Route", namespace="a")),
        (doc("Namespace", "a"), doc("ClusterRole")),
    ],
    ids=lambda it: it["kind"],
)
def test_what_is_independent_flies_together(one: bundle.Document, other: bundle.Document) -> None:
    assert bundle.prerequisites([one, other]) == [set(), set()]


def test_no_rule_makes_a_cycle() -> None:
    kinds = [*bundle.WORKLOADS, *bundle.FOUNDATIONS, *bundle.WEBHOOKS, "Certificate", "Namespace", "Route"]
    documents = [doc(kind, kind.lower(), "" if kind == "Namespace" else "namespace") for kind in sorted(kinds)] + [WIDGETS, METRICS]
    needs = bundle.prerequisites(documents)
    done: set[int] = set()
    for _unused in documents:
        done |= {index for index, before in enumerate(needs) if before <= done}
    assert len(done) == len(documents)


@pytest.mark.parametrize(
    ("definition", "names"),
    [
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n",
            ["a", "b"],
        ),
        (doc("ConfigMap", "a"), ["a"]),
        ([doc("ConfigMap", "a"), None, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}"], ["a", "b"]),
        ({"apiVersion": "v1", "kind": "List", "items": [doc("ConfigMap", "a"), doc("ConfigMap", "b")]}, ["a", "b"]),
        ({"apiVersion": "v1", "kind": "ConfigMapList", "items": [doc("ConfigMap", "a")]}, ["a"]),
        ([], []),
        ("", []),
        ("# only a comment\n---\n", []),
    ],
)
def test_documents_are_found(definition: Any, names: list[str]) -> None:
    assert [document["metadata"]["name"] for document in bundle.parse(definition)] == names


@pytest.mark.parametrize(
    ("document", "finding"),
    [
        (17, "a mapping is wanted, not int"),
        ({"kind": "ConfigMap", "metadata": {"name": "a"}}, "apiVersion is missing"),
        ({"apiVersion": "v1", "metadata": {"name": "a"}}, "kind is missing"),
        ({"apiVersion": "v1", "kind": 3, "metadata": {"name": "a"}}, "kind is missing"),
        ({"apiVersion": "v1", "kind": "ConfigMap"}, "without metadata"),
        ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}, "without metadata.name"),
        ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": 7}}, "a string"),
        ({"apiVersion": "v1", "kind": "Job", "metadata": {"generateName": "a-"}}, "generateName"),
        (doc("ConfigMap", "UPPER"), "lower case"),
        (doc("ConfigMap", "under_score"), "lower case"),
        (doc("ConfigMap", "-dash"), "lower case"),
        (doc("ConfigMap", "a" * 254), "at most 253"),
        (doc("ConfigMap", "a", "not.a.namespace"), "namespace"),
        ({**doc("ConfigMap"), "metadata": {"name": "a", "labels": {"version": 1.5}}}, "put it in quotes"),
        ({**doc("ConfigMap"), "metadata": {"name": "a", "annotations": {"on": True}}}, "put it in quotes"),
        ({**doc("ConfigMap"), "data": {"a": {1, 2}}}, "JSON cannot"),
    ],
)
def test_bad_documents_are_refused(document: Any, finding: str) -> None:
    with pytest.raises(PlatformError, match=finding):
        bundle.parse([document])


def test_every_finding_is_reported() -> None:
    with pytest.raises(PlatformError) as raised:
        bundle.parse([doc("ConfigMap", "UPPER"), doc("ConfigMap", "good"), {"kind": "x"}], "here")
    assert [text.partition(":")[0] for text in raised.value.details["findings"]] == ["here, document 1", "here, document 3"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: [\n", "line 3"),
        ("a: 1\n b: 2\n", "line 2"),
        ("a: 1\nb: 2\na: 3\n", "the key 'a' stands twice"),
        ("a: {{ x }}\n", "line 1"),
        ("\ttab: 1", "line 1"),
    ],
)
def test_yaml_errors_name_the_line(text: str, said: str) -> None:
    with pytest.raises(PlatformError, match=said) as raised:
        bundle.load(text, "templates/a.yaml.j2")
    assert raised.value.message.startswith("templates/a.yaml.j2")


@pytest.mark.parametrize(("text", "value"), [("2026-11-23", "2026-11-23"), ("'on'", "on"), ("0644", 0o644), ("1_000", 1000)])
def test_yaml_values_are_json(text: str, value: Any) -> None:
    assert bundle.load(f"a: {text}", "x") == [{"a": value}]


def test_the_same_object_twice() -> None:
    with pytest.raises(PlatformError, match="ConfigMap a/it"):
        bundle.unique([doc("ConfigMap", namespace="a"), doc("Secret", namespace="a"), doc("ConfigMap", namespace="a")])


def test_namespaces_are_completed() -> None:
    documents = [doc("ConfigMap"), doc("ConfigMap", namespace="other"), doc("ClusterRole", namespace="wrong")]
    bundle.complete(documents, "mine", lambda it: it["kind"] != "ClusterRole")
    assert [document["metadata"].get("namespace") for document in documents] == ["mine", "other", None]


def test_dump_and_load_are_inverse() -> None:
    documents = [doc("ConfigMap", "a", text="a: b\n- c\n", number=1), WIDGETS]
    assert bundle.load(bundle.dump(documents), "x") == documents
    assert list(itertools.chain.from_iterable(documents[0])) == list(
        itertools.chain.from_iterable(bundle.load(bundle.dump(documents), "x")[0])
    )
