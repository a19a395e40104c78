# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Secret whose values are made once, and changed only when that is asked for (private: may change without notice).

A value is changed in three steps, each one write, so that whoever takes it can know the new one before anybody gives it, and still take the old one after:
``stage`` makes the next value beside the current one, ``promote`` makes it the current one and keeps the old as the former, ``retire`` drops the former.
"""

from __future__ import annotations

import base64
import secrets
import string
import typing as t

from ansible_collections.progressive.platform.plugins.module_utils._kube.applyset import MANAGER
from ansible_collections.progressive.platform.plugins.module_utils._kube.arguments import CONNECTION
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import APPLY, ApiError, Client, connect
from ansible_collections.progressive.platform.plugins.module_utils._kube.discovery import Resource
from ansible_collections.progressive.platform.plugins.module_utils._kube.secret_backends import OPTIONS as BACKEND
from ansible_collections.progressive.platform.plugins.module_utils._kube.secret_backends import (
    Backend,
    Moved,
    backend_of,
    bring,
    external_secret,
)
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

Json = dict[str, t.Any]
Maker: t.TypeAlias = "int | tuple[str, ...]"

ARGUMENTS: dict[str, t.Any] = {
    "name": {"type": "str", "required": True},
    "namespace": {"type": "str"},
    "generate": {"type": "dict", "default": {}, "no_log": False},
    "data": {"type": "dict", "default": {}, "no_log": True},
    "labels": {"type": "dict", "default": {}},
    "rotate": {"type": "str", "choices": ["stage", "promote", "retire"]},
    "force": {"type": "bool", "default": False},
    "backend": BACKEND,
    **CONNECTION,
}

LETTERS = string.ascii_letters + string.digits  # safe in URLs, shells and configuration files
LENGTH = 32  # characters, 190 bits
SHORTEST, LONGEST = 12, 1024
FIELD_MANAGER = f"{MANAGER}.secret"
NEXT, FORMER = "next-", "former-"  # prefixes of the keys that stand beside a value's own while it is changed
ATTEMPTS = 5  # times that somebody else may change the Secret between our look and our write


def run(params: Params, context: Context) -> Result:
    """Result: changed, name, namespace, keys (all of the Secret's), generated (keys made by this run), phase. Never a value."""
    lengths = check(params)
    with connect(params, context.clock) as client:
        namespace = params["namespace"] or client.access.namespace
        if lengths and (params.get("backend") or {}).get("kind") == "external_secrets":
            return _brought(client, namespace, params, lengths, context)
        backend = backend_of(params.get("backend"), namespace, params["name"], context.clock) if lengths else None
        for attempt in range(ATTEMPTS):
            try:
                return _ensure(client, namespace, params, lengths, context.check, backend)
            except Moved:
                if attempt == ATTEMPTS - 1:
                    raise PlatformError(f"{backend} is written by somebody else all the time; nothing was changed. Run it again.") from None
            except ApiError as error:
                conflict = error.status == 409 and not _owners(error)
                if not conflict or attempt == ATTEMPTS - 1:
                    raise _explained(error, params["name"], namespace, client) from error
    raise AssertionError("unreachable")


def check(params: Params) -> dict[str, Maker]:
    """How the value of every key is made, a length or names that take turns; raises PlatformError for keys given twice and options that are none."""
    lengths: dict[str, Maker] = {}
    for key, options in params["generate"].items():
        unknown = set(options or {}) - {"length", "turns"}
        length, turns = (options or {}).get("length", LENGTH), (options or {}).get("turns")
        if unknown:
            raise PlatformError(f"generate.{key}: unknown option {sorted(unknown)[0]!r}; allowed: length, turns.")
        if turns is not None:
            names = tuple(str(name) for name in turns) if isinstance(turns, (list, tuple)) else ()
            if len(set(names)) < 2 or len(set(names)) < len(names) or "length" in (options or {}):
                raise PlatformError(f"generate.{key}.turns: {turns!r}; two or more different names are wanted, and no length beside them.")
            lengths[key] = names
            continue
        if isinstance(length, bool) or not str(length).isdigit() or not SHORTEST <= int(length) <= LONGEST:
            raise PlatformError(f"generate.{key}.length: {length!r}; a whole number from {SHORTEST} to {LONGEST} is allowed.")
        lengths[key] = int(length)
    both = sorted(set(lengths) & set(params["data"]))
    if both:
        raise PlatformError(f"The key {both[0]!r} stands in generate and in data; it can only be one of them.")
    for key in (*lengths, *params["data"]):
        if key.startswith((NEXT, FORMER)):
            raise PlatformError(
                f"The key {key!r} begins with {NEXT!r} or {FORMER!r}, which stand for a value that is being changed; name it otherwise."
            )
    if params.get("rotate") and not lengths:
        raise PlatformError("rotate changes generated values only, and generate names none.")
    if not lengths and not params["data"]:
        raise PlatformError("Neither generate nor data names a key; at least one is wanted.")
    return lengths


def rotated(
    held: t.Mapping[str, str], lengths: t.Mapping[str, Maker], step: str | None, new: t.Callable[[Maker, str | None], str]
) -> dict[str, str]:
    """The generated values after a step, encoded as they are held; a step that was done before changes nothing: pure but for ``new``, which is given
    how a value is made and the one before it."""
    data: dict[str, str] = {}
    for key, length in lengths.items():
        current, coming, former = held.get(key), held.get(NEXT + key), held.get(FORMER + key)
        if current is None:
            current = new(length, None)
        elif step == "stage" and not coming and not former:
            coming = new(length, current)
        elif step == "promote" and coming:
            current, coming, former = coming, None, current
        elif step == "retire":
            former = None
        data |= {name: value for name, value in ((key, current), (NEXT + key, coming), (FORMER + key, former)) if value}
    return data


def phase(keys: t.Iterable[str]) -> str:
    """``staged`` when a next value waits, ``overlap`` when a former one is still taken, ``steady`` otherwise."""
    names = list(keys)
    return (
        "staged" if any(key.startswith(NEXT) for key in names) else "overlap" if any(key.startswith(FORMER) for key in names) else "steady"
    )


def make(length: int) -> str:
    return "".join(secrets.choice(LETTERS) for _unused in range(length))


def following(maker: Maker, before: str | None) -> str:
    """A random value, or the next of the names that take turns (the first after one that is none of them), encoded as it is held."""
    if isinstance(maker, int):
        return _encode(make(maker))
    names = [_encode(name) for name in maker]
    return names[(names.index(before) + 1) % len(names)] if before in names else names[0]


def _brought(client: Client, namespace: str, params: Params, lengths: dict[str, Maker], context: Context) -> Result:
    """The Secret as External Secrets makes it; nothing is generated, and nothing changed, but by whoever fills its store."""
    if params.get("rotate"):
        raise PlatformError(
            f"rotate: the values of {params['name']} come from External Secrets. Change them in its store; clients read them anew."
        )
    if params["data"]:
        raise PlatformError(
            f"data: the whole Secret {params['name']} comes from External Secrets. Put {', '.join(params['data'])} into its store."
        )
    document = external_secret(params["backend"], namespace, params["name"], list(lengths), _labels(params))
    timeout = params["backend"]["external_secrets"]["timeout"]
    changed, keys = bring(client, context.clock, document, timeout, FIELD_MANAGER, context.check)
    return {"changed": changed, "name": params["name"], "namespace": namespace, "keys": keys, "generated": [], "phase": phase(keys)}


def _labels(params: Params) -> dict[str, str]:
    return {"app.kubernetes.io/managed-by": MANAGER, "app.kubernetes.io/part-of": "progressive-platform", **params["labels"]}


def _ensure(client: Client, namespace: str, params: Params, lengths: dict[str, Maker], dry: bool, backend: Backend | None = None) -> Result:
    """One look and one write. Raises ApiError 409 without owners, or Moved, when somebody else wrote in between.

    What a backend holds counts; what it lacks it gets from the Secret, or else new, before the Secret gets it.
    """
    resource = client.resource("v1", "Secret")
    path = resource.path(namespace, params["name"])
    before = client.find(path)
    held = dict((before or {}).get("data") or {})
    kept, state = backend.read() if backend else ({}, None)
    if backend and kept:
        # While a value is changed, the steps are the backend's too.
        ours = {prefix + key for key in lengths if key in kept for prefix in ("", NEXT, FORMER)}
        held = {key: value for key, value in held.items() if key not in ours}
    held |= {key: _encode(value) for key, value in kept.items()}
    data = rotated(held, lengths, params.get("rotate"), following)
    told = False
    if backend:
        steps = {prefix + key for key in lengths for prefix in ("", NEXT, FORMER)}
        wanted = {**{key: value for key, value in kept.items() if key not in steps}, **{key: _decode(value) for key, value in data.items()}}
        told = wanted != kept
        if told and not dry:
            backend.write(wanted, state)
    data |= {key: _encode(str(value)) for key, value in params["data"].items()}
    metadata: Json = {"name": params["name"], "namespace": namespace, "labels": _labels(params)}
    document: Json = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
    force = params["force"] or params.get("rotate") is not None
    after = write(client, resource, document, before, force, dry)
    return {
        "changed": told or before is None or (_meaning(before) != _meaning(after) if dry else version(before) != version(after)),
        "name": params["name"],
        "namespace": namespace,
        "keys": sorted((after or document)["data"]),
        "generated": [key for key in data if key in lengths and key not in held],
        "phase": phase((after or document)["data"]),
    }


def write(client: Client, resource: Resource, document: Json, before: Json | None, force: bool, dry: bool) -> Json:
    """Create the Secret, or apply it to the very version that was seen (409 without owners when it has moved); what the server made of it."""
    metadata = document["metadata"]
    namespace = metadata["namespace"]
    query: Json = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict", "dryRun": "All" if dry else None}
    after = document
    if before is None:
        try:
            # A POST fails when another run was first, so that no value is ever overwritten; a server-side apply would.
            after = client.request("POST", resource.path(namespace), document, query=query)[2]
        except ApiError as error:
            if not (dry and error.status == 404):  # the namespace is not there yet, in check mode
                raise
    else:  # the values belong to this very version: when it has moved meanwhile, the server says 409
        metadata["resourceVersion"] = before["metadata"]["resourceVersion"]
    if before is not None or not dry:
        # After a POST too: an applied field has an owner of its own kind, and without it the next run would find a change.
        query["force"] = force or None
        path = resource.path(namespace, metadata["name"])
        try:
            after = client.request("PATCH", path, document, query=query, content_type=APPLY)[2]
        except ApiError as error:
            if not _ours(error):
                raise
            # Our own POST counts as another owner of what it wrote.
            after = client.request("PATCH", path, document, query={**query, "force": True}, content_type=APPLY)[2]
    return after


def version(item: Json) -> str:
    return str(item["metadata"]["resourceVersion"])


def _meaning(item: Json) -> Json:
    return {"data": item.get("data"), "labels": item["metadata"].get("labels"), "type": item.get("type")}


def _encode(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


def _decode(value: str) -> str:
    return base64.b64decode(value).decode()


def _owners(error: ApiError) -> list[str]:
    return [str(cause.get("field")) for cause in _conflicts(error)]


def _ours(error: ApiError) -> bool:
    """Whether it is we ourselves, by another kind of write, who own what is to be changed."""
    conflicts = _conflicts(error)
    return bool(conflicts) and all(f'"{FIELD_MANAGER}"' in str(cause.get("message")) for cause in conflicts)


def _conflicts(error: ApiError) -> list[Json]:
    causes = (error.body.get("details") or {}).get("causes") or []
    return [cause for cause in causes if cause.get("reason") == "FieldManagerConflict"]


def _explained(error: ApiError, name: str, namespace: str, client: Client) -> PlatformError:
    fields = _owners(error)
    if fields:
        return PlatformError(f"Secret {namespace}/{name}: {', '.join(fields)} belong to another manager. Take them over with force: true.")
    if error.status == 404:
        return PlatformError(
            f"Secret {namespace}/{name}: the namespace {namespace!r} does not exist on {client.access}. "
            f"Run `kubectl create namespace {namespace}`, or apply the bundle that makes it first."
        )
    return error
