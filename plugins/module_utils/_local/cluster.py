# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The local cluster made of plain processes: observe, plan, execute; and taking it away again."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import threading
import time
import typing as t
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._local import (
    builds,
    control_plane,
    images,
    layout,
    leftovers,
    nodes,
    packages,
)
from ansible_collections.progressive.platform.plugins.module_utils._local.layout import Cluster, Daemon
from ansible_collections.progressive.platform.plugins.module_utils._local.processes import Cgroups, Processes, Record, started_at
from ansible_collections.progressive.platform.plugins.module_utils._local.shell import tail
from ansible_collections.progressive.platform.plugins.module_utils._local.steps import Observation, Step, execute, plan
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError, Result

BUILDS_SIDE_BY_SIDE = 2
START_TIMEOUT = 60.0  # seconds a daemon may take until it answers


@dataclass
class LocalCluster:
    """One local cluster on this machine, as its options want it."""

    cluster: Cluster
    context: Context
    builder: builds.Builder
    packages: Sequence[str] = ()
    component_images: Mapping[str, images.Image] = field(default_factory=dict)
    extra_archives: Sequence[Path] = ()
    timeout: float = 300.0
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.paths = self.cluster.paths
        self.processes = Processes(self.paths.records, Cgroups())
        self.nodes = {node.name: node for node in self.cluster.nodes}
        self._building = threading.Semaphore(BUILDS_SIDE_BY_SIDE)

    # ---- observe --------------------------------------------------------------------------------------------------------------

    def daemons(self) -> dict[str, Daemon]:
        """Every daemon that should run."""
        control = [
            make(self.cluster) for make in (layout.etcd, layout.kube_apiserver, layout.kube_controller_manager, layout.kube_scheduler)
        ]
        per_node = (layout.holder, layout.containerd, layout.kubelet, layout.kube_proxy)
        return {
            daemon.name: daemon for daemon in [*control, *(make(self.cluster, node) for node in self.cluster.nodes for make in per_node)]
        }

    def running(self, records: Mapping[str, Record]) -> frozenset[str]:
        """The daemons that run as wanted, those of a node in the namespaces of its present holder."""

        def as_wanted(daemon: Daemon) -> bool:
            record = records.get(daemon.name)
            if record is None or record.fingerprint != daemon.fingerprint or not self.processes.alive(record):
                return False
            if not daemon.node:
                return True
            home = records.get(f"holder-{daemon.node}")
            return home is not None and record.holder == home.identity and self.processes.alive(home)

        return frozenset(name for name, daemon in self.daemons().items() if as_wanted(daemon))

    def archive(self, name: str) -> Path:
        return self.paths.images / self.component_images[name].file

    def archives(self) -> list[Path]:
        return [*(self.archive(name) for name in self.component_images), *self.extra_archives]

    def store(self, name: str, records: Mapping[str, Record]) -> images.Store:
        return images.Store(name, records[f"holder-{name}"], self.paths.containerd(name) / "progressive-platform.json")

    def observe(self) -> Observation:
        records = self.processes.records()
        running = self.running(records)
        wanted = self.daemons()
        to_pack = frozenset(name for name in self.component_images if not self.archive(name).exists())
        with ThreadPoolExecutor(max_workers=4) as pool:
            network = pool.submit(nodes.has_network)
            known = pool.submit(self.known_nodes, running)
            imports = [(name, pool.submit(self.has_to_import, name, records, running, to_pack)) for name in self.nodes]
            answer = known.result()
            if answer is None:
                # A process that is there and does not answer is of no use; etcd may be the one that hangs.
                mute = {"kube-apiserver"} if control_plane.etcd_healthy(self.cluster) else {"kube-apiserver", "etcd"}
                running -= mute
            return Observation(
                packages=tuple(packages.missing(self.packages)),
                programs=frozenset(name for name, program in self.cluster.programs.items() if not self.builder.has(program)),
                archives=to_pack,
                network=network.result(),
                credentials=all(path.exists() for path in control_plane.credential_files(self.cluster)),
                running=running,
                strangers=frozenset(name for name, record in records.items() if name not in wanted and self.processes.alive(record)),
                imports=frozenset(name for name, job in imports if job.result()),
                forgotten=frozenset(answer or {}) - frozenset(self.nodes),
                nodes=self.described(answer or {}, records),
            )

    def has_to_import(self, name: str, records: Mapping[str, Record], running: frozenset[str], to_pack: frozenset[str]) -> bool:
        if to_pack or f"containerd-{name}" not in running:
            return True
        return bool(self.store(name, records).missing(self.archives()))

    def kubelet_start(self, name: str, records: Mapping[str, Record]) -> float:
        record = records.get(f"kubelet-{name}")
        return started_at(record.start) if record else 0.0

    def known_nodes(self, running: frozenset[str]) -> dict[str, dict[str, t.Any]] | None:
        """The API server's nodes by name; None when it does not answer."""
        if "kube-apiserver" not in running or not self.paths.kubeconfig.exists():
            return None
        try:
            with control_plane.client(self.cluster) as api:
                return control_plane.node_objects(api)
        except PlatformError:
            return None

    def described(self, known: Mapping[str, dict[str, t.Any]], records: Mapping[str, Record]) -> frozenset[str]:
        """The nodes that are ready and carry their labels and taints."""
        return frozenset(
            name
            for name, node in self.nodes.items()
            if control_plane.is_ready(known.get(name), self.kubelet_start(name, records))
            and not control_plane.node_patch(node, known[name])
        )

    # ---- execute --------------------------------------------------------------------------------------------------------------

    def up(self) -> Result:
        if os.geteuid() != 0:
            raise PlatformError("The local cluster makes network namespaces and starts containers and needs root; run it as root.")
        self.refuse_foreign()
        absent = [str(archive) for archive in self.extra_archives if not archive.exists()]
        if absent:
            raise PlatformError(f"local_cluster_images names {', '.join(absent)}, which is not there; build the images first.")
        seen = self.observe()
        if seen.programs:
            builds.check_go()
        steps = plan(self.cluster, seen)
        changed = [step.name for step in steps]
        if not self.context.check and steps:
            with self.locked():
                changed = execute(plan(self.cluster, self.observe()), self.do, workers=24)
        return {**self.facts(), "state": "up", "changed": bool(changed), "actions": changed, "notes": self.notes}

    def facts(self) -> Result:
        return {
            "provider": "modules",
            "kubeconfig": str(self.paths.kubeconfig),
            "context": layout.CONTEXT,
            "server": self.cluster.server,
            "version": self.cluster.version,
            "dns": self.cluster.dns,
            "nodes": [
                {
                    "name": node.name,
                    "zone": node.zone,
                    "pool": node.pool,
                    "address": node.address,
                    "pods": node.pods,
                    "link": node.link,
                    "volumes": str(self.paths.node(node.name) / "volumes"),
                }
                for node in self.cluster.nodes
            ],
        }

    def do(self, step: Step) -> bool:
        """Do one step; whether it changed anything."""
        actions: dict[str, Callable[[str], bool]] = {
            "install": self.install,
            "build": self.build,
            "pack": self.pack,
            "make": self.make,
            "stop": self.stop,
            "start": self.start,
            "import": self.import_images,
            "describe": self.describe,
            "forget": self.forget,
        }
        self.context.progress.report(step.subject, step.verb)
        begun = time.monotonic()
        changed = actions[step.verb](step.subject)
        self.context.progress.report(step.subject, f"{step.verb}: {time.monotonic() - begun:.1f} s", done=True)
        return changed

    def install(self, _subject: str) -> bool:
        packages.install(packages.missing(self.packages))
        return True

    def build(self, name: str) -> bool:
        with self._building:
            self.builder.build(self.cluster.programs[name], lambda message: self.context.progress.report(name, message))
        return True

    def pack(self, name: str) -> bool:
        images.pack(self.component_images[name], self.archive(name))
        return True

    def make(self, subject: str) -> bool:
        if subject == "network":
            nodes.make_network(self.cluster)
        else:
            control_plane.make_credentials(self.cluster)
        return True

    def stop(self, name: str) -> bool:
        """Stop a daemon that is not wanted any more; with a node's holder goes everything in the node."""
        self.processes.stop([self.processes.records()[name]])
        if name.startswith("holder-"):
            home = layout.group(name.removeprefix("holder-"))
            self.processes.cgroups.kill(home)
            self.processes.cgroups.remove(home)
        return True

    def start(self, name: str) -> bool:
        daemon = self.daemons()[name]
        record = self.processes.records().get(name)
        if record is not None:
            self.processes.stop([record])
        if name.startswith("holder-"):
            return self.start_node(daemon)
        log = self.paths.log(name)
        if not daemon.node:
            if name == "etcd":
                return self.start_etcd(daemon)
            started = self.processes.start(daemon, f"{layout.CONTROL_PLANE_GROUP}/{name}", log)
            self.processes.until(started, self.ready_check(daemon, started), log, START_TIMEOUT)
            if name == "kube-apiserver":
                control_plane.bind_roles(self.cluster)
            return True
        holder = self.processes.records()[f"holder-{daemon.node}"]
        group = f"{layout.group(daemon.node)}/system/{name.removesuffix('-' + daemon.node)}"
        if name.startswith("kubelet-"):
            self.processes.cgroups.make(f"{layout.group(daemon.node)}/pods")
        started = self.processes.start(daemon, group, log, holder)
        self.processes.until(started, self.ready_check(daemon, started), log, START_TIMEOUT)
        return True

    def start_node(self, daemon: Daemon) -> bool:
        """Whatever is left of the node's last life is ended first: processes outside its namespaces are of no use."""
        node = self.nodes[daemon.name.removeprefix("holder-")]
        self.processes.cgroups.kill(layout.group(node.name))
        # The kubelet spends seconds on the group of every container that is no more.
        self.processes.cgroups.remove(layout.group(node.name))
        nodes.make_mountpoints(self.cluster, node)
        log = self.paths.log(daemon.name)
        started = self.processes.start(daemon, f"{layout.group(node.name)}/holder", log)
        self.processes.until(started, lambda: name_of(started.pid) == self.cluster.pause.name[:15], log, START_TIMEOUT)
        nodes.connect(self.cluster, node, started)
        return True

    def start_etcd(self, daemon: Daemon) -> bool:
        """Start etcd from the data of its last life, and from nothing where that is broken: the cluster then begins anew."""
        log = self.paths.log(daemon.name)
        had_data = self.paths.etcd.exists()
        try:
            started = self.processes.start(daemon, f"{layout.CONTROL_PLANE_GROUP}/etcd", log)
            self.processes.until(started, lambda: control_plane.etcd_healthy(self.cluster), log, 20.0 if had_data else START_TIMEOUT)
        except PlatformError:
            if not had_data:
                raise
            self.processes.stop(record for name, record in self.processes.records().items() if name == "etcd")
            control_plane.discard_etcd(self.cluster)
            self.notes.append(f"etcd could not start from its data; they were discarded, the cluster begins anew: {tail(log, 1)[:300]}")
            started = self.processes.start(daemon, f"{layout.CONTROL_PLANE_GROUP}/etcd", log)
            self.processes.until(started, lambda: control_plane.etcd_healthy(self.cluster), log, START_TIMEOUT)
        return True

    def ready_check(self, daemon: Daemon, record: Record) -> Callable[[], bool]:
        """What tells that a daemon works."""
        if daemon.name == "kube-apiserver":
            # Not bound to any role before bind_roles, but root among the groups: system:masters.
            api = control_plane.client(self.cluster, self.paths.conf / "super-admin.conf")
            return lambda: control_plane.listens(self.cluster.address, layout.API_PORT) and control_plane.answers(api)
        address = self.nodes[daemon.node].address if daemon.node else self.cluster.address
        ports = {"kube-controller-manager": 10257, "kube-scheduler": 10259, "kubelet": 10250, "kube-proxy": 10256}
        for name, port in ports.items():
            if daemon.name.startswith(name):
                return lambda: control_plane.listens(address, port)
        return lambda: accepts(f"/proc/{record.pid}/root{layout.CONTAINERD_SOCKET}")

    def import_images(self, name: str) -> bool:
        store = self.store(name, self.processes.records())
        missing = store.missing(self.archives())
        for archive in missing:
            self.context.progress.report(name, f"imports {archive.name}")
            store.load(archive)
        if missing:
            store.forget(self.paths.images)
        return bool(missing)

    def describe(self, name: str) -> bool:
        """Wait for the node and give it its labels and taints; whether it had others."""
        node = self.nodes[name]
        changed = False
        since = self.kubelet_start(name, self.processes.records())
        deadline = self.context.clock.now() + self.timeout
        with control_plane.client(self.cluster) as api:
            while True:
                item = control_plane.node_objects(api).get(name)
                if item is not None and (patch := control_plane.node_patch(node, item)):
                    api.request("PATCH", f"/api/v1/nodes/{name}", patch, content_type="application/merge-patch+json")
                    changed = True
                    continue
                if control_plane.is_ready(item, since):
                    return changed
                reason = control_plane.why_not_ready(item)
                self.context.progress.report(name, f"not ready: {reason}")
                if self.context.clock.now() > deadline:
                    log = self.paths.log(f"kubelet-{name}")
                    raise PlatformError(
                        f"Node {name} was not ready within {self.timeout:g} s: {reason}. The last lines of {log}:\n{tail(log)}"
                    )
                self.context.clock.sleep(0.2)

    def forget(self, name: str) -> bool:
        """Delete the Node object of a node that is not wanted any more."""
        with control_plane.client(self.cluster) as api:
            return control_plane.delete_node(api, name)

    # ---- status and down ------------------------------------------------------------------------------------------------------

    def status(self) -> Result:
        """What runs; changes nothing and never fails because something does not."""
        records = self.processes.records()
        running = self.running(records)
        ready = self.described(self.known_nodes(running) or {}, records)
        components = {name: name in running for name in self.daemons()}
        if all(components.values()) and ready == frozenset(self.nodes) and nodes.has_network():
            state = "up"
        else:
            state = "degraded" if any(components.values()) or leftovers.survey(self.cluster, self.processes) else "down"
        facts = self.facts()
        facts["nodes"] = [{**node, "ready": node["name"] in ready} for node in facts["nodes"]]
        return {**facts, "changed": False, "state": state, "components": components, "logs": str(self.paths.run / "log")}

    def down(self) -> Result:
        """Take everything away that is ours; binaries and images stay. Works on whatever a machine stop has left, too."""
        self.refuse_foreign()
        found = leftovers.survey(self.cluster, self.processes)
        if not self.context.check and found:
            with self.locked():
                self.empty_stores()
                found = leftovers.remove(self.cluster, self.processes)
        return {"changed": bool(found), "state": "down", "actions": found, "notes": self.notes}

    def refuse_foreign(self) -> None:
        if other := leftovers.foreign(self.cluster, self.processes):
            raise PlatformError(
                f"A local cluster runs on this machine already, from {other}; a machine bears one. "
                f"Use it with XDG_CACHE_HOME={other.parent}, or remove it with XDG_CACHE_HOME={other.parent} make down."
            )

    def empty_stores(self) -> None:
        """Stop kubelets and containers and let each containerd forget its containers: the next start finds images and nothing else."""
        records = self.processes.records()
        self.processes.stop([record for name, record in records.items() if name.startswith("kubelet-")], grace=2.0)
        homes = [
            name.removeprefix("holder-") for name, record in records.items() if name.startswith("holder-") and self.processes.alive(record)
        ]

        def empty(name: str) -> None:
            self.processes.cgroups.kill(f"{layout.group(name)}/pods")
            runtime = records.get(f"containerd-{name}")
            if not self.processes.alive(runtime):
                return
            store = self.store(name, records)
            deadline = time.monotonic() + 5.0
            # containerd itself ends the tasks of killed containers; what it does not is forgotten with its shim.
            while store.ctr("tasks", "list", "--quiet").split() and time.monotonic() < deadline:
                time.sleep(0.1)
            if containers := store.ctr("containers", "list", "--quiet").split():
                with contextlib.suppress(PlatformError):
                    store.ctr("tasks", "delete", "--force", *containers)
                store.ctr("containers", "delete", *containers)

        with ThreadPoolExecutor(max_workers=max(1, len(homes))) as pool:
            for job in [pool.submit(empty, home) for home in homes]:
                try:
                    job.result()
                except PlatformError as error:
                    self.notes.append(f"containers were not removed in order: {error.message}")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Only one run at a time changes the cluster; another waits for it, as long as a build may take."""
        self.paths.cache.mkdir(parents=True, exist_ok=True)
        deadline = self.context.clock.now() + self.builder.timeout
        with open(self.paths.cache / "lock", "w", encoding="ascii") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if self.context.clock.now() > deadline:
                        raise PlatformError(
                            f"Another run holds {file.name} since {self.builder.timeout:g} s; end it and run again."
                        ) from error
                    self.context.progress.report("local cluster", "waits for another run")
                    self.context.clock.sleep(0.5)
            yield


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def accepts(path: str) -> bool:
    """Whether somebody listens on the unix socket ``path``."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(path)
        except OSError:
            return False
    return True
