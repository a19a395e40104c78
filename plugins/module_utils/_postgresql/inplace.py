# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module postgresql_restore_in_place: a cluster goes back to an earlier moment, or a new one begins with it (private: may change without notice).

What is restored is recovered beside the data of the first member while the cluster still serves; nothing is given up before that has worked. Then all members
stop, it takes the place of the data, Patroni forgets how far the cluster had been, the first member starts as the primary, and the others follow it. Every
step is noted, so a run that was killed is gone on with by the next. A new cluster takes the same steps: it has no data to recover beside, nobody to stop, and
it writes nothing into the archive of the one it is a copy of.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import typing as t
from collections.abc import Callable

from ansible_collections.progressive.platform.plugins.module_utils._backup.catalog import parse_time
from ansible_collections.progressive.platform.plugins.module_utils._kube import job
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client, quote
from ansible_collections.progressive.platform.plugins.module_utils._members.store import LOCK_WITHIN, Objects
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.backup import COMPONENT, now
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.converge import MEMBERS, opened
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.members import Cluster
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.model import Observation
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.providers import LATEST
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

Json = dict[str, t.Any]

POLL = 0.5
STEPS = ("prepare", "stop", "finish", "forget", "first", "others")
DONE = "done"
NOTE = "restore"
VOLUME = "data"
"""The volume of the CronJob's pod that has a member's data."""

ARGUMENTS: dict[str, t.Any] = {
    **{name: option for name, option in MEMBERS.items() if name not in ("addresses", "password", "rest_password")},
    "name": {"type": "str", "default": "postgres"},
    "scope": {"type": "str", "default": "postgres-primary"},
    "members": {"type": "int", "default": 3},
    "cronjob": {"type": "str", "required": True},
    "beside": {"type": "bool", "default": False},
    "backup": {"type": "str", "default": LATEST},
    "target": {"type": "str", "default": LATEST},
    "overwrite": {"type": "str", "no_log": False},
    "timeout": {"type": "float", "default": 3600.0},
}
ARGUMENTS["pods"] = {**ARGUMENTS["pods"], "required": True}


def run(params: Params, context: Context) -> Result:
    """The module postgresql_restore_in_place."""
    if params["members"] < 1 or params["timeout"] <= 0:
        raise PlatformError("members must be at least 1, and timeout must be more than 0.")
    if params["target"] != LATEST:
        with contextlib.suppress(ValueError):
            parse_time(params["target"])
            return _run(params, context)
        raise PlatformError(f"target is {params['target']!r}; wanted is {LATEST}, or a time with its zone: 2026-11-23T15:01:02+00:00.")
    return _run(params, context)


def _run(params: Params, context: Context) -> Result:
    with opened(params, context) as (cluster, client):
        if client is None:
            raise PlatformError("A restore in place needs pods.")
        return Replacing(params, context, cluster, client).run()


def token_of(claims: t.Iterable[str]) -> str:
    """Names the very volumes whose data are given up: what a task must repeat."""
    return hashlib.sha256("\n".join(sorted(claims)).encode()).hexdigest()[:16]


