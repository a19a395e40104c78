# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connections to a pod's ports through the API server, with the kubeconfig's own rights (private: may change without notice).

``forward`` gives a connected socket, ``listen`` a local address for libraries that want one. Below both is the port-forward
subresource as a WebSocket (RFC 6455) of the protocol ``v4.channel.k8s.io``: every message begins with the number of its
channel, 0 for the port's data and 1 for its error text; the first message of a channel repeats the port in two bytes.
"""

from __future__ import annotations

import base64
import contextlib
import os
import selectors
import socket
import ssl
import struct
import threading
import typing as t
from collections.abc import Iterator

from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client, quote

PROTOCOL = "v4.channel.k8s.io"
DATA, ERROR = 0, 1
CHUNK = 64 * 1024  # bytes read at once
FULL = 1024 * 1024  # bytes waiting in one direction; with more the other side is not read, so that memory stays small
FAREWELL = 2.0  # seconds without progress after the local side has closed, before what is left is given up
OPEN_TIMEOUT = 10.0  # seconds for the API server and the kubelet to agree to a port-forward

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA


class PodSocket(socket.socket):
    """A connected socket whose other end is a pod's port; ``failure`` says why it was cut, once it reads as closed."""

    failure: str = ""


def forward(client: Client, namespace: str, pod: str, port: int, timeout: float = OPEN_TIMEOUT) -> PodSocket:
    """Connects to ``port`` of the pod. Raises ApiError when the API server or the kubelet refuses (no such pod, not running).

    Whether anything listens in the pod shows when the socket is read: it then ends at once, with the reason in ``failure``.
    """
    channel = _open(client, namespace, pod, port, timeout)
    near, far = socket.socketpair()
    mine = PodSocket(fileno=near.detach())

    def told(reason: str) -> None:
        mine.failure = reason

    _start(_Pump(channel, far, told), f"forward {namespace}/{pod}:{port}")
    return mine


