# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hand-written gRPC health call against grpcio's own server and health service."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from ansible_collections.progressive.platform.plugins.module_utils._health.grpc import check
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


@pytest.fixture(scope="module")
def port():
    server = grpc.server(ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for name, status in {"": "SERVING", "progressive.Agent": "SERVING", "draining": "NOT_SERVING", "n" * 300: "SERVING"}.items():
        servicer.set(name, health_pb2.HealthCheckResponse.ServingStatus.Value(status))
    number = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield number
    server.stop(None)


def ask(port: int, name: str, seconds: float = 5.0) -> str:
    deadline = time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as sock:
        return check(sock, name, f"127.0.0.1:{port}", lambda: deadline - time.monotonic())


@pytest.mark.parametrize(
    ("name", "status"), [("", "SERVING"), ("progressive.Agent", "SERVING"), ("draining", "NOT_SERVING"), ("n" * 300, "SERVING")]
)
def test_the_status_is_read(port, name, status):
    assert ask(port, name) == status


def test_an_unknown_service_is_not_serving(port):
    assert ask(port, "nobody") == "UNKNOWN"


def test_a_server_without_the_health_service():
    server = grpc.server(ThreadPoolExecutor(1))
    number = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with pytest.raises(PlatformError, match="refused the health call"):
        ask(number, "")
    server.stop(None)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak gRPC"),
        (b"", "hung up"),
        (None, "did not answer in time"),
    ],
)
def test_another_protocol_no_answer_and_silence(answer, message):
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def serve() -> None:
        with listener.accept()[0] as peer:
            peer.recv(65536)
            if answer is None:
                done.wait(10)
            elif answer:
                peer.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with pytest.raises(PlatformError, match=message):
            ask(listener.getsockname()[1], "", seconds=0.5)
    finally:
        done.set()
        thread.join(5)
        listener.close()
