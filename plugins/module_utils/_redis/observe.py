# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks every node what it is and what it believes, in one round trip, and makes an Observation of it (private: may change without notice).

Only readers are sent: a second run on a healthy cluster consists of this alone (R7).
"""

from __future__ import annotations

import dataclasses
import re
import typing as t
from collections.abc import Mapping, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._members.model import Target
from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.access import DEFAULT_USER, Login
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Entry, Node, Persistence
from ansible_collections.progressive.platform.plugins.module_utils._redis.resp import Command, ConnectionLost, Reply, ReplyError

READERS: tuple[Command, ...] = (
    ("INFO",),
    ("CLUSTER", "MYID"),
    ("CLUSTER", "INFO"),
    ("CLUSTER", "NODES"),
    ("FUNCTION", "LIST"),
    ("CONFIG", "GET", "cluster-node-timeout"),
    ("CONFIG", "GET", "repl-diskless-sync-delay"),
    ("PING",),
    ("CONFIG", "GET", "min-replicas-to-write"),
)
"""PING is answered MISCONF, with the reason, by a server that takes no writes because it cannot save them (S33)."""

DATABASE = re.compile(r"keys=(\d+)")


def parse_info(text: str) -> dict[str, str]:
    """``key:value`` lines of INFO and CLUSTER INFO; headings and empty lines are skipped."""
    pairs = (line.partition(":") for line in text.splitlines() if ":" in line and not line.startswith("#"))
    return {key: value.strip() for key, _colon, value in pairs}


def parse_nodes(text: str) -> dict[str, Entry]:
    """CLUSTER NODES by ID; IDs still in handshake are random names and are left out, ``myself`` stays in the flags.

    A line is ``id ip:port@cport[,hostname[,aux=value]] flags master ping pong epoch link [slot ...]``; an open slot reads ``[7->-id]`` (migrating) or
    ``[7-<-id]`` (importing).
    """
    entries = {}
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) < 8:
            continue
        flags = frozenset(fields[2].split(","))
        if "handshake" in flags:
            continue
        host, port, bus_port = parse_address(fields[1])
        owned = []
        open_slots = {}
        for item in fields[8:]:
            if item.startswith("["):
                number, arrow, other = item[1:-1].replace("->-", " migrating ").replace("-<-", " importing ").split(" ")
                open_slots[int(number)] = (arrow, other)
            elif item:
                first, _dash, last = item.partition("-")
                owned.append((int(first), int(last or first)))
        entries[fields[0]] = Entry(
            id=fields[0],
            host=host,
            port=port,
            bus_port=bus_port,
            flags=flags,
            master="" if fields[3] == "-" else fields[3],
            epoch=int(fields[6]),
            connected=fields[7] == "connected",
            slots=slots.mask(owned),
            open_slots=open_slots,
        )
    return entries


def parse_address(text: str) -> tuple[str, int, int]:
    """(host, port, bus port) of ``ip:port@cport,hostname``; IPv6 comes with or without brackets, an unknown host is empty."""
    address, _comma, _names = text.partition(",")
    endpoint, _at, bus = address.partition("@")
    host, _colon, port = endpoint.rpartition(":")
    number = int(port or 0)
    return host.strip("[]"), number, int(bus) if bus else number + 10000


def node_of(target: Target, replies: Sequence[Reply] | ConnectionLost) -> Node:
    """What the replies to READERS say of a target; a node that did not answer, is loading or refuses is a Node with a problem."""
    if isinstance(replies, ConnectionLost):
        return Node(target, problem=str(replies), kind="absent")
    info_text = replies[0]
    if isinstance(info_text, ReplyError):
        return _refused(target, READERS[0], info_text)
    info = parse_info(str(info_text))
    node = _from_info(target, info)
    if info.get("loading", "0") != "0" or info.get("async_loading", "0") != "0":
        return dataclasses.replace(
            node, problem="it is loading its data set", kind="loading", loading_eta=_int(info.get("loading_eta_seconds"))
        )
    if info.get("cluster_enabled") != "1":
        return dataclasses.replace(node, problem="cluster-enabled is not yes in its configuration", kind="foreign")
    for command, reply in zip(READERS[1:4], replies[1:4], strict=True):
        if isinstance(reply, ReplyError):
            refused = _refused(target, command, reply)
            return dataclasses.replace(node, problem=refused.problem, kind=refused.kind)
    cluster = parse_info(str(replies[2]))
    return dataclasses.replace(
        node,
        id=str(replies[1]),
        cluster_ok=cluster.get("cluster_state") == "ok",
        current_epoch=_int(cluster.get("cluster_current_epoch")),
        entries=parse_nodes(str(replies[3])),
        denied=tuple(
            dict.fromkeys(
                _name(command)
                for command, reply in zip(READERS, replies, strict=False)
                if isinstance(reply, ReplyError) and reply.code == "NOPERM"
            )
        ),
        functions=len(replies[4]) if isinstance(replies[4], list) else 0,
        node_timeout_ms=_setting(replies[5], 0),
        sync_delay_s=_setting(replies[6], -1),
        min_replicas=_setting(replies[8], 0) if len(replies) > 8 else 0,
        config=settings(replies[len(READERS) :]),
        persistence=_persistence(info, replies[7] if len(replies) > 7 else None),
    )


def explained(node: Node, login: Login | None) -> Node:
    """The node with what its login says: who was refused a command, and whether only a former password opened it (S35)."""
    if login is None:
        return node
    if node.kind == "auth":
        user = login.user or DEFAULT_USER
        return dataclasses.replace(node, problem=node.problem.replace("the user", f"user {user!r}"), hint=node.hint.replace("<user>", user))
    return dataclasses.replace(node, former_login=login.rank > 0, certificate_ends=login.certificate_ends) if node.live else node


def _refused(target: Target, command: Command, reply: ReplyError) -> Node:
    if reply.code == "NOPERM":
        name = _name(command)
        return Node(
            target, problem=f"it does not permit the user {name} (NOPERM)", hint=f"Permit it there: ACL SETUSER <user> +{name}", kind="auth"
        )
    kinds = {"LOADING": "loading", "NOAUTH": "auth", "WRONGPASS": "auth"}
    return Node(target, problem=f"{' '.join(command)} is answered {reply!s}", kind=kinds.get(reply.code, "foreign"))


def settings(replies: Sequence[Reply]) -> dict[str, str]:
    """Name and value of every setting that the server knows, from the answers to CONFIG GET."""
    return {str(reply[0]): str(reply[1]) for reply in replies if isinstance(reply, list) and len(reply) == 2}


def _name(command: Command) -> str:
    return "|".join(command[:2]).lower()


def _from_info(target: Target, info: Mapping[str, str]) -> Node:
    keys = sum(int(match.group(1)) for name, value in info.items() if re.fullmatch(r"db\d+", name) and (match := DATABASE.match(value)))
    return Node(
        target,
        engine="valkey" if "valkey_version" in info else "redis",
        version=info.get("valkey_version") or info.get("redis_version", ""),
        keys=keys,
        link_up=info.get("role") != "slave" or info.get("master_link_status") == "up",
        syncing=info.get("master_sync_in_progress", "0") != "0",
        named=frozenset(place for place, _line in _copiers(info) if place[1]),
        unheard=_unheard(info),
        offset=_int(info.get("slave_repl_offset") if info.get("role") == "slave" else info.get("master_repl_offset")),
        used_memory=_int(info.get("used_memory")),
        maxmemory=_int(info.get("maxmemory")),
        dataset=_int(info.get("used_memory_dataset")),
        uptime_s=_int(info.get("uptime_in_seconds")),
    )


def _unheard(info: Mapping[str, str]) -> dict[tuple[str, int], int]:
    """Replicas that are online without an acknowledgement, which is due within a second, and their silence in seconds; ``slaveN`` of INFO replication.

    Before a master has sent a byte, 0 is what a replica that is well acknowledges too; one without a port never does.
    """
    sent = _int(info.get("master_repl_offset")) > 0
    silent = [(place, line) for place, line in _copiers(info) if line.get("state") == "online" and line.get("offset") == "0"]
    return {place: _int(line.get("lag")) for place, line in silent if sent or not place[1]}


def _copiers(info: Mapping[str, str]) -> list[tuple[tuple[str, int], dict[str, str]]]:
    lines = [dict(item.partition("=")[::2] for item in value.split(",")) for key, value in info.items() if re.fullmatch(r"slave\d+", key)]
    return [((line.get("ip", ""), _int(line.get("port"))), line) for line in lines]


def _persistence(info: Mapping[str, str], ping: Reply) -> Persistence:
    return Persistence(
        aof=info.get("aof_enabled", "0") != "0",
        aof_ok=info.get("aof_last_write_status", "ok") == "ok",
        rdb_ok=info.get("rdb_last_bgsave_status", "ok") == "ok",
        saved_at=_int(info.get("rdb_last_save_time")),
        changes=_int(info.get("rdb_changes_since_last_save")),
        refusal=str(ping) if isinstance(ping, ReplyError) and ping.code == "MISCONF" else "",
    )


def _setting(reply: t.Any, default: int) -> int:
    return _int(reply[1], default) if isinstance(reply, list) and len(reply) == 2 else default


def _int(value: t.Any, default: int = 0) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return default
