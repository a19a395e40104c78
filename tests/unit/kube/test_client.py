# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The client against doubles of the API server's ways: a local HTTP server that throttles, fails, hangs up and asks for credentials."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.progressive.platform.plugins.module_utils._kube.auth import Access, access
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import (
    APPLY,
    ApiError,
    Client,
    backoff,
    connect,
    retry_pause,
)
from ansible_collections.progressive.platform.plugins.module_utils._kube.discovery import parse_aggregated, parse_classic
from ansible_collections.progressive.platform.plugins.module_utils._kube.limiter import Limiter
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, PlatformError

Answer = tuple[int, dict[str, str], Any]


class ApiDouble(ThreadingHTTPServer):
    """Answers with what ``script(method, path, number of the request)`` says; an answer of None hangs up."""

    daemon_threads = True

    def __init__(self) -> None:
        self.script: Callable[[str, str, int], Answer | None] = lambda *_: (200, {}, {"ok": True})
        self.seen: list[tuple[str, str, dict[str, str], Any]] = []
        self.connections = 0
        self.busy = 0
        self.busiest = 0
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ApiDouble

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        with self.server.lock:
            self.server.seen.append((self.command, self.path, dict(self.headers), json.loads(body) if body else None))
            number = len(self.server.seen)
            self.server.busy += 1
            self.server.busiest = max(self.server.busiest, self.server.busy)
        outcome = self.server.script(self.command, self.path, number)
        with self.server.lock:
            self.server.busy -= 1
        if outcome is None:
            self.close_connection = True
            return
        status, headers, value = outcome
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.send_header("content-length", str(len(data)))
        with contextlib.suppress(ConnectionError):  # the client may have given up
            self.end_headers()
            self.wfile.write(data)

    do_GET = do_PATCH = do_POST = do_DELETE = do_PUT = answer

    def log_message(self, format: str, *args: Any) -> None:
        pass


