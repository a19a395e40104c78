#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: image_digests
short_description: Ask for the digests of images and write them into an inventory
version_added: 0.2.0
author:
  - progressive.platform contributors (@progressive-platform)
description:
  - Asks the registries that images come from for the digest of each image that M(progressive.platform.bill) lists without one, and writes all of them
    into a file of variables.
  - Digests of the file are asked for again, so that a tag that has become another image is noticed; it is refused unless O(again).
  - Entries of images that no bill lists any more go. Runs on the controller whatever the connection.
extends_documentation_fragment:
  - progressive.platform.attributes
  - progressive.platform.registries
options:
  bill:
    description: What is needed, a JSON file of M(progressive.platform.bill).
    type: path
    required: true
  dest:
    description: File of variables, below an inventory's C(group_vars/all). It has no other variable than O(variable).
    type: path
    required: true
  variable:
    description: The variable, a dictionary of digests by what images are called without the platform's registry.
    type: str
    default: platform_image_digests
  again:
    description: Whether the digest of a tag that has become another image is replaced.
    type: bool
    default: false
attributes:
  action_group: {}
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
seealso:
  - module: progressive.platform.mirror
"""

EXAMPLES = r"""
- name: Pin what has no digest
  progressive.platform.image_digests:
    bill: rendered/bill.json
    dest: inventories/production/group_vars/all/digests.yml
    clusters: [production]
"""

RETURN = r"""
digests:
  description: All digests of the file.
  returned: success
  type: dict
  sample: {"redis:7.2.11-alpine": "sha256:0f3b..."}
found:
  description: Those that are new.
  returned: success
  type: dict
moved:
  description: Tags that are another image now than the file says, with its digest.
  returned: success
  type: dict
dest:
  description: The file.
  returned: success
  type: str
"""

from ansible_collections.progressive.platform.plugins.module_utils._mirror.digests import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run)


if __name__ == "__main__":
    main()
