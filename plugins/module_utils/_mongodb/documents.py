# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The server's documents as our data: pure (private: may change without notice)."""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Mapping

from ansible_collections.progressive.platform.plugins.module_utils._mongodb.model import Config, Entry, Node, Peer

Document: t.TypeAlias = "Mapping[str, t.Any]"

NOT_INITIALISED, NOT_A_MEMBER = 94, 93
"""What replSetGetStatus answers a member that has no configuration, and one that its configuration has no entry for."""


def config_of(document: Document) -> Config:
    settings = document.get("settings", {})
    return Config(
        name=str(document["_id"]),
        version=int(document["version"]),
        term=int(document.get("term", -1)),
        entries=tuple(map(entry_of, document["members"])),
        set_id=str(settings.get("replicaSetId", "")),
        settings={name: value for name, value in settings.items() if name != "replicaSetId"},
        raw=document,
    )


def entry_of(document: Document) -> Entry:
    """``newlyAdded`` is the server's word for a member that may not vote before it has the data; it counts as one without a vote only to the server."""
    return Entry(
        id=int(document["_id"]),
        host=str(document["host"]),
        votes=int(document.get("votes", 1)),
        priority=_plain(document.get("priority", 1)),
        hidden=bool(document.get("hidden", False)),
        arbiter=bool(document.get("arbiterOnly", False)),
        tags=dict(document.get("tags", {})),
        raw=document,
    )


def with_hello(node: Node, hello: Document) -> Node:
    return dataclasses.replace(node, primary=str(hello.get("primary", "")))


def with_status(node: Node, status: Document) -> Node:
    """replSetGetStatus, or the refusal that stands for a state (by its code)."""
    if not status.get("ok"):
        removed = status.get("code") == NOT_A_MEMBER
        return dataclasses.replace(node, state="REMOVED" if removed else "STARTUP")
    members = status.get("members", [])
    mine = next((member for member in members if member.get("self")), None)
    peers = tuple(
        Peer(str(member["name"]), str(member["stateStr"]), bool(member.get("health", 0)), str(member.get("lastHeartbeatMessage") or ""))
        for member in members
    )
    return dataclasses.replace(
        node,
        state=str(mine["stateStr"]) if mine else "UNKNOWN",
        entry=int(mine["_id"]) if mine else -1,
        term=int(status.get("term", 0)),
        optime=_optime(mine.get("optime")) if mine else (0, 0, 0),
        peers=peers,
    )


def users_of(reply: Document) -> dict[str, frozenset[str]]:
    return {
        f"{user['db']}.{user['user']}": frozenset(f"{role['role']}@{role['db']}" for role in user.get("roles", []))
        for user in reply["users"]
    }


def _optime(value: t.Any) -> tuple[int, int, int]:
    """(term, seconds, increment) of a BSON optime."""
    if not isinstance(value, Mapping):
        return (0, 0, 0)
    stamp = value.get("ts")
    return (int(value.get("t", 0)), int(getattr(stamp, "time", 0)), int(getattr(stamp, "inc", 0)))


def _plain(number: t.Any) -> float:
    """Whole numbers are shown without a point, as they are written."""
    return int(number) if float(number).is_integer() else float(number)
