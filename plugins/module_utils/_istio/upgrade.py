# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Moves a mesh from one revision to another while it serves, and back when that does not work (private: may change without notice).

    new control plane ready ── tag and validation point at it ── namespaces restarted one by one, healthy in between ── the old may go
                                        └────────── not healthy in time: the same way back ──────────┘

Nothing is remembered but the revision the tag had before, on the tag's own object: everything else is read from the cluster, so a run that was killed is gone
on with by the next. The way back is the way there with the other revision's name.
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ansible_collections.progressive.platform.plugins.module_utils._health.cluster import (
    Cluster,
    Endpoint,
    Object,
    controller,
    is_true,
    labels_of,
    name_of,
)
from ansible_collections.progressive.platform.plugins.module_utils._health.mesh import (
    DEBUG_PORT,
    has_proxy,
    lives,
    outside,
    pod_problems,
    statuses,
)
from ansible_collections.progressive.platform.plugins.module_utils._kube.arguments import CONNECTION
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import MERGE_PATCH, Client, connect, quote
from ansible_collections.progressive.platform.plugins.module_utils._kube.readiness import State as Condition
from ansible_collections.progressive.platform.plugins.module_utils._kube.readiness import readiness
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

ARGUMENTS: dict[str, t.Any] = {
    "state": {"type": "str", "choices": ["checked", "present"], "default": "present"},
    "revision": {"type": "str", "required": True},
    "version": {"type": "str", "default": ""},
    "tag": {"type": "str", "required": True},
    "namespace": {"type": "str", "default": "istio-system"},
    "namespaces": {"type": "list", "elements": "str", "default": []},
    "upgrade": {"type": "bool", "default": False},
    "mode": {"type": "str", "choices": ["sidecar", "ambient"], "default": "sidecar"},
    "wait_timeout": {"type": "float", "default": 300.0},
    **CONNECTION,
}

POLL = 2.0
REVISION, BEFORE = "istio.io/rev", "progressive.platform/previous-revision"
RESTARTED, RESTARTED_FOR = "kubectl.kubernetes.io/restartedAt", "progressive.platform/mesh-revision"
GATEWAY = "gateway.networking.k8s.io/gateway-name"
WEBHOOKS = "/apis/admissionregistration.k8s.io/v1"
CONTROLLERS = ("Deployment", "StatefulSet", "DaemonSet")
WAIT, POINT, RESTART, DONE = "wait", "point", "restart", "done"


@dataclass(frozen=True)
class Workload:
    """What runs pods of a revision that is not wanted. ``ours``: to be restarted here; a gateway's Deployment is its control plane's matter.
    ``busy`` says what of its rollout is not finished, ``told`` the revision it was restarted for."""

    kind: str
    name: str
    stale: bool
    ours: bool = True
    busy: str = ""
    told: str = ""
    failed: bool = False


