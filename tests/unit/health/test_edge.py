# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is said of a gateway, for what it answered."""

from __future__ import annotations

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._health import edge
from ansible_collections.progressive.platform.plugins.module_utils._health.edge import Reply

BACKEND = {edge.FROM_BACKEND: "3"}


@pytest.mark.parametrize(
    ("reply", "closed", "problem"),
    [
        (Reply(200, BACKEND), False, ""),
        (Reply(404, BACKEND), False, ""),  # the backend's own business
        (Reply(404, {}), False, "/x leads to no backend: the gateway itself answered 404"),
        (Reply(503, {}), False, "/x leads to no backend: the gateway itself answered 503"),
        (Reply(503, BACKEND), False, "/x: the backend answered 503"),
        (Reply(403, {}), True, ""),
        (Reply(401, {}), True, "/x answered 401 to who has no token; 403 is wanted"),
        (Reply(403, BACKEND), True, "/x was let through to a backend without a token"),
    ],
)
def test_a_path_by_its_answer(reply: Reply, closed: bool, problem: str) -> None:
    assert edge.path_problem("/x", reply, closed) == problem


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (Reply(403, BACKEND), ""),
        (Reply(302, BACKEND), ""),
        (Reply(401, BACKEND), ""),
        (Reply(200, BACKEND), "ui.example answered 200 to who has not signed in; a guard's 302, 401 or 403 is wanted"),
        (Reply(404, BACKEND), "ui.example answered 404 to who has not signed in; a guard's 302, 401 or 403 is wanted"),
        (Reply(403, {}), "ui.example: no guard answers, the gateway said 403"),
        (Reply(503, BACKEND), "ui.example: no guard answers, the gateway said 503"),
        (Reply(503, {}), "ui.example: no guard answers, the gateway said 503"),
    ],
)
def test_a_page_for_operators_is_behind_a_guard(reply: Reply, problem: str) -> None:
    assert edge.guard_problem("ui.example", reply) == problem


@pytest.mark.parametrize(
    ("path", "is_open"), [("/health", True), ("/health/ready", False), ("/static/a.css", True), ("/a.ico", True), ("/", False)]
)
def test_open_paths_are_compared_as_policies_do(path: str, is_open: bool) -> None:
    assert edge.is_open(path, ["/health", "/static/*", "*.ico"]) is is_open


@pytest.mark.parametrize(
    ("reply", "good"),
    [
        (Reply(301, {"location": "https://shop.example/"}), True),
        (Reply(301, {"location": "https://other.example/"}), False),
        (Reply(200, BACKEND), False),
        (Reply(302, {"location": "http://shop.example/"}), False),
    ],
)
def test_port_80_redirects_and_nothing_else(reply: Reply, good: bool) -> None:
    assert (edge.redirect_problem(reply, "shop.example") == "") is good


@pytest.mark.parametrize(
    ("headers", "burst", "problem"),
    [
        ({"x-ratelimit-limit": "200"}, 200, ""),
        ({"x-ratelimit-limit": "200, 200;w=60"}, 200, ""),
        ({}, 0, ""),
        ({"x-ratelimit-limit": "7"}, 0, ""),  # the backend's own
        ({}, 200, "/x: a limit of 200 requests at once is wanted, and the gateway has none"),
        ({"x-ratelimit-limit": "100"}, 200, "/x: a limit of 200 requests at once is wanted, and the gateway has one of 100"),
    ],
)
def test_a_limit_is_what_the_gateway_says_it_is(headers: dict[str, str], burst: int, problem: str) -> None:
    assert edge.limit_problem("/x", Reply(200, headers), burst) == problem
