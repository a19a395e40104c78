# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role postgresql on the local cluster: formed, unchanged, and through faults with a client that writes every 50 ms and loses no acknowledged row.

What a client saw is printed (`pytest -rP`): times depend on the machine, so none is asserted but a generous limit.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.converge import (
    ARGUMENTS,
    INFO_ARGUMENTS,
    opened,
    run,
    run_info,
)
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Result

ROOT = Path(__file__).resolve().parents[2]
RUN_TIMEOUT = 540  # seconds a playbook may take before it counts as hanging
LIMIT = 180.0  # seconds for the cluster to come back from anything; a busy machine is no failure
DATABASE = "progressive_framework_v5"

# Writes numbers in order until it is told to stop, and prints each once it is acknowledged, with the seconds since the one before.
WRITER = """
import os, signal, sys, time, psycopg
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
where = dict(host=os.environ["SERVICE"], dbname=os.environ["DATABASE"], user="progressive", password=os.environ["PASSWORD"], autocommit=True,
    connect_timeout=2, tcp_user_timeout=3000, options="-c statement_timeout=3000", target_session_attrs="read-write")
number, link, last = 0, None, time.monotonic()
while not stop:
    try:
        link = link or psycopg.connect(**where)
        if number == 0:
            link.execute("create table if not exists written (number int primary key)")
        link.execute("insert into written values (%s) on conflict do nothing", (number,))
    except psycopg.Error:
        link = None
        time.sleep(0.05)
        continue
    now = time.monotonic()
    print(number, round(now - last, 3), flush=True)
    last, number = now, number + 1
    time.sleep(0.05)
"""


class Postgres:
    """The role in a namespace of the test's own, the modules that look after it, and a client."""

    def __init__(self, client: Client, kubeconfig: str, dcs: str) -> None:
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
        }

    def playbook(self, name: str, **options: Any) -> str:
        """What it printed; a failure fails the test."""
        extra = json.dumps(self.options | options)
        command = [str(ROOT / ".venv/bin/ansible-playbook"), f"playbooks/{name}.yml", "-i", "inventories/local", "-e", extra]
        environment = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=RUN_TIMEOUT, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
        return done.stdout

    def changed(self, **options: Any) -> int:
        return int(re.findall(r"changed=(\d+)", self.playbook("site", **options))[-1])

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

    def delete(self, *names: str, grace: int | None = None) -> None:
        for name in names:
            path = f"/api/v1/namespaces/{self.namespace}/pods/{name}"
            self.client.request("DELETE", path, query={"gracePeriodSeconds": grace})

    def pod(self, name: str) -> dict[str, Any] | None:
        return self.client.find(f"/api/v1/namespaces/{self.namespace}/pods/{name}")


class Writer:
    """A pod that writes; what it printed is what was acknowledged."""

    def __init__(self, postgres: Postgres) -> None:
        self.postgres = postgres
        self.path = f"/api/v1/namespaces/{postgres.namespace}/pods/writer"
        image = (postgres.pod("postgres-0") or {})["spec"]["containers"][0]["image"]
        env = [{"name": "SERVICE", "value": "postgres-primary"}, {"name": "DATABASE", "value": DATABASE}]
        secret = {"secretKeyRef": {"name": "postgres-users", "key": "progressive"}}
        security = {"runAsNonRoot": True, "runAsUser": 10001, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        container = {
            "name": "writer",
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["/opt/patroni/bin/python", "-c", WRITER],
            "env": [*env, {"name": "PASSWORD", "valueFrom": secret}],
            "securityContext": {**security, "seccompProfile": {"type": "RuntimeDefault"}},
        }
        labels = {"progressive.platform/postgres-client": "true"}
        metadata = {"name": "writer", "namespace": postgres.namespace, "labels": labels}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container], "restartPolicy": "Never"}}
        postgres.client.request("POST", f"/api/v1/namespaces/{postgres.namespace}/pods", body)
        self.until(10)

    def acknowledged(self) -> list[float]:
        """For each number the seconds since the one before."""
        with self.postgres.client.stream(f"{self.path}/log") as lines:
            return [float(line.split()[1]) for line in lines if re.fullmatch(rb"\d+ [\d.]+\s*", line)]

    def until(self, count: int) -> list[float]:
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
        before = len(self.acknowledged())
        fault()
        self.postgres.healthy()
        silences = self.until(len(self.acknowledged()) + 20)[before:]
        kept = self.postgres.rows()
        lost = set(range(before + len(silences))) - kept
        print(f"{what}: no write for {max(silences):.1f} s, {len(silences)} rows acknowledged, {len(lost)} lost")
        assert not lost, f"{what}: acknowledged and gone: {sorted(lost)[:20]}"
        return max(silences)


