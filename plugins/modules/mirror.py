#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mirror
short_description: Fill a registry and a folder of files with what a bill lists, or carry it over in one archive
version_added: 0.2.0
author:
  - progressive.platform contributors (@progressive-platform)
description:
  - Copies the images and the files of upstream that M(progressive.platform.bill) has listed, images with all their platforms and byte for byte, so that their
    digests stay.
  - What is there with the right digest is not copied again. A run that was killed goes on where it stopped.
  - An image that has no digest in the bill, and one that the mirror has otherwise, are refused by name before anything is copied.
  - Images are copied by skopeo, which is installed with apt where it is missing.
  - Runs on the controller whatever the connection.
extends_documentation_fragment:
  - progressive.platform.attributes
  - progressive.platform.registries
options:
  state:
    description:
      - V(mirrored) copies from where images and files are published to O(registry) and O(files).
      - V(exported) writes O(archive), an OCI image layout in a tar with the files beside the images. A former one that is there is taken from.
      - V(imported) copies from O(archive) to O(registry) and O(files). All of it is checked before the first push.
    type: str
    choices: [mirrored, exported, imported]
    default: mirrored
  bill:
    description: What is needed, a JSON file of M(progressive.platform.bill). With O(state=imported) an archive that lacks some of it is refused.
    type: path
  registry:
    description: Registry, with a path, that images are copied to, C(platform_registry) of the inventory. Empty copies no images.
    type: str
    default: ""
  files:
    description: Folder that files are copied to, each as C(sha256/name); C(platform_file_mirror) names it or its web server. Without it none are copied.
    type: path
  archive:
    description: The archive.
    type: path
  tls_verify:
    description: Whether the certificate of O(registry) is verified.
    type: bool
    default: true
  cache:
    description: Folder of what is on its way to or from an archive, C(${XDG_CACHE_HOME:-~/.cache}/progressive-platform/mirror) by default.
    type: path
  copy_timeout:
    description: Longest time the copy of one image or file may take, in seconds.
    type: float
    default: 1800.0
attributes:
  action_group: {}
  check_mode:
    support: full
    details: Says what would be copied. The registries are asked, nothing is fetched.
  diff_mode:
    support: none
  idempotent:
    support: full
seealso:
  - module: progressive.platform.bill
  - module: progressive.platform.image_digests
"""

EXAMPLES = r"""
- name: Fill the mirror
  progressive.platform.mirror:
    bill: rendered/bill.json
    registry: registry.example.com/progressive
    files: /srv/mirror/files

- name: One archive to carry over
  progressive.platform.mirror:
    state: exported
    bill: rendered/bill.json
    archive: /media/disk/platform.tar

- name: On the other side
  progressive.platform.mirror:
    state: imported
    archive: /media/disk/platform.tar
    registry: registry.example.com/progressive
    files: /srv/mirror/files
    authfile: ~/.config/mirror/auth.json
"""

RETURN = r"""
images:
  description: Images that were copied, or would be in check mode.
  returned: success
  type: list
  elements: str
files:
  description: Files that were copied, or would be in check mode, as C(sha256/name).
  returned: success
  type: list
  elements: str
present:
  description: How many images and files were there already.
  returned: success
  type: int
local:
  description: Images of the bill that exist on one machine only (C(localhost/...)), which no mirror can get.
  returned: success
  type: list
  elements: str
archive:
  description: The archive.
  returned: success
  type: str
"""

from ansible_collections.progressive.platform.plugins.module_utils._mirror.mirror import ARGUMENTS, CONSTRAINTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run, **CONSTRAINTS)


if __name__ == "__main__":
    main()
