# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugins' common frame: run a module's function in this worker when the task is local, send the module otherwise."""

from __future__ import annotations

import typing as t

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.parameters import remove_values
from ansible.plugins.action import ActionBase
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError, Progress, Result, Run


class LocalAction(ActionBase):
    """Subclasses name ``module``, ``argument_spec``, ``constraints`` and ``run_function``; a module process costs 0.45 s, this 0.05 s."""

    module: t.ClassVar[str]
    argument_spec: t.ClassVar[dict[str, t.Any]]
    constraints: t.ClassVar[dict[str, t.Any]] = {}
    run_function: t.ClassVar[Run]
    on_controller: t.ClassVar[bool] = False  # what only the controller can do is done there whatever the connection

    _requires_connection = False
    _supports_check_mode = True
    _cluster = ""  # the host's name where the play has several, all of which report their progress

    def prepare(self, args: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """What only the controller can do (rendering templates, reading its files); returns the module's arguments."""
        return args

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> Result:
        result: Result = super().run(tmp, task_vars)
        variables = task_vars or {}
        if len(variables.get("ansible_play_hosts_all") or []) > 1:
            self._cluster = str(variables["inventory_hostname"])
        try:
            args = self._on_our_cluster(self.prepare(dict(self._task.args), variables), variables)
        except PlatformError as error:
            return {**result, "failed": True, "msg": error.message, **error.details}
        if self._connection.transport != "local" and not self.on_controller:
            return {**result, **self._execute_module(module_name=self.module, module_args=args, task_vars=variables)}
        return {**result, **self.run_here(args)}

    def _on_our_cluster(self, args: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """A task that names no cluster means the inventory's (role catalog: platform_kubeconfig, platform_context)."""
        if "kubeconfig" not in self.argument_spec or any(args.get(option) for option in ("kubeconfig", "context", "host")):
            return args
        for option in ("kubeconfig", "context"):
            value = self._templar.template(task_vars.get(f"platform_{option}"))
            if value:
                args[option] = value
        return args

    def run_here(self, args: dict[str, t.Any]) -> Result:
        validator = ArgumentSpecValidator(self.argument_spec, **self.constraints)
        checked = validator.validate(args)
        if checked.error_messages:
            return {"failed": True, "msg": "; ".join(checked.error_messages)}
        try:
            outcome = type(self).run_function(
                checked.validated_parameters,
                Context(check=bool(self._task.check_mode), diff=bool(self._task.diff), progress=Progress(cluster=self._cluster)),
            )
        except PlatformError as error:
            outcome = {"failed": True, "msg": error.message, **error.details}
        secrets = checked._no_log_values
        return remove_values(outcome, secrets) if secrets else outcome
