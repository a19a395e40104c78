# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How an arrangement that is there becomes a better one: by failovers, or by replicas that move (private: may change without notice)."""

from __future__ import annotations

import typing as t
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from itertools import product
from math import prod

from ansible_collections.progressive.platform.plugins.module_utils._redis.placement import (
    Member,
    Placement,
    assess,
    quorum_score,
    shard_score,
)

PROMOTIONS_AT_MOST = 5000
"""Combinations of masters that are all compared (five shards of three copies have 243, twelve of two 4096)."""
SEARCH_AT_MOST = 20000
"""Arrangements looked at for a way from one to another (3 masters with 6 replicas have 729, 5 with 5 have 3125)."""

Choice: t.TypeAlias = "tuple[Member, ...]"
Cost: t.TypeAlias = "t.Callable[[Choice], tuple[int, int, list[int]]]"


def promote(members: Sequence[Member], masters: Sequence[str], master_of: Mapping[str, str], prefer_first: bool) -> Placement:
    """The best arrangement that planned failovers alone can reach: every shard keeps its copies, any of them may be its master.

    Among equals the present one, or with ``prefer_first`` the one whose masters come first in ``members``. Exact up to PROMOTIONS_AT_MOST combinations,
    beyond it shard after shard until nothing improves.
    """
    rank = {member.id: index for index, member in enumerate(members)}
    by_id = {member.id: member for member in members}
    shards = [[by_id[copy] for copy in (master, *(replica for replica, of in master_of.items() if of == master))] for master in masters]
    own = {copy.id: shard_score([copy, *(other for other in shard if other is not copy)]) for shard in shards for copy in shard}

    def cost(chosen: Choice) -> tuple[int, int, list[int]]:
        changed = 0 if prefer_first else sum(chief.id != master for chief, master in zip(chosen, masters, strict=True))
        return sum(own[chief.id] for chief in chosen) + quorum_score(chosen), changed, [rank[chief.id] for chief in chosen]

    if prod(len(shard) for shard in shards) <= PROMOTIONS_AT_MOST:
        best: Choice = min(product(*shards), key=cost)
    else:
        now = tuple(shard[0] for shard in shards)
        best = min(now, _step_by_step(now, shards, cost), key=cost)
    pairs = {copy.id: chief.id for shard, chief in zip(shards, best, strict=True) for copy in shard if copy is not chief}
    return assess(members, [chief.id for chief in best], pairs)


def _step_by_step(start: Choice, shards: Sequence[Sequence[Member]], cost: Cost) -> Choice:
    """One shard's master after the other; crowding gets better step by step while the score does not yet."""

    def crowding(chosen: Choice) -> int:
        nodes, zones = Counter(chief.node for chief in chosen if chief.node), Counter(chief.zone for chief in chosen if chief.zone)
        return sum(count * count for domains in (nodes, zones) for count in domains.values())

    best = start
    improved = True
    while improved:
        improved = False
        for index, shard in enumerate(shards):
            for copy in shard:
                other = (*best[:index], copy, *best[index + 1 :])
                if (crowding(other), cost(other)) < (crowding(best), cost(best)):
                    best, improved = other, True
    return best


def way(
    members: Sequence[Member], masters: Sequence[str], now: Mapping[str, str], at_most: int, spared: int, replicas: int
) -> list[tuple[str, str]]:
    """The shortest series of single moves (replica, new master) from ``now`` to the best arrangement that is within reach and scores ``at_most``.

    On the way a shard gives a replica only while it has more than ``spared``; in the end each has ``replicas`` at least. Empty when there is no such way.
    """
    by_id = {member.id: member for member in members}
    order = sorted(now)
    quorum = quorum_score([by_id[master] for master in masters])
    start = tuple(now[replica] for replica in order)
    came: dict[tuple[str, ...], tuple[tuple[str, ...], str, str] | None] = {start: None}
    queue = deque([start])
    found: tuple[int, tuple[str, ...]] | None = None
    while queue and len(came) < SEARCH_AT_MOST:
        here = queue.popleft()
        counts = Counter(here)
        copies = {master: [by_id[master]] for master in masters}
        for replica, master in zip(order, here, strict=True):
            copies[master].append(by_id[replica])
        score = quorum + sum(shard_score(shard) for shard in copies.values())
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
