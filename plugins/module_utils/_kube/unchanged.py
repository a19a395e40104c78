# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a server-side apply would change nothing, told from the object as it is (private: may change without notice).

An apply changes the values that the document names and the set of fields that its manager owns. The object shows both: its values, and
``metadata.managedFields`` (Kubernetes documentation, Server-Side Apply; the format ``fieldsV1`` is that of structured-merge-diff). If
both are what the document asks for, the request need not be sent. Whatever this cannot tell for certain, such as a value that the server
writes in another way (``1000m`` as ``1``), counts as a change: the server is then asked, and decides.

    f:name        a field                        k:{"name":"x"}   the item of a list that has these keys
    v:"x"         an item of a set               .                the object, list or item itself
    {} behind     all of its value is owned
"""

from __future__ import annotations

import json
import typing as t

Json = dict[str, t.Any]

IDENTITY = ("apiVersion", "kind")
NAMES = ("name", "namespace")


def would_change(document: Json, there: Json, manager: str) -> bool:
    """False only when applying ``document`` as ``manager`` is certain to leave ``there`` as it is."""
    entries = [
        entry
        for entry in there["metadata"].get("managedFields") or []
        if entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource")
    ]
    if len(entries) != 1 or entries[0].get("apiVersion") != document["apiVersion"] or there["metadata"].get("deletionTimestamp"):
        return True
    asked = {key: value for key, value in document.items() if key not in IDENTITY}
    metadata = {key: value for key, value in document["metadata"].items() if key not in NAMES}
    asked = {**asked, "metadata": metadata} if metadata else {key: value for key, value in asked.items() if key != "metadata"}
    return not _same(asked, there, entries[0].get("fieldsV1") or {})


def _same(asked: t.Any, there: t.Any, owned: Json) -> bool:
    """Whether the value is as asked for, and owned to the last field of it and no further."""
    if set(owned) <= {"."}:
        return not owned and asked is not None and _plain(asked) == _plain(there)
    if isinstance(asked, dict) and isinstance(there, dict):
        fields = {name[2:]: below for name, below in owned.items() if name.startswith("f:")}
        return (
            len(fields) == len(set(owned) - {"."})
            and set(fields) == set(asked)
            and all(_field(asked, there, it, fields[it]) for it in fields)
        )
    if isinstance(asked, list) and isinstance(there, list):
        return _same_items(asked, there, {name: below for name, below in owned.items() if name != "."})
    return False


def _field(asked: Json, there: Json, name: str, owned: Json) -> bool:
    if name not in there:
        # Go leaves a zero and an empty list out when it writes; that the field is still ours says that nobody has taken it away.
        return not owned and asked[name] in (0, "", [])
    return _same(asked[name], there[name], owned)


def _same_items(asked: list[t.Any], there: list[t.Any], owned: Json) -> bool:
    """A list whose items have keys, or a set. The server keeps the order of what is applied, so the order counts too."""
    if len(asked) != len(owned):
        return False
    places: dict[int, int] = {}
    for name, below in owned.items():
        mark, _colon, text = name.partition(":")
        try:
            wanted = json.loads(text)
        except ValueError:
            return False
        if mark == "v":
            mine = [number for number, item in enumerate(asked) if _plain(item) == _plain(wanted)]
            theirs = [number for number, item in enumerate(there) if _plain(item) == _plain(wanted)]
        elif mark == "k":
            mine = [number for number, item in enumerate(asked) if _has(item, wanted, may_lack=True)]
            theirs = [number for number, item in enumerate(there) if _has(item, wanted)]
        else:
            return False
        if len(mine) != 1 or len(theirs) != 1 or (mark == "k" and not _same(asked[mine[0]], there[theirs[0]], below)):
            return False
        places[mine[0]] = theirs[0]
    order = [places[number] for number in sorted(places)]
    return len(places) == len(asked) and order == sorted(order)


def _has(item: t.Any, keys: Json, may_lack: bool = False) -> bool:
    """Whether an item has these keys; one with a default (a port's protocol) may be missing in a document."""
    return isinstance(item, dict) and all(_plain(item[it]) == _plain(value) if it in item else may_lack for it, value in keys.items())


def _plain(value: t.Any) -> str:
    """The JSON of a value: tells 1 from true and "1", and does not mind the order of keys."""
    return json.dumps(value, sort_keys=True)
