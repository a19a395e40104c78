# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Redis and Valkey: which server may take over the files of which (private: may change without notice).

A server refuses a data file of a newer format than its own, and there is no way to write an older one. Redis 7.0 writes RDB version 10; Redis 7.2 and
Valkey 7.2 to 8.1 write 11, Redis from 7.4 on and Valkey from 9 on write formats of their own.
"""

from __future__ import annotations

import re
import typing as t

NAMES = ("redis", "valkey")


class Release(t.NamedTuple):
    """An engine and as much of its version as is known: ``Release("valkey", (8, 0))``, ``Release("redis", (7,))``."""

    engine: str
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.engine.capitalize()} {'.'.join(map(str, self.version))}".strip()


def parse(text: str) -> Release | None:
    """``valkey 8.0.1`` or ``redis``; None for what is neither."""
    match = re.fullmatch(r"(redis|valkey)(?:[ -]v?(\d+(?:\.\d+)*))?", text.strip())
    return Release(match[1], tuple(int(part) for part in (match[2] or "").split(".") if part)) if match else None


def of_image(engine: str, image: str) -> Release | None:
    """Of ``mirror:5000/redis:7.2.11-alpine`` the version that its tag begins with."""
    tag = re.search(r"(?<!sha256):v?(\d+(?:\.\d+)*)[^/]*$", image)
    return parse(f"{engine} {tag[1]}" if tag else engine)


def refusal(old: Release, new: Release) -> str:
    """Why a node of ``old`` must not be followed by one of ``new`` on the same data; empty when it may, or when too little is known to say."""
    if old.engine == new.engine:
        known = min(len(old.version), len(new.version), 2)
        if new.version[:known] < old.version[:known]:
            return f"{new} may not be able to read what {old} has written: there is no way back to an older version on the same data"
        return ""
    if new.engine == "redis":
        return f"no Redis is made to read what {old} has written: the way back is a new cluster, filled from a backup or by the application"
    if old.version[:2] >= (7, 4):
        return f"{old} writes a data format that Valkey does not read (only Redis up to 7.2 can be followed by Valkey)"
    if new.version and new.version[:2] < (7, 2):
        return f"{new} is older than the formats of {old}"
    return ""
