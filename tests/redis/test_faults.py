# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults from outside, each with its own message (wrong credentials: test_security.py), and consent: what destroys needs its option, and shows its plan."""

from __future__ import annotations

import os
import re
import resource
import signal
import threading
import time
import typing as t
from collections.abc import Callable, Iterator

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._redis.converge import ARGUMENTS
from ansible_collections.progressive.platform.plugins.module_utils._redis.nodes import Cluster
from ansible_collections.progressive.platform.plugins.module_utils._redis.observe import parse_nodes
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.tests.redis.lab import Lab, Server, kinds, own_entry
from ansible_collections.progressive.platform.tests.redis.test_repairs import disown, key_of, plant, replace_without_volume

STRANGERS: list[Server] = []
"""Servers of a test that the lab does not know."""


@pytest.fixture
def filled(lab: Lab) -> Iterator[Lab]:
    """A cluster with keys, whose replicas have them too."""
    lab.converge()
    lab.fill()
    for master in lab.masters():
        for replica in lab.replicas_of(master):
            lab.wait(lambda master=master, replica=replica: replica("DBSIZE") == master("DBSIZE"))
    yield lab
    while STRANGERS:
        STRANGERS.pop().kill()


def refused(lab: Lab, state: str, **params: t.Any) -> str:
    """The message of a refusal in this state; nothing was written."""
    awake = [server for server in lab.servers if server.process is not None]
    for server in awake:
        server("CONFIG", "RESETSTAT")
    with pytest.raises(PlatformError) as error:
        lab.converge(**params)
    assert error.value.details["state"] == state, error.value
    assert {server.name: server.writes() for server in awake if server.writes()} == {}
    return error.value.message


# ---- nodes ---------------------------------------------------------------------------------------------------------------------------------------------


def test_a_hung_master_is_named_and_replaced_by_the_servers_themselves(filled: Lab) -> None:
    """SIGSTOP: the port is open and nobody answers. Its replica is elected, and the run ends well once the node is back."""
    victim = filled.masters()[0]
    victim.pause()
    with pytest.raises(PlatformError) as error:
        filled.converge(timeout=2.0)
    assert f"{victim.name}: it did not answer in time" in error.value.message and error.value.details["changed"] is False
    timer = threading.Timer(4.0, victim.resume)
    timer.start()
    filled.converge()
    timer.join()
    assert filled.settled() and filled.read() == 300
    filled.quiet()


ROOM = 1 << 18
"""Bytes that a file may have: enough for nodes.conf, without which a server ends."""


