#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_cluster_restore
short_description: Restore a backup of a Redis or Valkey cluster, compare it, or drill
version_added: 0.2.0
description:
  - Gives every key of a backup of M(progressive.platform.redis_cluster_backup) to the master that owns its slot, with its expiry; the cluster may have
    another number of masters than the one that was backed up. Function libraries go to every master.
  - Then compares every key with the backup, value and expiry.
  - All files are checked against the manifest first. One that is damaged or cut off is named, and nothing is changed.
  - Restores into an empty cluster. What a cluster holds is overwritten with its token only (O(overwrite)), which the refusal shows, and then only keys of
    the same name.
  - A run that was killed is gone on with by running it again with the same backup. A key that is there already is left as it is, and must turn out to be
    the backup's.
author:
  - The progressive.platform founders (@progressive-platform)
extends_documentation_fragment:
  - progressive.platform.attributes
  - progressive.platform.kubernetes
  - progressive.platform.redis_nodes
  - progressive.platform.credentials
  - progressive.platform.backup_storage
  - progressive.platform.backup_run.restore
attributes:
  action_group:
    support: full
  check_mode:
    support: full
    details: Reads and checks the whole backup and returns which files go to which master.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details: A backup that was restored into this cluster is not restored again. A drill is held every time.
options:
  mode:
    description:
      - V(restore) restores into the cluster.
      - V(compare) compares the cluster with the backup and changes nothing; every key must be there with the value it had.
      - V(drill) restores into a server that is thrown away, compares every key, and remembers how long that took (RTO) and how old the newest key could
        have been (RPO). The cluster itself is not touched.
    type: str
    choices: [restore, compare, drill]
    default: restore
  overwrite:
    description:
      - Token of the cluster whose keys the backup's keys may replace; keys that the backup does not have stay.
      - The token stands in the refusal that one gets without it. It is made of the masters' IDs, so that it fits no other cluster.
    type: str
  verify:
    description: Whether every key is compared after a restore. After one that was interrupted they are in any case.
    type: bool
    default: true
  keys_per_second:
    description: Upper limit of keys restored a second, for a cluster that is in use. V(0) is as fast as it goes.
    type: float
    default: 0.0
  scratch:
    description:
      - For O(mode=drill), the pod of an empty redis-server that is no member of a cluster and takes the same login (and O(tls), where given).
      - Without it a redis-server is started on the host the module runs on, reached by a socket in a private directory.
    type: dict
    suboptions:
      namespace:
        description: Namespace of the pod.
        type: str
      selector:
        description: Label selector that fits this pod only.
        type: str
      port:
        description: Port redis-server listens on.
        type: int
        default: 6379
      socket:
        description: Instead of a pod, the Unix socket of an empty redis-server without a password, which runs beside the module in the pod of a job.
        type: path
notes:
  - Values are given over as they stand in the files, so the servers must be of the version that was backed up or a newer one; this is asked before the
    first key. Types of modules need the module.
  - With O(pods) the restore and the last drill are remembered in ConfigMaps C(<name>-restore) and C(<name>-drill).
seealso:
  - module: progressive.platform.redis_cluster_backup
"""

EXAMPLES = r"""
- name: Restore the latest backup into a new cluster of five masters
  progressive.platform.redis_cluster_restore:
    pods:
      namespace: progressive-cache
      selector: app=redis-cluster
    password_secret:
      name: redis-cluster-auth
    storage:
      path: /srv/backups

- name: Prove once a week that the latest backup can be restored
  progressive.platform.redis_cluster_restore:
    mode: drill
    pods:
      namespace: progressive-cache
      selector: app=redis-cluster
    password_secret:
      name: redis-cluster-auth
    storage:
      path: /srv/backups
"""

RETURN = r"""
backup:
  description: C(id) and C(folder) of the backup, its C(recovery_point), and its C(age_seconds).
  type: dict
  returned: success
keys:
  description: Keys in the backup.
  type: int
  returned: success
plan:
  description: One item a master with its C(slots), the C(files) they come from, and the C(reason) why it may be written to.
  type: list
  elements: dict
  returned: with O(mode=restore), when there is something to do
restored:
  description:
    - Numbers of keys C(restored), C(expired) since the backup, C(present) already, and C(stray) (in slots that were not the shard's); C(seconds) and rates.
    - Numbers that are 0 are left out.
  type: dict
  returned: success, with O(mode=restore) and O(mode=drill)
  sample: {restored: 240000, seconds: 4.1, keys_per_second: 58536, megabytes_per_second: 6.4}
functions:
  description: Function libraries loaded, over all masters.
  type: int
  returned: success, with O(mode=restore) and O(mode=drill)
compared:
  description: Numbers of keys that are C(equal), C(differing) and C(expired); C(seconds) and rates.
  type: dict
  returned: when keys were compared
  sample: {equal: 240000, seconds: 3.2, keys_per_second: 75000, megabytes_per_second: 8.3}
drill:
  description: What the drill has shown, as the health report reads it.
  type: dict
  returned: with O(mode=drill)
  sample: {backup: 20261123T150102Z-5f0c1a2b, at: "2026-11-23T16:00:00.000+00:00", rpo_seconds: 3538.0, rto_seconds: 5.3, keys: 240000, ok: true}
"""

from ansible_collections.progressive.platform.plugins.module_utils._redis.restore import ARGUMENTS, CONSTRAINTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run, **CONSTRAINTS)


if __name__ == "__main__":
    main()
