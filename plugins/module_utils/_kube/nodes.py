# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a node says of itself (private: may change without notice)."""

from __future__ import annotations

import typing as t

from ansible_collections.progressive.platform.plugins.module_utils._kube.readiness import conditions

PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")


def condition_problems(node: dict[str, t.Any]) -> list[str]:
    """What is wrong with a node by its conditions: it is not ready, or under a pressure that keeps pods away."""
    name, found = node["metadata"]["name"], conditions(node)
    ready = found.get("Ready")
    if ready is None:
        return [f"node {name} reports no Ready condition"]
    if ready["status"] != "True":
        return [f"node {name} is NotReady: {ready.get('reason', '')}: {ready.get('message', '')}".rstrip(": ")]
    return [
        f"node {name} has {kind}: {found[kind].get('message', '')}".rstrip(": ")
        for kind in PRESSURES
        if found.get(kind, {}).get("status") == "True"
    ]
