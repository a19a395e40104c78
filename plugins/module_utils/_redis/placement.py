# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which nodes are masters, and whose copy goes where, so that no failure domain takes a shard or the quorum (private: may change without notice)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import combinations

WHOLE_SHARD_ON_NODE = 10000
QUORUM_IN_DOMAIN = 5000
WHOLE_SHARD_IN_ZONE = 1000
REPLICAS_TOGETHER = 10
EXACT_UP_TO = 10
"""Members up to which every arrangement is compared (10 members as 5+5: 30 240 of them); beyond it masters are spread first, replicas placed one by one,
and then members change places as long as that is better."""


@dataclass(frozen=True)
class Member:
    """A node that can be placed, with its failure domains (empty: unknown, and then never counted as shared); violations call it by its name."""

    id: str
    node: str = ""
    zone: str = ""
    name: str = ""


@dataclass(frozen=True)
class Placement:
    """Masters in the given order and the master of each replica, with the score (0 is faultless) and its violations in words."""

    masters: tuple[str, ...]
    master_of: Mapping[str, str]
    score: int = 0
    violations: tuple[str, ...] = ()


def assess(members: Sequence[Member], masters: Sequence[str], master_of: Mapping[str, str]) -> Placement:
    """Score an arrangement: lower is better, and every point has a sentence. Shards without a replica have no copies to separate."""
    by_id = {member.id: member for member in members}
    shards = [[by_id[master]] + [by_id[replica] for replica, of in master_of.items() if of == master] for master in masters]
    chiefs = [by_id[master] for master in masters]
    score = sum(shard_score(copies) for copies in shards) + quorum_score(chiefs)
    violations = [text for copies in shards for text in _shard_violations(copies)] + _quorum_violations(chiefs)
    return Placement(tuple(masters), dict(master_of), score, tuple(violations))


def place(
    members: Sequence[Member],
    masters: int,
    keep_masters: Sequence[str] = (),
    keep: Mapping[str, str] | None = None,
) -> Placement:
    """The best arrangement that leaves ``keep_masters`` masters and the replicas in ``keep`` where they are.

    Replicas are spread evenly over the shards first; then the score decides, then the order of ``members`` (their
    ordinals).
    """
    kept = dict(keep or {})
    free = [member for member in members if member.id not in kept and member.id not in keep_masters]
    missing = max(masters - len(keep_masters), 0)
    unavoidable = _unavoidable(members, masters)
    best: Placement | None = None
    for chosen in _master_choices(members, free, keep_masters, missing):
        names = tuple(member.id for member in members if member.id in chosen)
        replicas = [member for member in free if member.id not in chosen]
        floor = quorum_score([member for member in members if member.id in chosen])
        if best is not None and floor >= best.score:
            continue
        candidate = _pair(members, names, replicas, kept, floor, best.score if best else None)
        if candidate is not None and (best is None or candidate.score < best.score):
            best = candidate
            if best.score <= unavoidable:
                break
    if best is None:
        raise ValueError(f"{len(members)} members cannot have {masters} masters")
    exact = len(members) <= EXACT_UP_TO
    return best if exact or best.score <= unavoidable else _exchanged(members, best, {*keep_masters, *kept})


def _exchanged(members: Sequence[Member], start: Placement, fixed: Set[str]) -> Placement:
    """Above EXACT_UP_TO: members that may be placed change places, two at a time, as long as the score gets better."""
    by_id = {member.id: member for member in members}
    shards = [[by_id[master]] + [by_id[replica] for replica, of in start.master_of.items() if of == master] for master in start.masters]
    places = [(shard, index) for shard in shards for index, member in enumerate(shard) if member.id not in fixed]

    def cost(*touched: list[Member]) -> int:
        return sum(shard_score(shard) for shard in touched) + quorum_score([shard[0] for shard in shards])

    better = True
    while better:
        better = False
        for (one, here), (other, there) in combinations(places, 2):
            touched = (one,) if one is other else (one, other)
            before = cost(*touched)
            one[here], other[there] = other[there], one[here]
            if cost(*touched) < before:
                better = True
            else:
                one[here], other[there] = other[there], one[here]
    chiefs = {shard[0].id for shard in shards}
    pairs = {copy.id: shard[0].id for shard in shards for copy in shard[1:]}
    return assess(members, [member.id for member in members if member.id in chiefs], pairs)


def _master_choices(members: Sequence[Member], free: Sequence[Member], keep: Sequence[str], missing: int) -> Iterator[frozenset[str]]:
    if len(members) <= EXACT_UP_TO:
        seen = set()
        for combination in combinations(free, missing):
            domains = tuple(sorted((member.node, member.zone) for member in combination))
            if domains in seen:
                continue
            seen.add(domains)
            yield frozenset(keep) | {member.id for member in combination}
        return
    chosen = [member for member in members if member.id in keep]
    rest = list(free)
    for _unused in range(missing):
        zones = Counter(member.zone for member in chosen)
        nodes = Counter(member.node for member in chosen)
        pick = min(rest, key=lambda member: (zones[member.zone] if member.zone else 0, nodes[member.node] if member.node else 0))
        chosen.append(pick)
        rest.remove(pick)
    yield frozenset(member.id for member in chosen)


