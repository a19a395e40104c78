# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pods of a stateful component as the modules that look after it see them (private: may change without notice)."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client, quote
from ansible_collections.progressive.platform.plugins.module_utils._kube.logs import last_log

ZONE_LABEL = "topology.kubernetes.io/zone"
EVICT_WITHIN = 5.0
CRASHES = 3
LOG_LINES = 3
LOG_WITHIN = 3.0

Json = dict[str, t.Any]


@dataclass(frozen=True)
class Pod:
    """``problem`` says why it cannot be connected to; ``crashed`` holds the last words of a server that ends again and again. ``volumes`` are the UIDs of
    its claims. ``update`` is empty for a pod as its controller wants it, "outdated" for one of an older template, "unseen" while the controller has not
    looked at its newest template yet."""

    name: str
    address: str
    uid: str
    ordinal: int
    node: str = ""
    zone: str = ""
    volumes: tuple[str, ...] = ()
    problem: str = ""
    crashed: str = ""
    update: str = ""
    ready: bool = True


class Pods:
    """The pods of a label selector. Without the right to read nodes, claims or StatefulSets, zones, volumes and updates are unknown and nothing else is."""

    def __init__(self, client: Client, namespace: str, selector: str) -> None:
        self._client = client
        self._namespace = namespace
        self._selector = selector
        self._zones: dict[str, str] = {}
        self._last_words: dict[tuple[str, int], str] = {}

    def read(self) -> list[Pod]:
        """In the order of their ordinals; one that is not running yet has the reason, one that is ending is left out."""
        with ThreadPoolExecutor(max_workers=2) as pool:
            claims = pool.submit(self._readable, self._path("persistentvolumeclaims"))
            controllers = pool.submit(self._readable, quote("apis", "apps", "v1", "namespaces", self._namespace, "statefulsets"))
            items = self._client.get(self._path("pods"), labelSelector=self._selector)["items"]
            pods = [pod for pod in items if not pod["metadata"].get("deletionTimestamp")]
            if not {pod["spec"].get("nodeName", "") for pod in pods} <= set(self._zones):
                nodes = self._readable("/api/v1/nodes")
                self._zones = {node["metadata"]["name"]: node["metadata"].get("labels", {}).get(ZONE_LABEL, "") for node in nodes}
        volumes = {claim["metadata"]["name"]: claim["metadata"]["uid"] for claim in claims.result()}
        newest = {item["metadata"]["name"]: _newest(item) for item in controllers.result()}
        pods.sort(key=lambda pod: natural(pod["metadata"]["name"]))
        return [self._pod(place, pod, volumes, newest) for place, pod in enumerate(pods)]

    def evict(self, name: str, uid: str) -> str:
        """By the eviction API, which asks the disruption budget; the UID keeps it from a pod that has already taken the place."""
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": self._namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        path = self._path("pods", name, "eviction")
        try:
            self._client.request("POST", path, body, timeout=EVICT_WITHIN)
        except ApiError as error:
            if error.status == 429:
                return f"the disruption budget does not allow it now: {error.server_message}"
            if error.status not in (404, 409):
                raise
        return ""

    def recreate(self, name: str, uid: str) -> str:
        """The claims first: they stay until their pod is gone, and a pod that comes before they are gone waits for new ones."""
        path = self._path("pods", name)
        pod = self._client.find(path)
        if pod is None or pod["metadata"]["uid"] != uid:
            return ""
        try:
            for claim in _claim_names(pod):
                self._client.request("DELETE", self._path("persistentvolumeclaims", claim))
            self._client.request("DELETE", path, {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}})
        except ApiError as error:
            if error.status not in (404, 409):
                return f"it may not be deleted: {error.server_message}"
        return ""

    def _path(self, *pieces: str) -> str:
        return quote("api", "v1", "namespaces", self._namespace, *pieces)

    def _readable(self, path: str) -> list[Json]:
        try:
            return t.cast("list[Json]", self._client.get(path)["items"])
        except ApiError as error:
            if error.status in {401, 403}:
                return []
            raise

    def _pod(self, place: int, pod: Json, claims: Mapping[str, str], newest: Mapping[str, str]) -> Pod:
        status, node = pod.get("status", {}), pod["spec"].get("nodeName", "")
        crashed = self._crashed(pod)
        return Pod(
            name=pod["metadata"]["name"],
            address=status.get("podIP", ""),
            uid=pod["metadata"]["uid"],
            ordinal=_ordinal(pod, place),
            node=node,
            zone=self._zones.get(node, ""),
            volumes=tuple(claims[name] for name in _claim_names(pod) if name in claims),
            problem=_problem(status, crashed),
            crashed=crashed,
            update=_update(pod, newest),
            ready=any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", [])),
        )

    def _crashed(self, pod: Json) -> str:
        """Why a server that ends again and again did so last: the container's own last words, or the end of its log; empty when none does.

        Between two ends it is waiting, has just ended, or runs for a moment: it has to have run that often before the last counts.
        """
        for container in pod.get("status", {}).get("containerStatuses", []):
            state, times = container.get("state", {}), container.get("restartCount", 0)
            ended = state.get("terminated") or container.get("lastState", {}).get("terminated") or {}
            backing_off = state.get("waiting", {}).get("reason") == "CrashLoopBackOff"
            often = times >= (CRASHES if "running" in state else 1)
            if container.get("ready") or not (backing_off or (often and ended.get("exitCode") and "waiting" not in state)):
                continue
            key = (pod["metadata"]["uid"], times)
            if key not in self._last_words:
                path = self._path("pods", pod["metadata"]["name"], "log")
                text = (ended.get("message") or "").strip() or last_log(self._client, path, container["name"], LOG_LINES, LOG_WITHIN)
                self._last_words[key] = " | ".join(line.strip() for line in text.splitlines()[-LOG_LINES:])
            why = f"{container['name']} ended {times} times, exit code {ended.get('exitCode', 'unknown')}"
            return f"{why}, its last words: {self._last_words[key]}" if self._last_words[key] else why
        return ""


