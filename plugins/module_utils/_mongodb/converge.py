# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The loop observe, plan, act, observe again, and the entry points of both modules (private: may change without notice)."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t
from collections.abc import Iterator, Mapping, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._kube.arguments import CONNECTION
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client, connect
from ansible_collections.progressive.platform.plugins.module_utils._members import credentials, places
from ansible_collections.progressive.platform.plugins.module_utils._members.loop import Loop, noted
from ansible_collections.progressive.platform.plugins.module_utils._members.model import Marker, Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._members.store import Files, Objects, Store
from ansible_collections.progressive.platform.plugins.module_utils._mongodb import report
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.driver import LOGIN, RETRIABLE, Door, Lost, require
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.model import (
    MEMBERS_AT_MOST,
    VOTERS_AT_MOST,
    Act,
    Action,
    Decision,
    Desired,
    Done,
    Observation,
    User,
    Wanted,
)
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.nodes import Cluster, Hosts, Members, Source
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.picture import Picture, remembered
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.plan import findings
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.simulate import foresee
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

PASSES_AT_MOST = 200
"""Passes that send something; passes that only wait are bounded by the timeout."""
RETRY_AFTER = 0.5
FAILING_AT_MOST = 30.0
"""Seconds for which servers may refuse with what passes (an election, a configuration that is not committed yet) before that is the answer."""
ADMIN = "admin"

NODES: dict[str, t.Any] = {
    "replica_set": {"type": "str", "default": "rs0"},
    **places.options(27017, domain={"type": "str", "required": True}),
    "zones": {"type": "dict", "default": {}},
    "name": {"type": "str", "default": "mongodb"},
    **LOGIN,
    **CONNECTION,
}
ARGUMENTS: dict[str, t.Any] = {
    **NODES,
    "members": {"type": "int", "default": 3},
    "member_options": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "votes": {"type": "int", "default": 1, "choices": [0, 1]},
            "priority": {"type": "float"},
            "hidden": {"type": "bool", "default": False},
            "tags": {"type": "dict", "default": {}},
        },
    },
    "settings": {"type": "dict", "default": {}},
    "write_concern": {"type": "str", "default": "majority"},
    "users": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "no_log": False,
        "options": {
            "name": {"type": "str", "required": True},
            "database": {"type": "str", "default": ADMIN},
            "roles": {"type": "list", "elements": "str", "required": True},
            "password": {"type": "str", "no_log": True},
            "password_secret": credentials.OPTIONS["password_secret"],
        },
        "required_one_of": [["password", "password_secret"]],
        "mutually_exclusive": [["password", "password_secret"]],
    },
    "roll": {"type": "bool", "default": False},
    "force_reconfig": {"type": "list", "elements": "str", "default": []},
    "remove_members": {"type": "list", "elements": "str", "default": []},
    "allow_data_loss": {"type": "list", "elements": "str", "default": []},
    "sync_timeout": {"type": "float", "default": 3600.0},
    "return_timeout": {"type": "float", "default": 120.0},
    "timeout": {"type": "float", "default": 300.0},
}
INFO_ARGUMENTS: dict[str, t.Any] = {**NODES, "members": {"type": "int"}}
CONSTRAINTS: dict[str, t.Any] = {
    "required_one_of": [["pods", "addresses"]],
    "mutually_exclusive": [["pods", "addresses"], *credentials.CONSTRAINTS["mutually_exclusive"]],
    "required_by": credentials.CONSTRAINTS["required_by"],
}
SETTINGS = frozenset(
    {
        "chainingAllowed",
        "heartbeatIntervalMillis",
        "heartbeatTimeoutSecs",
        "electionTimeoutMillis",
        "catchUpTimeoutMillis",
        "catchUpTakeoverDelayMillis",
    }
)
"""Those of a configuration's settings that may change while the set runs; getLastErrorModes and replicaSetId are not ours."""


