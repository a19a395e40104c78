# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which nodes are masters, and whose copy goes where, so that no failure domain takes a shard or the quorum (private: may change without notice)."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from math import prod

WHOLE_SHARD_ON_NODE = 10000
QUORUM_IN_DOMAIN = 5000
WHOLE_SHARD_IN_ZONE = 1000
REPLICAS_TOGETHER = 10
EXACT_UP_TO = 10
"""Members up to which every arrangement is compared (10 members as 5+5: 30 240 of them); beyond it masters are spread first and replicas placed one by one."""


SEARCH_AT_MOST = 20000
"""Arrangements looked at for a way from one to another (3 masters with 6 replicas have 729, 5 with 5 have 3125)."""


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
    score = 0
    violations = []
    for master in masters:
        copies = [by_id[master]] + [by_id[replica] for replica, of in master_of.items() if of == master]
        cost, texts = _shard_cost(copies)
        score += cost
        violations += texts
    cost, texts = _quorum_cost([by_id[master] for master in masters])
    return Placement(tuple(masters), dict(master_of), score + cost, tuple(violations + texts))


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
        floor = _quorum_cost([member for member in members if member.id in chosen])[0]
        if best is not None and floor >= best.score:
            continue
        candidate = _pair(members, names, replicas, kept, floor, best.score if best else None)
        if candidate is not None and (best is None or candidate.score < best.score):
            best = candidate
            if best.score <= unavoidable:
                break
    if best is None:
        raise ValueError(f"{len(members)} members cannot have {masters} masters")
    return best


def promote(members: Sequence[Member], masters: Sequence[str], master_of: Mapping[str, str], prefer_first: bool) -> Placement:
    """The best arrangement that planned failovers alone can reach: every shard keeps its copies, any of them may be its master.

    Among equals the present one, or with ``prefer_first`` the one whose masters come first in ``members``. Exact as long as there are SEARCH_AT_MOST
    combinations (five shards of three have 243, ten of two 1024); beyond it shard after shard until nothing improves.
    """
    rank = {member.id: index for index, member in enumerate(members)}
    shards = [[master, *sorted((replica for replica, of in master_of.items() if of == master), key=rank.__getitem__)] for master in masters]

    def arranged(chosen: Sequence[str]) -> Placement:
        pairs = {copy: chief for shard, chief in zip(shards, chosen, strict=True) for copy in shard if copy != chief}
        return assess(members, chosen, pairs)

    def cost(chosen: Sequence[str]) -> tuple[int, int, list[int]]:
        changed = sum(chief != master for chief, master in zip(chosen, masters, strict=True))
        score = arranged(chosen).score
        return (score, 0, [rank[chief] for chief in chosen]) if prefer_first else (score, changed, [rank[chief] for chief in chosen])

    if prod(len(shard) for shard in shards) <= SEARCH_AT_MOST:
        return arranged(min(product(*shards), key=cost))
    by_id = {member.id: member for member in members}

    def crowding(chosen: Sequence[str]) -> int:
        """What gets better step by step while the score does not yet."""
        domains = Counter(domain for chief in chosen for domain in (("node", by_id[chief].node), ("zone", by_id[chief].zone)) if domain[1])
        return sum(count * count for count in domains.values())

    best = list(masters)
    improved = True
    while improved:
        improved = False
        for index, shard in enumerate(shards):
            for copy in shard:
                other = [*best[:index], copy, *best[index + 1 :]]
                if (crowding(other), cost(other)) < (crowding(best), cost(best)):
                    best, improved = other, True
    return min(arranged(best), arranged(masters), key=lambda placement: placement.score)


def way(
    members: Sequence[Member], masters: Sequence[str], now: Mapping[str, str], at_most: int, spared: int, replicas: int
) -> list[tuple[str, str]]:
    """The shortest series of single moves (replica, new master) from ``now`` to the best arrangement that is within reach and scores ``at_most``.

    On the way a shard gives a replica only while it has more than ``spared``; in the end each has ``replicas`` at least. Empty when there is no such way.
    """
    order = sorted(now)
    start = tuple(now[replica] for replica in order)
    came: dict[tuple[str, ...], tuple[tuple[str, ...], str, str] | None] = {start: None}
    queue = deque([start])
    found: tuple[int, tuple[str, ...]] | None = None
    while queue and len(came) < SEARCH_AT_MOST:
        here = queue.popleft()
        counts = Counter(here)
        score = assess(members, masters, dict(zip(order, here, strict=True))).score
        if score <= at_most and all(counts[master] >= replicas for master in masters) and (found is None or score < found[0]):
            found = (score, here)
        for index, replica in enumerate(order):
            if counts[here[index]] <= spared:
                continue
            for master in masters:
                there = (*here[:index], master, *here[index + 1 :])
                if there not in came:
                    came[there] = (here, replica, master)
                    queue.append(there)
    path = []
    step = came[found[1]] if found else None
    while step is not None:
        path.append((step[1], step[2]))
        step = came[step[0]]
    return path[::-1]


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
            cost = floor + sum(_shard_cost(shard)[0] for shard in copies.values())
            if limit is None or cost < limit:
                best[:] = [(cost, dict(assigned))]
            return
        fewest = min(len(shard) for shard in copies.values())
        replica = replicas[index]
        tried = set()
        options = [master for master in masters if len(copies[master]) == fewest]
        if not exact:
            options = [min(options, key=lambda master: _shard_cost([*copies[master], replica])[0])]
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
    return sum(_shard_cost(shard)[0] if len(shard) >= most else REPLICAS_TOGETHER * _pairs_together(shard) for shard in copies.values())


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


def _pairs_together(copies: Sequence[Member]) -> int:
    counts = Counter(copy.node for copy in copies[1:] if copy.node)
    return sum(count * (count - 1) // 2 for count in counts.values())


def _shard_cost(copies: Sequence[Member]) -> tuple[int, list[str]]:
    if len(copies) < 2:
        return 0, []
    cost = 0
    texts = []
    names = ", ".join(copy.name or copy.id for copy in copies)
    if copies[0].node and len({copy.node for copy in copies}) == 1:
        cost += WHOLE_SHARD_ON_NODE
        texts.append(f"all copies of one shard ({names}) are on node {copies[0].node}")
    if copies[0].zone and len({copy.zone for copy in copies}) == 1:
        cost += WHOLE_SHARD_IN_ZONE
        texts.append(f"all copies of one shard ({names}) are in zone {copies[0].zone}")
    together = _pairs_together(copies)
    if together:
        cost += REPLICAS_TOGETHER * together
        texts.append(f"replicas of one shard ({names}) share a node")
    return cost, texts


def _quorum_cost(masters: Sequence[Member]) -> tuple[int, list[str]]:
    """Losing half of the masters or more at once stops every election (a majority of all masters has to vote)."""
    half = -(-len(masters) // 2)
    cost = 0
    texts = []
    for kind, domains in (("node", [master.node for master in masters]), ("zone", [master.zone for master in masters])):
        for domain, count in sorted(Counter(domain for domain in domains if domain).items()):
            if count >= half:
                cost += QUORUM_IN_DOMAIN
                texts.append(f"{kind} {domain} holds {count} of {len(masters)} masters: losing it stops every election")
    return cost, texts
