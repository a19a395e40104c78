# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Are these the members, do they answer, and may they be touched (private: may change without notice)."""

from __future__ import annotations

from ansible_collections.progressive.platform.plugins.module_utils._members.model import FOREVER, Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.model import COPYING, SERVING, Decision
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.stages.common import listed


def unusable(picture: Picture) -> Decision | None:
    """M20 a refused login or certificate, or a server that is no member of a replica set."""
    refused = [node for node in picture.observation.nodes if node.kind in {"auth", "tls"}]
    if refused:
        hints = " ".join(dict.fromkeys(node.hint for node in refused if node.hint))
        return Refuse("M20", f"Not let in, nothing was changed ({listed(refused)}). {hints}".rstrip())
    foreign = [node for node in picture.observation.nodes if node.kind == "foreign"]
    if foreign:
        return Refuse("M20", f"Not a member of a replica set: {listed(foreign)}. {foreign[0].hint}")
    return None


def split(picture: Picture) -> Decision | None:
    """M9: two sets among our targets, or one of another name. Joining them would drop the data of one."""
    by_id: dict[str, list[str]] = {}
    for node in picture.formed:
        if node.config is not None and node.config.set_id:  # empty: nobody can read it before there is a user
            by_id.setdefault(node.config.set_id, []).append(node.name)
    if len(by_id) > 1:
        sets = "; ".join(f"{', '.join(names)} in set {set_id}" for set_id, names in sorted(by_id.items()))
        return Refuse(
            "M9",
            f"These members belong to {len(by_id)} replica sets ({sets}). A member that joins another set drops what it holds, so nothing was changed. Compare "
            "what they hold, keep one set, and empty the volumes of the others' members: they then copy it.",
        )
    other = [node for node in picture.formed if node.config is not None and node.config.name != picture.desired.name]
    if other and other[0].config is not None:
        return Refuse(
            "M9",
            f"{', '.join(node.name for node in other)}: the replica set is named {other[0].config.name!r}, {picture.desired.name!r} is wanted. "
            "A set cannot be renamed; give its own name in replica_set.",
        )
    return None


def absent(picture: Picture) -> Decision | None:
    """M12: fewer members than wanted, or some that do not answer; their return is waited for, a pod may be on its way."""
    silent = [node for node in picture.silent if node in picture.kept]
    if not silent and picture.missing <= 0:
        return None
    parts = [f"{node.name}: {node.problem}" for node in silent]
    if picture.missing > 0:
        parts.append(f"{picture.desired.members} members are wanted, {len(picture.kept)} are there")
    return Wait("M12", "absent", "; ".join(parts), FOREVER, "")


def copying(picture: Picture) -> Decision | None:
    """M3: an initial sync is left alone, however long it takes; a wiped member at its old name begins one by itself."""
    nodes = [node for node in picture.formed if node.state in COPYING and node.name in picture.entries_of]
    nodes += [node for node in picture.live if node.config is None and node.name in picture.entries_of]
    if not nodes:
        return None
    names = ", ".join(node.name for node in nodes)
    limit = picture.desired.sync_timeout
    text = f"{names} has not finished its initial sync after {limit:g} s. See its log; a larger oplog or sync_timeout may be wanted."
    return Wait("M3", "copying", f"{names} copies the data", limit, text, own_time=True)


def sick(picture: Picture) -> Decision | None:
    """M11: ROLLBACK and RECOVERING end by themselves, unless the oplog has passed the member by."""
    members = [node for node in picture.formed if node.name in picture.entries_of]
    nodes = [node for node in members if node.state not in SERVING | COPYING | {"ARBITER"}]
    if not nodes:
        return None
    healthy = [node.name for node in members if node.state in SERVING]
    states = ", ".join(f"{node.name} is {node.state}" for node in nodes)
    remedy = (
        f"{', '.join(healthy)} holds the data: empty the volume of {nodes[0].name} and it copies everything anew"
        if healthy
        else "no other member holds the data: restore a backup, and empty nothing"
    )
    text = f"{states} for {picture.desired.return_timeout:g} s. See its log; if the oplog has passed it by, {remedy}."
    return Wait("M11", "sick", states, picture.desired.return_timeout, text)
