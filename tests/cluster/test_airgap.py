# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A platform whose nodes, and whose run of site.yml, reach nothing but a mirror: images are built and pushed outside, carried over in one archive, and
pulled by digest and with a login from a registry that answers on each node's own loopback.

`make registry` before. The images are on bases of this test's own, so that no node has a layer of them.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import secrets
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.tests.cluster.playbooks import playbook
from ansible_collections.progressive.platform.tests.unit.mirror.registry import PASSWORD, USER, Registry, authfile

pytestmark = [pytest.mark.slow, pytest.mark.alone]  # images of its own; and it closes the nodes' network

NAMES = ["agent", "app", "postgresql", "redis"]
PYTHON = ["ca-certificates", "dumb-init", "passwd", "python3", "python3-venv", "less"]
BASES = {
    "python": {"suite": "bookworm", "packages": [*PYTHON, "libstdc++6"]},
    "nginx": {"suite": "bookworm", "packages": ["nginx-light"]},
    "redis": {"suite": "bookworm", "packages": ["redis-server", "redis-tools", "less"]},
    "postgresql": {"suite": "bookworm", "packages": [*PYTHON, "pgbackrest", "postgresql-15"]},
}
CHAIN = "PROGRESSIVE-CLOSED"


class Node:
    """A node's network: commands run in it, and it can be closed."""

    def __init__(self, holder: Path) -> None:
        self.name = holder.stem.removeprefix("holder-")
        self.enter = ["nsenter", f"--target={json.loads(holder.read_text())['pid']}", "--net", "--"]

    def iptables(self, *arguments: str, check: bool = True) -> str:
        command = [*self.enter, "iptables", "--wait", "5", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=check).stdout

    @contextlib.contextmanager
    def closed(self) -> Iterator[None]:
        """What would leave the machine is refused, whether the node itself or a pod sends it, and counted."""
        self.open()
        self.iptables("--new-chain", CHAIN)
        for inside in ("10.0.0.0/8", "127.0.0.0/8"):
            self.iptables("--append", CHAIN, "--destination", inside, "--jump", "RETURN")
        self.iptables("--append", CHAIN, "--jump", "REJECT")
        try:
            for chain in ("OUTPUT", "FORWARD"):
                self.iptables("--insert", chain, "--jump", CHAIN)
            yield
        finally:
            self.open()

    def open(self) -> None:
        for chain in ("OUTPUT", "FORWARD"):
            self.iptables("--delete", chain, "--jump", CHAIN, check=False)
        self.iptables("--flush", CHAIN, check=False)
        self.iptables("--delete-chain", CHAIN, check=False)

    def refused(self) -> int:
        """Packets that wanted to leave."""
        rule = next(line for line in self.iptables("--list", CHAIN, "--verbose", "--exact", "--numeric").splitlines() if "REJECT" in line)
        return int(rule.split()[0])

    def reaches(self, host: str, port: int) -> bool:
        code = f"import socket; socket.create_connection(({host!r}, {port}), 3)"
        return subprocess.run([*self.enter, "python3", "-c", code], capture_output=True, timeout=30, check=False).returncode == 0


@pytest.fixture(scope="module")
def nodes(kubeconfig: str) -> list[Node]:
    return [Node(path) for path in sorted((Path(kubeconfig).parent / "processes").glob("holder-*.json"))]


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path / "outside").running() as registry:
        yield registry


