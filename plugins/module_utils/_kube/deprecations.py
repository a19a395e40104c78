# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""API versions that Kubernetes deprecated and takes away, and where they are still in use (private: may change without notice).

Pure, but for ``recorded``, which asks a server. What is in use shows in four places:

    sent       apiVersion and kind of documents, or of templates without rendering them
    applied    metadata.managedFields of objects: in which version each manager sent its fields
    stored     status.storedVersions of CustomResourceDefinitions: in which versions objects may lie in etcd
    requested  the API server's own count of requests, whoever makes them (metric apiserver_requested_deprecated_apis, stable since 1.19)
"""

from __future__ import annotations

import functools
import re
import typing as t
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.progressive.platform.plugins.module_utils._kube import graph
from ansible_collections.progressive.platform.plugins.module_utils._kube.bundle import group_of
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client
from ansible_collections.progressive.platform.plugins.module_utils._kube.discovery import Resource
from ansible_collections.progressive.platform.plugins.module_utils._kube.ownership import entries

Json = dict[str, t.Any]
METRIC = re.compile(r"^apiserver_requested_deprecated_apis\{(?P<labels>[^}]*)\}\s+(?P<value>\S+)", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
TEMPLATE = re.compile(r"^[-{\s]*apiVersion:\s*[\"']?(?P<version>[\w./-]+)[\"']?,?\s+(?:#.*\n\s*)?kind:\s*[\"']?(?P<kind>\w+)", re.MULTILINE)
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
ASK_TIMEOUT = 5.0  # seconds for one question
WORKERS = 8
SHOWN = 4  # objects in a sentence


@dataclass(frozen=True)
class Deprecated:
    """A kind in one version. ``since`` and ``removed`` are minor versions of Kubernetes 1.x; ``removed`` is None when no release is named."""

    api_version: str
    kind: str
    since: int
    removed: int | None
    replacement: str = ""


# api version, kinds, deprecated in 1.x, removed in 1.x, where to go. Sources: https://kubernetes.io/docs/reference/using-api/deprecation-guide and, for what
# the guide does not have yet, the lifecycle that k8s.io/api v0.36.3 declares beside each type (APILifecycleDeprecated, APILifecycleRemoved), by
# which the server itself stops serving it and counts its requests; of Endpoints the announcement of 1.33.
_ROWS: tuple[tuple[str, str, int, int | None, str], ...] = (
    ("v1", "ComponentStatus", 19, None, ""),
    ("v1", "Endpoints", 33, None, "discovery.k8s.io/v1 EndpointSlice"),
    ("admissionregistration.k8s.io/v1alpha1", "MutatingAdmissionPolicy MutatingAdmissionPolicyBinding", 35, 38, "admissionregistration.k8s.io/v1"),
    ("admissionregistration.k8s.io/v1alpha1", "ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding", 29, 32, "admissionregistration.k8s.io/v1"),
    ("admissionregistration.k8s.io/v1beta1", "MutatingAdmissionPolicy MutatingAdmissionPolicyBinding", 37, 40, "admissionregistration.k8s.io/v1"),
    ("admissionregistration.k8s.io/v1beta1", "ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding", 31, 34, "admissionregistration.k8s.io/v1"),
    ("admissionregistration.k8s.io/v1beta1", "MutatingWebhookConfiguration ValidatingWebhookConfiguration", 16, 22, "admissionregistration.k8s.io/v1"),
    ("apiextensions.k8s.io/v1beta1", "CustomResourceDefinition", 16, 22, "apiextensions.k8s.io/v1"),
    ("apiregistration.k8s.io/v1beta1", "APIService", 19, 22, "apiregistration.k8s.io/v1"),
    ("apps/v1beta1", "ControllerRevision Deployment StatefulSet", 8, 16, "apps/v1"),
    ("apps/v1beta2", "ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet", 9, 16, "apps/v1"),
    ("authentication.k8s.io/v1beta1", "SelfSubjectReview", 30, 33, "authentication.k8s.io/v1"),
    ("authentication.k8s.io/v1beta1", "TokenReview", 19, 22, "authentication.k8s.io/v1"),
    ("authorization.k8s.io/v1beta1", "LocalSubjectAccessReview SelfSubjectAccessReview SubjectAccessReview", 19, 22, "authorization.k8s.io/v1"),
    ("autoscaling/v2beta1", "HorizontalPodAutoscaler", 22, 25, "autoscaling/v2"),
    ("autoscaling/v2beta2", "HorizontalPodAutoscaler", 23, 26, "autoscaling/v2"),
    ("batch/v1beta1", "CronJob", 21, 25, "batch/v1"),
    ("certificates.k8s.io/v1alpha1", "ClusterTrustBundle", 34, 37, "certificates.k8s.io/v1beta1"),
    ("certificates.k8s.io/v1beta1", "CertificateSigningRequest", 19, 22, "certificates.k8s.io/v1"),
    ("certificates.k8s.io/v1beta1", "ClusterTrustBundle", 37, 40, ""),
    ("certificates.k8s.io/v1beta1", "PodCertificateRequest", 38, 41, ""),
    ("coordination.k8s.io/v1alpha2", "LeaseCandidate", 35, 38, "coordination.k8s.io/v1beta1"),
    ("coordination.k8s.io/v1beta1", "LeaseCandidate", 36, 39, ""),
    ("coordination.k8s.io/v1beta1", "Lease", 19, 22, "coordination.k8s.io/v1"),
    ("discovery.k8s.io/v1beta1", "EndpointSlice", 21, 25, "discovery.k8s.io/v1"),
    ("events.k8s.io/v1beta1", "Event", 22, 25, "events.k8s.io/v1"),
    ("extensions/v1beta1", "DaemonSet Deployment ReplicaSet", 8, 16, "apps/v1"),
    ("extensions/v1beta1", "NetworkPolicy", 9, 16, "networking.k8s.io/v1"),
    ("extensions/v1beta1", "Ingress", 14, 22, "networking.k8s.io/v1"),
    ("flowcontrol.apiserver.k8s.io/v1beta1", "FlowSchema PriorityLevelConfiguration", 23, 26, "flowcontrol.apiserver.k8s.io/v1"),
    ("flowcontrol.apiserver.k8s.io/v1beta2", "FlowSchema PriorityLevelConfiguration", 26, 29, "flowcontrol.apiserver.k8s.io/v1"),
    ("flowcontrol.apiserver.k8s.io/v1beta3", "FlowSchema PriorityLevelConfiguration", 29, 32, "flowcontrol.apiserver.k8s.io/v1"),
    ("networking.k8s.io/v1beta1", "Ingress IngressClass", 19, 22, "networking.k8s.io/v1"),
    ("networking.k8s.io/v1beta1", "IPAddress ServiceCIDR", 34, 37, "networking.k8s.io/v1"),
    ("node.k8s.io/v1beta1", "RuntimeClass", 22, 25, "node.k8s.io/v1"),
    ("policy/v1beta1", "PodSecurityPolicy", 21, 25, "Pod Security Admission"),
    ("policy/v1beta1", "PodDisruptionBudget", 21, 25, "policy/v1"),
    ("rbac.authorization.k8s.io/v1beta1", "ClusterRole ClusterRoleBinding Role RoleBinding", 17, 22, "rbac.authorization.k8s.io/v1"),
    ("resource.k8s.io/v1alpha3", "DeviceTaintRule", 36, 39, "resource.k8s.io/v1beta2"),
    ("resource.k8s.io/v1beta1", "DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice", 35, 38, "resource.k8s.io/v1"),
    ("resource.k8s.io/v1beta2", "DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice", 36, 39, "resource.k8s.io/v1"),
    ("scheduling.k8s.io/v1beta1", "PriorityClass", 14, 22, "scheduling.k8s.io/v1"),
    ("storage.k8s.io/v1alpha1", "VolumeAttributesClass", 32, 35, "storage.k8s.io/v1"),
    ("storage.k8s.io/v1alpha1", "CSIStorageCapacity VolumeAttachment", 21, 24, "storage.k8s.io/v1"),
    ("storage.k8s.io/v1beta1", "CSIDriver StorageClass VolumeAttachment", 19, 22, "storage.k8s.io/v1"),
    ("storage.k8s.io/v1beta1", "CSINode", 17, 22, "storage.k8s.io/v1"),
    ("storage.k8s.io/v1beta1", "CSIStorageCapacity", 24, 27, "storage.k8s.io/v1"),
    ("storage.k8s.io/v1beta1", "VolumeAttributesClass", 34, 37, "storage.k8s.io/v1"),
)  # fmt: skip
TABLE: dict[tuple[str, str], Deprecated] = {
    (version, kind): Deprecated(version, kind, since, removed, where)
    for version, kinds, since, removed, where in _ROWS
    for kind in kinds.split()
}


@dataclass(frozen=True)
class Use:
    """One use of a deprecated version: ``where`` (sent, applied, stored, requested) and by ``whom`` (an object, a role, a manager)."""

    what: Deprecated
    where: str
    whom: str = ""


@dataclass(frozen=True)
class Verdict:
    """A sentence on one kind in one version. ``gone``: the server does not serve it; ``next``: the next minor version will not."""

    what: Deprecated
    sentence: str
    gone: bool
    next: bool


# ---- where it is in use -------------------------------------------------------------------------------------------------------------


def sent(documents: Iterable[Mapping[str, t.Any]]) -> Iterator[Use]:
    """Documents that are rendered."""
    for document in documents:
        if what := TABLE.get((document["apiVersion"], document["kind"])):
            metadata = document.get("metadata") or {}
            yield Use(what, "sent", "/".join(filter(None, (metadata.get("namespace"), metadata.get("name")))))


def written(text: str, whom: str) -> Iterator[Use]:
    """A template that is not rendered: its lines ``apiVersion`` and ``kind``, which stand together."""
    for match in TEMPLATE.finditer(text):
        if what := TABLE.get((match["version"], match["kind"])):
            yield Use(what, "sent", whom)


def applied(items: Iterable[Json], kind: str) -> Iterator[Use]:
    """Objects with the versions in which their managers sent fields; ``kind`` is theirs, which a list leaves out of its items."""
    for item in items:
        name = "/".join(filter(None, (item["metadata"].get("namespace"), item["metadata"]["name"])))
        for entry in entries(item):
            what = TABLE.get((str(entry.get("apiVersion")), kind))
            if what and what.removed is not None:  # without a removal there is nothing to do about what somebody sent once
                yield Use(what, "applied", f"{name} by {entry.get('manager', '?')}")


def stored(definitions: Iterable[Json]) -> Iterator[tuple[str, str]]:
    """CustomResourceDefinitions with objects that may lie in a version that is not served, or that its makers deprecated: (name, sentence)."""
    for item in definitions:
        versions = {version["name"]: version for version in item["spec"].get("versions") or []}
        newest = next((name for name, version in versions.items() if version.get("storage")), "?")
        for name in (item.get("status") or {}).get("storedVersions") or []:
            version = versions.get(name) or {}
            if name != newest and (not version.get("served") or version.get("deprecated")):
                why = "is deprecated" if version.get("served") else "is not served any more"
                yield item["metadata"]["name"], f"objects may be stored as {name}, which {why}; {newest} is stored now"


def requested(metrics: str) -> Iterator[Use]:
    """What the API server counted since it started; the resource stands for the kind where the table does not know it."""
    for match in METRIC.finditer(metrics):
        labels = dict(LABEL.findall(match["labels"]))
        if float(match["value"]) <= 0:
            continue
        version = "/".join(filter(None, (labels.get("group"), labels.get("version"))))
        plural = labels.get("resource", "")
        known = next((it for (api, kind), it in TABLE.items() if api == version and plural_of(kind) == plural), None)
        release = re.fullmatch(r"1\.(\d+)", labels.get("removed_release", ""))
        removed = int(release[1]) if release else None
        yield Use(known or Deprecated(version, plural, 0, removed), "requested", "somebody")


def plural_of(kind: str) -> str:
    """Name of the resource, as Kubernetes' own kinds have it."""
    name = kind.lower()
    if name.endswith("y"):
        return f"{name[:-1]}ies"
    return name if name == "endpoints" else f"{name}es" if name.endswith(("s", "ss")) else f"{name}s"


