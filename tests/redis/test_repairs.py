# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""States that are repaired by consent only, made for real on redis-server processes: the refusal, what the option does, the end, no write afterwards."""

from __future__ import annotations

import re
import socket
import threading
import time
import typing as t

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._redis.observe import parse_nodes
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.tests.redis.lab import Lab, Server, free_port, kinds, own_entry
from ansible_collections.progressive.platform.tests.redis.test_killed import killed_after

ALL_SLOTS = (0, 16383)


def key_of(server: Server, first: int, last: int) -> tuple[str, int]:
    """A key whose slot is in the range, and that slot."""
    for number in range(100000):
        slot = int(server("CLUSTER", "KEYSLOT", f"own-{number}"))
        if first <= slot <= last:
            return f"own-{number}", slot
    raise AssertionError("no such key")


def disown(lab: Lab, first: int, last: int) -> None:
    """Nobody owns these slots any more, in nobody's view."""

    def unowned() -> bool:
        chosen = ((1 << (last - first + 1)) - 1) << first
        for server in lab.servers:
            for slots in (entry.slots & chosen for entry in parse_nodes(server("CLUSTER", "NODES")).values()):
                if slots:
                    server("CLUSTER", "DELSLOTSRANGE", first, last)
                    return False
        return True

    lab.wait(unowned)


def plant(lab: Lab, server: Server, key: str, value: str = "1") -> None:
    """A key on a node that does not own its slot, as a cluster that lost its memory leaves it."""
    slot = server("CLUSTER", "KEYSLOT", key)
    server("CONFIG", "SET", "cluster-require-full-coverage", "no")
    for entry in parse_nodes(server("CLUSTER", "NODES")).values():
        if entry.slots >> slot & 1:
            server("CLUSTER", "DELSLOTS", slot)
    assert server("CLUSTER", "ADDSLOTS", slot) == "OK"
    lab.wait(lambda: server("SET", key, value) == "OK")
    server("CLUSTER", "DELSLOTS", slot)
    server("CONFIG", "SET", "cluster-require-full-coverage", "yes")


def replace_without_volume(server: Server) -> str:
    """Killed, and back at another address with nothing it had; returns the ID it had."""
    old = server.id()
    server.kill()
    server.wipe()
    server.renumber()
    server.start()
    return old


def refusal(lab: Lab, state: str, **params: t.Any) -> PlatformError:
    with pytest.raises(PlatformError) as refused:
        lab.converge(**params)
    assert refused.value.details["state"] == state, refused.value
    return refused.value


# ---- elections -----------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.state("S9")
def test_s9_a_replica_that_is_not_elected_is_forced_with_consent(lab: Lab) -> None:
    lab.converge()
    lab.fill()
    master = lab.masters()[0]
    successor = lab.replicas_of(master)[0]
    lab.wait(lambda: successor("DBSIZE") == master("DBSIZE"))
    successor("CONFIG", "SET", "cluster-replica-no-failover", "yes")
    old = replace_without_volume(master)
    error = refusal(lab, "S9")
    assert f"allow_data_loss ({old})" in str(error) and f"-p {successor.port} CLUSTER FAILOVER FORCE" in str(error)
    assert own_entry(successor).master == old
    result = lab.converge(allow_data_loss=[old])
    assert ("S9", "failover") in kinds(result)
    assert own_entry(successor).is_master and lab.settled() and lab.read() == 300
    lab.quiet(allow_data_loss=[old])