def run(params: Params, context: Context) -> Result:
    """The module mongodb_replicaset."""
    desired = wanted(params)
    with opened(params, context) as (cluster, store, client):
        desired = dataclasses.replace(desired, admin=_admin(params, cluster), users=_users(params, client))
        return Convergence(cluster, store, desired, params["timeout"], context).run()


def run_info(params: Params, context: Context) -> Result:
    """The module mongodb_replicaset_info: reads, and says so when it cannot."""
    errors: list[str] = []
    observation = Observation(())
    marker = None
    with noted(errors), opened(params, context, closer=True) as (cluster, store, _client):
        with noted(errors):
            marker = store.read()
        observation = cluster.observe(marker)
    picture = Picture(observation, _assumed(params, observation))
    seen = findings(picture)
    errors += [f"{node.name}: {node.problem}" for node in observation.nodes if not node.live]
    config, primary = picture.config, picture.primary
    return {
        "changed": False,
        "is_available": report.available(picture),
        "state": seen[0].state if seen else "M4" if picture.live else "unknown",
        "replica_set": config.name if config else "",
        "primary": primary.name if primary else "",
        "config_version": config.version if config else None,
        "term": primary.term if primary else None,
        "write_concern": (primary.write_concern or {}).get("w") if primary else None,
        "feature_compatibility": primary.compatibility if primary else "",
        "members": report.node_rows(picture),
        "errors": errors,
        "findings": report.finding_rows(seen),
        "warnings": report.warnings(picture),
    }


def wanted(params: Params) -> Desired:
    """The desired set, refused when no set can be like it."""
    members = params["members"]
    if not 1 <= members <= MEMBERS_AT_MOST:
        raise PlatformError(f"members is {members}; a replica set has 1 to {MEMBERS_AT_MOST}.")
    addresses = params.get("addresses")
    if addresses is not None and len(addresses) < members:
        raise PlatformError(f"addresses names {len(addresses)} members, {members} are wanted. Add addresses, or lower members.")
    options = {option["name"]: _wanted(option) for option in params["member_options"]}
    if len(options) < len(params["member_options"]):
        raise PlatformError("member_options names a member twice. Give every member once.")
    without = sum(1 for option in options.values() if not option.votes)
    voters = members - without if options else min(members, VOTERS_AT_MOST)
    if voters > VOTERS_AT_MOST:
        raise PlatformError(f"{voters} members would vote, at most {VOTERS_AT_MOST} can. Give the others votes: 0 in member_options.")
    if voters < 1 or voters % 2 == 0:
        raise PlatformError(
            f"{voters} members would vote; an odd number is wanted, because one more voter survives no more failures and makes ties. "
            "Change members, or give one votes: 0 in member_options."
        )
    for name in params["settings"]:
        if name not in SETTINGS:
            raise PlatformError(f"settings: {name!r} is not among those that can be set: {', '.join(sorted(SETTINGS))}.")
    if params["write_concern"] and params["write_concern"] != "majority" and not params["write_concern"].isdigit():
        raise PlatformError(f"write_concern is {params['write_concern']!r}; majority or a number is wanted.")
    for option in ("timeout", "sync_timeout", "return_timeout"):
        if params[option] <= 0:
            raise PlatformError(f"{option} is {params[option]}; it must be more than 0 seconds.")
    return Desired(
        name=params["replica_set"],
        members=members,
        options=options,
        settings=params["settings"],
        write_concern=params["write_concern"],
        force=frozenset(params["force_reconfig"]),
        remove=frozenset(params["remove_members"]),
        allow_data_loss=frozenset(params["allow_data_loss"]),
        roll=params["roll"],
        sync_timeout=params["sync_timeout"],
        return_timeout=params["return_timeout"],
    )


