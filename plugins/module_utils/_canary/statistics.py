# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests of two versions as the edge's Envoys counted them, from their own pages or from Prometheus (private: may change without notice).

Both sources give the same counters, by pod and Service, that only grow; a window is the difference of two looks. Names of the samples: Envoy's
documentation, "Cluster manager: Statistics", with the tags of Istio's bootstrap (cluster_name, response_code_class) or stock Envoy's (envoy_ before them).
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ansible_collections.progressive.platform.plugins.module_utils._canary.model import Side

REQUESTS = ("envoy_cluster_upstream_rq", "envoy_cluster_upstream_rq_xx")
LATENCIES = "envoy_cluster_upstream_rq_time_bucket"
_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)\{(.*)\}\s+(\S+)(?:\s.*)?")
_LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"')


@dataclass
class Counters:
    """Answers by the first digit of their status, and how many took at most so many milliseconds."""

    answers: dict[str, float] = field(default_factory=dict)
    buckets: dict[float, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        return sum(self.answers.values())

    def add(self, name: str, labels: Mapping[str, str], value: float) -> None:
        if name in REQUESTS and (kind := _label(labels, "response_code_class")):
            self.answers[kind[0]] = self.answers.get(kind[0], 0.0) + value
        elif name == LATENCIES and "le" in labels:
            limit = float(labels["le"].replace("+Inf", "inf"))
            self.buckets[limit] = self.buckets.get(limit, 0.0) + value

    def since(self, before: Counters | None) -> Counters:
        """What came since; a counter that is smaller has begun anew."""
        if before is None or self.total < before.total:
            return self
        return Counters(
            {kind: max(0.0, count - before.answers.get(kind, 0.0)) for kind, count in self.answers.items()},
            {limit: max(0.0, count - before.buckets.get(limit, 0.0)) for limit, count in self.buckets.items()},
        )


Look = dict[str, dict[str, Counters]]
"""Pod -> Service -> counters; a pod that was read is there, whatever it has seen."""


def from_text(text: str, services: Iterable[str]) -> dict[str, Counters]:
    """One Envoy's page ``/stats/prometheus``."""
    found: dict[str, Counters] = {}
    wanted = tuple(services)
    for line in text.splitlines():
        if line.startswith("envoy_cluster_upstream_rq") and (match := _SAMPLE.fullmatch(line.strip())):
            labels = dict(_LABEL.findall(match[2]))
            if service := _service(labels, wanted):
                found.setdefault(service, Counters()).add(match[1], labels, float(match[3]))
    return found


def from_prometheus(answer: Mapping[str, t.Any], services: Iterable[str], pods: Iterable[str]) -> Look:
    """The result of an instant query for the samples above; only of the pods that there are, by their label ``pod``."""
    wanted, running = tuple(services), set(pods)
    found: Look = {}
    for sample in (answer.get("data") or {}).get("result") or []:
        labels = sample["metric"]
        pod = labels.get("pod") or labels.get("pod_name") or ""
        if pod in running:
            counters = found.setdefault(pod, {})
            if service := _service(labels, wanted):
                counters.setdefault(service, Counters()).add(labels.get("__name__", ""), labels, float(sample["value"][1]))
    return found


def query(services: Iterable[str]) -> str:
    """PromQL for everything that is counted of these Services' clusters."""
    names = "|".join(re.escape(service).replace("\\", "\\\\") for service in services)
    samples = "|".join((*REQUESTS, LATENCIES))
    return f'{{__name__=~"{samples}",cluster_name=~".*[|]({names})[.].*"}} or {{__name__=~"{samples}",envoy_cluster_name=~".*[|]({names})[.].*"}}'


def side(before: Look, now: Look, service: str) -> Side | None:
    """A Service's requests between two looks, of all pods together; None when no pod was read."""
    if not now:
        return None
    answers: dict[str, float] = {}
    buckets: dict[float, float] = {}
    for pod, services in now.items():
        if service in services:
            # A pod that was not there before has counted from nothing; one that was there and had not heard of the Service too.
            grown = services[service].since((before.get(pod) or {}).get(service))
            for kind, count in grown.answers.items():
                answers[kind] = answers.get(kind, 0.0) + count
            for limit, count in grown.buckets.items():
                buckets[limit] = buckets.get(limit, 0.0) + count
    return Side(sum(answers.values()), answers.get("5", 0.0), quantile(buckets, 0.99))


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """As PromQL's histogram_quantile: on a straight line within a bucket; beyond the last bucket with an end, that end."""
    limits = sorted(buckets)
    total = buckets[limits[-1]] if limits else 0.0
    if total <= 0:
        return None
    rank = share * total
    lower, below = 0.0, 0.0
    for limit in limits:
        if buckets[limit] >= rank:
            if limit == float("inf"):
                return lower
            within = buckets[limit] - below
            return lower + (limit - lower) * ((rank - below) / within if within else 1.0)
        lower, below = limit, buckets[limit]
    return lower


def to_json(look: Look) -> dict[str, t.Any]:
    return {
        pod: {
            name: {"answers": it.answers, "buckets": {str(limit): count for limit, count in it.buckets.items()}}
            for name, it in services.items()
        }
        for pod, services in look.items()
    }


def from_json(fields: Mapping[str, t.Any]) -> Look:
    return {
        pod: {
            name: Counters(dict(it["answers"]), {float(limit): count for limit, count in it["buckets"].items()})
            for name, it in services.items()
        }
        for pod, services in fields.items()
    }


def _label(labels: Mapping[str, str], name: str) -> str:
    return labels.get(name) or labels.get(f"envoy_{name}") or ""


def _service(labels: Mapping[str, str], services: Iterable[str]) -> str:
    """The Service of a cluster called ``outbound|80||<service>.<namespace>.svc.<domain>``; of subsets and others none."""
    pieces = _label(labels, "cluster_name").split("|")
    host = pieces[3].rstrip(";") if len(pieces) == 4 and pieces[0] == "outbound" and not pieces[2] else ""
    return next((service for service in services if host == service or host.startswith(f"{service}.")), "")
