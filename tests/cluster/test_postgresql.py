# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role postgresql on the local cluster: formed, unchanged, and through faults with a client that writes every 50 ms and loses no acknowledged row.

What a client saw is printed (`pytest -rP`): times depend on the machine, so none is asserted but a generous limit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.tests.cluster.postgres import LIMIT, Postgres, Writer


@pytest.fixture(scope="module", params=["endpoints", "configmaps"])
def postgres(request: pytest.FixtureRequest, kubeconfig: str, client: Client) -> Iterator[Postgres]:
    with Postgres(client, kubeconfig, request.param) as made:
        yield made


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
