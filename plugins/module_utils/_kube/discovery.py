# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which kinds the API server knows and where it keeps them, in two requests (private: may change without notice).

Aggregated discovery (Kubernetes 1.26, stable since 1.30) answers ``/api`` and ``/apis`` with everything at once, where the
classic way is one request for each group and version. A server that does not know it is asked the classic way, only for the
group versions that are needed.
"""

from __future__ import annotations

import threading
import typing as t
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass

from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

if t.TYPE_CHECKING:
    from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client

AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"

Key = tuple[str, str]


@dataclass(frozen=True)
class Resource:
    """A kind as the API server serves it."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool

    @property
    def group(self) -> str:
        """The API group, "" for the core group."""
        return self.api_version.partition("/")[0] if "/" in self.api_version else ""

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
        """The URL path of a collection or an object; without a namespace that of the whole cluster."""
        pieces = ["apis" if "/" in self.api_version else "api", *self.api_version.split("/")]
        if self.namespaced and namespace:
            pieces += ["namespaces", namespace]
        pieces.append(self.plural)
        pieces += [piece for piece in (name, subresource) if piece]
        return "/" + "/".join(urllib.parse.quote(piece, safe="") for piece in pieces)


class UnknownKind(PlatformError):
    """The server does not serve this kind (yet)."""


class Discovery:
    """The kinds of one API server, asked for when first needed; thread-safe."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._known: dict[Key, Resource] | None = None

    def forget(self) -> None:
        """The next look-up asks the server again (after CustomResourceDefinitions or APIServices changed)."""
        with self._lock:
            self._known = None

    def resource(self, api_version: str, kind: str) -> Resource:
        """Where the kind is kept; raises UnknownKind."""
        with self._lock:
            if self._known is None:
                self._known = self._aggregated()
            found = self._known.get((api_version, kind)) or self._classic(api_version, kind)
        if found is None:
            raise UnknownKind(
                f"The API server {self._client.access} does not know {kind} of {api_version}. "
                "Is its CustomResourceDefinition installed? See `kubectl api-resources`."
            )
        return found

    def all(self) -> dict[Key, Resource]:
        with self._lock:
            if self._known is None:
                self._known = self._aggregated()
            return dict(self._known)

    def _aggregated(self) -> dict[Key, Resource]:
        known: dict[Key, Resource] = {}
        for path in ("/api", "/apis"):
            answer = self._client.request("GET", path, accept=AGGREGATED)[2]
            for resource in parse_aggregated(answer):
                known[resource.api_version, resource.kind] = resource
        return known

    def _classic(self, api_version: str, kind: str) -> Resource | None:
        """One group version by itself: for old servers, and for kinds that are too new for the aggregated answer."""
        path = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        answer = self._client.find(path)
        for resource in parse_classic(answer or {}):
            t.cast("dict[Key, Resource]", self._known)[resource.api_version, resource.kind] = resource
        return t.cast("dict[Key, Resource]", self._known).get((api_version, kind))


def parse_aggregated(answer: dict[str, t.Any]) -> Iterator[Resource]:
    """The resources of an APIGroupDiscoveryList; nothing for any other answer."""
    if answer.get("kind") != "APIGroupDiscoveryList":
        return
    for group in answer.get("items") or []:
        name = (group.get("metadata") or {}).get("name") or ""
        for version in group.get("versions") or []:
            api_version = f"{name}/{version['version']}" if name else version["version"]
            for entry in version.get("resources") or []:
                kind = (entry.get("responseKind") or {}).get("kind")
                if kind:
                    yield Resource(api_version, kind, entry["resource"], entry.get("scope") == "Namespaced")


def parse_classic(answer: dict[str, t.Any]) -> Iterator[Resource]:
    """The resources of an APIResourceList, without subresources."""
    for entry in answer.get("resources") or []:
        if "/" not in entry["name"]:
            yield Resource(answer["groupVersion"], entry["kind"], entry["name"], bool(entry["namespaced"]))
