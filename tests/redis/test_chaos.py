# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random damage: ``PROGRESSIVE_CHAOS_CASES`` cases from ``PROGRESSIVE_CHAOS_SEED`` on; without them 60, and 440 more that are slow by their number.

The slow ones let the module wait for as long as it wants to; ``PROGRESSIVE_CHAOS_PATIENCE`` gives these seconds to chosen cases.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.progressive.platform.tests.redis.chaos import LONG_PATIENCE, NODE_TIMEOUT, PATIENCE, Broken, Case, back
from ansible_collections.progressive.platform.tests.redis.lab import Lab, own_entry

SEED = int(os.environ.get("PROGRESSIVE_CHAOS_SEED", "1"))
ASKED = int(os.environ.get("PROGRESSIVE_CHAOS_CASES", "0"))
USUAL, ALL = 60, 500
GIVEN_PATIENCE = float(os.environ.get("PROGRESSIVE_CHAOS_PATIENCE", "0"))
CASES = [pytest.param(SEED + number, GIVEN_PATIENCE or PATIENCE, id=str(SEED + number)) for number in range(ASKED or USUAL)] + [
    pytest.param(SEED + number, GIVEN_PATIENCE or LONG_PATIENCE, id=str(SEED + number), marks=pytest.mark.slow)
    for number in range(ASKED or USUAL, ASKED or ALL)
]


