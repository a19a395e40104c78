# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A whole delivery against a double of the API server: killed after every write, gone on with, given back."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.progressive.platform.plugins.module_utils._canary import delivery, routes, statistics
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError
from ansible_collections.progressive.platform.plugins.module_utils._kube.discovery import Resource
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, Context, PlatformError

KINDS = {"HTTPRoute": "httproutes", "Deployment": "deployments", "Pod": "pods", "Service": "services"}
OWNER = "progressive.platform.gateway"


class Time(Clock):
    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


class Killed(Exception):
    pass


class Server:
    """Objects by path; server-side apply as far as one atomic list and its owner go. Dies after ``lives`` writes."""

    def __init__(self) -> None:
        self.clock = Time()
        self.objects: dict[str, dict[str, Any]] = {}
        self.lives = 10**9
        self.weights: list[int] = []
        self.share = 0.0
        self.count = 0.0, 0.0
        self.counted_at = 0.0
        self.errors = 0.0
        for name in ("npa", "npa-canary"):
            service = "npa-service" + name.removeprefix("npa")
            template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "a", "image": f"agent:{len(name)}"}]}}
            status = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "readyReplicas": 1, "observedGeneration": 1}
            self.put("services", service, {"spec": {"selector": {"app": name}}})
            self.put("deployments", name, {"metadata": {"generation": 1}, "spec": {"replicas": 1, "template": template}, "status": status})
        backends = [{"name": "npa-service", "weight": 100}, {"name": "npa-service-canary", "weight": 0}]
        fields = [{"manager": OWNER, "operation": "Apply", "fieldsV1": {"f:spec": {"f:rules": {}}}}]
        self.put(
            "httproutes",
            "edge-npa",
            {"metadata": {"managedFields": fields, "resourceVersion": "1"}, "spec": {"rules": [{"backendRefs": backends}]}},
        )

    def put(self, plural: str, name: str, item: dict[str, Any]) -> None:
        self.objects[f"{plural}/{name}"] = {**item, "metadata": {"name": name, "namespace": "shop", **item.get("metadata", {})}}

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_exception: object) -> None:
        pass

    def resource(self, api_version: str, kind: str) -> Resource:
        return Resource(api_version, kind, KINDS[kind], namespaced=True)

    @staticmethod
    def key(path: str) -> str:
        return "/".join(path.split("?", maxsplit=1)[0].rsplit("/", 2)[-2:])

    def find(self, path: str) -> dict[str, Any] | None:
        return copy.deepcopy(self.objects.get(self.key(path)))

    def list(self, resource: Resource, namespace: str | None = None, **_query: Any) -> dict[str, Any]:
        return {"items": [copy.deepcopy(item) for key, item in self.objects.items() if key.startswith(resource.plural + "/")]}

    def request(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any, dict[str, Any]]:
        if method in ("PUT", "POST", "PATCH", "DELETE") and "leases" not in path:
            self.lives -= 1
            if self.lives < 0:
                raise Killed
        key = self.key(path) if method != "POST" else f"{self.key(path).rpartition('/')[2]}/{body['metadata']['name']}"
        there = self.objects.get(key)
        if method == "PUT" and there is None:
            raise ApiError("no", 404)
        if method == "DELETE":
            del self.objects[key]
        elif method == "PATCH" and "managedFields" in body["metadata"]:
            assert there is not None
            there["metadata"]["managedFields"] = body["metadata"]["managedFields"]
        elif method == "PATCH":
            assert there is not None and more["query"] == {"fieldManager": routes.MANAGER, "force": True}
            there["spec"].update(copy.deepcopy(body["spec"]))
            there["metadata"]["managedFields"] = [
                {"manager": OWNER, "operation": "Apply", "fieldsV1": {"f:spec": {}}},
                {"manager": routes.MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {"f:rules": {}}}},
            ]
            self.tick()
            self.weights.append(self.weight)
        else:
            written = int((there or {"metadata": {}})["metadata"].get("resourceVersion", 0)) + 1
            self.objects[key] = copy.deepcopy({**body, "metadata": {**body["metadata"], "resourceVersion": str(written)}})
        return 200, {}, copy.deepcopy(self.objects.get(key, {}))

    @property
    def weight(self) -> int:
        return routes.weight({**self.objects["httproutes/edge-npa"], "kind": "HTTPRoute"}, "npa-service", "npa-service-canary")

    def tick(self) -> None:
        """100 requests a second, by the weight that held since the last time."""
        canary, stable = self.count
        new = 100 * (self.clock.now() - self.counted_at)
        self.count = canary + new * self.share, stable + new * (1 - self.share)
        self.counted_at, self.share = self.clock.now(), self.weight / 100

    def look(self) -> statistics.Look:
        self.tick()
        canary, stable = self.count

        def counters(count: float, bad: float) -> statistics.Counters:
            return statistics.Counters({"2": count * (1 - bad), "5": count * bad}, {10.0: count, float("inf"): count})

        return {"edge-1": {"npa-service-canary": counters(canary, self.errors), "npa-service": counters(stable, 0)}}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(delivery, "connect", lambda _params, _clock: made)
    monkeypatch.setattr(delivery.Delivery, "counted", lambda _self: (made.look(), ""))
    return made


