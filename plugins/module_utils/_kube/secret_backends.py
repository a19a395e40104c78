# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the values of Secrets come from when not from the cluster alone: Vault, files of sops, External Secrets (private: may change without notice).

Vault and sops are asked first and told first: what they hold is the truth, and what is missing there is generated, or taken over from the cluster, once.
External Secrets is told what is wanted and brings it itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import ssl
import subprocess
import typing as t
import urllib.error
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ansible.module_utils.urls import open_url
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import APPLY, Client
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, Params, PlatformError

Values = dict[str, str]

OPTIONS: dict[str, t.Any] = {
    "type": "dict",
    "no_log": False,
    "options": {
        "kind": {"type": "str", "choices": ["generated", "vault", "sops", "external_secrets"], "default": "generated"},
        "vault": {
            "type": "dict",
            "options": {
                "address": {"type": "str", "required": True},
                "token": {"type": "str", "no_log": True},
                "token_file": {"type": "path", "no_log": False},
                "mount": {"type": "str", "default": "secret"},
                "path": {"type": "str", "default": "progressive"},
                "ca_cert": {"type": "path"},
            },
            "mutually_exclusive": [["token", "token_file"]],
        },
        "sops": {
            "type": "dict",
            "options": {"directory": {"type": "path", "required": True}, "program": {"type": "str", "default": "sops"}},
        },
        "external_secrets": {
            "type": "dict",
            "no_log": False,
            "options": {
                "store": {"type": "str", "required": True},
                "store_kind": {"type": "str", "choices": ["SecretStore", "ClusterSecretStore"], "default": "ClusterSecretStore"},
                "path": {"type": "str", "default": "progressive"},
                "refresh": {"type": "str", "default": "1h"},
                "timeout": {"type": "float", "default": 60.0},
            },
        },
    },
    "required_if": [
        ["kind", "vault", ["vault"]],
        ["kind", "sops", ["sops"]],
        ["kind", "external_secrets", ["external_secrets"]],
    ],
}
ANSWER_WITHIN = 10.0  # seconds of Vault
ENCRYPT_WITHIN = 60.0  # seconds of sops, which may ask a key management service
LOCK_WITHIN = 30.0
POLL = 0.5


class Moved(Exception):
    """Somebody else wrote between our look and our write."""


class Backend(t.Protocol):
    """Holds the values of one Secret. All methods raise PlatformError, and never with a value in it."""

    def read(self) -> tuple[Values, t.Any]:
        """The values, and what stands for this state of them; nothing where there is no such entry."""

    def write(self, values: Mapping[str, str], state: t.Any) -> None:
        """Replace the values, unless they have changed since ``state``: Moved."""

    def __str__(self) -> str: ...


