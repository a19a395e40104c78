# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A waypoint without a cluster: real Envoys with what real istiod says, and the tunnels (HBONE) that ztunnel would make, by Envoys of the test.

Envoy as its makers publish it lacks Istio's own filter for metadata, which every waypoint is told to have; so a client asks istiod as the waypoint would, and
Envoy runs what istiod has for it without that filter, with the endpoints and certificates written out. What is decided, who may ask what, is untouched.
"""

from __future__ import annotations

import json
import subprocess
import sys
import typing as t
from collections.abc import Iterable
from pathlib import Path

from ansible_collections.progressive.platform.tests.unit.istio.control_plane import ADDRESS, Document, Plane, envoy_program

HBONE = 15008
ISTIOS_OWN = ("io.istio.http.peer_metadata", "istio.workload", "io.istio.network.peer_metadata")


# Asks istiod for everything that a proxy asks for, and stays connected: istiod tells (as JSON) only what a connected proxy has asked for.
ASK = """
import json, queue, sys, grpc
from google.protobuf.struct_pb2 import Struct
def field(number, value):
    length, head = len(value), bytes([number << 3 | 2])
    while length > 127:
        head, length = head + bytes([length & 127 | 128]), length >> 7
    return head + bytes([length]) + value
name, kind, metadata, names = sys.argv[1], "type.googleapis.com/envoy.config.", Struct(), json.loads(sys.argv[3])
metadata.update(json.loads(sys.argv[2]))
node = field(2, field(1, name.encode()) + field(2, b"waypoint") + field(3, metadata.SerializeToString()))
asked = queue.Queue()
asked.put(node + field(4, (kind + "cluster.v3.Cluster").encode()))
asked.put(node + field(4, (kind + "listener.v3.Listener").encode()))
asked.put(node + b"".join(field(3, one.encode()) for one in names) + field(4, (kind + "endpoint.v3.ClusterLoadAssignment").encode()))
with grpc.insecure_channel("127.0.0.1:15010") as channel:
    stream = channel.stream_stream("/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources")
    for answer in stream(iter(asked.get, None)):
        print(len(answer), flush=True)
"""


class Authority:
    """Who says who is who: certificates with a SPIFFE identity each, by openssl."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "identities"
        self.folder.mkdir()
        self._openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=mesh"
        )

    def _openssl(self, *words: str) -> None:
        done = subprocess.run(["openssl", *words], cwd=self.folder, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr

    def issue(self, namespace: str, account: str, days: int = 1) -> Document:
        """A certificate as Envoy's ``tls_certificates`` wants it; made once an account. Of less than no days it is over."""
        name = f"{namespace}.{account}" + ("" if days > 0 else ".over")
        if not (self.folder / f"{name}.crt").exists():
            (self.folder / f"{name}.ext").write_text(f"subjectAltName=critical,URI:spiffe://cluster.local/ns/{namespace}/sa/{account}\n")
            self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", "/O=mesh")
            signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", str(days), "-extfile", f"{name}.ext")
            self._openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", *signed)
        files = {"certificate_chain": f"{name}.crt", "private_key": f"{name}.key"}
        return {part: {"filename": str(self.folder / file)} for part, file in files.items()}

    @property
    def trusted(self) -> Document:
        return {"trusted_ca": {"filename": str(self.folder / "ca.crt")}}


def connect(plane: Plane, name: str, namespace: str, labels: Document, names: list[str], kind: str = "waypoint") -> None:
    """As a waypoint's pod (or a gateway's, ``router``); ``names`` are the clusters whose endpoints are wanted."""
    metadata = {"LABELS": labels, "NAMESPACE": namespace, "ISTIO_VERSION": "1.32.0", "CLUSTER_ID": "Kubernetes", "ENABLE_HBONE": "true"}
    node = f"{kind}~{ADDRESS}~{name}.{namespace}~{namespace}.svc.cluster.local"
    plane.net.start(f"ask-{name}", sys.executable, "-c", ASK, node, json.dumps(metadata), json.dumps(names))


def configuration(plane: Plane, name: str) -> list[Document]:
    """What istiod has for a proxy that is connected, as its debug port tells it; nothing while it knows none."""
    address = f"http://127.0.0.1:8080/debug/config_dump?proxyID={name}&include_eds=true"
    said = plane.net.run("curl", "-s", "-m", "20", address, check=False)
    return list(json.loads(said).get("configs", [])) if said.startswith("{") else []


def part(configs: Iterable[Document], kind: str) -> Document:
    return next((one for one in configs if one["@type"].endswith(kind)), {})


def runnable(configs: list[Document], certificate: Document, trusted: Document) -> Document:
    """``static_resources`` that stand for what a waypoint is told."""
    loads = {
        one["endpointConfig"]["clusterName"]: one["endpointConfig"]
        for one in part(configs, "EndpointsConfigDump").get("dynamicEndpointConfigs", [])
    }
    clusters = [without(one["cluster"]) for one in part(configs, "ClustersConfigDump").get("dynamicActiveClusters", [])]
    listeners = [without(one["activeState"]["listener"]) for one in part(configs, "ListenersConfigDump").get("dynamicListeners", [])]
    for cluster in clusters:
        cluster.pop("@type", None)
        if cluster.get("type") == "EDS":
            cluster["type"] = "STATIC"
            cluster.pop("edsClusterConfig", None)
            cluster["loadAssignment"] = without(loads.get(cluster["name"], {"clusterName": cluster["name"]})) | {
                "clusterName": cluster["name"]
            }
            cluster["loadAssignment"].pop("@type", None)
    for listener in listeners:
        listener.pop("@type", None)
        if "socketAddress" in listener.get("address", {}):
            listener["address"]["socketAddress"]["address"] = ADDRESS
    for place in contexts([clusters, listeners]):
        place.pop("tlsCertificateSdsSecretConfigs", None)
        combined = place.pop("combinedValidationContext", {})
        place["tlsCertificates"] = [certificate]
        place["validationContext"] = {**combined.get("defaultValidationContext", {}), **trusted}
    return {"clusters": clusters, "listeners": listeners}


def without(value: t.Any) -> t.Any:
    """The same without Istio's own filters; what its Envoy keeps under names of its own, another one keeps as text under the same."""
    if isinstance(value, dict):
        text = {"factoryKey": "envoy.hashable_string"} if str(value.get("objectKey", "")).startswith(("io.istio.", "istio.")) else {}
        return {key: without(inner) for key, inner in value.items()} | text
    if isinstance(value, list):
        return [without(inner) for inner in value if not any(own in type_of(inner) for own in ISTIOS_OWN)]
    return value


def type_of(entry: t.Any) -> str:
    config = entry.get("typedConfig") if isinstance(entry, dict) else None
    return f"{config.get('@type', '')} {config.get('typeUrl', '')}" if isinstance(config, dict) else ""


def contexts(value: t.Any) -> t.Iterator[Document]:
    """Every place with certificates by name, wherever it is."""
    if isinstance(value, dict):
        if "tlsCertificateSdsSecretConfigs" in value:
            yield value
        for inner in value.values():
            yield from contexts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from contexts(inner)


def start(plane: Plane, name: str, resources: Document, admin: int) -> None:
    """An Envoy with what is written here and nothing else."""
    folder = plane.net.folder
    internal = {"@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener"}
    bootstrap = {
        "node": {"id": name, "cluster": name},
        "bootstrap_extensions": [{"name": "envoy.bootstrap.internal_listener", "typed_config": internal}],
        "static_resources": resources,
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
    }
    (folder / f"{name}.json").write_text(json.dumps(bootstrap))
    plane.net.start(name, envoy_program(folder), "-c", folder / f"{name}.json", "--concurrency", "1", "--base-id", admin)


FILTERS = "type.googleapis.com/envoy.extensions.filters"
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"
HTTP2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
}


