# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible_collections.progressive.platform.plugins.module_utils._kube.secret import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.plugin_utils._local_action import LocalAction


class ActionModule(LocalAction):
    """Values come from where the inventory says (role catalog: platform_secret_backend), unless the task says otherwise."""

    module = "progressive.platform.secret"
    argument_spec = ARGUMENTS
    run_function = run

    def prepare(self, args: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        backend = self._templar.template(task_vars.get("platform_secret_backend"))
        return {"backend": backend, **args} if backend else args
