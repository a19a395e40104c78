# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: upgrade_plan
short_description: What an upgrade is going to do, in words
version_added: 0.1.0
author:
  - The progressive.platform founders
description:
  - Reads what M(progressive.platform.apply) found with O(progressive.platform.apply#module:state=compared), set by set, and says what is made, changed and
    removed, which images go from what to what, and which workloads get new pods.
options:
  _input:
    description: What was found, by name of the set; the fact C(platform_drift).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: What is going to happen
  ansible.builtin.debug:
    msg: "{{ platform_drift | progressive.platform.upgrade_plan }}"
  # ["agents: 1 changed; image Deployment/mca from agent:5.0.0 to agent:5.1.0; new pods for Deployment/mca", "app: nothing"]
"""

RETURN = r"""
_value:
  description: One sentence a set, in the sets' order.
  type: list
  elements: str
"""

import typing as t
from collections.abc import Callable, Mapping

TEMPLATE = "spec.template."
WORDS = {"missing": "made", "changed": "changed", "added": "removed", "ownership": "taken back", "refused": "refused"}


def upgrade_plan(sets: Mapping[str, t.Any]) -> list[str]:
    return [f"{name}: {'; '.join(_steps(found)) or 'nothing'}" for name, found in sets.items()]


def _steps(found: Mapping[str, t.Any]) -> list[str]:
    objects = found.get("objects") or []
    count = {kind: sum(item["drift"] == kind for item in objects) for kind in WORDS}
    count["refused"] = len(found.get("refused") or [])
    steps = [", ".join(f"{number} {WORDS[kind]}" for kind, number in count.items() if number)]
    restarted = []
    for item in objects:
        whom = f"{item['kind']}/{item['name']}"
        for field in item.get("fields") or []:
            if field["path"].endswith(".image") and "found" in field and "wanted" in field:
                steps.append(f"image {whom} from {field['found']} to {field['wanted']}")
        made = item["drift"] == "missing" and item["kind"] in ("Deployment", "StatefulSet", "DaemonSet")
        if made or (item["drift"] == "changed" and any(field["path"].startswith(TEMPLATE) for field in item.get("fields") or [])):
            restarted.append(whom)
    steps += [f"refused: {said}" for said in found.get("refused") or []]
    if restarted:
        steps.append(f"new pods for {', '.join(restarted)}")
    return [step for step in steps if step]


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        return {"upgrade_plan": upgrade_plan}