# ---- what it means ------------------------------------------------------------------------------------------------------------------


def judged(uses: Iterable[Use], minor: int) -> list[Verdict]:
    """One verdict a kind and version, what is gone first; ``minor`` is the cluster's (36 for Kubernetes 1.36). A deprecation that has not begun is none."""
    by_what: dict[Deprecated, list[Use]] = {}
    for use in uses:
        if use.what.since <= minor:
            by_what.setdefault(use.what, []).append(use)
    found = [_verdict(what, group, minor) for what, group in by_what.items()]
    return sorted(found, key=lambda it: (not it.gone, not it.next, it.what.api_version, it.what.kind))


def _verdict(what: Deprecated, uses: Sequence[Use], minor: int) -> Verdict:
    gone, soon = (what.removed is not None and what.removed <= limit for limit in (minor, minor + 1))
    end = "no release that removes it is named" if what.removed is None else f"removed in 1.{what.removed}"
    if what.removed is not None and not gone:
        end = f"to be removed in 1.{what.removed}" + (", the next version" if soon else "")
    since = f"deprecated since 1.{what.since}, " if what.since else ""
    words = {"sent": "sent for", "applied": "applied to", "requested": "requested by"}
    said = []
    for where, verb in words.items():
        whom = list(dict.fromkeys(use.whom for use in uses if use.where == where))
        if whom:
            more = f" and {len(whom) - SHOWN} more" if len(whom) > SHOWN else ""
            said.append(f"{verb} {', '.join(whom[:SHOWN])}{more}")
    where_to = f"; use {what.replacement}" if what.replacement else ""
    return Verdict(what, f"{what.kind} of {what.api_version}: {since}{end}; {'; '.join(said)}{where_to}", gone, soon and not gone)


