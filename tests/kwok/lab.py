# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Control planes without servers: real etcd, API server, controllers and scheduler on loopback; nodes and pods are KWOK's.

KWOK says of each pod that it is Ready and starts nothing. What is sent to a port of such a pod ends at `answers.py`, one process that stands for every
pod of every service. So an apply, a wait, a health check and a comparison do all their requests, and Redis or PostgreSQL cannot be formed.

    python -m ansible_collections.progressive.platform.tests.kwok.lab FOLDER [CLUSTERS [NODES]]     # keeps them until a key is pressed
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client, connect
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "progressive-platform" / "bin"
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
PATIENCE = 120.0  # seconds for anything to come about; a busy machine is no failure
ROOM = {"cpu": "32", "memory": "128Gi", "ephemeral-storage": "500Gi", "pods": "110"}  # of a node
ZONES = 3
TOKEN, USER, POOR = "the-administrator", "the-platform", "somebody-who-may-nothing"
PORTS = {3000: "http", 8000: "http", 8090: "metrics", 9090: "metrics", 9000: "grpc"}  # of the application's and the agents' pods
COMPONENTS = ["baseline", "app", "agents"]

Json = dict[str, Any]


def missing(*autoscalers: str) -> str:
    """What a control plane and these programs need and this machine has not got, "" when all is there."""
    for names, remedy in (
        (PROGRAMS, "run `make up` once"),
        (("kwok",), "run `make kwok` (a Go module, some minutes of compiling, once)"),
        (autoscalers, "run `make autoscalers` (Go modules, up to an hour of compiling, once)"),
    ):
        if absent := [name for name in names if not (CACHE / name).exists()]:
            return f"{CACHE} has no {', '.join(absent)}: {remedy}"
    return ""


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _unused in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def until(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience:g} s: {what}"
        time.sleep(0.1)


