#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: canary
short_description: Deliver a version step by step, and take it back when it is worse
version_added: 0.2.0
description:
  - Gives the canary of a route more and more of its requests, and judges after each step what the edge has seen of both versions.
    It waits until the canary is ready, needs a minimum of requests for every check, and takes the canary back (weight 0 first) after O(failures) failed checks.
  - What cannot be known never passes. A canary without requests, or one whose statistics cannot be read, fails its checks.
  - A version that passed every step keeps all requests until the stable Deployment has the same images and is ready; the next run then gives them back.
  - Whatever was seen and decided lies in ConfigMap C(canary-<route>-state), so a run that was killed is gone on with by the next one.
    Another version of the canary's pods begins anew.
  - The weights belong to the field manager C(progressive.platform.canary), so M(progressive.platform.apply) leaves them as they are
    where the route has the annotation C(progressive.platform/yields).
author:
  - The progressive.platform founders (@progressive-platform)
extends_documentation_fragment:
  - progressive.platform.kubernetes
  - progressive.platform.attributes
options:
  state:
    description:
      - V(present) delivers, or goes on delivering.
      - V(absent) forgets the delivery and gives the route back to O(owner), whose next apply sends its own weights.
    type: str
    choices: [present, absent]
    default: present
  namespace:
    description: Namespace of the route, both versions and the edge.
    type: str
    required: true
  route:
    description: Name of the route.
    type: str
    required: true
  kind:
    description: Kind of the route.
    type: str
    choices: [HTTPRoute, VirtualService]
    default: HTTPRoute
  owner:
    description: Set of M(progressive.platform.apply) that the route belongs to.
    type: str
    default: gateway
  stable:
    description: Service of the stable version. It leads to the pods of one Deployment.
    type: str
    required: true
  canary:
    description: Service of the canary. It leads to the pods of another Deployment.
    type: str
    required: true
  edge:
    description: Labels of the edge's pods, whose Envoys count the requests.
    type: dict
    default: {}
  prometheus:
    description: Where the edge's statistics are asked for. Without it each pod's Envoy is asked itself.
    type: dict
    suboptions:
      url:
        description: Its address, as this host reaches it.
        type: str
      namespace:
        description: Namespace of its Service, that of the route by default. It is reached through the API server.
        type: str
      service:
        description: Its Service.
        type: str
      port:
        description: Port of the Service.
        type: int
        default: 9090
  steps:
    description: Weights in percent, one after the other.
    type: list
    elements: int
    default: [10, 25, 50, 100]
  interval:
    description: Shortest time of a check, in seconds.
    type: float
    default: 30.0
  sample:
    description: Fewest requests of the canary that a check is made of.
    type: int
    default: 100
  patience:
    description: Longest time that a check waits for O(sample), in seconds. It fails then.
    type: float
    default: 300.0
  passes:
    description: Good checks in a row that end a step.
    type: int
    default: 2
  failures:
    description: Failed checks, of all steps together, that end the delivery.
    type: int
    default: 2
  success:
    description: Percent of requests whose answer must not be 5xx.
    type: float
    default: 99.0
  p99:
    description: Milliseconds within which 99 of 100 requests must be answered.
    type: float
    default: 500.0
  worse:
    description: Percent by which the canary's p99 may be above the stable version's, together with O(slack). Not compared where the stable version
      has fewer than O(sample) requests in the same time.
    type: float
    default: 20.0
  slack:
    description: Milliseconds that are added to O(worse), because statistics are told by buckets.
    type: float
    default: 25.0
  deadline:
    description: Longest time until the canary is ready, in seconds.
    type: float
    default: 300.0
  again:
    description: Whether a version whose delivery has ended is delivered once more.
    type: bool
    default: false
  reports_dir:
    description: Folder for the evidence, C(canary-<route>-<version>.json) and C(.html).
    type: path
  wait_timeout:
    description: Longest time of a run, in seconds. What it had done stays; another run goes on.
    type: float
    default: 7200.0
attributes:
  action_group: {}
  check_mode:
    support: full
    details: Looks once, and returns what would be done first.
  diff_mode:
    support: none
  idempotent:
    support: full
    details: A delivery that has ended is not made again.
seealso:
  - module: progressive.platform.apply
"""

EXAMPLES = r"""
- name: Deliver the nutrition agent's canary
  progressive.platform.canary:
    namespace: progressive-framework-prod
    route: edge-npa
    stable: npa-service
    canary: npa-service-canary
    edge: {app: edge}
    reports_dir: reports/production/canary

- name: Give the weights back to the inventory
  progressive.platform.canary:
    state: absent
    namespace: progressive-framework-prod
    route: edge-npa
    stable: npa-service
    canary: npa-service-canary
"""

RETURN = r"""
phase:
  description: Preparing, Analysing, Promoted, Finishing, Done, RollingBack or RolledBack; empty when it was given back.
  returned: always
  type: str
version:
  description: Short name of what the canary's pods are.
  returned: when O(state=present)
  type: str
weight:
  description: The canary's weight in percent, as the route says.
  returned: always
  type: int
reason:
  description: Why it was rolled back.
  returned: when O(state=present)
  type: str
checks:
  description: Every check with the numbers it rests on.
  returned: when O(state=present)
  type: list
  elements: dict
next:
  description: What would be done first.
  returned: in check mode
  type: str
evidence:
  description: File with all of it.
  returned: when O(reports_dir) is given
  type: str
page:
  description: The same as a page with plots.
  returned: when O(reports_dir) is given
  type: str
"""

from ansible_collections.progressive.platform.plugins.module_utils._canary.delivery import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run)


if __name__ == "__main__":
    main()
