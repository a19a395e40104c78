# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which fields of an object differ, and who owns them by the server's own book (private: may change without notice).

Pure. ``metadata.managedFields`` holds a tree of fields for every manager (its marks are described in ``unchanged``); the union of these trees also
says which lists are merged by keys, so that a container that moved is no difference and one that was taken out is named by its name.
"""

from __future__ import annotations

import json
import typing as t
from collections.abc import Iterator, Sequence

Json = dict[str, t.Any]
Path = tuple[
    str, ...
]  # marks as in fieldsV1 without their "f:": a field's name, k:{...}, v:..., or [number] in a list that is replaced whole

MISSING: t.Any = object()


class Difference(t.NamedTuple):
    """One field; ``found`` or ``wanted`` is MISSING when only the other side has it."""

    path: Path
    found: t.Any
    wanted: t.Any


class Owner(t.NamedTuple):
    """One manager of a field."""

    manager: str
    operation: str
    time: str
    subresource: str = ""


def entries(item: Json) -> list[Json]:
    return [entry for entry in (item.get("metadata") or {}).get("managedFields") or [] if isinstance(entry, dict)]


def tree(*items: Json) -> Json:
    """The union of what all managers of the objects own."""
    union: Json = {}
    for item in items:
        for entry in entries(item):
            _merge(union, entry.get("fieldsV1") or {})
    return union


def _merge(into: Json, fields: Json) -> None:
    for mark, below in fields.items():
        _merge(into.setdefault(mark, {}), below or {})


def differences(found: t.Any, wanted: t.Any, fields: Json, path: Path = ()) -> Iterator[Difference]:
    """Every field whose value differs, as deep as it goes; what only one side has is named once, at its top."""
    if found is MISSING or wanted is MISSING or type(found) is not type(wanted):
        if found is not MISSING or wanted is not MISSING:
            yield Difference(path, found, wanted)
    elif isinstance(found, dict):
        for key in sorted({*found, *wanted}):
            yield from differences(found.get(key, MISSING), wanted.get(key, MISSING), fields.get(f"f:{key}") or {}, (*path, key))
    elif isinstance(found, list):
        yield from _lists(found, wanted, fields, path)
    elif found != wanted:
        yield Difference(path, found, wanted)


def _lists(found: list[t.Any], wanted: list[t.Any], fields: Json, path: Path) -> Iterator[Difference]:
    keys = sorted({key for mark in fields if mark.startswith("k:") for key in json.loads(mark[2:])})
    if keys and all(isinstance(item, dict) for item in [*found, *wanted]):
        old, new = ({_mark(item, keys): item for item in items} for items in (found, wanted))
        for mark in [*old, *(mark for mark in new if mark not in old)]:
            yield from differences(old.get(mark, MISSING), new.get(mark, MISSING), fields.get(mark) or {}, (*path, mark))
    elif any(mark.startswith("v:") for mark in fields):
        for value in [*found, *(value for value in wanted if value not in found)]:
            mark = f"v:{json.dumps(value)}"
            yield from differences(value if value in found else MISSING, value if value in wanted else MISSING, {}, (*path, mark))
    elif found != wanted and len(found) == len(wanted):
        for number, (old_item, new_item) in enumerate(zip(found, wanted, strict=True)):
            yield from differences(old_item, new_item, {}, (*path, f"[{number}]"))
    elif found != wanted:
        yield Difference(path, found, wanted)


def _mark(item: Json, keys: Sequence[str]) -> str:
    """The item's mark as the server writes it: JSON without spaces, keys sorted; a key with a default may be missing."""
    return "k:" + json.dumps({key: item[key] for key in keys if key in item}, separators=(",", ":"))


def owners(item: Json, path: Path) -> list[Owner]:
    """Who owns the field, the last writer first; of a field that is not there, nobody."""
    return _newest(entry for entry in entries(item) if holds(entry.get("fieldsV1") or {}, path))


def writers(item: Json) -> list[Owner]:
    """Everybody who ever wrote the object and still owns a field of it, the last one first; who wrote its status only is left out."""
    return _newest(entry for entry in entries(item) if entry.get("subresource") != "status")


def _newest(found: t.Iterable[Json]) -> list[Owner]:
    return sorted((owner(entry) for entry in found), key=lambda it: it.time, reverse=True)


def owner(entry: Json) -> Owner:
    """Who an entry of managedFields is about."""
    return Owner(*(str(entry.get(field) or "") for field in ("manager", "operation", "time", "subresource")))


def holds(fields: Json, path: Path) -> bool:
    """Whether the tree holds the field, something below it, or all of something above it."""
    for step in path:
        if not set(fields) - {"."}:
            return True  # a list or map that is owned whole
        below = _below(fields, step)
        if below is None:
            return False
        fields = below
    return True


def _below(fields: Json, step: str) -> Json | None:
    if not step.startswith("k:"):
        found = fields.get(step if step.startswith("v:") else f"f:{step}", MISSING)
        return None if found is MISSING else found or {}
    keys = json.loads(step[2:])
    for mark, below in fields.items():
        if mark.startswith("k:") and all(keys.get(key, value) == value for key, value in json.loads(mark[2:]).items()):
            return below or {}
    return None


def leaves(fields: Json, path: Path = ()) -> Iterator[Path]:
    """The paths of everything a manager owns, deepest fields only."""
    below = {mark: inner for mark, inner in fields.items() if mark != "."}
    if not below:
        if path:
            yield path
        return
    for mark, inner in below.items():
        yield from leaves(inner or {}, (*path, mark[2:] if mark.startswith("f:") else mark))


def value_at(item: t.Any, path: Path) -> t.Any:
    """The value a path names, MISSING when there is none."""
    for step in path:
        if step.startswith("k:") and isinstance(item, list):
            keys = json.loads(step[2:])
            item = next((it for it in item if isinstance(it, dict) and all(it.get(key) == value for key, value in keys.items())), MISSING)
        elif step.startswith("v:") and isinstance(item, list):
            value = json.loads(step[2:])
            item = value if value in item else MISSING
        elif isinstance(item, dict):
            item = item.get(step, MISSING)
        else:
            return MISSING
        if item is MISSING:
            return MISSING
    return item


def shown(path: Path) -> str:
    """The path as a person writes it: ``spec.template.spec.containers[name=app].image``."""
    text = ""
    for step in path:
        if step.startswith("k:"):
            text += "[" + ",".join(f"{key}={value}" for key, value in json.loads(step[2:]).items()) + "]"
        elif step.startswith("v:"):
            text += f"[{json.loads(step[2:])}]"
        elif step.startswith("["):
            text += step
        elif "." in step or "/" in step:
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text
