# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every database's backup stands on: the storage, the manifest, retention. S3 is a simulator (s3.py)."""

from __future__ import annotations

import datetime
import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._backup import storage
from ansible_collections.progressive.platform.plugins.module_utils._backup.catalog import (
    Backup,
    Catalog,
    File,
    expired,
    from_json,
    new_id,
    sha256,
    to_json,
)
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.tests.unit.backup import s3
from ansible_collections.progressive.platform.tests.unit.backup.s3 import SECRET, bucket_of, emptied

NOW = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.UTC)

simulator = s3.simulator


def identifier(days: float) -> str:
    return new_id(NOW - datetime.timedelta(days=days), b"\1\2")


def backup(days: float = 0, files: tuple[File, ...] = ()) -> Backup:
    return Backup("redis_cluster", "cache", identifier(days), NOW.isoformat(), NOW.isoformat(), files, {"shards": []})


# ---- retention --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ages", "keep", "keep_days", "gone"),
    [
        ([0, 1, 2], 0, 0, []),
        ([0, 1, 2], 2, 0, [2]),
        ([2, 0, 1], 1, 0, [1, 2]),
        ([0, 1, 2], 5, 0, []),
        ([0, 1, 2.5], 0, 2, [2.5]),
        ([8, 9], 0, 7, [9]),  # the newest stays, however old
        ([0, 1, 8, 9], 1, 7, [8, 9]),  # days keep what the number would not
        ([8, 9, 10], 2, 7, [10]),  # and the number what days would not
        ([], 3, 3, []),
    ],
)
def test_retention(ages: list[float], keep: int, keep_days: float, gone: list[float]) -> None:
    assert sorted(expired(map(identifier, ages), keep, keep_days, NOW)) == sorted(map(identifier, gone))


# ---- the manifest -----------------------------------------------------------------------------------------------------------


def test_manifest_comes_back_as_it_was() -> None:
    one = backup(files=(File("shard-0.rdb", 7, "ab"),))
    assert from_json(to_json(one), "here") == one


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "damaged"),
        ("[]", "damaged"),
        (to_json(backup())[:-20], "damaged"),
        ('{"format": 2}', "format 2; this collection reads format 1"),
        (to_json(backup()).replace('"component"', '"part"'), "damaged"),
        (to_json(backup(files=(File("../up", 1, "x"),))), "outside the backup"),
        (to_json(backup()).replace(NOW.isoformat(), "yesterday"), "damaged"),
    ],
)
def test_manifest_that_cannot_be_trusted(text: str, says: str) -> None:
    with pytest.raises(PlatformError, match=f"manifest here .*{says}"):
        from_json(text, "here")


# ---- the storages -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["directory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, t.Any]:
    if request.param == "directory":
        return {"path": str(tmp_path / "kept"), "s3": None, "spool": None}
    return emptied(request.getfixturevalue("simulator"))


def fill(kept: storage.Storage, one: Backup, contents: dict[str, bytes]) -> Backup:
    """Upload files under a backup; its manifest is not written yet."""
    files = []
    with kept.spool() as spool:
        for name, content in contents.items():
            path = spool / name
            path.write_bytes(content)
            files.append(File(name, len(content), sha256(path)))
            kept.upload(f"{one.folder}/{name}", path)
            assert not path.exists()
    assert not spool.exists()
    return Backup(one.component, one.name, one.id, one.started, one.finished, tuple(files), one.facts)


