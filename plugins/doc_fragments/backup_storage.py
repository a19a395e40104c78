# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  storage:
    description: Where backups are kept. One of O(storage.path) and O(storage.s3).
    type: dict
    required: true
    suboptions:
      path:
        description: Directory of the host the module runs on, a mounted volume for example. It is made with mode 0700 where it is missing.
        type: path
      s3:
        description: A bucket of S3-compatible storage. Needs the Python library minio on the host the module runs on.
        type: dict
        suboptions:
          bucket:
            description: Name of the bucket, which exists.
            type: str
            required: true
          prefix:
            description: Folder in it.
            type: str
            default: ""
          endpoint:
            description: Address of the service, such as C(https://minio.example.com). Without it that of AWS.
            type: str
          region:
            description: Region, where the service does not say it itself.
            type: str
          access_key:
            description: Access key. Without it the environment (E(AWS_ACCESS_KEY_ID)), AWS's configuration files and the instance's role are tried.
            type: str
          secret_key:
            description: The access key's secret.
            type: str
          ca_cert:
            description: File with the certificates to trust.
            type: path
      spool:
        description:
          - Directory for files on their way to or from O(storage.s3), with room for a whole backup; the system's own temporary directory without it.
          - A O(storage.path) has its spool in itself.
        type: path
"""

    # For those that keep backups elsewhere as well.
    OPTIONAL: str = DOCUMENTATION.replace("    required: true\n", "", 1)
