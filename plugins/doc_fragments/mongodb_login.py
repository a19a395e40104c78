# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
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
