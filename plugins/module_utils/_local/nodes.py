# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The cluster's network on the host, and a node's end of it.

The network is closed: what comes from its bridge and wants to leave by any other device is dropped, so no pod's packet to a wrong
address leaves the machine. The control plane reaches pods by routes over the nodes' addresses.
"""

from __future__ import annotations

import os
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._local.layout import BRIDGE, Cluster, Node, mounts, network_files
from ansible_collections.progressive.platform.plugins.module_utils._local.processes import Record
from ansible_collections.progressive.platform.plugins.module_utils._local.shell import call, succeeds

COMMENT = ("-m", "comment", "--comment", "progressive-platform")
# The second rule matters where a container engine has set the policy of FORWARD to DROP and bridged frames pass through it.
FORWARD_RULES = (
    ("-i", BRIDGE, "!", "-o", BRIDGE, *COMMENT, "-j", "DROP"),
    ("-i", BRIDGE, "-o", BRIDGE, *COMMENT, "-j", "ACCEPT"),
)
DEVICES = Path("/sys/class/net")
CREATED = "mountpoints"


def missing_rules() -> list[tuple[str, ...]]:
    return [rule for rule in FORWARD_RULES if not succeeds(["iptables", "-w", "5", "-C", "FORWARD", *rule])]


def has_network() -> bool:
    return (DEVICES / BRIDGE).exists() and not missing_rules()


def make_network(cluster: Cluster) -> None:
    """The bridge with the control plane's address, and the rules that close it (those first)."""
    for rule in missing_rules():
        call(["iptables", "-w", "5", "-I", "FORWARD", *rule])
    if not (DEVICES / BRIDGE).exists():
        call(["ip", "link", "add", BRIDGE, "type", "bridge"])
    call(["ip", "address", "replace", f"{cluster.address}/{cluster.prefix}", "dev", BRIDGE])
    call(["ip", "link", "set", BRIDGE, "up"])


def remove_network() -> list[str]:
    """Remove bridge, cables and rules; what was there."""
    removed = []
    for rule in FORWARD_RULES:
        while succeeds(["iptables", "-w", "5", "-D", "FORWARD", *rule]):
            removed.append(f"iptables rule {' '.join(rule)}")
    for device in [*sorted(cables()), BRIDGE]:
        if (DEVICES / device).exists() and succeeds(["ip", "link", "delete", device]):
            removed.append(f"device {device}")
    return removed


def cables() -> list[str]:
    """The host's ends of all nodes' cables: the devices that are ports of our bridge."""
    ports = DEVICES / BRIDGE / "brif"
    return os.listdir(ports) if ports.exists() else []


def make_mountpoints(cluster: Cluster, node: Node) -> None:
    """The directories a node's mounts cover; those the machine did not have are noted, for ``down`` to remove them."""
    wanted = mounts(cluster, node)
    for source in wanted.values():
        source.mkdir(parents=True, exist_ok=True)
    for target in ("/run/containerd", *wanted):
        if created := make_directories(Path(target)):
            # Nodes are made side by side: one write of a few bytes to a file opened for appending is never torn.
            with open(cluster.paths.run / CREATED, "a", encoding="utf-8") as noted:
                noted.write("".join(f"{path}\n" for path in created))


def make_directories(path: Path) -> list[str]:
    """``mkdir -p``; the directories that had to be made, outermost first."""
    missing: list[Path] = []
    while not path.exists():
        missing.insert(0, path)
        path = path.parent
    made = []
    for directory in missing:
        try:
            directory.mkdir()
        except FileExistsError:
            continue
        made.append(str(directory))
    return made


def remove_mountpoints(cluster: Cluster) -> list[str]:
    """Remove the directories ``make_mountpoints`` made, as far as nobody has put anything into them."""
    noted = cluster.paths.run / CREATED
    removed = []
    for line in reversed(noted.read_text(encoding="utf-8").splitlines() if noted.exists() else []):
        try:
            os.rmdir(line)
            removed.append(f"directory {line}")
        except OSError:
            continue
    return removed


def connect(cluster: Cluster, node: Node, holder: Record) -> None:
    """Lay the node's cable and set the routes: its own to the other nodes' pods, the host's to its pods."""
    if (DEVICES / node.link).exists():
        call(["ip", "link", "delete", node.link])
    call(["ip", "link", "add", node.link, "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid)])
    call(["ip", "link", "set", node.link, "master", BRIDGE, "up"])
    inside = enter(holder, "net")
    call([*inside, "ip", "-batch", str(network_files(cluster, node)[0])])
    call([*inside, "sysctl", "-qw", "net.ipv4.ip_forward=1"])
    call([*inside, "iptables-restore", "--noflush", "--wait", "5", str(network_files(cluster, node)[1])])
    call(["ip", "route", "replace", node.pods, "via", node.address, "dev", BRIDGE])


def enter(holder: Record, *namespaces: str) -> list[str]:
    """The beginning of a command that runs in a node. Not ``ip netns exec``: that mounts a fresh /sys, and the control groups are gone."""
    return ["nsenter", f"--target={holder.pid}", *(f"--{name}" for name in namespaces), "--"]
