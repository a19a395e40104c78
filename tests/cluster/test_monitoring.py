# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real faults make real alerts fire (`make monitoring` before): all at once, in a namespace of the test's own, and what fired after how long.

PROGRESSIVE_WRITE_DOCS=1 writes the table of docs/monitoring.md anew; with PROGRESSIVE_THERE=1 the platform of the namespace is there already, and stays.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.tests.cluster.playbooks import ROOT, eventually, installed, playbook

DOCS = ROOT / "docs/monitoring.md"
NAMESPACE, WATCH = "monitoring-probes", "monitoring-probes-system"
COMPONENTS = ["baseline", "redis_cluster", "agents", "monitoring"]
ADDRESS = re.compile(r"\b\d+\.\d+\.\d+\.\d+\b")
PATIENCE = float(os.environ.get("PROGRESSIVE_PATIENCE") or 660)  # seconds; a rate over 5 min that must last 5 min is the slowest

pytestmark = [pytest.mark.slow, pytest.mark.monitoring]

SECURITY = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
SIZES = {"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"cpu": "50m", "memory": "32Mi"}}
# The alert, what tells it from others of its name, and the fault that makes it fire.
EXPECTED = [
    ("ContainerImageMissing", {"pod": "no-image"}, "a pod with an image that no node has"),
    ("ContainerConfigurationWrong", {"pod": "no-secret"}, "a pod that reads a Secret that is not there"),
    ("ContainerCrashLooping", {"pod": "crashes"}, "a pod whose process ends at once"),
    ("ContainerOOMKilled", {"pod": "eats"}, "a pod that takes more memory than it may"),
    ("ContainerMemoryUsageHigh", {"pod": "hoards"}, "a pod that takes nearly all memory that it may"),
    ("ContainerCPUUsageHigh", {"pod": "spins"}, "a pod that never rests"),
    ("PodPending", {"pod": "homeless"}, "a pod for nodes that do not exist"),
    ("PodNotReady", {"pod": "not-ready"}, "a pod whose readiness probe fails"),
    ("JobFailed", {"job_name": "fails"}, "a Job that ends with an error"),
    ("VolumeClaimUnbound", {"persistentvolumeclaim": "unbound"}, "a volume claim of a class that does not exist"),
    ("StatefulSetReplicasMissing", {"statefulset": "half"}, "a StatefulSet whose pod is not ready"),
    ("TargetDown", {"job": "agents", "pod": "silent"}, "a pod that says it has metrics, and nobody listens"),
    ("ScrapeJobEmpty", {"job": "node-exporter"}, "the DaemonSet of node-exporter deleted"),
    ("AgentDown", {"agent": "npa"}, "agent npa scaled to no pod"),
    ("AgentErrorRateHigh", {"agent_type": "mca"}, "plans asked of the coordinator meanwhile"),
    ("RedisMasterWithoutReplica", {}, "the last Redis node taken away"),
    ("RedisDown", {}, "another Redis server stopped (SIGSTOP) whenever it runs"),
    ("AlertmanagerCannotNotify", {"integration": "webhook"}, "a receiver that answers 405"),
]


def wanted() -> dict[str, Any]:
    return {
        "platform_namespace": NAMESPACE,
        "platform_components": COMPONENTS,
        "monitoring_namespace": WATCH,
        "monitoring_interval": 5,
        # It takes no POST.
        "monitoring_receivers": [
            {"name": "refuses", "webhook_configs": [{"url": f"http://prometheus.{WATCH}.svc.cluster.local:9090/-/healthy"}]}
        ],
        "monitoring_receiver": "refuses",
    }


class Watched:
    """The platform with its monitoring, and ways to ask it."""

    def __init__(self, client: Client, kubectl: Callable[..., str], variables: Path) -> None:
        self.client, self.kubectl, self.variables = client, kubectl, variables

    def ask(self, path: str, port: int = 9090, selector: str = "app=prometheus") -> Any:
        """Prometheus, by its pod's address: this machine reaches the pods of its cluster."""
        pods = self.client.get(f"/api/v1/namespaces/{WATCH}/pods", labelSelector=selector)["items"]
        connection = http.client.HTTPConnection(pods[0]["status"]["podIP"], port, timeout=20)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def plan(self) -> None:
        """Requests to the coordinator; what it answers is its own affair."""
        for one in self.client.get(f"/api/v1/namespaces/{NAMESPACE}/pods", labelSelector="app=mca")["items"]:
            for _unused in range(2):
                try:
                    connection = http.client.HTTPConnection(one["status"]["podIP"], 8000, timeout=3)
                    connection.request("POST", "/api/v1/plan", b'{"profile": {}}', {"content-type": "application/json"})
                    connection.getresponse().read()
                except (OSError, http.client.HTTPException):
                    pass

    def alone(self) -> set[str]:
        """Redis masters without a replica, by what the exporter says."""
        query = urllib.parse.quote('redis_connected_slaves == 0 and on (pod) redis_instance_info{role="master"}')
        return {one["metric"]["pod"] for one in self.ask(f"/api/v1/query?query={query}")["data"]["result"]}

    def value(self, expression: str) -> float:
        return float(self.ask(f"/api/v1/query?query={urllib.parse.quote(expression)}")["data"]["result"][0]["value"][1])

    def complaints(self) -> list[str]:
        """What a run of verify.yml finds wrong, problem by problem."""
        playbook("verify", self.variables, fails=None)
        checks = json.loads((self.variables.parent / "reports/health.json").read_text())["checks"]
        return [problem for check in checks if not check["ok"] for problem in check["details"].get("problems") or [check["message"]]]

    def green(self) -> bool:
        found = self.complaints()
        print("still:", *found, sep="\n  ")
        return not found

    def again(self) -> None:
        """Prometheus in another pod."""
        self.kubectl("-n", WATCH, "delete", "pod", "prometheus-0", "--timeout=120s")
        for state in ("create", "condition=Ready"):
            self.kubectl("-n", WATCH, "wait", "pod/prometheus-0", f"--for={state}", "--timeout=120s")

    def firing(self) -> list[dict[str, str]]:
        return [alert["labels"] for alert in self.ask("/api/v1/alerts")["data"]["alerts"] if alert["state"] == "firing"]


@pytest.fixture(scope="module")
def watched(client: Client, kubectl: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    try:
        with installed(tmp_path_factory.mktemp("monitoring"), wanted()) as variables:
            yield Watched(client, kubectl, variables)
    finally:
        if not os.environ.get("PROGRESSIVE_THERE"):
            kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=100s")  # and what the faults left in it


def pod(name: str, image: str, command: list[str], **spec: Any) -> dict[str, Any]:
    container = {"name": "app", "image": image, "command": command, "securityContext": SECURITY, "resources": SIZES}
    container |= spec.pop("container", {})
    labels = spec.pop("labels", {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"probe": "true", **labels}},
        "spec": {
            "containers": [container],
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1001, "seccompProfile": {"type": "RuntimeDefault"}},
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
            **spec,
        },
    }


