# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a role says about itself, read on the controller without running it: its variables, their specification, its templates.

``preflight`` and ``health`` answer for many roles in one task, so they look at the roles as Ansible would, with the
same precedence: defaults of the role's dependencies, its own defaults, the task's variables, vars of the role.
"""

from __future__ import annotations

import importlib
import typing as t
from collections.abc import Iterator, Mapping
from pathlib import Path

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

Variables = dict[str, t.Any]

_ROLES = Path(__file__).parents[2] / "roles"
_loader = DataLoader()


def role_path(name: str) -> Path:
    """The folder of a role: ``redis_cluster`` is one of this collection, ``namespace.collection.role`` may be of any.

    Raises PlatformError when there is none.
    """
    *collection, role = name.split(".")
    if collection in ([], ["progressive", "platform"]):
        path = _ROLES / role
    elif len(collection) == 2:
        try:
            package = importlib.import_module("ansible_collections." + ".".join(collection))
        except ImportError as error:
            wanted = ".".join(collection)
            raise PlatformError(
                f"role {name}: collection {wanted} is not installed; run: ansible-galaxy collection install {wanted}"
            ) from error
        path = Path(next(iter(package.__path__))) / "roles" / role
    else:
        raise PlatformError(f"role {name}: a role is named role or namespace.collection.role")
    if not path.is_dir():
        raise PlatformError(f"there is no role {name}; this collection has {', '.join(collection_roles())}")
    return path


def collection_roles() -> list[str]:
    """Names of this collection's roles."""
    return sorted(entry.name for entry in _ROLES.iterdir() if entry.is_dir())


def dependencies(name: str) -> list[str]:
    """Names of the roles that come first, deepest first, each once; read from meta/main.yml."""
    found: list[str] = []
    for entry in _load(role_path(name), "meta").get("dependencies") or []:
        dependency = entry if isinstance(entry, str) else entry["role"]
        found += [*dependencies(dependency), dependency]
    return list(dict.fromkeys(found))


def role_specs(name: str) -> Variables:
    """All options of the role's entry points as meta/argument_specs.yml gives them; empty when it has none."""
    specs = _load(role_path(name), "meta", "argument_specs").get("argument_specs") or {}
    return {option: spec for entry in specs.values() for option, spec in (entry.get("options") or {}).items()}


def role_defaults(name: str) -> Variables:
    """defaults/main.yml of the role alone, untemplated."""
    return _load(role_path(name), "defaults")


def role_vars(name: str) -> Variables:
    """vars/main.yml of the role alone, untemplated."""
    return _load(role_path(name), "vars")


def manifests(name: str) -> list[str]:
    """The role's templates of Kubernetes documents, unrendered."""
    return [file.read_text(encoding="utf-8") for file in sorted((role_path(name) / "templates").rglob("*.yaml.j2"))]


def role_variables(templar: Templar, task_vars: Mapping[str, t.Any], name: str) -> Variables:
    """All variables a task of the role would see, untemplated; give them to `render` or `values`.

    ``templar`` is the action plugin's own: what it already knows (``vars:`` of the task) is in ``task_vars``.
    """
    lineage = [*dependencies(name), name]
    merged: Variables = {}
    for role in lineage:
        merged |= role_defaults(role)
    merged |= task_vars
    for role in lineage:
        merged |= role_vars(role)
    return merged


def values(templar: Templar, variables: Mapping[str, t.Any], names: t.Iterable[str]) -> Iterator[tuple[str, t.Any, str]]:
    """Each name with its templated value, or with None and the reason why it cannot be computed."""
    engine = templar.copy_with_new_env(available_variables=dict(variables))
    for name in names:
        try:
            yield name, engine.template(variables[name]), ""
        except Exception as error:  # templates fail in as many ways as there are filters
            yield name, None, getattr(error, "message", None) or str(error)


def render(templar: Templar, path: str | Path, variables: Mapping[str, t.Any]) -> str:
    """The text of a template file, with the rules of the template module (trim_blocks); files beside it can be included."""
    file = Path(path)
    engine = templar.copy_with_new_env(available_variables=dict(variables), searchpath=[str(file.parent)])
    text = engine.template(trust_as_template(file.read_text(encoding="utf-8")), escape_backslashes=False, overrides={"trim_blocks": True})
    return text if isinstance(text, str) else ""


def _load(role: Path, folder: str, file: str = "main") -> Variables:
    path = role / folder / f"{file}.yml"
    if not path.is_file():
        return {}
    # ``unsafe``: without a copy for each caller, which takes ten times as long as reading; nobody changes what is loaded here.
    loaded = _loader.load_from_file(str(path), unsafe=True, trusted_as_template=True)
    return loaded if isinstance(loaded, dict) else {}