class Replacing:
    """One run, from the step that is noted."""

    steps: t.ClassVar[tuple[str, ...]] = STEPS
    kind: t.ClassVar[str] = NOTE
    title: t.ClassVar[str] = "restore in place"

    def __init__(self, params: Params, context: Context, cluster: Cluster, client: Client) -> None:
        self.params = params
        self.context = context
        self.clock = context.clock
        self.cluster = cluster
        self.client = client
        self.namespace = params["pods"]["namespace"]
        self.name = params["name"]
        self.store = Objects(client, self.namespace, self.name, self.clock)
        self.deadline = self.clock.now() + params["timeout"]
        self.note: Json = {}
        self.restored: Json = {}

    def run(self) -> Result:
        asked = self._asked()
        self.note = self.store.note(self.kind)
        under_way = self.note.get("step") in self.steps
        if under_way and {key: self.note.get(key) for key in asked} != asked and self.note["step"] != self.steps[0]:
            raise PlatformError(
                f"A restore of backup {self.note.get('backup')} to {self.note.get('target')}, begun at {self.note.get('started')}, is not finished "
                f"(its next step is {self.note['step']}). Go on with that one: the same backup and target again."
            )
        claims = self._claims()
        token = token_of(claims)
        if not under_way and self.params.get("overwrite") != token and (claims or not self.params.get("beside")):
            raise PlatformError(self._refusal(self.cluster.observe(), token))
        step = self.note["step"] if under_way and {key: self.note.get(key) for key in asked} == asked else self.steps[0]
        plan = list(self.steps[self.steps.index(step) :])
        if self.context.check:
            return {"changed": True, "plan": plan, "resumed": under_way}
        began = self.clock.now()
        with self.store.lock(min(LOCK_WITHIN, self.params["timeout"])):
            started = self.note.get("started") if under_way else now()
            self.note = {**asked, "started": started, "step": step, "run": self.note.get("run") if under_way else os.urandom(4).hex()}
            actions: dict[str, Callable[[], None]] = {name: getattr(self, f"_{name}") for name in self.steps}
            for name in plan:
                self.note["step"] = name
                self.store.keep(self.kind, self.note)
                self.context.progress.report(COMPONENT, f"{self.title}: {name}")
                actions[name]()
            self.store.keep(self.kind, {**self.note, "step": DONE, "finished": now()})
        self.context.progress.report(COMPONENT, f"{self.title} is done", done=True)
        return {
            "changed": True,
            "plan": plan,
            "resumed": under_way,
            "restored": {**self.restored, "seconds": round(self.clock.now() - began, 1)},
        }

    def _asked(self) -> Json:
        """What a run that goes on must have in common with the one that began."""
        return {"backup": self.params["backup"], "target": self.params["target"]}

    def _refusal(self, seen: Observation, token: str) -> str:
        primary = seen.primary
        who = (
            f"primary {primary.target.name}, system identifier {primary.system}, timeline {primary.timeline}"
            if primary
            else "no primary answers"
        )
        return (
            f"The cluster {self.namespace}/{self.name} has data ({who}), so nothing is restored in their place. What was written after "
            f"{self.params['target']} would be lost. To give them up for backup {self.params['backup']}, say: overwrite: {token}"
        )

    # ---- the steps: each may be done again -----------------------------------------------------------------------------------

    def _prepare(self) -> None:
        if self.params["beside"]:
            self._make_claim()
        self._job("prepare")

    def _stop(self) -> None:
        self._scale(0)
        self._until(lambda: not self._pods(), "all members have ended")

    def _finish(self) -> None:
        """Once it has taken the place of the data there is nothing left to put there, which the job says by name."""
        try:
            self.restored = dict(self._job("finish").get("restored") or {})
        except PlatformError as error:
            if "there is nothing to put in the place" not in error.message:
                raise

    def _forget(self) -> None:
        """How far the cluster had been, who led it and who was in sync; its settings stay. The lock's object carries all but the settings."""
        for suffix in ("", "-leader", "-sync", "-failover", "-failsafe"):
            for plural in ("endpoints", "configmaps"):
                self._annotations(plural, f"{self.params['scope']}{suffix}", gone=None)
        for plural in ("endpoints", "configmaps"):
            self._annotations(plural, f"{self.params['scope']}-config", gone=("history", "initialize"))

    def _first(self) -> None:
        self._scale(1)
        self._until(self._led, "the first member is primary")

    def _others(self) -> None:
        wanted = self.params["members"]
        self._scale(wanted)

        def following() -> bool:
            seen = self.cluster.observe()
            return seen.primary is not None and sum(member.streaming for member in seen.members) == wanted - 1

        self._until(following, "all others stream from it")

    # ---- Kubernetes ----------------------------------------------------------------------------------------------------------

    def _job(self, mode: str) -> Json:
        options: Json = {"mode": mode, **self._asked()}
        claims = {}
        if self.params.get("beside"):
            options |= {"archive": False, "password_secret": self.params.get("password_secret")}
            claims = {VOLUME: self._first_claim(self._set())["metadata"]["name"]}
        given = {name: self.params.get(name) for name in ("kubeconfig", "context", "host", "api_key", "ca_cert", "validate_certs")}
        left = max(self.deadline - self.clock.now(), 1.0)
        asked = {
            **given,
            "namespace": self.namespace,
            "cronjob": self.params["cronjob"],
            "options": options,
            "claims": claims,
            "timeout": left,
        }
        return dict(job.run(asked, self.context)["result"])

    def _set(self) -> Json:
        found = self.client.find(quote("apis", "apps", "v1", "namespaces", self.namespace, "statefulsets", self.name))
        if found is None:
            raise PlatformError(f"There is no StatefulSet {self.namespace}/{self.name} to restore into. Apply it first, without pods.")
        return found

    def _first_claim(self, owner: Json) -> Json:
        """The claim that the StatefulSet gives its first pod; where it is there already, the pod takes it."""
        template = owner["spec"]["volumeClaimTemplates"][0]
        metadata = {"labels": template["metadata"].get("labels") or {}, "name": f"{template['metadata']['name']}-{self.name}-0"}
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {**metadata, "namespace": self.namespace},
            "spec": template["spec"],
        }

    def _make_claim(self) -> None:
        body = self._first_claim(self._set())
        path = quote("api", "v1", "namespaces", self.namespace, "persistentvolumeclaims")
        if self.client.find(f"{path}{quote(body['metadata']['name'])}") is None:
            self.client.request("POST", path, body)

    def _led(self) -> bool:
        seen = self.cluster.observe()
        return seen.primary is not None and seen.primary.target.name == f"{self.name}-0"

    def _scale(self, replicas: int) -> None:
        path = quote("apis", "apps", "v1", "namespaces", self.namespace, "statefulsets", self.name, "scale")
        self.client.request("PATCH", path, {"spec": {"replicas": replicas}}, content_type="application/merge-patch+json")

    def _pods(self) -> list[Json]:
        found = self.client.get(quote("api", "v1", "namespaces", self.namespace, "pods"), labelSelector=self.params["pods"]["selector"])
        return list(found["items"])

    def _claims(self) -> list[str]:
        """UIDs of the members' volumes."""
        found = self.client.get(
            quote("api", "v1", "namespaces", self.namespace, "persistentvolumeclaims"), labelSelector=self.params["pods"]["selector"]
        )
        return [claim["metadata"]["uid"] for claim in found["items"]]

    def _annotations(self, plural: str, name: str, gone: tuple[str, ...] | None) -> None:
        """Take annotations away, all of them for None."""
        path = quote("api", "v1", "namespaces", self.namespace, plural, name)
        found = self.client.find(path)
        names = (found or {}).get("metadata", {}).get("annotations") or {}
        removed = {key: None for key in names if gone is None or key in gone}
        if removed:
            self.client.request("PATCH", path, {"metadata": {"annotations": removed}}, content_type="application/merge-patch+json")

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        while True:
            self.store.renew()
            with contextlib.suppress(ApiError):
                if condition():
                    return
            if self.clock.now() > self.deadline:
                raise PlatformError(
                    f"{self.title.capitalize()}: not in time that {what}. It is at step {self.note['step']}; run it again to go on."
                )
            self.clock.sleep(POLL)