@dataclass(frozen=True)
class Space:
    name: str
    workloads: tuple[Workload, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mesh:
    """What is there: the problem of each control plane ("" when it is ready), what tag and validation point at, the namespaces in order."""

    planes: Mapping[str, str]
    pointers: Mapping[str, str]
    spaces: tuple[Space, ...] = ()


@dataclass(frozen=True)
class Step:
    """``action``: wait, point, restart or done; ``about`` is one line for people, ``stage`` what it belongs to: each has its own time."""

    action: str
    stage: str
    about: str = ""
    targets: tuple[Workload, ...] = field(default=())
    failed: bool = False


def next_step(mesh: Mesh, revision: str) -> Step:
    """The first thing that is not yet as it is wanted for ``revision``."""
    problem = mesh.planes.get(revision, "there is no such control plane")
    if problem:
        return Step(WAIT, "control plane", f"istiod of {revision}: {problem}")
    if wrong := sorted(name for name, points in mesh.pointers.items() if points != revision):
        return Step(POINT, "tag", f"{', '.join(wrong)} to {revision}")
    for space in mesh.spaces:
        again = tuple(one for one in space.workloads if one.stale and one.ours and (one.told != revision or not one.busy))
        if again:
            return Step(RESTART, space.name, ", ".join(f"{one.kind}/{one.name}" for one in again), again)
        waiting = [one for one in space.workloads if one.stale or one.busy]
        if waiting:
            about = "; ".join(f"{one.kind}/{one.name}: {one.busy or 'pods of another revision'}" for one in waiting)
            return Step(WAIT, space.name, f"{space.name}: {about}", failed=any(one.failed for one in waiting))
        if space.problems:
            return Step(WAIT, space.name, f"{space.name}: {'; '.join(space.problems)}")
    return Step(DONE, "done")


def too_far(here: str, wanted: str) -> bool:
    """More than one minor version apart; versions nobody can read are not judged."""
    found = [re.match(r"(\d+)\.(\d+)", version) for version in (here, wanted)]
    if not found[0] or not found[1]:
        return False
    return found[0][1] != found[1][1] or abs(int(found[0][2]) - int(found[1][2])) > 1


def leads_to(item: Object) -> str:
    """The revision that a webhook configuration or a Service leads to, by its label and by what it names; ``several`` when these differ."""
    label = labels_of(item).get(REVISION, "")
    if "webhooks" in item:
        named = {hook["clientConfig"].get("service", {}).get("name", "") for hook in item["webhooks"]}
        return label if named <= {f"istiod-{label}"} else "several"
    return label if (item["spec"].get("selector") or {}).get(REVISION, "") == label else "several"


def pointed(item: Object, revision: str) -> dict[str, t.Any]:
    """The patch that makes it lead to another revision, and everything else stay."""
    patch: dict[str, t.Any] = {"metadata": {"labels": {REVISION: revision}, "resourceVersion": item["metadata"]["resourceVersion"]}}
    if "webhooks" not in item:
        return {**patch, "spec": {"selector": {REVISION: revision}}}
    hooks = []
    for hook in item["webhooks"]:
        service = {**hook["clientConfig"]["service"], "name": f"istiod-{revision}"}
        hooks.append({**hook, "clientConfig": {**hook["clientConfig"], "service": service}})
    return {**patch, "webhooks": hooks}


def run(params: Params, context: Context) -> Result:
    with connect(params, context.clock) as client:
        upgrade = Upgrade(client, params, context)
        return upgrade.check() if params["state"] == "checked" else upgrade.run()


class Upgrade:
    def __init__(self, client: Client, params: Params, context: Context) -> None:
        self.client, self.params, self.context = client, params, context
        self.cluster = Cluster(client, context.clock)
        self.restarted: list[str] = []
        self.changed = False

    # ---- before -----------------------------------------------------------------------------------------------------------

    def check(self) -> Result:
        """Refuses to replace the control plane that pods use by another one (unless this is an upgrade), and to skip a minor version."""
        revision, tag = self.params["revision"], self.params["tag"]
        hook = self.client.find(f"{WEBHOOKS}/mutatingwebhookconfigurations/{self.tag_object}")
        used = labels_of(hook).get(REVISION, "") if hook else ""
        planes = self.planes() if hook else {}
        result: Result = {"changed": False, "from": used, "to": revision, "planes": sorted(planes)}
        if not used or used == revision or used not in planes:
            return result
        if not self.params["upgrade"]:
            raise PlatformError(
                f"The tag {tag} leads to the control plane {used}, and istio_revision is {revision}: pods that run would lose theirs. "
                f"Run playbooks/upgrade_mesh.yml, or set istio_revision to {used}.",
                **result,
            )
        here = self.version(used)
        if too_far(here, self.params["version"]):
            raise PlatformError(
                f"The control plane {used} is Istio {here}, and {self.params['version']} is more than one minor version away. Go there one by one.",
                **result,
            )
        return {**result, "version": here}

    def version(self, revision: str) -> str:
        """What the control plane says it is; empty when it does not say."""
        until = self.context.clock.now() + 10.0
        for at in self.istiods(revision):
            try:
                return (
                    self.cluster.http(Endpoint(at.namespace, at.pod, 15014), "GET", "/version", until)
                    .body.decode("utf-8", "replace")
                    .strip()
                )
            except PlatformError:
                continue
        return ""

    # ---- the way there, or back -------------------------------------------------------------------------------------------

    def run(self) -> Result:
        target = wanted = self.params["revision"]
        reason, began, stage = "", self.context.clock.now(), ""
        while True:
            mesh = self.look(target)
            step = next_step(mesh, target)
            if self.context.check:
                return {
                    "changed": step.action != DONE,
                    "from": mesh.pointers.get(self.tag_object, ""),
                    "to": target,
                    "next": step.about,
                    "restarted": [],
                }
            if step.action == DONE:
                break
            if step.stage != stage:
                stage, began = step.stage, self.context.clock.now()
            self.context.progress.report("istio", f"{step.action} {step.about}")
            late = self.context.clock.now() - began >= self.params["wait_timeout"]
            if step.failed or late:
                reason, target = self.turn_back(step, target, wanted, reason)
                stage, began = "", self.context.clock.now()
                continue
            if step.action == POINT:
                self.point(target)
            elif step.action == RESTART:
                self.restart(step, target)
            else:
                self.context.clock.sleep(POLL)
        result: Result = {
            "changed": self.changed,
            "from": self.before() if target == wanted else wanted,
            "to": target,
            "restarted": self.restarted,
        }
        if reason:
            raise PlatformError(
                f"Revision {wanted} was taken back, everything is on {target} again: {reason}. Set istio_revision to that of {target} and run site.yml: "
                f"it removes what is left of {wanted}.",
                rolled_back=True,
                **result,
            )
        return {**result, "rolled_back": False}

    def turn_back(self, step: Step, target: str, wanted: str, reason: str) -> tuple[str, str]:
        """Why, and where to; raises when that was the way back already, or there is nothing to go back to."""
        before = self.before()
        said = f"{step.about} after {self.params['wait_timeout']:g} s" if not step.failed else step.about
        if reason or not before or before == wanted or before not in self.planes():
            way = f"on the way back from {wanted} to {target}" if reason else f"on the way to {wanted}"
            raise PlatformError(
                f"The mesh stands still {way}: {said}. {f'It turned back because of: {reason}. ' if reason else ''}"
                "What is wrong there has to be mended by hand; then run this again, it goes on where it is.",
                rolled_back=False,
                restarted=self.restarted,
                changed=self.changed,
            )
        return said, before

    @property
    def tag_object(self) -> str:
        namespace = self.params["namespace"]
        return f"istio-revision-tag-{self.params['tag']}" + ("" if namespace == "istio-system" else f"-{namespace}")

    def pointers(self) -> dict[str, str]:
        """Path of each object that leads to a control plane: the tag's webhook and Service (either makes a control plane hold the tag to be its own),
        and the validation's webhook."""
        return {
            self.tag_object: f"{WEBHOOKS}/mutatingwebhookconfigurations/{self.tag_object}",
            "istiod-default-validator": f"{WEBHOOKS}/validatingwebhookconfigurations/istiod-default-validator",
            "Service": quote("api", "v1", "namespaces", self.params["namespace"], "services", f"istiod-revision-tag-{self.params['tag']}"),
        }

    def before(self) -> str:
        """The revision to go back to: the tag's own while it has not been moved, what it was moved from afterwards."""
        hook = self.client.find(self.pointers()[self.tag_object]) or {"metadata": {}}
        points = labels_of(hook).get(REVISION, "")
        return points if points != self.params["revision"] else str((hook["metadata"].get("annotations") or {}).get(BEFORE, ""))

    def point(self, revision: str) -> None:
        """All of them to a revision's istiod, one right after the other; the tag's webhook remembers where it came from."""
        found = {name: item for name, path in self.pointers().items() if (item := self.client.find(path)) is not None}
        for name, item in found.items():
            patch = pointed(item, revision)
            if name == self.tag_object and labels_of(item).get(REVISION, "") != revision:
                patch["metadata"]["annotations"] = {BEFORE: labels_of(item).get(REVISION, "")}
            if leads_to(item) != revision:
                self.client.request("PATCH", self.pointers()[name], patch, content_type=MERGE_PATCH)
                self.changed = True

    def restart(self, step: Step, revision: str) -> None:
        for one in step.targets:
            path = self.client.resource("apps/v1", one.kind).path(step.stage, one.name)
            annotations = {RESTARTED: datetime.now(UTC).isoformat(timespec="seconds"), RESTARTED_FOR: revision}
            self.client.request("PATCH", path, {"spec": {"template": {"metadata": {"annotations": annotations}}}}, content_type=MERGE_PATCH)
            self.restarted.append(f"{step.stage}/{one.kind}/{one.name}")
            self.changed = True

    # ---- what is seen -----------------------------------------------------------------------------------------------------

    def look(self, revision: str) -> Mesh:
        pointers = {name: leads_to(found) for name, path in self.pointers().items() if (found := self.client.find(path)) is not None}
        if self.tag_object not in pointers:
            raise PlatformError(
                f"There is no tag {self.params['tag']} (MutatingWebhookConfiguration {self.tag_object}). Run site.yml first."
            )
        planes = self.planes()
        known: dict[str, Mapping[str, t.Any]] = {}
        until = self.context.clock.now() + 10.0
        for at in self.istiods(revision):
            try:
                known.update(
                    statuses([self.cluster.http(Endpoint(at.namespace, at.pod, DEBUG_PORT), "GET", "/debug/syncz", until).json() or []])
                )
            except PlatformError:
                continue  # its proxies count as unknown, and are looked for again
        return Mesh(planes, pointers, tuple(self.space(name, revision, known) for name in self.params["namespaces"]))

    def planes(self) -> dict[str, str]:
        deployments = self.client.list(self.client.resource("apps/v1", "Deployment"), self.params["namespace"], labelSelector="app=istiod")[
            "items"
        ]
        found = {}
        for item in deployments:
            verdict = readiness({"apiVersion": "apps/v1", "kind": "Deployment", **item})
            found[labels_of(item).get(REVISION, "default")] = "" if verdict.state is Condition.READY else verdict.reason
        return found

    def istiods(self, revision: str) -> Sequence[Endpoint]:
        chosen = f"app=istiod,{REVISION}={revision}"
        pods = self.client.list(self.client.resource("v1", "Pod"), self.params["namespace"], labelSelector=chosen)["items"]
        return [Endpoint(self.params["namespace"], name_of(pod), DEBUG_PORT) for pod in pods if is_true(pod, "Ready")]

    def space(self, name: str, revision: str, known: Mapping[str, Mapping[str, t.Any]]) -> Space:
        pods = [pod for pod in self.client.list(self.client.resource("v1", "Pod"), name)["items"] if lives(pod) and self.counts(pod)]
        sets = {name_of(item): controller(item) for item in self.client.list(self.client.resource("apps/v1", "ReplicaSet"), name)["items"]}
        stale: dict[tuple[str, str], list[Object]] = {}
        running: set[tuple[str, str]] = set()
        problems = []
        for pod in pods:
            owner = controller(pod)
            if owner and owner[0] == "ReplicaSet":
                owner = sets.get(owner[1]) or owner
            if not owner or owner[0] not in CONTROLLERS:
                continue
            running.add(owner)
            if (pod["metadata"].get("annotations") or {}).get(REVISION) != revision:
                stale.setdefault(owner, []).append(pod)
            elif not is_true(pod, "Ready"):
                problems.append(f"{name_of(pod)} is not ready")
            elif has_proxy(pod):
                problems += pod_problems({**pod, "metadata": {"namespace": name, **pod["metadata"]}}, revision, self.params["tag"], known)
        return Space(name, tuple(self.workload(name, key, stale.get(key, [])) for key in sorted(running)), tuple(problems))

    def counts(self, pod: Object) -> bool:
        """One with a proxy, gateways too, which say that they want none injected; and one without that should have it, where pods have their own."""
        return has_proxy(pod) or (self.params["mode"] != "ambient" and not outside(pod))

    def workload(self, namespace: str, key: tuple[str, str], stale: list[Object]) -> Workload:
        found = self.client.find(self.client.resource("apps/v1", key[0]).path(namespace, key[1]))
        if found is None:
            return Workload(*key, stale=False)
        verdict = readiness({"apiVersion": "apps/v1", "kind": key[0], **found})
        template = found["spec"]["template"]["metadata"]
        return Workload(
            *key,
            stale=bool(stale),
            ours=GATEWAY not in (template.get("labels") or {}),
            busy="" if verdict.state is Condition.READY else verdict.reason,
            told=str((template.get("annotations") or {}).get(RESTARTED_FOR, "")),
            failed=verdict.state is Condition.FAILED,
        )
