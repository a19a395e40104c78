# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bundle of Kubernetes documents: read, checked, and ordered by what needs what (private: may change without notice).

The order is a graph and not a list of phases: two documents that do not need each other are in flight together.
"""

from __future__ import annotations

import functools
import json
import re
import typing as t
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

try:
    import yaml
except ImportError:  # pragma: no cover - ansible-core itself needs PyYAML; only sanity's import test lacks it
    yaml = None  # type: ignore[assignment]

Document = dict[str, t.Any]

WORKLOADS = frozenset({"Pod", "ReplicationController", "ReplicaSet", "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"})
# What a pod may need before it is created; kinds of the core, RBAC, storage and scheduling groups.
FOUNDATIONS = frozenset(
    {
        "ConfigMap",
        "LimitRange",
        "NetworkPolicy",
        "PersistentVolume",
        "PersistentVolumeClaim",
        "PriorityClass",
        "ResourceQuota",
        "Role",
        "RoleBinding",
        "ClusterRole",
        "ClusterRoleBinding",
        "RuntimeClass",
        "Secret",
        "Service",
        "ServiceAccount",
        "StorageClass",
    }
)
# They judge every later request, and refuse it while their own backend is not there yet: so they come last.
WEBHOOKS = frozenset({"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"})
# What brings a Route's certificate, and lets OpenShift's router read it.
READERS = frozenset({"Certificate", "Secret", "RoleBinding", "ClusterRoleBinding"})
# RFC 1123 subdomain, what nearly every kind asks of a name; RBAC names and a few others allow more.
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
FREE_NAMES = frozenset({"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"})


class Key(t.NamedTuple):
    """What one document is about; ``namespace`` is "" for cluster-wide kinds."""

    group: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


def group_of(api_version: str) -> str:
    """The API group of an apiVersion, "" for the core group."""
    return api_version.rpartition("/")[0]


def key_of(document: Document) -> Key:
    metadata = document.get("metadata") or {}
    return Key(group_of(document["apiVersion"]), document["kind"], metadata.get("namespace") or "", metadata["name"])


def load(text: str, origin: str) -> list[Document]:
    """The documents of a YAML (or JSON) stream; raises PlatformError with ``origin``, line and column."""
    try:  # as bytes, because libyaml takes no subclass of str, and Ansible's strings are such
        return [document for document in yaml.load_all(text.encode(), Loader=_loader()) if document is not None]
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        shown = f": {text.splitlines()[mark.line].strip()!r}" if mark and mark.line < len(text.splitlines()) else ""
        raise PlatformError(f"{origin}{where} is not YAML: {problem}{shown}.") from error


def read(file: Path) -> list[Document]:
    """The documents of a file; JSON, whose reading takes a fiftieth of the time, is a list of them."""
    try:
        text = file.read_text(encoding="utf-8")
        return list(json.loads(text)) if file.suffix == ".json" else load(text, str(file))
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PlatformError(f"{file} is wanted with Kubernetes documents in it, and cannot be read: {reason}.") from error


@functools.cache
def _loader() -> type:
    """libyaml where PyYAML was built with it (ten times faster); keys that stand twice are refused, as kubectl does."""
    base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc, valid-type]
        def construct_mapping(self, node: t.Any, deep: bool = False) -> dict[t.Any, t.Any]:
            seen: set[t.Any] = set()
            for key_node, _value in node.value:
                key = key_node.value if isinstance(key_node.value, str) else None
                if key in seen and key != "<<":
                    raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice in one mapping", key_node.start_mark)
                seen.add(key)
            return t.cast("dict[t.Any, t.Any]", super().construct_mapping(node, deep))

    # A date that Kubernetes would get as a string must not become a datetime, which is no JSON.
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in base.yaml_implicit_resolvers.items()
    }
    return Loader


def parse(definition: t.Any, origin: str = "definition") -> list[Document]:
    """Checked documents from YAML text, a document, or a list of these; Lists are taken apart.

    Every finding is reported at once in one PlatformError: a missing kind or name, a name Kubernetes refuses, two documents
    about the same object. The documents are copies of plain JSON types.
    """
    documents: list[Document] = []
    findings: list[str] = []
    for number, raw in enumerate(_flatten(definition, origin), 1):
        finding = check(raw)
        if finding:
            findings.append(f"{origin}, document {number}: {finding}")
            continue
        try:
            documents.append(json.loads(json.dumps(raw)))
        except (TypeError, ValueError) as error:
            findings.append(f"{origin}, document {number}: {key_of(raw)} holds what JSON cannot: {error}")
    if findings:
        raise PlatformError("Not Kubernetes documents: " + "; ".join(findings) + ".", findings=findings)
    return documents


def _flatten(definition: t.Any, origin: str) -> Iterable[t.Any]:
    if isinstance(definition, str):
        definition = load(definition, origin)
    if not isinstance(definition, list):
        definition = [definition]
    for item in definition:
        if isinstance(item, str):
            yield from _flatten(load(item, origin), origin)
        elif isinstance(item, dict) and str(item.get("kind", "")).endswith("List") and isinstance(item.get("items"), list):
            yield from _flatten(item["items"], origin)
        elif item is not None:
            yield item


def check(document: t.Any) -> str:
    """What makes this no Kubernetes document, "" when nothing does."""
    if not isinstance(document, dict):
        return f"a mapping is wanted, not {type(document).__name__}"
    for key in ("apiVersion", "kind"):
        if not isinstance(document.get(key), str) or not document[key]:
            return f"{key} is missing (kind: {document.get('kind')!r}, apiVersion: {document.get('apiVersion')!r})"
    metadata = document.get("metadata")
    if not isinstance(metadata, dict):
        return f"{document['kind']} without metadata"
    name = metadata.get("name")
    if not isinstance(name, str) or not name:
        extra = "; generateName makes a new object every time and cannot be applied" if metadata.get("generateName") else ""
        return f"{document['kind']} without metadata.name (a string), seen {name!r}{extra}"
    if document["kind"] not in FREE_NAMES and (len(name) > 253 or not NAME.fullmatch(name)):
        return f"{document['kind']} {name!r}: a name has lower case letters, digits, '-' and '.', and at most 253 characters"
    namespace = metadata.get("namespace")
    if namespace is not None and (
        not isinstance(namespace, str) or len(namespace) > 63 or not NAME.fullmatch(namespace) or "." in namespace
    ):
        return f"{document['kind']} {name!r}: the namespace {namespace!r} is none (lower case letters, digits and '-', at most 63)"
    for field in ("labels", "annotations"):
        values = metadata.get(field) or {}
        wrong = [key for key, value in values.items() if not isinstance(value, str)] if isinstance(values, dict) else [field]
        if wrong:
            return f"{document['kind']} {name!r}: metadata.{field} {wrong[0]!r} must be a string; put it in quotes"
    return ""


def unique(documents: Sequence[Document]) -> None:
    """Raises PlatformError when two documents are about one object: which one wins would be chance."""
    seen: dict[Key, int] = {}
    twice = []
    for document in documents:
        key = key_of(document)
        seen[key] = seen.get(key, 0) + 1
        if seen[key] == 2:
            twice.append(str(key))
    if twice:
        raise PlatformError(f"The bundle describes the same object twice: {', '.join(twice)}. Remove one of each.")


def complete(documents: Sequence[Document], namespace: str, namespaced: Callable[[Document], bool]) -> None:
    """Gives namespaced documents without a namespace the default one, and takes it from cluster-wide ones."""
    for document in documents:
        if not namespaced(document):
            document["metadata"].pop("namespace", None)
        elif not document["metadata"].get("namespace"):
            document["metadata"]["namespace"] = namespace


def defines(document: Document) -> tuple[str, str] | None:
    """(group, kind) that a CustomResourceDefinition adds, (group, "*") for an APIService, None for anything else."""
    spec = document.get("spec") or {}
    if document["kind"] == "CustomResourceDefinition":
        return str(spec.get("group", "")), str((spec.get("names") or {}).get("kind", ""))
    if document["kind"] == "APIService" and spec.get("service"):
        return str(spec.get("group", "")), "*"
    return None


def prerequisites(documents: Sequence[Document]) -> list[set[int]]:
    """For every document the indices of those that must be there first. The graph has no cycles: each rule goes down this list.

    Namespace before what is in it; CustomResourceDefinition and APIService before the kinds they add; StorageClass and quota
    before claims; roles before their bindings; what pods may need before workloads, of the same namespace or cluster-wide;
    workloads before the APIService they serve; what lets OpenShift's router read a certificate before the Routes that name it, of which
    its server asks that at once; webhook configurations after everything else.
    """
    keys = [key_of(document) for document in documents]
    namespaces = {key.name: index for index, key in enumerate(keys) if key.kind == "Namespace" and not key.group}
    definers = {added: index for index, document in enumerate(documents) if (added := defines(document))}
    found: dict[tuple[str, str], set[int]] = {}
    for index, key in enumerate(keys):
        found.setdefault((key.kind, key.namespace), set()).add(index)

    def of(kinds: Iterable[str], namespace: str) -> set[int]:
        """Indices of these kinds in the namespace and cluster-wide."""
        return set().union(*(found.get((kind, where), set()) for kind in kinds for where in dict.fromkeys((namespace, ""))))

    needs: list[set[int]] = []
    for index, (document, key) in enumerate(zip(documents, keys, strict=True)):
        before: set[int] = set()
        if key.namespace in namespaces:
            before.add(namespaces[key.namespace])
        definer = definers.get((key.group, key.kind), definers.get((key.group, "*")))
        if definer is not None:
            before.add(definer)
        if key.kind in WORKLOADS:
            before |= of(FOUNDATIONS, key.namespace)
        elif key.kind in ("RoleBinding", "ClusterRoleBinding"):
            before |= of(("Role", "ClusterRole", "ServiceAccount"), key.namespace)
        elif key.kind == "PersistentVolumeClaim":
            before |= of(("StorageClass", "PersistentVolume", "LimitRange", "ResourceQuota"), key.namespace)
        elif key.kind == "APIService":
            service = (document.get("spec") or {}).get("service") or {}
            before |= of({*WORKLOADS, "Service"}, service.get("namespace", ""))
        elif key.kind == "Route" and key.group == "route.openshift.io":
            before |= of(READERS, key.namespace)
        elif key.kind in WEBHOOKS:
            before |= {other for other, it in enumerate(keys) if it.kind not in WEBHOOKS}
        before.discard(index)
        needs.append(before)
    return needs


def dump(documents: Sequence[Document]) -> str:
    """One YAML stream in the order the documents were given, keys as written."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return "".join("---\n" + yaml.dump(document, Dumper=dumper, sort_keys=False, width=120, allow_unicode=True) for document in documents)
