# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the app and the agents share: health, metrics, serving on several ports, and a shutdown that loses no request."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
import time
import typing as t
from collections.abc import Awaitable, Callable, Iterator, Mapping

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from progressive import __version__, logs, tracing
from progressive.backends import Backend, BackendError, backends_from
from progressive.metrics import Metrics
from progressive.settings import Environment, Settings, SettingsError
from progressive.transaction import Transactor, identifier

logger = logging.getLogger("progressive")

# Longer than any client of ours keeps an idle connection: the client closes first, so no request meets a closing server.
KEEP_ALIVE_SECONDS = 75
NOT_CHECKED = "the backends were not checked yet"
FLUSH_SECONDS = 2.0  # for the last spans of a process that ends
EXIT_CONFIGURATION = 78  # sysexits.h EX_CONFIG


class Extra(t.Protocol):
    """A further server of the process (gRPC) that follows the service's life."""

    async def start(self) -> None: ...

    async def readiness(self, ready: bool) -> None: ...

    async def stop(self, grace: float) -> None: ...


class Service:
    """The state of one process: its phase, what its backends said last, and the connections it keeps."""

    def __init__(self, settings: Settings, backends: Mapping[str, Backend], metrics: Metrics) -> None:
        self.settings = settings
        self.backends = backends
        self.metrics = metrics
        self.phase: t.Literal["starting", "serving", "draining"] = "starting"
        self.problems: dict[str, str] = dict.fromkeys(backends, NOT_CHECKED)
        self.http = httpx.AsyncClient(timeout=settings.call_seconds, trust_env=False)
        self.work = Transactor(settings.component, backends, self.http, metrics.steps)
        self.extras: list[Extra] = []
        self.closing: list[Callable[[], Awaitable[None]]] = [self.http.aclose, *(backend.close for backend in backends.values())]

    @property
    def ready(self) -> bool:
        return self.phase == "serving" and not self.problems

    def information(self) -> dict[str, t.Any]:
        """Who this is: for people and for checks that want to see which pod answered."""
        settings = self.settings
        return {
            "component": settings.component,
            "version": __version__,
            "instance": settings.instance,
            "node": settings.node,
            "environment": settings.environment,
            "backends": sorted(self.backends),
            "agents": sorted(settings.agents),
            "phase": self.phase,
        }

    # -- health --------------------------------------------------------------------------------------------------------

    def health_routes(self) -> list[Route]:
        """Liveness never depends on a backend: restarting this process would not bring it back."""

        async def alive(_request: Request) -> Response:
            return JSONResponse({"status": "ok", "component": self.settings.component, "phase": self.phase})

        async def started(_request: Request) -> Response:
            return JSONResponse({"status": self.phase}, 503 if self.phase == "starting" else 200)

        async def ready(_request: Request) -> Response:
            reasons = [f"this process is {self.phase}"] if self.phase != "serving" else []
            reasons += self.problems.values()
            return JSONResponse({"status": "unavailable" if reasons else "ready", "reasons": reasons}, 503 if reasons else 200)

        return [Route("/health", alive), Route("/health/startup", started), Route("/health/ready", ready)]

    def operations(self) -> Starlette:
        """The second port: metrics, and the same health answers."""

        async def metrics(request: Request) -> Response:
            body, content_type = self.metrics.render(request.headers.get("accept", ""))
            return Response(body, headers={"content-type": content_type})

        return Starlette(routes=[*self.health_routes(), Route("/metrics", metrics)])

    async def check(self, backend: Backend) -> None:
        """Ask one backend once; note and log what changed."""
        try:
            await backend.check()
            problem = ""
        except BackendError as error:
            problem = str(error)
        except Exception as error:
            # A mistake of ours must not leave the last good answer standing.
            logger.exception("the check of %s failed in an unexpected way", backend.name)
            problem = f"{backend.name}: {type(error).__name__}"
        before = self.problems.pop(backend.name, "")
        if problem:
            self.problems[backend.name] = problem
        self.metrics.backend_up.labels(backend=backend.name).set(0 if problem else 1)
        if bool(problem) != bool(before) or before == NOT_CHECKED:
            level = logging.WARNING if problem else logging.INFO
            logs.event(logger, problem or f"{backend.name} is available", level=level, backend=backend.name)

    async def watch(self) -> None:
        """Check every backend for ever, side by side."""
        while True:
            await asyncio.gather(*(self.check(backend) for backend in self.backends.values()))
            await self._announce()
            await asyncio.sleep(self.settings.check_seconds)

    async def _announce(self) -> None:
        for extra in self.extras:
            await extra.readiness(self.ready)

    # -- life ----------------------------------------------------------------------------------------------------------

    async def run(self, public: ASGIApp, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set, then drain.

        Draining: readiness turns false, so that no new connection is sent here; every answer closes its connection; requests
        are still served for DRAIN_SECONDS, the time a cluster needs to learn it. Then the port closes, and what is in flight
        has SHUTDOWN_SECONDS to finish. The pod's terminationGracePeriodSeconds must be longer than both together.
        """
        settings = self.settings
        front = _server(Observed(public, self), settings.host, settings.port, settings.shutdown_seconds)
        back = _server(self.operations(), settings.host, settings.ops_port, 1)
        serving = [asyncio.create_task(front.serve()), asyncio.create_task(back.serve())]
        watching = asyncio.create_task(self.watch())
        try:
            for extra in self.extras:
                await extra.start()
            self.phase = "serving"
            logs.event(logger, "serving", port=front.port, metrics_port=back.port)
            await stop.wait()
            self.phase = "draining"
            logs.event(logger, "draining", seconds=settings.drain_seconds)
            await self._announce()
            await asyncio.sleep(settings.drain_seconds)
            front.should_exit = True
            await serving[0]
            for extra in self.extras:
                await extra.stop(settings.shutdown_seconds)
        finally:
            watching.cancel()
            front.should_exit = back.should_exit = True
            await asyncio.gather(watching, *serving, return_exceptions=True)
            await asyncio.gather(*(close() for close in self.closing))
        logs.event(logger, "stopped")


class Observed:
    """Counts, times and logs API requests, gives each an id, and asks clients to reconnect elsewhere while draining."""

    def __init__(self, application: ASGIApp, service: Service) -> None:
        self.application = application
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        start = time.perf_counter()
        request_id = identifier(Headers(scope=scope).get("x-request-id"))
        scope.setdefault("state", {})["request_id"] = request_id
        status = 500

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                if self.service.phase == "draining":
                    headers["connection"] = "close"
            await send(message)

        measured = scope["path"].startswith("/api/")
        told = {"http.request.method": scope["method"], "progressive.request_id": request_id}
        with (
            self.service.metrics.in_flight.track_inprogress() if measured else contextlib.nullcontext(),
            tracing.server(scope["method"], Headers(scope=scope), told) if measured else contextlib.nullcontext(tracing.NOTHING) as span,
        ):
            try:
                await self.application(scope, receive, observed)
            finally:
                if measured:
                    describe(span, scope, status)
                    seconds = time.perf_counter() - start
                    self.service.metrics.answered(status, seconds)
                    logs.event(
                        logger,
                        "request",
                        method=scope["method"],
                        path=scope["path"],
                        status=status,
                        seconds=round(seconds, 6),
                        id=request_id,
                    )


def describe(span: tracing.Span, scope: Scope, status: int) -> None:
    """The span's name has the route and not the path: an item's key is nobody's name."""
    if route := scope.get("route"):
        span.update_name(f"{scope['method']} {route.path}")
        span.set_attribute("http.route", route.path)
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        tracing.failed(span, f"answered {status}")


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: the service decides when which port closes."""

    port: int
    listener: socket.socket

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await super().serve([self.listener])


def _server(application: ASGIApp, host: str, port: int, grace: float) -> _Server:
    config = uvicorn.Config(
        application,
        http="h11",
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, round(grace)),
    )
    server = _Server(config)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server.listener = socket.create_server((host, port), family=family, backlog=2048)
    server.port = server.listener.getsockname()[1]
    return server


Build = Callable[[Service], ASGIApp]


def main(read: Callable[[Environment], Settings], metrics: Callable[[Settings], Metrics], build: Build, environ: Environment) -> int:
    """The process: configuration, event loop, signals; returns the exit code."""
    try:
        settings = read(environ)
        logs.configure(settings.log_level, {"component": settings.component, "instance": settings.instance}, settings.secrets)
        backends = backends_from(environ)
        tracing.configure(settings)
    except SettingsError as error:
        logs.configure("INFO", {})
        for problem in error.problems:
            logger.error(problem)
        return EXIT_CONFIGURATION

    async def life() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        service = Service(settings, backends, metrics(settings))
        await service.run(build(service), stop)

    try:
        asyncio.run(life())
    except OSError as error:
        logger.error("cannot serve: %s", error)
        return 1
    finally:
        tracing.close(FLUSH_SECONDS)
    return 0


def json_errors(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Errors of routing and of the program as JSON, without a trace: that goes to the log."""

    async def handler(_request: Request, error: Exception) -> Response:
        detail = getattr(error, "detail", "internal error")
        return JSONResponse({"ok": False, "error": detail}, getattr(error, "status_code", status))

    return handler


async def body_of(request: Request, limit: int = 65536) -> t.Any:
    """The request's JSON body ({} when empty); ValueError says what is wrong with it."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise ValueError(f"the body is larger than {limit} bytes")
        chunks.append(chunk)
    try:
        return json.loads(b"".join(chunks) or b"{}")
    except ValueError as error:
        raise ValueError(f"the body is not JSON: {error}") from error
