# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Our own rules about a mesh's documents, beside istioctl's: what is valid and still does not do what it seems to (private: may change without notice).

Each comes from the original (a route nobody reaches, a policy that lets anyone in, hosts without a Service, API versions that are gone) or from an
installation that went wrong. They look at documents only, so roles of others are held to them too.
"""

from __future__ import annotations

import json
import typing as t
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._kube.bundle import Document

CURRENT = {
    "networking.istio.io": (
        "v1",
        {"DestinationRule", "Gateway", "ServiceEntry", "Sidecar", "VirtualService", "WorkloadEntry", "WorkloadGroup"},
    ),
    "security.istio.io": ("v1", {"AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication"}),
    "telemetry.istio.io": ("v1", {"Telemetry"}),
    "gateway.networking.k8s.io": ("v1", {"Gateway", "GatewayClass", "GRPCRoute", "HTTPRoute"}),
}
WORKLOADS = {"DaemonSet", "Deployment", "Pod", "StatefulSet"}
EDGE = "progressive.platform/edge"
GATEWAY_API = "gateway.networking.k8s.io"
WAYPOINT, USE_WAYPOINT, USE_NAMESPACE = "istio-waypoint", "istio.io/use-waypoint", "istio.io/use-waypoint-namespace"
# What only looks into requests can know; ztunnel sees connections (istiod: pilot/pkg/serviceregistry/ambient/authorization.go).
OF_REQUESTS = {
    *("hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"),
    *("requestPrincipals", "notRequestPrincipals", "remoteIpBlocks", "notRemoteIpBlocks"),
}
OF_CONNECTIONS = {"source.ip", "source.namespace", "source.principal", "destination.ip", "destination.port"}


class Fault(t.NamedTuple):
    """A document, what is wrong with it, and what to do. ``doubtful``: it may be right where more is in the cluster than in the bundle."""

    document: Document
    seen: str
    allowed: str
    remedy: str
    doubtful: bool = False


def lint(documents: Sequence[Document], domain: str = "cluster.local") -> Iterator[Fault]:
    """Everything our rules find in a bundle; every namespaced document has its namespace."""
    for rule in (old_versions, shadowed_routes, equal_routes, open_policies, split_policies):
        yield from rule(documents)
    yield from lost_hosts(documents, domain)
    yield from idle_rules(documents, domain)
    yield from ambient_faults(documents, domain)


def of(documents: Iterable[Document], *kinds: str, group: str = "") -> Iterator[Document]:
    return (one for one in documents if one["kind"] in kinds and (not group or one["apiVersion"].startswith(f"{group}/")))


def namespace_of(document: Document) -> str:
    return str(document["metadata"].get("namespace", ""))


def old_versions(documents: Iterable[Document]) -> Iterator[Fault]:
    """v1 is what is stored; the others are converted, and will not be served for ever."""
    for one in documents:
        group, _slash, version = one["apiVersion"].rpartition("/")
        newest, kinds = CURRENT.get(group, ("", set()))
        if one["kind"] in kinds and version != newest:
            yield Fault(
                one, f"apiVersion {one['apiVersion']}", f"{group}/{newest}", f"Write {group}/{newest}; check the fields that were renamed."
            )


# ---- routes -----------------------------------------------------------------------------------------------------------------


def shadowed_routes(documents: Iterable[Document]) -> Iterator[Fault]:
    """Istio's own routes are tried in order, so a wide one hides every narrower one after it."""
    for one in of(documents, "VirtualService"):
        earlier: list[tuple[str, Mapping[str, t.Any]]] = []
        for place, rule in enumerate(one["spec"].get("http") or []):
            name = str(rule.get("name") or f"number {place + 1}")
            matches = rule.get("match") or [{}]
            hiding = [next((before for before, wide in earlier if covers(wide, match)), "") for match in matches]
            if all(hiding):
                yield Fault(
                    one, f"route {name} is never reached, {hiding[0]} takes its requests", "the narrower route first", "Change their order."
                )
            earlier += [(name, match) for match in matches]


def covers(wide: Mapping[str, t.Any], narrow: Mapping[str, t.Any]) -> bool:
    """Whether every request of the narrow match is one of the wide match."""
    return all(
        key in narrow and within(narrow[key], value, key == "uri")
        for key, value in wide.items()
        if key != "name" and value not in ({}, None)
    )


def within(narrow: t.Any, wide: t.Any, text: bool) -> bool:
    """Whether a condition holds wherever the other does; ``text``: it is one text to compare, and not a mapping of several."""
    if narrow == wide:
        return True
    if not isinstance(narrow, Mapping) or not isinstance(wide, Mapping):
        return False
    if not text and not set(wide) <= {"exact", "prefix", "regex"}:
        return all(key in narrow and within(narrow[key], value, True) for key, value in wide.items())
    if "prefix" in wide:
        return str(narrow.get("exact", narrow.get("prefix", "\0"))).startswith(wide["prefix"])
    return False


