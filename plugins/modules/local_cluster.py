#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: local_cluster
short_description: A real Kubernetes of several nodes on one machine
version_added: 0.1.0
description:
  - Makes, checks or removes a Kubernetes cluster on the machine the task runs on.
  - With O(provider=modules) nothing but Go, Debian packages and root is wanted. Kubernetes, etcd and CoreDNS are built from
    published Go modules once a version. Every node is a network and mount namespace with a kubelet, a kube-proxy and a
    containerd of its own, so it can really be cut off.
  - The cluster's network is closed; what a pod sends to an address outside of it is dropped on this machine.
  - What is missing is found first and only that is done, so a second run on a healthy cluster changes nothing, and a run after a
    crash, a killed component or a stop of the machine repairs what is broken. etcd's data and volumes survive until O(state=down).
  - NetworkPolicy objects are accepted and not enforced; the bridge CNI plugin of Debian has no enforcer.
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
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  state:
    description:
      - V(up) makes the cluster or repairs it, and returns when every node is ready.
      - V(down) stops it and removes processes, mounts, namespaces, devices, control groups, packet filter rules, volumes and state.
        Binaries, images and what it did not make stay.
      - V(status) changes nothing and never fails because something is down.
    type: str
    choices: [up, down, status]
    default: up
  provider:
    description:
      - V(modules) runs plain processes. V(kind) uses Docker and kind, which have to be installed.
      - V(existing) checks the cluster of O(kubeconfig) and O(context), and never starts or stops it.
    type: str
    choices: [modules, kind, existing]
    default: modules
  cache:
    description: Directory of binaries, images and state. Without it C(progressive-platform) in E(XDG_CACHE_HOME) or C(~/.cache).
    type: path
  sources:
    description: Directory with the C(main.go) of each of O(programs) that has no C(package), in a directory of the program's name.
    type: path
  nodes:
    description: The nodes. The first gets the second address of O(node_network) and the first /24 after the beginning of O(pod_network).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the node.
        type: str
        required: true
      zone:
        description: Value of its label C(topology.kubernetes.io/zone).
        type: str
      pool:
        description: One of O(pools), whose labels and taints the node gets.
        type: str
      labels:
        description: Further labels.
        type: dict
        default: {}
      taints:
        description: Further taints, each as C(key=value:Effect) or as a dictionary of C(key), C(value) and C(effect).
        type: list
        elements: raw
        default: []
  pools:
    description: Node pools by name, each a dictionary of C(labels) and C(taints).
    type: dict
    default: {}
  programs:
    description:
      - What is built from Go modules, by name. C(kubernetes) and C(pause) have to be there.
      - Each has a C(version) and a C(package) (the main package of a published module), with C(modules) where the proxy does not list that module's versions.
      - C(tags) are build constraints.
      - One without C(package) has a C(main.go) of its own, with C(modules) (path and version of what it requires), C(staging) (that one
        whose parts are modules of their own), C(symbols) (variables for the linker) and C(names) (what the program is called by).
    type: dict
    default: {}
  packages:
    description: Debian packages that are installed when missing. No service of theirs is started.
    type: list
    elements: str
    default: []
  components:
    description:
      - Images made of programs by name, each with C(tag), C(files) (path in the image to a program's name or a path of the machine),
        C(links), C(entrypoint) and C(user). They are named C(localhost/progressive/<name>:<tag>).
    type: dict
    default: {}
  images:
    description:
      - Image archives (docker-archive or oci-archive, not compressed) every node gets.
      - One is imported again when its content has changed.
    type: list
    elements: path
    default: []
  node_network:
    description: IPv4 network of the nodes. Its first address is the control plane's.
    type: str
    default: 10.111.0.0/24
  pod_network:
    description: IPv4 network of the pods; each node gets a /24 of it.
    type: str
    default: 10.244.0.0/16
  service_network:
    description: IPv4 network of the Services; the tenth address is the cluster's DNS.
    type: str
    default: 10.96.0.0/16
  node_grace:
    description: Seconds without a sign of life after which a node counts as lost.
    type: int
    default: 40
  wait_timeout:
    description: Longest time a node may take to become ready, in seconds.
    type: float
    default: 300.0
  build_timeout:
    description: Longest time one program may take to be built, in seconds.
    type: float
    default: 3600.0
notes:
  - The options O(kubeconfig), O(context), O(host), O(api_key), O(ca_cert) and O(validate_certs) matter to O(provider=existing) only.
  - Only one run at a time changes the cluster; another waits for it.
seealso:
  - module: progressive.platform.health
"""

EXAMPLES = r"""
- name: Is the cluster there
  progressive.platform.local_cluster:
    state: status
    nodes: "{{ local_cluster_nodes }}"
    pools: "{{ platform_pools }}"
    programs: "{{ local_cluster_programs }}"

- name: Make it with the role, which knows versions, images and add-ons
  ansible.builtin.include_role:
    name: progressive.platform.local_cluster

- name: Check the cluster of a kubeconfig
  progressive.platform.local_cluster:
    provider: existing
    kubeconfig: ~/.kube/config
    context: staging
"""

RETURN = r"""
state:
  description: V(up), V(degraded) or V(down), as found or made. V(unknown) after C(state=down) of an existing cluster.
  returned: success
  type: str
  sample: up
actions:
  description: What was done, or would be in check mode.
  returned: when state is not status
  type: list
  elements: str
  sample: [start kubelet-node-2]
kubeconfig:
  description: Path of the administrator's kubeconfig, readable by its owner only.
  returned: success
  type: str
  sample: ~/.cache/progressive-platform/run/kubeconfig
context:
  description: The context in RV(kubeconfig).
  returned: success
  type: str
  sample: progressive-local
server:
  description: URL of the API server; it listens on the cluster's own bridge only.
  returned: success
  type: str
  sample: https://10.111.0.1:6443
version:
  description: Version of Kubernetes.
  returned: success
  type: str
  sample: v1.36.3
dns:
  description: Address of the cluster's DNS Service.
  returned: when provider is modules
  type: str
  sample: 10.96.0.10
nodes:
  description:
    - The nodes. C(link) is the machine's end of the node's cable; C(ip link set pp-2 down) cuts the node off and C(up) brings it back.
    - C(volumes) is the directory of its local volumes. C(ready) comes with C(state=status).
  returned: success
  type: list
  elements: dict
  sample:
    - name: node-1
      zone: zone-1
      pool: app
      address: 10.111.0.2
      pods: 10.244.1.0/24
      link: pp-1
      volumes: ~/.cache/progressive-platform/run/nodes/node-1/volumes
components:
  description: Whether each daemon runs as it should.
  returned: when state is status and provider is modules
  type: dict
  sample: {etcd: true, kubelet-node-1: false}
logs:
  description: Directory of the daemons' logs.
  returned: when state is status and provider is modules
  type: str
  sample: ~/.cache/progressive-platform/run/log
notes:
  description: What a person should know and the run could go on without.
  returned: when there is something
  type: list
  elements: str
  sample: []
"""

from ansible_collections.progressive.platform.plugins.module_utils._local.arguments import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run)


if __name__ == "__main__":
    main()