def at(address: str, port: int) -> Document:
    return {"socket_address": {"address": address, "port_value": port}}


def cluster(name: str, address: str, port: int, **more: t.Any) -> Document:
    ends = [{"lb_endpoints": [{"endpoint": {"address": at(address, port)}}]}]
    return {"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name, "endpoints": ends}, **more}


def caller(port: int, certificate: Document, trusted: Document, target: str) -> Document:
    """A port of loopback whose connections are tunnelled to the waypoint, for the address that a Service has, as an account: a caller's ztunnel."""
    name = f"caller-{port}"
    common = {"tls_certificates": [certificate], "validation_context": trusted, "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"}}
    tls = {"@type": f"{TLS}.UpstreamTlsContext", "common_tls_context": common}
    proxy = {
        "@type": f"{FILTERS}.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": name,
        "cluster": name,
        "tunneling_config": {"hostname": target},
    }
    listener = {
        "name": name,
        "address": at("127.0.0.1", port),
        "filter_chains": [{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]}],
    }
    socket = {"name": "envoy.transport_sockets.tls", "typed_config": tls}
    to = cluster(name, ADDRESS, HBONE, typed_extension_protocol_options=HTTP2, transport_socket=socket)
    return {"clusters": [to], "listeners": [listener]}


def receiver(name: str, address: str, port: int, certificate: Document, trusted: Document, log: Path) -> Document:
    """The tunnel's other end at a pod, for one port of it: who came, and for which address, is written to a file."""
    common = {"tls_certificates": [certificate], "validation_context": trusted, "alpn_protocols": ["h2"]}
    tls = {"@type": f"{TLS}.DownstreamTlsContext", "require_client_certificate": True, "common_tls_context": common}
    route = {
        "match": {"connect_matcher": {}},
        "route": {"cluster": name, "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]},
    }
    line = {"text_format_source": {"inline_string": "%DOWNSTREAM_PEER_URI_SAN% %REQ(:AUTHORITY)%\n"}}
    manager = {
        "@type": f"{FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "http2_protocol_options": {"allow_connect": True},
        "upgrade_configs": [{"upgrade_type": "CONNECT"}],
        "access_log": [
            {
                "name": "file",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": str(log),
                    "log_format": line,
                },
            }
        ],
        "access_log_options": {"flush_access_log_on_new_request": True},
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": f"{FILTERS}.http.router.v3.Router"}}],
    }
    listener = {
        "name": name,
        "address": at(address, HBONE),
        "filter_chains": [
            {
                "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
                "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
            }
        ],
    }
    return {"clusters": [cluster(name, address, port)], "listeners": [listener]}


def together(parts: Iterable[Document]) -> Document:
    every = list(parts)
    return {kind: [one for each in every for one in each[kind]] for kind in ("clusters", "listeners")}
