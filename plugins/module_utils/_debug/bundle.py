# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module debug_bundle: fetch, diagnose, redact, pack (private: may change without notice).

Secrets are never asked for. What is packed went through one redactor; with ``known_from_secrets`` the values of the namespace's Secrets are read for
that redactor alone, so that a log that repeats one is hidden for certain and not only by its looks.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import typing as t
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._debug.causes import diagnose
from ansible_collections.progressive.platform.plugins.module_utils._debug.network import called
from ansible_collections.progressive.platform.plugins.module_utils._debug.scene import (
    WORKLOADS,
    About,
    Finding,
    Json,
    Scene,
    containers_of,
    labels_of,
    last_seen,
    listed,
    matches_labels,
    name_of,
    one_line,
    owner_of,
    statuses_of,
)
from ansible_collections.progressive.platform.plugins.module_utils._health.foundation import expiry
from ansible_collections.progressive.platform.plugins.module_utils._kube import graph, masks
from ansible_collections.progressive.platform.plugins.module_utils._kube.arguments import CONNECTION
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client, connect
from ansible_collections.progressive.platform.plugins.module_utils._kube.discovery import Resource
from ansible_collections.progressive.platform.plugins.module_utils._kube.logs import GONE
from ansible_collections.progressive.platform.plugins.module_utils._kube.redact import Redactor
from ansible_collections.progressive.platform.plugins.module_utils._kube.watch import named
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

ARGUMENTS: dict[str, t.Any] = {
    "namespace": {"type": "str"},
    "workload": {"type": "str"},
    "dest": {"type": "path"},
    "log_lines": {"type": "int", "default": 200},
    "files": {"type": "list", "elements": "path", "default": []},
    "hide": {"type": "list", "elements": "str", "default": [], "no_log": True},
    "known_from_secrets": {"type": "bool", "default": False},
    "fail": {"type": "bool", "default": False},
    **CONNECTION,
}

# Everything that a namespace is made of, but Secrets.
KINDS: tuple[tuple[str, str], ...] = (
    ("", "Pod"),
    ("", "Event"),
    ("", "Service"),
    ("", "ConfigMap"),
    ("", "ServiceAccount"),
    ("", "PersistentVolumeClaim"),
    ("", "ResourceQuota"),
    ("", "LimitRange"),
    ("", "Node"),
    ("", "Namespace"),
    ("", "PersistentVolume"),
    ("apps", "Deployment"),
    ("apps", "ReplicaSet"),
    ("apps", "StatefulSet"),
    ("apps", "DaemonSet"),
    ("batch", "Job"),
    ("batch", "CronJob"),
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("autoscaling.k8s.io", "VerticalPodAutoscaler"),
    ("policy", "PodDisruptionBudget"),
    ("discovery.k8s.io", "EndpointSlice"),
    ("networking.k8s.io", "NetworkPolicy"),
    ("networking.k8s.io", "Ingress"),
    ("storage.k8s.io", "StorageClass"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "HTTPRoute"),
    ("networking.istio.io", "VirtualService"),
    ("networking.istio.io", "DestinationRule"),
    ("security.istio.io", "AuthorizationPolicy"),
    ("security.istio.io", "PeerAuthentication"),
    ("security.istio.io", "RequestAuthentication"),
    ("cert-manager.io", "Certificate"),
    ("metrics.k8s.io", "PodMetrics"),
)
DNS_NAMESPACE = "kube-system"
DNS_KINDS = ("Service", "Pod", "EndpointSlice", "Event")
WORKERS = 12
LOG_TIMEOUT = 5.0  # seconds for one log
LONGEST_LINE = 4000  # characters
MOST_PODS = 60  # whose logs are read; those that are not well come first