@pytest.mark.state("S10")
def test_s10_most_masters_lost_are_taken_over_with_consent(lab: Lab) -> None:
    lab.converge()
    lab.fill()
    gone = lab.masters()[:2]
    copies = [lab.replicas_of(server)[0] for server in gone]
    for server, copy in zip(gone, copies, strict=True):
        lab.wait(lambda server=server, copy=copy: copy("DBSIZE") == server("DBSIZE"))
    ids = [replace_without_volume(server) for server in gone]
    error = refusal(lab, "S10")
    assert all(node_id in str(error) for node_id in ids) and "allow_takeover: true" in str(error)
    assert all(f"-p {copy.port} CLUSTER FAILOVER TAKEOVER" in str(error) for copy in copies)
    assert all(own_entry(copy).master for copy in copies)
    result = lab.converge(allow_takeover=True)
    assert ("S10", "takeover") in kinds(result)
    assert any("promoted without an election" in text for text in result["warnings"])
    assert all(own_entry(copy).is_master for copy in copies)
    lab.whole(allow_takeover=True)


@pytest.mark.state("S10")
def test_s10_silent_masters_are_waited_for_before_they_are_taken_over(lab: Lab) -> None:
    lab.converge()
    lab.fill()
    gone = lab.masters()[:2]
    copies = [lab.replicas_of(server)[0] for server in gone]
    for server, copy in zip(gone, copies, strict=True):
        lab.wait(lambda server=server, copy=copy: copy("DBSIZE") == server("DBSIZE"))
    for server in gone:
        server.kill()
    error = refusal(lab, "S10", allow_takeover=True, timeout=3.0)
    assert "most masters are gone" in str(error) and all(own_entry(copy).master for copy in copies)
    error = refusal(lab, "S17", allow_takeover=True, timeout=25.0)
    assert [step["action"] for step in error.details["plan"]].count("takeover") >= 1
    assert all(own_entry(copy).is_master for copy in copies) and lab.read() == 300
    for server in gone:
        server.start()
    lab.converge()
    lab.whole()


# ---- slots without an owner ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.state("S11")
def test_s11_slots_go_to_where_their_keys_are_and_the_empty_ones_need_consent(lab: Lab) -> None:
    lab.converge()
    lab.fill()
    lab.wait(lambda: lab.settled() and all(lab.replicas_of(master)[0]("DBSIZE") == master("DBSIZE") for master in lab.masters()))
    disown(lab, 0, 199)
    error = refusal(lab, "S11")
    assert next((step["state"], step["action"]) for step in error.details["plan"]) == ("S11", "recover")
    named = re.search(r"allow_data_loss: \['([\d,-]+)'\]", str(error))
    assert named and sum(master("DBSIZE") for master in lab.masters()) == 300
    result = lab.converge(allow_data_loss=[named[1]])
    assert ("S11", "reassign") in kinds(result)
    assert any("slots without any key left were given away" in text for text in result["warnings"])
    lab.whole(allow_data_loss=[named[1]])


@pytest.mark.state("S11")
def test_s11_keys_on_two_nodes_are_for_a_person_to_judge(lab: Lab) -> None:
    lab.converge()
    first, second, _third = lab.masters()
    key, slot = key_of(first, 0, 100)
    assert first("SET", key, "right") == "OK"
    disown(lab, slot, slot)
    plant(lab, second, key, "wrong")
    disown(lab, slot, slot)
    error = refusal(lab, "S11", allow_data_loss=[str(slot)])
    assert f"slot {slot}: " in str(error) and "GETKEYSINSLOT" in str(error)
    assert all(f"1 keys on {server.name} ({server.id()})" in str(error) for server in (first, second))
    assert [server("CLUSTER", "COUNTKEYSINSLOT", slot) for server in (first, second)] == [1, 1]


@pytest.mark.state("S11")
def test_s11_a_shard_that_is_lost_with_its_only_copy(lab: Lab) -> None:
    addresses = lab.addresses[:3]
    lab.converge(addresses=addresses, replicas_per_master=0)
    lab.fill()
    held = {server.name: server("DBSIZE") for server in lab.servers[:3]}
    lost = lab.servers[0]
    lost_slots = own_entry(lost).slots
    survivors = sum(held[server.name] for server in lab.servers[1:3])
    old = replace_without_volume(lost)
    addresses = lab.addresses[:3]
    error = refusal(lab, "S11", addresses=addresses, replicas_per_master=0)
    assert old in str(error) and "allow_data_loss: ['0-5461']" in str(error)
    assert not own_entry(lost).slots
    result = lab.converge(addresses=addresses, replicas_per_master=0, allow_data_loss=["0-5461"])
    assert ("S11", "reassign") in kinds(result)
    assert own_entry(lost).slots == lost_slots
    assert lab.read() == survivors
    again = lab.converge(addresses=addresses, replicas_per_master=0)
    assert again["changed"] is False and again["plan"] == []