@pytest.fixture(scope="module")
def persistent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Servers that keep their data over a kill, as masters without a replica must."""
    lab = Lab(tmp_path_factory.mktemp("chaos"))
    try:
        lab.add(6, appendonly="yes", **{"cluster-node-timeout": str(int(1000 * NODE_TIMEOUT))})
        time.sleep(2.1)  # as in conftest.py
        yield lab
    finally:
        lab.stop()


@pytest.fixture
def chaos(persistent: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    persistent.restore(6)
    yield persistent
    persistent.restore(6)


@pytest.mark.parametrize(("seed", "patience"), CASES)
def test_random_damage(chaos: Lab, seed: int, patience: float, record_property: Callable[[str, object], None]) -> None:
    case = Case(chaos, seed, patience=patience)
    verdict = case.run()
    record_property("chaos", str(verdict))
    record_property("story", case.told())


# What failed once: the damage, step by step.


def test_keys_of_an_importer_that_failed_over(chaos: Lab) -> None:
    """Seed 22: the successor has the keys and knows of no open slot; the only sign is the giver's."""
    case = Case(chaos, 22, replicas=1)
    case.form()
    source, target = case.masters[:2]
    slot = next(slot for slot in case.shadow.slots.values() if own_entry(source).slots >> slot & 1)
    target("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id())
    source("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id())
    keys = source("CLUSTER", "GETKEYSINSLOT", slot, 100)
    assert source("MIGRATE", target.host, target.port, "", 0, 5000, "KEYS", *keys) == "OK"
    successor = case.followers(target)[0]
    chaos.wait(lambda: successor("CLUSTER", "COUNTKEYSINSLOT", slot) == len(keys))
    assert successor("CLUSTER", "FAILOVER") == "OK"
    chaos.wait(lambda: bool(own_entry(successor).slots))
    assert case.attempt(PATIENCE, set(case.shadow.keys), []).kind == "healed", case.told()


def test_keys_of_open_slots_move_once_every_slot_has_an_owner(chaos: Lab) -> None:
    """Seed 7104: a cluster that is down for want of an owner answers CLUSTERDOWN to MIGRATE, and the open slot was looked at first for ever."""
    case = Case(chaos, 7104, replicas=1)
    case.form()
    source, target = case.masters[:2]
    mine = [slot for slot in dict.fromkeys(case.shadow.slots.values()) if own_entry(source).slots >> slot & 1]
    target("CLUSTER", "SETSLOT", mine[0], "IMPORTING", source.id())
    source("CLUSTER", "SETSLOT", mine[0], "MIGRATING", target.id())
    for master in case.masters:
        assert master("CLUSTER", "DELSLOTS", mine[1]) == "OK"
    chaos.wait(lambda: all("cluster_state:fail" in master("CLUSTER", "INFO") for master in case.masters))
    assert case.attempt(PATIENCE, set(case.shadow.keys), []).kind == "healed", case.told()


def test_members_that_moved_meet_before_they_elect(chaos: Lab) -> None:
    """Seed 7075: everybody is elsewhere and one master has lost its volume, so nobody reached anybody whose vote was needed.

    A replica that was restarted, too, is not elected unasked: it cannot say how old its data is.
    """
    case = Case(chaos, 7075, replicas=1)
    case.form()
    lost = case.masters[0]
    node_id = lost.id()
    for server in chaos.servers:
        server.kill()
        server.renumber()
    lost.wipe()
    for server in chaos.servers:
        server.launch()
    for server in chaos.servers:
        back(server)
    assert case.attempt(LONG_PATIENCE, set(case.shadow.keys), [], allow_data_loss=[node_id]).kind == "healed", case.told()
    assert "S6 meet" in case.story[-1] and "S9 failover" in case.story[-1]


def test_whoever_has_forgotten_the_successor_meets_it_before_the_election(chaos: Lab) -> None:
    """Seed 7074: a master that does not know a replica does not vote for it, and of three masters both that are left have to."""
    case = Case(chaos, 7074, replicas=1)
    case.form()
    lost, voter = case.masters[:2]
    successor = case.followers(lost)[0]
    lost.kill()
    lost.wipe()
    lost.renumber()
    assert voter("CLUSTER", "FORGET", successor.id()) == "OK"
    back(lost)
    assert case.attempt(LONG_PATIENCE, set(case.shadow.keys), []).kind == "healed", case.told()
    assert own_entry(successor).is_master


def test_what_a_master_without_its_nodes_conf_kept_is_adopted(chaos: Lab) -> None:
    """Seeds 174 and 244: started with its data it owns the slots of its keys, in epoch 0. Its peers remembered the former ID with a higher one, and told it
    so when they met: it dropped every slot and every key."""
    case = Case(chaos, 174, replicas=0)
    case.form()
    lost = case.masters[0]
    lost.kill()
    (lost.directory / "nodes.conf").unlink()
    lost.renumber()
    back(lost)
    keys = set(case.shadow.keys)
    refused = case.attempt(LONG_PATIENCE, keys, [])
    assert (refused.kind, refused.state) == ("refused", "S20") and f"adopt_data: [{lost.id()}]" in refused.text, case.told()
    again = case.attempt(LONG_PATIENCE, keys, [], adopt_data=[lost.id()])
    assert (again.kind, again.state) == ("refused", "S11") and "no node holds a key of them" in again.text, case.told()
    empty = re.search(r"allow_data_loss: \['([^']+)'\]", again.text)
    assert empty is not None
    healed = case.attempt(LONG_PATIENCE, keys, [], adopt_data=[lost.id()], allow_data_loss=[empty[1]])
    assert healed.kind == "healed", case.told()


# The judge itself.


def test_a_lost_key_a_hidden_one_and_a_loud_run_are_seen(chaos: Lab) -> None:
    case = Case(chaos, 0, replicas=1)
    case.form()
    keep = case.shadow.sound(case.awake)
    assert keep == set(case.shadow.keys) == case.shadow.readable(chaos.masters())
    case.check_keys(keep)
    case.check_healed(keep)
    owner = case.masters[0]
    key = next(key for key in case.shadow.keys if own_entry(owner).slots >> case.shadow.slots[key] & 1)
    owner("CLUSTER", "DELSLOTS", case.shadow.slots[key])
    assert key not in case.shadow.readable(chaos.masters())
    case.check_keys(keep)
    assert owner("CLUSTER", "ADDSLOTS", case.shadow.slots[key]) == "OK"
    chaos.wait(lambda: owner("SET", key, "overwritten") == "OK")
    chaos.wait(lambda: not any(key in case.shadow.held(server) for server in case.awake))
    with pytest.raises(Broken, match="1 keys are lost"):
        case.check_keys(keep)
    with pytest.raises(Broken, match="1 keys cannot be read"):
        case.check_healed(keep)
    case.followers(owner)[0]("CLUSTER", "RESET", "HARD")
    with pytest.raises(Broken, match="not settled"):
        case.check_healed(set())
