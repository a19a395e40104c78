# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Members for one test, always stopped; marker and lock files in a directory of the test. A test's name says what it ran on: simulator or mongod."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.progressive.platform.tests.mongodb import ferret as ferrets
from ansible_collections.progressive.platform.tests.mongodb.lab import MONGOD, Lab


@pytest.fixture(params=["mongod" if MONGOD else "simulator"])
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """With access control, and nobody who could log in yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = Lab(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def ferret() -> Iterator[ferrets.Ferret]:
    """One for the whole session; each test leaves it running."""
    with ferrets.ferret() as made:
        yield made