def natural(name: str) -> tuple[t.Any, ...]:
    """Sort key by which ``postgres-10`` follows ``postgres-9``."""
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name))


def _claim_names(pod: Json) -> list[str]:
    volumes = pod["spec"].get("volumes", [])
    return [volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume]


def _newest(controller: Json) -> str:
    """The revision its pods ought to have, empty while the controller has not seen its newest template."""
    status = controller.get("status", {})
    seen = status.get("observedGeneration", 0) >= controller["metadata"].get("generation", 0)
    return str(status.get("updateRevision", "")) if seen else ""


def _problem(status: Json, crashed: str) -> str:
    """Why a pod cannot be connected to, in the words of its own status; empty when it can."""
    if crashed and not any("running" in container.get("state", {}) for container in status.get("containerStatuses", [])):
        return crashed
    reasons = []
    for container in status.get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting")
        if waiting:
            reasons.append(f"{container['name']}: {waiting.get('reason', 'waiting')} {waiting.get('message', '')}".strip())
    reasons += [
        str(condition.get("message", "")) for condition in status.get("conditions", []) if condition.get("reason") == "Unschedulable"
    ]
    if status.get("phase") == "Running" and status.get("podIP"):
        return ""
    return f"pod is {status.get('phase', 'unknown')}" + (f" ({'; '.join(reasons)})" if reasons else "")


def _ordinal(pod: Json, place: int) -> int:
    """A StatefulSet's pods are counted by their names, also while one of them is away; others by their place in the order of names."""
    owned = any(owner.get("kind") == "StatefulSet" for owner in pod["metadata"].get("ownerReferences", []))
    number = pod["metadata"]["name"].rpartition("-")[2]
    return int(number) if owned and number.isdigit() else place


def _update(pod: Json, newest_of: Mapping[str, str]) -> str:
    """Pod.update, by its label and its StatefulSet's newest revision."""
    metadata = pod["metadata"]
    sets = [owner["name"] for owner in metadata.get("ownerReferences", []) if owner.get("kind") == "StatefulSet"]
    if not sets or sets[0] not in newest_of:
        return ""
    newest = newest_of[sets[0]]
    return "unseen" if not newest else "" if metadata.get("labels", {}).get("controller-revision-hash") == newest else "outdated"
