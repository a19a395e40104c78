# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates and kubeconfigs by kubeadm's phases, and what the API server has to know before the first pod."""

from __future__ import annotations

import datetime
import http.client
import shutil
import socket
import ssl
import typing as t
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client, connect
from ansible_collections.progressive.platform.plugins.module_utils._local.layout import (
    CONTEXT,
    Cluster,
    Node,
    kubeadm_config,
    parse_taint,
)
from ansible_collections.progressive.platform.plugins.module_utils._local.shell import call, write_atomic
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

try:
    import yaml
except ImportError:  # pragma: no cover - ansible-core itself needs PyYAML; only sanity's import test lacks it
    yaml = None  # type: ignore[assignment]

FIELD_MANAGER = "progressive.platform.local-cluster"
# Name: (role, kind of subject, subject). The second is not among kubeadm's own: without it exec, logs and port-forward are forbidden.
BINDINGS = {
    "kubeadm:cluster-admins": ("cluster-admin", "Group", "kubeadm:cluster-admins"),
    "progressive-platform:apiserver-kubelet": ("system:kubelet-api-admin", "User", "kube-apiserver-kubelet-client"),
}
# The kubelet, the scheduler and others own these taints; ours are all the rest.
SYSTEM_TAINTS = "node.kubernetes.io/"


def credential_files(cluster: Cluster) -> list[Path]:
    """Every file ``make_credentials`` makes that something else reads."""
    conf = [cluster.paths.conf / f"{name}.conf" for name in ("super-admin", "controller-manager", "scheduler", "kube-proxy")]
    keys = [cluster.paths.pki / name for name in ("ca.crt", "apiserver.crt", "front-proxy-ca.crt", "sa.key", "etcd/server.crt")]
    return [*conf, *keys, cluster.paths.kubeconfig, *(cluster.paths.node(node.name) / "kubelet.conf" for node in cluster.nodes)]


def make_credentials(cluster: Cluster) -> None:
    """Make what is missing; kubeadm keeps what is there and valid, so an interrupted run is completed."""
    paths, program = cluster.paths, str(cluster.kubernetes)
    config = paths.conf / "kubeadm.yaml"
    write_atomic(config, kubeadm_config(cluster, "control-plane"))
    kubeadm = [program, "kubeadm", "init", "phase"]
    call([*kubeadm, "certs", "all", f"--config={config}"])

    def control_plane() -> None:
        for name in ("admin", "super-admin", "controller-manager", "scheduler"):
            call([*kubeadm, "kubeconfig", name, f"--config={config}", f"--kubeconfig-dir={paths.conf}"])
        write_atomic(paths.kubeconfig, user_kubeconfig((paths.conf / "admin.conf").read_text(encoding="utf-8")), 0o600)

    def proxy() -> None:
        user = [program, "kubeadm", "kubeconfig", "user", f"--config={config}", "--client-name=system:kube-proxy"]
        write_atomic(paths.conf / "kube-proxy.conf", call(user), 0o600)

    def kubelet(node: Node) -> None:
        home = paths.node(node.name)
        write_atomic(home / "kubeadm.yaml", kubeadm_config(cluster, node.name))
        call([*kubeadm, "kubeconfig", "kubelet", f"--config={home / 'kubeadm.yaml'}", f"--kubeconfig-dir={home}"])

    with ThreadPoolExecutor(max_workers=4) as pool:
        jobs = [pool.submit(control_plane), pool.submit(proxy), *(pool.submit(kubelet, node) for node in cluster.nodes)]
        for job in jobs:
            job.result()


def user_kubeconfig(admin: str) -> str:
    """kubeadm's admin.conf with the one context named as the collection names it."""
    config = yaml.safe_load(admin)
    context = {"name": CONTEXT, "context": {"cluster": CONTEXT, "user": CONTEXT}}
    named = {
        **config,
        "clusters": [{**config["clusters"][0], "name": CONTEXT}],
        "users": [{**config["users"][0], "name": CONTEXT}],
        "contexts": [context],
        "current-context": CONTEXT,
    }
    return yaml.safe_dump(named, sort_keys=False)


