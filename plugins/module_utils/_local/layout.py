# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the local cluster is, as data: paths, addresses, and every program with its arguments and configuration files. No I/O.

The machine is the data centre. A bridge is its network, with the control plane on the first address. A node is a network and mount
namespace of its own with a cable to the bridge; in it a kubelet, a kube-proxy and a containerd see the paths of an ordinary node
(/var/lib/kubelet, /var/log/pods, /run/containerd), which are directories of the cache. Nothing they write lies anywhere else.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import typing as t
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._local.builds import Program
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

CONTEXT = "progressive-local"
BRIDGE = "pp0"
CGROUP = "progressive-platform"
CONTROL_PLANE_GROUP = "control-plane"
REPOSITORY = "localhost/progressive"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
API_PORT = 6443
MAX_NODES = 64
KUBELET_CNI = "/etc/cni/net.d"
CNI_PROGRAMS = "/usr/lib/cni"


@dataclass(frozen=True)
class Node:
    """One node; ``taints`` are ``key=value:Effect``, ``link`` is the host's end of its cable: set it down and the node is cut off."""

    name: str
    zone: str
    pool: str
    labels: Mapping[str, str]
    taints: tuple[str, ...]
    address: str
    pods: str
    link: str

    @property
    def all_labels(self) -> dict[str, str]:
        zone = {"topology.kubernetes.io/zone": self.zone} if self.zone else {}
        return {**zone, **self.labels}


@dataclass(frozen=True)
class Paths:
    """Where everything lies below the cache; ``run`` is removed by ``down``, the rest stays."""

    cache: Path

    @property
    def binaries(self) -> Path:
        return self.cache / "bin"

    @property
    def sources(self) -> Path:
        return self.cache / "src"

    @property
    def images(self) -> Path:
        return self.cache / "images"

    @property
    def logs(self) -> Path:
        return self.cache / "log"

    @property
    def run(self) -> Path:
        return self.cache / "run"

    @property
    def records(self) -> Path:
        return self.run / "processes"

    @property
    def pki(self) -> Path:
        return self.run / "pki"

    @property
    def conf(self) -> Path:
        return self.run / "conf"

    @property
    def etcd(self) -> Path:
        return self.run / "etcd"

    @property
    def kubeconfig(self) -> Path:
        return self.run / "kubeconfig"

    def node(self, name: str) -> Path:
        return self.run / "nodes" / name

    def containerd(self, name: str) -> Path:
        """The node's images: kept by ``down``, because importing them is the slow part of ``up``."""
        return self.cache / "containerd" / name

    def log(self, daemon: str) -> Path:
        return self.run / "log" / f"{daemon}.log"


@dataclass(frozen=True)
class Cluster:
    """The wanted cluster."""

    paths: Paths
    programs: Mapping[str, Program]
    nodes: tuple[Node, ...]
    node_network: str
    pod_network: str
    service_network: str
    node_grace: int = 40

    @property
    def address(self) -> str:
        """The control plane's address on the bridge."""
        return str(next(ipaddress.ip_network(self.node_network).hosts()))

    @property
    def prefix(self) -> int:
        return ipaddress.ip_network(self.node_network).prefixlen

    @property
    def server(self) -> str:
        return f"https://{self.address}:{API_PORT}"

    @property
    def dns(self) -> str:
        return str(ipaddress.ip_network(self.service_network)[10])

    @property
    def kubernetes(self) -> Path:
        return self.paths.binaries / self.programs["kubernetes"].file

    @property
    def version(self) -> str:
        return self.programs["kubernetes"].version

    @property
    def pause(self) -> Path:
        return self.paths.binaries / self.programs["pause"].file


@dataclass(frozen=True)
class Daemon:
    """A long-running program: its command, the files it reads (path: content), and the node it runs in ('' is the host)."""

    name: str
    command: tuple[str, ...]
    files: Mapping[Path, str] = field(default_factory=dict)
    node: str = ""

    @property
    def fingerprint(self) -> str:
        """Changes when the daemon has to be started anew to be what is wanted."""
        text = json.dumps([self.command, sorted((str(path), content) for path, content in self.files.items())])
        return hashlib.sha256(text.encode()).hexdigest()


