# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wrong numbers of an inventory, refused before anything is asked of a server: rows of docs/postgresql_faults.md."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.progressive.platform.plugins.plugin_utils._examine import examine_variables
from ansible_collections.progressive.platform.tests.postgresql.faults import record
from ansible_collections.progressive.platform.tests.unit.roles import rendering

SMALL = {"requests": {"cpu": "1", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}}


def refused(role: str, changes: dict[str, t.Any], variable: str) -> str:
    cluster = rendering.Cluster("production", {"platform_components": ["baseline", role]} | changes)
    found, _needs = examine_variables(cluster.templar, cluster.vars, ["baseline", role])
    (said,) = [str(finding) for finding in found if finding.variable == variable and not finding.warning]
    return said


@pytest.mark.parametrize(
    ("changes", "variable"),
    [
        ({"postgresql_storage": {"size": "64Mi", "class": ""}}, "postgresql_storage.size"),
        ({"postgresql_storage": {"size": "much", "class": ""}}, "postgresql_storage.size"),
        ({"postgresql_resources": SMALL}, "postgresql_resources.limits.memory"),
        ({"postgresql_ttl": 20, "postgresql_retry_timeout": 15}, "postgresql_ttl"),
        ({"postgresql_synchronous_standbys": 3}, "postgresql_synchronous_standbys"),
        ({"postgresql_durability": "strict", "postgresql_members": 2}, "postgresql_durability"),
        ({"platform_postgresql_name": "Before it"}, "postgresql_name"),
    ],
)
def test_wrong_sizes_are_refused_by_name(changes: dict[str, t.Any], variable: str) -> None:
    said = refused("postgresql", changes, variable)
    assert variable in said
    if variable == "postgresql_storage.size" and "64Mi" in said:
        record("a volume smaller than its WAL", f"preflight: {said}", "refused before the first change", where="no server")


def test_an_even_number_of_voters_is_refused() -> None:
    said = refused("mongodb", {"mongodb_members": 4}, "mongodb_members")
    record("MongoDB: an even number of voting members", f"preflight: {said}", "refused before the first change", where="no server")
