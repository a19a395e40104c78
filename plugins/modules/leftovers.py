#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: leftovers
short_description: Prove that nothing is left of sets that were removed
version_added: 0.2.0
author:
  - progressive.platform contributors (@progressive-platform)
description:
  - Looks at every kind of object that the API server has for members of the sets, and fails when there are any.
  - With the set C(baseline), which makes the namespace, also for what modules of this collection and StatefulSets made in that namespace.
  - What is still being deleted is named with its finalizers and who put them there. None is ever removed by force.
  - Volumes that were kept are reported apart, with the passwords and records that belong to them.
  - Asks for metadata only, so no value of a Secret is read. Changes nothing.
extends_documentation_fragment:
  - progressive.platform.kubernetes
  - progressive.platform.attributes
options:
  sets:
    description: Names of the sets, as O(progressive.platform.apply#module:set).
    type: list
    elements: str
    required: true
  namespace:
    description: Namespace of the sets' parents. Without it that of the kubeconfig's context.
    type: str
  fail:
    description: Whether something that is left is a failure.
    type: bool
    default: true
attributes:
  action_group: {}
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
seealso:
  - module: progressive.platform.apply
"""

EXAMPLES = r"""
- name: Nothing is left
  progressive.platform.leftovers:
    sets: [agents, app, redis-cluster, baseline]
    namespace: progressive-framework-prod
"""

RETURN = r"""
left:
  description: What is there though it should not be, and why.
  returned: always
  type: list
  elements: dict
  sample: [{apiVersion: v1, kind: ConfigMap, namespace: shop, name: held, why: "is being deleted (finalizers: example.org/guard)"}]
kept:
  description: Volumes, and what was kept with them.
  returned: always
  type: list
  elements: dict
missing:
  description: Kinds that could not be listed.
  returned: always
  type: list
  elements: str
"""

from ansible_collections.progressive.platform.plugins.module_utils._kube.leftovers import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run)


if __name__ == "__main__":
    main()
