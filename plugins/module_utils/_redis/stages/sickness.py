# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""S33: nodes that cannot keep their data on disk, or whose files keep them from starting (private: may change without notice)."""

from __future__ import annotations

from ansible_collections.progressive.platform.plugins.module_utils._members.model import Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import RECREATE, Act, Action, Decision, Entry, Node
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.common import redis_cli

CRASHING_AT_MOST = 60.0


def crashing(picture: Picture) -> Decision | None:
    """A pod whose server ends again and again, and what it wrote last; or a silent address that recreate_replica names."""
    silent = [node for node in picture.observation.nodes if node.kind == "absent"]
    nodes = [node for node in silent if node.target.crashed or (_named(picture, node) and not node.target.uid)]
    for node in nodes:
        if _named(picture, node):
            return _recreate(picture, node, _entry(picture, node), node.target.crashed or node.problem)
    if not nodes:
        return None
    said = "; ".join(f"{node.name}: {node.target.crashed}" for node in nodes)
    text = (
        f"The server ends again and again ({said}). Full disk: make the volume larger. Damaged append-only file: redis-check-aof in a copy of it. "
        f"Damaged files, and its shard has a healthy master: recreate_replica: [{', '.join(node.name for node in nodes)}]"
    )
    return Wait("S33", "crashing", f"the server ends again and again: {said}", CRASHING_AT_MOST, text)


def persistence(picture: Picture) -> Decision | None:
    """A live node that says itself that it cannot save (MISCONF and its relatives)."""
    rolled = {node.id for node in picture.live if picture.desired.roll and node.target.outdated}  # its newer pod may be the remedy
    nodes = [node for node in picture.live if node.persistence.problem and node.id not in rolled]
    for node in nodes:
        if _named(picture, node):
            return _recreate(picture, node, node.me, node.persistence.problem)
    if not nodes:
        return None
    said = "; ".join(f"{node.name} ({node.id}, {'replica' if node.master else 'master'}): {node.persistence.problem}" for node in nodes)
    replicas = [node.name for node in nodes if node.master]
    anew = f" A replica that is a pod can be made anew from its master: recreate_replica: [{', '.join(replicas)}]" if replicas else ""
    return Refuse(
        "S33",
        f"These nodes cannot keep their data on disk: {said}. Make room on the volume or look at the server's log, then: "
        f"{redis_cli(nodes[0], 'BGSAVE')}.{anew}",
    )


def _named(picture: Picture, node: Node) -> bool:
    return node.name in picture.desired.recreate


def _entry(picture: Picture, node: Node) -> Entry | None:
    """What its peers remember of a silent node: by its address, or by the ID that the marker has for its name."""
    marker = picture.observation.marker
    known = marker.ids.get(node.name, "") if marker else ""
    entries = [entry for viewer in picture.live for entry in viewer.entries.values() if entry.id not in picture.by_id]
    at_home = [entry for entry in entries if (entry.host, entry.port) == (node.target.host, node.target.port)]
    return next(iter([*at_home, *(entry for entry in entries if entry.id == known)]), None)


def _recreate(picture: Picture, node: Node, entry: Entry | None, why: str) -> Decision:
    """Only a replica, and only while its master is a healthy owner: otherwise this may be the only copy."""
    master = picture.by_id.get(entry.master) if entry else None
    refusal = ""
    if entry is None:
        refusal = "no node knows which ID it had, so nobody can say that its data is elsewhere"
    elif entry.slots or not entry.master:
        refusal = f"it is a master ({entry.id}) and may be the only copy. Let a replica take over first"
        copies = [copy for copy in picture.live if copy.master == entry.id and copy.link_up]
        refusal += f": {redis_cli(copies[0], 'CLUSTER FAILOVER')}" if copies else ", if there is one"
    elif master is None or not master.slots or master.persistence.problem:
        refusal = f"its master {picture.who(entry.master)} is not healthy, so this may be the only good copy"
    elif not node.target.uid:
        refusal = (
            "it is no pod, and at an address nobody but you can give it a new directory. "
            f"Stop it, empty its directory, start it, and run again: its master {master.name} has the data"
        )
    if refusal or master is None:
        return Refuse("S33", f"recreate_replica names {node.name} ({why}), but {refusal}.")
    reason = f"{why}; its master {picture.who(master.id)} has the data"
    return Act("S33", "recreate", f"{node.name} is made anew from its master", (Action(node.name, (RECREATE, node.target.uid), reason),))
