# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The loop observe, plan, act, observe again, and the entry points of both modules (private: may change without notice)."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import typing as t
from collections.abc import Iterator, Mapping, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._kube.arguments import CONNECTION
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import connect
from ansible_collections.progressive.platform.plugins.module_utils._members import credentials, places
from ansible_collections.progressive.platform.plugins.module_utils._members.loop import Loop, noted
from ansible_collections.progressive.platform.plugins.module_utils._members.model import Marker, Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._members.places import Addresses, Pods, Source
from ansible_collections.progressive.platform.plugins.module_utils._members.store import Files, Objects, Store
from ansible_collections.progressive.platform.plugins.module_utils._redis import engines, report, slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.access import DEFAULT_USER, shown
from ansible_collections.progressive.platform.plugins.module_utils._redis.atomic import Atomic
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import (
    FORMATION_TIMEOUT,
    Act,
    Action,
    Decision,
    Desired,
    Done,
    Observation,
)
from ansible_collections.progressive.platform.plugins.module_utils._redis.mover import Journey, Mover
from ansible_collections.progressive.platform.plugins.module_utils._redis.nodes import Cluster
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture, announced, remembered
from ansible_collections.progressive.platform.plugins.module_utils._redis.plan import findings
from ansible_collections.progressive.platform.plugins.module_utils._redis.resp import ConnectionLost, ReplyError
from ansible_collections.progressive.platform.plugins.module_utils._redis.simulate import foresee
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.settings import FORMING_AT_MOST, restore
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

PASSES_AT_MOST = 200
"""Passes that send something; passes that only wait are bounded by the timeout."""
RESEND = 1.0
"""Seconds after which a command that was answered OK but shows no effect yet (gossip) is sent again."""
RESEND_FAILED = 0.1
RESEND_FAILOVER = 6.0
"""A manual failover has 5 s; to ask again would begin it anew."""
FAILING_AT_MOST = 10.0
"""Seconds for which a server may refuse the same command (``Unknown node`` while gossip is on its way) before that is the answer."""
SECRETS = re.compile(r"pass|^masterauth$|^masteruser$")
STEPWISE = frozenset({"handover", "replace"})
"""Kinds of Act after which the timeout begins anew: a roll may take as long as it takes, each of its steps may not."""
SETTING_AT_MOST = 3
"""Times that a running server may take the same setting without showing it."""
LOSSY = {
    "takeover": "promoted without an election",
    "reassign": "slots without any key left were given away",
    "discard": "data was dropped",
}
"""Kinds of Act after which something may be missing, and what the warning calls them."""
NODE_ID = re.compile(r"[0-9a-f]{40}")

NODES: dict[str, t.Any] = {
    **places.options(6379),
    "zones": {"type": "dict", "default": {}},
    "name": {"type": "str", "default": "redis-cluster"},
    **credentials.OPTIONS,
    **CONNECTION,
}
ARGUMENTS: dict[str, t.Any] = {
    **NODES,
    "masters": {"type": "int", "default": 3},
    "replicas_per_master": {"type": "int", "default": 1},
    "surplus": {"type": "str", "choices": ["release", "keep"], "default": "release"},
    "on_conflict": {"type": "str", "choices": ["refuse", "owner", "importer"], "default": "refuse"},
    "latency_limit": {"type": "int", "default": 50},
    "rebalance_topology": {"type": "bool", "default": False},
    "failback": {"type": "bool", "default": False},
    "allow_data_loss": {"type": "list", "elements": "str", "default": []},
    "allow_takeover": {"type": "bool", "default": False},
    "adopt_data": {"type": "list", "elements": "str", "default": []},
    "discard_data": {"type": "list", "elements": "str", "default": []},
    "forget_node_ids": {"type": "list", "elements": "str", "default": []},
    "recreate_replica": {"type": "list", "elements": "str", "default": []},
    "node_timeout": {"type": "int"},
    "config": {"type": "dict", "default": {}},
    "roll": {"type": "bool", "default": False},
    "release": {"type": "str"},
    "load_timeout": {"type": "float", "default": 300.0},
    "timeout": {"type": "float", "default": 120.0},
}
INFO_ARGUMENTS: dict[str, t.Any] = {
    **NODES,
    "masters": {"type": "int"},
    "replicas_per_master": {"type": "int"},
}
CONSTRAINTS: dict[str, t.Any] = {
    "required_one_of": [["pods", "addresses"]],
    "mutually_exclusive": [["pods", "addresses"], *credentials.CONSTRAINTS["mutually_exclusive"]],
    "required_by": credentials.CONSTRAINTS["required_by"],
}


