# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the members of every cluster have in common: where they ought to be, what is remembered of them, and two kinds of decision
(private: may change without notice)."""

from __future__ import annotations

import hashlib
import typing as t
from collections.abc import Mapping
from dataclasses import dataclass, field

FOREVER = float("inf")
"""Limit of a Wait that only the task's own timeout ends."""


class State(t.NamedTuple):
    """A state that members can be found in, in words (Markdown, one line each): the finding's name, how it looks, what is done, and when that is refused."""

    name: str
    looks: str
    action: str
    refused: str


@dataclass(frozen=True)
class Target:
    """Where a member ought to be. ``host`` is an IP that the others reach it by; node and zone are failure domains, empty when unknown.

    ``problem`` says why it cannot be connected to; ``crashed`` holds the last words of a server that ends again and again. ``server_name`` is what its
    certificate must be for, where it is not the IP. ``update`` is empty for a pod that is as its controller wants it, "outdated" for one of an older
    template, and "unseen" while the controller has not looked at its newest template yet; ``ready`` is what the pod's readiness probe says.
    """

    name: str
    host: str
    port: int
    ordinal: int
    uid: str = ""
    node: str = ""
    zone: str = ""
    volumes: tuple[str, ...] = ()
    problem: str = ""
    crashed: str = ""
    server_name: str = ""
    update: str = ""
    ready: bool = True

    @property
    def outdated(self) -> bool:
        return self.update == "outdated"


@dataclass(frozen=True)
class Marker:
    """What is remembered of a cluster outside it. ``settings`` are the values of options that a formation changed and has not yet restored."""

    state: str
    ids: Mapping[str, str]
    uids: Mapping[str, str] = field(default_factory=dict)
    volumes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Names this very cluster: node IDs and, where the data dies with the pod, pod UIDs."""
        parts = sorted(self.ids.values()) + sorted(self.uids.values())
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Wait:
    """Something that the servers settle by themselves. After ``limit`` seconds of the same ``key`` it becomes ``refusal``.

    ``own_time`` waits (loading, copying a data set) are not part of the task's timeout.
    """

    state: str
    key: str
    reason: str
    limit: float
    refusal: str
    own_time: bool = False


@dataclass(frozen=True)
class Refuse:
    """A state that must not be touched, with the names and the next command a person needs."""

    state: str
    reason: str
