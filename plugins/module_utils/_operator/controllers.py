# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two controllers: Agents become what role workload makes, a ProgressivePlatform tells the health of the whole (private: may change without notice).

    event ── Queue ── render, all Agents that wait in one go ── apply, one ApplySet an Agent ── status
                                                                        │
    event of an object of an Agent ── is it as it was left? ── no: again; yes: its Deployment's state into the status

Level-based: what an event says is never acted upon, only what is there. So an operator that is killed between two requests goes on by doing
it all again, and two of them do no harm. Deletion is the API server's: every object is owned by its Agent, and no finalizer is set that
could be stuck.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import typing as t
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

from ansible_collections.progressive.platform.plugins.module_utils._health import health
from ansible_collections.progressive.platform.plugins.module_utils._kube import diagnose
from ansible_collections.progressive.platform.plugins.module_utils._kube.apply import Engine, significant
from ansible_collections.progressive.platform.plugins.module_utils._kube.bundle import Key, key_of
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import MERGE_PATCH, ApiError, Client
from ansible_collections.progressive.platform.plugins.module_utils._kube.discovery import UnknownKind
from ansible_collections.progressive.platform.plugins.module_utils._kube.readiness import State, readiness
from ansible_collections.progressive.platform.plugins.module_utils._operator import model
from ansible_collections.progressive.platform.plugins.module_utils._operator.model import Json, Name, Outcome
from ansible_collections.progressive.platform.plugins.module_utils._operator.work import Queue
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, Context, PlatformError

BATCH = 25  # Agents that are rendered in one go: the time is that of compiling templates, not of filling them in
SIDE_BY_SIDE = 4  # Agents that are applied at once; each sends its objects side by side too
RESYNC = 600.0  # seconds after which an Agent is looked at though nothing happened
FIRST_LOOK, LONGEST_LOOK = 1.0, 15.0  # seconds between two looks at pods that are not ready

Render = Callable[[Mapping[Name, Json], Mapping[str, list[str]]], Mapping[Name, "list[Json] | PlatformError"]]
"""Documents of Agents by name; the second argument is the names of all Agents of each namespace, which the coordinator is told of."""
Told = Callable[..., None]
"""Metrics: ``told("applied" | "checked", seconds=..., ok=...)``."""

log = logging.getLogger("operator")


def _wall() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class Sent(t.NamedTuple):
    """A document as it was sent (JSON), and a hash of what the object had of it then: values, and which fields are ours."""

    document: bytes
    state: bytes

    @classmethod
    def of(cls, document: Json, there: Json, manager: str) -> Sent:
        text = json.dumps(document, separators=(",", ":")).encode()
        return cls(text, state_of(there, document, manager))

    def drifted(self, there: Json, manager: str) -> bool:
        return state_of(there, json.loads(self.document), manager) != self.state


def state_of(there: Json, document: Json, manager: str) -> bytes:
    """The values of what the document names, and the fields its manager owns; when it was written does not matter."""
    values, owned = significant(there, document, manager)
    return hashlib.sha256(json.dumps([values, [fields for _time, fields in owned]], sort_keys=True).encode()).digest()


@dataclass
class Known:
    """What is known of an Agent: itself, what was sent for it, its Deployment, and why it could not be applied."""

    agent: Json
    status: Json = field(default_factory=dict)  # as it was written last: a watch may be behind our own writes
    sent: dict[Key, Sent] = field(default_factory=dict)
    deployment: Json | None = None
    failure: str = ""
    generation: int = 0  # the one that was tried last
    looks: int = 0
    # What a watch showed while it was being applied; None when it is not.
    meanwhile: list[tuple[str | None, Json]] | None = None


