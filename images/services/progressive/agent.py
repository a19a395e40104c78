# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An agent: plans by its specialization, or, as the coordinator (AGENT_TYPE=mca), asks its peers and joins their plans."""

from __future__ import annotations

import asyncio
import os
import sys
import typing as t
from dataclasses import asdict
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from progressive import planning
from progressive.metrics import Metrics
from progressive.rpc import Channels, HealthServer
from progressive.service import Service, body_of, json_errors, main
from progressive.settings import Settings, agent_settings
from progressive.transaction import Json, Part, identifier, trace

SPECIALIZATIONS = {"npa": "nutrition", "wpa": "workout"}
PEER_GRPC_PORT = 9000


class Agent:
    """The work of one agent."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.settings = service.settings
        self.work = service.work
        self.channels = Channels()
        self.coordinates = self.settings.component == self.settings.coordinator
        self.specialization = self.settings.specialization or SPECIALIZATIONS.get(self.settings.component, self.settings.component)

    async def plan(self, request: Request) -> Response:
        try:
            body = await body_of(request)
            given = body.get("profile", {}) if isinstance(body, dict) else body
            person = planning.profile(given)
        except ValueError as error:
            return JSONResponse({"ok": False, "error": str(error)}, 400)
        transaction = identifier(body.get("id") if isinstance(body.get("id"), str) else request.state.request_id)
        headers = trace(request.headers, transaction)
        parts = await asyncio.gather(
            self.work.touch_all(transaction),
            self.coordinate({"id": transaction, "profile": given}, headers) if self.coordinates else self.own(person),
        )
        answer, status = Part.join(parts).answer(transaction, agent=self.settings.component, instance=self.settings.instance)
        return JSONResponse(answer, status)

    async def own(self, person: planning.Profile) -> Part:
        return Part([], {self.specialization: planning.plan(self.specialization, person)})

    async def coordinate(self, body: Json, headers: dict[str, str]) -> Part:
        """Every peer, side by side."""
        return Part.join(await asyncio.gather(*(self.peer(name, url, body, headers) for name, url in self.settings.agents.items())))

    async def peer(self, name: str, url: str, body: Json, headers: dict[str, str]) -> Part:
        """A peer's gRPC health, then its plan; one that is not serving is not asked."""
        address = self.settings.agents_grpc.get(name) or f"{urlsplit(url).hostname}:{PEER_GRPC_PORT}"
        health, _unused, _unused = await self.work.attempt(f"{name}/grpc", self.channels.serving(address, self.settings.call_seconds / 2))
        asked = [await self.work.ask(name, url, body, headers)] if health.ok else []
        return Part.join([Part([asdict(health)]), *asked])

    async def information(self, _request: Request) -> Response:
        return JSONResponse({**self.service.information(), "specialization": self.specialization, "coordinates": self.coordinates})


def build(service: Service) -> ASGIApp:
    agent = Agent(service)
    service.extras.append(HealthServer(service.settings.host, service.settings.grpc_port))
    service.closing.append(agent.channels.close)
    routes = [*service.health_routes(), Route("/api/v1/info", agent.information), Route("/api/v1/plan", agent.plan, methods=["POST"])]
    handlers: dict[t.Any, t.Any] = {404: json_errors(404), 405: json_errors(405), Exception: json_errors(500)}
    return Starlette(routes=routes, exception_handlers=handlers)


def metrics(settings: Settings) -> Metrics:
    return Metrics("agent", {"agent_type": settings.component})


if __name__ == "__main__":
    sys.exit(main(agent_settings, metrics, build, os.environ))
