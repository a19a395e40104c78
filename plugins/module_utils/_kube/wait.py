# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waiting by watch until objects are ready, or until one cannot become so (private: may change without notice)."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable
from dataclasses import dataclass, field

from ansible_collections.progressive.platform.plugins.module_utils._kube import diagnose
from ansible_collections.progressive.platform.plugins.module_utils._kube.applyset import PART_OF, ApplySet, Contents
from ansible_collections.progressive.platform.plugins.module_utils._kube.arguments import CONNECTION, WAIT
from ansible_collections.progressive.platform.plugins.module_utils._kube.bundle import Key, group_of, key_of
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client, connect
from ansible_collections.progressive.platform.plugins.module_utils._kube.discovery import Resource
from ansible_collections.progressive.platform.plugins.module_utils._kube.logs import last_log
from ansible_collections.progressive.platform.plugins.module_utils._kube.readiness import (
    READY,
    Readiness,
    State,
    pending,
    readiness,
    unseen,
    waits,
)
from ansible_collections.progressive.platform.plugins.module_utils._kube.watch import (
    DELETED,
    FAILED,
    LISTED,
    Change,
    Source,
    Streams,
    named,
)
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

Json = dict[str, t.Any]

ARGUMENTS: dict[str, t.Any] = {
    "sets": {"type": "list", "elements": "str", "required": True},
    "namespace": {"type": "str"},
    "wait_timeout": WAIT["wait_timeout"],
    **CONNECTION,
}

LOG_LINES = 10  # of a crashed container's last run
LOG_TIMEOUT = 5.0  # seconds
TICK = 0.5  # seconds between two looks at the clock for troubles whose patience runs out
OWNERS = frozenset({"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"})


def run(params: Params, context: Context) -> Result:
    """Waits for every member of the named sets. In check mode it looks once and does not wait."""
    with connect(params, context.clock) as client:
        namespace = params["namespace"] or client.access.namespace
        sets = [ApplySet(name, namespace) for name in params["sets"]]
        items, selector = members(client, sets, missing_ok=context.check)
        if not context.check:
            wait(client, items, selector, timeout=params["wait_timeout"], context=context, component=", ".join(params["sets"]))
        return {"changed": False, "objects": [described(key_of(item), item) for item in items]}


def described(key: Key, item: Json) -> Json:
    return {"apiVersion": item["apiVersion"], "kind": key.kind, "namespace": key.namespace, "name": key.name}


def members(client: Client, sets: list[ApplySet], missing_ok: bool = False) -> tuple[list[Json], str]:
    """The members of the sets and the label selector that finds them; raises PlatformError for a set that does not exist."""
    contents = Contents()
    parents = client.resource("v1", "ConfigMap")
    for group in sets:
        parent = client.find(parents.path(group.namespace, group.parent_name))
        if parent is None and not missing_ok:
            raise PlatformError(
                f"There is no ApplySet {group.name!r} in the namespace {group.namespace!r} of {client.access} "
                f"(its parent ConfigMap {group.parent_name} does not exist). Apply it first; "
                "see which there are with `kubectl get configmaps -A -l applyset.kubernetes.io/id`."
            )
        contents |= group.contents(parent)
    selector = f"{PART_OF} in ({','.join(group.id for group in sets)})"
    items: list[Json] = []
    for resource in served(client, contents):
        if waits(resource.api_version, resource.kind):
            for namespace in spaces(resource, contents):
                answer = client.list(resource, namespace, labelSelector=selector)
                items += [named(item, resource) for item in answer["items"]]
    return items, selector


def served(client: Client, contents: Contents) -> list[Resource]:
    """The resources of the set's kinds, in the version the server prefers; kinds that are no longer served have no members."""
    preferred: dict[tuple[str, str], Resource] = {}
    for resource in client.discovery.all().values():
        preferred.setdefault((resource.group, resource.kind), resource)
    return [preferred[kind] for kind in sorted(contents.kinds) if kind in preferred]


def spaces(resource: Resource, contents: Contents) -> list[str | None]:
    return [*sorted(contents.namespaces)] if resource.namespaced else [None]


