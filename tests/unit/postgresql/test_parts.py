# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Parsers, the protocol and the statements, each by itself."""

from __future__ import annotations

import dataclasses
import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._postgresql import objects, observe, wire
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.converge import ARGUMENTS, logins, system_users, wanted
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.model import Archive, Database, Desired, Facts, Target, User
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

TARGET = Target("postgres-1", "10.0.0.2", 8008)
STATUS = {
    "state": "running",
    "role": "replica",
    "server_version": 150018,
    "xlog": {"received_location": 900, "replayed_location": 800},
    "sync_standby": True,
    "timeline": 4,
    "replication_state": "streaming",
    "pending_restart_reason": {"max_connections": {"old_value": "100", "new_value": "200"}},
    "dcs_last_seen": 990,
    "database_system_identifier": "77",
    "patroni": {"version": "4.1.5", "scope": "c", "name": "postgres-1"},
}
CLUSTER = {
    "members": [
        {"name": "postgres-0", "role": "leader", "state": "running", "host": "10.0.0.1", "port": 5432},
        {"name": "postgres-1", "role": "sync_standby", "state": "streaming", "host": "10.0.0.2", "port": 5433},
    ]
}


def test_a_replica_as_patroni_tells_it() -> None:
    member = observe.member_of(TARGET, STATUS, CLUSTER, 1000.0)
    assert (member.streaming, member.primary, member.sync, member.pending) == (True, False, True, ("max_connections",))
    assert (member.position, member.received, member.leader, member.silence) == (800, 900, "postgres-0", 10.0)
    assert member.target.sql_port == 5433, "where it listens it says itself"


@pytest.mark.parametrize(
    ("links", "others", "streaming"),
    [
        (["postgres-1"], "running", True),
        (["postgres-2"], "running", False),  # its receiver hangs, and its walsender has ended
        ([], "running", False),
        ([], "starting", True),  # nobody else can say
    ],
)
def test_streaming_is_what_both_ends_say(links: list[str], others: str, streaming: bool) -> None:
    replica = observe.member_of(TARGET, STATUS, CLUSTER, 1000.0)
    told = [{"application_name": name, "state": "streaming", "sync_state": "async"} for name in links]
    status = {"state": others, "role": "primary", "replication": told, "patroni": {"name": "postgres-0", "version": "4.1.5"}}
    primary = observe.member_of(Target("postgres-0", "10.0.0.1", 8008), status, CLUSTER, 1000.0)
    assert [member.streaming for member in observe.sent_to([primary, replica])] == [False, streaming]


def test_a_member_that_has_no_server_yet() -> None:
    status = {"state": "stopped", "role": "uninitialized", "patroni": {"name": "postgres-1", "version": "4.1.5"}, "dcs_last_seen": 999}
    member = observe.member_of(TARGET, status, {"members": []}, 1000.0)
    assert member.live and not member.running and not member.streaming and (member.system, member.leader) == ("", "")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, {}),
        ("{}", {}),
        ("{statement_timeout=5s}", {"statement_timeout": "5s"}),
        ('{"search_path=a, b",work_mem=8MB}', {"search_path": "a, b", "work_mem": "8MB"}),
        (r'{"application_name=say \"x\""}', {"application_name": 'say "x"'}),
    ],
)
def test_settings_of_a_role(text: str | None, found: dict[str, str]) -> None:
    assert observe.settings_of(text) == found


@pytest.mark.parametrize(
    ("row", "level"),
    [
        (("u", "f", "t", "2", "2", "2", "1", "1"), None),
        (("u", "t", "t", "2", "1", "0", "1", "0"), "connect"),
        (("u", "t", "t", "2", "2", "1", "1", "0"), "read"),
        (("u", "t", "t", "2", "2", "2", "0", "0"), "connect"),  # of the tables to come it would see none
        (("u", "t", "t", "2", "2", "2", "1", "1"), "write"),
        (("u", "t", "t", "0", "0", "0", "1", "1"), "write"),
    ],
)
def test_levels_are_held_in_full_or_not_at_all(row: tuple[str, ...], level: str | None) -> None:
    assert observe.grants_of([row]).get("u") == level


@pytest.mark.parametrize(
    ("last", "failure", "failing"), [(None, None, False), (5.0, None, False), (None, 5.0, True), (5.0, 9.0, False), (9.0, 5.0, True)]
)
def test_an_archive_fails_when_its_last_attempt_did(last: float | None, failure: float | None, failing: bool) -> None:
    assert Archive("on", last=last, last_failure=failure).failing is failing


# ---- statements -------------------------------------------------------------------------------------------------------------

