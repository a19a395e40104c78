# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the mesh costs on the local cluster: site.yml with it and without, a run of role istio that changes nothing, requests through gateway and sidecar
beside the same requests to the application's pod, memory of proxies and istiod, and what a proxy is told with and without the Sidecar resource (istio_visible).

Load is made by Debian's `hey` from this machine, which asks for /health. A hundred agents are simulated: Services without pods in a namespace of their own,
which istiod tells proxies of like any other. Before: `make mesh`, and `apt-get install hey`.
"""

from __future__ import annotations

import csv
import io
import json
import re
from functools import partial
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client, connect
from ansible_collections.progressive.platform.tests.cluster.playbooks import ROOT, playbook
from run import Lab, Row

NAMESPACE, OTHERS = "bench-mesh", "bench-mesh-others"
HOST = "api.progressive.local"
PLAIN = ["baseline", "redis_cluster", "app", "agents"]
MESH = ["baseline", "istio", "redis_cluster", "gateway", "app", "agents"]
SECONDS, CONNECTIONS, AGENTS = 15, 8, 97  # with the three that are real, a hundred
NOTHING = "- hosts: all\n  gather_facts: false\n  connection: local\n  tasks:\n    - ansible.builtin.debug:\n"
ROLE = """- hosts: all
  gather_facts: false
  connection: local
  tasks:
    - ansible.builtin.import_role: {name: progressive.platform.catalog, rolespec_validate: false}
    - ansible.builtin.include_role: {name: progressive.platform.istio, tasks_from: deploy}
