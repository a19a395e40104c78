# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what Patroni and the server answer to plain data, and the questions whose answers these are (private: may change without notice)."""

from __future__ import annotations

import dataclasses
import re
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
RESTART = "select name, setting, coalesce(unit, '') from pg_settings where context = 'postmaster'"
USERS = (
    "select a.rolname, a.rolconnlimit, a.rolpassword, s.setconfig::text, "
    "(select array_agg(r.rolname::text)::text from pg_auth_members m join pg_authid r on r.oid = m.roleid where m.member = a.oid) from pg_authid a "
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

CEILINGS = {
    "max_connections": 100,
    "max_locks_per_transaction": 64,
    "max_prepared_transactions": 0,
    "max_wal_senders": 10,
    "max_worker_processes": 8,
}
"""What a standby must have at least as much of as its primary, and Patroni's defaults (PostgreSQL's manual, "Hot Standby", administrator's overview;
Patroni's manual, "Patroni configuration"): raised on the standbys first, lowered on the primary first. Patroni starts a standby with what its
pg_controldata says for as long as that is more, so restarting it earlier changes nothing."""

NOT_COMPARED = frozenset(
    {
        *("cluster_name", "hot_standby", "listen_addresses", "port"),
        *("wal_buffers", "commit_timestamp_buffers", "subtransaction_buffers", "transaction_buffers"),
    }
)
"""Parameters that run with another value than a configuration gives: Patroni sets them all the same (its manual, "Patroni configuration"), or the
server chooses for -1 or 0 (PostgreSQL's manual, "Write Ahead Log" and "Resource Consumption")."""

NUMBER = re.compile(r"(-?\d+(?:\.\d+)?)\s*(B|kB|MB|GB|TB|us|ms|s|min|h|d)?")
UNITS = {
    **{"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40},
    **{"us": 0.001, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000},
}
WORDS = {"true": "on", "yes": "on", "false": "off", "no": "off"}

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
        lowered=tuple(
            sorted(
                name
                for name, values in (status.get("pending_restart_reason") or {}).items()
                if name in CEILINGS and less(values.get("new_value"), values.get("old_value"))
            )
        ),
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


def sent_to(members: Sequence[Member]) -> tuple[Member, ...]:
    """The members, those streaming by their own word alone taken at nobody's: a receiver that hangs calls itself streaming for as long as it hangs.
    Whom it streams from tells so (pg_stat_replication), mostly the primary; when none of the others answers, its own word is all there is."""
    tellers = [member for member in members if member.running]
    names = {link.name for member in tellers for link in member.links}
    return tuple(
        dataclasses.replace(member, replication="nobody sends to it")
        if member.streaming and member.name not in names and any(teller is not member for teller in tellers)
        else member
        for member in members
    )


def less(one: object, other: object) -> bool:
    """Of two whole numbers given as such or as text; whatever is none is not less."""
    first, second = str(one), str(other)
    return first.isdecimal() and second.isdecimal() and int(first) < int(second)


def differing(wanted: Mapping[str, object], running: Mapping[str, tuple[str, str]]) -> tuple[str, ...]:
    """The wanted parameters whose running value (with its unit, of pg_settings) is another."""
    named = sorted((set(wanted) & set(running)) - NOT_COMPARED)
    return tuple(name for name in named if _plain(str(wanted[name]), running[name][1]) != _plain(running[name][0], running[name][1]))


def _plain(value: str, unit: str) -> float | str:
    """A value of pg_settings or of a configuration so that equal ones are equal: a number of bytes or milliseconds, or a word."""
    text = value.strip()
    if found := NUMBER.fullmatch(text):
        number, own = float(found[1]), found[2] or unit
        return number * UNITS[own] if own in UNITS else number * int(own[:-2]) * 1024 if own[:-2].isdecimal() else number
    return WORDS.get(text.lower(), text.lower())


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
    return {
        str(name): User(int(limit or -1), settings_of(config), stored or "", roles=frozenset(_array(roles or "{}")))
        for name, limit, stored, config, roles in rows
    }


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