@contextlib.contextmanager
def listen(client: Client, namespace: str, pod: str, port: int, timeout: float = OPEN_TIMEOUT) -> Iterator[tuple[str, int]]:
    """A loopback (host, port) that leads to the pod's port while the context lasts; each connection is its own port-forward.

    A connection the API server refuses is closed at once, as an unreachable server's would be.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            while True:
                try:
                    accepted, _peer = server.accept()
                except OSError:  # the context has ended
                    return
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=serve, args=(accepted,), daemon=True).start()

        def serve(accepted: socket.socket) -> None:
            try:
                channel = _open(client, namespace, pod, port, timeout)
            except ApiError:
                accepted.close()
                return
            _Pump(channel, accepted, lambda _reason: None).run()

        threading.Thread(target=accept, name=f"listen {namespace}/{pod}:{port}", daemon=True).start()
        try:
            yield server.getsockname()[:2]
        finally:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept


def _start(pump: _Pump, name: str) -> None:
    threading.Thread(target=pump.run, name=name, daemon=True).start()


class _Channel(t.NamedTuple):
    """An upgraded connection: the socket, and what the server sent right behind its answer."""

    sock: socket.socket
    early: bytes


def _open(client: Client, namespace: str, pod: str, port: int, timeout: float) -> _Channel:
    path = quote("api", "v1", "namespaces", namespace, "pods", pod, "portforward")
    headers = {
        **client.headers("*/*"),
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": base64.b64encode(os.urandom(16)).decode(),
        "sec-websocket-protocol": PROTOCOL,
    }
    try:
        connection = client.dial()
    except OSError as error:
        raise client.unreachable("GET", path, error) from error
    try:
        connection.sock.settimeout(timeout)
        connection.request("GET", client.target(path, {"ports": port}), headers=headers)
        response = connection.getresponse()
        if response.status != 101:
            raise client.failure("GET", path, response.status, response.read())
        sock = t.cast(socket.socket, connection.sock)
        sock.setblocking(False)
        early = b""
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
            early = response.fp.read1() or b""
        response.close()
        return _Channel(sock, early)
    except OSError as error:
        connection.close()
        raise client.unreachable("GET", path, error) from error
    except BaseException:
        connection.close()
        raise


def frame(opcode: int, payload: bytes) -> bytes:
    """One final client frame. A client masks what it sends (RFC 6455, 5.3)."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    elif size < 0x10000:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
    mask = os.urandom(4)
    repeated = (mask * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return head + mask + masked.to_bytes(size, "big")


class Frames:
    """Takes the server's bytes as they come and gives whole frames (RFC 6455, 5.2)."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bool, bytes]]:
        """(opcode, final, payload) of every frame that is complete by now; a server does not mask."""
        self._buffer += data
        while len(self._buffer) >= 2:
            size, start = self._buffer[1] & 0x7F, 2
            if size >= 126:
                start = 4 if size == 126 else 10
                if len(self._buffer) < start:
                    return
                size = int.from_bytes(self._buffer[2:start], "big")
            if len(self._buffer) < start + size:
                return
            first, payload = self._buffer[0], bytes(self._buffer[start : start + size])
            del self._buffer[: start + size]
            yield first & 0x0F, bool(first & 0x80), payload


class _Pump:
    """Carries bytes between a local socket and a port-forward until either side ends; neither side ever blocks the other."""

    def __init__(self, channel: _Channel, local: socket.socket, told: t.Callable[[str], None]) -> None:
        self.remote, self._early = channel
        self.local = local
        self.told = told
        self.to_remote = bytearray()
        self.to_local = bytearray()
        self._frames = Frames()
        self._channel = -1  # of the message whose fragments are coming in
        self._greeted: set[int] = set()
        self._remote_done = False
        self._local_done = False

    def run(self) -> None:
        self.local.setblocking(False)
        with self.local, self.remote, selectors.DefaultSelector() as selector, contextlib.suppress(OSError):
            selector.register(self.local, selectors.EVENT_READ)
            selector.register(self.remote, selectors.EVENT_READ)
            self._received(self._early)
            while not self._finished():
                self._flush()
                self._want(selector, self.local, len(self.to_remote) < FULL and not self._local_done, bool(self.to_local))
                self._want(selector, self.remote, len(self.to_local) < FULL and not self._remote_done, bool(self.to_remote))
                if self._finished():
                    break
                events = selector.select(FAREWELL if self._local_done else None)
                if not events and self._local_done:
                    break
                ready = {key.fileobj for key, seen in events if seen & selectors.EVENT_READ}
                if self.local in ready:
                    self._read_local()
                if self.remote in ready:
                    self._read_remote()

    def _finished(self) -> bool:
        """The pod hung up and the local side has all of it; or the local side hung up and the pod was told."""
        return (self._remote_done and not self.to_local) or (self._local_done and not self.to_remote)

    @staticmethod
    def _want(selector: selectors.BaseSelector, sock: socket.socket, read: bool, write: bool) -> None:
        events = (selectors.EVENT_READ if read else 0) | (selectors.EVENT_WRITE if write else 0)
        if sock in selector.get_map():
            if events:
                selector.modify(sock, events)
            else:
                selector.unregister(sock)
        elif events:
            selector.register(sock, events)

    def _flush(self) -> None:
        for sock, buffer in ((self.remote, self.to_remote), (self.local, self.to_local)):
            with contextlib.suppress(BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                while buffer:
                    # TLS must be offered the same bytes again after a short write, so the buffer only ever grows at its end.
                    del buffer[: sock.send(buffer[:CHUNK])]

    def _read_local(self) -> None:
        try:
            data = self.local.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.to_remote += frame(BINARY, bytes([DATA]) + data)
        elif not self._local_done:
            self._local_done = True
            self.to_remote += frame(CLOSE, struct.pack("!H", 1000))

    def _read_remote(self) -> None:
        """Reads until TLS has nothing decrypted left: a selector does not see what it holds back."""
        while not self._remote_done and len(self.to_local) < FULL:
            try:
                data = self.remote.recv(CHUNK)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                return
            except OSError:
                data = b""
            if not data:
                self._remote_done = True
                return
            self._received(data)

    def _received(self, data: bytes) -> None:
        for opcode, _final, payload in self._frames.feed(data):
            if opcode == CLOSE:
                self._remote_done = True
            elif opcode == PING:
                self.to_remote += frame(PONG, payload)
            elif opcode in (TEXT, BINARY) and payload:
                self._channel = payload[0]
                self._message(payload[1:])
            elif opcode == CONTINUATION:
                self._message(payload)

    def _message(self, data: bytes) -> None:
        if self._channel not in self._greeted:  # the port, little endian
            self._greeted.add(self._channel)
            data = data[2:]
        if self._channel == DATA:
            self.to_local += data
        elif self._channel == ERROR and data:
            self.told(data.decode("utf-8", "replace").strip())
            self._remote_done = True
