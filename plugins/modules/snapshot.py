#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: snapshot
short_description: Keep what is applied now, to be able to apply it again
version_added: 0.2.0
author:
  - progressive.platform contributors (@progressive-platform)
description:
  - Writes the members of sets as they were applied, which their C(metadata.managedFields) tell, one file a set, for
    O(progressive.platform.apply#module:files). Neither the release of the collection nor the inventory that made them is needed for that.
  - A snapshot is open until what it was taken for is done. An open one is not taken anew but gone on with (RV(resumed)), so that after a kill it still holds
    what was there before, and not what the killed run had half done.
  - A snapshot of another cluster is refused.
  - Holds manifests only. Data, and Secrets that other modules generate, are not in it; Secrets that are members of a set are, so its files are readable
    by their owner only.
extends_documentation_fragment:
  - progressive.platform.kubernetes
  - progressive.platform.attributes
options:
  sets:
    description: Names of the sets, as O(progressive.platform.apply#module:set). Those that do not exist are left out.
    type: list
    elements: str
    default: []
  namespace:
    description: Namespace of the sets' parents. Without it that of the kubeconfig's context.
    type: str
  path:
    description: Folder of the snapshot. A closed one that is there is kept beside it, as C(<path>.former).
    type: path
    required: true
  state:
    description:
      - V(present) takes it, or finds the open one.
      - V(checked) only makes sure that it is whole and of this cluster.
      - V(closed) says that what it was taken for is done.
    type: str
    choices: [present, checked, closed]
    default: present
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
- name: Before something changes
  progressive.platform.snapshot:
    sets: [agents, app]
    namespace: progressive-framework-prod
    path: reports/production/snapshot

- name: Back to what was there
  progressive.platform.apply:
    set: agents
    namespace: progressive-framework-prod
    files: [reports/production/snapshot/agents.json]
    force: true
    wait: true
"""

RETURN = r"""
resumed:
  description: Whether an open snapshot was found, so that nothing was taken.
  returned: always
  type: bool
sets:
  description: The sets that it holds.
  returned: always
  type: list
  elements: str
cluster:
  description: The uid of the cluster's namespace C(kube-system).
  returned: always
  type: str
time:
  description: When it was taken.
  returned: always
  type: str
"""

from ansible_collections.progressive.platform.plugins.module_utils._kube.snapshot import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run)


if __name__ == "__main__":
    main()
