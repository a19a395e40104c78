#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: debug_bundle
short_description: Say in plain words why something does not work, and pack what shows it
version_added: 0.2.0
author:
  - progressive.platform contributors (@progressive-platform)
description:
  - Looks at everything in a namespace at once and gives, for each thing that is wrong, the chain from what is seen to why.
    Pods, probes, events, logs (of the run before, too), volumes, nodes, quotas, Services and their endpoints, names that are called and do not exist,
    the cluster's DNS, NetworkPolicies, Istio and Gateway API, autoscalers, and certificates that can be seen.
  - Packs the objects, events and logs into one archive. Changes nothing in the cluster.
  - Secrets are never asked for. Values in logs, environment, annotations and ConfigMaps that look like a secret are hidden, and those that
    are known to be one for certain (O(hide), O(known_from_secrets)).
  - What is only hexadecimal, and a bare word that no telling name stands before and that is no mixture of letters and digits, cannot be told from
    other text by its looks. Give O(known_from_secrets=true) before a bundle leaves the house.
extends_documentation_fragment:
  - progressive.platform.kubernetes
  - progressive.platform.attributes
options:
  namespace:
    description: Where to look. Without it the namespace of the kubeconfig's context.
    type: str
  workload:
    description:
      - C(Deployment/name), or C(name) alone. Only this workload, its pods and nodes, volumes, Services and autoscalers, and what it calls.
    type: str
  dest:
    description: File ending in C(.tar.gz), or folder in which one is written. Without it nothing is packed.
    type: path
  log_lines:
    description: How many of the last lines of each log.
    type: int
    default: 200
  files:
    description: Files or folders of the host that runs the module to pack as well; they are redacted as all else.
    type: list
    elements: path
    default: []
  hide:
    description: Values that must not leave, in any of the encodings they turn up in.
    type: list
    elements: str
    default: []
  known_from_secrets:
    description: Whether the values of the namespace's Secrets are read, to be hidden wherever they appear. They are kept in memory, and nowhere else.
    type: bool
    default: false
  fail:
    description: Whether a finding is a failure.
    type: bool
    default: false
attributes:
  action_group: {}
  check_mode:
    support: full
    details: The diagnosis is made, and no archive written.
  diff_mode:
    support: none
  idempotent:
    support: none
    details: Every call writes a new archive.
seealso:
  - module: progressive.platform.health
"""

EXAMPLES = r"""
- name: Why does it not work
  progressive.platform.debug_bundle:
    namespace: progressive-framework-prod
    dest: reports/debug/

- name: One workload, something to send to others
  progressive.platform.debug_bundle:
    namespace: progressive-framework-prod
    workload: Deployment/progressive-framework-v5
    known_from_secrets: true
    dest: /tmp/for-support.tar.gz
"""

RETURN = r"""
ok:
  description: Whether nothing wrong was found.
  returned: always
  type: bool
findings:
  description: What is wrong, errors first.
  returned: always
  type: list
  elements: dict
  contains:
    kind:
      description: Of the object it is about.
      type: str
    name:
      description: Of the object it is about.
      type: str
    level:
      description: C(error), or C(warning) for what works nevertheless.
      type: str
    chain:
      description: From what is seen to why.
      type: list
      elements: str
    next:
      description: What to do, or to look at.
      type: str
  sample:
    - kind: Deployment
      name: web
      level: error
      chain:
        - "Deployment web: 0 of 2 pods are available"
        - pod web-5d4f-x2x7p (and 1 more) container web ends again and again (4 restarts)
        - "it used more memory than it may: OOMKilled (limit: 64Mi)"
      next: kubectl -n shop describe pod web-5d4f-x2x7p
missing:
  description: What could not be read.
  returned: always
  type: list
  elements: str
hidden:
  description: In how many places something was hidden.
  returned: always
  type: int
dest:
  description: The archive.
  returned: O(dest) is given, and not in check mode
  type: str
"""

from ansible_collections.progressive.platform.plugins.module_utils._debug.bundle import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run)


if __name__ == "__main__":
    main()