# ---- what the server knows ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recorded:
    """What a server has: ``uses`` of deprecated versions, ``definitions`` (name, sentence), and what the credentials may not ``see``."""

    uses: list[Use] = field(default_factory=list)
    definitions: list[tuple[str, str]] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)


def recorded(client: Client, namespace: str) -> Recorded:
    """What anybody applied in the namespace (and outside of all), what definitions say of their objects, and the server's own count."""
    found = Recorded()
    questions: dict[str, Callable[[], None]] = {
        "the API server's metrics": lambda: found.uses.extend(requested(client.text("/metrics", timeout=ASK_TIMEOUT))),
        "CustomResourceDefinitions": lambda: found.definitions.extend(stored(_items(client, DEFINITIONS))),
    }
    for resource in concerned(client.discovery.all()):
        path = resource.path(namespace)
        questions[resource.plural] = functools.partial(_applied, client, path, resource.kind, found.uses)

    names = list(questions)
    for name, outcome in zip(names, graph.run([set() for _unused in names], lambda index: questions[names[index]](), WORKERS), strict=True):
        if isinstance(outcome, ApiError) and outcome.status in (403, 404):
            found.unseen.append(name)
        elif isinstance(outcome, Exception):
            raise outcome
    return found


def concerned(served: Mapping[tuple[str, str], Resource]) -> list[Resource]:
    """A version of each served kind that has, or had, a deprecated one that goes away: only such objects can have been sent in it. Reviews are questions,
    which a server answers and does not keep; it lists none."""
    had = {
        (group_of(what.api_version), what.kind) for what in TABLE.values() if what.removed is not None and not what.kind.endswith("Review")
    }
    chosen = {(group_of(version), kind): resource for (version, kind), resource in served.items() if (group_of(version), kind) in had}
    return list(chosen.values())


def _applied(client: Client, path: str, kind: str, into: list[Use]) -> None:
    into.extend(applied(_items(client, path), kind))


def _items(client: Client, path: str) -> list[Json]:
    accept = "application/json" if path == DEFINITIONS else METADATA_ONLY
    return list(client.request("GET", path, accept=accept, timeout=ASK_TIMEOUT)[2].get("items") or [])
