# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every state of docs/mongodb.md that members can be brought into, on the simulator, or with PROGRESSIVE_MONGOD=/path/to/mongod on real ones."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.tests.mongodb.lab import PASSWORD, SETTINGS, Lab, Member, state, until
from pymongo import MongoClient


def kinds(result: dict[str, t.Any]) -> list[str]:
    return [step["action"] for step in result["plan"]]


def hosts(lab: Lab) -> list[str]:
    return [member["host"] for member in lab.config()["members"]]


def votes(lab: Lab) -> dict[str, int]:
    return {member["host"]: member["votes"] for member in lab.config()["members"]}


def refused(lab: Lab, **options: t.Any) -> PlatformError:
    with pytest.raises(PlatformError) as caught:
        lab.module(**options)
    return caught.value


@pytest.mark.state("M4", "M21", "M22")
def test_m1_fresh_members_form_a_set_with_its_first_user(lab: Lab) -> None:
    lab.add(3)
    foreseen = lab.module(check=True)
    assert kinds(foreseen) == ["initiate", "user", "concern"] and foreseen["state"] == "M1"
    result = lab.module()
    assert kinds(result)[0] == "initiate" and {"user", "concern"} <= set(kinds(result))
    assert PASSWORD not in str(result)
    assert hosts(lab) == lab.addresses
    lab.insert(1)
    until(lambda: all(lab.rows(member) == {1} for member in lab.members), "the row on every member")
    lab.quiet()


def test_m1_a_missing_member_is_waited_for(lab: Lab) -> None:
    lab.add(3)
    lab.members[2].kill()
    error = refused(lab, timeout=1.0)
    assert error.details["state"] == "M1" and lab.members[2].name in error.message
    assert not error.details["plan"]
    lab.members[2].start()
    assert lab.module()["changed"]


def test_m1_a_set_that_is_remembered_is_not_formed_anew(lab: Lab) -> None:
    lab.add(3)
    lab.module()
    for member in lab.members:
        member.kill()
    for member in lab.members:  # all are down by now: one that still had the set would tell it to the others
        member.wipe()
        member.start()
    error = refused(lab)
    assert error.details["state"] == "M1" and "allow_data_loss: [" in error.message
    fingerprint = error.message.rpartition("[")[2].rstrip("]")
    assert lab.module(allow_data_loss=[fingerprint])["changed"]
    lab.quiet()


@pytest.mark.state("M5")
def test_m2_newcomers_join_one_by_one_and_vote_when_they_have_the_data(lab: Lab) -> None:
    lab.add(1)
    lab.module()
    lab.insert(1)
    lab.add(2)
    foreseen = lab.module(check=True)
    result = lab.module()
    for plan in (foreseen, result):
        assert [kind for kind in kinds(plan) if kind not in {"record", "wait"}] == ["add", "add", "vote", "vote"]
    assert votes(lab) == dict.fromkeys(lab.addresses, 1)
    assert all(lab.rows(member) == {1} for member in lab.members)
    lab.quiet()


def test_m3_a_wiped_member_copies_the_data_by_itself(lab: Lab) -> None:
    lab.add(3)
    lab.module()
    lab.insert(1)
    victim = lab.secondaries()[0]
    victim.kill()
    victim.wipe()
    victim.start()
    result = lab.module()
    assert not [kind for kind in kinds(result) if kind not in {"wait", "record"}]
    assert lab.rows(victim) == {1}
    lab.quiet()


def test_m6_addresses_become_names_and_the_primary_comes_last(lab: Lab) -> None:
    members = lab.add(3)
    config = {
        "_id": "rs0",
        "members": [{"_id": i, "host": f"127.0.0.1:{member.port}"} for i, member in enumerate(members)],
        "settings": SETTINGS,
    }
    with MongoClient("localhost", members[0].port, directConnection=True) as client:
        client.admin.command({"replSetInitiate": config})
    result = lab.module()
    assert [kind for kind in kinds(result) if kind in {"rename", "handover"}] == ["rename", "rename", "handover", "rename"]
    assert hosts(lab) == lab.addresses
    lab.quiet()


