# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module redis_cluster_backup: one RDB file a shard, taken on a replica, and a manifest (private: may change without notice)."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import mmap
import typing as t
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._backup import runs
from ansible_collections.progressive.platform.plugins.module_utils._backup.catalog import Backup, Catalog, File, stamp
from ansible_collections.progressive.platform.plugins.module_utils._redis import rdb, report, slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.converge import CONSTRAINTS as NODE_CONSTRAINTS
from ansible_collections.progressive.platform.plugins.module_utils._redis.converge import NODES, opened
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Node, Observation
from ansible_collections.progressive.platform.plugins.module_utils._redis.nodes import Cluster
from ansible_collections.progressive.platform.plugins.module_utils._redis.resp import ConnectionLost
from ansible_collections.progressive.platform.plugins.module_utils._redis.snapshot import take
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

COMPONENT = "redis_cluster"
BEHIND_AT_MOST = 1024 * 1024
"""Bytes that a replica may be behind its master and still count as in sync."""
AT_ONCE = 8
"""Shards taken, or restored, side by side."""
NEXT = "heal it first: playbooks/site.yml --tags redis_cluster, or module redis_cluster"

ARGUMENTS: dict[str, t.Any] = {**NODES, **runs.TAKE}
CONSTRAINTS: dict[str, t.Any] = NODE_CONSTRAINTS


@dataclasses.dataclass(frozen=True)
class Shard:
    """Slots, the ID that owns them, and the node whose copy is taken; ``behind`` in bytes, -1 when the master does not say."""

    number: int
    slots: int
    master: str
    source: Node
    behind: int

    @property
    def file(self) -> str:
        return f"shard-{self.number}.rdb"

    @property
    def on_replica(self) -> bool:
        return self.source.id != self.master


@dataclasses.dataclass(frozen=True)
class Census:
    """What an RDB file holds. ``stray`` keys are in slots that are not the shard's."""

    version: int
    keys: int
    expiring: int
    stray: int
    functions: tuple[str, ...]


def run(params: Params, context: Context) -> Result:
    """The module redis_cluster_backup."""
    retention = runs.Retention(params, COMPONENT)
    catalog = retention.catalog
    with opened(params, context) as (cluster, store):
        observation = cluster.observe(None)
        shards = chosen(observation)
        if context.check:
            return {"changed": True, "plan": plan(shards), "removed": retention.foreseen(), "warnings": _warnings(shards)}
        backup = _Taking(cluster, catalog, context, params["timeout"]).run(observation, shards, retention.identifier)
        removed = retention.applied()
        summary = summary_of(backup)
        store.keep("backup", {**summary, "storage": str(catalog.storage)})
    return {"changed": True, "plan": plan(shards), "backup": summary, "removed": removed, "warnings": list(backup.facts["warnings"])}


def summary_of(backup: Backup) -> dict[str, t.Any]:
    shards = backup.facts["shards"]
    return runs.summary_of(backup, {"shards": len(shards), "keys": sum(shard["keys"] for shard in shards)}, backup.size)


def plan(shards: Sequence[Shard]) -> list[dict[str, t.Any]]:
    return [
        {
            "file": shard.file,
            "slots": slots.text(shard.slots),
            "node": shard.source.name,
            "role": "replica" if shard.on_replica else "master",
            "behind": shard.behind,
        }
        for shard in shards
    ]


def chosen(observation: Observation) -> list[Shard]:
    """The copy to take of every shard: the replica in sync that has most, the master where there is none. Raises PlatformError when a key could be missed."""
    if not observation.live:
        reasons = "; ".join(f"{node.name}: {node.problem}" for node in observation.nodes) or "there are none"
        raise PlatformError(f"No node answers, so there is nothing to back up ({reasons}).")
    refuse_open(observation)
    owned = _owned(observation)
    missing = slots.ALL
    for mask in owned.values():
        missing &= ~mask
    if missing:
        raise PlatformError(f"Slots {slots.text(missing)} have no owner, so a backup would not be whole; {NEXT}.")
    return [_best(observation, number, master, mask) for number, (master, mask) in enumerate(owned.items())]


