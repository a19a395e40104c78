# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What checks look at: the objects of a cluster, shared between checks, and the ports of its pods (private: may change without notice)."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import typing as t
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.plugins.module_utils._kube.forward import forward
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, PlatformError

FRESH = 1.0  # seconds that a list serves all checks that ask for it
LIST_TIMEOUT = 20.0

Object = dict[str, t.Any]

API_VERSIONS = {
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "ReplicaSet": "apps/v1",
    "Job": "batch/v1",
    "PodDisruptionBudget": "policy/v1",
    "EndpointSlice": "discovery.k8s.io/v1",
    "Lease": "coordination.k8s.io/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "VerticalPodAutoscaler": "autoscaling.k8s.io/v1",
    "ScaledObject": "keda.sh/v1alpha1",
    "APIService": "apiregistration.k8s.io/v1",
    "AuthorizationPolicy": "security.istio.io/v1",
    "Gateway": "gateway.networking.k8s.io/v1",
}


@dataclass
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    at: float = float("-inf")
    items: list[Object] = field(default_factory=list)


@dataclass(frozen=True)
class Answer:
    """What a pod answered over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> t.Any:
        """The body as JSON; None when it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def excerpt(self) -> str:
        return " ".join(self.body[:200].decode("utf-8", "replace").split())


class Endpoint(t.NamedTuple):
    """A port of a pod."""

    namespace: str
    pod: str
    port: int


