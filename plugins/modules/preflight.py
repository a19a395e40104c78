#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Refuse a wrong inventory before the first change
version_added: 0.1.0
author:
  - The progressive.platform founders (@progressive-platform)
description:
  - Looks at all variables of the named roles (names, types, meaning, and whether they fit together), then asks the cluster what it offers
    (version, rights, StorageClasses, nodes of the pools, zones, sizes).
  - Returns everything that is wrong at once, each with the variable's full name, what was seen, what is allowed, and what to do.
  - Where the mesh is a part of the platform, what would be sent is rendered and held to our own rules and to C(istioctl analyze), if istioctl is on
    this machine already; each of its codes comes with a remedy.
  - Reads only, and takes less than ten seconds, even when nothing answers.
  - Values that look like secrets are never shown.
extends_documentation_fragment:
  - progressive.platform.kubernetes
  - progressive.platform.attributes
options:
  roles:
    description: Roles to look at, with their dependencies; C(role) of this collection, or C(namespace.collection.role).
    type: list
    elements: str
    required: true
  server:
    description: Whether the cluster is asked too; without it only the variables are looked at.
    type: bool
    default: true
  analysis:
    description:
      - When the documents of a mesh (roles V(istio) and V(gateway)) are looked at, those of the whole platform.
      - V(changed) reads what was found before from a file while variables, templates and istioctl are what they were.
    type: str
    choices: [changed, always, never]
    default: changed
  stored:
    description:
      - Whether it is also looked at what was sent in API versions that the cluster, or its next minor version, does not serve. The API server's own count
        of such requests (its metrics), the C(managedFields) of objects in the platform's namespace, and the stored versions of definitions.
      - In which version etcd holds an object of Kubernetes' own kinds cannot be seen from outside.
    type: bool
    default: false
  findings:
    description: What was found in the variables. Filled in by the action plugin, which alone sees them.
    type: list
    elements: dict
    default: []
  needs:
    description: What the roles need from the cluster. Filled in by the action plugin.
    type: dict
    default: {}
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
- name: Everything that is wrong, before the first change
  progressive.platform.preflight:
    roles: "{{ platform_components }}"

- name: Only the variables of one role
  progressive.platform.preflight:
    roles: [redis_cluster]
    server: false
"""

RETURN = r"""
findings:
  description: What is wrong, warnings included.
  returned: always
  type: list
  elements: dict
  contains:
    variable:
      description: Full name of the variable.
      type: str
    seen:
      description: What it is.
      type: str
    allowed:
      description: What it may be.
      type: str
    remedy:
      description: What to do.
      type: str
    warning:
      description: Whether the run may go on nevertheless.
      type: bool
  sample:
    - variable: redis_cluster_masters
      seen: "2"
      allowed: 3 to 1000
      remedy: Correct redis_cluster_masters in the inventory.
      warning: false
roles:
  description: The roles that were looked at.
  returned: always
  type: list
  elements: str
server_version:
  description: Version of the API server, empty when it was not asked.
  returned: always
  type: str
  sample: v1.36.3
"""

from ansible_collections.progressive.platform.plugins.module_utils._preflight.preflight import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run)


if __name__ == "__main__":
    main()
