# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Targets and rules in the words of Prometheus, or of its operator (private: may change without notice)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from ansible_collections.progressive.platform.plugins.module_utils._monitoring.model import Component, Item, spoken

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
OF_PODS = {"namespace": "namespace", "pod": "pod_name", "container": "pod_container_name", "node": "pod_node_name"}


def scrape_config(target: Item) -> Item:
    """One job of Prometheus' own configuration."""
    made: Item = {"job_name": target["job"], "metrics_path": target["path"], "scheme": target["scheme"], "sample_limit": target["samples"]}
    if target["interval"]:
        made["scrape_interval"] = target["interval"]
    if target["honor_labels"]:
        made["honor_labels"] = True
    if target["kind"] == "pods":
        labels = ",".join(f"{label}={value}" for label, value in sorted(target["selector"].items()))
        discovery: Item = {"role": "pod", "namespaces": {"names": [target["namespace"]]}}
        made["kubernetes_sd_configs"] = [discovery | ({"selectors": [{"role": "pod", "label": labels}]} if labels else {})]
        if target["scheme"] == "https":
            made["tls_config"] = {"insecure_skip_verify": not target["verify"]}
    else:
        made["authorization"] = {"credentials_file": f"{ACCOUNT}/token"}
        made["tls_config"] = {"ca_file": f"{ACCOUNT}/ca.crt"}
        if target["kind"] == "nodes":
            made["kubernetes_sd_configs"] = [{"role": "node"}]
            made["tls_config"]["insecure_skip_verify"] = not target["verify"]
        else:
            made["kubernetes_sd_configs"] = [{"role": "endpoints", "namespaces": {"names": ["default"]}}]
            made["tls_config"]["server_name"] = "kubernetes.default.svc"
    if target["through"]:
        made |= {"metrics_path": target["through"]["path"], "scheme": "http"}
    made["relabel_configs"] = relabelings(target)
    metrics = metric_relabelings(target)
    return made | ({"metric_relabel_configs": metrics} if metrics else {})


def relabelings(target: Item) -> list[Item]:
    """What is scraped of the kind, and the labels that its samples get."""
    if target["kind"] == "nodes":
        return [_copy("node_name", "node"), _copy("node_name", "instance")]
    if target["kind"] == "apiservers":
        wanted = ["__meta_kubernetes_service_name", "__meta_kubernetes_endpoint_port_name"]
        return [{"source_labels": wanted, "action": "keep", "regex": "kubernetes;https"}]
    made: list[Item] = [
        {"source_labels": ["__meta_kubernetes_pod_container_port_name"], "action": "keep", "regex": re.escape(target["port"])},
        {"source_labels": ["__meta_kubernetes_pod_phase"], "action": "drop", "regex": "Succeeded|Failed"},
    ]
    return made + pod_labels(target)


def pod_labels(target: Item) -> list[Item]:
    made = [_copy(source, label) for label, source in OF_PODS.items()]
    made += [_copy("pod_label_" + re.sub(r"\W", "_", source), label) for label, source in target["labels"].items()]
    if target["number"]:
        made.append(_copy("pod_ip", "__address__") | {"regex": "(.+)", "replacement": f"${{1}}:{target['number']}"})
    through = target["through"]
    if through:
        before, _unused, after = through["target"].partition("{pod}")
        escaped = f"{before.replace('$', '$$')}${{1}}{after.replace('$', '$$')}"
        made += [
            _copy("pod_name", "__param_target") | {"regex": "(.+)", "replacement": escaped},
            _copy("pod_name", "instance"),
            {"target_label": "__address__", "replacement": through["address"]},
        ]
    return made


def metric_relabelings(target: Item) -> list[Item]:
    made = []
    for action in ("keep", "drop"):
        if target[action]:
            made.append({"source_labels": ["__name__"], "action": action, "regex": target[action]})
    return made


def rule_groups(component: Component, runbooks: str) -> list[Item]:
    """A group of the role's name; what is recorded comes before what may be built on it."""
    rules = [rule_of(component.name, rule, runbooks) for rule in sorted(component.rules, key=lambda rule: bool(rule["alert"]))]
    return [{"name": component.name, "rules": rules}] if rules else []


def rule_of(component: str, rule: Item, runbooks: str) -> Item:
    expression = rule["expr"].strip()
    if rule["record"]:
        return {"record": rule["record"], "expr": expression} | ({"labels": rule["labels"]} if rule["labels"] else {})
    annotations = {"summary": spoken(rule["summary"])}
    if runbooks:
        annotations["runbook_url"] = f"{runbooks.rstrip('/')}/{component}.md#{rule['alert'].lower()}"
    made: Item = {"alert": rule["alert"], "expr": expression}
    if rule["for"]:
        made["for"] = rule["for"]
    labels = {"severity": rule["severity"], "component": component, **rule["labels"]}
    return made | {"labels": labels, "annotations": annotations}


def missing(components: Iterable[Component]) -> list[Item]:
    """A job that finds nothing is seen by nobody else: no target of it is down."""
    jobs = [target["job"] for component in components for target in component.targets]
    return [
        {
            "alert": "ScrapeJobEmpty",
            "expr": f'absent(up{{job="{job}"}})',
            "for": "5m",
            "severity": "warning",
            "summary": f"Job {job} has no target at all: nothing of it is watched.",
            "means": "No pod has the labels and the named port that the role's monitoring.yaml.j2 asks for, or Prometheus may not list them.",
            "do": "Look at Status, Service Discovery of Prometheus, and at the pods' labels and ports.",
            "record": None,
            "labels": {"job": job},
        }
        for job in jobs
    ]


def monitors(component: Component, labels: Mapping[str, str], common: Mapping[str, str]) -> list[Item]:
    """PodMonitors of the role's pods; the kubelets and API servers are watched by the operator's own stack."""
    return [pod_monitor(target, {**common, **labels}) for target in component.targets if target["kind"] == "pods"]


def pod_monitor(target: Item, labels: Mapping[str, str]) -> Item:
    through = target["through"]
    endpoint: Item = {"port": target["port"], "path": target["path"], "scheme": target["scheme"]}
    if target["interval"]:
        endpoint["interval"] = target["interval"]
    if target["honor_labels"]:
        endpoint["honorLabels"] = True
    if target["scheme"] == "https":
        endpoint["tlsConfig"] = {"insecureSkipVerify": not target["verify"]}
    if through:
        endpoint |= {"path": through["path"], "scheme": "http"}
    made = [{"target_label": "job", "replacement": target["job"]}, *pod_labels(target)]
    endpoint["relabelings"] = [_camel(entry) for entry in made]
    if metrics := metric_relabelings(target):
        endpoint["metricRelabelings"] = [_camel(entry) for entry in metrics]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": target["job"], "namespace": target["namespace"], "labels": dict(labels)},
        "spec": {
            "selector": {"matchLabels": dict(target["selector"])},
            "podMetricsEndpoints": [endpoint],
            "sampleLimit": target["samples"],
        },
    }


def prometheus_rule(component: str, groups: list[Item], namespace: str, labels: Mapping[str, str]) -> Item:
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": f"platform-{component.replace('_', '-')}", "namespace": namespace, "labels": dict(labels)},
        "spec": {"groups": groups},
    }


def _copy(source: str, label: str) -> Item:
    return {"source_labels": [f"__meta_kubernetes_{source}"], "target_label": label}


def _camel(entry: Item) -> Item:
    return {re.sub(r"_(\w)", lambda match: match[1].upper(), key): value for key, value in entry.items()}
