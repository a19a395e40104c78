# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of backups: when the last one was taken, and when one was last proved to be good for a restore (private: may change without notice)."""

from __future__ import annotations

import datetime
import json
import typing as t

from ansible_collections.progressive.platform.plugins.module_utils._health.cluster import Object
from ansible_collections.progressive.platform.plugins.module_utils._health.model import Finding, Options, age, verdict
from ansible_collections.progressive.platform.plugins.module_utils._health.scene import Scene

HOUR = 3600.0


def backups(options: Options, scene: Scene, until: float) -> Finding:
    """The last backup, and the last drill where one is wanted, are young enough and went well, by the notes the modules leave in ConfigMaps."""
    namespace, record = options["namespace"], options["record"]
    now = scene.cluster.now()
    begun = _created(scene.cluster.find("ConfigMap", namespace, options.get("since") or f"{record}-marker"))
    since = now - begun if begun else None
    problems: list[str] = []
    details: dict[str, t.Any] = {}
    seen = []
    for kind, moment, hours in (("backup", "recovery_point", options["maximum_age"]), ("drill", "at", options["drill_maximum_age"])):
        if not hours:
            continue
        found = scene.cluster.find("ConfigMap", namespace, f"{record}-{kind}")
        note = _note(found) if found else {}
        said, problem = judge(kind, note if found else None, moment, hours * HOUR, now, since)
        seen.append(said)
        problems += [problem] if problem else []
        details[kind] = note
    wanted = [f"a backup younger than {age(options['maximum_age'] * HOUR)}"] if options["maximum_age"] else []
    wanted += [f"a drill younger than {age(options['drill_maximum_age'] * HOUR)}"] if options["drill_maximum_age"] else []
    return verdict(" and ".join(wanted) or "nothing", "; ".join(seen) or "nothing is wanted", problems, details)


def judge(kind: str, note: t.Mapping[str, t.Any] | None, moment: str, limit: float, now: float, since: float | None) -> tuple[str, str]:
    """What is seen, and what is wrong with it. ``since``: how long there has been a cluster that is backed up, in seconds; a young one
    need not have a backup yet."""
    if note is None:
        if since is not None and since <= limit:
            return f"no {kind} yet, the cluster is {age(since)} old", ""
        return f"no {kind}", f"there has never been a {kind}; run playbooks/{kind}.yml"
    try:
        old = now - datetime.datetime.fromisoformat(note[moment]).timestamp()
    except (KeyError, TypeError, ValueError):
        return f"unreadable note of a {kind}", f"the note of the last {kind} cannot be read; run playbooks/{kind}.yml"
    said = f"last {kind} {age(max(old, 0.0))} ago"
    if kind == "drill":
        said += f", RPO {age(note.get('rpo_seconds') or 0)}, RTO {age(note.get('rto_seconds') or 0)}"
    if kind == "drill" and not note.get("ok"):
        return said, f"the last drill, {age(max(old, 0.0))} ago, failed: {note.get('problem', 'it was not finished')}"
    if old > limit:
        return said, f"the last {kind} is {age(old)} old, at most {age(limit)} is wanted; run playbooks/{kind}.yml"
    return said, ""


def _note(item: Object) -> dict[str, t.Any]:
    try:
        note = json.loads((item.get("data") or {}).get("note", ""))
        return note if isinstance(note, dict) else {}
    except ValueError:
        return {}


def _created(item: Object | None) -> float | None:
    """When the cluster's marker was made, in seconds since 1970."""
    return datetime.datetime.fromisoformat(item["metadata"]["creationTimestamp"]).timestamp() if item else None
