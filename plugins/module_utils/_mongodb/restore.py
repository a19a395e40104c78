# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module mongodb_restore: a backup into an empty server, compared document by document; and drills (private: may change without notice)."""

from __future__ import annotations

import datetime
import hashlib
import secrets
import typing as t
from collections.abc import Mapping, Sequence
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._backup import runs
from ansible_collections.progressive.platform.plugins.module_utils._backup.catalog import Backup, parse_time, stamp
from ansible_collections.progressive.platform.plugins.module_utils._members.store import LOCK_WITHIN
from ansible_collections.progressive.platform.plugins.module_utils._mongodb import dump, server
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.backup import (
    ANSWER_WITHIN,
    COMPONENT,
    OPLOG,
    SCRATCH,
    census,
    collections,
    databases,
)
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.dump import Collection
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.server import FERRETDB, Server, Servers
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, Context, Params, PlatformError, Result

DOCUMENTS_AT_ONCE, BYTES_AT_ONCE = 500, 8 * 1024 * 1024
DUPLICATE, NAMESPACE_EXISTS = 11000, 48
SHOWN = 5
"""Differences that a message names."""

ARGUMENTS: dict[str, t.Any] = {**server.SERVERS, **runs.RESTORE}
CONSTRAINTS: dict[str, t.Any] = server.CONSTRAINTS


def run(params: Params, context: Context) -> Result:
    """The module mongodb_restore."""
    if params["timeout"] <= 0:
        raise PlatformError("timeout must be more than 0.")
    if params.get("overwrite") and params["mode"] != "restore":
        raise PlatformError(f"overwrite is only for mode restore, mode is {params['mode']}.")
    began = context.clock.now()
    with runs.fetched(params, context, COMPONENT) as (backup, paths):
        task = _Task(params, context, backup, collections_of(backup), paths, began)
        task.refuse_damaged()
        with server.opened(params, context) as servers, servers.reached(writing=params["mode"] != "compare", answer=ANSWER_WITHIN) as one:
            return {"restore": task.restore, "compare": task.compare, "drill": task.drill}[params["mode"]](servers, one)


def collections_of(backup: Backup) -> list[Collection]:
    """What the manifest says; raises PlatformError when it is not one of ours."""
    try:
        parse_time(backup.facts["recovery_point"])
        found = [Collection.of(facts) for facts in backup.facts["collections"]]
        files = {file.name for file in backup.files}
        if len({one.title for one in found}) < len(found) or not {one.file for one in found} <= files:
            raise ValueError("it names a collection twice, or one without a file")
        return found
    except (KeyError, TypeError, ValueError) as error:
        raise PlatformError(
            f"The manifest of backup {backup.id} is damaged ({type(error).__name__}: {error}). Take another backup."
        ) from error


def token_of(name: str, held: Sequence[tuple[str, str]]) -> str:
    """Names what is there now: what a task must repeat to overwrite it."""
    return hashlib.sha256("\n".join([name, *(f"{database}.{collection}" for database, collection in sorted(held))]).encode()).hexdigest()[
        :16
    ]