def networks(node_network: str, pod_network: str, service_network: str, count: int) -> tuple[list[str], list[str]]:
    """The nodes' addresses (the second of the network onwards; the first is the control plane's) and pod networks (one /24 each)."""
    parsed: dict[str, ipaddress.IPv4Network] = {}
    for name, text in (("node_network", node_network), ("pod_network", pod_network), ("service_network", service_network)):
        try:
            parsed[name] = ipaddress.IPv4Network(text)
        except ValueError as error:
            raise PlatformError(f"local_cluster_{name} must be an IPv4 network such as 10.111.0.0/24, not {text!r}: {error}.") from error
    names = list(parsed)
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            if parsed[one].overlaps(parsed[other]):
                raise PlatformError(f"local_cluster_{one} {parsed[one]} and local_cluster_{other} {parsed[other]} must not overlap.")
    if parsed["node_network"].num_addresses < count + 3:
        raise PlatformError(f"local_cluster_node_network {node_network} has no room for {count} nodes and the control plane.")
    if parsed["pod_network"].prefixlen > 24 or 2 ** (24 - parsed["pod_network"].prefixlen) <= count:
        raise PlatformError(f"local_cluster_pod_network {pod_network} must hold one /24 for each of the {count} nodes and one to spare.")
    if parsed["service_network"].num_addresses < 64:
        raise PlatformError(f"local_cluster_service_network {service_network} is too small; give it at least a /26.")
    first = parsed["node_network"].network_address
    blocks = parsed["pod_network"].network_address
    return (
        [str(first + 2 + index) for index in range(count)],
        [f"{blocks + 256 * (index + 1)}/24" for index in range(count)],
    )


def peer_routes(cluster: Cluster, node: Node) -> dict[str, str]:
    """Pod network -> address of every other node there may ever be, so that one that joins later changes nothing in this one."""
    nodes_network, pod_network = ipaddress.IPv4Network(cluster.node_network), ipaddress.IPv4Network(cluster.pod_network)
    room = min(MAX_NODES, nodes_network.num_addresses - 3, 2 ** (24 - pod_network.prefixlen) - 1)
    addresses, pods = networks(cluster.node_network, cluster.pod_network, cluster.service_network, room)
    return {block: address for block, address in zip(pods, addresses, strict=True) if address != node.address}


def taint_text(taint: str | Mapping[str, str]) -> str:
    """``key=value:Effect`` of a taint that is written so already or as ``{key, value, effect}``."""
    if isinstance(taint, Mapping):
        return f"{taint['key']}={taint.get('value', '')}:{taint['effect']}"
    if ":" not in taint:
        raise PlatformError(f"A taint must look like key=value:NoSchedule, not {taint!r}.")
    return taint


def parse_taint(text: str) -> dict[str, str]:
    """``key=value:Effect`` as the API writes it."""
    key_value, _colon, effect = text.rpartition(":")
    key, _equals, value = key_value.partition("=")
    return {"key": key, "effect": effect, **({"value": value} if value else {})}


def group(node: str) -> str:
    """A node's control group, below the cluster's own: ``holder`` and ``system`` for its daemons, ``pods`` for the kubelet."""
    return f"nodes/{node}"


def make_cluster(params: Mapping[str, t.Any]) -> Cluster:
    """The cluster the module's options describe; PlatformError names the option that cannot be."""
    wanted = params["nodes"]
    names = [node["name"] for node in wanted]
    if len(names) > MAX_NODES:
        raise PlatformError(f"local_cluster_nodes names {len(names)} nodes; one machine bears at most {MAX_NODES}.")
    if not names:
        raise PlatformError("local_cluster_nodes must name at least one node.")
    if double := sorted({name for name in names if names.count(name) > 1}):
        raise PlatformError(f"local_cluster_nodes names {', '.join(double)} more than once.")
    addresses, pods = networks(params["node_network"], params["pod_network"], params["service_network"], len(names))
    pools = params["pools"] or {}
    nodes = []
    for index, node in enumerate(wanted):
        pool = node.get("pool") or ""
        if pool and pool not in pools:
            raise PlatformError(
                f"local_cluster_nodes: {node['name']} is in pool {pool!r}; the pools are {', '.join(sorted(pools)) or 'none'}."
            )
        traits = pools.get(pool) or {}
        nodes.append(
            Node(
                name=node["name"],
                zone=node.get("zone") or "",
                pool=pool,
                labels={**(traits.get("labels") or {}), **(node.get("labels") or {})},
                taints=tuple(taint_text(taint) for taint in [*(traits.get("taints") or []), *(node.get("taints") or [])]),
                address=addresses[index],
                pods=pods[index],
                link=f"pp-{index + 1}",
            )
        )
    programs = {name: Program.of(name, options) for name, options in params["programs"].items()}
    for name in ("kubernetes", "pause"):
        if name not in programs:
            raise PlatformError(f"local_cluster_programs must name {name}; it names {', '.join(sorted(programs)) or 'nothing'}.")
    return Cluster(
        paths=Paths(Path(params["cache"])),
        programs=programs,
        nodes=tuple(nodes),
        node_network=params["node_network"],
        pod_network=params["pod_network"],
        service_network=params["service_network"],
        node_grace=params["node_grace"],
    )


