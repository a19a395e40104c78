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

ZONE_LABEL = "topology.kubernetes.io/zone"
EVICT_WITHIN = 5.0

Json = dict[str, t.Any]


@dataclass(frozen=True)
class Pod:
    """``problem`` says why it cannot be connected to. ``update`` is empty for a pod as its controller wants it, "outdated" for one of an older
    template, "unseen" while the controller has not looked at its newest template yet."""

    name: str
    address: str
    uid: str
    node: str = ""
    zone: str = ""
    problem: str = ""
    update: str = ""
    ready: bool = True


def pods_of(client: Client, namespace: str, selector: str) -> list[Pod]:
    """Pods in the order of their ordinals; one that is not running yet has the reason, one that is ending is left out.

    Without the right to read nodes or StatefulSets, zones and updates are unknown and nothing else is.
    """
    with ThreadPoolExecutor(max_workers=2) as pool:
        zones = pool.submit(_readable, client, "/api/v1/nodes")
        revisions = pool.submit(_readable, client, quote("apis", "apps", "v1", "namespaces", namespace, "statefulsets"))
        found = client.get(quote("api", "v1", "namespaces", namespace, "pods"), labelSelector=selector)["items"]
    by_node = {node["metadata"]["name"]: node["metadata"].get("labels", {}).get(ZONE_LABEL, "") for node in zones.result()}
    newest = {item["metadata"]["name"]: _newest(item) for item in revisions.result()}
    pods = [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]
    return [_pod(pod, by_node, newest) for pod in sorted(pods, key=lambda pod: natural(pod["metadata"]["name"]))]


def evict(client: Client, namespace: str, name: str, uid: str) -> str:
    """Have a pod replaced by the eviction API, which asks the disruption budget, if it is still this one; returns why not now."""
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
        "deleteOptions": {"preconditions": {"uid": uid}},
    }
    path = quote("api", "v1", "namespaces", namespace, "pods", name, "eviction")
    try:
        client.request("POST", path, body, timeout=EVICT_WITHIN)
    except ApiError as error:
        if error.status == 429:
            return f"the disruption budget does not allow it now: {error.server_message}"
        if error.status not in (404, 409):
            raise
    return ""


def natural(name: str) -> tuple[t.Any, ...]:
    """Sort key by which ``postgres-10`` follows ``postgres-9``."""
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name))


def _readable(client: Client, path: str) -> list[Json]:
    try:
        return t.cast("list[Json]", client.get(path)["items"])
    except ApiError as error:
        if error.status in {401, 403}:
            return []
        raise


def _newest(controller: Json) -> str:
    status = controller.get("status", {})
    seen = status.get("observedGeneration", 0) >= controller["metadata"].get("generation", 0)
    return str(status.get("updateRevision", "")) if seen else ""


def _pod(pod: Json, zones: Mapping[str, str], newest: Mapping[str, str]) -> Pod:
    metadata, status = pod["metadata"], pod.get("status", {})
    node = pod["spec"].get("nodeName", "")
    owner = next((owner["name"] for owner in metadata.get("ownerReferences", []) if owner.get("kind") == "StatefulSet"), "")
    update = ""
    if owner in newest:
        current = metadata.get("labels", {}).get("controller-revision-hash")
        update = "unseen" if not newest[owner] else "" if current == newest[owner] else "outdated"
    return Pod(
        name=metadata["name"],
        address=status.get("podIP", ""),
        uid=metadata["uid"],
        node=node,
        zone=zones.get(node, ""),
        problem=_problem(status),
        update=update,
        ready=any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", [])),
    )


def _problem(status: Json) -> str:
    """Why a pod cannot be connected to, in the words of its own status; empty when it can."""
    if status.get("phase") == "Running" and status.get("podIP"):
        return ""
    waiting = [(one["name"], one.get("state", {}).get("waiting")) for one in status.get("containerStatuses", [])]
    reasons = [f"{name}: {state.get('reason', 'waiting')} {state.get('message', '')}".strip() for name, state in waiting if state]
    reasons += [str(one.get("message", "")) for one in status.get("conditions", []) if one.get("reason") == "Unschedulable"]
    return f"pod is {status.get('phase', 'unknown')}" + (f" ({'; '.join(reasons)})" if reasons else "")
