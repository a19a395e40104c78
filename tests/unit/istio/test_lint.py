# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Our rules about a mesh's documents: each finds its fault, and leaves what only looks like it alone."""

from __future__ import annotations

import copy
import typing as t

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._istio.lint import covers, lint

Document = dict[str, t.Any]


def made(api: str, kind: str, name: str, spec: t.Any, namespace: str = "here") -> Document:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def pods(labels: dict[str, str]) -> Document:
    return made("apps/v1", "Deployment", labels["app"], {"template": {"metadata": {"labels": labels}}})


def policy(*rules: t.Any, **spec: t.Any) -> Document:
    return made(
        "security.istio.io/v1", "AuthorizationPolicy", "who", {"selector": {"matchLabels": {"app": "a"}}, **spec, "rules": list(rules)}
    )


def virtual(*rules: t.Any) -> Document:
    return made("networking.istio.io/v1", "VirtualService", "routes", {"hosts": ["x.example"], "http": list(rules)})


def route(name: str, *rules: t.Any, section: str = "https-1") -> Document:
    return made(
        "gateway.networking.k8s.io/v1", "HTTPRoute", name, {"parentRefs": [{"name": "edge", "sectionName": section}], "rules": list(rules)}
    )


def to(prefix: str, host: str = "a-service", **more: t.Any) -> Document:
    return {"name": prefix, "match": [{"uri": {"prefix": prefix}, **more}], "route": [{"destination": {"host": host}}]}


def at(path: str, host: str = "a-service", **more: t.Any) -> Document:
    return {"matches": [{"path": {"type": "PathPrefix", "value": path}, **more}], "backendRefs": [{"name": host, "port": 80}]}


CALLER = {"from": [{"source": {"principals": ["cluster.local/ns/here/sa/b"]}}]}
DEED = {"to": [{"operation": {"ports": ["8000"]}}]}
SOUND = [
    made("v1", "Service", "a-service", {"selector": {"app": "a"}}),
    made("v1", "Service", "outer", {}),
    made("networking.istio.io/v1", "ServiceEntry", "pay", {"hosts": ["api.example.com", "*.cdn.example.com"]}),
    pods({"app": "a", "tier": "agents"}),
    pods({"app": "edge", "progressive.platform/edge": "true"}),
    made("networking.istio.io/v1", "DestinationRule", "a", {"host": "a-service.here.svc.cluster.local"}),
    made("networking.istio.io/v1", "DestinationRule", "cdn", {"host": "img.cdn.example.com"}),
    virtual(to("/a/b"), to("/a", headers={"x": {"exact": "1"}}), to("/a"), to("/c", "outer"), to("/", "api.example.com")),
    route("one", at("/a"), at("/a", headers=[{"name": "x", "value": "1"}])),
    route("two", at("/a"), section="http-1"),
    policy({**CALLER, **DEED}),
    policy({"to": [{"operation": {"hosts": ["x.example"]}}]}, selector={"matchLabels": {"app": "edge"}}),
    policy({"to": [{"operation": {"hosts": ["x.example"]}}]}, selector=None, targetRefs=[{"kind": "Gateway", "name": "edge"}]),
    policy({**DEED, "when": [{"key": "request.auth.claims[x]", "values": ["y"]}]}),
    policy({}, action="DENY"),
    made("security.istio.io/v1", "AuthorizationPolicy", "allow-nothing", {}),
]


def test_what_is_sound_is_left_alone() -> None:
    assert list(lint(SOUND)) == []


