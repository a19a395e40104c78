# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that can be said of an inventory without asking a server (private: may change without notice)."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._preflight import rules
from ansible_collections.progressive.platform.plugins.module_utils._preflight.findings import Finding, Path, suggestion
from ansible_collections.progressive.platform.plugins.module_utils._preflight.rules import Role, Values
from ansible_collections.progressive.platform.plugins.module_utils._preflight.specification import Spec, check

# A name this close to a known one, outside of every role's prefix, is a typing mistake and not somebody's own variable.
_ALIKE = 0.92


def examine(roles: Sequence[Role], service_options: Mapping[str, Spec]) -> list[Finding]:
    """All findings about the variables of ``roles`` (the catalog among them); ``service_options`` is what a service may say."""
    found: list[Finding] = []
    sound: list[Role] = []
    for role in roles:
        own = list(_types(role, service_options))
        own = own or list(_meanings(role))
        found += own
        if not own:
            sound.append(role)
    shared: dict[str, t.Any] = {}
    for role in sound:
        if role.name in ("catalog", "baseline"):
            shared |= role.values
    if not any(role.name == "catalog" for role in sound):
        return _unique(found)  # the other rules compare with the catalog's values
    for role in sound:
        if role.name in rules.ROLE_RULES:
            found += rules.ROLE_RULES[role.name](role.values, shared)
        for service, spec in role.services.items():
            found += rules.service_rules((f"{role.name}_services", service), spec, shared)
    if len(sound) == len(roles):
        found += rules.one_owner(sound)
        found += rules.distribution_rules(sound, shared)
        found += rules.callees_exist(sound, shared)
        found += rules.routes_lead_somewhere(sound, shared)
        found += rules.quota_holds(sound, shared)
        found += rules.one_hand_on_a_size(sound, shared)
        found += rules.requests_are_served(sound, shared)
    return _unique(found)


def unknown_variables(given: Iterable[str], known: Iterable[str], prefixes: Iterable[str]) -> Iterator[Finding]:
    """Variables that look like a role's own and are not: ``redis_cluster_master``, ``agent_services``. Their values are never shown.

    Names that begin with two underscores are a role's or a playbook's internal ones, which nobody sets in an inventory.
    """
    known = sorted(set(known))
    starts = tuple(f"{prefix}_" for prefix in prefixes)
    for variable in sorted(name for name in set(given) - set(known) if not name.startswith("__")):
        meant = suggestion(variable, known, 0.6 if variable.startswith(starts) else _ALIKE)
        if variable.startswith(starts) or meant:
            remedy = f"Did you mean {meant}?" if meant else "Remove it; or rename it, if it is yours: the prefix belongs to the collection."
            yield Finding(variable, "a variable that does not exist", "the variables in the roles' READMEs", remedy)


def needs(roles: Sequence[Role]) -> dict[str, t.Any]:
    """What the server has to offer for these roles, as plain data for the part that asks it."""
    catalog: Values = next((role.values for role in roles if role.name == "catalog"), {})
    return {
        "namespace": catalog.get("platform_namespace"),
        "pools": catalog.get("platform_pools") or {},
        "nodes": [node for pool in (catalog.get("platform_pools") or {}).values() for node in (pool or {}).get("nodes") or []],
        "pods": [pod for role in roles for pod in rules.pods_of(role)],
        "claims": [dict(claim) for role in roles for claim in role.needs.get("claims") or []],
        "sends": sorted({resource for role in roles for resource in role.needs.get("sends") or []}),
        "zones": [dict(zones) for role in roles for zones in role.needs.get("zones") or []],
        **{
            kind: [dict(one) for role in roles for one in role.needs.get(kind) or []]
            for kind in ("owners", "definitions", "minors", "hosts")
        },
        "scales": any(service["scaling"] for role in roles for service in role.services.values()),
    }


def _types(role: Role, service_options: Mapping[str, Spec]) -> Iterator[Finding]:
    for variable, reason in role.broken.items():
        yield Finding(variable, "a value that cannot be computed", "a template whose variables all exist", reason)
    for variable, spec in role.specs.items():
        if variable in role.broken:
            continue
        value = role.values.get(variable)
        yield from _shaped((variable,), {**spec, "options": None} if _layers(role, variable) else spec, value, rules.SHAPES, 0)
        for path, layer in _service_layers(role, variable, value):
            yield from _shaped(path, {"type": "dict", "options": service_options}, layer, rules.SERVICE_SHAPES, len(path))


def _shaped(path: Path, spec: Spec, value: t.Any, shapes: Mapping[str, Spec], skip: int) -> Iterator[Finding]:
    """The specification, then the shapes of what is in free mappings; patterns begin after ``skip`` pieces of the path."""
    own = list(check(path, spec, value))
    yield from own
    if own:
        return
    for inner, item in rules.walk(path, value):
        shape = rules.lookup(shapes, inner[skip:])
        if shape is not None and inner != path and item is not None:
            yield from check(inner, shape, item)


def _meanings(role: Role) -> Iterator[Finding]:
    for variable in role.specs:
        value = role.values.get(variable)
        if _layers(role, variable):
            if variable.endswith("_services"):
                yield from rules.values_of({}, rules.KEYS, (variable,), dict.fromkeys(value or ()))
            for path, layer in _service_layers(role, variable, value):
                yield from rules.values_of(rules.SERVICE_VALUES, rules.SERVICE_KEYS, path, layer, len(path))
        else:
            yield from rules.values_of(rules.VALUES, rules.KEYS, (variable,), value)


def _layers(role: Role, variable: str) -> bool:
    """Whether the variable holds services, or defaults of services."""
    return bool(role.services or f"{role.name}_services" in role.specs) and variable in (f"{role.name}_services", f"{role.name}_defaults")


def _service_layers(role: Role, variable: str, value: t.Any) -> Iterator[tuple[Path, t.Any]]:
    """Each thing in the variable that is a service, or part of one."""
    if not _layers(role, variable) or not isinstance(value, Mapping):
        return
    if variable.endswith("_defaults"):
        yield (variable,), value
        return
    for service, spec in value.items():
        if spec is not None:
            yield (variable, str(service)), spec


def _unique(found: Iterable[Finding]) -> list[Finding]:
    return list(dict.fromkeys(found))
