# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Decisions on views made by hand: no server and no simulator, only data."""

from __future__ import annotations

import dataclasses
import re
import typing as t

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._members.model import Marker, Refuse, Target, Wait
from ansible_collections.progressive.platform.plugins.module_utils._mongodb import report
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.converge import ARGUMENTS, wanted
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.documents import config_of, with_status
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.model import (
    Act,
    Decision,
    Desired,
    Done,
    Node,
    Observation,
    User,
    Wanted,
)
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.picture import Picture, remembered
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.plan import decide, findings
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.simulate import foresee
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.states import STATES
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.tests.unit.mongodb.states import TABLE
from ansible_collections.progressive.platform.tests.unit.state_table import ROOT

DOMAIN = "mongodb-headless.data.svc.cluster.local"
ADMIN = User("admin", "admin", frozenset({"root@admin"}), "never-shown")
DESIRED = Desired("rs0", admin=ADMIN)


def host(number: int) -> str:
    return f"mongodb-{number}.{DOMAIN}:27017"


def target(number: int, **changes: t.Any) -> Target:
    return dataclasses.replace(Target(f"mongodb-{number}", f"10.0.0.{number}", 27017, number, uid=f"uid-{number}"), **changes)


def fresh(number: int) -> Node:
    return Node(target(number), host(number), login="open")


def absent(number: int) -> Node:
    return Node(target(number), host(number), problem="does not answer", kind="absent")


def document(*hosts: str, version: int = 1, term: int = 1, set_id: str = "set-a", **of_member: t.Any) -> dict[str, t.Any]:
    members = [{"_id": number, "host": name, **of_member} for number, name in enumerate(hosts)]
    return {
        "_id": "rs0",
        "version": version,
        "term": term,
        "members": members,
        "settings": {"replicaSetId": set_id, "electionTimeoutMillis": 10_000},
    }


def members(count: int = 3, config: dict[str, t.Any] | None = None, primary: int = 0) -> list[Node]:
    """A healthy set as its members see it."""
    parsed = config_of(config or document(*map(host, range(count))))
    leader = parsed.entries[primary].host
    nodes = [
        Node(
            target(number),
            host(number),
            state="SECONDARY",
            entry=number,
            config=parsed,
            term=1,
            primary=leader,
            optime=(1, 100, 1),
            version="7.0.0",
        )
        for number in range(count)
    ]
    told = {"write_concern": {"w": "majority"}, "users": {"admin.admin": frozenset({"root@admin"})}, "compatibility": "7.0"}
    nodes[primary] = dataclasses.replace(nodes[primary], state="PRIMARY", **told)
    return nodes


def look(*nodes: Node, desired: Desired = DESIRED, marker: Marker | None = None, **ages: float) -> Decision:
    return decide(Picture(Observation(nodes, marker), desired, ages))


def reconfigured(decision: Decision) -> dict[str, t.Any]:
    assert isinstance(decision, Act), decision
    config: dict[str, t.Any] = decision.action.command["replSetReconfig"]
    return config


def test_a_healthy_set_is_left_alone() -> None:
    assert look(*members()) == Done()
    assert findings(Picture(Observation(tuple(members())), DESIRED)) == []


def test_names_and_never_addresses_make_a_set() -> None:
    decision = look(fresh(0), fresh(1), fresh(2))
    assert isinstance(decision, Act) and decision.state == "M1"
    config = decision.action.command["replSetInitiate"]
    assert [member["host"] for member in config["members"]] == [host(0), host(1), host(2)]