@dataclasses.dataclass(frozen=True)
class Vault:
    """An entry of a key-value engine of version 2, of Vault or OpenBao, by its HTTP interface."""

    url: str
    token: str = dataclasses.field(repr=False)
    ca_cert: str | None = None

    def __str__(self) -> str:
        return f"Vault ({self.url})"

    def read(self) -> tuple[Values, int]:
        status, body = self._ask("GET")
        data = (body.get("data") or {}) if status in (200, 404) else {}
        version = int((data.get("metadata") or {}).get("version") or 0)
        if status == 404:  # never written, or its newest version was deleted: the next one follows that
            return {}, version
        self._expect(status, body, "read")
        values = data.get("data") or {}
        if any(not isinstance(value, str) for value in values.values()):
            raise PlatformError(f"{self} holds a value that is no text; a Secret takes texts only.")
        return dict(values), version

    def write(self, values: Mapping[str, str], state: t.Any) -> None:
        status, body = self._ask("POST", {"options": {"cas": state}, "data": dict(values)})
        if status == 400 and any("check-and-set" in str(error) for error in body.get("errors") or []):
            raise Moved
        self._expect(status, body, "written to")

    def _expect(self, status: int, body: Mapping[str, t.Any], what: str) -> None:
        if status not in (200, 204):
            said = "; ".join(map(str, body.get("errors") or [])) or "no reason"
            hint = " Give a token that may read and create there." if status == 403 else ""
            raise PlatformError(f"{self} cannot be {what}: it answers {status} ({said}).{hint}")

    def _ask(self, method: str, body: Mapping[str, t.Any] | None = None) -> tuple[int, dict[str, t.Any]]:
        headers = {"X-Vault-Token": self.token, "Content-Type": "application/json", "X-Vault-Request": "true"}
        data = json.dumps(body).encode() if body is not None else None
        try:
            with open_url(self.url, data, headers, method, timeout=ANSWER_WITHIN, ca_path=self.ca_cert, use_netrc=False) as answer:
                return int(answer.status), _document(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return int(error.code), _document(error.read())
        except OSError as error:
            raise PlatformError(f"{self} does not answer: {getattr(error, 'reason', None) or error}.") from None


@dataclasses.dataclass(frozen=True)
class Sops:
    """A file that the program sops encrypts and decrypts, for whomever the .sops.yaml above it names. Values never stand in a command line."""

    file: Path
    program: str
    clock: Clock

    def __str__(self) -> str:
        return f"sops ({self.file})"

    def read(self) -> tuple[Values, bytes]:
        try:
            state = self.file.read_bytes()
        except FileNotFoundError:
            return {}, b""
        except OSError as error:
            raise PlatformError(f"{self} cannot be read: {error.strerror}.") from None
        values = _document(self._run(["--decrypt", "--input-type", "yaml", "--output-type", "json", str(self.file)], b"", "decrypted"))
        if any(not isinstance(value, str) for value in values.values()):
            raise PlatformError(f"{self} holds a value that is no text; a Secret takes texts only.")
        return values, state

    def write(self, values: Mapping[str, str], state: t.Any) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        # The name decides which rule of .sops.yaml counts.
        options = ["--encrypt", "--input-type", "json", "--output-type", "yaml", "--filename-override", str(self.file), "/dev/stdin"]
        encrypted = self._run(options, json.dumps(dict(values)).encode(), "encrypted")
        with self._alone():
            if (self.file.read_bytes() if self.file.exists() else b"") != state:
                raise Moved
            part = self.file.with_name(f".{self.file.name}.part")
            part.write_bytes(encrypted)
            part.replace(self.file)

    def _run(self, options: Sequence[str], given: bytes, what: str) -> bytes:
        try:
            done = subprocess.run([self.program, *options], input=given, capture_output=True, timeout=ENCRYPT_WITHIN, check=False)
        except subprocess.TimeoutExpired:
            raise PlatformError(f"{self} was not {what} within {ENCRYPT_WITHIN:g} s.") from None
        if done.returncode:
            # What sops complains of are keys and rules; the last line says which.
            lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"code {done.returncode}"]
            raise PlatformError(f"{self} cannot be {what}: {lines[-1][:300]} See .sops.yaml, and the keys of this machine.")
        return done.stdout

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        deadline = self.clock.now() + LOCK_WITHIN
        with self.file.with_name(f".{self.file.name}.lock").open("w") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if self.clock.now() > deadline:
                        raise PlatformError(f"{self} is being written by another run, still after {LOCK_WITHIN:g} s.") from None
                    self.clock.sleep(POLL)
            yield


