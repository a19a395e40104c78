# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Both modules against real Patroni and PostgreSQL processes: formed, unchanged, changed, killed and healed."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.wire import SqlError
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.tests.postgresql.lab import SETTINGS, Lab, quiet, until

USERS = {"shop": {}, "report": {"connection_limit": 5, "settings": {"statement_timeout": "5s"}}}
PASSWORDS = {"shop": "shop-never-shown", "report": "report-never-shown"}
DATABASES = {"shop": {"owner": "shop", "extensions": ["pg_trgm"], "grants": {"report": "read"}}}
WANTED: dict[str, Any] = {"config": SETTINGS, "users": USERS, "user_passwords": PASSWORDS, "databases": DATABASES}


def actions(result: dict[str, Any]) -> list[str]:
    return [step["action"] for step in result["plan"] if step["action"] != "wait"]


def settings(**parameters: Any) -> dict[str, Any]:
    changed = copy.deepcopy(SETTINGS)
    changed["postgresql"]["parameters"] |= parameters
    return {**WANTED, "config": changed}


@pytest.fixture(autouse=True)
def formed(lab: Lab) -> None:
    """As wanted before each test; the first time this forms the cluster."""
    for member in lab.members:
        if member.process is None or member.process.poll() is not None:
            member.start()
    result = lab.converge(**WANTED)
    assert result["primary"] and sum(member["streaming"] for member in result["members"]) == 2
    assert "never-shown" not in str(result)


def test_a_second_run_writes_nothing(lab: Lab) -> None:
    before = quiet(lab)
    result = lab.converge(**WANTED)
    assert (result["changed"], result["plan"], quiet(lab)) == (False, [], before)


@pytest.mark.state("P7")
def test_users_and_databases_are_as_declared(lab: Lab) -> None:
    primary = lab.primary()
    lab.sql(
        primary,
        "drop table if exists goods; create table goods (name text); insert into goods values ('tea')",
        "shop",
        "shop",
        PASSWORDS["shop"],
    )
    assert lab.sql(primary, "select name from goods", "shop", "report", PASSWORDS["report"]) == [["tea"]]
    with pytest.raises(SqlError, match="permission denied"):
        lab.sql(primary, "insert into goods values ('x')", "shop", "report", PASSWORDS["report"])
    assert lab.sql(primary, "show statement_timeout", "shop", "report", PASSWORDS["report"]) == [["5s"]]
    with pytest.raises(SqlError, match="password authentication failed"):
        lab.sql(primary, "select 1", "shop", "shop", "wrong")


@pytest.mark.state("P7")
def test_a_drift_is_foreseen_and_repaired(lab: Lab) -> None:
    primary = lab.primary()
    lab.sql(primary, "alter role report connection limit 9")
    lab.sql(primary, "drop extension pg_trgm", "shop")
    lab.sql(primary, "alter role shop password 'another-never-shown'")
    before = quiet(lab)
    foreseen = lab.converge(check=True, **WANTED)
    assert actions(foreseen) == ["sql"] and len(foreseen["plan"][0]["commands"]) == 3 and quiet(lab) == before
    result = lab.converge(**WANTED)
    assert actions(result) == ["sql"] and "never-shown" not in str(result)
    assert lab.sql(primary, "select 1", "shop", "shop", PASSWORDS["shop"]) == [["1"]]


@pytest.mark.state("P6")
def test_a_parameter_that_is_reloaded(lab: Lab) -> None:
    result = lab.converge(**settings(work_mem="5MB"))
    assert actions(result) == ["config"]
    for member in lab.members:
        until(lambda member=member: lab.sql(member, "show work_mem") == [["5MB"]], "5MB everywhere")  # type: ignore[misc]


@pytest.mark.state("P6", "P14")
def test_a_parameter_that_takes_a_restart_goes_round(lab: Lab) -> None:
    first = lab.info()["primary"]
    wanted = settings(max_worker_processes=9)
    foreseen = lab.converge(check=True, **wanted)
    assert actions(foreseen) == ["config", "restart", "restart", "switchover", "restart"]
    assert actions(lab.converge(**{**wanted, "restart": False})) == ["config"]
    until(lambda: all(member["pending_restart"] == ["max_worker_processes"] for member in lab.info()["members"]), "all wait for a restart")
    result = lab.converge(**wanted)
    assert actions(result)[:3] == ["restart", "restart", "switchover"] and result["primary"] != first
    assert [lab.sql(member, "show max_worker_processes") for member in lab.members] == [[["9"]]] * 3


