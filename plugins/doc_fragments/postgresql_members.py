# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  pods:
    description: The members are the pods of a label selector; they are reached by port-forward, with the kubeconfig's own rights.
    type: dict
    suboptions:
      namespace:
        description: Namespace of the pods.
        type: str
        required: true
      selector:
        description: Label selector, for example C(app=postgres).
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
  addresses:
    description:
      - The members as C(host:port) of Patroni's REST interface, an IPv6 address in brackets.
      - Where their servers listen they say themselves; C(pg_hba) must let the superuser in from the host the module runs on.
    type: list
    elements: str
  password:
    description: Password of the superuser C(postgres). Without it what only SQL tells is not looked at.
    type: str
  rest_password:
    description: Password of the user C(patroni) of the REST interface, which what changes something asks for.
    type: str
  password_secret:
    description: Kubernetes Secret that holds both, with the keys C(superuser) and C(restapi), read when the module runs.
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
