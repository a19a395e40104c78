# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What roles want, in the words of Prometheus and of its operator; what is not complete is refused."""

from __future__ import annotations

import re
import typing as t

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._monitoring import gather, model, scrape
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError

TARGET = {
    "job": "shop",
    "namespace": "shop",
    "selector": {"app": "shop", "tier": "web"},
    "labels": {"version": "app.kubernetes.io/version"},
}
ALERT = {
    "alert": "ShopSlow",
    "expr": "shop_seconds > 1",
    "for": "1m",
    "severity": "warning",
    "summary": "Shop {pod} takes {value:humanizeDuration} of {limit}.",
    "means": "It is slow.",
    "do": "Look.",
}


def gathered(wish: dict[str, t.Any], **options: t.Any) -> dict[str, t.Any]:
    given = {
        "roles": [],
        "components": {"shop": wish},
        "namespace": "watch",
        "labels": {"a": "b"},
        "operator_labels": {},
        "runbooks": "",
        "dashboards": False,
    }
    return gather.run({**given, **options}, Context())


def test_a_job_by_labels_and_a_named_port() -> None:
    (job,) = gathered({"targets": [TARGET]})["scrapes"]
    (discovery,) = job["kubernetes_sd_configs"]
    assert discovery["namespaces"] == {"names": ["shop"]} and discovery["selectors"] == [{"role": "pod", "label": "app=shop,tier=web"}]
    assert job["sample_limit"] == 10000 and job["metrics_path"] == "/metrics"
    port, phase, *labels = job["relabel_configs"]
    assert (port["action"], port["regex"]) == ("keep", "metrics") and phase["action"] == "drop"
    assert [entry["target_label"] for entry in labels] == ["namespace", "pod", "container", "node", "version"]
    assert labels[-1]["source_labels"] == ["__meta_kubernetes_pod_label_app_kubernetes_io_version"]


@pytest.mark.parametrize(("verify", "skip"), [(True, False), (False, True)])
def test_kubelets_show_a_certificate_that_may_be_their_own(verify: bool, skip: bool) -> None:
    (job,) = gathered({"targets": [{"job": "kubelet", "kind": "nodes", "scheme": "https", "verify": verify}]})["scrapes"]
    assert job["tls_config"]["insecure_skip_verify"] is skip and job["authorization"]["credentials_file"].endswith("/token")


def test_api_servers_are_always_verified() -> None:
    (job,) = gathered({"targets": [{"job": "apiserver", "kind": "apiservers", "scheme": "https", "verify": False}]})["scrapes"]
    assert job["tls_config"] == {"ca_file": f"{scrape.ACCOUNT}/ca.crt", "server_name": "kubernetes.default.svc"}


def test_an_exporter_is_told_which_pod_to_ask() -> None:
    through = {"address": "exporter.shop.svc:9121", "target": "rediss://{pod}.redis.svc:6379"}
    (job,) = gathered({"targets": [{**TARGET, "through": through}]})["scrapes"]
    assert (job["metrics_path"], job["scheme"]) == ("/scrape", "http")
    told, instance, address = job["relabel_configs"][-3:]
    made = re.sub(told["regex"], told["replacement"].replace("${1}", r"\1"), "redis-0")
    assert (told["target_label"], made) == ("__param_target", "rediss://redis-0.redis.svc:6379")
    assert instance["target_label"] == "instance" and address == {"target_label": "__address__", "replacement": "exporter.shop.svc:9121"}


def test_the_operators_objects_say_the_same() -> None:
    through = {"address": "exporter.shop.svc:9121", "target": "redis://{pod}:6379"}
    kubelet = {"job": "kubelet", "kind": "nodes", "scheme": "https"}
    wish = {"targets": [{**TARGET, "drop": "go_.*", "through": through}, kubelet], "rules": [ALERT]}
    found = gathered(wish, operator_labels={"release": "stack"})
    monitor, rule = found["documents"]
    (job, _kubelet) = found["scrapes"]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert monitor["metadata"] == {"name": "shop", "namespace": "shop", "labels": {"a": "b", "release": "stack"}}
    assert endpoint["relabelings"][0] == {"targetLabel": "job", "replacement": "shop"}
    assert [entry["targetLabel"] for entry in endpoint["relabelings"][1:]] == [
        entry["target_label"] for entry in job["relabel_configs"][2:]
    ]
    assert endpoint["metricRelabelings"] == [{"sourceLabels": ["__name__"], "action": "drop", "regex": "go_.*"}]
    assert rule["metadata"]["namespace"] == "watch" and rule["spec"]["groups"] == found["groups"]["shop"]


