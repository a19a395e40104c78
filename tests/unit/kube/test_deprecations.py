# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""API versions that go away: found in what is rendered, applied, stored and requested, and judged by the cluster's version."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube import deprecations
from ansible_collections.progressive.platform.plugins.module_utils._kube.auth import Access
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.plugins.module_utils._kube.deprecations import TABLE, Recorded, Use
from ansible_collections.progressive.platform.plugins.module_utils._kube.discovery import Resource
from ansible_collections.progressive.platform.plugins.module_utils._preflight.server import TESTED_TO, Seen, judge
from ansible_collections.progressive.platform.plugins.plugin_utils import _roles
from ansible_collections.progressive.platform.tests.unit.roles.rendering import INVENTORIES, documents

Json = dict[str, Any]
BUDGET = ("policy/v1beta1", "PodDisruptionBudget")
CLASS = ("storage.k8s.io/v1beta1", "VolumeAttributesClass")
METRICS = """\
# TYPE apiserver_requested_deprecated_apis gauge
apiserver_requested_deprecated_apis{group="storage.k8s.io",removed_release="1.37",resource="volumeattributesclasses",subresource="",version="v1beta1"} 1
apiserver_requested_deprecated_apis{group="new.k8s.io",removed_release="1.37",resource="things",subresource="",version="v1beta1"} 1
apiserver_requested_deprecated_apis{group="policy",removed_release="1.25",resource="poddisruptionbudgets",subresource="",version="v1beta1"} 0
apiserver_request_total{group="policy",version="v1beta1",resource="poddisruptionbudgets"} 5
"""


def test_the_table_makes_sense() -> None:
    assert len(TABLE) > 70
    for what in TABLE.values():
        assert what.removed is None or what.since < what.removed, what
        assert (what.replacement.partition(" ")[0], what.kind) not in TABLE or TABLE[what.replacement, what.kind].since > what.since, what


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_nothing_rendered_goes_away_in_the_next_version(inventory: str) -> None:
    found = [document for role in documents(inventory).values() for document in role]
    assert len(found) > 50
    assert [str(verdict) for verdict in deprecations.judged(deprecations.sent(found), TESTED_TO + 1)] == []


def test_no_template_of_any_role_goes_away_in_the_next_version() -> None:
    texts = [(role, text) for role in _roles.collection_roles() for text in _roles.manifests(role)]
    assert len([text for _role, text in texts if deprecations.TEMPLATE.search(text)]) > 40
    uses = [use for role, text in texts for use in deprecations.written(text, role)]
    assert deprecations.judged(uses, TESTED_TO + 1) == []


@pytest.mark.parametrize(
    "text",
    [
        "apiVersion: policy/v1beta1\nkind: PodDisruptionBudget\n",
        "---\n- {apiVersion: policy/v1beta1, kind: PodDisruptionBudget, name: x}\n",
        'a: 1\n---\napiVersion: "policy/v1beta1"\nkind: "PodDisruptionBudget"\n',
        "{% if x %}\napiVersion: policy/v1beta1  # still\nkind: PodDisruptionBudget\n{% endif %}",
    ],
)
def test_a_template_is_read_without_rendering_it(text: str) -> None:
    assert list(deprecations.written(text, "role app")) == [Use(TABLE[BUDGET], "sent", "role app")]
    assert list(deprecations.written(text.replace("v1beta1", "v1"), "role app")) == []


@pytest.mark.parametrize(
    ("minor", "gone", "soon", "words"),
    [
        (33, None, None, ""),
        (35, False, False, "deprecated since 1.34, to be removed in 1.37; "),
        (36, False, True, "to be removed in 1.37, the next version; sent for fast; use storage.k8s.io/v1"),
        (37, True, False, "removed in 1.37; "),
    ],
)
def test_a_verdict_depends_on_the_version(minor: int, gone: bool | None, soon: bool | None, words: str) -> None:
    document = {"apiVersion": CLASS[0], "kind": CLASS[1], "metadata": {"name": "fast"}}
    found = deprecations.judged(deprecations.sent([document]), minor)
    assert [(it.gone, it.next) for it in found] == ([] if gone is None else [(gone, soon)])
    assert not found or words in found[0].sentence


def test_a_kind_without_a_release_that_removes_it() -> None:
    (found,) = deprecations.judged([Use(TABLE["v1", "Endpoints"], "sent", "shop/db")], 36)
    assert not found.gone and not found.next
    assert "no release that removes it is named" in found.sentence and "EndpointSlice" in found.sentence


def test_who_sent_an_object_in_which_version() -> None:
    fields = [{"manager": "kubectl", "apiVersion": "policy/v1beta1"}, {"manager": "us", "apiVersion": "policy/v1"}]
    item = {"metadata": {"name": "web", "namespace": "shop", "managedFields": fields}}
    assert list(deprecations.applied([item], "PodDisruptionBudget")) == [Use(TABLE[BUDGET], "applied", "shop/web by kubectl")]
    mirrored = {"metadata": {"name": "web", "managedFields": [{"manager": "kube-controller-manager", "apiVersion": "v1"}]}}
    assert list(deprecations.applied([mirrored], "Endpoints")) == [], "every Service has such an object, made by Kubernetes itself"


def test_what_the_server_counted() -> None:
    known, unknown = deprecations.requested(METRICS)
    assert known == Use(TABLE[CLASS], "requested", "somebody")
    assert (unknown.what.api_version, unknown.what.kind, unknown.what.removed) == ("new.k8s.io/v1beta1", "things", 37)