def equal_routes(documents: Iterable[Document]) -> Iterator[Fault]:
    """The Gateway API takes the most specific match wherever it stands, so only an equal one is hidden, by the older."""
    taken: dict[str, str] = {}
    for one in of(documents, "HTTPRoute", group=GATEWAY_API):
        told: set[tuple[str, str]] = set()
        for rule, place, match in places(one):
            owner = taken.setdefault(json.dumps([place, match], sort_keys=True), rule)
            if owner != rule and (owner, rule) not in told:
                told.add((owner, rule))
                path = (match.get("path") or {}).get("value", "/")
                yield Fault(
                    one, f"the match of {path} in {rule} is that of {owner} too", "each match once", "Remove one of them, or narrow it."
                )


def places(route: Document) -> Iterator[tuple[str, list[str], Mapping[str, t.Any]]]:
    """Every match of an HTTPRoute at every listener and host it is for."""
    spec, name = route["spec"], route["metadata"]["name"]
    for number, rule in enumerate(spec.get("rules") or [], 1):
        for parent in spec.get("parentRefs") or []:
            for host in spec.get("hostnames") or ["*"]:
                at = [parent.get("namespace") or namespace_of(route), parent["name"], parent.get("sectionName") or "", host]
                yield from ((f"{name} rule {number}", at, match) for match in rule.get("matches") or [{}])


# ---- hosts ------------------------------------------------------------------------------------------------------------------


def lost_hosts(documents: Sequence[Document], domain: str) -> Iterator[Fault]:
    """What is routed to, or has rules, is a Service of the bundle or an entry of the mesh's own list of hosts."""
    known = services(documents, domain)
    outside = {str(host) for entry in of(documents, "ServiceEntry") for host in entry["spec"].get("hosts") or []}
    for one, host in destinations(documents):
        name = full_name(host, namespace_of(one), domain)
        if name not in known and not any(host == other or (other.startswith("*.") and host.endswith(other[1:])) for other in outside):
            yield Fault(
                one,
                f"{host} is no Service of what is sent",
                "a host that is there",
                "Correct the name, or bring the Service along.",
                doubtful=True,
            )


def destinations(documents: Iterable[Document]) -> Iterator[tuple[Document, str]]:
    """Every host that a document sends requests to, or makes rules for; each once."""
    for one in documents:
        spec, found = one.get("spec") or {}, []
        if one["kind"] == "DestinationRule":
            found = [str(spec["host"])]
        elif one["kind"] == "VirtualService":
            found = [
                str(target["destination"]["host"])
                for part in ("http", "tcp", "tls")
                for rule in spec.get(part) or []
                for target in rule.get("route") or []
            ]
        elif one["kind"] in ("HTTPRoute", "GRPCRoute"):
            backends = [target for rule in spec.get("rules") or [] for target in rule.get("backendRefs") or []]
            found = [
                f"{target['name']}.{target['namespace']}" if target.get("namespace") else str(target["name"])
                for target in backends
                if target.get("kind", "Service") == "Service"
            ]
        yield from ((one, host) for host in dict.fromkeys(found))


def services(documents: Iterable[Document], domain: str) -> dict[str, Document]:
    """Services by their whole name."""
    return {f"{one['metadata']['name']}.{namespace_of(one)}.svc.{domain}": one for one in of(documents, "Service")}


def full_name(host: str, namespace: str, domain: str) -> str:
    """As Istio reads a short name: in the namespace of who says it."""
    if host.endswith(f".svc.{domain}"):
        return host
    name, _dot, rest = host.removesuffix(".svc").partition(".")
    return f"{name}.{rest or namespace}.svc.{domain}"


def idle_rules(documents: Sequence[Document], domain: str) -> Iterator[Fault]:
    """A DestinationRule is about pods: its Service selects some of the bundle."""
    known = services(documents, domain)
    pods = [(namespace_of(one), labels_of_pods(one)) for one in of(documents, *WORKLOADS)]
    for one in of(documents, "DestinationRule"):
        service = known.get(full_name(str(one["spec"]["host"]), namespace_of(one), domain))
        selector = ((service or {}).get("spec") or {}).get("selector")
        if (
            service
            and selector
            and not any(space == namespace_of(service) and selector.items() <= labels.items() for space, labels in pods)
        ):
            seen = f"no workload of what is sent has the labels of Service {service['metadata']['name']} ({json.dumps(selector)})"
            yield Fault(one, seen, "rules for pods that are there", "Remove the rule, or correct the Service's selector.", doubtful=True)


