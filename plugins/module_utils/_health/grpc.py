# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks the standard gRPC health service over a socket that is already connected (private: may change without notice).

One unary call needs five kinds of HTTP/2 frames and a message of one field, so it is written out: grpcio is a large dependency whose
threads do not survive the fork in which Ansible runs a task. Sources: RFC 9113 (HTTP/2), RFC 7541 (header compression), the gRPC
protocol description PROTOCOL-HTTP2.md and health.proto of grpc.health.v1.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

SERVING = "SERVING"
STATUSES = {0: "UNKNOWN", 1: SERVING, 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}  # HealthCheckResponse.ServingStatus

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM = ACK = 0x1
END_HEADERS, PADDED = 0x4, 0x8
LARGEST = 1 << 20  # bytes; a health answer has seven


def check(sock: socket.socket, service: str, authority: str, remaining: Callable[[], float]) -> str:
    """The serving status of ``service`` ("" is the whole server). ``remaining`` gives the seconds that are left.

    Raises PlatformError when the other end speaks no gRPC, has no health service, or does not answer in time.
    """
    try:
        sock.settimeout(max(remaining(), 0.05))
        sock.sendall(request(service, authority))
        return _answer(sock, remaining)
    except TimeoutError as error:
        raise PlatformError("the gRPC health service did not answer in time") from error
    except OSError as error:
        raise PlatformError(f"the gRPC connection broke: {error}") from error


def request(service: str, authority: str) -> bytes:
    """The client's preface, empty settings, and the call on stream 1."""
    fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ]
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    body = b"\x00" + struct.pack("!I", len(message)) + message
    block = b"".join(_literal(key) + _literal(value, first=False) for key, value in fields)
    return PREFACE + _frame(SETTINGS, 0, 0, b"") + _frame(HEADERS, END_HEADERS, 1, block) + _frame(DATA, END_STREAM, 1, body)


def _answer(sock: socket.socket, remaining: Callable[[], float]) -> str:
    """Reads frames until the message is whole; control frames are answered as the protocol asks."""
    message = b""
    while True:
        header = _exactly(sock, 9, remaining)
        size, kind, flags = int.from_bytes(header[:3], "big"), header[3], header[4]
        if size > LARGEST:
            raise PlatformError("the port does not speak gRPC")
        payload = _exactly(sock, size, remaining)
        if kind == SETTINGS and not flags & ACK:
            sock.sendall(_frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            sock.sendall(_frame(PING, ACK, 0, payload))
        elif kind == DATA:
            message += payload[1 : len(payload) - payload[0]] if flags & PADDED else payload
            if len(message) >= 5 and len(message) >= 5 + int.from_bytes(message[1:5], "big"):
                return _status(message)
        elif kind == HEADERS and flags & END_STREAM:
            # Only an error comes as headers without a message. Its text is compressed; its usual cause is that there is no such service.
            raise PlatformError(
                "the gRPC server refused the health call: it has no grpc.health.v1.Health service, or does not know this name"
            )
        elif kind in (RST_STREAM, GOAWAY):
            raise PlatformError("the gRPC server ended the call")


def _status(message: bytes) -> str:
    """Field 1 of HealthCheckResponse, an enum; left out it is 0."""
    body = message[5:]
    value = body[1] if len(body) >= 2 and body[0] == 0x08 else 0
    return STATUSES.get(value, str(value))


def _exactly(sock: socket.socket, size: int, remaining: Callable[[], float]) -> bytes:
    data = b""
    while len(data) < size:
        sock.settimeout(max(remaining(), 0.05))
        part = sock.recv(size - len(data))
        if not part:
            raise PlatformError(
                "the gRPC server hung up: " + (getattr(sock, "failure", "") or "it may speak another protocol on this port")
            )
        data += part
    return data


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _literal(text: str, first: bool = True) -> bytes:
    """A header's name (``first``: literal without indexing, new name) or value, uncompressed (RFC 7541, 6.2.2)."""
    raw = text.encode()
    size = bytes((len(raw),)) if len(raw) < 127 else b"\x7f" + _varint(len(raw) - 127)
    return (b"\x00" if first else b"") + size + raw


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 128:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes((*out, number))
