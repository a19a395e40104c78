# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  pods:
    description: The nodes are the pods of a label selector; they are reached by port-forward, with the kubeconfig's own rights.
    type: dict
    suboptions:
      namespace:
        description: Namespace of the pods.
        type: str
        required: true
      selector:
        description: Label selector, for example C(app.kubernetes.io/name=redis-cluster).
        type: str
        required: true
      port:
        description: Port redis-server listens on inside each pod.
        type: int
        default: 6379
  addresses:
    description:
      - The nodes as C(host:port), an IPv6 address in brackets; their order is the order in which masters are chosen.
      - Names are resolved where the module runs, and the result must be an address that the nodes reach each other by.
    type: list
    elements: str
  zones:
    description: For O(addresses), the zone of each C(host:port) or host. Two nodes of one host share that host as a failure domain.
    type: dict
    default: {}
  name:
    description:
      - For O(pods), the name of the cluster in its namespace.
      - Names the Lease C(<name>-converge) that keeps two runs apart and the ConfigMap C(<name>-marker) that remembers the cluster.
    type: str
    default: redis-cluster
  username:
    description:
      - User to log in as; the default user without it.
      - A node that does not know the user, or not with this password, is tried as the default user with the same password, so that a cluster from before it
        had users can be led over.
    type: str
  tls:
    description: Connect by TLS. An empty dict trusts the authorities of the host the module runs on.
    type: dict
    suboptions:
      ca_cert:
        description: File with the certificates of the authorities to trust, as PEM, on the host the module runs on.
        type: path
      cert:
        description: File with a client certificate, where the servers want one.
        type: path
      key:
        description: File with the key of O(tls.cert).
        type: path
      server_name:
        description: Name the servers' certificates must be for. Without it the host of each address, or the IP of each pod.
        type: str
      secret:
        description: Kubernetes Secret to read C(ca.crt), and C(tls.crt) and C(tls.key) where it has them, from, in place of the files.
        type: dict
        suboptions:
          namespace:
            description: Namespace of the Secret. Without it that of O(pods).
            type: str
          name:
            description: Name of the Secret.
            type: str
            required: true
"""
