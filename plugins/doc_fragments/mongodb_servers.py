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
"""
