# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module mongodb_backup: every collection as a file, and a manifest (private: may change without notice)."""

from __future__ import annotations

import datetime
import re
import typing as t
from collections.abc import Iterator, Sequence
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._backup import runs
from ansible_collections.progressive.platform.plugins.module_utils._backup.catalog import Backup, Catalog, File, sha256, stamp
from ansible_collections.progressive.platform.plugins.module_utils._mongodb import dump, server
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.dump import Census, Collection
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.server import FERRETDB, Server
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, Context, Params, PlatformError, Result

COMPONENT = "mongodb"
OWN = frozenset({"admin", "local", "config"})
"""Databases of the server itself. Users are in them; the role makes those from their Secret."""
SCRATCH = re.compile(r"drill_[0-9a-f]{8}_\d+")
"""Databases that drills make and drop."""
ANSWER_WITHIN = 120.0
"""Seconds for one batch of documents."""
BATCH = 1000
OPLOG = "oplog.bson.gz"

ARGUMENTS: dict[str, t.Any] = {**server.SERVERS, **runs.TAKE}
CONSTRAINTS: dict[str, t.Any] = server.CONSTRAINTS


def run(params: Params, context: Context) -> Result:
    """The module mongodb_backup."""
    retention = runs.Retention(params, COMPONENT)
    catalog = retention.catalog
    with server.opened(params, context) as servers, servers.reached(writing=False, answer=ANSWER_WITHIN) as one:
        names = collections(one)
        plan = {
            "server": one.name,
            "role": one.role,
            "engine": one.engine,
            "collections": [f"{database}.{name}" for database, name in names],
        }
        if context.check:
            return {"changed": True, "plan": plan, "removed": retention.foreseen(), "warnings": _warnings(one)}
        backup = _Taking(one, catalog, context, params["timeout"]).run(names, retention.identifier)
        removed = retention.applied()
        summary = summary_of(backup)
        servers.store.keep("backup", {**summary, "storage": str(catalog.storage)})
    return {"changed": True, "plan": plan, "backup": summary, "removed": removed, "warnings": _warnings(one)}


def summary_of(backup: Backup) -> dict[str, t.Any]:
    parts = backup.facts["collections"]
    counts = {"collections": len(parts), "documents": sum(one["documents"] for one in parts)}
    return runs.summary_of(backup, counts, sum(one["size"] for one in parts))


def databases(one: Server) -> list[str]:
    found = one.expect({"listDatabases": 1, "nameOnly": True})["databases"]
    return sorted(entry["name"] for entry in found if entry["name"] not in OWN)


def collections(one: Server) -> list[tuple[str, str]]:
    """(database, collection) of everything that is the users' own. Views are kept by whoever defines them."""
    return [
        (database, entry["name"])
        for database in databases(one)
        if not SCRATCH.fullmatch(database)
        for entry in sorted(_listed(one, database, {"listCollections": 1}), key=lambda entry: str(entry["name"]))
        if entry.get("type", "collection") == "collection" and not entry["name"].startswith("system.")
    ]


def documents(one: Server, database: str, name: str, clock: Clock, deadline: float) -> Iterator[bytes]:
    """Every document of a collection as it is on the wire. Raises PlatformError."""
    from bson.codec_options import CodecOptions
    from bson.raw_bson import RawBSONDocument
    from pymongo.errors import PyMongoError

    raw: t.Any = one.connection.client[database].get_collection(name, codec_options=CodecOptions(document_class=RawBSONDocument))
    try:
        for document in raw.find({}, batch_size=BATCH):
            if clock.now() > deadline:
                raise PlatformError(f"{database}.{name} was not read in time (timeout). Nothing was kept.")
            yield document.raw
    except PyMongoError as error:
        raise PlatformError(f"{one.name} was lost while {database}.{name} was read: {error}. Nothing was kept.") from error


def census(one: Server, database: str, name: str, clock: Clock, deadline: float) -> Census:
    found = Census()
    for document in documents(one, database, name, clock, deadline):
        found.add(document)
    return found


def _listed(one: Server, database: str, command: dict[str, t.Any]) -> list[dict[str, t.Any]]:
    """All of a listing that fits one batch; there are servers with thousands of collections."""
    cursor = one.expect({**command, "cursor": {"batchSize": 100_000}}, database)["cursor"]
    if cursor.get("id"):
        raise PlatformError(f"{one.name} lists more of {next(iter(command))} in {database} than it gives at once.")
    return list(cursor["firstBatch"])


def _warnings(one: Server) -> list[str]:
    if one.engine == FERRETDB:
        return []
    return [f"the backup is taken on {one.name}, which is primary: there is no secondary that answers"] if one.role == "primary" else []


