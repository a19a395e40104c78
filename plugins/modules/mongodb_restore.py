#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mongodb_restore
short_description: Restore a backup of a MongoDB replica set or FerretDB, compare it, or drill
version_added: 0.2.0
description:
  - Restores a backup of M(progressive.platform.mongodb_backup) into a server that holds no collections yet, with options and indexes, replays the
    operations that were kept with it, and compares every document.
  - All files are checked against the manifest first, to their last document. One that is damaged or cut off is named, and nothing is changed.
  - Collections that are there are replaced with their token only (O(overwrite)), which the refusal shows; those that the backup does not have stay.
  - A run that was killed is gone on with by running it again with the same backup.
author:
  - The progressive.platform founders (@progressive-platform)
extends_documentation_fragment:
  - progressive.platform.attributes
  - progressive.platform.kubernetes
  - progressive.platform.mongodb_servers
  - progressive.platform.mongodb_login
  - progressive.platform.credentials
  - progressive.platform.backup_storage
  - progressive.platform.backup_run.restore
attributes:
  action_group:
    support: full
  check_mode:
    support: full
    details: Reads and checks the whole backup and returns what would come from it.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details: A backup that was restored into this server is not restored again. A drill is held every time.
options:
  mode:
    description:
      - V(restore) restores.
      - V(compare) compares the server with the backup and changes nothing; every collection must hold the very documents.
      - V(drill) restores into databases C(drill_<word>_<number>) of the same server, compares every document, drops them, and remembers how long that took
        (RTO) and how old the newest document could have been (RPO). What the server holds otherwise is not touched.
    type: str
    choices: [restore, compare, drill]
    default: restore
  overwrite:
    description:
      - Token of what the server holds now, whose collections of the same name the backup's replace.
      - The token stands in the refusal that one gets without it. It is made of the collections' names, so that it fits no other server by chance.
    type: str
notes:
  - With O(pods) the restore and the last drill are remembered in ConfigMaps C(<name>-restore) and C(<name>-drill).
  - A drill does not replay operations, so it compares with the very documents of the files.
seealso:
  - module: progressive.platform.mongodb_backup
"""

EXAMPLES = r"""
- name: Restore the latest backup into a new platform
  progressive.platform.mongodb_restore:
    pods:
      namespace: progressive-data
      selector: app=mongodb
    password_secret:
      name: mongodb-auth
    storage:
      path: /srv/backups

- name: Prove once a week that the latest backup can be restored
  progressive.platform.mongodb_restore:
    mode: drill
    pods:
      namespace: progressive-data
      selector: app=mongodb
    password_secret:
      name: mongodb-auth
    storage:
      path: /srv/backups
"""

RETURN = r"""
backup:
  description: C(id) and C(folder) of the backup, its C(recovery_point), and its C(age_seconds).
  type: dict
  returned: success
documents:
  description: Documents in the backup.
  type: int
  returned: success
plan:
  description: One item a collection with its C(documents), and the C(reason) why it may be written.
  type: list
  elements: dict
  returned: with O(mode=restore), when there is something to do
restored:
  description: Numbers of C(collections), C(documents) and replayed C(operations); C(seconds) and rates.
  type: dict
  returned: success, with O(mode=restore) and O(mode=drill)
  sample: {collections: 4, documents: 24000, operations: 0, seconds: 4.1, documents_per_second: 5853, megabytes_per_second: 6.4}
compared:
  description: Numbers of C(collections) and C(documents) that were compared; C(seconds) and rates. Empty after operations were replayed.
  type: dict
  returned: success
drill:
  description: What the health report reads; C(rpo_seconds), C(rto_seconds), and whether all was there (C(ok)).
  type: dict
  returned: with O(mode=drill), not in check mode
"""

from ansible_collections.progressive.platform.plugins.module_utils._mongodb.restore import ARGUMENTS, CONSTRAINTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run, **CONSTRAINTS)


if __name__ == "__main__":
    main()
