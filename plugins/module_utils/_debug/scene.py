# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a diagnosis looks at: everything that was fetched of a namespace, as plain data (private: may change without notice)."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from ansible_collections.progressive.platform.plugins.module_utils._kube.diagnose import workload_of

Json = dict[str, t.Any]
About = tuple[str, str]  # kind and name

ERROR, WARNING = "error", "warning"
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: the chain goes from what is seen to why, and ``next`` is what to do or to look at."""

    about: About
    chain: tuple[str, ...]
    next: str = ""
    level: str = ERROR

    def as_dict(self) -> Json:
        kind, name = self.about
        return {"kind": kind, "name": name, "level": self.level, "chain": list(self.chain), "next": self.next}

    def sentence(self) -> str:
        return (
            f"{self.chain[0]}"
            + "".join(f"\n    because {link}" for link in self.chain[1:])
            + (f"\n    next: {self.next}" if self.next else "")
        )


@dataclass(frozen=True)
class Scene:
    """``objects`` by kind: those of the namespace, and cluster-wide ones (Node, PersistentVolume, StorageClass, Namespace). ``dns`` holds what serves
    the cluster's names. ``logs`` are the last words of (pod, container), those of the run before under ``before``; ``usage`` is what they use."""

    namespace: str
    objects: Mapping[str, Sequence[Json]]
    now: datetime
    logs: Mapping[tuple[str, str], str] = field(default_factory=dict)
    before: Mapping[tuple[str, str], str] = field(default_factory=dict)
    usage: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)
    dns: Mapping[str, Sequence[Json]] = field(default_factory=dict)

    def all(self, kind: str) -> Sequence[Json]:
        return self.objects.get(kind) or ()

    def find(self, kind: str, name: str) -> Json | None:
        return next((item for item in self.all(kind) if name_of(item) == name), None)

    def pods_of(self, kind: str, name: str) -> list[Json]:
        """The pods that a workload made."""
        return [pod for pod in self.all("Pod") if (workload_of(pod) or ("Pod", name_of(pod))) == (kind, name)]

    def selected(self, selector: Mapping[str, str] | None) -> list[Json]:
        """Pods with all these labels; none for an empty selector, as of a Service."""
        return [pod for pod in self.all("Pod") if selector and matches_labels(labels_of(pod), selector)]

    def events(self, kind: str, name: str, *reasons: str) -> list[Json]:
        """Warnings about the object, the last one first."""
        found = [
            event
            for event in self.all("Event")
            if event.get("type") == "Warning"
            and (event.get("involvedObject") or {}).get("kind") == kind
            and (event.get("involvedObject") or {}).get("name") == name
            and (not reasons or event.get("reason") in reasons)
        ]
        return sorted(found, key=last_seen, reverse=True)

    def said(self, kind: str, name: str, *reasons: str) -> str:
        """The message of the last such event, empty when there is none."""
        return next((str(event.get("message") or "").strip() for event in self.events(kind, name, *reasons)), "")


def name_of(item: Json) -> str:
    return str((item.get("metadata") or {}).get("name") or "?")


def labels_of(item: Json) -> Mapping[str, str]:
    return (item.get("metadata") or {}).get("labels") or {}


def matches_labels(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in wanted.items())


def matches_selector(labels: Mapping[str, str], selector: Json | None) -> bool:
    """A label selector with expressions; an empty one selects everything, None nothing."""
    if selector is None:
        return False
    if not matches_labels(labels, selector.get("matchLabels") or {}):
        return False
    for rule in selector.get("matchExpressions") or []:
        key, values = rule.get("key"), rule.get("values") or []
        verdict = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }.get(rule.get("operator"), False)
        if not verdict:
            return False
    return True


def last_seen(event: Json) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or (event.get("metadata") or {}).get("creationTimestamp") or "")


def containers_of(pod: Json) -> list[Json]:
    spec = pod.get("spec") or {}
    return [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]


def statuses_of(pod: Json) -> list[Json]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def owner_of(pod: Json) -> About:
    return workload_of(pod) or ("Pod", name_of(pod))


def listed(names: Iterable[str], most: int = 5) -> str:
    """Names in words; what there is too much of is counted."""
    known = sorted(set(names))
    if not known:
        return "none"
    return ", ".join(known[:most]) + (f" and {len(known) - most} more" if len(known) > most else "")


def one_line(text: str, longest: int = 400) -> str:
    joined = " ".join(text.split())
    return joined if len(joined) <= longest else joined[:longest] + " ..."
