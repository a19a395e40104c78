#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: redis_cluster
short_description: Form a Redis or Valkey cluster, and heal it
version_added: 0.1.0
description:
  - Asks every node what it is and what it believes of the others, plans, does one class of action, and asks again, until the
    cluster is healthy and as wanted, or until a state is found that must not be touched.
  - Masters and replicas are placed so that no host and no zone takes a whole shard or the majority of the masters.
  - Never empties a node, never resets one that holds keys, never joins two clusters, and never gives away a slot that had an owner.
    A refusal names the nodes, their IDs, the slots and the next command.
  - A cluster that is still empty forms with C(cluster-node-timeout 500) and C(repl-diskless-sync-delay 0) and gets its own settings
    back in the end; a run that was killed in between is noticed by the next one, which restores them.
  - A second run sends readers only.
  - What each state looks like, and what is done or refused, is in C(docs/redis_cluster.md).
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
    details: Returns the whole plan, foreseen to its end. Waits for something that does not depend on the plan end it early.
  diff_mode:
    support: full
    details: Roles, slots and knowledge of every node before and after, as YAML.
  idempotent:
    support: full
options:
  masters:
    description: Number of masters, at least 3.
    type: int
    default: 3
  replicas_per_master:
    description: Replicas each master has at least.
    type: int
    default: 1
  surplus:
    description:
      - What becomes of nodes beyond O(masters) times (1 + O(replicas_per_master)), those with the highest ordinals. With O(addresses) that is
        their place in the list, with O(pods) the number at the end of the name.
      - V(release) moves their slots to the others, makes sure that every master has its replicas elsewhere, and takes them out of the cluster
        (C(CLUSTER FORGET) everywhere, C(CLUSTER RESET HARD)); RV(removable) then names them. V(keep) makes them further replicas.
    type: str
    choices: [release, keep]
    default: release
  on_conflict:
    description:
      - Whose value stays when a key is on both ends of an open slot with different values - V(owner), the node that owns the slot, or
        V(importer), the other one. V(refuse) stops before that key.
    type: str
    choices: [refuse, owner, importer]
    default: refuse
  latency_limit:
    description:
      - Milliseconds that moving slots may keep a master from serving its clients at a time. The number of keys carried in one go follows
        it; a single big key takes as long as it takes, with a warning.
    type: int
    default: 50
  rebalance_topology:
    description: Whether replicas change their master when that separates the copies of a shard that share a host or a zone.
    type: bool
    default: false
  failback:
    description:
      - Whether masters that a failover has put elsewhere come back - by a planned failover to a replica that has caught up, one at a
        time - to where they spread best, and among equals to the nodes with the lowest ordinals.
      - With O(rebalance_topology) alone a planned failover is made only where it improves the placement.
    type: bool
    default: false
  allow_data_loss:
    description:
      - What may be given up, by name. A refusal says which name it wants.
      - The fingerprint of a former cluster, to form a new one on its now empty nodes; the ID of a failed master, to promote a
        replica that the cluster itself does not elect because its data is old; slot ranges as C(0-99,200), to give slots that have
        lost their owner and all their keys to masters that are there.
    type: list
    elements: str
    default: []
  allow_takeover:
    description:
      - When most masters are gone no election can be won. V(true) promotes the newest replica of each of their shards without one
        (C(CLUSTER FAILOVER TAKEOVER)). Writes that had not reached it are lost, and a master that was only cut off is overruled.
    type: bool
    default: false
  adopt_data:
    description:
      - IDs of nodes outside the cluster whose keys are to become part of it. They must be masters, every slot they own or have keys
        in must be without an owner in the cluster, and nothing is ever overwritten - otherwise it is refused with the slots.
    type: list
    elements: str
    default: []
  discard_data:
    description:
      - IDs of nodes outside the cluster, or masters without slots in it, that are emptied (C(FLUSHALL), C(FUNCTION FLUSH), and outside
        the cluster C(CLUSTER RESET HARD)) and then used. A node whose former cluster still answers is never emptied.
    type: list
    elements: str
    default: []
  forget_node_ids:
    description:
      - IDs of live nodes that belong to the cluster but are not among the nodes given, to be removed from it. One that owns slots, or is
        the master of a node that is given, is refused.
    type: list
    elements: str
    default: []
  recreate_replica:
    description:
      - Names of pods that are replicas with damaged files, or that cannot keep their data on disk. The pod is deleted together with its volume
        claims, and copies from its healthy master again. Only one that is found damaged is touched, and never the only copy.
      - With O(addresses) it is refused, and says what to do by hand.
    type: list
    elements: str
    default: []
  node_timeout:
    description:
      - C(cluster-node-timeout) in milliseconds that every node ought to have at run time.
      - Without it each node keeps what its configuration says.
    type: int
  config:
    description:
      - Settings that every running server ought to have, as in C(redis.conf), set with C(CONFIG SET) where C(CONFIG GET) says something else.
      - V(64mb) and V(67108864), V(replica) and V(slave) are the same. A list is joined with blanks.
      - What takes a restart is refused by the server, and said so; such directives belong into the configuration file.
      - Nothing that holds a password, and not C(cluster-node-timeout), which has O(node_timeout).
      - With O(roll) a pod that is to be replaced is left out. Without it such a pod gets everything but C(maxmemory), whose room it may not have.
    type: dict
    default: {}
  roll:
    description:
      - Whether pods that run an older template of their StatefulSet are replaced (state S34), one at a time and only while everything else is as wanted.
      - Replicas come first, then each master hands over to a replica that is in step (C(CLUSTER FAILOVER)), and its pod follows.
        Pods are evicted, so that disruption budgets hold. O(timeout) begins anew with each step.
      - For StatefulSets whose C(updateStrategy) is C(OnDelete); a run that was interrupted is taken up by the next one.
    type: bool
    default: false
  release:
    description:
      - Engine and version that the newest template runs, as far as is known, for example V(valkey 8.0) or V(redis).
      - With O(roll), a change that the data format does not allow is refused before the first pod is replaced. Formats go forward only, and from Redis
        up to 7.2 to Valkey.
    type: str
  load_timeout:
    description: Longest time, in seconds, for a node to load its data set or to copy its master's; it is not part of O(timeout).
    type: float
    default: 300.0
  timeout:
    description: Longest time for everything else, in seconds.
    type: float
    default: 120.0
