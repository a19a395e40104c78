#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mongodb_replicaset
short_description: Form a MongoDB replica set, and heal it
version_added: 0.2.0
description:
  - Asks every member for its own view, plans, sends one command, and asks again, until the set is healthy and as wanted, or until a
    state is found that must not be touched.
  - Members are always known by DNS names, join without a vote until they have the data, and gain or lose their votes one a
    reconfiguration. A primary hands over before it is renamed, removed or replaced, and never against the server's advice.
  - Never joins two sets, never takes in a member that was used before, and never forms a set where one is remembered. A forced
    reconfiguration is made only by name. A refusal names the members and the next command.
  - Where nobody can log in yet it makes the first user, through the server's localhost exception; a port-forward ends inside the pod,
    so it counts as such a connection.
  - A second run sends readers only.
  - What each state looks like, what is done or refused, and which claims rest on a simulator of the server, is in C(docs/mongodb.md).
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
    details: Returns the whole plan, foreseen to its end. Waits for something that does not depend on the plan end it early.
  diff_mode:
    support: full
    details: Members, roles, settings and users before and after, as YAML.
  idempotent:
    support: full
options:
  members:
    description:
      - Number of members. An even number of voting ones is refused.
      - Pods with an ordinal from this number on leave the set; scale the StatefulSet in afterwards.
    type: int
    default: 3
  member_options:
    description: What single members are to be. Of members that are not named the first seven vote.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the pod, or C(name:port).
        type: str
        required: true
      votes:
        description: Whether it votes.
        type: int
        choices: [0, 1]
        default: 1
      priority:
        description: The higher, the rather it becomes primary; V(0) means never. Without it 1, and 0 for a member that is hidden or has no vote.
        type: float
      hidden:
        description: Whether clients do not see it.
        type: bool
        default: false
      tags:
        description: Tags for read preferences and write concerns.
        type: dict
        default: {}
  settings:
    description:
      - Settings of the configuration, such as C(electionTimeoutMillis). Those that are not named stay as they are.
    type: dict
    default: {}
  write_concern:
    description: Default write concern of the set, C(majority) or a number. Empty leaves it to the server.
    type: str
    default: majority
  users:
    description:
      - Users that are made where they are missing, and given these roles where they have others.
      - A password is used to make a user and never changed afterwards.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the user.
        type: str
        required: true
      database:
        description: Database the user belongs to, and logs in to.
        type: str
        default: admin
      roles:
        description: Roles as C(role@database), or C(role) for one of its own database.
        type: list
        elements: str
        required: true
      password:
        description: Its password.
        type: str
      password_secret:
        description: Kubernetes Secret that holds it, read when the module runs.
        type: dict
        suboptions:
          namespace:
            description: Namespace of the Secret. Without it that of O(pods).
            type: str
          name:
            description: Name of the Secret.
            type: str
            required: true
          key:
            description: Key in the Secret.
            type: str
            default: password
  roll:
    description:
      - Whether pods of an older template are replaced, one at a time - secondaries first, then the primary steps down and follows.
      - The disruption budget is asked before each.
    type: bool
    default: false
  force_reconfig:
    description:
      - Names of the members a forced reconfiguration keeps, when the majority of the voters is gone for good. What only the others had is lost.
      - It must name exactly the members that answer, and is ignored while there is a majority. A refusal says which names it wants.
    type: list
    elements: str
    default: []
  remove_members:
    description: Hosts (C(name:port)) in the configuration that are none of the members given, to be removed from it.
    type: list
    elements: str
    default: []
  allow_data_loss:
    description: Fingerprint of a former set, to form a new one on its now empty members. A refusal says which one it wants.
    type: list
    elements: str
    default: []
  sync_timeout:
    description: Longest time, in seconds, for a member to copy the data; it is not part of O(timeout).
    type: float
    default: 3600.0
  return_timeout:
    description: How long members that do not answer, or recover, are waited for before they count as lost, in seconds.
    type: float
    default: 120.0
  timeout:
    description: Longest time for everything else, in seconds; of a roll for each of its steps.
    type: float
    default: 300.0
notes:
  - With O(addresses) the lock and the marker of the set are files under C(progressive-platform) in E(XDG_STATE_HOME) (C(~/.local/state))
    of the host the module runs on. They keep runs of that host apart, and remember what that host has formed.
  - With O(pods) the kubeconfig needs get and list on pods, create on pods/portforward, and get, create and update on configmaps and
    leases in the namespace; get on secrets for O(password_secret); list on nodes, persistentvolumeclaims and statefulsets to know zones,
    volumes and older templates; create on pods/eviction for O(roll).
seealso:
  - module: progressive.platform.mongodb_replicaset_info
"""

EXAMPLES = r"""
- name: Form the set, or heal it
  progressive.platform.mongodb_replicaset:
    pods:
      namespace: progressive-data
      selector: app=mongodb
      domain: mongodb-headless.progressive-data.svc.cluster.local
    password_secret:
      name: mongodb-auth
    members: 3
    users:
      - name: app
        roles: [readWrite@progressive]
        password_secret: {name: mongodb-auth, key: app-password}

- name: Go on with the one member that is left
  progressive.platform.mongodb_replicaset:
    addresses: ["db-1.example.com:27017", "db-2.example.com:27017", "db-3.example.com:27017"]
    password: "{{ vault_mongodb_password }}"
    force_reconfig: ["db-3.example.com:27017"]
"""

RETURN = r"""
state:
  description: V(M4), healthy and as wanted; in check mode the state found; of a failed task the state that stopped it.
  type: str
  returned: always
  sample: M4
found:
  description: What was found before the first change, one item a state (C(state), C(kind), C(message)).
  type: list
  elements: dict
  returned: success
findings:
  description: What was found when the task gave up, in the form of RV(found).
  type: list
  elements: dict
  returned: failure
plan:
  description:
    - Steps taken, or in check mode to be taken, in order (C(state), C(action), C(reason), C(commands) with C(node), C(command), C(reason)).
    - Passwords are not shown.
  type: list
  elements: dict
  returned: always
primary:
  description: Name of the primary.
  type: str
  returned: success
members:
  description: One item a member, as M(progressive.platform.mongodb_replicaset_info) returns it.
  type: list
  elements: dict
  returned: always
removable:
  description: Names of members given beyond O(members) that are no part of the set any more; their pods may go.
  type: list
  elements: str
  returned: success
warnings:
  description: Reasons to look - arbiters, an even number of votes, an old C(featureCompatibilityVersion).
  type: list
  elements: str
  returned: success
"""

from ansible_collections.progressive.platform.plugins.module_utils._mongodb.converge import ARGUMENTS, CONSTRAINTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run, **CONSTRAINTS)


if __name__ == "__main__":
    main()