@pytest.fixture
def inside(tmp_path: Path, nodes: list[Node]) -> Iterator[list[Registry]]:
    """The mirror, on the loopback of every node, with a login; all serve one folder."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with contextlib.ExitStack() as stack:
        registries: list[Registry] = []
        for node in nodes:
            folder = tmp_path / node.name
            folder.mkdir()
            if registries:
                (folder / "storage").symlink_to(registries[0].storage)
            registries.append(stack.enter_context(Registry(folder, login=True, enter=node.enter, port=port).running()))
        yield registries


def test_the_platform_comes_up_behind_the_gap_from_one_archive(
    outside: Registry, inside: list[Registry], nodes: list[Node], client: Client, kubectl: Callable[..., str], tmp_path: Path
) -> None:
    address = inside[0].address
    login = authfile(inside[0], tmp_path / "auth.json")
    common: dict[str, Any] = {
        "platform_namespace": f"test-airgap-{secrets.token_hex(3)}",
        "platform_components": ["baseline", "postgresql", "redis_cluster", "app", "agents"],
        "platform_reports_dir": str(tmp_path / "reports"),
        "platform_render_dir": str(tmp_path / "rendered" / "local"),
        "digests_file": str(tmp_path / "digests.yml"),
        "images_bases": BASES,
        "images_names": NAMES,
        "mirror_archive": str(tmp_path / "platform.tar"),
        "mirror_cache": str(tmp_path / "cache"),
    }
    there, here = tmp_path / "there.json", tmp_path / "here.json"
    at = f"{outside.address}/progressive"
    pushed = {"images_push": True, "images_import": False, "images_tls_verify": False, "mirror_source_tls_verify": False}
    there.write_text(json.dumps(common | pushed | {"platform_registry": at, "images_registry": at}))
    at = f"{address}/progressive"
    pulled = {"platform_pull_secrets": ["mirror"], "platform_image_pull_policy": "Always"}
    gone = {"postgresql_delete_volumes": True, "redis_cluster_delete_volumes": True, "teardown_confirm": "local"}
    mirror = {"mirror_authfile": str(login), "mirror_tls_verify": False}
    here.write_text(json.dumps(common | pulled | gone | mirror | {"platform_registry": at, "images_registry": at}))
    pinned = ("-e", f"@{common['digests_file']}")

    for name, *options in (
        ("images",),
        ("digests",),
        ("bill", *pinned, "-e", "bill_complete=true"),
        ("mirror", "-e", "mirror_state=exported"),
    ):
        playbook(name, there, *options)
    layers = {
        origin: [layer["digest"] for layer in manifest(outside, f"progressive/{origin.partition(':')[0]}@{digest}")["layers"]]
        for origin, digest in digests(tmp_path / "digests.yml").items()
    }
    assert sorted(origin.partition(":")[0] for origin in layers) == NAMES
    outside.stop()

    with contextlib.ExitStack() as stack:
        for node in nodes:
            stack.enter_context(node.closed())
            assert not node.reaches("127.0.0.1", outside.port) and not node.reaches("192.0.2.1", 53)
            assert node.refused() > 0, "the node's network is not closed"
            node.iptables("--zero", CHAIN)
        enter = nodes[0].enter
        try:
            playbook("mirror", here, "-e", "mirror_state=imported", enter=enter)
            playbook("site", here, *pinned, "--tags", "baseline", enter=enter)
            credentials = base64.b64encode(json.dumps({"auths": {address: {"username": USER, "password": PASSWORD}}}).encode()).decode()
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mirror", "namespace": common["platform_namespace"]}}
            secret |= {"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": credentials}}
            kubectl("create", "-f", "-", stdin=json.dumps(secret))
            printed = playbook("site", here, *pinned, enter=enter)
            assert PASSWORD not in printed and credentials not in printed
            report = json.loads((tmp_path / "reports/health.json").read_text())
            assert report["ok"]
            assert re.search(r"changed=0\b", playbook("site", here, *pinned, enter=enter))

            pods = client.list(client.resource("v1", "Pod"), common["platform_namespace"])["items"]
            used = {one["image"] for pod in pods for one in [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]}
            assert used == {f"{at}/{origin}@{digest}" for origin, digest in digests(tmp_path / "digests.yml").items()}
            asked = "\n".join(line for registry in inside for line in registry.requests)
            for origin, wanted in layers.items():
                for layer in wanted:
                    assert re.search(rf'"GET /v2/\S+/blobs/{layer} HTTP/1.1" 200', asked), f"{origin}: no node pulled {layer}"
            assert [node.refused() for node in nodes] == [0] * len(nodes), "somebody wanted to leave the machine"
        finally:
            playbook("teardown", here)


def manifest(registry: Registry, path: str) -> dict[str, Any]:
    command = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{registry.address}/{path}"]
    found = json.loads(subprocess.run(command, capture_output=True, timeout=60, check=True).stdout)
    if "manifests" not in found:
        return dict(found)
    return manifest(registry, f"{path.partition('@')[0]}@{found['manifests'][0]['digest']}")


def digests(file: Path) -> dict[str, str]:
    return dict(yaml.safe_load(file.read_text())["platform_image_digests"])
