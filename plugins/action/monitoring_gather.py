# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import yaml
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.template import Templar
from ansible_collections.progressive.platform.plugins.module_utils._monitoring.gather import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.plugins.plugin_utils import _roles
from ansible_collections.progressive.platform.plugins.plugin_utils._local_action import LocalAction

TEMPLATE, BOARDS = "templates/monitoring.yaml.j2", "templates/dashboards.yaml.j2"


class ActionModule(LocalAction):
    """Renders what the roles say; always here, for the roles and the inventory are here."""

    module = "progressive.platform.monitoring_gather"
    argument_spec = ARGUMENTS
    run_function = run
    on_controller = True

    def prepare(self, args: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        roles = args.pop("roles", None) or []
        if isinstance(roles, str):
            roles = [name.strip() for name in roles.split(",")]
        said = {role.rpartition(".")[2]: wishes_of(self._templar, task_vars, role) for role in roles}
        given = {name: wish for name, wish in said.items() if wish is not None}
        if boolean(args.get("dashboards") or False):
            for role in roles:
                if boards := wishes_of(self._templar, task_vars, role, BOARDS):
                    given.setdefault(role.rpartition(".")[2], {})["dashboards"] = boards
        return {**args, "components": {**given, **(args.get("components") or {})}}


def wishes_of(templar: Templar, task_vars: t.Mapping[str, t.Any], role: str, template: str = TEMPLATE) -> t.Any:
    """What the role's template says; None for a role that has none."""
    path = _roles.role_path(role) / template
    if not path.is_file():
        return None
    variables = _roles.role_variables(templar, task_vars, role)
    try:
        return yaml.safe_load(_roles.render(templar, path, variables)) or {}
    except Exception as error:  # templates fail in as many ways as there are filters
        raise PlatformError(f"What role {role} wants watched cannot be rendered ({path}): {error}") from error
