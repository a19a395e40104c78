#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: job
short_description: Do now what a CronJob does at its hours, and wait for the result
version_added: 0.2.0
description:
  - Makes a Job from a CronJob's template and waits until it has ended. One that is under way already is waited for instead.
  - A pod that will not start (an image that cannot be pulled, a Secret that is not there) is given up after half a minute, and so is a job that takes
    longer than O(timeout); neither is left behind.
author:
  - The progressive.platform founders (@progressive-platform)
extends_documentation_fragment:
  - progressive.platform.attributes
  - progressive.platform.kubernetes
attributes:
  action_group:
    support: full
  check_mode:
    support: full
    details: Looks for the CronJob only.
  diff_mode:
    support: none
  idempotent:
    support: none
    details: Every run makes another job.
options:
  namespace:
    description: Namespace of the CronJob.
    type: str
    required: true
  cronjob:
    description: Name of the CronJob. One that is suspended works too.
    type: str
    required: true
  options:
    description: Further options for the job, given to its containers as JSON in the environment variable E(OPTIONS).
    type: dict
    default: {}
  claims:
    description: Claims that volumes of the job's pod, by name, have instead of the CronJob's own.
    type: dict
    default: {}
  image:
    description: Image of the job's containers (not of its init containers) instead of the CronJob's own.
    type: str
  timeout:
    description: Longest time for the job, in seconds.
    type: float
    default: 3600.0
"""

EXAMPLES = r"""
- name: Take a backup now
  progressive.platform.job:
    namespace: progressive-data
    cronjob: postgres-backup-full
"""

RETURN = r"""
job:
  description: Name of the Job.
  type: str
  returned: success
result:
  description: What the job's container left as its last words, where that is JSON.
  type: dict
  returned: when it has ended
seconds:
  description: How long it took.
  type: float
  returned: when it has ended
"""

from ansible_collections.progressive.platform.plugins.module_utils._kube.job import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run)


if __name__ == "__main__":
    main()
