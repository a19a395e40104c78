# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  password:
    description: Password of O(username). Without one nobody logs in. Every member must take it, or O(former_password).
    type: str
  former_password:
    description: Tried where O(password) is refused. While a password is being changed some members know only this one.
    type: str
  password_secret:
    description:
      - Kubernetes Secret that holds the password, read when the module runs.
      - While M(progressive.platform.secret) rotates it, the Secret also holds C(next-<key>) or C(former-<key>); they are tried as well.
    type: dict
    suboptions:
      namespace:
        description: Namespace of the Secret. Without it that of O(pods).
        type: str
      name:
        description: Name of the Secret.
        type: str
        required: true
      key:
        description: Key in the Secret.
        type: str
        default: password
"""
