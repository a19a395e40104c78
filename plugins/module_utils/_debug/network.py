# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why one does not reach another: Services, names, policies, the mesh (private: may change without notice). Pure."""

from __future__ import annotations

import difflib
import ipaddress
import re
import typing as t
from collections.abc import Iterator, Mapping

from ansible_collections.progressive.platform.plugins.module_utils._debug.pods import pod_chain
from ansible_collections.progressive.platform.plugins.module_utils._debug.scene import (
    ERROR,
    WARNING,
    About,
    Finding,
    Json,
    Scene,
    containers_of,
    labels_of,
    listed,
    matches_labels,
    matches_selector,
    name_of,
    one_line,
    owner_of,
)
from ansible_collections.progressive.platform.plugins.module_utils._kube.readiness import State, conditions, readiness

# scheme://user:password@host:port, and host:port by itself, as environment and configuration name who is called.
CALLED = re.compile(
    r"(?:[a-z][a-z0-9+.-]*://(?:[^\s/@]*@)?|(?<![\w./@-]))(?P<host>[a-z](?:[a-z0-9.-]*[a-z0-9])?)(?::(?P<port>\d{2,5}))?(?=[/\s,;\"']|$)"
)
DNS_PORT = 53
OWN = frozenset({"localhost", "kubernetes"})


def ready_addresses(scene: Scene, service: str) -> int:
    """How many ready endpoints a Service has, by its EndpointSlices."""
    slices = [it for it in scene.all("EndpointSlice") if labels_of(it).get("kubernetes.io/service-name") == service]
    ready = [one for it in slices for one in it.get("endpoints") or [] if (one.get("conditions") or {}).get("ready") is not False]
    return len(ready)


def without_endpoints(scene: Scene, service: Json) -> tuple[str, ...]:
    """Why nobody answers at a Service; empty when somebody does."""
    name, spec = name_of(service), service.get("spec") or {}
    if spec.get("type") == "ExternalName" or ready_addresses(scene, name):
        return ()
    selector = spec.get("selector")
    if not selector and spec.get("clusterIP") == "None":
        return ()  # a name to keep records under, as Patroni does, and nobody is called by it
    if not selector:
        return (f"Service {name} has no selector, and nobody has given it endpoints",)
    head = f"Service {name} has no ready endpoint"
    pods = scene.selected(selector)
    if not pods:
        wanted = ",".join(f"{key}={value}" for key, value in selector.items())
        return (head, f"no pod has its labels {wanted}", *_nearest(scene, selector))
    reasons = [(pod, chain) for pod in pods if (chain := pod_chain(scene, pod))]
    if reasons:
        pod, chain = reasons[0]
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        return (head, f"pod {name_of(pod)}{more} {chain[0]}", *chain[1:])
    names = {port.get("name") for pod in pods for container in containers_of(pod) for port in container.get("ports") or []}
    lost = [
        port.get("targetPort")
        for port in spec.get("ports") or []
        if isinstance(port.get("targetPort"), str) and port["targetPort"] not in names
    ]
    if lost:
        return (head, f"its port goes to {lost[0]!r}, and no container has a port of that name; there are {listed(filter(None, names))}")
    return (head, f"its {len(pods)} pods are not ready")


def _nearest(scene: Scene, selector: Mapping[str, str]) -> tuple[str, ...]:
    """Pods that have most of the labels: what differs there is what was mistyped."""
    best: tuple[float, Json] | None = None
    for pod in scene.all("Pod"):
        labels = labels_of(pod)
        alike = sum(difflib.SequenceMatcher(None, labels[key], value).ratio() for key, value in selector.items() if key in labels)
        if alike and (best is None or alike > best[0]):
            best = (alike, pod)
    if best is None:
        return ()
    labels = labels_of(best[1])
    differing = ", ".join(f"{key} is {labels.get(key, 'not there')!r}" for key, value in selector.items() if labels.get(key) != value)
    kind, name = owner_of(best[1])
    return (f"the nearest are the pods of {kind} {name}, where {differing}",)


