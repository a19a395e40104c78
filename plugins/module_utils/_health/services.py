# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks that talk to the pods behind a Service: HTTP, gRPC, metrics, a transaction (private: may change without notice)."""

from __future__ import annotations

import typing as t
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.progressive.platform.plugins.module_utils._health import exposition
from ansible_collections.progressive.platform.plugins.module_utils._health import grpc as grpc_health
from ansible_collections.progressive.platform.plugins.module_utils._health.cluster import Answer, Endpoint
from ansible_collections.progressive.platform.plugins.module_utils._health.model import Finding, Options, plural, verdict
from ansible_collections.progressive.platform.plugins.module_utils._health.scene import Scene
from ansible_collections.progressive.platform.plugins.module_utils._kube.forward import forward
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

MISSING = object()
AT_ONCE = 4  # pods of one Service asked at the same time


def http(options: Options, scene: Scene, until: float) -> Finding:
    """Every ready pod of the Service answers with one of the wanted statuses, and with the wanted values in its JSON."""

    def ask(at: Endpoint) -> str:
        return answer_problem(scene.cluster.http(at, options["method"], options["path"], until), options["status"], options["json"])

    wanted = f"{options['method']} {options['path']} answers {' or '.join(map(str, options['status']))}"
    return every_pod(wanted, options, scene, ask)


def grpc(options: Options, scene: Scene, until: float) -> Finding:
    """Every ready pod of the Service says SERVING for each name, by the standard gRPC health service."""

    def ask(at: Endpoint) -> str:
        for name in options["names"]:
            with forward(scene.cluster.client, at.namespace, at.pod, at.port) as sock:
                status = grpc_health.check(sock, name, f"{at.pod}:{at.port}", lambda: until - scene.clock.now())
            if status != grpc_health.SERVING:
                return f"{name or 'the server'} is {status}"
        return ""

    return every_pod("gRPC health is SERVING", options, scene, ask)


def metrics(options: Options, scene: Scene, until: float) -> Finding:
    """Every ready pod of the Service gives a valid exposition with the named metrics in it."""

    def ask(at: Endpoint) -> str:
        answer = scene.cluster.http(at, "GET", options["path"], until)
        if answer.status != 200:
            return f"GET {options['path']} answered {answer.status}: {answer.excerpt()}"
        found = exposition.parse(answer.body.decode("utf-8", "replace"))
        missing = [name for name in options["names"] if not found.has(name)]
        return "; ".join(found.problems[:3] + ([f"missing: {', '.join(missing)}"] if missing else []))

    names = f" with {', '.join(options['names'])}" if options["names"] else ""
    return every_pod(f"a valid exposition{names}", options, scene, ask)


def transaction(options: Options, scene: Scene, until: float) -> Finding:
    """One request through the application succeeds in every step, and every wanted step is there."""
    expected = f"POST {options['path']}: every step ok" + (f", among them {', '.join(options['steps'])}" if options["steps"] else "")
    if scene.check_mode:
        return Finding(True, expected, "not sent", "Not sent: a transaction writes, and this is check mode.", skipped=True)
    at = scene.cluster.endpoints(options["namespace"], options["service"], options["port"])[0]
    answer = scene.cluster.http(at, "POST", options["path"], until, body=options["body"])
    return transaction_finding(expected, answer, options["steps"])


def transaction_finding(expected: str, answer: Answer, wanted: Sequence[str]) -> Finding:
    """Judges ``{ok, id, steps: [{component, backend, ok, seconds, error}]}``.

    A wanted step is ``component``, ``backend`` or ``component/backend``.
    """
    body = answer.json()
    steps = body.get("steps") if isinstance(body, dict) else None
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        return verdict(
            expected, f"status {answer.status}, no list of steps", [f"the answer {answer.status} tells no steps: {answer.excerpt()}"]
        )
    problems = [f"step {step_name(step)} failed: {step.get('error') or 'no reason given'}" for step in steps if step.get("ok") is not True]
    seen = {key for step in steps for key in (step_name(step), str(step.get("component")), str(step.get("backend")))}
    problems += [f"step {name} was not taken" for name in wanted if name not in seen]
    if not steps:
        problems.append("no step was taken")
    if body.get("ok") is not True or answer.status != 200:
        problems.append(f"the transaction answered {answer.status} with ok={body.get('ok')}")
    good = sum(1 for step in steps if step.get("ok") is True)
    return verdict(expected, f"{good} of {plural(len(steps), 'step')} ok", problems, {"id": body.get("id"), "steps": steps})


def step_name(step: Mapping[str, t.Any]) -> str:
    return f"{step.get('component', '?')}/{step.get('backend', '?')}"


def answer_problem(answer: Answer, statuses: Sequence[int], wanted: Mapping[str, t.Any]) -> str:
    """What is wrong with an answer, or nothing. ``wanted`` maps dotted paths into its JSON to the values they must have."""
    if answer.status not in statuses:
        return f"answered {answer.status}: {answer.excerpt()}"
    body = answer.json() if wanted else None
    wrong = [f"{path} is {_shown(value)}, {wanted[path]!r} wanted" for path in wanted if (value := dig(body, path)) != wanted[path]]
    return "; ".join(wrong)


def dig(body: t.Any, path: str) -> t.Any:
    """The value at a dotted path of objects and lists (``items.0.name``), or MISSING."""
    for piece in path.split("."):
        if isinstance(body, dict) and piece in body:
            body = body[piece]
        elif isinstance(body, list) and piece.isdigit() and int(piece) < len(body):
            body = body[int(piece)]
        else:
            return MISSING
    return body


def _shown(value: t.Any) -> str:
    return "missing" if value is MISSING else repr(value)


def every_pod(expected: str, options: Options, scene: Scene, ask: Callable[[Endpoint], str]) -> Finding:
    """Asks each ready pod behind the Service; ``ask`` returns what is wrong."""
    endpoints = scene.cluster.endpoints(options["namespace"], options["service"], options["port"])

    def safely(at: Endpoint) -> tuple[str, float]:
        begin = scene.clock.now()
        try:
            problem = ask(at)
        except PlatformError as error:
            problem = error.message
        return problem, round(scene.clock.now() - begin, 3)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = dict(zip((at.pod for at in endpoints), pool.map(safely, endpoints), strict=True))
    problems = [f"pod {pod}: {problem}" for pod, (problem, _unused) in outcomes.items() if problem]
    if len(endpoints) < options["minimum"]:
        problems.append(f"{plural(len(endpoints), 'ready pod')}, at least {options['minimum']} wanted")
    good = len(endpoints) - sum(1 for problem, _unused in outcomes.values() if problem)
    details = {"pods": [{"pod": pod, "ok": not problem, "message": problem, "seconds": took} for pod, (problem, took) in outcomes.items()]}
    return verdict(f"{expected}, from every pod", f"{good} of {plural(len(endpoints), 'pod')}", problems, details)
