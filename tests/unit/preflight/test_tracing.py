# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wrong inventories of tracing: refused before anything is sent, by the variable's name."""

from __future__ import annotations

import functools
import typing as t

import pytest
from ansible_collections.progressive.platform.plugins.plugin_utils._examine import examine_variables
from ansible_collections.progressive.platform.tests.unit.preflight.inventories import refused
from ansible_collections.progressive.platform.tests.unit.roles import rendering

COMPONENTS = ["baseline", "app", "tracing"]


found = functools.partial(refused, COMPONENTS)


@pytest.mark.parametrize("inventory", rendering.INVENTORIES)
def test_our_inventories_are_well_with_it(inventory: str) -> None:
    assert found(inventory) == []


def test_storages_that_are_there() -> None:
    search = {
        "tracing_storage": "elasticsearch",
        "tracing_servers": ["https://a:9200", "http://b.shop.svc:9200/es"],
        "tracing_secret": "login",
    }
    assert found(**search, tracing_replicas=3) == []
    assert found(tracing_storage="cassandra", tracing_servers=["c-0.c:9042"]) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"platform_tracing_ratio": 1.5}, "platform_tracing_ratio: 1.5 | 0 to 1"),
        ({"platform_tracing_ratio": -0.1}, "platform_tracing_ratio: -0.1 | 0 to 1"),
        ({"platform_tracing_collector": "http://collector.tracing.svc:4317"}, "service.namespace.svc:port, without http://"),
        ({"platform_tracing_collector": "collector.tracing.svc"}, "platform_tracing_collector"),
        ({"tracing_storage": "elastic"}, "tracing_storage"),
        (
            {"tracing_storage": "elasticsearch"},
            "the addresses of the elasticsearch (https://host:9200) | Jaeger would have nowhere to keep a trace.",
        ),
        ({"tracing_storage": "cassandra", "tracing_servers": ["https://c:9042"]}, "tracing_servers.0: https://c:9042 | host:9042"),
        ({"tracing_storage": "opensearch", "tracing_servers": ["search:9200"]}, "tracing_servers.0: search:9200 | https://host:9200"),
        (
            {"tracing_storage": "opensearch", "tracing_servers": ["https://me:s3cret@search:9200"]},
            "https://***@search:9200 | https://host:9200 | User and password belong into Secret tracing_secret.",
        ),
        ({"tracing_replicas": 2}, "tracing_replicas: 2 | 1 | Each would have a part of the traces"),
        ({"tracing_servers": ["https://search:9200"]}, "nothing, for badger is Jaeger's own"),
        ({"tracing_secret": "login"}, "tracing_secret: login | nothing, for badger is Jaeger's own"),
        ({"tracing_queue": 1_000_000}, "at most 104857 where a collector may use 512Mi"),
        ({"tracing_queue": 5}, "tracing_queue"),
        ({"tracing_pools": ["apps"]}, "tracing_pools"),
        ({"tracing_volume": {"size": "20GB!", "class": ""}}, "tracing_volume.size"),
        ({"tracing_retention": 0}, "tracing_retention"),
        ({"tracing_transaction": {"path": "/x"}}, "tracing_transaction.service"),
        ({"tracing_colectors": 3}, "tracing_colectors"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, t.Any], words: str) -> None:
    said = found(**changes)
    assert any(words in line for line in said), said
    assert "s3cret" not in str(said)


def test_memory_in_production_is_a_warning() -> None:
    cluster = rendering.Cluster("production", {"platform_components": COMPONENTS, "tracing_storage": "memory"})
    findings, _needs = examine_variables(cluster.templar, cluster.vars, COMPONENTS)
    assert [finding.variable for finding in findings] == ["tracing_storage"] and findings[0].warning
