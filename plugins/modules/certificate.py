#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate
short_description: Make a certificate from an authority of the cluster's own, and renew it in time
version_added: 0.2.0
description:
  - Keeps a Secret with C(ca.crt), C(tls.crt) and C(tls.key), for clusters where nothing else (cert-manager, a company's own authority) issues certificates.
  - The authority is a Secret of its own, made once. A certificate is issued when there is none, when it is for other names, when it is from another
    authority, or when it ends soon; otherwise nothing is changed.
  - The certificate serves servers that are also each other's clients, as the nodes of a database cluster are.
  - No key is ever returned, shown in a diff or written to a log.
author:
  - The progressive.platform founders (@progressive-platform)
requirements:
  - cryptography >= 42 on the host that runs the module
extends_documentation_fragment:
  - progressive.platform.kubernetes
  - progressive.platform.attributes
options:
  name:
    description: Name of the Secret with the certificate.
    type: str
    required: true
  namespace:
    description: Namespace of both Secrets. Without it that of the kubeconfig's context.
    type: str
  authority:
    description: Name of the Secret with the authority, which other certificates may share. Without it C(<name>-authority).
    type: str
  names:
    description: DNS names (a wildcard is one too) and IP addresses that the certificate is for.
    type: list
    elements: str
    required: true
  days:
    description: How long a certificate lasts.
    type: int
    default: 90
  renew_before:
    description: How many days before its end it is renewed. The module must run that often.
    type: int
    default: 30
  authority_days:
    description: How long the authority lasts; a warning begins a year before its end.
    type: int
    default: 3650
  labels:
    description: Labels beside C(app.kubernetes.io/managed-by) and C(app.kubernetes.io/part-of).
    type: dict
    default: {}
  force:
    description: Whether keys that another field manager owns are taken over.
    type: bool
    default: false
attributes:
  action_group: {}
  check_mode:
    support: full
  diff_mode:
    support: none
    details: RV(reason) says why there is a new one; the rest of a diff would be secrets.
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: A certificate for the nodes of a Redis Cluster
  progressive.platform.certificate:
    name: redis-cluster-tls
    namespace: database
    names:
      - redis-cluster.database.svc
      - "*.redis-cluster-headless.database.svc.cluster.local"
"""

RETURN = r"""
name:
  description: Name of the Secret.
  returned: success
  type: str
namespace:
  description: Namespace of the Secret.
  returned: success
  type: str
reason:
  description: Why a certificate was issued, or in check mode would be; empty when none was.
  returned: success
  type: str
  sample: it ends in 29 days
not_after:
  description: When the certificate ends.
  returned: success
  type: str
  sample: "2027-02-21T14:45:00+00:00"
authority:
  description: The authority's certificate (C(ca.crt)), for those who have to trust it.
  returned: success
  type: str
"""

from ansible_collections.progressive.platform.plugins.module_utils._kube.certificate import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run)


if __name__ == "__main__":
    main()
