# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The documents that roles would send, rendered on the controller without running them: what preflight shows to a mesh's own linters."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping, Sequence

from ansible.template import Templar
from ansible_collections.progressive.platform.plugins.module_utils._kube.apply import CLUSTER_WIDE
from ansible_collections.progressive.platform.plugins.module_utils._kube.bundle import Document
from ansible_collections.progressive.platform.plugins.plugin_utils import _roles
from ansible_collections.progressive.platform.plugins.plugin_utils._templates import computed, documents

# Their documents hold what other tasks have gathered before, and nothing of the mesh.
LEFT_OUT = {"monitoring", "operator"}


def rendered(templar: Templar, task_vars: Mapping[str, t.Any], roles: Sequence[str]) -> list[tuple[str, Document]]:
    """Every document with the role that sends it, its namespace filled in. Raises PlatformError with the template's file and line."""
    found: list[tuple[str, Document]] = []
    for role in roles:
        if role in LEFT_OUT:
            continue
        source, variables = role, _roles.role_variables(templar, task_vars, role)
        services, templates = value(templar, variables, f"__{role}_services"), f"__{role}_templates"
        namespace = value(templar, variables, "platform_namespace")
        if services:
            source, templates = "workload", "__workload_templates"
            variables = _roles.role_variables(templar, {**variables, "workload_set": role, "workload_services": services}, source)
        files = [str(_roles.role_path(source) / "templates" / name) for name in value(templar, variables, templates) or []]
        variables = computed(templar, files, variables)
        for file in files:
            for document in documents(templar, file, variables):
                if document["kind"] not in CLUSTER_WIDE:
                    document.setdefault("metadata", {}).setdefault("namespace", str(namespace))
                found.append((role, document))
    return found


def value(templar: Templar, variables: Mapping[str, t.Any], name: str) -> t.Any:
    """The variable's value; None where the role has no such variable."""
    if name not in variables:
        return None
    ((_unused, found, _reason),) = _roles.values(templar, variables, [name])
    return found