class _Taking:
    """One backup on its way. Nothing of it counts before the manifest is there."""

    def __init__(self, one: Server, catalog: Catalog, context: Context, timeout: float) -> None:
        self.one = one
        self.catalog = catalog
        self.context = context
        self.clock = context.clock
        self.deadline = self.clock.now() + timeout

    def run(self, names: Sequence[tuple[str, str]], identifier: str) -> Backup:
        began = self.clock.now()
        started = datetime.datetime.now(datetime.UTC)
        with self.catalog.storage.spool() as spool:
            # What the databases say they take is more than the compressed files will have.
            sizes = self.one.expect({"listDatabases": 1})["databases"]
            runs.refuse_full(spool, sum(int(entry.get("sizeOnDisk", 0)) for entry in sizes if entry["name"] not in OWN))
            since = oplog_end(self.one)
            parts = [self._collection(number, database, name, spool) for number, (database, name) in enumerate(names)]
            point = started
            files = [spool / part.file for part in parts]
            operations = 0
            if since is not None:
                operations = self._oplog(since, spool / OPLOG)
                point = datetime.datetime.now(datetime.UTC)
                files.append(spool / OPLOG)
            facts = {
                # What was written after this moment may be missing.
                "recovery_point": stamp(point),
                "seconds": round(self.clock.now() - began, 3),
                "engine": self.one.engine,
                "version": self.one.version,
                "server": self.one.name,
                "role": self.one.role,
                "operations": operations,
                "collections": [part.facts() for part in parts],
            }
            described = tuple(File(path.name, path.stat().st_size, sha256(path)) for path in files)
            backup = Backup(
                COMPONENT, self.catalog.name, identifier, stamp(started), stamp(datetime.datetime.now(datetime.UTC)), described, facts
            )
            return runs.finish(self.catalog, self.context, spool, backup)

    def _collection(self, number: int, database: str, name: str, spool: Path) -> Collection:
        self.context.progress.report(COMPONENT, f"backup: {database}.{name}")
        (entry,) = [one for one in _listed(self.one, database, {"listCollections": 1}) if one["name"] == name] or [{}]
        indexes = [_index(one) for one in _listed(self.one, database, {"listIndexes": name}) if one["name"] != "_id_"] if entry else []
        file = f"collection-{number:04d}.bson.gz"  # names of collections may have slashes in them
        found = dump.write(spool / file, documents(self.one, database, name, self.clock, self.deadline))
        options = {key: value for key, value in (entry.get("options") or {}).items() if key != "uuid"}
        return Collection(database, name, file, found.documents, found.size, found.digest, _plain(options), tuple(indexes))

    def _oplog(self, since: t.Any, path: Path) -> int:
        """The operations from before the first collection was read to after the last: with them all collections are of one moment."""
        from bson.codec_options import CodecOptions
        from bson.raw_bson import RawBSONDocument
        from pymongo.errors import PyMongoError

        until = oplog_end(self.one)
        log: t.Any = self.one.connection.client["local"].get_collection(
            "oplog.rs", codec_options=CodecOptions(document_class=RawBSONDocument)
        )
        try:
            first = next(iter(log.find({}).sort("$natural", 1).limit(1)), None)
            if first is None or first["ts"] > since:
                raise PlatformError(
                    f"The oplog of {self.one.name} does not reach back to the beginning of the backup any more, so its collections are of "
                    "different moments. Nothing was kept. Make it larger (mongodb_oplog_size), or take the backup when less is written."
                )
            return dump.write(path, (entry.raw for entry in log.find({"ts": {"$gte": since, "$lte": until}}, batch_size=BATCH))).documents
        except PyMongoError as error:
            raise PlatformError(f"{self.one.name} was lost while its oplog was read: {error}. Nothing was kept.") from error


def oplog_end(one: Server) -> t.Any:
    """Timestamp of the newest operation of a member of a replica set; None of a server that has no oplog."""
    if not one.set_name:
        return None
    batch = one.expect({"find": "oplog.rs", "sort": {"$natural": -1}, "limit": 1, "projection": {"ts": 1}}, "local")["cursor"]["firstBatch"]
    if not batch:
        raise PlatformError(f"The oplog of {one.name} is empty, so a backup could not be made one of a single moment.")
    return batch[0]["ts"]


def _index(index: dict[str, t.Any]) -> dict[str, t.Any]:
    """As createIndexes takes it; the order of the keys is the index's, so they are pairs."""
    kept = {key: value for key, value in index.items() if key not in {"v", "ns", "key"}}
    return {**_plain(kept), "key": [[field, _plain(value)] for field, value in index["key"].items()]}


def _plain(value: t.Any) -> t.Any:
    """What JSON holds; options of collections and indexes are numbers, words, and documents of them."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return int(value) if float(value).is_integer() else float(value)
    raise PlatformError(f"An option of a collection or an index is {type(value).__name__}, which this backup cannot keep.")
