# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of docs/redis_cluster.md, made from the planner's states and the tests' marks; ``make docs`` writes it, a test compares it."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._redis.states import STATES

ROOT = Path(__file__).resolve().parents[3]
DOCUMENT = ROOT / "docs/redis_cluster.md"
BEGIN, END = "<!-- states: made by `make docs` from the planner and the tests' marks -->", "<!-- end of states -->"
NAMED = re.compile(r"test_s\d+_(and_s\d+_)*")
ROOMS = ("tests/redis", "tests/unit/redis", "tests/unit/members", "tests/cluster")


@functools.cache
def marked() -> dict[str, list[tuple[str, str]]]:
    """State code to the tests that construct it, as (file, function): by ``@pytest.mark.state``, or by a name that begins with test_s12_."""
    found: dict[str, list[tuple[str, str]]] = {}
    for room in ROOMS:
        for path in sorted((ROOT / room).glob("test_*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef):
                    for code in dict.fromkeys(_codes(node)):
                        found.setdefault(code, []).append((str(path.relative_to(ROOT)), node.name))
    return found


def _codes(function: ast.FunctionDef) -> Iterator[str]:
    named = NAMED.match(function.name)
    if named:
        yield from (f"S{number}" for number in re.findall(r"\d+", named[0]))
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.state":
            yield from (ast.literal_eval(argument) for argument in decorator.args)


def table() -> str:
    """The part of the document between the markers, markers included."""
    tests = marked()
    lines = [BEGIN, "", "| State | How it looks | What happens | Refused when | Tests |", "| --- | --- | --- | --- | --- |"]
    for code, state in STATES.items():
        by_file: dict[str, list[str]] = {}
        for path, name in tests.get(code, []):
            by_file.setdefault(path, []).append(name)
        shown = "; ".join(f"`{path}`: {', '.join(f'`{name}`' for name in names)}" for path, names in by_file.items())
        lines.append(f"| {code} {state.name} | {state.looks} | {state.action} | {state.refused} | {shown} |")
    return "\n".join([*lines, "", END])


def rewritten() -> str:
    """The whole document as it ought to be."""
    before, _unused, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    return before + table() + rest.partition(END)[2]


if __name__ == "__main__":
    DOCUMENT.write_text(rewritten(), encoding="utf-8")
    print(DOCUMENT.relative_to(ROOT))
