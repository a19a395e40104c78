#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_cluster_info
short_description: What a Redis or Valkey cluster looks like, from every node's point of view
version_added: 0.1.0
description:
  - Asks every node once and reports what they say and whether they agree. Changes nothing.
  - Does not fail because nodes or the API server are down; RV(is_available), RV(errors) and RV(findings) say so.
author:
  - The progressive.platform founders (@progressive-platform)
extends_documentation_fragment:
  - progressive.platform.attributes
  - progressive.platform.kubernetes
  - progressive.platform.redis_nodes
  - progressive.platform.credentials
attributes:
  action_group:
    support: full
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  masters:
    description: Number of masters to compare with. Without it the number that is there.
    type: int
  replicas_per_master:
    description: Replicas each master should have. Without it any number will do.
    type: int
seealso:
  - module: progressive.platform.redis_cluster
"""

EXAMPLES = r"""
- name: Look at the cluster
  progressive.platform.redis_cluster_info:
    pods:
      namespace: progressive-cache
      selector: app.kubernetes.io/name=redis-cluster
    password_secret:
      name: redis-cluster-auth
    masters: 3
    replicas_per_master: 1
  register: redis

- name: Say what is wrong
  ansible.builtin.debug:
    var: redis.findings
  when: redis.state != "S4"
"""

RETURN = r"""
is_available:
  description: Whether every slot has an owner that answers and says ok.
  type: bool
  returned: always
state:
  description: The first thing a converge would see to; V(S4) is healthy and as wanted, V(unknown) means that no node answers.
  type: str
  returned: always
  sample: S4
nodes:
  description: One item a node, in the order of their ordinals.
  type: list
  elements: dict
  returned: always
  contains:
    name: {description: Pod or C(host:port)., type: str, returned: always}
    id: {description: Node ID; empty when it does not answer., type: str, returned: always}
    address: {description: Address and port its peers use., type: str, returned: always}
    role: {description: V(master) or V(replica)., type: str, returned: always}
    master: {description: ID of a replica's master., type: str, returned: always}
    slots: {description: Slot ranges of a master., type: list, elements: str, returned: always}
    zone: {description: Its zone., type: str, returned: always}
    outdated: {description: Whether its StatefulSet has a newer pod template., type: bool, returned: always}
    node: {description: The Kubernetes node or host it is on., type: str, returned: always}
    lag: {description: Bytes that a replica is behind its master., type: int, returned: always}
    offset: {description: Replication offset., type: int, returned: always}
    link: {description: "Of a replica V(up), V(copying) (a full synchronisation runs) or V(down).", type: str, returned: always}
    open_slots: {description: "Slots it has open, as C(7 migrating) or C(7 importing) and the other ID.", type: list, elements: str, returned: always}
    memory: {description: Bytes C(used) and C(max) (0 is no limit)., type: dict, returned: always}
    keys: {description: Keys in all databases., type: int, returned: always}
    functions: {description: Function libraries., type: int, returned: always}
    cluster_state: {description: What it says itself., type: str, returned: always}
    epoch: {description: Its config epoch., type: int, returned: always}
    current_epoch: {description: The highest epoch it has heard of., type: int, returned: always}
    known: {description: How many nodes it knows (itself included)., type: int, returned: always}
    node_timeout: {description: Its C(cluster-node-timeout) in seconds., type: float, returned: always}
    uptime: {description: Seconds since it started., type: int, returned: always}
    persistence:
      description: C(aof) (whether there is an append-only file), C(aof_ok), C(rdb_ok), C(saved_at) (Unix time of the last snapshot), C(changes) since then,
        and the C(problem) in words, empty when it can keep its data on disk.
      type: dict
      returned: always
    engine: {description: V(redis) or V(valkey)., type: str, returned: always}
    version: {description: Version of the server., type: str, returned: always}
    error: {description: Why it does not answer., type: str, returned: always}
shards:
  description: One item a slot owner that answers, by its first slot (C(master), C(id), C(slots), C(slot_count), C(keys), C(memory), and C(replicas) with
    C(name), C(id), C(link), C(lag)).
  type: list
  elements: dict
  returned: always
open_slots:
  description: Slots on their way from one node to another, as each end says it (C(slot), C(node), C(direction), C(other), C(keys)).
  type: list
  elements: dict
  returned: always
slots:
  description: Numbers of slots C(assigned), C(covered) by an owner that says ok, C(total), and the C(uncovered) ones.
  type: dict
  returned: always
  sample: {assigned: 16384, covered: 16384, total: 16384, uncovered: none}
views_agree:
  description: Whether all nodes answer and see the same slot owners.
  type: bool
  returned: always
errors:
  description: Nodes that do not answer, and why.
  type: list
  elements: str
  returned: always
findings:
  description: Everything that is not as it should be (C(state), its C(name), C(kind) of the reaction, C(message)), the most urgent first.
  type: list
  elements: dict
  returned: always
placement:
  description: C(score) of the placement, 0 being faultless, and its C(violations).
  type: dict
  returned: always
  sample: {score: 0, violations: []}
"""

from ansible_collections.progressive.platform.plugins.module_utils._redis.converge import CONSTRAINTS, INFO_ARGUMENTS, run_info
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(INFO_ARGUMENTS, run_info, **CONSTRAINTS)


if __name__ == "__main__":
    main()
