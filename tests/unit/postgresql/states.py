# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of docs/postgresql.md."""

from __future__ import annotations

import functools

from ansible_collections.progressive.platform.plugins.module_utils._postgresql.states import STATES
from ansible_collections.progressive.platform.tests.unit.state_table import ROOT, Table

DOCUMENT = ROOT / "docs/postgresql.md"
TABLE = Table(DOCUMENT, "P", STATES, ("tests/postgresql", "tests/unit/postgresql", "tests/cluster"))

marked = functools.cache(TABLE.marked)
rewritten = TABLE.rewritten

if __name__ == "__main__":
    TABLE.write()
