# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A table of states in a document, made from the planner's states and the tests' marks; ``make docs`` writes it, a test compares it."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._members.model import State

ROOT = Path(__file__).resolve().parents[2]
BEGIN, END = "<!-- states: made by `make docs` from the planner and the tests' marks -->", "<!-- end of states -->"


@dataclasses.dataclass(frozen=True)
class Table:
    """``letter`` begins the codes of ``states``, ``rooms`` are the folders of tests that may construct them."""

    document: Path
    letter: str
    states: Mapping[str, State]
    rooms: tuple[str, ...]

    def marked(self) -> dict[str, list[tuple[str, str]]]:
        """State code to the tests that construct it, as (file, function): by ``@pytest.mark.state``, or by a name that begins with test_s12_."""
        found: dict[str, list[tuple[str, str]]] = {}
        for room in self.rooms:
            for path in sorted((ROOT / room).glob("test_*.py")):
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                    if isinstance(node, ast.FunctionDef):
                        for code in dict.fromkeys(self._codes(node)):
                            found.setdefault(code, []).append((str(path.relative_to(ROOT)), node.name))
        return found

    def _codes(self, function: ast.FunctionDef) -> Iterator[str]:
        small = self.letter.lower()
        named = re.match(rf"test_{small}\d+_(and_{small}\d+_)*", function.name)
        if named:
            yield from (f"{self.letter}{number}" for number in re.findall(r"\d+", named[0]))
        for decorator in function.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.state":
                codes = [ast.literal_eval(argument) for argument in decorator.args]
                yield from (code for code in codes if code.startswith(self.letter))

    def text(self) -> str:
        """The part of the document between the markers, markers included."""
        tests = self.marked()
        lines = [BEGIN, "", "| State | How it looks | What happens | Refused when | Tests |", "| --- | --- | --- | --- | --- |"]
        for code, state in self.states.items():
            by_file: dict[str, list[str]] = {}
            for path, name in tests.get(code, []):
                by_file.setdefault(path, []).append(name)
            shown = "; ".join(f"`{path}`: {', '.join(f'`{name}`' for name in names)}" for path, names in by_file.items())
            lines.append(f"| {code} {state.name} | {state.looks} | {state.action} | {state.refused} | {shown} |")
        return "\n".join([*lines, "", END])

    def rewritten(self) -> str:
        """The whole document as it ought to be."""
        before, _unused, rest = self.document.read_text(encoding="utf-8").partition(BEGIN)
        return before + self.text() + rest.partition(END)[2]

    def write(self) -> None:
        self.document.write_text(self.rewritten(), encoding="utf-8")
        print(self.document.relative_to(ROOT))
