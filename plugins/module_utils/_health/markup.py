# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTML and SVG from Python values: every text is escaped unless it is markup already (private: may change without notice)."""

from __future__ import annotations

import html
import typing as t


class Html(str):
    """Text that is markup; everything else is escaped when it is put into an element."""

    __slots__ = ()


Child: t.TypeAlias = "str | float | t.Sequence[Child] | None"

_VOID = frozenset(("meta", "br", "hr"))


def el(tag: str, *children: Child, **attributes: t.Any) -> Html:
    """An element. Attribute names lose a trailing ``_`` and turn ``_`` into ``-``; None and False are left out, True is a bare name."""
    pieces = [tag]
    for key, value in attributes.items():
        name = key.rstrip("_").replace("_", "-")
        if value is True:
            pieces.append(name)
        elif value is not None and value is not False:
            pieces.append(f'{name}="{html.escape(_number(value))}"')
    opening = " ".join(pieces)
    return Html(f"<{opening}>" if tag in _VOID else f"<{opening}>{join(children)}</{tag}>")


def join(children: Child) -> Html:
    """Children one after the other; lists and tuples are flattened, None is nothing."""
    if children is None:
        return Html("")
    if isinstance(children, Html):
        return children
    if isinstance(children, (list, tuple)):
        return Html("".join(join(child) for child in children))
    return Html(html.escape(_number(children), quote=False))


def _number(value: t.Any) -> str:
    """Coordinates without a tail of digits."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
