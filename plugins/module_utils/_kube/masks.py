# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people may see of an object: no secret, no bookkeeping (private: may change without notice)."""

from __future__ import annotations

import base64
import binascii
import contextlib
import copy
import typing as t
from collections.abc import Iterable

Json = dict[str, t.Any]

HIDDEN = "********"
HIDDEN_BEFORE = "******** (before)"
HIDDEN_AFTER = "******** (after)"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
SHORTEST = 6  # characters; hiding shorter values would blot out ordinary text
# metadata the server keeps for itself, which says nothing about what the object is
BOOKKEEPING = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")


def is_secret(item: Json | None) -> bool:
    return bool(item) and t.cast(Json, item).get("kind") == "Secret" and t.cast(Json, item).get("apiVersion") == "v1"


def secret_values(documents: Iterable[Json | None]) -> set[str]:
    """Every value of the Secrets among the documents, as base64 and decoded."""
    values: set[str] = set()
    for document in documents:
        if not is_secret(document):
            continue
        secret = t.cast(Json, document)
        values |= {str(value) for value in (secret.get("stringData") or {}).values()}
        for value in (secret.get("data") or {}).values():
            values.add(str(value))
            with contextlib.suppress(binascii.Error, UnicodeDecodeError):
                values.add(base64.b64decode(str(value), validate=True).decode())
    return {value for value in values if len(value) >= SHORTEST}


def scrub(value: t.Any, secrets: set[str]) -> t.Any:
    """The same structure with every occurrence of a secret in its strings hidden; the longest first, as one may hold another."""
    if not secrets:
        return value
    ordered = sorted(secrets, key=len, reverse=True)

    def walk(it: t.Any) -> t.Any:
        if isinstance(it, str):
            for secret in ordered:
                if secret in it:
                    it = it.replace(secret, HIDDEN)
            return it
        if isinstance(it, dict):
            return {key: walk(inner) for key, inner in it.items()}
        return [walk(inner) for inner in it] if isinstance(it, list) else it

    return walk(value)


def diff(before: Json | None, after: Json | None, secrets: set[str]) -> tuple[Json, Json]:
    """Two objects as a diff shows them: without status and bookkeeping, values of Secrets hidden but their change visible."""
    old, new = plain(before), plain(after)
    if is_secret(before) or is_secret(after):
        for field in ("data", "stringData"):
            values, wanted = old.get(field) or {}, new.get(field) or {}
            if values or wanted:
                old[field], new[field] = _hide(values, wanted)
        for side in (old, new):
            annotations = (side.get("metadata") or {}).get("annotations") or {}
            if LAST_APPLIED in annotations:
                annotations[LAST_APPLIED] = HIDDEN
    return scrub(old, secrets), scrub(new, secrets)


def _hide(values: Json, wanted: Json) -> tuple[dict[str, str], dict[str, str]]:
    def moved(key: str) -> bool:
        return key in values and key in wanted and values[key] != wanted[key]

    return (
        {key: HIDDEN_BEFORE if moved(key) else HIDDEN for key in values},
        {key: HIDDEN_AFTER if moved(key) else HIDDEN for key in wanted},
    )


def plain(item: Json | None) -> Json:
    """A copy without status and bookkeeping; empty for None."""
    if item is None:
        return {}
    shown = {key: copy.deepcopy(item[key]) for key in sorted(item) if key != "status"}
    metadata = shown.get("metadata") or {}
    for field in BOOKKEEPING:
        metadata.pop(field, None)
    return shown
