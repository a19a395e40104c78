# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an Agent asks for in the words of role workload, and what its status says (private: may change without notice).

Pure. The fields of an Agent are fewer than workload's options on purpose: none of them names a Secret, a service account, a right or a
network peer, so that who may write Agents gets no more than the agents of the inventory have.
"""

from __future__ import annotations

import copy
import typing as t
from collections.abc import Iterable, Mapping, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._kube.applyset import ApplySet
from ansible_collections.progressive.platform.plugins.module_utils._kube.readiness import State, readiness
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

Json = dict[str, t.Any]

GROUP, VERSION = "progressive.platform", "v1beta1"
API_VERSION = f"{GROUP}/{VERSION}"
LABEL = "progressive.platform/agent"  # on everything that was made for an Agent; its value is the Agent's name

# Kinds that workload may render for an Agent: (apiVersion, kind). The role's RBAC allows these and no others.
KINDS = (
    ("v1", "ConfigMap"),
    ("v1", "Service"),
    ("v1", "ServiceAccount"),
    ("apps/v1", "Deployment"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
)
MESH_KINDS = (("security.istio.io/v1", "AuthorizationPolicy"), ("networking.istio.io/v1", "DestinationRule"))
KEDA_KINDS = (("keda.sh/v1alpha1", "ScaledObject"),)

SHOWN = 1024  # characters of a message in a status; the log has all of it


class Name(t.NamedTuple):
    """An object of ours in a namespace."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def name_of(item: Json) -> Name:
    return Name(str(item["metadata"]["namespace"]), str(item["metadata"]["name"]))


def options(spec: Mapping[str, t.Any]) -> Json:
    """The entry of ``agents_services`` that an Agent's spec stands for; what it does not say is as the inventory's ``agents_defaults`` has it."""
    found: Json = {
        "environment": {**(spec.get("environment") or {}), "AGENT_SPECIALIZATION": spec["specialization"]},
        "labels": {"component": f"{spec['specialization']}-agent"},
    }
    for field, option in (
        ("image", "image"),
        ("affinitySeconds", "affinity_seconds"),
        ("graceSeconds", "grace_seconds"),
        ("pools", "pools"),
        ("config", "config"),
    ):
        if field in spec:
            found[option] = spec[field]
    resources = {
        side: {{"ephemeralStorage": "ephemeral-storage"}.get(key, key): value for key, value in sizes.items()}
        for side, sizes in (spec.get("resources") or {}).items()
    }
    if resources:
        found["resources"] = resources
    if "replicas" in spec:
        found |= {"replicas": spec["replicas"], "scaling": None}
    elif "scaling" in spec:
        found["scaling"] = {{"requestsPerSecond": "requests_per_second"}.get(key, key): value for key, value in spec["scaling"].items()}
    budget = spec.get("budget") or {}
    if budget:
        found["budget"] = {"min_available": budget.get("minAvailable"), **_given("max_unavailable", budget.get("maxUnavailable"))}
    return found


def _given(key: str, value: t.Any) -> Json:
    return {} if value is None else {key: value}


def owner(agent: Json) -> Json:
    """The ownerReference by which the API server removes everything with its Agent, whether the operator runs or not."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Agent",
        "name": agent["metadata"]["name"],
        "uid": agent["metadata"]["uid"],
        "controller": True,
    }


def group(agent: Json) -> ApplySet:
    """The ApplySet of an Agent's objects."""
    return ApplySet(f"agent-{agent['metadata']['name']}", agent["metadata"]["namespace"], owner(agent))


def dressed(documents: Iterable[Json], agent: Json) -> list[Json]:
    """What was rendered for the Agent, as its own. Raises PlatformError for anything that may not be made for an Agent."""
    place = name_of(agent)
    ours: list[Json] = []
    for document in documents:
        item = copy.deepcopy(document)
        metadata = item["metadata"]
        if (item["apiVersion"], item["kind"]) not in (*KINDS, *MESH_KINDS, *KEDA_KINDS) or metadata.get(
            "namespace", place.namespace
        ) != place.namespace:
            raise PlatformError(
                f"An Agent becomes no {item['kind']} {metadata.get('namespace', '')}/{metadata.get('name')}: compare the operator's version "
                "with that of its CustomResourceDefinition."
            )
        metadata["namespace"] = place.namespace
        metadata["labels"] = {**(metadata.get("labels") or {}), LABEL: place.name}
        metadata["ownerReferences"] = [owner(agent)]
        ours.append(item)
    return ours


# ---- status -------------------------------------------------------------------------------------------------------------------