def listens(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=1.0):
            return True
    except OSError:
        return False


def etcd_healthy(cluster: Cluster) -> bool:
    pki = cluster.paths.pki
    try:
        tls = ssl.create_default_context(cafile=str(pki / "etcd" / "ca.crt"))
        tls.load_cert_chain(pki / "apiserver-etcd-client.crt", pki / "apiserver-etcd-client.key")
        connection = http.client.HTTPSConnection(cluster.address, 2379, timeout=1.0, context=tls)
        try:
            connection.request("GET", "/health")
            return b'"true"' in connection.getresponse().read()
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return False


def discard_etcd(cluster: Cluster) -> None:
    """Give up the data of an etcd that cannot start from it: a fresh one needs nothing but the space."""
    shutil.rmtree(cluster.paths.etcd, ignore_errors=True)


def client(cluster: Cluster, kubeconfig: Path | None = None) -> Client:
    return connect({"kubeconfig": str(kubeconfig or cluster.paths.kubeconfig)})


def answers(api: Client) -> bool:
    """Whether the API server says of itself that it is ready."""
    try:
        return api.text("/readyz", timeout=1.0).strip() == "ok"
    except PlatformError:
        return False


def bind_roles(cluster: Cluster) -> None:
    """The cluster role bindings of ``BINDINGS``, made as the only user whom RBAC does not bind."""
    with client(cluster, cluster.paths.conf / "super-admin.conf") as api:
        for name, (role, kind, subject) in BINDINGS.items():
            body = {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRoleBinding",
                "metadata": {"name": name},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": subject}],
            }
            try:
                api.request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", body)
            except ApiError as error:
                if error.status != 409:
                    raise


def node_objects(api: Client) -> dict[str, dict[str, t.Any]]:
    """Name -> Node of every node the API server knows."""
    return {item["metadata"]["name"]: item for item in api.get("/api/v1/nodes").get("items") or []}


def delete_node(api: Client, name: str) -> bool:
    """Delete the Node; whether there was one."""
    try:
        api.request("DELETE", f"/api/v1/nodes/{name}")
    except ApiError as error:
        if error.status != 404:
            raise
        return False
    return True


def is_ready(item: Mapping[str, t.Any] | None, since: float = 0.0) -> bool:
    """Whether the node says it is ready, and has said so after ``since`` (seconds since the epoch).

    What a kubelet said before it was killed stands until the grace period ends; a new kubelet reports as soon as it registers.
    """
    for condition in ((item or {}).get("status") or {}).get("conditions") or []:
        if condition["type"] == "Ready":
            beat = datetime.datetime.fromisoformat(condition["lastHeartbeatTime"]).timestamp()
            # The API counts whole seconds.
            return bool(condition["status"] == "True" and beat >= int(since))
    return False


def why_not_ready(item: Mapping[str, t.Any] | None) -> str:
    """The node's own reason, for a person."""
    if item is None:
        return "has not registered"
    for condition in ((item.get("status") or {}).get("conditions")) or []:
        if condition["type"] == "Ready":
            return str(condition.get("message") or condition.get("reason") or "gives no reason")
    return "has not reported yet"


def node_patch(node: Node, item: Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The merge patch that gives the Node its labels and taints; empty when it has them."""
    patch: dict[str, t.Any] = {}
    labels = item["metadata"].get("labels") or {}
    if missing := {key: value for key, value in node.all_labels.items() if labels.get(key) != value}:
        patch["metadata"] = {"labels": missing}
    taints = (item.get("spec") or {}).get("taints") or []
    wanted = [parse_taint(text) for text in node.taints]
    ours = [taint for taint in taints if not taint["key"].startswith(SYSTEM_TAINTS)]
    if sorted(map(str, (sorted(taint.items()) for taint in ours))) != sorted(map(str, (sorted(taint.items()) for taint in wanted))):
        patch["spec"] = {"taints": [*wanted, *(taint for taint in taints if taint not in ours)]}
    return patch
