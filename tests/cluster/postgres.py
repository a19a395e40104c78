# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role postgresql in a namespace of its own on the local cluster, and a client that writes and knows what was acknowledged: for tests and benchmarks."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ansible_collections.progressive.platform.plugins.module_utils._health.cluster import Cluster
from ansible_collections.progressive.platform.plugins.module_utils._health.kinds import KINDS
from ansible_collections.progressive.platform.plugins.module_utils._health.model import Finding
from ansible_collections.progressive.platform.plugins.module_utils._health.postgresql import postgresql
from ansible_collections.progressive.platform.plugins.module_utils._health.scene import Scene
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.converge import (
    ARGUMENTS,
    INFO_ARGUMENTS,
    opened,
    run,
    run_info,
)
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, Context, Result

ROOT = Path(__file__).resolve().parents[2]
RUN_TIMEOUT = 540  # seconds a playbook may take before it counts as hanging
LIMIT = 180.0  # seconds for the cluster to come back from anything; a busy machine is no failure
DATABASE = "progressive_framework_v5"

# Writes numbers in order until it is told to stop, and prints each once it is acknowledged, with the seconds since the one before and the time.
# User, password and authority are read for each connection, as they may change; the Service's address is asked for once, as it does not (the application
# too goes on with the last one it had, and a JVM asks every thirty seconds). A writer that asks DNS each time waits for it where a server of it is lost.
WRITER = """
import os, signal, socket, sys, time, psycopg
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
read = lambda name: open(f"/run/secrets/postgres/{name}").read().strip()
more = {"sslmode": "verify-full", "sslrootcert": "/run/secrets/tls/ca.crt"} if os.path.exists("/run/secrets/tls/ca.crt") else {}
each = os.environ.get("EACH") == "true"
patience = int(os.environ["PATIENCE"])
host = os.environ["SERVICE"]
where = dict(host=host, dbname=os.environ["DATABASE"], autocommit=True, connect_timeout=patience,
    tcp_user_timeout=patience * 1500, options=f"-c statement_timeout={patience * 1500}", target_session_attrs="read-write", **more)
number, link, last = 0, None, time.monotonic()
while not stop:
    try:
        where.get("hostaddr") or where.update(hostaddr=socket.gethostbyname(host))
        link = link or psycopg.connect(**where, user=read("username"), password=read("password"))
        if number == 0:
            link.execute("create table if not exists written (number int primary key)")
        link.execute("insert into written values (%s) on conflict do nothing", (number,))
    except (psycopg.Error, OSError) as error:
        print("failed", str(error).splitlines()[0], flush=True)
        link = None
        time.sleep(0.05)
        continue
    if each:
        link.close()
        link = None
    now = time.monotonic()
    print(number, round(now - last, 3), round(time.time(), 3), flush=True)
    last, number = now, number + 1
    time.sleep(0.05)
"""


