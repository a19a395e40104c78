# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of workloads: rollout, pods and their causes, restarts, and the endpoints behind Services (private: may change without notice)."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ansible_collections.progressive.platform.plugins.module_utils._health.cluster import (
    Cluster,
    Object,
    conditions,
    is_true,
    labels_of,
    name_of,
    namespace_of,
    selects,
)
from ansible_collections.progressive.platform.plugins.module_utils._health.model import Finding, Options, age, plural, verdict
from ansible_collections.progressive.platform.plugins.module_utils._health.scene import Scene
from ansible_collections.progressive.platform.plugins.module_utils._kube import diagnose
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import quote
from ansible_collections.progressive.platform.plugins.module_utils._kube.logs import last_log
from ansible_collections.progressive.platform.plugins.module_utils._kube.readiness import State, readiness

LOG_LINES = 20  # of a crashed container's last run, of which the most telling one is shown
ERROR = re.compile(r"error|exception|fatal|panic|fail|denied|cannot|no such|not found|refused|invalid", re.IGNORECASE)
KINDS = ("Deployment", "StatefulSet", "DaemonSet", "Job")

LastWords = Callable[[Object, str], str]
"""The end of the log of a container's previous run; empty when there is none."""


@dataclass(frozen=True)
class Surroundings:
    """What explains a pod: its node's readiness by name, newest warnings by the object's uid, the wall clock, and the logs."""

    nodes_ready: Mapping[str, bool]
    warnings: Mapping[str, str]
    now: float
    last_words: LastWords


def workloads(options: Options, scene: Scene, until: float) -> Finding:
    """Every named workload is rolled out, its pods are ready and do not restart, and every Service in front of it leads to them."""
    namespace, cluster = options["namespace"], scene.cluster
    around = surroundings(cluster, namespace, until)
    pods = cluster.objects("Pod", namespace)
    problems: list[str] = []
    shown: list[str] = []
    table: list[dict[str, t.Any]] = []
    templates: list[Mapping[str, str]] = []
    for reference in options["workloads"]:
        kind, _unused, name = reference.partition("/")
        item = next((entry for entry in cluster.objects(kind, namespace) if name_of(entry) == name), None)
        if item is None:
            problems.append(
                f"{kind} {name} does not exist in namespace {namespace}: it was deleted or never applied; run the playbook site.yml"
            )
            shown.append(f"no {name}")
            continue
        own = [pod for pod in pods if diagnose.workload_of(pod) == (kind, name)]
        problems += workload_problems({"apiVersion": _api_version(kind), **item}, own, around, options)
        ready = sum(1 for pod in own if is_true(pod, "Ready"))
        shown.append(f"{name}: {ready} of {plural(len(own), 'pod')} ready")
        table += [pod_row(pod) for pod in own]
        templates.append((item["spec"]["template"]["metadata"] or {}).get("labels") or {})
    problems += service_problems(cluster, namespace, options["services"], templates, pods)
    expected = "rolled out, ready, without restarts, reachable through their Services"
    return verdict(expected, "; ".join(shown) or "nothing", problems, {"pods": table})


def _api_version(kind: str) -> str:
    return "batch/v1" if kind == "Job" else "apps/v1"


def surroundings(cluster: Cluster, namespace: str, until: float) -> Surroundings:
    warnings: dict[str, str] = {}
    for event in sorted(
        cluster.objects("Event", namespace), key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or "")
    ):
        if event.get("type") == "Warning":
            said = " ".join(str(event.get("message", "")).split())
            warnings[(event.get("involvedObject") or {}).get("uid", "")] = f"{event.get('reason')}: {said}"

    def last_words(pod: Object, container: str) -> str:
        path = quote("api", "v1", "namespaces", namespace, "pods", name_of(pod), "log")
        return telling(last_log(cluster.client, path, container, LOG_LINES, min(5.0, max(0.1, until - cluster.clock.now()))))

    return Surroundings({name_of(node): is_true(node, "Ready") for node in cluster.objects("Node")}, warnings, cluster.now(), last_words)


def telling(log: str) -> str:
    """The last line that speaks of an error, else the last line; at most 300 characters. What comes after an error is often chatter."""
    lines = [" ".join(line.split())[:300] for line in log.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if ERROR.search(line)), lines[-1] if lines else "")


