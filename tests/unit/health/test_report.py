# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from ansible_collections.progressive.platform.plugins.module_utils._health import drawing, reports
from ansible_collections.progressive.platform.plugins.module_utils._health.health import green_message, red_message, report_of
from ansible_collections.progressive.platform.plugins.module_utils._health.markup import Html, el
from ansible_collections.progressive.platform.plugins.module_utils._health.model import Check, Finding, Result, age, plural
from ansible_collections.progressive.platform.plugins.module_utils._health.page import page
from ansible_collections.progressive.platform.plugins.module_utils._health.topology import topology
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.tests.unit.health.objects import container, node, pod

EVIL = '<script>alert("x")</script> & \x1b[31m'
ROOT = Path(__file__).resolve().parents[3]
GREEN = Result(Check("API server", "api", component="baseline"), Finding(True, "ready", "ready", "ready, v1.36.3"), 0.0, 0.05)
RED = Result(
    Check("pods", "workloads", component="redis"),
    Finding(False, "six", "five", EVIL, {"problems": [EVIL, "and more"], "pods": [{"pod": "redis-0", "ready": False}]}),
    0.1,
    2.0,
    4,
)
SKIPPED = Result(Check("transaction", "transaction", component="app"), Finding(True, "ok", "not sent", "Not sent.", skipped=True))
SHARDS = [
    {
        "name": "redis-cluster",
        "namespace": "shop",
        "covered": 10000,
        "shards": [
            {
                "master": "redis-0",
                "slots": [[0, 9999]],
                "members": [
                    {"pod": "redis-0", "master": True, "node": "node-1", "zone": "zone-1", "ok": True},
                    {"pod": "redis-1", "master": False, "node": "node-2", "zone": "zone-2", "ok": False},
                ],
            }
        ],
    }
]


def report(*results: Result) -> dict:
    made = report_of("local", results, 2.5, False)
    pods = [
        pod("redis-0"),
        pod("redis-1", node="node-2", ready=False, containerStatuses=[container(waiting="CrashLoopBackOff")]),
        pod("web-1", node="", ready=False, phase="Pending"),
        pod(EVIL),
    ]
    made["topology"] = topology([node(), node("node-2", ready="False", zone="zone-2")], pods, SHARDS)
    return made


