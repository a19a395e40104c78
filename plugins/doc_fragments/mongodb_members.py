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
"""
