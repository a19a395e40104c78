#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: wait
short_description: Wait until everything that was applied is ready
version_added: 0.1.0
author:
  - progressive.platform contributors (@progressive-platform)
description:
  - Waits, by watch, until every member of the named ApplySets is ready, so that many of them can be applied first and then start together.
  - The wait ends at once, with the reason, when an object cannot become ready by itself.
    Such reasons are an image that cannot be pulled, a container that crashes again and again (with its last log lines),
    a pod that fits no node, a volume that cannot be mounted, and a quota or an admission webhook that refuses pods.
  - Known are Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, Pod, PersistentVolumeClaim, Service, CustomResourceDefinition,
    APIService, Namespace, PodDisruptionBudget, HorizontalPodAutoscaler and the Gateway API.
    Any other custom resource is judged by its conditions.
extends_documentation_fragment:
  - progressive.platform.kubernetes
  - progressive.platform.attributes
options:
  sets:
    description: Names of ApplySets, as given to O(progressive.platform.apply#module:set).
    type: list
    elements: str
    required: true
  namespace:
    description: Namespace the sets were applied with. Without it that of the kubeconfig's context.
    type: str
  wait_timeout:
    description: Longest time to wait, in seconds.
    type: float
    default: 300.0
attributes:
  action_group: {}
  check_mode:
    support: full
    details: Looks once and does not wait. A set that does not exist yet has no members.
  diff_mode:
    support: none
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Everything starts together, then we wait for all of it
  progressive.platform.wait:
    namespace: platform
    sets: [redis-cluster, app, agents]
    wait_timeout: 600
"""

RETURN = r"""
objects:
  description: The objects that were waited for.
  returned: success
  type: list
  elements: dict
  sample: [{apiVersion: apps/v1, kind: Deployment, namespace: platform, name: app}]
pending:
  description: What is not ready, with the reasons.
  returned: failure
  type: list
  elements: dict
  sample: [{kind: Deployment, namespace: platform, name: app, reason: 1 of 3 pods are available}]
"""

from ansible_collections.progressive.platform.plugins.module_utils._kube.wait import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run)


if __name__ == "__main__":
    main()
