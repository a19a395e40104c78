# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What several stages need (private: may change without notice)."""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Iterable

from ansible_collections.progressive.platform.plugins.module_utils._mongodb.model import Act, Action, Config, Entry, Node

RECONFIG_WITHIN = 10_000
"""Milliseconds that the server may wait for the former configuration to be committed before it refuses a new one."""
STEP_DOWN = 60
"""Seconds for which a primary that has handed over does not stand for election."""
CATCH_UP_WITHIN = 10
"""Seconds that it waits for a secondary that has everything."""


def listed(nodes: Iterable[Node]) -> str:
    return "; ".join(f"{node.name}: {node.problem}" for node in nodes)


def document(config: Config, entries: Iterable[Entry], settings: t.Mapping[str, t.Any] | None = None) -> dict[str, t.Any]:
    """The configuration that follows this one. The server sets the term, and refuses a version that somebody else has taken meanwhile."""
    kept = {name: value for name, value in config.raw.items() if name not in {"term", "members", "version"}}
    new = {**kept, "_id": config.name, "version": config.version + 1, "members": [entry.document() for entry in entries]}
    if settings:
        new["settings"] = {**dict(config.raw.get("settings", {})), **settings}
    return new


def reconfigure(
    state: str, kind: str, primary: Node, config: Config, entries: Iterable[Entry], why: str, settings: t.Mapping[str, t.Any] | None = None
) -> Act:
    command = {"replSetReconfig": document(config, entries, settings), "maxTimeMS": RECONFIG_WITHIN}
    return Act(state, kind, why, Action(primary.name, command, why))


def replaced(config: Config, entry_id: int, **changes: t.Any) -> list[Entry]:
    return [dataclasses.replace(entry, **changes) if entry.id == entry_id else entry for entry in config.entries]


def step_down(state: str, kind: str, primary: Node, why: str) -> Act:
    """Never with force: the server refuses while no electable secondary has everything, and then nothing has happened."""
    command = {"replSetStepDown": STEP_DOWN, "secondaryCatchUpPeriodSecs": CATCH_UP_WITHIN}
    return Act(state, kind, why, Action(primary.name, command, why))
