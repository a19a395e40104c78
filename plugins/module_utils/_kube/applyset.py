# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ApplySets: which objects were applied together (private: may change without notice).

The labels and annotations are those of KEP-3659, which ``kubectl apply --prune --applyset`` writes too. A set has a parent
object, here the ConfigMap ``applyset-<set>``; its label holds the set's id, every member carries that id, and the parent's
annotations say which kinds in which namespaces have members.
"""

from __future__ import annotations

import base64
import hashlib
import typing as t
from collections.abc import Iterable
from dataclasses import dataclass, field

PART_OF = "applyset.kubernetes.io/part-of"
ID = "applyset.kubernetes.io/id"
TOOLING = "applyset.kubernetes.io/tooling"
KINDS = "applyset.kubernetes.io/contains-group-kinds"
NAMESPACES = "applyset.kubernetes.io/additional-namespaces"
TOOL = "progressive.platform/v1"
MANAGER = "progressive.platform"

GroupKind = tuple[str, str]


@dataclass(frozen=True)
class Contents:
    """Where members of a set may be: (group, kind) pairs, and namespaces with the parent's own."""

    kinds: frozenset[GroupKind] = frozenset()
    namespaces: frozenset[str] = frozenset()

    def __or__(self, other: Contents) -> Contents:
        return Contents(self.kinds | other.kinds, self.namespaces | other.namespaces)


@dataclass(frozen=True)
class ApplySet:
    """The set ``name`` whose parent lives in ``namespace``; with an ``owner`` (an ownerReference) the parent goes when its owner does."""

    name: str
    namespace: str
    owner: dict[str, t.Any] | None = field(default=None, compare=False)

    @property
    def parent_name(self) -> str:
        return f"applyset-{self.name}"

    @property
    def manager(self) -> str:
        """The field manager of the set's members."""
        return f"{MANAGER}.{self.name}"

    @property
    def id(self) -> str:
        """Version 1 of the id: SHA-256 over ``name.namespace.kind.group`` of the parent, base64 for URLs without padding."""
        plain = f"{self.parent_name}.{self.namespace}.ConfigMap."
        return f"applyset-{base64.urlsafe_b64encode(hashlib.sha256(plain.encode()).digest()).decode().rstrip('=')}-v1"

    @property
    def selector(self) -> str:
        return f"{PART_OF}={self.id}"

    def parent(self, contents: Contents) -> dict[str, t.Any]:
        """The parent object; kinds and namespaces sorted, as the KEP wants them."""
        annotations = {
            TOOLING: TOOL,
            KINDS: ",".join(sorted(f"{kind}.{group}" if group else kind for group, kind in contents.kinds)),
            NAMESPACES: ",".join(sorted(contents.namespaces - {self.namespace})),
        }
        labels = {ID: self.id, "app.kubernetes.io/managed-by": MANAGER, "app.kubernetes.io/part-of": "progressive-platform"}
        metadata: dict[str, t.Any] = {"name": self.parent_name, "namespace": self.namespace, "labels": labels, "annotations": annotations}
        if self.owner:
            metadata["ownerReferences"] = [self.owner]
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}

    def contents(self, parent: dict[str, t.Any] | None) -> Contents:
        """What the parent object says about its members; nothing when there is no parent yet."""
        annotations = ((parent or {}).get("metadata") or {}).get("annotations") or {}
        kinds = (entry.partition(".") for entry in annotations.get(KINDS, "").split(",") if entry)
        spaces = {space for space in annotations.get(NAMESPACES, "").split(",") if space}
        return Contents(
            frozenset((group, kind) for kind, _unused, group in kinds), frozenset(spaces | {self.namespace} if parent else spaces)
        )


def member(labels: dict[str, str] | None, set_id: str) -> dict[str, str]:
    return {**(labels or {}), PART_OF: set_id}


def applied_by(item: dict[str, t.Any], manager: str) -> bool:
    """Whether this field manager server-side applied the object, by the server's own book.

    The label alone proves nothing: controllers copy labels (a Service's go to its Endpoints).
    """
    entries: Iterable[dict[str, t.Any]] = (item.get("metadata") or {}).get("managedFields") or []
    return any(entry.get("manager") == manager and entry.get("operation") == "Apply" for entry in entries)
