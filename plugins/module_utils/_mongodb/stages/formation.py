# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From members that nobody has used to a set with its first user (private: may change without notice)."""

from __future__ import annotations

from ansible_collections.progressive.platform.plugins.module_utils._members.model import FOREVER, Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.model import Act, Action, Decision, Entry, Node, User
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.stages.common import listed


def strangers(picture: Picture) -> Decision | None:
    """M10: a member without a configuration that has users was something before; an initial sync would drop it."""
    if picture.desired.admin is None:
        return None
    used = [node for node in picture.live if node.config is None and not node.fresh]
    if not used:
        return None
    names = ", ".join(node.name for node in used)
    return Refuse(
        "M10",
        f"{names} holds users and no replica-set configuration: it was used before, and joining would drop what it holds. Nothing was changed. "
        "Look into it started without --replSet; if its data may go, empty its volume.",
    )


def initiate(picture: Picture) -> Decision | None:
    """M1: only when every expected member is there, nobody has used any of them, and no set is remembered. The server itself refuses members with data."""
    if picture.formed:
        return None
    if picture.lost:
        return Refuse("M1", picture.lost)
    if picture.missing > 0 or any(not node.live for node in picture.kept):
        parts = [listed(node for node in picture.kept if not node.live)]
        if picture.missing > 0:
            parts.append(f"{picture.desired.members} members are wanted, {len(picture.kept)} are there")
        return Wait("M1", "gathering", "no set yet, and not all of its members: " + "; ".join(filter(None, parts)), FOREVER, "")
    entries = [entry_of(picture, index, node) for index, node in enumerate(picture.kept)]
    config = {"_id": picture.desired.name, "version": 1, "members": [entry.document() for entry in entries]}
    if picture.desired.settings:
        config["settings"] = dict(picture.desired.settings)
    why = f"all {len(entries)} members are fresh: they form set {picture.desired.name}"
    return Act("M1", "initiate", why, Action(picture.kept[0].name, {"replSetInitiate": config}, why))


def entry_of(picture: Picture, number: int, node: Node) -> Entry:
    wanted = picture.desired.of(node.target)
    return Entry(number, node.host, wanted.votes, wanted.priority, wanted.hidden, tags=wanted.tags)


def first_user(picture: Picture) -> Decision | None:
    """M21: while nobody can log in, the server lets a connection from its own host make the first user; a port-forward is one."""
    admin = picture.desired.admin
    if admin is None or picture.primary is None or picture.primary.login != "open" or _there(picture.primary, admin):
        return None
    return create(picture.primary, admin, "nobody can log in yet: the first user, through the localhost exception")


def _there(node: Node, user: User) -> bool:
    return node.users is not None and user.key in node.users


def create(primary: Node, user: User, why: str) -> Act:
    command = {"createUser": user.name, "pwd": user.password, "roles": roles(user)}
    return Act("M21", "user", why, Action(primary.name, command, f"{why}: {user.key}", user.database))


def roles(user: User) -> list[dict[str, str]]:
    pairs = [role.rpartition("@") for role in sorted(user.roles)]
    return [{"role": role, "db": database} for role, _at, database in pairs]