def services(scene: Scene) -> Iterator[Finding]:
    """Services at which nobody answers, and ports that no container declares."""
    for service in scene.all("Service"):
        name, spec = name_of(service), service.get("spec") or {}
        if chain := without_endpoints(scene, service):
            meant = _scaled_to_nothing(scene, spec.get("selector"))
            level = WARNING if meant or not spec.get("selector") else ERROR
            yield Finding(
                ("Service", name), chain, f"kubectl -n {scene.namespace} get endpointslices -l kubernetes.io/service-name={name}", level
            )
            continue
        pods = scene.selected(spec.get("selector"))
        declared = {port.get("containerPort") for pod in pods for one in containers_of(pod) for port in one.get("ports") or []}
        for port in spec.get("ports") or []:
            target = port.get("targetPort")
            if pods and declared and isinstance(target, int) and target not in declared:
                chain = (
                    f"Service {name} sends port {port.get('port')} to {target}",
                    f"its pods declare only the ports {listed(map(str, declared))}",
                )
                yield Finding(("Service", name), chain, "Correct targetPort, or declare the port.", WARNING)


def _scaled_to_nothing(scene: Scene, selector: Mapping[str, str] | None) -> bool:
    """Whether the workload behind a Service is meant to have no pods."""
    for kind in ("Deployment", "StatefulSet"):
        for item in scene.all(kind):
            spec = item.get("spec") or {}
            template = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
            if selector and matches_labels(template, selector) and spec.get("replicas") == 0:
                return True
    return False


# ---- who is called ------------------------------------------------------------------------------------------------------------


def called(scene: Scene, pod: Json) -> dict[tuple[str, int | None], str]:
    """(host, port) that the pod's environment and the ConfigMaps it reads name, and where; only names of this cluster's Services."""
    found: dict[tuple[str, int | None], str] = {}
    for container in containers_of(pod):
        for entry in container.get("env") or []:
            for host, port in _hosts(str(entry.get("value") or "")):
                found.setdefault((host, port), f"environment variable {entry.get('name')}")
        for source in container.get("envFrom") or []:
            config = scene.find("ConfigMap", (source.get("configMapRef") or {}).get("name") or "")
            for key, value in ((config or {}).get("data") or {}).items():
                for host, port in _hosts(str(value)):
                    found.setdefault((host, port), f"{key} of ConfigMap {name_of(t.cast(Json, config))}")
    return found


def _hosts(text: str) -> Iterator[tuple[str, int | None]]:
    for match in CALLED.finditer(text):
        has_scheme = "://" in match[0]
        if match["host"] in OWN or not (has_scheme or match["port"]):
            continue
        yield match["host"], int(match["port"]) if match["port"] else None


def references(scene: Scene) -> Iterator[Finding]:
    """Names that a workload calls and that nobody has, or where nobody answers, or whose port is another."""
    known = {name_of(service): service for service in scene.all("Service")}
    told: set[tuple[About, str]] = set()
    for pod in scene.all("Pod"):
        kind, name = owner_of(pod)
        for (host, port), where in called(scene, pod).items():
            service, foreign = _short(host, scene.namespace)
            if foreign or ((kind, name), f"{service}:{port}") in told:
                continue
            told.add(((kind, name), f"{service}:{port}"))
            head = f"{kind} {name} calls {host} ({where})"
            if service not in known:
                if "." in host and host != f"{service}.{scene.namespace}":
                    continue  # a name of the world outside
                near = [
                    other
                    for other in known
                    if other.startswith(service) or service.startswith(other) or service.split("-")[0] in other.split("-")
                ]
                hint = f"there are {listed(near or known)}"
                yield Finding(
                    (kind, name),
                    (head, f"the name does not resolve: there is no Service {service}; {hint}"),
                    f"kubectl -n {scene.namespace} get services",
                )
            elif why := without_endpoints(scene, known[service]):
                yield Finding(
                    (kind, name),
                    (head, *why),
                    f"kubectl -n {scene.namespace} get pods -l "
                    + ",".join(f"{key}={value}" for key, value in ((known[service].get("spec") or {}).get("selector") or {}).items()),
                )
            elif (
                port and (ports := [one.get("port") for one in (known[service].get("spec") or {}).get("ports") or []]) and port not in ports
            ):
                yield Finding(
                    (kind, name),
                    (f"{head} at port {port}", f"Service {service} has only the ports {listed(map(str, ports))}"),
                    f"kubectl -n {scene.namespace} get service {service}",
                )
            elif why := _forbidden(scene, pod, known[service], port):
                yield Finding((kind, name), (head, *why), f"kubectl -n {scene.namespace} get networkpolicies")


