# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a drill looks for in a restored server: rows written once a minute, and digests of tables (private: may change without notice)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._postgresql.providers import position
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.wire import Row, literal

Ask = Callable[[str, str], Sequence[Row]]
"""Statement and database to rows."""

SEGMENT = 16 * 1024 * 1024
# The role's sidecar (templates/scripts/tick.sh) writes a row a minute once the table is there.
CREATE = """
set client_min_messages = warning;
create schema if not exists progressive_platform;
create table if not exists progressive_platform.tick (
  at timestamptz primary key default clock_timestamp(), word text not null default 'tick', lsn pg_lsn not null default pg_current_wal_insert_lsn())"""
WRITE = """
delete from progressive_platform.tick where at < now() - interval '8 days';
insert into progressive_platform.tick (word) values ({word}) returning at::text"""
HAS = "select exists (select from progressive_platform.tick where word = {word})"
LOSS = "select extract(epoch from clock_timestamp() - max(at)) from progressive_platform.tick where lsn <= {until}"
DIGEST = "select count(*), coalesce(sum(hashtextextended(t::text, 0)), 0) from only {table} t"
DATABASES = "select datname from pg_database where datallowconn and not datistemplate order by datname"
TABLES = (
    "select format('%I.%I', n.nspname, c.relname), pg_relation_size(c.oid) from pg_class c join pg_namespace n on n.oid = c.relnamespace "
    "where c.relkind = 'r' and c.relpersistence = 'p' and n.nspname not in ('pg_catalog', 'information_schema', 'progressive_platform') "
    "and n.nspname not like 'pg\\_%' order by 2, 1"
)


def write(word: str) -> str:
    """A row with this word; older ones than anybody asks for go."""
    return f"{CREATE};{WRITE.replace('{word}', literal(word))}"


def has(word: str) -> str:
    return HAS.replace("{word}", literal(word))


def digests(ask: Ask, budget: int) -> tuple[dict[str, str], int]:
    """``database table`` to the number of its rows and a digest that no order of theirs changes; tables beyond ``budget`` bytes are only counted."""
    found: dict[str, str] = {}
    left_out = 0
    for (database,) in ask(DATABASES, "postgres"):
        for table, size in ask(TABLES, str(database)):
            budget -= int(size or 0)
            if budget < 0:
                left_out += 1
                continue
            rows, total = ask(DIGEST.replace("{table}", str(table)), str(database))[0]
            found[f"{database} {table}"] = f"{rows}:{total}"
    return found, left_out


def differing(wanted: Mapping[str, str], seen: Mapping[str, str]) -> list[str]:
    """One line a table that is not as it was."""
    lines = []
    for table, digest in wanted.items():
        rows, there = digest.partition(":")[0], seen.get(table)
        if there is None:
            lines.append(f"{table} is not there")
        elif there != digest:
            lines.append(f"{table} has {there.partition(':')[0]} rows ({rows} were there), or others")
    return lines


def secured(archived: str | None) -> int:
    """The position up to which the archive has everything, by the segment that came last or by the position itself; 0 when nothing is known."""
    if "/" in (archived or ""):
        return position(str(archived))
    found = re.match(r"[0-9A-F]{8}([0-9A-F]{8})([0-9A-F]{8})", archived or "")
    return (int(found[1], 16) << 32) + (int(found[2], 16) + 1) * SEGMENT if found else 0


def loss(until: int) -> str:
    """Seconds of writes that only the servers have: since the newest row that the archive has, by the primary's clock."""
    return LOSS.replace("{until}", literal(f"{until >> 32:X}/{until & 0xFFFFFFFF:X}"))
