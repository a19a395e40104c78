# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what the nodes say to the next class of actions: pure, no clock, no network (private: may change without notice).

``decide`` runs the stages in the order of repair (R10); the first that has something to do decides, and whatever it decides is carried out and
observed again before anything else (R1). A state that is not handled yet is a Refuse that says so: it is never taken for another one.
"""

from __future__ import annotations

import typing as t
from collections.abc import Iterable

from ansible_collections.progressive.platform.plugins.module_utils._members.model import Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Act, Decision, Done
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.elections import elections, reunion
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.live import configured
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.membership import forget, join
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.migration import (
    balance,
    open_slots,
    outcast,
    promote,
    retire,
)
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.network import links, moved, suspicions
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.ownership import (
    agreement,
    coverage,
    epochs,
    settled,
)
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.presence import absent, loading, passwords, unusable
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.replicas import (
    distribution,
    replicas,
    replication,
    topology,
)
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.roles import roles
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.rolling import rolling, stuck
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.settings import restore, restore_early, verdict
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.sickness import crashing, persistence

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
        if isinstance(decision, Wait) and picture.age(decision.key) > decision.limit:
            decision = Refuse(decision.state, decision.refusal)
        if isinstance(decision, Act) and decision.kind not in ANY_VERSION and not _upwards(picture, decision):
            decision = _same_version(picture, decision)
        if decision is not None:
            yield decision
            if stage is unusable:
                return


def _upwards(picture: Picture, decision: Act) -> bool:
    """While pods are replaced by newer ones, a replica that lost its volume may copy from a master that is no newer than itself."""
    if not picture.desired.roll or decision.kind != "replicate":
        return False
    by_name = {node.name: node for node in picture.live}
    pairs = [(by_name[action.node], picture.by_id.get(action.command[-1])) for action in decision.actions]
    return all(master is not None and replica.release >= master.release for replica, master in pairs)


def _same_version(picture: Picture, decision: Act) -> Decision:
    releases = {node.release[:2]: node for node in picture.live}
    if len(releases) < 2:
        return decision
    seen = ", ".join(f"{node.name} {node.version}" for node in releases.values())
    return Refuse(
        "S34",
        f"The nodes run different versions ({seen}), so the topology is left alone ({decision.reason}): finish the upgrade first, then run again.",
    )


ANY_VERSION = frozenset(
    {"restore", "unbind", "meet", "password", "config", "replace", "handover", "failover", "takeover", "relink", "epoch"}
)
"""Kinds of Act that mixed versions do not hinder (S34): they change no slot's owner but by a replica that takes over."""

STAGES: tuple[Stage, ...] = (
    unusable,
    passwords,
    restore_early,
    loading,
    stuck,
    reunion,
    elections,
    crashing,
    absent,
    moved,
    outcast,
    join,
    suspicions,
    open_slots,
    coverage,
    agreement,
    epochs,
    promote,
    replicas,
    replication,
    roles,
    topology,
    distribution,
    forget,
    persistence,
    balance,
    retire,
    links,
    settled,
    verdict,
    restore,
    configured,
    rolling,
)