def wait(client: Client, items: Iterable[Json], selector: str | None, *, timeout: float, context: Context, component: str) -> None:
    """Returns when every object is ready; raises PlatformError at once when one cannot become so, or after ``timeout`` seconds.

    ``items`` are the objects as they are now; ``selector`` narrows the watches to them. ``component`` names the wait in progress reports.
    """
    board = Board({key_of(item): item for item in items if waits(item["apiVersion"], item["kind"])})
    if board.pending():
        deadline = context.clock.now() + timeout
        with Streams(client, deadline) as streams:
            _follow(client, streams, board, selector)
            _until_ready(client, streams, board, deadline=deadline, context=context, component=component)
    context.progress.report(component, "ready", done=True)


def _follow(client: Client, streams: Streams, board: Board, selector: str | None) -> None:
    namespaces = set()
    waiting = list(board.pending())
    for key in dict.fromkeys([*waiting, *(target for key in waiting if (target := board.scaled_by(key)))]):
        resource = client.resource(board.items[key]["apiVersion"], key.kind)
        streams.follow(Source(resource, key.namespace or None, selector))
        if key.kind in OWNERS or key.kind == "PersistentVolumeClaim":
            namespaces.add(key.namespace)
    for namespace in sorted(namespaces):
        streams.follow(Source(client.resource("v1", "Pod"), namespace))
        streams.follow(Source(client.resource("v1", "Event"), namespace))


def _until_ready(client: Client, streams: Streams, board: Board, *, deadline: float, context: Context, component: str) -> None:
    told = ""
    while True:
        now = context.clock.now()
        waiting = board.pending()
        if not waiting:
            return
        lost = [f"{key}: {verdict.reason}" for key, verdict in waiting.items() if verdict.state is State.FAILED]
        lost += board.hopeless(client, now)
        if lost:
            raise PlatformError(f"Not ready, and will not be by itself: {'; '.join(lost)}.{advice(waiting)}", pending=reasons(waiting))
        if now >= deadline:
            seen = "; ".join(f"{key} {verdict.reason}{board.hint(key, now)}" for key, verdict in waiting.items())
            raise PlatformError(f"Not ready in time: {seen}.{advice(waiting)}", pending=reasons(waiting))
        first = next(iter(waiting))
        message = f"{len(board.items) - len(waiting)} of {len(board.items)} ready; {first} {waiting[first].reason}{board.hint(first, now)}"
        if message != told:
            context.progress.report(component, message)
            told = message
        change = streams.next(min(TICK, deadline - now))
        while change is not None:
            board.take(change, context.clock.now())
            change = streams.next(0) if not streams.changes.empty() else None


def reasons(waiting: dict[Key, Readiness]) -> list[Json]:
    return [{"kind": key.kind, "namespace": key.namespace, "name": key.name, "reason": verdict.reason} for key, verdict in waiting.items()]


def advice(waiting: dict[Key, Readiness]) -> str:
    key = next(iter(waiting))
    where = f"-n {key.namespace} " if key.namespace else ""
    return f" Look closer with `kubectl {where}describe {key.kind.lower()} {key.name}`" + (
        f" and `kubectl {where}get pods,events`." if key.namespace else "."
    )