def run(params: Params, context: Context) -> Result:
    """The module redis_cluster."""
    desired = wanted(params)
    with opened(params, context) as (cluster, store):
        desired = dataclasses.replace(desired, access=cluster.access)
        return Convergence(cluster, store, desired, params["timeout"], context).run()


def run_info(params: Params, context: Context) -> Result:
    """The module redis_cluster_info: reads, and says so when it cannot."""
    errors: list[str] = []
    observation = Observation(())
    marker = None
    with noted(errors), opened(params, context) as (cluster, store):
        with noted(errors):
            marker = store.read()
        observation = cluster.observe(marker)
    picture = Picture(observation, _assumed(params, observation))
    seen = findings(picture)
    errors += [f"{node.name}: {node.problem}" for node in observation.nodes if not node.live]
    return {
        "changed": False,
        "is_available": report.available(picture),
        "state": seen[0].state if seen else "S4" if picture.live else "unknown",
        "nodes": report.node_rows(observation),
        "shards": report.shard_rows(picture),
        "slots": report.slot_summary(picture),
        "open_slots": report.open_slots(picture),
        "views_agree": report.views_agree(picture),
        "errors": errors,
        "findings": report.finding_rows(seen),
        "placement": report.placement(picture),
    }


def wanted(params: Params) -> Desired:
    """The desired cluster, refused when no cluster can be like it."""
    masters, replicas = params["masters"], params["replicas_per_master"]
    if masters < 3:
        raise PlatformError(
            f"masters is {masters}; a Redis Cluster needs at least 3, because a majority of the masters elects a failed one's successor."
        )
    if replicas < 0:
        raise PlatformError(f"replicas_per_master is {replicas}; it must be 0 or more.")
    addresses = params.get("addresses")
    if addresses is not None and len(addresses) < masters * (1 + replicas):
        raise PlatformError(
            f"addresses names {len(addresses)} nodes, {masters} masters with {replicas} replicas each need {masters * (1 + replicas)}. "
            "Add addresses, or lower masters or replicas_per_master."
        )
    node_timeout = params.get("node_timeout")
    if node_timeout is not None and node_timeout <= FORMATION_TIMEOUT:
        raise PlatformError(f"node_timeout is {node_timeout}; it is in milliseconds and must be more than {FORMATION_TIMEOUT}.")
    if params["latency_limit"] < 1:
        raise PlatformError(f"latency_limit is {params['latency_limit']}; it is in milliseconds and must be 1 or more.")
    for option in ("timeout", "load_timeout"):
        if params[option] <= 0:
            raise PlatformError(f"{option} is {params[option]}; it must be more than 0 seconds.")
    for option in ("adopt_data", "discard_data", "forget_node_ids"):
        for node_id in params[option]:
            if not NODE_ID.fullmatch(node_id):
                raise PlatformError(f"{option}: {node_id!r} is not a node ID (40 hexadecimal digits, as CLUSTER MYID says it).")
    both = sorted(set(params["adopt_data"]) & set(params["discard_data"]))
    if both:
        raise PlatformError(f"adopt_data and discard_data both name {', '.join(both)}; its data is either kept or dropped.")
    return Desired(
        masters=masters,
        replicas=replicas,
        surplus=params["surplus"],
        on_conflict=params["on_conflict"],
        latency_limit_ms=params["latency_limit"],
        rebalance_topology=params["rebalance_topology"],
        failback=params["failback"],
        allow_data_loss=frozenset(params["allow_data_loss"]),
        lost_slots=slots.named(params["allow_data_loss"]),
        allow_takeover=params["allow_takeover"],
        adopt=frozenset(params["adopt_data"]),
        discard=frozenset(params["discard_data"]),
        forget=frozenset(params["forget_node_ids"]),
        recreate=frozenset(params["recreate_replica"]),
        node_timeout_ms=node_timeout or 0,
        config=live_settings(params["config"]),
        roll=params["roll"],
        release=_release(params["release"]),
        load_timeout=params["load_timeout"],
    )


def live_settings(wanted: Mapping[str, t.Any]) -> dict[str, str]:
    """``config`` as the words of CONFIG SET; what holds a secret, and what a formation changes itself, is refused."""
    found = {}
    for name, value in wanted.items():
        if SECRETS.search(name):
            raise PlatformError(
                f"config must not hold {name}: its value would be shown in plans and logs. Passwords are taken from password_secret."
            )
        if name == "cluster-node-timeout":
            raise PlatformError(
                "config must not hold cluster-node-timeout, which a formation changes for a moment: give it in node_timeout."
            )
        if isinstance(value, (dict, list)) and not (isinstance(value, list) and all(isinstance(one, (str, int)) for one in value)):
            raise PlatformError(f"config.{name} is neither a value nor a list of values.")
        found[name] = " ".join(map(_word, value if isinstance(value, list) else [value]))
    return found


