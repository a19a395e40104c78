# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Preflight's view of the variables: reads the roles and their values on the controller, and hands plain data to the rules."""

from __future__ import annotations

import hashlib
import json
import os
import typing as t
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from ansible.template import Templar
from ansible_collections.progressive.platform.plugins.filter.over_defaults import over_defaults
from ansible_collections.progressive.platform.plugins.module_utils._istio import analysis, lint
from ansible_collections.progressive.platform.plugins.module_utils._kube import deprecations
from ansible_collections.progressive.platform.plugins.module_utils._kube.bundle import Document
from ansible_collections.progressive.platform.plugins.module_utils._local.shell import default_cache, write_atomic
from ansible_collections.progressive.platform.plugins.module_utils._mirror import sources
from ansible_collections.progressive.platform.plugins.module_utils._preflight import offline
from ansible_collections.progressive.platform.plugins.module_utils._preflight.findings import Finding, suggestion
from ansible_collections.progressive.platform.plugins.module_utils._preflight.rules import Role
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.plugins.plugin_utils import _rendered, _roles

OURS = "progressive.platform."
MESH = {"istio", "gateway", f"{OURS}istio", f"{OURS}gateway"}
RECIPE = "3"  # raised when other things are found in the same documents


def examine_variables(
    templar: Templar, task_vars: Mapping[str, t.Any], names: Sequence[str], known: dict[str, Role] | None = None
) -> tuple[list[Finding], dict[str, t.Any]]:
    """What is wrong with the variables of the roles and of those they depend on, and what they need from the cluster; the roles are added to ``known``."""
    found: list[Finding] = []
    lineage: list[str] = []
    for name in names:
        try:
            lineage += [*_roles.dependencies(name), name]
        except PlatformError as error:
            meant = suggestion(name.rpartition(".")[2], _roles.collection_roles())
            found.append(
                Finding("platform_components", name, error.message, f"Did you mean {meant}?" if meant else "Correct it in the inventory.")
            )
    # A role that is not named as a component is there for others: workload's own services do not exist then.
    wanted = list(dict.fromkeys(["catalog", *(name.removeprefix("progressive.platform.") for name in lineage)]))
    roles = [role_of(templar, task_vars, name) for name in wanted]
    if known is not None:
        known |= {role.name: role for role in roles}
    options = _roles.role_specs("workload")["workload_defaults"]["options"]
    found += offline.examine(roles, options)
    names_of_all = [variable for role in _roles.collection_roles() for variable in _roles.role_specs(role)]
    found += offline.unknown_variables(
        task_vars, [*names_of_all, *(variable for role in roles for variable in role.specs)], [*_roles.collection_roles(), "platform"]
    )
    if any(not finding.warning for finding in found):
        return found, {}
    old = [use for name in wanted for text in _roles.manifests(name) for use in deprecations.written(text, f"role {name}")]
    return found, {**offline.needs(roles), "deprecated": [[use.what.api_version, use.what.kind, use.whom] for use in old]}


def names_apart(templar: Templar, task_vars: Mapping[str, t.Any]) -> list[Finding]:
    """Hosts of one run that call themselves the same would write their reports, manifests and snapshots over each other's.

    Who is called as the inventory calls it is asked nothing: the variables of every other host cost milliseconds each.
    """
    host, hosts = task_vars.get("inventory_hostname"), task_vars.get("ansible_play_hosts_all") or []
    name = templar.template(task_vars.get("platform_name", host))
    if name == host or len(hosts) < 2:
        return []
    others = [other for other in hosts if other != host and task_vars["hostvars"][other].get("platform_name", other) == name]
    if not others:
        return []
    allowed, remedy = "a name of its own for every host", "Leave it out: it is the host's name in the inventory then."
    return [Finding("platform_name", f"{name}, which {', '.join(others[:3])} is called too", allowed, remedy)]


