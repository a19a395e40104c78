# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of a mesh: proxies in step with the control plane, certificates, and that plain text is really refused (private: may change without notice).

In an ambient mesh gateways and waypoints alone have proxies; of the other pods it is seen whether their nodes have taken them in.
"""

from __future__ import annotations

import http.client
import typing as t
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from ansible_collections.progressive.platform.plugins.module_utils._health.cluster import (
    Endpoint,
    Object,
    is_true,
    labels_of,
    name_of,
    namespace_of,
)
from ansible_collections.progressive.platform.plugins.module_utils._health.model import Finding, Options, age, plural, verdict
from ansible_collections.progressive.platform.plugins.module_utils._health.scene import Scene
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import quote
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

PROXY, ZTUNNEL = "istio-proxy", "ztunnel"
OF_GATEWAY, USE_WAYPOINT, DATAPLANE = "gateway.networking.k8s.io/gateway-name", "istio.io/use-waypoint", "istio.io/dataplane-mode"
TAKEN_IN = "ambient.istio.io/redirection"  # what the plugin of a node writes on the pods that it has taken in
DEBUG_PORT, ADMIN_PORT = 8080, 15000  # both answer to the pod itself alone, which is where a port-forward comes out
AT_ONCE = 6
PROBE_TIMEOUT = 5.0
# How the API server says that a pod hung up on it without a word, as a proxy does that wants TLS.
HUNG_UP = ("EOF", "connection reset", "connection refused")
SILENCE = "no answer came"


class Probe(t.NamedTuple):
    """What a request in plain text from outside of the mesh got: the status of an answer, or how it failed."""

    status: int
    text: str

    @property
    def refused(self) -> bool:
        if self.text == SILENCE:
            return True
        return self.status >= 500 and "error trying to reach service" in self.text and any(word in self.text for word in HUNG_UP)


def mesh(options: Options, scene: Scene, until: float) -> Finding:
    """Every pod of the mesh's namespaces has a proxy of the wanted revision, in step, with a certificate that lasts, that refuses plain text."""
    ambient = options["mode"] == "ambient"
    strict = options["mtls"] == "STRICT" and not ambient
    expected = f"every proxy on {options['revision']}, in step, certified for {options['certificate_hours']:g} h" + (
        ", plain text refused" if strict else ""
    )
    status = statuses(
        answer.json() or []
        for at in scene.cluster.endpoints(options["namespace"], options["service"], None)
        for answer in [scene.cluster.http(Endpoint(at.namespace, at.pod, DEBUG_PORT), "GET", "/debug/syncz", until)]
    )
    pods = [pod for namespace in options["namespaces"] for pod in scene.cluster.objects("Pod", namespace) if lives(pod)]
    proxies = [pod for pod in pods if has_proxy(pod) and is_true(pod, "Ready")]
    if ambient:
        expected += ", every pod in the mesh without a sidecar, waypoints programmed"
        proxies = [pod for pod in proxies if OF_GATEWAY in labels_of(pod)]
    problems = [
        problem
        for pod in pods
        for problem in (
            ambient_problems(pod)
            if ambient and OF_GATEWAY not in labels_of(pod)
            else pod_problems(pod, options["revision"], options["tag"], status)
        )
    ]
    if ambient:
        problems += waypoint_problems(options, scene, status)
    now = scene.cluster.now()

    def look(pod: Object) -> tuple[float | None, list[str]]:
        at = Endpoint(namespace_of(pod), name_of(pod), ADMIN_PORT)
        try:
            left = certificate_left(scene.cluster.http(at, "GET", "/certs", until).json(), now)
        except PlatformError as error:
            return None, [f"{at.pod}: its proxy does not show its certificates: {error.message}"]
        found = certificate_problems(at.pod, left, options["certificate_hours"])
        port = served_port(pod) if strict else None
        if port is not None:
            found += plain_text_problems(at.pod, port, plain_text(scene, at, port))
        return left, found

    seen = side_by_side(look, proxies)
    problems += [problem for _unused, found in seen for problem in found]
    lasting = [left for left, _unused in seen if left is not None]
    observed = (
        f"{plural(len(proxies), 'proxy').replace('proxys', 'proxies')}, the first certificate ends in {age(min(lasting))}"
        if lasting
        else "no proxy"
    )
    versions = {"istio": ", ".join(sorted({entry.get("istio_version", "") for entry in status.values()} - {""}))}
    return verdict(expected, observed, problems, {"versions": versions})


