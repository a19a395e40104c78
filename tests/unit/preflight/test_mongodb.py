# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role mongodb's wrong variables, each refused by its full name; the production inventory with one mistake."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._preflight.findings import Finding
from ansible_collections.progressive.platform.plugins.plugin_utils._examine import examine_variables
from ansible_collections.progressive.platform.tests.unit.roles import rendering

LIMITS = {"requests": {"cpu": "1", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}


def examine(changes: dict[str, t.Any], inventory: str = "production") -> list[Finding]:
    cluster = rendering.Cluster(inventory, {"platform_components": ["baseline", "mongodb"]} | changes)
    found, _needs = examine_variables(cluster.templar, cluster.vars, ["baseline", "mongodb"])
    return [finding for finding in found if finding.variable.startswith("mongodb_")]


@pytest.mark.parametrize("engine", ["mongodb", "ferretdb"])
@pytest.mark.parametrize("inventory", rendering.INVENTORIES)
def test_the_defaults_are_right(inventory: str, engine: str) -> None:
    assert examine({"mongodb_engine": engine}, inventory) == []


@pytest.mark.parametrize(
    ("variable", "changes"),
    [
        ("mongodb_members", {"mongodb_members": 4}),
        ("mongodb_members", {"mongodb_member_options": [{"name": "mongodb-2", "votes": 0}]}),
        ("mongodb_engine", {"mongodb_engine": "couchdb"}),
        ("mongodb_replica_set", {"mongodb_replica_set": "two words"}),
        ("mongodb_resources.limits.memory", {"mongodb_resources": LIMITS}),
        ("mongodb_oplog_size", {"mongodb_oplog_size": "80Gi"}),
        ("mongodb_config.net.port", {"mongodb_config": {"net": {"port": 1}}}),
        ("mongodb_config.security.authorization", {"mongodb_config": {"security": {"authorization": "disabled"}}}),
        ("mongodb_users.app.roles.0", {"mongodb_users": {"app": {"roles": ["readWrite"]}}}),
        ("mongodb_users.admin", {"mongodb_users": {"admin": {"roles": ["read@shop"]}}}),
        ("mongodb_storage.size", {"mongodb_storage": {"size": "much", "class": "fast-ssd"}}),
        ("mongodb_pools.0", {"mongodb_pools": ["swimming"]}),
        ("mongodb_password_length", {"mongodb_password_length": 3}),
    ],
)
def test_a_mistake_is_refused_by_its_name(variable: str, changes: dict[str, t.Any]) -> None:
    found = examine(changes)
    assert variable in [finding.variable for finding in found if not finding.warning], found


def test_one_member_is_warned_of() -> None:
    assert [finding.variable for finding in examine({"mongodb_members": 1}) if finding.warning] == ["mongodb_members"]