@pytest.mark.state("P16")
def test_a_switchover_loses_nothing(lab: Lab) -> None:
    candidate = next(member["name"] for member in lab.info()["members"] if member["sync"] == "sync")
    result = lab.converge(**WANTED, switchover=candidate)
    assert actions(result) == ["switchover"] and result["primary"] == candidate
    assert not lab.converge(**WANTED, switchover=candidate)["changed"]


@pytest.mark.state("P4", "P9", "P10")
def test_the_primary_is_killed_and_comes_back(lab: Lab) -> None:
    old = lab.primary()
    lab.sql(old, "drop table if exists kept; create table kept (number int); insert into kept select generate_series(1, 1000)", "shop")
    old.kill()
    seen = lab.info()
    assert [error for error in seen["errors"] if error.startswith(old.name)], "the dead one is named, nothing fails"
    until(lambda: lab.info()["primary"] not in ("", old.name), "another primary")
    assert lab.sql(lab.primary(), "select count(*) from kept", "shop") == [["1000"]]
    with pytest.raises(PlatformError, match=old.name):
        lab.converge(**WANTED, timeout=5.0, copy_timeout=5.0)  # it does not answer, and that is said
    old.start()
    result = lab.converge(**WANTED)
    assert {member["timeline"] for member in result["members"]} == {result["members"][0]["timeline"]}


@pytest.mark.state("P10", "P13")
def test_a_replica_is_copied_anew(lab: Lab) -> None:
    replica = next(member["name"] for member in lab.info()["members"] if member["role"] == "replica")
    result = lab.converge(**WANTED, reinit=[replica])
    assert actions(result) == ["reinit"] and next(member for member in result["members"] if member["name"] == replica)["streaming"]


def test_without_the_passwords_nothing_is_changed_and_that_is_said(lab: Lab) -> None:
    lab_given = dict(lab.given)
    try:
        lab.given |= {"rest_password": "wrong"}
        with pytest.raises(PlatformError, match="401") as caught:
            lab.converge(**settings(work_mem="7MB"), timeout=60.0)
        assert "never-shown" not in str(caught.value.details)
        lab.given |= {"rest_password": lab_given["rest_password"], "password": "wrong"}
        seen = lab.info()
        assert seen["is_available"] and "password authentication failed" in " ".join(seen["errors"])
    finally:
        lab.given = lab_given


ROTATION: list[dict[str, str]] = [
    {"shop": "one-never-shown", "shop.login": "shop"},
    {"shop": "one-never-shown", "shop.login": "shop", "next-shop": "two-never-shown", "next-shop.login": "shop_2"},
    {"shop": "two-never-shown", "shop.login": "shop_2", "former-shop": "one-never-shown", "former-shop.login": "shop"},
    {"shop": "two-never-shown", "shop.login": "shop_2"},
    {"shop": "two-never-shown", "shop.login": "shop_2", "next-shop": "three-never-shown", "next-shop.login": "shop"},
    {"shop": "three-never-shown", "shop.login": "shop", "former-shop": "two-never-shown", "former-shop.login": "shop_2"},
    {"shop": "three-never-shown", "shop.login": "shop"},
]


@pytest.mark.state("P7")
def test_a_password_changes_while_the_one_before_is_still_taken(lab: Lab) -> None:
    """Step by step as the Secret goes; who read it before the last step, or before the one before it, gets in and works as the same user."""
    primary = lab.primary()
    lab.sql(primary, "drop table if exists mine", "shop")
    before: dict[str, str] = {}
    for step, secret in enumerate(ROTATION):
        result = lab.converge(**{**WANTED, "user_passwords": {**PASSWORDS, **secret}})
        assert "never-shown" not in str(result)
        assert not lab.converge(**{**WANTED, "user_passwords": {**PASSWORDS, **secret}})["changed"]
        for read in (secret, *([before] if before and "former-shop" not in before else [])):
            login, password = read["shop.login"], read["shop"]
            lab.sql(primary, f"create table if not exists mine (x int); insert into mine values ({step})", "shop", login, password)
            assert lab.sql(primary, "select current_user", "shop", login, password) == [["shop"]]
        before = secret
    assert lab.sql(primary, "select tableowner from pg_tables where tablename = 'mine'", "shop") == [["shop"]]
    for login, password in (("shop", "one-never-shown"), ("shop_2", "two-never-shown")):
        with pytest.raises(SqlError, match="password authentication failed"):
            lab.sql(primary, "select 1", "shop", login, password)
