# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Digests of images, asked for at their source and written into an inventory (private: may change without notice)."""

from __future__ import annotations

import json
import typing as t
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._local.shell import write_atomic
from ansible_collections.progressive.platform.plugins.module_utils._mirror import plan
from ansible_collections.progressive.platform.plugins.module_utils._mirror.mirror import REGISTRIES, WORKERS, make_skopeo, read_bill
from ansible_collections.progressive.platform.plugins.module_utils._mirror.reference import DIGEST, LOCAL, Reference
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

ARGUMENTS: dict[str, t.Any] = {
    "bill": {"type": "path", "required": True},
    "dest": {"type": "path", "required": True},
    "variable": {"type": "str", "default": "platform_image_digests"},
    "again": {"type": "bool", "default": False},
    **REGISTRIES,
}
HEAD = "---\n# Digests of the images whose catalog has none, by what they are called without the registry. playbooks/digests.yml writes this file.\n"


def run(params: Params, context: Context) -> Result:
    """Result: changed, digests (all of the file), found (what is new), moved (tags that are another image now), dest, msg."""
    bill, dest, variable = read_bill(Path(params["bill"])), Path(params["dest"]), params["variable"]
    known = read(dest, variable)
    entries = {str(it.get("origin") or it["reference"]).partition("@")[0]: it for it in bill["images"]}
    asked = {
        name: it
        for name, it in entries.items()
        if not name.startswith(LOCAL) and _needed(it, params["clusters"]) and (name in known or not it["digest"]) and Reference.of(name).tag
    }
    skopeo = make_skopeo(params, context)
    if asked:
        skopeo.ready(context.check)

    def ask(name: str) -> str:
        image = _image(asked[name], name, params)
        try:
            digest = skopeo.digest(Reference.of(image.source).tagged, at_source=True)
        except PlatformError as error:
            return f"{image.called}: {error.message}"
        return digest or f"{image.called}: {image.source} is not there. Correct its tag, or say where it is with mirror_sources."

    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        answers = dict(zip(asked, pool.map(ask, asked), strict=True))
    failed = [answer for answer in answers.values() if not DIGEST.fullmatch(answer)]
    found = {name: answer for name, answer in answers.items() if DIGEST.fullmatch(answer) and name not in known}
    moved = {name: answer for name, answer in answers.items() if DIGEST.fullmatch(answer) and known.get(name, answer) != answer}
    kept = {name: digest for name, digest in known.items() if name in entries}
    digests = dict(sorted({**kept, **found, **(moved if params["again"] else {})}.items()))
    changed = digests != known
    if changed and not context.check:
        try:
            write_atomic(dest, text(digests, variable))
        except OSError as error:
            raise PlatformError(f"{dest} cannot be written: {error.strerror}. Choose another file with digests_file.") from error
    result: Result = {"changed": changed, "digests": digests, "found": found, "moved": moved, "dest": str(dest)}
    if context.diff:
        result["diff"] = {
            "before": text(known, variable) if dest.exists() else "",
            "after": text(digests, variable),
            "before_header": str(dest),
        }
    if failed:
        raise PlatformError(f"{len(failed)} of {len(asked)} images have no digest yet: {' | '.join(failed)}", **result)
    if moved and not params["again"]:
        others = "; ".join(f"{name} was {known[name]} and is {digest}" for name, digest in moved.items())
        raise PlatformError(
            f"A tag means one image, and these moved at their source: {others}. The inventory keeps what it had. Name a tag that stays, or take the new "
            "image: playbooks/digests.yml -e digests_again=true.",
            **result,
        )
    return {
        **result,
        "msg": f"{dest} holds {len(digests)} digests, {len(found)} of them new. Run playbooks/bill.yml, then playbooks/mirror.yml.",
    }


def read(dest: Path, variable: str) -> dict[str, str]:
    """What the file has; nothing when it is not there."""
    import yaml  # comes with Ansible on the controller

    try:
        content = yaml.safe_load(dest.read_text(encoding="utf-8")) or {}
        digests = content[variable] if set(content) == {variable} else None
    except FileNotFoundError:
        return {}
    except (OSError, TypeError, KeyError, yaml.YAMLError) as error:
        raise PlatformError(
            f"{dest} is wanted as a file of {variable}: {error}. Correct it, or choose another with digests_file."
        ) from error
    if not isinstance(digests, Mapping):
        raise PlatformError(
            f"{dest} has other variables than {variable}, and would be written over. Choose another file with digests_file."
        )
    return {str(name): str(digest) for name, digest in digests.items()}


def text(digests: Mapping[str, str], variable: str) -> str:
    lines = "".join(f"  {json.dumps(name)}: {digest}\n" for name, digest in digests.items())
    return f"{HEAD}{variable}:\n{lines}" if lines else f"{HEAD}{variable}: {{}}\n"


def _needed(entry: Mapping[str, t.Any], clusters: list[str]) -> bool:
    return not clusters or bool(set(entry.get("clusters") or []) & set(clusters))


def _image(entry: Mapping[str, t.Any], origin: str, params: Params) -> plan.Image:
    """Where to ask, as if the image were pinned already."""
    pinned = {**entry, "origin": origin, "digest": f"sha256:{'0' * 64}"}
    return plan.images({"images": [pinned]}, (), params["source"], params["sources"])[0][0]
