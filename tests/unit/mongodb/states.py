# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of docs/mongodb.md."""

from __future__ import annotations

from ansible_collections.progressive.platform.plugins.module_utils._mongodb.states import STATES
from ansible_collections.progressive.platform.tests.unit.state_table import ROOT, Table

TABLE = Table(ROOT / "docs/mongodb.md", "M", STATES, ("tests/mongodb", "tests/unit/mongodb"))

if __name__ == "__main__":
    TABLE.write()