@pytest.mark.parametrize(("uid", "refused"), [("uid-0", True), ("another", False)])
def test_a_remembered_set_is_formed_anew_only_when_its_storage_is_gone(uid: str, refused: bool) -> None:
    marker = Marker("formed", {"replicaSetId": "set-a"}, {"mongodb-0": uid})
    decision = look(fresh(0), fresh(1), fresh(2), marker=marker)
    assert isinstance(decision, Refuse if refused else Act)
    if isinstance(decision, Refuse):
        assert marker.fingerprint in decision.reason
        named = dataclasses.replace(DESIRED, allow_data_loss=frozenset({marker.fingerprint}))
        assert isinstance(look(fresh(0), fresh(1), fresh(2), marker=marker, desired=named), Act)


def test_one_member_that_belongs_somewhere_keeps_the_others_from_forming_a_set() -> None:
    """A restarted first pod with an empty disk looks fresh; its set is elsewhere."""
    nodes = members()
    wiped = dataclasses.replace(fresh(0))
    others = [dataclasses.replace(node, state="SECONDARY", primary="") for node in nodes[1:]]
    decision = look(wiped, *others)
    assert isinstance(decision, Wait) and decision.state == "M7"


def test_two_sets_are_refused_with_both_ids() -> None:
    ours, theirs = members(2), members(1, document(host(0), set_id="set-b"))
    decision = look(*ours, dataclasses.replace(theirs[0], target=target(2), host=host(2)))
    assert isinstance(decision, Refuse) and decision.state == "M9"
    assert "set-a" in decision.reason and "set-b" in decision.reason


def test_a_newcomer_gets_no_vote_before_it_has_the_data() -> None:
    nodes = members(2)
    decision = look(*nodes, fresh(2))
    added = reconfigured(decision)["members"][-1]
    assert (added["host"], added["votes"], added["priority"]) == (host(2), 0, 0)
    config = config_of({**document(host(0), host(1)), "members": reconfigured(decision)["members"], "version": 2})
    copying = [dataclasses.replace(node, config=config) for node in nodes]
    newcomer = Node(target(2), host(2), state="STARTUP2", entry=2, config=config, term=1, primary=host(0))
    waiting = look(*copying, newcomer)
    assert isinstance(waiting, Wait) and waiting.state == "M3" and waiting.own_time
    voted = look(*copying, dataclasses.replace(newcomer, state="SECONDARY"))
    assert [member["votes"] for member in reconfigured(voted)["members"]] == [1, 1, 1]


def test_every_plan_changes_at_most_one_vote_a_reconfiguration() -> None:
    """From one member to seven and back, foreseen to the end."""
    for start, count in ((1, 7), (7, 1), (3, 5), (5, 3)):
        desired = dataclasses.replace(DESIRED, members=count)
        nodes = [*members(start), *(fresh(number) for number in range(start, count))]
        decisions, after = foresee(Observation(tuple(nodes)), desired, {})
        assert isinstance(decisions[-1], Done), decisions[-1]
        voters = {entry.id for entry in members(start)[0].config.voters}  # type: ignore[union-attr]
        for decision in decisions:
            if isinstance(decision, Act) and decision.action.verb == "replSetReconfig":
                now = {member["_id"] for member in reconfigured(decision)["members"] if member["votes"]}
                assert len(voters ^ now) <= 1
                voters = now
        assert len(voters) == count
        assert len(Picture(after, desired).entries_of) == count


def test_a_version_is_the_next_one_and_unknown_fields_stay() -> None:
    config = document(host(0), host(1), host(2), version=41, secondaryDelaySecs=0)
    config["protocolVersion"] = 1
    desired = dataclasses.replace(DESIRED, settings={"electionTimeoutMillis": 5000})
    new = reconfigured(look(*members(3, config), desired=desired))
    assert new["version"] == 42 and new["protocolVersion"] == 1 and "term" not in new
    assert new["settings"] == {"replicaSetId": "set-a", "electionTimeoutMillis": 5000}
    assert new["members"][0]["secondaryDelaySecs"] == 0


