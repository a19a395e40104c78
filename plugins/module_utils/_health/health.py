# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module health: parameters in, report and verdict out (private: may change without notice)."""

from __future__ import annotations

import json
import re
import typing as t
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ansible.module_utils.ansible_release import __version__ as ansible_version
from ansible_collections.progressive.platform.plugins.module_utils._health import reports
from ansible_collections.progressive.platform.plugins.module_utils._health.cluster import Cluster
from ansible_collections.progressive.platform.plugins.module_utils._health.kinds import KINDS, parse
from ansible_collections.progressive.platform.plugins.module_utils._health.model import Check, Finding, Result, plural
from ansible_collections.progressive.platform.plugins.module_utils._health.runner import Patience, run_checks
from ansible_collections.progressive.platform.plugins.module_utils._health.scene import Scene
from ansible_collections.progressive.platform.plugins.module_utils._health.topology import topology
from ansible_collections.progressive.platform.plugins.module_utils._kube.arguments import CONNECTION, WAIT
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import connect
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError
from ansible_collections.progressive.platform.plugins.module_utils._run import Result as Outcome

ARGUMENTS: dict[str, t.Any] = {
    "checks": {"type": "list", "elements": "dict", "default": []},
    "roles": {"type": "list", "elements": "str", "default": []},
    "cluster": {"type": "str", "default": "cluster"},
    "reports_dir": {"type": "path"},
    "fail": {"type": "bool", "default": True},
    "render_only": {"type": "bool", "default": False},
    "settle": {"type": "float", "default": 3.0},
    "timeout": {"type": "float", "default": 30.0},
    **WAIT,
    **CONNECTION,
}

TOPOLOGY_TIMEOUT = 15.0  # seconds; the drawing is worth a moment, not a minute


def run(params: Params, context: Context) -> Outcome:
    """Looks at everything at once, writes the report, and fails with every red check unless ``fail`` is false."""
    if params["roles"]:
        raise PlatformError("Checks of roles are rendered on the controller; without the action plugin give them in checks.")
    checks = parse(params["checks"])
    if params["render_only"]:
        return {"changed": False, "rendered": list(params["checks"])}
    if not checks:
        raise PlatformError("There is nothing to check: name roles or checks. A report without checks would be green and say nothing.")
    patience = Patience(settle=params["wait_timeout"] if params["wait"] else params["settle"], timeout=params["timeout"])
    with connect(params, context.clock) as client:
        scene = Scene(Cluster(client, context.clock), context.clock, context.check, params)

        looked: set[int] = set()

        def look(check: Check, until: float) -> Finding:
            with scene.cluster.look(first=id(check) not in looked):
                looked.add(id(check))
                return KINDS[check.kind].look(check.options, scene, until)

        begin = context.clock.now()
        results = run_checks(checks, look, patience, context.clock, context.progress)
        report = report_of(str(params["cluster"]), results, context.clock.now() - begin, context.check)
        report["topology"] = _topology(scene, checks, results)
        report["versions"]["kubernetes"] = report["versions"].get("kubernetes") or _version(scene)
    files = reports.write(Path(params["reports_dir"]), report) if params["reports_dir"] else {}
    outcome: Outcome = {"changed": False, **{key: report[key] for key in ("cluster", "ok", "checks", "versions")}, "report": files}
    if not report["ok"] and params["fail"]:
        raise PlatformError(red_message(report, files), **outcome)
    return {**outcome, "msg": green_message(report) if report["ok"] else red_message(report, files)}


def report_of(cluster: str, results: Sequence[Result], seconds: float, check_mode: bool) -> dict[str, t.Any]:
    """The report without its topology. Green needs at least one result, and all of them green."""
    versions = {"collection": collection_version(Path(__file__)), "ansible": ansible_version}
    for result in results:
        versions |= result.finding.details.get("versions") or {}
    return {
        "cluster": cluster,
        "ok": bool(results) and all(result.ok for result in results),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "check_mode": check_mode,
        "versions": {name: version for name, version in versions.items() if version},
        "checks": [result.as_dict() for result in results],
    }


def red_message(report: Mapping[str, t.Any], files: Mapping[str, str]) -> str:
    """Every red check with its cause; checks that share a cause (a server that is down) share a line."""
    red = [check for check in report["checks"] if not check["ok"]]
    by_cause: dict[str, list[str]] = {}
    for check in red:
        name = check["name"] if not check["component"] else f"{check['component']}: {check['name']}"
        by_cause.setdefault(check["message"], []).append(name)
    lines = [f"- {', '.join(names) if len(names) <= 4 else plural(len(names), 'check')}: {cause}" for cause, names in by_cause.items()]
    where = [f"The whole report is in {files['html']}"] if files else []
    return "\n".join([f"{plural(len(red), 'check')} of {len(report['checks'])} red on {report['cluster']}:", *lines, *where])


def green_message(report: Mapping[str, t.Any]) -> str:
    skipped = [check["name"] for check in report["checks"] if check.get("skipped")]
    note = f"; not run in check mode: {', '.join(skipped)}" if skipped else ""
    return (
        f"{report['cluster']} is healthy: {plural(len(report['checks']) - len(skipped), 'check')} green in {report['seconds']:.1f} s{note}"
    )


def _topology(scene: Scene, checks: Sequence[Check], results: Sequence[Result]) -> dict[str, t.Any]:
    """Nodes, and the pods of all namespaces that the checks name; without the right to read them, or a server, nothing but the reason."""
    namespaces = sorted({check.options["namespace"] for check in checks if check.options.get("namespace")})
    shards = [result.finding.details["topology"] for result in results if "topology" in result.finding.details]
    try:
        pods = [pod for namespace in namespaces for pod in scene.cluster.objects("Pod", namespace)]
        return topology(scene.cluster.objects("Node"), pods, shards)
    except PlatformError as error:
        return {**topology([], [], shards), "error": error.message}


def _version(scene: Scene) -> str:
    try:
        return str(scene.cluster.client.request("GET", "/version", timeout=TOPOLOGY_TIMEOUT)[2].get("gitVersion", ""))
    except PlatformError:
        return ""


def collection_version(here: Path) -> str:
    """The version in MANIFEST.json (installed) or galaxy.yml (a checkout); nothing inside a module's archive."""
    for folder in here.parents[3:4]:
        manifest, galaxy = folder / "MANIFEST.json", folder / "galaxy.yml"
        if manifest.is_file():
            return str(json.loads(manifest.read_text(encoding="utf-8"))["collection_info"]["version"])
        if galaxy.is_file() and (match := re.search(r"^version:\s*(\S+)", galaxy.read_text(encoding="utf-8"), re.MULTILINE)):
            return match[1]
    return ""