def arguments(options: Mapping[str, t.Any]) -> tuple[str, ...]:
    """``{"a-b": True}`` -> ``("--a-b=true",)``."""
    return tuple(f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in options.items())


def etcd(cluster: Cluster) -> Daemon:
    pki, url, peer = cluster.paths.pki / "etcd", f"https://{cluster.address}:2379", f"https://{cluster.address}:2380"
    options = {
        "name": "local",
        "data-dir": cluster.paths.etcd,
        "listen-client-urls": url,
        "advertise-client-urls": url,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"local={peer}",
        "cert-file": pki / "server.crt",
        "key-file": pki / "server.key",
        "trusted-ca-file": pki / "ca.crt",
        "client-cert-auth": True,
        "peer-cert-file": pki / "peer.crt",
        "peer-key-file": pki / "peer.key",
        "peer-trusted-ca-file": pki / "ca.crt",
        "peer-client-cert-auth": True,
        # A lost power cord may cost the local cluster's state, and up makes it anew; an fsync for every write costs seconds.
        "unsafe-no-fsync": True,
        "log-level": "warn",
    }
    return Daemon("etcd", (str(cluster.kubernetes), "etcd", *arguments(options)))


def kube_apiserver(cluster: Cluster) -> Daemon:
    pki = cluster.paths.pki
    options = {
        # Only on the bridge: the machine's other addresses do not answer.
        "bind-address": cluster.address,
        "advertise-address": cluster.address,
        "secure-port": API_PORT,
        "etcd-servers": f"https://{cluster.address}:2379",
        "etcd-cafile": pki / "etcd" / "ca.crt",
        "etcd-certfile": pki / "apiserver-etcd-client.crt",
        "etcd-keyfile": pki / "apiserver-etcd-client.key",
        "service-cluster-ip-range": cluster.service_network,
        "allow-privileged": True,
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "client-ca-file": pki / "ca.crt",
        "tls-cert-file": pki / "apiserver.crt",
        "tls-private-key-file": pki / "apiserver.key",
        "kubelet-client-certificate": pki / "apiserver-kubelet-client.crt",
        "kubelet-client-key": pki / "apiserver-kubelet-client.key",
        "kubelet-preferred-address-types": "InternalIP",
        "service-account-key-file": pki / "sa.pub",
        "service-account-signing-key-file": pki / "sa.key",
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "requestheader-client-ca-file": pki / "front-proxy-ca.crt",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "proxy-client-cert-file": pki / "front-proxy-client.crt",
        "proxy-client-key-file": pki / "front-proxy-client.key",
        # No kube-proxy on the host: webhooks and aggregated APIs are reached by their pods' addresses.
        "enable-aggregator-routing": True,
        "profiling": False,
    }
    return Daemon("kube-apiserver", (str(cluster.kubernetes), "kube-apiserver", *arguments(options)))


