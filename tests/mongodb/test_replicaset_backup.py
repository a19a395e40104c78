# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backup and users of a replica set: what FerretDB has nothing of, an oplog, secondaries, roles. On the simulator, or where PROGRESSIVE_MONGOD says, mongod."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._mongodb import backup, restore, users
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError, Result
from ansible_collections.progressive.platform.tests.mongodb.lab import PASSWORD, Lab

FIRST, SECOND = "first-never-shown", "second-never-shown"


@pytest.fixture
def formed(lab: Lab) -> Lab:
    lab.add(3)
    lab.module()
    for number in range(5):
        lab.insert(number)
    return lab


def call(module: Any, lab: Lab, check: bool = False, **options: Any) -> Result:
    given = {name: option.get("default") for name, option in module.ARGUMENTS.items()}
    given |= {"addresses": lab.addresses, "password": PASSWORD, "storage": {"path": str(lab.directory / "storage")}}
    result: Result = module.run({**given, **options}, Context(check=check))
    return result


def test_a_backup_is_taken_on_a_secondary_and_is_of_one_moment(formed: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that is written while the backup is under way is in its operations, and there after the restore."""
    taking = backup._Taking._collection

    def meanwhile(task: Any, number: int, database: str, name: str, spool: Path) -> Any:
        found = taking(task, number, database, name, spool)
        formed.insert(100)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(backup._Taking, "_collection", meanwhile)
        taken = call(backup, formed)
    assert taken["plan"]["role"] == "secondary" and taken["plan"]["collections"] == ["test.rows"]
    manifest = json.loads((formed.directory / "storage" / taken["backup"]["folder"] / "manifest.json").read_text())
    assert manifest["facts"]["collections"][0]["documents"] == 5 and manifest["facts"]["operations"] >= 1

    formed.command(formed.primary(), {"dropDatabase": 1, "writeConcern": {"w": "majority"}}, "test")
    restored = call(restore, formed)
    assert restored["restored"]["operations"] >= 1
    assert formed.rows(formed.primary()) == {0, 1, 2, 3, 4, 100}


def test_an_oplog_that_does_not_reach_back_makes_no_backup(formed: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from bson import Timestamp

    ends = iter([Timestamp(1, 1), backup.oplog_end])
    monkeypatch.setattr(backup, "oplog_end", lambda one: found(one) if callable(found := next(ends)) else found)
    with pytest.raises(PlatformError, match=r"does not reach back to the beginning of the backup.*mongodb_oplog_size"):
        call(backup, formed)
    assert not list((formed.directory / "storage").rglob("manifest.json"))


def test_a_drill_holds_on_the_primary_and_leaves_nothing(formed: Lab) -> None:
    call(backup, formed)
    held = call(restore, formed, mode="drill")
    assert held["drill"]["ok"] and held["compared"]["documents"] == 5
    assert formed.rows(formed.primary()) == {0, 1, 2, 3, 4}
    listed = formed.command(formed.primary(), {"listDatabases": 1, "nameOnly": True})["databases"]
    assert not [entry for entry in listed if entry["name"].startswith("drill_")]


def test_users_take_turns_and_have_their_roles(formed: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    held = {"password": PASSWORD, "app-login": "app", "app-password": FIRST}
    monkeypatch.setattr(users.credentials, "secret_data", lambda *_arguments: ("Secret x/mongodb-auth", held))
    monkeypatch.setattr(users.server, "connect", lambda *_arguments: contextlib.nullcontext())
    app = {"name": "app", "logins": ["app", "app-b"], "roles": ["readWrite@test"]}

    def converge(check: bool = False, roles: str = "readWrite@test") -> list[str]:
        options = {"users": [{**app, "roles": [roles]}], "passwords_secret": {"name": "x"}}
        return [act["command"] for act in call(users, formed, check, **options)["plan"]]

    assert converge(check=True) == converge() == ["createUser app"] and converge() == []
    assert converge(roles="read@test") == ["updateUser app"] and converge() == ["updateUser app"]
    held |= {"next-app-login": "app-b", "next-app-password": SECOND}
    assert converge() == ["createUser app-b"] and converge() == []
    held.clear()
    held |= {"password": PASSWORD, "app-login": "app-b", "app-password": SECOND}
    assert converge() == ["dropUser app"] and converge() == []