class Agents:
    """The controller of Agents; thread-safe. Feed it with ``seen`` and ``owned``, run ``work`` in a thread."""

    def __init__(
        self, client: Client, render: Render, coordinator: str, clock: Clock | None = None, told: Told = lambda *_a, **_k: None
    ) -> None:
        self.client = client
        self.render = render
        self.coordinator = coordinator
        self.clock = clock or Clock()
        self.told = told
        self.queue: Queue[tuple[str, Name]] = Queue(self.clock)
        self.known: dict[Name, Known] = {}
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(SIDE_BY_SIDE, "apply")
        self._room = threading.Semaphore(BATCH)  # work that was taken and is not done

    # ---- events ---------------------------------------------------------------------------------------------------------------

    def seen(self, event: str | None, item: Json) -> None:
        """An Agent as a watch shows it."""
        name = model.name_of(item)
        slim = {**item, "metadata": {key: value for key, value in item["metadata"].items() if key != "managedFields"}}
        with self._lock:
            before = self.known.get(name)
            if event == "DELETED":
                self.known.pop(name, None)
            elif before is None or before.agent["metadata"]["uid"] != item["metadata"]["uid"]:
                self.known[name] = Known(slim, slim.get("status") or {})
            else:
                before.agent = slim
            others = before is None or event == "DELETED"
        if event == "DELETED":
            self.queue.forget(("apply", name))
            self.queue.forget(("status", name))
        elif others or before is None or before.generation != (item["metadata"].get("generation") or 0):
            self.queue.add(("apply", name))
        chief = Name(name.namespace, self.coordinator)
        if others and chief in self.known and chief != name:
            self.queue.add(("apply", chief), after=0.5)

    def owned(self, event: str | None, item: Json) -> None:
        """An object that carries an Agent's label, as a watch shows it: drift is put right, the Deployment's state goes into the status."""
        metadata = item["metadata"]
        name = Name(metadata.get("namespace") or "", (metadata.get("labels") or {}).get(model.LABEL) or "")
        known = self.known.get(name)
        if known is None:
            return
        with self._lock:
            if known.meanwhile is not None:  # what it shall be is not known before the apply is over
                known.meanwhile.append((event, item))
                return
        if not known.sent:  # it was not applied yet, and will be
            return
        wanted = known.sent.get(key_of(item))
        if event == "DELETED" or wanted is None or wanted.drifted(item, model.group(known.agent).manager):
            self.queue.add(("apply", name))
        if item["kind"] == "Deployment":
            if event != "DELETED":
                known.deployment = _newer(known.deployment, _slim(item))
            elif known.deployment and known.deployment["metadata"]["uid"] == metadata["uid"]:
                known.deployment = None
            known.looks = 0
            self.queue.add(("status", name))

    # ---- work -----------------------------------------------------------------------------------------------------------------

    def work(self) -> None:
        """Until the queue is closed."""
        while not self.queue.closed:
            self.step(timeout=5.0)

    def step(self, timeout: float) -> None:
        """One batch: what waits is rendered together, and handed to the threads that apply it side by side."""
        keys = self.queue.take(BATCH, timeout)
        names = [name for verb, name in keys if verb == "apply"]
        rendered = self._rendered(names) if names else {}
        for key in keys:
            self._room.acquire()
            self._pool.submit(self._job, key, rendered.get(key[1], []))

    def _job(self, key: tuple[str, Name], documents: list[Json] | PlatformError) -> None:
        verb, name = key
        failed = True
        try:
            failed = not (self._apply(name, documents) if verb == "apply" else self._status(name))
        except Exception as error:  # a defect of ours must not end the others
            log.exception("%s %s: %s", verb, name, error)
        finally:
            self._room.release()
            self.queue.done(key, failed)

    def _rendered(self, names: list[Name]) -> Mapping[Name, list[Json] | PlatformError]:
        with self._lock:
            specs = {name: self.known[name].agent["spec"] for name in names if name in self.known}
            everybody: dict[str, list[str]] = {}
            for name in sorted(self.known):
                everybody.setdefault(name.namespace, []).append(name.name)
        found = self.render(specs, everybody)
        return {name: found.get(name, []) for name in names}

    def _apply(self, name: Name, documents: list[Json] | PlatformError) -> bool:
        known = self.known.get(name)
        if known is None or known.agent["metadata"].get("deletionTimestamp"):
            return True
        agent, began = known.agent, self.clock.now()
        known.generation = agent["metadata"].get("generation") or 0
        with self._lock:
            known.meanwhile = []
        try:
            if isinstance(documents, PlatformError):
                raise documents
            engine = Engine(self.client, model.group(agent), Context(clock=self.clock), force=True, adopt=False)
            engine.present(model.dressed(documents, agent), prune=True)
            manager = engine.group.manager
            known.sent = {it.key: Sent.of(it.sent, it.after, manager) for it in engine.changes if it.sent and it.after}
            for change in engine.changes:
                if change.key.kind == "Deployment" and change.after and change.sent:
                    known.deployment = _newer(known.deployment, _slim(change.after))
            known.failure, known.looks = "", 0
            changed = [str(change.key) for change in engine.changes if change.changed]
            if changed:
                log.info("Agent %s: %s", name, ", ".join(changed))
        except PlatformError as error:
            known.failure = error.message
            log.warning("Agent %s: %s", name, error.message)
            if isinstance(error, UnknownKind):
                self.client.discovery.forget()
        with self._lock:
            meanwhile, known.meanwhile = known.meanwhile or [], None
        for event, item in meanwhile:
            self.owned(event, item)
        self.told("applied", seconds=self.clock.now() - began, ok=not known.failure)
        self._status(name)
        self.queue.add(("apply", name), after=RESYNC)
        return not known.failure

    def _status(self, name: Name) -> bool:
        """Writes what has changed of the status; while pods are not ready it comes back to look at them."""
        known = self.known.get(name)
        if known is None or known.agent["metadata"].get("deletionTimestamp"):
            return True
        agent = {**known.agent, "status": known.status}
        trouble = self._trouble(known) if not known.failure else ""
        status = model.status(agent, Outcome(known.failure, known.deployment, trouble), _wall())
        if not write_status(self.client, "agents", agent, status):
            return True
        known.status = status
        if "waitingFor" in status and not known.failure:
            self.queue.add(("status", name), after=min(FIRST_LOOK * 2.0**known.looks, LONGEST_LOOK))
            known.looks += 1
        return True

    def _trouble(self, known: Known) -> str:
        """What the pods of a Deployment that is not ready suffer from, in one sentence; "" for nothing that could be seen."""
        deployment = known.deployment
        if deployment is None or readiness(deployment).state is State.READY:
            return ""
        for trouble in diagnose.object_troubles(deployment):
            return trouble.reason
        name = model.name_of(known.agent)
        try:
            pods = self.client.list(self.client.resource("v1", "Pod"), name.namespace, labelSelector=f"app={name.name}")["items"]
        except ApiError:
            return ""
        for pod in pods:
            for trouble in diagnose.pod_troubles(pod):
                return f"pod {pod['metadata']['name']}: {trouble.reason}"
        return ""

    def close(self) -> None:
        self.queue.close()
        self._pool.shutdown(wait=False)


