# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two providers that leave the work to others: kind on a container engine, and a cluster that is there already."""

from __future__ import annotations

import json
import shutil
import typing as t
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._kube.client import connect
from ansible_collections.progressive.platform.plugins.module_utils._local import control_plane, images, layout
from ansible_collections.progressive.platform.plugins.module_utils._local.layout import Cluster
from ansible_collections.progressive.platform.plugins.module_utils._local.shell import call, write_atomic
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

NAME = "progressive"
CREATE_TIMEOUT = 900.0  # seconds; the node image has to be downloaded the first time


def existing(params: Params) -> Result:
    """Check the cluster of the given kubeconfig; it is never started nor stopped."""
    with connect(params) as api:
        origin, server = str(api.access), api.access.server
        if params["state"] == "down":
            return {"provider": "existing", "changed": False, "state": "unknown", "notes": [f"{origin} is not ours to stop"]}
        try:
            version = str(api.get("/version").get("gitVersion"))
            found = control_plane.node_objects(api)
        except PlatformError as error:
            if params["state"] == "status":
                return {"provider": "existing", "changed": False, "state": "down", "server": server, "notes": [error.message]}
            raise
    unready = [f"{name}: {control_plane.why_not_ready(item)}" for name, item in sorted(found.items()) if not control_plane.is_ready(item)]
    if params["state"] == "up" and (unready or not found):
        raise PlatformError(
            f"Ready nodes were wanted at {origin}; seen: {'; '.join(unready) or 'no node'}. Look with 'kubectl describe nodes'.",
            nodes=unready,
        )
    return {
        "provider": "existing",
        "changed": False,
        "state": "degraded" if unready else "up",
        "kubeconfig": params.get("kubeconfig"),
        "context": params.get("context"),
        "server": server,
        "version": version,
        "nodes": [{"name": name, "ready": control_plane.is_ready(item)} for name, item in sorted(found.items())],
        "notes": unready,
    }


def kind_config(cluster: Cluster) -> dict[str, t.Any]:
    """kind's configuration (kind.x-k8s.io/v1alpha4): one control plane, and a worker for each node with its labels."""
    workers = [{"role": "worker", "labels": node.all_labels} for node in cluster.nodes]
    return {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "name": NAME,
        "networking": {"podSubnet": cluster.pod_network, "serviceSubnet": cluster.service_network},
        "nodes": [{"role": "control-plane"}, *workers],
    }


def kind_nodes(count: int) -> list[str]:
    """The names kind gives its workers: ``progressive-worker``, ``progressive-worker2``, ..."""
    return [f"{NAME}-worker{index or ''}" for index in [0, *range(2, count + 1)]]


def kind(params: Params, context: Context) -> Result:
    """The same cluster by kind, where Docker and kind are there."""
    if not shutil.which("kind") or not shutil.which("docker"):
        raise PlatformError(
            "local_cluster_provider kind wants the programs kind and docker in PATH; install them, or use the provider modules."
        )
    call(["docker", "info", "--format", "{{.ServerVersion}}"], timeout=20)
    cluster = layout.make_cluster(params)
    kubeconfig = cluster.paths.kubeconfig
    there = NAME in call(["kind", "get", "clusters"], timeout=60).split()
    facts: Result = {"provider": "kind", "kubeconfig": str(kubeconfig), "context": layout.CONTEXT, "notes": []}
    if params["state"] == "status":
        return {**facts, "changed": False, "state": "up" if there else "down"}
    if params["state"] == "down":
        if there and not context.check:
            call(["kind", "delete", "cluster", "--name", NAME], timeout=300)
            kubeconfig.unlink(missing_ok=True)
        return {**facts, "changed": there, "state": "down", "actions": [f"delete {NAME}"] if there else []}
    actions = [] if there else [f"create {NAME}"]
    if not context.check:
        if not there:
            context.progress.report("kind", "creates the cluster")
            call(["kind", "create", "cluster", "--config=-", "--wait=300s"], stdin=json.dumps(kind_config(cluster)), timeout=CREATE_TIMEOUT)
        if not there or not kubeconfig.exists():
            write_atomic(kubeconfig, control_plane.user_kubeconfig(call(["kind", "get", "kubeconfig", "--name", NAME])), 0o600)
        actions += taint_workers(cluster)
        actions += load_archives([Path(archive) for archive in params["images"]], cluster.paths.cache / "kind.json")
    return {**facts, "changed": bool(actions), "state": "up", "actions": actions}


def taint_workers(cluster: Cluster) -> list[str]:
    """kind knows labels of nodes and no taints: they are given through the API. Nodes that got theirs."""
    got = []
    with control_plane.client(cluster) as api:
        found = control_plane.node_objects(api)
        for node, name in zip(cluster.nodes, kind_nodes(len(cluster.nodes)), strict=True):
            if name in found and (patch := control_plane.node_patch(node, found[name])):
                api.request("PATCH", f"/api/v1/nodes/{name}", patch, content_type="application/merge-patch+json")
                got.append(f"describe {name}")
    return got


def load_archives(archives: Sequence[Path], note: Path) -> list[str]:
    """Load the archives kind has not got from us yet; ``note`` says which it has."""
    loaded: dict[str, str] = json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}
    done = []
    for archive in archives:
        digest, _names = images.identity(archive)
        if loaded.get(str(archive)) != digest:
            call(["kind", "load", "image-archive", str(archive), "--name", NAME], timeout=600)
            loaded[str(archive)] = digest
            write_atomic(note, json.dumps(loaded, indent=1))
            done.append(f"load {archive.name}")
    return done
