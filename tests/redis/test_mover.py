# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Slots with keys change their masters while clients go on; nodes come and go (S12-S15, S29-S31)."""

from __future__ import annotations

import threading
import time

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.observe import parse_info, parse_nodes
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.tests.redis.lab import Lab, Server, kinds, own_entry
from ansible_collections.progressive.platform.tests.redis.traffic import Traffic

LONG = {"timeout": 120.0}


def owned(lab: Lab) -> list[int]:
    return sorted(slots.size(own_entry(server).slots) for server in lab.masters())


def fresh(server: Server) -> bool:
    entries = parse_nodes(str(server("CLUSTER", "NODES")))
    return len(entries) == 1 and server("DBSIZE") == 0 and not next(iter(entries.values())).slots


def server_memory(server: Server) -> int:
    return int(parse_info(str(server("INFO", "memory")))["used_memory"])


def slot_with_keys(server: Server) -> int:
    """One of the server's slots that has a key."""
    key = server("RANDOMKEY")
    return int(server("CLUSTER", "KEYSLOT", key))


def test_s29_and_s30_three_to_five_and_back_under_load(lab: Lab) -> None:
    lab.converge()
    lab.fill(3000)
    added = lab.add(4)
    traffic = Traffic(lab.servers[:3])
    with traffic as account:
        time.sleep(0.5)
        foreseen = lab.converge(check=True, masters=5, **LONG)
        grown = lab.converge(masters=5, **LONG)
        time.sleep(0.5)
        sizes = owned(lab)
        followed = sorted(len(lab.replicas_of(master)) for master in lab.masters())
        shrunk = lab.converge(masters=3, **LONG)
        time.sleep(0.5)
    assert account.errors == [] and account.wrong == []
    assert len(account.written) > 100 and traffic.lost() == []
    assert sizes == [3276, 3277, 3277, 3277, 3277] and followed == [1] * 5
    moves = [command for step in grown["plan"] if step["action"] == "move" for command in step["commands"]]
    assert sum(int(command["reason"].split(" ")[0]) for command in moves) == 6553
    assert kinds(foreseen) == [("S29", "meet"), ("S31", "replicate"), ("S29", "move"), ("S4", "record")]
    assert set(kinds(grown)) == set(kinds(foreseen))
    attached, moved = (position for position, step in enumerate(grown["plan"]) if step["action"] in {"replicate", "move"})
    assert attached < moved, "replicas copy the new masters before data does"
    assert [step for step in kinds(shrunk) if step[0] == "S30"] == [("S30", "move"), ("S30", "release")]
    assert shrunk["removable"] == [server.name for server in added]
    assert all(fresh(server) for server in added)
    assert owned(lab) == [5461, 5461, 5462]
    assert all(len(slots.ranges(own_entry(server).slots)) == 1 for server in lab.masters()), "ranges come back whole"
    assert lab.read(3000) == 3000
    assert lab.quiet()["removable"] == [server.name for server in added]
    for server in added:
        server.kill()
    del lab.servers[6:]
    lab.converge()  # another list of addresses has another marker
    assert lab.quiet()["removable"] == []


def test_s31_replicas_come_and_go(lab: Lab) -> None:
    lab.converge()
    lab.fill()
    added = lab.add(3)
    lab.converge(replicas_per_master=2)
    assert [len(lab.replicas_of(master)) for master in lab.masters()] == [2, 2, 2] and lab.settled()
    lab.quiet(replicas_per_master=2)
    result = lab.converge()
    assert ("S31", "release") in kinds(result) and result["removable"] == [server.name for server in added]
    assert [len(lab.replicas_of(master)) for master in lab.masters()] == [1, 1, 1]
    assert all(fresh(server) for server in added) and lab.read() == 300
    lab.quiet()


def test_s31_masters_that_want_more_replicas_keep_them(lab: Lab) -> None:
    lab.converge()
    for server in lab.servers:
        server("CONFIG", "SET", "min-replicas-to-write", 1)
    with pytest.raises(PlatformError, match="CONFIG SET min-replicas-to-write 0") as refused:
        lab.converge(replicas_per_master=0)
    assert refused.value.details["state"] == "S31"
    assert [len(lab.replicas_of(master)) for master in lab.masters()] == [1, 1, 1]
    for server in lab.servers:
        server("CONFIG", "SET", "min-replicas-to-write", 0)
    assert len(lab.converge(replicas_per_master=0)["removable"]) == 3


