# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a cluster differs from what a set wants, and who made it so (private: may change without notice).

Pure. ``apply`` with ``state: compared`` gives the objects before and after a dry run; here they become sentences and a report.

    missing    the set names it, the cluster has not got it        changed    a field is not as wanted
    added      a member that the set no longer names               foreign    a field that somebody else put beside ours
    ownership  as wanted, but somebody else holds the field        refused    the server would not take it
"""

from __future__ import annotations

import difflib
import json
import typing as t
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._kube import masks, ownership
from ansible_collections.progressive.platform.plugins.module_utils._kube.ownership import MISSING, Owner, Path
from ansible_collections.progressive.platform.plugins.module_utils._kube.redact import Redactor, telling

Json = dict[str, t.Any]

KINDS_OF_DRIFT = ("missing", "changed", "added", "ownership", "foreign", "refused")
LONGEST = 2000  # characters of a value
DIFF_LINES = 40
# Parts of Kubernetes and of the platform that write into objects as a matter of course.
CONTROLLERS = (
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-apiserver",
    "cloud-controller-manager",
    "cluster-autoscaler",
    "pilot-discovery",
    "istio*",
    "keda*",
    "vpa-*",
    "cert-manager*",
    "Patroni",
    "patroni",
    "progressive.platform*",
)
# `kubectl rollout restart` leaves a time behind that means nothing afterwards.
IGNORED_FIELDS = ("spec.template.metadata.annotations[kubectl.kubernetes.io/restartedAt]",)


def described(action: str, identity: Json, before: Json | None, after: Json | None, manager: str, redactor: Redactor) -> Json | None:
    """One object's drift, None when there is none. ``action`` is what applying it would do, by dry run."""
    if action == "created":
        return {**identity, "drift": "missing", "fields": [], "foreign": []}
    if before is None:
        return None
    if action in ("pruned", "kept"):
        return {**identity, "drift": "added", "fields": [], "foreign": [], "writers": _owners(ownership.writers(before))}
    fields = list(_changed(before, after or {}, manager, redactor)) if action == "configured" else []
    foreign = [field for field in _foreign(before, manager, redactor) if not any(_within(field["path"], it["path"]) for it in fields)]
    if fields:
        return {**identity, "drift": "changed", "fields": fields, "foreign": foreign}
    lost = list(_lost(before, after or {}, manager)) if action == "configured" else []
    if lost:
        return {**identity, "drift": "ownership", "fields": lost, "foreign": foreign}
    return {**identity, "drift": "foreign", "fields": [], "foreign": foreign} if foreign else None


def _within(path: str, above: str) -> bool:
    return path == above or (path.startswith(above) and path[len(above)] in ".[")


def _changed(before: Json, after: Json, manager: str, redactor: Redactor) -> Iterator[Json]:
    fields = ownership.tree(before, after)
    last = sorted(ownership.writers(before), key=lambda owner: owner.manager == manager)  # whoever it was, it was hardly us
    for path, found, wanted in ownership.differences(masks.plain(before), masks.plain(after), fields):
        entry: Json = {"path": ownership.shown(path), "owners": _owners(ownership.owners(before, path))}
        if masks.is_secret(before) and path[0] in ("data", "stringData"):
            entry |= {"found": masks.HIDDEN_BEFORE, "wanted": masks.HIDDEN_AFTER}
        elif isinstance(found, str) and isinstance(wanted, str) and "\n" in found + wanted:
            lines = difflib.unified_diff(found.splitlines(), wanted.splitlines(), "found", "wanted", lineterm="", n=1)
            entry["diff"] = [redactor.text(line) for line in list(lines)[:DIFF_LINES]]
        else:
            entry |= {side: _shown(value, path, redactor) for side, value in (("found", found), ("wanted", wanted)) if value is not MISSING}
        if not entry["owners"]:
            entry["last_writer"] = _owners(last[:1])[0] if last else {}
        yield entry


def _lost(before: Json, after: Json, manager: str) -> Iterator[Json]:
    """Fields that are as wanted and that the set's manager would have to take back."""
    mine = set(_owned(before, manager))
    for path in _owned(after, manager):
        holders = ownership.owners(before, path) if path not in mine else []
        if holders:  # without any, it is a default that stands nowhere: false, or 0
            yield {"path": ownership.shown(path), "owners": _owners(holders)}


def _owned(item: Json, manager: str) -> list[Path]:
    return [
        path
        for entry in ownership.entries(item)
        if entry.get("manager") == manager and entry.get("operation") == "Apply"
        for path in ownership.leaves(entry.get("fieldsV1") or {})
    ]


