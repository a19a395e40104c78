# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The variable tables of the roles' READMEs, made from meta/argument_specs.yml; ``make docs`` writes them, a test compares them."""

from __future__ import annotations

import json
import re
import typing as t
from pathlib import Path

import yaml

ROLES = Path(__file__).resolve().parents[3] / "roles"
BEGIN, END = "<!-- variables: made by `make docs` from meta/argument_specs.yml -->", "<!-- end of variables -->"
LONGEST = 100  # characters of a default in a table; longer ones are in defaults/main.yml
_MARKUP = re.compile(r"([A-Z])\(([^()]*(?:\([^()]*\))?[^()]*)\)")


def table(role: str) -> str:
    """The part of the README between the markers, markers included."""
    specs = yaml.safe_load((ROLES / role / "meta/argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    lines = [BEGIN, "", "| variable | type | default | meaning |", "| --- | --- | --- | --- |"]
    for entry in specs.values():
        for name, option in (entry.get("options") or {}).items():
            lines += _rows(name, option, 0)
    return "\n".join([*lines, "", END])


def _rows(name: str, option: dict[str, t.Any], depth: int) -> t.Iterator[str]:
    kind = option.get("type", "str")
    if kind == "list" and option.get("elements"):
        kind = f"list of {option['elements']}"
    choices = f" One of {', '.join(f'`{choice}`' for choice in option['choices'])}." if option.get("choices") else ""
    required = " Required." if option.get("required") else ""
    yield f"| {'&nbsp;&nbsp;' * depth}`{name}` | {kind} | {_default(option)} | {_text(option['description'])}{required}{choices} |"
    for inner, suboption in (option.get("options") or {}).items():
        yield from _rows(inner, suboption, depth + 1)


def _default(option: dict[str, t.Any]) -> str:
    if "default" not in option:
        return ""
    text = json.dumps(option["default"], ensure_ascii=False) if not isinstance(option["default"], str) else option["default"] or '""'
    text = text.replace("|", "\\|")
    return f"`{text}`" if len(text) <= LONGEST else "see `defaults/main.yml`"


def _text(description: str | list[str]) -> str:
    text = description if isinstance(description, str) else " ".join(description)

    def plain(match: re.Match[str]) -> str:
        kind, inner = match.groups()
        return f"`{inner.rpartition(':')[2] if kind == 'O' else inner.partition('#')[0] if kind in 'PM' else inner}`"

    return _MARKUP.sub(plain, text).replace("|", "\\|")


def rewritten(role: str) -> str:
    """The whole README as it ought to be."""
    text = (ROLES / role / "README.md").read_text(encoding="utf-8")
    before, _unused, rest = text.partition(BEGIN)
    _unused, _unused, after = rest.partition(END)
    return before + table(role) + after


def documented() -> list[str]:
    """Roles whose README has a table."""
    return sorted(path.parent.name for path in ROLES.glob("*/README.md") if BEGIN in path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    for name in documented():
        (ROLES / name / "README.md").write_text(rewritten(name), encoding="utf-8")
        print(f"roles/{name}/README.md")
