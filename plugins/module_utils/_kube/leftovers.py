# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is left of sets after they were removed, and who holds what does not go (private: may change without notice).

Only what we made counts: members of the sets by label and by the server's own book, and, where the sets made the namespace, what our modules wrote into
it. Every kind that the server has is looked at, as metadata alone, so that no value of a Secret is read.
"""

from __future__ import annotations

import typing as t
from collections.abc import Iterable, Iterator, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._kube import graph
from ansible_collections.progressive.platform.plugins.module_utils._kube.applyset import ID, MANAGER, PART_OF, ApplySet
from ansible_collections.progressive.platform.plugins.module_utils._kube.arguments import CONNECTION
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import PAGE, ApiError, Client, connect
from ansible_collections.progressive.platform.plugins.module_utils._kube.discovery import Resource
from ansible_collections.progressive.platform.plugins.module_utils._kube.ownership import Owner, owners
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

Json = dict[str, t.Any]

ARGUMENTS: dict[str, t.Any] = {
    "sets": {"type": "list", "elements": "str", "required": True},
    "namespace": {"type": "str"},
    "fail": {"type": "bool", "default": True},
    **CONNECTION,
}

METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
WORKERS = 12
HOME_SET = "baseline"  # the set that makes the namespace: only with it is all that is in the namespace to go
TRANSIENT = frozenset({"Event", "PodMetrics", "NodeMetrics", "Endpoints", "EndpointSlice", "ControllerRevision", "ComponentStatus"})
# What belongs to volumes that were kept: the passwords that open them, and what says whose data they are.
WITH_VOLUMES = frozenset({"PersistentVolumeClaim", "Namespace", "Secret", "ConfigMap", "Lease"})
# Kubernetes' own finalizers, and what takes them away.
KNOWN = {
    "kubernetes.io/pvc-protection": "goes when no pod uses the claim any more",
    "kubernetes.io/pv-protection": "goes when no claim is bound to the volume any more",
    "foregroundDeletion": "goes when everything that the object owns is gone",
    "orphan": "goes when what the object owned was let go",
    "service.kubernetes.io/load-balancer-cleanup": "goes when the cloud has removed the load balancer",
    "customresourcecleanup.apiextensions.k8s.io": "goes when all objects of this kind are gone",
    "batch.kubernetes.io/job-tracking": "goes when the job's pods were counted",
}


def run(params: Params, context: Context) -> Result:
    """Result: left, kept, missing (kinds that could not be listed)."""
    if not params["sets"]:
        raise PlatformError("sets names no set; an empty list would report that nothing is left, and say nothing.")
    with connect(params, context.clock) as client:
        namespace = params["namespace"] or client.access.namespace
        items, missing = look(client, [ApplySet(name, namespace) for name in params["sets"]], whole=HOME_SET in params["sets"])
    left, kept = sort(items)
    result: Result = {"changed": False, "left": left, "kept": kept, "missing": missing}
    words = spoken(left, kept, missing)
    if left and params["fail"]:
        raise PlatformError(words, **result)
    return {**result, "msg": words}


def look(client: Client, sets: Sequence[ApplySet], whole: bool) -> tuple[list[tuple[Resource, Json]], list[str]]:
    """What is there of the sets, of every kind; ``whole``: their namespace too, with what our modules and StatefulSets made in it."""
    home = sets[0].namespace
    managers = {group.manager for group in sets}
    selector = f"{PART_OF} in ({','.join(group.id for group in sets)})"
    preferred: dict[tuple[str, str], Resource] = {}
    for resource in client.discovery.all().values():
        if resource.kind not in TRANSIENT:
            preferred.setdefault((resource.group, resource.kind), resource)
    kinds = list(preferred.values())
    missing: list[str] = []

    def ours(item: Json) -> bool:
        return any(entry.get("manager") in managers for entry in item["metadata"].get("managedFields") or [])

    def made_here(kind: str, item: Json) -> bool:
        return kind == "PersistentVolumeClaim" or any(
            str(entry.get("manager")).startswith(MANAGER) for entry in item["metadata"].get("managedFields") or []
        )

    def read(index: int) -> list[Json]:
        resource = kinds[index]
        found = [item for item in metadata(client, resource, None, selector) if ours(item)]
        if resource.namespaced:
            inside = metadata(client, resource, home) if whole or resource.kind == "ConfigMap" else []
            parents = {group.parent_name for group in sets}
            names = {(item["metadata"].get("namespace"), item["metadata"]["name"]) for item in found}
            for item in inside:
                parent = item["metadata"]["name"] in parents and ID in (item["metadata"].get("labels") or {})
                if (parent or (whole and made_here(resource.kind, item))) and (home, item["metadata"]["name"]) not in names:
                    found.append(item)
        return found

    outcomes = graph.run([set() for _unused in kinds], read, WORKERS)
    items: list[tuple[Resource, Json]] = []
    for resource, outcome in zip(kinds, outcomes, strict=True):
        if isinstance(outcome, ApiError):
            if outcome.status not in (404, 405):  # kinds that can only be made, as a TokenReview, are never left
                missing.append(f"{resource.kind}: {outcome.status} {outcome.reason}")
        elif isinstance(outcome, Exception):
            raise outcome
        else:
            items += [(resource, item) for item in outcome]
    return items, missing


def metadata(client: Client, resource: Resource, namespace: str | None = None, selector: str | None = None) -> list[Json]:
    """The metadata of all objects of a kind; their contents stay on the server."""
    query: Json = {"limit": PAGE, "labelSelector": selector}
    items: list[Json] = []
    while True:
        answer = client.request("GET", resource.path(namespace), query=query, accept=METADATA)[2]
        items += answer.get("items") or []
        query["continue"] = (answer.get("metadata") or {}).get("continue") or None
        if not query["continue"]:
            return items


def sort(items: Iterable[tuple[Resource, Json]]) -> tuple[list[Json], list[Json]]:
    """What is left though it should not be, and what was kept for the sake of volumes."""
    known = list(items)
    homes = {item["metadata"].get("namespace") for resource, item in known if resource.kind == "PersistentVolumeClaim"}
    left: list[Json] = []
    kept: list[Json] = []
    for resource, item in known:
        about = item["metadata"]
        entry = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "namespace": about.get("namespace") or "",
            "name": about["name"],
        }
        place = about["name"] if resource.kind == "Namespace" else entry["namespace"]
        if about.get("deletionTimestamp"):
            left.append({**entry, "why": f"is being deleted{held(item)}"})
        elif place in homes and resource.kind in WITH_VOLUMES:
            kept.append(entry)
        else:
            left.append({**entry, "why": "is still there"})
    return left, kept


def held(item: Json) -> str:
    """The finalizers of an object and who put them there, in words."""
    names = item["metadata"].get("finalizers") or []
    text = f" (finalizers: {', '.join(names or ['none'])})"
    writers: dict[str, list[Owner]] = {}
    for name in names:
        found = owners(item, ("metadata", "finalizers", f'v:"{name}"'))
        if name in KNOWN:
            text += f", {name} {KNOWN[name]}"
        elif found:
            writers.setdefault(found[0].manager, []).append(found[0])
    for manager, entries in writers.items():
        text += f", put there by {manager} ({entries[0].operation}, {entries[0].time})"
    return text


def ending(client: Client, namespace: str) -> Iterator[str]:
    """What keeps a namespace that is being deleted from going: everything in it that has finalizers, and what its controller says."""
    space = client.find(client.resource("v1", "Namespace").path(None, namespace))
    for condition in ((space or {}).get("status") or {}).get("conditions") or []:
        if condition.get("status") == "True":
            yield f"Namespace {namespace} says: {condition.get('message')}"
    for resource in client.discovery.all().values():
        if not resource.namespaced or resource.kind in TRANSIENT:
            continue
        try:
            items = metadata(client, resource, namespace)
        except ApiError:
            continue
        for item in items:
            if item["metadata"].get("finalizers"):
                yield f"{resource.kind} {namespace}/{item['metadata']['name']}{held(item)}"


def spoken(left: Sequence[Json], kept: Sequence[Json], missing: Sequence[str]) -> str:
    def place(entry: Json) -> str:
        return f"{entry['kind']} {entry['namespace']}/{entry['name']}" if entry["namespace"] else f"{entry['kind']} {entry['name']}"

    lines = [f"{len(left)} objects are left:", *(f"- {place(entry)} {entry['why']}" for entry in left)] if left else ["Nothing is left."]
    if kept:
        claims = [entry["name"] for entry in kept if entry["kind"] == "PersistentVolumeClaim"]
        others = [place(entry) for entry in kept if entry["kind"] != "PersistentVolumeClaim"]
        lines.append(
            f"Kept: {len(claims)} volumes ({', '.join(sorted(claims))}), and with them {', '.join(sorted(others)) or 'nothing else'}."
        )
    if missing:
        lines.append(f"Not looked at: {'; '.join(missing)}.")
    return "\n".join(lines)