def test_an_address_in_the_configuration_becomes_a_name_secondaries_first() -> None:
    nodes = members(3, document("10.0.0.0:27017", "10.0.0.1:27017", "10.0.0.2:27017"))
    first = reconfigured(look(*nodes))
    assert [member["host"] for member in first["members"]] == ["10.0.0.0:27017", host(1), "10.0.0.2:27017"]
    last = look(*members(3, document("10.0.0.0:27017", host(1), host(2))))
    assert isinstance(last, Act) and last.kind == "handover" and last.action.node == "mongodb-0"
    assert "force" not in last.action.command


def test_a_lost_majority_is_waited_for_then_refused_then_forced_by_name_only() -> None:
    survivor = dataclasses.replace(members()[1], primary="", optime=(1, 90, 1))
    nodes = (absent(0), survivor, absent(2))
    assert isinstance(look(*nodes), Wait)
    refusal = look(*nodes, majority=121.0)
    assert isinstance(refusal, Refuse) and "force_reconfig: [mongodb-1]" in refusal.reason
    wrong = dataclasses.replace(DESIRED, force=frozenset({"mongodb-0"}))
    assert isinstance(look(*nodes, desired=wrong), Wait)
    named = dataclasses.replace(DESIRED, force=frozenset({"mongodb-1"}))
    decision = look(*nodes, desired=named)
    assert isinstance(decision, Act) and decision.action.command["force"] is True
    assert [member["host"] for member in reconfigured(decision)["members"]] == [host(1)]
    assert isinstance(look(*members(), desired=named), Done), "with a majority the option does nothing"


@pytest.mark.state("M7")
def test_the_newest_member_is_asked_when_no_election_comes() -> None:
    nodes = [dataclasses.replace(node, state="SECONDARY", primary="") for node in members()]
    nodes[2] = dataclasses.replace(nodes[2], optime=(1, 200, 1))
    assert isinstance(look(*nodes), Wait)
    asked = look(*nodes, election=31.0)
    assert isinstance(asked, Act) and asked.kind == "stepup" and asked.action.node == "mongodb-2"
    assert isinstance(look(*nodes, election=61.0), Refuse)


@pytest.mark.state("M19")
def test_pods_are_replaced_secondaries_first_and_the_primary_hands_over() -> None:
    desired = dataclasses.replace(DESIRED, roll=True)
    nodes = [dataclasses.replace(node, target=dataclasses.replace(node.target, update="outdated")) for node in members(primary=1)]
    decisions, _after = foresee(Observation(tuple(nodes)), desired, {})
    steps = [(decision.kind, decision.action.node) for decision in decisions if isinstance(decision, Act)]
    assert steps == [("replace", "mongodb-2"), ("replace", "mongodb-0"), ("handover", "mongodb-1"), ("replace", "mongodb-1")]
    assert look(*nodes) == Done(), "without roll they are left alone"
    starting = dataclasses.replace(nodes[0], target=dataclasses.replace(nodes[0].target, update="", ready=False))
    assert isinstance(look(starting, *nodes[1:], desired=desired), Wait), "one at a time"
    ailing = dataclasses.replace(nodes[0], target=dataclasses.replace(nodes[0].target, ready=False))
    first = look(ailing, *nodes[1:], desired=desired)
    assert isinstance(first, Act) and first.action.node == "mongodb-0", "the newest template may be its cure"


def test_a_foreign_member_is_not_ours_to_remove() -> None:
    config = document(host(0), host(1), host(2), "elsewhere.example.com:27017")
    decision = look(*members(3, config))
    assert isinstance(decision, Refuse) and "remove_members: [elsewhere.example.com:27017]" in decision.reason
    named = dataclasses.replace(DESIRED, remove=frozenset({"elsewhere.example.com:27017"}))
    vote = look(*members(3, config), desired=named)
    assert [member["votes"] for member in reconfigured(vote)["members"]] == [1, 1, 1, 0]


def test_a_pod_that_is_gone_for_good_leaves_the_configuration() -> None:
    five = document(*map(host, range(5)))
    decision = look(*members(3, five))
    assert isinstance(decision, Act) and decision.state == "M13"


