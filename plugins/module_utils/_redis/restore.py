# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module redis_cluster_restore: a backup into a cluster, compared with one, or into a scratch server as a drill (private: may change without notice)."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import shutil
import socket
import subprocess
import tempfile
import typing as t
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._backup import runs
from ansible_collections.progressive.platform.plugins.module_utils._backup.catalog import Backup, parse_time, stamp
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import connect
from ansible_collections.progressive.platform.plugins.module_utils._members import credentials
from ansible_collections.progressive.platform.plugins.module_utils._members.places import Pods
from ansible_collections.progressive.platform.plugins.module_utils._members.store import Store
from ansible_collections.progressive.platform.plugins.module_utils._redis import rdb, refill, slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.backup import COMPONENT, NEXT, mapped, refuse_open
from ansible_collections.progressive.platform.plugins.module_utils._redis.converge import CONSTRAINTS as NODE_CONSTRAINTS
from ansible_collections.progressive.platform.plugins.module_utils._redis.converge import NODES, opened
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Node, Observation
from ansible_collections.progressive.platform.plugins.module_utils._redis.nodes import Cluster
from ansible_collections.progressive.platform.plugins.module_utils._redis.refill import Pace, Part, Receiver, Tally
from ansible_collections.progressive.platform.plugins.module_utils._redis.resp import Connection, ConnectionLost
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, Context, Params, PlatformError, Result

FILL_AT_MOST = 0.9
"""Share of maxmemory that the data of a backup may need; beyond, keys would be evicted or refused."""
START_WITHIN = 20.0
LOCK_WITHIN = 30.0

ARGUMENTS: dict[str, t.Any] = {
    **NODES,
    **runs.RESTORE,
    "verify": {"type": "bool", "default": True},
    "keys_per_second": {"type": "float", "default": 0.0, "no_log": False},
    "scratch": {
        "type": "dict",
        "options": {
            "namespace": {"type": "str"},
            "selector": {"type": "str"},
            "port": {"type": "int", "default": 6379},
            "socket": {"type": "path"},
        },
        "required_one_of": [["socket", "selector"]],
        "mutually_exclusive": [["socket", "selector"]],
        "required_together": [["namespace", "selector"]],
    },
}
CONSTRAINTS: dict[str, t.Any] = NODE_CONSTRAINTS


def run(params: Params, context: Context) -> Result:
    """The module redis_cluster_restore."""
    if params["keys_per_second"] < 0 or params["timeout"] <= 0:
        raise PlatformError("keys_per_second must not be negative, and timeout must be more than 0.")
    if params.get("scratch") and params["mode"] != "drill":
        raise PlatformError(f"scratch is only for mode drill, mode is {params['mode']}.")
    began = context.clock.now()
    with runs.fetched(params, context, COMPONENT) as (backup, paths):
        parts = parts_of(backup, paths)
        for part in parts:
            _refuse_cut_off(part)
        task = _Task(params, context, backup, parts, began)
        with opened(params, context) as (cluster, store):
            return {"restore": task.restore, "compare": task.compare, "drill": task.drill}[params["mode"]](cluster, store)


def parts_of(backup: Backup, paths: Mapping[str, Path]) -> list[Part]:
    """The files with their slots; raises PlatformError when the manifest is not one of a whole cluster."""
    try:
        shards = backup.facts["shards"]
        parts = [Part(shard["file"], paths[shard["file"]], parse_slots(shard["slots"]), int(shard["keys"])) for shard in shards]
        parse_time(backup.facts["recovery_point"])
    except (KeyError, TypeError, ValueError) as error:
        raise PlatformError(
            f"The manifest of backup {backup.id} is damaged ({type(error).__name__}: {error}). Take another backup."
        ) from error
    covered = 0
    for part in parts:
        if covered & part.slots:
            raise PlatformError(f"Backup {backup.id} has slots {slots.text(covered & part.slots)} twice. Take another backup.")
        covered |= part.slots
    if covered != slots.ALL:
        raise PlatformError(f"Backup {backup.id} lacks slots {slots.text(slots.ALL & ~covered)}. Take another backup.")
    return parts


def parse_slots(text: str) -> int:
    """What slots.text wrote."""
    ranges = []
    for item in text.split(",") if text != "none" else ():
        first, _dash, last = item.partition("-")
        ranges.append((int(first), int(last or first)))
    return slots.mask(ranges)


