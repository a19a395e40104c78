# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Counting requests, weighing routes, yielding fields, and the page."""

from __future__ import annotations

import math
from html.parser import HTMLParser
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._canary import evidence, routes, statistics
from ansible_collections.progressive.platform.plugins.module_utils._canary.model import Check, Side, State
from ansible_collections.progressive.platform.plugins.module_utils._kube.apply import yielded
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

SERVICES = ("npa-service-canary", "npa-service")
# As Envoy of Istio's main branch writes it, with Istio's tags.
PAGE = """# TYPE envoy_cluster_upstream_rq counter
envoy_cluster_upstream_rq{response_code="200",cluster_name="outbound|80||npa-service.shop.svc.cluster.local"} 90
envoy_cluster_upstream_rq{response_code_class="2xx",cluster_name="outbound|80||npa-service.shop.svc.cluster.local"} 90
envoy_cluster_upstream_rq{response_code_class="5xx",cluster_name="outbound|80||npa-service.shop.svc.cluster.local"} 10
envoy_cluster_upstream_rq{response_code_class="2xx",cluster_name="outbound|80||npa-service-canary.shop.svc.cluster.local"} 7
envoy_cluster_upstream_rq{response_code_class="2xx",cluster_name="outbound|80||mca-service.shop.svc.cluster.local"} 1000
envoy_cluster_upstream_rq_total{cluster_name="outbound|80||npa-service.shop.svc.cluster.local"} 100
# TYPE envoy_cluster_upstream_rq_time histogram
envoy_cluster_upstream_rq_time_bucket{cluster_name="outbound|80||npa-service.shop.svc.cluster.local",le="5"} 50
envoy_cluster_upstream_rq_time_bucket{cluster_name="outbound|80||npa-service.shop.svc.cluster.local",le="10"} 99
envoy_cluster_upstream_rq_time_bucket{cluster_name="outbound|80||npa-service.shop.svc.cluster.local",le="25"} 100
envoy_cluster_upstream_rq_time_bucket{cluster_name="outbound|80||npa-service.shop.svc.cluster.local",le="+Inf"} 100
"""


def test_istios_page_is_read() -> None:
    found = statistics.from_text(PAGE, SERVICES)
    assert found["npa-service"].answers == {"2": 90, "5": 10} and found["npa-service-canary"].answers == {"2": 7}
    assert set(found) == set(SERVICES)
    assert statistics.side({}, {"edge-1": found}, "npa-service") == Side(100, 10, 10.0)


def test_stock_envoys_names_and_a_trailing_semicolon_are_read() -> None:
    text = 'envoy_cluster_upstream_rq_xx{envoy_response_code_class="5",envoy_cluster_name="outbound|80||npa-service.shop.svc.cluster.local;"} 3'
    assert statistics.from_text(text, SERVICES)["npa-service"].answers == {"5": 3}


def look(**pods: dict[str, float]) -> statistics.Look:
    return {
        pod: {"a": statistics.Counters(dict(answers), {10.0: sum(answers.values()), math.inf: sum(answers.values())})}
        for pod, answers in pods.items()
    }


WINDOWS = [
    ("grown", look(p={"2": 5}), look(p={"2": 9, "5": 1}), (5, 1)),
    ("a pod that came", look(p={"2": 5}), look(p={"2": 6}, q={"2": 3}), (4, 0)),
    ("a pod that went", look(p={"2": 5}, q={"2": 50}), look(p={"2": 6}), (1, 0)),
    ("an Envoy that began anew", look(p={"2": 50}), look(p={"2": 3, "5": 1}), (4, 1)),
    ("one that had not heard of the Service", {"p": {}}, look(p={"2": 3}), (3, 0)),
    ("one that has not heard of it yet", {"p": {}}, {"p": {}}, (0, 0)),
]