class Postgres:
    """The role in a namespace of the test's own, the modules that look after it, and a client."""

    def __init__(self, client: Client, kubeconfig: str, dcs: str = "endpoints", **variables: Any) -> None:
        self.client = client
        self.namespace = f"test-postgres-{secrets.token_hex(3)}"
        self.pods_given = {"namespace": self.namespace, "selector": "app=postgres", "port": 5432, "rest_port": 8008}
        self.given = {
            "kubeconfig": kubeconfig,
            "validate_certs": True,
            "pods": self.pods_given,
            "password_secret": {"name": "postgres-auth"},
        }
        self.options = {
            "platform_namespace": self.namespace,
            "platform_components": ["baseline", "postgresql"],
            "platform_kubeconfig": kubeconfig,
            "platform_reports_dir": f"{ROOT}/reports/{self.namespace}",
            "postgresql_dcs": dcs,
            "postgresql_delete_volumes": True,
            "teardown_confirm": "local",
            **json.loads(os.environ.get("POSTGRES_VARIABLES") or "{}"),  # another image, for one
            **variables,
        }

    def __enter__(self) -> Postgres:
        try:
            self.playbook("site")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_failure: object) -> None:
        self.playbook("teardown")
        namespace = f"/api/v1/namespaces/{self.namespace}"
        if self.client.find(namespace):  # a repository of backups is kept by teardown, and nobody wants a test's
            self.client.request("DELETE", namespace)

    def playbook(self, name: str, **options: Any) -> str:
        """What it printed; a failure fails the test."""
        command, environment = self._command(name, options)
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=RUN_TIMEOUT, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
        return done.stdout

    def _command(self, name: str, options: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
        extra = json.dumps(self.options | options)
        command = [str(ROOT / ".venv/bin/ansible-playbook"), f"playbooks/{name}.yml", "-i", "inventories/local", "-e", extra]
        return command, {**os.environ, "ANSIBLE_NOCOLOR": "1"}

    def killed(self, name: str, when: Callable[[], bool], **options: Any) -> None:
        """A playbook that ends at this moment, with everything it started."""
        command, environment = self._command(name, options)
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + LIMIT
        try:
            while not when():
                assert process.poll() is None and time.monotonic() < deadline, f"{name} has ended before the moment came"
                time.sleep(0.05)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)

    def changed(self, **options: Any) -> int:
        return int(re.findall(r"changed=(\d+)", self.playbook("site", **options))[-1])

    def named(self, name: str) -> Postgres:
        """Another cluster of the role in the same namespace."""
        other = copy.copy(self)
        other.pods_given = {**self.pods_given, "selector": f"app={name}"}
        other.given = {**self.given, "pods": other.pods_given, "password_secret": {"name": f"{name}-auth"}}
        return other

    def info(self) -> Result:
        defaults = {name: option.get("default") for name, option in INFO_ARGUMENTS.items()}
        return run_info({**defaults, **self.given, "members": 3}, Context())

    def converge(self, **params: Any) -> Result:
        defaults = {name: option.get("default") for name, option in ARGUMENTS.items()}
        return run({**defaults, **self.given, "timeout": LIMIT, **params}, Context())

    def healthy(self) -> Result:
        """As soon as one primary and two streaming replicas are there."""
        return self.until(lambda seen: seen["state"] == "healthy", "healthy")

    def until(self, condition: Callable[[Result], bool], what: str) -> Result:
        deadline = time.monotonic() + LIMIT
        while not condition(seen := self.info()):
            assert time.monotonic() < deadline, f"not {what} within {LIMIT:g} s: {seen['findings'] or seen['errors']}"
            time.sleep(0.5)
        return seen

    def rows(self) -> set[int]:
        """The numbers that are in the primary's table."""
        defaults = {name: option.get("default") for name, option in INFO_ARGUMENTS.items()}
        with opened({**defaults, **self.given}, Context()) as (cluster, _client):
            primary = cluster.observe(ask_sql=False).primary
            assert primary is not None
            return {int(str(row[0])) for row in cluster.query(primary, "select number from written", DATABASE)}

    def health(self, **more: Any) -> Finding:
        """What the health report says of it."""
        options = {
            **{name: option.get("default") for name, option in KINDS["postgresql"].options.items()},
            **{"namespace": self.namespace, "selector": "app=postgres", "service": "postgres-primary", "synchronous": True},
            "password_secret": {"name": "postgres-auth"},
            "secrets": ["postgres-auth", "postgres-users"],
            **more,
        }
        return postgresql(options, Scene(Cluster(self.client, Clock()), Clock()), time.monotonic() + 30)

    def shell(self, pod: str, script: str, timeout: float = 120, container: str = "postgres") -> str:
        """What a script in a container of the pod prints."""
        binary = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "progressive-platform/bin/kubectl"
        command = [str(binary) if binary.exists() else "kubectl", "--kubeconfig", str(self.given["kubeconfig"]), "-n", self.namespace]
        command += ["exec", pod, "-c", container, "--", "sh", "-c", script]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=True).stdout

    def delete(self, *names: str, grace: int | None = None) -> None:
        for name in names:
            path = f"/api/v1/namespaces/{self.namespace}/pods/{name}"
            self.client.request("DELETE", path, query={"gracePeriodSeconds": grace})

    def pod(self, name: str) -> dict[str, Any] | None:
        return self.client.find(f"/api/v1/namespaces/{self.namespace}/pods/{name}")


class Row(NamedTuple):
    """A row that was acknowledged: the seconds since the one before, and when (Unix time)."""

    silence: float
    at: float