def _short(host: str, namespace: str) -> tuple[str, bool]:
    """The Service a name means, and whether it is another namespace's."""
    pieces = host.split(".")
    if len(pieces) == 1:
        return host, False
    if len(pieces) == 2 or (len(pieces) > 2 and pieces[2] == "svc"):
        return pieces[0], pieces[1] != namespace
    return host, False


# ---- policies -----------------------------------------------------------------------------------------------------------------


def _forbidden(scene: Scene, source: Json, service: Json, port: int | None) -> tuple[str, ...]:
    """What the NetworkPolicies say against a call from a pod to a Service of the namespace; empty when nothing."""
    ports = (service.get("spec") or {}).get("ports") or []
    chosen = next((one for one in ports if port in (None, one.get("port"))), None)
    for target in scene.selected((service.get("spec") or {}).get("selector"))[:1]:
        number = _number(target, (chosen or {}).get("targetPort", (chosen or {}).get("port")))
        for direction, subject, peer, words in (("Ingress", target, source, "lets in"), ("Egress", source, target, "lets out")):
            isolating = [it for it in scene.all("NetworkPolicy") if _isolates(it, subject, direction)]
            if isolating and not any(_permits(scene, it, direction, peer, number) for it in isolating):
                who = f"{owner_of(subject)[0]} {owner_of(subject)[1]}"
                return (f"no NetworkPolicy {words} this call at {who} (port {number}): {listed(map(name_of, isolating))} apply there",)
    return ()


def _number(pod: Json, port: t.Any) -> t.Any:
    named = {one.get("name"): one.get("containerPort") for container in containers_of(pod) for one in container.get("ports") or []}
    return named.get(port, port)


def _isolates(policy: Json, pod: Json, direction: str) -> bool:
    spec = policy.get("spec") or {}
    types = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
    return direction in types and matches_selector(labels_of(pod), spec.get("podSelector") or {})


def _permits(scene: Scene, policy: Json, direction: str, peer: Json | None, port: t.Any, protocol: str = "TCP") -> bool:
    """Whether a rule allows the peer, None for one outside the namespace, at this port."""
    for rule in (policy.get("spec") or {}).get(direction.lower()) or []:
        ports = rule.get("ports")
        if ports and not any((one.get("protocol") or "TCP") == protocol and _in_range(one, port) for one in ports):
            continue
        peers = rule.get("from" if direction == "Ingress" else "to")
        if not peers or any(_is_peer(scene, one, peer) for one in peers):
            return True
    return False


def _in_range(entry: Json, port: t.Any) -> bool:
    asked = entry.get("port")
    if asked is None or asked == port or isinstance(asked, str):  # a named port is taken for the right one
        return True
    return isinstance(port, int) and asked <= port <= (entry.get("endPort") or asked)


def _is_peer(scene: Scene, entry: Json, peer: Json | None) -> bool:
    if "ipBlock" in entry:
        address = ((peer or {}).get("status") or {}).get("podIP")
        return bool(address) and ipaddress.ip_address(str(address)) in ipaddress.ip_network(entry["ipBlock"]["cidr"], strict=False)
    if peer is None:
        return "namespaceSelector" in entry
    if "namespaceSelector" in entry:
        space = scene.find("Namespace", scene.namespace)
        labels = {"kubernetes.io/metadata.name": scene.namespace, **(labels_of(space) if space else {})}
        if not matches_selector(labels, entry["namespaceSelector"] or {}):
            return False
    return matches_selector(labels_of(peer), entry.get("podSelector") or {})