@pytest.fixture(scope="module", params=["endpoints", "configmaps"])
def postgres(request: pytest.FixtureRequest, kubeconfig: str, client: Client) -> Iterator[Postgres]:
    made = Postgres(client, kubeconfig, request.param)
    try:
        made.playbook("site")
        yield made
    finally:
        made.playbook("teardown")


@pytest.fixture(scope="module")
def writer(postgres: Postgres) -> Writer:
    postgres.healthy()
    return Writer(postgres)


def test_three_members_over_three_zones(postgres: Postgres) -> None:
    seen = postgres.info()
    assert seen["state"] == "healthy" and sum(member["streaming"] for member in seen["members"]) == 2
    assert len({member["zone"] for member in seen["members"]}) == 3
    assert "sync" in {member["sync"] for member in seen["members"]}
    assert {slot["name"] for slot in seen["slots"]} == {
        member["name"].replace("-", "_") for member in seen["members"] if member["role"] == "replica"
    }


def test_a_second_run_changes_nothing(postgres: Postgres, versions: Callable[..., dict[str, str]]) -> None:
    kinds = [("apps/v1", "StatefulSet"), ("v1", "ConfigMap"), ("v1", "Secret"), ("v1", "Service")]

    def ours() -> dict[str, str]:
        """Patroni's own objects are written with every round."""
        return {name: version for name, version in versions(postgres.namespace, *kinds).items() if "ConfigMap/postgres-primary" not in name}

    before = ours()
    assert postgres.changed() == 0 and ours() == before


def test_a_parameter_changes_without_new_pods(postgres: Postgres) -> None:
    """One that is reloaded, one that takes a restart: replicas first, the primary by a switchover."""
    before = [pod["metadata"]["uid"] for name in ("postgres-0", "postgres-1", "postgres-2") if (pod := postgres.pod(name))]
    first = postgres.info()["primary"]
    parameters = {"work_mem": "3MB", "max_worker_processes": 9}
    assert postgres.changed(postgresql_parameters=parameters) > 0
    seen = postgres.healthy()
    assert seen["primary"] != first and not any(member["pending_restart"] for member in seen["members"])
    assert seen["config"]["postgresql"]["parameters"]["work_mem"] == "3MB"
    after = [pod["metadata"]["uid"] for name in ("postgres-0", "postgres-1", "postgres-2") if (pod := postgres.pod(name))]
    assert before == after and postgres.changed(postgresql_parameters=parameters) == 0


def test_the_primarys_pod_is_deleted(postgres: Postgres, writer: Writer) -> None:
    primary = postgres.healthy()["primary"]
    uid = (postgres.pod(primary) or {})["metadata"]["uid"]

    def fault() -> None:
        postgres.delete(primary)
        postgres.until(lambda seen: seen["primary"] not in ("", primary), "another primary")
        assert (postgres.pod(primary) or {}).get("metadata", {}).get("uid") != uid or postgres.info()["primary"] != primary

    assert writer.through(fault, f"{postgres.options['postgresql_dcs']}: primary deleted") < LIMIT


def test_the_primary_is_killed(postgres: Postgres, writer: Writer) -> None:
    """Without a moment to hand over: the pod goes with grace 0, the lock stays until its time is over."""
    primary = postgres.healthy()["primary"]
    assert writer.through(lambda: postgres.delete(primary, grace=0), f"{postgres.options['postgresql_dcs']}: primary killed") < LIMIT


def test_a_switchover(postgres: Postgres, writer: Writer) -> None:
    seen = postgres.healthy()
    candidate = next(member["name"] for member in seen["members"] if member["sync"] == "sync")

    def fault() -> None:
        assert postgres.converge(switchover=candidate)["primary"] == candidate

    assert writer.through(fault, f"{postgres.options['postgresql_dcs']}: switchover") < LIMIT


def test_all_three_are_deleted_at_once(postgres: Postgres, writer: Writer) -> None:
    names = ("postgres-0", "postgres-1", "postgres-2")
    before = {name: (postgres.pod(name) or {})["metadata"]["uid"] for name in names}

    def fault() -> None:
        postgres.delete(*names, grace=0)
        deadline = time.monotonic() + LIMIT
        while any((postgres.pod(name) or {"metadata": {"uid": before[name]}})["metadata"]["uid"] == before[name] for name in names):
            assert time.monotonic() < deadline, "the pods were not made anew"
            time.sleep(0.3)

    assert writer.through(fault, f"{postgres.options['postgresql_dcs']}: all three deleted") < LIMIT


def test_a_replica_is_copied_anew(postgres: Postgres, writer: Writer) -> None:
    replica = next(member["name"] for member in postgres.healthy()["members"] if member["role"] == "replica")
    result = postgres.converge(reinit=[replica])
    assert [step["action"] for step in result["plan"] if step["action"] != "wait"] == ["reinit"]
    assert next(member for member in result["members"] if member["name"] == replica)["streaming"]
    writer.until(len(writer.acknowledged()) + 5)
