#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_users
short_description: Who may log in to a Redis or Valkey cluster, and what they may do
version_added: 0.2.0
description:
  - Gives every node the same users with the same rights and passwords, by C(ACL SETUSER), while it runs; nobody who is logged in is cut off.
  - A user can have several passwords, which is how they are changed without a failed login - O(passwords_secret) may hold the next, the current and
    the former one.
  - Everything is added on every node before anything is taken away on one, so that a run that is killed leaves a cluster that works, and the next run
    finishes what it began.
  - Rights are compared by the commands they come to on that very server, so that a second run sends readers only.
author:
  - The progressive.platform founders (@progressive-platform)
extends_documentation_fragment:
  - progressive.platform.attributes
  - progressive.platform.kubernetes
  - progressive.platform.redis_nodes
  - progressive.platform.credentials
attributes:
  action_group:
    support: full
  check_mode:
    support: full
    details: The plan is that of the first round; taking the default user away may need a second one.
  diff_mode:
    support: none
    details: RV(plan) says what changes; a diff would have passwords to hide.
  idempotent:
    support: full
options:
  users:
    description:
      - The users. Those of other names are left alone.
      - Without it the five that every cluster should have - V(operator) (M(progressive.platform.redis_cluster) itself), V(replication) (what a replica
        logs in to its master as), V(application), V(monitor) and V(health). They have rules of their own.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the user.
        type: str
        required: true
      rules:
        description:
          - Keys (C(~pattern), C(%R~pattern)), channels (C(&pattern)) and commands (C(+get), C(+@read), C(-config|set)), as C(ACL SETUSER) takes them.
          - May be left out for the five users named above.
        type: str
        default: ""
      key:
        description: Key of the password in O(passwords_secret). Without it V(password) for the operator, C(<name>-password) for the others.
        type: str
      passwords:
        description: Passwords, the one to use from now on first, in place of O(passwords_secret). Each has at least 12 characters.
        type: list
        elements: str
  passwords_secret:
    description: Kubernetes Secret with the passwords of all users.
    type: dict
    suboptions:
      namespace:
        description: Namespace of the Secret. Without it that of O(pods).
        type: str
      name:
        description: Name of the Secret.
        type: str
        required: true
  default_user:
    description:
      - V(off) takes every right and every password from the default user, as soon as no client is logged in as it; until then a warning names them.
      - V(keep) does not touch it.
    type: str
    choices: [keep, "off"]
    default: keep
  save:
    description: Whether the nodes write it to their own files (C(ACL SAVE), C(CONFIG REWRITE)), for servers that nobody else configures.
    type: bool
    default: false
  complete:
    description: Whether every node must answer before anything is changed. With V(false) those that do not are left out, and named in RV(left_out).
    type: bool
    default: true
  timeout:
    description: How long nodes that do not answer are waited for, in seconds, with O(complete=true).
    type: float
    default: 60.0
notes:
  - Needs Redis 7.0 or Valkey 7.2.
seealso:
  - module: progressive.platform.redis_cluster
  - module: progressive.platform.secret
"""

EXAMPLES = r"""
- name: The five users, with the passwords of a Secret
  progressive.platform.redis_users:
    pods:
      namespace: progressive-cache
      selector: app=redis-cluster
    username: operator
    password_secret: {name: redis-cluster-auth}
    passwords_secret: {name: redis-cluster-auth}
    default_user: "off"

- name: One more user on six plain servers, which keep it in their own files
  progressive.platform.redis_users:
    addresses: ["192.0.2.11:6379", "192.0.2.12:6379", "192.0.2.13:6379", "192.0.2.14:6379", "192.0.2.15:6379", "192.0.2.16:6379"]
    password: "{{ vault_redis_password }}"
    users:
      - name: reports
        rules: "~orders:* -@all +@read"
        passwords: ["{{ vault_reports_password }}"]
    save: true
"""

RETURN = r"""
plan:
  description: What was sent, or in check mode would be (C(node), C(command) without passwords, C(reason)).
  returned: success
  type: list
  elements: dict
users:
  description: The users with their rules, and how many passwords each has.
  returned: success
  type: list
  elements: dict
left_out:
  description: Nodes that did not answer and were left out.
  returned: success
  type: list
  elements: str
"""

from ansible_collections.progressive.platform.plugins.module_utils._redis.grants import ARGUMENTS, CONSTRAINTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run, **CONSTRAINTS)


if __name__ == "__main__":
    main()
