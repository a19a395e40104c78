# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who is primary, and do all agree (private: may change without notice)."""

from __future__ import annotations

import dataclasses

from ansible_collections.progressive.platform.plugins.module_utils._members.model import Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.model import Act, Action, Config, Decision, Entry, Node
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.stages.common import document

ELECTIONS = 3
"""Election timeouts after which nobody is expected to be elected without help, and as many again after which help has not helped."""


def election(picture: Picture) -> Decision | None:
    """M7 nobody is primary though a majority answers; M8 the majority is gone."""
    config = picture.config
    if config is None or picture.primary is not None:
        return None
    if len(picture.voting) < config.majority:
        return _majority_lost(picture, config)
    limit = ELECTIONS * config.election_timeout
    first = _first(picture)
    if first is not None:
        return first
    reason = "no primary, a majority answers: an election is due"
    if picture.age("election") <= limit:
        return Wait("M7", "election", reason, 2 * limit, "")
    candidates = [node for node in picture.voting if picture.entries_of[node.name].electable and node.state == "SECONDARY"]
    if not candidates:
        states = ", ".join(f"{node.name} {node.state}" for node in picture.voting)
        return Refuse("M7", f"No member can become primary ({states}): one with a priority above 0 must be SECONDARY. See their logs.")
    best = max(candidates, key=lambda node: (node.optime, picture.entries_of[node.name].priority, -node.target.ordinal))
    if picture.age("election") > 2 * limit:
        return Refuse(
            "M7",
            f"No member has been elected for {2 * limit:g} s, {best.name} not even when asked. Can they reach each other by the names in the configuration? "
            f"See rs.status() on {best.name}.",
        )
    why = f"nobody was elected for {limit:g} s; {best.name} has the newest write"
    return Act("M7", "stepup", why, Action(best.name, {"replSetStepUp": 1}, why))


def _first(picture: Picture) -> Decision | None:
    """Nobody was ever elected here: a set that has just been formed need not wait an election timeout for its first primary."""
    if any(node.term for node in picture.formed):
        return None
    ready = [node for node in picture.voting if node.state == "SECONDARY" and picture.entries_of[node.name].electable]
    if not ready:
        return Wait(
            "M1",
            "first",
            "the members hear of their set",
            picture.desired.return_timeout,
            "No member became SECONDARY after the set was formed.",
        )
    best = max(ready, key=lambda node: (node.optime, picture.entries_of[node.name].priority, -node.target.ordinal))
    why = f"{best.name} stands for the first election at once"
    return Act("M1", "stepup", why, Action(best.name, {"replSetStepUp": 1}, why))


def _majority_lost(picture: Picture, config: Config) -> Decision:
    names = {entry.id: picture.nodes_of[entry.id].name if entry.id in picture.nodes_of else entry.host for entry in config.voters}
    here = {node.name for node in picture.voting}
    gone = [name for name in names.values() if name not in here]
    survivors = [node.name for node in sorted(picture.formed, key=lambda node: (node.optime, -node.target.ordinal), reverse=True)]
    reason = f"{len(here)} of {len(names)} voting members answer as such, {config.majority} are needed; not: {', '.join(gone)}"
    text = (
        f"The majority is lost: {reason}. Bring them back. If they are gone for good, what only they have is lost, and the set can go on with the members that "
        f"are left (newest first): force_reconfig: [{', '.join(survivors)}]"
    )
    if picture.desired.force:
        text += f". force_reconfig names {', '.join(sorted(picture.desired.force))}; it must name exactly the members that answer."
    return Wait("M8", "majority", reason, picture.desired.return_timeout, text)


def forced(picture: Picture) -> Decision | None:
    """M8: by name only, only without a majority, and on the member with the newest write."""
    config = picture.config
    if not picture.desired.force or config is None or picture.primary is not None or len(picture.voting) >= config.majority:
        return None
    survivors = [node for node in picture.formed if node in picture.kept]
    if {node.name for node in survivors} != picture.desired.force:
        return None
    best = max(survivors, key=lambda node: (node.optime, -node.target.ordinal))
    entries = _entries(picture, config, survivors)
    why = f"force_reconfig names {', '.join(node.name for node in survivors)}; {best.name} has the newest write"
    command = {"replSetReconfig": document(config, entries), "force": True}
    return Act("M8", "force", why, Action(best.name, command, why))


def _entries(picture: Picture, config: Config, survivors: list[Node]) -> list[Entry]:
    """A member keeps its entry, under its proper name; one that no longer finds itself gets a new one."""
    unused = max(entry.id for entry in config.entries) + 1
    entries = []
    for node in survivors:
        wanted = picture.desired.of(node.target)
        entry = picture.entries_of.get(node.name)
        if entry is None:
            entry, unused = Entry(unused, node.host), unused + 1
        entries.append(dataclasses.replace(entry, host=node.host, votes=wanted.votes, priority=wanted.priority))
    return entries


def agreement(picture: Picture) -> Decision | None:
    """M17: a configuration counts when a majority has it, and a primary when everybody follows it."""
    primary, config = picture.primary, picture.config
    if primary is None or config is None:
        return None
    members = [node for node in picture.formed if node.name in picture.entries_of]
    others = [node for node in members if node.config and (node.config.version, node.config.term) != (config.version, config.term)]
    apart = [node for node in members if node.primary and node.primary != picture.entries_of[primary.name].host]
    lone = [node for node in members if not node.primary and node.state == "SECONDARY"]
    second = [node.name for node in members if node.state == "PRIMARY" and node is not primary]
    limit = picture.desired.agreement_timeout
    parts = []
    if second:
        parts.append(f"{', '.join(second)} also calls itself primary, in an older term")
    if others:
        parts.append(f"{', '.join(node.name for node in others)} has another version of the configuration")
    if apart or lone:
        parts.append(f"{', '.join(node.name for node in [*apart, *lone])} does not follow {primary.name}")
    if not primary.committed:
        parts.append(f"version {config.version} of the configuration is not committed by a majority yet")
    if not parts:
        return None
    reason = "; ".join(parts)
    return Wait(
        "M17",
        "agreement",
        reason,
        limit,
        f"{reason}, for {limit:g} s. Can the members reach each other by the names they have in rs.conf()?",
    )
