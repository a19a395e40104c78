# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Jobs made from CronJobs: what they are told, when they are given up, and what is read of their ends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.job import OVERRIDES, _create, _finished, _parsed, _waiting
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

Json = dict[str, Any]
CRONJOB: Json = {
    "metadata": {"name": "backup", "uid": "1"},
    "spec": {
        "jobTemplate": {
            "spec": {
                "backoffLimit": 3,
                "template": {
                    "spec": {
                        "containers": [{"name": "job", "image": "backup:1", "env": [{"name": "A", "value": "b"}]}],
                        "volumes": [
                            {"name": "data", "persistentVolumeClaim": {"claimName": "data-0"}},
                            {"name": "scratch", "emptyDir": {}},
                        ],
                    }
                },
            }
        }
    },
}


class Client:
    """Takes what is sent."""

    def __init__(self) -> None:
        self.sent: list[Json] = []

    def request(self, _method: str, _path: str, body: Json) -> tuple[int, None, Json]:
        self.sent.append(body)
        return 201, None, body


def test_a_job_is_the_template_with_further_options_and_no_second_try() -> None:
    client = Client()
    name = _create(client, "data", json.loads(json.dumps(CRONJOB)), {"options": {"mode": "drill"}, "claims": {}})  # type: ignore[arg-type]
    (job,) = client.sent
    assert job["metadata"]["name"] == name and name.startswith("backup-") and job["spec"]["backoffLimit"] == 0
    assert job["metadata"]["ownerReferences"][0] | {"controller": True} == job["metadata"]["ownerReferences"][0]
    env = job["spec"]["template"]["spec"]["containers"][0]["env"]
    assert env == [{"name": "A", "value": "b"}, {"name": OVERRIDES, "value": '{"mode": "drill"}'}]


def test_a_job_on_another_claim_with_another_image() -> None:
    client = Client()
    _create(client, "data", json.loads(json.dumps(CRONJOB)), {"options": {}, "claims": {"data": "data-1"}, "image": "backup:2"})  # type: ignore[arg-type]
    pod = client.sent[0]["spec"]["template"]["spec"]
    assert (pod["containers"][0]["image"], pod["containers"][0]["env"]) == ("backup:2", [{"name": "A", "value": "b"}])
    assert pod["volumes"] == [{"name": "data", "persistentVolumeClaim": {"claimName": "data-1"}}, {"name": "scratch", "emptyDir": {}}]


@pytest.mark.parametrize("volume", ["scratch", "nowhere"])
def test_a_volume_that_has_no_claim_is_refused(volume: str) -> None:
    client = Client()
    with pytest.raises(PlatformError, match=f"claims names volume {volume}"):
        _create(client, "data", json.loads(json.dumps(CRONJOB)), {"options": {}, "claims": {volume: "data-1"}})  # type: ignore[arg-type]
    assert client.sent == []


@pytest.mark.parametrize(
    ("conditions", "end"),
    [
        ([], ""),
        ([{"type": "Suspended", "status": "True"}], ""),
        ([{"type": "Complete", "status": "True"}], "Complete"),
        ([{"type": "Failed", "status": "True"}], "Failed"),
    ],
)
def test_ends(conditions: list[Json], end: str) -> None:
    assert _finished({"status": {"conditions": conditions}}) == end


def test_what_a_pod_waits_for_and_what_it_said() -> None:
    waiting = {"name": "job", "state": {"waiting": {"reason": "ErrImageNeverPull", "message": "no image"}}}
    pod = {
        "status": {
            "containerStatuses": [waiting],
            "conditions": [{"type": "PodScheduled", "reason": "Unschedulable", "message": "no node"}],
        }
    }
    assert _waiting(pod) == ["job: ErrImageNeverPull no image", "no node"]
    assert _parsed('a word before\n{"drill": {"ok": true}}') == {"drill": {"ok": True}}
    assert _parsed("") == _parsed("no json") == _parsed("[1]") == {}
