# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  pods:
    description: The members.
    type: dict
    required: true
    suboptions:
      namespace:
        description: Namespace of the pods.
        type: str
        required: true
      selector:
        description: Label selector of the pods and of their volume claims, for example C(app=postgres).
        type: str
        required: true
      port:
        description: Port PostgreSQL listens on inside each pod.
        type: int
        default: 5432
      rest_port:
        description: Port of Patroni's REST interface inside each pod.
        type: int
        default: 8008
  password_secret:
    description: Kubernetes Secret with the key C(superuser), to see who streams.
    type: dict
    suboptions:
      namespace:
        description: Namespace of the Secret. Without it that of O(pods).
        type: str
      name:
        description: Name of the Secret.
        type: str
        required: true
  name:
    description: Name of the StatefulSet.
    type: str
    default: postgres
  scope:
    description: Patroni's name of the cluster.
    type: str
    default: postgres-primary
  members:
    description: Number of members afterwards.
    type: int
    default: 3
"""
