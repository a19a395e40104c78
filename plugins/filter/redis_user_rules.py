# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: redis_user_rules
short_description: The users of a Redis Cluster with their rules
version_added: 0.2.0
author:
  - The progressive.platform founders
description:
  - Adds to further users those that every cluster has (see M(progressive.platform.redis_users)), which it may give other rules.
positional: _input
options:
  _input:
    description: Rules by user name; empty rules mean those the user has anyway.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Everybody who may log in
  ansible.builtin.debug:
    msg: "{{ {'reports': '~orders:* -@all +@read'} | progressive.platform.redis_user_rules }}"
"""

RETURN = r"""
_value:
  description: Rules by user name, without passwords.
  type: dict
"""

import typing as t
from collections.abc import Callable, Mapping

from ansible.errors import AnsibleFilterError
from ansible_collections.progressive.platform.plugins.module_utils._redis.users import file_lines
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError


def redis_user_rules(users: t.Any) -> dict[str, str]:
    if not isinstance(users, Mapping):
        raise AnsibleFilterError(f"redis_user_rules takes a mapping of users, not {type(users).__name__}")
    try:
        return file_lines(users)
    except PlatformError as error:
        raise AnsibleFilterError(error.message) from error


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        return {"redis_user_rules": redis_user_rules}
