# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The connections to the nodes, what is asked and what is sent (private: may change without notice)."""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError
from ansible_collections.progressive.platform.plugins.module_utils._members.credentials import Access
from ansible_collections.progressive.platform.plugins.module_utils._members.model import Marker, Target
from ansible_collections.progressive.platform.plugins.module_utils._members.places import CONNECT_WITHIN, Source
from ansible_collections.progressive.platform.plugins.module_utils._redis.access import Door, Login, Refused, auth, user_of
from ansible_collections.progressive.platform.plugins.module_utils._redis.closer import answered, questions
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import EVICT, RECREATE, Action, Node, Observation
from ansible_collections.progressive.platform.plugins.module_utils._redis.observe import READERS, explained, node_of
from ansible_collections.progressive.platform.plugins.module_utils._redis.resp import (
    Command,
    Connection,
    ConnectionLost,
    Reply,
    ReplyError,
    call_all,
)
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock

ANSWER_WITHIN = 5.0
"""Seconds for the replies of one round trip; a node that is slower counts as absent in that pass."""
AT_ONCE = 16


class Cluster:
    """All connections of one run. Every round trip goes to all nodes side by side; a connection that fails is opened again in the next pass."""

    def __init__(self, source: Source, access: Access, clock: Clock, settings: Iterable[str] = ()) -> None:
        self._source = source
        self._readers = (*READERS, *(("CONFIG", "GET", name) for name in settings))
        self.access = access
        self._door = Door(access, clock, CONNECT_WITHIN)
        self._clock = clock
        self._targets: list[Target] = []
        self._connections: dict[str, Connection] = {}
        self._logins: dict[str, Login] = {}
        self._stale = True

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_exception: object) -> None:
        for connection in self._connections.values():
            connection.close()

    def observe(self, marker: Marker | None, count: int = 0) -> Observation:
        """One look at every node. Where they are is asked again when a connection broke, or while there are fewer than ``count``."""
        if self._stale or len(self._targets) < count:
            self._locate()
        problems = self._connect()
        self._log_in_anew()
        replies = self._ask({target.name: self._readers for target in self._targets if target.name not in problems})
        nodes = [problems.get(target.name) or node_of(target, replies[target.name]) for target in self._targets]
        nodes = self._look_closer([explained(node, self._logins.get(node.name)) for node in nodes])
        self._stale = any(node.kind == "absent" or node.target.update == "unseen" or not node.target.ready for node in nodes)
        return Observation(tuple(nodes), marker)

    def send(self, actions: Iterable[Action]) -> dict[Action, Reply | ConnectionLost]:
        """Send the actions, lower orders first, each node's as one pipeline, and give every action its reply."""
        outcome: dict[Action, Reply | ConnectionLost] = {}
        by_order: dict[int, dict[str, list[Action]]] = {}
        for action in actions:
            if action.command[0] in (EVICT, RECREATE):
                outcome[action] = self._replace(action)
                continue
            by_order.setdefault(action.order, {}).setdefault(action.node, []).append(action)
        for _order, by_node in sorted(by_order.items()):
            answers = self._ask({node: [action.command for action in pipeline] for node, pipeline in by_node.items()})
            failed = False
            for node, pipeline in by_node.items():
                answer = answers[node]
                for index, action in enumerate(pipeline):
                    outcome[action] = answer if isinstance(answer, ConnectionLost) else answer[index]
                    failed = failed or isinstance(outcome[action], (ConnectionLost, ReplyError))
            if failed:
                break
        return outcome

    def _replace(self, action: Action) -> Reply:
        self._stale = True
        how = self._source.evict if action.command[0] == EVICT else self._source.recreate
        why_not = how(action.node, action.command[1])
        return ReplyError(why_not) if why_not else "OK"

    def same_ids(self, expected: Mapping[str, str]) -> list[str]:
        """R8: names of the targets that are not, at this moment, the node ID they were observed to be."""
        answers = self._ask({name: [("CLUSTER", "MYID")] for name in expected})
        return [
            name
            for name, node_id in expected.items()
            if isinstance(answers[name], ConnectionLost) or t.cast(list[Reply], answers[name])[0] != node_id
        ]

    def _locate(self) -> None:
        targets = self._source.targets()
        known = {target.name: target for target in self._targets}
        for target in targets:
            before = known.get(target.name)
            if before is not None and (before.uid, before.host) != (target.uid, target.host) and target.name in self._connections:
                self._connections.pop(target.name).close()
        self._targets = targets

    def _connect(self) -> dict[str, Node]:
        """Open what is not open; a Node with a problem for every target that cannot be reached."""
        missing = [target for target in self._targets if target.name not in self._connections or self._connections[target.name].closed]
        if len(missing) < 2:
            opened = [self._open(target) for target in missing]
        else:
            with ThreadPoolExecutor(max_workers=min(AT_ONCE, len(missing))) as pool:
                opened = list(pool.map(self._open, missing))
        problems = {}
        for target, result in zip(missing, opened, strict=True):
            if isinstance(result, Login):
                self._connections[target.name] = result.connection
                self._logins[target.name] = result
            else:
                problems[target.name] = result
        return problems

    def _log_in_anew(self) -> None:
        """Who was let in with a former password, or as the default user, asks again: a rotation may have reached that node meanwhile."""
        access = self.access
        late = [name for name, login in self._logins.items() if login.rank or (login.user and login.user != user_of(access))]
        answers = self._ask({name: [auth(user_of(access), access.passwords[0])] for name in late if not self._connections[name].closed})
        for name, answer in answers.items():
            if not isinstance(answer, ConnectionLost) and answer[0] == "OK":
                self._logins[name] = dataclasses.replace(self._logins[name], user=user_of(access), rank=0)

    def another(self, name: str) -> Connection:
        """A further connection to a node that has been observed, logged in like the first; raises ConnectionLost. The caller closes it."""
        opened = self._open(next(target for target in self._targets if target.name == name))
        if isinstance(opened, Node):
            raise ConnectionLost(opened.problem)
        return opened.connection

    def ask(self, commands: Mapping[str, Sequence[Command]], within: float = ANSWER_WITHIN) -> dict[str, list[Reply] | ConnectionLost]:
        """One round trip beside the observation: each node (by target name) its pipeline, answered within so many seconds."""
        return self._ask(commands, within)

    def login(self, name: str) -> Login | None:
        """How the connection to a node was got; None when there is none."""
        return self._logins.get(name) if name in self._connections and not self._connections[name].closed else None

    def _open(self, target: Target) -> Login | Node:
        if target.problem:
            return Node(target, problem=target.problem, kind="absent")
        try:
            return self._door.open(lambda: self._source.dial(target), target.server_name or target.host)
        except Refused as error:
            return Node(target, problem=error.text, hint=error.hint, kind=error.kind)
        except ConnectionLost as error:
            return Node(target, problem=str(error), kind="absent")
        except (OSError, ApiError) as error:
            return Node(target, problem=f"cannot connect: {error}", kind="absent")

    def _look_closer(self, nodes: list[Node]) -> list[Node]:
        """Second questions, to the few nodes that need them."""
        asked = questions(nodes, self.access)
        return answered(nodes, self._ask(asked), self.access) if asked else nodes

    def _ask(self, commands: Mapping[str, Sequence[Command]], within: float = ANSWER_WITHIN) -> dict[str, list[Reply] | ConnectionLost]:
        return call_all(self._connections, commands, self._clock.now() + within)
