# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings that are wanted and can be changed while the server runs (private: may change without notice)."""

from __future__ import annotations

import re

from ansible_collections.progressive.platform.plugins.module_utils._members.model import Refuse
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Act, Action, Decision, Node
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture

FACTORS = {"": 1, "k": 1000, "kb": 1024, "m": 1000**2, "mb": 1024**2, "g": 1000**3, "gb": 1024**3}
AMOUNT = re.compile(r"(\d+)([kmg]?b?)")
FLAGS = frozenset({"notify-keyspace-events"})
"""Directives whose value is a set of letters, which the server gives back in an order of its own."""
CLASSED = frozenset({"client-output-buffer-limit"})
"""Directives with an entry for each class of clients; a file may name some of them, the server names all."""


def configured(picture: Picture) -> Decision | None:
    """The settings of ``config`` on every node. A pod that is to be replaced gets them with its restart.

    More memory is never given to a server whose container does not have it yet.
    """
    desired = picture.desired
    if not desired.config:
        return None
    wanted = [(node, name) for node in picture.live for name in desired.config if not _later(picture, node, name)]
    unknown = {name: node for node, name in wanted if name not in node.config}
    if unknown:
        listed = ", ".join(f"{name} ({node.name}, {node.engine} {node.version})" for name, node in sorted(unknown.items()))
        return Refuse(
            "S4", f"config names settings that these servers do not have: {listed}. Look them up with CONFIG GET '*', or leave them out."
        )
    actions = [
        Action(node.name, ("CONFIG", "SET", name, desired.config[name]), f"{name} is {node.config[name] or 'empty'}")
        for node, name in wanted
        if not same(name, desired.config[name], node.config[name])
    ]
    names = ", ".join(sorted({action.command[2] for action in actions}))
    return Act("S4", "config", f"running settings differ from the wanted ones: {names}", tuple(actions)) if actions else None


def _later(picture: Picture, node: Node, name: str) -> bool:
    return node.target.outdated and (picture.desired.roll or name == "maxmemory")


def same(name: str, wanted: str, seen: str) -> bool:
    """Whether the server's answer says what a configuration file says in other words: ``64mb`` is ``67108864``, a replica was once a slave."""
    if name in FLAGS:
        return set(wanted) == set(seen)
    if name in CLASSED:
        return classes(wanted).items() <= classes(seen).items()
    return words(wanted) == words(seen)


def words(text: str) -> list[str]:
    """The value's words in the server's own form."""
    return [_plain(word) for word in text.replace('"', " ").lower().split()]


def classes(text: str) -> dict[str, tuple[str, ...]]:
    """``normal 0 0 0 replica 1mb 1mb 60`` by class."""
    found = words(text)
    return {found[index]: tuple(found[index + 1 : index + 4]) for index in range(0, len(found), 4)}


def _plain(word: str) -> str:
    if word == "replica":
        return "slave"
    amount = AMOUNT.fullmatch(word)
    return str(int(amount[1]) * FACTORS[amount[2]]) if amount and amount[2] in FACTORS else word