def policies(scene: Scene) -> Iterator[Finding]:
    """Workloads that may not even ask for a name, and policies that select nobody."""
    told: set[About] = set()
    for pod in scene.all("Pod"):
        about = owner_of(pod)
        isolating = [it for it in scene.all("NetworkPolicy") if _isolates(it, pod, "Egress")]
        if about in told or not isolating or (pod.get("spec") or {}).get("hostNetwork"):
            continue
        told.add(about)
        if not any(_permits(scene, it, "Egress", None, DNS_PORT, "UDP") for it in isolating):
            chain = (
                f"{about[0]} {about[1]} cannot resolve names",
                f"no NetworkPolicy lets it out to port 53 over UDP; {listed(map(name_of, isolating))} apply to it",
            )
            yield Finding(about, chain, "Allow UDP and TCP 53 to kube-dns.")
    for policy in scene.all("NetworkPolicy"):
        selector = (policy.get("spec") or {}).get("podSelector") or {}
        if selector and scene.all("Pod") and not any(matches_selector(labels_of(pod), selector) for pod in scene.all("Pod")):
            yield Finding(
                ("NetworkPolicy", name_of(policy)),
                (f"NetworkPolicy {name_of(policy)} applies to no pod", "none has the labels of its podSelector"),
                level=WARNING,
            )


# ---- names --------------------------------------------------------------------------------------------------------------------


def names(scene: Scene) -> Iterator[Finding]:
    """The cluster's DNS, and pods that do not use it."""
    service = next((it for it in scene.dns.get("Service") or [] if labels_of(it).get("k8s-app") == "kube-dns"), None)
    if service is not None:
        inner = Scene("kube-system", scene.dns, scene.now)
        if why := without_endpoints(inner, service):
            yield Finding(
                ("Service", name_of(service)),
                ("No name of the cluster resolves", *why),
                "kubectl -n kube-system get pods -l k8s-app=kube-dns",
            )
    told: set[About] = set()
    for pod in scene.all("Pod"):
        spec, about = pod.get("spec") or {}, owner_of(pod)
        policy = spec.get("dnsPolicy")
        if about in told:
            continue
        if policy == "None" or (policy == "Default" and called(scene, pod)):
            told.add(about)
            servers = (spec.get("dnsConfig") or {}).get("nameservers") or []
            whom = f"it asks {listed(servers)}" if servers else "it uses its node's name servers"
            chain = (
                f"{about[0]} {about[1]} may not resolve names of Services",
                f"its dnsPolicy is {policy}: {whom}, and not the cluster's DNS",
            )
            yield Finding(about, chain, "Set dnsPolicy: ClusterFirst.", ERROR if policy == "None" else WARNING)
        elif spec.get("hostNetwork") and policy == "ClusterFirst":
            told.add(about)
            chain = (
                f"{about[0]} {about[1]} does not resolve names of Services",
                "it is on the node's network, where ClusterFirst means the node's name servers",
            )
            yield Finding(about, chain, "Set dnsPolicy: ClusterFirstWithHostNet.", WARNING)


# ---- mesh ---------------------------------------------------------------------------------------------------------------------