class Writer:
    """A pod that writes; what it printed is what was acknowledged. With ``each`` it connects anew for every row, with ``tls`` it checks whom it talks to.
    ``patience`` is how long it waits for a connection, in seconds: a little where another server may be there, much where a failure must not be the machine's.
    """

    def __init__(self, postgres: Postgres, name: str = "writer", *, each: bool = False, tls: str = "", patience: int = 2) -> None:
        self.postgres = postgres
        self.path = f"/api/v1/namespaces/{postgres.namespace}/pods/{name}"
        image = (postgres.pod("postgres-0") or {})["spec"]["containers"][0]["image"]
        env = [{"name": "SERVICE", "value": "postgres-primary"}, {"name": "DATABASE", "value": DATABASE}]
        items = [{"key": "progressive", "path": "password"}, {"key": "progressive.login", "path": "username"}]
        volumes = [{"name": "postgres", "secret": {"secretName": "postgres-users", "items": items}}]
        volumes += [{"name": "tls", "secret": {"secretName": tls, "items": [{"key": "ca.crt", "path": "ca.crt"}]}}] if tls else []
        security = {"runAsNonRoot": True, "runAsUser": 10001, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        container = {
            "name": "writer",
            "volumeMounts": [{"name": one["name"], "mountPath": f"/run/secrets/{one['name']}"} for one in volumes],
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["/opt/patroni/bin/python", "-c", WRITER],
            "env": [*env, {"name": "EACH", "value": str(each).lower()}, {"name": "PATIENCE", "value": str(patience)}],
            "securityContext": {**security, "seccompProfile": {"type": "RuntimeDefault"}},
        }
        labels = {"progressive.platform/postgres-client": "true"}
        metadata = {"name": name, "namespace": postgres.namespace, "labels": labels}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container], "restartPolicy": "Never"}}
        body["spec"] |= {"volumes": volumes, "terminationGracePeriodSeconds": 1}
        postgres.client.request("POST", f"/api/v1/namespaces/{postgres.namespace}/pods", body)
        self.until(10)

    @property
    def node(self) -> str:
        return str((self.postgres.client.find(self.path) or {})["spec"]["nodeName"])

    def remove(self) -> None:
        self.postgres.client.request("DELETE", self.path)
        deadline = time.monotonic() + LIMIT
        while self.postgres.client.find(self.path):
            assert time.monotonic() < deadline, "the writer does not go"
            time.sleep(0.3)

    def acknowledged(self) -> list[Row]:
        with self.postgres.client.stream(f"{self.path}/log") as lines:
            return [Row(*map(float, line.split()[1:])) for line in lines if re.fullmatch(rb"\d+ [\d.]+ [\d.]+\s*", line)]

    def failures(self) -> list[str]:
        """What a connection or a statement failed with."""
        with self.postgres.client.stream(f"{self.path}/log") as lines:
            return [line.decode().removeprefix("failed ").strip() for line in lines if line.startswith(b"failed")]

    def until(self, count: int) -> list[Row]:
        """The acknowledgements once there are so many."""
        deadline = time.monotonic() + LIMIT
        while True:
            status = (self.postgres.client.find(self.path) or {}).get("status", {})
            if status.get("phase") not in ("Pending", None) and len(seen := self.acknowledged()) >= count:
                return seen
            assert status.get("phase") not in ("Failed", "Succeeded"), status
            assert time.monotonic() < deadline, f"{count} rows were not acknowledged within {LIMIT:g} s"
            time.sleep(0.3)

    def through(self, fault: Callable[[], None], what: str) -> float:
        """The longest silence that a fault brought; fails when an acknowledged row is gone."""
        return max(row.silence for row in self.seen(fault, what))

    def seen(self, fault: Callable[[], None], what: str) -> list[Row]:
        """What was acknowledged from the fault on until the cluster was whole again; fails when one of the rows is gone."""
        before = len(self.acknowledged())
        fault()
        self.postgres.healthy()
        rows = self.until(len(self.acknowledged()) + 20)[before:]
        lost = set(range(before + len(rows))) - self.postgres.rows()
        print(f"{what}: no write for {max(row.silence for row in rows):.1f} s, {len(rows)} rows acknowledged, {len(lost)} lost")
        assert not lost, f"{what}: acknowledged and gone: {sorted(lost)[:20]}"
        return rows
