# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: redis_directives
short_description: The directives of redis.conf that a running server takes, or those that take a restart
version_added: 0.2.0
author:
  - The progressive.platform founders
description:
  - Chooses from directives those that C(CONFIG SET) takes while the server runs, for option O(progressive.platform.redis_cluster#module:config).
  - With O(restart) those for which the server must be started anew, of which a pod template carries a checksum.
  - What is neither (C(cluster-node-timeout), passwords) has options of its own in M(progressive.platform.redis_cluster).
positional: _input, restart
options:
  _input:
    description: Directives by name.
    type: dict
    required: true
  restart:
    description: Whether those that take a restart are wanted.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: What can be set live
  ansible.builtin.debug:
    msg: "{{ {'maxmemory': '1gb', 'databases': 16} | progressive.platform.redis_directives }}"
  # {maxmemory: 1gb}

- name: What takes a restart
  ansible.builtin.debug:
    msg: "{{ {'maxmemory': '1gb', 'databases': 16} | progressive.platform.redis_directives(restart=true) }}"
  # {databases: 16}
"""

RETURN = r"""
_value:
  description: The chosen directives with their values.
  type: dict
"""

import typing as t
from collections.abc import Callable, Mapping

from ansible.errors import AnsibleFilterError
from ansible_collections.progressive.platform.plugins.module_utils._redis.directives import split


def redis_directives(directives: t.Any, restart: bool = False) -> dict[str, t.Any]:
    if not isinstance(directives, Mapping):
        raise AnsibleFilterError(f"redis_directives takes a mapping of directives, not {type(directives).__name__}")
    return split(directives)[1 if restart else 0]


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        return {"redis_directives": redis_directives}
