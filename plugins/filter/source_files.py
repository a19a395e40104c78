# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: source_files
short_description: Every file of upstream of a catalog, from where it is published or from a mirror
version_added: 0.2.0
author:
  - The progressive.platform founders
description:
  - Turns all files of a catalog to a mirror that M(progressive.platform.mirror) has filled, where a file is C(mirror/sha256/name).
positional: _input, mirror, replaced
options:
  _input:
    description: The catalog; files by name, each with C(address) and C(sha256).
    type: dict
    required: true
  mirror:
    description: Address, or folder, of the mirror; empty for where the files are published.
    type: str
    default: ""
  replaced:
    description: Parts by name that replace those of the catalog. A file whose address or path is given there is not turned to the mirror.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Where istioctl comes from
  ansible.builtin.debug:
    msg: "{{ catalog_sources | progressive.platform.source_files('https://mirror.example.com/files') }}"
"""

RETURN = r"""
_value:
  description: Files by name.
  type: dict
"""

import typing as t
from collections.abc import Callable, Mapping

from ansible_collections.progressive.platform.plugins.module_utils._mirror.sources import place


def source_files(
    catalog: Mapping[str, Mapping[str, t.Any]], mirror: str = "", replaced: Mapping[str, Mapping[str, t.Any]] | None = None
) -> dict[str, dict[str, t.Any]]:
    files = {}
    for name in [*catalog, *(name for name in replaced or {} if name not in catalog)]:
        own = (replaced or {}).get(name) or {}
        file = {**(catalog.get(name) or {}), **own}
        if mirror and file.get("address") and file.get("sha256") and not own.get("address") and not own.get("path"):
            where = f"{mirror.rstrip('/')}/{place(str(file['sha256']), str(file['address']))}"
            file["path" if mirror.startswith("/") else "address"] = where
        files[name] = file
    return files


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., t.Any]]:
        return {"source_files": source_files}
