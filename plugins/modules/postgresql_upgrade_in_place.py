#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_upgrade_in_place
short_description: Take a PostgreSQL cluster in Kubernetes to a newer major version
version_added: 0.2.0
description:
  - The StatefulSet has the image with the newer version (and the former one's programs) already, and update strategy C(OnDelete), so no pod has it yet.
    The first member is the primary.
  - The replicas stop, then the primary. A job upgrades the primary's data (M(progressive.platform.postgresql_upgrade)), Patroni forgets the former
    cluster, the first member starts, the claims of the others are deleted, and they copy it.
  - A job that fails leaves the data as they were; with the former image the members start again.
  - Every step is noted in ConfigMap C(<name>-upgrade); a run that was killed is gone on with by the next one.
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
    details: Every run that is allowed stops all members.
options:
  cronjob:
    description: CronJob whose job has the volume of the first member, and upgrades it.
    type: str
    required: true
  overwrite:
    description: Token of the cluster; the refusal shows it. It is made of the UIDs of the members' volumes.
    type: str
  timeout:
    description: Longest time for all of it, in seconds.
    type: float
    default: 3600.0
seealso:
  - module: progressive.platform.postgresql_upgrade
"""

EXAMPLES = r"""
- name: To the version of the new image
  progressive.platform.postgresql_upgrade_in_place:
    pods:
      namespace: progressive-data
      selector: app=postgres
    password_secret:
      name: postgres-auth
    cronjob: postgres-backup-upgrade
    overwrite: 0f3c5a7d9b1e2c4f
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
  description: What the job said (C(from), C(to), C(system)), the C(former_system), and how many C(seconds) all of it took.
  type: dict
  returned: success, not in check mode
"""

from ansible_collections.progressive.platform.plugins.module_utils._postgresql.upgrade_in_place import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run)


if __name__ == "__main__":
    main()