def _word(value: t.Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _release(text: str | None) -> str:
    if text and engines.parse(text) is None:
        raise PlatformError(f"release is {text!r}; an engine and as much of its version as is known is wanted, such as valkey 8.0.")
    return text or ""


def _assumed(params: Params, observation: Observation) -> Desired:
    """What a reader compares with: the wanted cluster where it is told, otherwise the one that is there."""
    picture = Picture(observation, Desired())
    masters = params.get("masters") or max(len(picture.owners), 3)
    replicas = params.get("replicas_per_master")
    surplus = "keep" if replicas is None or not params.get("masters") else "release"
    return Desired(masters=masters, replicas=replicas or 0, surplus=surplus)


@contextlib.contextmanager
def opened(params: Params, context: Context) -> Iterator[tuple[Cluster, Store]]:
    """The cluster's connections and its store; the API server is only asked when pods or a Secret need it."""
    pods = params.get("pods")
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(connect(params, context.clock)) if pods or credentials.needs_api(params) else None
        source: Source
        store: Store
        if pods and client is not None:
            source = Pods(client, pods["namespace"], pods["selector"], pods["port"])
            store = Objects(client, pods["namespace"], params["name"], context.clock)
        else:
            source = Addresses(params["addresses"], params["zones"])
            store = Files("redis", params["addresses"], context.clock)
        yield stack.enter_context(Cluster(source, credentials.access_of(params, client), context.clock, params.get("config") or ())), store


class Convergence(Loop[Observation, Decision]):
    """One run: from what is there to what is wanted, or to the reason why not."""

    component = "redis_cluster"
    poll = (0.01, 1.1, 0.25)

    def __init__(self, cluster: Cluster, store: Store, desired: Desired, timeout: float, context: Context) -> None:
        super().__init__(store, timeout, context)
        self.cluster = cluster
        self.desired = desired
        self.due: dict[Action, float] = {}
        self.failing: dict[Action, tuple[float, str]] = {}
        self.set_times: dict[Action, int] = {}
        self.recreated: set[str] = set()
        self.passes = 0
        self.journey: Journey | None = None
        self.mover: Mover | None = None
        self.atomic = Atomic(cluster.ask, context.clock)
        self.observation = Observation(())
        self.warnings: list[str] = []

    def observe(self) -> Observation:
        self.observation = self.cluster.observe(self.marker, self.desired.count)
        return self.observation

    def found(self, seen: Observation, ages: dict[str, float]) -> list[Decision]:
        return findings(Picture(seen, self.desired, ages))

    def timed(self, found: Sequence[Decision]) -> set[str]:
        under_way = {"moving": self.journey is not None, "forming": bool(self.marker and self.marker.settings)}
        return super().timed(found) | {key for key, there in under_way.items() if there}

    def until_done(self) -> Observation:
        """On the way out by an error the formation settings are taken back as far as the nodes can be reached."""
        try:
            return super().until_done()
        except PlatformError:
            with contextlib.suppress(PlatformError):
                self._restore()
            raise

    def remembered(self, seen: Observation) -> tuple[Marker, Decision]:
        known = Picture(seen, self.desired).observation
        return remembered(known), _record(known)

    def foreseen(self, seen: Observation) -> Result:
        decisions, after = foresee(seen, self.desired, {})
        last = decisions[-1]
        if isinstance(last, Refuse):
            raise self.error(last.reason, seen, last)
        steps: list[Decision] = [decision for decision in decisions if not isinstance(decision, Done)]
        known = Picture(after, self.desired).observation
        if isinstance(last, Done) and known.marker != remembered(known):
            steps.append(_record(known))
        return self.result(seen, after, steps)

    def check_time(self, decision: Decision, observation: Observation) -> None:
        """R1. Loading and copying a data set have their own limit, and time in which no slice is tried is none in which a move fails."""
        if self.journey is not None and not (isinstance(decision, Act) and decision.transfers):
            self.journey.failing = (self.journey.failing[0], self.clock.now())
        if isinstance(decision, Wait) and decision.own_time:
            self.deadline = max(self.deadline, self.clock.now() + FORMING_AT_MOST)
        if self.clock.now() > self.deadline or self.passes >= PASSES_AT_MOST:
            limit = f"{self.timeout:g} s" if self.passes < PASSES_AT_MOST else f"{PASSES_AT_MOST} passes"
            refusals = [f"{action.node} {shown(action.command)}: {text}" for action, (_since, text) in self.failing.items()]
            refusals += [self.journey.failing[0]] if self.journey and self.journey.failing[0] else []
            refused = "; ".join(refusals)
            raise self.error(
                f"The cluster is not as wanted after {limit}. Last seen ({decision.state}): {decision.reason}"
                + (f". Not done yet: {refused}" if refused else ""),
                observation,
                decision,
            )

    def act(self, decision: Act, observation: Observation) -> bool:
        """Send what is due of the decision; False when all of it has been sent a moment ago and gossip is still carrying it."""
        now = self.clock.now()
        if decision.transfers:
            return self._move(decision, observation)
        actions = [action for action in decision.actions if self.due.get(action, 0.0) <= now]
        if not actions:
            return False
        if decision.kind == "meet" and not self._are_ours(actions, observation):
            return False
        if decision.kind in {"prepare", "slots"}:
            self._announce(observation, actions)
        if decision.kind == "recreate":
            self._check_once(decision, observation)
        self.store.renew()
        self.passes += 1
        if decision.kind in STEPWISE:
            self.deadline = now + self.timeout
        if not self.steps or self.steps[-1] != decision:
            self.steps.append(dataclasses.replace(decision, actions=tuple(actions)))
        now = self.clock.now()
        for action, reply in self.cluster.send(actions).items():
            failed = isinstance(reply, (ReplyError, ConnectionLost))
            self.due[action] = now + (RESEND_FAILED if failed else RESEND_FAILOVER if "FAILOVER" in action.command else RESEND)
            if decision.kind == "config":
                self._check_setting(action, reply, observation, decision)
            if not failed:
                self.failing.pop(action, None)
                if decision.kind == "recreate":
                    self.recreated.add(action.node)
                continue
            since = self.failing.get(action, (now, ""))[0]
            self.failing[action] = (since, str(reply))
            if isinstance(reply, ReplyError) and decision.kind != "replace" and now - since > FAILING_AT_MOST:
                raise self.error(f"{action.node} refuses {shown(action.command)} ({action.reason}): {reply}", observation, decision)
        return True

    def _move(self, decision: Act, observation: Observation) -> bool:
        """One slice of a move. It may take as long as it takes, as long as it gets on."""
        now = self.clock.now()
        if self.journey is None or self.journey.state != decision.state:
            self.journey = Journey.of(decision, now)
            self.steps.append(decision)
        resumed = any(node.me.open_slots for node in observation.live)
        mover = self.atomic if not resumed and self.atomic.able(decision.transfers) else self._mover(decision)
        done = mover.advance(decision.transfers, observation)
        self.warnings += [text for text in done.warnings if text not in self.warnings]
        self.journey.slots += done.slots
        self.journey.keys += done.keys
        if done.slots or done.keys or done.busy:
            self.deadline = self.clock.now() + self.timeout
        self.tell(self.journey.text(self.clock.now()))
        if not done.problem:
            self.journey.failing = ("", 0.0)
            return True
        began = now if done.slots or not self.journey.failing[0] else self.journey.failing[1]
        self.journey.failing = (done.problem, began)
        if done.conflict:
            raise self.error(done.problem, observation, dataclasses.replace(decision, state="S13"))
        if now - began > FAILING_AT_MOST:
            raise self.error(f"{done.problem}. What has been moved stays; run again, and it goes on from there.", observation, decision)
        return False

    def _brace(self, seconds: float) -> None:
        """A node that is busy for longer than the node timeout is taken for dead: the timeout is longer meanwhile, and the marker knows what it was.

        The next pass restores it, of this run or, were this one killed, of the next.
        """
        short = [node for node in self.observation.live if node.node_timeout_ms < 2000 * seconds]
        value = str(int(2000 * seconds))
        actions = [Action(node.name, ("CONFIG", "SET", "cluster-node-timeout", value), "a big key moves") for node in short]
        if actions:
            marker = announced(self.observation, actions)
            self.marker = dataclasses.replace(marker, state=self.marker.state if self.marker else "formed")
            self.store.write(self.marker)
            self.cluster.send(actions)

    def _mover(self, decision: Act) -> Mover:
        access = self.cluster.access
        login = self.cluster.login(decision.transfers[0].taker)
        words: tuple[str, ...] = ()
        if login is not None and login.user and access.passwords:
            password = access.passwords[login.rank]
            words = ("AUTH", password) if login.user == DEFAULT_USER else ("AUTH2", login.user, password)
        if self.mover is None or self.mover.login != words:
            self.mover = Mover(
                self.cluster.ask, self.clock, words, self.desired.on_conflict, self.desired.latency_limit_ms / 1000, self._brace
            )
        return self.mover

    def _check_setting(self, action: Action, reply: t.Any, observation: Observation, decision: Act) -> None:
        """A setting that is refused, or taken without effect, is the caller's to correct: there is nothing to wait for."""
        _config, _set, name, value = action.command
        self.set_times[action] = self.set_times.get(action, 0) + 1
        if isinstance(reply, ReplyError):
            remedy = " It takes a restart: put it into the configuration file and roll." if "immutable" in reply else ""
            raise self.error(f"{action.node} refuses config.{name} {value!r}: {reply}.{remedy}", observation, decision)
        if self.set_times[action] > SETTING_AT_MOST:
            text = f"{action.node} takes config.{name} {value!r} and then says something else ({action.reason}). Write the value as the server says it."
            raise self.error(text, observation, decision)

    def _check_once(self, decision: Act, observation: Observation) -> None:
        """A replica that is damaged again after it was made anew has another illness than its files."""
        again = [action for action in decision.actions if action.node in self.recreated]
        if again:
            raise self.error(f"{again[0].node} was made anew by this run and is damaged again: {again[0].reason}", observation, decision)

    def _are_ours(self, actions: list[Action], observation: Observation) -> bool:
        """R8: whoever is met answers, right now, with the ID that was observed; an address may have passed to somebody else's pod meanwhile."""
        ids = {(node.target.host, str(node.target.port)): (node.name, node.id) for node in observation.live}
        return not self.cluster.same_ids(dict(ids[action.command[2], action.command[3]] for action in actions))

    def _announce(self, observation: Observation, actions: list[Action]) -> None:
        marker = announced(observation, actions)
        if marker != self.marker:
            self.marker = marker
            self.store.write(marker)

    def _restore(self) -> None:
        decision = restore(Picture(dataclasses.replace(self.observation, marker=self.marker), self.desired))
        if isinstance(decision, Act) and self.marker and self.marker.settings:
            self.cluster.send(decision.actions)

    def error(self, text: str, observation: Observation, decision: Decision) -> PlatformError:
        picture = Picture(observation, self.desired)
        details = {
            "plan": report.plan_rows(self.steps),
            "nodes": report.node_rows(observation),
            "findings": report.finding_rows(findings(picture)),
        }
        return PlatformError(text, changed=bool(self.steps), state=decision.state, **details)

    def result(self, before: Observation, after: Observation, steps: Sequence[Decision]) -> Result:
        picture = Picture(after, self.desired)
        acted = [step for step in steps if isinstance(step, Act)]
        result: Result = {
            "changed": bool(acted),
            "state": (findings(Picture(before, self.desired)) or [Done()])[0].state if self.context.check else "S4",
            "found": report.finding_rows(findings(Picture(before, self.desired))),
            "plan": report.plan_rows(steps),
            "nodes": report.node_rows(after),
            "slots": report.slot_summary(picture),
            "placement": report.placement(picture),
            "removable": [node.name for node in picture.released],
            "warnings": self._warnings(before, after, steps),
        }
        if self.context.diff:
            result["diff"] = {"before": report.topology(before), "after": report.topology(after)}
        return result

    def _warnings(self, before: Observation, after: Observation, steps: Sequence[Decision]) -> list[str]:
        texts = [f"placement: {text}" for text in report.placement(Picture(after, self.desired))["violations"]]
        texts += self.warnings
        former = before.marker
        if former is not None and former.state == "formed" and any(isinstance(step, Act) and step.kind == "slots" for step in steps):
            texts.append(
                f"the cluster formed here before (fingerprint {former.fingerprint}) is gone with its storage; this is a new, empty one"
            )
        for step in steps:
            if isinstance(step, Act) and step.kind in LOSSY:
                texts.append(f"{LOSSY[step.kind]}: {'; '.join(f'{action.node} {action.reason}' for action in step.actions)}")
        stuck = [node.name for node in after.live if node.node_timeout_ms == FORMATION_TIMEOUT]
        if stuck and not self.context.check:
            texts.append(
                f"cluster-node-timeout is {FORMATION_TIMEOUT} on {', '.join(stuck)}, as if a formation had been killed that was begun elsewhere; "
                "say what it should be with node_timeout"
            )
        return texts


def _record(observation: Observation) -> Act:
    return Act("S4", "record", f"the marker remembers this cluster, fingerprint {remembered(observation).fingerprint}", ())
