# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: pool_placement
short_description: Node affinity and tolerations of pods that may run in some node pools
version_added: 0.1.0
author:
  - The progressive.platform founders
description:
  - A pod may run on a node that has all labels of one of its pools; it tolerates the taints of all of them.
  - A pool without labels means any node.
positional: _input, pools
options:
  _input:
    description: Names of the pools the pods may run in.
    type: list
    elements: str
    required: true
  pools:
    description: All pools by name, each with C(labels) and C(taints).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Where a database may run
  ansible.builtin.debug:
    msg: "{{ ['database'] | progressive.platform.pool_placement(platform_pools) }}"
"""

RETURN = r"""
_value:
  description: C(node_affinity) and C(tolerations), as a pod's specification wants them; the affinity is empty where any node will do.
  type: dict
"""

import typing as t
from collections.abc import Callable, Iterable, Mapping

from ansible.errors import AnsibleFilterError


def pool_placement(names: Iterable[str], pools: Mapping[str, Mapping[str, t.Any]]) -> dict[str, t.Any]:
    names = list(names)
    if unknown := [name for name in names if name not in pools]:
        raise AnsibleFilterError(f"no node pool is called {', '.join(unknown)}; platform_pools has {', '.join(pools)}")
    labels = [pools[name].get("labels") or {} for name in names]
    terms = [
        {"matchExpressions": [{"key": key, "operator": "In", "values": [value]} for key, value in wanted.items()]} for wanted in labels
    ]
    anywhere = not terms or not all(labels)
    tolerations = [
        {"key": taint["key"], "operator": "Equal", "value": taint.get("value", ""), "effect": taint["effect"]}
        for name in names
        for taint in pools[name].get("taints") or []
    ]
    return {
        "node_affinity": {} if anywhere else {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}},
        "tolerations": tolerations,
    }


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        return {"pool_placement": pool_placement}
