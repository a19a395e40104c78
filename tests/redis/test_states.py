# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every state of docs/redis_cluster.md that is handled, made for real on redis-server processes: plan or refusal, the end, and a second run without writes."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._members.store import Files
from ansible_collections.progressive.platform.plugins.module_utils._redis.converge import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._redis.observe import parse_info, parse_nodes
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, Context, PlatformError
from ansible_collections.progressive.platform.tests.redis.lab import Lab, Server, arguments, kinds, own_entry

FORMATION = [("S1", "prepare"), ("S1", "meet"), ("S1", "slots"), ("S1", "replicate"), ("S1", "restore"), ("S4", "record")]


def meet_steps_once(steps: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The plan without the repetitions of a meeting that gossip answers piece by piece."""
    return list(dict.fromkeys(("S1", "meet") if action == "meet" else (state, action) for state, action in steps))


@pytest.mark.state("S1")
def test_s1_fresh_nodes_become_a_cluster(lab: Lab) -> None:
    result = lab.converge(diff=True)
    assert result["changed"] and result["state"] == "S4"
    assert meet_steps_once(kinds(result)) == FORMATION
    assert lab.settled()
    assert result["slots"] == {"assigned": 16384, "covered": 16384, "total": 16384, "uncovered": "none"}
    assert len({own_entry(server).epoch for server in lab.masters()}) == 3
    assert [server("CONFIG", "GET", "cluster-node-timeout")[1] for server in lab.servers] == ["2000"] * 6
    assert [server("CONFIG", "GET", "repl-diskless-sync-delay")[1] for server in lab.servers] == ["1"] * 6
    assert "slots: 'none'" in result["diff"]["before"] and "slots: '0-5461'" in result["diff"]["after"]
    lab.quiet()


@pytest.mark.state("S1")
def test_s1_check_mode_foresees_the_whole_plan_and_touches_nothing(lab: Lab) -> None:
    for server in lab.servers:
        server("CONFIG", "RESETSTAT")
    foreseen = lab.converge(check=True, diff=True)
    assert foreseen["changed"] and foreseen["state"] == "S1"
    assert all(server.writes() == {} for server in lab.servers)
    assert all(len(parse_nodes(server("CLUSTER", "NODES"))) == 1 for server in lab.servers)
    real = lab.converge(diff=True)
    assert meet_steps_once(kinds(foreseen)) == meet_steps_once(kinds(real))
    assert foreseen["diff"] == real["diff"]
    assert foreseen["plan"][0]["commands"] == real["plan"][0]["commands"]
    assert lab.converge(check=True)["changed"] is False


@pytest.mark.state("S1")
def test_s1_replicas_are_spread_over_hosts_and_zones(lab: Lab) -> None:
    spread = Lab(lab.directory / f"spread-{time.monotonic_ns()}")
    try:
        for host in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
            spread.add(2, host)
        result = spread.converge(zones={"127.0.0.1": "a", "127.0.0.2": "b", "127.0.0.3": "c"})
        assert result["placement"] == {"score": 0, "violations": []}
        masters = [node for node in result["nodes"] if node["role"] == "master"]
        assert {node["zone"] for node in masters} == {"a", "b", "c"}
        for node in masters:
            replica = next(other for other in result["nodes"] if other["master"] == node["id"])
            assert replica["zone"] != node["zone"] and replica["node"] != node["node"]
    finally:
        spread.stop()


@pytest.mark.state("S1", "S35")
def test_s1_with_a_password_that_never_shows(lab: Lab) -> None:
    secret = "correct-horse-battery"
    for server in lab.servers:
        server.pipeline([("CONFIG", "SET", "masterauth", secret), ("CONFIG", "SET", "requirepass", secret)])
        server.password = secret
    with pytest.raises(PlatformError, match=r"wants a password \(NOAUTH\)") as refused:
        lab.converge()
    assert refused.value.details["state"] == "S35"
    with pytest.raises(PlatformError, match="WRONGPASS") as wrong:
        lab.converge(password="wrong-horse-battery")
    result = lab.converge(password=secret, diff=True)
    assert lab.settled()
    info = lab.info(password=secret)
    assert info["state"] == "S4"
    for shown in (str(wrong.value), wrong.value.details, result, info):
        assert "horse-battery" not in json.dumps(shown)
    lab.quiet(password=secret)


@pytest.mark.state("S1")
def test_s1_refuses_nodes_with_keys(lab: Lab) -> None:
    lab.servers[0]("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    lab.wait(lambda: lab.servers[0]("SET", "left-over", "1") == "OK", 10)
    lab.servers[0]("CLUSTER", "DELSLOTSRANGE", 0, 16383)
    with pytest.raises(PlatformError, match="holds 1 keys") as refused:
        lab.converge()
    assert refused.value.details["state"] == "S1"
    assert lab.servers[0].id() in str(refused.value) and "FLUSHALL" in str(refused.value)
    assert lab.servers[0]("DBSIZE") == 1


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"masters": 2}, "masters is 2"),
        ({"replicas_per_master": -1}, "replicas_per_master is -1"),
        ({"replicas_per_master": 2}, "addresses names 6 nodes"),
        ({"addresses": ["127.0.0.1"] * 6}, "is not host:port"),
        ({"addresses": ["127.0.0.1:7000"] * 6}, "names a node twice"),
        ({"node_timeout": 400}, "node_timeout is 400"),
        ({"timeout": 0.0}, "timeout is 0"),
    ],
)
def test_wrong_options_are_refused_before_any_connection(lab: Lab, params: dict[str, object], text: str) -> None:
    with pytest.raises(PlatformError, match=text):
        lab.converge(**params)


@pytest.mark.state("S1")
def test_r3_a_cluster_that_was_lost_is_not_silently_formed_anew(lab: Lab) -> None:
    lab.converge()
    lab.fill()
    lab.reset()
    with pytest.raises(PlatformError, match="A cluster was formed on these nodes before") as refused:
        lab.converge()
    fingerprint = str(refused.value).split("fingerprint ")[1].split(",")[0]
    with pytest.raises(PlatformError, match=fingerprint):
        lab.converge(check=True)
    result = lab.converge(allow_data_loss=[fingerprint])
    assert lab.settled()
    assert any("is gone with its storage" in text for text in result["warnings"])
    lab.quiet()


@pytest.mark.state("S1")
def test_r5_two_runs_do_not_converge_together(lab: Lab) -> None:
    with (
        Files("redis", lab.addresses, Clock()).lock(1.0),
        pytest.raises(PlatformError, match="Another run converges these nodes"),
    ):
        lab.converge(timeout=0.5)
    assert lab.converge()["changed"]


@pytest.mark.state("S2")
def test_s2_a_partial_meeting_is_completed(lab: Lab) -> None:
    lab.meet(*lab.servers[:3])
    ids = [server.id() for server in lab.servers]
    result = lab.converge()
    assert ("S2", "meet") in kinds(result)
    assert lab.settled()
    assert [server.id() for server in lab.servers] == ids
    lab.quiet()


@pytest.mark.state("S2")
def test_s2_refuses_a_component_that_remembers_unknown_owners(lab: Lab) -> None:
    extra = lab.add(1)[0]
    lab.meet(lab.servers[0], lab.servers[1], extra)
    extra("CLUSTER", "ADDSLOTSRANGE", 0, 100)
    lab.wait(lambda: bool(parse_nodes(lab.servers[0]("CLUSTER", "NODES"))[extra.id()].slots))
    given = lab.addresses[:6]
    with pytest.raises(PlatformError) as refused:
        lab.converge(addresses=given, timeout=8.0)
    assert refused.value.details["state"] == "S21"
    assert extra.id() in str(refused.value)
    assert all(not own_entry(server).slots for server in lab.servers[:6])


@pytest.mark.state("S3")
def test_s3_missing_slots_of_a_forming_cluster_go_to_new_masters(lab: Lab) -> None:
    lab.meet(*lab.servers)
    lab.servers[4]("CLUSTER", "ADDSLOTSRANGE", 0, 5460)
    result = lab.converge()
    assert ("S3", "slots") in kinds(result)
    assert lab.settled()
    assert own_entry(lab.servers[4]).slots == (1 << 5461) - 1
    assert sorted(own_entry(server).slots.bit_count() for server in lab.masters()) == [5461, 5461, 5462]
    lab.quiet()


@pytest.mark.state("S4")
def test_s4_a_failover_is_none_of_our_business(lab: Lab) -> None:
    lab.converge()
    lab.fill()
    replica = lab.replicas_of(lab.masters()[0])[0]
    assert replica("CLUSTER", "FAILOVER") == "OK"
    lab.wait(lambda: own_entry(replica).is_master and lab.settled())
    lab.quiet()
    assert lab.read() == 300


@pytest.mark.state("S5")
def test_s5_one_moved_node_is_left_to_gossip(lab: Lab) -> None:
    lab.converge()
    lab.fill()
    replica = lab.replicas_of(lab.masters()[0])[0]
    replica.kill()
    replica.renumber()
    replica.start()
    result = lab.converge()
    assert ("S6", "meet") not in kinds(result)
    lab.whole()


@pytest.mark.state("S6")
def test_s6_all_nodes_moved(lab: Lab) -> None:
    """A full restart with every address changed heals in far less than the 30 s of goal D4."""
    lab.restart_filled(Server.renumber)
    started = time.monotonic()
    result = lab.converge()
    assert ("S6", "meet") in kinds(result)
    assert time.monotonic() - started < 30
    lab.whole()


@pytest.mark.state("S6")
def test_s6_refuses_an_id_seen_twice(lab: Lab) -> None:
    lab.converge()
    twin = lab.servers[5]
    original = lab.servers[4]
    twin.kill()
    (twin.directory / "nodes.conf").write_bytes((original.directory / "nodes.conf").read_bytes())
    twin.start()
    with pytest.raises(PlatformError, match="One node ID answers at two addresses") as refused:
        lab.converge()
    assert original.id() in str(refused.value)


@pytest.mark.state("S7")
def test_s7_a_link_that_stays_down_is_connected_again(lab: Lab) -> None:
    lab.converge()
    lab.fill()
    master = lab.masters()[0]
    replica = lab.replicas_of(master)[0]
    master("ACL", "SETUSER", "default", "-psync", "-sync")
    replica("CLIENT", "KILL", "TYPE", "master")
    lab.wait(lambda: "master_link_status:down" in replica("INFO", "replication"))
    timer = threading.Timer(12.0, lambda: master("ACL", "SETUSER", "default", "+psync"))  # SYNC in its stead is never acknowledged
    timer.start()
    try:
        result = lab.converge()
    finally:
        timer.join()
        master("ACL", "SETUSER", "default", "+sync")
    assert ("S7", "relink") in kinds(result)
    assert lab.settled()
    lab.quiet()


@pytest.mark.state("S7")
@pytest.mark.parametrize("refused", [("-psync",), ("-psync", "-replconf")], ids=["psync", "and its port"])
def test_s7_a_replica_that_its_master_never_hears_copies_it_again(lab: Lab, refused: tuple[str, ...]) -> None:
    lab.converge()
    lab.fill()
    master = lab.masters()[0]
    replica = lab.replicas_of(master)[0]

    def unheard() -> bool:
        return ",offset=0," in parse_info(str(master("INFO", "replication"))).get("slave0", "")

    master("ACL", "SETUSER", "default", *refused)
    replica("CLIENT", "KILL", "TYPE", "master")
    lab.wait(lambda: unheard() and "master_link_status:up" in replica("INFO", "replication"))
    master("ACL", "SETUSER", "default", "+psync", "+replconf")
    time.sleep(2)  # an acknowledgement is due each second
    assert unheard() and "master_link_status:up" in replica("INFO", "replication")
    result = lab.converge()
    assert kinds(result)[0] == ("S7", "reset")
    lab.wait(lambda: not unheard())
    lab.whole()


@pytest.mark.state("S7")
def test_s7_names_a_wrong_masterauth(lab: Lab) -> None:
    secret = "staple-of-lab"
    lab.converge()
    master = lab.masters()[0]
    replica = lab.replicas_of(master)[0]
    for server in lab.servers:
        server.pipeline([("CONFIG", "SET", "masterauth", secret), ("CONFIG", "SET", "requirepass", secret)])
        server.password = secret
    replica("CONFIG", "SET", "masterauth", "something-else")
    replica("CLIENT", "KILL", "TYPE", "master")
    lab.wait(lambda: "master_link_status:down" in replica("INFO", "replication"))
    with pytest.raises(PlatformError, match="masterauth is not the password") as refused:
        lab.converge(password=secret)
    assert replica.id() in str(refused.value) and "something-else" not in json.dumps([str(refused.value), refused.value.details])


@pytest.mark.state("S8")
def test_s8_a_replica_that_lost_its_volume_joins_again(lab: Lab) -> None:
    lab.converge()
    lab.fill()
    master = lab.masters()[0]
    replica = lab.replicas_of(master)[0]
    old = replica.id()
    replica.kill()
    replica.wipe()
    replica.start()
    result = lab.converge()
    steps = [step for step in dict.fromkeys(kinds(result)) if step != ("S4", "record")]
    assert steps == [("S8", "meet"), ("S8", "replicate"), ("S22", "forget")]
    assert lab.settled() and lab.read() == 300
    assert own_entry(replica).master == master.id()
    assert all(old not in parse_nodes(server("CLUSTER", "NODES")) for server in lab.servers)
    lab.quiet()


@pytest.mark.state("S9")
def test_s9_a_master_that_lost_its_volume_is_succeeded_and_comes_back_as_replica(lab: Lab) -> None:
    lab.converge()
    lab.fill()
    master = lab.masters()[0]
    successor = lab.replicas_of(master)[0]
    lab.wait(lambda: successor("DBSIZE") == master("DBSIZE"))
    master.kill()
    master.wipe()
    master.renumber()
    master.start()
    result = lab.converge()
    assert ("S8", "replicate") in kinds(result) and ("S22", "forget") in kinds(result)
    assert lab.settled() and lab.read() == 300
    assert own_entry(successor).is_master and own_entry(master).master == successor.id()
    lab.quiet()


@pytest.mark.state("S9")
def test_s9_a_master_wiped_in_place_needs_consent(lab: Lab) -> None:
    """Its peers drop its address and never fail it: the cluster would wait for ever."""
    lab.converge()
    lab.fill()
    master = lab.masters()[0]
    successor = lab.replicas_of(master)[0]
    lab.wait(lambda: successor("DBSIZE") == master("DBSIZE"))
    old = master.id()
    master.kill()
    master.wipe()
    master.start()
    with pytest.raises(PlatformError, match="add the lost ID to allow_data_loss") as refused:
        lab.converge()
    assert refused.value.details["state"] == "S9" and old in str(refused.value) and "CLUSTER FAILOVER FORCE" in str(refused.value)
    result = lab.converge(allow_data_loss=[old])
    assert ("S9", "failover") in kinds(result)
    assert (
        lab.settled() and lab.read() >= 190
    )  # the other shards' keys; whether this one's copy outlived the second before consent is a race of the servers
    assert own_entry(successor).is_master and own_entry(master).master == successor.id()
    lab.quiet()


@pytest.mark.state("S16")
def test_s16_loading_is_waited_for(lab: Lab) -> None:
    lab.converge()
    lab.fill(3000)
    replica = lab.replicas_of(lab.masters()[0])[0]
    lab.wait(lambda: replica("DBSIZE") > 900)
    assert replica("SAVE") == "OK"
    replica.kill()
    replica.launch(**{"key-load-delay": "12000", "loading-process-events-interval-bytes": "1024"})
    replica.ready()
    info = lab.info()
    assert info["state"] == "S16" and info["views_agree"] is False
    with pytest.raises(PlatformError, match="Still loading after 0 s") as refused:
        lab.converge(load_timeout=0.3)
    assert refused.value.details["state"] == "S16" and replica.name in str(refused.value)
    result = lab.converge()
    assert result["found"][0]["state"] == "S16"
    assert all(action in {"record"} for _state, action in kinds(result))
    assert lab.settled() and lab.read(3000) == 3000


@pytest.mark.state("S17")
def test_s17_a_suspected_node_is_waited_for(lab: Lab) -> None:
    lab.converge()
    replica = lab.replicas_of(lab.masters()[0])[0]
    witness = lab.masters()[1]
    suspect = replica.id()
    replica.pause()
    lab.wait(lambda: bool(parse_nodes(witness("CLUSTER", "NODES"))[suspect].flags & {"fail?", "fail"}))
    replica.resume()
    result = lab.converge()
    assert result["changed"] is False and result["plan"] == []
    assert lab.settled()


@pytest.mark.state("S18")
def test_s18_blocked_bus_ports_are_named(lab: Lab) -> None:
    lab.converge()
    replica = lab.replicas_of(lab.masters()[0])[0]
    closed = replica.port + 9999
    replica.kill()
    replica.start(**{"cluster-announce-bus-port": str(closed)})
    lab.wait(lambda: any(not entry.connected for entry in parse_nodes(lab.masters()[0]("CLUSTER", "NODES")).values()), 15)
    with pytest.raises(PlatformError, match="not as wanted after") as refused:
        lab.converge(timeout=6.0)
    assert refused.value.details["state"] in {"S17", "S18"}
    assert f"-> {replica.name} (127.0.0.1:{closed})" in str(refused.value)
    replica.kill()
    replica.start()
    lab.converge()
    assert lab.settled()


@pytest.mark.state("S19")
def test_s19_equal_epochs_end_distinct(lab: Lab) -> None:
    for server in lab.servers[:3]:
        server("CLUSTER", "SET-CONFIG-EPOCH", 7)
    lab.meet(*lab.servers)
    for server, (first, last) in zip(lab.servers[:3], ((0, 5461), (5462, 10922), (10923, 16383)), strict=True):
        server("CLUSTER", "ADDSLOTSRANGE", first, last)
    lab.converge()
    assert lab.settled()
    assert len({own_entry(server).epoch for server in lab.masters()}) == 3
    lab.quiet()


@pytest.mark.state("S21")
def test_s21_a_live_foreign_node_is_not_ours_to_forget(lab: Lab) -> None:
    extra = lab.add(1)[0]
    lab.converge(addresses=lab.addresses[:6])
    lab.meet(lab.servers[0], extra)
    lab.wait(lambda: all(len(parse_nodes(server("CLUSTER", "NODES"))) == 7 for server in lab.servers))
    with pytest.raises(PlatformError, match="is alive, and is not among the nodes given") as refused:
        lab.converge(addresses=lab.addresses[:6])
    assert refused.value.details["state"] == "S21" and extra.id() in str(refused.value)
    assert extra.id() in parse_nodes(lab.servers[0]("CLUSTER", "NODES"))


@pytest.mark.state("S22")
def test_s22_dead_ids_are_forgotten_everywhere(lab: Lab) -> None:
    extra = lab.add(1)[0]
    lab.converge(surplus="keep")
    extra_id = extra.id()
    assert own_entry(extra).master
    extra.kill()
    lab.servers.remove(extra)
    result = lab.converge()
    assert ("S22", "forget") in kinds(result)
    assert all(extra_id not in parse_nodes(server("CLUSTER", "NODES")) for server in lab.servers)
    lab.quiet()


@pytest.mark.state("S23")
def test_s23_a_newcomer_with_keys_is_not_joined(lab: Lab) -> None:
    lab.converge()
    replica = lab.replicas_of(lab.masters()[0])[0]
    replica.kill()
    replica.wipe()
    replica.start()
    replica("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    lab.wait(lambda: replica("SET", "mine", "1") == "OK", 10)
    replica("CLUSTER", "DELSLOTSRANGE", 0, 16383)
    with pytest.raises(PlatformError, match="holds 1 keys") as refused:
        lab.converge()
    assert refused.value.details["state"] == "S23" and replica.id() in str(refused.value)
    assert replica("DBSIZE") == 1 and len(parse_nodes(replica("CLUSTER", "NODES"))) == 1


@pytest.mark.state("S23")
def test_s23_a_newcomer_that_remembers_another_cluster_is_not_joined(lab: Lab) -> None:
    lab.converge()
    replica = lab.replicas_of(lab.masters()[0])[0]
    extra = lab.add(1)[0]
    replica.kill()
    replica.wipe()
    replica.start()
    lab.meet(replica, extra)
    with pytest.raises(PlatformError, match="remembers another cluster") as refused:
        lab.converge(addresses=lab.addresses[:6])
    assert refused.value.details["state"] == "S23" and extra.id() in str(refused.value)


@pytest.mark.state("S24")
def test_s24_replicas_are_evened_out_one_at_a_time(lab: Lab) -> None:
    lab.converge()
    lab.fill()
    first, second, _third = lab.masters()
    moved = lab.replicas_of(second)[0]
    assert moved("CLUSTER", "REPLICATE", first.id()) == "OK"
    lab.wait(lambda: len(lab.replicas_of(first)) == 2 and "master_link_status:up" in moved("INFO", "replication"), 15)
    result = lab.converge()
    assert [step for step in kinds(result) if step != ("S4", "record")] == [("S24", "replicate")]
    assert len(result["plan"][0]["commands"]) == 1
    assert [len(lab.replicas_of(master)) for master in lab.masters()] == [1, 1, 1]
    lab.whole()


def spread_badly(directory: Path) -> Lab:
    """Three hosts with a master and its own replica each."""
    spread = Lab(directory / f"spread-{time.monotonic_ns()}")
    for host in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
        spread.add(2, host)
    spread.converge()
    for master in spread.masters():
        beside = next(server for server in spread.servers if server.host == master.host and server is not master)
        beside("CLUSTER", "REPLICATE", master.id())
    spread.wait(spread.settled, 20)
    return spread


@pytest.mark.state("S25")
def test_s25_copies_are_separated_when_asked_for(lab: Lab) -> None:
    spread = spread_badly(lab.directory)
    try:
        assert spread.info()["placement"]["score"] == 30000
        spread.quiet()
        result = spread.converge(rebalance_topology=True)
        assert ("S25", "replicate") in kinds(result)
        assert result["placement"]["score"] == 0
        assert spread.settled()
        spread.quiet(rebalance_topology=True)
    finally:
        spread.stop()


@pytest.mark.state("S25")
def test_s25_never_costs_a_copy(lab: Lab) -> None:
    spread = spread_badly(lab.directory)
    try:
        spread.fill()
        with pytest.raises(PlatformError, match="Add one node") as refused:
            spread.converge(rebalance_topology=True)
        assert refused.value.details["state"] == "S25"
        spread.add(1, "127.0.0.4")
        result = spread.converge(rebalance_topology=True, surplus="keep")
        assert not any("on node" in text for text in result["placement"]["violations"])
        assert spread.settled() and spread.read() == 300
        spread.quiet(rebalance_topology=True, surplus="keep")
    finally:
        spread.stop()


@pytest.mark.state("S26")
def test_s26_a_master_without_slots_becomes_a_replica(lab: Lab) -> None:
    lab.converge()
    lab.fill()
    extra = lab.add(1)[0]
    lab.meet(extra, lab.servers[0])
    lab.wait(lambda: all(len(parse_nodes(server("CLUSTER", "NODES"))) == 7 for server in lab.servers))
    result = lab.converge(surplus="keep")
    assert ("S26", "replicate") in kinds(result)
    assert own_entry(extra).master and lab.settled() and lab.read() == 300
    lab.quiet(surplus="keep")


def two_owners_of_three(lab: Lab) -> None:
    lab.meet(*lab.servers)
    lab.servers[0]("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
    lab.servers[1]("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
    lab.wait(lambda: all("cluster_state:ok" in server("CLUSTER", "INFO") for server in lab.servers), 15)


@pytest.mark.state("S26")
def test_s26_a_wanted_master_gets_its_share_of_empty_slots(lab: Lab) -> None:
    two_owners_of_three(lab)
    foreseen = lab.converge(check=True)
    result = lab.converge()
    assert "move" in {action for _state, action in kinds(result)}
    assert dict.fromkeys(kinds(foreseen)) == dict.fromkeys(kinds(result))
    assert sorted(own_entry(server).slots.bit_count() for server in lab.masters()) == [5461, 5461, 5462]
    assert lab.settled()
    assert all(not own_entry(server).open_slots for server in lab.servers)
    lab.quiet()


@pytest.mark.state("S27")
def test_s27_a_replica_of_an_empty_master_is_given_to_a_shard(lab: Lab) -> None:
    lab.converge(addresses=lab.addresses[:4], replicas_per_master=0)
    lab.fill()
    lab.meet(*lab.servers)
    empty = next(server for server in lab.servers[4:])
    chained = lab.servers[5]
    assert chained("CLUSTER", "REPLICATE", empty.id()) == "OK"
    lab.converge()
    assert lab.settled() and lab.read() == 300
    assert own_entry(chained).master in {server.id() for server in lab.masters()}
    lab.quiet()


@pytest.mark.state("S17")
def test_a_missing_node_is_waited_for_and_named(lab: Lab) -> None:
    lab.converge()
    replica = lab.replicas_of(lab.masters()[0])[0]
    replica.kill()
    with pytest.raises(PlatformError, match="not as wanted after 1 s") as refused:
        lab.converge(timeout=1.0)
    assert replica.name in str(refused.value) and "refused" in str(refused.value)
    timer = threading.Timer(0.5, replica.start)
    timer.start()
    lab.converge()
    timer.join()
    assert lab.settled()


@pytest.mark.state("S23")
def test_a_server_without_cluster_mode_is_named(lab: Lab) -> None:
    lab.servers[5].kill()
    lab.servers[5].start(**{"cluster-enabled": "no"})
    with pytest.raises(PlatformError, match="cluster-enabled is not yes"):
        lab.converge()
    lab.servers[5].kill()


@pytest.mark.state("S1")
def test_a_killed_formation_is_restored_even_when_data_came_first(lab: Lab) -> None:
    """The formation settings of a killed run come off as the first thing once the cluster is in use."""
    lab.converge()
    store = Files("redis", lab.addresses, Clock())
    marker = store.read()
    assert marker is not None
    settings = {server.id(): {"cluster-node-timeout": "2000"} for server in lab.servers}
    store.write(type(marker)("forming", marker.ids, marker.uids, marker.volumes, settings))
    for server in lab.servers:
        server("CONFIG", "SET", "cluster-node-timeout", 500)
    lab.fill()
    result = lab.converge()
    assert kinds(result)[0] == ("S1", "restore")
    assert [server("CONFIG", "GET", "cluster-node-timeout")[1] for server in lab.servers] == ["2000"] * 6
    lab.quiet()


def test_node_timeout_is_set_when_given(lab: Lab) -> None:
    lab.converge(node_timeout=3000)
    assert [server("CONFIG", "GET", "cluster-node-timeout")[1] for server in lab.servers] == ["3000"] * 6
    lab.quiet(node_timeout=3000)


@pytest.mark.state("S31")
def test_more_replicas_than_wanted_are_spread_evenly(lab: Lab) -> None:
    lab.add(2)
    lab.converge(surplus="keep")
    assert lab.settled()
    assert sorted(len(lab.replicas_of(master)) for master in lab.masters()) == [1, 2, 2]
    lab.quiet(surplus="keep")


@pytest.mark.state("S1")
def test_a_given_up_run_takes_its_formation_settings_back(lab: Lab) -> None:
    replica = lab.servers[5]
    closed = replica.port + 9999
    replica.kill()
    replica.start(**{"cluster-announce-bus-port": str(closed)})
    with pytest.raises(PlatformError):
        lab.converge(timeout=3.0)
    assert [server("CONFIG", "GET", "cluster-node-timeout")[1] for server in lab.servers] == ["2000"] * 6
    replica.kill()


def test_info_of_every_health(lab: Lab) -> None:
    fresh = lab.info()
    assert not fresh["is_available"] and fresh["state"] == "S1" and fresh["slots"]["assigned"] == 0
    lab.converge()
    lab.fill()
    good = lab.info(masters=3, replicas_per_master=1)
    assert good["is_available"] and good["views_agree"] and good["state"] == "S4" and good["errors"] == [] and good["findings"] == []
    assert sum(node["keys"] for node in good["nodes"] if node["role"] == "master") == 300
    assert {node["link"] for node in good["nodes"] if node["role"] == "replica"} == {"up"}
    victim = lab.masters()[0]
    victim.kill()
    degraded = lab.info()
    assert (
        not degraded["is_available"]
        and not degraded["views_agree"]
        and len(degraded["errors"]) == 1
        and victim.name in degraded["errors"][0]
    )
    for server in lab.servers:
        server.kill()
    dead = lab.info()
    assert dead["is_available"] is False and len(dead["errors"]) == 6 and dead["changed"] is False and json.dumps(dead)


def test_a_hung_node_does_not_hang_the_module(lab: Lab) -> None:
    lab.servers[0].pause()
    started = time.monotonic()
    info = lab.info()
    assert time.monotonic() - started < 8
    assert "did not answer in time" in info["errors"][0]
    lab.servers[0].resume()


def test_run_takes_the_modules_parameters(lab: Lab) -> None:
    """The entry point itself, as the module and the action plugin call it."""
    result = run(arguments(ARGUMENTS, {"addresses": lab.addresses}), Context())
    assert result["state"] == "S4"
