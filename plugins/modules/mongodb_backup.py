#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mongodb_backup
short_description: Back up what a MongoDB replica set or FerretDB holds
version_added: 0.2.0
description:
  - Reads every collection by the driver and keeps it as a compressed file of BSON documents, with its options and indexes in a manifest that is written
    last. Files without a manifest are never taken for a backup.
  - Decompressed, a file is what C(mongodump) writes and C(mongorestore) and C(bsondump) read; those programs themselves are not needed.
  - Of a replica set the operations that were made meanwhile are kept too, so that all collections can be brought to one moment. It is read on a secondary
    where one answers. FerretDB has no oplog - each of its collections is of one moment, and all of them are not of the same.
  - Users are left out; M(progressive.platform.mongodb_users) makes them from their Secret.
author:
  - The progressive.platform founders (@progressive-platform)
extends_documentation_fragment:
  - progressive.platform.attributes
  - progressive.platform.kubernetes
  - progressive.platform.mongodb_servers
  - progressive.platform.mongodb_login
  - progressive.platform.credentials
  - progressive.platform.backup_storage
  - progressive.platform.backup_run.take
attributes:
  action_group:
    support: full
  check_mode:
    support: full
    details: Returns which collections would be taken from which server, and what would be removed.
  diff_mode:
    support: none
  idempotent:
    support: none
    details: Every run takes another backup.
notes:
  - With O(pods) the last backup is remembered in ConfigMap C(<name>-backup), which the health report reads.
seealso:
  - module: progressive.platform.mongodb_restore
"""

EXAMPLES = r"""
- name: Back up to a mounted volume, keep the last 7 and everything of 30 days
  progressive.platform.mongodb_backup:
    pods:
      namespace: progressive-data
      selector: app=mongodb
    password_secret:
      name: mongodb-auth
    storage:
      path: /srv/backups
    keep: 7
    keep_days: 30
"""

RETURN = r"""
backup:
  description: The backup that was taken.
  type: dict
  returned: success, not in check mode
  sample:
    id: 20261123T150102Z-5f0c1a2b
    folder: mongodb/mongodb/20261123T150102Z-5f0c1a2b
    recovery_point: "2026-11-23T15:01:02.123+00:00"
    finished: "2026-11-23T15:01:03.456+00:00"
    collections: 4
    documents: 24000
    bytes: 3145728
    seconds: 1.2
    megabytes_per_second: 26.2
plan:
  description: The C(server) it is taken from, with its C(role) and C(engine), and the C(collections).
  type: dict
  returned: success
removed:
  description: IDs of the backups that retention removed, and of unfinished ones that were older than a day.
  type: list
  elements: str
  returned: success
"""

from ansible_collections.progressive.platform.plugins.module_utils._mongodb.backup import ARGUMENTS, CONSTRAINTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run, **CONSTRAINTS)


if __name__ == "__main__":
    main()
