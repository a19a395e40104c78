# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible_collections.progressive.platform.plugins.module_utils._kube.drift_report import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.plugin_utils._local_action import LocalAction


class ActionModule(LocalAction):
    """Writes the report where the comparison's results are, on the controller."""

    module = "progressive.platform.drift"
    argument_spec = ARGUMENTS
    run_function = run
    on_controller = True

    def prepare(self, args: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        return {"cluster": task_vars.get("inventory_hostname", "cluster"), **args}