def run(params: Params, context: Context) -> Result:
    """Result: ok, findings, dest, hidden (how much the redactor hid), missing (what could not be read)."""
    if params["log_lines"] < 1:
        raise PlatformError(f"log_lines is {params['log_lines']}; at least 1 is wanted.")
    with connect(params, context.clock) as client:
        namespace = params["namespace"] or client.access.namespace
        scene, missing = fetch(client, namespace, params["log_lines"], params["workload"])
        known = [*params["hide"], *(secrets_of(client, namespace) if params["known_from_secrets"] else ())]
    focus = focus_of(scene, params["workload"]) if params["workload"] else None
    redactor = Redactor(known)
    found = [
        Finding(it.about, tuple(map(redactor.text, it.chain)), redactor.text(it.next), it.level)
        for it in diagnose(scene, expiry)
        if focus is None or it.about in focus
    ]
    result: Result = {"changed": False, "ok": not found, "findings": [it.as_dict() for it in found], "missing": missing}
    words = spoken(namespace, params["workload"], scene, found, missing)
    if params["dest"] and not context.check:
        contents = packed(scene, focus, found, words, params["files"], redactor, missing)
        result["dest"] = write(
            Path(params["dest"]), f"{namespace}{'-' + name_part(params['workload']) if params['workload'] else ''}", contents, scene.now
        )
        result["changed"] = True
        words += f"\nEverything that was looked at is in {result['dest']} (nothing of a Secret, {redactor.hidden} places hidden)."
    result |= {"hidden": redactor.hidden, "msg": words}
    if found and params["fail"]:
        raise PlatformError(words, **{key: value for key, value in result.items() if key != "msg"})
    return result


def name_part(workload: str) -> str:
    return workload.rpartition("/")[2]


# ---- fetch --------------------------------------------------------------------------------------------------------------------


def fetch(client: Client, namespace: str, lines: int, workload: str | None) -> tuple[Scene, list[str]]:
    """All there is in the namespace, side by side, then the logs. What may not be read is named and left out."""
    served: dict[tuple[str, str], Resource] = {}
    for resource in client.discovery.all().values():
        served.setdefault((resource.group, resource.kind), resource)
    wanted = [(served[kind], namespace) for kind in KINDS if kind in served]
    wanted += [(served["", kind] if kind != "EndpointSlice" else served["discovery.k8s.io", kind], DNS_NAMESPACE) for kind in DNS_KINDS]

    def read(index: int) -> list[Json]:
        resource, space = wanted[index]
        if resource.kind == "Namespace":
            item = client.find(resource.path(None, space))
            return [named(item, resource)] if item else []
        items = client.list(resource, space if resource.namespaced else None)["items"]
        return [named(item, resource) for item in items]

    objects: dict[str, Sequence[Json]] = {}
    dns: dict[str, Sequence[Json]] = {}
    missing: list[str] = []
    for (resource, space), items in zip(wanted, graph.run([set() for _unused in wanted], read, WORKERS), strict=True):
        if isinstance(items, ApiError) and items.status:
            missing.append(f"{resource.kind} in {space}: {items.status} {items.reason}")
        elif isinstance(items, Exception):
            raise items
        else:
            (dns if space == DNS_NAMESPACE != namespace else objects)[resource.kind] = items
    if namespace == DNS_NAMESPACE:
        dns = {kind: objects.get(kind, ()) for kind in DNS_KINDS}
    if not objects.get("Namespace") and not any("Namespace in" in it for it in missing):
        raise PlatformError(f"There is no namespace {namespace!r} on {client.access}. See `kubectl get namespaces`.")
    if ("metrics.k8s.io", "PodMetrics") not in served:
        missing.append("what pods use: no metrics server is installed")
    usage = {
        (name_of(item), one["name"]): one.get("usage") or {}
        for item in objects.pop("PodMetrics", ())
        for one in item.get("containers") or []
    }
    bare = Scene(namespace, objects, datetime.now(UTC), usage=usage, dns=dns)
    logs, before = read_logs(client, bare, lines, focus_of(bare, workload) if workload else None)
    return Scene(namespace, objects, bare.now, logs, before, usage, dns), missing