def kube_controller_manager(cluster: Cluster) -> Daemon:
    pki, kubeconfig = cluster.paths.pki, cluster.paths.conf / "controller-manager.conf"
    options = {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "client-ca-file": pki / "ca.crt",
        "requestheader-client-ca-file": pki / "front-proxy-ca.crt",
        "cluster-signing-cert-file": pki / "ca.crt",
        "cluster-signing-key-file": pki / "ca.key",
        "root-ca-file": pki / "ca.crt",
        "service-account-private-key-file": pki / "sa.key",
        "use-service-account-credentials": True,
        "bind-address": cluster.address,
        "leader-elect": False,
        "node-monitor-grace-period": f"{cluster.node_grace}s",
        "kube-api-qps": 100,
        "kube-api-burst": 200,
        "profiling": False,
    }
    return Daemon("kube-controller-manager", (str(cluster.kubernetes), "kube-controller-manager", *arguments(options)))


def kube_scheduler(cluster: Cluster) -> Daemon:
    kubeconfig = cluster.paths.conf / "scheduler.conf"
    options = {
        "kubeconfig": kubeconfig,
        "authentication-kubeconfig": kubeconfig,
        "authorization-kubeconfig": kubeconfig,
        "bind-address": cluster.address,
        "leader-elect": False,
        "profiling": False,
    }
    return Daemon("kube-scheduler", (str(cluster.kubernetes), "kube-scheduler", *arguments(options)))


def mounts(cluster: Cluster, node: Node) -> dict[str, Path]:
    """What a node sees in place of the host's directories: path in the node -> directory of the cache."""
    home = cluster.paths.node(node.name)
    return {
        "/var/lib/kubelet": home / "kubelet",
        "/var/log/pods": home / "pods",
        "/var/log/containers": home / "containers",
        KUBELET_CNI: home / "cni",
    }


def network_files(cluster: Cluster, node: Node) -> tuple[Path, Path]:
    """Where the node's addresses and routes (for ``ip -batch``), and its packet filter (for ``iptables-restore``), are written."""
    return cluster.paths.node(node.name) / "network.ip", cluster.paths.node(node.name) / "network.iptables"


def addresses_and_routes(cluster: Cluster, node: Node) -> str:
    lines = ["link set lo up", f"address add {node.address}/{cluster.prefix} dev eth0", "link set eth0 up"]
    lines += [f"route add default via {cluster.address}"]
    lines += [f"route add {pods} via {address}" for pods, address in peer_routes(cluster, node).items()]
    return "\n".join(lines) + "\n"


def packet_filter(cluster: Cluster) -> str:
    """Whatever is neither node nor pod is refused in the node already, with an answer: silence would make clients wait for 30 s.

    That is the world outside, and also a Service that kube-proxy does not know (yet): those it knows have become pods by then.
    A reset and not ICMP where there is a choice, because the kernel sends at most one ICMP error a second.
    """
    closed = ["-o lo -j RETURN", f"-d {cluster.node_network} -j RETURN", f"-d {cluster.pod_network} -j RETURN"]
    closed += ["-p tcp -j REJECT --reject-with tcp-reset", "-j REJECT"]
    rules = [f"-A CLOSED {rule}" for rule in closed]
    return "\n".join(["*filter", ":CLOSED - [0:0]", *rules, "-A FORWARD -j CLOSED", "-A OUTPUT -j CLOSED", "COMMIT"]) + "\n"


def holder(cluster: Cluster, node: Node) -> Daemon:
    """The process that is the node: the others join its namespaces, and when it ends with them, network and mounts are gone."""
    # Private first, so that nothing is ever mounted for the host; then shared, as the kubelet needs it between its containers.
    script = ["set -e", "mount --make-rprivate /", "mount --make-rshared /"]
    # The namespace begins as a copy: another program's layers would stay busy in it for as long as the node lives.
    script += [
        'while read -r _ point type _; do case $type:$point in overlay:/?*) umount -l "$point" || true;; esac; done < /proc/self/mounts'
    ]
    script += ["mount -t tmpfs -o mode=0711 containerd /run/containerd"]
    script += [f"mount --bind '{source}' '{target}'" for target, source in mounts(cluster, node).items()]
    # What is installed among these programs (a mesh's) is the node's own: installers of several nodes would remove each other's.
    home = cluster.paths.node(node.name)
    script += [f"mkdir -p '{home}/programs' '{home}/programs.work'"]
    layers = f"lowerdir={CNI_PROGRAMS},upperdir={home}/programs,workdir={home}/programs.work"
    script += [f"mount -t overlay -o '{layers}' programs {CNI_PROGRAMS}"]
    script += [f"hostname '{node.name}'", f"exec '{cluster.pause}'"]
    routes, rules = network_files(cluster, node)
    files = {routes: addresses_and_routes(cluster, node), rules: packet_filter(cluster)}
    return Daemon(f"holder-{node.name}", ("unshare", "--net", "--mount", "--uts", "sh", "-c", "\n".join(script)), files)