def faults(image: str) -> list[dict[str, Any]]:
    sleep = ["python3", "-c", "import time; time.sleep(9999)"]
    sick = {"readinessProbe": {"exec": {"command": ["false"]}, "periodSeconds": 2}}
    template = pod("half", image, sleep, container=sick, labels={"app": "half"})
    fails = pod("fails", image, ["false"], restartPolicy="Never")
    return [
        pod("no-image", "localhost/progressive/nowhere:1", sleep, container={"imagePullPolicy": "Never"}),
        pod("no-secret", image, sleep, container={"envFrom": [{"secretRef": {"name": "nowhere"}}]}),
        pod("crashes", image, ["false"]),
        pod("eats", image, ["python3", "-c", "import time\nkept = []\nwhile True:\n    kept.append(b'x' * 2**20); time.sleep(0.2)"]),
        pod(
            "hoards",
            image,
            ["python3", "-c", "import time; kept = b'x' * 56 * 2**20; time.sleep(9999)"],
            container={"resources": {"requests": SIZES["requests"], "limits": {"cpu": "50m", "memory": "64Mi"}}},
        ),
        pod("spins", image, ["python3", "-c", "while True: pass"]),
        pod("homeless", image, sleep, nodeSelector={"node-type": "nowhere"}),
        pod("not-ready", image, sleep, container=sick),
        pod(
            "silent",
            image,
            sleep,
            container={"ports": [{"name": "metrics", "containerPort": 9}]},
            labels={"tier": "agents", "app": "silent"},
        ),
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "fails", "namespace": NAMESPACE},
            "spec": {"backoffLimit": 0, "template": {"spec": fails["spec"]}},
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "unbound", "namespace": NAMESPACE},
            "spec": {"storageClassName": "nowhere", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": "half", "namespace": NAMESPACE},
            "spec": {
                "serviceName": "half",
                "replicas": 1,
                "selector": {"matchLabels": {"app": "half"}},
                "template": {"metadata": {"labels": {"app": "half"}}, "spec": template["spec"]},
            },
        },
    ]