def test_an_arbiter_and_an_even_number_of_votes_are_warned_of() -> None:
    config = document(host(0), host(1), host(2), host(3))
    config["members"][3] |= {"arbiterOnly": True, "priority": 0}
    picture = Picture(Observation(tuple(members(3, config))), DESIRED)
    assert len(report.warnings(picture)) == 2


def test_no_password_is_shown() -> None:
    nodes = [dataclasses.replace(node, login="open", users=None) for node in members()]
    decision = look(*nodes)
    assert isinstance(decision, Act) and decision.kind == "user"
    assert "never-shown" not in str(report.plan_rows([decision]))
    assert "never-shown" not in repr(DESIRED)


@pytest.mark.parametrize(("reply", "state"), [({"ok": 0, "code": 94}, "STARTUP"), ({"ok": 0, "code": 93}, "REMOVED")])
def test_what_a_refused_status_means(reply: dict[str, t.Any], state: str) -> None:
    assert with_status(fresh(0), reply).state == state


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"members": 4}, "odd number"),
        ({"members": 0}, "1 to 50"),
        ({"members": 5, "addresses": ["a:1", "b:1", "c:1"]}, "addresses names 3"),
        ({"member_options": [{"name": "mongodb-0", "votes": 0, "priority": 2.0, "hidden": False, "tags": {}}]}, "cannot become primary"),
        ({"member_options": [{"name": "mongodb-0", "votes": 0, "priority": None, "hidden": False, "tags": {}}]}, "odd number"),
        ({"settings": {"replicaSetId": "x"}}, "not among those"),
        ({"write_concern": "most"}, "majority or a number"),
        ({"timeout": 0.0}, "more than 0"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(changes: dict[str, t.Any], words: str) -> None:
    params = {name: option.get("default") for name, option in ARGUMENTS.items()} | changes
    with pytest.raises(PlatformError, match=words):
        wanted(params)


def test_beyond_seven_members_nobody_votes() -> None:
    desired = wanted({name: option.get("default") for name, option in ARGUMENTS.items()} | {"members": 9})
    assert [desired.of(target(number)).votes for number in range(9)] == [1] * 7 + [0] * 2
    assert desired.of(target(8)) == Wanted(votes=0, priority=0)


@pytest.mark.state("M17")
def test_a_configuration_that_not_everybody_has_is_waited_for() -> None:
    nodes = members()
    newer = config_of(document(host(0), host(1), host(2), version=2))
    decision = look(dataclasses.replace(nodes[0], config=newer, committed=False), *nodes[1:])
    assert isinstance(decision, Wait) and decision.state == "M17"
    assert "mongodb-1, mongodb-2" in decision.reason and "not committed" in decision.reason
    astray = dataclasses.replace(nodes[2], primary=host(1))
    assert "mongodb-2 does not follow mongodb-0" in t.cast(Wait, look(nodes[0], nodes[1], astray)).reason


def test_the_table_of_states_is_the_planners_and_the_tests() -> None:
    stages = "".join(path.read_text() for path in (ROOT / "plugins/module_utils/_mongodb/stages").glob("*.py"))
    assert set(STATES) == set(re.findall(r'"(M\d+)"', stages)) | {"M4"} == set(TABLE.marked()), (
        "every state has a test, and no mark names another"
    )
    assert TABLE.document.read_text() == TABLE.rewritten(), "run make docs"


def test_the_marker_names_the_set_and_its_storage() -> None:
    nodes = [dataclasses.replace(node, target=target(number, volumes=(f"pvc-{number}",))) for number, node in enumerate(members())]
    marker = remembered(Observation(tuple(nodes)))
    assert marker is not None and marker.ids == {"replicaSetId": "set-a"} and marker.volumes["mongodb-1"] == ("pvc-1",)
    assert remembered(Observation((fresh(0),))) is None
