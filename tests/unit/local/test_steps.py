# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what is there to what is wanted: which steps, in which order, and what happens when one fails."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._local.builds import Program
from ansible_collections.progressive.platform.plugins.module_utils._local.layout import Cluster, Node, Paths
from ansible_collections.progressive.platform.plugins.module_utils._local.steps import Observation, Step, execute, plan
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

CLUSTER = Cluster(
    paths=Paths(Path("/cache")),
    programs={name: Program(name, "v1") for name in ("coredns", "kubernetes", "pause")},
    nodes=tuple(Node(f"n{index}", "", "", {}, (), f"10.111.0.{index + 1}", f"10.244.{index}.0/24", f"pp-{index}") for index in (1, 2)),
    node_network="10.111.0.0/24",
    pod_network="10.244.0.0/16",
    service_network="10.96.0.0/16",
)
CONTROL_PLANE = {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}
ALL = frozenset(CONTROL_PLANE | {f"{kind}-{node}" for kind in ("holder", "containerd", "kubelet", "kube-proxy") for node in ("n1", "n2")})
HEALTHY = Observation(running=ALL, nodes=frozenset({"n1", "n2"}))
NODE_1 = ["start holder-n1", "start containerd-n1", "import n1", "start kubelet-n1", "start kube-proxy-n1", "describe n1"]


def changed(**what: object) -> Observation:
    return Observation(**{**HEALTHY.__dict__, **what})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "steps"),
    [
        (HEALTHY, []),
        (changed(running=ALL - {"kube-scheduler"}), ["start kube-scheduler"]),
        (changed(running=ALL - {"kubelet-n1"}, nodes=frozenset({"n2"})), ["start kubelet-n1", "describe n1"]),
        (changed(running=ALL - {"kube-proxy-n2"}), ["start kube-proxy-n2"]),
        (changed(running=ALL - {"containerd-n2"}), ["start containerd-n2"]),
        (changed(running=ALL - {"holder-n1"}), NODE_1),
        (changed(nodes=frozenset({"n2"})), ["describe n1"]),
        (changed(imports=frozenset({"n2"})), ["import n2"]),
        (changed(network=False), ["make network"]),
        (changed(packages=("runc",)), ["install packages"]),
        (changed(forgotten=frozenset({"n9"})), ["forget n9"]),
        (changed(strangers=frozenset({"kubelet-n3"})), ["stop kubelet-n3"]),
        (changed(strangers=frozenset({"holder-n3"})), ["stop holder-n3", "forget n3"]),
        (
            changed(credentials=False),
            [
                "make credentials",
                *(f"start {name}" for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")),
                *("start kubelet-n1", "start kube-proxy-n1", "describe n1", "start kubelet-n2", "start kube-proxy-n2", "describe n2"),
            ],
        ),
    ],
)
def test_only_what_is_missing(seen: Observation, steps: list[str]) -> None:
    assert [step.name for step in plan(CLUSTER, seen)] == steps


def run(seen: Observation) -> list[str]:
    """The order in which the steps of a plan begin, with one worker."""
    begun: list[str] = []
    execute(plan(CLUSTER, seen), lambda step: begun.append(step.name) or True, workers=1)
    return begun


def test_from_nothing_in_order() -> None:
    nothing = Observation(
        packages=("runc",),
        programs=frozenset({"coredns", "kubernetes", "pause"}),
        archives=frozenset({"pause"}),
        network=False,
        credentials=False,
        imports=frozenset({"n1", "n2"}),
    )
    begun = run(nothing)
    order = {name: index for index, name in enumerate(begun)}
    chains = [
        ["build kubernetes", "make credentials", "start etcd", "start kube-apiserver", "start kube-scheduler"],
        ["install packages", "make network", *NODE_1[:4], "describe n1"],
        ["build coredns", "pack pause", "import n1"],
        ["install packages", "pack pause"],
        ["start kube-apiserver", "start kubelet-n2", "start kube-proxy-n2"],
    ]
    for chain in chains:
        assert [order[name] for name in chain] == sorted(order[name] for name in chain), chain
    assert begun.index("build kubernetes") < begun.index("build coredns"), "the largest build decides how long it takes, so it begins first"
    assert len(begun) == len(set(begun))


def test_steps_run_side_by_side() -> None:
    meeting = threading.Barrier(2, timeout=5)
    execute([Step("a", "1"), Step("a", "2")], lambda _step: meeting.wait() >= 0)


def test_first_failure_stops_what_has_not_begun() -> None:
    begun: list[str] = []

    def do(step: Step) -> bool:
        begun.append(step.name)
        raise PlatformError("no space left")

    with pytest.raises(PlatformError, match="no space left"):
        execute([Step("a", "1"), Step("b", "1", ("a 1",))], do)
    assert begun == ["a 1"]


def test_only_real_changes_are_told() -> None:
    assert execute([Step("a", "1"), Step("b", "1")], lambda step: step.verb == "b") == ["b 1"]