def role_of(templar: Templar, task_vars: Mapping[str, t.Any], name: str) -> Role:
    """The role with its variables' values; those that cannot be computed apart, with the reason."""
    short = name.rpartition(".")[2]
    variables = _roles.role_variables(templar, task_vars, name)
    specs = _roles.role_specs(name)
    values: dict[str, t.Any] = {}
    broken: dict[str, str] = {}
    for variable, value, reason in _roles.values(templar, variables, [variable for variable in specs if variable in variables]):
        if reason:
            broken[variable] = reason
        else:
            values[variable] = value
    services: dict[str, t.Any] = {}
    needs: dict[str, t.Any] = {}
    if not broken:
        wanted = [key for key in (f"__{short}_needs", f"__{short}_services", "__workload_base", "workload_defaults") if key in variables]
        extra = {key: value for key, value, reason in _roles.values(templar, variables, wanted) if not reason}
        needs = extra.get(f"__{short}_needs") or {}
        merged = extra.get(f"__{short}_services")
        if isinstance(merged, Mapping) and isinstance(extra.get("workload_defaults"), Mapping):
            services = over_defaults(merged, extra["__workload_base"], extra["workload_defaults"])
    return Role(short, specs, values, broken, services, needs)


def examine_documents(
    templar: Templar, task_vars: Mapping[str, t.Any], names: Sequence[str], known: Mapping[str, Role], again: bool = False
) -> list[Finding]:
    """What istioctl and our own rules say of everything that would be sent, where the mesh is a part of it; of the whole platform, whatever is selected.

    Documents follow from variables and templates: while these are what they were, what was found is read from a file and nothing is rendered, unless
    ``again``. Values are kept as a checksum alone.
    """
    if not MESH & set(names):
        return []
    shared = known["catalog"].values
    wanted = list(
        dict.fromkeys(name.rpartition(".")[2] if name.startswith(OURS) else name for name in [*shared["platform_components"], *names])
    )
    istioctl = sources.Source.of("istioctl", shared["platform_source_files"]["istioctl"])
    cache = default_cache() / "sources"
    try:
        program = sources.present(istioctl, cache)
        roles = [known["catalog"], *(known.get(name) or role_of(templar, task_vars, name) for name in wanted)]
        kept = cache / "analyses" / f"{_made_of(roles, program)}.json"
        if kept.is_file() and not again:
            return [Finding(**one) for one in json.loads(kept.read_text(encoding="utf-8"))]
        bundle = _rendered.rendered(templar, task_vars, wanted)
        root = next((str(role.values["istio_namespace"]) for role in roles if role.name == "istio"), "istio-system")
        found = _said(bundle, program, cache / "analyses", root, shared["platform_cluster_domain"], whole={"app", "agents"} <= set(wanted))
    except PlatformError as error:
        return [Finding("platform_components", error.message, "templates that can be rendered and analyzed", "Correct what it names.")]
    if program:
        write_atomic(kept, json.dumps([asdict(one) for one in found]))
        return found
    return [*found, analysis.absent(istioctl.version)]


def _said(
    bundle: Sequence[tuple[str, Document]], program: Path | None, scratch: Path, root: str, domain: str, whole: bool
) -> list[Finding]:
    documents = [document for _role, document in bundle]
    senders = {analysis.origin_of(document): role for role, document in bundle}
    found = []
    for fault in lint.lint(documents, domain):
        origin = analysis.origin_of(fault.document)
        lenient = fault.doubtful and not whole
        found.append(
            Finding(analysis.variable_of(senders[origin]), f"{origin}: {fault.seen}", fault.allowed, fault.remedy, warning=lenient)
        )
    if program:
        said = analysis.analyze(program, documents, scratch, root)
        found += analysis.findings(said, senders, whole)
    return found


def _made_of(roles: Sequence[Role], program: Path | None) -> str:
    """Stands for all that the documents and what is said of them follow from; values of secrets are part of it, as a checksum."""
    parts: list[t.Any] = [RECIPE, os.fspath(program.resolve()) if program else "", program.stat().st_mtime_ns if program else 0]
    for role in roles:
        folder = _roles.role_path(role.name)
        files = sorted(path for part in ("templates", "vars", "meta", "defaults") for path in (folder / part).glob("*"))
        parts += [role.name, role.values, role.services, [[path.name, path.stat().st_mtime_ns] for path in files]]
    workload = sorted((_roles.role_path("workload") / "templates").glob("*"))
    parts += [[path.name, path.stat().st_mtime_ns] for path in workload]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]