class FastClock(Clock):
    """Real time, but pauses between tries take none; they are noted."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


@pytest.fixture
def double() -> Iterator[ApiDouble]:
    with ApiDouble() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def client(double: ApiDouble) -> Client:
    return Client(Access(server=double.url, origin="the double"), FastClock())


def status(code: int, reason: str, message: str = "said so", **details: Any) -> dict[str, Any]:
    return {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details}


def test_connections_are_kept(client: Client, double: ApiDouble) -> None:
    for _unused in range(5):
        assert client.get("/api") == {"ok": True}
    assert double.connections == 1


def test_a_kept_connection_that_was_closed_meanwhile_is_replaced(client: Client, double: ApiDouble) -> None:
    double.script = lambda _m, _p, number: None if number == 2 else (200, {}, {"number": number})
    assert client.get("/a") == {"number": 1}
    assert client.get("/b") == {"number": 3}


@pytest.mark.parametrize("method", ["GET", "PATCH", "POST", "DELETE"])
def test_429_is_waited_out_for_every_method(client: Client, double: ApiDouble, method: str) -> None:
    double.script = lambda _m, _p, number: (
        (429, {"Retry-After": "1"}, status(429, "TooManyRequests")) if number == 1 else (200, {}, {"ok": 1})
    )
    began = time.monotonic()
    assert client.request(method, "/a", {}, content_type=APPLY)[2] == {"ok": 1}
    assert time.monotonic() - began >= 1.0, "Retry-After was not honoured"
    assert len(double.seen) == 2


def test_429_for_ever_ends_with_the_deadline(client: Client, double: ApiDouble) -> None:
    double.script = lambda *_: (429, {"Retry-After": "1"}, status(429, "TooManyRequests"))
    with pytest.raises(ApiError) as raised:
        client.request("GET", "/a", timeout=1.5)
    assert raised.value.status == 429


def test_throttling_narrows_the_window(double: ApiDouble) -> None:
    limiter = Limiter(Clock(), start=8, largest=12)
    client = Client(Access(server=double.url, origin="the double"), limiter=limiter)

    def script(_method: str, _path: str, number: int) -> Answer:
        time.sleep(0.02)
        return (429, {"Retry-After": "1"}, status(429, "TooManyRequests")) if number == 4 else (200, {}, {})

    double.script = script
    threads = [threading.Thread(target=client.get, args=(f"/{number}",)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(double.seen) == 17
    assert double.busiest <= 8
    assert limiter.window < 8, "halved, and from there by single steps"


@pytest.mark.parametrize(
    ("answers", "window"),
    [
        ([], 4),
        ([0.05] * 3, 4),
        ([0.05] * 4, 8),
        ([0.05] * 12, 16),
        ([0.05] * 100, 24),
        ([0.01, 0.03, 0.04, 0.05], 4),
        ([0.05] * 4 + [0.2] * 40, 8),
    ],
    ids=["idle", "too few to tell", "far away", "farther", "the largest", "busy", "busy since"],
)
def test_the_window_opens_while_answers_stay_fast(answers: list[float], window: int) -> None:
    limiter = Limiter(Clock())
    for seconds in answers:
        assert limiter.acquire(limiter.clock.now() + 1)
        limiter.release(seconds)
    assert limiter.window == window


@pytest.mark.parametrize(
    ("method", "content_type", "code", "again"),
    [
        ("GET", "application/json", 503, True),
        ("DELETE", "application/json", 502, True),
        ("PATCH", APPLY, 504, True),
        ("POST", "application/json", 503, False),
        ("PATCH", "application/merge-patch+json", 503, False),
        ("GET", "application/json", 500, False),
        ("GET", "application/json", 404, False),
        ("PATCH", APPLY, 409, False),
        ("PATCH", APPLY, 422, False),
    ],
)
def test_only_what_is_idempotent_is_sent_again(
    client: Client, double: ApiDouble, method: str, content_type: str, code: int, again: bool
) -> None:
    double.script = lambda _m, _p, number: (code, {}, status(code, "Whatever")) if number == 1 else (200, {}, {"ok": 1})
    if again:
        assert client.request(method, "/a", {}, content_type=content_type)[2] == {"ok": 1}
    else:
        with pytest.raises(ApiError) as raised:
            client.request(method, "/a", {}, content_type=content_type)
        assert (raised.value.status, raised.value.reason) == (code, "Whatever")
    assert len(double.seen) == 1 + again


def test_server_timeout_with_a_pause_is_sent_again() -> None:
    failure = ApiError("x", 500, "ServerTimeout", status(500, "ServerTimeout", retryAfterSeconds=3))
    assert retry_pause(failure, None, True, 0) == 3
    assert retry_pause(failure, None, False, 0) is None


def test_backoff_is_bounded() -> None:
    assert [backoff(attempt) for attempt in (0, 1, 2, 10)] == [0.1, 0.2, 0.4, 2.0]


def test_a_server_that_never_answered_is_named_at_once() -> None:
    client = Client(Access(server="http://127.0.0.1:9", origin="kubeconfig /k, context c"), FastClock())
    with pytest.raises(ApiError, match=r"http://127.0.0.1:9 \(kubeconfig /k, context c\) refuses connections.*kubectl cluster-info"):
        client.get("/api")


def test_a_server_that_does_not_answer_in_time(client: Client, double: ApiDouble) -> None:
    double.script = lambda *_: (time.sleep(3), (200, {}, {}))[1]  # type: ignore[func-returns-value]
    began = time.monotonic()
    with pytest.raises(ApiError, match="did not answer GET /a in time"):
        client.request("GET", "/a", timeout=0.5)
    assert time.monotonic() - began < 2.5


def test_unauthorised_names_everything(client: Client, double: ApiDouble) -> None:
    double.script = lambda *_: (401, {}, status(401, "Unauthorized"))
    with pytest.raises(ApiError, match=r"the double.*does not accept the credentials.*kubectl auth whoami"):
        client.get("/api")


def test_forbidden_says_what_to_ask(client: Client, double: ApiDouble) -> None:
    double.script = lambda *_: (403, {}, status(403, "Forbidden", 'User "u" cannot list resource "nodes"'))
    with pytest.raises(ApiError, match=r'User "u" cannot list resource "nodes".*kubectl auth can-i'):
        client.get("/api/v1/nodes")


def test_lists_are_read_to_the_end(client: Client, double: ApiDouble) -> None:
    def script(_method: str, path: str, _number: int) -> Answer:
        if "continue=more" in path:
            return 200, {}, {"metadata": {"resourceVersion": "7"}, "items": [{"n": 3}]}
        return 200, {}, {"metadata": {"resourceVersion": "7", "continue": "more"}, "items": [{"n": 1}, {"n": 2}]}

    double.script = script
    resource = next(parse_classic({"groupVersion": "v1", "resources": [{"name": "pods", "kind": "Pod", "namespaced": True}]}))
    assert client.list(resource, "a", labelSelector="x=y")["items"] == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert all("labelSelector=x%3Dy" in path for _unused, path, _unused, _unused in double.seen)


def test_the_path_of_the_servers_url_is_kept(double: ApiDouble) -> None:
    client = Client(Access(server=f"{double.url}/k8s/clusters/c1/", origin="a proxy"))
    client.get("/api/v1/namespaces", limit=1, watch=None, follow=True)
    assert double.seen[0][1] == "/k8s/clusters/c1/api/v1/namespaces?limit=1&follow=true"


@pytest.mark.parametrize(
    ("namespace", "name", "subresource", "path"),
    [
        (None, None, "", "/apis/apps/v1/deployments"),
        ("a", None, "", "/apis/apps/v1/namespaces/a/deployments"),
        ("a", "b", "", "/apis/apps/v1/namespaces/a/deployments/b"),
        ("a", "b/../c", "scale", "/apis/apps/v1/namespaces/a/deployments/b%2F..%2Fc/scale"),
    ],
)
def test_paths(namespace: str | None, name: str | None, subresource: str, path: str) -> None:
    answer = {
        "kind": "APIGroupDiscoveryList",
        "items": [
            {
                "metadata": {"name": "apps"},
                "versions": [
                    {
                        "version": "v1",
                        "resources": [{"resource": "deployments", "responseKind": {"kind": "Deployment"}, "scope": "Namespaced"}],
                    }
                ],
            }
        ],
    }
    (resource,) = parse_aggregated(answer)
    assert resource.path(namespace, name, subresource) == path
    assert list(parse_aggregated({"kind": "APIGroupList"})) == []


# ---- access -------------------------------------------------------------------------------------------------------------------


def kubeconfig(folder: Path, user: dict[str, Any], **cluster: Any) -> str:
    config = {
        "current-context": "one",
        "contexts": [
            {"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "n"}},
            {"name": "lost", "context": {"cluster": "x"}},
        ],
        "clusters": [{"name": "c", "cluster": {"server": "https://192.0.2.1:6443", **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    file = folder / "config"
    file.write_text(yaml.safe_dump(config))
    return str(file)


@pytest.mark.parametrize(
    ("user", "header"),
    [
        ({"token": "secret-token"}, "Bearer secret-token"),
        ({"tokenFile": "token"}, "Bearer from-the-file"),
        ({"username": "me", "password": "pass"}, "Basic " + base64.b64encode(b"me:pass").decode()),
        ({}, None),
    ],
)
def test_static_credentials(tmp_path: Path, user: dict[str, str], header: str | None) -> None:
    (tmp_path / "token").write_text("from-the-file\n")
    found = access({"kubeconfig": kubeconfig(tmp_path, user)}, {})
    assert found.headers().get("authorization") == header
    assert (found.server, found.namespace) == ("https://192.0.2.1:6443", "n")
    assert "context one" in str(found)
    assert "secret" not in str(found)
    assert found.tls is not None
    assert found.tls.verify_mode is ssl.CERT_REQUIRED


def test_exec_plugins_go_through_the_loader(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "from-the-plugin"}}
    plugin.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    plugin.chmod(0o755)
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin), "interactiveMode": "Never"}}
    found = access({"kubeconfig": kubeconfig(tmp_path, user)}, {})
    assert list(found.headers().values()) == ["Bearer from-the-plugin"]


def test_an_exec_plugin_that_fails_is_named(tmp_path: Path) -> None:
    user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/false", "interactiveMode": "Never"}}
    with pytest.raises(PlatformError, match=r"exec plugin '/bin/false' gave no credentials"):
        access({"kubeconfig": kubeconfig(tmp_path, user)}, {})


@pytest.mark.parametrize(
    ("params", "environment", "said"),
    [
        ({"kubeconfig": "/does/not/exist"}, {}, r"/does/not/exist \(from the kubeconfig option\) does not exist"),
        ({}, {"KUBECONFIG": "/does/not/exist"}, r"/does/not/exist \(from KUBECONFIG\) does not exist"),
        ({"kubeconfig": "CONFIG", "context": "nope"}, {}, r"no context 'nope'; it has: lost, one.*get-contexts"),
        ({"kubeconfig": "CONFIG", "context": "lost"}, {}, r"context lost names the cluster 'x', which the file does not define"),
        ({"kubeconfig": "BROKEN"}, {}, "cannot be read"),
        ({"kubeconfig": "LIST"}, {}, "is not a mapping"),
        ({"kubeconfig": "NOCERT"}, {}, "certificates of .* cannot be used"),
    ],
)
def test_what_is_wrong_with_a_kubeconfig_is_said(tmp_path: Path, params: dict[str, str], environment: dict[str, str], said: str) -> None:
    files = {"CONFIG": kubeconfig(tmp_path, {"token": "t"}), "BROKEN": str(tmp_path / "broken"), "LIST": str(tmp_path / "list")}
    (tmp_path / "broken").write_text("a: [")
    (tmp_path / "list").write_text("- 1")
    (tmp_path / "nocert").mkdir()
    files["NOCERT"] = kubeconfig(tmp_path / "nocert", {}, **{"certificate-authority-data": base64.b64encode(b"no certificate").decode()})
    with pytest.raises(PlatformError, match=said):
        access({**params, "kubeconfig": files.get(params.get("kubeconfig", ""), params.get("kubeconfig"))}, environment)


def test_host_and_token() -> None:
    with connect({"host": "192.0.2.7:6443", "api_key": "k", "validate_certs": False}) as client:
        assert client.access.server == "https://192.0.2.7:6443"
        assert client.headers()["authorization"] == "Bearer k"
        assert client.access.tls is not None
        assert client.access.tls.verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize("server", ["", "nonsense", "ftp://host", "https://"])
def test_an_address_that_is_none(server: str) -> None:
    with pytest.raises(PlatformError, match="is not a URL"):
        Client(Access(server=server, origin="test"))