def refuse_open(observation: Observation) -> None:
    """Keys of a slot that is moving are on two nodes, and could be in both snapshots or in neither."""
    moving = {node.name: sorted(node.me.open_slots) for node in observation.live if node.me.open_slots}
    if moving:
        named = ", ".join(f"{name}: {slots.text(slots.mask((slot, slot) for slot in found))}" for name, found in moving.items())
        raise PlatformError(
            f"Slots are being moved ({named}). Wait until it is done, or finish it: playbooks/site.yml --tags redis_cluster."
        )


def _owned(observation: Observation) -> dict[str, int]:
    """Owner to slots, in slot order: what live masters say of themselves, and of silent ones what the newest view says."""
    owned = {node.id: node.slots for node in observation.live if node.slots}
    claimed = 0
    for node_id, mask in owned.items():
        if claimed & mask:
            raise PlatformError(f"Slots {slots.text(claimed & mask)} have two owners, one is {node_id}; {NEXT}.")
        claimed |= mask
    silent: dict[str, tuple[int, int]] = {}
    ids = {node.id for node in observation.live}
    for node in observation.live:
        for entry in node.entries.values():
            rest = entry.slots & ~claimed
            if entry.id not in ids and rest and entry.epoch >= silent.get(entry.id, (-1, 0))[0]:
                silent[entry.id] = (entry.epoch, rest)
    for node_id, (_epoch, mask) in silent.items():
        owned[node_id] = mask & ~claimed
        claimed |= mask
    return dict(sorted(owned.items(), key=lambda item: item[1] & -item[1]))


def _best(observation: Observation, number: int, master: str, mask: int) -> Shard:
    owner = next((node for node in observation.live if node.id == master), None)
    replicas = [node for node in observation.live if node.master == master]
    # A replica without a link to its master refuses to send its data.
    for replica in sorted(replicas, key=lambda node: -node.offset):
        behind = max(owner.offset - replica.offset, 0) if owner else -1
        if behind <= BEHIND_AT_MOST and replica.link_up and not replica.syncing:
            return Shard(number, mask, master, replica, behind)
    if owner is not None:
        return Shard(number, mask, master, owner, 0)
    problems = "; ".join(f"{node.name}: {node.problem}" for node in observation.nodes if not node.live)
    waiting = ", ".join(node.name for node in replicas)
    hint = f"its replica {waiting} sends nothing before it is elected: run again in a moment" if waiting else NEXT
    raise PlatformError(f"No copy of slots {slots.text(mask)} (owner {master}) can be reached ({problems}); {hint}.")


def _warnings(shards: Sequence[Shard]) -> list[str]:
    return [
        f"slots {slots.text(shard.slots)} are taken on their master {shard.source.name}, which forks for it: they have no replica in sync"
        for shard in shards
        if not shard.on_replica
    ]


