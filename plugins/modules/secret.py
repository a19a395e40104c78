#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: secret
short_description: Make a Kubernetes Secret once, and change its values without a break
version_added: 0.1.0
author:
  - progressive.platform contributors (@progressive-platform)
description:
  - Makes a Secret whose values are generated when it does not have them yet, and changed by a later run only with O(rotate).
  - Values given in O(data) are kept as given, by server-side apply.
  - No value is ever returned, shown in a diff or written to a log.
extends_documentation_fragment:
  - progressive.platform.kubernetes
  - progressive.platform.attributes
options:
  name:
    description: Name of the Secret.
    type: str
    required: true
  namespace:
    description: Namespace of the Secret. Without it that of the kubeconfig's context.
    type: str
  generate:
    description:
      - Keys to generate, each with its options; C(length) in characters, from 12 to 1024, 32 unless given.
      - C(turns) in its place lists names of which the value is one - the first to begin with, and with each O(rotate) the next. So the
        name of a login goes with its password where a server knows one password a login.
      - Generated values hold letters and digits.
    type: dict
    default: {}
  data:
    description: Keys with the values they must have, as plain text.
    type: dict
    default: {}
  labels:
    description: Labels beside C(app.kubernetes.io/managed-by) and C(app.kubernetes.io/part-of).
    type: dict
    default: {}
  rotate:
    description:
      - One step of changing the generated values, so that whoever takes a value can know the new one before anybody gives it, and still take the old one after.
      - V(stage) makes C(next-<key>) beside each key, unless a change is under way. V(promote) makes it the value of the key, and keeps the old one as
        C(former-<key>). V(retire) drops the former one.
      - A step that was done before changes nothing, so a sequence that was interrupted is simply run again from its beginning.
    type: str
    choices: [stage, promote, retire]
  backend:
    description:
      - Where the values of O(generate) come from. Without it, in a role, the inventory's C(platform_secret_backend).
      - What Vault or a file of sops holds counts; what it lacks it gets from the Secret, where that was there first, or a generated value. So no run
        changes a value but with O(rotate), which it changes there too.
    type: dict
    suboptions:
      kind:
        description:
          - V(generated) keeps them in the Secret alone.
          - V(vault) keeps them in an entry C(<mount>/<path>/<namespace>/<name>) of a key-value engine of version 2, of Vault or OpenBao.
          - V(sops) keeps them in the file C(<directory>/<namespace>/<name>.yaml), encrypted for whomever the C(.sops.yaml) above it names.
          - V(external_secrets) sends an ExternalSecret and waits for its Secret; nothing is generated, and O(rotate) and O(data) are refused.
        type: str
        choices: [generated, vault, sops, external_secrets]
        default: generated
      vault:
        description: Where Vault is.
        type: dict
        suboptions:
          address:
            description: Address, such as C(https://vault.example.com:8200).
            type: str
            required: true
          token:
            description: Token that may read and create the entries. Without it O(backend.vault.token_file), then E(VAULT_TOKEN).
            type: str
          token_file:
            description: File with the token, as an agent of Vault writes it.
            type: path
          mount:
            description: Mount of the engine.
            type: str
            default: secret
          path:
            description: Path below it.
            type: str
            default: progressive
          ca_cert:
            description: File with the certificates to trust; the system's without it.
            type: path
      sops:
        description: Where the files are.
        type: dict
        suboptions:
          directory:
            description: Directory of the host the module runs on; a checkout, whose files are committed by whoever runs this.
            type: path
            required: true
          program:
            description: The program sops, 3.7 or newer.
            type: str
            default: sops
      external_secrets:
        description: What External Secrets is asked for.
        type: dict
        suboptions:
          store:
            description: Name of the store.
            type: str
            required: true
          store_kind:
            description: Its kind.
            type: str
            choices: [SecretStore, ClusterSecretStore]
            default: ClusterSecretStore
          path:
            description: The values are properties of the store's entry C(<path>/<namespace>/<name>).
            type: str
            default: progressive
          refresh:
            description: How often it looks for new values.
            type: str
            default: 1h
          timeout:
            description: How long the Secret is waited for, in seconds.
            type: float
            default: 60.0
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
    details: A diff would have nothing to show but secrets.
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: A password for Redis that no run ever changes
  progressive.platform.secret:
    name: redis-cluster-auth
    namespace: database
    generate:
      password: {length: 40}

- name: A key from the vault beside a generated one
  progressive.platform.secret:
    name: api
    namespace: application
    data:
      upstream-key: "{{ vault_upstream_key }}"
    generate:
      session-key: {}

- name: The next password, which nobody gives yet; promote and retire follow when the servers take it
  progressive.platform.secret:
    name: redis-cluster-auth
    namespace: database
    generate:
      password: {length: 40}
    rotate: stage
"""

RETURN = r"""
phase:
  description: V(staged) when a next value waits, V(overlap) when a former one is still to be taken, V(steady) otherwise.
  returned: success
  type: str
  sample: steady
name:
  description: Name of the Secret.
  returned: success
  type: str
namespace:
  description: Namespace of the Secret.
  returned: success
  type: str
keys:
  description: Every key the Secret has.
  returned: success
  type: list
  elements: str
  sample: [password]
generated:
  description: Keys whose value this run made.
  returned: success
  type: list
  elements: str
  sample: [password]
"""

from ansible_collections.progressive.platform.plugins.module_utils._kube.secret import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run)


if __name__ == "__main__":
    main()
