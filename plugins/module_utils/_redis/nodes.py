# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the nodes are, and the connections to them: plain addresses, or pods through the API server (private: may change without notice)."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import socket
import typing as t
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client, quote
from ansible_collections.progressive.platform.plugins.module_utils._kube.forward import forward
from ansible_collections.progressive.platform.plugins.module_utils._kube.logs import last_log
from ansible_collections.progressive.platform.plugins.module_utils._redis.access import Access, Door, Login, Refused
from ansible_collections.progressive.platform.plugins.module_utils._redis.closer import answered, questions
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import (
    EVICT,
    RECREATE,
    Action,
    Marker,
    Node,
    Observation,
    Target,
)
from ansible_collections.progressive.platform.plugins.module_utils._redis.observe import READERS, explained, node_of
from ansible_collections.progressive.platform.plugins.module_utils._redis.resp import (
    Command,
    Connection,
    ConnectionLost,
    Reply,
    ReplyError,
    call_all,
)
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, PlatformError

CONNECT_WITHIN = 3.0
"""Seconds for one connection attempt, AUTH included."""
ANSWER_WITHIN = 5.0
"""Seconds for the replies of one round trip; a node that is slower counts as absent in that pass."""
EVICT_WITHIN = 5.0
AT_ONCE = 16
CRASHES = 3
LOG_LINES = 3
LOG_WITHIN = 3.0
ZONE_LABEL = "topology.kubernetes.io/zone"


class Source(t.Protocol):
    """Names the nodes and opens sockets to them."""

    def targets(self) -> list[Target]: ...

    def dial(self, target: Target) -> socket.socket: ...

    def evict(self, name: str, uid: str) -> str:
        """Have the pod replaced, if it is still this one; returns why not now, empty when it is on its way."""

    def recreate(self, name: str, uid: str) -> str:
        """Delete the pod and its volume claims, if it is still this one; returns why not, empty when they are going."""


class Addresses:
    """Nodes given as ``host:port``. The host is also the failure domain ``node``; ``zones`` maps an address or a host to its zone."""

    def __init__(self, addresses: Sequence[str], zones: Mapping[str, str] | None = None) -> None:
        self._addresses = [split_address(address) for address in addresses]
        self._zones = zones or {}
        if len(set(self._addresses)) < len(self._addresses):
            raise PlatformError(f"addresses names a node twice: {', '.join(addresses)}. Give every node once.")

    def targets(self) -> list[Target]:
        targets = []
        for ordinal, (host, port) in enumerate(self._addresses):
            name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            target = Target(name, host, port, ordinal, node=host, zone=self._zones.get(name, self._zones.get(host, "")), server_name=host)
            try:
                address = str(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0])
                targets.append(dataclasses.replace(target, host=address))
            except OSError as error:
                targets.append(dataclasses.replace(target, problem=f"its name does not resolve here: {error}"))
        return targets

    def dial(self, target: Target) -> socket.socket:
        sock = socket.create_connection((target.host, target.port), timeout=CONNECT_WITHIN)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def evict(self, name: str, uid: str) -> str:
        return f"{name} is an address and no pod: whoever runs that server replaces it"

    def recreate(self, name: str, uid: str) -> str:
        return self.evict(name, uid)


