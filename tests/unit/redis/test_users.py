# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What rules come to, what is sent to bring a server to them, and what nobody may read."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._health.redis import ending
from ansible_collections.progressive.platform.plugins.module_utils._members.credentials import Access, Tls, overlapping
from ansible_collections.progressive.platform.plugins.module_utils._members.model import Target
from ansible_collections.progressive.platform.plugins.module_utils._redis import grants
from ansible_collections.progressive.platform.plugins.module_utils._redis.access import hashed, shown
from ansible_collections.progressive.platform.plugins.module_utils._redis.grants import Server, Wanted, plan_of
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Node
from ansible_collections.progressive.platform.plugins.module_utils._redis.users import (
    RULES,
    evaluate,
    file_lines,
    parse_list,
    rules_of,
    with_newer,
)
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

COMMANDS = {
    "read": frozenset({"get", "keys"}),
    "write": frozenset({"set", "flushall"}),
    "admin": frozenset({"config", "config|get", "config|set", "psync", "replconf"}),
    "dangerous": frozenset({"keys", "flushall", "config", "config|get", "config|set", "psync", "replconf"}),
    "fast": frozenset({"get", "ping"}),
}
NEW, OLD = "a-password-new", "a-password-old"


def commands(rules: str) -> set[str]:
    return set(evaluate(rules.split(), COMMANDS).commands)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("+@read", {"get", "keys"}),
        ("-@all +@read -keys", {"get"}),
        ("+@all -@dangerous", {"get", "set", "ping"}),
        ("+config", {"config|get", "config|set"}),
        ("+config|get", {"config|get"}),
        ("+@admin -config|set", {"config|get", "psync", "replconf"}),
        ("+get -@all +ping", {"ping"}),
        ("+GET allcommands nocommands +ping", {"ping"}),
    ],
)
def test_the_later_rule_overrules_the_earlier(rules: str, expected: set[str]) -> None:
    assert commands(rules) == expected


def test_two_ways_to_say_the_same_are_the_same() -> None:
    mine = evaluate(["on", "~a:*", "%RW~b:*", "&c", "-@all", "+@read", "-keys", "+ping"], COMMANDS)
    servers = evaluate(parse_list(["user x on sanitize-payload %RW~b:* ~a:* resetchannels &c -@all +get +ping"])["x"], COMMANDS)
    assert mine.same_rights(servers)
    assert not mine.same_rights(evaluate(["on", "~a:*", "~b:*", "&c", "-@all", "+get"], COMMANDS))


def test_only_a_server_that_knows_newer_commands_is_given_them() -> None:
    assert with_newer("replication", ("+psync",), COMMANDS) == ("+psync",)
    assert with_newer("replication", ("+psync",), {**COMMANDS, "slow": frozenset({"cluster|syncslots"})}) == (
        "+psync",
        "+cluster|syncslots",
    )


@pytest.mark.parametrize("rules", ["+get >secret", "on +get", "nopass", "(~a +get)"])
def test_rules_say_keys_channels_and_commands_only(rules: str) -> None:
    with pytest.raises(PlatformError, match="is no rule that is taken here"):
        rules_of("one", rules)


def test_the_file_holds_the_five_then_the_given_ones() -> None:
    lines = file_lines({"reports": "~orders:* +@read", "monitor": "+ping"})
    assert list(lines) == [*RULES, "reports"] and lines["monitor"] == "+ping" and lines["operator"] == RULES["operator"]


# ---- the plan ---------------------------------------------------------------------------------------------------------------


def server(name: str = "redis-0", user: str = "replication", auth: str = NEW, clients: tuple[str, ...] = (), **users: str) -> Server:
    lines = {"default": "off -@all", "replication": f"on {hashed(NEW)} -@all +ping +psync +replconf", **users}
    listed = parse_list(f"user {one} {rules}" for one, rules in lines.items() if rules)
    return Server(name, listed, COMMANDS, user, auth, clients, (), True)


def wanted(*passwords: str) -> list[Wanted]:
    return [Wanted("replication", ("-@all", "+ping", "+psync", "+replconf"), passwords or (NEW,))]


def plan(servers: list[Server], users: list[Wanted], default: str = "off", save: bool = False) -> list[tuple[str, int, str]]:
    actions, _warnings = plan_of(servers, users, {"default_user": default, "save": save})
    return [(action.node, action.order, shown(action.command)) for action in actions]


def test_nothing_is_sent_when_nothing_differs() -> None:
    assert plan([server(), server("redis-1")], wanted()) == []


