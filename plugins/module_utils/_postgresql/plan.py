# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what the members say to the next action: pure, no clock, no network (private: may change without notice).

``decide`` runs the stages in the order of repair; the first that has something to do decides, and whatever it decides is carried out and
observed again before anything else. Patroni elects, promotes, rewinds and copies by itself: those are waited for, not done.
"""

from __future__ import annotations

import re
import typing as t
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ansible_collections.progressive.platform.plugins.module_utils._members.model import Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._postgresql import objects
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.model import (
    Act,
    Decision,
    Desired,
    Done,
    Json,
    Member,
    Observation,
    Slot,
)

SILENT_FOR = 180.0
"""Seconds a member may take to answer: its pod is scheduled, its image pulled, its volume mounted."""
STUCK_AFTER = 90.0
"""Seconds a replica may run without streaming; Patroni tries a rewind and then a new copy by itself well within them."""
ROUNDS_WITHIN = 60.0
"""Seconds for what Patroni does in its next rounds: to choose a synchronous standby, to drop a slot."""
EXPIRE_AT_ONCE = 1
"""``member_slots_ttl`` by which slots of members that are gone go, and those of the present ones stay."""


@dataclass(frozen=True)
class Picture:
    """An observation with everything the stages ask of it. ``ages`` are the seconds for which a Wait's key has been seen without a break."""

    observation: Observation
    desired: Desired
    ages: Mapping[str, float] = field(default_factory=dict)

    @property
    def wanted(self) -> tuple[Member, ...]:
        """The members that ought to be."""
        return tuple(member for member in self.observation.members if member.target.ordinal < self.desired.members)

    @property
    def surplus(self) -> tuple[Member, ...]:
        """Members on their way out, or given for a look."""
        return tuple(member for member in self.observation.members if member.target.ordinal >= self.desired.members)

    @property
    def complete(self) -> bool:
        """Every wanted member is primary or streams, and a commit waits for one of them where it should."""
        there = self.wanted
        return len(there) >= self.desired.members and all(one.primary or one.streaming for one in there) and not self.unsynchronized

    @property
    def unsynchronized(self) -> bool:
        streaming = [member for member in self.observation.members if member.streaming]
        return self.synchronous and bool(streaming) and not any(member.sync for member in streaming)

    @property
    def synchronous(self) -> bool:
        return str((self.observation.config or {}).get("synchronous_mode", "")).lower() in ("true", "on", "quorum")

    @property
    def stale(self) -> tuple[Slot, ...]:
        """Slots of members beyond those wanted that are not there any more; they are known by the names Patroni gives to slots."""
        names = {_slot_name(member.name or member.target.name) for member in self.observation.members}
        stems = {name.rstrip("0123456789") for name in names}
        found = []
        for slot in self.observation.facts.slots if self.observation.facts else ():
            stem = slot.name.rstrip("0123456789")
            number = slot.name.removeprefix(stem)
            if slot.kind == "physical" and slot.name not in names and stem in stems and number and int(number) >= self.desired.members:
                found.append(slot)
        return tuple(found)

    def lag(self, member: Member) -> int | None:
        """Bytes a replica is behind: by the primary's word where it gave one, else by the positions both told a moment apart."""
        link = next((link for link in self.observation.facts.links if link.name == member.name), None) if self.observation.facts else None
        if link is not None and link.lag is not None:
            return link.lag
        primary = self.observation.primary
        return max(primary.position - member.position, 0) if primary and member.position else None

    def best(self) -> Member | None:
        """Who should take over: a replica that streams on the primary's timeline (0: it does not say), a synchronous one first, then the least behind."""
        primary = self.observation.primary
        fit = [member for member in self.wanted if member.streaming and primary and member.timeline in (0, primary.timeline)]
        return min(fit, key=lambda member: (not member.sync, self.lag(member) or 0, member.target.name), default=None)


Stage: t.TypeAlias = "t.Callable[[Picture], Decision | None]"


def decide(picture: Picture) -> Decision:
    """The one thing to do now."""
    return next(iter(_decisions(picture)), Done())


def findings(picture: Picture) -> list[Decision]:
    """What every stage has to say, for a report; only the first is acted upon, the others may settle with it."""
    return list(_decisions(picture))


def _decisions(picture: Picture) -> Iterable[Decision]:
    for stage in STAGES:
        decision = stage(picture)
        if isinstance(decision, Wait) and picture.ages.get(decision.key, 0.0) > decision.limit:
            decision = Refuse(decision.state, decision.refusal)
        if decision is not None:
            yield decision
            if isinstance(decision, Refuse):
                return


