#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: istio_upgrade
short_description: Move a mesh to another revision of its control plane while it serves
version_added: 0.2.0
description:
  - Waits until the control plane of O(revision) is ready, points the revision tag and the default validation at it, and restarts the workloads of the
    O(namespaces) one namespace after the other. Every pod of one must be ready, of the revision and in step with its control plane before the next.
  - What is not so within O(wait_timeout), or a rollout that fails, turns it back.
    The tag points at the former revision again, what was restarted is restarted, and the task fails and says why.
  - Nothing is remembered but the former revision, on the tag's webhook. A run that was killed is gone on with by the next one.
  - It makes and removes no control plane; M(progressive.platform.apply) does.
author:
  - The progressive.platform founders (@progressive-platform)
extends_documentation_fragment:
  - progressive.platform.kubernetes
  - progressive.platform.attributes
options:
  state:
    description:
      - V(present) moves the mesh.
      - V(checked) changes nothing, and fails when the tag leads to the running control plane of another revision, unless this is an O(upgrade);
        then when it is more than one minor version away.
    type: str
    choices: [checked, present]
    default: present
  revision:
    description: Revision that is wanted.
    type: str
    required: true
  version:
    description: Version of Istio that the revision is of, for O(state=checked).
    type: str
    default: ""
  tag:
    description: Revision tag that the namespaces follow (C(istio.io/rev)).
    type: str
    required: true
  namespace:
    description: Namespace of the control planes.
    type: str
    default: istio-system
  namespaces:
    description: Namespaces of the mesh, in the order they are restarted.
    type: list
    elements: str
    default: []
  upgrade:
    description: Whether another revision than the tag's may follow, for O(state=checked).
    type: bool
    default: false
  mode:
    description: How pods are in the mesh. In an V(ambient) one those of gateways and waypoints alone have a revision; the others are not restarted.
    type: str
    choices: [sidecar, ambient]
    default: sidecar
  wait_timeout:
    description: Longest time for the control plane, and for each namespace, in seconds.
    type: float
    default: 300.0
attributes:
  action_group: {}
  check_mode:
    support: full
    details: Looks once, and returns what would be done first.
  diff_mode:
    support: none
  idempotent:
    support: full
seealso:
  - module: progressive.platform.istio_manifest
"""

EXAMPLES = r"""
- name: Everything to the new revision
  progressive.platform.istio_upgrade:
    revision: 1-31-1
    tag: prod
    namespaces: [shop, shop-agents]
"""

RETURN = r"""
from:
  description: Revision that the tag had.
  returned: always
  type: str
to:
  description: Revision that the tag has.
  returned: always
  type: str
restarted:
  description: Workloads that were restarted.
  returned: when O(state=present)
  type: list
  elements: str
rolled_back:
  description: Whether it went back.
  returned: when O(state=present), not in check mode
  type: bool
version:
  description: What the control plane in use says it is.
  returned: when O(state=checked) finds another revision
  type: str
planes:
  description: Revisions whose control planes are there.
  returned: when O(state=checked)
  type: list
  elements: str
next:
  description: What would be done first.
  returned: in check mode
  type: str
"""

from ansible_collections.progressive.platform.plugins.module_utils._istio.upgrade import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run)


if __name__ == "__main__":
    main()
