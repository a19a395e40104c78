# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The SIMULATOR holds to the rules it was made from (its module names them); these tests say nothing of a real mongod, except through them."""

from __future__ import annotations

import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.progressive.platform.tests.mongodb.lab import PASSWORD, SETTINGS, free_port, until
from ansible_collections.progressive.platform.tests.mongodb.simulator import SimulatedMongod, SimulatedNetwork
from pymongo import MongoClient
from pymongo.errors import NotPrimaryError, OperationFailure

Client = MongoClient[dict[str, t.Any]]


class Trio:
    """Three simulated members without access control, formed by hand."""

    def __init__(self) -> None:
        self.network = SimulatedNetwork()
        self.members = [self.network.add(free_port(), "rs0", auth=False) for _number in range(4)]
        for member in self.members:
            member.start()
        hosts = [{"_id": number, "host": f"localhost:{member.port}"} for number, member in enumerate(self.members[:3])]
        self.run(self.members[0], {"replSetInitiate": {"_id": "rs0", "members": hosts, "settings": SETTINGS}})
        self.primary()

    def run(self, member: SimulatedMongod, command: dict[str, t.Any], database: str = "admin") -> dict[str, t.Any]:
        with MongoClient("localhost", member.port, directConnection=True, serverSelectionTimeoutMS=5000, retryWrites=False) as client:
            return client[database].command(command)

    def refused(self, member: SimulatedMongod, command: dict[str, t.Any]) -> int:
        with pytest.raises((OperationFailure, NotPrimaryError)) as caught:
            self.run(member, command)
        return int(caught.value.details["code"])

    def primary(self) -> SimulatedMongod:
        until(lambda: sum(member.state == "PRIMARY" for member in self.members) == 1, "one simulated primary")
        return next(member for member in self.members if member.state == "PRIMARY")

    def config(self) -> dict[str, t.Any]:
        return dict(self.run(self.primary(), {"replSetGetConfig": 1})["config"])

    def others(self) -> list[SimulatedMongod]:
        leader = self.primary()
        return [member for member in self.members[:3] if member is not leader]


@pytest.fixture
def trio() -> Iterator[Trio]:
    made = Trio()
    try:
        yield made
    finally:
        made.network.close()


def test_simulator_takes_one_voter_more_or_less_a_reconfiguration(trio: Trio) -> None:
    config = trio.config()
    keep = next(member for member in config["members"] if member["host"].endswith(str(trio.primary().port)))
    assert trio.refused(trio.primary(), {"replSetReconfig": {**config, "version": 2, "members": [keep]}}) == 93
    rest = [member for member in config["members"] if member is not keep]
    assert trio.run(trio.primary(), {"replSetReconfig": {**config, "version": 2, "members": [keep, rest[0]]}})["ok"]


def test_simulator_refuses_an_old_version_and_another_id_for_a_host(trio: Trio) -> None:
    config = trio.config()
    assert trio.refused(trio.primary(), {"replSetReconfig": config}) == 103
    changed = [{**member, "_id": member["_id"] + 10} for member in config["members"][:1]] + config["members"][1:]
    assert trio.refused(trio.primary(), {"replSetReconfig": {**config, "version": 2, "members": changed}}) == 103


def test_simulator_wants_a_primary_and_a_committed_configuration(trio: Trio) -> None:
    config = trio.config()
    assert trio.refused(trio.others()[0], {"replSetReconfig": {**config, "version": 2}}) == 10107
    leader = trio.primary()
    trio.network.partition([leader.port])
    assert trio.refused(leader, {"replSetReconfig": {**config, "version": 2}, "maxTimeMS": 300}) == 308


def test_simulator_wants_a_quorum_of_the_new_configuration(trio: Trio) -> None:
    config = trio.config()
    lame = {"_id": 9, "host": "localhost:1", "votes": 0, "priority": 0}
    assert trio.run(trio.primary(), {"replSetReconfig": {**config, "version": 2, "members": [*config["members"], lame]}})["ok"]
    config = trio.config()
    one = trio.others()[0]
    one.kill()
    members = [{**member, "votes": 1} if member["_id"] == 9 else member for member in config["members"]]
    assert trio.refused(trio.primary(), {"replSetReconfig": {**config, "version": 3, "members": members}, "maxTimeMS": 2000}) == 74


