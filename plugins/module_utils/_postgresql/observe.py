# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what Patroni and the server answer to plain data, and the questions whose answers these are (private: may change without notice)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._postgresql.model import (
    Archive,
    Database,
    Json,
    Link,
    Member,
    Slot,
    Target,
    User,
)
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.wire import Row, literal

SLOTS = (
    "select slot_name, slot_type, active, coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint, coalesce(wal_status, '') "
    "from pg_replication_slots order by slot_name"
)
LINKS = (
    "select application_name, state, sync_state, pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint, "
    "extract(epoch from coalesce(replay_lag, '0')) from pg_stat_replication order by application_name"
)
ARCHIVE = (
    "select current_setting('archive_mode'), archived_count, failed_count, extract(epoch from now() - last_archived_time), "
    "extract(epoch from now() - last_failed_time) from pg_stat_archiver"
)
RESTART = "select name from pg_settings where context = 'postmaster'"
USERS = (
    "select a.rolname, a.rolconnlimit, a.rolpassword, s.setconfig::text from pg_authid a "
    "left join pg_db_role_setting s on s.setrole = a.oid and s.setdatabase = 0 where a.rolcanlogin and (not a.rolsuper or a.rolname = 'postgres')"
)
DATABASES = "select datname, pg_get_userbyid(datdba) from pg_database where not datistemplate and datallowconn"
EXTENSIONS = "select extname from pg_extension"
# For each user whether it may connect and use the schema, of the tables how many there are and how many it may read and write, and how many grants
# are to come with new tables.
GRANTS = """
select u.name, has_database_privilege(u.name, current_database(), 'CONNECT'), has_schema_privilege(u.name, 'public', 'USAGE'),
  count(c.oid), count(c.oid) filter (where has_table_privilege(u.name, c.oid, 'SELECT')),
  count(c.oid) filter (where has_table_privilege(u.name, c.oid, 'INSERT') and has_table_privilege(u.name, c.oid, 'UPDATE')
    and has_table_privilege(u.name, c.oid, 'DELETE')),
  (select count(*) from pg_default_acl d, aclexplode(d.defaclacl) x
    where d.defaclobjtype = 'r' and x.grantee = quote_ident(u.name)::regrole and x.privilege_type = 'SELECT'),
  (select count(*) from pg_default_acl d, aclexplode(d.defaclacl) x
    where d.defaclobjtype = 'r' and x.grantee = quote_ident(u.name)::regrole and x.privilege_type = 'INSERT')
from (values {users}) u (name)
left join (pg_class c join pg_namespace n on n.oid = c.relnamespace) on c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname = 'public'
group by u.name"""

LEVELS = ("connect", "read", "write")


def member_of(target: Target, status: Json, cluster: Json, now: float) -> Member:
    """A member from its ``/patroni`` and ``/cluster``; ``now`` is a Unix time."""
    patroni, wal = status.get("patroni") or {}, status.get("xlog") or {}
    others = cluster.get("members") or []
    own: Json = next((one for one in others if one["name"] == patroni.get("name")), {})
    return Member(
        target=dataclasses.replace(target, sql_port=target.sql_port or int(own.get("port") or 0)),
        name=str(patroni.get("name", "")),
        state=str(status.get("state", "")),
        role=str(status.get("role", "")),
        timeline=int(status.get("timeline") or 0),
        system=str(status.get("database_system_identifier") or ""),
        version=int(status.get("server_version") or 0),
        patroni=str(patroni.get("version", "")),
        position=int(wal.get("location") or wal.get("replayed_location") or 0),
        received=int(wal.get("received_location") or 0),
        replication=str(status.get("replication_state") or ""),
        sync=bool(status.get("sync_standby") or status.get("quorum_standby")),
        pending=tuple(sorted(status.get("pending_restart_reason") or ())),
        leader=next((str(one["name"]) for one in others if one["role"] in ("leader", "standby_leader")), ""),
        known=tuple(str(one["name"]) for one in others),
        paused=bool(status.get("pause")),
        failsafe=bool(status.get("failsafe_mode_is_active")),
        silence=max(now - float(status.get("dcs_last_seen") or now), 0.0),
        links=tuple(
            Link(str(one["application_name"]), str(one["state"]), str(one["sync_state"]))
            for one in status.get("replication") or []
            if one.get("application_name")
        ),
    )


def slots_of(rows: Iterable[Row]) -> tuple[Slot, ...]:
    return tuple(Slot(str(name), str(kind), active == "t", int(held or 0), str(status)) for name, kind, active, held, status in rows)


def links_of(rows: Iterable[Row]) -> tuple[Link, ...]:
    return tuple(
        Link(str(name), str(state), str(sync), None if lag is None else max(int(lag), 0), None if delay is None else float(delay))
        for name, state, sync, lag, delay in rows
    )


def archive_of(rows: Sequence[Row]) -> Archive:
    mode, archived, failed, last, last_failure = rows[0]
    return Archive(str(mode), int(archived or 0), int(failed or 0), _number(last), _number(last_failure))


def users_of(rows: Iterable[Row]) -> dict[str, User]:
    return {str(name): User(int(limit or -1), settings_of(config), stored or "") for name, limit, stored, config in rows}


def settings_of(array: str | None) -> dict[str, str]:
    """``{statement_timeout=5s,"search_path=a, b"}`` as a mapping."""
    found = {}
    for word in _array(array or "{}"):
        name, _equals, value = word.partition("=")
        found[name] = value
    return found


def grants_question(users: Iterable[str]) -> str:
    """GRANTS for these users."""
    return GRANTS.replace("{users}", ", ".join(f"({literal(user)})" for user in users))


def grants_of(rows: Iterable[Row]) -> dict[str, str]:
    """The highest level that each user has in full, tables to come included; a user with less than connect is left out."""
    found = {}
    for name, connect, usage, tables, read, written, reads_later, writes_later in rows:
        if connect != "t":
            continue
        may_read = usage == "t" and read == tables and int(reads_later or 0) > 0
        may_write = may_read and written == tables and int(writes_later or 0) > 0
        found[str(name)] = "write" if may_write else "read" if may_read else "connect"
    return found


def databases_of(rows: Iterable[Row], extensions: Mapping[str, Iterable[Row]], grants: Mapping[str, Iterable[Row]]) -> dict[str, Database]:
    return {
        str(name): Database(
            str(owner),
            frozenset(str(row[0]) for row in extensions.get(str(name), ())),
            grants_of(grants.get(str(name), ())),
        )
        for name, owner in rows
    }


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)


def _array(text: str) -> list[str]:
    """The elements of an array of texts as the server writes it."""
    words: list[str] = []
    word, quoted, escaped = "", False, False
    for char in text[1:-1]:
        if escaped:
            word, escaped = word + char, False
        elif char == "\\":
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif char == "," and not quoted:
            words.append(word)
            word = ""
        else:
            word += char
    return [*words, word] if word or words else words
