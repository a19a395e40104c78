# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Are these the nodes, do they answer, and may they be touched (private: may change without notice)."""

from __future__ import annotations

from collections import Counter

from ansible_collections.progressive.platform.plugins.module_utils._members.model import FOREVER, Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._redis.access import hashed, user_of
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Act, Action, Decision
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture


def unusable(picture: Picture) -> Decision | None:
    """S35 a refused password, a server that is no cluster node, S6 an ID seen twice."""
    refused = [node for node in picture.observation.nodes if node.kind in {"auth", "tls"}]
    if refused:
        listed = "; ".join(f"{node.name}: {node.problem}" for node in refused)
        hints = " ".join(dict.fromkeys(node.hint for node in refused if node.hint))
        return Refuse("S35", f"Not let in, nothing was changed ({listed}). {hints}".rstrip())
    user = user_of(picture.desired.access)
    denied = [node for node in picture.live if node.denied]
    if denied and picture.desired.access.passwords:
        listed = "; ".join(f"{node.name}: it does not permit user {user!r} {', '.join(node.denied)} (NOPERM)" for node in denied)
        missing = " ".join(f"+{name}" for name in sorted({name for node in denied for name in node.denied}))
        return Refuse("S35", f"Not enough rights, nothing was changed ({listed}). Permit it there: ACL SETUSER {user} {missing}")
    foreign = [node for node in picture.observation.nodes if node.kind == "foreign"]
    if foreign:
        return Refuse("S23", "Not a Redis Cluster node: " + "; ".join(f"{node.name}: {node.problem}" for node in foreign))
    doubles = [node_id for node_id, count in Counter(node.id for node in picture.live).items() if count > 1]
    if doubles:
        places = "; ".join(f"{node_id} at {', '.join(node.name for node in picture.live if node.id == node_id)}" for node_id in doubles)
        return Refuse(
            "S6",
            f"One node ID answers at two addresses ({places}): a volume was cloned, or two addresses lead to one server. Keep one and empty the other.",
        )
    return None


def passwords(picture: Picture) -> Decision | None:
    """S35: a change of the password that stopped half way is finished, first who is let in, then what replicas log in with; the former one stays."""
    access = picture.desired.access
    behind = [node for node in picture.live if node.former_login]
    if behind:
        command = ("ACL", "SETUSER", user_of(access), hashed(access.passwords[0]))
        actions = tuple(Action(node.name, command, f"takes only the former password of user {user_of(access)}") for node in behind)
        return Act("S35", "password", "the new password is not taken everywhere yet", actions)
    replicas = [node for node in picture.live if node.former_masterauth]
    if not replicas:
        return None
    command = ("CONFIG", "SET", "masterauth", access.passwords[0])
    actions = tuple(Action(node.name, command, "as a replica it logs in with the former password") for node in replicas)
    return Act("S35", "password", "the new password is not used everywhere yet", actions)


def loading(picture: Picture) -> Decision | None:
    """S16: a node that loads its data is present, not failed."""
    nodes = [node for node in picture.observation.nodes if node.kind == "loading"]
    if not nodes:
        return None
    listed = ", ".join(f"{node.name} (about {node.loading_eta} s left)" for node in nodes)
    limit = picture.desired.load_timeout
    text = f"Still loading after {limit:.0f} s: {listed}. Look at the server's log, or allow more with load_timeout."
    return Wait("S16", "loading", f"loading its data set: {listed}", limit, text, own_time=True)


def absent(picture: Picture) -> Decision | None:
    """Fewer nodes than wanted, or some that do not answer: their return is waited for, a pod may be on its way."""
    silent = [node for node in picture.observation.nodes if node.kind == "absent"]
    missing = picture.missing
    if not silent and missing <= 0:
        return None
    wanted = f"{picture.desired.masters} masters with {picture.desired.replicas} replicas each need {picture.desired.count} nodes"
    parts = [f"{node.name}: {node.problem}" for node in silent]
    if missing > 0:
        parts.append(f"{wanted}, {picture.desired.count - missing} are there")
    state = "S1" if not picture.owned else "S17"
    return Wait(state, "absent", "; ".join(parts), FOREVER, "")