FAULTS: list[tuple[str, Document, str]] = [
    (
        "an API version that is old",
        made("networking.istio.io/v1beta1", "DestinationRule", "a", {"host": "a-service"}),
        "apiVersion networking",
    ),
    ("of the Gateway API", {**route("three", at("/z")), "apiVersion": "gateway.networking.k8s.io/v1beta1"}, "apiVersion gateway"),
    ("a wide route before a narrow one", virtual(to("/api/v1"), to("/api/v1/agents/npa")), "route /api/v1/agents/npa is never reached"),
    ("a route for everything first", virtual({"name": "all", "route": []}, to("/x")), "all takes its requests"),
    ("an exact path below a prefix", virtual(to("/a"), {"match": [{"uri": {"exact": "/a/b"}}]}), "number 2 is never reached"),
    ("with a header that the wide one lacks", virtual(to("/a"), to("/a", headers={"x": {"exact": "1"}})), "never reached"),
    ("the same match of two HTTPRoutes", route("four", at("/a")), "that of one rule 1 too"),
    ("a route to nobody", virtual(to("/q", "nobody")), "nobody is no Service"),
    ("a route to another namespace's", virtual(to("/q", "a-service.there.svc.cluster.local")), "is no Service"),
    ("an HTTPRoute to nobody", route("five", at("/q", "nobody")), "nobody is no Service"),
    ("rules for nobody", made("networking.istio.io/v1", "DestinationRule", "n", {"host": "nobody"}), "nobody is no Service"),
    ("an empty rule", policy({}), "for it is empty"),
    ("a rule without a caller", policy(DEED), "rule 1 lets anyone in"),
    ("an empty caller", policy({"from": [{"source": {}}], **DEED}), "lets anyone in"),
    ("a star for a caller", policy({"from": [{"source": {"principals": ["*"]}}], **DEED}), "lets anyone in"),
    ("an edge that serves everything", policy({}, selector={"matchLabels": {"app": "edge"}}), "lets anyone in"),
    ("a waypoint is no edge", policy(DEED, selector=None, targetRefs=[{"kind": "Gateway", "name": "waypoint"}]), "lets anyone in"),
    ("who and what apart", policy(CALLER, {**DEED, "when": [{"key": "a", "values": ["b"]}]}), "one rule has callers alone"),
]


@pytest.mark.parametrize(("document", "part"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS])
def test_a_fault_is_found(document: Document, part: str) -> None:
    found = list(lint([*SOUND, document]))
    assert [fault for fault in found if part in fault.seen and fault.document == document and fault.remedy], found


def test_rules_for_a_service_without_pods_are_found() -> None:
    documents = copy.deepcopy(SOUND)
    documents[0]["spec"]["selector"] = {"app": "gone"}
    (fault,) = lint(documents)
    assert "no workload" in fault.seen and fault.doubtful and fault.document["kind"] == "DestinationRule"


@pytest.mark.parametrize(
    ("wide", "narrow", "is_wider"),
    [
        ({}, {"uri": {"exact": "/a"}}, True),
        ({"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/ab"}}, True),
        ({"uri": {"prefix": "/a/"}}, {"uri": {"prefix": "/a"}}, False),
        ({"uri": {"exact": "/a"}}, {"uri": {"prefix": "/a"}}, False),
        ({"uri": {"regex": "/a.*"}}, {"uri": {"prefix": "/a"}}, False),
        ({"uri": {"prefix": "/a"}}, {"headers": {"x": {"exact": "1"}}}, False),
        ({"headers": {"x": {"exact": "1"}}}, {"headers": {"x": {"exact": "1"}, "y": {"exact": "2"}}}, True),
        ({"headers": {"x": {"exact": "1"}}}, {"headers": {"x": {"exact": "2"}}}, False),
        ({"port": 80}, {"port": 443}, False),
    ],
)
def test_what_a_match_covers(wide: Document, narrow: Document, is_wider: bool) -> None:
    assert covers(wide, narrow) is is_wider


# ---- ambient ----------------------------------------------------------------------------------------------------------------

SPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "here", "labels": {"istio.io/dataplane-mode": "ambient"}}}
WAYPOINT = made("gateway.networking.k8s.io/v1", "Gateway", "waypoint", {"gatewayClassName": "istio-waypoint"})
HTTP = {"to": [{"operation": {"ports": ["80"], "paths": ["/x"]}}]}
TARGET = {"kind": "Service", "group": "", "name": "a-service"}


def behind(**labels: str) -> Document:
    service = made("v1", "Service", "a-service", {"selector": {"app": "a"}, "ports": [{"port": 80, "targetPort": 8000}]})
    return {**service, "metadata": {**service["metadata"], "labels": labels}}


