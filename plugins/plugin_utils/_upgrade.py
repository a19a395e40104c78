# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a comparison of a set means for its upgrade; for the filters upgrade_plan and upgrade_work."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator, Mapping

TEMPLATE = "spec.template."
WORDS = {"missing": "made", "changed": "changed", "added": "removed", "ownership": "taken back", "refused": "refused"}
ROLLED = ("Deployment", "StatefulSet", "DaemonSet")


def work_of(found: Mapping[str, t.Any]) -> str:
    """What there is to do for one set: ``pods``, ``fields`` or ``nothing``."""
    return "pods" if any(restarted(found)) else "fields" if steps(found) else "nothing"


def steps(found: Mapping[str, t.Any]) -> list[str]:
    objects = found.get("objects") or []
    count = {kind: sum(item["drift"] == kind for item in objects) for kind in WORDS}
    count["refused"] = len(found.get("refused") or [])
    said = [", ".join(f"{number} {WORDS[kind]}" for kind, number in count.items() if number)]
    for item in objects:
        for field in item.get("fields") or []:
            if field["path"].endswith(".image") and "found" in field and "wanted" in field:
                said.append(f"image {item['kind']}/{item['name']} from {field['found']} to {field['wanted']}")
    said += [f"refused: {reason}" for reason in found.get("refused") or []]
    if replaced := list(restarted(found)):
        said.append(f"new pods for {', '.join(replaced)}")
    return [step for step in said if step]


def restarted(found: Mapping[str, t.Any]) -> Iterator[str]:
    for item in found.get("objects") or []:
        made = item["drift"] == "missing"
        changed = item["drift"] == "changed" and any(field["path"].startswith(TEMPLATE) for field in item.get("fields") or [])
        if item["kind"] in ROLLED and (made or changed):
            yield f"{item['kind']}/{item['name']}"
