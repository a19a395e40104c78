# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: image_references
short_description: References of all images of a catalog
version_added: 0.1.0
author:
  - The progressive.platform founders
description:
  - Makes one reference an image, C(registry/repository:tag@digest), of the parts that are there.
positional: _input, registry, replaced, digests
options:
  _input:
    description: The catalog; images by name, each with C(repository), C(tag) and, when pinned, C(digest).
    type: dict
    required: true
  registry:
    description: Registry, with a path, that is put in front; empty for none.
    type: str
    default: ""
  replaced:
    description: Whole references by name, that replace those of the catalog.
    type: dict
    default: {}
  digests:
    description: Digests by what an image is called without the registry (C(redis:7.2.11)), for references that have none.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Where Redis comes from
  ansible.builtin.debug:
    msg: "{{ {'redis': {'repository': 'redis', 'tag': '7.2.11'}} | progressive.platform.image_references('mirror.example.com/hub') }}"
  # {"redis": "mirror.example.com/hub/redis:7.2.11"}
"""

RETURN = r"""
_value:
  description: Reference of every image by name.
  type: dict
"""

import typing as t
from collections.abc import Callable, Mapping

from ansible_collections.progressive.platform.plugins.module_utils._mirror.reference import pinned


def image_references(
    catalog: Mapping[str, Mapping[str, str]],
    registry: str = "",
    replaced: Mapping[str, str] | None = None,
    digests: Mapping[str, str] | None = None,
) -> dict[str, str]:
    prefix = f"{registry.rstrip('/')}/" if registry else ""
    references = {}
    for name, image in catalog.items():
        tag = f":{image['tag']}" if image.get("tag") else ""
        digest = f"@{image['digest']}" if image.get("digest") else ""
        references[name] = f"{prefix}{image['repository']}{tag}{digest}"
    return {name: pinned(reference, registry, digests or {}) for name, reference in {**references, **(replaced or {})}.items()}


class FilterModule:
    """Filters of the collection."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        return {"image_references": image_references}
