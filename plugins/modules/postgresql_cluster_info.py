#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_cluster_info
short_description: What a PostgreSQL cluster under Patroni looks like, from every member's point of view
version_added: 0.2.0
description:
  - Asks every member once and reports what they say and whether they agree. Changes nothing.
  - Does not fail because members or the API server are down; RV(is_available), RV(errors) and RV(findings) say so.
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
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  members:
    description: Number of members to compare with. Without it the number that is there.
    type: int
seealso:
  - module: progressive.platform.postgresql_cluster
"""

EXAMPLES = r"""
- name: Look at the cluster
  progressive.platform.postgresql_cluster_info:
    pods:
      namespace: progressive-data
      selector: app=postgres
    password_secret:
      name: postgres-auth
    members: 3
  register: postgresql

- name: Say who is behind
  ansible.builtin.debug:
    msg: "{{ postgresql.members | rejectattr('streaming') | map(attribute='name') }}"
"""

RETURN = r"""
is_available:
  description: Whether there is exactly one primary.
  type: bool
  returned: always
primary:
  description: Its name; empty when there is none, or more than one.
  type: str
  returned: always
state:
  description: V(healthy), V(unknown) when no member answers, otherwise the kind of the first of RV(findings).
  type: str
  returned: always
  sample: healthy
members:
  description: One item a member, in the order of their ordinals.
  type: list
  elements: dict
  returned: always
  contains:
    name: {description: Pod or C(host:port)., type: str, returned: always}
    role: {description: V(primary) or V(replica)., type: str, returned: always}
    state: {description: What Patroni says its server does., type: str, returned: always}
    timeline: {description: Its timeline., type: int, returned: always}
    streaming: {description: Whether it is a replica that streams from the primary., type: bool, returned: always}
    sync: {description: "By the primary's word V(sync), V(quorum), V(async) or V(potential); empty for the primary.", type: str, returned: always}
    lag: {description: Bytes of WAL that it has not applied yet., type: int, returned: always}
    delay: {description: Seconds until it had applied the last of them., type: float, returned: always}
    pending_restart: {description: Parameters that wait for a restart., type: list, elements: str, returned: always}
    node: {description: The Kubernetes node it is on., type: str, returned: always}
    zone: {description: Its zone., type: str, returned: always}
    outdated: {description: Whether its pod runs an older template., type: bool, returned: always}
    version: {description: Version of PostgreSQL., type: str, returned: always}
    patroni: {description: Version of Patroni., type: str, returned: always}
    system: {description: System identifier of its data., type: str, returned: always}
    error: {description: Why it does not answer., type: str, returned: always}
slots:
  description: Replication slots of the primary (C(name), C(kind), C(active), C(retained) bytes of WAL, C(status)).
  type: list
  elements: dict
  returned: always
archive:
  description: The archive of WAL by the primary's word (C(mode), C(archived), C(failed), seconds since the C(last) and the C(last_failure), C(failing)).
  type: dict
  returned: always
config:
  description: Patroni's dynamic configuration.
  type: dict
  returned: always
errors:
  description: Members that do not answer, and why.
  type: list
  elements: str
  returned: always
findings:
  description: Everything that is not as it should be (C(state) as in docs/postgresql.md, C(kind), C(message)), the most urgent first.
  type: list
  elements: dict
  returned: always
"""

from ansible_collections.progressive.platform.plugins.module_utils._postgresql.converge import CONSTRAINTS, INFO_ARGUMENTS, run_info
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(INFO_ARGUMENTS, run_info, **CONSTRAINTS)


if __name__ == "__main__":
    main()
