# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Traces by OpenTelemetry, with W3C context, sent where OTEL_EXPORTER_OTLP_ENDPOINT says. Without it none of its libraries is even imported.

Nobody waits for a collector: spans lie in a queue of OTEL_BSP_MAX_QUEUE_SIZE, another thread sends them, and what does not fit is dropped.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import typing as t
from collections.abc import Iterator, Mapping

from progressive import logs
from progressive.settings import Settings

SEND_EVERY = 1.0  # seconds
SEND_TIMEOUT = 5.0  # seconds for a batch, its repetitions included
BATCH = 512  # spans at most
NO_PROXY = (("grpc.enable_http_proxy", 0),)
MESSAGE = 200  # characters of an error that go into a span

Attributes = Mapping[str, str | int]


class Span(t.Protocol):
    """What the services say of their own spans."""

    def update_name(self, name: str) -> None: ...

    def set_attribute(self, key: str, value: t.Any) -> None: ...


class _Nothing:
    """The span of a process that does not trace, and of work that belongs to no trace."""

    def update_name(self, name: str) -> None: ...

    def set_attribute(self, key: str, value: t.Any) -> None: ...


NOTHING = _Nothing()


class _Tracing:
    """A process that traces: the libraries, imported here, and the queue."""

    def __init__(self, settings: Settings, exporter: t.Any = None) -> None:
        from opentelemetry import propagate, trace
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        from progressive import __version__

        propagate.set_global_textmap(TraceContextTextMapPropagator())
        resource = {
            "service.name": settings.trace_name,
            "service.version": __version__,
            "service.instance.id": settings.instance,
            "k8s.node.name": settings.node,
            "deployment.environment.name": settings.environment,
        }
        provider = TracerProvider(
            # OTEL_RESOURCE_ATTRIBUTES adds to these.
            resource=Resource.create({key: value for key, value in resource.items() if value}),
            sampler=ParentBased(TraceIdRatioBased(settings.trace_ratio)),
            shutdown_on_exit=False,
        )
        self.queue = BatchSpanProcessor(
            exporter or OTLPSpanExporter(settings.trace_endpoint, timeout=SEND_TIMEOUT, channel_options=NO_PROXY),  # type: ignore[arg-type]
            max_queue_size=settings.trace_queue,
            max_export_batch_size=min(BATCH, settings.trace_queue),
            schedule_delay_millis=SEND_EVERY * 1000,
        )
        provider.add_span_processor(self.queue)
        self.tracer = provider.get_tracer("progressive", __version__)
        self.trace = trace
        self.propagate = propagate

    @contextlib.contextmanager
    def span(self, name: str, kind: str, attributes: Attributes, parent: t.Any = None) -> Iterator[Span]:
        """An error that leaves it is told by its class and, without secrets, its first line."""
        opened = self.tracer.start_as_current_span(
            name,
            parent,
            self.trace.SpanKind[kind],
            dict(attributes),
            record_exception=False,
            set_status_on_exception=False,
        )
        with opened as span:
            try:
                yield span
            except Exception as error:
                span.set_attribute("error.type", type(error).__name__)
                said = (str(error).strip().splitlines() or [""])[0]
                span.set_status(self.trace.StatusCode.ERROR, logs.masked(said)[:MESSAGE])
                raise


class _Process:
    """This process; it does not trace until it is told to."""

    tracing: _Tracing | None = None


@contextlib.contextmanager
def absent() -> Iterator[None]:
    """What is imported meanwhile does not find OpenTelemetry's libraries: a process that does not trace pays for none of them."""
    if "opentelemetry" in sys.modules:
        yield
        return
    sys.modules["opentelemetry"] = None  # type: ignore[assignment]  # so Python notes a module that is not to be had
    try:
        yield
    finally:
        del sys.modules["opentelemetry"]


def configure(settings: Settings, exporter: t.Any = None) -> None:
    """Trace from now on, if there is a collector; ``exporter`` takes its place in tests."""
    _Process.tracing = _Tracing(settings, exporter) if settings.trace_endpoint or exporter else None
    logs.context = ids if _Process.tracing else logs.nothing


def enabled() -> bool:
    return _Process.tracing is not None


def server(name: str, headers: Mapping[str, str], attributes: Attributes) -> contextlib.AbstractContextManager[Span]:
    """A request that came in; the caller's span is its parent, and decides whether it is recorded."""
    if (tracing := _Process.tracing) is None:
        return contextlib.nullcontext(NOTHING)
    return tracing.span(name, "SERVER", attributes, tracing.propagate.extract(dict(headers)))


def client(name: str, attributes: Attributes) -> contextlib.AbstractContextManager[Span]:
    """A call of ours."""
    return _within(name, "CLIENT", attributes)


def step(component: str, backend: str) -> contextlib.AbstractContextManager[Span]:
    """A step of a transaction, by which what a transaction tells of itself is found in its trace."""
    return _within(f"{component}/{backend}", "INTERNAL", {"progressive.step": f"{component}/{backend}"})


def _within(name: str, kind: str, attributes: Attributes) -> contextlib.AbstractContextManager[Span]:
    """What nobody asked for, a check of a backend for example, begins no trace of its own."""
    if (tracing := _Process.tracing) is None or not tracing.trace.get_current_span().get_span_context().is_valid:
        return contextlib.nullcontext(NOTHING)
    return tracing.span(name, kind, attributes)


def failed(span: Span, message: str) -> None:
    """Say that what the span is about did not succeed, although nothing was raised."""
    if (tracing := _Process.tracing) is not None and span is not NOTHING:
        t.cast("t.Any", span).set_status(tracing.trace.StatusCode.ERROR, logs.masked(message)[:MESSAGE])


def inject(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers with the current span as the parent of whoever is called with them."""
    carrier = dict(headers)
    if (tracing := _Process.tracing) is not None:
        tracing.propagate.inject(carrier)
    return carrier


def ids() -> dict[str, str]:
    """The current trace and span, for a log line."""
    if (tracing := _Process.tracing) is None:
        return {}
    context = tracing.trace.get_current_span().get_span_context()
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"} if context.is_valid else {}


def close(timeout: float) -> None:
    """Send what is left, for ``timeout`` seconds at most."""
    if (tracing := _Process.tracing) is not None:
        # A collector that is away would be waited for much longer; the process may end before this thread does.
        sending = threading.Thread(target=tracing.queue.shutdown, daemon=True)
        sending.start()
        sending.join(timeout)
