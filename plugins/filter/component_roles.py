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
positional: _input, tags, skip, verb
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
  verb:
    description: Only components whose role has this task file, for what not every component can do (C(backup), C(rotate)).
    type: str
"""

EXAMPLES = r"""
- name: Which roles this run looks at
  ansible.builtin.debug:
    msg: "{{ platform_components | progressive.platform.component_roles(ansible_run_tags, ansible_skip_tags) }}"

- name: Which of them can be backed up
  ansible.builtin.debug:
    msg: "{{ platform_components | progressive.platform.component_roles(ansible_run_tags, ansible_skip_tags, 'backup') }}"
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
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.plugins.plugin_utils._roles import role_path

EVERYTHING = {"all", "always", "tagged", "untagged"}


def component_roles(components: Iterable[str], tags: Iterable[str] = ("all",), skip: Iterable[str] = (), verb: str = "") -> list[str]:
    components = [name for name in components if not verb or has_verb(name, verb)]
    wanted, unwanted = set(tags), set(skip)
    chosen = [name for name in components if (wanted & EVERYTHING or name in wanted) and name not in unwanted]
    if components and not chosen:
        raise AnsibleFilterError(f"tags {', '.join(sorted(wanted))} leave no component; the components are {', '.join(components)}")
    return [name if "." in name else f"progressive.platform.{name}" for name in chosen]


def has_verb(name: str, verb: str) -> bool:
    try:
        return (role_path(name) / "tasks" / f"{verb}.yml").is_file()
    except PlatformError as error:
        raise AnsibleFilterError(error.message) from error


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        return {"component_roles": component_roles}