class Strict(HTMLParser):
    """Every element is closed in order; keeps what a page would load or run, and the text."""

    VOID = ("meta", "br", "hr")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.foreign: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in ("script", "link", "img", "iframe", "object", "embed", "video", "use", "image"):
            self.foreign.append(tag)
        self.foreign += [f"{key}={value}" for key, value in attrs if key in ("src", "href", "xlink:href", "action") or key.startswith("on")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(text: str) -> Strict:
    parser = Strict()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


def test_the_json_has_what_is_promised(tmp_path):
    files = reports.write(tmp_path / "new" / "local", report(GREEN, RED))
    data = json.loads((tmp_path / "new" / "local" / "health.json").read_text())
    assert (data["cluster"], data["ok"], len(data["checks"])) == ("local", False, 2)
    assert {"name", "ok", "expected", "observed", "message", "seconds"} <= set(data["checks"][0])
    assert data["versions"]["collection"] == yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    assert sorted(files) == ["html", "json", "xml"]
    assert sorted(path.name for path in (tmp_path / "new" / "local").iterdir()) == ["health.html", "health.json", "health.xml"]


@pytest.mark.parametrize(("results", "ok"), [([GREEN], True), ([GREEN, SKIPPED], True), ([GREEN, RED], False), ([], False)])
def test_green_is_all_green_and_never_nothing(results, ok):
    assert report(*results)["ok"] is ok


def test_junit_counts_and_names():
    root = ElementTree.fromstring(reports.junit(report(GREEN, RED, SKIPPED)))
    assert {key: root.get(key) for key in ("tests", "failures", "skipped")} == {"tests": "3", "failures": "1", "skipped": "1"}
    assert [suite.get("name") for suite in root] == ["baseline", "redis", "app"]
    failure = root.find("testsuite/testcase/failure")
    assert failure is not None
    assert failure.get("message") == EVIL.replace("\x1b", "")
    assert "and more" in (failure.text or "")


@pytest.mark.parametrize("results", [[GREEN], [GREEN, RED, SKIPPED], []], ids=["green", "red", "nothing"])
def test_the_page_is_whole_and_loads_nothing(results):
    text = page(report(*results))
    parsed = read(text)
    assert parsed.foreign == []
    assert not re.search(r"url\(|@import|https?://", text)
    assert ("local is healthy" if results == [GREEN] else "local is not healthy") in parsed.text


def test_nothing_in_a_message_becomes_markup():
    parsed = read(page(report(RED)))
    assert parsed.foreign == []
    assert parsed.text.count('<script>alert("x")</script>') >= 3


def test_what_is_red_comes_first():
    text = read(page(report(GREEN, RED))).text
    assert text.index("What is wrong") < text.index("Where it runs") < text.index("Every check")
    assert text.index("redis: pods") < text.index("API server")


def test_the_drawing_shows_places_causes_and_slots():
    text = read(page(report(RED))).text
    for piece in ("zone-1", "zone-2", "NotReady", "CrashLoopBackOff", "on no node", "6384 slots", "unserved", "link down", "slots 0-9999"):
        assert piece in text


def test_a_page_without_a_cluster_is_still_a_page():
    empty = {**report_of("local", [RED], 1.0, False), "topology": {**topology([], []), "error": "refused"}}
    assert "Where it runs" not in read(page(empty)).text


@pytest.mark.parametrize(("count", "names"), [(40, True), (400, False)])
def test_a_large_platform_is_drawn_without_names(count, names):
    drawn = drawing.map_of(topology([node()], [pod(f"web-{n}") for n in range(count)]))
    assert ("<text" in drawn and ">web-7<" in drawn) is names
    assert drawn.count("<title>") == count


@pytest.mark.parametrize(
    ("shards", "gaps"),
    [
        ([[[0, 16383]]], []),
        ([], [(0, 16383)]),
        ([[[0, 5], [10, 16383]]], [(6, 9)]),
        ([[[100, 200]], [[300, 400]]], [(0, 99), (201, 299), (401, 16383)]),
    ],
)
def test_what_nobody_serves_is_found(shards, gaps):
    assert drawing.unserved([{"slots": ranges} for ranges in shards]) == gaps


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PlatformError, match=r"cannot be written to .*file/local.*Set reports_dir"):
        reports.write(tmp_path / "file" / "local", report(GREEN))


def test_messages():
    shared = [Result(Check(f"check {n}", "http"), Finding(False, "", "", "the server is down")) for n in range(5)]
    said = red_message(report(GREEN, RED, *shared), {"html": "reports/local/health.html"}).splitlines()
    assert said[0] == "6 checks of 7 red on local:"
    assert said[1].startswith("- redis: pods: <script>")
    assert said[2:] == ["- 5 checks: the server is down", "The whole report is in reports/local/health.html"]
    assert green_message(report(GREEN, SKIPPED)) == "local is healthy: 1 check green in 2.5 s; not run in check mode: transaction"


def test_markup_escapes_everything_that_is_not_markup():
    assert el("p", "a<b", Html("<br>"), None, [1, 2.50], class_="x y", data_n='"', hidden=True, open=False) == (
        '<p class="x y" data-n="&quot;" hidden>a&lt;b<br>12.5</p>'
    )


@pytest.mark.parametrize(("seconds", "text"), [(3, "3 s"), (119, "119 s"), (600, "10 min"), (7200, "2 h"), (86400 * 20, "20 days")])
def test_ages(seconds, text):
    assert age(seconds) == text


def test_plurals():
    assert [plural(n, noun) for n, noun in ((1, "pod"), (2, "pod"), (2, "pass"))] == ["1 pod", "2 pods", "2 passes"]
