# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the members are: plain addresses, or pods through the API server (private: may change without notice)."""

from __future__ import annotations

import dataclasses
import ipaddress
import socket
import typing as t
from collections.abc import Mapping, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._kube import pods
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.plugins.module_utils._kube.forward import forward
from ansible_collections.progressive.platform.plugins.module_utils._members.model import Target
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

CONNECT_WITHIN = 3.0
"""Seconds for one connection attempt."""


def options(port: int, **more: t.Any) -> dict[str, t.Any]:
    """What a module is told of where the members are: pods that listen on ``port`` (``more`` are further options of theirs), or addresses."""
    named = {"namespace": {"type": "str", "required": True}, "selector": {"type": "str", "required": True}}
    return {
        "pods": {"type": "dict", "options": {**named, "port": {"type": "int", "default": port}, **more}},
        "addresses": {"type": "list", "elements": "str"},
    }


class Source(t.Protocol):
    """Names the nodes and opens sockets to them."""

    def targets(self) -> list[Target]: ...

    def dial(self, target: Target) -> socket.socket: ...

    def evict(self, name: str, uid: str) -> str:
        """Have the pod replaced, if it is still this one; returns why not now, empty when it is on its way."""

    def recreate(self, name: str, uid: str) -> str:
        """Delete the pod and its volume claims, if it is still this one; returns why not, empty when they are going."""


class Addresses:
    """Nodes given as ``host:port``. The host is also the failure domain ``node``; ``zones`` maps an address or a host to its zone."""

    def __init__(self, addresses: Sequence[str], zones: Mapping[str, str] | None = None) -> None:
        self._addresses = [split_address(address) for address in addresses]
        self._zones = zones or {}
        if len(set(self._addresses)) < len(self._addresses):
            raise PlatformError(f"addresses names a node twice: {', '.join(addresses)}. Give every node once.")

    def targets(self) -> list[Target]:
        targets = []
        for ordinal, (host, port) in enumerate(self._addresses):
            name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            target = Target(name, host, port, ordinal, node=host, zone=self._zones.get(name, self._zones.get(host, "")), server_name=host)
            try:
                address = str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0])
                targets.append(dataclasses.replace(target, host=address))
            except OSError as error:
                targets.append(dataclasses.replace(target, problem=f"its name does not resolve here: {error}"))
        return targets

    def dial(self, target: Target) -> socket.socket:
        sock = socket.create_connection((target.host, target.port), timeout=CONNECT_WITHIN)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def evict(self, name: str, uid: str) -> str:
        return f"{name} is an address and no pod: whoever runs that server replaces it"

    def recreate(self, name: str, uid: str) -> str:
        return self.evict(name, uid)


class Pods:
    """Members that are the pods of a label selector, reached by port-forward with the kubeconfig's own rights."""

    def __init__(self, client: Client, namespace: str, selector: str, port: int) -> None:
        self._client = client
        self._namespace = namespace
        self._port = port
        self._pods = pods.Pods(client, namespace, selector)
        self.evict = self._pods.evict
        self.recreate = self._pods.recreate

    def targets(self) -> list[Target]:
        return [
            Target(
                name=pod.name,
                host=pod.address,
                port=self._port,
                ordinal=pod.ordinal,
                uid=pod.uid,
                node=pod.node,
                zone=pod.zone,
                volumes=pod.volumes,
                problem=pod.problem,
                crashed=pod.crashed,
                update=pod.update,
                ready=pod.ready,
            )
            for pod in self._pods.read()
        ]

    def dial(self, target: Target) -> socket.socket:
        return forward(self._client, self._namespace, target.name, self._port)


def split_address(text: str) -> tuple[str, int]:
    """(host, port) of ``host:port`` or ``[ipv6]:port``."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536 or (":" in host and not host.startswith("[")):
        raise PlatformError(f"addresses: {text!r} is not host:port (port 1-65535, an IPv6 address in brackets).")
    host = host.strip("[]")
    try:
        return str(ipaddress.ip_address(host)), int(port)
    except ValueError:
        return host, int(port)
