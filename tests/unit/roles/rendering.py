# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The manifests of an inventory, rendered in this process: what ``playbooks/render.yml`` writes, without starting Ansible."""

from __future__ import annotations

import functools
import typing as t
from pathlib import Path

import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible.vars.manager import VariableManager
from ansible_collections.progressive.platform.plugins.plugin_utils import _roles

ROOT = Path(__file__).resolve().parents[3]
INVENTORIES = ["local", "development", "staging", "preproduction", "production"]
COMPONENTS = ["baseline", "postgresql", "redis_cluster", "app", "agents"]

Document = dict[str, t.Any]

_loader = DataLoader()


@functools.cache
def _host_vars(inventory: str) -> dict[str, t.Any]:
    manager = InventoryManager(loader=_loader, sources=[str(ROOT / "inventories" / inventory)])
    (host,) = manager.get_hosts()
    found: dict[str, t.Any] = VariableManager(loader=_loader, inventory=manager).get_vars(host=host)
    return found


class Cluster:
    """The variables of an inventory's only host, with ``changes`` as extra variables."""

    def __init__(self, inventory: str, changes: dict[str, t.Any] | None = None) -> None:
        self.vars = _host_vars(inventory) | _trusted(changes or {})
        self.templar = Templar(loader=_loader, variables=self.vars)

    def variables(self, role: str) -> dict[str, t.Any]:
        return _roles.role_variables(self.templar, self.vars, role)

    def value(self, role: str, name: str) -> t.Any:
        ((_unused, value, problem),) = _roles.values(self.templar, self.variables(role), [name])
        assert not problem, f"{role}: {name}: {problem}"
        return value

    def documents(self, role: str) -> list[Document]:
        """As the role's deploy.yml sends them."""
        source, variables = role, self.variables(role)
        # FerretDB is a stateless service too.
        if role in ("app", "agents") or (role == "mongodb" and self.value("mongodb", "mongodb_engine") == "ferretdb"):
            source = "workload"
            variables = _roles.role_variables(self.templar, variables | {"workload_services": variables[f"__{role}_services"]}, "workload")
        if role == "operator":  # which brings in the agents' variables
            known = {"__operator_gathered": {"rendered": []}, **self.variables("agents")}
            variables = _roles.role_variables(self.templar, known, "operator")
        ((_unused, names, problem),) = _roles.values(self.templar, variables, [f"__{source}_templates"])
        assert not problem
        found: list[Document] = []
        for name in names:
            text = _roles.render(self.templar, _roles.role_path(source) / "templates" / name, variables)
            found += [document for document in yaml.safe_load_all(text) if document]
        return found


def documents(inventory: str, changes: dict[str, t.Any] | None = None) -> dict[str, list[Document]]:
    cluster = Cluster(inventory, changes)
    return {role: cluster.documents(role) for role in COMPONENTS}


def _trusted(value: t.Any) -> t.Any:
    if isinstance(value, str):
        return trust_as_template(value)
    if isinstance(value, dict):
        return {key: _trusted(inner) for key, inner in value.items()}
    return [_trusted(inner) for inner in value] if isinstance(value, list) else value
