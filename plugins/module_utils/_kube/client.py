# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Raw JSON to a Kubernetes API server over kept connections (private: may change without notice).

One client serves all threads of a call: each request borrows an idle connection or opens one. The standard library's
http.client is used because it loads in half the time of urllib3, and a task pays for its imports each time.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import random
import select
import socket
import ssl
import threading
import typing as t
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ansible_collections.progressive.platform.plugins.module_utils._kube.auth import Access, access
from ansible_collections.progressive.platform.plugins.module_utils._kube.discovery import Discovery, Resource
from ansible_collections.progressive.platform.plugins.module_utils._kube.limiter import Limiter
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, Params, PlatformError

USER_AGENT = "progressive.platform"
APPLY = "application/apply-patch+yaml"  # JSON is YAML, so the body is plain JSON
MERGE_PATCH = "application/merge-patch+json"
CONNECT_TIMEOUT = 5.0  # seconds; an API server that needs longer to accept a connection is down
REQUEST_TIMEOUT = 60.0  # seconds, with all retries; the API server's own limit for a request is 60
PAGE = 500  # objects a LIST answers at once, as kubectl asks for
THROTTLED_DEFAULT = 1.0  # seconds, when a 429 names no Retry-After

Query = Mapping[str, t.Any]
Json = dict[str, t.Any]


class ApiError(PlatformError):
    """A request that failed; ``status`` is the HTTP status, 0 when the server was not reached, ``body`` the server's Status."""

    def __init__(self, message: str, status: int = 0, reason: str = "", body: Json | None = None) -> None:
        super().__init__(message, status=status, reason=reason)
        self.status = status
        self.reason = reason
        self.body = body or {}

    @property
    def server_message(self) -> str:
        return str(self.body.get("message") or self.message)


@dataclass(frozen=True)
class _Request:
    """``target`` is ``path`` as it stands on the request line, with the server's prefix and the query."""

    method: str
    path: str
    target: str
    accept: str
    payload: bytes | None = None
    content_type: str = ""

    @property
    def idempotent(self) -> bool:
        return self.method in ("GET", "PUT", "DELETE") or self.content_type == APPLY

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def connect(params: Params, clock: Clock | None = None) -> Client:
    """A client for the connection options (arguments.CONNECTION); sends nothing yet. Use it as a context manager."""
    return Client(access(params), clock or Clock())