def read_logs(
    client: Client, scene: Scene, lines: int, focus: frozenset[About] | None
) -> tuple[dict[tuple[str, str], str], dict[tuple[str, str], str]]:
    """The last words of every container that ever ran, and those before its last restart."""
    pods = [pod for pod in scene.all("Pod") if focus is None or ("Pod", name_of(pod)) in focus]
    pods.sort(key=lambda pod: all(status.get("ready") for status in statuses_of(pod)))
    wanted = [
        (name_of(pod), status["name"], previous)
        for pod in pods[:MOST_PODS]
        for status in statuses_of(pod)
        for previous in ((False, True) if status.get("restartCount") else (False,))
        if status.get("containerID") or status.get("lastState")
    ]
    resource = client.resource("v1", "Pod")

    def read(index: int) -> str:
        pod, container, previous = wanted[index]
        path = resource.path(scene.namespace, pod, "log")
        text = client.text(path, timeout=LOG_TIMEOUT, container=container, previous=previous or None, tailLines=lines)
        return "" if text.startswith(GONE) else "\n".join(line[:LONGEST_LINE] for line in text.splitlines())

    logs: dict[tuple[str, str], str] = {}
    before: dict[tuple[str, str], str] = {}
    for (pod, container, previous), text in zip(wanted, graph.run([set() for _unused in wanted], read, WORKERS), strict=True):
        if isinstance(text, str) and text:
            (before if previous else logs)[pod, container] = text
    return logs, before


def secrets_of(client: Client, namespace: str) -> set[str]:
    """The values of the namespace's Secrets, for the redactor and nobody else."""
    items = client.list(client.resource("v1", "Secret"), namespace)["items"]
    return masks.secret_values({**item, "apiVersion": "v1", "kind": "Secret"} for item in items)


def focus_of(scene: Scene, workload: str) -> frozenset[About]:
    """A workload and all that belongs to it: its pods and their nodes, claims, Services, autoscalers, and the Services that it calls."""
    kind, _slash, name = workload.rpartition("/")
    kinds = [it for it in (*WORKLOADS, "CronJob", "Pod") if not kind or it.lower() == kind.lower()]
    roots = [(it, name) for it in kinds if scene.find(it, name) is not None]
    if not roots:
        there = [f"{it}/{name_of(item)}" for it in WORKLOADS for item in scene.all(it)]
        raise PlatformError(f"workload: there is no {workload!r} in namespace {scene.namespace}; there are {listed(there, 12)}.")
    focus: set[About] = set(roots)
    for root in roots:
        pods = [pod for pod in scene.all("Pod") if owner_of(pod) == root or ("Pod", name_of(pod)) == root]
        template = ((((scene.find(*root) or {}).get("spec") or {}).get("template") or {}).get("metadata") or {}).get("labels") or {}
        for pod in pods:
            focus |= {("Pod", name_of(pod)), ("Node", str((pod.get("spec") or {}).get("nodeName")))}
            for volume in (pod.get("spec") or {}).get("volumes") or []:
                focus.add(("PersistentVolumeClaim", str((volume.get("persistentVolumeClaim") or {}).get("claimName"))))
            hosts = {host.partition(".")[0] for host, _port in called(scene, pod)}
            focus |= {("Service", host) for host in hosts}
        for service in scene.all("Service"):
            selector = (service.get("spec") or {}).get("selector")
            if selector and any(matches_labels(labels, selector) for labels in (template, *map(labels_of, pods))):
                focus.add(("Service", name_of(service)))
        for kind in ("HorizontalPodAutoscaler", "VerticalPodAutoscaler"):
            for item in scene.all(kind):
                spec = item.get("spec") or {}
                target = spec.get("scaleTargetRef") or spec.get("targetRef") or {}
                if (target.get("kind"), target.get("name")) == root:
                    focus.add((kind, name_of(item)))
    return frozenset(focus)


# ---- words and archive --------------------------------------------------------------------------------------------------------


def spoken(namespace: str, workload: str | None, scene: Scene, found: Sequence[Finding], missing: Iterable[str]) -> str:
    """What a person reads first."""
    whom = f"{workload} in {namespace}" if workload else f"namespace {namespace}"
    pods = scene.all("Pod")
    if found:
        head = f"{whom}: {len(found)} findings, {len(pods)} pods in the namespace."
    else:
        head = (
            f"{whom}: nothing wrong was found ({len(pods)} pods, {len(scene.all('Service'))} services, {len(scene.all('Event'))} events)."
        )
    lines = [head, *(f"- [{it.level}] {it.sentence()}" for it in found)]
    if unread := list(missing):
        lines.append(f"Not looked at: {'; '.join(unread)}.")
    return "\n".join(lines)


