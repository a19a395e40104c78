# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""gRPC: the standard health service (grpc.health.v1) of an agent, and asking a peer for it."""

from __future__ import annotations

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from progressive.transaction import StepError

SERVICES = ("", "progressive.Agent")

# A peer that comes back is found within a second; the library's default backs off to two minutes.
CHANNEL = (("grpc.max_reconnect_backoff_ms", 1000), ("grpc.initial_reconnect_backoff_ms", 100), ("grpc.enable_http_proxy", 0))


class HealthServer:
    """Serves health on its own port; SERVING means what readiness means."""

    def __init__(self, host: str, port: int) -> None:
        self.host = f"[{host}]" if ":" in host else host
        self.port = port
        self.health = health_aio.HealthServicer()
        self.server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self.server)
        await self.readiness(False)
        try:
            self.port = self.server.add_insecure_port(f"{self.host}:{self.port}")
        except RuntimeError as error:
            raise OSError(f"gRPC port {self.port}: {error}") from error
        await self.server.start()

    async def readiness(self, ready: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in SERVICES:
            await self.health.set(name, status)

    async def stop(self, grace: float) -> None:
        await self.health.enter_graceful_shutdown()
        if self.server is not None:
            await self.server.stop(grace)


class Channels:
    """One kept channel a peer."""

    def __init__(self) -> None:
        self.channels: dict[str, grpc.aio.Channel] = {}

    async def serving(self, address: str, timeout: float) -> None:
        """Return when the peer says SERVING; raise StepError otherwise."""
        if address not in self.channels:
            self.channels[address] = grpc.aio.insecure_channel(address, options=CHANNEL)
        stub = health_pb2_grpc.HealthStub(self.channels[address])
        try:
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=""), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise StepError(f"gRPC health of {address}: {error.code().name}") from error
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise StepError(f"gRPC health of {address}: {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}")

    async def close(self) -> None:
        await asyncio.gather(*(channel.close() for channel in self.channels.values()))
