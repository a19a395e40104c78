# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pods that roll when their configuration changes (private: may change without notice).

Kubernetes leaves running pods alone when a ConfigMap or Secret they read changes. A pod template that carries the annotation
``progressive.platform/config-checksum`` gets a checksum of what it refers to written there, and so a new revision.
Of a Secret only uid and resourceVersion enter it: the values are not even read, and a checksum of a short one could be guessed.
A ConfigMap whose own annotation of that name is ``ignored`` does not enter it: its readers want it at their first start only.
"""

from __future__ import annotations

import copy
import hashlib
import json
import typing as t
from collections.abc import Callable, Iterator

Json = dict[str, t.Any]
Reference = tuple[str, str]

ANNOTATION = "progressive.platform/config-checksum"
IGNORED = "ignored"
TEMPLATES = {"CronJob": ("spec", "jobTemplate", "spec", "template")}
USUAL_TEMPLATE = ("spec", "template")


def template_of(document: Json) -> Json | None:
    """The pod template of a workload, None for other kinds."""
    found: t.Any = document
    for step in TEMPLATES.get(document["kind"], USUAL_TEMPLATE):
        found = found.get(step) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def pod_of(document: Json) -> Json | None:
    """The specification of the pods that a document makes, its own where it is a Pod; None when it makes none."""
    holder = document if document["kind"] == "Pod" else template_of(document) or {}
    spec = holder.get("spec")
    return spec if isinstance(spec, dict) and "containers" in spec else None


def wanted(document: Json) -> bool:
    """Whether the pod template asks for a checksum."""
    template = template_of(document) or {}
    return ANNOTATION in ((template.get("metadata") or {}).get("annotations") or {})


def references(template: Json) -> set[Reference]:
    """(kind, name) of the ConfigMaps and Secrets the pods read through env, envFrom and volumes; no image pull secrets."""
    return set(_references(template.get("spec") or {}))


def _references(spec: Json) -> Iterator[Reference]:
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        for entry in container.get("envFrom") or []:
            yield from _named(entry, "configMapRef", "secretRef", "name")
        for entry in container.get("env") or []:
            yield from _named(entry.get("valueFrom") or {}, "configMapKeyRef", "secretKeyRef", "name")
    for volume in spec.get("volumes") or []:
        yield from _named(volume, "configMap", None, "name")
        yield from _named(volume, None, "secret", "secretName")
        for source in (volume.get("projected") or {}).get("sources") or []:
            yield from _named(source, "configMap", "secret", "name")


def _named(entry: Json, config_map: str | None, secret: str | None, name: str) -> Iterator[Reference]:
    for kind, field in (("ConfigMap", config_map), ("Secret", secret)):
        found = (entry.get(field) or {}).get(name) if field else None
        if found:
            yield kind, found


def fill(document: Json, look_up: Callable[[str, str], Json | None]) -> Json:
    """A copy of the document with the checksum written; ``look_up(kind, name)`` gives the live object, None when it is not there."""
    filled = copy.deepcopy(document)
    template = t.cast(Json, template_of(filled))
    digest = hashlib.sha256()
    for kind, name in sorted(references(template)):
        digest.update(json.dumps([kind, name, _state(kind, look_up(kind, name))], sort_keys=True).encode())
    template["metadata"]["annotations"][ANNOTATION] = digest.hexdigest()
    return filled


def _state(kind: str, item: Json | None) -> t.Any:
    if item is None:
        return None
    if kind == "ConfigMap":
        if ((item.get("metadata") or {}).get("annotations") or {}).get(ANNOTATION) == IGNORED:
            return IGNORED
        return [item.get("data") or {}, item.get("binaryData") or {}]
    metadata = item.get("metadata") or {}
    return [metadata.get("uid"), metadata.get("resourceVersion")]