# ---- stages -----------------------------------------------------------------------------------------------------------------


def foreign(picture: Picture) -> Decision | None:
    """Members of two different clusters: to join them would throw one's data away."""
    systems: dict[str, list[str]] = {}
    for member in picture.observation.live:
        if member.system:
            systems.setdefault(member.system, []).append(member.target.name)
    if len(systems) < 2:
        return None
    seen = "; ".join(f"{', '.join(names)} have system identifier {system}" for system, names in systems.items())
    return Refuse(
        "P1",
        f"The members hold data of different clusters: {seen}. Nothing is touched. Find out whose data is wanted; the others' volumes must be "
        "removed by hand before their members can join.",
    )


def unreachable(picture: Picture) -> Decision | None:
    """Nobody to ask. Silent members beside others that answer are no reason to stop: Patroni's majority is the API server's, not theirs."""
    members = picture.observation.members
    if picture.observation.live:
        return None
    said = "; ".join(f"{member.target.name}: {member.problem}" for member in members) or "there is no pod, or no address was given"
    refusal = f"No member answers: {said}. Look at the pods' logs and events."
    return Wait("P2", "unreachable", f"no member answers ({said})", SILENT_FOR, refusal, True)


def one_primary(picture: Picture) -> Decision | None:
    seen = picture.observation
    limit = picture.desired.election_timeout
    if len(seen.primaries) > 1:
        names = ", ".join(member.target.name for member in seen.primaries)
        return Wait(
            "P3",
            "two primaries",
            f"{names} both run as primary; the one without the lock is about to stop",
            limit,
            f"{names} both run as primary for longer than a lock lasts. Stop the one that is not the leader of `patronictl list` at once: "
            "`kubectl delete pod` it; what clients wrote to it meanwhile is lost when it is rewound.",
        )
    if not seen.primaries:
        states = ", ".join(f"{member.target.name} is {member.state or 'silent'}" for member in seen.members)
        if any(member.paused for member in seen.live):
            return Refuse("P4", f"There is no primary and Patroni is paused ({states}). Resume it with `patronictl resume`.")
        # A member that comes up or recovers decides for itself how long it takes; the first start of all is one of these.
        busy = any(member.state in COPYING for member in seen.live)
        coming = busy or not all(member.live for member in seen.members)
        limit = picture.desired.copy_timeout if busy else SILENT_FOR if coming else limit
        return Wait(
            "P4",
            f"no primary {states}",
            f"no member is primary yet ({states})",
            limit,
            f"No member became primary within {limit:g} s ({states}). Look at the members' logs; a member that must not take over because it is "
            "too far behind is promoted by `patronictl failover --force`, and what it lacks is lost.",
            coming,
        )
    primary = seen.primaries[0]
    strays = [member.target.name for member in seen.live if member.leader != primary.name]
    if strays:
        return Wait(
            "P5",
            "agreement",
            f"{', '.join(strays)} do not take {primary.target.name} for the primary yet",
            limit,
            f"{', '.join(strays)} do not take {primary.target.name} for the primary. Is the API server reachable from their nodes?",
        )
    return None


def settings(picture: Picture) -> Decision | None:
    """The dynamic configuration is as wanted, but for what has to wait for the members: strict commits without a standby would stop all writes, and a
    cluster that forms goes its rounds quicker than one that stands."""
    seen, wanted = picture.observation, picture.desired.config
    if not wanted:
        return None
    if seen.config is None:
        refusal = "Patroni does not give its dynamic configuration (GET /config)."
        return Wait("P6", "config", "nobody gives the dynamic configuration yet", 30.0, refusal)
    strict = seen.config.get("synchronous_mode_strict")
    if wanted.get("synchronous_mode_strict") and not strict and not any(member.streaming for member in picture.wanted):
        wanted = {**wanted, "synchronous_mode_strict": False}
    rounds = seen.config.get("loop_wait")
    if rounds is not None and not picture.complete and float(rounds) < float(wanted.get("loop_wait", 0)):
        wanted = {**wanted, "loop_wait": rounds}
    if "member_slots_ttl" in wanted and any(not slot.active for slot in picture.stale):
        wanted = {**wanted, "member_slots_ttl": EXPIRE_AT_ONCE}
    patch = difference(seen.config, wanted)
    if not patch:
        return None
    return Act("P6", "config", f"the dynamic configuration differs in {', '.join(sorted(_paths(patch)))}", body=patch)


