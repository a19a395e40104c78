# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: upgrade_plan
short_description: What an upgrade is going to do, in words
version_added: 0.2.0
author:
  - The progressive.platform founders
description:
  - Reads what M(progressive.platform.apply) found with O(progressive.platform.apply#module:state=compared), set by set, and says what is made, changed and
    removed, which images go from what to what, which workloads get new pods, and how long it took before.
  - API versions that the cluster's version, or the next, does not serve are named at the end.
positional: _input, durations, version
options:
  _input:
    description: What was found, by name of the set; the fact C(platform_drift).
    type: dict
    required: true
  durations:
    description: How long earlier runs took, as M(progressive.platform.duration) returns it.
    type: dict
    default: {}
  version:
    description: The cluster's version, such as C(v1.36.3). Without it nothing is said about API versions.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: What is going to happen
  ansible.builtin.debug:
    msg: "{{ platform_drift | progressive.platform.upgrade_plan(__platform_timed.durations, __platform_preflight.server_version) }}"
  # ["1. agents: 1 changed; image Deployment/mca from agent:5.0.0 to agent:5.1.0; new pods for Deployment/mca; about 41 s",
  #  "2. app: nothing; about 3 s", "All of it: about 44 s"]
"""

RETURN = r"""
_value:
  description: One sentence a set, in the sets' order, then the time in all, then deprecated API versions.
  type: list
  elements: str
"""

import re
import typing as t
from collections.abc import Callable, Mapping

from ansible_collections.progressive.platform.plugins.module_utils._kube import deprecations
from ansible_collections.progressive.platform.plugins.module_utils._kube.durations import estimate
from ansible_collections.progressive.platform.plugins.plugin_utils._upgrade import steps, work_of


def upgrade_plan(sets: Mapping[str, t.Any], durations: Mapping[str, t.Any] | None = None, version: str = "") -> list[str]:
    plan, known, unknown = [], 0.0, []
    for number, (name, found) in enumerate(sets.items(), 1):
        seconds = estimate(durations or {}, name, work_of(found))
        known += seconds or 0.0
        unknown += [name] if seconds is None else []
        time = "time unknown: no earlier run did this" if seconds is None else f"about {_time(seconds)}"
        plan.append(f"{number}. {name}: {'; '.join(steps(found)) or 'nothing'}; {time}")
    if sets and len(unknown) < len(sets):
        plan.append(f"All of it: about {_time(known)}" + (f", and what nobody measured yet: {', '.join(unknown)}" if unknown else ""))
    minor = re.match(r"v?1\.(\d+)", version)
    uses = [use for found in sets.values() for use in deprecations.sent(found.get("deprecated") or [])]
    return plan + [verdict.sentence for verdict in deprecations.judged(uses, int(minor[1]) if minor else 0)]


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        return {"upgrade_plan": upgrade_plan}
