# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why a workload will not become ready by itself, read from its pods and events (private: may change without notice).

Pure: objects in, troubles out. Each trouble has a patience, because most of them show up for a moment in rollouts that succeed.
"""

from __future__ import annotations

import typing as t
from collections.abc import Iterator

from ansible_collections.progressive.platform.plugins.module_utils._kube.readiness import conditions

Json = dict[str, t.Any]

# Seconds a container may wait with this reason before the wait is given up.
CONTAINER_PATIENCE: dict[str, float] = {
    "CrashLoopBackOff": 0.0,
    "CreateContainerConfigError": 5.0,  # the ConfigMap or Secret may be on its way
    "CreateContainerError": 10.0,
    "ErrImageNeverPull": 0.0,
    "ErrImagePull": 10.0,  # becomes ImagePullBackOff when the next try fails too
    "ImageInspectError": 5.0,
    "ImagePullBackOff": 0.0,
    "InvalidImageName": 0.0,
    "RunContainerError": 10.0,
}
CRASHES = 1  # restarts before a crash loop counts: a process may end once because what it needs starts at the same time
UNSCHEDULABLE_PATIENCE = 20.0  # a volume is being made, a node is coming up
SCALE_UP_PATIENCE = 600.0  # the cluster autoscaler said that it adds a node
# Seconds an event may be repeated before the wait is given up.
EVENT_PATIENCE: dict[str, float] = {
    "FailedAttachVolume": 30.0,
    "FailedCreate": 5.0,  # quota, admission webhook, Pod Security
    "FailedCreatePodSandBox": 60.0,
    "FailedMount": 20.0,
    "ProvisioningFailed": 30.0,
}
NO_PODS_PATIENCE = 60.0  # seconds a budget may guard nothing: the pods of a new workload are there well within them
EVENT_MEMORY = 60.0  # seconds after which an event that is not repeated is forgotten


class Trouble(t.NamedTuple):
    """One thing that is wrong. ``code`` identifies it; ``container`` is set when its previous log explains more."""

    code: str
    reason: str
    patience: float
    container: str = ""


def workload_of(pod: Json) -> tuple[str, str] | None:
    """(kind, name) of the workload that made the pod; a Deployment's ReplicaSet is named after it and the template's hash."""
    metadata = pod.get("metadata") or {}
    for owner in metadata.get("ownerReferences") or []:
        if owner.get("controller"):
            revision = (metadata.get("labels") or {}).get("pod-template-hash")
            if owner["kind"] == "ReplicaSet" and revision and owner["name"].endswith(f"-{revision}"):
                return "Deployment", owner["name"][: -len(revision) - 1]
            return owner["kind"], owner["name"]
    return None


def replica_set_of(pod: Json) -> str:
    """Name of the ReplicaSet that made the pod, "" when none did."""
    owners = (pod.get("metadata") or {}).get("ownerReferences") or []
    return next((owner["name"] for owner in owners if owner.get("controller") and owner["kind"] == "ReplicaSet"), "")


def pod_troubles(pod: Json, scaling_up: bool = False) -> Iterator[Trouble]:
    """What keeps this pod from running; nothing for one that is being deleted."""
    if (pod.get("metadata") or {}).get("deletionTimestamp"):
        return
    status = pod.get("status") or {}
    scheduled = conditions({"status": status}).get("PodScheduled") or {}
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        patience = SCALE_UP_PATIENCE if scaling_up else UNSCHEDULABLE_PATIENCE
        yield Trouble("Unschedulable", f"Unschedulable: {scheduled.get('message', '')}", patience)
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason, name = waiting.get("reason") or "", container.get("name", "?")
        if reason not in CONTAINER_PATIENCE:
            continue
        if reason == "CrashLoopBackOff":
            if (container.get("restartCount") or 0) < CRASHES:
                continue
            yield Trouble(f"{reason} {name}", f"container {name}: {reason}, {_last_end(container)}", CONTAINER_PATIENCE[reason], name)
        else:
            said = waiting.get("message") or "no message"
            image = f" (image {container.get('image')})" if "mage" in reason else ""
            yield Trouble(f"{reason} {name}", f"container {name}: {reason}{image}: {said}", CONTAINER_PATIENCE[reason])


def _last_end(container: Json) -> str:
    ended = (container.get("lastState") or {}).get("terminated") or {}
    why = f", {ended['reason']}" if ended.get("reason") not in (None, "Error") else ""
    return f"{container.get('restartCount', 0)} restarts, last exit code {ended.get('exitCode', 'unknown')}{why}"


def object_troubles(item: Json) -> Iterator[Trouble]:
    """What an object says of itself: a ReplicaSet that may not create pods shows in its Deployment's conditions, a workload that somebody scaled to 0
    (which switches its autoscaler off, so that nobody scales it up again) in its budget, which no pod can satisfy."""
    status = item.get("status") or {}
    if item.get("kind") == "PodDisruptionBudget" and status.get("desiredHealthy") and not status.get("expectedPods"):
        labels = ((item.get("spec") or {}).get("selector") or {}).get("matchLabels") or {}
        whose = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
        reason = f"no pod has its labels ({whose}). If the workload was scaled to 0 by hand, kubectl scale --replicas=1 lets its autoscaler go on"
        yield Trouble("NoPods", reason, NO_PODS_PATIENCE)
    failure = conditions(item).get("ReplicaFailure") or {}
    if failure.get("status") == "True":
        yield Trouble("FailedCreate", f"{failure.get('reason')}: {failure.get('message')}", EVENT_PATIENCE["FailedCreate"])


def event_trouble(event: Json) -> Trouble | None:
    """The trouble a core/v1 event reports, None for any event that is none."""
    reason = event.get("reason") or ""
    if event.get("type") != "Warning" or reason not in EVENT_PATIENCE:
        return None
    return Trouble(reason, f"{reason}: {(event.get('message') or '').strip()}", EVENT_PATIENCE[reason])
