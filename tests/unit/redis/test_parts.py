# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wire protocol, replies, slot sets and placement, as tables."""

from __future__ import annotations

import itertools
import random
import socket
import typing as t
from collections import Counter

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.pods import natural
from ansible_collections.progressive.platform.plugins.module_utils._members.credentials import Access
from ansible_collections.progressive.platform.plugins.module_utils._members.places import split_address
from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.closer import masterauth
from ansible_collections.progressive.platform.plugins.module_utils._redis.observe import (
    node_of,
    parse_address,
    parse_info,
    parse_nodes,
)
from ansible_collections.progressive.platform.plugins.module_utils._redis.placement import Member, assess, place
from ansible_collections.progressive.platform.plugins.module_utils._redis.rearrange import way
from ansible_collections.progressive.platform.plugins.module_utils._redis.resp import Connection, ConnectionLost, ReplyError, call_all
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, PlatformError
from ansible_collections.progressive.platform.tests.unit.redis.views import target

A, B = "a" * 40, "b" * 40
NODES = (
    f"{A} 10.0.0.1:6379@16379,redis-0.example,shard-id=1 myself,master - 0 0 3 connected 0-5460 5470 [5471->-{B}] [9-<-{B}]\n"
    f"{B} :0@0 slave,fail,noaddr {A} 1426238316232 1426238316232 2 disconnected\n"
    f"{'c' * 40} fd00::1:6379@16379 handshake - 0 0 0 disconnected\n"
)


def test_parse_nodes() -> None:
    entries = parse_nodes(NODES)
    assert set(entries) == {A, B}
    mine, other = entries[A], entries[B]
    assert slots.text(mine.slots) == "0-5460,5470"
    assert mine.open_slots == {5471: ("migrating", B), 9: ("importing", B)}
    assert (mine.host, mine.port, mine.bus_port, mine.epoch, mine.connected, mine.is_master) == ("10.0.0.1", 6379, 16379, 3, True, True)
    assert (other.master, other.failed, other.connected, other.host) == (A, True, False, "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1:6379@16379", ("10.0.0.1", 6379, 16379)),
        ("10.0.0.1:6379@7,host.example", ("10.0.0.1", 6379, 7)),
        (":6379@16379", ("", 6379, 16379)),
        (":0@0", ("", 0, 0)),
        ("fd00::1:6379@16379", ("fd00::1", 6379, 16379)),
        ("[fd00::1]:6379@16379", ("fd00::1", 6379, 16379)),
        ("10.0.0.1:6379", ("10.0.0.1", 6379, 16379)),
    ],
)
def test_parse_address(text: str, expected: tuple[str, int, int]) -> None:
    assert parse_address(text) == expected


INFO = "# Server\r\nredis_version:7.0.15\r\ncluster_enabled:1\r\nrole:master\r\n"
INFO += "# Keyspace\r\ndb0:keys=3,expires=0,avg_ttl=0\r\ndb4:keys=2,expires=1,avg_ttl=9\r\n"
CLUSTER = "cluster_state:ok\r\ncluster_current_epoch:6\r\n"


@pytest.mark.parametrize(
    ("replies", "kind", "text"),
    [
        (ConnectionLost("refused"), "absent", "refused"),
        ([ReplyError("NOAUTH Authentication required.")] * 7, "auth", "NOAUTH"),
        ([ReplyError("ERR unknown command")] * 7, "foreign", "unknown command"),
        (
            ["redis_version:7.0.15\r\ncluster_enabled:0\r\n"] + [ReplyError("ERR This instance has cluster support disabled")] * 6,
            "foreign",
            "cluster-enabled",
        ),
        (
            ["loading:1\r\nloading_eta_seconds:12\r\ncluster_enabled:1\r\n"] + [ReplyError("LOADING Redis is loading")] * 6,
            "loading",
            "loading",
        ),
        (["async_loading:1\r\ncluster_enabled:1\r\n"] + [ReplyError("LOADING")] * 6, "loading", "loading"),
        ([INFO, A, ReplyError("LOADING Redis is loading"), "", [], [], []], "loading", "CLUSTER"),
        ([INFO, A, ReplyError("NOPERM this user has no permissions"), "", [], [], []], "auth", "NOPERM"),
        ([INFO, A, CLUSTER, NODES, [["library_name", "x"]], ["cluster-node-timeout", "5000"], ReplyError("ERR")], "", ""),
    ],
)
def test_node_of(replies: t.Any, kind: str, text: str) -> None:
    node = node_of(target(0), replies)
    assert node.kind == kind and text in node.problem
    if node.live:
        assert (node.keys, node.functions, node.node_timeout_ms, node.sync_delay_s, node.current_epoch) == (5, 1, 5000, -1, 6)
        assert node.cluster_ok and node.release == (7, 0, 15) and not node.fresh