def test_s30_replicas_on_kept_nodes_take_over_before_masters_leave(lab: Lab) -> None:
    lab.add(2)
    lab.converge(masters=4)
    lab.fill(1000)
    for kept in lab.servers[:6]:
        entry = own_entry(kept)
        if entry.slots:
            heir = next((one for one in lab.replicas_of(kept) if one in lab.servers[4:]), None)
            if heir is not None:
                assert heir("CLUSTER", "FAILOVER") == "OK"
                lab.wait(lambda heir=heir: bool(own_entry(heir).slots), 20)
    lab.wait(lab.settled)
    assert any(own_entry(server).slots for server in lab.servers[6:])
    result = lab.converge(**LONG)
    assert result["removable"] == [server.name for server in lab.servers[6:]]
    assert {server.name for server in lab.masters()} <= {server.name for server in lab.servers[:6]}
    assert owned(lab) == [5461, 5461, 5462] and [len(lab.replicas_of(master)) for master in lab.masters()] == [1, 1, 1]
    assert lab.read(1000) == 1000
    lab.quiet()


def test_s29_without_new_nodes_spare_replicas_become_masters(lab: Lab) -> None:
    lab.add(2)
    lab.converge(surplus="keep")
    lab.fill()
    assert sorted(len(lab.replicas_of(master)) for master in lab.masters()) == [1, 2, 2]
    result = lab.converge(masters=4, **LONG)
    assert ("S29", "reset") in kinds(result)
    assert owned(lab) == [4096] * 4 and [len(lab.replicas_of(master)) for master in lab.masters()] == [1] * 4
    assert lab.read() == 300
    lab.quiet(masters=4)


