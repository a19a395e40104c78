#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_restore
short_description: Restore a PostgreSQL cluster to any moment, or prove that it could be restored
version_added: 0.2.0
description:
  - V(restore) fills an empty directory from a backup, applies the archive's WAL up to O(target), looks at what came out, and leaves a stopped primary
    on a timeline of its own. It never writes into a directory that has anything in it, and a failed restore leaves nothing behind.
  - V(drill) restores a point in time, and from there the latest, into a server that nobody can reach and that is thrown away. It looks for rows
    written to the primary just before and after that point, compares digests of all tables that stood still meanwhile, and remembers the RPO and
    RTO reached.
  - A backup that is damaged, another cluster's, or too young for the target is refused by name.
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
    details: Chooses the backup and says which; nothing is restored.
  diff_mode:
    support: none
  idempotent:
    support: none
    details: Every run restores; a directory that has something in it is refused.
options:
  mode:
    description:
      - V(restore) into O(data), or V(drill).
      - V(prepare) and V(finish) are the two halves of a restore in the place of O(data), for M(progressive.platform.postgresql_restore_in_place).
    type: str
    choices: [restore, drill, prepare, finish]
    default: restore
  backup:
    description: ID of a backup, or V(latest), which is the newest that ended before O(target).
    type: str
    default: latest
  target:
    description: Moment to restore to, with its time zone, for example V(2026-11-23T15:01:02+00:00). V(latest) is the end of the archive.
    type: str
    default: latest
  data:
    description:
      - Directory to restore into, for mode V(restore). It is made; only its last part may be missing.
      - V(prepare) works in C(<data>.restored) beside it, and V(finish) leaves what was there in C(<data>.former).
    type: path
  scratch:
    description: Directory with room for a whole cluster, for mode V(drill). Without it the system's own temporary directory.
    type: path
  system:
    description: System identifier that the backup must have; any is taken without it. A drill always wants the running cluster's.
    type: str
  archive:
    description:
      - Whether mode V(finish) puts the new timeline into the archive that the backup is in, so that its next backups lead on from it.
      - V(false) is for a copy beside a cluster that goes on archiving there. What Patroni kept of that one's settings among the data is then forgotten.
    type: bool
    default: true
  digest_bytes:
    description: How much data a drill compares at most, the smallest tables first. V(0) compares none, only the rows written for the drill.
    type: int
    default: 1073741824
seealso:
  - module: progressive.platform.postgresql_backup
"""

EXAMPLES = r"""
- name: Prove that the last backup and the archive are good for a restore
  progressive.platform.postgresql_restore:
    mode: drill
    addresses: [192.0.2.11:8008, 192.0.2.12:8008, 192.0.2.13:8008]
    password: "{{ vault_postgresql_superuser }}"
    backup_name: shop
    scratch: /srv/scratch

- name: The data as they were before somebody dropped a table
  progressive.platform.postgresql_restore:
    backup_name: shop
    target: "2026-11-23T15:01:02+00:00"
    data: /var/lib/postgresql/15/before
"""

RETURN = r"""
backup:
  description: The backup that was chosen, and its age in seconds.
  type: dict
  returned: success
target:
  description: The moment that was asked for.
  type: str
  returned: success, not for mode drill
data:
  description: The directory.
  type: str
  returned: success, not for mode drill
restored:
  description: What came out, its C(timeline), C(system) identifier, C(lsn), C(last_marker) and how many C(seconds) it took.
  type: dict
  returned: success, not for mode drill and not in check mode
drill:
  description:
    - What the health report reads, C(ok) or the C(problem), C(rpo_seconds) and C(rto_seconds).
    - C(tables) is how many were compared, C(moved) how many were written to meanwhile, C(left_out) how many were beyond O(digest_bytes).
  type: dict
  returned: for mode drill, not in check mode
  sample:
    at: "2026-11-23T18:25:41.809+00:00"
    backup: 20261123-182538F
    ok: true
    rpo_seconds: 4.9
    rto_seconds: 2.484
    tables: 1
    moved: 0
    left_out: 0
    bytes: 23366775
"""

from ansible_collections.progressive.platform.plugins.module_utils._postgresql.restore import ARGUMENTS, CONSTRAINTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run, **CONSTRAINTS)


if __name__ == "__main__":
    main()
