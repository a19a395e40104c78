# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Six redis-server processes for the whole session, empty and alone at the start of every test; their marker and lock files in a directory of the test."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.progressive.platform.tests.redis.lab import Lab


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
