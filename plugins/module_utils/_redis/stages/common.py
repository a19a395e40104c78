# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What several stages need (private: may change without notice)."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.progressive.platform.plugins.module_utils._members.model import Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Action, Decision, Entry, Node
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture

NEXT = "not handled by this version, nothing was changed"


def redis_cli(node: Node, *command: str) -> str:
    return f"redis-cli -h {node.target.host} -p {node.target.port} {' '.join(command)}"


def ahead(nodes: Iterable[Node]) -> Node:
    return max(nodes, key=lambda node: (node.offset, -node.target.ordinal))


def reachable(entries: Iterable[Entry]) -> bool:
    return any(entry.connected and not entry.failed and not entry.suspected for entry in entries)


def bad(entry: Entry) -> bool:
    return entry.failed or entry.suspected or not entry.connected


def meet(viewer: Node, node: Node, reason: str) -> Action:
    """R9: an IP, never a name. The bus port is given only where it is not the usual one."""
    port = node.target.port
    bus = (str(node.me.bus_port),) if node.me.bus_port not in {0, port + 10000} else ()
    return Action(viewer.name, ("CLUSTER", "MEET", node.target.host, str(port), *bus), reason)


def setslot(node: Node, slot: int, verb: str, argument: str, reason: str) -> Action:
    command = ("CLUSTER", "SETSLOT", str(slot), verb, argument) if argument else ("CLUSTER", "SETSLOT", str(slot), verb)
    return Action(node.name, command, reason)


def add_slots(node: Node, share: int, verb: str = "ADDSLOTS") -> tuple[str, ...]:
    """ADDSLOTSRANGE and DELSLOTSRANGE exist from 7.0; one command either way, so that a master has all of its slots or none."""
    if node.release >= (7,):
        return ("CLUSTER", f"{verb}RANGE", *(str(bound) for pair in slots.ranges(share) for bound in pair))
    return ("CLUSTER", verb, *(str(slot) for slot in slots.numbers(share)))


def discard(node: Node) -> list[Action]:
    """R4: only what discard_data names. A replica drops its copy when it is reset; a master has to be empty before."""
    reason = f"discard_data names it: {node.keys} keys and {node.functions} function libraries are dropped"
    commands = [] if node.master else [("FLUSHALL",), ("FUNCTION", "FLUSH")]
    return [Action(node.name, command, reason) for command in [*commands, ("CLUSTER", "RESET", "HARD")]]


def structured(picture: Picture) -> bool:
    """All nodes are there and the wanted number of masters owns all slots: only then replicas are placed."""
    return picture.complete and not picture.gap and len(picture.owners) == picture.desired.masters


def foreign(picture: Picture, node_id: str) -> Decision:
    """S21; but a node that was killed a moment ago looks the same until its peers have missed it."""
    who = picture.who(node_id)
    owned = 0
    for entry in picture.strangers[node_id]:
        owned |= entry.slots
    if owned and node_id in picture.desired.forget:
        return Refuse(
            "S21",
            f"forget_node_ids names {who}, which owns slots {slots.text(owned)}; forgetting it would lose them. Add the node to those given and scale in, "
            f"or move its slots first (redis-cli --cluster reshard --cluster-from {node_id}).",
        )
    text = (
        f"Node {who} belongs to this cluster, is alive, and is not among the nodes given. Add it to them; or, if it is to leave, stop it, or name it: "
        f"forget_node_ids: [{node_id}] (CLUSTER FORGET {node_id} on every node)"
    )
    return Wait("S21", f"foreign {node_id}", f"node {who} is not among the nodes given", 2 * picture.node_timeout, text)