# ---- two clusters ----------------------------------------------------------------------------------------------------------------------------------------


def halves(lab: Lab, first: tuple[int, int], second: tuple[int, int]) -> tuple[Server, Server]:
    """Two clusters of three nodes, each with one owner of that range."""
    for half, bounds in ((lab.servers[:3], first), (lab.servers[3:], second)):
        lab.meet(*half)
        half[0]("CLUSTER", "ADDSLOTSRANGE", *bounds)
        for server in half:
            server("CONFIG", "SET", "cluster-require-full-coverage", "no")
    return lab.servers[0], lab.servers[3]


def covered(lab: Lab) -> None:
    for server in lab.servers:
        server("CONFIG", "SET", "cluster-require-full-coverage", "yes")


@pytest.mark.state("S20")
def test_s20_two_clusters_with_keys_are_never_joined(lab: Lab) -> None:
    one, other = halves(lab, ALL_SLOTS, ALL_SLOTS)
    try:
        for owner in (one, other):
            lab.wait(lambda owner=owner: owner("SET", "key", owner.name) == "OK")
        error = refusal(lab, "S20")
        for owner in (one, other):
            assert f"{owner.name} ({owner.id()}, 1 keys, slots 0-16383)" in str(error)
            assert owner("GET", "key") == owner.name
        assert "cluster import" in str(error)
        assert all(len(parse_nodes(server("CLUSTER", "NODES"))) == 3 for server in lab.servers)
    finally:
        covered(lab)


@pytest.mark.state("S20")
def test_s20_a_cluster_without_keys_is_dissolved_into_the_other(lab: Lab) -> None:
    one, other = halves(lab, ALL_SLOTS, ALL_SLOTS)
    try:
        lab.wait(lambda: other("SET", "key", "kept") == "OK")
        foreseen = lab.converge(check=True)
        assert ("S20", "reset") in kinds(foreseen) and own_entry(one).slots
        result = lab.converge()
        assert ("S20", "reset") in kinds(result)
        assert {command["node"] for step in result["plan"] if step["action"] == "reset" for command in step["commands"]} == set(
            lab.addresses[:3]
        )
        owner = next(server for server in lab.masters() if own_entry(server).slots >> server("CLUSTER", "KEYSLOT", "key") & 1)
        assert owner("GET", "key") == "kept"
        assert lab.settled()
        lab.quiet()
    finally:
        covered(lab)


@pytest.mark.state("S20")
def test_s20_a_creation_that_died_before_its_nodes_met_is_finished(lab: Lab) -> None:
    shares = {0: (0, 5460), 1: (5461, 10922), 2: (10923, 16383)}
    for index, bounds in shares.items():
        lab.servers[index]("CLUSTER", "ADDSLOTSRANGE", *bounds)
    result = lab.converge()
    assert ("S20", "meet") in kinds(result)
    assert lab.settled()
    assert all(own_entry(lab.servers[index]).slots.bit_count() == last - first + 1 for index, (first, last) in shares.items())
    lab.quiet()