def run(server: Server, check: bool = False, **given: Any) -> dict[str, Any]:
    wanted = {
        "namespace": "shop",
        "route": "edge-npa",
        "stable": "npa-service",
        "canary": "npa-service-canary",
        "edge": {"app": "edge"},
        **given,
    }
    checked = ArgumentSpecValidator(delivery.ARGUMENTS).validate(wanted)
    assert not checked.error_messages, checked.error_messages
    return delivery.run(checked.validated_parameters, Context(check=check, clock=server.clock))


def test_a_good_canary_and_its_evidence(server: Server, tmp_path: Path) -> None:
    result = run(server, reports_dir=str(tmp_path))
    assert (result["phase"], result["weight"], result["changed"]) == ("Promoted", 100, True)
    assert server.weights == [10, 25, 50, 100]
    record = json.loads(Path(result["evidence"]).read_text())
    assert len(record["checks"]) == 8 and record["state"]["phase"] == "Promoted" and "passed every step" in Path(result["page"]).read_text()
    again = run(server, reports_dir=str(tmp_path))
    assert (again["phase"], again["changed"]) == ("Promoted", False)


def test_a_bad_canary_fails_the_task_with_weight_0(server: Server, tmp_path: Path) -> None:
    server.errors = 0.3
    with pytest.raises(PlatformError, match=r"was rolled back and gets no request: 70\.00 %") as failure:
        run(server, reports_dir=str(tmp_path))
    assert server.weights == [10, 0] and failure.value.details["phase"] == "RolledBack"
    with pytest.raises(PlatformError, match="again: true"):
        run(server)
    assert server.weights == [10, 0]
    server.errors = 0.0
    with pytest.raises(
        PlatformError, match="was rolled back"
    ):  # what it had got wrong before does not count, but what Envoy counted stays counted
        server.errors = 0.3
        run(server, again=True)


@pytest.mark.parametrize("bad", [0.0, 0.3], ids=["good", "bad"])
def test_killed_after_every_write_it_ends_the_same(server: Server, bad: float) -> None:
    server.errors = bad
    kills, result = 0, None
    while result is None:
        assert kills < 60
        server.lives = 1 + kills % 3
        try:
            result = run(server)["phase"]
        except Killed:
            kills += 1
        except PlatformError as error:
            result = error.details["phase"]
    assert kills > 3 and result == ("RolledBack" if bad else "Promoted")
    assert server.weight == (0 if bad else 100)
    assert [one for one, two in zip(server.weights, [-1, *server.weights], strict=False) if one != two] == (
        [10, 0] if bad else [10, 25, 50, 100]
    )


def test_check_mode_only_says_what_comes_first(server: Server) -> None:
    before = copy.deepcopy(server.objects)
    result = run(server, check=True)
    assert result["changed"] and "a version that was not tried yet" in result["next"] and server.objects == before


def test_given_back_the_weights_are_the_gateways_again(server: Server) -> None:
    run(server)
    assert run(server, state="absent")["changed"] and not run(server, state="absent")["changed"]
    (entry,) = server.objects["httproutes/edge-npa"]["metadata"]["managedFields"]
    assert entry["manager"] == OWNER and "f:rules" in entry["fieldsV1"]["f:spec"]
    assert "configmaps/canary-edge-npa-state" not in server.objects


def test_a_run_that_takes_too_long_takes_nothing_back(server: Server) -> None:
    with pytest.raises(PlatformError, match="is in phase Analysing at 10 %"):
        run(server, wait_timeout=20)
    assert server.weight == 10
    assert run(server)["phase"] == "Promoted" and server.weights == [10, 25, 50, 100]
