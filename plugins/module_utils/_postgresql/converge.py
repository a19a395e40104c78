# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The loop observe, plan, act, observe again, and the entry points of both modules (private: may change without notice)."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import typing as t
from collections.abc import Callable, Iterator, Mapping

from ansible_collections.progressive.platform.plugins.module_utils._kube.arguments import CONNECTION
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client, connect
from ansible_collections.progressive.platform.plugins.module_utils._members import credentials, places
from ansible_collections.progressive.platform.plugins.module_utils._members.model import Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._postgresql import report
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.members import Access, Cluster, access_of, sources
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.model import (
    Act,
    Database,
    Decision,
    Desired,
    Done,
    Json,
    Observation,
    User,
)
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.observe import LEVELS, differing
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.plan import Picture, findings
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.simulate import foresee
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.wire import Lost, SqlError
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

ACTS_AT_MOST = 100
POLL_FIRST, POLL_GROWTH, POLL_LAST = 0.1, 1.3, 1.0
FAILING_AT_MOST = 30.0
"""Seconds for which Patroni may refuse the same action (a switchover while a standby catches up) before that is the answer."""
LOGIN, SECOND = ".login", "_2"
"""Suffix of the Secret's key that names the login a password belongs to, and of the second of a user's two logins."""
BEGUN_WITHIN = 5.0
"""Seconds, for settings beside one round of Patroni, after which what was begun shows: a copy, or that a parameter takes a restart."""
HEARD_WITHIN = 60.0
"""The same for the parameters themselves, where a machine is busy."""

MEMBERS: dict[str, t.Any] = {
    **places.options(5432, rest_port={"type": "int", "default": 8008}),
    "password": {"type": "str", "no_log": True},
    "rest_password": {"type": "str", "no_log": True},
    "password_secret": {
        "type": "dict",
        "no_log": False,
        "options": {"namespace": {"type": "str"}, "name": {"type": "str", "required": True}},
    },
    **CONNECTION,
}
ARGUMENTS: dict[str, t.Any] = {
    **MEMBERS,
    "members": {"type": "int", "default": 3},
    "config": {"type": "dict", "default": {}},
    "restart": {"type": "bool", "default": True},
    "roll": {"type": "bool", "default": False},
    "switchover": {"type": "str"},
    "reinit": {"type": "list", "elements": "str", "default": []},
    "users": {"type": "dict", "default": {}},
    "user_passwords": {"type": "dict", "default": {}, "no_log": True},
    "users_secret": {
        "type": "dict",
        "no_log": False,
        "options": {"namespace": {"type": "str"}, "name": {"type": "str", "required": True}},
    },
    "databases": {"type": "dict", "default": {}},
    "copy_timeout": {"type": "float", "default": 3600.0},
    "timeout": {"type": "float", "default": 120.0},
}
INFO_ARGUMENTS: dict[str, t.Any] = {**MEMBERS, "members": {"type": "int"}}
CONSTRAINTS: dict[str, t.Any] = {
    "required_one_of": [["pods", "addresses"]],
    "mutually_exclusive": [["pods", "addresses"], ["password", "password_secret"], ["rest_password", "password_secret"]],
}


def run(params: Params, context: Context) -> Result:
    """The module postgresql_cluster."""
    with opened(params, context) as (cluster, client):
        system = system_users(secret_of(params, client, "password_secret"))
        desired = wanted(params, secret_of(params, client, "users_secret") | dict(params["user_passwords"]), system)
        return Convergence(cluster, desired, params["timeout"], context).run()


def run_info(params: Params, context: Context) -> Result:
    """The module postgresql_cluster_info: never fails because something is down."""
    try:
        with opened(params, context) as (cluster, _client):
            observation = cluster.observe()
    except PlatformError as error:
        nothing: Result = {"members": [], "slots": [], "archive": {}, "config": {}, "findings": []}
        return {"changed": False, "is_available": False, "primary": "", "state": "unknown", "errors": [error.message], **nothing}
    picture = Picture(observation, Desired(members=params.get("members") or max(len(observation.members), 1)))
    found = findings(picture)
    silent = [f"{member.target.name}: {member.problem}" for member in observation.members if not member.live]
    primary = observation.primary
    return {
        "changed": False,
        "is_available": primary is not None,
        "primary": primary.target.name if primary else "",
        "state": "healthy" if not found else report.finding_rows(found)[0]["kind"] if observation.live else "unknown",
        "members": report.member_rows(picture),
        "slots": report.slot_rows(observation),
        "archive": report.archive_row(observation),
        "config": observation.config or {},
        "findings": report.finding_rows(found),
        "errors": silent + ([f"SQL: {observation.facts_problem}"] if observation.facts_problem else []),
    }


