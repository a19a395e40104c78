# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where everything runs: zones, nodes, pods, and the shards of Redis, as data for the report (private: may change without notice)."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable, Mapping, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._health.cluster import Object, is_true, labels_of, name_of, namespace_of
from ansible_collections.progressive.platform.plugins.module_utils._health.foundation import ZONE

POOL = "node-type"  # the original's label of a node pool
NO_ZONE = "no zone"

Topology = dict[str, t.Any]


def topology(nodes: Sequence[Object], pods: Iterable[Object], shards: Sequence[Mapping[str, t.Any]] = ()) -> Topology:
    """Zones with their nodes with their pods, all in order of name; pods on no node apart; shards as the Redis checks saw them."""
    homes: dict[str, list[dict[str, t.Any]]] = {name_of(node): [] for node in nodes}
    homeless: list[dict[str, t.Any]] = []
    for pod in sorted(pods, key=lambda pod: (namespace_of(pod), name_of(pod))):
        entry: dict[str, t.Any] = {"namespace": namespace_of(pod), "name": name_of(pod), "component": component_of(pod), **state_of(pod)}
        homes.get(pod.get("spec", {}).get("nodeName", ""), homeless).append(entry)
    zones: dict[str, list[dict[str, t.Any]]] = {}
    for node in sorted(nodes, key=name_of):
        labels = labels_of(node)
        entry = {"name": name_of(node), "ready": is_true(node, "Ready"), "pool": labels.get(POOL, ""), "pods": homes[name_of(node)]}
        zones.setdefault(labels.get(ZONE) or NO_ZONE, []).append(entry)
    return {
        "zones": [{"name": name, "nodes": zones[name]} for name in sorted(zones)],
        "homeless": homeless,
        "redis": [dict(cluster) for cluster in shards],
    }


def component_of(pod: Object) -> str:
    labels = labels_of(pod)
    return labels.get("app.kubernetes.io/name") or labels.get("app") or labels.get("k8s-app") or ""


def state_of(pod: Object) -> dict[str, str]:
    """``state``: ok, done (ran to its end), waiting or bad; ``reason``: why it is not ok."""
    status = pod.get("status") or {}
    if status.get("phase") == "Succeeded":
        return {"state": "done", "reason": "Completed"}
    if pod["metadata"].get("deletionTimestamp"):
        return {"state": "waiting", "reason": "Terminating"}
    if status.get("phase") == "Failed":
        return {"state": "bad", "reason": status.get("reason") or "Failed"}
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = ((container.get("state") or {}).get("waiting") or {}).get("reason", "")
        if waiting and waiting not in ("ContainerCreating", "PodInitializing"):
            return {"state": "bad", "reason": waiting}
    if is_true(pod, "Ready"):
        return {"state": "ok", "reason": ""}
    return {"state": "waiting", "reason": "not ready" if status.get("phase") == "Running" else status.get("phase") or "unknown"}
