# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of the module ``image_build``, and the function behind it."""

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._images.build import Builder, Job
from ansible_collections.progressive.platform.plugins.module_utils._images.definition import (
    LOCAL_REGISTRY,
    SOURCE,
    Image,
    make_bases,
    make_images,
)
from ansible_collections.progressive.platform.plugins.module_utils._kube.arguments import CONNECTION
from ansible_collections.progressive.platform.plugins.module_utils._local.shell import default_cache
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

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
    **CONNECTION,
}


def make_job(params: Params) -> Job:
    """The job the options describe; PlatformError when they do not go together."""
    source = Path(params.get("source") or SOURCE)
    bases = make_bases(params["bases"], params["revision"])

    def look() -> dict[str, Image]:
        return make_images(
            source, bases, registry=params["registry"], revision=params["revision"], names=params["names"], tag=params["tag"]
        )

    images = look()
    made_here = sorted({base.name for image in images.values() for base in image.bases if base.made_here})
    if made_here and params["builder"] == "docker":
        raise PlatformError(
            f"images_bases.{made_here[0]} is a root filesystem, which buildah makes; with images_builder docker name a registry's image."
        )
    if made_here and params["platforms"]:
        raise PlatformError(
            f"images_bases.{made_here[0]} is made here, for this machine's architecture; with images_platforms name a registry's image."
        )
    if len(params["platforms"]) > 1 and not params["push"]:
        raise PlatformError(f"images_platforms names {', '.join(params['platforms'])}, and an archive holds one; push, or name one.")
    if params["push"] and params["registry"] in ("", LOCAL_REGISTRY):
        raise PlatformError(
            f"images_push is on and images_registry is {params['registry']!r}, which is no registry; set yours (registry.example.com/team)."
        )
    if params["tag"] and not params["push"]:
        raise PlatformError("images_tag replaces the content's own tag, by which an archive is known; it is for images that are pushed.")
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
    )


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
        }
        for image in job.images.values()
    ]
    result: Result = {
        "changed": bool(missing),
        "images": images,
        "references": {image.name: image.reference for image in job.images.values()},
    }
    if context.diff:
        after = "".join(f"{image.reference}\n" for image in job.images.values())
        before = "".join(f"{image.reference}\n" for image in job.images.values() if image.name not in built)
        result["diff"] = {"before": before, "after": after}
    return result
