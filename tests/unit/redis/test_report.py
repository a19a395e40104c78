# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What redis_cluster_info returns, row by row."""

from __future__ import annotations

import json

import pytest
import yaml
from ansible_collections.progressive.platform.plugins.module_utils._redis import report, slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Desired, Persistence
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._redis.plan import findings
from ansible_collections.progressive.platform.plugins.module_utils._redis.states import STATES
from ansible_collections.progressive.platform.plugins.modules import redis_cluster_info
from ansible_collections.progressive.platform.tests.unit.redis.views import THIRDS, change, healthy, node_id, seen


def test_every_node_has_every_field_and_all_are_documented() -> None:
    rows = report.node_rows(change(healthy(keys=3), 4, problem="refused", kind="absent"))
    documented = yaml.safe_load(redis_cluster_info.RETURN)["nodes"]["contains"]
    assert all(set(row) == set(documented) for row in rows)
    assert json.loads(json.dumps(rows)) == rows
    assert rows[4]["error"] == "refused" and rows[4]["keys"] is None and rows[4]["slots"] == [] and rows[4]["persistence"] == {}


@pytest.mark.parametrize(("up", "syncing", "link"), [(True, False, "up"), (False, True, "copying"), (False, False, "down")])
def test_links_and_lag(up: bool, syncing: bool, link: str) -> None:
    observation = change(change(healthy(), 2, offset=100), 4, offset=60, link_up=up, syncing=syncing)
    row = report.node_rows(observation)[4]
    assert (row["role"], row["master"], row["link"], row["lag"]) == ("replica", node_id(2), link, 40)
    shard = report.shard_rows(Picture(observation, Desired()))[2]
    assert shard["replicas"] == [{"name": "redis-4", "id": node_id(4), "link": link, "lag": 40}]


def test_shards_are_in_the_order_of_their_slots() -> None:
    shards = report.shard_rows(Picture(healthy(keys=7), Desired()))
    assert [(shard["master"], shard["slots"], shard["slot_count"], shard["keys"]) for shard in shards] == [
        ("redis-0", ["0-5461"], 5462, 7),
        ("redis-1", ["5462-10922"], 5461, 7),
        ("redis-2", ["10923-16383"], 5461, 7),
    ]


def test_open_slots_are_listed_from_both_ends() -> None:
    observation = seen(healthy(), 0, 0, open_slots={5: ("migrating", node_id(1))})
    observation = change(seen(observation, 1, 1, open_slots={5: ("importing", node_id(0))}), 1, open_keys={5: 3})
    assert report.open_slots(Picture(observation, Desired())) == [
        {"slot": 5, "node": "redis-0", "direction": "migrating", "other": "redis-1", "keys": None},
        {"slot": 5, "node": "redis-1", "direction": "importing", "other": "redis-0", "keys": 3},
    ]
    assert report.node_rows(observation)[0]["open_slots"] == [f"5 migrating {node_id(1)}"]


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        (Persistence(), ""),
        (Persistence(aof=True, aof_ok=False), "its last write to the append-only file failed (aof_last_write_status:err)"),
        (Persistence(rdb_ok=False, refusal="MISCONF no"), "its last snapshot failed (rdb_last_bgsave_status:err); MISCONF no"),
    ],
)
def test_persistence_in_words(files: Persistence, problem: str) -> None:
    row = report.node_rows(change(healthy(), 0, persistence=files))[0]
    assert row["persistence"]["problem"] == problem


def test_findings_are_called_by_name() -> None:
    observation = seen(healthy(keys=1), 4, 0, slots=THIRDS[0] & ~1)
    rows = report.finding_rows(findings(Picture(observation, Desired())))
    assert rows[0]["state"] == "S18" and rows[0]["name"] == STATES["S18"].name and rows[0]["kind"] == "wait"


def test_coverage_counts_only_owners_that_say_ok() -> None:
    summary = report.slot_summary(Picture(change(healthy(), 0, cluster_ok=False), Desired()))
    assert summary == {"assigned": slots.COUNT, "covered": slots.COUNT - 5462, "total": slots.COUNT, "uncovered": "none"}
