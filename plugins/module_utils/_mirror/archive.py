# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images and files in one archive: an OCI image layout in a tar, with everything in it by its SHA-256 (private: may change without notice).

Whatever lies in the store has the checksum that its name says (written beside its name and renamed), so a run that was killed leaves nothing
half-done, and the same content gives the same archive, byte for byte.
"""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import typing as t
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._local.shell import unfinished
from ansible_collections.progressive.platform.plugins.module_utils._mirror import sources
from ansible_collections.progressive.platform.plugins.module_utils._mirror.plan import File, Image
from ansible_collections.progressive.platform.plugins.module_utils._mirror.reference import DIGEST
from ansible_collections.progressive.platform.plugins.module_utils._mirror.sources import Source
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

Json = dict[str, t.Any]

LIST = "mirror.json"  # the first member: what is in the archive and how large it is
FORMAT = 1
BLOBS = "blobs/sha256"
INDEX = "application/vnd.oci.image.index.v1+json"  # whose own mediaType is optional
BLOCK = 1 << 20
LARGEST_LIST = 64 << 20
AGAIN = "Export it anew, or carry it over again."


class Store:
    """A folder of blobs by checksum; manifests of images are blobs, too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs = folder / BLOBS

    def blob(self, digest: str) -> Path:
        return self.blobs / digest.removeprefix("sha256:")

    def has(self, digest: str) -> bool:
        """Whether an image is here with everything that it is made of."""
        return all(self.blob(part).is_file() for part in self.parts(digest))

    def parts(self, digest: str) -> Iterator[str]:
        """The image's manifest and whatever it and its platforms' manifests name, as far as they are here."""
        yield digest
        if not self.blob(digest).is_file():
            return
        manifest = self.manifest(digest)
        for platform in manifest.get("manifests") or []:
            yield from self.parts(str(platform["digest"]))
        for part in (manifest.get("config"), *(manifest.get("layers") or [])):
            if part and not part.get("urls"):  # foreign layers stay where they are
                yield str(part["digest"])

    def manifest(self, digest: str) -> Json:
        try:
            manifest = json.loads(self.blob(digest).read_bytes())
        except (OSError, ValueError) as error:
            raise PlatformError(
                f"{self.blob(digest)} is wanted as an image's manifest: {error}. Remove {self.folder}, then run again."
            ) from error
        return t.cast("Json", manifest)

    def take(self, folder: Path) -> None:
        """Move what skopeo has written (transport ``dir``) into the store: parts first, the image's own manifest last."""
        files = sorted(folder.iterdir(), key=lambda path: (path.name == "manifest.json", path.name.endswith(".manifest.json")))
        self.blobs.mkdir(parents=True, exist_ok=True)
        for file in files:
            if file.name != "version" and not file.name.startswith("signature-"):
                file.replace(self.blobs / sources.sha256(file))
        shutil.rmtree(folder)

    def lay_out(self, digest: str, folder: Path) -> None:
        """The image as skopeo reads it (transport ``dir``), of links into the store."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "version").write_text("Directory Transport Version: 1.1\n", encoding="ascii")
        top = self.manifest(digest)
        (folder / "manifest.json").symlink_to(self.blob(digest).resolve())
        platforms = {str(platform["digest"]) for platform in top.get("manifests") or []}
        for part in {*self.parts(digest)} - {digest}:
            name = self.blob(part).name
            (folder / (f"{name}.manifest.json" if part in platforms else name)).symlink_to(self.blob(part).resolve())

    def add(self, content: t.IO[bytes], checksum: str, what: str) -> None:
        """Read ``content`` to its end and keep it; PlatformError when its checksum is another."""
        wrong = f"{what} has the SHA-256 {{seen}}, and {checksum} is wanted; it is damaged. {AGAIN}"
        sources.keep(content, self.blobs / checksum, checksum, wrong)


def contents(images: Sequence[Image], files: Sequence[File], store: Store) -> Json:
    """The list of an archive, once everything is in the store."""
    blobs = {store.blob(part).name: store.blob(part).stat().st_size for image in images for part in store.parts(image.digest)}
    blobs |= {file.source.sha256: store.blob(file.source.sha256).stat().st_size for file in files}
    kinds = {image.digest: str(store.manifest(image.digest).get("mediaType") or INDEX) for image in images}
    return {"format": FORMAT, **wanted(images, files), "kinds": kinds, "blobs": dict(sorted(blobs.items()))}


def wanted(images: Sequence[Image], files: Sequence[File]) -> Json:
    """What an archive of these has in its list, but for the blobs."""
    return {
        "images": [
            {"name": it.name, "origin": it.origin, "digest": it.digest, "licence": it.licence}
            for it in sorted(images, key=lambda it: it.origin)
        ],
        "files": [
            {"name": it.source.name, "version": it.source.version, "place": it.place, "sha256": it.source.sha256, "licence": it.licence}
            for it in sorted(files, key=lambda it: it.place)
        ],
    }


def held(listed: Mapping[str, t.Any]) -> tuple[list[Image], list[File]]:
    """The images and files of an archive's list."""
    try:
        images = [Image(it["name"], it["origin"], it["digest"], licence=it["licence"]) for it in listed["images"]]
        files = [File(Source(it["name"], it["version"], it["place"], it["sha256"]), it["licence"]) for it in listed["files"]]
        digests = [*(image.digest for image in images), *(f"sha256:{file.source.sha256}" for file in files)]
        sound = all(DIGEST.fullmatch(digest) for digest in digests)
    except (KeyError, TypeError):
        sound = False
    if not sound:
        raise PlatformError(f"The {LIST} of the archive is damaged. {AGAIN}")
    return images, files


