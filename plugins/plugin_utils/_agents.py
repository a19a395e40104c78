# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Agents rendered as role agents does it, by its own variables and the templates of role workload.

An Agent is one more entry of ``agents_services``: what the operator does beyond the role's own deploy.yml is to look at one entry and not
at all. What a person wrote into an Agent is data, which Ansible's templar does not template.
"""

from __future__ import annotations

import threading
import typing as t
from collections.abc import Mapping

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.progressive.platform.plugins.module_utils._operator import model
from ansible_collections.progressive.platform.plugins.module_utils._operator.model import Json, Name
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.plugins.plugin_utils import _roles
from ansible_collections.progressive.platform.plugins.plugin_utils._templates import documents


class Renderer:
    """``variables`` are the inventory's, as role operator wrote them down; values and no templates."""

    def __init__(self, variables: Mapping[str, t.Any]) -> None:
        self.variables = {"inventory_hostname": "operator", **variables}
        self.inventory = list(variables["agents_services"]) if "agents" in variables["platform_components"] else []
        self._templar = Templar(loader=DataLoader(), variables={})
        self._lock = threading.Lock()

    @property
    def coordinator(self) -> str:
        return str(self.variables["agents_coordinator"])

    def render(self, specs: Mapping[Name, Json], everybody: Mapping[str, list[str]]) -> dict[Name, list[Json] | PlatformError]:
        """The documents of each Agent. All of a namespace go through the templates once; where that fails, each by itself, so that one bad Agent
        spoils no other."""
        found: dict[Name, list[Json] | PlatformError] = {}
        for namespace in sorted({name.namespace for name in specs}):
            names = sorted(name for name in specs if name.namespace == namespace)
            try:
                found |= self._together(namespace, {name: specs[name] for name in names}, everybody.get(namespace, []))
            except PlatformError as error:
                if len(names) == 1:
                    found[names[0]] = error
                else:
                    for name in names:
                        found |= self.render({name: specs[name]}, everybody)
        return found

    def _together(self, namespace: str, specs: Mapping[Name, Json], everybody: list[str]) -> dict[Name, list[Json] | PlatformError]:
        entries = {name.name: model.options(spec) for name, spec in specs.items()}
        # Its peers must be there by name for the coordinator to be told of them.
        others: dict[str, Json] = (
            {name: {} for name in [*self.inventory, *everybody] if name not in entries} if self.coordinator in entries else {}
        )
        with self._lock:
            variables = self._variables(
                "agents", {**self.variables, "platform_namespace": namespace, "agents_services": {**others, **entries}}
            )
            services = self._value(variables, "__agents_services")
            wanted = {name: services[name] for name in entries}
            variables = self._variables("workload", {**variables, "workload_services": wanted})
            # Computed once and not by every template anew.
            variables["__workload_services"] = self._value(variables, "__workload_services")
            found: dict[Name, list[Json] | PlatformError] = {name: [] for name in specs}
            for template in self._value(variables, "__workload_templates"):
                for document in documents(self._templar, str(_roles.role_path("workload") / "templates" / template), variables):
                    t.cast("list[Json]", found[Name(namespace, document["metadata"]["labels"]["app"])]).append(document)
        return found

    def _variables(self, role: str, variables: Mapping[str, t.Any]) -> dict[str, t.Any]:
        return _roles.role_variables(self._templar, variables, role)

    def _value(self, variables: Mapping[str, t.Any], name: str) -> t.Any:
        ((_name, value, problem),) = _roles.values(self._templar, variables, [name])
        if problem:
            raise PlatformError(f"It cannot be rendered: {problem}")
        return value