def test_a_summary_speaks_of_labels_and_values() -> None:
    (group,) = gathered({"rules": [ALERT]}, runbooks="https://example.com/alerts/")["groups"]["shop"]
    (rule,) = group["rules"]
    assert rule["annotations"] == {
        "summary": "Shop {{ $labels.pod }} takes {{ $value | humanizeDuration }} of {{ $labels.limit }}.",
        "runbook_url": "https://example.com/alerts/shop.md#shopslow",
    }
    assert rule["labels"] == {"severity": "warning", "component": "shop"} and rule["for"] == "1m"


def test_records_come_before_alerts() -> None:
    (group,) = gathered({"rules": [ALERT, {"record": "shop:x", "expr": "1"}]})["groups"]["shop"]
    assert [rule.get("record") for rule in group["rules"]] == ["shop:x", None]


def test_a_job_without_targets_is_an_alert_where_monitoring_is() -> None:
    wishes = {"shop": {"targets": [TARGET]}, "monitoring": {"targets": [{"job": "kubelet", "kind": "nodes"}]}}
    components = gather.complete(model.read(wishes))
    added = [alert for component in components if component.name == "monitoring" for alert in component.alerts]
    assert [(alert["alert"], alert["labels"]) for alert in added] == [
        ("ScrapeJobEmpty", {"job": "shop"}),
        ("ScrapeJobEmpty", {"job": "kubelet"}),
    ]


PANEL = {"title": "Up", "unit": "count", "expr": "up"}
BOARD = {"name": "shop", "title": "Shop"}


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"targets": [{"namespace": "shop"}]}, "shop: target ?: missing required arguments: job"),
        ({"targets": [{**TARGET, "prot": "metrics"}]}, "shop: target shop: prot. Supported parameters"),
        ({"targets": [{**TARGET, "kind": "services"}]}, "value of kind must be one of: pods, nodes, apiservers"),
        ({"rules": [{**ALERT, "severity": "loud"}]}, "value of severity must be one of"),
        ({"rules": [{key: value for key, value in ALERT.items() if key != "do"}]}, "alert ShopSlow has no do"),
        ({"rules": [{key: value for key, value in ALERT.items() if key != "severity"}]}, "alert ShopSlow has no severity"),
        ({"rules": [{"expr": "1"}]}, "a rule is an alert or a record (1)"),
        ({"rules": [{**ALERT, "expr": "sum(rate(shop_seconds[5m])"}]}, "shop: rule ShopSlow is no PromQL: "),
        ({"rules": [{**ALERT, "expr": "rate(shop_seconds)"}]}, "shop: rule ShopSlow is no PromQL: expected type matrix"),
        ({"rules": [{**ALERT, "for": "5 minutes"}]}, "rule ShopSlow fires for 5 minutes, which is no time like 5m"),
        ({"dashboards": [{**BOARD, "rows": [{"title": "One", "panels": [{**PANEL, "expr": "up{"}]}]}]}, "panel Up, Up, is no PromQL"),
        ({"rules": ["1"]}, "shop: rule ? is str, not a mapping"),
        ({"alerts": []}, "role shop says something else than targets, rules and dashboards"),
    ],
)
def test_what_is_not_complete_is_refused(wish: dict[str, t.Any], words: str) -> None:
    with pytest.raises(PlatformError) as refused:
        gathered(wish)
    assert words in refused.value.message


def test_a_job_has_one_owner() -> None:
    with pytest.raises(PlatformError, match="job shop is of role a and of role b"):
        model.read({"a": {"targets": [TARGET]}, "b": {"targets": [TARGET]}})


def test_roles_are_rendered_by_the_action() -> None:
    with pytest.raises(PlatformError, match="rendered on the controller"):
        gather.run({"roles": ["app"], "components": {}}, Context())
