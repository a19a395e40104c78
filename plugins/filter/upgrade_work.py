# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: upgrade_work
short_description: What an upgrade has to do for one set
version_added: 0.2.0
author:
  - The progressive.platform founders
description:
  - Says of one set that M(progressive.platform.apply) compared whether nothing is to do, only fields change, or pods are replaced, which is by what
    M(progressive.platform.duration) tells runs apart.
options:
  _input:
    description: What was found, an entry of the fact C(platform_drift).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: What there is to do for the agents
  ansible.builtin.debug:
    msg: "{{ platform_drift['agents'] | progressive.platform.upgrade_work }}"
"""

RETURN = r"""
_value:
  description: C(pods), C(fields) or C(nothing).
  type: str
"""

import typing as t
from collections.abc import Callable

from ansible_collections.progressive.platform.plugins.plugin_utils._upgrade import work_of


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        return {"upgrade_work": work_of}
