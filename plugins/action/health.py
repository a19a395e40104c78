# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import yaml
from ansible_collections.progressive.platform.plugins.module_utils._health.health import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.plugins.plugin_utils import _roles
from ansible_collections.progressive.platform.plugins.plugin_utils._local_action import LocalAction

TEMPLATE = "templates/checks.yaml.j2"


class ActionModule(LocalAction):
    """Renders the checks of roles, then runs ``health`` in the controller's worker when the task is local."""

    module = "progressive.platform.health"
    argument_spec = ARGUMENTS
    run_function = run

    def prepare(self, args: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        roles = args.pop("roles", None) or []
        if isinstance(roles, str):
            roles = [name.strip() for name in roles.split(",")]
        checks = [check for role in roles for check in self.checks_of(role, task_vars)]
        return {"cluster": task_vars.get("inventory_hostname", "cluster"), **args, "checks": [*checks, *(args.get("checks") or [])]}

    def checks_of(self, role: str, task_vars: dict[str, t.Any]) -> list[dict[str, t.Any]]:
        """The role's checks under its own name as heading; a role without the file has none."""
        path = _roles.role_path(role) / TEMPLATE
        if not path.is_file():
            return []
        variables = _roles.role_variables(self._templar, task_vars, role)
        try:
            # A hundred agents' checks take the parser written in Python seconds.
            text = _roles.render(self._templar, path, variables)
            checks = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or []  # noqa: S506 both are safe
        except Exception as error:  # templates fail in as many ways as there are filters
            raise PlatformError(f"The checks of role {role} cannot be rendered ({path}): {error}") from error
        if not isinstance(checks, list) or not all(isinstance(check, dict) for check in checks):
            raise PlatformError(f"The checks of role {role} ({path}) are no list of mappings with name and kind.")
        return [{"component": role.rpartition(".")[2], **check} for check in checks]
