# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventories on a real API server: it takes every manifest in a dry run, and preflight sees what a cluster lacks."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.plugins.module_utils._preflight import preflight
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError

ROOT = Path(__file__).resolve().parents[2]
NAMESPACES = {"development": "dev", "staging": "staging", "preproduction": "preprod", "production": "prod"}
PODS = {
    "variable": "redis_cluster_resources",
    "name": "redis-cluster",
    "least": 6,
    "requests": {"cpu": "10m", "memory": "16Mi"},
    "pools": ["app", "database", "cache"],
}


def playbook(name: str, inventory: str, *options: str) -> tuple[int, str]:
    command = [str(ROOT / ".venv/bin/ansible-playbook"), f"playbooks/{name}.yml", "-i", f"inventories/{inventory}", *options]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("inventory", NAMESPACES)
def test_the_server_takes_every_manifest_in_a_dry_run(inventory: str, kubeconfig: str, client: Client) -> None:
    """Neither its nodes nor its StorageClass are here, so preflight looks at the variables only; the namespace does not exist."""
    extra = ("platform_preflight_server=false", f"platform_kubeconfig={kubeconfig}", "platform_context=progressive-local")
    code, text = playbook("site", inventory, "--check", *(word for option in extra for word in ("-e", option)))
    assert code == 0, text[-4000:]
    made = 7 if inventory == "development" else 9
    assert f"changed={made} " in text, (
        "baseline, passwords, database, cache, application and agents would be made, and certificates where TLS is on"
    )
    assert client.find(f"/api/v1/namespaces/progressive-framework-{NAMESPACES[inventory]}") is None, "a dry run made something"


def test_render_writes_every_component_and_asks_no_server(tmp_path: Path) -> None:
    nowhere = {"apiVersion": "v1", "kind": "Config", "clusters": [], "contexts": [], "users": []}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(nowhere))
    options = ("-e", f"platform_render_dir={tmp_path}/out", "-e", f"platform_kubeconfig={tmp_path}/kubeconfig")
    code, text = playbook("render", "production", *options)
    assert code == 0, text[-4000:]
    written = {path.name: list(yaml.safe_load_all(path.read_text())) for path in (tmp_path / "out").iterdir()}
    assert set(written) == {"baseline.yaml", "postgresql.yaml", "redis_cluster.yaml", "app.yaml", "agents.yaml"}
    assert {"StatefulSet", "ConfigMap", "Service"} <= {document["kind"] for document in written["redis_cluster.yaml"]}
    assert all(document["metadata"].get("namespace") for document in written["app.yaml"])


def test_a_wrong_inventory_changes_nothing(kubeconfig: str, client: Client) -> None:
    options = ("-e", "redis_cluster_masters=2", "-e", f"platform_kubeconfig={kubeconfig}", "-e", "platform_context=progressive-local")
    code, text = playbook("site", "staging", *options, "-e", "platform_preflight_server=false")
    assert code != 0
    assert "redis_cluster_masters: 2; allowed: 3 to 1000" in text
    assert client.find("/api/v1/namespaces/progressive-framework-staging") is None


def test_a_tag_that_is_no_component_is_an_error() -> None:
    code, text = playbook("preflight", "production", "--tags", "redis", "-e", "platform_preflight_server=false")
    assert code != 0
    assert "leave no component; the components are baseline, postgresql, redis_cluster, app, agents" in text


def look(kubeconfig: str, **needs: Any) -> list[dict[str, Any]]:
    """Preflight's findings on the cluster, for needs of a test's own."""
    pools = {
        "app": {"labels": {"node-type": "app"}, "taints": []},
        "database": {
            "labels": {"node-type": "database"},
            "taints": [{"key": "database-workload", "value": "true", "effect": "NoSchedule"}],
        },
        "cache": {"labels": {"node-type": "cache"}, "taints": [{"key": "cache-workload", "value": "true", "effect": "NoSchedule"}]},
        "gpu": {"labels": {"node-type": "gpu"}, "taints": []},
    }
    given = {"namespace": "default", "pools": pools, **needs}
    params = {"roles": ["redis_cluster"], "server": True, "findings": [], "needs": given, "stored": True, "kubeconfig": kubeconfig}
    try:
        return list(preflight.run(params, Context())["findings"])
    except PlatformError as error:
        return list(error.details["findings"])


