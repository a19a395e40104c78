# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why pods do not run: from the workload to the cause (private: may change without notice). Pure."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterator
from datetime import datetime

from ansible_collections.progressive.platform.plugins.module_utils._debug.scene import (
    ERROR,
    WARNING,
    WORKLOADS,
    Finding,
    Json,
    Scene,
    containers_of,
    listed,
    matches_labels,
    name_of,
    one_line,
    statuses_of,
)
from ansible_collections.progressive.platform.plugins.module_utils._kube.diagnose import object_troubles, workload_of
from ansible_collections.progressive.platform.plugins.module_utils._kube.nodes import condition_problems
from ansible_collections.progressive.platform.plugins.module_utils._kube.readiness import State, conditions, readiness
from ansible_collections.progressive.platform.plugins.module_utils._preflight.quantities import humane, quantity

Chain = tuple[str, ...]

LOG_LINES = 5
STUCK = 60.0  # seconds after its grace period before a pod that is being deleted counts as stuck
EXITS = {
    1: "the program reported an error",
    2: "the program was called wrongly, or reported an error",
    126: "the command cannot be executed",
    127: "the command was not found in the image",
    128: "the program was called wrongly",
    134: "the program aborted (SIGABRT)",
    137: "it was killed (SIGKILL)",
    139: "the program crashed (SIGSEGV)",
    143: "it was asked to end (SIGTERM)",
}
MISSING_OBJECT = re.compile(
    r"(?P<kind>secret|configmap)s? \"(?P<name>[^\"]+)\" not found|couldn't find key (?P<key>\S+) in (?P<of>Secret|ConfigMap) \S+/(?P<in>\S+)"
)
UNBOUND = re.compile(r"unbound immediate PersistentVolumeClaims|persistentvolumeclaim \"(?P<claim>[^\"]+)\" not found")


def workloads(scene: Scene) -> Iterator[Finding]:
    """Every workload that is not ready, and every pod by itself, with the chains of its pods; like chains are told once."""
    for kind in WORKLOADS:
        for item in scene.all(kind):
            verdict = readiness(item)
            if verdict.state is State.READY:
                yield from _unstable(scene, kind, item)
                continue
            name = name_of(item)
            head = f"{kind} {name}: {verdict.reason}"
            told: dict[tuple[str, ...], list[str]] = {}
            for pod in scene.pods_of(kind, name):
                if chain := pod_chain(scene, pod):
                    told.setdefault(tuple(_nameless(link, pod) for link in chain), []).append(name_of(pod))
            for links, pods in told.items():
                chain = tuple(link.replace("{pod}", pods[0]) for link in links)
                others = f"(and {len(pods) - 1} more) " if len(pods) > 1 else ""
                yield Finding((kind, name), (head, f"pod {pods[0]} {others}{chain[0]}", *chain[1:]), _look(scene, pods[0]))
            if not told and (why := _no_pods(scene, kind, item)):
                yield Finding((kind, name), (head, *why), f"kubectl -n {scene.namespace} describe {kind.lower()} {name}")
            elif not told:
                yield Finding((kind, name), (head,), f"kubectl -n {scene.namespace} describe {kind.lower()} {name}", WARNING)
    for pod in scene.all("Pod"):
        owner = workload_of(pod)
        if (owner is None or owner[0] not in WORKLOADS) and (chain := pod_chain(scene, pod)):
            yield Finding(("Pod", name_of(pod)), (f"Pod {name_of(pod)} {chain[0]}", *chain[1:]), _look(scene, name_of(pod)))


def _nameless(link: str, pod: Json) -> str:
    return link.replace(name_of(pod), "{pod}")


def _look(scene: Scene, pod: str) -> str:
    return f"kubectl -n {scene.namespace} describe pod {pod}"


