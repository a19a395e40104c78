# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/redis_cluster.md says of every state what the planner does, and names the tests that construct it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._redis import stages
from ansible_collections.progressive.platform.plugins.module_utils._redis.states import STATES
from ansible_collections.progressive.platform.tests.unit.redis.states import DOCUMENT, marked, rewritten

PLANNER = sorted(Path(next(iter(stages.__path__))).glob("*.py"))


def decided() -> set[str]:
    """Every state code that occurs as a string in a stage."""
    found = set()
    for path in PLANNER:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value[:1] == "S" and node.value[1:].isdigit():
                found.add(node.value)
    return found


def test_there_are_thirty_five_states_and_the_planner_knows_no_other() -> None:
    assert list(STATES) == [f"S{number}" for number in range(1, 36)]
    assert decided() <= set(STATES)


@pytest.mark.parametrize("code", STATES)
def test_every_state_is_constructed_on_real_servers(code: str) -> None:
    assert any(path.startswith(("tests/redis/", "tests/cluster/")) for path, _name in marked().get(code, [])), f"no test is marked {code}"


def test_no_mark_names_an_unknown_state() -> None:
    assert set(marked()) <= set(STATES)


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == rewritten(), "run make docs"