@pytest.mark.parametrize(
    ("user", "password", "expected"),
    [
        ("", "new", 0),
        ("", "old", 1),
        ("", "other", -1),
        ("default", "new", 0),
        ("replication", "new", None),
        (None, "new", None),
        ("", None, None),
    ],
)
def test_masterauth_is_compared_with_our_passwords(user: str | None, password: str | None, expected: int | None) -> None:
    said = [ReplyError("NOPERM") if value is None else [name, value] for name, value in (("masteruser", user), ("masterauth", password))]
    assert masterauth(t.cast(t.Any, said[0]), t.cast(t.Any, said[1]), Access(passwords=("new", "old"))) == expected


@pytest.mark.parametrize(
    ("line", "offset", "unheard"),
    [
        ("ip=10.0.0.5,port=6379,state=online,offset=0,lag=10", 14, {("10.0.0.5", 6379): 10}),
        ("ip=10.0.0.5,port=0,state=online,offset=0,lag=10", 14, {("10.0.0.5", 0): 10}),
        ("ip=10.0.0.5,port=0,state=online,offset=0,lag=1", 0, {("10.0.0.5", 0): 1}),
        ("ip=10.0.0.5,port=6379,state=online,offset=0,lag=1", 0, {}),
        ("ip=10.0.0.5,port=6379,state=online,offset=14,lag=40", 14, {}),
        ("ip=10.0.0.5,port=6379,state=wait_bgsave,offset=0,lag=40", 14, {}),
    ],
)
def test_replicas_that_never_acknowledged(line: str, offset: int, unheard: dict[tuple[str, int], int]) -> None:
    info = f"role:master\r\ncluster_enabled:1\r\nmaster_repl_offset:{offset}\r\nslave_expires_tracked_keys:0\r\nslave0:{line}\r\n"
    node = node_of(target(0), [info, "a" * 40, "cluster_state:ok", "", [], ["t", "15000"], ["d", "5"], "PONG"])
    assert node.unheard == unheard and node.named == ({("10.0.0.5", 6379)} if "port=6379" in line else set())


def test_parse_info_skips_headings() -> None:
    assert parse_info("# Server\r\na:1\r\n\r\nb:c:d\r\n") == {"a": "1", "b": "c:d"}


# ---- wire --------------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"+OK\r\n", "OK"),
        (b":-7\r\n", -7),
        (b"$5\r\na\r\nbc\r\n", "a\r\nbc"),
        (b"$-1\r\n", None),
        (b"$0\r\n\r\n", ""),
        (b"*2\r\n+a\r\n*1\r\n:1\r\n", ["a", [1]]),
        (b"*-1\r\n", None),
        (b"-ERR no\r\n", ReplyError("ERR no")),
    ],
)
def test_replies_in_any_pieces(data: bytes, expected: t.Any) -> None:
    for size in (1, 2, 1000):
        near, far = socket.socketpair()
        connection = Connection(near, Clock())
        connection.send([("PING", "grüß")], Clock().now() + 5)
        assert far.recv(100) == b"*2\r\n$4\r\nPING\r\n$6\r\ngr\xc3\xbc\xc3\x9f\r\n"
        for start in range(0, len(data), size):
            far.sendall(data[start : start + size])
        reply = connection.receive(1, Clock().now() + 5)[0]
        assert reply == expected and isinstance(reply, ReplyError) == isinstance(expected, ReplyError)
        connection.close()
        far.close()


@pytest.mark.parametrize(("data", "text"), [(b"", "closed"), (b"HTTP/1.1 400 Bad Request\r\n", "not a Redis server"), (b"+OK", "closed")])
def test_broken_answers(data: bytes, text: str) -> None:
    near, far = socket.socketpair()
    far.sendall(data)
    far.close()
    connection = Connection(near, Clock())
    with pytest.raises(ConnectionLost, match=text):
        connection.receive(1, Clock().now() + 5)
    assert connection.closed


def test_a_silent_node_costs_its_deadline_and_no_other_reply() -> None:
    (near, far), (mute, _kept) = socket.socketpair(), socket.socketpair()
    far.sendall(b"+PONG\r\n")
    connections = {"good": Connection(near, Clock()), "mute": Connection(mute, Clock())}
    answers = call_all(connections, {"mute": [("PING",)], "good": [("PING",)], "none": [("PING",)]}, Clock().now() + 0.05)
    assert answers["good"] == ["PONG"]
    assert isinstance(answers["mute"], ConnectionLost) and isinstance(answers["none"], ConnectionLost)