def test_a_full_disk_is_said_in_the_servers_own_words(filled: Lab) -> None:
    """A limit on the size of its files: the append-only file cannot grow, and no snapshot takes its place."""
    replica = filled.replicas_of(filled.masters()[0])[0]
    master = filled.server(own_entry(replica).master)
    assert replica.process is not None
    key, _slot = key_of(master, *bounds(master))
    replica("CONFIG", "SET", "appendonly", "yes")
    filled.wait(lambda: "aof_rewrite_in_progress:0" in replica("INFO", "persistence"))
    resource.prlimit(replica.process.pid, resource.RLIMIT_FSIZE, (ROOM, resource.RLIM_INFINITY))
    try:
        assert master("SET", key, "x" * 2 * ROOM) == "OK"
        filled.wait(lambda: "aof_last_write_status:err" in replica("INFO", "persistence"))
        message = refused(filled, "S33")
        assert f"{replica.name} ({replica.id()}, replica): its last write to the append-only file failed" in message
        assert "Make room on the volume" in message and f"-p {replica.port}" in message
    finally:
        resource.prlimit(replica.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    filled.wait(lambda: "aof_last_write_status:ok" in replica("INFO", "persistence"))
    replica("CONFIG", "SET", "appendonly", "no")
    assert filled.read() == 300 and master("GET", key) == "x" * 2 * ROOM
    filled.quiet()


def bounds(server: Server) -> tuple[int, int]:
    owned = own_entry(server).slots
    return (owned & -owned).bit_length() - 1, owned.bit_length() - 1


@pytest.fixture
def neighbours(filled: Lab) -> Iterator[list[Server]]:
    """Another cluster of three masters, with a key of its own."""
    other = Lab(filled.directory / f"other-{time.monotonic_ns()}")
    try:
        other.add(3)
        other.converge(replicas_per_master=0)
        other.fill(30)
        yield other.servers
    finally:
        other.stop()


def test_a_node_of_another_cluster_under_a_recycled_address(filled: Lab, neighbours: list[Server]) -> None:
    """It is never met: without TLS the bus would make one cluster of two. Then the rightful one comes back elsewhere."""
    replica = filled.replicas_of(filled.masters()[0])[0]
    guest = neighbours[0]
    replica.kill()
    guest.kill()
    guest.port, replica.port = replica.port, guest.port
    guest.start()
    replica.start()
    addresses = [guest.name if server is replica else server.name for server in filled.servers]
    before = {server.id() for server in neighbours}
    message = refused(filled, "S20", addresses=addresses)
    assert "2 separate clusters" in message and guest.id() in message and guest.name in message
    assert not any(before & set(parse_nodes(server("CLUSTER", "NODES"))) for server in filled.servers)
    filled.converge()
    assert filled.settled() and filled.read() == 300


def test_an_address_that_passes_to_another_node_at_the_last_moment_is_not_met(filled: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """R8: between the observation and MEET a pod's IP can become somebody else's."""
    replica = filled.replicas_of(filled.masters()[0])[0]
    replace_without_volume(replica)
    ask = Cluster.same_ids
    asked = 0

    def late(cluster: Cluster, expected: t.Mapping[str, str]) -> list[str]:
        nonlocal asked
        asked += 1
        if asked == 1:
            replica("CLUSTER", "RESET", "HARD")
        return ask(cluster, expected)

    monkeypatch.setattr(Cluster, "same_ids", late)
    filled.converge()
    assert asked >= 2 and filled.settled() and filled.read() == 300
    filled.quiet()


# ---- everything at once --------------------------------------------------------------------------------------------------------------------------------


def restart(lab: Lab, move: bool) -> None:
    for server in lab.servers:
        server.kill()
    for server in lab.servers:
        if move:
            server.renumber()
        server.launch()
    for server in lab.servers:
        server.ready()


def saved(lab: Lab) -> None:
    for server in lab.servers:
        assert server("SAVE") == "OK"


def test_all_nodes_restarted_together_need_no_run_at_all(filled: Lab) -> None:
    saved(filled)
    restart(filled, move=False)
    filled.wait(filled.settled, 30)
    assert filled.read() == 300
    filled.quiet()


def test_all_nodes_restarted_together_with_new_addresses(filled: Lab) -> None:
    """Nobody knows where anybody is; each still knows who it is."""
    saved(filled)
    ids = {server.id() for server in filled.servers}
    restart(filled, move=True)
    result = filled.converge()
    assert ("S6", "meet") in kinds(result)
    assert {server.id() for server in filled.servers} == ids
    assert filled.settled() and filled.read() == 300
    filled.quiet()


def test_of_two_runs_one_works_and_the_other_says_who_and_since_when(filled: Lab) -> None:
    """The first waits for a node that is away, and goes on as soon as it is back."""
    away = filled.replicas_of(filled.masters()[0])[0]
    away.kill()
    child = os.fork()
    if child == 0:
        try:
            filled.converge()
            os._exit(0)
        except BaseException:
            os._exit(1)
    try:
        time.sleep(1.0)
        with pytest.raises(PlatformError, match="Another run converges these nodes") as error:
            filled.converge(timeout=0.5)
        assert re.search(rf"held by process {child} on \S+ since 2\d\d\d-\d\d-\d\dT\S+Z, .*fuser -v", error.value.message)
        away.start()
        _pid, status = os.waitpid(child, 0)
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    assert status == 0
    assert filled.settled() and filled.read() == 300
    filled.quiet()


# ---- consent -------------------------------------------------------------------------------------------------------------------------------------------


def former_cluster(lab: Lab) -> tuple[str, list[str]]:
    with pytest.raises(PlatformError) as error:
        lab.reset()
        lab.converge()
    found = re.search(r"fingerprint (\w+)", error.value.message)
    assert found
    return "S1", [found[1]]


def empty_slots(lab: Lab) -> tuple[str, list[str]]:
    master = lab.masters()[0]
    slot = next(slot for slot in range(16384) if own_entry(master).slots >> slot & 1 and not master("CLUSTER", "COUNTKEYSINSLOT", slot))
    disown(lab, slot, slot)
    return "S11", [str(slot)]


def wiped_in_place(lab: Lab) -> tuple[str, list[str]]:
    master = lab.masters()[0]
    old = master.id()
    master.kill()
    master.wipe()
    master.start()
    return "S9", [old]


def most_masters_gone(lab: Lab) -> tuple[str, bool]:
    for master in lab.masters()[:2]:
        replace_without_volume(master)
    return "S10", True


def newcomer_with_keys(lab: Lab) -> tuple[str, list[str]]:
    newcomer = lab.replicas_of(lab.masters()[0])[0]
    newcomer("CLUSTER", "RESET", "HARD")
    plant(lab, newcomer, "own-key")
    return "S23", [newcomer.id()]


def newcomer_with_lost_keys(lab: Lab) -> tuple[str, list[str]]:
    state, ids = newcomer_with_keys(lab)
    slot = lab.servers[0]("CLUSTER", "KEYSLOT", "own-key")
    members = [server for server in lab.servers if server.id() not in ids]
    for server in members:
        server("CLUSTER", "DELSLOTS", slot)
    lab.wait(lambda: not any(entry.slots >> slot & 1 for server in members for entry in parse_nodes(server("CLUSTER", "NODES")).values()))
    return state, ids


def foreign_node(lab: Lab) -> tuple[str, list[str]]:
    extra = lab.add(1)[0]
    lab.meet(lab.servers[0], extra)
    lab.wait(lambda: all(len(parse_nodes(server("CLUSTER", "NODES"))) == 7 for server in lab.servers))
    lab.servers.remove(extra)
    STRANGERS.append(extra)
    return "S21", [extra.id()]


CONSENT: list[tuple[str, Callable[[Lab], tuple[str, t.Any]], str]] = [
    ("allow_data_loss", former_cluster, "CLUSTER ADDSLOTSRANGE"),
    ("allow_data_loss", empty_slots, "CLUSTER ADDSLOTSRANGE"),
    ("allow_data_loss", wiped_in_place, "CLUSTER FAILOVER FORCE"),
    ("allow_takeover", most_masters_gone, "CLUSTER FAILOVER TAKEOVER"),
    ("discard_data", newcomer_with_keys, "FLUSHALL"),
    ("adopt_data", newcomer_with_lost_keys, "CLUSTER MEET"),
    ("forget_node_ids", foreign_node, "CLUSTER FORGET"),
]


@pytest.mark.parametrize(
    ("option", "damage", "command"), CONSENT, ids=[f"{option}-{damage.__name__}" for option, damage, _command in CONSENT]
)
def test_what_destroys_needs_its_option_and_shows_its_plan_first(
    filled: Lab, option: str, damage: Callable[[Lab], tuple[str, t.Any]], command: str
) -> None:
    """Refused without it, by name; check mode with it prints the very commands and sends none; then the run sends them."""
    state, value = damage(filled)
    message = refused(filled, state, timeout=6.0)
    assert option in message and all(name in message for name in (value if isinstance(value, list) else ["true"])), message
    for server in filled.servers:
        server("CONFIG", "RESETSTAT")
    foreseen = filled.converge(check=True, **{option: value})
    assert foreseen["changed"] and {server.name: server.writes() for server in filled.servers if server.writes()} == {}
    planned = [(step["state"], row["command"]) for step in foreseen["plan"] for row in step["commands"]]
    assert any(row.startswith(command) for _state, row in planned), planned
    result = filled.converge(**{option: value})
    sent = [row["command"] for step in result["plan"] for row in step["commands"]]
    assert any(row.startswith(command) for row in sent), sent
    assert filled.settled()
    filled.quiet(**{option: value})


def test_every_option_that_destroys_is_in_the_table() -> None:
    """recreate_replica concerns pods and on_conflict a mover's keys: test_repairs.py (unit) and test_mover.py."""
    destroying = {name for name in ARGUMENTS if re.match(r"allow_|discard_|adopt_|forget_|recreate_|on_conflict", name)}
    assert destroying - {option for option, _damage, _command in CONSENT} == {"recreate_replica", "on_conflict"}
    assert all(not ARGUMENTS[name].get("default") or ARGUMENTS[name]["default"] == "refuse" for name in destroying)
