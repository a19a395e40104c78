# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests of the world to the gateway, from outside of the mesh."""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
from collections.abc import Mapping

from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client


def address(client: Client, namespace: str, selector: str) -> str:
    """A ready pod's, reached from this machine as from any place outside of the mesh."""
    pods = client.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)["items"]
    ready = [pod for pod in pods if any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", []))]
    assert ready, f"no ready pod has {selector}"
    return str(ready[0]["status"]["podIP"])


def ask(
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
