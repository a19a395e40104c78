# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run that takes, restores or tries a backup does whatever the database is (private: may change without notice)."""

from __future__ import annotations

import contextlib
import datetime
import os
import tempfile
import typing as t
from collections.abc import Iterator, Mapping
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._backup import storage
from ansible_collections.progressive.platform.plugins.module_utils._backup.catalog import (
    LATEST,
    Backup,
    Catalog,
    expired,
    new_id,
    parse_time,
    stamp,
)
from ansible_collections.progressive.platform.plugins.module_utils._members.store import Store
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, Context, Params, PlatformError, Result

BOTH: dict[str, t.Any] = {
    **storage.ARGUMENTS,
    "backup_name": {"type": "str"},
    "timeout": {"type": "float", "default": 3600.0},
}
TAKE: dict[str, t.Any] = {**BOTH, "keep": {"type": "int", "default": 0}, "keep_days": {"type": "float", "default": 0.0}}
RESTORE: dict[str, t.Any] = {
    **BOTH,
    "mode": {"type": "str", "choices": ["restore", "compare", "drill"], "default": "restore"},
    "backup": {"type": "str", "default": LATEST},
    "overwrite": {"type": "str", "no_log": False},
}


# ---- a backup is taken ---------------------------------------------------------------------------------------------------


class Retention:
    """Which backups stay. Raises PlatformError when the options are wrong; the identifier is the one of the backup that this run takes."""

    def __init__(self, params: Params, component: str) -> None:
        if params["keep"] < 0 or params["keep_days"] < 0 or params["timeout"] <= 0:
            raise PlatformError("keep and keep_days must not be negative, and timeout must be more than 0.")
        self.catalog = catalog_of(params, component)
        self.keep, self.keep_days = params["keep"], params["keep_days"]
        self.now = datetime.datetime.now(datetime.UTC)
        self.identifier = new_id(self.now, os.urandom(4))

    def foreseen(self) -> list[str]:
        """What goes once the backup is there."""
        return expired([*self.catalog.complete(), self.identifier], self.keep, self.keep_days, self.now)

    def applied(self) -> list[str]:
        return self.catalog.prune(self.keep, self.keep_days, datetime.datetime.now(datetime.UTC))


def catalog_of(params: Params, component: str) -> Catalog:
    return Catalog(storage.storage_of(params), component, params.get("backup_name") or params["name"])


def refuse_full(spool: Path, wanted: int) -> None:
    """``wanted`` is the most that the files can have, in bytes."""
    free = storage.room(spool)
    if free < wanted:
        raise PlatformError(
            f"The backup may need up to {wanted / 1e6:.0f} MB, and {spool.parent} has {free / 1e6:.0f} MB left. "
            "Make room, lower keep, or give another directory (storage.path, storage.spool)."
        )


def finish(catalog: Catalog, context: Context, spool: Path, backup: Backup) -> Backup:
    """The files go to the storage, and then the manifest that makes a backup of them."""
    for file in backup.files:
        context.progress.report(backup.component, f"backup: {file.name} goes to {catalog.storage}")
        catalog.storage.upload(f"{backup.folder}/{file.name}", spool / file.name)
    catalog.keep(backup)
    context.progress.report(backup.component, f"backup {backup.id} is complete", done=True)
    return backup


def summary_of(backup: Backup, counts: Mapping[str, int], size: int) -> dict[str, t.Any]:
    """What a task returns and the health report reads; ``size`` are the bytes that were read."""
    seconds = backup.facts["seconds"]
    return {
        "id": backup.id,
        "folder": backup.folder,
        "recovery_point": backup.facts["recovery_point"],
        "finished": backup.finished,
        **counts,
        "bytes": backup.size,
        "seconds": seconds,
        "megabytes_per_second": round(size / 1e6 / (seconds or 0.001), 1),
    }


# ---- a backup is used ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def fetched(params: Params, context: Context, component: str) -> Iterator[tuple[Backup, dict[str, Path]]]:
    """The backup that is asked for, and its files here, each as it was written. Raises PlatformError that names what is damaged or missing."""
    catalog = catalog_of(params, component)
    backup = catalog.find(params["backup"])
    with _workspace(params["storage"].get("spool")) as directory:
        free = storage.room(directory)
        if params["storage"].get("s3") and free < backup.size:
            raise PlatformError(
                f"{directory.parent} has {free / 1e6:.0f} MB left, backup {backup.id} has {backup.size / 1e6:.0f} MB. "
                "Make room, or name another directory in storage.spool."
            )
        context.progress.report(component, f"backup {backup.id}: {backup.size / 1e6:.0f} MB are read and checked")
        yield backup, catalog.checked(backup, directory)


@contextlib.contextmanager
def _workspace(spool: str | None) -> Iterator[Path]:
    """A directory for what is fetched: not the storage's own spool, which a read-only volume could not have."""
    try:
        directory = tempfile.TemporaryDirectory(prefix="progressive-restore-", dir=spool)
    except OSError as error:
        raise PlatformError(f"storage.spool {spool} cannot be written to: {error.strerror}.") from error
    with directory as path:
        yield Path(path)


def facts_of(backup: Backup) -> dict[str, t.Any]:
    """What a result says of the backup it used."""
    point = parse_time(backup.facts["recovery_point"])
    age = (datetime.datetime.now(datetime.UTC) - point).total_seconds()
    return {"id": backup.id, "folder": backup.folder, "recovery_point": stamp(point), "age_seconds": round(age, 1)}


def unfinished(note: Mapping[str, t.Any]) -> str:
    """A sentence about the restore that a run which was killed has noted; empty when there is none."""
    if note.get("state") != "running":
        return ""
    return f" A restore of {note.get('backup')}, begun at {note.get('started')}, was not finished: name that backup to go on with it."


class Drill:
    """What a drill finds out, written down however it ends. ``rpo_seconds`` is how old the newest data were, ``rto_seconds`` how long it took to have them."""

    def __init__(self, backup: Backup, store: Store, clock: Clock, began: float, counts: Mapping[str, int]) -> None:
        started = datetime.datetime.now(datetime.UTC)
        age = (started - parse_time(backup.facts["recovery_point"])).total_seconds()
        self._store, self._clock, self._began = store, clock, began
        self.note: dict[str, t.Any] = {"backup": backup.id, "at": stamp(started), "rpo_seconds": round(age, 1), **counts, "ok": False}

    def restored(self) -> None:
        """The data are there; what follows only compares them."""
        self.note["rto_seconds"] = round(self._clock.now() - self._began, 3)

    @contextlib.contextmanager
    def noted(self, result: Result) -> Iterator[None]:
        """``result`` is what is known so far, for the message of a failure."""
        try:
            yield
        except PlatformError as error:
            if "rto_seconds" not in self.note:
                self.restored()
            self._store.keep("drill", {**self.note, "problem": error.message[:500]})
            raise PlatformError(f"The drill failed. {error.message}", **{**result, **error.details, "drill": self.note}) from error
        self.note["ok"] = True
        self._store.keep("drill", self.note)