BEHIND = behind(**{"istio.io/use-waypoint": "waypoint"})
AMBIENT = [
    SPACE,
    WAYPOINT,
    BEHIND,
    pods({"app": "a"}),
    policy(CALLER | DEED),
    policy(CALLER | {"when": [{"key": "source.namespace", "values": ["here"]}]}),
    policy(CALLER | HTTP, selector=None, targetRefs=[TARGET]),
    made("security.istio.io/v1", "AuthorizationPolicy", "nothing", {"targetRefs": [{"kind": "Gateway", "name": "waypoint"}]}),
    made("security.istio.io/v1", "AuthorizationPolicy", "nothing", {}),
    made("networking.istio.io/v1", "VirtualService", "edge", {"hosts": ["x.example"], "gateways": ["edge"], "http": []}),
]


def test_what_an_ambient_mesh_can_do_is_left_alone() -> None:
    assert list(lint(AMBIENT)) == []


@pytest.mark.parametrize(
    ("wrong", "seen"),
    [
        ([policy(CALLER | HTTP)], "ztunnel knows no paths, so rule 1 lets nobody in"),
        ([policy(CALLER | HTTP, action="DENY")], "ztunnel knows no paths, so rule 1 refuses every request, whatever they are"),
        ([policy(CALLER, {**CALLER, "when": [{"key": "request.auth.claims[a]", "values": ["b"]}]})], "claims[a], so rule 2"),
        ([policy({"from": [{"source": {"requestPrincipals": ["a/*"]}}]})], "ztunnel knows no requestPrincipals"),
        ([policy(CALLER, action="CUSTOM", provider={"name": "x"})], "does not know the action CUSTOM"),
        ([made("security.istio.io/v1", "RequestAuthentication", "jwt", {"selector": {"matchLabels": {"app": "a"}}})], "reads no tokens"),
        ([made("networking.istio.io/v1", "Sidecar", "default", {})], "a Sidecar in an ambient namespace"),
        ([made("networking.istio.io/v1", "VirtualService", "v", {"hosts": ["a-service"], "http": []})], "for the mesh itself"),
        ([made("networking.istio.io/v1", "DestinationRule", "d", {"host": "a-service", "subsets": [{"name": "v1"}]})], "subsets"),
        ([policy(CALLER | HTTP, selector=None, targetRefs=[TARGET | {"name": "b-service"}])], "b-service is no Service of what is sent"),
        ([policy(CALLER | DEED, selector=None, targetRefs=[TARGET])], "a waypoint sees the Service's ports (80), not 8000"),
        ([policy(HTTP, selector=None, targetRefs=[{"kind": "Gateway", "name": "waypoint"}])], "rule 1 lets anyone in"),
    ],
)
def test_what_an_ambient_mesh_does_not_do_is_found(wrong: list[Document], seen: str) -> None:
    (fault,) = lint([*AMBIENT, *wrong])
    assert seen in fault.seen and fault.allowed and fault.remedy
    elsewhere = {**SPACE, "metadata": {"name": "here"}}
    if "anyone" not in seen:
        assert not [one for one in lint([elsewhere, *AMBIENT[1:], *wrong]) if one.seen == fault.seen], (
            "where pods have sidecars it is right"
        )


def test_a_policy_for_a_service_that_is_behind_no_waypoint_is_read_by_nobody() -> None:
    """The one mistake that opens a door: everything else closes too much."""
    theirs = policy(CALLER | HTTP, selector=None, targetRefs=[TARGET])
    for labels, spaces, seen in (
        ({}, SPACE, "behind no waypoint, so nobody reads this policy"),
        ({"istio.io/use-waypoint": "none"}, SPACE, "behind no waypoint, so nobody reads this policy"),
        ({"istio.io/use-waypoint": "other"}, SPACE, "behind the waypoint here/other, which is not sent"),
    ):
        (fault,) = lint([spaces, WAYPOINT, behind(**labels), pods({"app": "a"}), theirs])
        assert seen in fault.seen
    labelled = copy.deepcopy(SPACE)
    labelled["metadata"]["labels"]["istio.io/use-waypoint"] = "waypoint"
    assert not list(lint([labelled, WAYPOINT, behind(), pods({"app": "a"}), theirs])), "the namespace says it for all its Services"
