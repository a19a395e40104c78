# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Prometheus costs as agents and nodes grow: Debian's own on loopback, with the rules of production, and a simulator that answers for every pod of an
agent, and for the kubelet and cadvisor of every node, with what one of the local cluster says of itself; what production's jobs drop of that is dropped.
Memory and samples a second are Prometheus' own words after two minutes, in which every target has answered.
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
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import connect
from ansible_collections.progressive.platform.tests.unit.monitoring.gathered import gathered
from ansible_collections.progressive.platform.tests.unit.roles import rendering
from run import Lab, Row

SIZES, PODS, INTERVAL = ((3, 0), (100, 0), (100, 1000)), 3, 15  # agents and nodes, pods of an agent, seconds
NODE = {"kubelet": "metrics", "cadvisor": "metrics/cadvisor"}  # jobs, and where the API server passes them on
SETTLED = 120.0  # seconds
MEMORY = 'process_resident_memory_bytes{job="prometheus"}'
SAMPLES = 'rate(prometheus_tsdb_head_samples_appended_total{job="prometheus"}[1m])'
SERIES = 'prometheus_tsdb_head_series{job="prometheus"}'
SLOWEST = "max(prometheus_rule_group_last_duration_seconds)"
CPU = 'rate(process_cpu_seconds_total{job="prometheus"}[1m])'


def measure(lab: Lab) -> list[Row]:
    if not shutil.which("prometheus"):
        raise SystemExit("monitoring: prometheus is wanted: make promtool")
    said = expositions(lab.kubeconfig)
    rows = []
    for agents, nodes in SIZES:
        name = f"{agents} agents" + (f", {nodes} nodes" if nodes else "")
        lab.say(f"monitoring: Prometheus with {name}")
        seen = observed(lab.folder / f"prometheus-{agents}-{nodes}", said, agents, nodes)
        note = f"{agents * PODS} pods, {seen[SERIES]:.0f} series, {seen[SAMPLES]:.0f} samples/s, {seen[CPU]:.2f} of a processor"
        rows.append(Row("Prometheus", name, {}, f"{note}, rules evaluated in {seen[SLOWEST] * 1000:.0f} ms", seen[MEMORY] / 1e6))
    return rows


def expositions(kubeconfig: str) -> dict[str, bytes]:
    """By job, what a pod of an agent and a node say of themselves."""
    said = {}
    with connect({"kubeconfig": kubeconfig}) as client:
        found = client.get("/api/v1/pods", labelSelector="tier=agents")["items"]
        node = client.get("/api/v1/nodes")["items"][0]["metadata"]["name"]
        for job, path in NODE.items():
            with client.stream(f"/api/v1/nodes/{node}/proxy/{path}") as lines:
                said[job] = b"".join(line if line.endswith(b"\n") else line + b"\n" for line in lines)
    for pod in found:
        ports = [
            port["containerPort"] for container in pod["spec"]["containers"] for port in container["ports"] if port["name"] == "metrics"
        ]
        if ports and pod["status"].get("podIP"):
            return {**said, "agents": ask(pod["status"]["podIP"], ports[0], "/metrics")}
    raise SystemExit("monitoring: no agent runs on the local cluster: make up")


def ask(host: str, port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection(host, port, timeout=20)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def observed(folder: Path, said: dict[str, bytes], agents: int, nodes: int) -> dict[str, float]:
    """What Prometheus says of itself, by the question."""

    class Target(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = said[self.path.strip("/")]
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words: object) -> None:
            """Nobody reads it."""

    folder.mkdir()
    simulator = ThreadingHTTPServer(("127.0.0.1", 0), Target)
    threading.Thread(target=simulator.serve_forever, daemon=True).start()
    port, at = free(), f"127.0.0.1:{simulator.server_port}"
    groups = []
    for agent in range(agents):
        for pod in range(PODS):
            labels = {"agent": f"agent-{agent}", "pod": f"agent-{agent}-{pod}", "namespace": "production"}
            groups.append({"targets": [at], "labels": labels})
    jobs: list[dict[str, object]] = [
        {"job_name": "agents", "metrics_path": "/agents", "static_configs": groups},
        {"job_name": "prometheus", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]},
    ]
    all_nodes = [{"targets": [at], "labels": {"instance": f"node-{node}", "node": f"node-{node}"}} for node in range(nodes)]
    for job, dropped in dropped_of(NODE).items() if nodes else ():
        jobs.append({"job_name": job, "metrics_path": f"/{job}", "static_configs": all_nodes, "metric_relabel_configs": dropped})
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
        if (down := value(port, "count(up == 0) or vector(0)")) or value(port, "count(up)") != agents * PODS + 2 * nodes + 1:
            raise SystemExit(f"monitoring: {down:.0f} targets do not answer, or not all were asked yet")
        return {question: value(port, question) for question in (MEMORY, SAMPLES, SERIES, SLOWEST, CPU)}
    finally:
        server.terminate()
        server.wait(30)
        simulator.shutdown()


def dropped_of(names: Iterable[str]) -> dict[str, object]:
    """What production's jobs of these names do with the samples they get."""
    cluster = rendering.Cluster("production", {"platform_components": ["baseline", "monitoring"]})
    cluster.vars = cluster.vars | {"__monitoring_gathered": gathered("production")}
    (config,) = (
        text for one in cluster.documents("monitoring") for name, text in (one.get("data") or {}).items() if name == "prometheus.yml"
    )
    return {job["job_name"]: job["metric_relabel_configs"] for job in yaml.safe_load(config)["scrape_configs"] if job["job_name"] in names}


def rules_of() -> str:
    return yaml.safe_dump({"groups": [group for groups in gathered("production")["groups"].values() for group in groups]})


def value(port: int, expression: str) -> float:
    answer = json.loads(ask("127.0.0.1", port, f"/api/v1/query?query={urllib.parse.quote(expression)}"))
    return float(answer["data"]["result"][0]["value"][1])


def free() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])
