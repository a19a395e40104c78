# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Preflight's view of the variables: reads the roles and their values on the controller, and hands plain data to the rules."""

from __future__ import annotations

import typing as t
from collections.abc import Mapping, Sequence

from ansible.template import Templar
from ansible_collections.progressive.platform.plugins.filter.over_defaults import over_defaults
from ansible_collections.progressive.platform.plugins.module_utils._kube import deprecations
from ansible_collections.progressive.platform.plugins.module_utils._preflight import offline
from ansible_collections.progressive.platform.plugins.module_utils._preflight.findings import Finding, suggestion
from ansible_collections.progressive.platform.plugins.module_utils._preflight.rules import Role
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.plugins.plugin_utils import _roles


def examine_variables(templar: Templar, task_vars: Mapping[str, t.Any], names: Sequence[str]) -> tuple[list[Finding], dict[str, t.Any]]:
    """What is wrong with the variables of the roles and of those they depend on, and what they need from the cluster."""
    found: list[Finding] = []
    lineage: list[str] = []
    for name in names:
        try:
            lineage += [*_roles.dependencies(name), name]
        except PlatformError as error:
            meant = suggestion(name.rpartition(".")[2], _roles.collection_roles())
            found.append(
                Finding("platform_components", name, error.message, f"Did you mean {meant}?" if meant else "Correct it in the inventory.")
            )
    # A role that is not named as a component is there for others: workload's own services do not exist then.
    wanted = list(dict.fromkeys(["catalog", *(name.removeprefix("progressive.platform.") for name in lineage)]))
    roles = [role_of(templar, task_vars, name) for name in wanted]
    options = _roles.role_specs("workload")["workload_defaults"]["options"]
    found += offline.examine(roles, options)
    known = [variable for role in _roles.collection_roles() for variable in _roles.role_specs(role)]
    found += offline.unknown_variables(
        task_vars, [*known, *(variable for role in roles for variable in role.specs)], [*_roles.collection_roles(), "platform"]
    )
    if any(not finding.warning for finding in found):
        return found, {}
    old = [use for name in wanted for text in _roles.manifests(name) for use in deprecations.written(text, f"role {name}")]
    return found, {**offline.needs(roles), "deprecated": [[use.what.api_version, use.what.kind, use.whom] for use in old]}


def role_of(templar: Templar, task_vars: Mapping[str, t.Any], name: str) -> Role:
    """The role with its variables' values; those that cannot be computed apart, with the reason."""
    short = name.rpartition(".")[2]
    variables = _roles.role_variables(templar, task_vars, name)
    specs = _roles.role_specs(name)
    values: dict[str, t.Any] = {}
    broken: dict[str, str] = {}
    for variable, value, reason in _roles.values(templar, variables, [variable for variable in specs if variable in variables]):
        if reason:
            broken[variable] = reason
        else:
            values[variable] = value
    services: dict[str, t.Any] = {}
    needs: dict[str, t.Any] = {}
    if not broken:
        wanted = [key for key in (f"__{short}_needs", f"__{short}_services", "__workload_base", "workload_defaults") if key in variables]
        extra = {key: value for key, value, reason in _roles.values(templar, variables, wanted) if not reason}
        needs = extra.get(f"__{short}_needs") or {}
        merged = extra.get(f"__{short}_services")
        if isinstance(merged, Mapping) and isinstance(extra.get("workload_defaults"), Mapping):
            services = over_defaults(merged, extra["__workload_base"], extra["workload_defaults"])
    return Role(short, specs, values, broken, services, needs)
