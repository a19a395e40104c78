# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError
from ansible_collections.progressive.platform.plugins.module_utils._kube.pods import Pods, natural


class Server:
    """What the API server would answer; a path that is not allowed is forbidden."""

    def __init__(self, pods: list[dict[str, Any]], forbidden: tuple[str, ...] = (), eviction: int = 201) -> None:
        self.pods, self.forbidden, self.eviction = pods, forbidden, eviction
        self.sent: list[dict[str, Any]] = []

    def get(self, path: str, **_query: str) -> dict[str, Any]:
        if path.endswith(self.forbidden):
            raise ApiError("forbidden", 403)
        if path.endswith("/nodes"):
            return {"items": [{"metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "z"}}}]}
        if path.endswith("/statefulsets"):
            metadata = {"name": "postgres", "generation": 2}
            return {"items": [{"metadata": metadata, "status": {"observedGeneration": 2, "updateRevision": "new"}}]}
        return {"items": self.pods}

    def request(self, _method: str, _path: str, body: dict[str, Any], timeout: float) -> None:
        self.sent.append(body)
        if self.eviction >= 400:
            raise ApiError("no", self.eviction, body={"message": "budget"})


def pod(name: str, revision: str = "new", phase: str = "Running", **metadata: Any) -> dict[str, Any]:
    owner = {"kind": "StatefulSet", "name": "postgres"}
    status: dict[str, Any] = {"phase": phase, "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
    if phase == "Pending":
        waiting = {"name": "postgres", "state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}
        status = {"phase": phase, "containerStatuses": [waiting]}
    labels = {"controller-revision-hash": revision}
    return {
        "metadata": {"name": name, "uid": f"u-{name}", "labels": labels, "ownerReferences": [owner], **metadata},
        "spec": {"nodeName": "n"},
        "status": status,
    }


def test_pods_in_the_order_of_their_ordinals() -> None:
    ending = pod("p-1", deletionTimestamp="now")
    server = Server([pod("p-10"), pod("p-9", revision="old"), ending, pod("p-2", phase="Pending")])
    found = Pods(server, "n", "app=p").read()  # type: ignore[arg-type]
    assert [(one.name, one.update, one.ready, one.zone) for one in found] == [
        ("p-2", "", False, "z"),
        ("p-9", "outdated", True, "z"),
        ("p-10", "", True, "z"),
    ]
    assert found[0].problem == "pod is Pending (postgres: ErrImagePull no such image)"


def test_without_further_rights_only_zones_and_updates_are_unknown() -> None:
    (found,) = Pods(Server([pod("p-0", revision="old")], ("/nodes", "/statefulsets")), "n", "app=p").read()  # type: ignore[arg-type]
    assert (found.zone, found.update, found.problem) == ("", "", "")


@pytest.mark.parametrize(("status", "words"), [(201, ""), (429, "disruption budget"), (404, ""), (409, "")])
def test_an_eviction_names_the_very_pod(status: int, words: str) -> None:
    server = Server([], eviction=status)
    said = Pods(server, "n", "app=p").evict("p-0", "u-0")  # type: ignore[arg-type]
    assert (words in said) if words else said == ""
    assert server.sent[0]["deleteOptions"] == {"preconditions": {"uid": "u-0"}}


def test_natural_order() -> None:
    assert sorted(["p-10", "p-9", "p-1"], key=natural) == ["p-1", "p-9", "p-10"]
