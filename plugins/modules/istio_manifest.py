#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: istio_manifest
short_description: Generate the manifests of an Istio mesh with a pinned istioctl
version_added: 0.2.0
description:
  - Gives the file of all documents that C(istioctl manifest generate) makes of an operator file, for O(progressive.platform.apply#module:files).
  - istioctl comes from an address with its checksum, once, or is a program of this machine. It must be of the version wanted.
  - Further documents of others (the Gateway API's definitions) come the same way and stand first.
  - Generated manifests are kept, so that a run that wants the same ones again takes a few milliseconds. No cluster is asked.
author:
  - The progressive.platform founders (@progressive-platform)
extends_documentation_fragment:
  - progressive.platform.kubernetes
  - progressive.platform.attributes
options:
  istioctl:
    description: Where istioctl comes from.
    type: dict
    required: true
    suboptions: &file
      version:
        description: Version that the program must say it has. Of other files it is a remark.
        type: str
        default: ""
      address:
        description: Where it is fetched from.
        type: str
        default: ""
      sha256:
        description: Checksum of the file at its address. Required with it.
        type: str
        default: ""
      path:
        description: A file that is here already, in place of the address.
        type: path
      members:
        description: Patterns of the files wanted out of it, where it is an archive.
        type: list
        elements: str
        default: []
      licence:
        description: A remark.
        type: str
        default: ""
      end_of_life:
        description: A remark.
        type: str
        default: ""
  operator:
    description: The operator file, C(IstioOperator) of C(install.istio.io/v1alpha1). Keys whose value is null are left out.
    type: dict
    required: true
  documents:
    description: Files of further documents.
    type: list
    elements: dict
    default: []
    suboptions: *file
  charts:
    description: Helm charts of others that belong to the mesh (Kiali), rendered without a cluster; their documents stand last.
    type: list
    elements: dict
    default: []
    version_added: 0.2.0
    suboptions:
      name:
        description: Name of the release.
        type: str
        required: true
      namespace:
        description: Namespace of the release.
        type: str
        required: true
      source:
        description: Where the chart's archive comes from.
        type: dict
        required: true
        suboptions: *file
      values:
        description: Its values. Keys whose value is null are left out.
        type: dict
        default: {}
  helm:
    description: Name or path of Helm 3, which O(charts) are rendered with.
    type: str
    default: helm
    version_added: 0.2.0
  cache:
    description: Folder of fetched files and generated manifests. C(${XDG_CACHE_HOME:-~/.cache}/progressive-platform/sources) by default.
    type: path
  timeout:
    description: Longest time that fetching one file may take, in seconds.
    type: float
    default: 300.0
attributes:
  action_group: {}
  check_mode:
    support: full
    details: Nothing but the cache of the host is ever changed, in check mode too.
  diff_mode:
    support: none
  idempotent:
    support: full
notes:
  - The options of the connection are accepted so that the group's defaults may be set; nothing here talks to a cluster.
seealso:
  - module: progressive.platform.apply
"""

EXAMPLES = r"""
- name: The manifests of a small mesh
  progressive.platform.istio_manifest:
    istioctl: {path: /usr/local/bin/istioctl, version: 1.31.1}
    operator:
      apiVersion: install.istio.io/v1alpha1
      kind: IstioOperator
      spec: {profile: minimal, revision: 1-31-1}
  register: manifest

- name: Send them
  progressive.platform.apply:
    set: istio
    namespace: istio-system
    files: ["{{ manifest.file }}"]
"""

RETURN = r"""
file:
  description: The file of all documents.
  returned: success
  type: str
istioctl:
  description: The istioctl that made them.
  returned: success
  type: str
"""

from ansible_collections.progressive.platform.plugins.module_utils._istio.manifest import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run)


if __name__ == "__main__":
    main()
