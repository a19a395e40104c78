# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backup, restore and drill of role postgresql by its playbooks on the local cluster, with a repository on a volume."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.tests.cluster.postgres import LIMIT, Postgres, Writer

pytestmark = pytest.mark.slow

GOODS = 1000
ARCHIVE = "ls /var/lib/pgbackrest/archive/*/*"


@pytest.fixture(scope="module")
def postgres(kubeconfig: str, client: Client) -> Iterator[Postgres]:
    with Postgres(client, kubeconfig, postgresql_backup_storage={"volume": {"size": "512Mi"}}) as made:
        made.healthy()
        ask(made, f"create table goods as select n from generate_series(1, {GOODS}) n")
        made.playbook("backup")
        yield made


@pytest.fixture
def point(postgres: Postgres) -> Iterator[str]:
    """A moment in the archive after which the goods are gone."""
    said = ask(postgres, "select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US+00:00')")
    time.sleep(0.2)
    ask(postgres, "drop table goods")
    wanted = ask(postgres, "select pg_walfile_name(pg_current_wal_insert_lsn())")
    ask(postgres, "select pg_switch_wal()")
    deadline = time.monotonic() + LIMIT
    while ask(postgres, "select coalesce(last_archived_wal, '') from pg_stat_archiver") < wanted:
        assert time.monotonic() < deadline, "the archive does not get it"
        time.sleep(1)
    yield said
    ask(postgres, f"create table if not exists goods as select n from generate_series(1, {GOODS}) n")


def ask(postgres: Postgres, text: str, pod: str = "") -> str:
    """What the primary says, without the time zone's colons in the way of a shell."""
    where = pod or postgres.until(lambda seen: bool(seen["primary"]), "a primary")["primary"]
    return postgres.shell(where, f"psql -X -q -A -t -d postgres <<'SQL'\n{text}\nSQL").strip()


def test_a_moment_comes_back_beside_the_cluster_that_serves_on(postgres: Postgres, point: str) -> None:
    before = postgres.named("before")
    primary, systems = postgres.healthy()["primary"], {member["timeline"] for member in postgres.info()["members"]}
    histories = archived(postgres, "history")
    writer = Writer(postgres)
    given = {"restore_confirm": "local", "postgresql_restore_as": "before", "postgresql_restore_target": point}
    try:
        began = time.monotonic()
        silence = writer.through(lambda: print(postgres.playbook("restore", **given)[-600:]), "restored beside")
        print(f"restored beside in {time.monotonic() - began:.0f} s; no write for {silence:.1f} s")
        assert before.info()["state"] == "healthy" and len(before.info()["members"]) == 3
        assert ask(before, "select count(*) from goods") == str(GOODS)
        assert ask(postgres, "select to_regclass('goods') is null") == "t", "only the copy has them"
        seen = postgres.healthy()
        assert (seen["primary"], {member["timeline"] for member in seen["members"]}) == (primary, systems)
        assert ask(before, "show archive_mode") == "off" and archived(postgres, "history") == histories
        # Its data are not given up without their token either.
        with pytest.raises(AssertionError, match=r"overwrite: [0-9a-f]{16}"):
            postgres.playbook("restore", **given)
        assert ask(before, "select count(*) from goods") == str(GOODS)
    finally:
        writer.remove()
        postgres.playbook("teardown", platform_postgresql_name="before", platform_components=["postgresql"])


def test_a_moment_comes_back_in_the_place_of_the_data(postgres: Postgres, point: str) -> None:
    given = {"restore_confirm": "local", "postgresql_restore_target": point}
    with pytest.raises(AssertionError) as refused:
        postgres.playbook("restore", **given)
    token = re.findall(r"overwrite: ([0-9a-f]{16})", str(refused.value))[-1]
    began = time.monotonic()
    postgres.playbook("restore", **given, postgresql_restore_token=token)
    print(f"restored in place in {time.monotonic() - began:.0f} s")
    assert ask(postgres, "select count(*) from goods") == str(GOODS)
    postgres.healthy()
    postgres.playbook("backup")
    assert "'ok': True" in postgres.playbook("drill").replace('"ok": true', "'ok': True")


def archived(postgres: Postgres, words: str) -> list[str]:
    """What of the archive has these words in its name."""
    listed = postgres.shell("postgres-backup-0", ARCHIVE, container="repository").split()
    return sorted(name for name in listed if words in name)
