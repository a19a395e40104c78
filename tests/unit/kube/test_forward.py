# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Port-forward against a double of the API server's end: a WebSocket server that echoes what the pod's port gets."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.auth import Access
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client
from ansible_collections.progressive.platform.plugins.module_utils._kube.forward import BINARY, Frames, forward, frame, listen

REFUSED = b"error forwarding port 6379 to pod: connection refused"


def server_frame(opcode: int, payload: bytes, final: bool = True) -> bytes:
    first = (0x80 if final else 0) | opcode
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", first, size) + payload
    if size < 0x10000:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


def unmask(data: bytes) -> tuple[int, bytes, int]:
    """Opcode, payload and length of the first client frame in data; length 0 when it is not whole yet."""
    if len(data) < 2:
        return 0, b"", 0
    size, start = data[1] & 0x7F, 2
    if size >= 126:
        start = 4 if size == 126 else 10
        size = int.from_bytes(data[2:start], "big")
    assert data[1] & 0x80, "a client must mask its frames"
    if len(data) < start + 4 + size:
        return 0, b"", 0
    mask = data[start : start + 4]
    body = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data[start + 4 : start + 4 + size]))
    return data[0] & 0x0F, body, start + 4 + size


class EchoDouble:
    """Accepts port-forwards of pod ``echo`` (echoes), ``refused`` (nothing listens) and answers 404 for the rest."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.pongs: list[bytes] = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                sock, _peer = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += sock.recv(4096)
            lines = head.decode().split("\r\n")
            fields = {key.lower(): value.strip() for key, _unused, value in (line.partition(":") for line in lines[1:]) if key}
            assert fields["sec-websocket-protocol"] == "v4.channel.k8s.io"
            if "/pods/echo/" not in lines[0] and "/pods/refused/" not in lines[0]:
                body = b'{"kind":"Status","message":"pods \\"gone\\" not found","reason":"NotFound","code":404}'
                sock.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
                return
            accept = base64.b64encode(
                hashlib.sha1((fields["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
            )
            port = struct.pack("<H", 6379)
            hello = server_frame(BINARY, b"\x00" + port) + server_frame(BINARY, b"\x01" + port)
            # in one piece, so that the first frames arrive together with the answer's headers
            sock.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
                + accept
                + b"\r\n\r\n"
                + hello
            )
            if "/pods/refused/" in lines[0]:
                sock.sendall(server_frame(BINARY, b"\x01" + REFUSED))
                return
            sock.sendall(server_frame(0x9, b"are you there"))
            self.echo(sock)

    def echo(self, sock: socket.socket) -> None:
        buffer = b""
        while data := sock.recv(65536):
            buffer += data
            while True:
                opcode, body, used = unmask(buffer)
                if not used:
                    break
                buffer = buffer[used:]
                if opcode == 0x8:
                    return
                if opcode == 0xA:
                    self.pongs.append(body)
                elif body[1:] == b"bye":
                    sock.sendall(server_frame(0x8, struct.pack("!H", 1000)))
                    return
                else:  # in two fragments: the channel stands only in the first
                    half = len(body) // 2 + 1
                    sock.sendall(server_frame(BINARY, body[:half], final=False) + server_frame(0x0, body[half:]))


@pytest.fixture
def double() -> Iterator[EchoDouble]:
    double = EchoDouble()
    yield double
    double.server.close()


@pytest.fixture
def client(double: EchoDouble) -> Client:
    return Client(Access(server=f"http://127.0.0.1:{double.server.getsockname()[1]}", origin="the double"))


def read(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(65536)
        assert piece, f"closed after {len(data)} of {size} bytes"
        data += piece
    return data


@pytest.mark.parametrize("size", [1, 124, 125, 126, 65534, 65535, 65536, 300_000])
def test_every_byte_comes_back(client: Client, size: int) -> None:
    data = os.urandom(size)
    with forward(client, "default", "echo", 6379) as sock:
        sock.settimeout(20)
        sock.sendall(data)
        assert read(sock, size) == data


def test_a_writer_that_does_not_read_is_not_deadlocked(client: Client) -> None:
    data = os.urandom(400_000)
    with forward(client, "default", "echo", 6379) as sock:
        sock.settimeout(20)
        for start in range(0, len(data), 40_000):
            sock.sendall(data[start : start + 40_000])
        assert read(sock, len(data)) == data


def test_pings_are_answered(client: Client, double: EchoDouble) -> None:
    with forward(client, "default", "echo", 6379) as sock:
        sock.settimeout(20)
        sock.sendall(b"x")
        assert read(sock, 1) == b"x"
        deadline = time.monotonic() + 20
        while not double.pongs and time.monotonic() < deadline:  # the double reads it after it has answered
            time.sleep(0.01)
    assert double.pongs == [b"are you there"]


def test_the_pod_hangs_up(client: Client) -> None:
    with forward(client, "default", "echo", 6379) as sock:
        sock.settimeout(20)
        sock.sendall(b"bye")
        assert sock.recv(10) == b""
        assert sock.failure == ""


def test_nothing_listens_in_the_pod(client: Client) -> None:
    with forward(client, "default", "refused", 6379) as sock:
        sock.settimeout(20)
        assert sock.recv(10) == b""
        assert sock.failure == REFUSED.decode()


def test_no_such_pod(client: Client) -> None:
    with pytest.raises(ApiError, match='pods "gone" not found') as raised:
        forward(client, "default", "gone", 6379)
    assert raised.value.status == 404


def test_listen_gives_an_address(client: Client) -> None:
    with listen(client, "default", "echo", 6379) as address:
        for _unused in range(2):
            with socket.create_connection(address, timeout=20) as sock:
                sock.sendall(b"hello")
                assert read(sock, 5) == b"hello"
    with pytest.raises(OSError):
        socket.create_connection(address, timeout=5)


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 1000])
def test_frames_may_come_in_any_pieces(cut: int) -> None:
    payloads = [b"", b"a", b"b" * 125, b"c" * 126, b"d" * 70_000]
    stream = b"".join(server_frame(BINARY, payload) for payload in payloads)
    frames = Frames()
    seen = [payload for start in range(0, len(stream), cut) for _unused, _unused, payload in frames.feed(stream[start : start + cut])]
    assert seen == payloads


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 65535, 65536])
def test_client_frames_are_masked(size: int) -> None:
    payload = os.urandom(size)
    assert unmask(frame(BINARY, payload)) == (BINARY, payload, len(frame(BINARY, payload)))