class Client:
    """Talks to one API server; thread-safe."""

    def __init__(self, to: Access, clock: Clock | None = None, limiter: Limiter | None = None) -> None:
        self.access = to
        self.clock = clock or Clock()
        self.limiter = limiter or Limiter(self.clock)
        self.discovery = Discovery(self)
        self._url = urllib.parse.urlsplit(to.server)
        if self._url.scheme not in ("http", "https") or not self._url.hostname:
            raise PlatformError(f"The API server's address {to.server!r} ({to.origin}) is not a URL like https://host:6443.")
        self._prefix = self._url.path.rstrip("/")
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._reached = False

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes idle connections; the client can still be used and then connects again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    # ---- requests -------------------------------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        body: t.Any = None,
        *,
        query: Query | None = None,
        content_type: str = "application/json",
        accept: str = "application/json",
        timeout: float = REQUEST_TIMEOUT,
    ) -> tuple[int, http.client.HTTPMessage, Json]:
        """Status, headers and JSON of a good answer; raises ApiError for any other.

        429 is always sent again after its Retry-After (the server did nothing yet). Idempotent requests (GET, PUT, DELETE and
        server-side apply) are also sent again after a broken connection, 502, 503, 504 and answers with ``retryAfterSeconds``.
        ``timeout`` in seconds bounds it all. ``query`` values of None are left out.
        """
        payload = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        status, headers, raw = self._send(_Request(method, path, self.target(path, query), accept, payload, content_type), timeout)
        try:
            return status, headers, json.loads(raw) if raw else {}
        except ValueError as error:
            raise ApiError(f"{method} {path} at {self.access}: the answer is not JSON: {raw[:100]!r}.", status, "NotJSON") from error

    def get(self, path: str, **query: t.Any) -> Json:
        return self.request("GET", path, query=query)[2]

    def text(self, path: str, timeout: float = REQUEST_TIMEOUT, **query: t.Any) -> str:
        """The answer as text (a pod's log), bytes that are no UTF-8 replaced."""
        request = _Request("GET", path, self.target(path, query), "*/*")
        return self._send(request, timeout)[2].decode("utf-8", "replace")

    def list(self, resource: Resource, namespace: str | None = None, **query: t.Any) -> Json:
        """The whole list, page by page; ``metadata.resourceVersion`` is where a watch goes on. Query: labelSelector, fieldSelector."""
        path = resource.path(namespace)
        answer = self.get(path, limit=PAGE, **query)
        items = answer.get("items") or []
        while token := (answer.get("metadata") or {}).get("continue"):
            answer = self.get(path, limit=PAGE, **{**query, "continue": token})
            items.extend(answer.get("items") or [])
        return {**answer, "items": items}

    def find(self, path: str, **query: t.Any) -> Json | None:
        """The object at ``path``, or None when it does not exist."""
        try:
            return self.get(path, **query)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def resource(self, api_version: str, kind: str) -> Resource:
        """Where the server keeps this kind; raises PlatformError when it does not know it."""
        return self.discovery.resource(api_version, kind)

    def _send(self, request: _Request, timeout: float) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Sends, and sends again as ``request`` documents."""
        deadline = self.clock.now() + timeout
        attempt = 0
        while True:
            if not self.limiter.acquire(deadline):
                raise ApiError(f"{request} at {self.access}: the server asked for patience for more than {timeout:g} s.", 429, "Throttled")
            throttled: float | None = None
            began = self.clock.now()
            try:
                status, headers, raw = self._exchange(request, deadline)
                self._reached = True
                if status < 400:
                    return status, headers, raw
                failure = self.failure(request.method, request.path, status, raw)
                pause = retry_pause(failure, headers.get("Retry-After"), request.idempotent, attempt)
                throttled = pause if status == 429 else None
            except (OSError, http.client.HTTPException) as error:
                failure = self.unreachable(request.method, request.path, error)
                # A server that never answered is misnamed or down, which is said at once. One that did is restarting.
                pause = backoff(attempt) if request.idempotent and self._reached else None
            finally:
                self.limiter.release(self.clock.now() - began, throttled)
            if pause is None or self.clock.now() + pause >= deadline:
                raise failure
            attempt += 1
            # The limiter holds everything back after a 429; a little disorder keeps the threads from coming back all at once.
            self.clock.sleep(random.uniform(0.0, 0.1) if throttled is not None else pause * random.uniform(0.8, 1.2))

    def target(self, path: str, query: Query | None = None) -> str:
        """The request line's target: the server's own path prefix, the path, the query without its None values."""
        pairs = {key: str(value).lower() if isinstance(value, bool) else value for key, value in (query or {}).items() if value is not None}
        return self._prefix + path + ("?" + urllib.parse.urlencode(pairs, doseq=True) if pairs else "")

    # ---- connections ----------------------------------------------------------------------------------------------------------

    def _exchange(self, request: _Request, deadline: float) -> tuple[int, http.client.HTTPMessage, bytes]:
        """One request on a kept connection; on a fresh one when the server had hung up on the kept one before reading anything."""
        headers = self.headers(request.accept)
        if request.payload is not None:
            headers["content-type"] = request.content_type
        while True:
            connection = self._kept()
            kept = connection is not None
            connection = connection or self.dial()
            try:
                if connection.sock is not None:
                    connection.sock.settimeout(max(0.1, deadline - self.clock.now()))
                connection.request(request.method, request.target, body=request.payload, headers=headers)
                response = connection.getresponse()
                raw = response.read()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                connection.close()
                if kept and request.method != "POST":
                    continue
                raise
            except BaseException:
                connection.close()
                raise
            if response.will_close:
                connection.close()
            else:
                with self._lock:
                    self._idle.append(connection)
            return response.status, response.headers, raw

    def _kept(self) -> http.client.HTTPConnection | None:
        """An idle connection that the server has not closed meanwhile: one that can be read has ended, for nothing was asked on it."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None or (connection.sock is not None and not select.select([connection.sock], [], [], 0)[0]):
                return connection
            connection.close()

    def headers(self, accept: str = "application/json") -> dict[str, str]:
        return {"accept": accept, "user-agent": USER_AGENT, **self.access.headers()}

    def dial(self) -> http.client.HTTPConnection:
        """A new connection to the server, open; the caller closes it."""
        to, url, proxy = self.access, self._url, urllib.parse.urlsplit(self.access.proxy)
        secure = url.scheme == "https"
        port = url.port or (443 if secure else 80)
        near = (proxy.hostname, proxy.port or 80) if proxy.hostname else (url.hostname, port)
        connection = http.client.HTTPConnection(t.cast(str, near[0]), near[1], timeout=CONNECT_TIMEOUT)
        if proxy.hostname:
            connection.set_tunnel(t.cast(str, url.hostname), port)
        connection.connect()
        sock = t.cast(socket.socket, connection.sock)
        if secure:
            context = to.tls or ssl.create_default_context()
            connection.sock = context.wrap_socket(sock, server_hostname=to.tls_server_name or url.hostname)
        connection.sock.settimeout(REQUEST_TIMEOUT)
        return connection

    def stream(self, path: str, query: Query | None = None, timeout: float = REQUEST_TIMEOUT) -> Stream:
        """Opens an answer that comes line by line (a watch, a followed log); ``timeout`` is the longest silence in seconds."""
        try:
            connection = self.dial()
        except OSError as error:
            raise self.unreachable("GET", path, error) from error
        try:
            connection.sock.settimeout(timeout)
            connection.request("GET", self.target(path, query), headers=self.headers())
            response = connection.getresponse()
            if response.status >= 400:
                raise self.failure("GET", path, response.status, response.read())
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self.unreachable("GET", path, error) from error
        except BaseException:
            connection.close()
            raise
        return Stream(connection, response)

    # ---- errors ---------------------------------------------------------------------------------------------------------------

    def failure(self, method: str, path: str, status: int, raw: bytes) -> ApiError:
        body: Json = {}
        with contextlib.suppress(ValueError):
            parsed = json.loads(raw)
            body = parsed if isinstance(parsed, dict) else {}
        reason = str(body.get("reason") or http.client.responses.get(status, "unknown"))
        said = str(body.get("message") or raw[:300].decode("utf-8", "replace").strip() or reason)
        message = f"{method} {path} at {self.access}: {status} {reason}: {said}"
        if status == 401:
            message = (
                f"The API server {self.access} does not accept the credentials (401 Unauthorized). "
                "They may have expired: get a fresh kubeconfig, then try `kubectl auth whoami` with the same kubeconfig and context."
            )
        elif status == 403:
            message += " Ask what is allowed with `kubectl auth can-i --list` and the same kubeconfig and context."
        return ApiError(message, status, reason, body)

    def unreachable(self, method: str, path: str, error: Exception) -> ApiError:
        where = f"The API server {self.access}"
        check = "Check the address, and that the cluster runs, with `kubectl cluster-info` and the same kubeconfig and context."
        if isinstance(error, ssl.SSLCertVerificationError):
            what = f"has a certificate that is not trusted: {error.verify_message}. Is the kubeconfig that of an earlier cluster?"
        elif isinstance(error, ConnectionRefusedError):
            what = "refuses connections: nothing listens there."
        elif isinstance(error, socket.gaierror):
            what = "has a name that does not resolve."
        elif isinstance(error, TimeoutError) or getattr(error, "errno", None) == errno.ETIMEDOUT:
            what = f"did not answer {method} {path} in time."
        else:
            what = f"broke off {method} {path}: {error or type(error).__name__}."
        return ApiError(f"{where} {what} {check}", 0, "Unreachable")