def _wanted(option: Mapping[str, t.Any]) -> Wanted:
    name, votes, hidden = option["name"], option["votes"], option["hidden"]
    priority = option.get("priority")
    if priority is None:
        priority = 0 if hidden or not votes else 1
    if not 0 <= priority <= 1000:
        raise PlatformError(f"member_options {name}: priority is {priority}; 0 to 1000 is wanted.")
    if priority and (hidden or not votes):
        raise PlatformError(
            f"member_options {name}: a member that is hidden or has no vote cannot become primary, so its priority must be 0."
        )
    return Wanted(votes, int(priority) if float(priority).is_integer() else priority, hidden, option["tags"])


def _admin(params: Params, cluster: Cluster) -> User | None:
    """Who logs in, and is made where nobody can; without a password there is nobody to make."""
    access = cluster.access
    return User(access.username, ADMIN, frozenset({f"root@{ADMIN}"}), access.passwords[0]) if access.passwords else None


def _users(params: Params, client: Client | None) -> tuple[User, ...]:
    users = []
    for given in params["users"]:
        key = f"{given['database']}.{given['name']}"
        password = given.get("password") or ""
        if given.get("password_secret") and client is not None:
            where, values = credentials.secret_data(params, client, given["password_secret"], f"users {key}")
            password = values.get(given["password_secret"]["key"], "")
            if not password:
                raise PlatformError(
                    f"{where} (users {key}) has no key {given['password_secret']['key']!r}; its keys: {', '.join(sorted(values)) or 'none'}."
                )
        roles = frozenset(role if "@" in role else f"{role}@{given['database']}" for role in given["roles"])
        users.append(User(given["name"], given["database"], roles, password))
    return tuple(users)


def _assumed(params: Params, observation: Observation) -> Desired:
    """What a reader compares with: the wanted number of members where it is told, otherwise what is there; priorities and votes are as they are."""
    picture = Picture(observation, Desired(params["replica_set"], members=MEMBERS_AT_MOST))
    options = {name: Wanted(entry.votes, entry.priority, entry.hidden, entry.tags) for name, entry in picture.entries_of.items()}
    return Desired(params["replica_set"], members=params.get("members") or len(observation.nodes) or 1, options=options, write_concern="")


@contextlib.contextmanager
def opened(params: Params, context: Context, closer: bool = False) -> Iterator[tuple[Cluster, Store, Client | None]]:
    """The members' connections and their store; the API server is only asked when pods or a Secret need it."""
    require()
    pods = params.get("pods")
    api = pods or credentials.needs_api(params) or any(user.get("password_secret") for user in params.get("users") or ())
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(connect(params, context.clock)) if api else None
        source: Source
        store: Store
        if pods and client is not None:
            source = Members(client, pods["namespace"], pods["selector"], pods["port"], pods["domain"])
            store = Objects(client, pods["namespace"], params["name"], context.clock)
        else:
            source = Hosts(params["addresses"], params["zones"])
            store = Files("mongodb", params["addresses"], context.clock)
        access = dataclasses.replace(credentials.access_of(params, client), username=params.get("username") or ADMIN)
        yield stack.enter_context(Cluster(source, Door(access), closer)), store, client