def logins(values: Mapping[str, str], key: str, name: str, user: User) -> dict[str, User]:
    """A user and the login that takes turns with it, each with the password it has in the Secret: the current one, the next, or the former."""
    other = name + SECOND
    valid = {
        values.get(f"{prefix}{key}{LOGIN}", name): values[prefix + key]
        for prefix in (credentials.FORMER, credentials.NEXT, "")
        if values.get(prefix + key)
    }
    settings = user.settings if user.system else {**user.settings, "role": name}
    return {
        name: dataclasses.replace(user, password=valid.get(name, ""), over=bool(valid) and name not in valid),
        other: dataclasses.replace(
            user, settings=settings, password=valid.get(other, ""), over=other not in valid, of=name, roles=frozenset()
        ),
    }


def system_users(values: Mapping[str, str]) -> dict[str, User]:
    """Patroni's own users, where their passwords are in a Secret that changes them. The superuser has one login, which only this module uses."""
    found: dict[str, User] = {}
    for key, name, attributes in (("replication", "replicator", "REPLICATION"), ("rewind", "rewind", "")):
        if values.get(key + LOGIN):
            found |= logins(values, key, name, User(system=True, attributes=attributes))
    if values.get("superuser"):
        found["postgres"] = User(system=True, password=values["superuser"])
    return found


def wanted(params: Params, passwords: Mapping[str, str], system: Mapping[str, User] | None = None) -> Desired:
    """The checked options as what the planner compares with."""
    if params["members"] < 1:
        raise PlatformError(f"members is {params['members']}; at least 1 is wanted.")
    users = dict(system or {})
    for name, options in params["users"].items():
        given = _options(f"users.{name}", options, {"connection_limit", "settings", "roles"})
        settings = {key: str(value) for key, value in (given.get("settings") or {}).items()}
        roles = frozenset(given.get("roles") or ())
        users |= logins(passwords, name, name, User(int(given.get("connection_limit", -1)), settings, roles=roles))
    databases: dict[str, Database] = {}
    for name, options in params["databases"].items():
        given = _options(f"databases.{name}", options, {"owner", "extensions", "grants"})
        grants = given.get("grants") or {}
        if not given.get("owner"):
            raise PlatformError(f"databases.{name} has no owner; name one of users.")
        if wrong := [f"{user}: {level}" for user, level in grants.items() if level not in LEVELS]:
            raise PlatformError(f"databases.{name}.grants has {', '.join(wrong)}; a level is one of {', '.join(LEVELS)}.")
        databases[name] = Database(str(given["owner"]), frozenset(given.get("extensions") or ()), dict(grants))
    return Desired(
        members=params["members"],
        config=params["config"],
        restart=params["restart"],
        roll=params["roll"],
        switchover=params["switchover"] or "",
        reinit=frozenset(params["reinit"]),
        users=users,
        databases=databases,
        copy_timeout=params["copy_timeout"],
    )


def _options(path: str, given: t.Any, known: set[str]) -> Json:
    options = dict(given or {})
    if unknown := sorted(set(options) - known):
        raise PlatformError(f"{path} has {', '.join(unknown)}; allowed are {', '.join(sorted(known))}.")
    return options


@contextlib.contextmanager
def opened(params: Params, context: Context) -> Iterator[tuple[Cluster, Client | None]]:
    """The cluster's connections; the API server is only asked when pods or a Secret need it."""
    needs_api = params.get("pods") or params.get("password_secret") or params.get("users_secret")
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(connect(params, context.clock)) if needs_api else None
        secret = secret_of(params, client, "password_secret")
        access = access_of(secret) if secret else Access(params.get("password") or "", params.get("rest_password") or "")
        source = sources(params.get("pods"), params.get("addresses"), client)
        yield stack.enter_context(Cluster(source, access, context.clock, time.time)), client


def secret_of(params: Params, client: Client | None, option: str) -> dict[str, str]:
    """The values of a Secret by key; {} when none is named."""
    named = params.get(option)
    if not named or client is None:
        return {}
    return credentials.secret_data(params, client, named, option)[1]


class Expected(t.NamedTuple):
    """What an action that was taken shows before long."""

    state: str
    what: str
    until: float
    shows: Callable[[Observation], bool]


class Failing(t.NamedTuple):
    """What is refused, why, and since when."""

    action: tuple[str, str]
    refusal: str
    since: float


