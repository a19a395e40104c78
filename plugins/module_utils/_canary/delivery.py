# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Looks at a canary, does what the plan says and looks again, until there is nothing more to do (private: may change without notice).

What is remembered (state, the counters at the window's beginning, every check) lies in ConfigMap ``canary-<route>-state`` of the route's namespace, so a run
that was killed is gone on with by the next, wherever it is started. A Lease keeps two runs apart.
"""

from __future__ import annotations

import hashlib
import json
import time
import typing as t
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ansible.module_utils.urls import open_url
from ansible_collections.progressive.platform.plugins.module_utils._canary import evidence, routes, statistics
from ansible_collections.progressive.platform.plugins.module_utils._canary.model import ENDED, ROLLED_BACK, Decision, Seen, Settings, State
from ansible_collections.progressive.platform.plugins.module_utils._canary.plan import plan
from ansible_collections.progressive.platform.plugins.module_utils._health.cluster import Cluster, Endpoint, is_true, name_of, selects
from ansible_collections.progressive.platform.plugins.module_utils._kube.applyset import MANAGER as SETS
from ansible_collections.progressive.platform.plugins.module_utils._kube.arguments import CONNECTION
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import APPLY, MERGE_PATCH, Client, connect, quote
from ansible_collections.progressive.platform.plugins.module_utils._kube.readiness import State as Condition
from ansible_collections.progressive.platform.plugins.module_utils._kube.readiness import readiness
from ansible_collections.progressive.platform.plugins.module_utils._members.store import LOCK_WITHIN, Objects
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

Json = dict[str, t.Any]

ARGUMENTS: dict[str, t.Any] = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "namespace": {"type": "str", "required": True},
    "route": {"type": "str", "required": True},
    "kind": {"type": "str", "choices": list(routes.KINDS), "default": "HTTPRoute"},
    "owner": {"type": "str", "default": "gateway"},
    "stable": {"type": "str", "required": True},
    "canary": {"type": "str", "required": True},
    "edge": {"type": "dict", "default": {}},
    "prometheus": {
        "type": "dict",
        "options": {
            "url": {"type": "str"},
            "namespace": {"type": "str"},
            "service": {"type": "str"},
            "port": {"type": "int", "default": 9090},
        },
    },
    "steps": {"type": "list", "elements": "int", "default": [10, 25, 50, 100]},
    "interval": {"type": "float", "default": 30.0},
    "sample": {"type": "int", "default": 100},
    "patience": {"type": "float", "default": 300.0},
    "passes": {"type": "int", "default": 2, "no_log": False},
    "failures": {"type": "int", "default": 2},
    "success": {"type": "float", "default": 99.0},
    "p99": {"type": "float", "default": 500.0},
    "worse": {"type": "float", "default": 20.0},
    "slack": {"type": "float", "default": 25.0},
    "deadline": {"type": "float", "default": 300.0},
    "again": {"type": "bool", "default": False},
    "reports_dir": {"type": "path"},
    "wait_timeout": {"type": "float", "default": 7200.0},
    **CONNECTION,
}

ADMIN_PORT = 15000  # Envoy's own pages, for the pod itself alone, which is where a port-forward comes out
READ_TIMEOUT = 10.0
POLL = 2.0
KEPT = 400  # checks and events remembered in the cluster


def run(params: Params, context: Context) -> Result:
    """The module: deliver (or go on delivering), or give the weights back."""
    settings = settings_of(params)
    with connect(params, context.clock) as client:
        delivery = Delivery(client, params, settings, context)
        if params["state"] == "absent":
            return delivery.give_back()
        return delivery.run()


def settings_of(params: Params) -> Settings:
    """Refuses numbers that no delivery can be made with."""
    steps = tuple(params["steps"])
    if not steps or any(not 0 < step <= 100 for step in steps) or list(steps) != sorted(set(steps)):
        raise PlatformError(f"steps: {list(steps)} is no rising row of percents, like [10, 25, 50, 100].")
    if min(params["passes"], params["failures"], params["sample"]) < 1:
        raise PlatformError("passes, failures and sample: at least 1 is wanted; what nobody asked for never passes.")
    if params["patience"] < params["interval"]:
        raise PlatformError(f"patience: {params['patience']:g} s is shorter than the interval of {params['interval']:g} s.")
    names = ("interval", "sample", "patience", "passes", "failures", "success", "p99", "worse", "slack", "deadline")
    return Settings(steps=steps, **{name: params[name] for name in names})


class Delivery:
    """One run."""

    def __init__(self, client: Client, params: Params, settings: Settings, context: Context) -> None:
        self.client, self.params, self.settings, self.context = client, params, settings, context
        self.cluster = Cluster(client, context.clock)
        self.namespace: str = params["namespace"]
        self.stable: str = params["stable"]
        self.canary: str = params["canary"]
        self.store = Objects(client, self.namespace, f"canary-{params['route']}", context.clock)
        self.epoch = time.time() - context.clock.now()
        self.changed = False
        self.memory: Json = {}

    # ---- one run --------------------------------------------------------------------------------------------------------------

    def run(self) -> Result:
        if self.context.check:
            self.memory = self.store.note("state")
            seen = self.look()
            decision = plan(self.remembered(), seen, self.settings)
            return {
                **self.result(decision.state, seen),
                "changed": decision.weight is not None or not decision.ended,
                "next": decision.event,
            }
        deadline = self.context.clock.now() + self.params["wait_timeout"]
        with self.store.lock(LOCK_WITHIN):
            self.memory = self.store.note("state")
            while True:
                self.store.renew()
                seen = self.look()
                before = self.remembered()
                decision = plan(before, seen, self.settings)
                self.carry_out(decision, before, seen)
                if decision.ended:
                    return self.ended(decision.state, seen)
                if self.context.clock.now() >= deadline:
                    raise PlatformError(
                        f"The canary {self.canary} is in phase {decision.state.phase} at {seen.weight} % after {self.params['wait_timeout']:g} s. "
                        "Nothing was taken back: run it again to go on.",
                        **self.result(decision.state, seen),
                    )
                if decision.state == before:
                    self.context.clock.sleep(min(POLL, max(0.2, self.settings.interval / 5)))

    def remembered(self) -> State | None:
        state = State.of(self.memory["state"]) if self.memory.get("state") else None
        return None if state and self.params["again"] and state.phase in ENDED and not self.changed else state

    def carry_out(self, decision: Decision, before: State | None, seen: Seen) -> None:
        """The state is kept first: a run killed before the weight is set leaves the next one what to set."""
        state = decision.state
        if before is None or before.version != state.version:
            self.memory = {"checks": [], "events": []}
        self.memory["state"] = state.described()
        if decision.check:
            self.memory["checks"] = [*self.memory.get("checks", []), decision.check.described()][-KEPT:]
        if decision.event:
            event = {"at": seen.now, "phase": state.phase, "text": decision.event}
            self.memory["events"] = [*self.memory.get("events", []), event][-KEPT:]
            self.context.progress.report(f"canary {self.canary}", decision.event, done=decision.ended)
        if decision.fresh:
            self.memory["since"], self.memory["base"] = seen.now, None
        if decision.state != before or decision.event or decision.fresh:
            self.store.keep("state", self.memory)
            self.changed = True
        if decision.weight is not None:
            self.weigh(decision.weight)

    def ended(self, state: State, seen: Seen) -> Result:
        result = self.result(state, seen)
        if state.phase == ROLLED_BACK:
            raise PlatformError(
                f"The canary {self.canary} was rolled back and gets no request: {state.reason}. "
                f"{'See ' + result['page'] + '. ' if result.get('page') else ''}Deliver another version, or this one once more with again: true.",
                **result,
            )
        return result

    def result(self, state: State, seen: Seen) -> Result:
        found = {
            "changed": self.changed,
            "phase": state.phase,
            "version": state.version,
            "weight": self.weight_now(),
            "reason": state.reason,
            "checks": self.memory.get("checks", []),
        }
        if self.params["reports_dir"] and not self.context.check:
            found.update(self.write_evidence(state, seen))
        return found

    def write_evidence(self, state: State, seen: Seen) -> dict[str, str]:
        record = {
            "route": f"{self.namespace}/{self.params['route']}",
            "stable": self.stable,
            "canary": self.canary,
            "state": state.described(),
            "weight": self.weight_now(),
            "settings": self.settings.__dict__ | {"steps": list(self.settings.steps)},
            "source": self.source,
            "checks": self.memory.get("checks", []),
            "events": self.memory.get("events", []),
        }
        folder = Path(self.params["reports_dir"])
        name = f"canary-{self.params['route']}-{state.version}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            (folder / f"{name}.html").write_text(evidence.page(record), encoding="utf-8")
        except OSError as error:
            raise PlatformError(f"The evidence cannot be written to {folder}: {error.strerror}. Choose another reports_dir.") from error
        return {"evidence": str(folder / f"{name}.json"), "page": str(folder / f"{name}.html")}

    # ---- the route ------------------------------------------------------------------------------------------------------------

    def path(self) -> str:
        return self.client.resource(routes.KINDS[self.params["kind"]][0], self.params["kind"]).path(self.namespace, self.params["route"])

    def route(self) -> Json:
        found = self.client.find(self.path())
        if found is None:
            raise PlatformError(f"{self.params['kind']} {self.namespace}/{self.params['route']} does not exist. Run site.yml first.")
        return {**found, "kind": self.params["kind"]}

    def weight_now(self) -> int:
        return routes.weight(self.route(), self.stable, self.canary)

    def weigh(self, percent: int) -> None:
        body = routes.weighted(self.route(), self.stable, self.canary, percent)
        self.client.request("PATCH", self.path(), body, query={"fieldManager": routes.MANAGER, "force": True}, content_type=APPLY)
        self.changed = True

    def give_back(self) -> Result:
        route = self.route()
        fields = routes.given_back(route, f"{SETS}.{self.params['owner']}")
        remembered = bool(self.store.note("state"))
        if (fields is not None or remembered) and not self.context.check:
            if fields is not None:
                patch = {"metadata": {"managedFields": fields, "resourceVersion": route["metadata"]["resourceVersion"]}}
                self.client.request("PATCH", self.path(), patch, content_type=MERGE_PATCH)
            path = quote("api", "v1", "namespaces", self.namespace, "configmaps", f"canary-{self.params['route']}-state")
            if remembered:
                self.client.request("DELETE", path)
        return {"changed": fields is not None or remembered, "phase": "", "weight": self.weight_now()}

    # ---- what is seen ---------------------------------------------------------------------------------------------------------

    def look(self) -> Seen:
        canary, stable = (self.deployment(service) for service in (self.canary, self.stable))
        problem = unready(canary)
        now = self.epoch + self.context.clock.now()
        counted, silence = self.counted()
        base = self.memory.get("base")
        if base is None and counted is not None and self.memory.get("state"):
            # Nothing was known at the window's beginning, so it begins here.
            self.memory["base"], self.memory["since"] = statistics.to_json(counted), now
            self.store.keep("state", self.memory) if not self.context.check else None
            base = self.memory["base"]
        known = counted is not None and base is not None
        sides = [
            statistics.side(statistics.from_json(base or {}), counted or {}, name) if known else None for name in (self.canary, self.stable)
        ]
        return Seen(
            now=now,
            version=version_of(canary),
            problem=problem,
            adopted=not unready(stable) and images(stable) == images(canary),
            weight=self.weight_now(),
            since=float(self.memory.get("since") or now),
            canary=sides[0],
            stable=sides[1],
            silence=silence,
        )

    def deployment(self, service: str) -> Json:
        """The Deployment whose pods a Service leads to."""
        found = self.client.find(quote("api", "v1", "namespaces", self.namespace, "services", service))
        if found is None:
            raise PlatformError(
                f"Service {self.namespace}/{service} does not exist. Run site.yml first; a version has a Service and a Deployment of its own."
            )
        selector = {"matchLabels": found["spec"].get("selector") or {}}
        resource = self.client.resource("apps/v1", "Deployment")
        fitting = [
            {"apiVersion": "apps/v1", "kind": "Deployment", **item}
            for item in self.client.list(resource, self.namespace)["items"]
            if selector["matchLabels"] and selects(selector, item["spec"]["template"]["metadata"].get("labels") or {})
        ]
        if len(fitting) != 1:
            names = ", ".join(name_of(item) for item in fitting) or "none"
            raise PlatformError(
                f"Service {self.namespace}/{service} must lead to the pods of one Deployment; it leads to those of: {names}."
            )
        return fitting[0]

    @property
    def source(self) -> str:
        return "Prometheus" if self.params["prometheus"] else "Envoy's own statistics at the edge"

    def counted(self) -> tuple[statistics.Look | None, str]:
        """The counters of every pod of the edge that runs; None, and why, when one of them is silent."""
        resource = self.client.resource("v1", "Pod")
        chosen = ",".join(f"{key}={value}" for key, value in self.params["edge"].items())
        pods = [
            pod
            for pod in self.client.list(resource, self.namespace, labelSelector=chosen)["items"]
            if chosen and is_true(pod, "Ready") and not pod["metadata"].get("deletionTimestamp")
        ]
        if not pods:
            return None, f"no ready pod of the edge has the labels {chosen or '(none are given)'}"
        services = (self.canary, self.stable)
        try:
            if self.params["prometheus"]:
                look = statistics.from_prometheus(self.prometheus(statistics.query(services)), services, [name_of(pod) for pod in pods])
            else:
                with ThreadPoolExecutor(6) as pool:
                    look = dict(pool.map(lambda pod: (name_of(pod), self.envoy(pod, services)), pods))
        except (PlatformError, OSError, ValueError, KeyError) as error:
            return None, f"{self.source}: {error}"
        silent = [name_of(pod) for pod in pods if name_of(pod) not in look]
        return (None, f"{self.source} knows nothing of {', '.join(silent)}") if silent else (look, "")

    def envoy(self, pod: Json, services: tuple[str, ...]) -> dict[str, statistics.Counters]:
        until = self.context.clock.now() + READ_TIMEOUT
        at = Endpoint(self.namespace, name_of(pod), ADMIN_PORT)
        answer = self.cluster.http(at, "GET", "/stats/prometheus?filter=" + urllib.parse.quote("cluster.*upstream_rq"), until)
        if answer.status != 200:
            raise PlatformError(f"Envoy of {at.pod} answered {answer.status}: {answer.excerpt()}")
        return statistics.from_text(answer.body.decode("utf-8", "replace"), services)

    def prometheus(self, query: str) -> Json:
        """One instant query, at an address or through the API server to a Service."""
        at = self.params["prometheus"]
        asked = "/api/v1/query?" + urllib.parse.urlencode({"query": query})
        if at.get("url"):
            with open_url(at["url"].rstrip("/") + asked, timeout=READ_TIMEOUT) as answer:
                found = json.load(answer)
        else:
            path = quote(
                "api",
                "v1",
                "namespaces",
                at.get("namespace") or self.namespace,
                "services",
                f"http:{at.get('service')}:{at['port']}",
                "proxy",
            )
            found = json.loads(self.client.text(path + "/api/v1/query", query=query, timeout=READ_TIMEOUT))
        if found.get("status") != "success":
            raise PlatformError(f"Prometheus answered: {str(found.get('error'))[:200]}")
        return t.cast(Json, found)


def unready(deployment: Json) -> str:
    """Why a version is not all there, "" when it is."""
    if not deployment["spec"].get("replicas", 1):
        return f"Deployment {name_of(deployment)} has 0 replicas"
    verdict = readiness(deployment)
    return "" if verdict.state is Condition.READY else f"Deployment {name_of(deployment)}: {verdict.reason}"


def version_of(deployment: Json) -> str:
    """A short name of what the pods are; replicas and annotations (a restart) do not matter."""
    return hashlib.sha256(json.dumps(deployment["spec"]["template"]["spec"], sort_keys=True).encode()).hexdigest()[:12]


def images(deployment: Json) -> list[str]:
    return sorted(container["image"] for container in deployment["spec"]["template"]["spec"]["containers"])