@pytest.mark.state("S20", "S23")
def test_s20_parts_of_one_cluster_are_joined_when_they_are_adopted(lab: Lab) -> None:
    shares = {0: (0, 5460), 2: (5461, 10922), 4: (10923, 16383)}
    for index, bounds in shares.items():
        lab.meet(lab.servers[index], lab.servers[index + 1])
        lab.servers[index]("CLUSTER", "ADDSLOTSRANGE", *bounds)
    for server in lab.servers:
        server("CONFIG", "SET", "cluster-require-full-coverage", "no")
    lab.wait(lambda: all("cluster_state:ok" in server("CLUSTER", "INFO") for server in lab.servers))
    lab.fill()
    covered(lab)
    error = refusal(lab, "S20")
    named = re.search(r"adopt_data: \[([^\]]+)\]", str(error))
    assert named and set(named[1].split(", ")) == {lab.servers[2].id(), lab.servers[4].id()}
    refusal(lab, "S20", adopt_data=named[1].split(", ")[:1])
    result = lab.converge(adopt_data=named[1].split(", "))
    assert ("S20", "meet") in kinds(result)
    lab.whole(adopt_data=named[1].split(", "))


@pytest.mark.state("S20")
def test_s20_a_cluster_in_two_pieces_that_the_marker_remembers_is_joined(lab: Lab) -> None:
    lab.converge()
    lab.fill()
    apart = lab.masters()[0]
    pieces = [[apart, *lab.replicas_of(apart)], [server for server in lab.servers if server not in (apart, *lab.replicas_of(apart))]]
    for here, there in (pieces, pieces[::-1]):
        for server in here:
            assert set(server.pipeline([("CLUSTER", "FORGET", other.id()) for other in there])) == {"OK"}
    lab.wait(lambda: [len(parse_nodes(server("CLUSTER", "NODES"))) for piece in pieces for server in piece] == [2, 2, 4, 4, 4, 4])
    result = lab.converge()
    assert ("S20", "meet") in kinds(result)
    lab.whole()


# ---- foreign nodes and data ------------------------------------------------------------------------------------------------------------------------------


def with_foreigner(lab: Lab) -> Server:
    lab.converge()
    extra = lab.add(1)[0]
    lab.meet(lab.servers[0], extra)
    lab.wait(lambda: all(len(parse_nodes(server("CLUSTER", "NODES"))) == 7 for server in lab.servers))
    lab.servers.remove(extra)
    return extra


@pytest.mark.state("S21")
def test_s21_a_live_node_leaves_when_it_is_named(lab: Lab) -> None:
    extra = with_foreigner(lab)
    try:
        error = refusal(lab, "S21")
        assert f"forget_node_ids: [{extra.id()}]" in str(error)
        result = lab.converge(forget_node_ids=[extra.id()])
        assert ("S21", "forget") in kinds(result)
        assert all(extra.id() not in parse_nodes(server("CLUSTER", "NODES")) for server in lab.servers)
        assert lab.settled()
        lab.quiet(forget_node_ids=[extra.id()])
    finally:
        extra.kill()


@pytest.mark.state("S21")
def test_s21_a_live_node_with_slots_is_not_forgotten(lab: Lab) -> None:
    extra = with_foreigner(lab)
    try:
        for server in (*lab.masters(), extra):
            server("CLUSTER", "SETSLOT", 7, "NODE", extra.id())
        lab.wait(lambda: all(parse_nodes(server("CLUSTER", "NODES"))[extra.id()].slots == 1 << 7 for server in lab.servers))
        error = refusal(lab, "S21", forget_node_ids=[extra.id()])
        assert "owns slots 7" in str(error) and f"--cluster-from {extra.id()}" in str(error)
        assert all(extra.id() in parse_nodes(server("CLUSTER", "NODES")) for server in lab.servers)
    finally:
        extra.kill()