class Convergence:
    """One run: from what is there to what is wanted, or to the reason why not."""

    def __init__(self, cluster: Cluster, desired: Desired, timeout: float, context: Context) -> None:
        self.cluster = cluster
        self.desired = desired
        self.timeout = timeout
        self.context = context
        self.clock = context.clock
        self.deadline = self.clock.now() + timeout
        self.steps: list[Decision] = []
        self.since: dict[str, float] = {}
        self.failing: Failing | None = None
        self.expected: Expected | None = None
        self.unheard_until: float | None = None
        self.told = ""

    def run(self) -> Result:
        before = self._observe()
        if self.context.check:
            decisions, after = foresee(before, self.desired)
            last = decisions[-1]
            if isinstance(last, Refuse):
                raise self._error(last.reason, before)
            return self._result(before, after, [decision for decision in decisions if not isinstance(decision, Done)])
        return self._result(before, self._loop(before), self.steps)

    def _observe(self) -> Observation:
        return self.cluster.observe(self.desired.users, self.desired.databases, ask_sql=True)

    def _loop(self, observation: Observation) -> Observation:
        poll = POLL_FIRST
        while True:
            decision = self._decide(observation)
            if isinstance(decision, Done):
                self._tell("healthy", done=True)
                return observation
            if isinstance(decision, Refuse):
                raise self._error(decision.reason, observation)
            self._tell(decision.reason)
            self._check_time(decision, observation)
            if isinstance(decision, Act) and self._act(decision, observation):
                poll = POLL_FIRST
            else:
                self.clock.sleep(poll)
                poll = min(poll * POLL_GROWTH, POLL_LAST)
            observation = self._observe()

    def _decide(self, observation: Observation) -> Decision:
        """The first finding decides; every Wait that any stage has is timed, so that its patience runs from when it was first seen."""
        now = self.clock.now()
        picture = Picture(observation, self.desired, {key: now - since for key, since in self.since.items()})
        found = findings(picture)
        self.since = {decision.key: self.since.get(decision.key, now) for decision in found if isinstance(decision, Wait)}
        if not found and (outstanding := self._outstanding(observation)):
            return outstanding
        return found[0] if found else Done()

    def _outstanding(self, observation: Observation) -> Wait | None:
        """What was just begun and does not show yet: without it the next look would take the cluster for finished."""
        if self.expected is None or self.clock.now() > self.expected.until or self.expected.shows(observation):
            self.expected = None
            return self._unheard(observation)
        return Wait(self.expected.state, "outstanding", self.expected.what, self.expected.until, "")

    def _unheard(self, observation: Observation) -> Wait | None:
        """A primary that runs with other parameters than the configuration has, and has not said yet that it waits for a restart."""
        names = differing_parameters(observation) if self.desired.restart else ()
        if not names:
            return None
        if self.unheard_until is None:  # within the time there is: who sets them elsewhere for good gets a warning, not an error
            self.unheard_until = min(self.clock.now() + self._round() + HEARD_WITHIN, self.deadline)
        what = f"the primary does not run with the configuration's {', '.join(names)} yet"
        return Wait("P14", "unheard", what, HEARD_WITHIN, "") if self.clock.now() < self.unheard_until else None

    def _round(self) -> float:
        """Seconds between two looks of Patroni at its configuration."""
        return float(self.desired.config.get("loop_wait") or 10)

    def _check_time(self, decision: Decision, observation: Observation) -> None:
        if isinstance(decision, Wait) and decision.own_time:
            self.deadline = max(self.deadline, self.clock.now() + min(self.timeout, self.desired.election_timeout))
        acts = sum(isinstance(step, Act) for step in self.steps)
        if self.clock.now() > self.deadline or acts >= ACTS_AT_MOST:
            limit = f"{self.timeout:g} s" if acts < ACTS_AT_MOST else f"{ACTS_AT_MOST} actions"
            more = f" Not done yet: {self.failing.refusal}" if self.failing else ""
            raise self._error(f"The cluster is not as wanted after {limit}. Last seen: {decision.reason}.{more}", observation)

    def _act(self, act: Act, observation: Observation) -> bool:
        """Do it; False when it was refused and is to be tried again a moment later."""
        self.deadline = self.clock.now() + self.timeout  # a roll may take as long as it takes, each of its steps may not
        primary = observation.primary
        refusal = ""
        if act.kind == "sql" and primary:
            try:
                self.cluster.execute(primary, act.statements)
            except SqlError as error:
                raise self._error(
                    f"The primary refuses a statement ({act.reason}): {error} (SQLSTATE {error.code}).", observation
                ) from error
            except (Lost, OSError) as error:
                refusal = str(error)
        elif act.kind == "config" and primary:
            changed = set((act.body.get("postgresql") or {}).get("parameters") or ()) & set(
                observation.facts.restart if observation.facts else ()
            )
            refusal = self.cluster.tell(primary, act.kind, act.body)
            until = self.clock.now() + self._round() + BEGUN_WITHIN
            what = f"not every member has looked at {', '.join(sorted(changed))} yet"
            heard = Expected("P14", what, until, lambda seen: all(member.pending for member in seen.live))
            self.expected = heard if changed and self.desired.restart else None
        elif member := observation.named(act.member):
            refusal = self.cluster.replace(member) if act.kind == "replace" else self.cluster.tell(member, act.kind, act.body)
            if act.kind == "reinit" and not refusal:
                self.desired = dataclasses.replace(self.desired, reinit=self.desired.reinit - {act.member})
                name = act.member
                until = self.clock.now() + BEGUN_WITHIN
                self.expected = Expected("P13", f"{name} has not begun to copy yet", until, lambda seen: not _streams(seen, name))
        if not refusal:
            self.failing = None
            self.steps.append(act)
            return True
        # A switchover that takes longer than Patroni waits for it is refused and yet done: only the same action counts, tried again and again.
        now = self.clock.now()
        same = self.failing if self.failing and self.failing.action == (act.kind, act.member) else None
        self.failing = Failing((act.kind, act.member), refusal, same.since if same else now)
        if now - self.failing.since > FAILING_AT_MOST:
            raise self._error(f"{act.reason}, but it is refused: {refusal}", observation)
        return False

    def _tell(self, reason: str, done: bool = False) -> None:
        if reason != self.told:
            self.told = reason
            self.context.progress.report("postgresql_cluster", reason, done)

    def _error(self, text: str, observation: Observation) -> PlatformError:
        picture = Picture(observation, self.desired)
        details = {
            "plan": report.plan_rows(self.steps),
            "members": report.member_rows(picture),
            "findings": report.finding_rows(findings(picture)),
        }
        return PlatformError(text, changed=bool(self.steps), **details)

    def _result(self, before: Observation, after: Observation, steps: list[Decision]) -> Result:
        first = Picture(before, self.desired)
        picture = Picture(after, self.desired)
        primary = after.primary
        result: Result = {
            "changed": any(isinstance(step, Act) for step in steps),
            "found": report.finding_rows(findings(first)),
            "plan": report.plan_rows(steps),
            "primary": primary.target.name if primary else "",
            "members": report.member_rows(picture),
            "removable": [member.target.name for member in picture.surplus if not member.primary] if picture.complete else [],
            "pending_restart": {member.target.name: list(member.pending) for member in after.live if member.pending},
            "warnings": self._warnings(after),
        }
        if self.context.diff:
            result["diff"] = {"before": report.topology(first), "after": report.topology(picture)}
        return result

    def _warnings(self, after: Observation) -> list[str]:
        pending = sorted({parameter for member in after.live for parameter in member.pending})
        outdated = [member.target.name for member in after.members if member.target.update == "outdated"]
        facts = after.facts
        texts = [f"these parameters take effect with a restart, which restart: false forbids: {', '.join(pending)}"] if pending else []
        texts += (
            [f"{', '.join(outdated)} run an older template; roll: true replaces them one by one"]
            if outdated and not self.desired.roll
            else []
        )
        texts += (
            ["Patroni is paused: nobody takes over from a lost primary; `patronictl resume` ends that"]
            if any(m.paused for m in after.live)
            else []
        )
        others = differing_parameters(after)
        texts += (
            [f"the primary runs with other values of {', '.join(others)} than its configuration has; who else sets them?"] if others else []
        )
        texts += ["the archive of WAL fails; the primary keeps what it cannot archive"] if facts and facts.archive.failing else []
        return [] if self.context.check else texts


def differing_parameters(seen: Observation) -> tuple[str, ...]:
    """What the primary runs with and the dynamic configuration has otherwise, unless the primary knows that it waits for a restart."""
    if seen.primary is None or seen.primary.pending or seen.facts is None:
        return ()
    return differing(((seen.config or {}).get("postgresql") or {}).get("parameters") or {}, seen.facts.restart)


def _streams(seen: Observation, name: str) -> bool:
    member = seen.named(name)
    return member is not None and member.streaming
