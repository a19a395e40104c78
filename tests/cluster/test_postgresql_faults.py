# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults of a running PostgreSQL on the local cluster: what health says, what heals it, and that no acknowledged row is lost.

Each writes its row of docs/postgresql_faults.md to reports/postgresql_faults; `make docs` makes the table of those that were run.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.plugins.module_utils._kube.pods import Pods
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.tests.cluster.postgres import LIMIT, Postgres, Writer
from ansible_collections.progressive.platform.tests.postgresql.faults import record

pytestmark = pytest.mark.slow

OVERLAP = 130  # seconds for the kubelets to bring a Secret into the pods
PIDS = "head -n 1 /var/lib/postgresql/data/pgdata/postmaster.pid"
# The brackets keep the shell itself, whose command line this is, from being found.
RECEIVER = "for f in /proc/[0-9]*/cmdline; do grep -q '[w]alreceiver' $f && echo $f | cut -d/ -f3; done"


@pytest.fixture(scope="module")
def postgres(kubeconfig: str, client: Client) -> Iterator[Postgres]:
    with Postgres(client, kubeconfig) as made:
        yield made


@pytest.fixture(scope="module")
def writer(postgres: Postgres) -> Writer:
    postgres.healthy()
    return Writer(postgres)


@pytest.fixture(autouse=True)
def whole(postgres: Postgres) -> Iterator[None]:
    postgres.healthy()
    yield
    postgres.healthy()


def said(postgres: Postgres, *words: str) -> str:
    """What health says once it says all these words; a fault that heals before anybody looks fails the test."""
    deadline = time.monotonic() + LIMIT
    while not all(word in (message := postgres.health().message) for word in words):
        assert time.monotonic() < deadline, f"health never said {words}: {message or 'all is well'}"
    return message


def roles(postgres: Postgres) -> tuple[str, str]:
    """The primary, and a replica that no commit waits for."""
    seen = postgres.healthy()
    return seen["primary"], next(member["name"] for member in seen["members"] if member["role"] == "replica" and member["sync"] != "sync")


@contextlib.contextmanager
def dropped(*rules: list[str]) -> Iterator[None]:
    """Packets that the host drops for a while; only those of these tests' own pods."""
    for rule in rules:
        subprocess.run(["iptables", "-w", "5", "-I", *rule, "-j", "DROP"], check=True, timeout=30)
    try:
        yield
    finally:
        for rule in rules:
            subprocess.run(["iptables", "-w", "5", "-D", *rule, "-j", "DROP"], check=True, timeout=30)


def from_server(address: str) -> list[str]:
    """Packets from a pod to the API server."""
    return ["INPUT", "-s", address, "-p", "tcp", "--dport", "6443"]


def test_the_primarys_server_is_killed(postgres: Postgres, writer: Writer) -> None:
    primary, _replica = roles(postgres)
    words: list[str] = []

    def fault() -> None:
        postgres.shell(primary, f"kill -9 $({PIDS})")
        words.append(said(postgres, ""))

    silence = writer.through(fault, "server killed")
    record(
        "the primary's server is killed (-9)", words[0] or "nothing: it was back before anybody looked", "Patroni starts it again", silence
    )


def test_all_three_are_deleted(postgres: Postgres, writer: Writer) -> None:
    words: list[str] = []

    def fault() -> None:
        postgres.delete("postgres-0", "postgres-1", "postgres-2", grace=0)
        words.append(said(postgres, "postgres"))

    silence = writer.through(fault, "all deleted")
    record("all three pods are deleted at once", words[0], "their controller makes them anew; the data are on the volumes", silence)


def test_a_volume_is_lost(postgres: Postgres, writer: Writer) -> None:
    _primary, replica = roles(postgres)
    uid = (postgres.pod(replica) or {})["metadata"]["uid"]
    words: list[str] = []

    def fault() -> None:
        Pods(postgres.client, postgres.namespace, "app=postgres").recreate(replica, uid)
        words.append(said(postgres, replica))

    silence = writer.through(fault, "volume lost")
    record("a replica's pod and volume are lost", words[0], "Patroni copies the primary's data to the new volume", silence)