@pytest.mark.state("S22", "S27")
def test_s22_a_dead_master_is_forgotten_after_its_replica_has_another(lab: Lab) -> None:
    lab.converge()
    lab.fill()
    empty, chained = lab.add(2)
    lab.meet(*lab.servers)
    assert chained("CLUSTER", "REPLICATE", empty.id()) == "OK"
    dead = empty.id()
    lab.wait(lambda: all(parse_nodes(server("CLUSTER", "NODES"))[chained.id()].master == dead for server in lab.servers))
    empty.kill()
    lab.servers.remove(empty)
    result = lab.converge(surplus="keep")
    steps = kinds(result)
    assert steps.index(("S27", "replicate")) < steps.index(("S22", "forget"))
    assert own_entry(chained).master in {server.id() for server in lab.masters()}
    assert all(dead not in parse_nodes(server("CLUSTER", "NODES")) for server in lab.servers)
    lab.whole(surplus="keep")


def wiped_newcomer(lab: Lab) -> Server:
    """A replica that came back without its volume, and with a key of its own."""
    lab.converge()
    lab.fill()
    replica = lab.replicas_of(lab.masters()[0])[0]
    replica.kill()
    replica.wipe()
    replica.start()
    return replica


@pytest.mark.state("S23")
def test_s23_the_data_of_a_newcomer_is_dropped_by_name_only(lab: Lab) -> None:
    newcomer = wiped_newcomer(lab)
    plant(lab, newcomer, "own-key")
    newcomer("FUNCTION", "LOAD", "#!lua name=mine\nredis.register_function('f', function() return 1 end)")
    error = refusal(lab, "S23")
    assert f"discard_data: [{newcomer.id()}]" in str(error) and "1 keys and 1 function libraries" in str(error)
    assert newcomer("DBSIZE") == 1
    refusal(lab, "S23", discard_data=["0" * 40])
    named = newcomer.id()
    result = lab.converge(discard_data=[named])
    assert kinds(result)[0] == ("S23", "discard")
    assert any("data was dropped" in text for text in result["warnings"])
    assert lab.settled() and lab.read() == 300 and own_entry(newcomer).master
    lab.quiet(discard_data=[named])


@pytest.mark.state("S23")
def test_s23_keys_whose_slot_has_an_owner_are_not_adopted(lab: Lab) -> None:
    newcomer = wiped_newcomer(lab)
    plant(lab, newcomer, "own-key")
    slot = newcomer("CLUSTER", "KEYSLOT", "own-key")
    error = refusal(lab, "S23", adopt_data=[newcomer.id()])
    assert f"slot {slot} (1 keys, owned by " in str(error) and "cluster import" in str(error)
    assert newcomer("DBSIZE") == 1 and len(parse_nodes(newcomer("CLUSTER", "NODES"))) == 1


@pytest.mark.state("S23", "S11")
def test_s23_keys_that_the_cluster_lost_are_adopted(lab: Lab) -> None:
    """Their slot has no owner, so the newcomer gets it, and then hands it on: three masters are wanted."""
    newcomer = wiped_newcomer(lab)
    key, slot = key_of(newcomer, 0, 16383)
    plant(lab, newcomer, key, "found again")
    members = [server for server in lab.servers if server is not newcomer]
    for server in members:
        server("CLUSTER", "DELSLOTS", slot)
    lab.wait(lambda: not any(entry.slots >> slot & 1 for server in members for entry in parse_nodes(server("CLUSTER", "NODES")).values()))
    result = lab.converge(adopt_data=[newcomer.id()])
    assert ("S11", "recover") in kinds(result)
    owner = next(server for server in lab.masters() if own_entry(server).slots >> slot & 1)
    assert owner("GET", key) == "found again"
    assert lab.settled() and lab.read() == 300 and len(lab.masters()) == 3
    lab.quiet()


@pytest.mark.state("S26")
def test_s26_keys_on_a_master_without_slots_are_dropped_by_name_only(lab: Lab) -> None:
    newcomer = wiped_newcomer(lab)
    plant(lab, newcomer, "own-key")
    lab.meet(newcomer, lab.masters()[0])
    error = refusal(lab, "S26")
    assert newcomer.id() in str(error) and "holds 1 keys" in str(error) and "FLUSHALL" in str(error)
    result = lab.converge(discard_data=[newcomer.id()])
    assert ("S26", "discard") in kinds(result)
    assert lab.settled() and lab.read() == 300 and own_entry(newcomer).master
    lab.quiet(discard_data=[newcomer.id()])