def test_simulator_never_lets_two_primaries_take_majority_writes(trio: Trio) -> None:
    former = trio.primary()
    trio.network.partition([former.port])
    lost = trio.run(former, {"insert": "rows", "documents": [{"_id": 1}], "writeConcern": {"w": "majority", "wtimeout": 200}}, "test")
    assert lost["writeConcernError"]["code"] == 64
    until(lambda: any(one.state == "PRIMARY" for one in trio.members if one is not former), "the majority elects another")
    until(lambda: former.state != "PRIMARY", "the former one steps down")
    leader = trio.primary()
    assert leader.disk.term > 1
    trio.run(leader, {"insert": "rows", "documents": [{"_id": 2}]}, "test")
    trio.network.heal()
    until(lambda: [row["_id"] for row in former.disk.data.get("test.rows", [])] == [2], "what was not acknowledged is rolled back")


def test_simulator_votes_for_nobody_with_older_writes(trio: Trio) -> None:
    behind = trio.others()[0]
    trio.network.partition([behind.port])
    trio.run(trio.primary(), {"insert": "rows", "documents": [{"_id": 1}]}, "test")
    assert trio.refused(behind, {"replSetStepUp": 1}) == 125


def test_simulator_steps_down_only_for_an_heir(trio: Trio) -> None:
    former = trio.primary()
    trio.run(former, {"replSetStepDown": 30, "secondaryCatchUpPeriodSecs": 5})
    assert trio.primary() is not former
    leader = trio.primary()
    trio.network.partition([leader.port])
    assert trio.refused(leader, {"replSetStepDown": 30, "secondaryCatchUpPeriodSecs": 0}) == 262


def test_simulator_initiates_no_member_with_data_and_none_twice(trio: Trio) -> None:
    config = {"_id": "rs0", "members": [{"_id": 0, "host": f"localhost:{trio.members[3].port}"}]}
    assert trio.refused(trio.members[0], {"replSetInitiate": config}) == 23
    config["members"].append({"_id": 1, "host": f"localhost:{trio.members[2].port}"})  # type: ignore[attr-defined]
    assert trio.refused(trio.members[3], {"replSetInitiate": config}) == 103


def test_simulator_keeps_what_was_acknowledged_when_all_are_killed(trio: Trio) -> None:
    trio.run(trio.primary(), {"insert": "rows", "documents": [{"_id": 1}]}, "test")
    for member in trio.members:
        member.kill()
    for member in trio.members:
        member.start()
    leader = trio.primary()
    assert [row["_id"] for row in leader.disk.data["test.rows"]] == [1]


def test_simulator_lets_nobody_in_but_for_the_first_user(tmp_path: Path) -> None:
    network = SimulatedNetwork()
    member = network.add(free_port(), "rs0", auth=True)
    member.start()
    try:
        with MongoClient("localhost", member.port, directConnection=True, serverSelectionTimeoutMS=5000) as client:
            admin = client.admin
            admin.command(
                {"replSetInitiate": {"_id": "rs0", "members": [{"_id": 0, "host": f"localhost:{member.port}"}], "settings": SETTINGS}}
            )
            until(lambda: member.state == "PRIMARY", "a primary")
            with pytest.raises(OperationFailure, match="requires authentication"):
                admin.command({"usersInfo": 1})
            admin.command({"createUser": "admin", "pwd": PASSWORD, "roles": ["root"]})
            with pytest.raises(OperationFailure, match="requires authentication"):
                admin.command({"createUser": "second", "pwd": PASSWORD, "roles": ["root"]})
        with (
            MongoClient("localhost", member.port, directConnection=True, username="admin", password="wrong") as client,
            pytest.raises(OperationFailure, match="Authentication failed"),
        ):
            client.admin.command("ping")
    finally:
        network.close()