def mesh(scene: Scene) -> Iterator[Finding]:
    """Istio and the Gateway API: pods without the sidecar they should have, routes to nobody, subsets that nobody defines, objects in error."""
    space = labels_of(scene.find("Namespace", scene.namespace) or {})
    injected = space.get("istio-injection") == "enabled" or bool(space.get("istio.io/rev"))
    told: set[About] = set()
    for pod in scene.all("Pod") if injected else ():
        about, labels = owner_of(pod), labels_of(pod)
        wanted = labels.get("sidecar.istio.io/inject") != "false" and not (pod.get("spec") or {}).get("hostNetwork") and about[0] != "Job"
        if wanted and about not in told and not any(one.get("name") == "istio-proxy" for one in containers_of(pod)):
            told.add(about)
            chain = (
                f"{about[0]} {about[1]} is not in the mesh",
                "its pods were made without a sidecar, though the namespace asks for one",
                "they are older than the label, or the injector did not answer",
            )
            yield Finding(about, chain, f"kubectl -n {scene.namespace} rollout restart {about[0].lower()}/{about[1]}")
    for pod in scene.all("Pod") if space.get("istio.io/dataplane-mode") == "ambient" else ():
        about, labels = owner_of(pod), labels_of(pod)
        gateway = "gateway.networking.k8s.io/gateway-name" in labels
        if not gateway and about not in told and any(one.get("name") == "istio-proxy" for one in containers_of(pod)):
            told.add(about)
            chain = (
                f"{about[0]} {about[1]} has a sidecar in an ambient namespace",
                "its pods were made before the namespace became ambient, or something asks for injection",
                "a sidecar takes the place of ztunnel, and knows none of the policies of the waypoint",
            )
            yield Finding(about, chain, f"kubectl -n {scene.namespace} rollout restart {about[0].lower()}/{about[1]}")
    known = {name_of(service) for service in scene.all("Service")}
    subsets = {
        (_short(str((rule.get("spec") or {}).get("host", "")), scene.namespace)[0], subset.get("name"))
        for rule in scene.all("DestinationRule")
        for subset in (rule.get("spec") or {}).get("subsets") or []
    }
    for kind in ("VirtualService", "HTTPRoute"):
        for route in scene.all(kind):
            for host, subset in _destinations(kind, route, scene.namespace):
                if host not in known:
                    yield Finding(
                        (kind, name_of(route)),
                        (f"{kind} {name_of(route)} sends to {host}", f"there is no Service {host}; there are {listed(known)}"),
                        f"kubectl -n {scene.namespace} get {kind.lower()} {name_of(route)} -o yaml",
                    )
                elif subset and (host, subset) not in subsets:
                    yield Finding(
                        (kind, name_of(route)),
                        (
                            f"{kind} {name_of(route)} sends to subset {subset} of {host}",
                            "no DestinationRule defines that subset, so calls get 503",
                        ),
                        f"kubectl -n {scene.namespace} get destinationrules",
                    )
    for rule in scene.all("DestinationRule"):
        host, foreign = _short(str((rule.get("spec") or {}).get("host", "")), scene.namespace)
        if not foreign and "*" not in host and "." not in host and host not in known:
            yield Finding(
                ("DestinationRule", name_of(rule)),
                (f"DestinationRule {name_of(rule)} is about {host}", f"there is no Service {host}"),
                level=WARNING,
            )
    for kind in ("Gateway", "HTTPRoute"):
        for item in scene.all(kind):
            verdict = readiness(item)
            if verdict.state is not State.READY and conditions(item) | {"parents": (item.get("status") or {}).get("parents")}:
                yield Finding(
                    (kind, name_of(item)),
                    (f"{kind} {name_of(item)} does not work: {one_line(verdict.reason)}",),
                    f"kubectl -n {scene.namespace} describe {kind.lower()} {name_of(item)}",
                )


def _destinations(kind: str, route: Json, namespace: str) -> Iterator[tuple[str, str]]:
    """(Service of the namespace, subset) of a route."""
    spec = route.get("spec") or {}
    if kind == "HTTPRoute":
        for rule in spec.get("rules") or []:
            for backend in rule.get("backendRefs") or []:
                if (backend.get("kind") or "Service") == "Service" and (backend.get("namespace") or namespace) == namespace:
                    yield str(backend.get("name")), ""
        return
    for protocol in ("http", "tls", "tcp"):
        for rule in spec.get(protocol) or []:
            for target in rule.get("route") or []:
                destination = target.get("destination") or {}
                host, foreign = _short(str(destination.get("host", "")), namespace)
                if host and not foreign and "." not in host:
                    yield host, str(destination.get("subset") or "")