# ---- slots -------------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ranges", "text", "size"),
    [
        ([], "none", 0),
        ([(0, 0)], "0", 1),
        ([(0, 16383)], "0-16383", 16384),
        ([(3, 5), (7, 7), (16383, 16383)], "3-5,7,16383", 5),
        ([(1, 4), (3, 9)], "1-9", 9),
    ],
)
def test_slot_text(ranges: list[tuple[int, int]], text: str, size: int) -> None:
    chosen = slots.mask(ranges)
    assert slots.text(chosen) == text and slots.size(chosen) == size == len(slots.numbers(chosen))
    assert slots.mask(slots.ranges(chosen)) == chosen


@pytest.mark.parametrize("bad", [(-1, 3), (5, 4), (0, 16384)])
def test_slot_ranges_out_of_bounds(bad: tuple[int, int]) -> None:
    with pytest.raises(PlatformError, match="is not within 0-16383"):
        slots.mask([bad])


def test_slot_sets_round_trip() -> None:
    source = random.Random(7)
    for _case in range(50):
        chosen = source.getrandbits(slots.COUNT) & source.getrandbits(slots.COUNT)
        assert slots.mask(slots.ranges(chosen)) == chosen
        assert slots.size(slots.first(chosen, 100)) == min(100, slots.size(chosen))


@pytest.mark.parametrize("parts", [1, 3, 5, 6, 7, 100])
def test_split_is_even_and_whole(parts: int) -> None:
    shares = slots.split(slots.ALL, parts)
    assert sum(shares) == slots.ALL and max(map(slots.size, shares)) - min(map(slots.size, shares)) <= 1


def carried(owned: list[int], plan: list[tuple[int, int, int]]) -> list[int]:
    """Who owns what after the moves; a slot that its giver does not own fails."""
    after = list(owned)
    for giver, taker, chosen in plan:
        assert after[giver] & chosen == chosen and chosen
        after[giver] &= ~chosen
        after[taker] |= chosen
    return after


@pytest.mark.parametrize(("owners", "takers", "moved"), [(3, 2, 6553), (2, 1, 5461), (3, 1, 4096), (4, 4, 8192)])
def test_moves_are_the_fewest_and_keep_ranges_whole(owners: int, takers: int, moved: int) -> None:
    owned = [*slots.split(slots.ALL, owners), *[0] * takers]
    out = slots.moves(owned, slots.shares(owned, [True] * (owners + takers)))
    assert sum(slots.size(chosen) for _giver, _taker, chosen in out) == moved
    more = carried(owned, out)
    assert max(map(slots.size, more)) - min(map(slots.size, more)) <= 1
    assert sum(len(slots.ranges(one)) for one in more) <= 2 * owners + takers
    back = slots.moves(more, slots.shares(more, [True] * owners + [False] * takers))
    assert sum(slots.size(chosen) for _giver, _taker, chosen in back) == moved
    again = carried(more, back)
    assert again[owners:] == [0] * takers
    assert [len(slots.ranges(one)) for one in again[:owners]] == [1] * owners


def test_moves_from_any_state_are_the_fewest_and_no_giver_takes() -> None:
    source = random.Random(11)
    for _case in range(100):
        masters = source.randint(3, 8)
        owned = [0] * masters
        for slot, end in slots.ranges(source.getrandbits(slots.COUNT) & source.getrandbits(slots.COUNT))[:40]:
            owned[source.randrange(masters)] |= slots.mask([(slot, end)])
        staying = [index < 3 or source.random() < 0.6 for index in range(masters)]
        wants = slots.shares(owned, staying)
        plan = slots.moves(owned, wants)
        assert [slots.size(one) for one in carried(owned, plan)] == wants
        assert sum(slots.size(chosen) for *_pair, chosen in plan) == sum(
            max(slots.size(one) - want, 0) for one, want in zip(owned, wants, strict=True)
        )
        assert not {giver for giver, *_rest in plan} & {taker for _giver, taker, _chosen in plan}


# ---- placement ---------------------------------------------------------------------------------------------------------------------------------------


def members(count: int, nodes: int, zones: int) -> list[Member]:
    return [Member(f"r{index}", f"n{index % nodes}", f"z{index % nodes % zones}") for index in range(count)]


