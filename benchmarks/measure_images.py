# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long images take to build, and how large they are: from an empty cache, after a change of a service's source, and again with nothing changed.

Every build is into archives with bases made from Debian's packages, as on the local cluster, with their bills of materials and provenance. The cold one
fetches packages and wheels, so it measures the network too, and is taken once. Sizes are of the archive (not compressed, as nodes import it). No cluster
is asked.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.progressive.platform.plugins.module_utils._images.arguments import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import Context
from run import ROOT, Lab, Row

NAMES = ("app", "agent", "frontend", "redis")
CHANGED = "services/progressive/app.py"  # a source of the application and the agent, below their dependencies


def measure(lab: Lab) -> list[Row]:
    cache, source = lab.folder / "images-cache", lab.folder / "images"
    shutil.copytree(ROOT / "images", source, ignore=shutil.ignore_patterns("__pycache__"))
    given = yaml.safe_load((ROOT / "inventories/local/group_vars/all/images.yml").read_text(encoding="utf-8"))["images_bases"]
    bases = {name: given[name] for name in ("python", "nginx", "redis")}
    defaults = {name: option.get("default") for name, option in ARGUMENTS.items()}
    options = {**defaults, "source": str(source), "cache": str(cache), "bases": bases, "names": list(NAMES)}

    def build() -> dict[str, Any]:
        return run(options, Context())

    lab.say("images: from an empty cache")
    cold = [lab.timed(build)]
    sizes = {it["name"]: _size(it) for it in build()["images"]}
    again = [lab.timed(build) for _again in range(lab.repeat)]
    changed = []
    for number in range(lab.repeat):
        lab.say(f"images: after a change, {number + 1} of {lab.repeat}")
        with open(source / CHANGED, "a", encoding="utf-8") as file:
            file.write(f"# {number}\n")
        changed.append(lab.timed(build))
    note = ", ".join(f"{name} {size}" for name, size in sizes.items())
    return [
        Row("images", "nothing changed", {"build": again}, note),
        Row("images", "a source changed", {"build": changed}, f"{CHANGED}: three images of it are built again"),
        Row("images", "empty cache", {"build": cold}, "once: bases by mmdebstrap, wheels, layers"),
    ]


def _size(image: dict[str, Any]) -> str:
    """Megabytes, and how many parts its bill of materials lists."""
    (bill,) = image["sboms"]
    parts = len(json.loads(Path(bill).read_text(encoding="utf-8"))["components"])
    return f"{Path(image['archive']).stat().st_size / 1e6:.0f} MB of {parts} parts"
