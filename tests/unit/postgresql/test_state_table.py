# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/postgresql.md says of every state what the planner does, and names the tests that construct it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._postgresql import plan
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.states import STATES
from ansible_collections.progressive.platform.tests.unit.postgresql.states import TABLE, marked


def test_the_planner_knows_these_states_and_no_other() -> None:
    constants = [
        node.value for node in ast.walk(ast.parse(Path(plan.__file__).read_text(encoding="utf-8"))) if isinstance(node, ast.Constant)
    ]
    decided = {value for value in constants if isinstance(value, str) and value[:1] == "P" and value[1:].isdigit()}
    assert decided == set(STATES) and list(STATES) == [f"P{number}" for number in range(1, len(STATES) + 1)]


@pytest.mark.parametrize("code", STATES)
def test_every_state_is_constructed_by_a_test(code: str) -> None:
    assert marked().get(code), f"no test is marked {code}"


def test_no_mark_names_an_unknown_state() -> None:
    assert set(marked()) <= set(STATES)


def test_the_document_is_up_to_date() -> None:
    assert TABLE.document.read_text(encoding="utf-8") == TABLE.rewritten(), "run make docs"
