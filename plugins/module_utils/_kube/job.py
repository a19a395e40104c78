# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module job: what a CronJob does at its hours, now (private: may change without notice)."""

from __future__ import annotations

import contextlib
import json
import os
import typing as t

from ansible_collections.progressive.platform.plugins.module_utils._kube.arguments import CONNECTION
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client, connect, quote
from ansible_collections.progressive.platform.plugins.module_utils._kube.discovery import Resource
from ansible_collections.progressive.platform.plugins.module_utils._kube.logs import last_log
from ansible_collections.progressive.platform.plugins.module_utils._kube.watch import DELETED, FAILED, Source, Streams
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

Json = dict[str, t.Any]

OVERRIDES = "OPTIONS"
"""Environment variable of the job's containers with further options, as JSON; images/backup/run.py reads it."""
HOPELESS = frozenset({"ErrImageNeverPull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError"})
"""Reasons for which a container will not start by itself."""
HOPE = 30.0
"""Seconds for which it may yet."""
LOG_LINES = 5
LOG_WITHIN = 10.0

ARGUMENTS: dict[str, t.Any] = {
    "namespace": {"type": "str", "required": True},
    "cronjob": {"type": "str", "required": True},
    "options": {"type": "dict", "default": {}},
    "claims": {"type": "dict", "default": {}},
    "image": {"type": "str"},
    "timeout": {"type": "float", "default": 3600.0},
    **CONNECTION,
}


def run(params: Params, context: Context) -> Result:
    """The module job."""
    namespace, name = params["namespace"], params["cronjob"]
    if params["timeout"] <= 0:
        raise PlatformError("timeout must be more than 0.")
    with connect(params, context.clock) as client:
        cronjob = client.find(quote("apis", "batch", "v1", "namespaces", namespace, "cronjobs", name))
        if cronjob is None:
            raise PlatformError(f"There is no CronJob {namespace}/{name}. See what is: kubectl -n {namespace} get cronjobs")
        running = [one["name"] for one in (cronjob.get("status") or {}).get("active") or []]
        if running and (params["options"] or params["claims"] or params.get("image")):
            raise PlatformError(
                f"Job {namespace}/{running[0]} of CronJob {name} is under way. Wait for it: kubectl -n {namespace} get job {running[0]} -w"
            )
        if context.check:
            return {"changed": True, "job": running[0] if running else ""}
        job = running[0] if running else _create(client, namespace, cronjob, params)
        return _Waiting(client, namespace, job, params["timeout"], context).run()


def _create(client: Client, namespace: str, cronjob: Json, params: Params) -> str:
    name = cronjob["metadata"]["name"]
    template = cronjob["spec"]["jobTemplate"]
    body: Json = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{name[:50]}-{os.urandom(4).hex()}",
            "namespace": namespace,
            "labels": (template.get("metadata") or {}).get("labels") or {},
            "annotations": {"cronjob.kubernetes.io/instantiate": "manual"},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "CronJob", "name": name, "uid": cronjob["metadata"]["uid"]}],
        },
        # Whoever asks waits for the answer, so a failure is told and not tried again.
        "spec": {**template["spec"], "backoffLimit": 0},
    }
    body["metadata"]["ownerReferences"][0]["controller"] = True
    options = params["options"]
    for container in body["spec"]["template"]["spec"]["containers"]:
        if options:
            container["env"] = [*(container.get("env") or []), {"name": OVERRIDES, "value": json.dumps(options)}]
        container["image"] = params.get("image") or container["image"]
    volumes = {volume["name"]: volume for volume in body["spec"]["template"]["spec"].get("volumes") or []}
    for volume, claim in params["claims"].items():
        if "persistentVolumeClaim" not in volumes.get(volume, {}):
            raise PlatformError(f"claims names volume {volume}; CronJob {namespace}/{name} has no such volume with a claim.")
        volumes[volume]["persistentVolumeClaim"] = {"claimName": claim}
    made = client.request("POST", quote("apis", "batch", "v1", "namespaces", namespace, "jobs"), body)[2]
    return str(made["metadata"]["name"])


