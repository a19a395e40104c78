# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Container images without an engine or a registry: an archive is packed from programs, and imported into each node's containerd.

What a node has is read from containerd itself (name and digest) together with a note of which archive that digest came from;
an archive is imported again only when its manifest has changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import tarfile
import typing as t
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._local.layout import CONTAINERD_SOCKET
from ansible_collections.progressive.platform.plugins.module_utils._local.nodes import enter
from ansible_collections.progressive.platform.plugins.module_utils._local.processes import Record
from ansible_collections.progressive.platform.plugins.module_utils._local.shell import call, unfinished, write_atomic
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Image:
    """A component's image: ``files`` maps paths in the image to programs of this machine, ``links`` paths to what they point at."""

    reference: str
    files: Mapping[str, Path]
    entrypoint: tuple[str, ...] = ()
    user: str = ""
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """``localhost/progressive/pause:v1`` -> ``pause-v1-<what it is made of>.tar``, so that another recipe makes another archive."""
        recipe = [self.reference, sorted((path, str(source)) for path, source in self.files.items()), self.entrypoint, self.user]
        digest = hashlib.sha256(json.dumps([*recipe, sorted(self.links.items())]).encode()).hexdigest()
        return f"{self.reference.rsplit('/', maxsplit=1)[-1].replace(':', '-')}-{digest[:8]}.tar"


