# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  pods:
    description: The servers are the pods of a label selector; they are reached by port-forward, with the kubeconfig's own rights.
    type: dict
    suboptions:
      namespace:
        description: Namespace of the pods.
        type: str
        required: true
      selector:
        description: Label selector, for example C(app=mongodb).
        type: str
        required: true
      port:
        description: Port the server listens on inside each pod.
        type: int
        default: 27017
  addresses:
    description: The servers as C(host:port).
    type: list
    elements: str
  name:
    description:
      - For O(pods), the name of the database service in its namespace.
      - Names the Lease C(<name>-converge) that keeps two runs apart, and the ConfigMaps that remember backups, restores and drills.
    type: str
    default: mongodb
  username:
    description: User to log in as, of database C(admin). Without it C(admin), where a password is given.
    type: str
  tls:
    description:
      - How the servers' certificates are verified, and what is shown to them. Without it nothing is encrypted by us.
      - Pods are reached through a port-forward, as C(localhost); their certificates must be for that name too.
    type: dict
    suboptions:
      ca_cert:
        description: Path of the authority's certificate (PEM). Without it the system's authorities count.
        type: path
      cert:
        description: Path of our certificate (PEM), where the servers want one.
        type: path
      key:
        description: Path of its key (PEM).
        type: path
      server_name:
        description: Not used; the driver verifies the name it connects to.
        type: str
      secret:
        description: Kubernetes Secret with C(ca.crt), and C(tls.crt) and C(tls.key) where the servers want a certificate.
        type: dict
        suboptions:
          namespace:
            description: Namespace of the Secret. Without it that of O(pods).
            type: str
          name:
            description: Name of the Secret.
            type: str
            required: true
requirements:
  - pymongo >= 4.10
"""
