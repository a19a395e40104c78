#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_backup
short_description: Back up a PostgreSQL cluster under Patroni, with an archive of WAL that leads on from it
version_added: 0.2.0
description:
  - Takes a backup of the running cluster with pgBackRest, or with C(pg_basebackup) as the fallback; writers are not disturbed.
  - Before the first one the archive is made for this very cluster. An archive that holds another cluster's WAL (another system identifier) is refused.
  - Retention is applied after a success; WAL that only removed backups needed goes with them.
  - Runs where the repository is, which is a host, or a pod of the role's CronJobs. Members are asked by Patroni's REST interface and SQL.
author:
  - The progressive.platform founders (@progressive-platform)
extends_documentation_fragment:
  - progressive.platform.attributes
  - progressive.platform.kubernetes
  - progressive.platform.postgresql_members
  - progressive.platform.backup_storage.optional
  - progressive.platform.postgresql_repository
attributes:
  action_group:
    support: full
  check_mode:
    support: full
    details: Says what would be taken; looks at the members and the repository only.
  diff_mode:
    support: none
  idempotent:
    support: none
    details: Every run takes another backup.
options:
  kind:
    description: V(full) stands by itself, V(diff) has what changed since the last full one, V(incr) since the last of any kind.
    type: str
    choices: [full, diff, incr]
    default: full
  keep:
    description: Number of full backups to keep, with everything that leads on from them. V(0) leaves it to O(config), or keeps all.
    type: int
    default: 0
  follows:
    description:
      - System identifier that the archive may have had until now, because this is the same cluster before M(progressive.platform.postgresql_upgrade) has
        given it another. The archive then goes on with the new version (C(stanza-upgrade)).
    type: str
  replication_password:
    description: Password of the user C(replicator), for V(basebackup). O(password_secret) has it under the key C(replication).
    type: str
notes:
  - Writes a row into C(progressive_platform.tick) of the database C(postgres), which it makes where it is missing; a drill looks for such rows.
seealso:
  - module: progressive.platform.postgresql_restore
"""

EXAMPLES = r"""
- name: Back up by pgBackRest, as its configuration on this host says
  progressive.platform.postgresql_backup:
    addresses: [192.0.2.11:8008, 192.0.2.12:8008, 192.0.2.13:8008]
    password: "{{ vault_postgresql_superuser }}"
    backup_name: shop
    keep: 7

- name: What changed since the last one, every hour
  progressive.platform.postgresql_backup:
    addresses: [192.0.2.11:8008, 192.0.2.12:8008, 192.0.2.13:8008]
    password: "{{ vault_postgresql_superuser }}"
    backup_name: shop
    kind: incr

- name: Back up with nothing but PostgreSQL's own programs, to a mounted volume
  progressive.platform.postgresql_backup:
    addresses: [192.0.2.11:8008, 192.0.2.12:8008, 192.0.2.13:8008]
    password: "{{ vault_postgresql_superuser }}"
    replication_password: "{{ vault_postgresql_replication }}"
    provider: basebackup
    storage:
      path: /srv/backups
    keep: 2
"""

RETURN = r"""
backup:
  description: The backup that was taken. From its C(recovery_point) on the archive leads to every later moment.
  type: dict
  returned: success, not in check mode
  sample:
    id: 20261123-182538F
    kind: full
    recovery_point: "2026-11-23T18:25:41.000+00:00"
    system: "7711434736612384320"
    bytes: 23366775
    stored_bytes: 4602811
    seconds: 4.814
    megabytes_per_second: 4.9
backups:
  description: All there are afterwards, oldest first.
  type: list
  elements: dict
  returned: success
plan:
  description: What would be taken, one line.
  type: list
  elements: str
  returned: success, in check mode
"""

from ansible_collections.progressive.platform.plugins.module_utils._postgresql.backup import ARGUMENTS, CONSTRAINTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run, **CONSTRAINTS)


if __name__ == "__main__":
    main()