def test_a_cluster_that_has_everything(kubeconfig: str) -> None:
    claim = {"variable": "redis_cluster_storage", "workload": "none-yet", "claim": "data", "size": "1Gi", "class": "local-path", "count": 6}
    sends = ["statefulsets.apps", "namespaces", "secrets"]
    assert look(kubeconfig, pods=[PODS], claims=[claim], sends=sends, scales=True) == []


@pytest.mark.parametrize(
    ("needs", "variable", "part"),
    [
        ({"pods": [{**PODS, "pools": ["gpu"]}]}, "platform_pools.gpu", "node-type=gpu"),
        ({"pods": [{**PODS, "requests": {"memory": "4Ti"}}]}, "redis_cluster_resources.requests.memory", "what the largest node"),
        ({"pods": [{**PODS, "least": 100000}]}, "platform_pools.app", "ask for at least"),
        ({"nodes": ["node-99"]}, "platform_pools", "node-99"),
        (
            {"claims": [{"variable": "v", "workload": "none", "claim": "d", "size": "1Gi", "class": "fast-ssd", "count": 1}]},
            "v.class",
            "local-path",
        ),
        ({"zones": [{"variable": "redis_cluster_masters", "pools": ["cache"], "members": 3}]}, "redis_cluster_masters", "three zones"),
    ],
)
def test_a_cluster_that_lacks_something(needs: dict[str, Any], variable: str, part: str, kubeconfig: str) -> None:
    found = [finding for finding in look(kubeconfig, **needs) if finding["variable"] == variable]
    assert found
    assert any(part in str(finding) for finding in found)


def changed_kubeconfig(kubeconfig: str, path: Path, **changes: Any) -> str:
    """The cluster's kubeconfig with another server, user or context."""
    config = yaml.safe_load(Path(kubeconfig).read_text())
    if "server" in changes:
        config["clusters"][0]["cluster"]["server"] = changes["server"]
    if "user" in changes:
        config["users"][0]["user"] = changes["user"]
    path.write_text(yaml.safe_dump(config))
    return str(path)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"server": "https://127.0.0.1:1"}, "refuses connections"),
        ({"user": {"token": "not-a-token"}}, "does not accept the credentials"),
    ],
)
def test_a_cluster_that_cannot_be_asked(changes: dict[str, Any], part: str, kubeconfig: str, tmp_path: Path) -> None:
    """Named with its kubeconfig and context, within ten seconds."""
    file = changed_kubeconfig(kubeconfig, tmp_path / "kubeconfig", **changes)
    started = time.monotonic()
    (found,) = look(file)
    assert time.monotonic() - started < 10
    assert found["variable"] == "platform_kubeconfig"
    assert part in found["seen"] and str(file) in found["seen"] and "progressive-local" in found["seen"]
    assert "not-a-token" not in str(found)


def test_a_kubeconfig_that_is_not_there(tmp_path: Path) -> None:
    (found,) = look(str(tmp_path / "nowhere"))
    assert "nowhere" in found["seen"] and "does not exist" in found["seen"]


def test_credentials_that_may_not_do_it(kubeconfig: str, client: Client, namespace: str, tmp_path: Path) -> None:
    """A service account without any role: every right is named, and that the nodes could not be seen."""
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    client.request("POST", path, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody"}})
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    token = client.request("POST", f"{path}/nobody/token", body)[2]["status"]["token"]
    file = changed_kubeconfig(kubeconfig, tmp_path / "kubeconfig", user={"token": token})
    found = look(file, namespace=namespace, sends=["secrets", "statefulsets.apps"], pods=[PODS])
    errors = [finding for finding in found if not finding["warning"]]
    assert [finding["variable"] for finding in errors] == ["platform_context"]
    assert "create secrets" in errors[0]["seen"] and "patch statefulsets.apps" in errors[0]["seen"]
    assert any("may not list the cluster's nodes" in finding["seen"] for finding in found)
