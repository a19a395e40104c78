# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The operator's process: run.py FOLDER

FOLDER holds what role operator writes: variables.json (the inventory's, for rendering), checks.json (of ``health``) and settings.json. kopf watches, and the
collection's own controllers do the rest; what is here is the wiring: configuration, Lease, handlers, metrics.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
import threading
import time
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import kopf
from ansible.plugins.loader import init_plugin_loader
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

init_plugin_loader()

from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client, connect
from ansible_collections.progressive.platform.plugins.module_utils._kube.discovery import Resource, UnknownKind
from ansible_collections.progressive.platform.plugins.module_utils._operator import controllers, lease, model
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock
from ansible_collections.progressive.platform.plugins.plugin_utils._agents import Renderer

PULSE = 5.0  # seconds between two signs of life of kopf's loop
SILENCE = 60.0  # seconds without one after which the kubelet shall start us anew
CRD_PAUSE = 1.0

log = logging.getLogger("operator")


class Metrics:
    """What is told to Prometheus."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.applied = Histogram("operator_apply_seconds", "Time to bring about one Agent.", buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30))
        self.failures = Counter("operator_apply_failures", "Agents that could not be brought about, each time.")
        self.agents = Gauge("operator_agents", "Agents.")
        self.unready = Gauge("operator_agents_not_ready", "Agents that do not serve.")
        self.queued = Gauge("operator_queue_length", "Agents that wait for something to be done, now or later.")
        self.leader = Gauge("operator_leader", "1 while this pod holds the Lease.")
        self.healthy = Gauge("operator_platform_healthy", "1 when the last look found everything green.")
        self.check = Gauge("operator_check_ok", "Each check of the platform's health, 1 for green.", ["component", "check"])
        self.looked = Gauge("operator_platform_checked_seconds", "When everything was looked at last, in seconds since 1970.")

    def told(self, what: str, *, seconds: float, ok: bool, checks: list[dict[str, t.Any]] | None = None) -> None:
        if what == "applied":
            self.applied.observe(seconds)
            if not ok:
                self.failures.inc()
            return
        self.healthy.set(ok)
        self.looked.set_to_current_time()
        self.check.clear()
        for check in checks or []:
            self.check.labels(str(check.get("component") or ""), check["name"]).set(check["ok"])

    def watch(self, agents: controllers.Agents) -> None:
        """Gauges that are read when they are asked for."""
        self.agents.set_function(lambda: len(agents.known))
        self.unready.set_function(lambda: sum(not model.is_ready({"status": known.status}) for known in list(agents.known.values())))
        self.queued.set_function(lambda: len(agents.queue))


class Operator:
    """One process: waits for its Lease, then leads until it ends or loses it."""

    def __init__(self, folder: Path) -> None:
        self.settings: dict[str, t.Any] = json.loads((folder / "settings.json").read_text())
        self.renderer = Renderer(json.loads((folder / "variables.json").read_text()))
        self.client: Client = connect({})
        self.metrics = Metrics()
        self.agents = controllers.Agents(self.client, self.renderer.render, self.renderer.coordinator, told=self.metrics.told)
        self.platforms = controllers.Platforms(
            self.client, json.loads((folder / "checks.json").read_text()), self.agents, told=self.metrics.told
        )
        self.metrics.watch(self.agents)
        identity = f"{os.environ.get('POD_NAME') or socket.gethostname()}_{os.getpid()}_{time.time_ns() % 10**6}"
        self.lease = lease.Leadership(self.client, self.settings["namespace"], "operator", identity, Clock())
        self.threads: list[threading.Thread] = []
        self.pulse = time.monotonic()

    def run(self) -> None:
        self.serve()
        self.wait_until_leader()
        self.wait_for_kinds()
        for name, work in (("agents", self.agents.work), ("platforms", self.platforms.work), ("lease", self.keep_leading)):
            thread = threading.Thread(target=work, name=name, daemon=True)
            thread.start()
            self.threads.append(thread)
        # An identity, or kopf asks the system for the name of a user whom an image run as any user does not know.
        identity: t.Any = self.lease.identity
        kopf.run(registry=self.handlers(), standalone=True, namespaces=self.settings["namespaces"], identity=identity)
        self.agents.close()
        self.platforms.queue.close()
        self.lease.release()

    # ---- leading --------------------------------------------------------------------------------------------------------------

    def wait_until_leader(self) -> None:
        told = ""
        while not self.lease.try_to_lead():
            if self.lease.holder != told:
                told = self.lease.holder
                log.info("%s leads; waiting for its Lease", told)
            time.sleep(lease.RENEW)
        self.metrics.leader.set(1)
        log.info("leading as %s", self.lease.identity)

    def keep_leading(self) -> None:
        """Renews; who cannot for too long ends at once, for another may lead from then on."""
        while True:
            time.sleep(lease.RENEW)
            if not self.lease.try_to_lead() and (self.lease.lost() or self.lease.holder != self.lease.identity):
                log.error("the Lease is lost (it is held by %s): ending", self.lease.holder or "nobody")
                os._exit(1)

    def wait_for_kinds(self) -> None:
        """kopf looks once which kinds there are, so ours must be served by then."""
        while True:
            try:
                for kind in ("Agent", "ProgressivePlatform"):
                    self.client.resource(model.API_VERSION, kind)
                return
            except UnknownKind as error:
                log.warning("%s", error.message)
                self.client.discovery.forget()
                time.sleep(CRD_PAUSE)

    # ---- watching -------------------------------------------------------------------------------------------------------------

    def handlers(self) -> kopf.OperatorRegistry:
        """kopf's handlers of raw events: they leave no finalizer and no annotation on anything."""
        registry = kopf.OperatorRegistry()

        @kopf.on.startup(registry=registry)
        async def configure(settings: kopf.OperatorSettings, **_unused: t.Any) -> None:
            settings.posting.enabled = False
            settings.scanning.disabled = True
            settings.peering.standalone = True
            settings.queueing.idle_timeout = 1.0
            self._beat = asyncio.get_running_loop().create_task(self.beat())

        @kopf.on.login(registry=registry)
        def login(**given: t.Any) -> t.Any:
            return kopf.login_with_service_account(**given) or kopf.login_with_kubeconfig(**given)

        def follow(resource: Resource, take: t.Callable[[str | None, model.Json], None], **only: t.Any) -> None:
            @kopf.on.event(resource.group, resource.api_version.rpartition("/")[2], resource.plural, registry=registry, id="seen", **only)
            async def seen(event: t.Any, **_unused: t.Any) -> None:
                # A list does not say of each item what it is.
                take(event["type"], {**event["object"], "apiVersion": resource.api_version, "kind": resource.kind})

        follow(self.client.resource(model.API_VERSION, "Agent"), self.agents.seen)
        follow(self.client.resource(model.API_VERSION, "ProgressivePlatform"), self.platforms.seen)
        variables = self.renderer.variables
        mesh = model.MESH_KINDS if variables["platform_mesh"] else ()
        keda = model.KEDA_KINDS if variables["platform_metrics_provider"] == "keda" else ()
        for api_version, kind in (*model.KINDS, *mesh, *keda):
            follow(self.client.resource(api_version, kind), self.agents.owned, labels={model.LABEL: kopf.PRESENT})
        return registry

    async def beat(self) -> None:
        while True:
            self.pulse = time.monotonic()
            await asyncio.sleep(PULSE)

    # ---- being asked ----------------------------------------------------------------------------------------------------------

    def alive(self) -> bool:
        waiting = not self.threads
        return waiting or (time.monotonic() - self.pulse < SILENCE and all(thread.is_alive() for thread in self.threads))

    def serve(self) -> None:
        """/healthz and /metrics, also while another leads."""
        operator = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self.answer(200, generate_latest(REGISTRY), "text/plain; version=0.0.4; charset=utf-8")
                elif self.path == "/healthz":
                    alive = operator.alive()
                    self.answer(200 if alive else 503, b"ok\n" if alive else b"a thread or the loop has stopped\n", "text/plain")
                else:
                    self.answer(404, b"/healthz, /metrics\n", "text/plain")

            def answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_unused: t.Any) -> None:
                """Probes are not worth a line."""

        server = ThreadingHTTPServer((self.settings.get("host", ""), int(self.settings["port"])), Handler)
        threading.Thread(target=server.serve_forever, name="http", daemon=True).start()


class Lines(logging.Formatter):
    """One JSON object a line, as the services log."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line = {"time": moment, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def main(folder: str) -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(Lines())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("kopf").setLevel(logging.WARNING)
    Operator(Path(folder)).run()


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(0)  # that everything can be imported
    main(sys.argv[1])