@pytest.mark.parametrize(("before", "now", "wanted"), [row[1:] for row in WINDOWS], ids=[row[0] for row in WINDOWS])
def test_a_window_is_the_difference_of_two_looks(before: statistics.Look, now: statistics.Look, wanted: tuple[float, float]) -> None:
    found = statistics.side(statistics.from_json(statistics.to_json(before)), now, "a")
    assert found is not None and (found.requests, found.errors) == wanted


def test_no_pod_is_not_nothing() -> None:
    assert statistics.side({}, {}, "a") is None


@pytest.mark.parametrize(
    ("buckets", "wanted"),
    [
        ({}, None),
        ({10.0: 0.0, math.inf: 0.0}, None),
        ({10.0: 100.0, math.inf: 100.0}, 9.9),
        ({10.0: 98.0, 20.0: 100.0, math.inf: 100.0}, 15.0),
        ({10.0: 50.0, 20.0: 60.0, math.inf: 100.0}, 20.0),
    ],
)
def test_p99_as_promql_tells_it(buckets: dict[float, float], wanted: float | None) -> None:
    assert statistics.quantile(buckets, 0.99) == (wanted if wanted is None else pytest.approx(wanted))


def test_prometheus_gives_the_same() -> None:
    def sample(value: str, **labels: str) -> dict[str, Any]:
        return {"metric": {"cluster_name": "outbound|80||npa-service.shop.svc.cluster.local", **labels}, "value": [1, value]}

    answer = {
        "data": {
            "result": [
                sample("90", __name__="envoy_cluster_upstream_rq", response_code_class="2xx", pod="edge-1"),
                sample("10", __name__="envoy_cluster_upstream_rq", response_code_class="5xx", pod="edge-1"),
                sample("100", __name__="envoy_cluster_upstream_rq", response_code="200", pod="edge-1"),
                sample("99", __name__="envoy_cluster_upstream_rq_time_bucket", le="10", pod="edge-1"),
                sample("100", __name__="envoy_cluster_upstream_rq_time_bucket", le="+Inf", pod="edge-1"),
                sample("7", __name__="envoy_cluster_upstream_rq", response_code_class="2xx", pod="gone"),
            ]
        }
    }
    found = statistics.from_prometheus(answer, SERVICES, ["edge-1", "edge-2"])
    assert set(found) == {"edge-1"}, "one that Prometheus does not know is missing, so that it is noticed"
    assert statistics.side({}, found, "npa-service") == Side(100, 10, 10.0)


def http_route(one: int = 90, two: int = 10) -> dict[str, Any]:
    both = [{"name": "npa-service", "port": 80, "weight": one}, {"name": "npa-service-canary", "port": 80, "weight": two}]
    rules = [
        {"matches": [{"headers": []}], "backendRefs": [{"name": "npa-service-canary", "port": 80}]},
        {"backendRefs": both, "timeouts": {"request": "30s"}},
    ]
    return {
        "kind": "HTTPRoute",
        "metadata": {"name": "edge-npa", "namespace": "shop"},
        "spec": {"parentRefs": [{"name": "edge"}], "rules": rules},
    }


def virtual_service() -> dict[str, Any]:
    def to(service: str, weight: int) -> dict[str, Any]:
        return {"destination": {"host": f"{service}.shop.svc.cluster.local"}, "weight": weight}

    http = [
        {"name": "mca", "route": [to("mca-service", 100)]},
        {"name": "npa", "route": [to("npa-service", 90), to("npa-service-canary", 10)]},
    ]
    return {"kind": "VirtualService", "metadata": {"name": "edge", "namespace": "shop"}, "spec": {"hosts": ["a"], "http": http}}


@pytest.mark.parametrize("route", [http_route(), virtual_service()], ids=["HTTPRoute", "VirtualService"])
@pytest.mark.parametrize("percent", [0, 25, 100])
def test_only_weights_change(route: dict[str, Any], percent: int) -> None:
    assert routes.weight(route, "npa-service", "npa-service-canary") == 10
    sent = routes.weighted(route, "npa-service", "npa-service-canary", percent)
    assert routes.weight({**sent}, "npa-service", "npa-service-canary") == percent
    (field,) = sent["spec"]
    back = routes.weighted(sent, "npa-service", "npa-service-canary", 10)
    assert back["spec"][field] == route["spec"][field], "everything else stays"


