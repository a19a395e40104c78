#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bill
short_description: List every image and every file of upstream that a platform needs
version_added: 0.2.0
author:
  - progressive.platform contributors (@progressive-platform)
description:
  - Reads rendered manifests and writes one list of the images that pods are made of, with their digests, and of the files of upstream, with
    their checksums; what a mirror has to hold before a platform is installed where nothing else is reached.
  - Lists of several inventories become one, with the clusters that need each entry; a cluster's own entries are replaced.
  - Talks to no server, and runs on the controller whatever the connection.
extends_documentation_fragment:
  - progressive.platform.attributes
options:
  rendered:
    description: Folder of the rendered manifests, one file a component.
    type: path
    required: true
  dest:
    description: The list, a JSON file. One that is there is merged with.
    type: path
    required: true
  cluster:
    description: Whose manifests these are.
    type: str
    default: cluster
  registry:
    description: The registry, with its path, that the platform pulls from, C(platform_registry); what an image is called without it is its C(origin).
    type: str
    default: ""
  roles:
    description:
      - Roles of the platform's components. Only their manifests are read, so that those of an earlier render do not count, and only files
        of upstream that one of them uses are listed.
    type: list
    elements: str
    default: []
  images:
    description: References of images by name, C(platform_image_references); they are also looked for outside of containers.
    type: dict
    default: {}
  catalog:
    description: Digest and licence of images by name, C(catalog_images).
    type: dict
    default: {}
  files:
    description: Files of upstream by name, as C(catalog_sources) and C(platform_sources) have them.
    type: dict
    default: {}
  complete:
    description: Whether an image without digest or a file without checksum is a failure.
    type: bool
    default: false
attributes:
  action_group: {}
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: What this inventory needs
  progressive.platform.bill:
    rendered: "{{ platform_render_dir }}"
    dest: rendered/bill.json
    cluster: "{{ platform_name }}"
    registry: "{{ platform_registry }}"
    roles: "{{ platform_components }}"
    images: "{{ platform_image_references }}"
    catalog: "{{ catalog_images }}"
    files: "{{ catalog_sources | progressive.platform.source_files('', platform_sources) }}"
"""

RETURN = r"""
images:
  description: The images.
  returned: always
  type: list
  elements: dict
  sample:
    - reference: registry.example.com/team/redis:7.2.11-alpine
      origin: redis:7.2.11-alpine
      name: redis
      digest: ""
      licence: BSD-3-Clause
      components: [redis_cluster]
files:
  description: The files of upstream.
  returned: always
  type: list
  elements: dict
incomplete:
  description: What has no digest or no checksum.
  returned: always
  type: list
  elements: str
dest:
  description: The list.
  returned: always
  type: str
"""

from ansible_collections.progressive.platform.plugins.module_utils._kube.bill import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run)


if __name__ == "__main__":
    main()