def _unstable(scene: Scene, kind: str, item: Json) -> Iterator[Finding]:
    """Ready now, but a container ended a short time ago or often."""
    name = name_of(item)
    for pod in scene.pods_of(kind, name):
        for status in statuses_of(pod):
            ended = (status.get("lastState") or {}).get("terminated") or {}
            if ended.get("reason") == "OOMKilled" or (status.get("restartCount") or 0) >= 3:
                times = status.get("restartCount", 0)
                chain = (
                    f"{kind} {name} is ready, but container {status['name']} of pod {name_of(pod)} was restarted {times} times",
                    *_ended(scene, pod, status, ended),
                )
                yield Finding(
                    (kind, name), chain, f"kubectl -n {scene.namespace} logs {name_of(pod)} -c {status['name']} --previous", WARNING
                )


def _no_pods(scene: Scene, kind: str, item: Json) -> Chain:
    """Why a workload has no pods, or too few: what it, or its ReplicaSet, was told by the server."""
    name = name_of(item)
    said = scene.said(kind, name, "FailedCreate") or next((trouble.reason for trouble in object_troubles(item)), "")
    if not said and kind == "Deployment":
        for owned in scene.all("ReplicaSet"):
            owners = (owned.get("metadata") or {}).get("ownerReferences") or []
            if any(owner.get("kind") == kind and owner.get("name") == name for owner in owners):
                said = said or scene.said("ReplicaSet", name_of(owned), "FailedCreate")
    if not said:
        return ()
    why: Chain = (f"no pod may be created: {one_line(said)}",)
    if "exceeded quota" in said:
        full = [
            f"{key}: {(quota.get('status') or {}).get('used', {}).get(key)} of {hard}"
            for quota in scene.all("ResourceQuota")
            for key, hard in ((quota.get("status") or {}).get("hard") or {}).items()
        ]
        why += (f"the namespace's quota is used up ({listed(full, 8)})",)
    elif "PodSecurity" in said:
        why += ("the namespace's Pod Security level forbids what the pod asks for",)
    elif "serviceaccount" in said.lower():
        why += (f"there is no such service account; there are {listed(map(name_of, scene.all('ServiceAccount')))}",)
    return why


# ---- one pod ------------------------------------------------------------------------------------------------------------------


def pod_chain(scene: Scene, pod: Json) -> Chain:
    """What keeps the pod from being ready and why, without its name; empty when nothing does."""
    status, metadata = pod.get("status") or {}, pod.get("metadata") or {}
    if metadata.get("deletionTimestamp"):
        return _leaving(scene, pod)
    if status.get("phase") == "Succeeded":
        return ()
    if status.get("phase") == "Failed" and status.get("reason"):
        return (f"failed: {status['reason']}: {one_line(str(status.get('message', '')))}", *_node(scene, pod))
    found = conditions({"status": status})
    scheduled = found.get("PodScheduled") or {}
    if scheduled.get("status") == "False":
        return _unscheduled(scene, pod, one_line(str(scheduled.get("message", ""))))
    if not scheduled and status.get("phase") == "Pending" and not (pod.get("spec") or {}).get("nodeName"):
        return ("was not looked at by the scheduler yet", "kube-scheduler may not be running")
    for container in statuses_of(pod):
        if chain := _container(scene, pod, container):
            return chain
    if (volumes := scene.said("Pod", name_of(pod), "FailedMount", "FailedAttachVolume")) and status.get("phase") == "Pending":
        return ("cannot start: a volume cannot be mounted", one_line(volumes), *_missing(scene, volumes))
    if (sandbox := scene.said("Pod", name_of(pod), "FailedCreatePodSandBox")) and status.get("phase") == "Pending":
        return ("cannot start: its network or sandbox cannot be made", one_line(sandbox), *_node(scene, pod))
    if (found.get("Ready") or {}).get("status") == "False":
        return _unready(scene, pod, found["Ready"])
    return ()


