# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The application: a small item store, and transactions that touch every backend and every agent."""

from __future__ import annotations

import asyncio
import os
import sys
import typing as t

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from progressive import planning
from progressive.backends import BackendError, RedisBackend
from progressive.metrics import Metrics
from progressive.service import Service, body_of, json_errors, main
from progressive.settings import Settings, app_settings
from progressive.transaction import IDENTIFIER, Part, trace


class App:
    """The work of the application."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.settings = service.settings
        agents = self.settings.agents
        # The coordinator asks the other agents itself; without one, the app does.
        self.agents = {name: url for name, url in agents.items() if name == self.settings.coordinator} or dict(agents)
        self.items = next((backend for backend in service.backends.values() if isinstance(backend, RedisBackend)), None)

    async def information(self, _request: Request) -> Response:
        return JSONResponse(self.service.information())

    async def transaction(self, request: Request) -> Response:
        """Every backend and agent, side by side; 200 when all did their part, 503 otherwise, the steps in either case."""
        try:
            body = await body_of(request)
            given = body.get("profile", {}) if isinstance(body, dict) else body
            planning.profile(given)
        except ValueError as error:
            return JSONResponse({"ok": False, "error": str(error)}, 400)
        transaction: str = request.state.request_id
        headers = trace(request.headers, transaction)
        sent = {"id": transaction, "profile": given}
        parts = await asyncio.gather(
            self.service.work.touch_all(transaction),
            *(self.service.work.ask(name, url, sent, headers) for name, url in self.agents.items()),
        )
        answer, status = Part.join(parts).answer(transaction)
        return JSONResponse(answer, status)

    async def item(self, request: Request) -> Response:
        """GET and PUT /api/v1/items/<key>: any JSON value up to 64 KiB, with a version that counts its writes."""
        key = request.path_params["key"]
        if not IDENTIFIER.fullmatch(key):
            return JSONResponse({"ok": False, "error": "a key is 1 to 128 letters, digits, dots, dashes and underscores"}, 400)
        if self.items is None:
            return JSONResponse({"ok": False, "error": "no backend that stores items is configured"}, 503)
        try:
            found = await (self.items.put_item(key, await body_of(request)) if request.method == "PUT" else self.items.get_item(key))
        except ValueError as error:
            return JSONResponse({"ok": False, "error": str(error)}, 400)
        except BackendError as error:
            return JSONResponse({"ok": False, "error": str(error)}, 503)
        if found is None:
            return JSONResponse({"ok": False, "error": f"there is no item {key!r}"}, 404)
        return JSONResponse(
            {"key": key, "value": found.value, "version": found.version}, 201 if found.version == 1 and request.method == "PUT" else 200
        )


def build(service: Service) -> ASGIApp:
    app = App(service)
    routes = [
        *service.health_routes(),
        Route("/api/v1/info", app.information),
        Route("/api/v1/transaction", app.transaction, methods=["POST"]),
        Route("/api/v1/items/{key}", app.item, methods=["GET", "PUT"]),
    ]
    handlers: dict[t.Any, t.Any] = {404: json_errors(404), 405: json_errors(405), Exception: json_errors(500)}
    return Starlette(routes=routes, exception_handlers=handlers)


def metrics(_settings: Settings) -> Metrics:
    return Metrics("app", {"component": "app"})


if __name__ == "__main__":
    sys.exit(main(app_settings, metrics, build, os.environ))
