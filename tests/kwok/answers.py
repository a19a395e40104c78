# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stands for every pod that KWOK says is Ready (a simulator): health over HTTP and gRPC, metrics, and a transaction in which all goes well.

python answers.py PORT_OF_HTTP PORT_OF_METRICS PORT_OF_GRPC
"""

from __future__ import annotations

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

BACKENDS = ("redis", "mongodb", "postgresql")
AGENTS = ["mca", "npa", "wpa", *(f"agent-{number}" for number in range(4, 201))]


def exposition() -> str:
    """The names that the checks of the application and the agents ask for."""
    lines = []
    for who in ("app", "agent"):
        lines += [f"# TYPE {who}_requests_total counter", f"{who}_requests_total 1"]
        lines += [f"# TYPE {who}_requests_per_second gauge", f"{who}_requests_per_second 1"]
        lines += [f"# TYPE {who}_request_duration_seconds histogram"]
        lines += [f'{who}_request_duration_seconds_bucket{{le="{edge}"}} 1' for edge in ("0.1", "1", "+Inf")]
        lines += [f"{who}_request_duration_seconds_sum 0.1", f"{who}_request_duration_seconds_count 1"]
    return "\n".join([*lines, "# TYPE backend_up gauge", 'backend_up{backend="redis"} 1', ""])


def steps() -> list[dict[str, object]]:
    pairs = [(who, backend) for who in ("app", *AGENTS) for backend in BACKENDS]
    pairs += [("app", "mca"), *(("mca", peer) for peer in AGENTS[1:]), *(("mca", f"{peer}/grpc") for peer in AGENTS[1:])]
    return [{"component": who, "backend": backend, "ok": True, "seconds": 0.001} for who, backend in pairs]


WELL = json.dumps({"ok": True, "status": "ok"}).encode()
METRICS = exposition().encode()
DONE = json.dumps({"ok": True, "id": "simulated", "steps": steps()}).encode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(METRICS if self.path == "/metrics" else WELL)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.answer(DONE)

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4" if body is METRICS else "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    http, metrics, rpc = map(int, sys.argv[1:4])
    for port in (http, metrics):
        threading.Thread(target=Server(("127.0.0.1", port), Handler).serve_forever, daemon=True).start()
    server = grpc.server(ThreadPoolExecutor(8))
    service = health.HealthServicer()
    service.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(service, server)
    server.add_insecure_port(f"127.0.0.1:{rpc}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
