# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what is there to what is wanted: the steps of ``up`` and their order, as data. No I/O."""

from __future__ import annotations

import graphlib
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from ansible_collections.progressive.platform.plugins.module_utils._local.layout import Cluster

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


@dataclass(frozen=True)
class Step:
    """One thing to do: a verb and what it is done to; ``after`` names the steps that have to end before, as far as they are in the plan."""

    verb: str
    subject: str
    after: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.verb} {self.subject}"


@dataclass(frozen=True)
class Observation:
    """What was found. ``running`` names the daemons that run as wanted; ``strangers`` those that run and are not wanted any more.

    ``forgotten`` names the nodes the API server knows and nobody wants any more.
    ``imports`` says of each node whether an archive is still to be imported; ``nodes`` which are ready with their labels and taints.
    """

    packages: tuple[str, ...] = ()
    programs: frozenset[str] = frozenset()
    archives: frozenset[str] = frozenset()
    network: bool = True
    credentials: bool = True
    running: frozenset[str] = frozenset()
    strangers: frozenset[str] = frozenset()
    imports: frozenset[str] = frozenset()
    forgotten: frozenset[str] = frozenset()
    nodes: frozenset[str] = field(default_factory=frozenset)


def plan(cluster: Cluster, seen: Observation) -> list[Step]:
    """The steps that are missing; empty when the cluster is what is wanted. A node whose holder is dead is made anew as a whole."""
    steps = [Step("stop", name) for name in sorted(seen.strangers)]
    stops = tuple(step.name for step in steps)
    if seen.packages:
        steps.append(Step("install", "packages"))
    # The largest first: it decides how long a cold start takes.
    steps += [Step("build", name) for name in sorted(seen.programs, key=lambda name: (name != "kubernetes", name))]
    steps += [
        Step("pack", name, ("install packages", *(f"build {program}" for program in cluster.programs))) for name in sorted(seen.archives)
    ]
    if not seen.network:
        steps.append(Step("make", "network", ("install packages", *stops)))
    if not seen.credentials:
        steps.append(Step("make", "credentials", ("build kubernetes", *stops)))
    valid = seen.running if seen.credentials else frozenset(name for name in seen.running if name.startswith(("holder-", "containerd-")))

    before = ("make network", "make credentials", "build kubernetes", *stops)
    for name in CONTROL_PLANE:
        after = {"etcd": before, "kube-apiserver": (*before, "start etcd")}.get(name, (*before, "start kube-apiserver"))
        if name not in valid:
            steps.append(Step("start", name, after))

    for node in cluster.nodes:
        whole = f"holder-{node.name}" not in valid
        base = ("make network", "install packages", "build pause", *stops)
        if whole:
            steps.append(Step("start", f"holder-{node.name}", base))
        runtime = (f"start holder-{node.name}", *base)
        if whole or f"containerd-{node.name}" not in valid:
            steps.append(Step("start", f"containerd-{node.name}", runtime))
        loads = f"import {node.name}"
        if whole or node.name in seen.imports:
            steps.append(Step("import", node.name, (f"start containerd-{node.name}", *(f"pack {name}" for name in seen.archives))))
        api = (*before, "start kube-apiserver", *runtime)
        if whole or f"kubelet-{node.name}" not in valid:
            steps.append(Step("start", f"kubelet-{node.name}", (*api, loads, f"start containerd-{node.name}")))
        if whole or f"kube-proxy-{node.name}" not in valid:
            steps.append(Step("start", f"kube-proxy-{node.name}", (*api, f"start kubelet-{node.name}")))
        if whole or node.name not in seen.nodes or f"kubelet-{node.name}" not in valid:
            steps.append(Step("describe", node.name, (*api, f"start kubelet-{node.name}", "start kube-controller-manager")))
    gone = seen.forgotten | {name.removeprefix("holder-") for name in seen.strangers if name.startswith("holder-")}
    steps += [Step("forget", name, ("start kube-apiserver", *stops)) for name in sorted(gone)]
    return steps


def execute(steps: Iterable[Step], do: Callable[[Step], bool], workers: int = 8) -> list[str]:
    """Do all steps, side by side as far as their order allows; names of those that changed something.

    After the first failure nothing new is begun; what runs is waited for, and the failure is raised.
    """
    known: Mapping[str, Step] = {step.name: step for step in steps}
    order = graphlib.TopologicalSorter({name: [other for other in step.after if other in known] for name, step in known.items()})
    order.prepare()
    changed: list[str] = []
    lock = threading.Lock()

    def run(step: Step) -> str:
        if do(step):
            with lock:
                changed.append(step.name)
        return step.name

    failure: BaseException | None = None
    with ThreadPoolExecutor(max_workers=workers) as pool:
        running: set[Future[str]] = set()
        while order.is_active():
            if failure is None:
                # In the plan's order, so that the largest build begins first.
                ready = sorted(order.get_ready(), key=list(known).index)
                running |= {pool.submit(run, known[name]) for name in ready}
            if not running:
                break
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                if error := future.exception():
                    failure = failure or error
                else:
                    order.done(future.result())
    if failure is not None:
        raise failure
    return changed
