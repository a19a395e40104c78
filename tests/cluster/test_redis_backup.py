# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backup, drill in a scratch pod, and restore over port-forward."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._health.backups import backups
from ansible_collections.progressive.platform.plugins.module_utils._health.cluster import Cluster
from ansible_collections.progressive.platform.plugins.module_utils._health.scene import Scene
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.plugins.module_utils._redis import backup, restore
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, Context, PlatformError, Result
from ansible_collections.progressive.platform.tests.cluster.test_redis_cluster import PASSWORD, Cache, image

SCRATCH = "scratch"


def scratch(client: Client, namespace: str) -> None:
    """A redis-server of its own, not in cluster mode, with the cluster's password."""
    container = {
        "name": "redis",
        "image": image(client),
        "imagePullPolicy": "IfNotPresent",
        "command": [
            "sh",
            "-c",
            'printf "requirepass %s\\nport 6379\\n" "$PASSWORD" | exec redis-server - --save "" --protected-mode no --dir /tmp',
        ],
        "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "cache-auth", "key": "password"}}}],
        "readinessProbe": {
            "exec": {"command": ["sh", "-c", 'REDISCLI_AUTH="$PASSWORD" redis-cli ping | grep -q PONG']},
            "periodSeconds": 1,
        },
    }
    spec = {"terminationGracePeriodSeconds": 1, "tolerations": [{"operator": "Exists"}], "containers": [container]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": SCRATCH, "namespace": namespace, "labels": {"app": SCRATCH}},
        "spec": spec,
    }
    client.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod)
    deadline = time.monotonic() + 120
    while True:
        status = client.get(f"/api/v1/namespaces/{namespace}/pods/{SCRATCH}").get("status", {})
        if any(item.get("ready") for item in status.get("containerStatuses", [])):
            return
        assert time.monotonic() < deadline, status
        time.sleep(0.2)


def test_backup_drill_and_restore(client: Client, kubeconfig: str, namespace: str, tmp_path: Path) -> None:
    cache = Cache(client, kubeconfig, namespace)
    cache.create()
    cache.converge()
    cache.fill()
    place = {"path": str(tmp_path), "s3": None, "spool": None}

    def call(module: Any, **params: Any) -> Result:
        defaults = {name: option.get("default") for name, option in module.ARGUMENTS.items()}
        return dict(module.run({**defaults, **cache.given, "storage": place, **params}, Context()))

    taken = call(backup)
    assert taken["backup"]["keys"] == 100 and {item["role"] for item in taken["plan"]} == {"replica"} and taken["warnings"] == []
    scratch(client, namespace)
    pod = {"namespace": namespace, "selector": f"app={SCRATCH}", "port": 6379}
    drilled = call(restore, mode="drill", scratch=pod)
    assert drilled["compared"]["equal"] == 100 and drilled["drill"]["ok"]
    options = {"namespace": namespace, "record": "cache", "maximum_age": 1.0, "drill_maximum_age": 1.0}
    finding = backups(options, Scene(Cluster(client, Clock()), Clock()), time.monotonic() + 30)
    assert finding.ok and finding.details["drill"] == drilled["drill"], finding
    with pytest.raises(PlatformError, match="The scratch server scratch is not empty"):
        call(restore, mode="drill", scratch=pod)
    finding = backups(options, Scene(Cluster(client, Clock()), Clock()), time.monotonic() + 30)
    assert not finding.ok and "the last drill" in finding.message and "is not empty" in finding.message, finding

    with pytest.raises(PlatformError, match="The cluster is not empty"):
        call(restore)
    cache.ask([("FLUSHALL",)])
    assert cache.kept() == 0
    assert call(restore)["restored"]["restored"] == 100 and cache.kept() == 100
    assert call(restore)["changed"] is False
    notes = [
        client.get(f"/api/v1/namespaces/{namespace}/configmaps/cache-{kind}")["data"]["note"] for kind in ("backup", "restore", "drill")
    ]
    assert PASSWORD not in json.dumps([taken, drilled, notes]) and PASSWORD not in next(tmp_path.rglob("manifest.json")).read_text()