def test_a_replica_that_cannot_catch_up(postgres: Postgres, writer: Writer) -> None:
    """The WAL it needs is gone: its slot has held back as much as it may."""
    primary, replica = roles(postgres)
    words: list[str] = []

    def fault() -> None:
        stopped = postgres.shell(replica, f"for pid in $({RECEIVER}); do kill -STOP $pid; echo $pid; done").split()
        assert stopped, "no walreceiver was found"
        fill = "create table if not exists filler (x int); insert into filler values (1); select pg_switch_wal()"
        psql = "psql -X -q -d postgres"
        postgres.shell(
            primary,
            f"for n in $(seq 20); do {psql} -c '{fill}' >/dev/null; done; {psql} -c checkpoint; sleep 12; {psql} -c checkpoint",
            timeout=240,  # a checkpoint waits for the walsender, which ends by tcp_user_timeout
        )
        words.append(said(postgres, replica))
        with contextlib.suppress(subprocess.CalledProcessError):
            postgres.shell(replica, f"kill -CONT {' '.join(stopped)}")
        with pytest.raises(PlatformError, match=rf"reinit: \[{replica}\]"):
            postgres.converge(timeout=5.0)
        postgres.converge(reinit=[replica])

    silence = writer.through(fault, "cannot catch up")
    record(
        "a replica is further behind than its slot holds WAL for", words[0], "refused with the command; `reinit` copies it anew", silence
    )


def test_the_api_server_is_away_for_a_minute(postgres: Postgres, writer: Writer) -> None:
    """For the members alone, so nobody else suffers: failsafe mode keeps the primary as long as all members answer it."""
    primary, _replica = roles(postgres)
    addresses = [(postgres.pod(name) or {})["status"]["podIP"] for name in ("postgres-0", "postgres-1", "postgres-2")]
    words: list[str] = []

    def fault() -> None:
        with dropped(*map(from_server, addresses)):
            ends = time.monotonic() + 60
            words.append(said(postgres, "has not reached the API server"))
            while time.monotonic() < ends:
                assert postgres.info()["primary"] == primary, "it was demoted"
                time.sleep(1)

    silence = writer.through(fault, "API server away")
    assert postgres.info()["primary"] == primary
    record("the API server does not answer the members for 60 s", words[0], "failsafe mode: the primary stays", silence)


def test_a_rotation_that_was_killed(postgres: Postgres, writer: Writer) -> None:
    """The next passwords are made, nobody gives them, and nobody is left to go on. A client that connects anew for every row never notices."""
    each = Writer(postgres, "each", each=True, patience=60)
    words: list[str] = []

    def staged() -> bool:
        secret = postgres.client.find(f"/api/v1/namespaces/{postgres.namespace}/secrets/postgres-users") or {}
        return any(key.startswith("next-") for key in secret.get("data", {}))

    def fault() -> None:
        postgres.killed("rotate", staged)
        words.append(postgres.health(rotation_within=0.0).message)
        assert "a rotation was interrupted" in words[0] and staged()
        postgres.playbook("rotate", rotate_overlap=OVERLAP)

    silence = writer.through(fault, "rotation killed")
    each.until(len(each.acknowledged()) + 20)
    assert each.failures() == [] and not staged() and postgres.health(rotation_within=0.0).ok
    record("a rotation of passwords was killed half way", words[0], "`playbooks/rotate.yml` again goes on where it was", silence)


def test_two_primaries_are_never_writable(postgres: Postgres, writer: Writer) -> None:
    """The primary is alive and alone: neither the API server nor another member hears of it."""
    primary, _replica = roles(postgres)
    address = (postgres.pod(primary) or {})["status"]["podIP"]
    others = [(postgres.pod(name) or {})["status"]["podIP"] for name in ("postgres-0", "postgres-1", "postgres-2") if name != primary]
    rules = [from_server(address)] + [
        ["FORWARD", "-s", one, "-d", two] for other in others for one, two in ((address, other), (other, address))
    ]
    words: list[str] = []

    def fault() -> None:
        with dropped(*rules):
            words.append(said(postgres, primary))
            alone(postgres, primary)

    silence = writer.through(fault, "primary alone")
    record(
        "the primary is cut off from the API server and from the others", words[0], "it demotes itself, then another is elected", silence
    )


def alone(postgres: Postgres, former: str) -> None:
    """Until another is primary nobody but the former may have taken a write, and from then on not even that one."""
    write = "psql -X -q -d postgres -c 'set statement_timeout = 1000; set synchronous_commit = local; create table if not exists t (x int)' 2>&1"
    deadline = time.monotonic() + LIMIT
    while True:
        primary = postgres.until(lambda seen: bool(seen["members"]), "members")["primary"]
        if primary not in ("", former):
            break
        assert time.monotonic() < deadline, "nobody was elected"
    outcome = ""
    with contextlib.suppress(subprocess.CalledProcessError):
        outcome = postgres.shell(former, f"{write}; echo code $?")
    assert "code 0" not in outcome, f"{former} still takes writes beside {primary}"