def test_a_backup_in_a_storage(place: dict[str, t.Any], tmp_path: Path) -> None:
    catalog = Catalog(storage.storage_of({"storage": place}), "redis_cluster", "cache")
    assert catalog.complete() == []
    with pytest.raises(PlatformError, match="there is no complete backup; complete ones: none"):
        catalog.find("latest")
    content = {"one": os.urandom(20000), "two": b""}
    unfinished = fill(catalog.storage, backup(2), content)
    assert catalog.complete() == [], "files without a manifest are no backup"
    catalog.keep(unfinished)
    older = fill(catalog.storage, backup(3), content)
    catalog.keep(older)
    assert catalog.complete() == [unfinished.id, older.id]
    assert catalog.find("latest") == unfinished and catalog.find(older.id) == older
    with pytest.raises(PlatformError, match=f"there is no complete backup 20200101; complete ones: {unfinished.id}, {older.id}"):
        catalog.find("20200101")
    paths = catalog.checked(older, tmp_path)
    assert {name: path.read_bytes() for name, path in paths.items()} == content

    catalog.storage.write(f"{older.folder}/one", content["one"][:-1] + bytes([content["one"][-1] ^ 1]))
    with pytest.raises(PlatformError, match=f"one of backup {older.id} in .* is damaged: its SHA-256"):
        catalog.checked(older, tmp_path)
    catalog.storage.write(f"{older.folder}/one", content["one"][:-1])
    with pytest.raises(PlatformError, match=f"one of backup {older.id} in .* is damaged: it has 19999 bytes, 20000 were written"):
        catalog.checked(older, tmp_path)
    catalog.storage.remove([f"{older.folder}/one"])
    with pytest.raises(PlatformError, match=f"cannot be read.*{older.folder}/one"):
        catalog.checked(older, tmp_path)


def test_pruning_removes_the_expired_and_the_abandoned(place: dict[str, t.Any]) -> None:
    catalog = Catalog(storage.storage_of({"storage": place}), "redis_cluster", "cache")
    other = Catalog(catalog.storage, "redis_cluster", "cache2")
    whole = [fill(catalog.storage, backup(days), {"file": b"x"}) for days in (0, 1, 2)]
    for one in whole:
        catalog.keep(one)
    young, old = (fill(catalog.storage, backup(days), {"file": b"x"}) for days in (0.5, 3))
    neighbour = Backup("redis_cluster", "cache2", identifier(9), NOW.isoformat(), NOW.isoformat(), (), {})
    other.keep(neighbour)
    assert catalog.prune(2, 0, NOW) == sorted([whole[2].id, old.id])
    assert catalog.complete() == [whole[0].id, whole[1].id] and other.complete() == [neighbour.id]
    assert {name.split("/")[2] for name in catalog.storage.names("redis_cluster/cache")} == {whole[0].id, whole[1].id, young.id}


def test_a_directory_is_its_owners_only_and_clears_up_after_the_killed(tmp_path: Path) -> None:
    kept = storage.Directory(str(tmp_path / "kept"))
    kept.write("a/b/c", b"x")
    assert [path.stat().st_mode & 0o077 for path in (tmp_path / "kept").rglob("*")] == [0, 0, 0]
    left = tmp_path / "kept" / f"{storage.PART}left"
    left.mkdir()
    (left / "file").write_bytes(b"x")
    kept.write("d", b"x")
    assert left.exists(), "it may be somebody's at work"
    os.utime(left, (0, 0))
    kept.write("e", b"x")
    assert not left.exists()


def test_a_storage_that_cannot_be_used_says_why(tmp_path: Path, simulator: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(PlatformError, match=r"storage .*/file/x cannot be written to: Not a directory"):
        storage.Directory(str(tmp_path / "file" / "x")).write("a", b"x")
    for changed, says in (
        ({"bucket": "nobodys"}, "s3://nobodys/a/b/ at http://127.0.0.1:.* cannot be listed: NoSuchBucket"),
        ({"endpoint": "http://127.0.0.1:1"}, "cannot be listed.*[Cc]onnection refused"),
    ):
        with pytest.raises(PlatformError, match=says) as caught:
            storage.storage_of({"storage": bucket_of(simulator, **changed)}).names("x")
        assert SECRET not in str(caught.value)
    with pytest.raises(PlatformError, match="endpoint is 'minio'; it must be http:// or https://"):
        storage.storage_of({"storage": bucket_of("minio")})


def test_a_name_that_would_lead_elsewhere() -> None:
    for name in ("../x", "a/b", "", ".hidden"):
        with pytest.raises(PlatformError, match="as part of a path"):
            Catalog(storage.Directory("/nowhere"), "redis_cluster", name)