def statuses(answers: Iterable[Sequence[Mapping[str, t.Any]]]) -> dict[str, Mapping[str, t.Any]]:
    """Proxies by ``pod.namespace``, of all control planes together."""
    return {entry["proxy"]: entry for answer in answers for entry in answer if entry.get("proxy")}


def lives(pod: Object) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Pending", "Running") and not pod["metadata"].get("deletionTimestamp")


def has_proxy(pod: Object) -> bool:
    """Injected as a sidecar, native or not, or a gateway."""
    spec = pod["spec"]
    return any(one["name"] == PROXY for one in [*(spec.get("initContainers") or []), *spec["containers"]])


def outside(pod: Object) -> bool:
    """A pod that says itself that it wants no proxy."""
    return labels_of(pod).get("sidecar.istio.io/inject") == "false" or bool(pod["spec"].get("hostNetwork"))


def pod_problems(pod: Object, revision: str, tag: str, status: Mapping[str, Mapping[str, t.Any]]) -> list[str]:
    """What is wrong with a pod's proxy as far as the control plane knows."""
    name = name_of(pod)
    if not has_proxy(pod):
        return (
            []
            if outside(pod)
            else [f"{name} has no proxy: it was made before its namespace joined (istio.io/rev={tag}); restart its workload"]
        )
    if not is_true(pod, "Ready"):
        return []  # the workload's own check says why
    own = (pod["metadata"].get("annotations") or {}).get("istio.io/rev")
    found = [f"{name} is of revision {own}, {revision} is wanted; restart its workload"] if own and own != revision else []
    entry = status.get(f"{name}.{namespace_of(pod)}")
    if entry is None:
        return [*found, f"{name}: no control plane knows its proxy"]
    for kind, resource in sorted((entry.get("resources") or {}).items()):
        short = kind.rpartition(".")[2]
        if resource.get("lastError"):
            found.append(f"{name} refused its {short}: {resource['lastError'][:200]}")
        elif resource.get("sent") and resource.get("sent") != resource.get("acked"):
            found.append(f"{name} has not taken its newest {short} yet")
    return found


def ambient_problems(pod: Object) -> list[str]:
    """What is wrong with a pod that its node's ztunnel should carry."""
    name = name_of(pod)
    if has_proxy(pod):
        return [
            f"{name} has a sidecar, which takes the place of ztunnel: it was made before its namespace became ambient; restart its workload"
        ]
    if labels_of(pod).get(DATAPLANE) == "none" or pod["spec"].get("hostNetwork") or not is_true(pod, "Ready"):
        return []  # of one that is not ready the workload's own check says why
    if (pod["metadata"].get("annotations") or {}).get(TAKEN_IN) != "enabled":
        return [
            f"{name} is not in the mesh: the CNI plugin of its node has not taken it in; look at istio-cni-node and ztunnel there, and restart it"
        ]
    return []


def waypoint_problems(options: Options, scene: Scene, status: Mapping[str, t.Any]) -> list[str]:
    """What is wrong with ztunnels, waypoints, and with what istiod makes of Services and policies."""
    ztunnels = [pod for pod in scene.cluster.objects("Pod", options["namespace"]) if labels_of(pod).get("app") == ZTUNNEL and lives(pod)]
    found = [
        f"{name_of(pod)}: no control plane knows this ztunnel"
        for pod in ztunnels
        if is_true(pod, "Ready") and f"{name_of(pod)}.{namespace_of(pod)}" not in status
    ]
    for namespace in options["namespaces"]:
        gateways = {name_of(one): one for one in scene.cluster.objects("Gateway", namespace)}
        found += programmed_problems(options["waypoint"], namespace, gateways.get(options["waypoint"]))
        found += [problem for one in scene.cluster.objects("Service", namespace) for problem in bound_problems(one)]
        found += [problem for one in scene.cluster.objects("AuthorizationPolicy", namespace) for problem in policy_problems(one)]
    return found


