# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Objects as they change: LIST, then WATCH from there (private: may change without notice).

One stream serves a kind and namespace. Bookmarks keep the place in a quiet stream; when the server has forgotten it (410 Gone)
the list is read again, and what vanished in between is reported as deleted by its absence.
"""

from __future__ import annotations

import json
import queue
import threading
import typing as t
from dataclasses import dataclass

from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client, Stream
from ansible_collections.progressive.platform.plugins.module_utils._kube.discovery import Resource

Json = dict[str, t.Any]

LISTED = "LISTED"  # the change holds every object there is
ADDED, MODIFIED, DELETED, BOOKMARK, ERROR = "ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR"
FAILED = "FAILED"  # the stream cannot go on; the change holds the error
SERVER_LIMIT = 240  # seconds after which the server ends a watch, which is then taken up again
PAUSE = 0.5  # seconds between two tries of a stream that breaks at once


@dataclass(frozen=True)
class Source:
    """What is watched: a kind, one namespace or all, and label or field selectors."""

    resource: Resource
    namespace: str | None = None
    selector: str | None = None
    fields: str | None = None


class Change(t.NamedTuple):
    """Something that happened to ``source``: one object for ADDED, MODIFIED and DELETED, all for LISTED, none for FAILED."""

    source: Source
    event: str
    items: list[Json]
    error: ApiError | None = None


class Streams:
    """Follows sources in threads and puts their changes in one queue; use it as a context manager."""

    def __init__(self, client: Client, deadline: float) -> None:
        """``deadline``: the client's clock, in seconds; no stream outlives it."""
        self.changes: queue.SimpleQueue[Change] = queue.SimpleQueue()
        self._client = client
        self._deadline = deadline
        self._stop = threading.Event()
        self._followed: set[Source] = set()
        self._live: set[Stream] = set()

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        for stream in list(self._live):
            stream.hang_up()

    def follow(self, source: Source) -> None:
        """Starts to follow; a source that is followed already is left alone."""
        if source not in self._followed:
            self._followed.add(source)
            threading.Thread(target=self._run, args=(source,), daemon=True, name=f"watch {source.resource.plural}").start()

    def next(self, timeout: float) -> Change | None:
        """The next change, None when there is none for ``timeout`` seconds."""
        try:
            return self.changes.get(timeout=max(0.0, timeout))
        except queue.Empty:
            return None

    def _run(self, source: Source) -> None:
        version: str | None = None
        while not self._stop.is_set() and self._client.clock.now() < self._deadline:
            try:
                if version is None:
                    version = self._list(source)
                version = self._watch(source, version)
            except ApiError as error:
                if self._stop.is_set():
                    return
                if error.status not in (0, 410, 429, 500, 502, 503, 504):
                    self.changes.put(Change(source, FAILED, [], error))
                    return
                if error.status == 410:
                    version = None
                self._stop.wait(PAUSE)

    def _list(self, source: Source) -> str:
        query = {"labelSelector": source.selector, "fieldSelector": source.fields}
        answer = self._client.list(source.resource, source.namespace, **query)
        self.changes.put(Change(source, LISTED, [named(item, source.resource) for item in answer["items"]]))
        return str((answer.get("metadata") or {}).get("resourceVersion") or "0")

    def _watch(self, source: Source, version: str) -> str | None:
        """Follows until the server ends the stream; the version to go on from, None when the list must be read again."""
        remaining = max(1, int(self._deadline - self._client.clock.now()))
        query = {
            "watch": True,
            "allowWatchBookmarks": True,
            "resourceVersion": version,
            "timeoutSeconds": min(SERVER_LIMIT, remaining),
            "labelSelector": source.selector,
            "fieldSelector": source.fields,
        }
        began = self._client.clock.now()
        with self._client.stream(source.resource.path(source.namespace), query, timeout=SERVER_LIMIT + 30) as stream:
            self._live.add(stream)
            try:
                for line in stream if not self._stop.is_set() else ():
                    try:
                        change = json.loads(line)
                    except ValueError:  # cut off in the middle of a line, by us or by the network: watch again from the last version
                        break
                    item = change["object"]
                    if change["type"] == ERROR:
                        if item.get("code") == 410:
                            return None
                        raise ApiError(str(item.get("message")), int(item.get("code") or 500), str(item.get("reason")), item)
                    version = (item.get("metadata") or {}).get("resourceVersion") or version
                    if change["type"] != BOOKMARK:
                        self.changes.put(Change(source, change["type"], [named(item, source.resource)]))
            finally:
                self._live.discard(stream)
        if self._client.clock.now() - began < PAUSE:
            self._stop.wait(PAUSE)
        return version


def named(item: Json, resource: Resource) -> Json:
    """The object with apiVersion and kind, which the server leaves out in lists."""
    return {**item, "apiVersion": resource.api_version, "kind": resource.kind}