def _leaving(scene: Scene, pod: Json) -> Chain:
    metadata = pod["metadata"]
    late = (scene.now - _time(metadata["deletionTimestamp"])).total_seconds()
    if late < STUCK:
        return ()
    held = metadata.get("finalizers") or []
    why: Chain = (f"finalizers hold it: {', '.join(held)}",) if held else ()
    return (
        f"is being deleted, and should have been gone {late:.0f} s ago",
        *(why or _node(scene, pod) or ("its node does not say that it ended",)),
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _unscheduled(scene: Scene, pod: Json, said: str) -> Chain:
    chain: Chain = ("finds no node", f"the scheduler says: {said}")
    unbound = UNBOUND.search(said)
    if unbound:
        claims = [(volume.get("persistentVolumeClaim") or {}).get("claimName") for volume in (pod.get("spec") or {}).get("volumes") or []]
        for claim in filter(None, claims):
            if why := claim_chain(scene, claim):
                return (*chain, *why)
    for what in ("memory", "cpu"):
        if f"Insufficient {what}" in said:
            asked = sum(
                (
                    quantity(((one.get("resources") or {}).get("requests") or {}).get(what, 0))
                    for one in (pod.get("spec") or {}).get("containers") or []
                ),
                quantity(0),
            )
            room = [quantity(((node.get("status") or {}).get("allocatable") or {}).get(what, 0)) for node in scene.all("Node")]
            if room:
                largest = max(room)
                more = "no node is that large" if asked > largest else "the others have given away what they have"
                chain += (f"it asks for {humane(asked, what)} of {what}, and the largest node has {humane(largest, what)}: {more}",)
    if "untolerated taint" in said and not ((pod.get("spec") or {}).get("tolerations") or []):
        chain += ("it tolerates no taint",)
    if "node affinity" in said or "node selector" in said.lower():
        wanted = (pod.get("spec") or {}).get("nodeSelector") or {}
        if wanted and not any(matches_labels((node.get("metadata") or {}).get("labels") or {}, wanted) for node in scene.all("Node")):
            chain += (f"it wants a node with {', '.join(f'{key}={value}' for key, value in wanted.items())}, and no node has these labels",)
    return (*chain, *(problem for node in scene.all("Node") for problem in condition_problems(node)))


def claim_chain(scene: Scene, name: str) -> Chain:
    """Why a claim has no volume; empty when it has one."""
    claim = scene.find("PersistentVolumeClaim", name)
    if claim is None:
        return (f"there is no PersistentVolumeClaim {name}; there are {listed(map(name_of, scene.all('PersistentVolumeClaim')))}",)
    phase = (claim.get("status") or {}).get("phase")
    if phase == "Bound":
        return ()
    if phase == "Lost":
        return (f"the volume of claim {name} is gone ({(claim.get('spec') or {}).get('volumeName', '?')})",)
    chain: Chain = (f"claim {name} has no volume",)
    wanted = (claim.get("spec") or {}).get("storageClassName")
    classes = {name_of(it): it for it in scene.all("StorageClass")}
    if wanted and wanted not in classes:
        return (*chain, f"there is no StorageClass {wanted}; there are {listed(classes)}")
    if wanted is None and not any(
        (it["metadata"].get("annotations") or {}).get("storageclass.kubernetes.io/is-default-class") == "true" for it in classes.values()
    ):
        return (*chain, "it names no StorageClass, and no class is the default")
    said = scene.said("PersistentVolumeClaim", name, "ProvisioningFailed", "FailedBinding")
    return (*chain, one_line(said)) if said else (*chain, f"StorageClass {wanted} has not made one yet; is its provisioner running?")


def claims(scene: Scene) -> Iterator[Finding]:
    """Claims without a volume that no pod waits for, and volumes that failed."""
    waiting = {
        (volume.get("persistentVolumeClaim") or {}).get("claimName")
        for pod in scene.all("Pod")
        for volume in (pod.get("spec") or {}).get("volumes") or []
    }
    for claim in scene.all("PersistentVolumeClaim"):
        name = name_of(claim)
        later = any(
            event.get("reason") == "WaitForFirstConsumer" and (event.get("involvedObject") or {}).get("name") == name
            for event in scene.all("Event")
        )
        chain = claim_chain(scene, name)
        if chain and name not in waiting and not (later and len(chain) == 2 and "provisioner" in chain[1]):
            yield Finding(
                ("PersistentVolumeClaim", name),
                (f"PersistentVolumeClaim {name} is not bound", *chain),
                f"kubectl -n {scene.namespace} describe pvc {name}",
            )
    for volume in scene.all("PersistentVolume"):
        reference = (volume.get("spec") or {}).get("claimRef") or {}
        if reference.get("namespace") == scene.namespace and (volume.get("status") or {}).get("phase") == "Failed":
            said = (volume.get("status") or {}).get("message", "")
            yield Finding(
                ("PersistentVolume", name_of(volume)),
                (f"PersistentVolume {name_of(volume)} failed", one_line(said)),
                f"kubectl describe pv {name_of(volume)}",
            )


def _container(scene: Scene, pod: Json, status: Json) -> Chain:
    name, state = status.get("name", "?"), status.get("state") or {}
    waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
    reason, said = waiting.get("reason") or "", one_line(str(waiting.get("message") or ""))
    if reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"):
        text = one_line(scene.said("Pod", name_of(pod), "Failed", "InspectFailed", "ErrImageNeverPull") or said)
        return (f"cannot start: container {name} has no image", f"the image {status.get('image')} cannot be had: {text}", *_image(text))
    if reason in ("CreateContainerConfigError", "CreateContainerError", "RunContainerError"):
        return (f"cannot start: container {name} cannot be made ({reason})", said, *_missing(scene, said))
    last = (status.get("lastState") or {}).get("terminated") or {}
    if reason == "CrashLoopBackOff" or (ended and ended.get("exitCode") != 0 and (pod.get("spec") or {}).get("restartPolicy") != "Never"):
        times = status.get("restartCount", 0)
        return (f"container {name} ends again and again ({times} restarts)", *_ended(scene, pod, status, last or ended))
    if ended and ended.get("exitCode") != 0:
        return (f"container {name} ended", *_ended(scene, pod, status, ended))
    init = any(one.get("name") == name for one in (pod.get("spec") or {}).get("initContainers") or [])
    if init and "running" in state and not status.get("started") and not status.get("ready"):
        words = _words(scene, pod, name, before=False)
        return (f"is not begun: its first container {name} has not ended yet", *words)
    return ()


def _ended(scene: Scene, pod: Json, status: Json, ended: Json) -> Chain:
    """How a container ended and what it said before."""
    name, code = status.get("name", "?"), ended.get("exitCode")
    container = next((one for one in containers_of(pod) if one.get("name") == name), {})
    if ended.get("reason") == "OOMKilled":
        limit = ((container.get("resources") or {}).get("limits") or {}).get("memory", "none, so the node's memory ran out")
        return (f"it used more memory than it may: OOMKilled (limit: {limit})", *_words(scene, pod, name, before=True))
    killed = scene.said("Pod", name_of(pod), "Unhealthy")
    # 137 and 143 are the kubelet's doing when the liveness probe failed; the program itself was still running then.
    if code in (137, 143) and "iveness probe failed" in killed + scene.said("Pod", name_of(pod), "Killing"):
        return (f"its liveness probe failed: {one_line(killed)}", *_words(scene, pod, name, before=True))
    why = f"exit code {code}" + (f": {EXITS[code]}" if code in EXITS else "")
    if ended.get("reason") == "StartError" or (code == 128 and ended.get("message")):
        why = f"it cannot be started: {one_line(str(ended.get('message', '')))}"
    elif ended.get("message"):
        why += f"; it left the message: {one_line(str(ended['message']))}"
    return (why, *_words(scene, pod, name, before=True))


def _words(scene: Scene, pod: Json, container: str, before: bool) -> Chain:
    place = (name_of(pod), container)
    text = (scene.before.get(place) or scene.logs.get(place)) if before else scene.logs.get(place)
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return (f"its last words: {one_line(' | '.join(lines[-LOG_LINES:]), 600)}",) if lines else ()


def _image(said: str) -> Chain:
    lowered = said.lower()
    if "not found" in lowered or "manifest unknown" in lowered:
        return ("there is no such image or tag",)
    if any(word in lowered for word in ("unauthorized", "denied", "authentication required", "403", "401")):
        return ("the registry asks for credentials that the pod's pull secrets do not give",)
    if any(word in lowered for word in ("no such host", "dial tcp", "timeout", "connection refused", "server misbehaving")):
        return ("the node does not reach the registry",)
    return ()


def _missing(scene: Scene, said: str) -> Chain:
    """An object that a message names as missing; of Secrets nobody asks what there is."""
    match = MISSING_OBJECT.search(said)
    if not match:
        return ()
    if match["key"]:
        found = scene.find("ConfigMap", match["in"]) if match["of"] == "ConfigMap" else None
        there = f"; its keys are {listed((found or {}).get('data') or {})}" if found else ""
        return (f"{match['of']} {match['in']} has no key {match['key']}{there}",)
    if match["kind"] == "configmap":
        return (f"there is no ConfigMap {match['name']}; there are {listed(map(name_of, scene.all('ConfigMap')))}",)
    return (f"there is no Secret {match['name']} in namespace {scene.namespace}",)


def _unready(scene: Scene, pod: Json, ready: Json) -> Chain:
    waiting = [
        status.get("name", "?") for status in statuses_of(pod) if not status.get("ready") and "running" in (status.get("state") or {})
    ]
    name = waiting[0] if waiting else "?"
    container = next((one for one in containers_of(pod) if one.get("name") == name), {})
    started = next((status.get("started") for status in statuses_of(pod) if status.get("name") == name), None)
    probe = "startup" if started is False else "readiness"
    shown = _probe(container.get(f"{probe}Probe") or {})
    said = scene.said("Pod", name_of(pod), "Unhealthy")
    node = _node(scene, pod)
    if not waiting:
        return (f"is not ready: {one_line(str(ready.get('message') or ready.get('reason') or ''))}", *node)
    chain: Chain = (f"runs, but container {name} is not ready",)
    if shown:
        chain += (f"its {probe} probe ({shown}) does not succeed" + (f": {one_line(said)}" if said else ""),)
    if "connection refused" in said and (port := _port(container, probe)):
        declared = [str(one.get("containerPort")) for one in container.get("ports") or []]
        chain += (
            f"nothing listens on port {port}"
            + (f"; the container declares {', '.join(declared)}" if declared and str(port) not in declared else ""),
        )
    return (*chain, *_words(scene, pod, name, before=False), *node)


def _probe(probe: Json) -> str:
    if "httpGet" in probe:
        return f"GET {probe['httpGet'].get('path', '/')} on port {probe['httpGet'].get('port')}"
    if "tcpSocket" in probe:
        return f"a connection to port {probe['tcpSocket'].get('port')}"
    if "grpc" in probe:
        return f"gRPC health on port {probe['grpc'].get('port')}"
    if "exec" in probe:
        return "the command " + one_line(" ".join(map(str, probe["exec"].get("command") or [])), 120)
    return ""


def _port(container: Json, probe: str) -> t.Any:
    check = container.get(f"{probe}Probe") or {}
    port = next((check[kind].get("port") for kind in ("httpGet", "tcpSocket", "grpc") if kind in check), None)
    named = {one.get("name"): one.get("containerPort") for one in container.get("ports") or []}
    return named.get(port, port)


def _node(scene: Scene, pod: Json) -> Chain:
    node = scene.find("Node", (pod.get("spec") or {}).get("nodeName") or "")
    return tuple(condition_problems(node)) if node else ()


def nodes(scene: Scene) -> Iterator[Finding]:
    """Nodes that are not ready or under pressure, with how many of the namespace's pods are there."""
    for node in scene.all("Node"):
        for problem in condition_problems(node):
            here = [name_of(pod) for pod in scene.all("Pod") if (pod.get("spec") or {}).get("nodeName") == name_of(node)]
            chain = (
                (problem.replace("node ", "Node ", 1), f"pods of this namespace there: {listed(here)}")
                if here
                else (problem.replace("node ", "Node ", 1),)
            )
            yield Finding(("Node", name_of(node)), chain, f"kubectl describe node {name_of(node)}", ERROR if here else WARNING)
