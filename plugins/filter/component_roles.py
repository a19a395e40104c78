# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: component_roles
short_description: Roles of the components that the tags ask for
version_added: 0.1.0
author:
  - The progressive.platform founders
description:
  - Every component is a tag, though the playbooks loop over all of them; this picks the components that C(--tags) and C(--skip-tags) leave.
  - Tags that leave nothing are an error, so that a typing mistake does not look like success.
positional: _input, tags, skip
options:
  _input:
    description: Names of the components, as in C(platform_components).
    type: list
    elements: str
    required: true
  tags:
    description: The tags that were asked for, C(ansible_run_tags).
    type: list
    elements: str
    default: [all]
  skip:
    description: The tags that are left out, C(ansible_skip_tags).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Which roles this run looks at
  ansible.builtin.debug:
    msg: "{{ platform_components | progressive.platform.component_roles(ansible_run_tags, ansible_skip_tags) }}"
"""

RETURN = r"""
_value:
  description: Full names of the roles, in the components' order.
  type: list
  elements: str
"""

import typing as t
from collections.abc import Callable, Iterable

from ansible.errors import AnsibleFilterError

EVERYTHING = {"all", "always", "tagged", "untagged"}


def component_roles(components: Iterable[str], tags: Iterable[str] = ("all",), skip: Iterable[str] = ()) -> list[str]:
    components, wanted, unwanted = list(components), set(tags), set(skip)
    chosen = [name for name in components if (wanted & EVERYTHING or name in wanted) and name not in unwanted]
    if components and not chosen:
        raise AnsibleFilterError(f"tags {', '.join(sorted(wanted))} leave no component; the components are {', '.join(components)}")
    return [name if "." in name else f"progressive.platform.{name}" for name in chosen]


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        return {"component_roles": component_roles}