WANTED = Desired(
    users={"shop": User(password="never-shown"), "report": User(5, {"statement_timeout": "5s"}, "also-never-shown")},
    databases={"shop": Database("shop", frozenset({"pg_trgm"}), {"report": "read"})},
)
THERE = Facts(
    users={
        "shop": User(password=wire.verifier("never-shown")),
        "report": User(5, {"statement_timeout": "5s"}, wire.verifier("also-never-shown")),
        "somebody": User(),
    },
    databases={"shop": Database("shop", frozenset({"plpgsql", "pg_trgm"}), {"report": "read"}), "old": Database("somebody")},
)


def texts(facts: Facts, desired: Desired = WANTED) -> list[str]:
    return [f"{statement.database}: {statement.shown}" for statement in objects.missing(desired, facts)]


def test_nothing_is_missing_where_everything_is_there() -> None:
    assert texts(THERE) == []


def test_everything_is_made_in_the_order_of_need_and_shows_no_secret() -> None:
    statements = objects.missing(WANTED, Facts())
    kinds = [" ".join(statement.text.split()[:2]) for statement in statements]
    assert kinds[:2] == ["CREATE ROLE", "CREATE ROLE"] and kinds.index("CREATE DATABASE") < kinds.index("CREATE EXTENSION") < kinds.index(
        "GRANT CONNECT"
    )
    assert not any("never-shown" in statement.text + statement.shown + repr(statement) for statement in statements)
    assert not any("SCRAM" in statement.shown + repr(statement) for statement in statements)
    stored = [statement.text for statement in statements if "PASSWORD" in statement.text]
    assert len(stored) == 2 and all("'SCRAM-SHA-256$4096:" in text for text in stored)


CHANGES: list[tuple[Callable[[], Facts], str]] = [
    (lambda: dataclasses.replace(THERE, users={**THERE.users, "shop": User(password=wire.verifier("old"))}), 'ALTER ROLE "shop" PASSWORD'),
    (lambda: dataclasses.replace(THERE, users={**THERE.users, "shop": User(9, {}, THERE.users["shop"].password)}), "CONNECTION LIMIT -1"),
    (
        lambda: dataclasses.replace(THERE, users={**THERE.users, "shop": User(-1, {"jit": "off"}, THERE.users["shop"].password)}),
        'RESET "jit"',
    ),
    (
        lambda: dataclasses.replace(THERE, databases={"shop": dataclasses.replace(THERE.databases["shop"], owner="somebody")}),
        'OWNER TO "shop"',
    ),
    (
        lambda: dataclasses.replace(THERE, databases={"shop": dataclasses.replace(THERE.databases["shop"], extensions=frozenset())}),
        'EXISTS "pg_trgm"',
    ),
]


@pytest.mark.parametrize(("facts", "words"), CHANGES, ids=[words for _facts, words in CHANGES])
def test_one_statement_for_one_difference(facts: Callable[[], Facts], words: str) -> None:
    (text,) = texts(facts())
    assert words in text


STEPS: list[tuple[dict[str, str], list[str]]] = [
    ({"shop": "one"}, ['CREATE ROLE "shop" LOGIN CONNECTION LIMIT -1']),
    (
        {"shop": "one", "shop.login": "shop", "next-shop": "two", "next-shop.login": "shop_2"},
        ['CREATE ROLE "shop_2" LOGIN CONNECTION LIMIT -1 IN ROLE "shop"', """ALTER ROLE "shop_2" SET "role" TO 'shop'"""],
    ),
    ({"shop": "two", "shop.login": "shop_2", "former-shop": "one", "former-shop.login": "shop"}, []),
    ({"shop": "two", "shop.login": "shop_2"}, ['ALTER ROLE "shop" PASSWORD NULL']),
    (
        {"shop": "two", "shop.login": "shop_2", "next-shop": "three", "next-shop.login": "shop"},
        ['ALTER ROLE "shop" PASSWORD (of the Secret)'],
    ),
    ({"shop": "three", "shop.login": "shop", "former-shop": "two", "former-shop.login": "shop_2"}, []),
    ({"shop": "three", "shop.login": "shop"}, ['ALTER ROLE "shop_2" PASSWORD NULL']),
]


def test_a_password_changes_by_two_logins_that_take_turns() -> None:
    """After each write of the Secret the statements that are missing, carried out; whoever has the current or the former one gets in."""
    there: dict[str, User] = {}
    for secret, expected in STEPS:
        desired = Desired(users=logins(secret, "shop", "shop", User()))
        statements = objects.missing(desired, Facts(users=there))
        assert [statement.shown for statement in statements] == expected
        for name, user in desired.users.items():
            if not user.over or name in there:
                there[name] = User(user.connections, user.settings, wire.verifier(user.password) if user.password else "")
        assert objects.missing(desired, Facts(users=there)) == []
        for prefix in ("", "former-", "next-"):
            if prefix + "shop" in secret:
                assert wire.verifies(secret[prefix + "shop"], there[secret.get(prefix + "shop.login", "shop")].password)