def test_everything_is_scraped_and_every_rule_evaluated(watched: Watched) -> None:
    """What health has just said, seen by other eyes."""
    targets = watched.ask("/api/v1/targets?state=active")["data"]["activeTargets"]
    down = [(target["scrapePool"], target["scrapeUrl"], target["lastError"]) for target in targets if target["health"] != "up"]
    assert not down
    jobs = {target["scrapePool"] for target in targets}
    assert {
        "apiserver",
        "kubelet",
        "cadvisor",
        "kube-state-metrics",
        "node-exporter",
        "agents",
        "redis",
        "redis-exporter",
    } <= jobs
    rules = [rule for group in watched.ask("/api/v1/rules")["data"]["groups"] for rule in group["rules"]]
    assert len(rules) > 80 and all(rule["health"] != "err" for rule in rules)


# What is broken in monitoring itself, and what health must say of it.
BROKEN = [
    ("a service that takes a scrape and never answers", "agents slow is down: Get "),
    ("a pod that says it has metrics, and nobody listens", "agents silent is down: Get "),
    ("the exporter of Redis with a wrong password", "critical alert RedisDown fires: "),
    ("no Alertmanager at all", "no Alertmanager is known"),
    ("the disk of Prometheus full", "the newest samples of a job are "),
]
NEVER = """import socket, time
door = socket.create_server(("", 9000))
kept = []
while True:
    kept.append(door.accept())
"""


def test_health_names_what_of_monitoring_itself_is_broken(watched: Watched) -> None:
    deployments = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
    image = watched.client.get(f"{deployments}/mca-deployment")["spec"]["template"]["spec"]["containers"][0]["image"]
    agent = {"tier": "agents"}
    doors = {"slow": ("python3", "-c", NEVER), "silent": ("python3", "-c", "import time; time.sleep(9999)")}
    pods = [
        pod(name, image, list(command), container={"ports": [{"name": "metrics", "containerPort": 9000}]}, labels={**agent, "app": name})
        for name, command in doors.items()
    ]
    watched.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(pods))
    another = "ASK_AS=operator; . /etc/progressive/config/ask.sh; ask acl setuser monitor resetpass '>another'"
    for number in range(6):
        watched.kubectl("-n", NAMESPACE, "exec", f"redis-cluster-{number}", "-c", "redis", "--", "sh", "-c", another)
    watched.kubectl("-n", WATCH, "scale", "statefulset/alertmanager", "--replicas=0")
    try:
        eventually("RedisDown", lambda: "RedisDown" in {labels["alertname"] for labels in watched.firing()}, PATIENCE)
        said = watched.complaints()
        print(*said, sep="\n")
    finally:
        watched.kubectl("-n", NAMESPACE, "delete", "pod", *doors, "--wait=false")
        playbook("site", watched.variables, fails=None)  # repairs what has drifted; alerts may go on a little
    eventually("health is green again", watched.green, PATIENCE)
    with full(watched):
        eventually(
            "the newest sample is old", lambda: watched.value("max(time() - max by (job) (timestamp(up))) or vector(999)") > 70, PATIENCE
        )
        said += watched.complaints()
    eventually("health is green again", watched.green, PATIENCE)
    print(*said, sep="\n")
    rows = [(fault, next((one for one in said if one.startswith(words)), "")) for fault, words in BROKEN]
    assert not [fault for fault, words in rows if not words], said
    table("broken", ("fault", "health"), [(fault, f"`{re.sub(ADDRESS, '...', words)[:150]}`") for fault, words in rows])