class Platforms:
    """The controller of ProgressivePlatforms: a look at everything, at each one's interval."""

    def __init__(
        self, client: Client, checks: list[Json], agents: Agents, clock: Clock | None = None, told: Told = lambda *_a, **_k: None
    ) -> None:
        self.client = client
        self.checks = checks
        self.agents = agents
        self.clock = clock or Clock()
        self.told = told
        self.queue: Queue[Name] = Queue(self.clock)
        self.known: dict[Name, Json] = {}
        self._generation: dict[Name, int] = {}

    def seen(self, event: str | None, item: Json) -> None:
        name = model.name_of(item)
        if event == "DELETED":
            self.known.pop(name, None)
            self._generation.pop(name, None)
            self.queue.forget(name)
            return
        self.known[name] = item
        if self._generation.get(name) != item["metadata"].get("generation"):
            self._generation[name] = item["metadata"].get("generation")
            self.queue.add(name)

    def work(self) -> None:
        while not self.queue.closed:
            for name in self.queue.take(1, 5.0):
                try:
                    self.look(name)
                except Exception as error:  # what could not be looked at is said, and looked at again
                    log.exception("ProgressivePlatform %s: %s", name, error)
                self.queue.done(name)

    def look(self, name: Name) -> None:
        platform = self.known.get(name)
        if platform is None or platform["metadata"].get("deletionTimestamp"):
            return
        spec = platform["spec"]
        began = self.clock.now()
        chosen = [check for check in self.checks if not spec.get("components") or str(check.get("component")) in spec["components"]]
        if spec.get("suspended"):
            outcome: Mapping[str, t.Any] = {"msg": "It is suspended."}
        elif not chosen:
            outcome = {"msg": "None of the components has a check: " + ", ".join(spec.get("components") or ["none is installed"]) + "."}
        else:
            params = {name: option.get("default") for name, option in health.ARGUMENTS.items()}
            params |= {"checks": chosen, "cluster": name.name, "fail": False, "timeout": float(spec.get("timeoutSeconds") or 30)}
            try:
                # Without a probe nothing is written: no key, no row, no transaction.
                outcome = health.run(params, Context(check=not spec.get("probe"), clock=self.clock))
            except PlatformError as error:
                outcome = {"msg": error.message}
        agents = [{**it.agent, "status": it.status} for place, it in list(self.agents.known.items()) if place.namespace == name.namespace]
        status = model.platform_status(platform, outcome, agents, _wall())
        self.told(
            "checked", seconds=self.clock.now() - began, ok=status["conditions"][0]["status"] == "True", checks=outcome.get("checks") or []
        )
        write_status(self.client, "progressiveplatforms", platform, status)
        self.known[name] = {**platform, "status": status}
        if not spec.get("suspended"):
            self.queue.add(name, after=float(spec.get("intervalSeconds") or 60))


def write_status(client: Client, plural: str, item: Json, status: Json) -> bool:
    """Sends what differs; False when the object is not there any more."""
    changed = model.patch(item.get("status") or {}, status)
    if changed is None:
        return True
    place = model.name_of(item)
    path = f"/apis/{model.API_VERSION}/namespaces/{place.namespace}/{plural}/{place.name}/status"
    try:
        client.request("PATCH", path, {"metadata": {"uid": item["metadata"]["uid"]}, "status": changed}, content_type=MERGE_PATCH)
    except ApiError as error:
        if error.status in (404, 409):  # it is gone, or another of its name
            return False
        raise
    return True


def _newer(known: Json | None, item: Json) -> Json:
    """The one that was written later: resourceVersions of one kind are numbers that grow (Kubernetes 1.35)."""
    return item if known is None or int(item["metadata"]["resourceVersion"]) >= int(known["metadata"]["resourceVersion"]) else known


def _slim(item: Json) -> Json:
    """What the status needs of a Deployment."""
    metadata = {key: item["metadata"].get(key) for key in ("name", "namespace", "generation", "uid", "resourceVersion")}
    containers = [{"image": it.get("image")} for it in item["spec"]["template"]["spec"]["containers"]]
    spec = {**{key: item["spec"][key] for key in ("replicas", "paused") if key in item["spec"]}}
    spec["template"] = {"spec": {"containers": containers}}
    return {"apiVersion": item["apiVersion"], "kind": item["kind"], "metadata": metadata, "spec": spec, "status": item.get("status") or {}}
