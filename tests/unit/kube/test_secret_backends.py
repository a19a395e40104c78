# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where values of Secrets come from: Vault's HTTP interface (a double of it, over real sockets), files of sops (a double of the program), External Secrets."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube import secret, secret_backends
from ansible_collections.progressive.platform.plugins.module_utils._kube.secret_backends import Moved, Sops, Vault, backend_of
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, PlatformError

TOKEN = "token-never-shown"
# Stands for sops: base64 in place of a cipher, the same options, standard input and standard output.
SOPS = """#!/bin/sh
echo "$*" >> "$CALLS"
[ ! -e "$FAIL" ] || { echo "no key could decrypt the data" >&2; exit 128; }
case "$1" in
  --decrypt) for last; do :; done; sed -n 's/^data: //p' "$last" | base64 -d;;
  --encrypt) printf 'sops: double\\ndata: '; base64 -w0; echo;;
esac
"""


class VaultDouble:
    """A key-value engine of version 2 with check-and-set, as its documentation has it."""

    def __init__(self) -> None:
        self.entries: dict[str, list[dict[str, str]]] = {}
        self.requests: list[str] = []
        self.sealed = False
        double = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_arguments: Any) -> None:
                pass

            def answer(self, status: int, body: dict[str, Any]) -> None:
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def refused(self) -> bool:
                double.requests.append(f"{self.command} {self.path}")
                if double.sealed:
                    self.answer(503, {"errors": ["Vault is sealed"]})
                elif self.headers.get("X-Vault-Token") != TOKEN:
                    self.answer(403, {"errors": ["permission denied"]})
                else:
                    return False
                return True

            def do_GET(self) -> None:
                if self.refused():
                    return
                versions = double.entries.get(self.path, [])
                if not versions:
                    self.answer(404, {"errors": []})
                else:
                    self.answer(200, {"data": {"data": versions[-1], "metadata": {"version": len(versions)}}})

            def do_POST(self) -> None:
                if self.refused():
                    return
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                versions = double.entries.setdefault(self.path, [])
                if body["options"]["cas"] != len(versions):
                    self.answer(400, {"errors": ["check-and-set parameter did not match the current version"]})
                    return
                versions.append(body["data"])
                self.answer(200, {"data": {"version": len(versions)}})

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def vault() -> Iterator[VaultDouble]:
    double = VaultDouble()
    yield double
    double.server.shutdown()
    double.server.server_close()


def of_vault(double: VaultDouble, **options: Any) -> Vault:
    given = {"address": double.address, "token": TOKEN, "mount": "secret", "path": "progressive", **options}
    made = backend_of({"kind": "vault", "vault": given}, "data", "auth", Clock())
    assert isinstance(made, Vault)
    return made


@pytest.fixture
def sops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sops:
    program = tmp_path / "sops"
    program.write_text(SOPS)
    program.chmod(0o755)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("FAIL", str(tmp_path / "fail"))
    made = backend_of({"kind": "sops", "sops": {"directory": str(tmp_path / "files"), "program": str(program)}}, "data", "auth", Clock())
    assert isinstance(made, Sops)
    return made


def test_vault_double_keeps_what_it_has_and_says_when_another_was_faster(vault: VaultDouble) -> None:
    backend = of_vault(vault)
    assert backend.read() == ({}, 0)
    backend.write({"password": "one"}, 0)
    assert backend.read() == ({"password": "one"}, 1)
    with pytest.raises(Moved):
        backend.write({"password": "two"}, 0)
    assert vault.requests[0] == "GET /v1/secret/data/progressive/data/auth"


def test_what_vault_refuses_is_told_without_the_token(vault: VaultDouble) -> None:
    with pytest.raises(PlatformError, match=r"answers 403 \(permission denied\). Give a token") as refused:
        of_vault(vault, token="another-never-shown").read()
    vault.sealed = True
    with pytest.raises(PlatformError, match=r"answers 503 \(Vault is sealed\)"):
        of_vault(vault).read()
    vault.server.shutdown()
    vault.server.server_close()
    with pytest.raises(PlatformError, match="does not answer"):
        of_vault(vault).read()
    assert "never-shown" not in str(refused.value) + repr(of_vault(vault))


def test_sops_double_encrypts_and_decrypts_and_no_value_is_in_a_command_line(sops: Sops, tmp_path: Path) -> None:
    assert sops.read() == ({}, b"")
    sops.write({"password": "one-never-shown"}, b"")
    values, state = sops.read()
    assert values == {"password": "one-never-shown"} and b"one-never-shown" not in state
    with pytest.raises(Moved):
        sops.write({"password": "two"}, b"")
    assert "never-shown" not in (tmp_path / "calls").read_text()
    (tmp_path / "fail").touch()
    with pytest.raises(PlatformError, match="no key could decrypt the data"):
        sops.read()


