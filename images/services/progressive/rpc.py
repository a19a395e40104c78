# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""gRPC: the standard health service (grpc.health.v1) of an agent, and asking a peer for it."""

from __future__ import annotations

import asyncio
import time
import typing as t

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from progressive import tracing
from progressive.transaction import StepError

SERVICES = ("", "progressive.Agent")

# A peer that comes back is found within a second (the library's default backs off to two minutes), and a new channel is a new
# connection (by default it would share the old one's).
CHANNEL = (
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


class Traced(grpc.aio.ServerInterceptor):
    """A span for each call whose caller traces; probes do not."""

    async def intercept_service(self, continuation: t.Callable[[t.Any], t.Awaitable[t.Any]], details: t.Any) -> t.Any:
        handler = await continuation(details)
        headers = {key: value for key, value in details.invocation_metadata if isinstance(value, str)}
        if handler is None or handler.unary_unary is None or "traceparent" not in headers:
            return handler

        async def traced(request: t.Any, context: t.Any) -> t.Any:
            with tracing.server(details.method.lstrip("/"), headers, {"rpc.system": "grpc"}):
                return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(traced, handler.request_deserializer, handler.response_serializer)


class HealthServer:
    """Serves health on its own port; SERVING means what readiness means."""

    def __init__(self, host: str, port: int) -> None:
        self.host = f"[{host}]" if ":" in host else host
        self.port = port
        self.health = health_aio.HealthServicer()
        self.server: grpc.aio.Server | None = None

    async def start(self) -> None:
        self.server = grpc.aio.server(interceptors=[Traced()] if tracing.enabled() else [], options=[("grpc.so_reuseport", 0)])
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


# Between a Service's learning that a pod drains and our next connection to it.
RETRY_PAUSE = 0.1


class Channels:
    """One kept channel a peer."""

    def __init__(self) -> None:
        self.channels: dict[str, grpc.aio.Channel] = {}

    async def serving(self, address: str, timeout: float) -> None:
        """Return when the peer says SERVING; raise StepError when it does not within ``timeout`` seconds.

        A kept channel is tied to one pod. When that pod drains or is gone, the next connection reaches another one, so a
        refusal is asked again on a new channel.
        """
        deadline = time.monotonic() + timeout
        while True:
            refusal = await self._ask(address, max(0.1, deadline - time.monotonic()))
            if not refusal:
                return
            await self._forget(address)
            if time.monotonic() + RETRY_PAUSE > deadline:
                raise StepError(f"gRPC health of {address}: {refusal}")
            await asyncio.sleep(RETRY_PAUSE)

    async def _ask(self, address: str, timeout: float) -> str:
        """Empty for SERVING, otherwise the status's or the error's name."""
        channel = self.channels.get(address) or grpc.aio.insecure_channel(address, options=CHANNEL)
        self.channels[address] = channel
        host, _colon, _port = address.rpartition(":")
        try:
            with tracing.client("grpc.health.v1.Health/Check", {"rpc.system": "grpc", "server.address": host}):
                context = tuple(tracing.inject({}).items()) or None
                wanted = health_pb2.HealthCheckRequest(service="")
                answer = await health_pb2_grpc.HealthStub(channel).Check(wanted, timeout=timeout, metadata=context)
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
        except asyncio.CancelledError:
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise
            return "UNAVAILABLE"  # another request's refusal closed the channel under this one
        return (
            ""
            if answer.status == health_pb2.HealthCheckResponse.SERVING
            else str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
        )

    async def _forget(self, address: str) -> None:
        if channel := self.channels.pop(address, None):
            await channel.close(grace=1)

    async def close(self) -> None:
        await asyncio.gather(*(channel.close() for channel in self.channels.values()))
