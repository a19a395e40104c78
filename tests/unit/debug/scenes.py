# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A shop that works, of objects as the API server answers them; tests break one thing."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

from ansible_collections.progressive.platform.plugins.module_utils._debug.scene import Scene

Json = dict[str, Any]

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
LABELS = {"app": "web"}


def meta(name: str, labels: dict[str, str] | None = None, **more: Any) -> Json:
    return {"name": name, "namespace": "shop", "labels": labels or {}, "generation": 1, **more}


def pod(name: str = "web-1", app: str = "web", owner: str = "web", **spec: Any) -> Json:
    container = {"name": "app", "image": "web:1", "ports": [{"name": "http", "containerPort": 8080}]}
    owners = [{"kind": "StatefulSet", "name": owner, "controller": True}] if owner else []
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": meta(name, {"app": app}, ownerReferences=owners),
        "spec": {"nodeName": "node-1", "containers": [container], "dnsPolicy": "ClusterFirst", **spec},
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}],
            "containerStatuses": [
                {
                    "name": "app",
                    "image": "web:1",
                    "ready": True,
                    "started": True,
                    "restartCount": 0,
                    "containerID": "c://1",
                    "state": {"running": {}},
                }
            ],
        },
    }


def workload(name: str = "web", ready: int = 1) -> Json:
    status = {"observedGeneration": 1, "replicas": 1, "readyReplicas": ready, "updatedReplicas": 1, "availableReplicas": ready}
    template = {"metadata": {"labels": {"app": name}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": meta(name),
        "spec": {"replicas": 1, "template": template},
        "status": {**status, "currentRevision": "r", "updateRevision": "r"},
    }


def service(name: str = "web-service", selector: dict[str, str] | None = None, port: int = 80, target: Any = 8080) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(name),
        "spec": {"type": "ClusterIP", "selector": selector or dict(LABELS), "ports": [{"port": port, "targetPort": target}]},
    }


def endpoints(of: str = "web-service", ready: bool = True, addresses: int = 1) -> Json:
    ends = [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}] * addresses
    return {"kind": "EndpointSlice", "metadata": meta(of + "-x", {"kubernetes.io/service-name": of}), "endpoints": ends}


def node(name: str = "node-1", memory: str = "8Gi", **conditions: str) -> Json:
    found = [{"type": kind, "status": status, "message": "so it is"} for kind, status in {"Ready": "True", **conditions}.items()]
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": {}},
        "status": {"allocatable": {"memory": memory, "cpu": "4"}, "conditions": found},
    }


def event(reason: str, message: str, name: str = "web-1", kind: str = "Pod") -> Json:
    return {
        "kind": "Event",
        "type": "Warning",
        "reason": reason,
        "message": message,
        "lastTimestamp": "2026-11-26T11:59:00Z",
        "involvedObject": {"kind": kind, "name": name},
    }


def shop() -> dict[str, list[Json]]:
    return copy.deepcopy(
        {
            "Namespace": [{"kind": "Namespace", "metadata": {"name": "shop", "labels": {}}}],
            "Node": [node()],
            "Pod": [pod()],
            "StatefulSet": [workload()],
            "Service": [service()],
            "EndpointSlice": [endpoints()],
            "StorageClass": [{"kind": "StorageClass", "metadata": {"name": "fast"}}],
        }
    )


def scene(objects: dict[str, list[Json]], **more: Any) -> Scene:
    return Scene("shop", objects, NOW, **more)


def unready(objects: dict[str, list[Json]], **status: Any) -> Json:
    """The shop's pod, its workload and endpoint not ready; ``status`` replaces fields of its container's."""
    objects["StatefulSet"][0]["status"].update(readyReplicas=0, availableReplicas=0)
    objects["EndpointSlice"][0]["endpoints"][0]["conditions"]["ready"] = False
    broken = objects["Pod"][0]
    broken["status"]["conditions"][1]["status"] = "False"
    broken["status"]["containerStatuses"][0].update({"ready": False, **status})
    return broken


def waiting(reason: str, message: str = "") -> Json:
    return {"state": {"waiting": {"reason": reason, "message": message}}}