def workload_problems(item: Object, pods: Sequence[Object], around: Surroundings, options: Options) -> list[str]:
    """What is wrong with a workload, its causes first. A rollout that is not complete is named only when no pod explains it."""
    verdict_of_item = readiness(item)
    # A pod that leaves after a finished rollout is in nobody's way.
    counted = [pod for pod in pods if verdict_of_item.state is not State.READY or not pod["metadata"].get("deletionTimestamp")]
    problems = together([(pod, cause) for pod in counted for cause in pod_causes(pod, around, options)])
    if verdict_of_item.state is not State.READY:
        who = f"{item['kind']} {name_of(item)}"
        troubles = [trouble.reason for trouble in diagnose.object_troubles(item)]
        warning = around.warnings.get(item["metadata"].get("uid", ""))
        if not problems and not troubles and warning:
            troubles = [warning]
        problems.append(f"{who}: {verdict_of_item.reason}" + (f" ({'; '.join(troubles)})" if troubles else ""))
    elif not pods and item["kind"] in ("Deployment", "StatefulSet") and item["spec"].get("replicas", 1):
        problems.append(f"{item['kind']} {name_of(item)} has no pods")
    return problems + together([(pod, cause) for pod in pods for cause in outdated(item, pod)])


def outdated(item: Object, pod: Object) -> Iterator[str]:
    """A StatefulSet with OnDelete counts as rolled out while its pods run an older template: its controller does not replace them."""
    newest = (item.get("status") or {}).get("updateRevision")
    running = labels_of(pod).get("controller-revision-hash")
    if (item["spec"].get("updateStrategy") or {}).get("type") == "OnDelete" and newest and running and running != newest:
        delete = f"kubectl -n {namespace_of(pod)} delete pod NAME"
        yield f"still runs an older template ({running}, not {newest}): run the playbook site.yml, or replace one at a time with `{delete}`"


def together(causes: Sequence[tuple[Object, str]]) -> list[str]:
    """A sentence a cause: pods that suffer from the same one (but for numbers) share it."""
    alike: dict[str, list[tuple[Object, str]]] = {}
    for pod, cause in causes:
        alike.setdefault(re.sub(r"\d+", "#", cause), []).append((pod, cause))
    sentences = []
    for group in alike.values():
        names = [name_of(pod) for pod, _unused in group]
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        sentences.append(f"{_who(group[0][0]) if len(group) == 1 else f'{len(group)} pods ({shown})'}: {group[0][1]}")
    return sentences