class Cluster:
    """Reads of one call; thread-safe. Checks that run side by side share lists that are younger than FRESH seconds.

    With very many checks the last begin when such a list is old: a check's first look takes one of this call, whatever its age. What is red is looked at
    anew.
    """

    def __init__(self, client: Client, clock: Clock) -> None:
        self.client = client
        self.clock = clock
        self._lists: dict[tuple[str, str | None], _Entry] = {}
        self._look = threading.local()
        self._ahead: float | None = None  # what its wall clock is ahead of ours
        self._asking = threading.Lock()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def look(self, first: bool) -> Iterator[None]:
        """In this thread, whether what is read is for a check that has not looked before."""
        self._look.first = first
        try:
            yield
        finally:
            self._look.first = False

    def objects(self, kind: str, namespace: str | None = None) -> list[Object]:
        """All objects of a kind, in a namespace or everywhere. A kind's ``kind`` is filled in, which lists leave out."""
        with self._lock:
            entry = self._lists.setdefault((kind, namespace), _Entry())
        with entry.lock:
            if entry.at == float("-inf") or (self.clock.now() - entry.at >= FRESH and not getattr(self._look, "first", False)):
                resource = self.client.resource(API_VERSIONS.get(kind, "v1"), kind)
                asked = self.clock.now()
                entry.items = [{"kind": kind, **item} for item in self.client.list(resource, namespace)["items"]]
                entry.at = asked
            return entry.items

    def find(self, kind: str, namespace: str | None, name: str) -> Object | None:
        """One object by name, read afresh; None when there is none."""
        return self.client.find(self.client.resource(API_VERSIONS.get(kind, "v1"), kind).path(namespace, name))

    def now(self) -> float:
        """The API server's wall clock, in seconds since 1970: ages of its objects are told by its own time."""
        with self._asking:  # once a call; every workload's check tells ages
            if self._ahead is None:
                headers = self.client.request("GET", "/version", timeout=LIST_TIMEOUT)[1]
                self._ahead = parsedate_to_datetime(str(headers["Date"])).timestamp() - self.clock.now()
            return self._ahead + self.clock.now()

    def http(
        self, at: Endpoint, method: str, path: str, until: float, body: t.Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One request to a pod's port, through the API server. Raises PlatformError, with the cause, when no answer comes."""
        left = max(0.1, until - self.clock.now())
        sock = forward(self.client, at.namespace, at.pod, at.port, timeout=min(left, 10.0))
        sock.settimeout(left)
        connection = http.client.HTTPConnection(at.pod, at.port)
        connection.sock = sock
        payload = None if body is None else json.dumps(body).encode()
        sent = {"connection": "close", **({"content-type": "application/json"} if payload is not None else {}), **(headers or {})}
        try:
            connection.request(method, path, body=payload, headers=sent)
            response = connection.getresponse()
            return Answer(response.status, {key.lower(): value for key, value in response.getheaders()}, response.read())
        except TimeoutError as error:
            raise PlatformError(f"{method} {path} on port {at.port} was not answered within {left:.0f} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise PlatformError(f"{method} {path} on port {at.port} failed: {sock.failure or error or type(error).__name__}") from error
        finally:
            connection.close()

    def endpoints(self, namespace: str, service: str, port: str | int | None) -> list[Endpoint]:
        """The ready pods behind a port (name, or number of the Service's own port) of a Service, by its EndpointSlices.

        Raises PlatformError when the Service, the port or every ready pod is missing.
        """
        item = next((entry for entry in self.objects("Service", namespace) if name_of(entry) == service), None)
        if item is None:
            raise PlatformError(f"Service {namespace}/{service} does not exist")
        ports = item["spec"].get("ports") or []
        wanted = next((entry for entry in ports if port in (None, "", entry.get("name")) or str(port) == str(entry["port"])), None)
        if wanted is None:
            has = ", ".join(f"{entry.get('name', '-')} ({entry['port']})" for entry in ports) or "none"
            raise PlatformError(f"Service {namespace}/{service} has no port {port}; it has {has}")
        found: dict[str, Endpoint] = {}
        for endpoint, numbers in self.slices(namespace, service):
            pod = (endpoint.get("targetRef") or {}).get("name")
            number = numbers.get(wanted.get("name") or "")
            if pod and number and (endpoint.get("conditions") or {}).get("ready", True):
                found[pod] = Endpoint(namespace, pod, number)
        if not found:
            raise PlatformError(f"Service {namespace}/{service} has no ready endpoint: {self._why_empty(item)}")
        return [found[pod] for pod in sorted(found)]

    def slices(self, namespace: str, service: str) -> Iterator[tuple[Object, dict[str, int]]]:
        """Every endpoint of a Service with the numbers of its ports by name."""
        for part in self.objects("EndpointSlice", namespace):
            if labels_of(part).get("kubernetes.io/service-name") == service:
                numbers = {entry.get("name") or "": entry.get("port") for entry in part.get("ports") or []}
                for endpoint in part.get("endpoints") or []:
                    yield endpoint, numbers

    def _why_empty(self, service: Object) -> str:
        selector = service["spec"].get("selector") or {}
        pods = [
            pod for pod in self.objects("Pod", namespace_of(service)) if selector and selects({"matchLabels": selector}, labels_of(pod))
        ]
        if not pods:
            return "no pod has the labels " + (",".join(f"{key}={value}" for key, value in selector.items()) or "(it has no selector)")
        return "not ready: " + ", ".join(name_of(pod) for pod in pods)


def name_of(item: Object) -> str:
    return str(item["metadata"]["name"])


def namespace_of(item: Object) -> str:
    return str(item["metadata"].get("namespace", ""))


def labels_of(item: Object) -> dict[str, str]:
    return item["metadata"].get("labels") or {}


def conditions(item: Object) -> dict[str, Object]:
    """Status conditions by type."""
    return {entry["type"]: entry for entry in (item.get("status") or {}).get("conditions") or []}


def is_true(item: Object, condition: str) -> bool:
    return conditions(item).get(condition, {}).get("status") == "True"


def selects(selector: Object | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector (matchLabels, matchExpressions) takes in these labels: none takes nothing, an empty one everything."""
    if selector is None:
        return False
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    for rule in selector.get("matchExpressions") or []:
        key, operator, values = rule["key"], rule["operator"], rule.get("values") or []
        held = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }
        if not held.get(operator, False):
            return False
    return True


def controller(item: Object) -> tuple[str, str] | None:
    """Kind and name of the object that owns and runs this one."""
    for owner in item["metadata"].get("ownerReferences") or []:
        if owner.get("controller"):
            return owner["kind"], owner["name"]
    return None