def pack(image: Image, target: Path) -> None:
    """Write ``image`` as a Docker archive with one layer: the same programs give the same bytes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    layer = unfinished(target.with_name(f"{target.name}.layer"))
    archive = unfinished(target)
    try:
        write_layer(image.files, image.links, layer)
        digest = sha256(layer)
        config = json.dumps(
            {
                "architecture": ARCHITECTURES.get(os.uname().machine, os.uname().machine),
                "os": "linux",
                "config": {"Entrypoint": list(image.entrypoint) or None, "User": image.user, "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"]},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
            },
            sort_keys=True,
        ).encode()
        name = hashlib.sha256(config).hexdigest()
        manifest = json.dumps([{"Config": f"{name}.json", "RepoTags": [image.reference], "Layers": [f"{digest}.tar"]}]).encode()
        with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
            for path, content in ((f"{name}.json", config), ("manifest.json", manifest)):
                entry = tarfile.TarInfo(path)
                entry.size, entry.mode = len(content), 0o644
                tar.addfile(entry, io.BytesIO(content))
            entry = tarfile.TarInfo(f"{digest}.tar")
            entry.size, entry.mode = layer.stat().st_size, 0o644
            with open(layer, "rb") as file:
                tar.addfile(entry, file)
        archive.replace(target)
    finally:
        layer.unlink(missing_ok=True)
        archive.unlink(missing_ok=True)


def write_layer(files: Mapping[str, Path], links: Mapping[str, str], target: Path) -> None:
    """Write a root filesystem of programs, links, their folders and /tmp: the same programs give the same bytes."""
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        paths = [*files, *links]
        parents = {parent for path in paths for parent in Path(path).parents if str(parent) != "/"}
        for directory in sorted({str(parent) for parent in parents} | {"/tmp"}):  # noqa: S108 - a path in the image
            entry = tarfile.TarInfo(directory.lstrip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if directory == "/tmp" else 0o755  # noqa: S108
            tar.addfile(entry)
        for path, source in sorted(files.items()):
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.mode, entry.size = 0o755, source.stat().st_size
            with open(source, "rb") as file:
                tar.addfile(entry, file)
        for path, goal in sorted(links.items()):
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, goal, 0o777
            tar.addfile(entry)


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def identity(archive: Path) -> tuple[str, list[str]]:
    """What an image archive (Docker's or OCI's layout) holds: a digest of its manifest, and the names in it.

    The manifest names its configuration and layers by digest, so its digest stands for all of them and the layers need not be read.
    """
    try:
        with tarfile.open(archive, "r:") as tar:
            found: dict[str, bytes] = {}
            for entry in tar:
                if entry.name.removeprefix("./") in ("manifest.json", "index.json") and (file := tar.extractfile(entry)):
                    found[entry.name.removeprefix("./")] = file.read()
                if "manifest.json" in found:
                    break
    except (OSError, tarfile.TarError) as error:
        raise PlatformError(f"{archive} must be an uncompressed image archive (docker-archive or oci-archive): {error}.") from error
    if manifest := found.get("manifest.json"):
        return hashlib.sha256(manifest).hexdigest(), [name for image in json.loads(manifest) for name in image.get("RepoTags") or []]
    if index := found.get("index.json"):
        manifests = json.loads(index)["manifests"]
        names = [(entry.get("annotations") or {}).get("org.opencontainers.image.ref.name") for entry in manifests]
        return hashlib.sha256(index).hexdigest(), [name for name in names if name]
    raise PlatformError(
        f"{archive} holds neither manifest.json nor index.json; give an archive made by 'buildah push ... docker-archive:...'."
    )


class Store:
    """The images of one node: its containerd, entered through ``holder``, and the note of what was imported."""

    def __init__(self, node: str, holder: Record, note: Path) -> None:
        self.node = node
        self.holder = holder
        self.note = note

    def ctr(self, *arguments: str, timeout: float = 300.0) -> str:
        command = [*enter(self.holder, "mount", "net"), "ctr", "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io", *arguments]
        return call(command, timeout=timeout)

    def present(self) -> dict[str, str]:
        """Name -> digest of every image containerd has."""
        lines = self.ctr("images", "list").splitlines()[1:]
        return {fields[0]: fields[2] for line in lines if len(fields := line.split()) > 2}

    def noted(self) -> dict[str, dict[str, str]]:
        with contextlib.suppress(OSError, ValueError):
            return t.cast("dict[str, dict[str, str]]", json.loads(self.note.read_text(encoding="utf-8")))
        return {}

    def missing(self, archives: Iterable[Path]) -> list[Path]:
        """The archives whose images containerd does not have, or has from another archive."""
        wanted = list(archives)
        if not wanted:
            return []
        noted, present = self.noted(), self.present()
        return [archive for archive in wanted if not is_imported(identity(archive), noted, present)]

    def load(self, archive: Path) -> None:
        """Import one archive and note the digests it gave."""
        digest, names = identity(archive)
        self.ctr("images", "import", str(archive))
        present = self.present()
        if absent := [name for name in names if name not in present]:
            raise PlatformError(f"{archive} was imported into {self.node}, but containerd does not list {', '.join(absent)}.")
        noted = self.noted()
        noted.update({name: {"archive": digest, "digest": present[name]} for name in names})
        write_atomic(self.note, json.dumps(noted, indent=1, sort_keys=True))

    def forget(self, archives: Path) -> list[str]:
        """Remove the images that no container is of and whose archive is no more in the folder ``archives``; their names.

        A node would keep every build for ever otherwise. Only names that end in a hash of sources are meant (role images makes these
        again when they are asked for), and only what was imported from an archive.
        """
        noted = self.noted()
        gone = [name for name in noted if (file := file_of(name)) and not (archives / file).exists()]
        if not gone:
            return []
        used = {fields[1] for line in self.ctr("containers", "list").splitlines()[1:] if len(fields := line.split()) > 1}
        if forgotten := [name for name in gone if name not in used]:
            self.ctr("images", "remove", *forgotten)
            write_atomic(self.note, json.dumps({name: it for name, it in noted.items() if name not in forgotten}, indent=1, sort_keys=True))
        return forgotten


def file_of(name: str) -> str:
    """The archive's file of an image whose tag ends in a hash of its sources (``localhost/progressive/app:1.0-0123456789ab``), "" of another."""
    return f"{name.rpartition('/')[2].replace(':', '-')}.tar" if re.search(r":\S+-[0-9a-f]{12}$", name) else ""


def is_imported(wanted: tuple[str, list[str]], noted: Mapping[str, Mapping[str, str]], present: Mapping[str, str]) -> bool:
    """Whether every name of an archive is in containerd, with the digest that this very archive gave when it was imported."""
    digest, names = wanted
    return bool(names) and all(
        name in present and (noted.get(name) or {}) == {"archive": digest, "digest": present[name]} for name in names
    )