@pytest.mark.state("S27")
def test_s27_replicas_of_a_master_without_slots_become_masters_where_they_are_needed(lab: Lab) -> None:
    lab.meet(*lab.servers)
    for server in lab.servers[1:]:
        assert server("CLUSTER", "REPLICATE", lab.servers[0].id()) == "OK"
    lab.wait(lambda: all(own_entry(server).master for server in lab.servers[1:]))
    ids = [server.id() for server in lab.servers]
    result = lab.converge()
    assert ("S27", "reset") in kinds(result)
    assert lab.settled() and [server.id() for server in lab.servers] == ids and len(lab.masters()) == 3
    lab.quiet()


# ---- roles, replicas, versions ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.state("S28")
def test_s28_masters_come_back_when_asked_for(lab: Lab) -> None:
    lab.converge()
    lab.fill()
    before = [server.name for server in lab.masters()]
    for master in lab.masters()[:2]:
        replica = lab.replicas_of(master)[0]
        assert replica("CLUSTER", "FAILOVER") == "OK"
        lab.wait(lambda replica=replica: own_entry(replica).is_master and lab.settled())
    moved = [server.name for server in lab.masters()]
    assert moved != before
    lab.quiet()
    foreseen = lab.converge(failback=True, check=True)
    result = lab.converge(failback=True)
    assert kinds(foreseen) == [("S28", "failover")] * 2
    assert set(kinds(result)) - {("S4", "record")} == {("S28", "failover")}  # one that a busy machine was too slow for is asked for again
    assert [server.name for server in lab.masters()] == before
    lab.whole(failback=True)


@pytest.mark.state("S28")
def test_s28_a_replica_that_lags_is_waited_for(lab: Lab) -> None:
    lab.converge()
    meant = lab.masters()[0]
    chief = lab.replicas_of(meant)[0]
    assert chief("CLUSTER", "FAILOVER") == "OK"
    lab.wait(lambda: own_entry(chief).is_master and lab.settled())
    first = own_entry(chief).slots
    key, _slot = key_of(chief, (first & -first).bit_length() - 1, first.bit_length() - 1)
    asleep = threading.Thread(target=meant, args=("DEBUG", "SLEEP", 1.5))  # it wakes up to the question and to 16 MB at once
    asleep.start()
    time.sleep(0.1)
    for _write in range(40):
        assert chief("SET", key, "x" * 400_000) == "OK"
    result = lab.converge(failback=True)
    asleep.join()
    found = [(finding["kind"], finding["message"]) for finding in result["found"] if finding["state"] == "S28"]
    assert found and found[0][0] == "wait" and f"{meant.name} is to become the master" in found[0][1] and "bytes behind" in found[0][1]
    assert ("S28", "failover") in kinds(result) and own_entry(meant).is_master and lab.settled()
    lab.quiet(failback=True)


@pytest.mark.state("S25", "S28")
def test_s28_two_masters_on_one_host_are_separated_without_moving_data(lab: Lab) -> None:
    spread = Lab(lab.directory / f"spread-{time.monotonic_ns()}")
    try:
        for host in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
            spread.add(2, host)
        spread.converge()
        spread.fill()
        replica = spread.replicas_of(spread.masters()[0])[0]
        assert replica("CLUSTER", "FAILOVER") == "OK"
        spread.wait(lambda: own_entry(replica).is_master and spread.settled())
        left_alone = spread.quiet()
        assert left_alone["placement"]["score"] == 5000
        assert any("holds 2 of 3 masters" in text for text in left_alone["warnings"])
        result = spread.converge(rebalance_topology=True)
        assert ("S28", "failover") in kinds(result) and not any(action == "replicate" for _state, action in kinds(result))
        assert result["placement"] == {"score": 0, "violations": []}
        assert spread.settled() and spread.read() == 300
        spread.quiet(rebalance_topology=True)
    finally:
        spread.stop()