def test_of_patronis_own_users_only_the_passwords_are_ours() -> None:
    secret = {
        "superuser": "s",
        "replication": "r",
        "replication.login": "replicator",
        "rewind": "w",
        "rewind.login": "rewind",
        "restapi": "x",
    }
    there = {
        name: User(7, {"jit": "off"}, wire.verifier(password))
        for name, password in (("postgres", "s"), ("replicator", "r"), ("rewind", "w"))
    }
    assert objects.missing(Desired(users=system_users(secret)), Facts(users=there)) == []
    staged = secret | {"next-replication": "r2", "next-replication.login": "replicator_2", "next-superuser": "s2"}
    assert [one.shown for one in objects.missing(Desired(users=system_users(staged)), Facts(users=there))] == [
        'CREATE ROLE "replicator_2" LOGIN REPLICATION CONNECTION LIMIT -1 IN ROLE "replicator"'
    ]
    promoted = secret | {"superuser": "s2", "former-superuser": "s"}
    assert [one.shown for one in objects.missing(Desired(users=system_users(promoted)), Facts(users=there))] == [
        'ALTER ROLE "postgres" PASSWORD (of the Secret)'
    ]


def test_roles_of_the_server_are_granted_once_and_to_the_first_login_only() -> None:
    given = {name: option.get("default") for name, option in ARGUMENTS.items()}
    desired = wanted({**given, "users": {"monitor": {"roles": ["pg_monitor"]}}}, {"monitor": "never-shown"})
    assert desired.users["monitor"].roles == {"pg_monitor"} and desired.users["monitor_2"].roles == frozenset()
    assert 'GRANT "pg_monitor" TO "monitor"' in [one.shown for one in objects.missing(desired, Facts())]
    there = {name: dataclasses.replace(user, roles=frozenset({"pg_monitor", "pg_read_all_data"})) for name, user in desired.users.items()}
    assert not [one for one in objects.missing(desired, Facts(users=there)) if "GRANT" in one.shown]


def test_a_higher_grant_is_left_alone() -> None:
    more = dataclasses.replace(THERE, databases={"shop": dataclasses.replace(THERE.databases["shop"], grants={"report": "write"})})
    assert texts(more) == []
    less = dataclasses.replace(THERE, databases={"shop": dataclasses.replace(THERE.databases["shop"], grants={"report": "connect"})})
    assert 'shop: GRANT SELECT ON ALL TABLES IN SCHEMA public TO "report"' in texts(less)


def test_names_and_texts_cannot_leave_their_quotes() -> None:
    assert wire.identifier('a"b') == '"a""b"'
    assert wire.literal("a'; drop table b --") == "'a''; drop table b --'"


BAD: list[tuple[dict[str, Any], str]] = [
    ({"members": 0}, "at least 1"),
    ({"users": {"shop": {"password": "x"}}}, "allowed are connection_limit, roles, settings"),
    ({"databases": {"shop": {}}}, "has no owner"),
    ({"databases": {"shop": {"owner": "shop", "grants": {"report": "all"}}}}, "report: all"),
]


@pytest.mark.parametrize(("given", "words"), BAD, ids=[words for _given, words in BAD])
def test_bad_input_is_refused_before_anything_is_asked(given: dict[str, Any], words: str) -> None:
    defaults = {name: option.get("default") for name, option in ARGUMENTS.items()}
    with pytest.raises(PlatformError, match=words):
        wanted({**defaults, **given}, {})


# ---- the protocol -----------------------------------------------------------------------------------------------------------


