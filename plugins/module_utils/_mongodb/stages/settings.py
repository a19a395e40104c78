# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a running set is told: priorities, settings, write concern, users (private: may change without notice)."""

from __future__ import annotations

import dataclasses

from ansible_collections.progressive.platform.plugins.module_utils._mongodb.model import Act, Action, Decision, Entry
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.stages.common import reconfigure
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.stages.formation import create, roles


def configured(picture: Picture) -> Decision | None:
    """M16: everything but votes and names in one reconfiguration; it moves no majority."""
    primary, config = picture.primary, picture.config
    if primary is None or config is None:
        return None
    changes: list[str] = []
    entries: list[Entry] = []
    for entry in config.entries:
        node = picture.nodes_of.get(entry.id)
        new = entry
        if node is not None and not entry.arbiter:
            wanted = picture.desired.of(node.target)
            new = dataclasses.replace(entry, priority=wanted.priority if entry.votes else 0, hidden=wanted.hidden, tags=wanted.tags)
            changes += [
                f"{node.name} {name} {getattr(entry, name)!r} -> {getattr(new, name)!r}"
                for name in ("priority", "hidden", "tags")
                if getattr(entry, name) != getattr(new, name)
            ]
        entries.append(new)
    settings = {name: value for name, value in picture.desired.settings.items() if config.settings.get(name) != value}
    changes += [f"settings.{name} {config.settings.get(name)!r} -> {value!r}" for name, value in settings.items()]
    if not changes:
        return None
    return reconfigure("M16", "configure", primary, config, entries, "; ".join(changes), settings)


def defaults(picture: Picture) -> Decision | None:
    """M22: said outright, because what the server assumes depends on its release and on arbiters."""
    primary, wanted = picture.primary, picture.desired.write_concern
    if primary is None or not wanted or (primary.write_concern or {}).get("w") == wanted:
        return None
    why = f"writes are acknowledged by w={wanted} unless a client says otherwise"
    command = {"setDefaultRWConcern": 1, "defaultWriteConcern": {"w": wanted}, "writeConcern": {"w": "majority"}}
    return Act("M22", "concern", why, Action(primary.name, command, why))


def users(picture: Picture) -> Decision | None:
    """M21: what is missing is made, roles that differ are set; a password is never changed here."""
    primary = picture.primary
    if primary is None or primary.users is None:
        return None
    for user in picture.desired.users:
        there = primary.users.get(user.key)
        if there is None:
            return create(primary, user, "the user is missing")
        if there != user.roles:
            why = f"{user.key} has the roles {', '.join(sorted(there)) or 'none'}"
            return Act("M21", "roles", why, Action(primary.name, {"updateUser": user.name, "roles": roles(user)}, why, user.database))
    return None
