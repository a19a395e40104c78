# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run over several clusters: each gets its own, one that fails harms no other, and what came of it is told for each.

The tests go on from each other: the first installs. So they run in one process.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.tests.kwok import lab

NAMESPACE = "progressive-framework-prod"

Two = tuple[lab.Cluster, lab.Cluster]
Json = dict[str, Any]


def recap(printed: str) -> dict[str, dict[str, int]]:
    """Ansible's last words, by host."""
    lines = re.findall(r"^(\S+)\s+: (ok=.*)$", printed, re.MULTILINE)
    return {host: {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", counts)} for host, counts in lines}


def report(inventory: Path, host: str, name: str = "health") -> Json:
    return dict(json.loads((inventory.parent / "reports" / host / f"{name}.json").read_text()))


def versions(client: Client) -> dict[str, str]:
    """uid and resourceVersion of what was applied."""
    found = {}
    for api_version, kind in (("v1", "Service"), ("apps/v1", "Deployment"), ("networking.k8s.io/v1", "NetworkPolicy")):
        for item in client.list(client.resource(api_version, kind), NAMESPACE)["items"]:
            generation = item["metadata"].get("generation", item["metadata"]["resourceVersion"])
            found[f"{kind}/{item['metadata']['name']}"] = f"{item['metadata']['uid']} {generation}"
    return found


def test_two_that_cannot_be_had_do_not_hold_up_two_that_can(two: Two, inventory: Path) -> None:
    done = lab.playbook("site", inventory)
    printed = done.stdout + done.stderr
    seen = recap(printed)
    assert done.returncode == 2, printed[-4000:]
    assert {host: counts["failed"] for host, counts in seen.items()} == {"one": 0, "two": 0, "away": 1, "denied": 1}, printed[-4000:]
    assert seen["away"]["changed"] == seen["denied"]["changed"] == 0
    words = " ".join(printed.split())
    assert "nothing listens there" in words and "does not accept the credentials (401 Unauthorized)" in words
    for cluster in two:
        health = report(inventory, cluster.name)
        assert health["ok"] and health["cluster"] == cluster.name
        with cluster.client() as client:
            assert {"Deployment/mca-deployment", "Service/wpa-service"} <= set(versions(client))
    assert not (inventory.parent / "reports/away").exists(), "a cluster that was not seen has no report"


def test_a_second_run_changes_nothing_in_either(two: Two, inventory: Path) -> None:
    def seen() -> list[dict[str, str]]:
        found = []
        for cluster in two:
            with cluster.client() as client:
                found.append(versions(client))
        return found

    before = seen()
    done = lab.playbook("site", inventory, "--limit", "one,two")
    counts = recap(done.stdout)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert counts["one"]["changed"] == counts["two"]["changed"] == 0, done.stdout[-4000:]
    assert seen() == before


def test_drift_is_told_of_the_cluster_that_has_it(two: Two, inventory: Path) -> None:
    with two[1].client() as client:
        path = client.resource("v1", "Service").path(NAMESPACE, "wpa-service")
        client.request("DELETE", path)
    done = lab.playbook("diff", inventory, "--limit", "one,two")
    assert done.returncode == 2, done.stdout[-4000:]
    assert report(inventory, "one", "drift")["ok"]
    drift = report(inventory, "two", "drift")
    assert [(item["drift"], item["kind"], item["name"]) for item in drift["objects"]] == [("missing", "Service", "wpa-service")]


def test_hosts_of_one_name_are_refused_before_the_first_change(two: Two, inventory: Path) -> None:
    done = lab.playbook("preflight", inventory, "--limit", "one,two", "-e", "platform_name=twins")
    words = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 2 and "platform_name: twins, which two is called too" in words, words[-3000:]


def test_a_server_that_dies_is_named_and_the_other_is_looked_at(two: Two, inventory: Path) -> None:
    two[1].stop("kube-apiserver")
    done = lab.playbook("verify", inventory, "--limit", "one,two")
    assert done.returncode == 2, done.stdout[-4000:]
    assert report(inventory, "one")["ok"]
    health = report(inventory, "two")
    assert not health["ok"] and all(not check["ok"] for check in health["checks"])
    assert {check["message"].partition(" (")[0] for check in health["checks"]} == {f"The API server https://127.0.0.1:{two[1].port}"}