def test_the_exchange_of_rfc_7677() -> None:
    """The example of its section 3, but for the name, which PostgreSQL takes from the startup message."""
    exchange = wire.Exchange("pencil", "rOprNGfwEbeRWgbNEkqO")
    exchange._bare = "n=user,r=rOprNGfwEbeRWgbNEkqO"
    answer = exchange.answer("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
    assert answer.endswith("p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    exchange.check("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    with pytest.raises(wire.SqlError, match="could not prove"):
        exchange.check("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=")


def test_a_verifier_is_of_its_password_alone() -> None:
    stored = wire.verifier("one")
    assert wire.verifies("one", stored) and not wire.verifies("other", stored)
    assert not wire.verifies("one", "") and not wire.verifies("one", "md5abc") and wire.verifier("one") != stored


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


OK = message(b"R", struct.pack("!I", 0)) + message(b"S", b"server_version\x0015.18\0") + message(b"Z", b"I")


def served(*answers: bytes) -> socket.socket:
    """A socket whose other end answers each thing it is sent with the next of these, then hangs up."""
    near, far = socket.socketpair()

    def serve() -> None:
        with far:
            for answer in answers:
                if not far.recv(65536):
                    return
                far.sendall(answer)
            far.recv(65536)

    threading.Thread(target=serve, daemon=True).start()
    return near


def rows(*values: str | None) -> bytes:
    cells = b"".join(struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value.encode() for value in values)
    return message(b"T", b"\0\0") + message(b"D", struct.pack("!H", len(values)) + cells)


def test_rows_nulls_and_notices() -> None:
    answer = message(b"N", b"SNOTICE\0\0") + rows("a", None, "") + message(b"C", b"SELECT 1\0") + message(b"Z", b"I")
    with wire.Session(served(OK, answer), "u", "p", "d", within=5) as session:
        assert session.query("select") == [("a", None, "")]
        assert session.parameters == {"server_version": "15.18"}


def test_a_refusal_leaves_the_session_usable() -> None:
    refusal = message(b"E", b"SERROR\0C42P01\0Mrelation does not exist\0\0") + message(b"Z", b"I")
    with wire.Session(served(OK, refusal, rows("1") + message(b"Z", b"I")), "u", "p", "d", within=5) as session:
        with pytest.raises(wire.SqlError, match="relation does not exist") as caught:
            session.query("select")
        assert caught.value.code == "42P01" and session.query("select 1") == [("1",)]


@pytest.mark.parametrize(
    ("answers", "error", "words"),
    [
        ((message(b"E", b"SFATAL\0C28P01\0Mpassword authentication failed\0\0"),), wire.SqlError, "password authentication failed"),
        ((message(b"R", struct.pack("!I", 5) + b"salt"),), wire.SqlError, "another way to log in"),
        ((b"HTTP/1.0 400 Bad Request\r\n\r\n",), wire.Lost, "does not speak PostgreSQL"),
        ((), wire.Lost, "closed"),
    ],
    ids=["refused", "md5", "not a server", "hangs up"],
)
def test_a_login_that_fails_says_why(answers: tuple[bytes, ...], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        wire.Session(served(*answers), "u", "p", "d", within=5)


def test_silence_has_an_end() -> None:
    near, far = socket.socketpair()
    with far, pytest.raises(wire.Lost, match=r"no answer within 0\.2 s"):
        wire.Session(near, "u", "p", "d", within=0.2)
    near.close()


@pytest.mark.parametrize(
    ("old", "new", "lowered"),
    [("100", "200", ()), ("200", "100", ("max_connections",)), ("100", "99", ("max_connections",)), ("?", "100", ()), (None, None, ())],
)
def test_what_is_lowered(old: Any, new: Any, lowered: tuple[str, ...]) -> None:
    reasons = {"max_connections": {"old_value": old, "new_value": new}, "shared_buffers": {"old_value": "9MB", "new_value": "8MB"}}
    assert observe.member_of(TARGET, STATUS | {"pending_restart_reason": reasons}, CLUSTER, 1000.0).lowered == lowered


@pytest.mark.parametrize(
    ("wanted", "setting", "unit", "same"),
    [
        ("16MB", "2048", "8kB", True),
        ("17MB", "2048", "8kB", False),
        (2048, "2048", "8kB", True),
        ("1GB", "1024", "MB", True),
        ("5min", "300", "s", True),
        ("100", "100", "", True),
        (101, "100", "", False),
        (True, "on", "", True),
        ("no", "off", "", True),
        ("on", "off", "", False),
        ("logical", "replica", "", False),
        ("0.9", "0.9", "", True),
        ("-1", "-1", "8kB", True),
    ],
)
def test_what_runs_is_compared_with_what_is_wanted(wanted: Any, setting: str, unit: str, same: bool) -> None:
    assert observe.differing({"some": wanted, "work_mem": "1MB"}, {"some": (setting, unit)}) == (() if same else ("some",))


@pytest.mark.parametrize(
    ("name", "wanted", "runs"), [("port", 5433, "5432"), ("wal_buffers", -1, "2048"), ("transaction_buffers", 0, "64")]
)
def test_what_patroni_or_the_server_chooses_is_not_compared(name: str, wanted: int, runs: str) -> None:
    assert observe.differing({name: wanted}, {name: (runs, "")}) == ()
