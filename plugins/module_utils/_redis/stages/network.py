# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses that changed, and links that are down (private: may change without notice)."""

from __future__ import annotations

from ansible_collections.progressive.platform.plugins.module_utils._members.model import FOREVER, Wait
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Act, Decision
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.common import bad, meet


def moved(picture: Picture) -> Decision | None:
    """S5 one node, S6 many have another address than their peers remember. A link that works is never touched, whatever address it uses."""
    pairs = []
    for viewer in picture.live:
        for entry in viewer.entries.values():
            node = picture.by_id.get(entry.id)
            if node is not None and node is not viewer and bad(entry) and (entry.host, entry.port) != (node.target.host, node.target.port):
                pairs.append((viewer, node))
    if not pairs:
        return None
    movers = sorted({node.name for _viewer, node in pairs})
    patience = 2 * picture.node_timeout
    if len(movers) == 1 and picture.age("moved") <= patience:
        return Wait("S5", "moved", f"{movers[0]} has a new address, its peers are learning it", patience, "")
    actions = tuple(
        meet(viewer, node, f"{node.name} has moved; {viewer.name} still looks for it at its old address") for viewer, node in pairs
    )
    return Act("S6", "meet", f"{', '.join(movers)} answer at new addresses", actions)


def suspicions(picture: Picture) -> Decision | None:
    """Links are looked at before anything is repaired; but while an empty cluster forms they come up beside the rest, and are looked at in the end."""
    return None if picture.forming else links(picture)


def links(picture: Picture) -> Decision | None:
    """S17 a live node that some suspect; once it lasts, S18: the pairs whose bus connection is blocked."""
    pairs = [
        (viewer, picture.by_id[entry.id])
        for viewer in picture.live
        for entry in viewer.entries.values()
        if entry.id in picture.by_id and entry.id != viewer.id and bad(entry)
    ]
    if not pairs:
        return None
    shown = ", ".join(f"{viewer.name} -> {node.name} ({node.target.host}:{node.me.bus_port})" for viewer, node in pairs)
    if picture.age("links") <= picture.node_timeout:
        return Wait("S17", "links", f"not yet sure of each other: {shown}", FOREVER, "")
    limit = max(picture.desired.agreement_timeout, 2 * picture.node_timeout + 5)
    text = f"These nodes cannot reach each other on the cluster bus: {shown}. Open those ports between them (firewall, NetworkPolicy) and run again."
    return Wait("S18", "links", f"no bus connection: {shown}", limit, text)
