# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long an upgrade's components took, kept in a file so that the next plan can say how long it will take (private: may change without notice).

{"agents": {"begun": "2026-11-27T04:00:00+00:00", "runs": [{"seconds": 41.2, "work": "pods", "at": "2026-11-26T18:02:11+00:00"}]}}
"""

from __future__ import annotations

import json
import statistics
import typing as t
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._local.shell import write_atomic
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

Json = dict[str, t.Any]

WORK = ("nothing", "fields", "pods")  # what there was to do: pods are new ones, which takes far longer than fields alone
KEPT = 10  # runs of a component
COUNTED = 5  # of them, the last of the same work
ARGUMENTS: dict[str, t.Any] = {
    "path": {"type": "path", "required": True},
    "component": {"type": "str"},
    "state": {"type": "str", "choices": ["known", "begun", "done"], "default": "known"},
    "work": {"type": "str", "choices": list(WORK), "default": "pods"},
}
CONSTRAINTS: dict[str, t.Any] = {"required_if": [("state", "begun", ["component"]), ("state", "done", ["component"])]}


def run(params: Params, context: Context) -> Result:
    """Result: changed, durations (the file), seconds (of what is done)."""
    file = Path(params["path"])
    known = _read(file)
    if params["state"] == "known":
        return {"changed": False, "durations": known, "seconds": None}
    now = datetime.now(UTC)
    begin = params["state"] == "begun"
    wanted = begun(known, params["component"], now) if begin else done(known, params["component"], params["work"], now)
    if not context.check and wanted != known:
        _write(file, wanted)
    seconds = None if begin or wanted == known else wanted[params["component"]]["runs"][-1]["seconds"]
    return {"changed": wanted != known, "durations": wanted, "seconds": seconds}


def begun(known: Json, component: str, now: datetime) -> Json:
    """A beginning that a killed run left behind is forgotten: nobody knows when that run ended."""
    return {**known, component: {**known.get(component, {}), "begun": now.isoformat(timespec="milliseconds")}}


def done(known: Json, component: str, work: str, now: datetime) -> Json:
    """The run that was begun, with its seconds; what was not begun is not counted."""
    entry = dict(known.get(component, {}))
    since = entry.pop("begun", None)
    if since is None:
        return known
    seconds = round((now - datetime.fromisoformat(since)).total_seconds(), 1)
    runs = [*entry.get("runs", []), {"seconds": seconds, "work": work, "at": now.isoformat(timespec="seconds")}]
    return {**known, component: {**entry, "runs": runs[-KEPT:]}}


def estimate(known: Mapping[str, t.Any], component: str, work: str) -> float | None:
    """Seconds that this work is going to take: the median of the last runs with the same work. None when there was none."""
    runs = [one["seconds"] for one in (known.get(component) or {}).get("runs", []) if one["work"] == work]
    return statistics.median(runs[-COUNTED:]) if runs else None


def _read(file: Path) -> Json:
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PlatformError(f"{file} is wanted with durations of earlier runs, and cannot be read: {error}. Remove it.") from error
    if not isinstance(found, dict):
        raise PlatformError(f"{file} is wanted with durations of earlier runs, and holds a {type(found).__name__}. Remove it.")
    return found


def _write(file: Path, content: Json) -> None:
    try:
        write_atomic(file, json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise PlatformError(f"The durations cannot be written to {file}: {error.strerror}. Choose another path.") from error
