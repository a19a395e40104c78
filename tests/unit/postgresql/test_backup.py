# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pure parts of backups: which one leads to a moment, what the archive has, which tables differ, what a program said last."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.inplace import token_of
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.marker import differing, digests, loss, secured, write
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.programs import last_words
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.providers import LATEST, Taken, chosen, position
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.restore import logins
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.wire import Row
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError


def taken(day: int, damaged: bool = False) -> Taken:
    when = f"2026-11-{day:02d}T01:00:00+00:00"
    return Taken(f"202611{day:02d}F", "full", when, when, "7", 100, 10, damaged)


BACKUPS = [taken(20), taken(21), taken(22)]


@pytest.mark.parametrize(
    ("wanted", "target", "found"),
    [
        (LATEST, LATEST, "20261122F"),
        (LATEST, "2026-11-21T12:00:00+00:00", "20261121F"),
        (LATEST, "2026-11-21T02:00:00+01:00", "20261121F"),
        ("20261120F", LATEST, "20261120F"),
        ("20261120F", "2026-11-22T12:00:00+00:00", "20261120F"),
    ],
)
def test_the_newest_backup_that_leads_there(wanted: str, target: str, found: str) -> None:
    assert chosen(BACKUPS, wanted, target, "the repository").id == found


@pytest.mark.parametrize(
    ("backups", "wanted", "target", "words"),
    [
        ([], LATEST, LATEST, "there is no backup; those that are there: none; take one: playbooks/backup.yml"),
        (BACKUPS, LATEST, "2026-11-19T00:00:00+00:00", "no backup ended before 2026-11-19T00:00:00"),
        (BACKUPS, "20261101F", LATEST, "there is no backup 20261101F; those that are there: 20261120F (ended"),
        (BACKUPS, "20261122F", "2026-11-21T00:00:00+00:00", "it leads to no earlier point"),
        ([*BACKUPS, taken(23, damaged=True)], LATEST, LATEST, "Backup 20261123F in the repository is damaged"),
    ],
)
def test_what_leads_nowhere_is_refused(backups: list[Taken], wanted: str, target: str, words: str) -> None:
    with pytest.raises(PlatformError) as refused:
        chosen(backups, wanted, target, "the repository")
    assert words in refused.value.message


@pytest.mark.parametrize(
    ("archived", "until"),
    [
        (None, 0),
        ("", 0),
        ("00000002.history", 0),
        ("000000010000000000000002", 3 * 2**24),
        ("0000000100000016000000B3", (0x16 << 32) + 0xB4 * 2**24),
        ("000000010000000000000002.00000028.backup", 3 * 2**24),
        ("16/B374D848", (0x16 << 32) + 0xB374D848),
    ],
)
def test_how_far_the_archive_has_come(archived: str | None, until: int) -> None:
    assert secured(archived) == until
    assert position("0/3000000") == 3 * 2**24 and "lsn <= '0/3000000'" in loss(3 * 2**24)


def test_tables_beyond_the_budget_are_counted_and_those_that_differ_are_named() -> None:
    def ask(text: str, _database: str) -> Sequence[Row]:
        if "pg_database" in text:
            return [("shop",)]
        if "pg_relation_size" in text:
            return [("public.goods", "100"), ("public.orders", "1000")]
        return [("2", "77")]

    assert digests(ask, 500) == ({"shop public.goods": "2:77"}, 1)
    assert digests(ask, 5000)[1] == 0
    assert differing({"a t": "2:77", "a u": "1:5", "a v": "0:0"}, {"a t": "2:77", "a u": "1:6"}) == [
        "a u has 1 rows (1 were there), or others",
        "a v is not there",
    ]
    assert "values ('it''s')" in write("it's")


def test_errors_are_found_among_what_a_program_says() -> None:
    said = b"P00 INFO: begin\nFATAL:  the database system is starting up\nP00 ERROR: [032]: no archive\nHINT: has it been made?\n"
    assert last_words(said) == "P00 ERROR: [032]: no archive; HINT: has it been made?"
    assert last_words(b"") == "it said nothing" and last_words(b"plain words\n") == "plain words"


def test_a_token_names_the_volumes_and_passwords_go_to_whose_turn_it_is() -> None:
    assert token_of(["b", "a"]) == token_of(["a", "b"]) != token_of(["a", "c"])
    secret = {"superuser": "s", "replication": "r", "replication.login": "replicator_2", "rewind": "w", "restapi": "x"}
    assert logins(secret) == {"postgres": "s", "replicator_2": "r", "rewind": "w"}
