#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mongodb_users
short_description: Who may log in to MongoDB or FerretDB, and the logins that take turns
version_added: 0.2.0
description:
  - Lets in the users of a Secret, and nobody any more who was one of them before, while the servers run; nobody who is logged in is cut off by a change
    of the password.
  - A server knows one password a user. So that it can be changed without a failed login, a user is several logins that take turns - the next password
    belongs to the next name, and both are let in until the former one is dropped.
  - Everybody is let in before anybody is shut out, so that a run that is killed leaves servers that work, and the next run finishes what it began.
  - A password cannot be read back, so it is tried; a second run sends readers and logins only.
author:
  - The progressive.platform founders (@progressive-platform)
extends_documentation_fragment:
  - progressive.platform.attributes
  - progressive.platform.kubernetes
  - progressive.platform.mongodb_servers
  - progressive.platform.mongodb_login
  - progressive.platform.credentials
attributes:
  action_group:
    support: full
  check_mode:
    support: full
  diff_mode:
    support: none
    details: RV(plan) says what changes; a diff would have passwords to hide.
  idempotent:
    support: full
options:
  users:
    description: The users. Logins that are none of theirs are left alone.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the user in O(passwords_secret), which holds C(<name>-login) and C(<name>-password).
        type: str
        required: true
      logins:
        description: The names that take turns, which C(<name>-login) is one of. Those that the Secret does not hold (any more) are dropped.
        type: list
        elements: str
        required: true
      roles:
        description: Roles as C(role@database). FerretDB keeps none; whoever is let in there may do everything.
        type: list
        elements: str
        required: true
  passwords_secret:
    description:
      - Kubernetes Secret with the logins and passwords of all users, and under C(password) that of O(username), which is changed too when there is a next one.
      - While M(progressive.platform.secret) rotates it, C(next-<key>) and C(former-<key>) count as well.
    type: dict
    required: true
    suboptions:
      namespace:
        description: Namespace of the Secret. Without it that of O(pods).
        type: str
      name:
        description: Name of the Secret.
        type: str
        required: true
  timeout:
    description: How long a server that takes writes is waited for, in seconds.
    type: float
    default: 60.0
seealso:
  - module: progressive.platform.mongodb_replicaset
  - module: progressive.platform.secret
"""

EXAMPLES = r"""
- name: Let the application in
  progressive.platform.mongodb_users:
    pods:
      namespace: progressive-data
      selector: app=mongodb
    password_secret: {name: mongodb-auth}
    passwords_secret: {name: mongodb-auth}
    users:
      - name: app
        logins: [app, app-b]
        roles: [readWrite@progressive]
"""

RETURN = r"""
plan:
  description: What was sent, or in check mode would be (C(server), C(command) without passwords, C(reason)).
  returned: success
  type: list
  elements: dict
users:
  description: The users, each with the C(logins) that are let in.
  returned: success
  type: list
  elements: dict
engine:
  description: V(mongodb) or V(ferretdb).
  returned: success
  type: str
"""

from ansible_collections.progressive.platform.plugins.module_utils._mongodb.users import ARGUMENTS, CONSTRAINTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run, **CONSTRAINTS)


if __name__ == "__main__":
    main()
