# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Second questions, to the few nodes that need them; a healthy cluster is never asked any (private: may change without notice)."""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Iterator, Mapping, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._members.credentials import Access
from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.access import DEFAULT_USER, user_of
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Desired, Node, Observation
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._redis.resp import Command, ConnectionLost, Reply

MASTERAUTH: tuple[Command, ...] = (("CONFIG", "GET", "masteruser"), ("CONFIG", "GET", "masterauth"))
"""Asked only of a replica whose link is down (S7) and while a password changes (S35), and only compared: the value goes nowhere."""


def questions(nodes: Sequence[Node], access: Access) -> dict[str, list[Command]]:
    """By node name: keys in open slots, keys in slots that nobody owns, and what a replica that is cut off logs in with."""
    stray = _stray_slots(nodes)
    opened = _open_slots(nodes)
    asked = {node.name: [*_open(node, opened), *_stray(node, stray), *_login(node, access)] for node in nodes if node.live}
    return {name: commands for name, commands in asked.items() if commands}


def answered(nodes: Sequence[Node], answers: Mapping[str, Sequence[Reply] | ConnectionLost], access: Access) -> list[Node]:
    """The nodes with what they answered; a question that got no answer leaves its field as it was."""
    stray = _stray_slots(nodes)
    opened = _open_slots(nodes)
    result = []
    for node in nodes:
        replies = answers.get(node.name)
        if replies is None or isinstance(replies, ConnectionLost):
            result.append(node)
            continue
        rest = iter(replies)
        open_keys = _counts(_to_count(node, opened), _open(node, opened), rest)
        stray_keys = _counts(slots.numbers(stray.get(node.name, 0)), _stray(node, stray), rest)
        learned: dict[str, t.Any] = {}
        if open_keys is not None:
            learned["open_keys"] = open_keys
        if stray_keys is not None:
            learned["stray_keys"] = {slot: count for slot, count in stray_keys.items() if count}
        if _login(node, access):
            rank = masterauth(next(rest), next(rest), access)
            learned |= {"auth_agrees": None if rank is None else rank >= 0, "former_masterauth": bool(rank and rank > 0)}
        result.append(dataclasses.replace(node, **learned))
    return result


def masterauth(user: Reply, password: Reply, access: Access) -> int | None:
    """Which of our passwords the node logs in to its master with, -1 for another one; None when it does not say, or logs in as another user than we do."""
    values = [reply[1] if isinstance(reply, list) and len(reply) == 2 else None for reply in (user, password)]
    if None in values or (values[0] or DEFAULT_USER) != user_of(access):
        return None
    known = access.passwords or ("",)
    return known.index(str(values[1])) if values[1] in known else -1


def _stray_slots(nodes: Sequence[Node]) -> dict[str, int]:
    """S11, S23: slots without an owner on every node that holds keys, and all slots on a master that holds keys and owns none."""
    gap = Picture(Observation(tuple(nodes)), Desired()).gap
    return {node.name: gap if node.slots or node.master or node.me.open_slots else slots.ALL for node in nodes if node.live and node.keys}


def _open_slots(nodes: Sequence[Node]) -> list[int]:
    """A slot that is open anywhere: its keys can be on any master, whatever that master says of the slot."""
    return sorted({slot for node in nodes if node.live for slot in node.me.open_slots})


def _to_count(node: Node, opened: Sequence[int]) -> Sequence[int]:
    return list(node.me.open_slots) if node.master else opened


def _open(node: Node, opened: Sequence[int]) -> list[Command]:
    return [("CLUSTER", "COUNTKEYSINSLOT", str(slot)) for slot in _to_count(node, opened)]


def _stray(node: Node, stray: Mapping[str, int]) -> list[Command]:
    return [("CLUSTER", "COUNTKEYSINSLOT", str(slot)) for slot in slots.numbers(stray.get(node.name, 0))]


def _login(node: Node, access: Access) -> list[Command]:
    return [] if node.link_up and len(access.passwords) < 2 else list(MASTERAUTH)


def _counts(chosen: Sequence[int] | Mapping[int, object], asked: Sequence[Command], replies: Iterator[Reply]) -> dict[int, int] | None:
    """Keys in each slot; None when nothing was asked, a slot whose count was refused is left out."""
    pairs = [(slot, next(replies)) for slot, _question in zip(chosen, asked, strict=True)]
    return {slot: count for slot, count in pairs if isinstance(count, int)} if pairs else None