def _foreign(before: Json, manager: str, redactor: Redactor) -> Iterator[Json]:
    """Fields that only others own; those of a status are its controller's."""
    mine = [entry.get("fieldsV1") or {} for entry in ownership.entries(before) if entry.get("manager") == manager]
    for entry in ownership.entries(before):
        if entry.get("manager") == manager or entry.get("subresource") == "status":
            continue
        for path in ownership.leaves(entry.get("fieldsV1") or {}):
            value = ownership.value_at(before, path)
            if path[0] == "status" or value is MISSING or any(ownership.holds(fields, path) for fields in mine):
                continue
            hidden = masks.is_secret(before) and path[0] in ("data", "stringData")
            yield {
                "path": ownership.shown(path),
                "found": masks.HIDDEN if hidden else _shown(value, path, redactor),
                **_owners([ownership.owner(entry)])[0],
            }


def _owners(found: Iterable[Owner]) -> list[Json]:
    return [{key: value for key, value in owner._asdict().items() if value} for owner in found]


def _shown(value: t.Any, path: Path, redactor: Redactor) -> t.Any:
    names = tuple(step for step in path if not step.startswith(("k:", "v:", "[")))
    called = [json.loads(step[2:]).get("name", "") for step in path if step.startswith("k:")]
    if names[-2:] == ("env", "value") and called and telling(str(called[-1])):
        return redactor.hide()
    shown = redactor.value(value, names)
    return shown[:LONGEST] + " ..." if isinstance(shown, str) and len(shown) > LONGEST else shown


# ---- the report ---------------------------------------------------------------------------------------------------------------


def report(sets: Mapping[str, Json], ignored: t.Callable[[str, str], bool]) -> Json:
    """All sets together. ``ignored(manager, path)`` says which foreign fields do not count."""
    objects: list[Json] = []
    for name, found in sets.items():
        for item in found.get("objects") or []:
            foreign = [field for field in item.get("foreign") or [] if not ignored(field.get("manager", ""), field["path"])]
            if item["drift"] != "foreign" or foreign:
                objects.append({"set": name, **item, "foreign": foreign})
        objects += [{"set": name, "drift": "refused", "message": said, "fields": [], "foreign": []} for said in found.get("refused") or []]
    count = {kind: sum(item["drift"] == kind for item in objects) for kind in KINDS_OF_DRIFT}
    return {
        "ok": not objects,
        "sets": list(sets),
        "compared": sum(int(found.get("compared", 0)) for found in sets.values()),
        "count": count,
        "objects": objects,
    }


def sentences(objects: Sequence[Json]) -> Iterator[str]:
    """One line an object and one a field, for people."""
    for item in objects:
        if item["drift"] == "refused":
            yield f"{item['set']}: refused: {item['message']}"
            continue
        where = f"{item['namespace']}/{item['name']}" if item["namespace"] else item["name"]
        yield f"{item['set']}: {item['kind']} {where}: {WORDS[item['drift']]}{_by(item.get('writers') or [])}"
        for field in item["fields"]:
            yield f"    {field['path']}{_values(field)}{_by(field['owners']) or _last(field)}"
        for field in item["foreign"]:
            yield f"    {field['path']} is {json.dumps(field['found'], ensure_ascii=False)}, put there{_by([field])}"


WORDS = {
    "missing": "is missing",
    "changed": "is not as wanted",
    "added": "is no longer wanted",
    "ownership": "is as wanted, but its fields are held by others",
    "foreign": "has fields that nobody here asked for (site.yml leaves them)",
}


def _values(field: Json) -> str:
    if "diff" in field:
        return " differs: " + " | ".join(line for line in field["diff"][2:] if line[:1] in "+-")
    if "found" not in field and "wanted" not in field:
        return " is held"
    found, wanted = (json.dumps(field[side], ensure_ascii=False) if side in field else "nothing" for side in ("found", "wanted"))
    return f": wanted {wanted}, found {found}"


def _by(owners: Sequence[Json]) -> str:
    named = [f"{owner['manager']} ({owner.get('operation', '?')}, {owner.get('time', '?')})" for owner in owners]
    return f" by {', '.join(named)}" if named else ""


def _last(field: Json) -> str:
    """A field that is gone has no owner: whoever took it away is most likely who wrote last."""
    last = field.get("last_writer")
    return f"; nobody owns it, the object was last written{_by([last])}" if last else ""
