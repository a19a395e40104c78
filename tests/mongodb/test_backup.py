# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backup, restore, comparison and drill of a real FerretDB: every kind of value, damaged files, runs that are killed, servers that are not empty."""

from __future__ import annotations

import datetime
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._mongodb import backup, restore
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError, Result
from ansible_collections.progressive.platform.tests.mongodb.ferret import ADMIN, PASSWORD, Ferret
from bson import BSON, Int64, ObjectId, Regex, decode_all
from bson.binary import Binary
from bson.timestamp import Timestamp

# FerretDB is compiled for them, which takes minutes where nobody has done it yet.
pytestmark = pytest.mark.slow

NOW = datetime.datetime(2026, 11, 23, 12, 0, 0, 250_000, tzinfo=datetime.UTC)
KINDS: dict[str, Any] = {
    "_id": "kinds",
    "double": 1.0,
    "int": 1,
    "long": Int64(1),
    "text": "\u00fc \u2603",
    "nothing": None,
    "yes": True,
    "at": NOW,
    "id": ObjectId("0123456789abcdef01234567"),
    "bytes": Binary(b"\x00\xff"),
    "pattern": Regex("^a", "i"),
    "stamp": Timestamp(1, 2),
    "nested": {"b": [1, {"a": 2.5}], "a": []},
}