def token_of(ids: Sequence[str]) -> str:
    """Names these very masters: what a task must repeat to overwrite what they hold."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()[:16]


def _refuse_cut_off(part: Part) -> None:
    """The checksum said that the file is what was written; this says that what was written was whole."""
    with mapped(part.path) as data:
        try:
            rdb.version_of(bytes(data[:9]))
        except rdb.Damaged as error:
            raise PlatformError(f"{part.name} is no RDB file: {error}. Take another backup (backup: ID).") from error
        if len(data) < 9 + rdb.TAIL or data[len(data) - rdb.TAIL] != rdb.END:
            raise PlatformError(f"{part.name} is cut off: it has no end mark. Take another backup (backup: ID).")


class _Task:
    """One run over checked files."""

    def __init__(self, params: Params, context: Context, backup: Backup, parts: list[Part], began: float) -> None:
        self.params = params
        self.context = context
        self.clock: Clock = context.clock
        self.backup = backup
        self.parts = parts
        self.began = began
        self.deadline = began + params["timeout"]
        self.keys = sum(part.keys for part in parts)

    # ---- restore ---------------------------------------------------------------------------------------------------------

    def restore(self, cluster: Cluster, store: Store) -> Result:
        observation = cluster.observe(None)
        owners = _owners(observation)
        note = store.note("restore")
        ours = note.get("backup") == self.backup.folder and set(note.get("nodes", [])) & {node.id for node in observation.live}
        token = token_of([node.id for node in owners])
        filled = [node for node in owners if not node.empty]
        replace = bool(self.params.get("overwrite"))
        if replace and self.params["overwrite"] != token:
            raise PlatformError(f"overwrite does not name this cluster: its masters' token is {token}. Look at it before you give it.")
        if ours and note.get("state") == "done" and filled and not replace:
            return {
                **self._facts(),
                "changed": False,
                "msg": f"backup {self.backup.id} was restored into this cluster at {note['finished']}",
            }
        resumed = bool(ours and note.get("state") == "running")
        if filled and not replace and not resumed:
            raise PlatformError(self._not_empty(filled, note, token))
        self._refuse_small(owners)
        if self.context.check:
            return {**self._facts(), "changed": True, "plan": self._plan(owners, resumed, replace)}
        with store.lock(min(LOCK_WITHIN, self.params["timeout"])):
            return self._fill(cluster, store, observation, owners, resumed, replace or bool(resumed and note.get("replace")))

    def _fill(self, cluster: Cluster, store: Store, observation: Observation, owners: list[Node], resumed: bool, replace: bool) -> Result:
        receivers = [_receiver(cluster, node) for node in owners]
        self._refuse_newer(receivers)
        plan = self._plan(owners, resumed, replace)
        note = {
            "backup": self.backup.folder,
            "state": "running",
            "started": stamp(datetime.datetime.now(datetime.UTC)),
            "nodes": sorted(node.id for node in observation.live),
            "replace": replace,
        }
        store.keep("restore", note)
        result: Result = {**self._facts(), "changed": True, "plan": plan}
        try:
            result["functions"] = refill.load_functions(refill.functions_of(self.parts), receivers, self.clock, replace)
            began = self.clock.now()
            tally = refill.restore(self.parts, receivers, self._pace(), replace)
            result["restored"] = _counts(tally, self.clock.now() - began)
            # Keys that were there already are an interrupted run's, or somebody else's: only a look at them tells.
            if self.params["verify"] or tally.present:
                result["compared"] = self._compared(receivers)
        except PlatformError as error:
            raise PlatformError(error.message, **{**result, **error.details}) from error
        store.keep("restore", {**note, "state": "done", "finished": stamp(datetime.datetime.now(datetime.UTC)), "keys": self.keys})
        self.context.progress.report(COMPONENT, f"backup {self.backup.id} is restored", done=True)
        return result

    def _not_empty(self, filled: Sequence[Node], note: Mapping[str, t.Any], token: str) -> str:
        held = ", ".join(f"{node.name}: {node.keys} keys, {node.functions} functions" for node in filled)
        return (
            f"The cluster is not empty ({held}), so backup {self.backup.id} is not restored into it.{runs.unfinished(note)} "
            f"To give the backup's keys precedence over keys of the same name (others stay), say: overwrite: {token}"
        )

    def _refuse_small(self, owners: Sequence[Node]) -> None:
        """Every master gets about its share of slots of the data; the backup knows how much memory it took."""
        needed = sum(int(shard.get("memory", 0)) for shard in self.backup.facts["shards"])
        for node in owners:
            share = needed * slots.size(node.slots) // slots.COUNT
            if node.maxmemory and share > node.maxmemory * FILL_AT_MOST:
                raise PlatformError(
                    f"The backup's data took {needed / 1e6:.0f} MB of memory; the share of {node.name} is about {share / 1e6:.0f} MB, "
                    f"and its maxmemory is {node.maxmemory / 1e6:.0f} MB. Give it more (redis_cluster_resources), or take more masters."
                )

    def _refuse_newer(self, receivers: Sequence[Receiver]) -> None:
        version = max((int(shard.get("rdb_version", 0)) for shard in self.backup.facts["shards"]), default=0)
        for receiver in receivers:
            reason = refill.accepts(receiver, version, self.clock)
            if reason:
                versions = ", ".join(self.backup.facts.get("versions", []))
                raise PlatformError(
                    f"{receiver.name} does not take values of RDB version {version} (the backup was taken from {versions}): {reason}. "
                    "Restore into servers of that version or a newer one."
                )

    # ---- compare and drill -----------------------------------------------------------------------------------------------

    def compare(self, cluster: Cluster, _store: Store) -> Result:
        receivers = [_receiver(cluster, node) for node in _owners(cluster.observe(None))]
        return {**self._facts(), "changed": False, "compared": self._compared(receivers)}

    def drill(self, _cluster: Cluster, store: Store) -> Result:
        """Restore into a server that is thrown away, compare every key, and write down how long it took and how old the backup was."""
        if self.context.check:
            return {**self._facts(), "changed": True}
        drill = runs.Drill(self.backup, store, self.clock, self.began, {"keys": self.keys})
        result: Result = {**self._facts(), "changed": True}
        with drill.noted(result), self._scratch() as receiver:
            self._refuse_newer([receiver])
            result["functions"] = refill.load_functions(refill.functions_of(self.parts), [receiver], self.clock, False)
            began = self.clock.now()
            tally = refill.restore(self.parts, [receiver], self._pace(), False)
            drill.restored()
            result["restored"] = _counts(tally, self.clock.now() - began)
            result["compared"] = self._compared([receiver])
            self._refuse_extra(receiver, tally)
        self.context.progress.report(COMPONENT, f"drill with backup {self.backup.id}: every key is there", done=True)
        return {**result, "drill": drill.note}

    def _refuse_extra(self, receiver: Receiver, tally: Tally) -> None:
        connection = receiver.connect()
        with contextlib.closing(connection):
            held = connection.call([("DBSIZE",)], self.clock.now() + refill.ANSWER_WITHIN)[0]
        if not isinstance(held, int) or held > tally.restored:
            raise PlatformError(f"The scratch server holds {held} keys, {tally.restored} were restored.")

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Receiver]:
        given = self.params.get("scratch")
        if not given:
            with scratch_server(self.clock) as receiver:
                yield receiver
            return
        if given.get("socket"):
            with beside(given["socket"], self.clock) as receiver:
                yield receiver
            return
        with connect(self.params, self.clock) as client:
            pods = Pods(client, given["namespace"], given["selector"], given["port"])
            with Cluster(pods, credentials.access_of(self.params, client), self.clock) as cluster:
                observed = cluster.observe(None)
                reached = [node for node in observed.nodes if node.live or node.kind == "foreign"]
                if len(observed.nodes) != 1 or not reached:
                    seen = "; ".join(f"{node.name}: {node.problem or 'ok'}" for node in observed.nodes) or "no pod"
                    raise PlatformError(f"scratch must select one running redis-server that is no member of a cluster, it selects {seen}.")
                node = reached[0]
                receiver = Receiver(node.name, slots.ALL, lambda: cluster.another(node.name))
                if node.keys or node.functions:
                    raise PlatformError(f"The scratch server {node.name} is not empty ({node.keys} keys); it is not touched.")
                yield receiver

    # ---- common ----------------------------------------------------------------------------------------------------------

    def _compared(self, receivers: Sequence[Receiver]) -> dict[str, t.Any]:
        began = self.clock.now()
        tally = refill.compare(self.parts, receivers, self._pace(unlimited=True))
        lacking = self._functions_lacking(receivers)
        counts = _counts(tally, self.clock.now() - began)
        if tally.differing or lacking:
            shown = [*tally.differences, *lacking]
            more = tally.differing + len(lacking) - len(shown)
            raise PlatformError(
                f"{tally.differing} of {self.keys} keys and {len(lacking)} functions are not as in backup {self.backup.id}: "
                f"{'; '.join(shown)}{f'; and {more} more' if more > 0 else ''}",
                compared=counts,
            )
        return counts

    def _functions_lacking(self, receivers: Sequence[Receiver]) -> list[str]:
        wanted = refill.functions_of(self.parts)
        lacking = []
        for receiver in receivers if wanted else ():
            try:
                with contextlib.closing(receiver.connect()) as connection:
                    held = refill.held_functions(connection, self.clock)
            except ConnectionLost as error:
                raise PlatformError(f"{receiver.name} was lost: {error}. Run it again.") from error
            lacking += [f"function library {name} on {receiver.name}" for name, code in wanted.items() if held.get(name) != code]
        return lacking

    def _facts(self) -> dict[str, t.Any]:
        return {"backup": runs.facts_of(self.backup), "keys": self.keys}

    def _plan(self, owners: Sequence[Node], resumed: bool, replace: bool) -> list[dict[str, t.Any]]:
        reason = (
            "goes on where an earlier run was interrupted"
            if resumed
            else "the backup's keys take precedence"
            if replace
            else "the master is empty"
        )
        return [
            {
                "node": node.name,
                "slots": slots.text(node.slots),
                "files": [part.name for part in self.parts if part.slots & node.slots],
                "reason": reason,
            }
            for node in owners
        ]

    def _pace(self, unlimited: bool = False) -> Pace:
        def told(text: str) -> None:
            self.context.progress.report(COMPONENT, text)

        return Pace(self.clock, 0.0 if unlimited else self.params["keys_per_second"], self.deadline, told)


def _owners(observation: Observation) -> list[Node]:
    """The masters of a healthy cluster; anything else is healed first."""
    refuse_open(observation)
    owners = [node for node in observation.live if node.slots]
    covered = 0
    for node in owners:
        covered |= node.slots
    sick = [node.name for node in owners if not node.cluster_ok]
    if covered != slots.ALL or sick:
        why = f"{', '.join(sick)} say fail" if sick else f"slots {slots.text(slots.ALL & ~covered)} have no live owner"
        raise PlatformError(f"The cluster is not healthy ({why}), so nothing is restored into it; {NEXT}.")
    return owners


def _receiver(cluster: Cluster, node: Node) -> Receiver:
    return Receiver(node.name, node.slots, lambda: cluster.another(node.name))


def _counts(tally: Tally, seconds: float) -> dict[str, t.Any]:
    names = ("restored", "present", "expired", "stray", "equal", "differing")
    counts: dict[str, t.Any] = {name: getattr(tally, name) for name in names if getattr(tally, name)}
    keys = tally.done or tally.equal + tally.differing
    rates = {"keys_per_second": round(keys / max(seconds, 0.001)), "megabytes_per_second": round(tally.size / 1e6 / max(seconds, 0.001), 1)}
    return {**counts, "seconds": round(seconds, 3), **rates}


@contextlib.contextmanager
def scratch_server(clock: Clock) -> Iterator[Receiver]:
    """An empty redis-server that only this process can reach, for as long as the context lasts."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        raise PlatformError(
            "A drill starts a redis-server on the host the module runs on, and there is none. "
            "Install one (apt install redis-server), or name a pod in scratch."
        )
    with tempfile.TemporaryDirectory(prefix="progressive-drill-") as directory:
        path = f"{directory}/redis.sock"
        options = ["--port", "0", "--unixsocket", path, "--unixsocketperm", "700", "--dir", directory, "--save", "", "--appendonly", "no"]
        process = subprocess.Popen([program, *options], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            deadline = clock.now() + START_WITHIN
            while not Path(path).exists():
                if process.poll() is not None or clock.now() > deadline:
                    raise PlatformError(f"{program} did not start for the drill. Try it: {program} --port 0 --unixsocket {path}")
                clock.sleep(0.02)
            yield _receiver_at(path, clock)
        finally:
            process.kill()
            process.wait(START_WITHIN)


@contextlib.contextmanager
def beside(path: str, clock: Clock) -> Iterator[Receiver]:
    """A redis-server that somebody else started for the drill, and that only this pod reaches; it must be empty."""
    deadline = clock.now() + START_WITHIN
    while not Path(path).exists():
        if clock.now() > deadline:
            raise PlatformError(
                f"No redis-server listens at {path} (scratch.socket), still after {START_WITHIN:.0f} s. See the log of the one beside."
            )
        clock.sleep(0.1)
    receiver = _receiver_at(path, clock)
    with contextlib.closing(receiver.connect()) as connection:
        held = connection.call([("DBSIZE",)], clock.now() + refill.ANSWER_WITHIN)[0]
    if held:
        raise PlatformError(f"The scratch server at {path} is not empty ({held} keys); it is not touched.")
    yield receiver


def _receiver_at(path: str, clock: Clock) -> Receiver:
    def dial() -> Connection:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(path)
        except OSError as error:
            sock.close()
            raise ConnectionLost(f"the scratch server does not answer: {error}") from error
        return Connection(sock, clock)

    return Receiver("the scratch server", slots.ALL, dial)
