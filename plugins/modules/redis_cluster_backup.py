#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_cluster_backup
short_description: Back up a Redis or Valkey cluster, one RDB file a shard
version_added: 0.2.0
description:
  - Takes a snapshot of every shard by the replication protocol, all shards side by side, on the replica in sync that has most of the data;
    on the master, with a warning, where there is none. Nothing is written to a node's disk.
  - Each file is the shard at one moment. Shards are not taken at the same moment, as a cluster knows no order between them.
  - Every file is read from its first key to its end before it counts, and its SHA-256 is kept with the slot map, the nodes, versions and function
    libraries in a manifest, which is written last. Files without a manifest are never taken for a backup.
  - Refuses while slots are being moved, when slots have no reachable copy, and when there is no room; discards what it has when slots went to
    another shard meanwhile. A failover during a backup does not matter.
author:
  - The progressive.platform founders (@progressive-platform)
extends_documentation_fragment:
  - progressive.platform.attributes
  - progressive.platform.kubernetes
  - progressive.platform.redis_nodes
  - progressive.platform.credentials
  - progressive.platform.backup_storage
  - progressive.platform.backup_run.take
attributes:
  action_group:
    support: full
  check_mode:
    support: full
    details: Returns which node each file would be taken from and what would be removed; nothing is read from the nodes but their state.
  diff_mode:
    support: none
  idempotent:
    support: none
    details: Every run takes another backup.
notes:
  - A node that is silent for 60 s is given up before O(timeout).
  - The user needs C(+psync) and C(+replconf) beside what M(progressive.platform.redis_cluster_info) reads.
  - With O(pods) the last backup is remembered in ConfigMap C(<name>-backup), which the health report reads.
seealso:
  - module: progressive.platform.redis_cluster_restore
"""

EXAMPLES = r"""
- name: Back up to a mounted volume, keep the last 7 and everything of 30 days
  progressive.platform.redis_cluster_backup:
    pods:
      namespace: progressive-cache
      selector: app=redis-cluster
    password_secret:
      name: redis-cluster-auth
    storage:
      path: /srv/backups
    keep: 7
    keep_days: 30

- name: Back up servers without Kubernetes to S3-compatible storage
  progressive.platform.redis_cluster_backup:
    addresses: [192.0.2.11:6379, 192.0.2.12:6379, 192.0.2.13:6379, 192.0.2.14:6379, 192.0.2.15:6379, 192.0.2.16:6379]
    password: "{{ vault_redis_password }}"
    name: sessions
    storage:
      s3:
        bucket: backups
        endpoint: https://minio.example.com
        access_key: "{{ vault_backup_access_key }}"
        secret_key: "{{ vault_backup_secret_key }}"
"""

RETURN = r"""
backup:
  description: The backup that was taken.
  type: dict
  returned: success, not in check mode
  sample:
    id: 20261123T150102Z-5f0c1a2b
    folder: redis_cluster/redis-cluster/20261123T150102Z-5f0c1a2b
    recovery_point: "2026-11-23T15:01:02.123+00:00"
    finished: "2026-11-23T15:01:03.456+00:00"
    shards: 3
    keys: 240000
    bytes: 31457280
    seconds: 1.2
    megabytes_per_second: 26.2
plan:
  description: One item a file with its C(slots), the C(node) it is taken from, that one's C(role), and how many bytes it is C(behind) its master.
  type: list
  elements: dict
  returned: success
removed:
  description: IDs of the backups that retention removed, and of unfinished ones that were older than a day.
  type: list
  elements: str
  returned: success
"""

from ansible_collections.progressive.platform.plugins.module_utils._redis.backup import ARGUMENTS, CONSTRAINTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run, **CONSTRAINTS)


if __name__ == "__main__":
    main()
