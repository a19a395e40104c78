# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: component_sets
short_description: Names of the sets that roles apply
version_added: 0.1.0
author:
  - The progressive.platform founders
description:
  - Each role of a component applies one set, called as the role, with dashes where Kubernetes wants them.
  - Role postgresql applies one for each cluster; a restored copy's has the cluster's name behind it.
positional: _input, postgresql
options:
  _input:
    description: Names of the roles.
    type: list
    elements: str
    required: true
  postgresql:
    description: Name of the PostgreSQL cluster that is meant.
    type: str
    default: postgres
"""

EXAMPLES = r"""
- name: What is waited for
  ansible.builtin.debug:
    msg: "{{ ['progressive.platform.redis_cluster'] | progressive.platform.component_sets }}"
  # ["redis-cluster"]
"""

RETURN = r"""
_value:
  description: Names for M(progressive.platform.wait).
  type: list
  elements: str
"""

import typing as t
from collections.abc import Callable, Iterable


def component_sets(roles: Iterable[str], postgresql: str = "postgres") -> list[str]:
    names = [role.rpartition(".")[2].replace("_", "-") for role in roles]
    return [f"{name}-{postgresql}" if name == "postgresql" and postgresql != "postgres" else name for name in names]


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        return {"component_sets": component_sets}