def labels_of_pods(workload: Document) -> Mapping[str, t.Any]:
    holder = workload if workload["kind"] == "Pod" else workload["spec"].get("template") or {}
    return (holder.get("metadata") or {}).get("labels") or {}


# ---- policies ---------------------------------------------------------------------------------------------------------------


def open_policies(documents: Sequence[Document]) -> Iterator[Fault]:
    """A rule without a caller is for everybody; only the edge serves everybody, and even that for its hosts and paths."""
    edges = [(namespace_of(one), labels_of_pods(one)) for one in of(documents, *WORKLOADS) if EDGE in labels_of_pods(one)]
    waypoints = waypoints_of(documents)
    for one in of(documents, "AuthorizationPolicy"):
        spec = one.get("spec") or {}
        if spec.get("action", "ALLOW") != "ALLOW":
            continue
        for place, rule in enumerate(spec.get("rules") or []):
            if is_edge(one, edges, waypoints) and any(set(entry.get("operation") or {}) for entry in rule.get("to") or []):
                continue
            if anyone(rule):
                seen = f"rule {place + 1} lets anyone in" + ("" if rule else ", for it is empty")
                yield Fault(one, seen, "callers by name (from.source.principals)", "Say who may call; mesh.allow of the service does.")


def anyone(rule: Mapping[str, t.Any]) -> bool:
    """No caller is asked for: no source, an empty one, or a star in the place of a name; a condition counts as asking."""
    sources = [entry.get("source") or {} for entry in rule.get("from") or []]
    named = [source for source in sources if source and not any("*" in (source.get(key) or []) for key in ("namespaces", "principals"))]
    return not rule.get("when") and (not sources or len(named) < len(sources))


