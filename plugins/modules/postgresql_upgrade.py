#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_upgrade
short_description: Upgrade PostgreSQL's data to a newer major version, first on a copy
version_added: 0.2.0
description:
  - V(rehearse) restores the latest backup with everything that was archived since into a scratch directory, upgrades that copy with C(pg_upgrade), starts the
    newer server on it, compares a digest of every table with the older server's, and throws all of it away. The running cluster is not touched.
  - V(upgrade) does the same with O(data), whose server stands still. The former directory stays as C(<data>.former) and can be started by the former
    version, unless O(link) is set. A run that was killed leaves O(data) as it was.
  - Extensions are brought to the newer server's version, and statistics are made that are good enough for a start.
  - Needs the programs of both versions on the host it runs on.
author:
  - The progressive.platform founders (@progressive-platform)
extends_documentation_fragment:
  - progressive.platform.attributes
  - progressive.platform.backup_storage.optional
attributes:
  action_group:
    support: full
  check_mode:
    support: full
    details: Says from what to what; nothing is restored or upgraded.
  diff_mode:
    support: none
  idempotent:
    support: full
    details: Data of the newer version are left alone by V(upgrade). Every rehearsal is another one, and changes nothing.
options:
  mode:
    description: On a copy, or O(data).
    type: str
    choices: [rehearse, upgrade]
    default: rehearse
  backup:
    description: ID of the backup that is rehearsed with, or V(latest).
    type: str
    default: latest
  data:
    description: Data directory to upgrade. There must be room beside it for a second one, unless O(link) is set.
    type: path
  scratch:
    description: Directory with room for a rehearsal, which takes twice the data (once with O(link)). Without it the system's own temporary directory.
    type: path
  link:
    description: Whether the new directory shares the former one's files, which takes seconds and no room. The former version can then not be started any more.
    type: bool
    default: false
  binaries:
    description: Folder of the newer version's programs. Without it the newest of the usual places is taken.
    type: path
  former_binaries:
    description: Folder of the former version's programs. Without it the usual place of the version that the data are of.
    type: path
  digest_bytes:
    description: How much data is compared at most, the smallest tables first.
    type: int
    default: 1073741824
  provider:
    description: What took the backups; as in M(progressive.platform.postgresql_backup).
    type: str
    choices: [pgbackrest, basebackup]
    default: pgbackrest
  backup_name:
    description: Name under which the backups are kept; pgBackRest's stanza.
    type: str
    default: main
  config:
    description: pgBackRest's configuration on the host the module runs on.
    type: path
    default: /etc/pgbackrest/pgbackrest.conf
  user:
    description: User that PostgreSQL's programs run as where the module itself runs as root, which they refuse.
    type: str
    default: postgres
  timeout:
    description: Longest time for all of it, in seconds.
    type: float
    default: 3600.0
notes:
  - Replication slots of logical subscribers are not carried over; RV(lost_slots) names them. Prepared transactions are refused.
  - A cluster under Patroni is another one afterwards, with a system identifier of its own; in Kubernetes
    M(progressive.platform.postgresql_upgrade_in_place) does what follows from that.
seealso:
  - module: progressive.platform.postgresql_upgrade_in_place
"""

EXAMPLES = r"""
- name: Would it work, and how long would it take?
  progressive.platform.postgresql_upgrade:
    backup_name: shop
    scratch: /srv/scratch

- name: Do it, with the server stopped
  progressive.platform.postgresql_upgrade:
    mode: upgrade
    data: /var/lib/postgresql/15/main
"""

RETURN = r"""
from:
  description: Major version of the data before.
  type: int
  returned: success, not for a rehearsal in check mode
to:
  description: Major version of the programs, and of the data afterwards.
  type: int
  returned: success
tables:
  description: Number of tables that were compared; C(left_out) is how many were beyond O(digest_bytes).
  type: int
  returned: when something was upgraded
extensions:
  description: Extensions that were brought to a newer version, each after its database.
  type: list
  elements: str
  returned: when something was upgraded
lost_slots:
  description: Logical replication slots that are not there any more.
  type: list
  elements: str
  returned: when something was upgraded
system:
  description: System identifier of the upgraded cluster.
  type: str
  returned: when something was upgraded
former:
  description: Where the former data are.
  type: str
  returned: for mode upgrade, when something was upgraded
seconds:
  description: What the steps took, C(restore), C(upgrade), C(compare and analyze) and C(all).
  type: dict
  returned: when something was upgraded
"""

from ansible_collections.progressive.platform.plugins.module_utils._postgresql.upgrade import ARGUMENTS, CONSTRAINTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run, **CONSTRAINTS)


if __name__ == "__main__":
    main()
