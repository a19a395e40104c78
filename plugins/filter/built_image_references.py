# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t
from collections.abc import Iterable, Mapping
from pathlib import Path

from ansible.errors import AnsibleFilterError
from ansible_collections.progressive.platform.plugins.module_utils._images.definition import LOCAL_REGISTRY, SOURCE, make_bases, make_images
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

DOCUMENTATION = r"""
name: built_image_references
short_description: References of the images that role images builds, known without building them
version_added: 0.1.0
author:
  - The progressive.platform founders
description:
  - An image's tag is a hash of what it is made from, so that an inventory can name images before they are built.
  - With the same options the module M(progressive.platform.image_build) builds the images of these names.
options:
  _input:
    description: Base images by name, as O(progressive.platform.image_build#module:bases).
    type: dict
    required: true
  registry:
    description: Registry and path the images are named by.
    type: str
    default: localhost/progressive
  revision:
    description: As O(progressive.platform.image_build#module:revision).
    type: int
    default: 1
  platforms:
    description: As O(progressive.platform.image_build#module:platforms).
    type: list
    elements: str
    default: []
  source:
    description: Folder with C(images.yml). The collection's own by default.
    type: path
"""

EXAMPLES = r"""
- name: Let the platform use what is built here
  ansible.builtin.set_fact:
    platform_images: "{{ images_bases | progressive.platform.built_image_references(revision=2) }}"
"""

RETURN = r"""
_value:
  description: Reference of each image by name.
  type: dict
  sample:
    app: localhost/progressive/app:0.1.0-0f3b2c4d5e6a
"""


# A task asks a dozen times, a template's variables each time anew, and sources stay what they are while it runs.
_KNOWN: dict[str, dict[str, str]] = {}


def built_image_references(
    bases: Mapping[str, t.Any], registry: str = LOCAL_REGISTRY, revision: int = 1, source: str = "", platforms: Iterable[str] = ()
) -> dict[str, str]:
    platforms = sorted(platforms)
    given = json.dumps([bases, registry, revision, str(source or SOURCE), platforms], sort_keys=True, default=str)
    if given not in _KNOWN:
        try:
            images = make_images(
                Path(source) if source else SOURCE, make_bases(bases, revision), registry=registry, revision=revision, platforms=platforms
            )
        except PlatformError as error:
            raise AnsibleFilterError(error.message) from error
        _KNOWN[given] = {name: image.reference for name, image in images.items()}
    return dict(_KNOWN[given])


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, t.Any]:
        return {"built_image_references": built_image_references}
