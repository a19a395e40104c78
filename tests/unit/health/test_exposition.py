# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._health.exposition import parse

VALID = """\
# HELP app_requests_total API requests answered.
# TYPE app_requests_total counter
app_requests_total{component="app",path="/a\\"b\\\\"} 12.0
app_requests_total{component="x",} 1 1700000000000

# a comment of its own
# TYPE took histogram
took_bucket{le="0.1"} 3
took_bucket{le="+Inf"} 4 # {trace_id="a"} 0.05 1.7
took_count 4
took_sum 1.5e-1
up NaN
temperature -Inf
# EOF
"""


def test_a_valid_text_has_no_problems():
    found = parse(VALID)
    assert found.problems == []
    assert found.samples["app_requests_total"] == [12.0, 1.0]
    assert found.samples["temperature"] == [float("-inf")]


@pytest.mark.parametrize(
    ("name", "there"), [("took", True), ("app_requests", True), ("app_requests_total", True), ("app", False), ("", False)]
)
def test_a_family_is_found_by_its_name(name, there):
    assert parse(VALID).has(name) is there


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no sample at all"),
        ("<html>not found</html>\n", "line 1: no sample: '<html>not found</html>'"),
        ("requests\n", "line 1: no sample: 'requests'"),
        ("requests 12 apples\n", "line 1: no sample: 'requests 12 apples'"),
        ('requests{path="/a} 1\n', "line 1: no sample"),
        ('requests{1path="/a"} 1\n', "line 1: no sample"),
        ("requests one\n", "line 1: no sample"),
        ("ok 1\n# TYPE ok thing\n", "line 2: unknown type"),
        ("# TYPE ok gauge\nok 1\n# TYPE ok gauge\n", "line 3: a second TYPE for ok"),
    ],
)
def test_a_wrong_text_is_named_by_line(text, problem):
    assert any(said.startswith(problem) for said in parse(text).problems)
