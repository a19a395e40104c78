#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_restore_in_place
short_description: Take a PostgreSQL cluster in Kubernetes back to an earlier moment, or begin a new one with it
version_added: 0.2.0
description:
  - A backup is restored beside the data of the first member and recovered up to O(target) while the cluster still serves; when that does not work,
    nothing has happened to the cluster.
  - Then all members stop, the restored data take the place of the former ones (which stay beside them as C(pgdata.former)), Patroni forgets how far
    the cluster had been, the first member starts as the primary of a new timeline, and the others follow it.
  - With O(beside) the same is done with a StatefulSet of another name that has no pods yet; the cluster whose backups these are serves on, and is not touched.
  - Every step is noted in ConfigMap C(<name>-restore); a run that was killed is gone on with by the next one with the same options.
author:
  - The progressive.platform founders (@progressive-platform)
extends_documentation_fragment:
  - progressive.platform.attributes
  - progressive.platform.kubernetes
  - progressive.platform.postgresql_in_place
attributes:
  action_group:
    support: full
  check_mode:
    support: full
    details: Checks the token and says which steps there would be.
  diff_mode:
    support: none
  idempotent:
    support: none
    details: Every run that is allowed restores.
options:
  cronjob:
    description:
      - CronJob whose job has the volume of the first member.
      - It is run with M(progressive.platform.postgresql_restore)'s modes V(prepare) and V(finish).
    type: str
    required: true
  beside:
    description:
      - Whether O(name) is a new cluster beside the one whose backups these are. Its StatefulSet is there with no pods, the claim of its first pod is made
        here, and nothing is written into the archive, where the other one goes on.
      - Without volumes there is nothing to give up, so no token is asked for; with volumes of that name it is.
    type: bool
    default: false
  backup:
    description: ID of a backup, or V(latest), which is the newest that ended before O(target).
    type: str
    default: latest
  target:
    description: Moment to restore to, with its time zone, for example V(2026-11-23T15:01:02+00:00). V(latest) is the end of the archive.
    type: str
    default: latest
  overwrite:
    description: Token of the cluster whose data are given up; the refusal shows it. It is made of the UIDs of the members' volumes.
    type: str
  timeout:
    description: Longest time for all of it, in seconds.
    type: float
    default: 3600.0
"""

EXAMPLES = r"""
- name: As it was before somebody dropped a table
  progressive.platform.postgresql_restore_in_place:
    pods:
      namespace: progressive-data
      selector: app=postgres
    password_secret:
      name: postgres-auth
    cronjob: postgres-backup-restore
    target: "2026-11-23T15:01:02+00:00"
    overwrite: 0f3c5a7d9b1e2c4f

- name: The same as a cluster of its own, while the other serves on
  progressive.platform.postgresql_restore_in_place:
    pods:
      namespace: progressive-data
      selector: app=postgres-before
    password_secret:
      name: postgres-before-auth
    name: postgres-before
    scope: postgres-before-primary
    cronjob: postgres-backup-restore
    beside: true
    target: "2026-11-23T15:01:02+00:00"
"""

RETURN = r"""
plan:
  description: The steps that were taken, or would be.
  type: list
  elements: str
  returned: success
resumed:
  description: Whether an earlier run was gone on with.
  type: bool
  returned: success
restored:
  description: What came out, its C(timeline), C(lsn), C(last_marker) and how many C(seconds) all of it took.
  type: dict
  returned: success, not in check mode
"""

from ansible_collections.progressive.platform.plugins.module_utils._postgresql.inplace import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run)


if __name__ == "__main__":
    main()
