# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""As much of PostgreSQL's protocol (3.0) as the modules speak: log in by SCRAM-SHA-256, send a statement, read its rows.

A session runs over any connected socket, so a port-forward needs no local port, and the host that runs the modules no library
(private: may change without notice).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import os
import re
import socket
import struct
import typing as t

Row: t.TypeAlias = "tuple[str | None, ...]"

ANSWER_WITHIN = 15.0
"""Seconds for a statement that says nothing else."""
MESSAGE_AT_MOST = 64 * 1024 * 1024
ITERATIONS = 4096  # as the server itself makes verifiers (scram_iterations)


class SqlError(Exception):
    """What the server refused; ``code`` is its SQLSTATE."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Lost(Exception):
    """The connection ended, or was silent for too long; nothing is known of the statement under way."""


class Session:
    """One connection to one database. Statements go one by one; values come as the server writes them, None for NULL."""

    def __init__(self, sock: socket.socket, user: str, password: str, database: str, within: float = ANSWER_WITHIN) -> None:
        self._socket = sock
        self._within = within
        self._buffer = b""
        self.parameters: dict[str, str] = {}
        sock.settimeout(within)
        words = {"user": user, "database": database, "application_name": "progressive.platform", "client_encoding": "UTF8"}
        body = b"".join(part.encode() + b"\0" for pair in words.items() for part in pair) + b"\0"
        self._write(struct.pack("!II", len(body) + 8, 196608) + body)
        self._log_in(password)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def query(self, text: str, within: float = 0) -> list[Row]:
        """The rows of the last of the statements in ``text``; raises SqlError with the first refusal, Lost without an answer."""
        self._socket.settimeout(within or self._within)
        self._write(_message(b"Q", text.encode() + b"\0"))
        rows: list[Row] = []
        refusals: list[SqlError] = []
        while True:
            kind, body = self._read()
            if kind == b"T":
                rows = []
            elif kind == b"D":
                rows.append(_row(body))
            elif kind == b"E":
                refusals.append(_refusal(body))
            elif kind == b"S":
                self._note(body)
            elif kind == b"Z":
                if refusals:
                    raise refusals[0]
                return rows

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendall(_message(b"X", b""))
        self._socket.close()

    def _log_in(self, password: str) -> None:
        exchange: Exchange | None = None
        while True:
            kind, body = self._read()
            if kind == b"E":
                raise _refusal(body)
            if kind == b"S":
                self._note(body)
            if kind == b"Z":
                return
            if kind != b"R":
                continue
            (method,), rest = struct.unpack("!I", body[:4]), body[4:]
            if method == 10 and b"SCRAM-SHA-256" in rest.split(b"\0"):
                exchange = Exchange(password)
                first = exchange.first.encode()
                self._write(_message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first))
            elif method == 11 and exchange:
                self._write(_message(b"p", exchange.answer(rest.decode()).encode()))
            elif method == 12 and exchange:
                exchange.check(rest.decode())
            elif method != 0:
                raise SqlError(
                    "28000", "the server wants another way to log in than SCRAM-SHA-256; see its pg_hba.conf and password_encryption"
                )

    def _note(self, body: bytes) -> None:
        name, value = body.split(b"\0")[:2]
        self.parameters[name.decode()] = value.decode()

    def _write(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise Lost(f"connection lost: {error}") from error

    def _read(self) -> tuple[bytes, bytes]:
        head = self._take(5)
        size = int.from_bytes(head[1:], "big") - 4
        if not 0 <= size <= MESSAGE_AT_MOST:
            raise Lost("what answers does not speak PostgreSQL's protocol")
        return head[:1], self._take(size)

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            try:
                data = self._socket.recv(65536)
            except TimeoutError as error:
                raise Lost(f"no answer within {self._socket.gettimeout():g} s") from error
            except OSError as error:
                raise Lost(f"connection lost: {error}") from error
            if not data:
                raise Lost(getattr(self._socket, "failure", "") or "the server closed the connection")
            self._buffer += data
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken


class Exchange:
    """The client's side of SCRAM-SHA-256 (RFC 5802, 7677), without channel binding."""

    def __init__(self, password: str, nonce: str = "") -> None:
        self._password = password
        self._nonce = nonce or base64.b64encode(os.urandom(18)).decode()
        self._bare = f"n=,r={self._nonce}"
        self._signature = b""
        self.first = f"n,,{self._bare}"

    def answer(self, challenge: str) -> str:
        """The proof that the password is known; raises SqlError when the server's nonce does not continue ours."""
        parts = dict(part.partition("=")[::2] for part in challenge.split(","))
        if not parts.get("r", "").startswith(self._nonce):
            raise SqlError("28000", "the server's answer belongs to another login")
        salted = _salted(self._password, base64.b64decode(parts["s"]), int(parts["i"]))
        final = f"c=biws,r={parts['r']}"
        words = f"{self._bare},{challenge},{final}".encode()
        key = _mac(salted, b"Client Key")
        mask = _mac(hashlib.sha256(key).digest(), words)
        self._signature = _mac(_mac(salted, b"Server Key"), words)
        proof = bytes(one ^ other for one, other in zip(key, mask, strict=True))
        return f"{final},p={base64.b64encode(proof).decode()}"

    def check(self, final: str) -> None:
        """Raises SqlError when the server does not know the password either."""
        if not hmac.compare_digest(final, f"v={base64.b64encode(self._signature).decode()}"):
            raise SqlError("28000", "the server could not prove that it knows the password; is it another one's address?")


def verifier(password: str, salt: bytes = b"", iterations: int = ITERATIONS) -> str:
    """What the server stores of a password (``pg_authid.rolpassword``). Sent in its place, the password itself is in no statement and no log."""
    salt = salt or os.urandom(16)
    salted = _salted(password, salt, iterations)
    stored = hashlib.sha256(_mac(salted, b"Client Key")).digest()
    words = (base64.b64encode(part).decode() for part in (salt, stored, _mac(salted, b"Server Key")))
    return "SCRAM-SHA-256${}:{}${}:{}".format(iterations, *words)


def verifies(password: str, stored: str | None) -> bool:
    """Whether ``stored`` was made of this password."""
    match = re.fullmatch(r"SCRAM-SHA-256\$(\d+):([^$]+)\$.*", stored or "")
    return bool(match) and hmac.compare_digest(verifier(password, base64.b64decode(match[2]), int(match[1])), stored or "")  # type: ignore[index]


def identifier(name: str) -> str:
    """A name as it stands in a statement."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """A text as it stands in a statement (standard_conforming_strings)."""
    return "'" + value.replace("'", "''") + "'"


def _salted(password: str, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)


def _mac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def _row(body: bytes) -> Row:
    values: list[str | None] = []
    (count,), at = struct.unpack("!H", body[:2]), 2
    for _column in range(count):
        (size,) = struct.unpack("!i", body[at : at + 4])
        at += 4
        values.append(None if size < 0 else body[at : at + size].decode("utf-8", "replace"))
        at += max(size, 0)
    return tuple(values)


def _refusal(body: bytes) -> SqlError:
    fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}
    return SqlError(fields.get(b"C", ""), fields.get(b"M", "no reason given"))
