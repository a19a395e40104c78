# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module drift: what was found in all sets becomes a report and a verdict (private: may change without notice)."""

from __future__ import annotations

import json
import typing as t
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._kube.drift import CONTROLLERS, IGNORED_FIELDS, report, sentences
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

ARGUMENTS: dict[str, t.Any] = {
    "sets": {"type": "dict", "required": True},
    "cluster": {"type": "str", "default": "cluster"},
    "reports_dir": {"type": "path"},
    "ignore_managers": {"type": "list", "elements": "str", "default": []},
    "ignore_fields": {"type": "list", "elements": "str", "default": []},
    "fail": {"type": "bool", "default": True},
}


def run(params: Params, context: Context) -> Result:
    """Result: ok, count, compared, drifted, objects, and the report's path."""
    if not params["sets"]:
        raise PlatformError(
            "Nothing was compared: apply the sets with state compared first, in the same play. An empty report would be green."
        )
    managers, fields = [*CONTROLLERS, *params["ignore_managers"]], [*map(_literal, IGNORED_FIELDS), *params["ignore_fields"]]

    def ignored(manager: str, path: str) -> bool:
        return any(fnmatchcase(manager, pattern) for pattern in managers) or any(fnmatchcase(path, pattern) for pattern in fields)

    found = report(params["sets"], ignored)
    found = {"cluster": params["cluster"], "time": datetime.now(UTC).isoformat(timespec="seconds"), **found}
    result: Result = {"changed": False, "drifted": list(dict.fromkeys(item["set"] for item in found["objects"]))}
    result |= {key: found[key] for key in ("ok", "count", "compared", "objects")}
    if params["reports_dir"]:
        result["report"] = _write(Path(params["reports_dir"]) / "drift.json", {**found, "drifted": result["drifted"]})
    if found["ok"]:
        return {**result, "msg": f"{params['cluster']} is as the inventory wants it: {found['compared']} objects compared, none drifted."}
    counted = ", ".join(f"{number} {kind}" for kind, number in found["count"].items() if number)
    where = f"\nThe whole report is in {result['report']}." if "report" in result else ""
    remedy = "\nsite.yml makes it as wanted again; diff.yml -e drift_repair=true does so for what drifted, whoever owns it."
    message = f"{params['cluster']} drifted ({counted}):\n" + "\n".join(sentences(found["objects"])) + where + remedy
    if params["fail"]:
        raise PlatformError(message, **result)
    return {**result, "msg": message}


def _literal(path: str) -> str:
    """The path as a pattern that means itself."""
    return path.replace("[", "[[]")


def _write(file: Path, content: Result) -> str:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise PlatformError(f"The report cannot be written to {file}: {error.strerror}. Choose another reports_dir.") from error
    return str(file)