@pytest.mark.parametrize(
    ("count", "masters", "nodes", "zones", "score"),
    [
        (6, 3, 3, 3, 0),
        (6, 3, 6, 3, 0),
        (9, 3, 3, 3, 0),
        (10, 5, 5, 5, 0),
        (6, 3, 2, 2, 10000),  # one of two domains always has two of three masters, once as node and once as zone
        (6, 3, 6, 2, 5000),
        (6, 3, 1, 1, 43000),
        (6, 3, 6, 1, 8000),
        (3, 3, 3, 3, 0),
        (20, 5, 6, 3, 0),
    ],
)
def test_placement_scores(count: int, masters: int, nodes: int, zones: int, score: int) -> None:
    best = place(members(count, nodes, zones), masters)
    assert best.score == score == assess(members(count, nodes, zones), best.masters, best.master_of).score
    assert len(best.masters) == masters and len(best.master_of) == count - masters
    assert (score == 0) == (not best.violations)


def test_placement_is_exact() -> None:
    """Against every arrangement there is, for random topologies of six."""
    source = random.Random(11)
    for _case in range(25):
        placed = [Member(f"r{index}", source.choice("abcd"), source.choice("xyz")) for index in range(6)]
        names = [member.id for member in placed]
        least = min(
            assess(placed, chosen, dict(zip([name for name in names if name not in chosen], order, strict=True))).score
            for chosen in itertools.combinations(names, 3)
            for order in itertools.permutations(chosen)
        )
        assert place(placed, 3).score == least


@pytest.mark.parametrize(
    ("masters", "replicas", "nodes", "zones", "score"),
    [
        (4, 2, 6, 3, 5000),  # four masters in three zones: two of them are half, wherever they are
        (5, 2, 5, 3, 0),
        (6, 1, 4, 4, 0),
        (7, 1, 3, 3, 0),
        (10, 2, 6, 3, 0),
        (12, 1, 8, 2, 5000),
    ],
)
def test_placement_above_the_exact_search_finds_what_there_is(masters: int, replicas: int, nodes: int, zones: int, score: int) -> None:
    source = random.Random(3)
    for _case in range(8):
        placed = members(masters * (1 + replicas), nodes, zones)
        source.shuffle(placed)
        best = place(placed, masters)
        assert best.score == score, best.violations
        assert sorted(Counter(best.master_of.values()).values()) == [replicas] * masters


def test_placement_above_the_exact_search_leaves_what_is_kept() -> None:
    placed = members(15, 5, 3)
    keep = {"r1": "r0", "r6": "r5"}
    best = place(placed, 5, ["r0", "r5"], keep)
    assert {"r0", "r5"} <= set(best.masters) and keep.items() <= best.master_of.items()
    assert len(best.masters) == 5 and len(best.master_of) == 10


def test_placement_keeps_what_is_there() -> None:
    placed = members(6, 3, 3)
    best = place(placed, 3, ["r3", "r4", "r5"], {"r0": "r3"})
    assert set(best.masters) == {"r3", "r4", "r5"} and best.master_of["r0"] == "r3"
    assert sorted(best.master_of.values()) == ["r3", "r4", "r5"]


def test_unknown_domains_are_never_counted_as_shared() -> None:
    assert place([Member(f"r{index}") for index in range(6)], 3).score == 0


def test_way_needs_a_spare_copy() -> None:
    placed = [Member(f"r{index}", f"n{index % 3}") for index in range(6)] + [Member("r6", "n3")]
    masters = ["r0", "r1", "r2"]
    now = {"r3": "r0", "r4": "r1", "r5": "r2"}
    assert way(placed[:6], masters, now, 0, spared=1, replicas=1) == []
    assert len(way(placed[:6], masters, now, 5000, spared=0, replicas=1)) == 3
    steps = way(placed, masters, {**now, "r6": "r0"}, 0, spared=1, replicas=1)
    counts = dict.fromkeys(masters, 1) | {"r0": 2}
    arrangement = {**now, "r6": "r0"}
    for replica, master in steps:
        counts[arrangement[replica]] -= 1
        counts[master] += 1
        arrangement[replica] = master
        assert min(counts.values()) >= 1
    assert assess(placed, masters, arrangement).score == 0


# ---- addresses and names -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [("127.0.0.1:7000", ("127.0.0.1", 7000)), ("[::1]:7000", ("::1", 7000)), ("redis.example:1", ("redis.example", 1))],
)
def test_split_address(text: str, expected: tuple[str, int]) -> None:
    assert split_address(text) == expected


@pytest.mark.parametrize("text", ["", "host", ":7000", "host:", "host:0", "host:65536", "host:port", "::1:7000"])
def test_split_address_refuses(text: str) -> None:
    with pytest.raises(PlatformError, match="is not host:port"):
        split_address(text)


def test_natural_order() -> None:
    assert sorted(["redis-10", "redis-9", "redis-0"], key=natural) == ["redis-0", "redis-9", "redis-10"]
