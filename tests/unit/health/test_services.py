# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._health.cluster import Answer, selects
from ansible_collections.progressive.platform.plugins.module_utils._health.kinds import KINDS, parse
from ansible_collections.progressive.platform.plugins.module_utils._health.services import answer_problem, dig, transaction_finding
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

STEPS = '{"component": "app", "backend": "redis", "ok": true, "seconds": 0.01, "error": ""}'
BROKEN = '{"component": "mca", "backend": "npa/grpc", "ok": false, "seconds": 2, "error": "gRPC health of npa: UNAVAILABLE"}'


def answer(status: int, body: str) -> Answer:
    return Answer(status, {}, body.encode())


@pytest.mark.parametrize(
    ("given", "wanted", "problems"),
    [
        pytest.param(answer(200, f'{{"ok": true, "id": "t1", "steps": [{STEPS}]}}'), ["app/redis"], [], id="well"),
        pytest.param(
            answer(503, f'{{"ok": false, "id": "t1", "steps": [{STEPS}, {BROKEN}]}}'),
            ["app", "npa/grpc", "mca/npa/grpc"],
            ["step mca/npa/grpc failed: gRPC health of npa: UNAVAILABLE", "the transaction answered 503 with ok=False"],
            id="the failing step is named",
        ),
        pytest.param(
            answer(200, f'{{"ok": true, "steps": [{STEPS}]}}'), ["mca/redis"], ["step mca/redis was not taken"], id="a step left out"
        ),
        pytest.param(answer(200, '{"ok": true, "steps": []}'), [], ["no step was taken"], id="nothing was done"),
        pytest.param(answer(200, '{"ok": true}'), [], ['the answer 200 tells no steps: {"ok": true}'], id="tells nothing"),
        pytest.param(answer(502, "Bad\n Gateway"), [], ["the answer 502 tells no steps: Bad Gateway"], id="no JSON"),
        pytest.param(
            answer(200, f'{{"ok": false, "steps": [{STEPS}]}}'), [], ["the transaction answered 200 with ok=False"], id="says it is not ok"
        ),
    ],
)
def test_transactions(given, wanted, problems):
    found = transaction_finding("every step ok", given, wanted)
    assert found.details.get("problems", []) == problems
    assert found.ok is not bool(problems)


@pytest.mark.parametrize(
    ("given", "statuses", "wanted", "problem"),
    [
        (answer(200, "ok"), [200], {}, ""),
        (answer(204, ""), [200, 204], {}, ""),
        (answer(503, "starting"), [200], {}, "answered 503: starting"),
        (answer(200, '{"status": "ok", "checks": [{"name": "redis"}]}'), [200], {"status": "ok", "checks.0.name": "redis"}, ""),
        (answer(200, '{"status": "down"}'), [200], {"status": "ok"}, "status is 'down', 'ok' wanted"),
        (answer(200, "{}"), [200], {"status": None}, "status is missing, None wanted"),
        (answer(200, "no json"), [200], {"status": "ok"}, "status is missing, 'ok' wanted"),
    ],
)
def test_answers(given, statuses, wanted, problem):
    assert answer_problem(given, statuses, wanted) == problem


def test_paths_lead_nowhere_without_an_error():
    assert dig({"a": [1, {"b": 2}]}, "a.1.b") == 2
    assert {str(dig({"a": [1]}, path)) for path in ("a.1", "a.x", "b", "a.0.c")} == {str(dig(None, "a"))}


@pytest.mark.parametrize(
    ("selector", "taken"),
    [
        (None, False),
        ({}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "tier": "x"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "db"]}]}, True),
        ({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Like", "values": ["web"]}]}, False),
    ],
)
def test_selectors(selector, taken):
    assert selects(selector, {"app": "web"}) is taken


def test_options_are_completed():
    check = parse([{"name": "web", "kind": "http", "namespace": "shop", "service": "web", "wait": "5"}])[0]
    assert (check.name, check.kind, check.component, check.wait) == ("web", "http", "", 5.0)
    assert check.options == {
        "namespace": "shop", "service": "web", "port": None, "minimum": 1, "path": "/health", "method": "GET", "status": [200], "json": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([{"kind": "api"}], "check 1: missing required arguments: name"),
        ([{"name": "a", "kind": "apu"}], "check a: kind is 'apu'; it must be one of api, autoscalers, backups, budgets"),
        ([{"name": "a"}], "check a: kind is None"),
        (
            [{"name": "a", "kind": "api", "minimun": "1"}],
            "check a: minimun. Supported parameters include: component, kind, minimum, name, wait.",
        ),
        ([{"name": "a", "kind": "nodes", "minimum": "many"}], "check a: argument 'minimum' is of type str"),
        ([{"name": "a", "kind": "volumes"}], "check a: missing required arguments: namespace"),
        (
            [{"name": "a", "kind": "workloads", "namespace": "n", "workloads": ["web"]}],
            "check a: workloads has 'web'; it must be Kind/name with a kind of Deployment, StatefulSet, DaemonSet, Job",
        ),
        ([{"name": "a", "kind": "api"}, {"name": "a", "kind": "nodes"}], "2 checks have the name a"),
        (["api"], "check 1 is str, not a mapping"),
        (
            [{"name": "a", "kind": "redis", "namespace": "n", "selector": "x", "password_secret": {"key": "p"}}],
            "check a: missing required arguments: name found in password_secret",
        ),
    ],
)
def test_checks_that_make_no_sense_are_refused(entries, said):
    with pytest.raises(PlatformError, match="not valid, nothing was looked at") as refused:
        parse(entries)
    assert said in refused.value.message


def test_everything_wrong_is_said_at_once():
    with pytest.raises(PlatformError) as refused:
        parse([{"name": "a", "kind": "x"}, {"kind": "api"}, {"name": "c", "kind": "api", "y": 1}])
    assert len(refused.value.details["problems"]) == 3


def test_no_kind_uses_the_name_of_a_common_option():
    assert not [(kind, name) for kind, entry in KINDS.items() for name in entry.options if name in ("name", "kind", "component", "wait")]
