# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings on real servers: the table of directives that take a restart, and the module's option config."""

from __future__ import annotations

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._redis.directives import FIXED, restarts
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.tests.redis.lab import Lab, kinds


def test_the_table_is_what_the_server_says(lab: Lab) -> None:
    """Every directive the server knows is given the value it has: refused are exactly those of the table."""
    server = lab.servers[0]
    answer = server("CONFIG", "GET", "*")
    settings = dict(zip(answer[::2], answer[1::2], strict=True))
    replies = server.pipeline([("CONFIG", "SET", name, value) for name, value in settings.items()])
    refused = {name for name, reply in zip(settings, replies, strict=True) if "immutable" in str(reply) or "protected" in str(reply)}
    assert refused == {name for name in settings if restarts(name)} - FIXED
    assert len(refused) > 20


def test_settings_drift_and_are_repaired(lab: Lab) -> None:
    wanted = {
        "maxmemory": "64mb",
        "maxmemory-policy": "allkeys-lru",
        "client-output-buffer-limit": ["normal 0 0 0", "replica 1mb 512kb 60"],
    }
    wanted |= {"notify-keyspace-events": "KEA", "latency-monitor-threshold": 100, "repl-diskless-sync": True}
    lab.converge()
    foreseen = lab.converge(check=True, config=wanted)
    assert kinds(foreseen) == [("S4", "config")] and foreseen["changed"]
    assert lab.servers[3]("CONFIG", "GET", "maxmemory") == ["maxmemory", "0"]
    done = lab.converge(config=wanted)
    assert kinds(done) == [("S4", "config")] and done["plan"] == foreseen["plan"]
    lab.quiet(config=wanted)
    for server in lab.servers:
        assert server("CONFIG", "GET", "maxmemory") == ["maxmemory", str(64 << 20)]
    lab.servers[2]("CONFIG", "SET", "maxmemory-policy", "noeviction")
    repaired = lab.converge(config=wanted)
    assert [row["node"] for row in repaired["plan"][0]["commands"]] == [lab.servers[2].name]
    lab.quiet(config=wanted)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"databases": 8}, "can't set immutable config.*It takes a restart"),
        ({"maxmemory": "plenty"}, "refuses config.maxmemory 'plenty'"),
        ({"maxmemori": "64mb"}, "do not have: maxmemori"),
        ({"requirepass": "x"}, "must not hold requirepass"),
    ],
)
def test_settings_that_cannot_be(lab: Lab, config: dict[str, object], text: str) -> None:
    lab.converge()
    with pytest.raises(PlatformError, match=text):
        lab.converge(config=config)
