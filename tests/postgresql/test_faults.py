# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults that need a machine's own hands: a disk that is full, data of another cluster. Named, healed or refused, on real servers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.wire import Lost, SqlError
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.tests.postgresql.faults import record
from ansible_collections.progressive.platform.tests.postgresql.lab import AS_POSTGRES, BINARIES, SETTINGS, Lab, Member, lab, until

DISK = 224  # MiB


@pytest.fixture
def whole(lab: Lab) -> Iterator[Lab]:
    for member in lab.members:
        if member.process is None or member.process.poll() is not None:
            member.start()
    lab.converge(config=SETTINGS)
    yield lab
    lab.converge(config=SETTINGS)


def lead(lab_: Lab, member: Member) -> None:
    """Make it the primary: while it is the only other one, it is the synchronous standby, and stays that."""
    lab_.converge(config=SETTINGS)
    third = next(one for one in lab_.members if one not in (member, lab_.primary()))
    third.stop()
    until(
        lambda: any(row["name"] == member.name and row["sync"] == "sync" for row in lab_.info()["members"]), f"{member.name} is synchronous"
    )
    third.start()
    lab_.converge(config=SETTINGS, switchover=member.name)


def findings(lab_: Lab) -> str:
    seen = lab_.info()
    return "; ".join([*(finding["message"] for finding in seen["findings"]), *seen["errors"]])


@pytest.mark.state("P1")
def test_members_of_two_clusters_are_refused(whole: Lab) -> None:
    with lab(1) as other:
        until(lambda: bool(other.info()["primary"]), "the other cluster's primary")
        with pytest.raises(PlatformError, match="data of different clusters") as caught:
            whole.converge(addresses=[*whole.given["addresses"], *other.given["addresses"]], members=4)
    assert caught.value.details["plan"] == []
    record("a member holds data of another cluster", caught.value.message, "refused; nothing is touched", where="loopback")


@pytest.mark.state("P9")
def test_a_data_directory_of_another_cluster_is_not_started(whole: Lab) -> None:
    replica = next(member for member in whole.members if member is not whole.primary())
    replica.stop()
    data, kept = replica.folder / "data", replica.folder / "data.kept"
    data.rename(kept)
    initdb = [*AS_POSTGRES, str(BINARIES / "initdb"), "-D", str(data), "--no-sync", "-A", "trust"]
    subprocess.run(initdb, cwd=replica.folder, check=True, capture_output=True, timeout=120)
    replica.start()
    try:
        until(lambda: "system ID mismatch" in replica.words(), "Patroni refuses the data")
        until(lambda: replica.process is not None and replica.process.poll() is not None, "Patroni ends")
        said = findings(whole)
        assert replica.name in said
        record(
            "a data directory of another cluster is attached",
            said,
            "Patroni refuses it (system ID mismatch) and does not start",
            where="loopback",
        )
    finally:
        replica.stop()
        shutil.rmtree(data)
        kept.rename(data)
        replica.start()


@pytest.mark.slow
@pytest.mark.state("P4", "P9")
def test_a_full_disk_is_named_and_another_takes_over(whole: Lab) -> None:
    """The primary's data directory on a file system of its own, which is then filled."""
    primary = whole.primary()
    primary.stop()
    data, kept = primary.folder / "data", primary.folder / "data.kept"
    data.rename(kept)
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}m,mode=0700", "tmpfs", str(data)], check=True, timeout=30)
    try:
        subprocess.run(["cp", "-a", f"{kept}/.", str(data)], check=True, timeout=60)
        shutil.copystat(kept, data)
        shutil.chown(data, kept.owner(), kept.group())
        primary.start()
        lead(whole, primary)
        whole.sql(primary, "drop table if exists full_disk; create table full_disk (x text)")
        ballast = data / "ballast"
        ballast.write_bytes(b"x" * (shutil.disk_usage(data).free - 2**20))
        with pytest.raises(SqlError, match="No space left"):  # a table cannot grow: an error, and the server goes on
            whole.sql(primary, "insert into full_disk select repeat('x', 1000) from generate_series(1, 60000)")
        with pytest.raises((Lost, OSError)):  # the WAL cannot: the server ends itself
            whole.sql(primary, f"select pg_logical_emit_message(false, 'disk', repeat('x', 1000000)) from generate_series(1, {DISK})")
        until(lambda: whole.info()["primary"] not in ("", primary.name), "another primary")
        said = findings(whole)
        assert primary.name in said
        record("the primary's disk is full", said, "another takes over; with room again it is rewound and follows", where="loopback")
        ballast.unlink()
        whole.converge(config=SETTINGS)
    finally:
        primary.stop()
        subprocess.run(["umount", "-l", str(data)], check=True, timeout=30)
        data.rmdir()
        shutil.rmtree(kept)
        primary.start()