def is_edge(policy: Document, edges: Iterable[tuple[str, Mapping[str, t.Any]]], waypoints: Container[tuple[str, t.Any]] = ()) -> bool:
    gateways = [str(ref.get("name")) for ref in targets_of(policy) if ref.get("kind") == "Gateway"]
    if any((namespace_of(policy), name) not in waypoints and not name.endswith("waypoint") for name in gateways):
        return True
    wanted = ((policy.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
    return bool(wanted) and any(space == namespace_of(policy) and wanted.items() <= labels.items() for space, labels in edges)


def split_policies(documents: Iterable[Document]) -> Iterator[Fault]:
    """Who in one rule and what in another: rules are alternatives, so either is enough (the original's mistake)."""
    for one in of(documents, "AuthorizationPolicy"):
        rules = (one.get("spec") or {}).get("rules") or []
        callers, deeds = (any(rule.get(has) and not rule.get(lacks) for rule in rules) for has, lacks in (("from", "to"), ("to", "from")))
        if callers and deeds:
            yield Fault(
                one, "one rule has callers alone, another what is called alone", "both in one rule", "Put from and to into the same rule."
            )


# ---- ambient ----------------------------------------------------------------------------------------------------------------


def ambient_faults(documents: Sequence[Document], domain: str) -> Iterator[Fault]:
    """What ztunnel and waypoints do not do, in namespaces that are labelled for them: most of it is left out without a word."""
    spaces = {one["metadata"]["name"] for one in of(documents, "Namespace") if labels_of(one).get("istio.io/dataplane-mode") == "ambient"}
    if not spaces:
        return
    inside = [one for one in documents if namespace_of(one) in spaces]
    edges = [(namespace_of(one), labels_of_pods(one)) for one in of(documents, *WORKLOADS) if EDGE in labels_of_pods(one)]
    yield from for_ztunnel(inside, edges)
    yield from for_waypoints(inside, documents, domain)
    for one in of(inside, "Sidecar", group="networking.istio.io"):
        yield Fault(one, "a Sidecar in an ambient namespace", "no Sidecar", "Nobody reads it; leave istio_visible out.")
    for one in of(inside, "VirtualService"):
        if "mesh" in (one["spec"].get("gateways") or ["mesh"]):
            seen = "a VirtualService for the mesh itself in an ambient namespace, which waypoints know as an experiment only"
            yield Fault(one, seen, "an HTTPRoute with the Service as its parent", "Write it as an HTTPRoute, with a Service a version.")
    for one in of(inside, "DestinationRule"):
        if one["spec"].get("subsets"):
            yield Fault(
                one, "subsets in an ambient namespace", "a Service a version", "Routes of a waypoint lead to Services, not to subsets."
            )


def labels_of(document: Document) -> Mapping[str, t.Any]:
    return document["metadata"].get("labels") or {}


def targets_of(policy: Document) -> list[Mapping[str, t.Any]]:
    spec = policy.get("spec") or {}
    return [*(spec.get("targetRefs") or []), *([spec["targetRef"]] if spec.get("targetRef") else [])]


def waypoints_of(documents: Iterable[Document]) -> set[tuple[str, t.Any]]:
    """Namespace and name of every waypoint's Gateway."""
    gateways = of(documents, "Gateway", group=GATEWAY_API)
    return {(namespace_of(one), one["metadata"]["name"]) for one in gateways if one["spec"].get("gatewayClassName") == WAYPOINT}


def of_requests(rule: Mapping[str, t.Any]) -> list[str]:
    """What a rule asks for that is known of requests alone, by name."""
    entries = [entry.get("source") or {} for entry in rule.get("from") or []] + [
        entry.get("operation") or {} for entry in rule.get("to") or []
    ]
    found = {key for entry in entries for key, value in entry.items() if key in OF_REQUESTS and value}
    return sorted(found | {str(entry["key"]) for entry in rule.get("when") or [] if entry["key"] not in OF_CONNECTIONS})


def for_ztunnel(documents: Sequence[Document], edges: Sequence[tuple[str, Mapping[str, t.Any]]]) -> Iterator[Fault]:
    """A policy without targetRefs is ztunnel's: of rules about requests it makes none that lets anybody in, or one that refuses everything."""
    remedy = "Give it targetRefs with the Service that it is for, which must be behind a waypoint (istio.io/use-waypoint)."
    for one in of(documents, "AuthorizationPolicy", "RequestAuthentication"):
        if targets_of(one) or is_edge(one, edges):
            continue
        if one["kind"] == "RequestAuthentication":
            yield Fault(one, "ztunnel reads no tokens, and no waypoint reads this", "targetRefs", remedy)
            continue
        action = (one.get("spec") or {}).get("action", "ALLOW")
        if action not in ("ALLOW", "DENY"):
            yield Fault(one, f"ztunnel does not know the action {action}", "ALLOW or DENY, or targetRefs", remedy)
        for place, rule in enumerate((one.get("spec") or {}).get("rules") or []):
            if found := of_requests(rule):
                effect = "lets nobody in" if action == "ALLOW" else "refuses every request, whatever they are"
                yield Fault(one, f"ztunnel knows no {', '.join(found)}, so rule {place + 1} {effect}", "rules about connections", remedy)


def for_waypoints(inside: Sequence[Document], documents: Sequence[Document], domain: str) -> Iterator[Fault]:
    """A policy for a Service that is behind no waypoint is read by nobody, which opens what it should close; ports are the Service's."""
    waypoints, known = waypoints_of(documents), services(documents, domain)
    spaces = {one["metadata"]["name"]: labels_of(one) for one in of(documents, "Namespace")}
    for service in of(inside, "Service"):
        used = waypoint_of(service, spaces)
        if used and used not in waypoints:
            yield Fault(
                service,
                f"it is behind the waypoint {'/'.join(used)}, which is not sent",
                "a waypoint that is there",
                "Correct istio.io/use-waypoint.",
                doubtful=True,
            )
    for one in of(inside, "AuthorizationPolicy", "RequestAuthentication"):
        for target in targets_of(one):
            if target.get("kind") != "Service":
                continue
            found = known.get(full_name(str(target["name"]), namespace_of(one), domain))
            if found is None:
                yield Fault(
                    one, f"{target['name']} is no Service of what is sent", "a Service that is there", "Correct the name.", doubtful=True
                )
            elif not waypoint_of(found, spaces):
                seen = f"Service {target['name']} is behind no waypoint, so nobody reads this policy"
                yield Fault(one, seen, "a Service with istio.io/use-waypoint", "Label the Service, or its namespace.")
            else:
                ports = {str(port["port"]) for port in (found.get("spec") or {}).get("ports") or []}
                asked = {
                    str(port)
                    for rule in (one.get("spec") or {}).get("rules") or []
                    for entry in rule.get("to") or []
                    for port in (entry.get("operation") or {}).get("ports") or []
                }
                if ports and asked - ports:
                    seen = f"a waypoint sees the Service's ports ({', '.join(sorted(ports))}), not {', '.join(sorted(asked - ports))}"
                    yield Fault(one, seen, "ports of the Service", "Write the Service's port in place of the container's.")


def waypoint_of(service: Document, spaces: Mapping[str, Mapping[str, t.Any]]) -> tuple[str, str] | None:
    """Namespace and name of the waypoint that a Service is behind, by its own label or its namespace's."""
    for labels in (labels_of(service), spaces.get(namespace_of(service), {})):
        if name := labels.get(USE_WAYPOINT):
            return None if name == "none" else (str(labels.get(USE_NAMESPACE) or namespace_of(service)), str(name))
    return None
