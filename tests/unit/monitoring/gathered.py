# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an inventory's components want watched, gathered in this process as role monitoring's deploy.yml does."""

from __future__ import annotations

import functools
import typing as t

from ansible_collections.progressive.platform.plugins.action.monitoring_gather import BOARDS, wishes_of
from ansible_collections.progressive.platform.plugins.module_utils._monitoring import gather, model
from ansible_collections.progressive.platform.plugins.module_utils._run import Context
from ansible_collections.progressive.platform.tests.unit.roles.rendering import Cluster

COMPONENTS = [
    "baseline",
    "istio",
    "gateway",
    "postgresql",
    "redis_cluster",
    "mongodb",
    "app",
    "agents",
    "tracing",
    "operator",
    "autoscaling",
    "monitoring",
]
# Everything that can be watched is there: backups too.
CHANGES: dict[str, t.Any] = {
    "platform_components": COMPONENTS,
    "postgresql_backup_storage": {"volume": {"size": "100Gi", "class": "fast-ssd"}},
    "redis_cluster_backup_storage": {"volume": {"size": "100Gi", "class": "fast-ssd"}},
    "redis_cluster_backup_drill_maximum_age": 26.0,
    "autoscaling_descheduler": True,
    "monitoring_prices": {"currency": "EUR", "cpu_hour": 0.03, "memory_hour": 0.004, "storage_month": 0.1},
}
RUNBOOKS = "https://example.com/alerts"


@functools.cache
def wishes(inventory: str) -> dict[str, t.Any]:
    cluster = Cluster(inventory, CHANGES)
    found = {role: wishes_of(cluster.templar, cluster.vars, role) for role in COMPONENTS}
    if inventory == "production":  # and what stands in for MongoDB where that cannot be had
        other = Cluster(inventory, {**CHANGES, "mongodb_engine": "ferretdb"})
        found["mongodb"]["rules"] += wishes_of(other.templar, other.vars, "mongodb")["rules"]
    for role, wish in found.items():
        if boards := wishes_of(cluster.templar, cluster.vars, role, BOARDS):
            wish["dashboards"] = boards
    return {role: wish for role, wish in found.items() if wish}


@functools.cache
def components(inventory: str) -> list[model.Component]:
    return gather.complete(model.read(wishes(inventory)))


@functools.cache
def gathered(inventory: str) -> dict[str, t.Any]:
    options = {
        "roles": [],
        "components": wishes(inventory),
        "namespace": "monitoring",
        "labels": {},
        "runbooks": RUNBOOKS,
        "dashboards": True,
        "folder": "Platform",
    }
    return gather.run({**options, "operator_labels": {"release": "stack"}}, Context())


@functools.cache
def manifests(inventory: str, provider: str = "builtin", grafana: bool = False) -> list[dict[str, t.Any]]:
    return manifests_of(inventory, {"monitoring_provider": provider, "monitoring_grafana": grafana})


def manifests_of(inventory: str, changes: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    cluster = Cluster(inventory, {**CHANGES, **changes})
    boards = cluster.value("monitoring", "monitoring_dashboards")
    cluster.vars = cluster.vars | {"__monitoring_gathered": gathered(inventory) | ({} if boards else {"dashboards": []})}
    return cluster.documents("monitoring")
