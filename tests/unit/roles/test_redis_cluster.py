# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a change of the inventory does to the Redis pods: a new template, a setting of running servers, or neither."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.progressive.platform.tests.unit.roles.rendering import Cluster

Template = dict[str, t.Any]


def template(changes: dict[str, t.Any]) -> Template:
    documents = Cluster("production", changes).documents("redis_cluster")
    found: Template = next(one for one in documents if one["kind"] == "StatefulSet")["spec"]["template"]
    return found


def live(changes: dict[str, t.Any]) -> dict[str, t.Any]:
    cluster = Cluster("production", changes)
    found: dict[str, t.Any] = cluster.templar.copy_with_new_env(available_variables=cluster.variables("redis_cluster")).template(
        cluster.value("redis_cluster", "__redis_cluster_live")
    )
    return found


@pytest.mark.parametrize(
    ("changes", "rolls", "directive"),
    [
        ({"redis_cluster_maxmemory_policy": "noeviction"}, False, "maxmemory-policy"),
        ({"redis_cluster_maxmemory_percent": 65}, False, "maxmemory"),
        ({"redis_cluster_append_only": False}, False, "appendonly"),
        ({"redis_cluster_replicas_per_master": 2}, False, "repl-diskless-sync-max-replicas"),
        ({"redis_cluster_config": {"slowlog-log-slower-than": 5000}}, False, "slowlog-log-slower-than"),
        ({"redis_cluster_node_timeout": 7000}, False, ""),
        ({"redis_cluster_masters": 5}, False, ""),
        ({"redis_cluster_roll": False}, False, ""),
        ({"redis_cluster_config": {"io-threads": 4}}, True, ""),
        ({"redis_cluster_config": {"databases": 1}}, True, ""),
        ({"redis_cluster_engine": "valkey"}, True, ""),
        ({"redis_cluster_image": "redis:7.2.12"}, True, ""),
        (
            {"redis_cluster_resources": {"requests": {"memory": "1Gi", "cpu": "1"}, "limits": {"memory": "2Gi", "cpu": "1"}}},
            True,
            "maxmemory",
        ),
    ],
    ids=str,
)
def test_only_what_takes_a_restart_rolls(changes: dict[str, t.Any], rolls: bool, directive: str) -> None:
    assert (template(changes) != template({})) is rolls
    before, after = live({}), live(changes)
    assert {name for name in before | after if before.get(name) != after.get(name)} >= ({directive} if directive else set())
    assert directive or before.keys() <= after.keys()


def test_what_is_set_live_is_nothing_secret_and_nothing_fixed() -> None:
    names = set(live({}))
    assert {"maxmemory", "maxmemory-policy", "client-output-buffer-limit"} <= names
    assert not names & {"cluster-node-timeout", "cluster-enabled", "dir", "port", "bind", "requirepass", "masterauth", "include"}


@pytest.mark.parametrize(
    ("engine", "image", "release"),
    [
        ("redis", "redis:7.2.11-alpine", "redis 7.2.11"),
        ("redis", "mirror.example.com:5000/redis:7.0", "redis 7.0"),
        ("redis", "localhost/progressive/redis:7-0123456789ab", "redis 7"),
        ("valkey", "valkey/valkey:8.0.6-alpine", "valkey 8.0.6"),
        ("valkey", "mirror.example.com:5000/valkey@sha256:0123", "valkey"),
        ("valkey", "valkey:v8.1", "valkey 8.1"),
    ],
)
def test_release_of_an_image(engine: str, image: str, release: str) -> None:
    cluster = Cluster("production", {"redis_cluster_engine": engine, "redis_cluster_image": image})
    assert str(cluster.value("redis_cluster", "__redis_cluster_release")).strip() == release
    claim = cluster.value("redis_cluster", "__redis_cluster_needs")["claims"][0]
    assert (claim["container"], claim["engine"], str(claim["release"]).strip()) == ("redis", "redis_cluster_engine", release)