class Convergence(Loop[Observation, Decision]):
    """One run: from what is there to what is wanted, or to the reason why not."""

    component = "mongodb_replicaset"
    poll = (0.02, 1.2, 0.5)

    def __init__(self, cluster: Cluster, store: Store, desired: Desired, timeout: float, context: Context) -> None:
        super().__init__(store, timeout, context)
        self.cluster = cluster
        self.desired = desired
        self.failing: tuple[float, str] | None = None

    def observe(self) -> Observation:
        return self.cluster.observe(self.marker, self.desired.members)

    def found(self, seen: Observation, ages: dict[str, float]) -> list[Decision]:
        return findings(Picture(seen, self.desired, ages))

    def timed(self, found: Sequence[Decision]) -> set[str]:
        elects = any(isinstance(decision, Act) and decision.kind == "stepup" for decision in found)
        return super().timed(found) | ({"election"} if elects else set())

    def pause(self, step: Decision, seconds: float) -> float:
        return RETRY_AFTER if isinstance(step, Act) else seconds

    def remembered(self, seen: Observation) -> tuple[Marker, Decision] | None:
        marker = remembered(seen)
        return (marker, _record(marker)) if marker is not None else None

    def foreseen(self, seen: Observation) -> Result:
        decisions, after = foresee(seen, self.desired, {})
        last = decisions[-1]
        if isinstance(last, Refuse):
            raise self.error(last.reason, seen, last)
        steps: list[Decision] = [decision for decision in decisions if not isinstance(decision, Done)]
        news = self.remembered(seen)
        if isinstance(last, Done) and news is not None and news[0] != self.marker:
            steps.append(news[1])
        return self.result(seen, after, steps)

    def check_time(self, decision: Decision, observation: Observation) -> None:
        """An initial sync has its own limit, and begins the task's anew."""
        now = self.clock.now()
        if isinstance(decision, Wait) and decision.own_time:
            self.deadline = now + self.timeout
        if now > self.deadline or len(self.steps) >= PASSES_AT_MOST:
            limit = f"{self.timeout:g} s" if len(self.steps) < PASSES_AT_MOST else f"{PASSES_AT_MOST} steps"
            refused = f". Not done yet: {self.failing[1]}" if self.failing else ""
            raise self.error(
                f"The set is not as wanted after {limit}. Last seen ({decision.state}): {decision.reason}{refused}", observation, decision
            )

    def act(self, decision: Act, observation: Observation) -> bool:
        """Whether it was done. What passes is tried again, whatever else a server refuses is the caller's to know."""
        action = decision.action
        try:
            reply = self.cluster.send(action)
        except Lost as error:
            return self._failed(f"{action.node}: {error}", observation, decision)
        if reply.get("ok"):
            self.failing = None
            self.steps.append(decision)
            self.deadline = max(self.deadline, self.clock.now() + self.timeout) if decision.kind == "replace" else self.deadline
            return True
        text = f"{action.node} refuses {action.verb} with {reply.get('code')} {reply.get('codeName', '')}: {reply.get('errmsg')}"
        if decision.kind in {"replace", "stepup"} or reply.get("code") in RETRIABLE:
            return self._failed(text, observation, decision)
        raise self.error(f"{text} ({decision.reason})", observation, decision)

    def _failed(self, text: str, observation: Observation, decision: Act) -> bool:
        now = self.clock.now()
        since = self.failing[0] if self.failing else now
        self.failing = (since, text)
        if decision.kind != "replace" and now - since > FAILING_AT_MOST:
            raise self.error(f"{text}, for {FAILING_AT_MOST:g} s ({decision.reason})", observation, decision)
        return False

    def error(self, text: str, observation: Observation, decision: Decision) -> PlatformError:
        picture = Picture(observation, self.desired)
        details = {
            "plan": report.plan_rows(self.steps),
            "members": report.node_rows(picture),
            "findings": report.finding_rows(findings(picture)),
        }
        return PlatformError(text, changed=bool(self.steps), state=decision.state, **details)

    def result(self, before: Observation, after: Observation, steps: Sequence[Decision]) -> Result:
        former, picture = Picture(before, self.desired), Picture(after, self.desired)
        found = findings(former)
        result: Result = {
            "changed": any(isinstance(step, Act) for step in steps),
            "state": (found or [Done()])[0].state if self.context.check else "M4",
            "found": report.finding_rows(found),
            "plan": report.plan_rows(steps),
            "primary": picture.primary.name if picture.primary else "",
            "members": report.node_rows(picture),
            "removable": [node.name for node in picture.removable],
            "warnings": report.warnings(picture),
        }
        if self.context.diff:
            result["diff"] = {"before": report.topology(former), "after": report.topology(picture)}
        return result


def _record(marker: Marker) -> Act:
    action = Action("", {"record": marker.fingerprint}, "so that a lost set is not taken for a new one")
    return Act("M4", "record", f"the marker remembers this set, fingerprint {marker.fingerprint}", action)
