# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: quantity
short_description: A Kubernetes quantity as a whole number
version_added: 0.1.0
author:
  - The progressive.platform founders
description:
  - Turns C(512Mi) into bytes; fractions are rounded down.
  - With O(percent), that share of it.
positional: _input, percent
options:
  _input:
    description: The quantity.
    type: str
    required: true
  percent:
    description: Share of the quantity that is wanted.
    type: int
    default: 100
"""

EXAMPLES = r"""
- name: Seventy percent of a memory limit, in bytes
  ansible.builtin.debug:
    msg: "{{ '1Gi' | progressive.platform.quantity(70) }}"
  # 751619276
"""

RETURN = r"""
_value:
  description: The number.
  type: int
"""

import typing as t
from collections.abc import Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.progressive.platform.plugins.module_utils._preflight.quantities import quantity as parse


def quantity(text: t.Any, percent: int = 100) -> int:
    try:
        return int(parse(text) * int(percent) / 100)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        return {"quantity": quantity}
