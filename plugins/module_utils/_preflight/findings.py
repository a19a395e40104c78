# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What preflight found, in one form: the variable, what was seen, what is allowed, what to do (private: may change without notice)."""

from __future__ import annotations

import difflib
import re
import typing as t
from collections.abc import Iterable
from dataclasses import asdict, dataclass

Path = tuple[str, ...]

# Nothing under such a name is ever shown, whatever is wrong with it.
_SECRET = re.compile(
    r"(?:passw(?:or)?d|passphrase|token|credentials?|private_?key|api_?key|(?:baseline|environment)_secrets)$", re.IGNORECASE
)
_LONGEST = 80  # characters of a value that are shown


@dataclass(frozen=True)
class Finding:
    """``warning``: the run may go on. Everything is text for a person; ``seen`` never holds a secret."""

    variable: str
    seen: str
    allowed: str
    remedy: str
    warning: bool = False

    def __str__(self) -> str:
        return f"{self.variable}: {self.seen}; allowed: {self.allowed}. {self.remedy}"

    def as_dict(self) -> dict[str, t.Any]:
        return asdict(self)


def name(path: Iterable[str]) -> str:
    """``agents_services.npa.scaling.max``; a key with a dot stands in brackets, as in Jinja."""
    first, *rest = path
    return first + "".join(f"['{piece}']" if "." in piece or "/" in piece else f".{piece}" for piece in rest)


def seen(path: Path, value: t.Any) -> str:
    """The value as YAML people would write it; hidden under a name that smells of a secret."""
    if value is not None and any(_SECRET.search(piece) for piece in path):
        return "a value that is not shown"
    text = "nothing" if value is None else "true" if value is True else "false" if value is False else str(value)
    return (text if len(text) <= _LONGEST else text[:_LONGEST] + "...") or "an empty text"


def wrong(path: Path, value: t.Any, allowed: str, remedy: str = "", warning: bool = False) -> Finding:
    return Finding(name(path), seen(path, value), allowed, remedy or f"Correct {name(path)} in the inventory.", warning)


def suggestion(unknown: str, known: Iterable[str], closeness: float = 0.6) -> str:
    """The known name that was probably meant, or nothing."""
    close = difflib.get_close_matches(unknown, list(known), n=1, cutoff=closeness)
    return close[0] if close else ""