def backend_of(given: Params | None, namespace: str, name: str, clock: Clock) -> Backend | None:
    """The store of a Secret's values; None where the cluster's Secret is all there is (generated, external_secrets)."""
    kind = (given or {}).get("kind", "generated")
    if given is None or kind in ("generated", "external_secrets"):
        return None
    if kind == "sops":
        program = given["sops"]["program"]
        if not shutil.which(program):
            raise PlatformError(
                f"The program {program} is wanted to read and write {given['sops']['directory']}, and it is not there. Install sops."
            )
        return Sops(Path(given["sops"]["directory"]) / namespace / f"{name}.yaml", program, clock)
    vault = given["vault"]
    address = urllib.parse.urlsplit(vault["address"])
    if address.scheme not in ("http", "https") or not address.netloc:
        raise PlatformError(f"backend.vault.address is {vault['address']!r}; it must be http:// or https://, a host, and perhaps a port.")
    path = "/".join(urllib.parse.quote(part.strip("/"), safe="/") for part in (vault["mount"], "data", vault["path"], namespace, name))
    if vault.get("ca_cert"):
        try:
            ssl.create_default_context(cafile=vault["ca_cert"])
        except OSError as error:
            raise PlatformError(f"backend.vault.ca_cert {vault['ca_cert']} cannot be read: {error.strerror or error}.") from None
    return Vault(f"{vault['address'].rstrip('/')}/v1/{path}", _token(vault), vault.get("ca_cert"))


def _token(vault: Mapping[str, t.Any]) -> str:
    token = vault.get("token") or ""
    if vault.get("token_file"):
        try:
            token = Path(vault["token_file"]).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise PlatformError(f"backend.vault.token_file {vault['token_file']} cannot be read: {error.strerror}.") from None
    token = token or os.environ.get("VAULT_TOKEN", "")
    if not token:
        raise PlatformError("backend.vault has neither token nor token_file, and VAULT_TOKEN is not set; one is wanted.")
    return str(token)


def external_secret(given: Params, namespace: str, name: str, keys: Sequence[str], labels: Mapping[str, str]) -> dict[str, t.Any]:
    """The object that asks External Secrets for a Secret with these keys, each a property of the store's one entry: pure."""
    wanted = given["external_secrets"]
    entry = f"{wanted['path'].strip('/')}/{namespace}/{name}"
    return {
        "apiVersion": "external-secrets.io/v1",
        "kind": "ExternalSecret",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "spec": {
            "refreshInterval": wanted["refresh"],
            "secretStoreRef": {"name": wanted["store"], "kind": wanted["store_kind"]},
            "target": {"name": name, "creationPolicy": "Owner"},
            "data": [{"secretKey": key, "remoteRef": {"key": entry, "property": key}} for key in keys],
        },
    }


def bring(client: Client, clock: Clock, document: dict[str, t.Any], timeout: float, manager: str, dry: bool) -> tuple[bool, list[str]]:
    """Send an ExternalSecret, and wait for its Secret to hold every key; whether something changed, and the keys that are there."""
    metadata, wanted = document["metadata"], [entry["secretKey"] for entry in document["spec"]["data"]]
    resource = client.resource(document["apiVersion"], document["kind"])
    path = resource.path(metadata["namespace"], metadata["name"])
    before = client.find(path)
    query = {"fieldManager": manager, "fieldValidation": "Strict", "dryRun": "All" if dry else None}
    after = client.request("PATCH", path, document, query=query, content_type=APPLY)[2]
    changed = before is None or (
        before.get("spec") != after.get("spec") if dry else before["metadata"]["resourceVersion"] != after["metadata"]["resourceVersion"]
    )
    where = client.resource("v1", "Secret").path(metadata["namespace"], metadata["name"])
    deadline = clock.now() + (0 if dry else timeout)
    while True:
        held = sorted(((client.find(where) or {}).get("data") or {}).keys())
        missing = sorted(set(wanted) - set(held))
        if not missing or dry:
            return changed, held
        if clock.now() >= deadline:
            conditions = ((client.find(path) or {}).get("status") or {}).get("conditions") or []
            said = "; ".join(str(one.get("message")) for one in conditions if one.get("status") != "True") or "nothing"
            raise PlatformError(
                f"Secret {metadata['namespace']}/{metadata['name']} still lacks {', '.join(missing)} after {timeout:g} s; External Secrets says: {said}. "
                f"See kubectl -n {metadata['namespace']} describe externalsecret {metadata['name']}"
            )
        clock.sleep(POLL)


def _document(text: bytes) -> dict[str, t.Any]:
    """JSON, or nothing where it is none: error pages of proxies are none."""
    try:
        found = json.loads(text or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
