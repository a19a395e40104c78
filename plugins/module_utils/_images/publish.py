# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From images in folders to a registry, with what belongs to them (private: may change without notice).

Everything is pushed by its digest, documents and signatures after it, and the tag last: whoever finds the tag finds the rest, and a run that was killed
before goes on without one. Documents are OCI artifacts whose ``subject`` is the image (distribution specification 1.1, referrers); a registry that does not
know referrers keeps them by the tag that they have as well, ``sha256-<digest>.sbom`` and ``.provenance``.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import typing as t
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._local.shell import call
from ansible_collections.progressive.platform.plugins.module_utils._mirror.skopeo import Skopeo
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

Json = dict[str, t.Any]

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
EMPTY = "application/vnd.oci.empty.v1+json"
KMS = "://"  # in a key's name: it is kept elsewhere (awskms://, hashivault://, k8s://)


@dataclass(frozen=True)
class Part:
    """A manifest in a folder as skopeo reads it (transport ``dir``), and its descriptor."""

    folder: Path
    digest: str
    size: int
    media_type: str
    platform: str = ""

    @property
    def descriptor(self) -> Json:
        known: Json = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.platform:
            system, _slash, rest = self.platform.partition("/")
            architecture, _slash, variant = rest.partition("/")
            known["platform"] = {"architecture": architecture, "os": system, **({"variant": variant} if variant else {})}
        return known


@dataclass(frozen=True)
class Document:
    """What is said of ``subject``: its bill of materials, how it was made."""

    subject: Part
    suffix: str
    media_type: str
    text: str


def part(folder: Path, platform: str = "") -> Part:
    """The manifest that lies in ``folder``; PlatformError when there is none."""
    try:
        content = (folder / "manifest.json").read_bytes()
        media_type = str(json.loads(content).get("mediaType") or MANIFEST)
    except (OSError, ValueError, AttributeError) as error:
        raise PlatformError(f"{folder} is wanted as an image: {error}. Remove it, then run again.") from error
    return Part(folder, _sha256(content), len(content), media_type, platform)


def index(parts: Sequence[Part], annotations: Mapping[str, str], folder: Path) -> Part:
    """One index of ``parts``, in ``folder``; the same parts and annotations give the same bytes."""
    _fresh(folder)
    for one in parts:
        for file in one.folder.iterdir():
            if file.name != "version":
                name = f"{one.digest.removeprefix('sha256:')}.manifest.json" if file.name == "manifest.json" else file.name
                (folder / name).unlink(missing_ok=True)
                (folder / name).hardlink_to(file)
    described = [one.descriptor for one in parts]
    content = {"schemaVersion": 2, "mediaType": INDEX, "manifests": described, "annotations": dict(sorted(annotations.items()))}
    (folder / "manifest.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    return part(folder)


def artifact(document: Document, folder: Path) -> Part:
    """The document as an OCI artifact, in ``folder`` (image specification 1.1, "Guidelines for Artifact Usage")."""
    _fresh(folder)
    parts = []
    for content, kind in ((b"{}", EMPTY), (document.text.encode(), document.media_type)):
        digest = _sha256(content)
        (folder / digest.removeprefix("sha256:")).write_bytes(content)
        parts.append({"mediaType": kind, "digest": digest, "size": len(content)})
    subject = document.subject
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": document.media_type,
        "config": parts[0],
        "layers": parts[1:],
        "subject": {"mediaType": subject.media_type, "digest": subject.digest, "size": subject.size},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    return part(folder)


@dataclass(frozen=True)
class Cosign:
    """Signs by digest. ``key`` is a file or a key service's address; without one cosign asks for an identity (keyless).

    The password of a key comes from the environment (``COSIGN_PASSWORD``), an identity from the CI's own or ``SIGSTORE_ID_TOKEN``.
    """

    key: str = ""
    options: tuple[str, ...] = ()
    authfile: str = ""
    tls_verify: bool = True
    timeout: float = 300.0

    def ready(self) -> None:
        """PlatformError unless the program and a key of a file are there."""
        if not shutil.which("cosign"):
            raise PlatformError("images_sign is on, and there is no cosign on this machine. Install it, or set images_sign to false.")
        if self.key and KMS not in self.key and not Path(self.key).is_file():
            raise PlatformError(
                f"images_cosign_key is {self.key}, and there is no such file. Make one with 'cosign generate-key-pair', or correct it."
            )

    def command(self, references: Sequence[str]) -> list[str]:
        insecure = [] if self.tls_verify else ["--allow-insecure-registry", "--allow-http-registry"]
        return ["cosign", "sign", "--yes", "--recursive", *(["--key", self.key] if self.key else []), *insecure, *self.options, *references]

    def sign(self, references: Sequence[str]) -> None:
        """``references`` name digests. PlatformError with cosign's own words."""
        if not self.authfile:
            call(self.command(references), timeout=self.timeout)
            return
        with tempfile.TemporaryDirectory() as folder:  # cosign reads Docker's folder, and skopeo's file has the same form
            (Path(folder) / "config.json").symlink_to(Path(self.authfile).resolve())
            call(self.command(references), timeout=self.timeout, env={"DOCKER_CONFIG": folder})


def push(
    reference: str,
    whole: Part,
    documents: Sequence[Document],
    folder: Path,
    skopeo: Skopeo,
    cosign: Cosign | None,
    say: Callable[[str], None],
) -> None:
    """Push ``whole`` and its ``documents``, sign them, and set the tag of ``reference``; ``folder`` is room for artifacts.

    PlatformError when the tag is another image's, and what the registry or cosign said when they fail: the tag is not set then.
    """
    refuse_other(reference, whole.digest, skopeo)
    name = reference.rpartition(":")[0]
    say(f"{reference}: pushing {whole.digest}")
    skopeo.copy(f"dir:{whole.folder}", f"docker://{name}@{whole.digest}", whole.digest)
    signed = [whole.digest]
    for document in documents:
        made = artifact(document, folder / made_name(document))
        skopeo.copy(f"dir:{made.folder}", f"docker://{name}:{made_name(document)}", made.digest)
        signed.append(made.digest)
    if cosign:
        say(f"{reference}: signing")
        cosign.sign([f"{name}@{digest}" for digest in signed])
    # Others may have pushed meanwhile; a registry offers no way to set a tag only where there is none.
    refuse_other(reference, whole.digest, skopeo)
    skopeo.copy(f"dir:{whole.folder}", f"docker://{reference}", whole.digest)


def made_name(document: Document) -> str:
    """The tag of a document, as cosign's and others' fallback has it: ``sha256-<digest>.<suffix>``."""
    return f"{document.subject.digest.replace(':', '-')}.{document.suffix}"


def refuse_other(reference: str, digest: str, skopeo: Skopeo) -> None:
    """PlatformError when ``reference`` is there with another digest."""
    seen = skopeo.digest(reference)
    if seen and seen != digest:
        raise PlatformError(
            f"{reference} is {seen} in the registry, and {digest} was built here. A tag never moves: somebody may run what it names. Name the release by "
            "another images_tag; if the registry's is a mistake, take it away there (skopeo delete) and run again."
        )


def _fresh(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "version").write_text("Directory Transport Version: 1.1\n", encoding="ascii")


def _sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