def pod_causes(pod: Object, around: Surroundings, options: Options) -> Iterator[str]:
    """Why a pod is not well: the container's reason with its last words, scheduling, the node, or the newest warning."""
    status, node = pod.get("status") or {}, pod["spec"].get("nodeName", "")
    containers = [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
    if node and not around.nodes_ready.get(node, False):
        yield f"node {node} {'is NotReady' if node in around.nodes_ready else 'is gone'}"
        return
    if pod["metadata"].get("deletionTimestamp"):
        yield "is being deleted"
        return
    if status.get("phase") == "Succeeded":
        return
    found = False
    for trouble in diagnose.pod_troubles(pod):
        found = True
        yield trouble.reason + _quote(around.last_words(pod, trouble.container) if trouble.container else "")
    if found:
        return
    if not is_true(pod, "Ready"):
        crashed = next((entry for entry in containers if not entry.get("ready") and _last_exit(entry)), None)
        if crashed:  # between two restarts nothing but the past tells
            words = around.last_words(pod, crashed["name"])
            yield (
                f"container {crashed['name']} failed {crashed.get('restartCount', 0)} times, last exit code {_last_exit(crashed)}"
                + _quote(words)
            )
        else:
            warning = around.warnings.get(pod["metadata"].get("uid", ""))
            yield _not_ready(status, containers) + (f"; {warning}" if warning else "")
        return
    for container in status.get("containerStatuses") or []:
        count = container.get("restartCount") or 0
        ended = (container.get("lastState") or {}).get("terminated") or {}
        if count >= options["restarts"] and ended.get("finishedAt") and not _went_with_machine(status, ended):
            since = around.now - datetime.fromisoformat(ended["finishedAt"]).timestamp()
            if since < options["restart_window"]:
                why = ended.get("reason") or f"exit code {ended.get('exitCode')}"
                yield f"container {container['name']} restarted {count} times, the last time {age(since)} ago ({why})"


def _went_with_machine(status: Object, ended: Object) -> bool:
    """Whether a container ended with everything around it, which is no fault of its own: the kubelet calls that Unknown, or, where its runtime saw the
    end, Error; then the pod got a network of its own anew afterwards (PodReadyToStartContainers), as it does not when a container restarts."""
    made = next(
        (one.get("lastTransitionTime") for one in status.get("conditions") or [] if one["type"] == "PodReadyToStartContainers"), None
    )
    return ended.get("reason") == "Unknown" or bool(made and datetime.fromisoformat(made) > datetime.fromisoformat(ended["finishedAt"]))


def _quote(words: str) -> str:
    return f"; its last words: {words}" if words else ""


def _last_exit(container: Object) -> int:
    return int(((container.get("lastState") or {}).get("terminated") or {}).get("exitCode") or 0)


def _who(pod: Object) -> str:
    node = pod["spec"].get("nodeName")
    return f"pod {name_of(pod)} on {node}" if node else f"pod {name_of(pod)}"


def _not_ready(status: Object, containers: Sequence[Object]) -> str:
    if status.get("phase") == "Failed":
        return f"failed: {status.get('reason', '')} {status.get('message', '')}".strip()
    for container in containers:
        state = container.get("state") or {}
        if state.get("waiting"):
            return f"not ready: container {container['name']} is {state['waiting'].get('reason', 'waiting')}"
        if (state.get("terminated") or {}).get("exitCode"):
            return f"not ready: container {container['name']} ended with exit code {state['terminated']['exitCode']}"
    condition = conditions({"status": status}).get("Ready") or {}
    return f"{status.get('phase', 'unknown')} but not ready: {condition.get('message') or condition.get('reason') or 'no reason given'}"


def pod_row(pod: Object) -> dict[str, t.Any]:
    """A pod in the report's table."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return {
        "pod": name_of(pod),
        "ready": is_true(pod, "Ready"),
        "node": pod["spec"].get("nodeName", ""),
        "restarts": sum(container.get("restartCount") or 0 for container in statuses),
        "image": ", ".join(container.get("image", "") for container in statuses),
    }


def service_problems(
    cluster: Cluster, namespace: str, named: Sequence[str], templates: Sequence[Mapping[str, str]], pods: Sequence[Object]
) -> list[str]:
    """Named Services exist; they and every Service that selects the workloads' pods lead to exactly the ready ones."""
    found = {name_of(service): service for service in cluster.objects("Service", namespace)}
    problems = [f"Service {name} does not exist in namespace {namespace}; run the playbook site.yml" for name in named if name not in found]
    for name, service in found.items():
        selector = service["spec"].get("selector")
        if not selector or not (name in named or any(selects({"matchLabels": selector}, labels) for labels in templates)):
            continue
        chosen = [pod for pod in pods if selects({"matchLabels": selector}, labels_of(pod))]
        endpoints = [endpoint for endpoint, _unused in cluster.slices(namespace, name)]
        problems += endpoint_problems(name, chosen, endpoints)
    return problems


def endpoint_problems(service: str, pods: Sequence[Object], endpoints: Sequence[Object]) -> list[str]:
    """Ready pods without an endpoint, and endpoints where no pod is."""
    live = {name_of(pod): pod for pod in pods if not pod["metadata"].get("deletionTimestamp")}
    ready = {name for name, pod in live.items() if is_true(pod, "Ready")}
    led_to = {(entry.get("targetRef") or {}).get("name") for entry in endpoints if (entry.get("conditions") or {}).get("ready", True)}
    problems = []
    if not ready and not led_to:
        problems.append(f"Service {service} has no endpoint: " + ("none of its pods is ready" if live else "no pod has its labels"))
    if missing := sorted(ready - led_to):
        problems.append(f"Service {service} does not lead to {_names(missing)}, although ready")
    gone = [entry for entry in endpoints if (entry.get("targetRef") or {}).get("name") not in {name_of(pod) for pod in pods}]
    if gone:
        addresses = [address for entry in gone for address in entry.get("addresses") or []]
        problems.append(f"Service {service} leads to {_names(addresses)}, where no pod is")
    return problems


def _names(names: Collection[str]) -> str:
    return ", ".join(names)
