# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A transaction is a list of steps, each of which touched one backend or called one agent; all of them are reported, whatever failed."""

from __future__ import annotations

import asyncio
import re
import time
import typing as t
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
from prometheus_client import Histogram

from progressive import tracing
from progressive.backends import Backend, BackendError, first_line

Json = dict[str, t.Any]
T = t.TypeVar("T")

# Passed on to whoever is called next, so that a mesh's spans and our log lines belong together.
TRACE_HEADERS = ("x-request-id", "traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled")

IDENTIFIER = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True)
class Step:
    """``component`` did something with ``backend``; ``error`` is empty when ok."""

    component: str
    backend: str
    ok: bool
    seconds: float
    error: str = ""


class StepError(Exception):
    """A called agent failed; ``answer`` is what it said, its own steps included."""

    def __init__(self, message: str, answer: Json | None = None) -> None:
        super().__init__(message)
        self.answer = answer or {}


def identifier(given: str | None) -> str:
    """The caller's id when it is one, else a new one."""
    return given if given and IDENTIFIER.fullmatch(given) else uuid4().hex


async def call(client: httpx.AsyncClient, url: str, body: Json, headers: Mapping[str, str]) -> Json:
    """Ask an agent for its plan; a connection that the other side had closed meanwhile is tried once more (the id makes it safe)."""
    told = {"http.request.method": "POST", "server.address": urlsplit(url).hostname or "", "url.full": f"{url}/api/v1/plan"}
    for last in (False, True):
        try:
            with tracing.client("POST /api/v1/plan", told) as span:
                response = await client.post(f"{url}/api/v1/plan", json=body, headers=tracing.inject(headers))
                span.set_attribute("http.response.status_code", response.status_code)
                if response.status_code != 200:
                    tracing.failed(span, f"answered {response.status_code}")
            break
        except httpx.TimeoutException as error:
            raise StepError(f"no answer from {url} in time ({type(error).__name__})") from error
        except httpx.TransportError as error:
            if last:
                raise StepError(f"cannot reach {url}: {first_line(error)}") from error
    try:
        answer = response.json()
    except ValueError:
        answer = {}
    if not isinstance(answer, dict):
        answer = {}
    if response.status_code != 200:
        raise StepError(f"{url} answered {response.status_code}: {answer.get('error') or 'see its steps'}", answer)
    return answer


def trace(headers: Mapping[str, str], transaction: str) -> dict[str, str]:
    """The headers to pass on with a call. Where spans are made here, the context is theirs to pass on."""
    passed = () if tracing.enabled() else TRACE_HEADERS
    return {**{name: headers[name] for name in passed if name in headers}, "x-request-id": transaction}


@dataclass(frozen=True)
class Part:
    """What one backend, agent or group of them contributed: steps, and pieces of the plan by specialization."""

    steps: list[Json]
    plan: Json = field(default_factory=dict)

    @classmethod
    def join(cls, parts: Iterable[Part]) -> Part:
        steps: list[Json] = []
        plan: Json = {}
        for part in parts:
            steps += part.steps
            plan |= part.plan
        return cls(steps, plan)

    def answer(self, transaction: str, **more: t.Any) -> tuple[Json, int]:
        """The response's body and status: 200 when every step was ok, 503 otherwise."""
        ok = all(step["ok"] for step in self.steps)
        return {"ok": ok, "id": transaction, **more, "plan": self.plan, "steps": self.steps}, 200 if ok else 503


class Transactor:
    """Runs a component's steps and measures them."""

    def __init__(self, component: str, backends: Mapping[str, Backend], client: httpx.AsyncClient, durations: Histogram) -> None:
        self.component = component
        self.backends = backends
        self.client = client
        self.durations = durations

    async def attempt(self, backend: str, work: Awaitable[T]) -> tuple[Step, T | None, Json]:
        """One step; a failure of the platform becomes the step's error, a mistake in the program is raised.

        Returns the step, the result when it was ok, and what a failed agent said.
        """
        start = time.perf_counter()
        result: T | None = None
        said: Json = {}
        error = ""
        with tracing.step(self.component, backend) as span:
            try:
                result = await work
            except (BackendError, StepError) as failure:
                error, said = first_line(failure), getattr(failure, "answer", {})
                tracing.failed(span, error)
        step = Step(self.component, backend, not error, round(time.perf_counter() - start, 6), error)
        self.durations.labels(backend=backend, ok=str(step.ok).lower()).observe(step.seconds)
        return step, result, said

    async def touch_all(self, transaction: str) -> Part:
        """One entry written to and read from every backend, side by side."""
        key = f"{transaction}:{self.component}"
        touches = (self.attempt(name, backend.touch(key, transaction)) for name, backend in self.backends.items())
        return Part([asdict(step) for step, _unused, _unused in await asyncio.gather(*touches)])

    async def ask(self, name: str, url: str, body: Json, headers: Mapping[str, str]) -> Part:
        """An agent's plan; its own steps follow the call's, also when it failed."""
        step, answer, said = await self.attempt(name, call(self.client, url, body, headers))
        known = answer or said
        return Part([asdict(step), *known.get("steps", [])], known.get("plan", {}))
