# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - Path of the kubeconfig file.
      - A task that names neither kubeconfig, context nor host uses the inventory's C(platform_kubeconfig) and C(platform_context), where they are set.
      - Without it E(KUBECONFIG) is used, then C(~/.kube/config), then, inside a pod, the pod's service account.
    type: path
  context:
    description: Context of the kubeconfig to use. Without it the file's current context.
    type: str
  host:
    description: URL of the API server, with O(api_key), in place of a kubeconfig.
    type: str
  api_key:
    description: Bearer token for O(host).
    type: str
  ca_cert:
    description: Path of the CA bundle the API server's certificate is verified with, for O(host).
    type: path
  validate_certs:
    description: Whether the API server's certificate is verified, for O(host).
    type: bool
    default: true
requirements:
  - python >= 3.11
  - kubernetes >= 30.1
  - PyYAML >= 6.0
"""

    WAIT = r"""
options:
  wait:
    description:
      - Whether to wait, by watch, until every object is ready.
      - The wait ends at once when an object cannot become ready by itself (for example ImagePullBackOff), with the reason.
    type: bool
    default: false
  wait_timeout:
    description: Longest time to wait, in seconds.
    type: float
    default: 300.0
"""
