# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who asks in a mesh: the world at the gateway, a pod by its own Python, a pod that has no proxy."""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
import time
from collections.abc import Callable, Mapping

from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client

PATIENCE = 60.0  # seconds that a policy may take to reach a proxy


def address(client: Client, namespace: str, selector: str) -> str:
    """A ready pod's, reached from this machine as from any place outside of the mesh."""
    pods = client.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)["items"]
    ready = [pod for pod in pods if any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", []))]
    assert ready, f"no ready pod has {selector}"
    return str(ready[0]["status"]["podIP"])


def world(
    client: Client, namespace: str, method: str, host: str, path: str, headers: Mapping[str, str], port: int = 443
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (small letters) and body; port 443 is TLS, whose certificate has to be the gateway's for ``host``."""
    connection = http.client.HTTPConnection(host, timeout=20)
    connection.sock = socket.create_connection((address(client, namespace, "app=edge"), port), timeout=10)
    try:
        if port == 443:
            secret = client.get(f"/api/v1/namespaces/{namespace}/secrets/edge-tls")
            trust = ssl.create_default_context(cadata=base64.b64decode(secret["data"]["ca.crt"]).decode())
            connection.sock = trust.wrap_socket(connection.sock, server_hostname=host)
        connection.putrequest(method, path, skip_host=True)
        body = b'{"profile": {}}' if method == "POST" else b""
        for name, value in {"host": host, "content-type": "application/json", "content-length": str(len(body)), **headers}.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def pod(kubectl: Callable[..., str], namespace: str, who: str, method: str, url: str) -> str:
    """What ``who`` gets (``deploy/mca-deployment``, ``pod/stranger``): a status, or ``refused`` when nobody answers. Its own Python asks."""
    script = (
        "import sys, urllib.request as r, urllib.error as e\n"
        "method, url = sys.argv[1:]\n"
        "data = b'{\"profile\": {}}' if method in ('POST', 'PUT') else None\n"
        "try: print(r.urlopen(r.Request(url, data, {'content-type': 'application/json'}, method=method), timeout=15).status)\n"
        "except e.HTTPError as error: print(error.code)\n"
        "except Exception: print('refused')\n"
    )
    container = [] if who.startswith("pod/") else ["-c", "app" if "framework" in who else who.split("/")[1].removesuffix("-deployment")]
    return kubectl("-n", namespace, "exec", who, *container, "--", "python3", "-c", script, method, url).strip()


def stranger(client: Client, kubectl: Callable[..., str], namespace: str) -> None:
    """A pod of the same namespace without a proxy, which serves something on a port that no Service names."""
    agents = client.get(f"/apis/apps/v1/namespaces/{namespace}/deployments", labelSelector="tier=agents")["items"]
    image = agents[0]["spec"]["template"]["spec"]["containers"][0]["image"]
    allowed = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    container = {"name": "stranger", "image": image, "command": ["python3", "-m", "http.server", "12345", "--directory", "/app"]}
    body = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stranger", "labels": {"sidecar.istio.io/inject": "false"}},
        "spec": {
            "containers": [{**container, "securityContext": allowed, "readinessProbe": {"tcpSocket": {"port": 12345}}}],
            "securityContext": {"runAsNonRoot": True, "runAsUser": 1001, "seccompProfile": {"type": "RuntimeDefault"}},
            "terminationGracePeriodSeconds": 0,
            "tolerations": [{"operator": "Exists"}],
        },
    }
    client.request("POST", f"/api/v1/namespaces/{namespace}/pods", body)
    kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/stranger", "--timeout=120s")


def settled(ask: Callable[[], str], wanted: str) -> str:
    """The answer; asked again while it is not the one wanted, for a new rule takes a moment to reach every proxy."""
    deadline = time.monotonic() + PATIENCE
    while (seen := ask()) != wanted and time.monotonic() < deadline:
        time.sleep(1)
    return seen