class Cluster:
    """Stands for the API server as module secret asks it: one Secret, versions, server-side apply by one manager."""

    def __init__(self) -> None:
        self.secret: dict[str, Any] | None = None
        self.version = 0

    def resource(self, _api: str, _kind: str) -> Any:
        return type("Resource", (), {"path": staticmethod(lambda *_parts: "/secrets")})

    def find(self, _path: str) -> dict[str, Any] | None:
        return self.secret

    def request(self, method: str, _path: str, body: dict[str, Any], query: dict[str, Any], **_options: Any) -> tuple[int, Any, Any]:
        del method
        if query["dryRun"] or (self.secret and self.secret["data"] == body["data"]):
            return 200, {}, {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
        self.version += 1
        self.secret = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
        return 200, {}, self.secret

    def values(self) -> dict[str, str]:
        return {key: base64.b64decode(value).decode() for key, value in (self.secret or {})["data"].items()}


Ensure = Callable[..., dict[str, Any]]


@pytest.fixture(params=["vault", "sops"])
def backend(request: pytest.FixtureRequest) -> Any:
    return of_vault(request.getfixturevalue("vault")) if request.param == "vault" else request.getfixturevalue("sops")


def ensure(cluster: Cluster, backend: Any, rotate: str | None = None, dry: bool = False) -> dict[str, Any]:
    params = {"name": "auth", "data": {}, "labels": {}, "force": False, "rotate": rotate}
    return secret._ensure(cluster, "data", params, {"password": 32, "login": ("app", "app-b")}, dry, backend)  # type: ignore[arg-type]


def test_what_is_missing_is_made_once_and_kept_in_both(backend: Any) -> None:
    cluster = Cluster()
    foreseen = ensure(cluster, backend, dry=True)
    assert foreseen["changed"] and cluster.secret is None and backend.read()[0] == {}
    first = ensure(cluster, backend)
    assert first["changed"] and first["generated"] == ["password", "login"]
    made = cluster.values()
    assert backend.read()[0] == made and len(made["password"]) == 32 and made["password"] not in str(first)
    again = ensure(cluster, backend)
    assert not again["changed"] and cluster.values() == made
    cluster.secret = None  # a cluster that was lost gets the same values again
    assert ensure(cluster, backend)["generated"] == [] and cluster.values() == made


def test_a_secret_that_was_there_first_is_taken_over(backend: Any) -> None:
    cluster = Cluster()
    ensure(cluster, None)
    made = cluster.values()
    assert ensure(cluster, backend)["changed"]
    assert cluster.values() == backend.read()[0] == made


def test_every_step_of_a_rotation_is_in_both_and_may_be_repeated(backend: Any) -> None:
    cluster = Cluster()
    ensure(cluster, backend)
    first = cluster.values()
    phases = []
    for step in ("stage", "promote", "retire"):
        for again in (False, True):
            assert ensure(cluster, backend, step)["changed"] is not again
            assert cluster.values() == backend.read()[0]
        phases.append(secret.phase(cluster.values()))
    last = cluster.values()
    assert phases == ["staged", "overlap", "steady"] and last["password"] != first["password"] and last["login"] == "app-b"


def test_an_external_secret_names_every_key_in_the_stores_entry() -> None:
    given = {"external_secrets": {"store": "aws", "store_kind": "ClusterSecretStore", "path": "platform", "refresh": "1h"}}
    document = secret_backends.external_secret(given, "data", "auth", ["password", "login"], {"a": "b"})
    assert document["spec"]["secretStoreRef"] == {"name": "aws", "kind": "ClusterSecretStore"}
    assert document["spec"]["data"] == [
        {"secretKey": key, "remoteRef": {"key": "platform/data/auth", "property": key}} for key in ("password", "login")
    ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "vault", "vault": {"address": "vault:8200", "mount": "secret", "path": "x"}}, "must be http:// or https://"),
        ({"kind": "vault", "vault": {"address": "http://vault", "mount": "secret", "path": "x"}}, "VAULT_TOKEN is not set"),
        ({"kind": "sops", "sops": {"directory": "/nowhere", "program": "no-such-sops"}}, "program no-such-sops is wanted"),
    ],
)
def test_what_cannot_be_asked_is_refused(given: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VAULT_TOKEN", raising=False)
    with pytest.raises(PlatformError, match=words):
        backend_of(given, "data", "auth", Clock())
