#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_cluster
short_description: Bring a PostgreSQL cluster under Patroni to what is wanted
version_added: 0.2.0
description:
  - Asks every member what it is and what it believes of the others, plans, does one thing, and asks again, until the cluster is healthy
    and as wanted, or until a state is found that must not be touched.
  - Patroni elects, promotes, rewinds and copies by itself; those are waited for. This module holds the dynamic configuration, restarts
    what needs it (replicas first, one at a time and only while all stream, then a switchover, then the former primary; what replicas may
    not have less of, such as C(max_connections), is lowered on the primary first, where it stands), switches over, has a replica copied
    anew, and makes users, databases, extensions and grants.
  - Nothing is ever dropped - not a user, not a database, not a grant. Members that hold data of different clusters are refused.
  - Passwords are sent as what the server stores of them (SCRAM-SHA-256), so no statement and no log holds one.
  - A second run sends readers only.
author:
  - The progressive.platform founders (@progressive-platform)
extends_documentation_fragment:
  - progressive.platform.attributes
  - progressive.platform.kubernetes
  - progressive.platform.postgresql_members
attributes:
  action_group:
    support: full
  check_mode:
    support: full
    details: Returns the whole plan, foreseen to its end. A wait for something that Patroni does by itself ends it early.
  diff_mode:
    support: full
    details: Roles, timelines, the dynamic configuration, users and databases before and after.
  idempotent:
    support: full
options:
  members:
    description:
      - Number of members there ought to be, the primary among them. Pods with higher ordinals are on their way out - a primary among them hands
        over, and they are returned as RV(removable).
      - Slots of those that are gone are dropped, if O(config) says what C(member_slots_ttl) is to be otherwise.
    type: int
    default: 3
  config:
    description:
      - Patroni's dynamic configuration. Keys that are not named stay as they are, but C(postgresql.parameters) and C(postgresql.pg_hba)
        are as given and nothing else.
      - C(synchronous_mode_strict) is switched on when the first standby streams - before that it would stop all writes.
    type: dict
    default: {}
  restart:
    description: Whether members are restarted for parameters that take effect by a restart alone. Otherwise they are named in a warning.
    type: bool
    default: true
  roll:
    description: Whether pods that run an older template are replaced, in the same order as restarts. Otherwise they are named in a warning.
    type: bool
    default: false
  switchover:
    description: Pod, C(host:port) or Patroni's name of the member that is to be the primary. It must stream.
    type: str
  reinit:
    description: Pods or C(host:port) of replicas whose data directory is dropped and copied anew from the primary, by this run.
    type: list
    elements: str
    default: []
  users:
    description:
      - Users that log in, by name, each with C(connection_limit) (-1 for none), C(settings) (of C(ALTER ROLE SET); others are reset) and C(roles) of the
        server that they become members of (C(pg_monitor)); a membership beyond these is left alone.
    type: dict
    default: {}
  user_passwords:
    description: Passwords of O(users) by name. A user without one cannot log in by password.
    type: dict
    default: {}
  users_secret:
    description:
      - Kubernetes Secret with the passwords of O(users), each under the user's name.
      - While one is changed (M(progressive.platform.secret), O(progressive.platform.secret#module:rotate)), C(<user>.login) names the login that
        has it - the user itself, or its second login C(<user>_2), which is a member of the user and works as it. The next and the former password
        have a login each, so both are taken; a login whose password is none of these has none any more.
    type: dict
    suboptions:
      namespace:
        description: Namespace of the Secret. Without it that of O(pods).
        type: str
      name:
        description: Name of the Secret.
        type: str
        required: true
  databases:
    description:
      - Databases by name, each with C(owner), C(extensions), and C(grants), which maps users to V(connect), V(read) or V(write).
      - V(read) and V(write) are about all tables and sequences of the schema C(public), those to come from the owner included.
      - To a database that this module makes only its owner and those with a grant may connect.
    type: dict
    default: {}
  copy_timeout:
    description: Longest time, in seconds, for a member to copy the data or to start; it is not part of O(timeout).
    type: float
    default: 3600.0
  timeout:
    description: Longest time for each step, in seconds.
    type: float
    default: 120.0
notes:
  - With O(pods) the kubeconfig needs get and list on pods, create on pods/portforward, get on secrets for O(password_secret); list on nodes
    and statefulsets to know zones and outdated pods; create on pods/eviction for O(roll).
seealso:
  - module: progressive.platform.postgresql_cluster_info
"""

EXAMPLES = r"""
- name: Settings, users and databases
  progressive.platform.postgresql_cluster:
    pods:
      namespace: progressive-data
      selector: app=postgres
    password_secret:
      name: postgres-auth
    config:
      ttl: 20
      loop_wait: 5
      retry_timeout: 7
      postgresql:
        parameters:
          max_connections: 200
    users:
      shop: {connection_limit: 50}
    users_secret:
      name: postgres-users
    databases:
      shop: {owner: shop, extensions: [pg_trgm]}

- name: Make postgres-1 the primary
  progressive.platform.postgresql_cluster:
    pods:
      namespace: progressive-data
      selector: app=postgres
    password_secret:
      name: postgres-auth
    switchover: postgres-1
"""

RETURN = r"""
found:
  description: What was found before the first change, the most urgent first (C(state) as in docs/postgresql.md, C(kind), C(message)).
  type: list
  elements: dict
  returned: success
findings:
  description: What was found when the task gave up, in the form of RV(found).
  type: list
  elements: dict
  returned: failure
plan:
  description: >-
    Steps taken, or in check mode to be taken, in order (C(state), C(action), C(reason), C(member), C(commands)). No step shows a password.
  type: list
  elements: dict
  returned: always
primary:
  description: The primary in the end; empty when there is none.
  type: str
  returned: success
  sample: postgres-0
members:
  description: One item a member, as M(progressive.platform.postgresql_cluster_info) returns it.
  type: list
  elements: dict
  returned: always
removable:
  description: Members beyond O(members) that are no primary, once those that stay are complete. Their pods may go.
  type: list
  elements: str
  returned: success
pending_restart:
  description: Parameters that wait for a restart, by member.
  type: dict
  returned: success
  sample: {postgres-0: [max_connections]}
"""

from ansible_collections.progressive.platform.plugins.module_utils._postgresql.converge import ARGUMENTS, CONSTRAINTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run, **CONSTRAINTS)


if __name__ == "__main__":
    main()
