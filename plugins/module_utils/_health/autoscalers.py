# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of autoscalers: what they read, who serves it, and what sizes are recommended (private: may change without notice)."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator, Mapping, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._health.cluster import (
    Object,
    conditions,
    is_true,
    labels_of,
    name_of,
    selects,
)
from ansible_collections.progressive.platform.plugins.module_utils._health.model import Finding, Options, plural, verdict
from ansible_collections.progressive.platform.plugins.module_utils._health.scene import Scene
from ansible_collections.progressive.platform.plugins.module_utils._preflight.quantities import humane, quantity

# Reasons why an autoscaler that reads nothing is as it should be: its workload is scaled to nothing.
ASLEEP = ("ScalingDisabled",)
RESOURCES = ("cpu", "memory")


def autoscalers(options: Options, scene: Scene, until: float) -> Finding:
    """Every autoscaler of the namespace reads each of its metrics; the API they ask has the owner that is wanted."""
    found = scene.cluster.objects("HorizontalPodAutoscaler", options["namespace"])
    problems = [problem for item in found for problem in autoscaler_problems(item)]
    if options["owner"]:
        problems += owner_problems(scene.cluster.find("APIService", None, options["api"]), options["api"], options["owner"])
    table = [row(item) for item in found]
    seen = [f"{entry['autoscaler']} {entry['replicas']}" for entry in table]
    if options["keda"]:
        scaled = scene.cluster.objects("ScaledObject", options["namespace"])
        problems += [problem for item in scaled for problem in scaled_problems(item)]
        seen += [f"{name_of(item)} paused" for item in scaled if is_true(item, "Paused")]
    shown = ", ".join(seen) or "no autoscaler"
    expected = "every autoscaler reads all its metrics" + (
        f", {options['api']} is served by {options['owner']}" if options["owner"] else ""
    )
    return verdict(expected, shown, problems, {"autoscalers": table})


def autoscaler_problems(item: Object) -> Iterator[str]:
    """Metrics that are wanted and not read. With one of several missing a workload still grows by the others and never shrinks; with all, it stays."""
    states, name = conditions(item), name_of(item)
    able, active = states.get("AbleToScale", {}), states.get("ScalingActive", {})
    if not states:
        yield f"autoscaler {name} has not been looked at yet"
    elif able.get("status") == "False":
        yield f"autoscaler {name} cannot scale: {able.get('message') or able.get('reason')}"
    elif active.get("status") == "False" and active.get("reason") not in ASLEEP:
        yield f"autoscaler {name} cannot read its metrics and leaves the pods as many as they are: {active.get('message') or active.get('reason')}"
    elif active.get("status") == "True":
        read = {metric_name(metric, "current") for metric in (item.get("status") or {}).get("currentMetrics") or []}
        missing = [wanted for metric in item["spec"].get("metrics") or [] if (wanted := metric_name(metric, "target")) not in read]
        if missing:
            yield f"autoscaler {name} cannot read {', '.join(missing)}: it may grow by its other metrics and will not shrink"


def scaled_problems(item: Object) -> Iterator[str]:
    """What KEDA makes of a ScaledObject. Where it falls back, the autoscaler is served a number that was made up, and sees nothing missing.

    One that somebody paused has no autoscaler, and is as it was asked to be.
    """
    name, target = name_of(item), item["spec"]["scaleTargetRef"]["name"]
    ready = conditions(item).get("Ready", {})
    if is_true(item, "Paused"):
        return
    # By what it counts: its condition Fallback goes back for a moment whenever its loop writes what it knew before.
    least = (item["spec"].get("fallback") or {}).get("failureThreshold") or 0
    health = (item.get("status") or {}).get("health") or {}
    missing = sorted(query(item, metric) for metric, state in health.items() if (state.get("numberOfFailures") or 0) > least)
    if missing:
        yield f"KEDA cannot read {', '.join(missing)} and leaves the pods of {target} as many as they are"
    elif ready.get("status") != "True":
        yield f"ScaledObject {name} is not ready: {ready.get('message') or ready.get('reason') or 'KEDA has not looked at it yet'}"


def query(item: Object, metric: str) -> str:
    """What a trigger asks, by the name that KEDA gives its metric: s, its place among the triggers, and its kind (``s2-prometheus``)."""
    place = metric.partition("-")[0].removeprefix("s")
    triggers = item["spec"].get("triggers") or []
    trigger = triggers[int(place)] if place.isdecimal() and int(place) < len(triggers) else {}
    return str((trigger.get("metadata") or {}).get("query") or metric)


def metric_name(metric: Mapping[str, t.Any], side: str) -> str:
    """``cpu``, ``agent_requests_per_second``; empty for one without a value (``side`` is target or current)."""
    source = next((value for key, value in metric.items() if key != "type" and isinstance(value, Mapping)), {})
    values = source.get(side) or {}
    if side == "current" and not any(values.get(key) is not None for key in ("value", "averageValue", "averageUtilization")):
        return ""
    return str(source.get("name") or (source.get("metric") or {}).get("name") or "")