class Pods:
    """Nodes that are the pods of a label selector, reached by port-forward with the kubeconfig's own rights."""

    def __init__(self, client: Client, namespace: str, selector: str, port: int) -> None:
        self._client = client
        self._namespace = namespace
        self._selector = selector
        self._port = port
        self._zones: dict[str, str] = {}
        self._last_words: dict[tuple[str, int], str] = {}

    def targets(self) -> list[Target]:
        """Pods in the order of their ordinals; one that is not running yet is listed with the reason, one that is ending is left out."""
        with ThreadPoolExecutor(max_workers=3) as pool:
            claims = pool.submit(self._claims)
            revisions = pool.submit(self._revisions)
            path = quote("api", "v1", "namespaces", self._namespace, "pods")
            pods = [
                pod for pod in self._client.get(path, labelSelector=self._selector)["items"] if not pod["metadata"].get("deletionTimestamp")
            ]
            nodes = {pod["spec"].get("nodeName", "") for pod in pods}
            if not nodes <= set(self._zones):
                self._zones = self._read_zones()
            volumes, newest = claims.result(), revisions.result()
        pods.sort(key=lambda pod: natural(pod["metadata"]["name"]))
        return [self._target(ordinal, pod, volumes, newest) for ordinal, pod in enumerate(pods)]

    def dial(self, target: Target) -> socket.socket:
        return forward(self._client, self._namespace, target.name, self._port)

    def evict(self, name: str, uid: str) -> str:
        """By the eviction API, which asks the disruption budget; the UID keeps it from a pod that has already taken the place."""
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": self._namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        path = quote("api", "v1", "namespaces", self._namespace, "pods", name, "eviction")
        try:
            self._client.request("POST", path, body, timeout=EVICT_WITHIN)
        except ApiError as error:
            if error.status == 429:
                return f"the disruption budget does not allow it now: {error.server_message}"
            if error.status not in (404, 409):
                raise
        return ""

    def recreate(self, name: str, uid: str) -> str:
        """The claims first: they stay until their pod is gone, and a pod that comes before they are gone waits for new ones."""
        path = quote("api", "v1", "namespaces", self._namespace, "pods", name)
        pod = self._client.find(path)
        if pod is None or pod["metadata"]["uid"] != uid:
            return ""
        try:
            for claim in _claim_names(pod):
                self._client.request("DELETE", quote("api", "v1", "namespaces", self._namespace, "persistentvolumeclaims", claim))
            self._client.request("DELETE", path, {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": uid}})
        except ApiError as error:
            if error.status not in (404, 409):
                return f"it may not be deleted: {error.server_message}"
        return ""

    def _crashed(self, pod: dict[str, t.Any]) -> str:
        """Why a server that ends again and again did so last: the container's own last words, or the end of its log; empty when none does.

        Between two ends it is waiting, has just ended, or runs for a moment: it has to have run that often before the last counts.
        """
        for container in pod.get("status", {}).get("containerStatuses", []):
            state, times = container.get("state", {}), container.get("restartCount", 0)
            ended = state.get("terminated") or container.get("lastState", {}).get("terminated") or {}
            backing_off = state.get("waiting", {}).get("reason") == "CrashLoopBackOff"
            often = times >= (CRASHES if "running" in state else 1)
            if container.get("ready") or not (backing_off or (often and ended.get("exitCode") and "waiting" not in state)):
                continue
            key = (pod["metadata"]["uid"], times)
            if key not in self._last_words:
                path = quote("api", "v1", "namespaces", self._namespace, "pods", pod["metadata"]["name"], "log")
                text = (ended.get("message") or "").strip() or last_log(self._client, path, container["name"], LOG_LINES, LOG_WITHIN)
                self._last_words[key] = " | ".join(line.strip() for line in text.splitlines()[-LOG_LINES:])
            why = f"{container['name']} ended {times} times, exit code {ended.get('exitCode', 'unknown')}"
            return f"{why}, its last words: {self._last_words[key]}" if self._last_words[key] else why
        return ""

    def _target(self, ordinal: int, pod: dict[str, t.Any], claims: Mapping[str, str], revisions: Mapping[str, str]) -> Target:
        spec, status = pod["spec"], pod.get("status", {})
        crashed = self._crashed(pod)
        return Target(
            name=pod["metadata"]["name"],
            host=status.get("podIP", ""),
            port=self._port,
            ordinal=_ordinal(pod, ordinal),
            uid=pod["metadata"]["uid"],
            node=spec.get("nodeName", ""),
            zone=self._zones.get(spec.get("nodeName", ""), ""),
            volumes=tuple(claims[name] for name in _claim_names(pod) if name in claims),
            problem=_pod_problem(status, crashed),
            crashed=crashed,
            update=_pod_update(pod, revisions),
            ready=any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", [])),
        )

    def _revisions(self) -> dict[str, str]:
        """StatefulSet to the revision its pods ought to have, empty while its controller has not seen the newest template; {} without the right to know."""
        try:
            items = self._client.get(quote("apis", "apps", "v1", "namespaces", self._namespace, "statefulsets"))["items"]
        except ApiError as error:
            if error.status in {401, 403}:
                return {}
            raise
        found = {}
        for item in items:
            status = item.get("status", {})
            seen = status.get("observedGeneration", 0) >= item["metadata"].get("generation", 0)
            found[item["metadata"]["name"]] = status.get("updateRevision", "") if seen else ""
        return found

    def _claims(self) -> dict[str, str]:
        """Claim name to its UID; without the right to read them volumes are unknown, and a lost cluster is then judged by pods alone (R3)."""
        try:
            items = self._client.get(quote("api", "v1", "namespaces", self._namespace, "persistentvolumeclaims"))["items"]
        except ApiError as error:
            if error.status in {401, 403}:
                return {}
            raise
        return {claim["metadata"]["name"]: claim["metadata"]["uid"] for claim in items}

    def _read_zones(self) -> dict[str, str]:
        try:
            items = self._client.get("/api/v1/nodes")["items"]
        except ApiError as error:
            if error.status in {401, 403}:
                return {}
            raise
        return {node["metadata"]["name"]: node["metadata"].get("labels", {}).get(ZONE_LABEL, "") for node in items}


def split_address(text: str) -> tuple[str, int]:
    """(host, port) of ``host:port`` or ``[ipv6]:port``."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536 or (":" in host and not host.startswith("[")):
        raise PlatformError(f"addresses: {text!r} is not host:port (port 1-65535, an IPv6 address in brackets).")
    host = host.strip("[]")
    try:
        return str(ipaddress.ip_address(host)), int(port)
    except ValueError:
        return host, int(port)


def natural(name: str) -> tuple[t.Any, ...]:
    """Sort key by which ``redis-10`` follows ``redis-9``."""
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name))


def _claim_names(pod: dict[str, t.Any]) -> list[str]:
    volumes = pod["spec"].get("volumes", [])
    return [volume["persistentVolumeClaim"]["claimName"] for volume in volumes if "persistentVolumeClaim" in volume]


def _pod_problem(status: Mapping[str, t.Any], crashed: str) -> str:
    """Why a pod cannot be connected to, in the words of its own status; empty when it can."""
    if crashed and not any("running" in container.get("state", {}) for container in status.get("containerStatuses", [])):
        return crashed
    reasons = []
    for container in status.get("containerStatuses", []):
        waiting = container.get("state", {}).get("waiting")
        if waiting:
            reasons.append(f"{container['name']}: {waiting.get('reason', 'waiting')} {waiting.get('message', '')}".strip())
    reasons += [
        str(condition.get("message", "")) for condition in status.get("conditions", []) if condition.get("reason") == "Unschedulable"
    ]
    if status.get("phase") == "Running" and status.get("podIP"):
        return ""
    return f"pod is {status.get('phase', 'unknown')}" + (f" ({'; '.join(reasons)})" if reasons else "")


def _ordinal(pod: dict[str, t.Any], place: int) -> int:
    """A StatefulSet's pods are counted by their names, also while one of them is away; others by their place in the order of names."""
    owned = any(owner.get("kind") == "StatefulSet" for owner in pod["metadata"].get("ownerReferences", []))
    number = pod["metadata"]["name"].rpartition("-")[2]
    return int(number) if owned and number.isdigit() else place


def _pod_update(pod: dict[str, t.Any], revisions: Mapping[str, str]) -> str:
    """Target.update of a pod, by its label and its StatefulSet's newest revision."""
    metadata = pod["metadata"]
    sets = [owner["name"] for owner in metadata.get("ownerReferences", []) if owner.get("kind") == "StatefulSet"]
    if not sets or sets[0] not in revisions:
        return ""
    newest = revisions[sets[0]]
    return "unseen" if not newest else "" if metadata.get("labels", {}).get("controller-revision-hash") == newest else "outdated"


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
        late = [name for name, login in self._logins.items() if login.rank or (login.user and login.user != access.user)]
        answers = self._ask({name: [access.command] for name in late if not self._connections[name].closed})
        for name, answer in answers.items():
            if not isinstance(answer, ConnectionLost) and answer[0] == "OK":
                self._logins[name] = dataclasses.replace(self._logins[name], user=access.user, rank=0)

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
