# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Is an object ready? Pure predicates per kind over what the API server shows (private: may change without notice).

The rules are those of ``kubectl rollout status`` for workloads, and for everything else the conditions that the API conventions
and the Gateway API define. A status that describes an older generation counts for nothing.
"""

from __future__ import annotations

import enum
import typing as t
from collections.abc import Callable, Iterable

from ansible_collections.progressive.platform.plugins.module_utils._kube.bundle import group_of

Json = dict[str, t.Any]


class State(enum.Enum):
    READY = "ready"
    PENDING = "pending"
    FAILED = "failed"


class Readiness(t.NamedTuple):
    """The state, and why it is not ready yet or never will be by itself."""

    state: State
    reason: str = ""


READY = Readiness(State.READY)


def pending(reason: str) -> Readiness:
    return Readiness(State.PENDING, reason)


def failed(reason: str) -> Readiness:
    return Readiness(State.FAILED, reason)


def readiness(item: Json) -> Readiness:
    """The verdict on any object; kinds that nothing is known about are ready when no condition speaks against it."""
    metadata = item.get("metadata") or {}
    if metadata.get("deletionTimestamp"):
        return pending(f"is being deleted, finalizers: {', '.join(metadata.get('finalizers') or ['none'])}")
    group, kind = group_of(item.get("apiVersion", "")), item.get("kind", "")
    predicate = PREDICATES.get((group, kind))
    if predicate:
        return predicate(item)
    return _gateway_api(item) if group == "gateway.networking.k8s.io" else _by_conditions(item)


def waits(api_version: str, kind: str) -> bool:
    """Whether an object of this kind can be anything but ready, so that it pays to watch it."""
    group = group_of(api_version)
    return (group, kind) in PREDICATES or group not in PLAIN_GROUPS


# Groups of Kubernetes itself whose other kinds are ready as soon as they are stored.
PLAIN_GROUPS = frozenset(
    {
        "",
        "admissionregistration.k8s.io",
        "apps",
        "autoscaling",
        "batch",
        "coordination.k8s.io",
        "discovery.k8s.io",
        "events.k8s.io",
        "networking.k8s.io",
        "node.k8s.io",
        "policy",
        "rbac.authorization.k8s.io",
        "scheduling.k8s.io",
        "storage.k8s.io",
    }
)


def conditions(item: Json) -> dict[str, Json]:
    """Conditions by type; of those that name the generation they saw, only the current ones."""
    generation = (item.get("metadata") or {}).get("generation") or 0
    found = (item.get("status") or {}).get("conditions") or []
    return {
        c["type"]: c for c in found if isinstance(c, dict) and "type" in c and (c.get("observedGeneration") or generation) >= generation
    }


def _true(found: dict[str, Json], kind: str) -> bool:
    return (found.get(kind) or {}).get("status") == "True"


def _false(found: dict[str, Json], kind: str) -> bool:
    return (found.get(kind) or {}).get("status") == "False"


def _why(found: dict[str, Json], kind: str) -> str:
    condition = found.get(kind) or {}
    words = [str(condition[field]) for field in ("reason", "message") if condition.get(field)]
    return f"{kind} is {condition.get('status', 'not reported')}" + (f" ({': '.join(words)})" if words else "")


def unseen(item: Json) -> str:
    """Why the status cannot be trusted yet, "" when it can: its controller has not seen the newest spec."""
    generation = (item.get("metadata") or {}).get("generation") or 0
    observed = (item.get("status") or {}).get("observedGeneration") or 0
    return "" if observed >= generation else f"its controller has not seen generation {generation} yet (it saw {observed})"


def _count(item: Json, field: str, section: str = "status", default: int = 0) -> int:
    value = (item.get(section) or {}).get(field)
    return default if value is None else int(value)


def _deployment(item: Json) -> Readiness:
    if stale := unseen(item):
        return pending(stale)
    found = conditions(item)
    wanted = _count(item, "replicas", "spec", 1)
    updated, total, available = (_count(item, field) for field in ("updatedReplicas", "replicas", "availableReplicas"))
    if (item.get("spec") or {}).get("paused"):
        return pending("is paused; go on with `kubectl rollout resume`")
    if (found.get("Progressing") or {}).get("reason") == "ProgressDeadlineExceeded":
        return failed(_why(found, "Progressing"))
    if updated < wanted:
        blocked = f"; {_why(found, 'ReplicaFailure')}" if _true(found, "ReplicaFailure") else ""
        return pending(f"{updated} of {wanted} pods are of the new revision{blocked}")
    if total > updated:
        return pending(f"{total - updated} pods of the old revision still run")
    if available < updated:
        return pending(f"{available} of {updated} pods are available")
    return READY


def _stateful_set(item: Json) -> Readiness:
    if stale := unseen(item):
        return pending(stale)
    spec, status = item.get("spec") or {}, item.get("status") or {}
    wanted = _count(item, "replicas", "spec", 1)
    ready, updated = _count(item, "readyReplicas"), _count(item, "updatedReplicas")
    if ready < wanted:
        return pending(f"{ready} of {wanted} pods are ready")
    if _count(item, "replicas") > wanted:
        return pending(f"{_count(item, 'replicas') - wanted} pods too many still run")
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":  # whoever chose it replaces the pods; being of the old revision is no fault
        return READY
    partition = (strategy.get("rollingUpdate") or {}).get("partition") or 0
    if updated < max(0, wanted - partition):
        return pending(f"{updated} of {wanted - partition} pods are of the new revision")
    if not partition and status.get("updateRevision") != status.get("currentRevision"):
        return pending(f"the revision {status.get('updateRevision')} is not complete")
    if _count(item, "availableReplicas", default=ready) < wanted:
        return pending(f"{_count(item, 'availableReplicas')} of {wanted} pods are available")
    return READY


def _daemon_set(item: Json) -> Readiness:
    if stale := unseen(item):
        return pending(stale)
    wanted = _count(item, "desiredNumberScheduled")
    updated, available = _count(item, "updatedNumberScheduled"), _count(item, "numberAvailable")
    strategy = ((item.get("spec") or {}).get("updateStrategy") or {}).get("type")
    if strategy != "OnDelete" and updated < wanted:
        return pending(f"{updated} of {wanted} nodes have the new revision")
    if available < wanted:
        return pending(f"{available} of {wanted} nodes have an available pod")
    return READY


def _replica_set(item: Json) -> Readiness:
    if stale := unseen(item):
        return pending(stale)
    wanted, available = _count(item, "replicas", "spec", 1), _count(item, "availableReplicas")
    found = conditions(item)
    if _true(found, "ReplicaFailure"):
        return pending(_why(found, "ReplicaFailure"))
    return READY if available >= wanted else pending(f"{available} of {wanted} pods are available")


def _job(item: Json) -> Readiness:
    found = conditions(item)
    if _true(found, "Complete") or _true(found, "SuccessCriteriaMet"):
        return READY
    for kind in ("Failed", "FailureTarget"):
        if _true(found, kind):
            return failed(_why(found, kind))
    if (item.get("spec") or {}).get("suspend"):
        return pending("is suspended")
    counts = ", ".join(f"{_count(item, field)} {field}" for field in ("active", "succeeded", "failed"))
    return pending(f"has not completed: {counts}")


def _pod(item: Json) -> Readiness:
    phase = (item.get("status") or {}).get("phase")
    if phase == "Succeeded":
        return READY
    if phase == "Failed":
        status = item.get("status") or {}
        return failed(f"failed: {status.get('reason') or ''} {status.get('message') or ''}".strip())
    found = conditions(item)
    return READY if _true(found, "Ready") else pending(f"is {phase or 'not seen'}, {_why(found, 'Ready')}")


def _claim(item: Json) -> Readiness:
    phase = (item.get("status") or {}).get("phase")
    if phase == "Bound":
        return READY
    if phase == "Lost":
        return failed("its volume is lost")
    return pending(f"is {phase or 'not seen yet'}")


def _namespace(item: Json) -> Readiness:
    phase = (item.get("status") or {}).get("phase")
    return READY if phase in (None, "Active") else pending(f"is {phase}")


def _definition(item: Json) -> Readiness:
    found = conditions(item)
    if _false(found, "NamesAccepted"):
        return failed(_why(found, "NamesAccepted"))
    return READY if _true(found, "Established") else pending(_why(found, "Established"))


def _api_service(item: Json) -> Readiness:
    found = conditions(item)
    return READY if _true(found, "Available") else pending(_why(found, "Available"))


def _budget(item: Json) -> Readiness:
    if stale := unseen(item):
        return pending(stale)
    healthy, wanted = _count(item, "currentHealthy"), _count(item, "desiredHealthy")
    return READY if healthy >= wanted else pending(f"{healthy} of {wanted} pods are healthy")


def _autoscaler(item: Json) -> Readiness:
    found = conditions(item)
    if not found:
        return pending("its controller has not seen it yet")
    if _false(found, "AbleToScale"):
        return pending(_why(found, "AbleToScale"))
    scaling = found.get("ScalingActive") or {}
    # Metrics come a minute after the pods, and 0 replicas may be intended: a rollout need not wait for either.
    blind = str(scaling.get("reason", "")).startswith("FailedGet")
    later = scaling.get("reason") == "ScalingDisabled" or blind
    if _false(found, "ScalingActive") and not later:
        return pending(_why(found, "ScalingActive"))
    # A Deployment without replicas of its own begins with one, which is ready long before its autoscaler asks for the minimum.
    least = int((item.get("spec") or {}).get("minReplicas") or 1)
    # Without metrics it never asks for anything as long as there are enough: what there is then counts, or the wait would not end.
    asked = max(_count(item, "desiredReplicas"), _count(item, "currentReplicas") if blind else 0)
    return pending(f"asks for {asked} of at least {least} pods") if asked < least and scaling.get("reason") != "ScalingDisabled" else READY


def _service(item: Json) -> Readiness:
    if (item.get("spec") or {}).get("type") != "LoadBalancer":
        return READY
    ingress = ((item.get("status") or {}).get("loadBalancer") or {}).get("ingress")
    return READY if ingress else pending("the load balancer has no address yet")


def _gateway_api(item: Json) -> Readiness:
    """Gateway API: Accepted and Programmed of a Gateway and its listeners, Accepted and ResolvedRefs of a route for every parent."""
    status = item.get("status") or {}
    if item.get("kind") == "GatewayClass":
        return _need(conditions(item), ("Accepted",))
    if item.get("kind") == "Gateway":
        verdict = _need(conditions(item), ("Accepted", "Programmed"))
        if verdict is not READY:
            return verdict
        return _each(item, status.get("listeners"), "listener {name}", ("Accepted", "Programmed", "ResolvedRefs"))
    if "parentRefs" not in (item.get("spec") or {}):
        return _by_conditions(item)
    parents = status.get("parents") or []
    if len(parents) < len((item.get("spec") or {}).get("parentRefs") or []):
        return pending("not every parent has taken note of it yet")
    named = [{**parent, "name": (parent.get("parentRef") or {}).get("name")} for parent in parents]
    return _each(item, named, "parent {name}", ("Accepted", "ResolvedRefs"))


def _need(found: dict[str, Json], kinds: Iterable[str]) -> Readiness:
    for kind in kinds:
        if not _true(found, kind):
            return pending(_why(found, kind))
    return READY


def _each(item: Json, entries: t.Any, label: str, kinds: Iterable[str]) -> Readiness:
    """``kinds`` of every entry, where the entry reports them."""
    for entry in entries or []:
        found = conditions({"metadata": item.get("metadata"), "status": entry})
        if not found:
            return pending(f"{label.format(name=entry.get('name'))} has no conditions yet")
        verdict = _need(found, [kind for kind in kinds if kind in found])
        if verdict is not READY:
            return pending(f"{label.format(name=entry.get('name'))}: {verdict.reason}")
    return READY


def _by_conditions(item: Json) -> Readiness:
    """Custom resources by the API conventions: Stalled and Failed end it, Ready and its kin decide, Reconciling means not yet."""
    if (item.get("status") or {}).get("observedGeneration") is not None and (stale := unseen(item)):
        return pending(stale)
    found = conditions(item)
    for kind in ("Stalled", "Failed"):
        if _true(found, kind):
            return failed(_why(found, kind))
    if _true(found, "Reconciling"):
        return pending(_why(found, "Reconciling"))
    for kind in ("Ready", "Available", "Established", "Programmed", "Accepted"):
        if kind in found:
            return READY if _true(found, kind) else pending(_why(found, kind))
    outdated = not found and any(isinstance(entry, dict) for entry in (item.get("status") or {}).get("conditions") or [])
    return pending("its conditions describe an older generation") if outdated else READY


PREDICATES: dict[tuple[str, str], Callable[[Json], Readiness]] = {
    ("", "Namespace"): _namespace,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "Pod"): _pod,
    ("", "Service"): _service,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
    ("apiregistration.k8s.io", "APIService"): _api_service,
    ("apps", "DaemonSet"): _daemon_set,
    ("apps", "Deployment"): _deployment,
    ("apps", "ReplicaSet"): _replica_set,
    ("apps", "StatefulSet"): _stateful_set,
    ("autoscaling", "HorizontalPodAutoscaler"): _autoscaler,
    ("batch", "Job"): _job,
    ("policy", "PodDisruptionBudget"): _budget,
}