def owner_problems(service: Object | None, api: str, owner: str) -> Iterator[str]:
    if service is None:
        yield f"nobody serves {api}; Service {owner} was expected to: run the playbook site.yml"
        return
    held = (service.get("spec") or {}).get("service") or {}
    holder = f"{held.get('namespace')}/{held.get('name')}"
    if holder != owner:
        yield f"{api} belongs to Service {holder}, not to {owner}: two want it, and the last one to be installed has it"
    elif not is_true(service, "Available"):
        state = conditions(service).get("Available", {})
        yield f"{api} is not available: {state.get('message') or state.get('reason') or 'no reason given'}"


def row(item: Object) -> dict[str, t.Any]:
    spec, status = item["spec"], item.get("status") or {}
    limited = conditions(item).get("ScalingLimited", {})
    return {
        "autoscaler": name_of(item),
        "replicas": f"{status.get('currentReplicas', 0)} of {spec.get('minReplicas', 1)} to {spec['maxReplicas']}",
        "reads": ", ".join(filter(None, (metric_name(metric, "current") for metric in status.get("currentMetrics") or []))),
        "limited": limited.get("reason", "") if limited.get("status") == "True" else "",
    }


def recommendations(options: Options, scene: Scene, until: float) -> Finding:
    """Every named workload has a recommendation, and its pods ask for no less than the least that is recommended and have what they ask for."""
    namespace = options["namespace"]
    found = {name_of(item): item for item in scene.cluster.objects("VerticalPodAutoscaler", namespace)}
    problems: list[str] = []
    table: list[dict[str, t.Any]] = []
    for name in options["names"]:
        if name not in found:
            problems.append(f"there is no VerticalPodAutoscaler {name}: run the playbook site.yml")
            continue
        target = found[name]["spec"]["targetRef"]
        workload = next((one for one in scene.cluster.objects(target["kind"], namespace) if name_of(one) == target["name"]), None)
        pods = scene.cluster.objects("Pod", namespace) if workload else []
        own = [pod for pod in pods if workload and selects(workload["spec"]["selector"], labels_of(pod))]
        rows = list(compared(found[name], own))
        table += rows
        problems += size_problems(name, rows)
        problems += [problem for pod in own for problem in resize_problems(name, pod)]
    shown = ", ".join(
        f"{entry['container']} {entry['resource']} {entry['requested']} (recommended {entry['recommended']})" for entry in table
    )
    expected = f"a recommendation for each of {plural(len(options['names']), 'workload')}, and requests within it"
    return verdict(expected, shown or "no recommendation", problems, {"sizes": table})


def compared(item: Object, pods: Sequence[Object]) -> Iterator[dict[str, t.Any]]:
    """Per container and resource the smallest request of a pod beside what is recommended."""
    for advice in ((item.get("status") or {}).get("recommendation") or {}).get("containerRecommendations") or []:
        for resource in RESOURCES:
            if resource not in (advice.get("target") or {}):
                continue
            asked = [
                quantity(((container.get("resources") or {}).get("requests") or {}).get(resource) or 0)
                for pod in pods
                for container in pod["spec"]["containers"]
                if container["name"] == advice["containerName"]
            ]
            least = quantity((advice.get("lowerBound") or advice["target"]).get(resource) or 0)
            yield {
                "workload": name_of(item),
                "container": advice["containerName"],
                "resource": resource,
                "requested": humane(min(asked), resource) if asked else "nothing",
                "recommended": humane(quantity(advice["target"][resource]), resource),
                "least": humane(least, resource),
                "short": bool(asked) and min(asked) < least,
            }


def size_problems(name: str, rows: Sequence[Mapping[str, t.Any]]) -> Iterator[str]:
    if not rows:
        yield f"VerticalPodAutoscaler {name} recommends nothing yet: see whether its recommender runs and metrics-server is well"
    for entry in rows:
        if entry["short"]:
            yield (
                f"{name}: container {entry['container']} asks for {entry['requested']} {entry['resource']}, at least {entry['least']} is recommended"
            )


def resize_problems(name: str, pod: Object) -> Iterator[str]:
    """A pod that is resized in place asks for its new size at once; that its node does not give it is a condition.

    kubernetes.io, Resize CPU and Memory Resources assigned to Containers, "Pod resize status".
    """
    pending = conditions(pod).get("PodResizePending", {})
    if pending.get("status") == "True":
        reason = ": ".join(filter(None, (pending.get("reason"), pending.get("message"))))
        yield f"{name}: pod {name_of(pod)} has not been given the size that it asks for: {reason or 'no reason given'}"
