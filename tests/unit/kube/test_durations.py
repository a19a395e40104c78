# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long components took, kept between runs, and the plan that says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.progressive.platform.plugins.filter.upgrade_plan import upgrade_plan
from ansible_collections.progressive.platform.plugins.module_utils._kube import durations
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError
from ansible_collections.progressive.platform.plugins.plugin_utils._upgrade import work_of

Json = dict[str, Any]
NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
ROLLED = {"kind": "Deployment", "name": "web", "drift": "changed", "fields": [{"path": "spec.template.metadata.labels.a"}]}
RELABELLED = {"kind": "Service", "name": "web", "drift": "changed", "fields": [{"path": "metadata.labels.a"}]}


def recorded(*seconds: float, work: str = "pods") -> Json:
    known: Json = {}
    for one in seconds:
        known = durations.done(durations.begun(known, "agents", NOON), "agents", work, NOON + timedelta(seconds=one))
    return known


def test_the_median_of_the_last_runs_with_the_same_work() -> None:
    known = recorded(900, 10, 20, 30, 40, 50)
    assert durations.estimate(known, "agents", "pods") == 30
    assert durations.estimate(known, "agents", "fields") is None
    assert durations.estimate(known, "app", "pods") is None
    assert len(recorded(*range(20))["agents"]["runs"]) == durations.KEPT


def test_what_a_killed_run_began_counts_for_nothing() -> None:
    killed = durations.begun(recorded(10), "agents", NOON - timedelta(hours=5))
    again = durations.begun(killed, "agents", NOON)
    assert [run["seconds"] for run in durations.done(again, "agents", "pods", NOON + timedelta(seconds=12))["agents"]["runs"]] == [10, 12]
    known = recorded(10)
    assert durations.done(known, "agents", "pods", NOON) == known, "what was not begun is not done"


def call(path: Path, check: bool = False, **given: Any) -> Json:
    checked = ArgumentSpecValidator(durations.ARGUMENTS, **durations.CONSTRAINTS).validate({"path": str(path), **given})
    assert not checked.error_messages
    return durations.run(checked.validated_parameters, Context(check=check))


def test_the_module_keeps_them_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "reports/durations.json"
    assert call(file) == {"changed": False, "durations": {}, "seconds": None}
    assert call(file, check=True, component="agents", state="begun")["changed"] and not file.exists()
    call(file, component="agents", state="begun")
    done = call(file, component="agents", state="done", work="fields")
    assert done["changed"] and 0 <= done["seconds"] < 5
    assert call(file)["durations"]["agents"]["runs"][0]["work"] == "fields"
    assert not call(file, component="agents", state="done")["changed"]


@pytest.mark.parametrize("content", ["text", "[]"])
def test_a_file_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "durations.json").write_text(content)
    with pytest.raises(PlatformError, match="durations of earlier runs"):
        call(tmp_path / "durations.json")


@pytest.mark.parametrize(
    ("found", "work"),
    [
        ({"objects": [ROLLED, RELABELLED]}, "pods"),
        ({"objects": [{**ROLLED, "drift": "missing", "fields": []}]}, "pods"),
        ({"objects": [RELABELLED]}, "fields"),
        ({"objects": [{**ROLLED, "drift": "foreign"}]}, "nothing"),
        ({"objects": [], "refused": ["Job x: immutable"]}, "fields"),
        ({}, "nothing"),
    ],
)
def test_what_there_is_to_do(found: Json, work: str) -> None:
    assert work_of(found) == work


def test_the_plan_says_how_long_where_anybody_knows() -> None:
    sets = {"agents": {"objects": [ROLLED]}, "app": {"objects": [RELABELLED]}}
    plan = upgrade_plan(sets, recorded(300))
    assert plan == [
        "1. agents: 1 changed; new pods for Deployment/web; about 5 min",
        "2. app: 1 changed; time unknown: no earlier run did this",
        "All of it: about 5 min, and what nobody measured yet: app",
    ]
    assert upgrade_plan({"app": {"objects": [RELABELLED]}}) == ["1. app: 1 changed; time unknown: no earlier run did this"]


def test_the_plan_names_api_versions_that_go_away() -> None:
    old = {"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget", "metadata": {"namespace": "shop", "name": "web"}}
    plan = upgrade_plan({"app": {"deprecated": [old]}}, {}, "v1.36.3")
    assert plan[1].startswith("PodDisruptionBudget of policy/v1beta1: deprecated since 1.21, removed in 1.25; sent for shop/web")
    assert len(upgrade_plan({"app": {"deprecated": [old]}})) == 1