def reinitialize(picture: Picture) -> Decision | None:
    """A copy that was asked for, which is what helps a member that does not stream; the run remembers whom it has done, so that each is done once.
    One that does not answer cannot be told: it is waited for."""
    for member in picture.observation.members:
        if member.target.name in picture.desired.reinit and member.live:
            if member.primary:
                return Refuse("P13", f"{member.target.name} is the primary and is not copied from another; switch over first.")
            body = {"force": True, "from_leader": True}
            return Act("P13", "reinit", f"{member.target.name} is to be copied anew", member.target.name, body)
    return None


def presence(picture: Picture) -> Decision | None:
    """Every member is there and streams; a new one may copy for as long as it takes."""
    members = picture.wanted
    if len(members) < picture.desired.members:
        reason = f"{len(members)} of {picture.desired.members} members are there"
        return Wait("P8", "presence", reason, SILENT_FOR, f"{reason}. Were the manifests sent, and can the pods be scheduled?")
    silent = [member for member in members if not member.live]
    if silent:
        said = "; ".join(f"{member.target.name}: {member.problem}" for member in silent)
        limit = min(SILENT_FOR, picture.desired.copy_timeout)
        refusal = f"{said}. Look at the pod's events and log; the others serve without it."
        return Wait("P9", f"silent {_names(silent)}", said, limit, refusal, True)
    idle = [member for member in members if not member.primary and not member.streaming]
    busy = [member for member in idle if member.state in COPYING or (member.state == "stopped" and not member.system)]
    if busy:
        limit = picture.desired.copy_timeout
        refusal = f"{_names(busy)} did not finish within {limit:g} s. Look at its log; raise copy_timeout for a large data directory."
        return Wait("P10", f"copying {_names(busy)}", f"{_states(busy)}", limit, refusal, True)
    if idle:
        names = ", ".join(member.target.name for member in idle)
        return Wait(
            "P11",
            f"idle {_names(idle)}",
            f"{_states(idle)}, not streaming; if it stays so, reinit: [{names}] copies it anew from the primary",
            STUCK_AFTER,
            f"{_states(idle)}: without streaming for {STUCK_AFTER:g} s. Look at its log; with reinit: [{names}] it is copied anew from the primary.",
        )
    if picture.unsynchronized:
        refusal = "No standby was made synchronous. Look at the primary's log; a member tagged nosync cannot be one."
        return Wait("P12", "synchronous", "no standby is synchronous yet", ROUNDS_WITHIN, refusal)
    return None


def renewal(picture: Picture) -> Decision | None:
    """Restarts and new pods: replicas first, one at a time and only while all stream; then the primary hands over and is the last. What replicas may
    have less of only after the primary is lowered there first, where it stands: whoever took over would have to be restarted for it too."""
    desired = picture.desired
    due = [member for member in picture.wanted if _due(member, desired)]
    if not due:
        return None
    if any(member.target.update == "unseen" for member in picture.wanted):
        return Wait(
            "P15",
            "unseen",
            "the StatefulSet's controller has not seen its newest template yet",
            60.0,
            "The StatefulSet's controller is stuck.",
        )
    lowering = next((member for member in due if member.primary and member.lowered and desired.restart), None)
    if lowering is not None:
        return _restart(lowering, ": a replica may not have less than it")
    replicas = [member for member in due if not member.primary]
    if replicas:
        return _renew(replicas[-1], desired)
    primary = due[0]
    if desired.members == 1:
        return _renew(primary, desired)
    state, what = ("P15", "replaced") if _outdated(primary, desired) else ("P14", "restarted")
    return _handed_over(picture, primary, state, f"{primary.target.name} is to be {what}")


def switchover(picture: Picture) -> Decision | None:
    wanted, primary = picture.desired.switchover, picture.observation.primary
    if not wanted or primary is None:
        return None
    candidate = picture.observation.named(wanted)
    if candidate is primary:
        return None
    if candidate is None:
        names = ", ".join(member.target.name for member in picture.observation.members)
        return Refuse("P16", f"switchover names {wanted}, which is no member; there are {names}.")
    if not candidate.streaming:
        return Refuse("P16", f"{wanted} does not stream ({_states([candidate])}), so it cannot take over.")
    if picture.synchronous and not candidate.sync:
        able = _names(member for member in picture.wanted if member.sync) or "nobody yet"
        reason = f"{wanted} is no synchronous standby ({able} is), so it may lack commits and Patroni would not let it take over"
        return Wait("P16", "asked for", reason, ROUNDS_WITHIN, f"{reason}. Name one that is.")
    return _switch("P16", primary, candidate, "it was asked for")