@pytest.fixture
def filled(ferret: Ferret, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two databases, an index, a document of every kind, and a storage."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with ferret.client() as client:
        empty(ferret)
        client.shop.items.insert_one(KINDS)
        client.shop.items.insert_many([{"_id": number, "name": f"item {number}", "price": number / 4} for number in range(2500)])
        client.shop.items.create_index([("name", 1), ("price", -1)], name="by_name", unique=True)
        client.notes["odd name"].insert_one({"_id": 1})
        yield tmp_path / "storage"
        empty(ferret)


def empty(ferret: Ferret) -> None:
    with ferret.client() as client:
        for name in client.list_database_names():
            if name not in backup.OWN:
                client.drop_database(name)


def call(module: Any, ferret: Ferret, storage: Path, check: bool = False, **options: Any) -> Result:
    given = {name: option.get("default") for name, option in module.ARGUMENTS.items()}
    given |= {"addresses": [ferret.address], "username": ADMIN, "password": PASSWORD, "storage": {"path": str(storage)}}
    result: Result = module.run({**given, **options}, Context(check=check))
    return result


def everything(ferret: Ferret) -> dict[str, list[dict[str, Any]]]:
    with ferret.client() as client:
        return {
            f"{database}.{name}": sorted(client[database][name].find(), key=lambda one: str(one["_id"]))
            for database in client.list_database_names()
            if database not in backup.OWN
            for name in client[database].list_collection_names()
        }


def test_what_was_backed_up_comes_back(ferret: Ferret, filled: Path) -> None:
    foreseen = call(backup, ferret, filled, check=True)
    assert foreseen["plan"]["collections"] == ["notes.odd name", "shop.items"] and not filled.exists()
    taken = call(backup, ferret, filled)["backup"]
    assert (taken["collections"], taken["documents"]) == (2, 2502)
    before = everything(ferret)
    compared = call(restore, ferret, filled, mode="compare")
    assert not compared["changed"] and compared["compared"]["documents"] == 2502

    empty(ferret)
    planned = call(restore, ferret, filled, check=True)
    assert [step["documents"] for step in planned["plan"]] == [1, 2501] and everything(ferret) == {}
    restored = call(restore, ferret, filled)
    assert restored["restored"]["documents"] == restored["compared"]["documents"] == 2502
    assert everything(ferret) == before
    with ferret.client() as client:
        index = client.shop.items.index_information()["by_name"]
        assert (index["key"], index["unique"]) == ([("name", 1), ("price", -1)], True)
    again = call(restore, ferret, filled)
    assert not again["changed"] and "was restored into this server at" in again["msg"]


def test_a_file_is_what_mongorestore_reads(ferret: Ferret, filled: Path) -> None:
    folder = filled / call(backup, ferret, filled)["backup"]["folder"]
    (found,) = [facts for facts in json.loads((folder / "manifest.json").read_text())["facts"]["collections"] if facts["name"] == "items"]
    documents = decode_all(gzip.decompress((folder / found["file"]).read_bytes()))
    (kinds,) = [document for document in documents if document["_id"] == "kinds"]
    assert BSON.encode(kinds) == BSON.encode(KINDS) and len(documents) == 2501


def test_what_is_there_is_not_overwritten_without_its_token(ferret: Ferret, filled: Path) -> None:
    call(backup, ferret, filled)
    with ferret.client() as client:
        client.shop.items.delete_one({"_id": 7})
        client.shop.others.insert_one({"_id": "stays"})
    with pytest.raises(PlatformError, match=r"is not empty \(notes.odd name, shop.items, shop.others\)") as refused:
        call(restore, ferret, filled)
    with pytest.raises(PlatformError, match="overwrite does not name what is there now"):
        call(restore, ferret, filled, overwrite="0123456789abcdef")
    with pytest.raises(PlatformError, match=r"1 of 2 collections are not as in backup .*shop.items has 2500 documents instead of 2501"):
        call(restore, ferret, filled, mode="compare")
    token = str(re.findall(r"overwrite: (\w+)", refused.value.message)[0])
    assert call(restore, ferret, filled, overwrite=token)["restored"]["documents"] == 2502
    there = everything(ferret)
    assert len(there["shop.items"]) == 2501 and there["shop.others"] == [{"_id": "stays"}]


def test_a_restore_that_was_killed_is_gone_on_with(ferret: Ferret, filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call(backup, ferret, filled)
    before = everything(ferret)
    empty(ferret)
    fill = restore._Task._fill
    with monkeypatch.context() as patch:

        def half(task: Any, one: Any, wanted: Any, database: str) -> None:
            fill(task, one, wanted, database)
            raise KeyboardInterrupt

        patch.setattr(restore._Task, "_fill", half)
        with pytest.raises(KeyboardInterrupt):
            call(restore, ferret, filled)
    call(restore, ferret, filled)
    assert everything(ferret) == before


def test_a_damaged_backup_is_named_and_nothing_is_changed(ferret: Ferret, filled: Path) -> None:
    folder = filled / call(backup, ferret, filled)["backup"]["folder"]
    before = everything(ferret)
    file = folder / "collection-0001.bson.gz"
    whole = file.read_bytes()
    for damaged in (whole[:-20], whole[:50] + b"\x00" + whole[51:]):
        file.write_bytes(damaged)
        with pytest.raises(PlatformError, match=r"collection-0001.bson.gz of backup .* is damaged"):
            call(restore, ferret, filled)
    (folder / "manifest.json").unlink()
    with pytest.raises(PlatformError, match="there is no complete backup"):
        call(restore, ferret, filled)
    assert everything(ferret) == before


def test_a_drill_compares_everything_and_leaves_nothing(ferret: Ferret, filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call(backup, ferret, filled)
    before = everything(ferret)
    with ferret.client() as client:
        client.drill_0123abcd_0.left.insert_one({"_id": "of a drill that was killed"})
    assert len(call(backup, ferret, filled, check=True)["plan"]["collections"]) == 2, "what a drill makes is not backed up"
    held = call(restore, ferret, filled, mode="drill")
    assert held["drill"]["ok"] and held["compared"]["documents"] == held["drill"]["documents"] == 2502
    assert 0 <= held["drill"]["rpo_seconds"] < 3600 and held["drill"]["rto_seconds"] > 0
    assert everything(ferret) == before

    fill = restore._Task._fill

    def lossy(task: Any, one: Any, wanted: Any, database: str) -> None:
        fill(task, one, wanted, database)
        one.connection.client[database][wanted.name].update_one({"_id": 1}, {"$set": {"price": -1}})

    monkeypatch.setattr(restore._Task, "_fill", lossy)
    with pytest.raises(PlatformError, match=r"The drill failed. 2 of 2 collections .*shop.items has other documents") as failed:
        call(restore, ferret, filled, mode="drill")
    assert not failed.value.details["drill"]["ok"]
    assert everything(ferret) == before


def test_retention_keeps_the_newest(ferret: Ferret, filled: Path) -> None:
    first = call(backup, ferret, filled)["backup"]["id"]
    second = call(backup, ferret, filled, keep=1)
    assert second["removed"] == [first]
    with pytest.raises(PlatformError, match=f"no complete backup {first}"):
        call(restore, ferret, filled, backup=first)