class Outcome(t.NamedTuple):
    """What became of an Agent: what could not be done, its Deployment, and what its pods suffer from."""

    failure: str = ""
    deployment: Json | None = None
    trouble: str = ""


def status(agent: Json, outcome: Outcome, now: str) -> Json:
    """The Agent's whole status; ``now`` (RFC 3339) is the time of conditions that have changed."""
    generation = agent["metadata"].get("generation") or 0
    before: Json = agent.get("status") or {}
    deployment = outcome.deployment or {}
    verdict = readiness(deployment) if deployment else None
    if outcome.failure:
        waits = outcome.failure
        ready = ("False", "NotApplied", outcome.failure)
    elif verdict is None:
        waits = "its Deployment is made anew"
        ready = ("Unknown", "NoDeployment", waits)
    elif verdict.state is State.READY:
        waits, ready = "", ("True", "Serving", "All pods are ready.")
    else:
        waits = f"{verdict.reason}; {outcome.trouble}" if outcome.trouble else verdict.reason
        ready = ("False", "Failed" if verdict.state is State.FAILED else "Waiting", waits)
    applied = ("False", "Failed", outcome.failure) if outcome.failure else ("True", "Applied", "The objects are as the spec wants them.")
    found: Json = {
        "observedGeneration": generation,
        "conditions": [
            condition(before.get("conditions") or [], generation, now, kind, *said)
            for kind, said in (("Applied", applied), ("Ready", ready))
        ],
    }
    if waits:
        found["waitingFor"] = shortened(waits)
    if deployment:
        counts = deployment.get("status") or {}
        wanted = (deployment.get("spec") or {}).get("replicas")
        found["readyReplicas"] = counts.get("readyReplicas") or 0
        found["replicas"] = 1 if wanted is None else wanted
        found["pods"] = f"{found['readyReplicas']}/{found['replicas']}"
        found["image"] = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    return found


def condition(before: Sequence[Json], generation: int, now: str, kind: str, value: str, reason: str, message: str) -> Json:
    """One condition; its time moves only when its status does."""
    last = next((entry for entry in before if entry.get("type") == kind), {})
    since = last.get("lastTransitionTime") if last.get("status") == value else None
    return {
        "type": kind,
        "status": value,
        "reason": reason,
        "message": shortened(message),
        "observedGeneration": generation,
        "lastTransitionTime": since or now,
    }


def patch(before: Mapping[str, t.Any], after: Json) -> Json | None:
    """The merge patch that makes one status of another; None when there is nothing to change."""
    changed = {key: value for key, value in after.items() if before.get(key) != value}
    changed |= {key: None for key in before if key not in after}
    return changed or None


def shortened(text: str) -> str:
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


# ---- the whole platform -------------------------------------------------------------------------------------------------------


def platform_status(platform: Json, outcome: Mapping[str, t.Any], agents: Iterable[Json], now: str) -> Json:
    """The status of a ProgressivePlatform from the result of module ``health`` and its Agents."""
    generation = platform["metadata"].get("generation") or 0
    before = (platform.get("status") or {}).get("conditions") or []
    checks = outcome.get("checks") or []
    red = [check for check in checks if not check["ok"]]
    mine = list(agents)
    waiting = sorted(item["metadata"]["name"] for item in mine if not is_ready(item))
    if not checks:
        said = ("Unknown", "NotLooked", str(outcome.get("msg") or "Nothing was looked at."))
    elif red or waiting:
        named = [f"{check['name']}: {check['message']}" for check in red] + [f"Agent {name} is not ready" for name in waiting]
        said = ("False", "Red", f"{len(red)} of {len(checks)} checks red. " + "; ".join(named))
    else:
        said = ("True", "Green", f"{len(checks)} checks green.")
    found: Json = {
        "observedGeneration": generation,
        "conditions": [condition(before, generation, now, "Healthy", *said)],
        "checks": {"total": len(checks), "red": len(red)},
        "summary": f"{len(checks) - len(red)}/{len(checks)}",
        "agents": {"total": len(mine), "ready": len(mine) - len(waiting)},
        "red": [
            {"name": check["name"], "component": check.get("component") or "", "message": shortened(check["message"])} for check in red[:20]
        ],
        "lastChecked": now,
    }
    versions = {name: str(version) for name, version in (outcome.get("versions") or {}).items()}
    return {**found, "versions": versions} if versions else found


def is_ready(agent: Json) -> bool:
    found = {entry["type"]: entry for entry in (agent.get("status") or {}).get("conditions") or []}
    return (found.get("Ready") or {}).get("status") == "True"