def test_m7_an_election_is_waited_for(lab: Lab) -> None:
    lab.add(3)
    lab.module()
    lab.insert(1)
    former = lab.primary()
    former.kill()
    lab.primary_but(former)
    lab.insert(2)
    former.start()
    lab.module()
    assert lab.info()["state"] == "M4"
    assert lab.rows(former) == {1, 2}
    lab.quiet()


def test_m8_a_lost_majority_is_refused_and_forced_only_by_name(lab: Lab) -> None:
    lab.add(3)
    lab.module()
    lab.insert(1)
    survivor, *gone = sorted(lab.members, key=lambda member: member is not lab.secondaries()[0])
    for member in gone:
        member.kill()
    error = refused(lab, return_timeout=1.0)
    assert error.details["state"] == "M8" and f"force_reconfig: [{survivor.name}]" in error.message
    assert refused(lab, return_timeout=1.0, force_reconfig=[gone[0].name]).details["state"] == "M8"
    assert "force" in kinds(lab.module(force_reconfig=[survivor.name], addresses=[survivor.name]))
    assert hosts(lab) == [survivor.name]
    lab.insert(2)
    for member in gone:
        member.start()
    lab.module()
    assert sorted(hosts(lab)) == sorted(lab.addresses)
    until(lambda: all(lab.rows(member) == {1, 2} for member in lab.members), "the rows on every member")
    lab.quiet()


def test_m9_two_sets_are_never_joined(lab: Lab) -> None:
    lab.add(2)
    for member in lab.members:
        lab.module(addresses=[member.name])
    ids = {lab.command(member, {"replSetGetConfig": 1})["config"]["settings"]["replicaSetId"] for member in lab.members}
    lab.add(1)
    error = refused(lab)
    assert error.details["state"] == "M9" and all(str(one) in error.message for one in ids)
    assert lab.writes(lab.members[0]).get("replSetReconfig", 0) == 0


def test_m9_a_set_of_another_name_is_refused(lab: Lab) -> None:
    lab.add(1, set_name="other")
    lab.module(replica_set="other")
    error = refused(lab)
    assert error.details["state"] == "M9" and "'other'" in error.message


def test_m10_a_member_that_was_used_is_not_taken_in(lab: Lab) -> None:
    """Its users outlive its configuration: a set of one that lost its name, say."""
    members = lab.add(2)
    lab.module(addresses=[members[1].name])
    members[1].kill()
    lab.forget_configuration(members[1])
    members[1].start()
    lab.add(1)
    error = refused(lab)
    assert error.details["state"] == "M10" and members[1].name in error.message


def test_m11_a_member_that_recovers_is_waited_for_and_then_named(lab: Lab) -> None:
    lab.add(3)
    lab.module()
    sick = lab.secondaries()[0]
    lab.command(sick, {"replSetMaintenance": True})
    until(lambda: state(lab, sick) == "RECOVERING", "RECOVERING")
    error = refused(lab, return_timeout=0.5)
    assert error.details["state"] == "M11" and sick.name in error.message
    lab.command(sick, {"replSetMaintenance": False})
    lab.module()
    lab.quiet()


def test_m12_a_silent_member_is_waited_for(lab: Lab) -> None:
    lab.add(3)
    lab.module()
    silent = lab.secondaries()[0]
    silent.kill()
    error = refused(lab, timeout=1.0)
    assert error.details["state"] == "M12" and silent.name in error.message
    info = lab.info()
    assert info["is_available"] and info["state"] == "M12" and any(silent.name in text for text in info["errors"])


def test_m13_members_leave_one_by_one_and_a_leaving_primary_hands_over(lab: Lab) -> None:
    lab.add(3)
    lab.module(member_options=[{"name": lab.members[2].name, "votes": 1, "priority": 5.0, "hidden": False, "tags": {}}])
    until(lambda: state(lab, lab.members[2]) == "PRIMARY", "the member of the highest priority is primary")
    result = lab.module(members=1)
    assert kinds(result).count("remove") == 2 and "handover" in kinds(result)
    assert hosts(lab) == lab.addresses[:1]
    lab.quiet(members=1)