@dataclass
class Cluster:
    """One control plane; ``folder`` holds its data, its log and its kubeconfig."""

    name: str
    folder: Path
    answers: dict[str, int]
    options: dict[str, Sequence[str]] = field(default_factory=dict)  # more of them, by program; paths are of the folder
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    port: int = 0

    @property
    def kubeconfig(self) -> Path:
        """Of who installs the platform."""
        return self.folder / "kubeconfig"

    @property
    def admin(self) -> Path:
        return self.folder / "admin"

    def client(self) -> Client:
        return connect({"kubeconfig": str(self.admin)})

    def start(self, name: str, command: Sequence[str | Path]) -> None:
        log = (self.folder / f"{name}.log").open("ab")
        # They go with whoever started them, even if that is killed.
        prefix = ["setpriv", "--pdeathsig", "KILL"]
        with log:
            self.processes[name] = subprocess.Popen(
                [*prefix, *map(str, command)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )

    def stop(self, *names: str) -> None:
        """The named processes, all when none is named; the last started first."""
        chosen = [name for name in reversed(list(self.processes)) if name in names or not names]
        for name in chosen:
            self.processes[name].send_signal(signal.SIGKILL)
        for name in chosen:
            self.processes.pop(name).wait()

    def launch(self) -> None:
        """Everything but nodes; the API server serves when it returns."""
        self.folder.mkdir(parents=True)
        etcd, peer, self.port, kubelet = free_ports(4)
        keys(self.folder)
        # One line for each request of the platform's user, when it is answered.
        audited = [{"level": "Metadata", "users": ["platform"]}, {"level": "None"}]
        policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived", "ResponseStarted"], "rules": audited}
        (self.folder / "audit.json").write_text(json.dumps(policy))
        (self.folder / "tokens.csv").write_text(f'{TOKEN},admin,admin,"system:masters"\n{USER},platform,platform\n{POOR},poor,poor\n')
        url, peers = f"http://127.0.0.1:{etcd}", f"http://127.0.0.1:{peer}"
        self.start(
            "etcd",
            [
                CACHE / "etcd",
                "--name=lab",
                f"--data-dir={self.folder}/etcd",
                f"--listen-client-urls={url}",
                f"--advertise-client-urls={url}",
                f"--listen-peer-urls={peers}",
                f"--initial-advertise-peer-urls={peers}",
                f"--initial-cluster=lab={peers}",
                "--unsafe-no-fsync=true",
                "--log-level=error",
            ],
        )
        self.start(
            "kube-apiserver",
            [
                CACHE / "kube-apiserver",
                f"--etcd-servers={url}",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                # Loopback may not stand among a Service's endpoints, and nobody here asks for kubernetes.default.
                "--endpoint-reconciler-type=none",
                f"--secure-port={self.port}",
                f"--tls-cert-file={self.folder}/server.crt",
                f"--tls-private-key-file={self.folder}/server.key",
                f"--token-auth-file={self.folder}/tokens.csv",
                f"--audit-policy-file={self.folder}/audit.json",
                f"--audit-log-path={self.folder}/audit.log",
                "--authorization-mode=RBAC",
                "--anonymous-auth=false",
                "--service-cluster-ip-range=10.0.0.0/16",
                "--service-account-issuer=https://lab",
                f"--service-account-key-file={self.folder}/account.key",
                f"--service-account-signing-key-file={self.folder}/account.key",
                "--kubelet-preferred-address-types=InternalIP",
                "--profiling=false",
                *self.options.get("kube-apiserver", ()),
            ],
        )
        self.write_kubeconfig(self.admin, TOKEN)
        self.write_kubeconfig(self.kubeconfig, USER)
        with self.client() as client:

            def serves() -> bool:
                with contextlib.suppress(PlatformError):
                    return client.text("/readyz", timeout=2.0).strip() == "ok"
                assert self.processes["kube-apiserver"].poll() is None, (self.folder / "kube-apiserver.log").read_text()[-2000:]
                return False

            until(serves, f"the API server of {self.name} serves")
            permit(client)
        for name, options in {
            "kube-controller-manager": [
                f"--service-account-private-key-file={self.folder}/account.key",
                f"--root-ca-file={self.folder}/server.crt",
                # Nodes of KWOK renew a lease seldom, so that a thousand of them leave the machine to what is measured.
                "--node-monitor-grace-period=1h",
                "--kube-api-qps=300",
                "--kube-api-burst=600",
                "--concurrent-deployment-syncs=10",
            ],
            "kube-scheduler": [],
        }.items():
            common = [f"--kubeconfig={self.admin}", "--leader-elect=false", "--secure-port=0", "--profiling=false"]
            self.start(name, [CACHE / name, *common, *options, *self.options.get(name, ())])
        config = self.folder / "kwok.yaml"
        config.write_text(yaml.safe_dump_all([*stages(kubelet), forwarding(self.answers)]))
        self.start(
            "kwok",
            [
                CACHE / "kwok",
                f"--kubeconfig={self.admin}",
                f"--config={config}",
                "--manage-all-nodes=true",
                "--cidr=10.128.0.0/9",
                "--node-ip=127.0.0.1",
                f"--node-port={kubelet}",
                f"--server-address=127.0.0.1:{kubelet}",
                f"--tls-cert-file={self.folder}/server.crt",
                f"--tls-private-key-file={self.folder}/server.key",
                "--node-lease-duration-seconds=1200",
            ],
        )

    def requests(self) -> list[tuple[str, str]]:
        """(verb, kind) of everything that the platform's user has asked for."""
        entries = map(json.loads, (self.folder / "audit.log").read_text().splitlines())
        return [(entry["verb"], (entry.get("objectRef") or {}).get("resource") or entry["requestURI"]) for entry in entries]

    def write_kubeconfig(self, path: Path, token: str = USER, port: int = 0) -> Path:
        """A kubeconfig for this server; with another ``token`` or ``port`` one that does not work."""
        authority = base64.b64encode((self.folder / "server.crt").read_bytes()).decode()
        server = {"server": f"https://127.0.0.1:{port or self.port}", "certificate-authority-data": authority}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": server}],
            "users": [{"name": "lab", "user": {"token": token}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
            "current-context": "lab",
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def write_account(self, namespace: str, account: str) -> Path:
        """A kubeconfig with the token of a ServiceAccount, and nobody's rights but that one's."""
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": ["https://lab"]}}
        with self.client() as client:
            path = client.resource("v1", "ServiceAccount").path(namespace, account)
            token = client.request("POST", f"{path}/token", request)[2]["status"]["token"]
        return self.write_kubeconfig(self.folder / f"{account}.kubeconfig", token)

    def nodes(self, count: int) -> None:
        """Adds nodes until there are ``count``, all in the pool of the application; they are Ready when it returns."""
        with self.client() as client:
            resource = client.resource("v1", "Node")
            there = {item["metadata"]["name"] for item in client.list(resource)["items"]}
            wanted = [name for index in range(count) if (name := f"node-{index}") not in there]
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda name: client.request("POST", resource.path(), node(name)), wanted))

            def ready() -> bool:
                items = client.list(resource)["items"]
                return sum(is_ready(item) for item in items) >= count

            until(ready, f"{count} nodes of {self.name} are Ready", PATIENCE + count / 2)


def permit(client: Client) -> None:
    """The platform's user may everything but talk to kubelets through the API server, which does not connect itself to loopback for that.

    So a check of the nodes asks for each as it does elsewhere, is told that it may not, and goes by the lease.
    """
    core = [it["name"] for it in client.get("/api/v1")["resources"] if it["name"] != "nodes/proxy"]
    groups = [group["name"] for group in client.get("/apis")["groups"]]
    rules = [
        {"apiGroups": [""], "resources": core, "verbs": ["*"]},
        {"apiGroups": groups, "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ]
    version, name = "rbac.authorization.k8s.io/v1", {"name": "platform"}
    group = version.partition("/")[0]
    role = {"apiVersion": version, "kind": "ClusterRole", "metadata": name, "rules": rules}
    who = [{"apiGroup": group, "kind": "User", "name": "platform"}]
    binding = {"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": name, "subjects": who}
    client.request("POST", f"/apis/{version}/clusterroles", role)
    client.request(
        "POST", f"/apis/{version}/clusterrolebindings", binding | {"roleRef": {"apiGroup": group, "kind": "ClusterRole", **name}}
    )


def named(kind: str, name: str, namespace: str, version: str = "v1", **rest: Any) -> Json:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, **rest}


def loopback(name: str, namespace: str) -> Json:
    """A Service of this machine: one with another's name is the one kind that the API server follows to loopback."""
    return named("Service", name, namespace, spec={"type": "ExternalName", "externalName": "localhost"})


def send(client: Client, *documents: Json, namespace: str) -> None:
    """Makes them, in ``namespace`` where they do not name one."""
    for document in documents:
        resource = client.resource(document["apiVersion"], document["kind"])
        client.request("POST", resource.path(document["metadata"].get("namespace", namespace)), document)


def volumes(statefulset: Json, count: int) -> list[Json]:
    """A volume for each claim of so many pods: nobody makes one here."""
    found = []
    for template in statefulset["spec"]["volumeClaimTemplates"]:
        kept = {key: value for key, value in template["spec"].items() if key in ("accessModes", "storageClassName")}
        spec = {**kept, "capacity": template["spec"]["resources"]["requests"], "hostPath": {"path": "/nowhere"}}
        name = template["metadata"]["name"]
        found += [named("PersistentVolume", f"{name}-{number}", "", spec=spec) for number in range(count)]
    return found


def module(name: str) -> Path:
    """Where Go keeps a module (``path@version``), fetched if need be. Go may refuse to build with it, having fetched it."""
    subprocess.run(["go", "mod", "download", name], cwd="/", capture_output=True, timeout=300, check=False)
    cache = subprocess.run(["go", "env", "GOMODCACHE"], capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    return Path(cache) / name


def define(client: Client, *files: Path) -> None:
    """The definitions in these files; their kinds are served when it returns."""
    documents = [it for file in files for it in yaml.safe_load_all(file.read_text()) if it]
    send(client, *documents, namespace="")
    resource = client.resource(documents[0]["apiVersion"], documents[0]["kind"])

    def served() -> bool:
        states = [(client.get(resource.path("", it["metadata"]["name"])).get("status") or {}).get("conditions") or [] for it in documents]
        return all(any(it["type"] == "Established" and it["status"] == "True" for it in found) for found in states)

    until(served, f"{', '.join(it['metadata']['name'] for it in documents)} are served")


def is_ready(item: Json) -> bool:
    taints = (item.get("spec") or {}).get("taints") or []
    conditions = (item.get("status") or {}).get("conditions") or []
    return not taints and any(it["type"] == "Ready" and it["status"] == "True" for it in conditions)


def node(name: str) -> Json:
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "node-type": "app",
        "topology.kubernetes.io/zone": f"zone-{int(name.rpartition('-')[2]) % ZONES + 1}",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {"allocatable": ROOM, "capacity": ROOM},
    }


def stages(kubelet: int) -> list[Json]:
    """What KWOK makes of nodes and pods: well at once, and gone when they are deleted."""
    node_status = "\n".join(
        [
            "{{ $now := Now | Quote }}",
            "conditions:",
            *(
                f"- {{type: {kind}, status: '{value}', reason: Simulated, message: by KWOK, lastHeartbeatTime: {{{{ $now }}}}, "
                "lastTransitionTime: {{ $now }}}"
                for kind, value in {"Ready": True, "MemoryPressure": False, "DiskPressure": False, "PIDPressure": False}.items()
            ),
            "addresses: [{type: InternalIP, address: 127.0.0.1}]",
            f"daemonEndpoints: {{kubeletEndpoint: {{Port: {kubelet}}}}}",
            "nodeInfo: {architecture: amd64, operatingSystem: linux, kubeletVersion: v1.36.3}",
        ]
    )
    pod_status = "\n".join(
        [
            "{{ $now := Now | Quote }}",
            "phase: Running",
            "startTime: {{ $now }}",
            "conditions:",
            *(
                f"- {{type: {kind}, status: 'True', lastTransitionTime: {{{{ $now }}}}}}"
                for kind in ("Initialized", "ContainersReady", "Ready")
            ),
            "observedGeneration: {{ .metadata.generation }}",
            *_containers("$now"),
            "{{ if .spec.initContainers }}initContainerStatuses:{{ end }}",
            "{{ range .spec.initContainers }}",
            "- {name: {{ .name }}, image: {{ .image | Quote }}, ready: true, restartCount: 0, "
            "state: {terminated: {exitCode: 0, reason: Completed, startedAt: {{ $now }}, finishedAt: {{ $now }}}}}",
            "{{ end }}",
            "hostIP: 127.0.0.1",
            '{{ $ip := index ( PodIPsWith .spec.nodeName false ( or .metadata.uid "" ) ( or .metadata.name "" ) ( or .metadata.namespace "" ) ) 0 }}',
            "podIP: {{ $ip }}",
            "podIPs: [{ip: {{ $ip }}}]",
        ]
    )
    # A kubelet tells what a container has; the API server refuses a resize where none does.
    pod_resized = "\n".join(["observedGeneration: {{ .metadata.generation }}", *_containers("( $.status.startTime | Quote )")])
    gone = {"key": ".metadata.deletionTimestamp", "operator": "Exists"}
    stays = {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"}
    fresh = {"key": '.status.conditions.[] | select( .type == "Ready" ) | .status', "operator": "NotIn", "values": ["True"]}
    ready = {**fresh, "operator": "In"}
    changed = 'if .metadata.generation == .status.observedGeneration then "seen" else "changed" end'
    resized = [stays, ready, {"key": changed, "operator": "In", "values": ["changed"]}]
    return [
        _stage("node-ready", "Node", [fresh], {"statusTemplate": node_status}),
        _stage("pod-ready", "Pod", [stays, fresh], {"statusTemplate": pod_status}),
        _stage("pod-resized", "Pod", resized, {"statusTemplate": pod_resized}),
        _stage("pod-gone", "Pod", [gone], {"finalizers": {"empty": True}, "delete": True}),
    ]


def _containers(since: str) -> list[str]:
    state = f"state: {{running: {{startedAt: {{{{ {since} }}}}}}}}"
    return [
        "containerStatuses:",
        "{{ range .spec.containers }}",
        "- {name: {{ .name }}, image: {{ .image | Quote }}, ready: true, started: true, restartCount: 0, resources: {{ .resources | toJson }}, "
        + state
        + "}",
        "{{ end }}",
    ]


def _stage(name: str, kind: str, when: list[Json], then: Json) -> Json:
    spec = {"resourceRef": {"apiGroup": "v1", "kind": kind}, "selector": {"matchExpressions": when}, "next": then}
    return {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "Stage", "metadata": {"name": name}, "spec": spec}


def forwarding(answers: dict[str, int]) -> Json:
    """Whatever port of whatever pod: it is `answers.py` that answers."""
    forwards = [{"ports": [number], "target": {"port": answers[kind], "address": "127.0.0.1"}} for number, kind in PORTS.items()]
    named = {"apiVersion": "kwok.x-k8s.io/v1alpha1", "kind": "ClusterPortForward", "metadata": {"name": "all"}}
    return {**named, "spec": {"forwards": forwards}}


PLAIN = (serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())


def keys(folder: Path) -> None:
    """server.crt and server.key for loopback, and account.key."""
    certificate(folder / "server")
    (folder / "account.key").write_bytes(ec.generate_private_key(ec.SECP256R1()).private_bytes(*PLAIN))


def certificate(path: Path, *names: str) -> None:
    """``path``.crt and ``path``.key: of loopback and of ``names``, for servers and clients, and its own authority."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab")])
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=400))
        .add_extension(x509.SubjectAlternativeName([*map(x509.DNSName, ("localhost", *names)), loopback]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.with_suffix(".crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    path.with_suffix(".key").write_bytes(key.private_bytes(*PLAIN))


@contextlib.contextmanager
def clusters(
    folder: Path, names: Sequence[str], nodes: int = 3, options: dict[str, Sequence[str]] | None = None
) -> Iterator[list[Cluster]]:
    """Control planes of these names with so many nodes each, and what answers for their pods; all gone afterwards."""
    ports = dict(zip(("http", "metrics", "grpc"), free_ports(3), strict=True))
    made = [Cluster(name, folder / name, ports, options or {}) for name in names]
    answering = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", sys.executable, Path(__file__).with_name("answers.py"), *(str(ports[it]) for it in ports)],
        stdin=subprocess.DEVNULL,
    )
    try:
        for cluster in made:
            cluster.launch()
        for cluster in made:
            cluster.nodes(nodes)
        yield made
    finally:
        for cluster in made:
            cluster.stop()
            shutil.rmtree(cluster.folder / "etcd", ignore_errors=True)
        answering.kill()
        answering.wait()


# ---- what is installed there --------------------------------------------------------------------------------------------------


def agent_names(count: int) -> list[str]:
    return ["mca", "npa", "wpa", *(f"agent-{number}" for number in range(4, count + 1))][:count]


def variables(agents: int = 3) -> Json:
    """A platform of what needs no real server: namespaces, the application, agents."""
    large = 1000 * 1000
    names = agent_names(agents)
    return {
        "platform_components": COMPONENTS,
        "platform_wait_timeout": 300,
        "baseline_quota": {"pods": str(large), "requests.cpu": str(large), "services": str(large)},
        "agents_services": {name: {"scaling": {"min": 2}} if name == "mca" else {} for name in names},
        # All of them together are to fit ten nodes.
        "agents_defaults": {
            "resources": {
                "requests": {"cpu": "100m", "memory": "128Mi", "ephemeral-storage": "128Mi"},
                "limits": {"cpu": "500m", "memory": "512Mi", "ephemeral-storage": "1Gi"},
            },
            "scaling": {"min": 1, "max": 3},
        },
    }


def inventory(folder: Path, hosts: dict[str, Path], wanted: Json) -> Path:
    """An inventory with one host a kubeconfig; its reports and what it renders are in ``folder``."""
    shared = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "platform_reports_dir": f"{folder}/reports/{{{{ platform_name }}}}",
        "platform_render_dir": f"{folder}/rendered/{{{{ platform_name }}}}",
        **wanted,
    }
    content = {"all": {"hosts": {name: {"platform_kubeconfig": str(path)} for name, path in hosts.items()}, "vars": shared}}
    path = folder / "hosts.json"
    path.write_text(json.dumps(content))
    return path


def playbook(name: str, at: Path, *options: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Runs a playbook of the collection over the inventory ``at`` and brings back whatever came of it."""
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(at), f"playbooks/{name}.yml", *options]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "CI": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False)


def main() -> None:
    given = sys.argv[1:]
    folder, count, nodes = Path(given[0]).resolve(), int(given[1] if len(given) > 1 else 1), int(given[2] if len(given) > 2 else 3)
    with clusters(folder, [f"cluster-{number}" for number in range(1, count + 1)], nodes) as made:
        at = inventory(folder, {cluster.name: cluster.kubeconfig for cluster in made}, variables())
        print(f"inventory {at}", *(f"{it.name}: {it.kubeconfig}" for it in made), sep="\n", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            sys.stdin.readline()


if __name__ == "__main__":
    main()
