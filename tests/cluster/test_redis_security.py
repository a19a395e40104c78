# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role redis_cluster with TLS and users on the cluster: formed through site.yml, unchanged by a second run; passwords and certificate change under a client."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.plugins.module_utils._kube.forward import forward
from ansible_collections.progressive.platform.plugins.module_utils._redis.access import served

ROOT = Path(__file__).resolve().parents[2]
SLOW = 900  # seconds for a playbook on a machine that does other things too
TAUGHT = 300  # seconds in which kubelets bring a Secret into pods, and a probe finds it

# The services' own client and credentials, with time enough for a machine that is busy: refusals are counted, not slowness.
CLIENT = """
import asyncio, os, signal
from progressive.backends import RedisBackend
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode

class Patient(RedisBackend):
    def _connect(self):
        return RedisCluster(
            startup_nodes=[ClusterNode(*seed) for seed in self.seeds], credential_provider=self.credentials, decode_responses=True,
            ssl=True, ssl_ca_certs=self.authority, socket_timeout=60, socket_connect_timeout=60,
        )

async def main():
    done = failed = 0
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    kept = Patient.from_environment(os.environ)
    while not stopping.is_set():
        fresh = Patient.from_environment(os.environ)
        for backend in (kept, fresh):
            backend.timeout = 60
            try:
                await backend.touch(f"rotation-{done}", str(done))
                done += 1
            except Exception as error:
                failed += 1
                print("FAILED", type(error).__name__, error, flush=True)
        await fresh.close()
        print("done", done, failed, flush=True)
        await asyncio.sleep(0.2)

asyncio.run(main())
"""


@dataclass
class Platform:
    """One namespace with role redis_cluster, brought there by the playbooks as a user would."""

    namespace: str
    kubectl: Callable[..., str]
    folder: Path

    @property
    def variables(self) -> dict[str, Any]:
        return {
            "platform_namespace": self.namespace,
            "platform_components": ["baseline", "redis_cluster"],
            "platform_redis_tls": True,
            "platform_reports_dir": str(self.folder / "reports"),
            "redis_cluster_resources": {
                "requests": {"cpu": "5m", "memory": "24Mi", "ephemeral-storage": "16Mi"},
                "limits": {"cpu": "500m", "memory": "96Mi", "ephemeral-storage": "64Mi"},
            },
            "redis_cluster_storage": {"size": "128Mi", "class": "{{ platform_storage_class }}"},
            "redis_cluster_users": {"reports": "~orders:* -@all +@read"},
        }

    def play(self, name: str, **changes: Any) -> tuple[int, str]:
        """(changed, everything printed with -vvv) of a playbook that must succeed."""
        given = self.folder / "variables.yml"
        given.write_text(yaml.safe_dump({**self.variables, **changes}))
        command = [str(ROOT / ".venv/bin/ansible-playbook"), "-vvv", "-i", "inventories/local", f"playbooks/{name}.yml", "-e", f"@{given}"]
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SLOW, check=False)
        assert done.returncode == 0, done.stdout[-6000:]
        found = re.search(r"changed=(\d+)", done.stdout)
        assert found
        return int(found[1]), done.stdout + done.stderr

    def secret(self, name: str = "redis-cluster-auth") -> dict[str, str]:
        data = json.loads(self.kubectl("-n", self.namespace, "get", "secret", name, "-o", "json"))["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def as_user(self, user: str, password: str, *command: str) -> str:
        """What a server answers in its own pod; the password goes by the environment."""
        tls = "--tls --cacert /etc/progressive/tls/ca.crt"
        script = f"read -r REDISCLI_AUTH; export REDISCLI_AUTH; redis-cli {tls} --user {user} --no-auth-warning {' '.join(command)} 2>&1"
        return self.kubectl("-n", self.namespace, "exec", "-i", "redis-cluster-0", "--", "sh", "-c", script, stdin=password + "\n")

    def starts(self) -> dict[str, tuple[str, int]]:
        """uid and restarts of every Redis pod."""
        pods = json.loads(self.kubectl("-n", self.namespace, "get", "pods", "-l", "app=redis-cluster", "-o", "json"))["items"]
        return {pod["metadata"]["name"]: (pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]) for pod in pods}


