# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  replica_set:
    description: Name of the set, as every member was started with (C(--replSet)).
    type: str
    default: rs0
  pods:
    description: The members are the pods of a label selector; they are reached by port-forward, with the kubeconfig's own rights.
    type: dict
    suboptions:
      namespace:
        description: Namespace of the pods.
        type: str
        required: true
      selector:
        description: Label selector, for example C(app.kubernetes.io/name=mongodb).
        type: str
        required: true
      port:
        description: Port mongod listens on inside each pod.
        type: int
        default: 27017
      domain:
        description:
          - Domain of the pods' own names, C(<headless Service>.<namespace>.svc.<cluster domain>).
          - A member is always known as C(<pod>.<domain>:<port>), never by an address.
        type: str
        required: true
  addresses:
    description:
      - The members as C(name:port), by the DNS names they know each other by. An IP address is refused.
    type: list
    elements: str
  zones:
    description: For O(addresses), the zone of each C(name:port) or name; for the report.
    type: dict
    default: {}
  name:
    description:
      - For O(pods), the name of the set in its namespace.
      - Names the Lease C(<name>-converge) that keeps two runs apart and the ConfigMap C(<name>-marker) that remembers the set.
    type: str
    default: mongodb
  username:
    description: User to log in as, of database C(admin). Without it C(admin), where a password is given.
    type: str
  tls:
    description:
      - How the members' certificates are verified, and what is shown to them. Without it nothing is encrypted by us.
      - Pods are reached through a port-forward, as C(localhost); their certificates must be for that name too.
    type: dict
    suboptions:
      ca_cert:
        description: Path of the authority's certificate (PEM). Without it the system's authorities count.
        type: path
      cert:
        description: Path of our certificate (PEM), where the members want one.
        type: path
      key:
        description: Path of its key (PEM).
        type: path
      secret:
        description: Kubernetes Secret with C(ca.crt), and C(tls.crt) and C(tls.key) where the members want a certificate.
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