def test_s30_refuses_what_would_not_fit_in_memory(lab: Lab) -> None:
    lab.converge(masters=6, replicas_per_master=0)
    for server in lab.servers:
        server.pipeline([("SET", f"key-{number}", "x" * 2000) for number in range(6000)])
        assert server("DBSIZE") > 500
    try:
        for server in lab.servers:
            server("CONFIG", "SET", "maxmemory", server_memory(server) * 6 // 5)
            server("CONFIG", "RESETSTAT")
        with pytest.raises(PlatformError, match=r"would get about \d{6,} more.* Raise maxmemory") as refused:
            lab.converge(replicas_per_master=0)
        assert refused.value.details["state"] == "S30"
        assert all("cluster|setslot" not in server.writes() for server in lab.servers)
    finally:
        for server in lab.servers:
            server("CONFIG", "SET", "maxmemory", 0)
    assert len(lab.converge(replicas_per_master=0, **LONG)["removable"]) == 3
    assert sum(server("DBSIZE") for server in lab.masters()) == 6000


def test_functions_are_on_new_masters_before_slots_and_leave_with_old_ones(lab: Lab) -> None:
    library = "#!lua name=mylib\nredis.register_function('answer', function() return 42 end)"
    lab.converge(addresses=lab.addresses[:3], replicas_per_master=0)
    for server in lab.servers[:3]:
        server("FUNCTION", "LOAD", library)
    lab.converge(addresses=lab.addresses[:5], masters=5, replicas_per_master=0)
    assert [server("FCALL", "answer", 0) for server in lab.masters()] == [42] * 5
    result = lab.converge(addresses=lab.addresses[:5], replicas_per_master=0)
    assert result["removable"] == lab.addresses[3:5]
    assert [len(server("FUNCTION", "LIST")) for server in lab.servers[:5]] == [1, 1, 1, 0, 0]


def half_moved(lab: Lab) -> tuple[Server, Server, int, list[str]]:
    """A slot that is migrating, with a key on the giver that the taker has with another value, and one it has with the same."""
    giver, taker, _other = lab.masters()
    slot = slot_with_keys(giver)
    tag = str(giver("CLUSTER", "GETKEYSINSLOT", slot, 1)[0])
    same, differing = f"{{{tag}}}same", f"{{{tag}}}differing"
    giver.pipeline([("SET", same, "1"), ("SET", differing, "of the owner")])
    taker("CLUSTER", "SETSLOT", slot, "IMPORTING", giver.id())
    giver("CLUSTER", "SETSLOT", slot, "MIGRATING", taker.id())
    taker.pipeline([("ASKING",), ("SET", same, "1"), ("ASKING",), ("SET", differing, "of the importer")])
    return giver, taker, slot, [same, differing]


@pytest.mark.parametrize(("choice", "value"), [("owner", "of the owner"), ("importer", "of the importer")])
def test_s12_a_key_on_both_ends_needs_a_word_only_when_the_values_differ(lab: Lab, choice: str, value: str) -> None:
    lab.converge()
    lab.fill(1000)
    giver, taker, slot, (same, differing) = half_moved(lab)
    with pytest.raises(PlatformError, match=f"Slot {slot} is open, and 1 of its keys") as refused:
        lab.converge()
    assert refused.value.details["state"] == "S13" and "on_conflict: importer" in str(refused.value)
    assert giver("GET", differing) == "of the owner"
    assert taker.pipeline([("ASKING",), ("GET", differing)])[1] == "of the importer"
    result = lab.converge(on_conflict=choice)
    assert ("S12", "move") in kinds(result)
    holder = next(server for server in lab.masters() if own_entry(server).slots >> slot & 1)
    assert holder("GET", differing) == value and holder("GET", same) == "1"
    assert lab.read(1000) == 1000 and lab.settled()
    lab.quiet()


@pytest.mark.parametrize(("choice", "value"), [("owner", "of the owner"), ("importer", "of the importer")])
def test_s13_keys_on_an_importer_go_to_the_owner(lab: Lab, choice: str, value: str) -> None:
    lab.converge()
    lab.fill(1000)
    giver, taker, slot, (same, differing) = half_moved(lab)
    taker.pipeline([("ASKING",), ("SET", f"{differing}-alone", "only here")])
    giver("CLUSTER", "SETSLOT", slot, "STABLE")
    taker("CLUSTER", "SETSLOT", slot, "IMPORTING", giver.id())
    with pytest.raises(PlatformError, match="on_conflict: owner keeps its values"):
        lab.converge()
    result = lab.converge(on_conflict=choice)
    assert ("S13", "move") in kinds(result)
    assert [giver("GET", key) for key in (same, differing, f"{differing}-alone")] == ["1", value, "only here"]
    assert taker("CLUSTER", "COUNTKEYSINSLOT", slot) == 0 and not own_entry(taker).open_slots
    assert lab.read(1000) == 1000
    lab.quiet()


def test_s14_several_importers_end_with_the_one_that_the_owner_names(lab: Lab) -> None:
    lab.converge()
    lab.fill(1000)
    giver, named, other = lab.masters()
    slot = slot_with_keys(giver)
    for server in (named, other):
        server("CLUSTER", "SETSLOT", slot, "IMPORTING", giver.id())
    giver("CLUSTER", "SETSLOT", slot, "MIGRATING", named.id())
    tag = str(giver("CLUSTER", "GETKEYSINSLOT", slot, 1)[0])
    other.pipeline([("ASKING",), ("SET", f"{{{tag}}}astray", "1")])
    lab.converge()
    holder = next(server for server in lab.masters() if own_entry(server).slots >> slot & 1)
    assert holder("GET", f"{{{tag}}}astray") == "1" and lab.read(1000) == 1000
    assert all(not own_entry(server).open_slots for server in lab.servers)
    lab.quiet()


def test_s15_a_slot_open_on_a_replica_is_closed_by_a_new_copy(lab: Lab) -> None:
    lab.converge()
    lab.fill()
    master = lab.masters()[0]
    replica = lab.replicas_of(master)[0]
    replica.kill()
    file = replica.directory / "nodes.conf"
    lines = [f"{line} [5->-{master.id()}]" if "myself" in line else line for line in file.read_text().splitlines()]
    file.write_text("\n".join(lines) + "\n")
    replica.start()
    lab.wait(lambda: bool(own_entry(replica).open_slots))
    result = lab.converge()
    assert ("S15", "reset") in kinds(result)
    assert not own_entry(replica).open_slots and own_entry(replica).master == master.id()
    lab.whole()


@pytest.mark.state("S13")
def test_s13_an_importer_whose_source_has_failed_is_told_the_new_owner(lab: Lab) -> None:
    """It keeps importing, so it does not hear of its source's successor; and the source, back as a replica, owns nothing any more."""
    lab.converge()
    lab.fill()
    source, target = lab.masters()[:2]
    slot = next(slot for slot in (lab.slot(f"key-{number}") for number in range(300)) if own_entry(source).slots >> slot & 1)
    successor = lab.replicas_of(source)[0]
    lab.wait(lab.in_step)  # a master streams to a new replica after its first acknowledgement, a second later
    assert target("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id()) == "OK"
    assert source("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id()) == "OK"
    keys = source("CLUSTER", "GETKEYSINSLOT", slot, 100)
    assert source("MIGRATE", target.host, target.port, "", 0, 5000, "KEYS", *keys) == "OK"
    lab.wait(lambda: successor("CLUSTER", "COUNTKEYSINSLOT", slot) == 0)
    source.kill()
    lab.wait(lambda: bool(own_entry(successor).slots >> slot & 1), 30)
    source.start()
    lab.wait(lambda: not any(entry.slots >> slot & 1 for entry in parse_nodes(str(target("CLUSTER", "NODES"))).values()))
    result = lab.converge()
    assert [step for step in kinds(result) if step[0] == "S13"] == [("S13", "bind"), ("S13", "move")]
    lab.whole()


def test_a_big_key_is_carried_with_a_warning_and_time_enough(lab: Lab) -> None:
    """200 MB in one set: both ends serve nobody for seconds, more than the node timeout, and yet nobody is failed over."""
    lab.converge()
    lab.fill()
    key = next(name for name in (f"big-{number}" for number in range(1000)) if lab.slot(name) in range(3300, 5400))
    giver = next(master for master in lab.masters() if own_entry(master).slots >> lab.slot(key) & 1)
    script = "for i = ARGV[1], ARGV[1] + 19999 do redis.call('SADD', KEYS[1], string.rep('x', 150) .. i) end"
    for server in lab.servers:  # only until it is there: what matters is what happens while it moves
        server("CONFIG", "SET", "cluster-node-timeout", 60000)
    for first in range(0, 1000000, 20000):
        assert giver("EVAL", script, 1, key, first) is None
    lab.wait(lab.settled, 120)
    for server in lab.servers:
        server("CONFIG", "SET", "cluster-node-timeout", 5000)
    ids = {server.id() for server in lab.masters()}
    lab.add(4, **{"cluster-node-timeout": "5000"})
    result = lab.converge(masters=5, **LONG)
    assert ("S1", "restore") in kinds(result), "the node timeout was longer for a while"
    assert any(key in text and "in one piece" in text for text in result["warnings"])
    assert ids < {server.id() for server in lab.masters()}, "nobody was failed over"
    holder = next(server for server in lab.masters() if own_entry(server).slots >> lab.slot(key) & 1)
    assert holder is not giver and holder("SCARD", key) == 1000000
    assert {server("CONFIG", "GET", "cluster-node-timeout")[1] for server in lab.servers} == {"5000"}
    assert lab.read() == 300
    lab.quiet(masters=5)


@pytest.mark.parametrize("end", ["giver", "taker"])
def test_a_move_pauses_for_a_failover_in_its_middle_and_goes_on(lab: Lab, end: str) -> None:
    """A master is killed while slots leave it, or arrive: its replica is elected, and no key is lost that a healthy copy has.

    What a taker has taken and not yet sent to its replica dies with it, like any write to Redis: the givers are stopped until the replica has it all.
    """
    lab.converge()
    lab.add(4)
    lab.converge(masters=5, **LONG)  # all ten have met, and takers of the next move own slots
    lab.converge(**LONG)
    lab.fill(20000)
    givers = lab.masters()
    outcome: list[object] = []
    run = threading.Thread(target=lambda: outcome.append(lab.converge(masters=5, timeout=300.0)), daemon=True)
    run.start()
    lab.wait(lambda: any(slots.size(own_entry(server).slots) for server in lab.servers[6:]), 120)
    victim = givers[0] if end == "giver" else next(server for server in lab.servers[6:] if own_entry(server).slots)
    stopped = givers if end == "taker" else []
    for giver in stopped:
        giver.pause()
    if stopped:
        others = [server for server in lab.servers if server not in (*stopped, victim)]
        lab.wait(lambda: replicated(victim, others), 10)
    victim.kill()
    for giver in stopped:
        giver.resume()
    lab.wait(lambda: any(victim_id_failed(server) for server in lab.servers if server is not victim), 120)
    time.sleep(5)
    victim.start()
    run.join(400)
    assert not run.is_alive() and outcome, "the run did not end"
    assert owned(lab) == [3276, 3277, 3277, 3277, 3277]
    assert lab.read(20000) == 20000
    assert all(not own_entry(server).open_slots for server in lab.servers)


def replicated(master: Server, others: list[Server]) -> bool:
    """One of the others is its replica and has all that it has."""
    offset = int(parse_info(str(master("INFO", "replication")))["master_repl_offset"])
    infos = [parse_info(str(server("INFO", "replication"))) for server in others]
    return any(int(info["slave_repl_offset"]) >= offset for info in infos if info.get("master_port") == str(master.port))


def victim_id_failed(server: Server) -> bool:
    return any("fail" in entry.flags for entry in parse_nodes(str(server("CLUSTER", "NODES"))).values())
