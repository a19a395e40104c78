# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Our inventories with a mistake, as preflight sees their variables."""

from __future__ import annotations

import typing as t

from ansible_collections.progressive.platform.plugins.plugin_utils._examine import examine_variables
from ansible_collections.progressive.platform.tests.unit.roles.rendering import Cluster


def refused(components: list[str], inventory: str = "production", **changes: t.Any) -> list[str]:
    """What is refused: variable, what was seen, what is allowed, and the remedy."""
    cluster = Cluster(inventory, {"platform_components": components, **changes})
    findings, _needs = examine_variables(cluster.templar, cluster.vars, components)
    return [f"{finding.variable}: {finding.seen} | {finding.allowed} | {finding.remedy}" for finding in findings if not finding.warning]
