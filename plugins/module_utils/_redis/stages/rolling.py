# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pods that still run an older template are replaced, one at a time (private: may change without notice).

The stage comes last, so every step waits until the cluster is whole again. It remembers nothing: who is to be replaced is asked of the API server, so a run
that was killed is taken up by the next one.
"""

from __future__ import annotations

from ansible_collections.progressive.platform.plugins.module_utils._members import rolling as members
from ansible_collections.progressive.platform.plugins.module_utils._members.model import FOREVER, Refuse, Target, Wait
from ansible_collections.progressive.platform.plugins.module_utils._redis import engines
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import EVICT, Act, Action, Decision, Node
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._redis.placement import assess

LAG_AT_MOST = 1 << 20
"""Bytes that a replica may be behind when its master hands over: clients wait until it has caught up."""


def stuck(picture: Picture) -> Decision | None:
    """A pod of an older template that does not run is replaced before anybody waits for it: that template may be what keeps it from running."""
    if not picture.desired.roll:
        return None
    for node in picture.observation.nodes:
        if node.kind == "absent" and node.target.outdated and node.target.problem and node.target.volumes:
            return _replace(picture, node, f"{node.name} does not run ({node.target.problem}) and there is a newer template")
    return None


def rolling(picture: Picture) -> Decision | None:
    """S34: replicas first; then each master hands over to a replica that is in step, and its pod follows."""
    if not picture.desired.roll:
        return None
    unseen = members.unseen("S34", _targets(picture))
    if unseen is not None:
        return unseen
    outdated = [node for node in picture.live if node.target.outdated]
    if not outdated:
        return None
    refusal = _unreadable(picture, outdated)
    if refusal is not None:
        return refusal
    unready = members.unready("S34", _targets(picture))
    if unready is not None:
        return unready
    replicas = [node for node in outdated if not node.slots]
    if replicas:
        node = max(replicas, key=lambda node: members.turn(node.target))
        return _replace(picture, node, f"{node.name} is replaced by a pod of the newest template")
    return _master(picture, max(outdated, key=lambda node: members.turn(node.target)))


def progress(picture: Picture) -> str:
    return members.progress(_targets(picture))


def _targets(picture: Picture) -> list[Target]:
    return [node.target for node in picture.observation.nodes]


def _replace(picture: Picture, node: Node, why: str) -> Act:
    action = Action(node.name, (EVICT, node.target.uid), members.EVICTED)
    return Act("S34", "replace", f"{why} ({progress(picture)})", (action,))


def _master(picture: Picture, master: Node) -> Decision:
    copies = [node for node in picture.live if node.master == master.id and node.link_up and not node.syncing and not node.target.outdated]
    if not copies:
        return _alone(picture, master)
    near = [node for node in copies if master.offset - node.offset <= LAG_AT_MOST]
    if not near:
        text = f"{progress(picture)}; the replicas of {master.name} are {min(master.offset - node.offset for node in copies)} bytes behind"
        return Wait("S34", "lag", text, FOREVER, "")
    owners = [node.id for node in picture.owners]

    def rank(node: Node) -> tuple[int, int, int]:
        followers = {**{key: node.id if value == master.id else value for key, value in picture.attached.items()}, master.id: node.id}
        del followers[node.id]
        score = assess(picture.members, [node.id if owner == master.id else owner for owner in owners], followers).score
        return (score, -node.offset, node.target.ordinal)

    heir = min(near, key=rank)
    action = Action(heir.name, ("CLUSTER", "FAILOVER"), f"takes over from {picture.who(master.id)}, whose pod is replaced next")
    return Act("S34", "handover", f"{master.name} hands its slots over to {heir.name} ({progress(picture)})", (action,))


def _alone(picture: Picture, master: Node) -> Decision:
    """A master that nobody can take over from. Where no replicas are wanted its slots are away until it has loaded them from its volume."""
    if picture.desired.replicas == 0 and master.target.volumes:
        return _replace(
            picture, master, f"{master.name} has no replica, so its slots are away until it is back; it is replaced with its volume"
        )
    return Refuse(
        "S34",
        f"{master.name} ({master.id}) has an older template and no replica in step that could take over, and its data "
        f"{'is on its volume alone' if master.target.volumes else 'dies with its pod'}: it is not replaced. Give it a replica (replicas_per_master).",
    )


def _unreadable(picture: Picture, outdated: list[Node]) -> Refuse | None:
    """Data formats go forward only: judged by what is said of the newest template, and by the servers that run it already."""
    newer = {node.release_of_engine for node in picture.live if not node.target.outdated}
    said = engines.parse(picture.desired.release) if picture.desired.release else None
    if said is not None:
        newer.add(said)
    for node in outdated:
        for release in sorted(newer):
            reason = engines.refusal(node.release_of_engine, release)
            if reason:
                return Refuse(
                    "S34",
                    f"{node.name} runs {node.release_of_engine} and would be followed by {release}: {reason}. Take back the engine or image.",
                )
    return None