def test_everything_is_added_everywhere_before_anything_ends_anywhere() -> None:
    behind = server("redis-1", auth=OLD, replication=f"on {hashed(OLD)} -@all +ping +psync +replconf", default="on nopass ~* &* +@all")
    steps = plan([behind, server(replication=f"on {hashed(OLD)} {hashed(NEW)} -@all +ping +psync +replconf")], wanted())
    orders = [order for _node, order, _command in steps]
    assert orders == sorted(orders)
    assert [(node, order) for node, order, _command in steps] == [
        ("redis-1", grants.ADD),
        ("redis-1", grants.LOGIN),
        ("redis-1", grants.REMOVE),
        ("redis-0", grants.REMOVE),
        ("redis-1", grants.CLOSE),
    ]
    assert steps[0][2] == "ACL SETUSER replication reset on #*** #*** -@all +ping +psync +replconf"
    assert steps[1][2] == "CONFIG SET masteruser replication masterauth ***"
    assert steps[2][2] == "ACL SETUSER replication !***"


def test_the_next_password_is_taken_beside_the_others_and_is_what_replicas_use() -> None:
    steps = plan([server(auth=OLD, replication=f"on {hashed(OLD)} -@all +ping +psync +replconf")], wanted(NEW, OLD))
    assert [order for _node, order, _command in steps] == [grants.ADD, grants.LOGIN]


def test_other_rights_are_put_right_without_touching_passwords() -> None:
    steps = plan([server(replication=f"on {hashed(NEW)} -@all +@all")], wanted())
    assert [order for _node, order, _command in steps] == [grants.ADD]


def test_the_default_user_stays_while_somebody_uses_it() -> None:
    busy = server(clients=("10.0.0.9:4711",), default="on nopass ~* &* +@all")
    actions, warnings = plan_of([busy], wanted(), {"default_user": "off", "save": False})
    assert actions == [] and "10.0.0.9:4711" in warnings[0]
    assert plan([busy], wanted(), default="keep") == []


def test_what_changed_is_saved_last_and_only_there() -> None:
    steps = plan([server(), server("redis-1", auth=OLD)], wanted(), save=True)
    assert [(node, command.split()[0]) for node, _order, command in steps] == [
        ("redis-1", "CONFIG"),
        ("redis-1", "ACL"),
        ("redis-1", "CONFIG"),
    ]


# ---- secrets ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("ACL", "SETUSER", "x", "reset", "on", "#" + "a" * 64, ">plain", "!" + "b" * 64, "<plain", "+get"), "ACL SETUSER x reset on #*** >*** !*** <*** +get"),
        (("CONFIG", "SET", "masteruser", "r", "masterauth", "plain"), "CONFIG SET masteruser r masterauth ***"),
        (("CONFIG", "SET", "requirepass", "plain"), "CONFIG SET requirepass ***"),
        (("MIGRATE", "h", "1", "", "0", "9", "AUTH", "plain", "KEYS", "k"), "MIGRATE h 1  0 9 AUTH *** KEYS k"),
        (("MIGRATE", "h", "1", "", "0", "9", "AUTH2", "u", "plain", "KEYS", "k"), "MIGRATE h 1  0 9 AUTH2 *** *** KEYS k"),
        (("CLUSTER", "NODES"), "CLUSTER NODES"),
    ],
)  # fmt: skip
def test_a_command_is_shown_without_its_secrets(command: tuple[str, ...], text: str) -> None:
    assert shown(command) == text


def test_nothing_that_holds_a_secret_shows_it() -> None:
    held: list[t.Any] = [Access("u", (NEW,), Tls("ca", "cert", "the-key")), *wanted(), server()]
    for one in held:
        assert NEW not in repr(one) and "the-key" not in repr(one) and hashed(NEW) not in repr(one)


def test_the_secret_s_passwords_are_tried_in_order() -> None:
    values = {"password": "b", "next-password": "c", "former-password": "a"}
    assert overlapping(values, "password") == ("b", "c", "a")
    assert overlapping({"password": "b", "former-password": ""}, "password") == ("b",)


def test_certificates_that_end_are_told() -> None:
    nodes = [
        Node(Target(f"redis-{days}", "10.0.0.1", 6379, 0), certificate_ends=1000 + days * 86400 if days else 0) for days in (0, 13, 15)
    ]
    assert ending(nodes, 14, 1000.0) == ["the certificate redis-13 serves ends in 13 days"]
