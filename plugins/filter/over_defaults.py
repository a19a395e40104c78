# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: over_defaults
short_description: Merge every item of a dictionary over common defaults
version_added: 0.1.0
author:
  - The progressive.platform founders
description:
  - Gives each item of a dictionary what it does not say itself, from one or more layers of defaults.
    Later layers win, the item wins over all.
  - Dictionaries are merged at every depth; lists and scalars are replaced.
  - Null replaces whatever is below it, which switches an option off.
  - C({name}) in a string of the defaults becomes the item's key. Strings of the items themselves are left alone.
  - An item that is null is left out.
positional: _input, layers
options:
  _input:
    description: Items by name.
    type: dict
    required: true
  layers:
    description: Layers of defaults, the most general first; given as positional arguments.
    type: list
    elements: dict
"""

EXAMPLES = r"""
- name: Two agents, one with its own maximum
  ansible.builtin.debug:
    msg: "{{ {'npa': {}, 'wpa': {'max': 9}} | progressive.platform.over_defaults({'service': '{name}-service', 'max': 5}) }}"
  # {"npa": {"service": "npa-service", "max": 5}, "wpa": {"service": "wpa-service", "max": 9}}
"""

RETURN = r"""
_value:
  description: The items, each complete.
  type: dict
"""

import typing as t
from collections.abc import Callable, Mapping

from ansible.errors import AnsibleFilterError


def over_defaults(items: t.Any, *layers: t.Any) -> dict[str, t.Any]:
    for given in (items, *layers):
        if not isinstance(given, Mapping):
            raise AnsibleFilterError(f"over_defaults wants dictionaries, not {type(given).__name__}: {given!r}")
    # Merged once, into plain dictionaries: Ansible's own look at each value for a template anew, and there may be a hundred items.
    below: t.Any = {}
    for layer in layers:
        below = _merge(below, _plain(layer))
    return {name: _merge(_named(below, str(name)), item) for name, item in items.items() if item is not None}


def _plain(value: t.Any) -> t.Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _merge(below: t.Any, above: t.Any) -> t.Any:
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return above
    return {**below, **{key: _merge(below.get(key), value) for key, value in above.items()}}


def _named(value: t.Any, name: str) -> t.Any:
    if isinstance(value, str):
        return value.replace("{name}", name)
    if isinstance(value, Mapping):
        return {key: _named(inner, name) for key, inner in value.items()}
    if isinstance(value, list):
        return [_named(inner, name) for inner in value]
    return value


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        return {"over_defaults": over_defaults}