@contextlib.contextmanager
def full(watched: Watched) -> Iterator[None]:
    """Prometheus begins anew on a file system of four megabytes, which is then filled."""
    claim = watched.client.get(f"/api/v1/namespaces/{WATCH}/persistentvolumeclaims", labelSelector="app=prometheus")["items"][0]
    volume = watched.client.get(f"/api/v1/persistentvolumes/{claim['spec']['volumeName']}")["spec"]
    path = (volume.get("local") or volume["hostPath"])["path"]
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0777", "full", path], check=True, timeout=20)
    try:
        watched.again()
        with contextlib.suppress(OSError), open(Path(path) / "ballast", "wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(4096))
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True, timeout=20)
        watched.again()


def test_faults_make_their_alerts_fire(watched: Watched) -> None:
    deployments = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
    image = watched.client.get(f"{deployments}/mca-deployment")["spec"]["template"]["spec"]["containers"][0]["image"]
    before = {labels["alertname"] for labels in watched.firing()}
    watched.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(faults(image)))
    watched.kubectl("-n", NAMESPACE, "scale", "deployment/npa-deployment", "--replicas=0")
    watched.kubectl("-n", f"{WATCH}-nodes", "delete", "daemonset/node-exporter")
    watched.kubectl("-n", NAMESPACE, "scale", "statefulset/redis-cluster", "--replicas=5")
    began, fired, stopped = time.monotonic(), {}, ""
    while len(fired) < len(EXPECTED) and time.monotonic() - began < PATIENCE:
        if not stopped and (alone := watched.alone()):  # the one that has lost its replica must go on to say so
            stopped = next(name for name in (f"redis-cluster-{number}" for number in range(5)) if name not in alone)
        if stopped:
            stop = "kill -STOP $(pidof redis-server valkey-server)"
            watched.kubectl("-n", NAMESPACE, "exec", stopped, "-c", "redis", "--", "sh", "-c", stop, check=False)
        watched.plan()
        for labels in watched.firing():
            for name, wanted, _fault in EXPECTED:
                if labels["alertname"] == name and wanted.items() <= labels.items() and (name, str(wanted)) not in fired:
                    fired[name, str(wanted)] = time.monotonic() - began
        time.sleep(2)
    rows = [(name, fault, f"{fired[name, str(wanted)]:.0f} s") for name, wanted, fault in EXPECTED if (name, str(wanted)) in fired]
    quiet = [name for name, wanted, _fault in EXPECTED if (name, str(wanted)) not in fired]
    also = sorted({labels["alertname"] for labels in watched.firing()} - {name for name, _wanted, _fault in EXPECTED} - {"Watchdog"})
    print(f"before: {sorted(before)}; also: {also}; quiet: {quiet}")
    for row in rows:
        print(row)
    table("faults", ("alert", "fault", "fired after"), [(f"`{name}`", fault, seconds) for name, fault, seconds in rows])
    assert not quiet, f"these did not fire within {PATIENCE:g} s: {quiet}"


def table(name: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """The documentation names the same alerts and faults; written there, with the times, when PROGRESSIVE_WRITE_DOCS is set."""
    lines = ["| " + " | ".join(row) + " |" for row in (head, tuple("---" for _unused in head), *rows)]
    pattern = re.compile(rf"(<!-- {name}: [^\n]*-->\n\n).*?(\n\n<!-- end -->)", re.DOTALL)
    text = DOCS.read_text()
    found = pattern.search(text)
    assert found, f"{DOCS.name} has no place for {name}"
    if os.environ.get("PROGRESSIVE_WRITE_DOCS"):
        DOCS.write_text(pattern.sub(lambda place: place[1] + "\n".join(lines) + place[2], text))
    else:
        assert all(f"{row[0]} | {row[1]}" in found[0] for row in rows), "docs/monitoring.md says otherwise than was seen"
