# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The original's troubleshooting section, row by row, each with its fault really made: the chain of causes must name it.

`make up` first: the pods run the platform's own images, and one of them knocks at its PostgreSQL with a wrong password.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.progressive.platform.plugins.module_utils._debug import bundle
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.plugins.module_utils._run import Context

Json = dict[str, Any]
pytestmark = pytest.mark.slow  # images are refused, pods crash twice, probes fail: a minute

ROOT = Path(__file__).resolve().parents[2]
PLATFORM = "progressive-framework-local"
SHOWS_WITHIN = 150.0  # seconds
UNGUESSABLE = "staplebattery"  # a secret that looks like any word

# Row of the section: the object it is about, and what the chain must say.
ROWS: dict[str, tuple[str, str, list[str]]] = {
    "get pods, describe pod: an image that is not there": ("Deployment", "image", ["has no image", "localhost/nowhere/none:1"]),
    "get pods, describe pod: a configuration that is not there": (
        "Deployment",
        "config",
        ["CreateContainerConfigError", "there is no ConfigMap settigns; there are", "settings"],
    ),
    "logs --previous: a program that ends": ("Deployment", "crash", ["ends again and again", "exit code 3", "cannot read the settings"]),
    "exec sh: a command that the image has not got": ("Deployment", "command", ["no-such-program", "executable file not found"]),
    "top pods: more memory than it may use": ("Deployment", "memory", ["OOMKilled (limit: 48Mi)"]),
    "describe nodes: more than any node has": (
        "Deployment",
        "large",
        ["finds no node", "of memory, and the largest node has", "no node is that large"],
    ),
    "curl health: a pod that answers with an error": ("Deployment", "unhealthy", ["is not ready", "GET /health on port 8080", "404"]),
    "curl health: a port at which nobody listens": ("Deployment", "deaf", ["nothing listens on port 9999; the container declares 8080"]),
    "curl health: alive no more": ("Deployment", "dying", ["liveness probe failed"]),
    "get endpoints: a Service that selects nobody": (
        "Service",
        "lost",
        ["no ready endpoint", "no pod has its labels app=wbe", "Deployment web, where app is 'web'"],
    ),
    "get endpoints: a Service whose pods are not ready": ("Service", "unhealthy", ["no ready endpoint", "GET /health on port 8080"]),
    "curl from the application: a port that the Service has not got": (
        "Deployment",
        "caller",
        ["at port 8000", "Service web has only the ports 80"],
    ),
    "nslookup: a name that nobody has": ("Deployment", "asker", ["calls mca-servise", "does not resolve", "a name does not resolve"]),
    "nslookup: a pod that asks another name server": ("Deployment", "own-dns", ["its dnsPolicy is None", "it asks 127.0.0.1"]),
    "get hpa: no metrics": ("HorizontalPodAutoscaler", "web", ["does not scale Deployment web", "it has no metrics"]),
    "get statefulsets: a pod that waits for its volume": (
        "StatefulSet",
        "data",
        ["finds no node", "claim data-data-0 has no volume", "there is no StorageClass no-such-class"],
    ),
    "psql: a password that is not accepted": ("Deployment", "knocker", ["does not accept its password"]),
    "get pv, pvc: a claim that nothing fills": (
        "PersistentVolumeClaim",
        "alone",
        ["is not bound", "there is no StorageClass no-such-class"],
    ),
    "a policy that lets nobody in": ("Deployment", "shut-out", ["no NetworkPolicy lets in this call at Deployment web (port 8080)"]),
}


def workload(
    name: str, image: str, program: str | None = None, kind: str = "Deployment", pod: Json | None = None, **container: Any
) -> Json:
    """``program`` is Python, run by the image; without it the container's own command."""
    labels = {"app": name}
    run = {"command": ["python3", "-u", "-c", program]} if program else {}
    spec = {
        "terminationGracePeriodSeconds": 0,
        "tolerations": [{"operator": "Exists"}],
        "automountServiceAccountToken": False,
        **(pod or {}),
        "containers": [{"name": "app", "image": image, "imagePullPolicy": "IfNotPresent", **run, **container}],
    }
    template = {"metadata": {"labels": labels}, "spec": spec}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }


def service(name: str, app: str) -> Json:
    ports = [{"port": 80, "targetPort": 8080}]
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"selector": {"app": app}, "ports": ports}}


SERVE = "import http.server; http.server.ThreadingHTTPServer(('', 8080), http.server.SimpleHTTPRequestHandler).serve_forever()"
SLEEP = "import time; time.sleep(100000)"
RESOLVE = """
import socket, time
while True:
    try:
        socket.getaddrinfo('mca-servise', 80)
    except OSError as error:
        print('call failed:', error)
    time.sleep(2)
"""


def probe(path: str, port: int, **more: Any) -> Json:
    return {"httpGet": {"path": path, "port": port}, "periodSeconds": 1, **more}


def faults(agent: str, postgres: str) -> list[Json]:
    ports = [{"containerPort": 8080}]
    missing = [{"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": "settigns", "key": "level"}}}]
    eat = "import time\nprint('eating')\nheld = []\nwhile True: held.append(b'x' * (8 << 20)); time.sleep(0.05)"
    template = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "no-such-class"}}
    template["spec"]["resources"] = {"requests": {"storage": "1Mi"}}
    data = workload("data", agent, SLEEP, "StatefulSet", volumeMounts=[{"name": "data", "mountPath": "/data"}])
    data["spec"] |= {"serviceName": "data", "volumeClaimTemplates": [template]}
    knock = f"while :; do psql 'postgresql://app:{UNGUESSABLE}@postgres-primary.{PLATFORM}:5432/postgres' -c 'SELECT 1'; sleep 2; done"
    target = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "minReplicas": 1, "maxReplicas": 2}
    metric = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"level": "info"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "word"}, "stringData": {"word": UNGUESSABLE}},
        workload("web", agent, SERVE, ports=ports, readinessProbe=probe("/", 8080)),
        service("web", "web"),
        workload("image", "localhost/nowhere/none:1"),
        workload("config", agent, SLEEP, env=missing),
        workload("crash", agent, "print('cannot read the settings'); raise SystemExit(3)"),
        workload("command", agent, None, command=["no-such-program"]),
        workload("memory", agent, eat, resources={"limits": {"memory": "48Mi"}}),
        workload("large", agent, SLEEP, resources={"requests": {"memory": "900Gi"}}),
        workload("unhealthy", agent, SERVE, ports=ports, readinessProbe=probe("/health", 8080)),
        service("unhealthy", "unhealthy"),
        workload("deaf", agent, SERVE, ports=ports, readinessProbe=probe("/", 9999)),
        workload("dying", agent, SERVE, ports=ports, livenessProbe=probe("/alive", 8080, failureThreshold=1)),
        service("lost", "wbe"),
        workload("caller", agent, SLEEP, env=[{"name": "WEB_URL", "value": "http://web:8000/health"}]),
        workload("asker", agent, RESOLVE, env=[{"name": "MCA_URL", "value": "http://mca-servise:80"}]),
        workload("own-dns", agent, SLEEP, pod={"dnsPolicy": "None", "dnsConfig": {"nameservers": ["127.0.0.1"]}}),
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "web"},
            "spec": {**target, "metrics": [metric]},
        },
        data,
        workload("knocker", postgres, None, command=["sh", "-c", knock]),
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "alone"}, "spec": template["spec"]},
        workload("shut-out", agent, SLEEP, env=[{"name": "WEB_URL", "value": "http://web"}]),
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "web"},
            "spec": {
                "podSelector": {"matchLabels": {"app": "web"}},
                "ingress": [
                    {"from": [{"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["shut-out"]}]}}]}
                ],
            },
        },
    ]


class Faults:
    """The namespace with everything broken in it, and what is found there."""

    def __init__(self, kubeconfig: str, namespace: str) -> None:
        self.kubeconfig, self.namespace = kubeconfig, namespace
        self.found: Json = {}

    def ask(self, **given: Any) -> Json:
        options = {"kubeconfig": self.kubeconfig, "namespace": self.namespace, **given}
        checked = ArgumentSpecValidator(bundle.ARGUMENTS).validate(options)
        assert not checked.error_messages
        return bundle.run(checked.validated_parameters, Context())

    def chains(self, kind: str, name: str) -> str:
        return "\n".join(" / ".join(it["chain"]) for it in self.found["findings"] if (it["kind"], it["name"]) == (kind, name))

    def unseen(self) -> dict[str, list[str]]:
        return {
            row: missing
            for row, (kind, name, words) in ROWS.items()
            if (missing := [word for word in words if word not in self.chains(kind, name)])
        }


@pytest.fixture(scope="module")
def broken(client: Client, kubeconfig: str) -> Iterator[Faults]:
    from ansible_collections.progressive.platform.plugins.module_utils._kube import apply

    def image_of(kind: str, name: str) -> str:
        item = client.get(client.resource("apps/v1", kind).path(PLATFORM, name))
        return str(item["spec"]["template"]["spec"]["containers"][0]["image"])

    name = f"test-debug-{secrets.token_hex(3)}"
    spaces = client.resource("v1", "Namespace")
    client.request("POST", spaces.path(), {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        options = {"set": "faults", "namespace": name, "kubeconfig": kubeconfig}
        options["definition"] = faults(image_of("Deployment", "mca-deployment"), image_of("StatefulSet", "postgres"))
        apply.run(dict(ArgumentSpecValidator(apply.ARGUMENTS).validate(options).validated_parameters), Context())
        made = Faults(kubeconfig, name)
        deadline = time.monotonic() + SHOWS_WITHIN
        while True:
            made.found = made.ask()
            if not made.unseen() or time.monotonic() > deadline:
                break
            time.sleep(3)
        yield made
    finally:
        client.request("DELETE", spaces.path(None, name))


@pytest.mark.parametrize("row", ROWS)
def test_a_row_of_the_original(broken: Faults, row: str) -> None:
    kind, name, words = ROWS[row]
    said = broken.chains(kind, name)
    for word in words:
        assert word in said, said or broken.found["msg"]


def test_what_works_is_not_blamed(broken: Faults) -> None:
    assert not broken.chains("Deployment", "web")
    assert not broken.chains("Service", "web")


def test_one_workload_within_ten_seconds_by_playbook(broken: Faults, tmp_path: Path) -> None:
    options = [f"debug_namespace={broken.namespace}", "debug_workload=Deployment/crash", f"platform_reports_dir={tmp_path}"]
    command = [str(ROOT / ".venv/bin/ansible-playbook"), "-i", "inventories/local", "playbooks/debug.yml"]
    began = time.monotonic()
    done = subprocess.run(
        [*command, *(it for option in options for it in ("-e", option))],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stdout + done.stderr
    assert "exit code 3" in done.stdout
    assert "localhost/nowhere" not in done.stdout, "only what was asked for"
    assert len(list((tmp_path / "debug").glob("*crash*.tar.gz"))) == 1
    assert seconds < 10, f"{seconds:.1f} s"


def test_a_secret_that_a_log_repeats_does_not_leave(broken: Faults, tmp_path: Path) -> None:
    """The password stands in a pod's command and in PostgreSQL's address; only who knows it finds every place."""
    result = broken.ask(dest=str(tmp_path), known_from_secrets=True)
    with tarfile.open(result["dest"]) as archive:
        texts = [archive.extractfile(it).read().decode() for it in archive.getmembers()]  # type: ignore[union-attr]
    assert len(texts) > 20
    assert not [text for text in texts if UNGUESSABLE in text]
    assert UNGUESSABLE not in json.dumps(result)


def test_the_page_lists_the_rows() -> None:
    """docs/debug.md names every row; PROGRESSIVE_WRITE_DOCS=1 writes them anew."""
    page = ROOT / "docs/debug.md"
    before, rest = page.read_text().split("<!-- rows: made by tests/cluster/test_debug.py -->\n")
    after = rest.split("<!-- end -->")[1]
    lines = ["| row of the original, and the fault that is made | the chain must say |", "| --- | --- |"]
    lines += [f"| {row} | {', '.join(f'`{word}`' for word in words)} |" for row, (_kind, _name, words) in ROWS.items()]
    text = f"{before}<!-- rows: made by tests/cluster/test_debug.py -->\n\n" + "\n".join(lines) + f"\n\n<!-- end -->{after}"
    if os.environ.get("PROGRESSIVE_WRITE_DOCS"):
        page.write_text(text)
    assert page.read_text() == text