def write(listed: Json, store: Store, archive: Path) -> None:
    """Write the archive beside its name, then rename it."""
    part = unfinished(archive)
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as tar:
            for name, content in _heads(listed):
                tar.addfile(_entry(name, len(content)), io.BytesIO(content))
            for checksum, size in listed["blobs"].items():
                with open(store.blobs / checksum, "rb") as file:
                    tar.addfile(_entry(f"{BLOBS}/{checksum}", size), file)
        part.replace(archive)
    except OSError as error:
        raise PlatformError(f"{archive} cannot be written: {error.strerror}. Choose another place with mirror_archive.") from error
    finally:
        part.unlink(missing_ok=True)


def read(archive: Path) -> Json:
    """The list of an archive that is whole by its size; PlatformError otherwise. The content is for ``unpack`` to check."""
    try:
        size = archive.stat().st_size
        with tarfile.open(archive, "r:") as tar:
            first = tar.next()
            file = tar.extractfile(first) if first and first.name == LIST and first.size <= LARGEST_LIST else None
            listed = json.loads(file.read()) if file else None
    except FileNotFoundError as error:
        raise PlatformError(
            f"{archive} is wanted and not there. Make it where the source is reached: playbooks/mirror.yml -e mirror_state=exported."
        ) from error
    except (OSError, ValueError, tarfile.TarError) as error:
        raise PlatformError(f"{archive} cannot be read: {error}. {AGAIN}") from error
    if not isinstance(listed, dict) or listed.get("format") != FORMAT:
        raise PlatformError(
            f"{archive} is no archive of playbooks/mirror.yml (format {FORMAT}): its first member is not a {LIST} of that format. {AGAIN}"
        )
    if size != (expected := _size(listed)):
        raise PlatformError(f"{archive} has {size} bytes, and {expected} are wanted by its list; it is cut off or damaged. {AGAIN}")
    return listed


def unpack(archive: Path, listed: Json, store: Store) -> None:
    """Everything of the archive into the store, each part checked; PlatformError at the first that is damaged or missing."""
    missing = dict(listed["blobs"])
    try:
        with tarfile.open(archive, "r:") as tar:
            for entry in tar:
                folder, _slash, checksum = entry.name.rpartition("/")
                if folder == BLOBS and checksum in missing and (content := tar.extractfile(entry)):
                    store.add(content, checksum, f"{archive}: {entry.name}")
                    del missing[checksum]
    except (OSError, tarfile.TarError) as error:
        raise PlatformError(f"{archive} cannot be read: {error}. {AGAIN}") from error
    images, _files = held(listed)
    lacking = [*missing, *(image.called for image in images if not store.has(image.digest))]
    if lacking:
        raise PlatformError(f"{archive} lacks {', '.join(lacking[:5])}; it is damaged. {AGAIN}")


def _heads(listed: Json) -> Iterable[tuple[str, bytes]]:
    """The list, and what makes the archive an OCI image layout that other tools read, too."""
    manifests = [
        {
            "mediaType": listed["kinds"][image["digest"]],
            "digest": image["digest"],
            "size": listed["blobs"][image["digest"].removeprefix("sha256:")],
            "annotations": {"org.opencontainers.image.ref.name": image["origin"]},
        }
        for image in listed["images"]
    ]
    yield LIST, _json(listed)
    yield "oci-layout", _json({"imageLayoutVersion": "1.0.0"})
    yield "index.json", _json({"schemaVersion": 2, "manifests": manifests})


def _size(listed: Json) -> int:
    """Bytes of the whole archive: a tar's header and content are in blocks of 512, its records of 10240 (POSIX ustar)."""
    try:
        sizes = [*(len(content) for _name, content in _heads(listed)), *listed["blobs"].values()]
    except (KeyError, TypeError) as error:
        raise PlatformError(f"The {LIST} of the archive is damaged: {error}. {AGAIN}") from error
    blocks = sum(tarfile.BLOCKSIZE + -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE for size in sizes) + 2 * tarfile.BLOCKSIZE
    return -(-blocks // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o644
    return entry


def _json(content: t.Any) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()