def packed(
    scene: Scene,
    focus: frozenset[About] | None,
    found: Sequence[Finding],
    words: str,
    files: Iterable[str],
    redactor: Redactor,
    missing: list[str],
) -> dict[str, str]:
    """The archive's files, redacted, by name. With a focus only the objects, logs and events that belong to it, and what the cluster has in common."""
    common = ("Node", "Namespace", "StorageClass", "NetworkPolicy", "ResourceQuota", "LimitRange")
    contents = {"summary.txt": words + "\n", "findings.json": dumped([it.as_dict() for it in found])}
    for kind, items in sorted(scene.objects.items()):
        if kind in ("Event", "Secret"):
            continue
        chosen = [it for it in items if focus is None or kind in common or (kind, name_of(it)) in focus]
        if chosen:
            contents[f"objects/{kind.lower()}.json"] = dumped([redactor.item(it) for it in chosen])
    for kind, items in sorted(scene.dns.items()):
        if kind != "Event" and scene.namespace != DNS_NAMESPACE:
            chosen = [it for it in items if labels_of(it).get("k8s-app") == "kube-dns"]
            contents[f"dns/{kind.lower()}.json"] = dumped([redactor.item(it) for it in chosen])
    events = sorted(scene.all("Event"), key=last_seen)
    contents["events.txt"] = "".join(f"{redactor.text(_event(it))}\n" for it in events if focus is None or _involved(it) in focus)
    for place, logs in (("log", scene.logs), ("previous.log", scene.before)):
        for (pod, container), text in sorted(logs.items()):
            if focus is None or ("Pod", pod) in focus:
                contents[f"logs/{pod}/{container}.{place}"] = redactor.text(text) + "\n"
    if scene.usage:
        contents["usage.json"] = dumped([{"pod": pod, "container": name, **used} for (pod, name), used in sorted(scene.usage.items())])
    for file in files:
        for path in sorted(Path(file).rglob("*")) if Path(file).is_dir() else [Path(file)]:
            if path.is_file() and path.suffix not in (".gz", ".tgz"):
                inside = path.relative_to(Path(file).parent)
                contents[f"files/{inside}"] = redactor.text(path.read_text(encoding="utf-8", errors="replace"))
    manifest = {
        "namespace": scene.namespace,
        "time": scene.now.isoformat(timespec="seconds"),
        "missing": missing,
        "hidden": redactor.hidden,
    }
    contents["manifest.json"] = dumped(
        {**manifest, "containers": sum(len(containers_of(pod)) for pod in scene.all("Pod")), "files": sorted(contents)}
    )
    return contents


def dumped(value: t.Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _event(event: Json) -> str:
    kind, name = _involved(event)
    times = f" x{event['count']}" if (event.get("count") or 1) > 1 else ""
    return f"{last_seen(event)} {event.get('type', '')} {event.get('reason', '')}{times} {kind}/{name}: {one_line(str(event.get('message') or ''))}"


def _involved(event: Json) -> About:
    about = event.get("involvedObject") or {}
    return str(about.get("kind")), str(about.get("name"))


def write(dest: Path, name: str, contents: Mapping[str, str], now: datetime) -> str:
    """One archive that only its owner may read; a folder gets a name of the time."""
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    file = dest if dest.name.endswith((".tar.gz", ".tgz")) else dest / f"{name}-{stamp}.tar.gz"
    root = file.name.removesuffix(".tgz").removesuffix(".tar.gz")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with (
            open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as raw,
            tarfile.open(fileobj=raw, mode="w:gz") as archive,
        ):
            os.fchmod(raw.fileno(), 0o600)
            for inside, text in contents.items():
                data = text.encode("utf-8", "replace")
                entry = tarfile.TarInfo(f"{root}/{inside}")
                entry.size, entry.mode, entry.mtime = len(data), 0o600, int(now.timestamp())
                archive.addfile(entry, io.BytesIO(data))
    except OSError as error:
        raise PlatformError(f"The bundle cannot be written to {file}: {error.strerror}. Choose another dest.") from error
    return str(file)
