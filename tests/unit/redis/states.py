# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of docs/redis_cluster.md."""

from __future__ import annotations

import functools

from ansible_collections.progressive.platform.plugins.module_utils._redis.states import STATES
from ansible_collections.progressive.platform.tests.unit.state_table import ROOT, Table

DOCUMENT = ROOT / "docs/redis_cluster.md"
TABLE = Table(DOCUMENT, "S", STATES, ("tests/redis", "tests/unit/redis", "tests/unit/members", "tests/cluster"))

marked = functools.cache(TABLE.marked)
rewritten = TABLE.rewritten

if __name__ == "__main__":
    TABLE.write()