@pytest.mark.state("S31")
def test_s31_more_replicas_are_attached_where_they_are_needed(lab: Lab) -> None:
    lab.converge()
    lab.fill()
    lab.add(3)
    foreseen = lab.converge(replicas_per_master=2, check=True)
    result = lab.converge(replicas_per_master=2)
    steps = [step for step in dict.fromkeys(kinds(result)) if step != ("S4", "record")]
    assert steps == [("S31", "meet"), ("S31", "replicate")] == [step for step in kinds(foreseen) if step != ("S4", "record")]
    assert [len(lab.replicas_of(master)) for master in lab.masters()] == [2, 2, 2]
    lab.whole(replicas_per_master=2)


@pytest.mark.state("S32")
def test_s32_a_cluster_that_has_just_started_is_given_time(lab: Lab) -> None:
    lab.restart_filled()
    found = {finding["state"] for finding in lab.info(masters=3, replicas_per_master=1)["findings"]}
    assert "S32" in found
    result = lab.converge()
    assert result["changed"] is False and result["plan"] == []
    lab.whole()


@pytest.mark.state("S33")
def test_s33_a_server_that_cannot_save_is_named_with_its_own_words(lab: Lab) -> None:
    lab.converge()
    lab.fill()
    replica = lab.replicas_of(lab.masters()[0])[0]
    lab.wait(lambda: replica("DBSIZE") == lab.masters()[0]("DBSIZE"))  # one that gets a write while it cannot save gives up altogether
    obstacle = replica.directory / "dump.rdb"
    obstacle.unlink(missing_ok=True)
    obstacle.mkdir()  # the snapshot cannot take its place: a full disk as far as the server can tell
    replica("CONFIG", "SET", "save", "3600 1")
    replica("BGSAVE")
    lab.wait(lambda: "rdb_last_bgsave_status:err" in replica("INFO", "persistence"))
    error = refusal(lab, "S33")
    assert (
        replica.name in str(error) and replica.id() in str(error) and "MISCONF" in str(error) and f"-p {replica.port} BGSAVE" in str(error)
    )
    row = next(node for node in lab.info()["nodes"] if node["id"] == replica.id())
    assert row["persistence"]["rdb_ok"] is False and "MISCONF" in row["persistence"]["problem"]
    error = refusal(lab, "S33", recreate_replica=[replica.name])
    assert "it is no pod" in str(error) and lab.masters()[0].name in str(error)
    obstacle.rmdir()
    replica("BGSAVE")
    lab.wait(lambda: "rdb_last_bgsave_status:ok" in replica("INFO", "persistence"))
    lab.quiet()


@pytest.mark.state("S33")
def test_s33_a_damaged_nodes_conf_keeps_a_server_from_starting(lab: Lab) -> None:
    lab.converge()
    lab.fill()
    master = lab.masters()[0]
    replica = lab.replicas_of(master)[0]
    replica.kill()
    (replica.directory / "nodes.conf").write_text("this is not a cluster\n")
    replica.launch()
    assert replica.process is not None and replica.process.wait(20) != 0
    replica.process = None
    error = refusal(lab, "S17", timeout=1.5)
    assert replica.name in str(error)
    error = refusal(lab, "S33", recreate_replica=[replica.name])
    assert "empty its directory" in str(error) and f"its master {master.name} has the data" in str(error)
    replica.wipe()
    replica.start()
    lab.converge()
    lab.whole()


@pytest.mark.state("S33")
def test_s33_the_only_copy_is_never_made_anew(lab: Lab) -> None:
    lab.converge(addresses=lab.addresses[:3], replicas_per_master=0)
    lab.fill()
    lost = lab.servers[0]
    lost.kill()
    error = refusal(lab, "S33", addresses=lab.addresses[:3], replicas_per_master=0, recreate_replica=[lost.name], timeout=20.0)
    assert "it is a master" in str(error) and "the only copy" in str(error)
    lost.start()