class Stream:
    """The lines of one long answer; use it as a context manager. Iterate in one thread, ``hang_up`` from any."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._socket = t.cast(socket.socket, connection.sock)
        self._response = response

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._response.close()
        self._connection.close()

    def __iter__(self) -> Iterator[bytes]:
        """Lines until the server ends the answer, the connection breaks or someone hangs up: all three mean the same to a watcher."""
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError, AttributeError):
            while line := self._response.readline():
                yield line

    def hang_up(self) -> None:
        """Ends the iteration, which may be waiting for a line in another thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


def quote(*pieces: str) -> str:
    """A path from pieces that may hold any character."""
    return "/" + "/".join(urllib.parse.quote(piece, safe="") for piece in pieces)


def backoff(attempt: int) -> float:
    """Seconds before the next try: 0.1, 0.2, 0.4, ... at most 2."""
    return min(0.1 * 2.0**attempt, 2.0)


def retry_pause(failure: ApiError, retry_after: str | None, idempotent: bool, attempt: int) -> float | None:
    """Seconds to wait before the same request may be sent again, None when it must not be.

    429 means that the server did nothing yet. 502, 503, 504 and a Status with ``retryAfterSeconds`` (ServerTimeout) leave open
    whether it did something, so only what is idempotent is repeated. Retry-After comes as whole seconds.
    """
    asked = float(retry_after) if retry_after and retry_after.isdigit() else (failure.body.get("details") or {}).get("retryAfterSeconds")
    if failure.status == 429:
        return float(asked or THROTTLED_DEFAULT)
    if idempotent and (asked or failure.status in (502, 503, 504)):
        return float(asked or backoff(attempt))
    return None
