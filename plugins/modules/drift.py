#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: drift
short_description: Report what the cluster has otherwise than the inventory wants it
version_added: 0.2.0
author:
  - progressive.platform contributors (@progressive-platform)
description:
  - Makes one report of what M(progressive.platform.apply) found with O(progressive.platform.apply#module:state=compared), and fails when something drifted.
  - An object is C(missing), C(changed), C(added) (a member of a set that the set no longer names), of foreign C(ownership) (as wanted,
    but held by others, so that the next apply would refuse it), C(foreign) (others put fields beside ours), or C(refused) by the server.
  - Every field is named with its owners as the server's own book has them (C(metadata.managedFields)).
  - Talks to no server and holds no secret. Values of Secrets, and what looks like a secret elsewhere, are hidden.
  - Runs on the controller whatever the connection.
extends_documentation_fragment:
  - progressive.platform.attributes
options:
  sets:
    description: What was found, by name of the set; the fact C(platform_drift).
    type: dict
    required: true
  cluster:
    description: Name of the cluster in the report. Without it the inventory's name of the host.
    type: str
    default: cluster
  reports_dir:
    description: Folder in which C(drift.json) is written. Without it no file is written.
    type: path
  ignore_managers:
    description: Field managers whose fields beside ours do not count, as patterns of a shell. Kubernetes' own controllers never count.
    type: list
    elements: str
    default: []
  ignore_fields:
    description: Fields beside ours that do not count, as patterns of a shell over paths as they are reported.
    type: list
    elements: str
    default: []
  fail:
    description: Whether drift is a failure, so that C(ansible-playbook) ends with a code that is not 0.
    type: bool
    default: true
attributes:
  action_group: {}
  check_mode:
    support: full
    details: Nothing but the report is written, and that in check mode too.
  diff_mode:
    support: none
  idempotent:
    support: full
seealso:
  - module: progressive.platform.apply
"""

EXAMPLES = r"""
- name: One report of all comparisons of this play
  progressive.platform.drift:
    sets: "{{ platform_drift }}"
    reports_dir: "{{ platform_reports_dir }}"

- name: Only look
  progressive.platform.drift:
    sets: "{{ platform_drift }}"
    ignore_managers: [linkerd-*]
    fail: false
"""

RETURN = r"""
ok:
  description: Whether nothing drifted.
  returned: always
  type: bool
count:
  description: How many objects drifted, by kind of drift.
  returned: always
  type: dict
  sample: {missing: 1, changed: 2, added: 0, ownership: 0, foreign: 0, refused: 0}
compared:
  description: How many objects were looked at.
  returned: always
  type: int
drifted:
  description: Names of the sets in which something drifted.
  returned: always
  type: list
  elements: str
objects:
  description: What drifted.
  returned: always
  type: list
  elements: dict
  sample:
    - set: app
      apiVersion: apps/v1
      kind: Deployment
      namespace: shop
      name: web
      drift: changed
      fields:
        - path: spec.template.spec.containers[name=web].image
          found: web:2
          wanted: web:1
          owners: [{manager: kubectl-edit, operation: Update, time: "2026-11-26T17:00:00Z"}]
      foreign: []
report:
  description: Path of the report.
  returned: O(reports_dir) is given
  type: str
"""

from ansible_collections.progressive.platform.plugins.module_utils._kube.drift_report import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run)


if __name__ == "__main__":
    main()