def test_a_route_without_a_canary_is_refused() -> None:
    with pytest.raises(PlatformError, match="no place that sends to both mca-service and x"):
        routes.weight(http_route(), "mca-service", "x")


def managed(manager: str, **fields: Any) -> dict[str, Any]:
    return {"manager": manager, "operation": "Apply", "fieldsV1": {"f:spec": fields}}


def test_the_weights_are_given_back_to_who_made_the_route() -> None:
    route = http_route()
    route["metadata"]["managedFields"] = [
        managed("progressive.platform.gateway", **{"f:parentRefs": {}}),
        managed(routes.MANAGER, **{"f:rules": {}}),
    ]
    assert routes.given_back(route, "progressive.platform.gateway") == [
        managed("progressive.platform.gateway", **{"f:parentRefs": {}, "f:rules": {}})
    ]
    route["metadata"]["managedFields"] = [managed("progressive.platform.gateway", **{"f:rules": {}})]
    assert routes.given_back(route, "progressive.platform.gateway") is None
    route["metadata"]["managedFields"] = [managed(routes.MANAGER, **{"f:rules": {}})]
    with pytest.raises(PlatformError, match=r"run site\.yml"):
        routes.given_back(route, "progressive.platform.gateway")


def test_apply_yields_what_the_canary_owns_and_only_then() -> None:
    document = http_route()
    document["metadata"]["annotations"] = {"progressive.platform/yields": f"{routes.MANAGER}:spec.rules"}
    there = {**document, "metadata": {**document["metadata"], "managedFields": [managed(routes.MANAGER, **{"f:rules": {}})]}}
    assert yielded(document, there)["spec"] == {"parentRefs": [{"name": "edge"}]}
    assert "rules" in document["spec"], "the document itself is left alone"
    there["metadata"]["managedFields"] = [managed(routes.MANAGER, **{"f:parentRefs": {}}), managed("somebody", **{"f:rules": {}})]
    assert yielded(document, there) == document
    assert yielded(http_route(), {"metadata": {"managedFields": [managed(routes.MANAGER, **{"f:rules": {}})]}}) == http_route()


class Reader(HTMLParser):
    """Counts elements, and holds the page to being self-contained."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, int] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen[tag] = self.seen.get(tag, 0) + 1
        assert tag not in ("script", "img", "link") and not any(name in ("src", "href") for name, _value in attrs)


def test_the_page_has_a_dot_for_every_check_and_escapes_what_it_shows() -> None:
    checks = [
        Check(
            1_700_000_000.0 + 30 * number, 30.0, 10, number < 2, () if number < 2 else ("5 % <b>",), Side(100, 5, 80.0), Side(900, 0, 70.0)
        ).described()
        for number in range(3)
    ]
    record = {
        "route": "shop/edge-npa",
        "stable": "npa-service",
        "canary": "npa-service-canary",
        "state": State("RolledBack", "v2", began=1_700_000_000.0, reason="it was <bad>").described(),
        "weight": 0,
        "settings": {"steps": [10], "success": 99.0, "p99": 500.0, "sample": 100},
        "source": "Prometheus",
        "checks": checks,
        "events": [{"at": 1_700_000_000.0, "text": "began"}],
    }
    text = evidence.page(record)
    reader = Reader()
    reader.feed(text)
    assert reader.seen["svg"] == 5 and reader.seen["circle"] == 1 + 4 * 3
    assert "it was &lt;bad&gt;" in text and "<b>" not in text and "was rolled back and gets no request" in text
    assert "nothing was seen" in evidence.page({**record, "checks": []})