def departure(picture: Picture) -> Decision | None:
    """A primary that is not wanted any more hands over before its pod goes; slots of those that went do not hold back WAL."""
    primary = picture.observation.primary
    if primary in picture.surplus and picture.wanted:
        return _handed_over(picture, primary, "P17", f"{primary.target.name} is to go")
    if picture.stale and "member_slots_ttl" in picture.desired.config:
        names = ", ".join(slot.name for slot in picture.stale)
        refusal = f"Slot {names} belongs to no member and is still there. Who reads from it (pg_replication_slots of the primary)?"
        return Wait("P18", f"slots {names}", f"slot {names} of a member that is gone is still there", ROUNDS_WITHIN, refusal)
    return None


def contents(picture: Picture) -> Decision | None:
    """Users, databases, extensions and grants."""
    seen = picture.observation
    if not picture.desired.objects:
        return None
    if seen.facts is None:
        said = seen.facts_problem or "it was not asked"
        return Wait("P7", "sql", f"the primary does not answer to SQL: {said}", 30.0, f"The primary does not answer to SQL: {said}.")
    statements = objects.missing(picture.desired, seen.facts)
    if not statements:
        return None
    return Act("P7", "sql", f"{len(statements)} statements about users and databases are missing", statements=tuple(statements))


STAGES: tuple[Stage, ...] = (foreign, unreachable, one_primary, settings, contents, reinitialize, presence, renewal, switchover, departure)

COPYING = ("creating replica", "initializing new cluster", "running custom bootstrap script", "starting", "restarting", "stopping")
"""States of a member that is busy with what it was told, or with coming to be."""


# ---- pieces -----------------------------------------------------------------------------------------------------------------


def difference(there: Json, wanted: Json, path: tuple[str, ...] = ()) -> Json:
    """The patch that brings ``there`` to ``wanted``. Values are compared as Patroni does, by their text; what is not wanted stays, but in our own lists."""
    patch: Json = {}
    for key, value in wanted.items():
        seen = there.get(key)
        if isinstance(value, Mapping):
            inner = difference(seen if isinstance(seen, dict) else {}, dict(value), (*path, key))
            if inner:
                patch[key] = inner
        elif key not in there or str(seen) != str(value):
            patch[key] = value
    if path == ("postgresql", "parameters"):
        patch |= dict.fromkeys(sorted(set(there) - set(wanted)))
    return patch


def _paths(patch: Json, above: str = "") -> Iterable[str]:
    for key, value in patch.items():
        if isinstance(value, dict):
            yield from _paths(value, f"{above}{key}.")
        else:
            yield above + key


def _outdated(member: Member, desired: Desired) -> bool:
    return desired.roll and member.target.update == "outdated"


def _due(member: Member, desired: Desired) -> bool:
    return _outdated(member, desired) or (desired.restart and bool(member.pending)) or (desired.roll and member.target.update == "unseen")


def _renew(member: Member, desired: Desired) -> Act:
    name = member.target.name
    if _outdated(member, desired):
        return Act("P15", "replace", f"{name} runs an older template", name, {"uid": member.target.uid})
    return _restart(member)


def _restart(member: Member, why: str = "") -> Act:
    name = member.target.name
    return Act("P14", "restart", f"{name} needs a restart for {', '.join(member.pending)}{why}", name, {"restart_pending": True})


def _handed_over(picture: Picture, primary: Member, state: str, why: str) -> Decision:
    best = picture.best()
    if best is None:
        reason = f"no replica could take over from the primary, and {why}"
        return Wait(state, "successor", reason, STUCK_AFTER, f"No replica streams, so nobody can take over, and {why}.")
    return _switch(state, primary, best, why)


def _switch(state: str, primary: Member, candidate: Member, why: str) -> Act:
    reason = f"{candidate.target.name} takes over from {primary.target.name}: {why}"
    return Act(state, "switchover", reason, primary.target.name, {"leader": primary.name, "candidate": candidate.name})


def _slot_name(member: str) -> str:
    """As Patroni names the slot of a member."""
    return re.sub(r"[^a-z0-9_]", lambda char: "_" if char[0] in "-." else f"u{ord(char[0]):04d}", member.lower())[:63]


def _names(members: Iterable[Member]) -> str:
    return ", ".join(member.target.name for member in members)


def _states(members: Iterable[Member]) -> str:
    return "; ".join(
        f"{member.target.name} is {member.state} ({member.replication or member.role or 'no replication'})" for member in members
    )
