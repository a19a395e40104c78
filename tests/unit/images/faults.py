# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A proxy on loopback in front of a real registry that answers some requests with a fault and hands on the others."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import re
import socket
import struct
import threading
import typing as t
from collections.abc import Iterator

RESET = 0  # the connection is broken off with RST in place of an answer

# The distribution specification's codes, with distribution's own words.
SAID = {401: ("UNAUTHORIZED", "authentication required"), 403: ("DENIED", "requested access to the resource is denied")}


class Faults:
    """``plan`` are answers (a status, or RESET) to the next requests whose ``METHOD path`` matches ``where``; when it is empty all go through."""

    def __init__(self, where: str, plan: list[int]) -> None:
        self.where, self.plan = re.compile(where), plan
        self.asked: list[str] = []  # requests that match, in order
        self.address = ""
        self._lock = threading.Lock()

    def next(self, request: str) -> int | None:
        with self._lock:
            if not self.where.search(request):
                return None
            self.asked.append(request)
            return self.plan.pop(0) if self.plan else None

    @contextlib.contextmanager
    def before(self, port: int) -> Iterator[Faults]:
        """Stand before the registry on ``port``."""
        faults = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def body(self) -> bytes:
                if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                content = b""
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    content += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return content

            def do(self) -> None:
                content = self.body()
                fault = faults.next(f"{self.command} {self.path}")
                if fault == RESET:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                    self.close_connection = True
                    return
                if fault is not None:
                    code, message = SAID.get(fault, ("UNKNOWN", "made by a test"))
                    said = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
                    self.answer(fault, [("Content-Type", "application/json")], said)
                    return
                ahead = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                ahead.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():  # some come several times (Accept)
                    if name.lower() not in ("transfer-encoding", "content-length"):
                        ahead.putheader(name, value)
                if content or self.command not in ("GET", "HEAD"):
                    ahead.putheader("Content-Length", str(len(content)))
                ahead.endheaders(content or None)
                answer = ahead.getresponse()
                self.answer(answer.status, answer.getheaders(), answer.read())
                ahead.close()

            do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = do

            def answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers:
                    if name.lower() not in ("transfer-encoding", "connection") and (
                        self.command == "HEAD" or name.lower() != "content-length"
                    ):
                        self.send_header(name, value)
                if self.command != "HEAD":
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            def log_message(self, *_arguments: t.Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.address = f"127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
