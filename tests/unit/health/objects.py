# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Objects as an API server shows them, reduced to what the checks read."""

from __future__ import annotations

import typing as t

Object = dict[str, t.Any]


def pod(name: str = "web-1", node: str = "node-1", ready: bool = True, phase: str = "Running", owner: str = "", **status: t.Any) -> Object:
    """``owner`` is Kind/name of the controller; ``status`` overrides; ``labels`` and ``deleted`` go into the metadata."""
    metadata: Object = {"name": name, "namespace": "shop", "uid": f"uid-{name}", "labels": status.pop("labels", {"app": "web"})}
    if status.pop("deleted", False):
        metadata["deletionTimestamp"] = "2026-11-23T11:00:00Z"
    if owner:
        kind, _unused, owner_name = owner.partition("/")
        metadata["ownerReferences"] = [{"controller": True, "kind": kind, "name": owner_name}]
    conditions = [
        {"type": "Ready", "status": "True" if ready else "False", "reason": "ContainersNotReady", "message": "containers are not ready"}
    ]
    return {
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"nodeName": node} if node else {},
        "status": {"phase": phase, "conditions": conditions, **status},
    }


def container(name: str = "web", waiting: str = "", message: str = "", restarts: int = 0, ended: str = "", reason: str = "Error") -> Object:
    state = {"waiting": {"reason": waiting, "message": message}} if waiting else {"running": {}}
    last = {"terminated": {"exitCode": 1, "reason": reason, "finishedAt": ended}} if ended else {}
    return {"name": name, "image": "shop:1", "state": state, "lastState": last, "restartCount": restarts}


def node(name: str = "node-1", ready: str = "True", zone: str = "zone-1", **conditions: str) -> Object:
    kinds = {"Ready": ready, **conditions}
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone, "node-type": "app"}},
        "status": {
            "conditions": [
                {"type": kind, "status": value, "reason": f"{kind}Reason", "message": "so it is"} for kind, value in kinds.items()
            ]
        },
    }


def deployment(name: str = "web", wanted: int = 1, available: int = 1) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "uid": f"uid-{name}", "generation": 1},
        "spec": {"replicas": wanted, "template": {"metadata": {"labels": {"app": name}}}},
        "status": {"observedGeneration": 1, "replicas": wanted, "updatedReplicas": wanted, "availableReplicas": available},
    }
