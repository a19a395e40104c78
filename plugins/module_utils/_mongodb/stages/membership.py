# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who is in the configuration, by which name, and who votes: one change a reconfiguration (private: may change without notice)."""

from __future__ import annotations

import dataclasses

from ansible_collections.progressive.platform.plugins.module_utils._members.model import Refuse
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.model import Decision, Entry, Node
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.stages.common import reconfigure, replaced, step_down


def names(picture: Picture) -> Decision | None:
    """M6: a member that is known by another name (an address, mostly) than the one it keeps. The primary comes last, after it has handed over."""
    primary, config = picture.primary, picture.config
    if primary is None or config is None:
        return None
    drifted = [(node, entry) for node in picture.kept if (entry := picture.entries_of.get(node.name)) and entry.host != node.host]
    if not drifted:
        return None
    node, entry = min(drifted, key=lambda pair: (pair[0] is primary, pair[0].target.ordinal))
    if node is primary and len(config.entries) > 1:
        return step_down(
            "M6", "handover", primary, f"{primary.name} hands over, so that its name {entry.host} can be changed to {node.host}"
        )
    why = f"{node.name} is known as {entry.host}; its lasting name is {node.host}"
    return reconfigure("M6", "rename", primary, config, replaced(config, entry.id, host=node.host), why)


def leave(picture: Picture) -> Decision | None:
    """M13: members that are not wanted any more leave one by one, before their pods do."""
    primary, config = picture.primary, picture.config
    if primary is None or config is None or picture.missing > 0 or not picture.surplus:
        return None
    unknown = [entry for entry in picture.surplus if entry.id not in picture.nodes_of and not _ours(picture, entry)]
    if unknown:
        hosts = ", ".join(entry.host for entry in unknown)
        return Refuse(
            "M13",
            f"{hosts} is a member of the set and none of the members given. Add it to them; or, if it is to leave, name it: remove_members: [{hosts}]",
        )
    entry = max(picture.surplus, key=lambda one: one.id)
    node = picture.nodes_of.get(entry.id)
    if node is primary:
        return step_down("M13", "handover", primary, f"{primary.name} is to leave the set, so it hands over first")
    if entry.votes and len(config.voters) > 1:
        why = f"{entry.host} is to leave the set: first its vote goes"
        changed = replaced(config, entry.id, votes=0, priority=0)
        return reconfigure("M13", "vote", primary, config, changed, why)
    why = f"{entry.host} leaves the set: {picture.desired.members} members are wanted"
    return reconfigure("M13", "remove", primary, config, [one for one in config.entries if one.id != entry.id], why)


def _ours(picture: Picture, entry: Entry) -> bool:
    """A host of the pods' own domain whose pod is gone, or one that is named."""
    domains = {node.host.partition(".")[2] for node in picture.observation.nodes if node.target.uid}
    return entry.host in picture.desired.remove or entry.host.partition(".")[2] in domains - {""}


def join(picture: Picture) -> Decision | None:
    """M2: newcomers one by one, without a vote until they have the data, so that the majority never rests on one that has not."""
    primary, config = picture.primary, picture.config
    if primary is None or config is None or not picture.outside:
        return None
    node = min(picture.outside, key=lambda one: one.target.ordinal)
    if any(_copies(picture, other) for other in picture.live):
        return None  # stage copying waits for it; two copies at once would halve each
    unused = max(entry.id for entry in config.entries) + 1
    wanted = picture.desired.of(node.target)
    entry = Entry(unused, node.host, votes=0, priority=0, hidden=wanted.hidden, tags=wanted.tags)
    why = f"{node.name} joins without a vote, and copies the data"
    return reconfigure("M2", "add", primary, config, [*config.entries, entry], why)


def _copies(picture: Picture, node: Node) -> bool:
    return node.name in picture.entries_of and (node.config is None or node.state in {"STARTUP", "STARTUP2"})


def voters(picture: Picture) -> Decision | None:
    """M5: a vote is given to a member that has the data, or taken, one a reconfiguration (the server takes no more)."""
    primary, config = picture.primary, picture.config
    if primary is None or config is None:
        return None
    for node in picture.kept:
        entry = picture.entries_of.get(node.name)
        wanted = picture.desired.of(node.target)
        if entry is None or entry.arbiter or bool(entry.votes) == bool(wanted.votes):
            continue
        if wanted.votes and node.state not in {"PRIMARY", "SECONDARY"}:
            continue
        if node is primary:
            return step_down("M5", "handover", primary, f"{primary.name} is to have no vote, so it hands over first")
        priority = wanted.priority if wanted.votes else 0
        changed = [dataclasses.replace(one, votes=wanted.votes, priority=priority) if one is entry else one for one in config.entries]
        verb = "has the data and votes from now on" if wanted.votes else "votes no longer"
        return reconfigure("M5", "vote", primary, config, changed, f"{node.name} {verb}")
    return None
