# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Streams against a double of the API server's watch: it ends, breaks, forgets and refuses streams as a script says."""

from __future__ import annotations

import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.auth import Access
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.plugins.module_utils._kube.discovery import Resource
from ansible_collections.progressive.platform.plugins.module_utils._kube.watch import ADDED, DELETED, FAILED, LISTED, Source, Streams

PODS = Resource("v1", "Pod", "pods", True)
Query = dict[str, str]


def pod(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


def event(kind: str, item: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


class WatchDouble(ThreadingHTTPServer):
    """``lists`` are answered one after the other (the last one again and again), ``watches`` likewise: bytes, or a status.

    After its bytes a watch ends, but the last one stays open until the test is over.
    """

    daemon_threads = True

    def __init__(self, lists: list[tuple[int, list[dict[str, Any]]]], watches: list[bytes | int]) -> None:
        self.lists = lists
        self.watches = watches
        self.queries: list[Query] = []
        self.over = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WatchDouble

    def do_GET(self) -> None:
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        self.server.queries.append(query)
        if "watch" not in query:
            version, items = self.server.lists.pop(0) if len(self.server.lists) > 1 else self.server.lists[0]
            self.reply(200, {"metadata": {"resourceVersion": str(version)}, "items": items})
            return
        script = self.server.watches.pop(0) if self.server.watches else b""
        if isinstance(script, int):
            self.reply(script, {"kind": "Status", "message": "no", "reason": "Script", "code": script})
            return
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        if script:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(script), script))
        if not self.server.watches:
            self.server.over.wait(30)
        self.close_connection = True

    def reply(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def follow() -> Iterator[Callable[..., tuple[WatchDouble, Streams]]]:
    servers: list[WatchDouble] = []

    def start(lists: list[tuple[int, list[dict[str, Any]]]], watches: list[bytes | int]) -> tuple[WatchDouble, Streams]:
        server = WatchDouble(lists, watches)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        client = Client(Access(server=f"http://127.0.0.1:{server.server_address[1]}", origin="the double"))
        return server, Streams(client, client.clock.now() + 30)

    yield start
    for server in servers:
        server.over.set()
        server.shutdown()
        server.server_close()


def seen(streams: Streams, count: int) -> list[tuple[str, list[str]]]:
    found = []
    for _unused in range(count):
        change = streams.next(10)
        assert change is not None, found
        found.append((change.event, [item["metadata"]["name"] for item in change.items]))
    return found


def test_list_then_watch_from_there(follow: Callable[..., Any]) -> None:
    server, streams = follow([(7, [pod("a", 5)])], [event(ADDED, pod("b", 8)) + event(DELETED, pod("a", 9))])
    with streams:
        streams.follow(Source(PODS, "x", "l=1", "f=2"))
        assert seen(streams, 3) == [(LISTED, ["a"]), (ADDED, ["b"]), (DELETED, ["a"])]
    assert server.queries[0].items() >= {"labelSelector": "l=1", "fieldSelector": "f=2"}.items()
    assert (
        server.queries[1].items()
        >= {"watch": "true", "resourceVersion": "7", "allowWatchBookmarks": "true", "labelSelector": "l=1"}.items()
    )


def test_objects_carry_their_kind(follow: Callable[..., Any]) -> None:
    """In a list the server leaves it out."""
    _server, streams = follow([(7, [pod("a", 5)])], [event(ADDED, pod("b", 8))])
    with streams:
        streams.follow(Source(PODS))
        for _unused in range(2):
            change = streams.next(10)
            assert [(item["apiVersion"], item["kind"]) for item in change.items] == [("v1", "Pod")]


def test_a_stream_that_ends_goes_on_from_the_bookmark(follow: Callable[..., Any]) -> None:
    server, streams = follow([(7, [])], [event("BOOKMARK", pod("", 50)), event(ADDED, pod("b", 51))])
    with streams:
        streams.follow(Source(PODS))
        assert seen(streams, 2) == [(LISTED, []), (ADDED, ["b"])]
    assert [query["resourceVersion"] for query in server.queries if "watch" in query] == ["7", "50"]


def test_an_event_cut_in_two_is_no_event(follow: Callable[..., Any]) -> None:
    server, streams = follow([(7, [])], [event(ADDED, pod("b", 8)) + event(ADDED, pod("c", 9))[:20], event(ADDED, pod("c", 9))])
    with streams:
        streams.follow(Source(PODS))
        assert seen(streams, 3) == [(LISTED, []), (ADDED, ["b"]), (ADDED, ["c"])]
    assert [query["resourceVersion"] for query in server.queries if "watch" in query] == ["7", "8"]


GONE = event("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})


@pytest.mark.parametrize("gone", [GONE, 410], ids=["as an event", "as an answer"])
def test_a_place_the_server_forgot_means_a_new_list(follow: Callable[..., Any], gone: bytes | int) -> None:
    _server, streams = follow([(7, [pod("a", 5)]), (90, [pod("b", 80)])], [gone, event(ADDED, pod("c", 91))])
    with streams:
        streams.follow(Source(PODS))
        assert seen(streams, 3) == [(LISTED, ["a"]), (LISTED, ["b"]), (ADDED, ["c"])]


def test_a_server_that_stumbles_is_asked_again(follow: Callable[..., Any]) -> None:
    _server, streams = follow([(7, [])], [503, 500, event(ADDED, pod("b", 8))])
    with streams:
        streams.follow(Source(PODS))
        assert seen(streams, 2) == [(LISTED, []), (ADDED, ["b"])]


def test_a_stream_that_is_refused_says_so(follow: Callable[..., Any]) -> None:
    _server, streams = follow([(7, [])], [403, b""])
    with streams:
        streams.follow(Source(PODS))
        assert seen(streams, 1) == [(LISTED, [])]
        change = streams.next(10)
        assert change is not None
        assert change.event == FAILED
        assert change.error is not None
        assert change.error.status == 403


def test_leaving_ends_a_silent_stream_at_once(follow: Callable[..., Any]) -> None:
    _server, streams = follow([(7, [])], [b""])
    with streams:
        streams.follow(Source(PODS))
        seen(streams, 1)
        threads = [thread for thread in threading.enumerate() if thread.name == "watch pods"]
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
