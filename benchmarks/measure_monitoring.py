# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Prometheus costs as agents grow: Debian's own on loopback, with the rules of production, and a simulator that answers for every pod of an agent with
what a pod of the local cluster says of itself. Memory and samples a second are Prometheus' own words after two minutes.
"""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import connect
from ansible_collections.progressive.platform.tests.unit.monitoring.gathered import gathered
from run import Lab, Row

AGENTS, PODS, INTERVAL = (3, 100), 3, 15  # pods of an agent, seconds
SETTLED = 120.0  # seconds
MEMORY = 'process_resident_memory_bytes{job="prometheus"}'
SAMPLES = 'rate(prometheus_tsdb_head_samples_appended_total{job="prometheus"}[1m])'
SERIES = 'prometheus_tsdb_head_series{job="prometheus"}'


def measure(lab: Lab) -> list[Row]:
    if not shutil.which("prometheus"):
        raise SystemExit("monitoring: prometheus is wanted: make promtool")
    said = exposition(lab.kubeconfig)
    rows = []
    for agents in AGENTS:
        lab.say(f"monitoring: Prometheus with {agents} agents")
        memory, samples, series, rules = observed(lab.folder / f"prometheus-{agents}", said, agents)
        note = f"{agents * PODS} pods, {series:.0f} series, {samples:.0f} samples/s, rules evaluated in {rules * 1000:.0f} ms"
        rows.append(Row("Prometheus", f"{agents} agents", {}, note, memory / 1e6))
    return rows


def exposition(kubeconfig: str) -> bytes:
    """What a pod of an agent says of itself."""
    with connect({"kubeconfig": kubeconfig}) as client:
        found = client.get("/api/v1/pods", labelSelector="tier=agents")["items"]
    for pod in found:
        ports = [
            port["containerPort"] for container in pod["spec"]["containers"] for port in container["ports"] if port["name"] == "metrics"
        ]
        if ports and pod["status"].get("podIP"):
            return ask(pod["status"]["podIP"], ports[0], "/metrics")
    raise SystemExit("monitoring: no agent runs on the local cluster: make up")


def ask(host: str, port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection(host, port, timeout=20)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def observed(folder: Path, said: bytes, agents: int) -> tuple[float, float, float, float]:
    """Bytes, samples a second, series, and the seconds of the slowest group of rules."""

    class Pod(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_words: object) -> None:
            """Nobody reads it."""

    folder.mkdir()
    pods = ThreadingHTTPServer(("127.0.0.1", 0), Pod)
    threading.Thread(target=pods.serve_forever, daemon=True).start()
    port = free()
    groups = []
    for agent in range(agents):
        for pod in range(PODS):
            labels = {"agent": f"agent-{agent}", "pod": f"agent-{agent}-{pod}", "namespace": "production"}
            groups.append({"targets": [f"127.0.0.1:{pods.server_port}"], "labels": labels})
    jobs = [
        {"job_name": "agents", "static_configs": groups},
        {"job_name": "prometheus", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]},
    ]
    (folder / "rules.yml").write_text(rules_of())
    config = {"global": {"scrape_interval": f"{INTERVAL}s", "evaluation_interval": f"{INTERVAL}s"}, "rule_files": ["rules.yml"]}
    (folder / "prometheus.yml").write_text(yaml.safe_dump({**config, "scrape_configs": jobs}))
    command = [
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        time.sleep(SETTLED)
        if server.poll() is not None:
            raise SystemExit(f"monitoring: prometheus has ended: {(folder / 'log').read_text()[-2000:]}")
        slowest = "max(prometheus_rule_group_last_duration_seconds)"
        memory, samples, series, rules = (value(port, expression) for expression in (MEMORY, SAMPLES, SERIES, slowest))
        return memory, samples, series, rules
    finally:
        server.terminate()
        server.wait(30)
        pods.shutdown()


def rules_of() -> str:
    return yaml.safe_dump({"groups": [group for groups in gathered("production")["groups"].values() for group in groups]})


def value(port: int, expression: str) -> float:
    answer = json.loads(ask("127.0.0.1", port, f"/api/v1/query?query={urllib.parse.quote(expression)}"))
    return float(answer["data"]["result"][0]["value"][1])


def free() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])
