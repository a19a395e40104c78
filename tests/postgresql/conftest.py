# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Three members for the whole session; each test leaves them healthy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ansible_collections.progressive.platform.tests.postgresql import lab as laboratory


@pytest.fixture(scope="session")
def lab() -> Iterator[laboratory.Lab]:
    with laboratory.lab() as made:
        yield made
