# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""151 objects (a Namespace, 50 ConfigMaps, Services and Deployments with 0 replicas), applied first and again, every way people do it.

Each way is measured as a whole: the ``ansible-playbook`` call, the ``kubectl`` or ``helm`` call, each in a namespace of its own that
is gone before the next begins. The loop over documents takes so long that it gets fewer objects.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from run import Lab, Row

TRIPLES = 50
LOOPED = 10  # triples for the loop: 31 objects
OURS = "progressive.platform.apply"

Json = dict[str, Any]


def documents(namespace: str, triples: int) -> list[Json]:
    found: list[Json] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}]
    for number in range(triples):
        name = f"it-{number}"
        labels = {"app": name}
        pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "localhost/none:1"}]}}
        for api_version, kind, content in (
            ("v1", "ConfigMap", {"data": {"number": str(number), "level": "info"}}),
            ("v1", "Service", {"spec": {"selector": labels, "ports": [{"port": 80}]}}),
            ("apps/v1", "Deployment", {"spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": pod}}),
        ):
            found.append({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, **content})
    return found


def ansible(lab: Lab, task: Json) -> Callable[[], str]:
    """A playbook of one task, as a command to time."""
    file = lab.folder / f"{secrets.token_hex(4)}.yml"
    file.write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": [task]}], sort_keys=False))
    python = f"ansible_python_interpreter={sys.executable}"
    return lambda: lab.command(lab.bin / "ansible-playbook", "-i", "localhost,", "-c", "local", "-e", python, file)


def chart(lab: Lab, namespace: str) -> Path:
    folder = lab.folder / f"chart-{namespace}"
    (folder / "templates").mkdir(parents=True)
    (folder / "Chart.yaml").write_text("apiVersion: v2\nname: bench\nversion: 0.0.1\n")
    (folder / "templates" / "all.yaml").write_text(yaml.safe_dump_all(documents(namespace, TRIPLES)[1:]))
    return folder


def ways(lab: Lab) -> list[tuple[str, int, str, Callable[[str, Path], Callable[[], Any]]]]:
    """(name, triples, note, how to build the command for a namespace and a manifest)."""
    kubectl = lab.cache / "bin/kubectl"
    kubectl_command: str | Path = kubectl if kubectl.exists() else "kubectl"
    helm = lab.cache / "bin/helm"

    def core(manifest: Path, **options: Any) -> Callable[[], Any]:
        return ansible(lab, {"kubernetes.core.k8s": {"src": str(manifest), "kubeconfig": lab.kubeconfig, "apply": True, **options}})

    found: list[tuple[str, int, str, Callable[[str, Path], Callable[[], Any]]]] = [
        (
            OURS,
            TRIPLES,
            "whole ansible-playbook call",
            lambda space, manifest: ansible(
                lab, {OURS: {"set": "bench", "namespace": space, "templates": [str(manifest)], "kubeconfig": lab.kubeconfig}}
            ),
        ),
        ("kubernetes.core.k8s, one task", TRIPLES, "whole ansible-playbook call", lambda _space, manifest: core(manifest)),
        (
            "kubernetes.core.k8s, one task, server_side_apply",
            TRIPLES,
            "whole ansible-playbook call",
            lambda _space, manifest: core(manifest, server_side_apply={"field_manager": "bench"}),
        ),
        (
            "kubernetes.core.k8s, loop",
            LOOPED,
            f"only {3 * LOOPED + 1} objects",
            lambda space, _manifest: ansible(
                lab,
                {
                    "kubernetes.core.k8s": {"definition": "{{ item }}", "kubeconfig": lab.kubeconfig, "apply": True},
                    "loop": documents(space, LOOPED),
                    "loop_control": {"label": "{{ item.metadata.name }}"},
                },
            ),
        ),
        (
            "kubectl apply --server-side",
            TRIPLES,
            "no Ansible",
            lambda _space, manifest: lambda: lab.command(kubectl_command, "apply", "--server-side", "-f", manifest),
        ),
        ("kubectl apply", TRIPLES, "no Ansible", lambda _space, manifest: lambda: lab.command(kubectl_command, "apply", "-f", manifest)),
    ]
    if helm.exists():

        def upgrade(space: str, _manifest: Path) -> Callable[[], Any]:
            folder = chart(lab, space)
            return lambda: lab.command(helm, "upgrade", "--install", "bench", folder, "-n", space, "--create-namespace")

        found.append(("helm upgrade --install", TRIPLES, "no Ansible", upgrade))
    return found


def measure(lab: Lab) -> list[Row]:
    idle = ansible(lab, {"ansible.builtin.debug": {"msg": "nothing"}})
    group = f"{3 * TRIPLES + 1} objects"
    rows = [Row(group, name, {"first": [], "again": []}, note) for name, _triples, note, _build in ways(lab)]
    floor = Row(group, "(ansible-playbook with one debug task)", {"first": [], "again": []}, "the floor under every playbook")
    for _unused in range(lab.repeat):
        for row, (name, triples, _note, build) in zip(rows, ways(lab), strict=True):
            lab.say(f"apply: {name}")
            namespace = f"bench-{secrets.token_hex(4)}"
            manifest = lab.folder / f"{namespace}.yaml"
            manifest.write_text(yaml.safe_dump_all(documents(namespace, triples), sort_keys=False))
            command = build(namespace, manifest)
            try:
                for when in ("first", "again"):
                    row.seconds[when].append(lab.timed(command))
            finally:
                lab.command("kubectl", "delete", "namespace", namespace, "--ignore-not-found", "--wait=true", "--timeout=300s")
        for when in ("first", "again"):
            floor.seconds[when].append(lab.timed(idle))
    rows[0].memory = memory(lab)
    return [*rows, floor]


def memory(lab: Lab) -> float:
    """MB the process needs that runs the module's function on all objects, by the kernel's account."""
    namespace = f"bench-{secrets.token_hex(4)}"
    manifest = lab.folder / f"{namespace}.yaml"
    manifest.write_text(yaml.safe_dump_all(documents(namespace, TRIPLES), sort_keys=False))
    options = {"set": "bench", "namespace": namespace, "kubeconfig": lab.kubeconfig}
    code = (
        "import json, resource, sys\n"
        "from pathlib import Path\n"
        "from ansible.module_utils.common.arg_spec import ArgumentSpecValidator\n"
        "from ansible_collections.progressive.platform.plugins.module_utils._kube.apply import ARGUMENTS, run\n"
        "from ansible_collections.progressive.platform.plugins.module_utils._run import Context\n"
        "options = {**json.loads(sys.argv[1]), 'definition': Path(sys.argv[2]).read_text()}\n"
        "run(ArgumentSpecValidator(ARGUMENTS).validate(options).validated_parameters, Context(diff=True))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)\n"
    )
    try:
        return float(lab.command(sys.executable, "-c", code, json.dumps(options), manifest))
    finally:
        lab.command("kubectl", "delete", "namespace", namespace, "--ignore-not-found", "--wait=true", "--timeout=300s")