notes:
  - With O(addresses) the lock and the marker of the cluster are files under C(progressive-platform/redis) in E(XDG_STATE_HOME)
    (C(~/.local/state)) of the host the module runs on. They keep runs of that host apart, and remember what that host has formed.
  - With O(pods) the kubeconfig needs get and list on pods, create on pods/portforward, and get, create and update on configmaps and
    leases in the namespace; create on pods/eviction and list on statefulsets for O(roll); get on secrets for O(password_secret);
    list on nodes and persistentvolumeclaims to know zones and volumes; get on pods/log for a crash's last words;
    delete on pods and persistentvolumeclaims for O(recreate_replica).
seealso:
  - module: progressive.platform.redis_cluster_info
"""

EXAMPLES = r"""
- name: Form the cluster, or heal it
  progressive.platform.redis_cluster:
    pods:
      namespace: progressive-cache
      selector: app.kubernetes.io/name=redis-cluster
    password_secret:
      name: redis-cluster-auth
    masters: 3
    replicas_per_master: 1

- name: Six servers without Kubernetes, in three zones
  progressive.platform.redis_cluster:
    addresses:
      - 192.0.2.11:6379
      - 192.0.2.12:6379
      - 192.0.2.13:6379
      - 192.0.2.14:6379
      - 192.0.2.15:6379
      - 192.0.2.16:6379
    zones: {192.0.2.11: a, 192.0.2.12: b, 192.0.2.13: c, 192.0.2.14: a, 192.0.2.15: b, 192.0.2.16: c}
    password: "{{ vault_redis_password }}"
"""

RETURN = r"""
state:
  description: V(S4), healthy and as wanted; in check mode the state found; of a failed task the state that stopped it.
  type: str
  returned: always
  sample: S4
found:
  description: What was found before the first change, one item a state (C(state), its C(name), C(kind), C(message)).
  type: list
  elements: dict
  returned: success
findings:
  description: What was found when the task gave up, in the form of RV(found).
  type: list
  elements: dict
  returned: failure
plan:
  description: Steps taken, or in check mode to be taken, in order (C(state), C(action), C(reason), C(commands) with C(node), C(command), C(reason)).
  type: list
  elements: dict
  returned: always
nodes:
  description: One item a node, as M(progressive.platform.redis_cluster_info) returns it.
  type: list
  elements: dict
  returned: always
removable:
  description:
    - Names of the nodes beyond the wanted ones that are no part of the cluster (any more) and hold nothing; their servers may be removed.
    - In check mode those that would be.
  type: list
  elements: str
  returned: success
  sample: [redis-cluster-6, redis-cluster-7]
slots:
  description: Numbers of slots C(assigned), C(covered) by an owner that says ok, C(total), and the C(uncovered) ones.
  type: dict
  returned: success
  sample: {assigned: 16384, covered: 16384, total: 16384, uncovered: none}
placement:
  description: C(score) of the placement, 0 being faultless, and its C(violations).
  type: dict
  returned: success
  sample: {score: 0, violations: []}
"""

from ansible_collections.progressive.platform.plugins.module_utils._redis.converge import ARGUMENTS, CONSTRAINTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run, **CONSTRAINTS)


if __name__ == "__main__":
    main()
