# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of the module ``image_build``, and the function behind it."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._images import recipe, sbom
from ansible_collections.progressive.platform.plugins.module_utils._images.build import Builder, Job
from ansible_collections.progressive.platform.plugins.module_utils._images.definition import (
    LOCAL_REGISTRY,
    SOURCE,
    Image,
    make_bases,
    make_images,
)
from ansible_collections.progressive.platform.plugins.module_utils._images.publish import Cosign
from ansible_collections.progressive.platform.plugins.module_utils._images.scan import SCANNERS, SEVERITIES, choose, counts
from ansible_collections.progressive.platform.plugins.module_utils._kube.arguments import CONNECTION
from ansible_collections.progressive.platform.plugins.module_utils._local.shell import default_cache
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

PLATFORM = re.compile(r"linux/[a-z0-9_]+(/v\d+)?")

ARGUMENTS: dict[str, t.Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "source": {"type": "path"},
    "names": {"type": "list", "elements": "str", "default": []},
    "registry": {"type": "str", "default": LOCAL_REGISTRY},
    "bases": {"type": "dict", "required": True},
    "revision": {"type": "int", "default": 1},
    "tag": {"type": "str", "default": ""},
    "builder": {"type": "str", "choices": ["buildah", "docker"], "default": "buildah"},
    "platforms": {"type": "list", "elements": "str", "default": []},
    "push": {"type": "bool", "default": False},
    "tls_verify": {"type": "bool", "default": True},
    "cache": {"type": "path"},
    "build_timeout": {"type": "float", "default": 1800.0},
    "repository": {"type": "str", "default": ""},
    "authfile": {"type": "path"},
    "attempts": {"type": "int", "default": 5},
    "sign": {"type": "bool", "default": False},
    "cosign_key": {"type": "str", "default": "", "no_log": False},
    "cosign_options": {"type": "list", "elements": "str", "default": []},
    "scanner": {"type": "str", "choices": ["auto", *SCANNERS, "none"], "default": "auto"},
    "severity": {"type": "str", "choices": [*SEVERITIES[2:], "none"], "default": "critical"},
    "unfixed": {"type": "bool", "default": False},
    **CONNECTION,
}


def make_job(params: Params) -> Job:
    """The job the options describe; PlatformError when they do not go together."""
    source = Path(params.get("source") or SOURCE)
    bases = make_bases(params["bases"], params["revision"])

    def look() -> dict[str, Image]:
        return make_images(
            source,
            bases,
            registry=params["registry"],
            revision=params["revision"],
            names=params["names"],
            tag=params["tag"],
            platforms=params["platforms"],
        )

    images = look()
    made_here = sorted({base.name for image in images.values() for base in image.bases if base.made_here})
    if made_here and params["builder"] == "docker":
        raise PlatformError(
            f"images_bases.{made_here[0]} is a root filesystem, which buildah makes; with images_builder docker name a registry's image."
        )
    if wrong := [platform for platform in params["platforms"] if not PLATFORM.fullmatch(platform)]:
        raise PlatformError(
            f"images_platforms names {wrong[0]!r}; an image's platform is linux/<architecture>, such as linux/amd64 or linux/arm64."
        )
    if len(params["platforms"]) > 1 and not params["push"]:
        raise PlatformError(f"images_platforms names {', '.join(params['platforms'])}, and an archive holds one; push, or name one.")
    if params["push"] and params["registry"] in ("", LOCAL_REGISTRY):
        raise PlatformError(
            f"images_push is on and images_registry is {params['registry']!r}, which is no registry; set yours (registry.example.com/team)."
        )
    if params["tag"] and not params["push"]:
        raise PlatformError("images_tag replaces the content's own tag, by which an archive is known; it is for images that are pushed.")
    if params["state"] == "present":
        if params["builder"] == "buildah":
            recipe.refuse_foreign(images.values(), params["platforms"], source)
        sbom.ready()
    authfile = params.get("authfile") or ""
    if authfile and not Path(authfile).is_file():
        raise PlatformError(f"The credentials' file {authfile} is not there. Make it: skopeo login --authfile {authfile} <registry>.")
    if params["attempts"] < 1:
        raise PlatformError(f"images_attempts is {params['attempts']}; at least 1 is wanted.")
    return Job(
        images=images,
        source=source,
        cache=Path(params.get("cache") or default_cache() / "images"),
        builder=params["builder"],
        platforms=tuple(params["platforms"]),
        push=params["push"],
        tls_verify=params["tls_verify"],
        timeout=params["build_timeout"],
        look=look,
        tag=params["tag"],
        repository=params["repository"],
        authfile=authfile,
        attempts=params["attempts"],
        cosign=make_cosign(params, authfile),
        scanner=choose(params["scanner"]) if params["state"] == "present" else "",
        severity=params["severity"],
        unfixed=params["unfixed"],
    )


def make_cosign(params: Params, authfile: str) -> Cosign | None:
    """Who signs; PlatformError when signing is asked for and cannot be done."""
    if not params["sign"] or params["state"] != "present":
        return None
    if not params["push"]:
        raise PlatformError(
            "images_sign is on and images_push is off; a signature lies beside its image in a registry. Push, or do not sign."
        )
    cosign = Cosign(params["cosign_key"], tuple(params["cosign_options"]), authfile, params["tls_verify"])
    cosign.ready()
    return cosign


def run(params: Params, context: Context) -> Result:
    """What the module does, for its options; check mode says what would be built or removed."""
    job = make_job(params)
    builder = Builder(job, context)
    if params["state"] == "absent":
        found = builder.found()
        if not context.check:
            builder.remove(found)
        return {"changed": bool(found), "removed": [str(archive) for archive in found]}
    missing = builder.missing()
    if missing and not context.check:
        builder.build(missing)
    built = {image.name for image in missing}
    images = [
        {
            "name": image.name,
            "reference": image.reference,
            "archive": None if job.push else str(job.archive(image)),
            "built": image.name in built,
            "digest": builder.digests.get(image.reference),
            "sboms": [str(path) for platform in job.platforms or ("",) if (path := job.bill(image, platform)).is_file()],
            "provenance": str(job.provenance(image)) if job.provenance(image).is_file() else None,
            "vulnerabilities": counts(builder.findings[image.name]) if image.name in builder.findings else None,
        }
        for image in job.images.values()
    ]
    result: Result = {
        "changed": bool(missing),
        "images": images,
        "references": {image.name: image.reference for image in job.images.values()},
        "scanner": job.scanner,
        "msg": words(len(missing), len(images), job.scanner, context.check),
    }
    if context.diff:
        after = "".join(f"{image.reference}\n" for image in job.images.values())
        before = "".join(f"{image.reference}\n" for image in job.images.values() if image.name not in built)
        result["diff"] = {"before": before, "after": after}
    return result


def words(built: int, wanted: int, scanner: str, check: bool) -> str:
    """What was done, in one sentence or two."""
    done = f"{built} of {wanted} images {'would be' if check else 'were'} built."
    if not built or check:
        return done
    return done + (
        f" {scanner} looked for vulnerabilities."
        if scanner
        else " No vulnerability scanner was run: images_scanner found none here, or is none."
    )
