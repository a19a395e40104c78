#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mongodb_replicaset_info
short_description: What a MongoDB replica set looks like, from every member's point of view
version_added: 0.2.0
description:
  - Asks every member once and reports what they say and whether they agree. Changes nothing.
  - Does not fail because members or the API server are down; RV(is_available), RV(errors) and RV(findings) say so.
author:
  - The progressive.platform founders (@progressive-platform)
extends_documentation_fragment:
  - progressive.platform.attributes
  - progressive.platform.kubernetes
  - progressive.platform.mongodb_members
  - progressive.platform.mongodb_login
  - progressive.platform.credentials
attributes:
  action_group:
    support: full
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  members:
    description: Number of members to compare with. Without it the number that is there.
    type: int
seealso:
  - module: progressive.platform.mongodb_replicaset
"""

EXAMPLES = r"""
- name: Look at the set
  progressive.platform.mongodb_replicaset_info:
    pods:
      namespace: progressive-data
      selector: app=mongodb
      domain: mongodb-headless.progressive-data.svc.cluster.local
    password_secret:
      name: mongodb-auth
    members: 3
  register: mongodb

- name: Say what is wrong
  ansible.builtin.debug:
    var: mongodb.findings
  when: mongodb.state != "M4"
"""

RETURN = r"""
is_available:
  description: Whether there is a primary that a majority of the voters follows.
  type: bool
  returned: always
state:
  description: The first thing a converge would see to; V(M4) is healthy and as wanted, V(unknown) means that no member answers.
  type: str
  returned: always
  sample: M4
replica_set:
  description: Name of the set that was found; empty when there is none.
  type: str
  returned: always
primary:
  description: Name of the primary; empty when there is none.
  type: str
  returned: always
config_version:
  description: Version of its configuration.
  type: int
  returned: always
term:
  description: Its election term.
  type: int
  returned: always
write_concern:
  description: Default write concern that somebody has set.
  type: raw
  returned: always
feature_compatibility:
  description: Its C(featureCompatibilityVersion).
  type: str
  returned: always
members:
  description: One item a member, in the order of their ordinals.
  type: list
  elements: dict
  returned: always
  contains:
    name: {description: Pod or C(name:port)., type: str, returned: always}
    host: {description: The name it ought to have in the configuration., type: str, returned: always}
    id: {description: Its C(_id) in the configuration., type: int, returned: always}
    state: {description: Its state in the server's words; empty when it does not answer., type: str, returned: always}
    primary: {description: Who it follows., type: str, returned: always}
    votes: {description: Its votes., type: int, returned: always}
    priority: {description: Its priority., type: float, returned: always}
    hidden: {description: Whether clients do not see it., type: bool, returned: always}
    lag: {description: Seconds that it is behind the primary., type: int, returned: always}
    oplog_window: {description: Seconds between the oldest and the newest write in its oplog., type: int, returned: always}
    oplog_size_mb: {description: Size of its oplog in megabytes., type: int, returned: always}
    version: {description: Version of the server., type: str, returned: always}
    node: {description: The Kubernetes node or host it is on., type: str, returned: always}
    zone: {description: Its zone., type: str, returned: always}
    outdated: {description: Whether its pod has an older template., type: bool, returned: always}
    error: {description: Why it does not answer., type: str, returned: always}
errors:
  description: Members that do not answer, and why.
  type: list
  elements: str
  returned: always
findings:
  description: Everything that is not as it should be (C(state), C(kind) of the reaction, C(message)), the most urgent first.
  type: list
  elements: dict
  returned: always
warnings:
  description: Reasons to look - arbiters, an even number of votes, an old C(featureCompatibilityVersion).
  type: list
  elements: str
  returned: always
"""

from ansible_collections.progressive.platform.plugins.module_utils._mongodb.converge import CONSTRAINTS, INFO_ARGUMENTS, run_info
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(INFO_ARGUMENTS, run_info, **CONSTRAINTS)


if __name__ == "__main__":
    main()
