# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What role postgresql does with a running cluster while a client writes: more and fewer members, new pods, other passwords, another certificate."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.tests.cluster.postgres import DATABASE, LIMIT, Postgres, Writer

pytestmark = pytest.mark.slow

OVERLAP = 130  # seconds for the kubelets to bring a Secret into the pods: their sync period and the life of their cache
SERVED = """
import socket, ssl, struct
plain = socket.create_connection(("127.0.0.1", 5432), 10)
plain.sendall(struct.pack("!II", 8, 80877103))
assert plain.recv(1) == b"S"
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
import hashlib
print(hashlib.sha256(context.wrap_socket(plain).getpeercert(True)).hexdigest())
"""


@pytest.fixture(scope="module")
def postgres(kubeconfig: str, client: Client) -> Iterator[Postgres]:
    """With TLS, so that everything here is seen with it."""
    with Postgres(client, kubeconfig, platform_postgresql_tls=True) as made:
        yield made


@pytest.fixture(scope="module")
def writer(postgres: Postgres) -> Writer:
    postgres.healthy()
    return Writer(postgres, tls="postgres-tls")


@pytest.fixture(scope="module")
def patient(postgres: Postgres) -> Writer:
    """Whatever fails here is no matter of a busy machine."""
    postgres.healthy()
    return Writer(postgres, "patient", tls="postgres-tls", patience=60)


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, f"not within {LIMIT:g} s: {what}"
        time.sleep(0.5)


def served(postgres: Postgres) -> set[str]:
    """The certificates that the members show."""
    names = [member["name"] for member in postgres.info()["members"]]
    return {postgres.shell(name, f"/opt/patroni/bin/python - <<'PROGRAM'\n{SERVED}\nPROGRAM").strip() for name in names}


def test_nobody_gets_in_without_tls(postgres: Postgres, patient: Writer) -> None:
    primary = postgres.healthy()["primary"]
    script = "psql 'host=postgres-primary user=progressive sslmode={} dbname=" + DATABASE + "' -c 'select 1' 2>&1 || true"
    assert "no encryption" in postgres.shell(primary, script.format("disable"))
    assert "no password supplied" in postgres.shell(primary, script.format("require"))
    assert patient.failures() == []


def test_another_certificate_is_served_without_a_restart(postgres: Postgres, patient: Writer) -> None:
    began = "psql -X -A -t -d postgres -c 'select pg_postmaster_start_time()'"
    members = [member["name"] for member in postgres.healthy()["members"]]
    (first,), before = served(postgres), {name: postgres.shell(name, began) for name in members}
    postgres.playbook("site", postgresql_tls_days=91, postgresql_tls_renew_before=90)  # it has 90 days left, which is not enough now
    until(lambda: len(now := served(postgres)) == 1 and now != {first}, "all serve the new certificate")
    assert {name: postgres.shell(name, began) for name in members} == before
    patient.until(len(patient.acknowledged()) + 20)
    assert patient.failures() == []


def test_passwords_change_without_a_failed_connection(postgres: Postgres, patient: Writer) -> None:
    """A client that connects anew for every row."""
    each = Writer(postgres, "each", each=True, tls="postgres-tls", patience=60)
    primary = postgres.healthy()["primary"]
    old = postgres.shell(primary, "cat /etc/progressive/auth/replication")
    printed = postgres.playbook("rotate", rotate_overlap=OVERLAP)
    assert old not in printed
    each.until(len(each.acknowledged()) + 20)
    assert each.failures() == [], each.failures()[:5]
    seen = postgres.healthy()
    assert seen["primary"] == primary
    links = postgres.shell(primary, "psql -X -A -t -d postgres -c 'select distinct usename from pg_stat_replication'").split()
    assert links == ["replicator_2"]
    logins = "select rolname from pg_authid where rolpassword is null and rolname in ('progressive', 'replicator', 'rewind') order by 1"
    assert postgres.shell(primary, f'psql -X -A -t -d postgres -c "{logins}"').split() == ["progressive", "replicator", "rewind"]
    assert postgres.changed() == 0
    assert patient.failures() == [], "links that stood were not asked again"


@pytest.mark.state("P17", "P18")
def test_a_fourth_member_and_three_again(postgres: Postgres, writer: Writer) -> None:
    def fault() -> None:
        four = {"postgresql_members": 4, "postgresql_synchronous_standbys": 3}
        postgres.playbook("site", **four)
        assert postgres.converge(members=4, switchover="postgres-3")["primary"] == "postgres-3"
        postgres.playbook("site")

    writer.through(fault, "four members and three again")
    seen = postgres.healthy()
    assert seen["primary"] in ("postgres-0", "postgres-1", "postgres-2") and len(seen["members"]) == 3
    replicas = {member["name"].replace("-", "_") for member in seen["members"] if member["role"] == "replica"}
    assert {slot["name"] for slot in seen["slots"]} == replicas, "the slot of the one that went is gone"
    assert seen["config"]["member_slots_ttl"] == 1800
    assert postgres.changed() == 0


@pytest.mark.state("P15")
def test_new_pods_one_by_one_the_primary_last(postgres: Postgres, writer: Writer) -> None:
    names = ("postgres-0", "postgres-1", "postgres-2")
    primary = postgres.healthy()["primary"]
    before = {name: (postgres.pod(name) or {})["metadata"]["uid"] for name in names}
    silence = writer.through(lambda: postgres.playbook("site", postgresql_probe_period=6) and None, "a roll")
    made = {name: (postgres.pod(name) or {})["metadata"] for name in names}
    assert all(made[name]["uid"] != before[name] for name in names)
    assert max(names, key=lambda name: made[name]["creationTimestamp"]) == primary, "the former primary is the last"
    assert silence < LIMIT and postgres.changed(postgresql_probe_period=6) == 0


def test_what_debug_collects_holds_no_secret(postgres: Postgres) -> None:
    postgres.playbook("debug")
    folder = f"{postgres.options['platform_reports_dir']}/debug/postgresql"
    for key in ("superuser", "replication", "rewind", "restapi"):
        secret = postgres.shell("postgres-0", f"cat /etc/progressive/auth/{key}").strip()
        found = subprocess.run(["grep", "-rl", secret, folder], capture_output=True, text=True, timeout=60, check=False)
        assert found.returncode == 1, f"{key} is in {found.stdout}"
