# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of a mesh: proxies in step with the control plane, certificates, and that plain text is really refused (private: may change without notice)."""

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

PROXY = "istio-proxy"
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
    strict = options["mtls"] == "STRICT"
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
    problems = [problem for pod in pods for problem in pod_problems(pod, options["revision"], options["tag"], status)]
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
