# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that say how to log in, and where their values come from: the task, files, or Secrets (private: may change without notice)."""

from __future__ import annotations

import base64
import dataclasses
import typing as t
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client, quote
from ansible_collections.progressive.platform.plugins.module_utils._run import Params, PlatformError

FORMER, NEXT = "former-", "next-"
"""Prefixes of the keys beside a password's own while it is rotated (module secret makes and removes them)."""

SECRET: dict[str, t.Any] = {"namespace": {"type": "str"}, "name": {"type": "str", "required": True}}
OPTIONS: dict[str, t.Any] = {
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "former_password": {"type": "str", "no_log": True},
    "password_secret": {
        "type": "dict",
        "no_log": False,
        "options": {**SECRET, "key": {"type": "str", "default": "password", "no_log": False}},
    },
    "tls": {
        "type": "dict",
        "options": {
            "ca_cert": {"type": "path"},
            "cert": {"type": "path"},
            "key": {"type": "path", "no_log": False},
            "server_name": {"type": "str"},
            "secret": {"type": "dict", "no_log": False, "options": SECRET},
        },
        "mutually_exclusive": [["secret", "ca_cert"], ["secret", "cert"], ["secret", "key"]],
    },
}
CONSTRAINTS: dict[str, t.Any] = {
    "mutually_exclusive": [["password", "password_secret"], ["former_password", "password_secret"]],
    "required_by": {"former_password": ["password"]},
}


@dataclasses.dataclass(frozen=True)
class Tls:
    """PEM texts; without ``ca`` the system's authorities count. ``server_name`` is what the certificate must be for, the node's own host where it is empty."""

    ca: str = ""
    cert: str = ""
    key: str = dataclasses.field(default="", repr=False)
    server_name: str = ""


@dataclasses.dataclass(frozen=True)
class Access:
    """``passwords`` are tried in order: the one that should be right, then those that a rotation may have left. No user name means the default user."""

    username: str = ""
    passwords: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    tls: Tls | None = None


def needs_api(params: Params) -> bool:
    return bool(params.get("password_secret") or (params.get("tls") or {}).get("secret"))


def access_of(params: Params, client: Client | None) -> Access:
    """Everything is read before the first connection; what is missing is named, never shown."""
    return Access(params.get("username") or "", _passwords(params, client), _tls(params, client))


def secret_data(params: Params, client: Client, reference: t.Mapping[str, t.Any], option: str) -> tuple[str, dict[str, str]]:
    """``Secret namespace/name`` and its values; without a namespace that of the pods is meant."""
    namespace = reference.get("namespace") or (params.get("pods") or {}).get("namespace")
    if not namespace:
        raise PlatformError(f"{option}.namespace is missing, and there is no pods.namespace to take in its place.")
    where = f"Secret {namespace}/{reference['name']}"
    found = client.find(quote("api", "v1", "namespaces", namespace, "secrets", reference["name"]))
    if found is None:
        raise PlatformError(f"{where} ({option}) is not there. See what is: kubectl -n {namespace} get secrets")
    try:
        return where, {key: base64.b64decode(value).decode() for key, value in (found.get("data") or {}).items()}
    except ValueError:
        raise PlatformError(f"{where} ({option}) holds a value that is no text.") from None


def overlapping(values: t.Mapping[str, str], key: str) -> tuple[str, ...]:
    """The password under ``key``, then those that a rotation has under way: the next one, and the former one."""
    chosen = [values.get(key, ""), values.get(NEXT + key, ""), values.get(FORMER + key, "")]
    return tuple(dict.fromkeys(value for value in chosen if value))


def _passwords(params: Params, client: Client | None) -> tuple[str, ...]:
    secret = params.get("password_secret")
    if not secret or client is None:
        given = (params.get("password") or "", params.get("former_password") or "")
        return tuple(dict.fromkeys(password for password in given if password))
    where, values = secret_data(params, client, secret, "password_secret")
    if not values.get(secret["key"]):
        keys = ", ".join(sorted(values)) or "none"
        raise PlatformError(f"{where} (password_secret) has no readable key {secret['key']!r}; its keys: {keys}.")
    return overlapping(values, secret["key"])


def _tls(params: Params, client: Client | None) -> Tls | None:
    given = params.get("tls")
    if given is None:
        return None
    name = given.get("server_name") or ""
    if given.get("secret") and client is not None:
        where, values = secret_data(params, client, given["secret"], "tls.secret")
        if not values.get("ca.crt"):
            raise PlatformError(f"{where} (tls.secret) has no key 'ca.crt'; its keys: {', '.join(sorted(values)) or 'none'}.")
        return Tls(values["ca.crt"], values.get("tls.crt", ""), values.get("tls.key", ""), name)
    return Tls(_read(given, "ca_cert"), _read(given, "cert"), _read(given, "key"), name)


def _read(given: t.Mapping[str, t.Any], option: str) -> str:
    path = given.get(option)
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise PlatformError(f"tls.{option}: {path} cannot be read on the host the module runs on ({reason}).") from None
