# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prometheus metrics of a service: traffic by constant labels, backends by name, and the process itself."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import choose_encoder

# The original's alert looks at 10 s, its probes at 1 s and less: both ends have buckets.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

# A second series for every counter, which nothing here reads.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Rate:
    """Events a second over the last ``window`` seconds; what an autoscaler reads as a gauge, so it falls to 0 when traffic stops."""

    def __init__(self, window: float = 15.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.window = window
        self.clock = clock
        self.started = clock()
        self.seconds: deque[tuple[int, int]] = deque()

    def count(self) -> None:
        second = int(self.clock())
        if self.seconds and self.seconds[-1][0] == second:
            self.seconds[-1] = (second, self.seconds[-1][1] + 1)
        else:
            self.seconds.append((second, 1))
        self._forget()

    def value(self) -> float:
        self._forget()
        # A young process divides by its age: 100 requests in its first two seconds are 50 a second, not 7.
        span = min(self.window, max(1.0, self.clock() - self.started))
        return sum(count for _unused, count in self.seconds) / span

    def _forget(self) -> None:
        oldest = self.clock() - self.window
        while self.seconds and self.seconds[0][0] < oldest:
            self.seconds.popleft()


class Metrics:
    """``<prefix>_requests_total``, ``_errors_total``, ``_request_duration_seconds``, ``_requests_per_second``, all with ``labels``."""

    def __init__(self, prefix: str, labels: Mapping[str, str]) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        names = tuple(labels)
        self.requests = Counter(f"{prefix}_requests", "API requests answered.", names, registry=self.registry).labels(**labels)
        self.errors = Counter(f"{prefix}_errors", "API requests answered with a 5xx.", names, registry=self.registry).labels(**labels)
        self.duration = Histogram(
            f"{prefix}_request_duration_seconds", "Time to answer an API request.", names, buckets=BUCKETS, registry=self.registry
        ).labels(**labels)
        self.rate = Rate()
        gauge = Gauge(f"{prefix}_requests_per_second", "API requests a second over the last 15 s.", names, registry=self.registry)
        gauge.labels(**labels).set_function(self.rate.value)
        self.in_flight = Gauge(f"{prefix}_requests_in_flight", "API requests being answered.", names, registry=self.registry).labels(
            **labels
        )
        self.backend_up = Gauge("backend_up", "1 when the last check of the backend succeeded.", ("backend",), registry=self.registry)
        self.steps = Histogram(
            "transaction_step_duration_seconds", "Steps of transactions.", ("backend", "ok"), buckets=BUCKETS, registry=self.registry
        )

    def answered(self, status: int, seconds: float) -> None:
        self.requests.inc()
        self.rate.count()
        self.duration.observe(seconds)
        if status >= 500:
            self.errors.inc()

    def render(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type, in the format the scraper asks for."""
        encoder, content_type = choose_encoder(accept)
        return encoder(self.registry), content_type