@dataclass
class Board:
    """What is known of the objects waited for, of their pods and of events; pure but for the questions ``hopeless`` asks."""

    items: dict[Key, Json]
    pods: dict[tuple[str, str], Json] = field(default_factory=dict)
    since: dict[tuple[str, ...], float] = field(default_factory=dict)
    events: dict[tuple[str, str, str, str], tuple[diagnose.Trouble, float, float]] = field(default_factory=dict)
    scaling_up: set[tuple[str, str]] = field(default_factory=set)
    bound_later: set[tuple[str, str]] = field(default_factory=set)
    outdated: dict[tuple[str, str], bool] = field(default_factory=dict)
    listed: set[Source] = field(default_factory=set)

    def pending(self) -> dict[Key, Readiness]:
        """Everything that is not ready, the failed first."""
        verdicts = {key: self._verdict(key, item) for key, item in self.items.items()}
        waiting = {key: verdict for key, verdict in verdicts.items() if verdict.state is not State.READY}
        return dict(sorted(waiting.items(), key=lambda entry: entry[1].state is not State.FAILED))

    def _verdict(self, key: Key, item: Json) -> Readiness:
        if not item.get("metadata"):
            return pending("does not exist any more")
        if key.kind == "PersistentVolumeClaim" and (key.namespace, key.name) in self.bound_later:
            return READY  # its volume is made when a pod wants it; the pod's workload is what to wait for
        verdict, target = readiness(item), self.scaled_by(key)
        if verdict.state is State.READY and target is not None:
            least, now = int(item["spec"].get("minReplicas") or 1), (self.items[target].get("spec") or {}).get("replicas")
            if now is not None and 0 < now < least:  # 0 is intended: that switches the autoscaler off
                return pending(f"{target.kind} {target.name} has not heard yet that it shall have {least} pods")
        return verdict

    def scaled_by(self, key: Key) -> Key | None:
        """The workload that an autoscaler scales, if it is waited for as well: it is not ready before it has the pods that are asked for."""
        if key.kind != "HorizontalPodAutoscaler":
            return None
        reference = (self.items[key].get("spec") or {}).get("scaleTargetRef") or {}
        target = Key(group_of(reference.get("apiVersion") or ""), reference.get("kind") or "", key.namespace, reference.get("name") or "")
        return target if target in self.items else None

    def take(self, change: Change, now: float) -> None:
        """Notes a change; ``now`` in the clock's seconds. Raises the error of a stream that the wait cannot do without."""
        kind, group = change.source.resource.kind, change.source.resource.group
        if change.event == FAILED:
            if kind in ("Pod", "Event") and not group:
                return  # no right to read them: the wait goes on without their reasons
            raise change.error or PlatformError(f"{kind} cannot be watched.")
        for item in change.items:
            metadata = item.get("metadata") or {}
            place = (metadata.get("namespace") or "", metadata.get("name") or "")
            key = Key(group, kind, *place)
            if key in self.items:
                self.items[key] = {"apiVersion": item["apiVersion"], "kind": kind} if change.event == DELETED else item
            if kind == "Pod" and not group:
                if change.event == DELETED:
                    self.pods.pop(place, None)
                else:
                    self.pods[place] = item
            elif kind == "Event" and change.event != DELETED:
                self._event(item, now, fresh=change.source in self.listed)
        if change.event == LISTED:
            self._forget_absent(change, group, kind)
            self.listed.add(change.source)

    def _forget_absent(self, change: Change, group: str, kind: str) -> None:
        present = {
            ((item.get("metadata") or {}).get("namespace") or "", (item.get("metadata") or {}).get("name") or "") for item in change.items
        }
        space = change.source.namespace or ""
        if kind == "Pod" and not group:
            self.pods = {place: pod for place, pod in self.pods.items() if place[0] != space or place in present}
        for key, item in self.items.items():
            if (key.group, key.kind) == (group, kind) and key.namespace == space and (key.namespace, key.name) not in present:
                self.items[key] = {"apiVersion": item["apiVersion"], "kind": kind}

    def _event(self, event: Json, now: float, fresh: bool) -> None:
        """``fresh``: it happened while we watched. Older ones count only for pods, which are gone when they are outdated."""
        about = event.get("involvedObject") or {}
        place = (about.get("namespace") or "", about.get("name") or "")
        if event.get("reason") == "TriggeredScaleUp":
            self.scaling_up.add(place)
        elif event.get("reason") == "WaitForFirstConsumer" and about.get("kind") == "PersistentVolumeClaim":
            self.bound_later.add(place)
        trouble = diagnose.event_trouble(event)
        if trouble and (fresh or about.get("kind") == "Pod"):
            identity = (about.get("kind") or "", *place, trouble.code)
            first = self.events[identity][1] if identity in self.events else now
            self.events[identity] = (trouble, first, now)

    def troubles(self, now: float) -> list[tuple[Key, str, Json | None, diagnose.Trouble, float]]:
        """(workload, name of the pod or "", the pod, trouble, seconds since it was first seen) for all that is wrong now."""
        waiting = {key: item for key, item in self.items.items() if self._verdict(key, item).state is not State.READY}
        by_name = {(key.namespace, key.kind, key.name): key for key in waiting}
        found: list[tuple[Key, str, Json | None, diagnose.Trouble, float]] = []
        seen: set[tuple[str, ...]] = set()

        def note(key: Key, name: str, pod: Json | None, trouble: diagnose.Trouble, first: float | None = None) -> None:
            identity = (*key, name, trouble.code)
            seen.add(identity)
            began = self.since.setdefault(identity, now if first is None else first)
            found.append((key, name, pod, trouble, now - began))

        for key, item in waiting.items():
            for trouble in diagnose.object_troubles(item):
                note(key, "", None, trouble)
        for (namespace, name), pod in self.pods.items():
            owner = by_name.get((namespace, *(diagnose.workload_of(pod) or ("Pod", name))))
            if owner is None or unseen(waiting[owner]):  # until its controller has seen the new spec, all pods are of the old one
                continue
            for trouble in diagnose.pod_troubles(pod, (namespace, name) in self.scaling_up):
                note(owner, name, pod, trouble)
            for trouble, first, last in self._events_of("Pod", namespace, name):
                if (pod.get("status") or {}).get("phase") == "Pending" and now - last < diagnose.EVENT_MEMORY:
                    note(owner, name, pod, trouble, first)
        for key in waiting:
            for trouble, first, last in self._events_of(key.kind, key.namespace, key.name):
                if now - last < diagnose.EVENT_MEMORY:
                    note(key, "", None, trouble, first)
        self.since = {identity: first for identity, first in self.since.items() if identity in seen}
        return found

    def _events_of(self, kind: str, namespace: str, name: str) -> list[tuple[diagnose.Trouble, float, float]]:
        return [entry for identity, entry in self.events.items() if identity[:3] == (kind, namespace, name)]

    def hint(self, key: Key, now: float) -> str:
        """The trouble of a pending object in a few words, for progress and timeouts."""
        for owner, pod, _item, trouble, _age in self.troubles(now):
            if owner == key:
                return f" (pod {pod}: {trouble.reason})" if pod else f" ({trouble.reason})"
        return ""

    def hopeless(self, client: Client, now: float) -> list[str]:
        """A sentence for each workload with a trouble that has outlasted its patience; the first trouble of each."""
        sentences: dict[Key, str] = {}
        for key, name, pod, trouble, age in self.troubles(now):
            if age < trouble.patience or key in sentences or (pod and self._of_old_revision(client, key, pod)):
                continue
            log = previous_log(client, key.namespace, name, trouble.container) if trouble.container else ""
            sentences[key] = f"{key}: {f'pod {name}: ' if name else ''}{trouble.reason.rstrip('.')}{log}"
        return list(sentences.values())

    def _of_old_revision(self, client: Client, key: Key, pod: Json) -> bool:
        """Whether a Deployment's pod belongs to a revision that is being replaced: its troubles are past."""
        name = diagnose.replica_set_of(pod)
        if key.kind != "Deployment" or not name:
            return False
        path = client.resource("apps/v1", "ReplicaSet").path(key.namespace, name)
        try:
            owner = client.find(path)
        except ApiError:
            return False
        annotation = "deployment.kubernetes.io/revision"

        def revision(item: Json | None) -> str | None:
            return (((item or {}).get("metadata") or {}).get("annotations") or {}).get(annotation)

        return owner is None or revision(owner) != revision(self.items[key])


def previous_log(client: Client, namespace: str, pod: str, container: str) -> str:
    """The last lines the crashed container wrote, or of the running one when there are none; "" when neither can be had."""
    path = client.resource("v1", "Pod").path(namespace, pod, "log")
    text = last_log(client, path, container, LOG_LINES, LOG_TIMEOUT)
    return ". Its last log lines: " + " | ".join(line.strip() for line in text.splitlines()[-LOG_LINES:]) if text else ""