def test_m13_an_unknown_member_is_refused_unless_it_is_named(lab: Lab) -> None:
    lab.add(3)
    lab.module()
    until(lambda: state(lab, lab.primary()) == "PRIMARY", "a primary")
    known = lab.primary().name  # whoever was elected; without the primary that would be M8
    strangers = [one for one in lab.addresses if one != known]
    error = refused(lab, addresses=[known], members=1)
    assert error.details["state"] == "M13" and strangers[0] in error.message
    lab.module(addresses=[known], members=1, remove_members=strangers)
    assert hosts(lab) == [known]


def test_m16_priorities_hidden_members_and_settings(lab: Lab) -> None:
    lab.add(3)
    lab.module()
    options = [
        {"name": lab.members[1].name, "votes": 1, "priority": 3.0, "hidden": False, "tags": {"zone": "b"}},
        {"name": lab.secondaries()[-1].name, "votes": 1, "priority": None, "hidden": True, "tags": {}},
    ]
    if options[0]["name"] == options[1]["name"]:
        options[1]["name"] = lab.secondaries()[0].name
    changed = {**SETTINGS, "electionTimeoutMillis": 1500}
    assert kinds(lab.module(member_options=options, settings=changed)) == ["configure"]
    config = lab.config()
    by_host = {member["host"]: member for member in config["members"]}
    assert by_host[lab.members[1].name]["priority"] == 3 and by_host[lab.members[1].name]["tags"] == {"zone": "b"}
    assert by_host[str(options[1]["name"])]["hidden"] and config["settings"]["electionTimeoutMillis"] == 1500
    until(lambda: state(lab, lab.members[1]) == "PRIMARY", "priority takeover")
    lab.quiet(member_options=options, settings=changed)


def test_m20_a_refused_password_is_told_and_not_shown(lab: Lab) -> None:
    lab.add(1)
    lab.module()
    error = refused(lab, password="not-the-right-one")
    assert error.details["state"] == "M20" and "not-the-right-one" not in str(error.details) + error.message
    assert not lab.module(password="not-the-right-one", former_password=PASSWORD)["changed"]


def test_m21_users_are_made_and_their_roles_kept(lab: Lab) -> None:
    lab.add(1)
    users = [{"name": "app", "database": "admin", "roles": ["readWrite@shop"], "password": "a-password", "password_secret": None}]
    result = lab.module(users=users)
    assert kinds(result).count("user") == 2 and "a-password" not in str(result)
    with MongoClient("localhost", lab.members[0].port, directConnection=True, username="app", password="a-password") as client:
        assert client.admin.command("ping")["ok"]
    lab.quiet(users=users)
    users[0]["roles"] = ["readWrite@shop", "read@stock"]
    assert kinds(lab.module(users=users)) == ["roles"]
    lab.quiet(users=users)


def test_two_runs_at_once_form_one_set(lab: Lab) -> None:
    """The lock keeps them apart; the second finds the first one's set."""
    from concurrent.futures import ThreadPoolExecutor

    lab.add(3)
    with ThreadPoolExecutor(2) as pool:
        results = [one.result() for one in [pool.submit(lab.module) for _run in range(2)]]
    assert sum("initiate" in kinds(result) for result in results) == 1
    lab.quiet()


def test_an_even_number_of_voters_and_addresses_without_names_are_refused(lab: Lab) -> None:
    members: list[Member] = lab.add(2)
    assert "odd number" in refused(lab).message
    assert "IP address" in refused(lab, addresses=[f"127.0.0.1:{members[0].port}"]).message
    assert not any(lab.answered_as_member(member) for member in members)


def test_info_never_fails(lab: Lab) -> None:
    lab.add(3)
    for member in lab.members:
        member.kill()
    info = lab.info()
    assert not info["is_available"] and info["state"] in {"M1", "unknown"} and len(info["errors"]) == 3
