# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""SIMULATOR, not MongoDB: the wire protocol's server side. Real sockets, real BSON, OP_MSG (and OP_QUERY for a driver's first greeting), SCRAM-SHA-256."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import socket
import ssl
import struct
import threading
import typing as t
from collections.abc import Callable

import bson

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
ITERATIONS = 4096

Document = dict[str, t.Any]


class Failure(Exception):
    """A command's refusal, with the server's code and its name."""

    def __init__(self, code: int, name: str, message: str) -> None:
        super().__init__(message)
        self.reply: Document = {"ok": 0.0, "errmsg": message, "code": code, "codeName": name}


class Session:
    """One client connection: who has logged in on it, and the SCRAM conversation under way."""

    def __init__(self) -> None:
        self.user = ""
        self.scram: Scram | None = None


class Listener:
    """Accepts connections while it is open; ``answer`` gets every command with its database and session."""

    def __init__(self, port: int, answer: Callable[[Document, Session], Document], tls: ssl.SSLContext | None = None) -> None:
        self._answer = answer
        self._tls = tls
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """As a killed process: every connection breaks at once."""
        with self._lock:
            sockets, self._sockets = [self._server, *self._sockets], set()
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _peer = self._server.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets.add(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        session = Session()
        try:
            if self._tls is not None:
                sock.settimeout(10)
                plain, sock = sock, self._tls.wrap_socket(sock, server_side=True)
                sock.settimeout(None)
                with self._lock:
                    self._sockets.discard(plain)
                    self._sockets.add(sock)
            with sock:
                while True:
                    size, request, _to, opcode = struct.unpack("<iiii", _exactly(sock, 16))
                    sock.sendall(self._reply(request, opcode, _exactly(sock, size - 16), session))
        except (OSError, EOFError):
            pass
        finally:
            with self._lock:
                self._sockets.discard(sock)

    def _reply(self, request: int, opcode: int, body: bytes, session: Session) -> bytes:
        if opcode == OP_MSG:
            payload = struct.pack("<iB", 0, 0) + bson.encode(self._answered(message(body), session))
            return struct.pack("<iiii", 16 + len(payload), 0, request, OP_MSG) + payload
        if opcode == OP_QUERY:
            end = body.index(b"\0", 4)
            payload = struct.pack("<iqii", 8, 0, 0, 1) + bson.encode(self._answered(bson.decode(body[end + 9 :]), session))
            return struct.pack("<iiii", 16 + len(payload), 0, request, OP_REPLY) + payload
        raise EOFError(f"opcode {opcode}")

    def _answered(self, command: Document, session: Session) -> Document:
        try:
            return self._answer(command, session)
        except Failure as failure:
            return failure.reply


def message(body: bytes) -> Document:
    """The command of an OP_MSG: a section 0 with the command, and sections 1 with sequences of documents for it."""
    command: Document = {}
    at = 4
    while at < len(body):
        kind = body[at]
        (size,) = struct.unpack_from("<i", body, at + 1)
        if kind == 0:
            command = {**bson.decode(body[at + 1 : at + 1 + size]), **command}
        else:
            end = body.index(b"\0", at + 5)
            command[body[at + 5 : end].decode()] = bson.decode_all(body[end + 1 : at + 1 + size])
        at += 1 + size
    return command


def _exactly(sock: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = sock.recv(size - len(parts))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def credentials(password: str) -> Document:
    """What a server stores of a password (RFC 7677)."""
    salt = os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    client = hmac.digest(salted, b"Client Key", "sha256")
    return {"salt": salt, "stored": hashlib.sha256(client).digest(), "server": hmac.digest(salted, b"Server Key", "sha256")}


class Scram:
    """The server's half of SCRAM-SHA-256 (RFC 5802)."""

    def __init__(self, first: bytes, find: Callable[[str], Document | None]) -> None:
        self._bare = first.split(b",", 2)[2]
        fields = dict(part.split(b"=", 1) for part in self._bare.split(b","))
        self.user = fields[b"n"].decode().replace("=2C", ",").replace("=3D", "=")
        found = find(self.user)
        if found is None:
            raise failed()
        self._stored = found
        self._nonce = fields[b"r"] + base64.b64encode(os.urandom(18))
        self.challenge = b"r=%s,s=%s,i=%d" % (self._nonce, base64.b64encode(found["salt"]), ITERATIONS)

    def finish(self, final: bytes) -> bytes:
        without_proof, proof = final.rsplit(b",p=", 1)
        signed = b",".join([self._bare, self.challenge, without_proof])
        signature = hmac.digest(self._stored["stored"], signed, "sha256")
        client = bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True))
        if not hmac.compare_digest(hashlib.sha256(client).digest(), self._stored["stored"]):
            raise failed()
        return b"v=" + base64.b64encode(hmac.digest(self._stored["server"], signed, "sha256"))


def failed() -> Failure:
    return Failure(18, "AuthenticationFailed", "Authentication failed.")