@pytest.fixture(scope="module")
def platform(kubeconfig: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    def kubectl(*arguments: str, stdin: str | None = None) -> str:
        cached = Path(kubeconfig).parents[1] / "bin/kubectl"
        command = [str(cached) if cached.exists() else "kubectl", "--kubeconfig", kubeconfig, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    made = Platform(f"test-{secrets.token_hex(4)}", kubectl, tmp_path_factory.mktemp("security"))
    try:
        made.play("site")
        yield made
    finally:
        made.play("teardown", teardown_confirm="local", redis_cluster_delete_volumes=True)


def hidden(platform: Platform, printed: str) -> None:
    values = [*platform.secret().values(), platform.secret("redis-cluster-tls")["tls.key"]]
    assert not [value for value in values if value in printed or base64.b64encode(value.encode()).decode() in printed]


def test_formed_over_tls_with_users_and_left_alone_by_a_second_run(platform: Platform) -> None:
    changed, printed = platform.play("site")
    assert changed == 0
    hidden(platform, printed)
    passwords = platform.secret()
    assert platform.as_user("application", passwords["application-password"], "cluster", "info").startswith("cluster_state:ok")
    assert "NOPERM" in platform.as_user("application", passwords["application-password"], "config", "get", "masterauth")
    assert "WRONGPASS" in platform.as_user("application", passwords["password"], "ping")
    assert "NOAUTH" in platform.as_user("default", "", "ping") or "WRONGPASS" in platform.as_user("default", "", "ping")
    assert "NOPERM" in platform.as_user("reports", passwords["reports-password"], "get", "other")
    report = json.loads((platform.folder / "reports" / "health.json").read_text())
    assert report["ok"] if "ok" in report else report["verdict"] == "ok"


def client_pod(platform: Platform, image: str) -> list[dict[str, Any]]:
    secure = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    environment = {
        "REDIS_CLUSTER_NODES": f"redis-cluster.{platform.namespace}.svc:6379",
        "REDIS_USERNAME": "application",
        "REDIS_PASSWORD_FILE": "/run/secrets/redis/password",
        "REDIS_CA_FILE": "/run/secrets/redis-tls/ca.crt",
    }
    container = {
        "name": "client",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-u", "/client/client.py"],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "resources": {
            "requests": {"cpu": "5m", "memory": "32Mi", "ephemeral-storage": "1Mi"},
            "limits": {"cpu": "2", "memory": "384Mi", "ephemeral-storage": "8Mi"},
        },
        "securityContext": secure,
        "volumeMounts": [
            {"name": "script", "mountPath": "/client"},
            {"name": "redis", "mountPath": "/run/secrets/redis"},
            {"name": "redis-tls", "mountPath": "/run/secrets/redis-tls"},
        ],
    }
    item = {"key": "application-password", "path": "password"}
    pod = {
        "restartPolicy": "Never",
        "tolerations": [{"operator": "Exists"}],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1001, "fsGroup": 1001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [
            {"name": "script", "configMap": {"name": "client"}},
            {"name": "redis", "secret": {"secretName": "redis-cluster-auth", "items": [item]}},
            {"name": "redis-tls", "secret": {"secretName": "redis-cluster-tls", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        ],
    }
    labels = {"progressive.platform/redis-client": "true"}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "client"}, "data": {"client.py": CLIENT}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "client", "labels": labels}, "spec": pod},
    ]


@pytest.mark.slow
def test_passwords_and_certificate_change_under_a_client_that_sees_no_failure(platform: Platform, client: Client) -> None:
    names = [name for node in client.get("/api/v1/nodes")["items"] for one in node["status"]["images"] for name in one.get("names") or []]
    command = [str(ROOT / ".venv/bin/ansible"), "-i", "inventories/local", "all", "-m", "debug", "-a", "var=platform_images.app"]
    asked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True).stdout
    (image,) = re.findall(r"localhost/progressive/app:[\w.-]+", asked)
    assert image in names, "run `make up`: the app's image is not on the nodes"
    for document in client_pod(platform, image):
        platform.kubectl("-n", platform.namespace, "apply", "-f", "-", stdin=json.dumps(document))

    def progress() -> tuple[int, int, str]:
        log = platform.kubectl("-n", platform.namespace, "logs", "client")
        found = re.findall(r"done (\d+) (\d+)", log)
        return (int(found[-1][0]), int(found[-1][1]), log) if found else (0, 0, log)

    platform.kubectl("-n", platform.namespace, "wait", "--for=condition=Ready", "pod/client", "--timeout=120s")
    until(lambda: progress()[0] > 20)
    before, starts = platform.secret(), platform.starts()

    changed, printed = platform.play("rotate")
    assert changed > 0
    hidden(platform, printed)
    after = platform.secret()
    assert set(after) == set(before) and all(after[key] != before[key] for key in before)
    assert not [value for value in before.values() if value in printed]
    assert "WRONGPASS" in platform.as_user("application", before["application-password"], "ping")
    assert "PONG" in platform.as_user("application", after["application-password"], "ping")
    seen = progress()[0]
    until(lambda: progress()[0] > seen + 20)

    # A certificate of another length is due at once; the pods load it by themselves.
    platform.play("site", redis_cluster_tls_days=200, redis_cluster_tls_renew_before=100)
    certificate = platform.secret("redis-cluster-tls")["tls.crt"]
    pods = platform.starts()
    until(lambda: {served(lambda pod=pod: forward(client, platform.namespace, pod, 6379), 30) for pod in pods} == {certificate})  # type: ignore[misc]
    seen = progress()[0]
    until(lambda: progress()[0] > seen + 20)
    assert platform.starts() == starts, "nobody was restarted"
    _done, failed, log = progress()
    assert failed == 0 and "FAILED" not in log, log[-2000:]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TAUGHT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(2)