class _Waiting:
    """Follows one job and its pods to the end."""

    def __init__(self, client: Client, namespace: str, job: str, timeout: float, context: Context) -> None:
        self.client = client
        self.namespace = namespace
        self.job = job
        self.context = context
        self.clock = context.clock
        self.began = self.clock.now()
        self.deadline = self.began + timeout
        self.timeout = timeout
        self.pods: dict[str, Json] = {}
        self.stuck: float | None = None

    def run(self) -> Result:
        jobs = Source(_resource("batch/v1", "Job", "jobs"), self.namespace, fields=f"metadata.name={self.job}")
        pods = Source(_resource("v1", "Pod", "pods"), self.namespace, selector=f"batch.kubernetes.io/job-name={self.job}")
        with Streams(self.client, self.deadline + 5.0) as streams:
            streams.follow(jobs)
            streams.follow(pods)
            while True:
                change = streams.next(1.0)
                if change is not None and change.event == FAILED and change.error is not None:
                    raise change.error
                if change is not None and change.source == pods:
                    for pod in change.items:
                        self.pods[pod["metadata"]["name"]] = pod
                if change is not None and change.source == jobs:
                    if change.event == DELETED or not change.items:
                        raise PlatformError(f"Job {self.namespace}/{self.job} was removed while it ran. Run it again.")
                    done = _finished(change.items[0])
                    if done:
                        return self._end(done)
                self._refuse_stuck()

    def _end(self, done: str) -> Result:
        pod = max(self.pods.values(), key=lambda one: str(one["metadata"].get("creationTimestamp")), default=None)
        said = self._said(pod)
        result = _parsed(said)
        facts: Result = {"changed": True, "job": self.job, "seconds": round(self.clock.now() - self.began, 1), "result": result}
        if done == "Complete":
            self.context.progress.report("job", f"{self.job} is done", done=True)
            return facts
        reason = result.get("msg") or " | ".join(said.splitlines()[-LOG_LINES:]) or "it said nothing"
        raise PlatformError(f"Job {self.namespace}/{self.job} failed: {reason}", **facts)

    def _said(self, pod: Json | None) -> str:
        """A container's last words: what it left, or the end of its log."""
        if pod is None:
            return ""
        name = pod["metadata"]["name"]
        path = quote("api", "v1", "namespaces", self.namespace, "pods", name)
        pod = self.client.find(path) or pod
        status = pod.get("status") or {}
        for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
            ended = (container.get("state") or {}).get("terminated") or {}
            if ended.get("message"):
                return str(ended["message"])
            if ended.get("exitCode"):
                return last_log(self.client, f"{path}/log", container["name"], LOG_LINES, LOG_WITHIN)
        return str(status.get("message") or "")

    def _refuse_stuck(self) -> None:
        """A pod that will not start is given up before the time is, and so is a job that takes too long; neither stays behind to start later."""
        now = self.clock.now()
        waiting = [reason for pod in self.pods.values() for reason in _waiting(pod)]
        hopeless = [reason for reason in waiting if reason.partition(": ")[2].partition(" ")[0] in HOPELESS]
        self.stuck = (self.stuck or now) if hopeless else None
        if (self.stuck and now - self.stuck > HOPE) or now > self.deadline:
            why = "; ".join(hopeless or waiting) or f"it was not done within {self.timeout:.0f} s"
            with contextlib.suppress(ApiError):
                path = quote("apis", "batch", "v1", "namespaces", self.namespace, "jobs", self.job)
                self.client.request("DELETE", path, {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"})
            raise PlatformError(f"Job {self.namespace}/{self.job} was given up: {why}.", job=self.job)


def _finished(job: Json) -> str:
    for condition in (job.get("status") or {}).get("conditions") or []:
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return str(condition["type"])
    return ""


def _waiting(pod: Json) -> list[str]:
    status = pod.get("status") or {}
    found = []
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        state = (container.get("state") or {}).get("waiting")
        if state:
            found.append(f"{container['name']}: {state.get('reason', 'waiting')} {state.get('message', '')}".strip())
    found += [str(one.get("message")) for one in status.get("conditions") or [] if one.get("reason") == "Unschedulable"]
    return found


def _parsed(text: str) -> Json:
    try:
        found = json.loads(text.splitlines()[-1]) if text else {}
        return found if isinstance(found, dict) else {}
    except ValueError:
        return {}


def _resource(api_version: str, kind: str, plural: str) -> Resource:
    return Resource(api_version, kind, plural, True)
