# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The check of traces: one transaction, and its trace as Jaeger has it, without a gap (private: may change without notice)."""

from __future__ import annotations

import secrets
import typing as t
from collections.abc import Iterator, Mapping, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._health.model import Finding, Options, age, plural, verdict
from ansible_collections.progressive.platform.plugins.module_utils._health.scene import Scene
from ansible_collections.progressive.platform.plugins.module_utils._health.services import step_name, transaction_finding
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")  # by OTLP's numbers
STEP = "progressive.step"  # the attribute by which a span says which step of a transaction it is
PAUSE = 0.5


class Span(t.NamedTuple):
    """What the check reads of a span; ``failed`` is what it says of its failure."""

    service: str
    name: str
    kind: str
    id: str
    parent: str
    step: str
    seconds: float
    failed: str

    @property
    def shown(self) -> str:
        return f"{self.service}: {self.name} ({self.kind})"


def trace(options: Options, scene: Scene, until: float) -> Finding:
    """Send a transaction that is to be traced, whatever the sampling, and wait until Jaeger has a span for everything that it says it did."""
    expected = "one trace without a gap, from the request to every step of the transaction and the call it made"
    if scene.check_mode:
        return Finding(True, expected, "not sent", "Not sent: a transaction writes, and this is check mode.", skipped=True)
    identity, caller = secrets.token_hex(16), secrets.token_hex(8)
    at = scene.cluster.endpoints(options["namespace"], options["service"], options["port"])[0]
    answer = scene.cluster.http(at, "POST", options["path"], until, body=options["body"], headers=context(identity, caller))
    steps = (answer.json() or {}).get("steps") or [] if isinstance(answer.json(), dict) else []
    failed = [f"the transaction itself: {problem}" for problem in transaction_finding("", answer, []).details.get("problems", [])]
    began = scene.clock.now()
    deadline = min(until, began + options["patience"])
    while True:
        spans = asked(options, scene, identity, until)
        problems = trace_problems(spans, steps, caller, f"{options['service']}: POST {options['path']}")
        if not problems or scene.clock.now() + PAUSE > deadline:
            break
        scene.clock.sleep(PAUSE)
    if not spans:
        problems = [
            f"no span of trace {identity} came to Jaeger within {age(options['patience'])}; the way is service, collector"
            f" ({options['collector']}), Jaeger: the first of them that is not well, or whose log tells of refused spans, is the cause"
        ]
    services = sorted({span.service for span in spans})
    observed = f"trace {identity}: {plural(len(spans), 'span')} of {', '.join(services) or 'nobody'}"
    if spans and not problems:
        observed += f", complete after {scene.clock.now() - began:.1f} s"
    return verdict(expected, observed, [*failed, *problems], {"trace": identity, "spans": [span._asdict() for span in spans]})


def context(identity: str, caller: str) -> dict[str, str]:
    """Headers of a request that is to be traced, by services and by proxies: Envoy (1.40) traces only what it has decided on itself too, and a 9 at that place
    of a request's id, which services pass on, is its own mark of what was chosen already."""
    parts = (identity[:8], identity[8:12], f"9{identity[13:16]}", identity[16:20], identity[20:])
    return {"traceparent": f"00-{identity}-{caller}-01", "x-request-id": "-".join(parts)}


def asked(options: Options, scene: Scene, identity: str, until: float) -> list[Span]:
    """The trace's spans so far; a trace that Jaeger does not know has none."""
    jaeger = scene.cluster.endpoints(options["jaeger_namespace"], options["jaeger_service"], options["jaeger_port"])[0]
    answer = scene.cluster.http(jaeger, "GET", f"/api/v3/traces/{identity}", until)
    if answer.status == 404:
        return []
    body = answer.json()
    if answer.status != 200 or not isinstance(body, Mapping):
        raise PlatformError(f"Jaeger ({jaeger.pod}) answered {answer.status} when it was asked for a trace: {answer.excerpt()}")
    return list(spans_of(body))


def spans_of(body: Mapping[str, t.Any]) -> Iterator[Span]:
    """The spans of an answer of Jaeger's query API, which is OTLP as JSON."""
    for group in (body.get("result") or {}).get("resourceSpans") or []:
        service = attributes((group.get("resource") or {}).get("attributes")).get("service.name", "?")
        for span in (span for scope in group.get("scopeSpans") or [] for span in scope.get("spans") or []):
            status = span.get("status") or {}
            yield Span(
                service,
                span.get("name", ""),
                kind_of(span.get("kind", 0)),
                span["spanId"],
                span.get("parentSpanId") or "",
                attributes(span.get("attributes")).get(STEP, ""),
                round((int(span.get("endTimeUnixNano") or 0) - int(span.get("startTimeUnixNano") or 0)) / 1e9, 6),
                str(status.get("message") or "failed") if status.get("code") in (2, "STATUS_CODE_ERROR") else "",
            )


def kind_of(kind: t.Any) -> str:
    """OTLP's JSON has a kind as its number or its name."""
    if isinstance(kind, int):
        return KINDS[kind] if kind < len(KINDS) else str(kind)
    return str(kind).removeprefix("SPAN_KIND_").lower()


def attributes(entries: t.Any) -> dict[str, str]:
    return {entry["key"]: str(next(iter((entry.get("value") or {}).values()), "")) for entry in entries or []}


def trace_problems(spans: Sequence[Span], steps: Sequence[Mapping[str, t.Any]], caller: str, request: str) -> list[str]:
    """What is missing: the request's own span, a step's, that of the call a step made, or one that others hang on."""
    known = {span.id for span in spans}
    parents: dict[str, list[Span]] = {}
    for span in spans:
        parents.setdefault(span.parent, []).append(span)
    taken = {span.step: span for span in spans if span.step}
    problems = [] if any(span.kind == "server" for span in parents.get(caller, [])) else [f"missing: {request} (server)"]
    for name in dict.fromkeys(step_name(step) for step in steps):
        if name not in taken:
            problems.append(f"missing: step {name}")
        elif not any(span.kind == "client" for span in parents.get(taken[name].id, [])):
            problems.append(f"missing: the call of step {name} (client)")
    # Who is served had a caller; where its span is missing, the trace is in pieces.
    problems += [
        f"missing: what called {span.shown}, span {span.parent or 'unknown'}"
        for span in spans
        if span.parent not in known and span.parent != caller
    ]
    return problems