class _Task:
    """One run over checked files."""

    def __init__(
        self, params: Params, context: Context, backup: Backup, wanted: list[Collection], paths: Mapping[str, Path], began: float
    ) -> None:
        self.params = params
        self.context = context
        self.clock: Clock = context.clock
        self.backup = backup
        self.wanted = wanted
        self.paths = paths
        self.began = began
        self.deadline = began + params["timeout"]
        self.documents = sum(one.documents for one in wanted)

    def refuse_damaged(self) -> None:
        """The checksums said that the files are what was written; this says that what was written was whole."""
        for one in self.wanted:
            found = dump.Census()
            for document in dump.read(self.paths[one.file], f"{one.file} of backup {self.backup.id}"):
                found.add(document)
            if (found.documents, found.digest) != (one.documents, one.digest):
                raise PlatformError(
                    f"{one.file} of backup {self.backup.id} holds {found.documents} documents, {one.documents} of {one.title} were written, or others. "
                    "Take another backup (backup: ID)."
                )

    # ---- restore ---------------------------------------------------------------------------------------------------------

    def restore(self, servers: Servers, one: Server) -> Result:
        held = collections(one)
        note = servers.store.note("restore")
        ours = note.get("backup") == self.backup.folder
        token = token_of(self.params["name"], held)
        replace = bool(self.params.get("overwrite"))
        if replace and self.params["overwrite"] != token:
            raise PlatformError(f"overwrite does not name what is there now: its token is {token}. Look at it before you give it.")
        if ours and note.get("state") == "done" and held and not replace:
            return {
                **self._facts(),
                "changed": False,
                "msg": f"backup {self.backup.id} was restored into this server at {note['finished']}",
            }
        resumed = bool(ours and note.get("state") == "running")
        if held and not replace and not resumed:
            raise PlatformError(self._not_empty(held, note, token))
        plan = [
            {
                "collection": wanted.title,
                "documents": wanted.documents,
                "reason": self._reason((wanted.database, wanted.name) in held, resumed),
            }
            for wanted in self.wanted
        ]
        if self.context.check:
            return {**self._facts(), "changed": True, "plan": plan}
        with servers.store.lock(LOCK_WITHIN):
            note = {"backup": self.backup.folder, "state": "running", "started": stamp(datetime.datetime.now(datetime.UTC))}
            servers.store.keep("restore", note)
            began = self.clock.now()
            for wanted in self.wanted:
                if (wanted.database, wanted.name) in held:
                    one.expect({"drop": wanted.name}, wanted.database)
                self._fill(one, wanted, wanted.database)
            operations = self._replay(one)
            restored = self._counts(self.clock.now() - began)
            # With operations replayed the collections are newer than their files, and nobody knows their digests.
            compared = self._compared(one, {}) if not operations else {}
            servers.store.keep(
                "restore", {**note, "state": "done", "finished": stamp(datetime.datetime.now(datetime.UTC)), "documents": self.documents}
            )
        self.context.progress.report(COMPONENT, f"backup {self.backup.id} is restored", done=True)
        return {**self._facts(), "changed": True, "plan": plan, "restored": {**restored, "operations": operations}, "compared": compared}

    def _not_empty(self, held: Sequence[tuple[str, str]], note: Mapping[str, t.Any], token: str) -> str:
        named = ", ".join(f"{database}.{name}" for database, name in held[:SHOWN]) + (", ..." if len(held) > SHOWN else "")
        return (
            f"The server is not empty ({named}), so backup {self.backup.id} is not restored into it.{runs.unfinished(note)} "
            f"To replace the collections that the backup has (others stay), say: overwrite: {token}"
        )

    @staticmethod
    def _reason(there: bool, resumed: bool) -> str:
        if resumed:
            return "begins again where an earlier run was interrupted" if there else "an earlier run did not come to it"
        return "takes the place of the collection that is there" if there else "the collection is not there"

    def _fill(self, one: Server, wanted: Collection, database: str) -> None:
        """Make the collection with its documents and indexes. It is not there yet."""
        from bson.raw_bson import RawBSONDocument
        from pymongo.errors import BulkWriteError, PyMongoError

        self.context.progress.report(COMPONENT, f"restore: {database}.{wanted.name}, {wanted.documents} documents")
        reply = one.command({"create": wanted.name, **wanted.options}, database)
        if not reply.get("ok") and reply.get("code") != NAMESPACE_EXISTS:
            raise PlatformError(f"{one.name} refuses to make {database}.{wanted.name}: {reply.get('errmsg')} (code {reply.get('code')}).")
        target: t.Any = one.connection.client[database][wanted.name]
        source = dump.read(self.paths[wanted.file], wanted.file)
        try:
            for batch in dump.batches(source, DOCUMENTS_AT_ONCE, BYTES_AT_ONCE):
                if self.clock.now() > self.deadline:
                    raise PlatformError(
                        f"{wanted.title} was not restored in time (timeout). Run it again with the same backup: it goes on."
                    )
                target.insert_many([RawBSONDocument(document) for document in batch], ordered=False)
        except BulkWriteError as error:
            others = [one for one in error.details.get("writeErrors", []) if one.get("code") != DUPLICATE]
            first = (others or error.details.get("writeErrors") or [{}])[0]
            raise PlatformError(f"{one.name} does not take a document of {wanted.title}: {first.get('errmsg')}") from error
        except PyMongoError as error:
            raise PlatformError(
                f"{one.name} was lost while {wanted.title} was restored: {error}. Run it again with the same backup."
            ) from error
        if wanted.indexes:
            indexes = [{**index, "key": dict(map(tuple, index["key"]))} for index in wanted.indexes]
            one.expect({"createIndexes": wanted.name, "indexes": indexes}, database)

    def _replay(self, one: Server) -> int:
        """Apply the operations that make all collections of one moment. FerretDB has no oplog, and takes none."""
        if OPLOG not in self.paths:
            return 0
        if one.engine == FERRETDB:
            raise PlatformError(
                f"Backup {self.backup.id} has operations of a replica set to replay, and {one.name} is FerretDB, which cannot. "
                "Its collections are there, each of its own moment. Take the backup from a set that nobody writes to."
            )
        import bson

        count = 0
        for batch in dump.batches(dump.read(self.paths[OPLOG], OPLOG), DOCUMENTS_AT_ONCE, BYTES_AT_ONCE):
            operations = [entry for entry in map(bson.decode, batch) if entry.get("op") in {"i", "u", "d"} and self._ours(entry["ns"])]
            if operations:
                kept = [{key: entry[key] for key in ("op", "ns", "o", "o2") if key in entry} for entry in operations]
                one.expect({"applyOps": kept, "alwaysUpsert": False})
            count += len(operations)
        return count

    def _ours(self, namespace: str) -> bool:
        return namespace in {wanted.title for wanted in self.wanted}

    # ---- compare and drill -----------------------------------------------------------------------------------------------

    def compare(self, _servers: Servers, one: Server) -> Result:
        return {**self._facts(), "changed": False, "compared": self._compared(one, {})}

    def drill(self, servers: Servers, one: Server) -> Result:
        """Restore into databases of names of their own, which go afterwards; compare everything; write down how long it took and how old the backup was."""
        if self.context.check:
            return {**self._facts(), "changed": True}
        word = secrets.token_hex(4)
        names = {database: f"drill_{word}_{number}" for number, database in enumerate(sorted({one.database for one in self.wanted}))}
        drill = runs.Drill(self.backup, servers.store, self.clock, self.began, {"documents": self.documents})
        result: Result = {**self._facts(), "changed": True}
        with servers.store.lock(LOCK_WITHIN), drill.noted(result):
            self._clear(one)  # what a drill that was killed has left
            try:
                began = self.clock.now()
                for wanted in self.wanted:
                    self._fill(one, wanted, names[wanted.database])
                drill.restored()
                result["restored"] = self._counts(self.clock.now() - began)
                result["compared"] = self._compared(one, names)
            finally:
                self._clear(one)
        self.context.progress.report(COMPONENT, f"drill with backup {self.backup.id}: every document is there", done=True)
        return {**result, "drill": drill.note}

    def _clear(self, one: Server) -> None:
        for database in databases(one):
            if SCRATCH.fullmatch(database):
                one.expect({"dropDatabase": 1}, database)

    # ---- common ----------------------------------------------------------------------------------------------------------

    def _compared(self, one: Server, names: Mapping[str, str]) -> dict[str, t.Any]:
        """Every collection's documents and digest with those of the backup; ``names`` are databases that stand for others."""
        began = self.clock.now()
        differences = []
        for wanted in self.wanted:
            database = names.get(wanted.database, wanted.database)
            found = census(one, database, wanted.name, self.clock, self.deadline)
            if (found.documents, found.digest) != (wanted.documents, wanted.digest):
                differences.append(
                    f"{wanted.title} has {found.documents} documents instead of {wanted.documents}"
                    if found.documents != wanted.documents
                    else f"{wanted.title} has other documents"
                )
        counts = self._counts(self.clock.now() - began)
        if differences:
            more = f"; and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
            raise PlatformError(
                f"{len(differences)} of {len(self.wanted)} collections are not as in backup {self.backup.id}: {'; '.join(differences[:SHOWN])}{more}",
                compared={**counts, "differing": len(differences)},
            )
        return counts

    def _counts(self, seconds: float) -> dict[str, t.Any]:
        size = sum(one.size for one in self.wanted)
        rates = {
            "documents_per_second": round(self.documents / max(seconds, 0.001)),
            "megabytes_per_second": round(size / 1e6 / max(seconds, 0.001), 1),
        }
        return {"collections": len(self.wanted), "documents": self.documents, "seconds": round(seconds, 3), **rates}

    def _facts(self) -> dict[str, t.Any]:
        return {"backup": runs.facts_of(self.backup), "documents": self.documents}