class _Taking:
    """One backup on its way. Nothing of it counts before the manifest is there."""

    def __init__(self, cluster: Cluster, catalog: Catalog, context: Context, timeout: float) -> None:
        self.cluster = cluster
        self.catalog = catalog
        self.context = context
        self.clock = context.clock
        self.deadline = self.clock.now() + timeout
        self.received: dict[int, int] = {}
        self.told = self.clock.now()

    def run(self, observation: Observation, shards: Sequence[Shard], identifier: str) -> Backup:
        began = self.clock.now()
        started = datetime.datetime.now(datetime.UTC)
        with self.catalog.storage.spool() as spool:
            # The memory a data set takes is more than its file will have.
            runs.refuse_full(spool, sum(shard.source.used_memory for shard in shards))
            with ThreadPoolExecutor(min(AT_ONCE, len(shards))) as pool:
                parts = list(pool.map(lambda shard: self._shard(shard, spool), shards))
            after = self.cluster.observe(None)
            refuse_open(after)
            if _moved(observation, after):
                raise PlatformError(
                    "Slots have changed hands while the backup was taken, so it might miss keys; nothing was kept. Run it again."
                )
            backup = Backup(
                COMPONENT,
                self.catalog.name,
                identifier,
                stamp(started),
                stamp(datetime.datetime.now(datetime.UTC)),
                tuple(file for file, _facts in parts),
                self._facts(observation, shards, [facts for _file, facts in parts], self.clock.now() - began),
            )
            return runs.finish(self.catalog, self.context, spool, backup)

    def _shard(self, shard: Shard, spool: Path) -> tuple[File, dict[str, t.Any]]:
        path = spool / shard.file
        try:
            connection = self.cluster.another(shard.source.name)
            with contextlib.closing(connection):
                asked = datetime.datetime.now(datetime.UTC)
                snapshot = take(connection, path, self.clock, self.deadline, lambda size: self._tell(shard.number, size))
            census = count(path, shard.slots)
        except (PlatformError, ConnectionLost) as error:
            raise PlatformError(f"{shard.source.name} (slots {slots.text(shard.slots)}): {error}. Nothing was kept.") from error
        except rdb.Damaged as error:
            raise PlatformError(f"{shard.source.name} sent a snapshot that cannot be read: {error}. Nothing was kept.") from error
        facts = {
            "file": shard.file,
            "slots": slots.text(shard.slots),
            "master": shard.master,
            "node": shard.source.name,
            "node_id": shard.source.id,
            "role": "replica" if shard.on_replica else "master",
            "behind": shard.behind,
            "replication": snapshot.replication,
            "offset": snapshot.offset,
            "asked": stamp(asked),
            "version": shard.source.version,
            "memory": shard.source.used_memory,
            "keys": census.keys,
            "expiring": census.expiring,
            "stray": census.stray,
            "functions": list(census.functions),
            "rdb_version": census.version,
        }
        return File(shard.file, snapshot.size, snapshot.sha256), facts

    def _tell(self, number: int, size: int) -> None:
        self.received[number] = size
        if self.clock.now() - self.told > 1.0:
            self.told = self.clock.now()
            self.context.progress.report(COMPONENT, f"backup: {sum(self.received.values()) / 1e6:.0f} MB of {len(self.received)} shards")

    @staticmethod
    def _facts(observation: Observation, shards: Sequence[Shard], parts: list[dict[str, t.Any]], seconds: float) -> dict[str, t.Any]:
        warnings = _warnings(shards)
        warnings += [
            f"{part['file']} holds {part['stray']} keys of other shards' slots; a restore leaves them out"
            for part in parts
            if part["stray"]
        ]
        return {
            # What was written after this moment may be missing: a node forks no earlier than it is asked.
            "recovery_point": min(part["asked"] for part in parts),
            "seconds": round(seconds, 3),
            "shards": parts,
            "versions": sorted({node.version for node in observation.live}),
            "nodes": report.node_rows(observation),
            "warnings": warnings,
        }


def _moved(before: Observation, after: Observation) -> bool:
    """Whether slots went to another shard; a failover, where a replica of the owner took over all of them, moves none."""
    shard_before = {node.id: node.master or node.id for node in before.live}
    owned = _owned(before)
    return any(mask & ~owned.get(shard_before.get(node_id, ""), 0) for node_id, mask in _owned(after).items())


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[t.Any]:
    """The bytes of a file without reading it into memory."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def count(path: Path, mask: int) -> Census:
    """Reads a file from its first key to its end; raises Damaged when it cannot be read like that."""
    keys = expiring = stray = 0
    functions = []
    with mapped(path) as data:
        reader = rdb.Reader(data)
        for part in reader:
            if isinstance(part, rdb.Function):
                functions.append(rdb.library(part.code))
            elif mask >> rdb.slot_of(part.key) & 1:
                keys += 1
                expiring += bool(part.expires)
            else:
                stray += 1
        return Census(reader.version, keys, expiring, stray, tuple(sorted(functions)))