def test_plurals_of_the_table_are_the_servers() -> None:
    wanted = {"NetworkPolicy": "networkpolicies", "Ingress": "ingresses", "Endpoints": "endpoints", "CronJob": "cronjobs"}
    assert {kind: deprecations.plural_of(kind) for kind in wanted} == wanted
    assert deprecations.plural_of("IPAddress") == "ipaddresses"
    assert deprecations.plural_of("FlowSchema") == "flowschemas"


def crd(*stored: str, **versions: Json) -> Json:
    names = [{"name": name, "served": True, "storage": False, **options} for name, options in versions.items()]
    return {"metadata": {"name": "things.example.com"}, "spec": {"versions": names}, "status": {"storedVersions": [*stored]}}


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (crd("v1", v1={"storage": True}), []),
        (crd("v1beta1", "v1", v1={"storage": True}, v1beta1={}), []),
        (crd("v1beta1", "v1", v1={"storage": True}, v1beta1={"served": False}), ["stored as v1beta1, which is not served any more; v1 is"]),
        (crd("v1alpha1", "v1", v1={"storage": True}), ["stored as v1alpha1, which is not served any more"]),
        (crd("v1beta1", "v1", v1={"storage": True}, v1beta1={"deprecated": True}), ["stored as v1beta1, which is deprecated"]),
    ],
)
def test_definitions_whose_objects_lie_in_an_old_version(item: Json, words: list[str]) -> None:
    found = list(deprecations.stored([item]))
    assert [name for name, _said in found] == ["things.example.com"] * len(words)
    assert all(word in said for word, (_name, said) in zip(words, found, strict=True))


def test_kinds_that_can_have_been_sent_in_an_old_version() -> None:
    served = {
        key: Resource(*key, deprecations.plural_of(key[1]), True)
        for key in [
            ("policy/v1", "PodDisruptionBudget"),
            ("v1", "ConfigMap"),
            ("v1", "Endpoints"),
            ("authentication.k8s.io/v1", "SelfSubjectReview"),
            ("autoscaling/v1", "HorizontalPodAutoscaler"),
        ]
    }
    assert [resource.kind for resource in deprecations.concerned(served)] == ["PodDisruptionBudget", "HorizontalPodAutoscaler"]


class Handler(BaseHTTPRequestHandler):
    """An API server with one budget that somebody sent long ago; its metrics are not for everybody."""

    def do_GET(self) -> None:
        budget = {"metadata": {"name": "web", "namespace": "shop", "managedFields": [{"manager": "old", "apiVersion": "policy/v1beta1"}]}}
        resources = [{"resource": "poddisruptionbudgets", "responseKind": {"kind": "PodDisruptionBudget"}, "scope": "Namespaced"}]
        group = {"metadata": {"name": "policy"}, "versions": [{"version": "v1", "resources": resources}]}
        answers: dict[str, Json] = {
            "/api": {"kind": "APIGroupDiscoveryList", "items": []},
            "/apis": {"kind": "APIGroupDiscoveryList", "items": [group]},
            "/apis/policy/v1/namespaces/shop/poddisruptionbudgets": {"items": [budget]},
            deprecations.DEFINITIONS: {"items": [crd("v1alpha1", v1={"storage": True})]},
        }
        self.server.asked.append((self.path, self.headers["accept"]))  # type: ignore[attr-defined]
        answer = answers.get(self.path)
        body = json.dumps(answer or {"reason": "Forbidden"}).encode()
        self.send_response(200 if answer else 403)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        pass


def test_a_server_is_asked_for_metadata_only_and_what_it_refuses_is_named() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.asked = []  # type: ignore[attr-defined]
        Thread(target=server.serve_forever, daemon=True).start()
        with Client(Access(f"http://127.0.0.1:{server.server_port}", "the test")) as client:
            found = deprecations.recorded(client, "shop")
        server.shutdown()
    assert found.uses == [Use(TABLE[BUDGET], "applied", "shop/web by old")]
    assert [name for name, _said in found.definitions] == ["things.example.com"]
    assert found.unseen == ["the API server's metrics"]
    (accept,) = [accept for path, accept in server.asked if "budgets" in path]  # type: ignore[attr-defined]
    assert "PartialObjectMetadataList" in accept


NEEDS = {"deprecated": [[*CLASS, "role baseline"]]}


@pytest.mark.parametrize(
    ("version", "needs", "recorded", "words", "warning"),
    [
        ("v1.35.1", NEEDS, Recorded(), "", False),
        ("v1.36.1", NEEDS, Recorded(), "VolumeAttributesClass of storage.k8s.io/v1beta1", True),
        ("v1.37.0", NEEDS, Recorded(), "sent for role baseline", False),
        ("v1.36.1", {}, Recorded(uses=[Use(TABLE[CLASS], "requested", "somebody")]), "requested by somebody", True),
        ("v1.37.0", {}, Recorded(uses=[Use(TABLE[CLASS], "applied", "shop/x by y")]), "", False),
        ("v1.36.1", {}, Recorded(definitions=[("things.example.com", "objects may be stored")]), "things.example.com: objects", True),
        ("v1.36.1", {}, Recorded(unseen=["the API server's metrics"]), "may not read the API server's metrics", True),
    ],
)
def test_what_preflight_says(version: str, needs: Json, recorded: Recorded, words: str, warning: bool) -> None:
    found = judge(Seen(version=version, nodes=[], classes=[], recorded=recorded), needs)
    assert [(finding.variable, finding.warning) for finding in found] == ([("platform_context", warning)] if words else [])
    assert all(words in finding.seen for finding in found)
