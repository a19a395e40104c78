# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  source:
    description:
      - Registry, with a path, that images come from whose name has no host. Empty leaves it to C(registries.conf), Docker Hub where that says nothing.
    type: str
    default: ""
  sources:
    description: Where single images come from, by their name in the catalog; a repository, or a whole reference.
    type: dict
    default: {}
  clusters:
    description: Only what these clusters need; all of the bill by default.
    type: list
    elements: str
    default: []
  authfile:
    description: Credentials of all registries, as C(skopeo login --authfile) and C(docker login) write them. What skopeo takes by itself by default.
    type: path
  source_tls_verify:
    description: Whether the certificates of the registries that images come from are verified.
    type: bool
    default: true
  attempts:
    description: How often something is tried that may pass by itself, 1, 2, 4 ... seconds apart, 30 at most. What a registry refuses is not tried again.
    type: int
    default: 5
"""
