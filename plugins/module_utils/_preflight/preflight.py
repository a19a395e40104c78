# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Preflight as a whole: what the controller found in the variables, and what the server answers (private)."""

from __future__ import annotations

import typing as t

from ansible_collections.progressive.platform.plugins.module_utils._kube.arguments import CONNECTION
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import connect
from ansible_collections.progressive.platform.plugins.module_utils._preflight import server
from ansible_collections.progressive.platform.plugins.module_utils._preflight.findings import Finding
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

ARGUMENTS: dict[str, t.Any] = {
    "roles": {"type": "list", "elements": "str", "required": True},
    "server": {"type": "bool", "default": True},
    "analysis": {"type": "str", "choices": ["changed", "always", "never"], "default": "changed"},
    "stored": {"type": "bool", "default": False},
    "findings": {"type": "list", "elements": "dict", "default": []},
    "needs": {"type": "dict", "default": {}},
    **CONNECTION,
}


def run(params: Params, context: Context) -> Result:
    """All findings; fails with them when one is more than a warning. Changes nothing, in check mode and outside."""
    findings = [Finding(**finding) for finding in params["findings"]]
    version, where = "", ""
    if params["server"]:
        context.progress.report("preflight", "asking the API server")
        try:
            version, where, found = _ask(params)
            findings += found
        except (
            PlatformError
        ) as error:  # unreachable, unauthorised, or no kubeconfig: the message names the file, the context and the remedy
            findings.append(Finding("platform_kubeconfig", error.message, "a kubeconfig and context of a cluster that answers", _BY_HAND))
        context.progress.report("preflight", "done", done=True)
    return answer(findings, list(params["roles"]), version, where)


_BY_HAND = "Check only the variables with -e platform_preflight_server=false."


def answer(findings: list[Finding], roles: list[str], version: str, where: str) -> Result:
    errors = [finding for finding in findings if not finding.warning]
    warnings = [str(finding) for finding in findings if finding.warning]
    result: Result = {
        "changed": False,
        "roles": roles,
        "findings": [finding.as_dict() for finding in findings],
        "server_version": version,
    }
    if warnings:
        result["warnings"] = warnings
    if errors:
        lines = "\n".join(f"  {number}. {finding}" for number, finding in enumerate(errors, 1))
        many = "1 thing is wrong" if len(errors) == 1 else f"{len(errors)} things are wrong"
        place = f" (the cluster is {where})" if where else ""
        raise PlatformError(f"{many}{place}; nothing was changed:\n{lines}", **result)
    return result


def _ask(params: Params) -> tuple[str, str, list[Finding]]:
    with connect(params) as client:
        seen = server.look(client, params["needs"], stored=params["stored"])
        return seen.version, str(client.access), server.judge(seen, params["needs"])
