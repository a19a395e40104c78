#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: duration
short_description: Remember how long a component took
version_added: 0.2.0
author:
  - The progressive.platform founders (@progressive-platform)
description:
  - Keeps in a file how long each component's upgrade took, so that P(progressive.platform.upgrade_plan#filter) can say how long the next one will.
  - A beginning that never became done (the run was killed) is forgotten when the component is begun again.
  - Talks to no server.
extends_documentation_fragment:
  - progressive.platform.attributes
options:
  path:
    description: The file. It is made if need be.
    type: path
    required: true
  component:
    description: Which component. Required with O(state=begun) and O(state=done).
    type: str
  state:
    description:
      - V(begun) and V(done) stand around the work.
      - V(known) only reads.
    type: str
    choices: [known, begun, done]
    default: known
  work:
    description: What there was to do. Times are compared only with those of the same work.
    type: str
    choices: [nothing, fields, pods]
    default: pods
attributes:
  action_group: {}
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: none
"""

EXAMPLES = r"""
- name: The clock runs
  progressive.platform.duration:
    path: reports/production/durations.json
    component: agents
    state: begun

- name: It took so long
  progressive.platform.duration:
    path: reports/production/durations.json
    component: agents
    state: done
    work: pods
"""

RETURN = r"""
durations:
  description: What the file holds.
  returned: always
  type: dict
  sample: {agents: {runs: [{seconds: 41.2, work: pods, at: "2026-11-26T18:02:11+00:00"}]}}
seconds:
  description: How long it took, with O(state=done); nothing where it was not begun.
  returned: always
  type: float
"""

from ansible_collections.progressive.platform.plugins.module_utils._kube.durations import ARGUMENTS, CONSTRAINTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run, **CONSTRAINTS)


if __name__ == "__main__":
    main()
