# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a platform needs from outside: images by digest and files by checksum, read from what is rendered (private: may change without notice)."""

from __future__ import annotations

import hashlib
import json
import re
import typing as t
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._kube import bundle, rollout
from ansible_collections.progressive.platform.plugins.module_utils._mirror.reference import Reference, origin
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

Json = dict[str, t.Any]

ARGUMENTS: dict[str, t.Any] = {
    "rendered": {"type": "path", "required": True},
    "dest": {"type": "path", "required": True},
    "cluster": {"type": "str", "default": "cluster"},
    "registry": {"type": "str", "default": ""},
    "roles": {"type": "list", "elements": "str", "default": []},
    "images": {"type": "dict", "default": {}},
    "catalog": {"type": "dict", "default": {}},
    "files": {"type": "dict", "default": {}},
    "complete": {"type": "bool", "default": False},
}

SHA256 = re.compile(r"[0-9a-f]{64}")


def run(params: Params, context: Context) -> Result:
    """Result: changed, images, files, incomplete (what has no digest or checksum), dest."""
    folder, dest = Path(params["rendered"]), Path(params["dest"])
    wanted = {role.rpartition(".")[2] for role in params["roles"]}
    texts = {file.stem: _read(file) for file in sorted(folder.glob("*.yaml")) if not wanted or file.stem in wanted}
    if not texts:
        raise PlatformError(f"{folder} holds no rendered manifests. Render them first: playbooks/render.yml, or bill.yml, which does both.")
    mine = {
        "images": list(images(texts, params["images"], params["catalog"], params["registry"])),
        "files": list(files(params["files"])),
    }
    former = _former(dest)
    bill = {section: merged(former.get(section) or [], mine[section], params["cluster"]) for section in mine}
    text = json.dumps(bill, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    changed = not dest.exists() or dest.read_text(encoding="utf-8") != text
    if changed and not context.check:
        try:
            dest.parent.mkdir(parents=True, exist_ok=True)
            dest.write_text(text, encoding="utf-8")
        except OSError as error:
            raise PlatformError(f"The bill cannot be written to {dest}: {error.strerror}. Choose another dest.") from error
    incomplete = [f"image {it['reference']} has no digest" for it in mine["images"] if not it["digest"]]
    incomplete += [f"file {it['name']} has no checksum" for it in mine["files"] if not it["sha256"]]
    result: Result = {"changed": changed, **mine, "incomplete": incomplete, "dest": str(dest)}
    words = f"{params['cluster']} needs {len(mine['images'])} images and {len(mine['files'])} files of upstream; the bill is {dest}."
    if incomplete:
        words += f" Not pinned: {'; '.join(incomplete)}."
        if params["complete"]:
            raise PlatformError(
                f"{words} Run playbooks/digests.yml, which asks for the digests and writes them into the inventory.", **result
            )
    return {**result, "msg": words}


def images(texts: Mapping[str, str], known: Mapping[str, str], catalog: Mapping[str, Json], registry: str = "") -> Iterator[Json]:
    """Every image that pods are made of, and those of the catalog that stand in other places (a sidecar's in an injector's template).

    ``origin`` is what an image is called without ``registry``, the platform's own: what a mirror asks its source for.
    """
    users: dict[str, set[str]] = {}
    for component, text in texts.items():
        for reference in pulled(bundle.load(text, component)):
            users.setdefault(reference, set()).add(component)
        for reference in known.values():
            if re.search(rf"(?<![\w./:@-]){re.escape(reference)}(?![\w.:@-])", text):
                users.setdefault(reference, set()).add(component)
    names = {reference: name for name, reference in known.items()}
    for reference, components in sorted(users.items()):
        entry = catalog.get(names.get(reference, "")) or {}
        parts = Reference.of(reference, registry)
        yield {
            "reference": reference,
            "origin": origin(parts, registry),
            "name": names.get(reference, ""),
            "digest": parts.digest or str(entry.get("digest") or ""),
            "licence": str(entry.get("licence") or ""),
            "components": sorted(components),
        }


def pulled(documents: Iterable[Json]) -> Iterator[str]:
    """The images of the containers and image volumes of all workloads."""
    for document in documents:
        spec = rollout.pod_of(document) or {}
        for container in (one for field in ("initContainers", "containers") for one in spec.get(field) or []):
            if container.get("image") and container["image"] != "auto":  # "auto" is filled in by Istio
                yield str(container["image"])
        for volume in spec.get("volumes") or []:
            if reference := (volume.get("image") or {}).get("reference"):
                yield str(reference)


def files(sources: Mapping[str, Json]) -> Iterator[Json]:
    """Files of upstream; one that the inventory has by itself has its path."""
    for name, source in sorted(sources.items()):
        path, checksum = str(source.get("path") or ""), str(source.get("sha256") or "")
        if path:  # the address and its checksum are then those of a file that is not taken
            file = Path(path).expanduser()
            checksum = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
        yield {
            "name": name,
            "version": str(source.get("version") or ""),
            "address": "" if path else str(source.get("address") or ""),
            "path": path,
            "sha256": checksum if SHA256.fullmatch(checksum) else "",
            "licence": str(source.get("licence") or ""),
        }


def merged(former: Sequence[Json], now: Sequence[Json], cluster: str) -> list[Json]:
    """The bill of all clusters: what this one needs now in place of what it needed before; what nobody needs any more goes."""
    entries: dict[str, Json] = {}
    for item in former:
        others = [it for it in item.get("clusters") or [] if it != cluster]
        if others:
            entries[_identity(item)] = {**item, "clusters": others}
    for item in now:
        known = entries.get(_identity(item)) or {}
        together = {**item, "clusters": sorted({*(known.get("clusters") or []), cluster})}
        if "components" in item:
            together["components"] = sorted({*(known.get("components") or []), *item["components"]})
        entries[_identity(item)] = together
    return [entries[key] for key in sorted(entries)]


def _identity(item: Json) -> str:
    return str(item["reference"]) if "reference" in item else f"{item['name']} {item['version']} {item['sha256']} {item['path']}"


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise PlatformError(f"{file} cannot be read: {error.strerror}.") from error


def _former(dest: Path) -> Json:
    if not dest.exists():
        return {}
    try:
        former = json.loads(dest.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PlatformError(
            f"{dest} is wanted as a bill of another inventory, and cannot be read: {error}. Remove it, or choose another dest."
        ) from error
    return former if isinstance(former, dict) else {}