class Impostor:
    """A protocol double: a server of the installed version that says it is of the next minor version, as in the middle of an upgrade."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._listener = socket.create_server((server.host, free_port(server.host)))
        self.address = f"{server.host}:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _peer = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection((self._server.host, self._server.port))
            threading.Thread(target=self._pump, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        try:
            while data := source.recv(65536):
                if answers:
                    data = re.sub(rb"(redis_version:\d+\.)(\d)", lambda found: found[1] + b"%d" % ((int(found[2]) + 1) % 10), data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def close(self) -> None:
        self._listener.close()


@pytest.mark.state("S34")
def test_s34_versions_that_differ_allow_failover_and_no_other_change(lab: Lab) -> None:
    lab.converge()
    lab.fill()
    double = Impostor(lab.servers[5])
    try:
        addresses = [*lab.addresses[:5], double.address]
        mixed = lab.converge(addresses=addresses)
        assert [step for step in kinds(mixed) if step != ("S4", "record")] == []
        versions = {node["version"] for node in mixed["nodes"]}
        assert len(versions) == 2
        first = lab.masters()[0]
        replica = lab.replicas_of(first)[0]
        assert replica("CLUSTER", "FAILOVER") == "OK"
        lab.wait(lambda: own_entry(replica).is_master and lab.settled())
        result = lab.converge(addresses=addresses, failback=True)
        assert ("S28", "failover") in kinds(result) and own_entry(first).is_master
        lab.add(2)
        error = refusal(lab, "S34", addresses=[*addresses, *lab.addresses[6:]], masters=4)
        assert all(version in str(error) for version in versions) and "finish the upgrade first" in str(error)
        assert len(lab.masters()) == 3 and lab.read() == 300
    finally:
        double.close()


# ---- killed ----------------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.state("S11")
@pytest.mark.parametrize("writes", [0, 1, 2])
def test_s11_a_killed_recovery_is_finished(lab: Lab, writes: int) -> None:
    lab.converge()
    lab.fill()
    lab.wait(lambda: lab.settled() and all(lab.replicas_of(master)[0]("DBSIZE") == master("DBSIZE") for master in lab.masters()))
    disown(lab, 0, 199)
    lost = {"allow_data_loss": ["0-199"]}
    assert killed_after(lab, writes, **lost)
    lab.converge(**lost)
    lab.whole(**lost)


@pytest.mark.state("S20")
@pytest.mark.parametrize("writes", [0, 1, 2, 3])
def test_s20_a_killed_dissolution_is_finished(lab: Lab, writes: int) -> None:
    _empty, kept = halves(lab, ALL_SLOTS, ALL_SLOTS)
    try:
        lab.wait(lambda: kept("SET", "key", "kept") == "OK")
        assert killed_after(lab, writes)
        lab.converge()
        owner = next(server for server in lab.masters() if own_entry(server).slots >> server("CLUSTER", "KEYSLOT", "key") & 1)
        assert owner("GET", "key") == "kept" and lab.settled()
        lab.quiet()
    finally:
        covered(lab)


@pytest.mark.state("S23")
@pytest.mark.parametrize("writes", [0, 1, 2, 3])
def test_s23_a_killed_discarding_is_finished(lab: Lab, writes: int) -> None:
    newcomer = wiped_newcomer(lab)
    plant(lab, newcomer, "own-key")
    newcomer("FUNCTION", "LOAD", "#!lua name=mine\nredis.register_function('f', function() return 1 end)")
    named = {"discard_data": [newcomer.id()]}
    assert killed_after(lab, writes, **named)
    lab.converge(**named)
    assert lab.settled() and lab.read() == 300 and own_entry(newcomer).master
    lab.quiet(**named)
