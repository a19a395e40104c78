# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible_collections.progressive.platform.plugins.module_utils._kube.bill import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.plugin_utils import _roles
from ansible_collections.progressive.platform.plugins.plugin_utils._local_action import LocalAction


class ActionModule(LocalAction):
    """Reads what was rendered, on the controller."""

    module = "progressive.platform.bill"
    argument_spec = ARGUMENTS
    run_function = run
    on_controller = True

    def prepare(self, args: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        roles = args.get("roles") or []
        names = roles.split(",") if isinstance(roles, str) else list(roles)
        given = {"cluster": task_vars.get("inventory_hostname", "cluster"), **args}
        if names and isinstance(args.get("files"), dict):
            text = "".join(file.read_text(encoding="utf-8") for name in names for file in sorted(_roles.role_path(name).rglob("*.yml")))
            given["files"] = {name: source for name, source in args["files"].items() if f"platform_source_files.{name}" in text}
        return given