"""


def measure(lab: Lab) -> list[Row]:
    if not (lab.cache / "images/programs/pilot_discovery").exists():
        raise SystemExit("mesh: its programs are not here; run `make mesh` first")
    rows: list[Row] = []
    with connect({"kubeconfig": lab.kubeconfig}) as client:
        for name, components in {"with mesh": MESH, "without mesh": PLAIN}.items():
            variables = lab.folder / f"{len(components)}.json"
            settings = {
                "platform_namespace": NAMESPACE,
                "platform_components": components,
                "platform_reports_dir": str(lab.folder / "reports"),
            }
            variables.write_text(json.dumps({**settings, "redis_cluster_delete_volumes": True, "teardown_confirm": "local"}))
            lab.say(f"mesh: site.yml {name}")
            try:
                took = lab.timed(partial(playbook, "site", variables))
                note = "target: 30 s more than without" if components == MESH else ""
                rows.append(Row("site.yml from nothing to green, one run", name, {"green": [took]}, note))
                rows.append(asked(lab, client, name, in_mesh=components == MESH))
                if components == MESH:
                    rows += [*unchanged(lab, variables), *memory(lab, client), *told(lab, client, variables)]
            finally:
                playbook("teardown", variables)
    return sorted(rows, key=lambda row: list(dict.fromkeys(one.group for one in rows)).index(row.group))


def pod(client: Client, selector: str, namespace: str = NAMESPACE) -> tuple[str, str]:
    """Name and address of the first pod that runs."""
    items = client.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector, fieldSelector="status.phase=Running")["items"]
    if not items:
        raise SystemExit(f"mesh: no pod of {namespace} has {selector}")
    return str(items[0]["metadata"]["name"]), str(items[0]["status"]["podIP"])


def asked(lab: Lab, client: Client, name: str, in_mesh: bool) -> Row:
    """Time of half and of all but one in a hundred requests, at what rate they were answered; an answer that is not 200 ends the benchmark."""
    _pod, address = pod(client, "app=edge" if in_mesh else "app=progressive-framework-v5")
    target = f"https://{address}/health" if in_mesh else f"http://{address}:3000/health"
    seconds: dict[str, list[float]] = {"p50": [], "p99": []}
    rates = []
    for _again in range(lab.repeat):
        out = lab.command("hey", "-z", f"{SECONDS}s", "-c", str(CONNECTIONS), "-host", HOST, "-o", "csv", target)
        answers = list(csv.DictReader(io.StringIO(out)))
        bad = [answer for answer in answers if answer["status-code"] != "200"]
        if bad or not answers:
            raise SystemExit(f"mesh: {len(bad)} of {len(answers)} requests to {target} were not answered with 200")
        times = sorted(float(answer["response-time"]) for answer in answers)
        seconds["p50"].append(times[len(times) // 2])
        seconds["p99"].append(times[len(times) * 99 // 100])
        rates.append(len(answers) / SECONDS)
    through = "TLS, gateway and sidecar" if in_mesh else "the pod itself, in plain text"
    note = f"{through}; {' '.join(f'{rate:.0f}' for rate in rates)} requests/s"
    return Row(f"requests, {CONNECTIONS} connections for {SECONDS} s", name, seconds, note)


def unchanged(lab: Lab, variables: Path) -> list[Row]:
    """Tasks deploy of role istio with nothing to do, with Ansible's own start and without."""
    times: dict[str, list[float]] = {"role": [], "debug": []}
    for name, text in (("role", ROLE), ("debug", NOTHING)):
        (lab.folder / f"{name}.yml").write_text(text)
    for _turn in range(max(lab.repeat, 3)):
        for name, found in times.items():
            command: list[str | Path] = [
                lab.bin / "ansible-playbook",
                lab.folder / f"{name}.yml",
                "-i",
                ROOT / "inventories/local",
                "-e",
                f"@{variables}",
            ]
            found.append(lab.timed(partial(lab.command, *command, ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"))))
    alone = [whole - empty for whole, empty in zip(times["role"], times["debug"], strict=True)]
    group = "a run of role istio that changes nothing"
    return [
        Row(group, "deploy", {"alone": alone, "with Ansible": times["role"]}, "target 2 s"),
        Row(group, "one debug task", {"with Ansible": times["debug"]}),
    ]


def memory(lab: Lab, client: Client) -> list[Row]:
    """What all processes of a container have in memory together."""
    rows = []
    for name, selector, namespace, container in (
        ("proxy of the application", "app=progressive-framework-v5", NAMESPACE, "istio-proxy"),
        ("gateway", "app=edge", NAMESPACE, "istio-proxy"),
        ("istiod", "app=istiod", "istio-system", "discovery"),
    ):
        rows.append(Row("memory", name, {}, "resident", resident(lab, namespace, pod(client, selector, namespace)[0], container)))
    return rows


def resident(lab: Lab, namespace: str, name: str, container: str) -> float:
    """MB."""
    said = inside(lab, namespace, name, container, "cat /proc/[0-9]*/status")
    return sum(int(kilobytes) for kilobytes in re.findall(r"^VmRSS:\s+(\d+) kB$", said, re.MULTILINE)) / 1024


def inside(lab: Lab, namespace: str, name: str, container: str, script: str) -> str:
    return lab.command(lab.cache / "bin/kubectl", "-n", namespace, "exec", name, "-c", container, "--", "sh", "-c", script)


def told(lab: Lab, client: Client, variables: Path) -> list[Row]:
    """The application's proxy by how many agents there are and how much of them it is told: clusters it knows, and its memory."""
    rows = []
    kubectl = lab.cache / "bin/kubectl"
    others = lab.folder / "others.json"
    port = {"name": "http", "port": 80}
    made = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OTHERS}}]
    services = [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"agent-{number}", "namespace": OTHERS}, "spec": {"ports": [port]}}
        for number in range(AGENTS)
    ]
    others.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [*made, *services]}))
    try:
        for agents in (3, 3 + AGENTS):
            if agents > 3:
                lab.command(kubectl, "apply", "-f", others)
            for name, visible in (("Sidecar resource", None), ("all is told to all", [])):
                extra = [] if visible is None else ["-e", json.dumps({"istio_visible": visible})]
                playbook("site", variables, "--tags", "istio", *extra)
                lab.command(kubectl, "-n", NAMESPACE, "rollout", "restart", "deploy/progressive-framework-v5")
                lab.command(kubectl, "-n", NAMESPACE, "rollout", "status", "deploy/progressive-framework-v5", "--timeout=180s")
                proxy = pod(client, "app=progressive-framework-v5")[0]
                clusters = inside(lab, NAMESPACE, proxy, "istio-proxy", "pilot-agent request GET clusters")
                known = len(set(re.findall(r"^(outbound\|[^:]+)::", clusters, re.MULTILINE)))
                size = resident(lab, NAMESPACE, proxy, "istio-proxy")
                rows.append(
                    Row(
                        f"a proxy among {agents} agents (97 simulated)" if agents > 3 else "a proxy among 3 agents",
                        name,
                        {},
                        f"{known} clusters",
                        size,
                    )
                )
    finally:
        lab.command(kubectl, "delete", "namespace", OTHERS, "--ignore-not-found")
        playbook("site", variables, "--tags", "istio")
    return rows
