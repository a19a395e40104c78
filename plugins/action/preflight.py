# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible_collections.progressive.platform.plugins.module_utils._preflight.preflight import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._preflight.rules import Role
from ansible_collections.progressive.platform.plugins.plugin_utils._examine import examine_documents, examine_variables, names_apart
from ansible_collections.progressive.platform.plugins.plugin_utils._local_action import LocalAction


class ActionModule(LocalAction):
    """Looks at the variables here; the cluster is asked in this worker when the task is local."""

    module = "progressive.platform.preflight"
    argument_spec = ARGUMENTS
    run_function = run

    def prepare(self, args: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        roles = args.get("roles") or []
        names = [name.strip() for name in roles.split(",")] if isinstance(roles, str) else list(roles)
        roles_seen: dict[str, Role] = {}
        findings, needs = examine_variables(self._templar, task_vars, names, roles_seen)
        findings += names_apart(self._templar, task_vars)
        wanted = str(args.get("analysis") or "changed")
        if wanted != "never" and not any(not finding.warning for finding in findings):
            findings += examine_documents(self._templar, task_vars, names, roles_seen, again=wanted == "always")
        return {**args, "findings": [finding.as_dict() for finding in findings], "needs": needs}