def containerd(cluster: Cluster, node: Node) -> Daemon:
    config = cluster.paths.node(node.name) / "containerd.toml"
    content = f"""version = 2
root = "{cluster.paths.containerd(node.name)}"
state = "/run/containerd/state"

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{REPOSITORY}/pause:{cluster.programs["pause"].version}"
  # The kernel of a small machine may refuse a lower oom_score_adj; runc's error then names something else.
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PROGRAMS}"
    conf_dir = "{KUBELET_CNI}"
"""
    files = {config: content, mounts(cluster, node)[KUBELET_CNI] / "10-bridge.conflist": cni(node)}
    return Daemon(f"containerd-{node.name}", ("containerd", "--config", str(config)), files, node.name)


def cni(node: Node) -> str:
    """The node's pod network: a bridge and host-local addresses. No masquerading, or a peer takes the node's address for the pod's."""
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": "/run/containerd/ipam",
            "ranges": [[{"subnet": node.pods}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    plugins = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]
    return json.dumps({"cniVersion": "0.4.0", "name": "pods", "plugins": plugins}, indent=1)


def kubelet(cluster: Cluster, node: Node) -> Daemon:
    home = cluster.paths.node(node.name)
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "healthzBindAddress": "127.0.0.1",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(cluster.paths.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook", "webhook": {"cacheUnauthorizedTTL": "1s"}},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}/{group(node.name)}/pods",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [cluster.dns],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        # Images are imported, never pulled: what the kubelet throws away would not come back.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "resolvConf": str(home / "resolv.conf"),
        "serializeImagePulls": False,
        "registerWithTaints": [parse_taint(text) for text in node.taints],
    }
    options: dict[str, t.Any] = {
        "config": home / "kubelet.json",
        "kubeconfig": home / "kubelet.conf",
        "hostname-override": node.name,
        "node-ip": node.address,
    }
    if node.all_labels:
        options["node-labels"] = ",".join(f"{key}={value}" for key, value in sorted(node.all_labels.items()))
    files = {home / "kubelet.json": json.dumps(config, indent=1), home / "resolv.conf": "nameserver 127.0.0.1\n"}
    return Daemon(f"kubelet-{node.name}", (str(cluster.kubernetes), "kubelet", *arguments(options)), files, node.name)


def kube_proxy(cluster: Cluster, node: Node) -> Daemon:
    path = cluster.paths.node(node.name) / "kube-proxy.json"
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(cluster.paths.conf / "kube-proxy.conf")},
        "mode": "iptables",
        "clusterCIDR": cluster.pod_network,
        "conntrack": {"maxPerCore": 0},
        "hostnameOverride": node.name,
        "healthzBindAddress": f"{node.address}:10256",
        "metricsBindAddress": f"{node.address}:10249",
    }
    command = (str(cluster.kubernetes), "kube-proxy", f"--config={path}")
    return Daemon(f"kube-proxy-{node.name}", command, {path: json.dumps(config, indent=1)}, node.name)


def kubeadm_config(cluster: Cluster, name: str) -> str:
    """The configuration of kubeadm's phases that make certificates and kubeconfigs, for the node or machine ``name``."""
    init = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "InitConfiguration",
        "localAPIEndpoint": {"advertiseAddress": cluster.address, "bindPort": API_PORT},
        "nodeRegistration": {"name": name, "criSocket": f"unix://{CONTAINERD_SOCKET}"},
    }
    configuration = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "clusterName": CONTEXT,
        "kubernetesVersion": cluster.version,
        "certificatesDir": str(cluster.paths.pki),
        "controlPlaneEndpoint": f"{cluster.address}:{API_PORT}",
        "networking": {"serviceSubnet": cluster.service_network, "podSubnet": cluster.pod_network},
        "encryptionAlgorithm": "ECDSA-P256",
    }
    # Two JSON documents are two YAML documents.
    return f"{json.dumps(init)}\n---\n{json.dumps(configuration)}\n"
