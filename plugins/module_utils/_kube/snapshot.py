# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is applied now, as it was applied, so that it can be applied again (private: may change without notice).

An object's ``managedFields`` say which fields a set's manager sent; those fields of the live object are the document that was sent. So a snapshot needs
neither the release of the collection nor the inventory that made what is there.

    folder/snapshot.json   which cluster, which sets, when, and whether what it was taken for is still going on
    folder/<set>.json      the set's documents, for the option files of apply
"""

from __future__ import annotations

import json
import shutil
import typing as t
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._kube import graph
from ansible_collections.progressive.platform.plugins.module_utils._kube.applyset import ApplySet
from ansible_collections.progressive.platform.plugins.module_utils._kube.arguments import CONNECTION
from ansible_collections.progressive.platform.plugins.module_utils._kube.bundle import key_of
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client, connect
from ansible_collections.progressive.platform.plugins.module_utils._kube.ownership import MISSING, entries
from ansible_collections.progressive.platform.plugins.module_utils._kube.wait import served, spaces
from ansible_collections.progressive.platform.plugins.module_utils._kube.watch import named
from ansible_collections.progressive.platform.plugins.module_utils._local.shell import write_atomic
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

Json = dict[str, t.Any]

ARGUMENTS: dict[str, t.Any] = {
    "sets": {"type": "list", "elements": "str", "default": []},
    "namespace": {"type": "str"},
    "path": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["present", "checked", "closed"], "default": "present"},
    **CONNECTION,
}
MANIFEST = "snapshot.json"
WORKERS = 12


def run(params: Params, context: Context) -> Result:
    """Result: changed, resumed, sets (those that the snapshot holds), cluster, time."""
    folder = Path(params["path"])
    known = _read(folder / MANIFEST)
    if params["state"] != "present" and not known:
        raise PlatformError(f"There is no snapshot in {folder}. Take one first (state: present).")
    with connect(params, context.clock) as client:
        cluster = identity(client)
        if known and known["cluster"] != cluster and (known["open"] or params["state"] != "present"):
            raise PlatformError(
                f"The snapshot in {folder} is of another cluster ({known['cluster']}, this one is {cluster}), taken {known['time']}. "
                "Applying it here would overwrite what is another platform's. Name another folder, or remove it."
            )
        if params["state"] == "closed":
            return _close(folder, known, context)
        if params["state"] == "checked" or known.get("open"):
            lost = [name for name in known["sets"] if not (folder / f"{name}.json").is_file()]
            if lost:
                raise PlatformError(f"The snapshot in {folder} is not complete: {', '.join(lost)} lacks its file.")
            return {"changed": False, "resumed": bool(known.get("open")), **{key: known[key] for key in ("sets", "cluster", "time")}}
        if not params["sets"]:
            raise PlatformError("sets names no set, and a snapshot of nothing would bring nothing back.")
        namespace = params["namespace"] or client.access.namespace
        taken = {name: documents for name in params["sets"] if (documents := documents_of(client, ApplySet(name, namespace))) is not None}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    manifest = {"cluster": cluster, "namespace": namespace, "time": now, "sets": sorted(taken), "open": True}
    if not context.check:
        _write(folder, taken, manifest)
    return {"changed": True, "resumed": False, **{key: manifest[key] for key in ("sets", "cluster", "time")}}


def identity(client: Client) -> str:
    """What tells a cluster from all others: the uid of its oldest namespace."""
    space = client.get(client.resource("v1", "Namespace").path(None, "kube-system"))
    return str(space["metadata"]["uid"])


def documents_of(client: Client, group: ApplySet) -> list[Json] | None:
    """The set's members as they were applied, None when there is no such set."""
    parent = client.find(client.resource("v1", "ConfigMap").path(group.namespace, group.parent_name))
    if parent is None:
        return None
    contents = group.contents(parent)
    wanted = [(resource, space) for resource in served(client, contents) for space in spaces(resource, contents)]

    def read(index: int) -> list[Json]:
        resource, space = wanted[index]
        found = []
        for item in client.list(resource, space, labelSelector=group.selector)["items"]:
            document = applied(named(item, resource), group.manager)
            if (
                document is not None and document["apiVersion"] != resource.api_version
            ):  # the fields are written in the version that was sent
                other = client.resource(document["apiVersion"], resource.kind)
                document = applied(named(client.get(other.path(space, item["metadata"]["name"])), other), group.manager)
            found += [document] if document is not None else []
        return found

    documents: list[Json] = []
    for outcome in graph.run([set() for _unused in wanted], read, WORKERS):
        if isinstance(outcome, Exception):
            raise outcome
        documents += outcome
    return sorted(documents, key=lambda it: tuple(key_of(it)))


def applied(item: Json, manager: str) -> Json | None:
    """The document that this manager applied last, None when it did not."""
    for entry in entries(item):
        if entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource"):
            document = extract(item, entry.get("fieldsV1") or {})
            metadata = {field: item["metadata"][field] for field in ("name", "namespace") if field in item["metadata"]}
            identity_ = {"apiVersion": entry.get("apiVersion") or item["apiVersion"], "kind": item["kind"]}
            return {**identity_, **document, "metadata": {**metadata, **(document.get("metadata") or {})}}
    return None


def extract(value: t.Any, fields: Json) -> t.Any:
    """The part of a value that a tree of fields names; MISSING parts are left out."""
    below = {mark: inner or {} for mark, inner in fields.items() if mark != "."}
    if not below:
        return value if not fields or not isinstance(value, dict | list) else type(value)()
    if isinstance(value, dict):
        return {mark[2:]: extract(value[mark[2:]], inner) for mark, inner in below.items() if mark.startswith("f:") and mark[2:] in value}
    if isinstance(value, list):
        found = []
        for item in value:
            inner = next((inner for mark, inner in below.items() if _names(mark, item)), MISSING)
            if inner is not MISSING:
                found.append(extract(item, inner) or item)
        return found
    return value


def _names(mark: str, item: t.Any) -> bool:
    """Whether a mark of a list is about this item."""
    wanted = json.loads(mark[2:])
    if mark.startswith("k:"):
        return isinstance(item, dict) and all(item.get(key, MISSING) == value for key, value in wanted.items())
    return bool(wanted == item)


def _close(folder: Path, known: Json, context: Context) -> Result:
    if known.get("open") and not context.check:
        _dump(folder / MANIFEST, {**known, "open": False})
    return {"changed": bool(known.get("open")), "resumed": False, **{key: known[key] for key in ("sets", "cluster", "time")}}


def _write(folder: Path, taken: dict[str, list[Json]], manifest: Json) -> None:
    """The manifest last: a snapshot without it is none, so a run that was killed here takes another."""
    try:
        if folder.exists():
            former = folder.with_name(f"{folder.name}.former")
            shutil.rmtree(former, ignore_errors=True)
            folder.rename(former)
        folder.mkdir(parents=True, mode=0o700)
        for name, documents in taken.items():
            _dump(folder / f"{name}.json", documents)
        _dump(folder / MANIFEST, manifest)
    except OSError as error:
        raise PlatformError(f"The snapshot cannot be written to {folder}: {error.strerror}. Choose another path.") from error


def _dump(file: Path, content: Json | Sequence[Json]) -> None:
    """At once or not at all, and for its owner only: a set may hold Secrets."""
    write_atomic(file, json.dumps(content, indent=1, ensure_ascii=False), 0o600)


def _read(file: Path) -> Json:
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PlatformError(
            f"{file} is wanted as a snapshot's manifest, and cannot be read: {error}. Remove its folder, or choose another."
        ) from error
    return found if isinstance(found, dict) and "cluster" in found else {}
