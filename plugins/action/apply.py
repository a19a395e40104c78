# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible.errors import AnsibleError
from ansible_collections.progressive.platform.plugins.module_utils._kube import apply, openshift
from ansible_collections.progressive.platform.plugins.module_utils._kube.bundle import parse, read
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError, Result
from ansible_collections.progressive.platform.plugins.plugin_utils._local_action import LocalAction
from ansible_collections.progressive.platform.plugins.plugin_utils._templates import computed, documents


class ActionModule(LocalAction):
    """Renders the templates and reads the files here; a module that goes to another host gets the documents, the values of Secrets apart."""

    module = "progressive.platform.apply"
    argument_spec = apply.ARGUMENTS
    constraints = apply.CONSTRAINTS
    run_function = apply.run

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> Result:
        """A comparison is also added to the fact ``platform_drift``, so that all of a platform's become one report."""
        result = super().run(tmp, task_vars)
        if "drift" in result:
            known = dict((task_vars or {}).get("platform_drift") or {})
            result["ansible_facts"] = {"platform_drift": {**known, str(self._task.args["set"]): result["drift"]}}
        return result

    def prepare(self, args: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        names, files = args.pop("templates", None) or [], args.pop("files", None) or []
        bundle: list[t.Any] = []
        if args.get("state") != "absent":  # a set knows its members, and its variables may be gone
            found = [self._template(name) for name in ([names] if isinstance(names, str) else names)]
            variables = computed(self._templar, found, task_vars)
            for file in found:
                bundle += documents(self._templar, file, variables)
            for path in files:
                bundle += read(Path(path))
        definition = args.get("definition")
        if "force" not in args and "platform_apply_force" in task_vars:
            args["force"] = self._templar.template(task_vars["platform_apply_force"])
        args["definition"] = self._admitted(bundle + (parse(definition) if definition else []), task_vars)
        if self._connection.transport != "local":
            args["definition"], args["sealed"] = apply.seal(args["definition"])
        return args

    def _template(self, name: str) -> str:
        try:
            return str(self._find_needle("templates", name))
        except AnsibleError as error:
            raise PlatformError(
                f"templates: {error.message.splitlines()[0]} (wanted in a templates folder of the role or the play)."
            ) from error

    def _admitted(self, documents: list[t.Any], task_vars: dict[str, t.Any]) -> list[t.Any]:
        """As the distribution takes them: on OpenShift pods name no user, and what would be refused there is not sent."""
        if self._templar.template(task_vars.get("platform_distribution", "kubernetes")) != "openshift":
            return documents
        fitting = openshift.adapted(documents)
        problems = openshift.refused(fitting)
        if problems:
            raise PlatformError(
                "OpenShift's SCC restricted-v2 refuses this, so nothing of the set was sent:\n  " + "\n  ".join(problems), problems=problems
            )
        return fitting