def programmed_problems(name: str, namespace: str, gateway: Object | None) -> list[str]:
    if gateway is None:
        return [f"there is no waypoint {namespace}/{name}: policies about requests hold for nothing; run site.yml"]
    if is_true(gateway, "Programmed"):
        return []
    said = next(
        (one.get("message", "") for one in conditions_of(gateway) if one.get("type") == "Programmed"), "istiod has not looked at it"
    )
    return [f"waypoint {namespace}/{name} is not programmed: {said}"]


def bound_problems(service: Object) -> list[str]:
    """istiod says on every Service that asks for a waypoint whether it has it."""
    if labels_of(service).get(USE_WAYPOINT, "none") == "none" or is_true(service, "istio.io/WaypointBound"):
        return []
    said = next(
        (one.get("message", "") for one in conditions_of(service) if one.get("type") == "istio.io/WaypointBound"), "istiod does not say why"
    )
    return [f"Service {name_of(service)} is not behind its waypoint: {said}"]


def policy_problems(policy: Object) -> list[str]:
    """Refused by who it is for, or taken as something narrower or wider than it says."""
    return [
        f"AuthorizationPolicy {name_of(policy)}: {one.get('message') or one.get('reason')}"
        for one in conditions_of(policy)
        if one.get("type") in ("ZtunnelAccepted", "WaypointAccepted")
        and (one.get("status") != "True" or one.get("reason") == "UnsupportedValue")
    ]


def conditions_of(item: Object) -> list[t.Any]:
    return list((item.get("status") or {}).get("conditions") or [])


def certificate_left(certs: t.Any, now: float) -> float | None:
    """Seconds until the first of a proxy's own certificates ends; None when it has none."""
    ends = [
        datetime.fromisoformat(chain["expiration_time"].replace("Z", "+00:00")).timestamp()
        for certificate in (certs or {}).get("certificates") or []
        for chain in certificate.get("cert_chain") or []
        if chain.get("expiration_time")
    ]
    return min(ends) - now if ends else None


def certificate_problems(name: str, left: float | None, hours: float) -> list[str]:
    if left is None:
        return [f"{name}: its proxy has no certificate"]
    if left < hours * 3600:
        return [f"{name}: its certificate ends in {age(left)}" if left > 0 else f"{name}: its certificate ended {age(-left)} ago"]
    return []


def served_port(pod: Object) -> int | None:
    """A port of the application, none of a gateway: that one serves the world."""
    if "gateway.networking.k8s.io/gateway-name" in labels_of(pod):
        return None
    ports = [port for one in pod["spec"]["containers"] if one["name"] != PROXY for port in one.get("ports") or []]
    chosen = next((port for port in ports if port.get("name") == "http"), ports[0] if ports else None)
    return int(chosen["containerPort"]) if chosen else None


def plain_text(scene: Scene, at: Endpoint, port: int) -> Probe:
    """A request by the API server, which is in no mesh, to a port of the pod."""
    client = scene.cluster.client
    try:
        connection = client.dial()
    except OSError as error:
        raise client.unreachable("GET", "/", error) from error
    try:
        connection.sock.settimeout(PROBE_TIMEOUT)
        path = quote("api", "v1", "namespaces", at.namespace, "pods", f"http:{at.pod}:{port}", "proxy") + "/"
        connection.request("GET", client.target(path), headers=client.headers("*/*"))
        response = connection.getresponse()
        return Probe(response.status, response.read(2000).decode("utf-8", "replace"))
    except TimeoutError:
        return Probe(0, SILENCE)
    except (OSError, http.client.HTTPException) as error:
        return Probe(0, str(error) or type(error).__name__)
    finally:
        connection.close()


def plain_text_problems(name: str, port: int, probe: Probe) -> list[str]:
    if probe.refused:
        return []
    said = " ".join(probe.text.split())[:120]
    if probe.status in (401, 403) and "pods/proxy" in probe.text:
        return [f"{name}: whether plain text is refused cannot be seen, these credentials may not get pods/proxy"]
    return [
        f"{name}: plain text from outside of the mesh was answered on port {port} ({probe.status}: {said}); is PeerAuthentication STRICT?"
    ]


Seen = t.TypeVar("Seen")


def side_by_side(look: Callable[[Object], Seen], pods: Sequence[Object]) -> list[Seen]:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(look, pods))
