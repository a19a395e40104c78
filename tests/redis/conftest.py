# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Six redis-server processes for the whole session, empty and alone at the start of every test; their marker and lock files in a directory of the test."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._redis import access
from ansible_collections.progressive.platform.plugins.module_utils._redis.resp import Connection, RawCommand
from ansible_collections.progressive.platform.plugins.module_utils._redis.users import OPERATOR, RULES, evaluate, everything
from ansible_collections.progressive.platform.tests.redis.lab import Lab

SENT: set[tuple[str, ...]] = set()
"""The first two words of every command that a module has sent, whatever the test was about."""


class Recording(Connection):
    """Only the modules' connections come through the door (access.py); those of the tests do not."""

    def send(self, commands: Sequence[RawCommand], deadline: float) -> None:
        SENT.update(tuple(str(word).lower() for word in command[:2]) for command in commands)
        super().send(commands, deadline)


@pytest.fixture(scope="session", autouse=True)
def recorded() -> Iterator[None]:
    """Least commands are enough only if nothing that is ever sent is missing, so every test here is a test of the operator's rules too."""
    access.Connection = Recording  # type: ignore[misc]
    yield
    access.Connection = Connection  # type: ignore[misc]


@pytest.fixture(autouse=True)
def the_operator_may_what_was_sent(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if not SENT or "lab" not in request.fixturenames:
        SENT.clear()  # what was said to a protocol double, this server may not even know
        return
    server = request.getfixturevalue("pool").servers[0]
    names = [str(name) for name in server("ACL", "CAT")]
    lists = server.pipeline([("ACL", "CAT", name) for name in names])
    categories = {name: frozenset(str(one) for one in commands) for name, commands in zip(names, lists, strict=True)}
    every = everything(categories)
    sent = {"|".join(words) if "|".join(words) in every else words[0] for words in SENT}
    SENT.clear()
    # What this server does not know was refused by it anyway (atomic migration of newer ones).
    assert sent & every <= evaluate(RULES[OPERATOR].split(), categories).commands | {"auth"}


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("redis"))
    try:
        lab.add(6)
        time.sleep(2.1)  # a master says ok 2 s after its start at the earliest (CLUSTER_WRITABLE_DELAY); paid once here
        yield lab
    finally:
        lab.stop()


@pytest.fixture
def lab(pool: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    pool.restore(6)
    yield pool
    pool.restore(6)