def _pair(
    members: Sequence[Member],
    masters: Sequence[str],
    replicas: Sequence[Member],
    kept: Mapping[str, str],
    floor: int,
    bound: int | None,
) -> Placement | None:
    """Depth first over the replicas in order, cutting every branch that cannot beat ``bound``; above EXACT_UP_TO the cheapest branch only."""
    by_id = {member.id: member for member in members}
    copies: dict[str, list[Member]] = {master: [by_id[master]] for master in masters}
    for replica, master in kept.items():
        if master in copies and replica in by_id:
            copies[master].append(by_id[replica])
    exact = len(members) <= EXACT_UP_TO
    best: list[tuple[int, dict[str, str]]] = []

    def descend(index: int, assigned: dict[str, str]) -> None:
        limit = best[0][0] if best else bound
        if limit is not None and floor + _settled_cost(copies, index, replicas) >= limit:
            return
        if index == len(replicas):
            cost = floor + sum(shard_score(shard) for shard in copies.values())
            if limit is None or cost < limit:
                best[:] = [(cost, dict(assigned))]
            return
        fewest = min(len(shard) for shard in copies.values())
        replica = replicas[index]
        tried = set()
        options = [master for master in masters if len(copies[master]) == fewest]
        if not exact:
            options = [min(options, key=lambda master: shard_score([*copies[master], replica]))]
        for master in options:
            signature = tuple(sorted((copy.node, copy.zone) for copy in copies[master]))
            if signature in tried:
                continue
            tried.add(signature)
            copies[master].append(replica)
            assigned[replica.id] = master
            descend(index + 1, assigned)
            copies[master].pop()
            del assigned[replica.id]

    descend(0, {})
    if not best:
        return None
    return assess(members, masters, {**{replica: master for replica, master in kept.items() if master in copies}, **best[0][1]})


def _settled_cost(copies: Mapping[str, Sequence[Member]], index: int, replicas: Sequence[Member]) -> int:
    """A lower bound of the final cost: a shard that gets no more replicas is settled; in another only replicas side by side are beyond cure."""
    if index == len(replicas):
        return 0
    most = -(-(sum(len(shard) for shard in copies.values()) + len(replicas) - index) // len(copies))
    return sum(shard_score(shard) if len(shard) >= most else REPLICAS_TOGETHER * _pairs_together(shard) for shard in copies.values())


def _unavoidable(members: Sequence[Member], masters: int) -> int:
    """What no arrangement can do better than: with one domain every shard is whole in it, with two one of them holds half of the masters."""
    nodes, zones = {member.node for member in members}, {member.zone for member in members}
    whole = min(masters, max(len(members) - masters, 0))
    cost = sum(QUORUM_IN_DOMAIN for domains in (nodes, zones) if "" not in domains and len(domains) <= 2)
    if len(nodes) == 1 and "" not in nodes:
        cost += WHOLE_SHARD_ON_NODE * whole
    if len(zones) == 1 and "" not in zones:
        cost += WHOLE_SHARD_IN_ZONE * whole
    return cost


def shard_score(copies: Sequence[Member]) -> int:
    """Points of one shard, its master first."""
    if len(copies) < 2:
        return 0
    whole_node = bool(copies[0].node) and len({copy.node for copy in copies}) == 1
    whole_zone = bool(copies[0].zone) and len({copy.zone for copy in copies}) == 1
    return WHOLE_SHARD_ON_NODE * whole_node + WHOLE_SHARD_IN_ZONE * whole_zone + REPLICAS_TOGETHER * _pairs_together(copies)


def quorum_score(masters: Sequence[Member]) -> int:
    """Points of the masters: losing half of them or more at once stops every election (a majority of all masters has to vote)."""
    half = -(-len(masters) // 2)
    nodes, zones = Counter(master.node for master in masters if master.node), Counter(master.zone for master in masters if master.zone)
    return QUORUM_IN_DOMAIN * sum(count >= half for domains in (nodes, zones) for count in domains.values())


def _pairs_together(copies: Sequence[Member]) -> int:
    counts = Counter(copy.node for copy in copies[1:] if copy.node)
    return sum(count * (count - 1) // 2 for count in counts.values())


def _shard_violations(copies: Sequence[Member]) -> list[str]:
    if len(copies) < 2:
        return []
    texts = []
    names = ", ".join(copy.name or copy.id for copy in copies)
    if copies[0].node and len({copy.node for copy in copies}) == 1:
        texts.append(f"all copies of one shard ({names}) are on node {copies[0].node}")
    if copies[0].zone and len({copy.zone for copy in copies}) == 1:
        texts.append(f"all copies of one shard ({names}) are in zone {copies[0].zone}")
    if _pairs_together(copies):
        texts.append(f"replicas of one shard ({names}) share a node")
    return texts


def _quorum_violations(masters: Sequence[Member]) -> list[str]:
    half = -(-len(masters) // 2)
    return [
        f"{kind} {domain} holds {count} of {len(masters)} masters: losing it stops every election"
        for kind, domains in (("node", [master.node for master in masters]), ("zone", [master.zone for master in masters]))
        for domain, count in sorted(Counter(domain for domain in domains if domain).items())
        if count >= half
    ]
