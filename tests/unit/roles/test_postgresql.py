# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What role postgresql renders to: passwords and the logins that have them, TLS, and the script that starts Patroni."""

from __future__ import annotations

import os
import subprocess
import time
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.progressive.platform.plugins.filter.component_sets import component_sets
from ansible_collections.progressive.platform.tests.unit.roles.rendering import Cluster

Document = dict[str, t.Any]


def one(kind: str, name: str, **changes: t.Any) -> Document:
    documents = Cluster("production", {"platform_postgresql_tls": False} | changes).documents("postgresql")
    (found,) = [document for document in documents if document["kind"] == kind and document["metadata"]["name"] == name]
    return found


def settings(**changes: t.Any) -> Document:
    return dict(Cluster("production", {"platform_postgresql_tls": False} | changes).value("postgresql", "__postgresql_settings"))


def test_every_password_that_changes_has_two_logins_that_take_turns() -> None:
    auth, users = Cluster("production", {"postgresql_users": {"shop": {}, "report": {}}}).value("postgresql", "__postgresql_secrets")
    assert {key: options["turns"] for key, options in auth["generate"].items() if key.endswith(".login")} == {
        "replication.login": ["replicator", "replicator_2"],
        "rewind.login": ["rewind", "rewind_2"],
    }
    assert {"superuser", "restapi", "replication", "rewind"} < set(auth["generate"]), "the superuser has one login"
    assert users["generate"] == {
        "shop": {"length": 32},
        "report": {"length": 32},
        "shop.login": {"turns": ["shop", "shop_2"]},
        "report.login": {"turns": ["report", "report_2"]},
    }


def test_a_cluster_begins_with_short_rounds_and_ends_with_the_wanted_ones() -> None:
    begun = yaml.safe_load(one("ConfigMap", "postgres-bootstrap", postgresql_durability="strict")["data"]["bootstrap.yml"])["bootstrap"][
        "dcs"
    ]
    wanted = settings(postgresql_durability="strict")
    assert {key for key in wanted if wanted[key] != begun[key]} == {"loop_wait", "synchronous_mode_strict"}
    assert (begun["loop_wait"], begun["synchronous_mode_strict"]) == (1, False)


@pytest.mark.parametrize(
    ("changes", "host", "trusts"),
    [
        ({}, "host", False),
        ({"postgresql_tls": True}, "hostssl", True),
        ({"postgresql_tls": True, "postgresql_tls_plain": True}, "host", False),
    ],
)
def test_tls_and_nothing_else_unless_plain_is_still_taken(changes: Document, host: str, trusts: bool) -> None:
    """The superuser comes through a port-forward, from the pod itself, and needs none."""
    hba = settings(**changes)["postgresql"]["pg_hba"]
    assert hba[-1] == f"{host} all all all scram-sha-256"
    assert f"{host} replication replicator,replicator_2 all scram-sha-256" in hba
    assert "host all postgres 127.0.0.1/32 scram-sha-256" in hba
    container = one("StatefulSet", "postgres", **changes)["spec"]["template"]["spec"]["containers"][0]
    (trust,) = [variable["value"] for variable in container["env"] if variable["name"] == "TRUST"]
    assert ("sslmode: verify-ca" in trust) is trusts
    configuration = yaml.safe_load(one("ConfigMap", "postgres", **changes)["data"]["patroni.yml"])
    assert (configuration["postgresql"].get("parameters", {}).get("ssl") == "on") is bool(changes)
    assert ("tls" in {mount["name"] for mount in container["volumeMounts"]}) is bool(changes)


def test_a_certificate_of_cert_manager_where_it_is() -> None:
    made = one("Certificate", "postgres-tls", postgresql_tls=True, postgresql_tls_source="cert-manager")["spec"]
    assert {"postgres-primary", "postgres-replica.progressive-framework-prod.svc"} < set(made["dnsNames"])


def test_what_makes_new_pods_and_what_does_not() -> None:
    """A checksum of Secrets would replace every pod when a password or certificate changes, which the running ones take by themselves."""

    def template(**changes: t.Any) -> Document:
        found: Document = one("StatefulSet", "postgres", **changes)["spec"]["template"]
        return found

    assert list(template()["metadata"]["annotations"]) == ["progressive.platform/restart-checksum"]
    assert template() == template(postgresql_parameters={"work_mem": "3MB"}), "settings change where they are kept"
    assert template() == template(postgresql_tls_days=30)
    assert template()["metadata"] != template(postgresql_tls=True)["metadata"]


@pytest.fixture
def pod(tmp_path: Path) -> Path:
    """A folder in place of the pod's own, with the role's script and programs that only say what they were told."""
    script = one("ConfigMap", "postgres")["data"]["start.sh"].replace("/etc/progressive", f"{tmp_path}").replace("sleep 5", "sleep 0.1")
    # The container's first process is dumb-init, which passes signals on; here it is whatever runs in its place.
    (tmp_path / "start.sh").write_text(script.replace("kill -HUP 1", "kill -HUP $$"))
    for folder in ("config", "bootstrap", "auth", "run", "bin"):
        (tmp_path / folder).mkdir()
    for name in ("config/patroni.yml", "bootstrap/bootstrap.yml"):
        (tmp_path / name).write_text("{}\n")
    for key, value in {
        "superuser": "s",
        "restapi": 'a"b\\c',
        "replication": "one",
        "rewind": "w",
        "replication.login": "replicator",
    }.items():
        (tmp_path / "auth" / key).write_text(value)
    init = tmp_path / "bin/dumb-init"
    init.write_text(f"#!/bin/sh\ntrap 'echo told >> {tmp_path}/told' HUP\nwhile :; do sleep 0.05; done\n")
    init.chmod(0o755)
    return tmp_path


def until(condition: t.Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_a_password_that_changes_reaches_the_running_servers(pod: Path) -> None:
    environment = {"PATH": f"{pod}/bin:{os.environ['PATH']}", "POD_IP": "fd00::1", "POD_NAME": "postgres-0", "PORT": "5432"}
    # A shell cannot trap what was ignored before it began, as SIGHUP is under nohup.
    heard = ["env", "--default-signal=HUP", "sh", str(pod / "start.sh")]
    process = subprocess.Popen(heard, env=environment | {"REST_PORT": "8008", "TRUST": ""})
    try:
        made = pod / "run/patroni/pod.yml"
        until(made.exists, "no configuration")
        until(lambda: "rewind:" in made.read_text(), "half a configuration")
        first = yaml.safe_load(made.read_text())
        assert first["restapi"]["authentication"]["password"] == 'a"b\\c' and first["postgresql"]["connect_address"] == "[fd00::1]:5432"
        assert first["postgresql"]["authentication"]["replication"] == {"username": "replicator", "password": "one"}
        assert made.stat().st_mode & 0o077 == 0
        (pod / "auth/replication.login").write_text("replicator_2")
        (pod / "auth/replication").write_text("two")
        until((pod / "told").exists, "Patroni was not told")
        until(lambda: '"two"' in made.read_text(), "the configuration is the old one")
        assert yaml.safe_load(made.read_text())["postgresql"]["authentication"]["replication"]["username"] == "replicator_2"
    finally:
        subprocess.run(["pkill", "-P", str(process.pid)], check=False, timeout=10)
        process.kill()
        process.wait(10)


def test_a_copy_beside_has_names_and_an_archive_of_its_own() -> None:
    """Nothing of it may be the other cluster's object, and nothing may write into that one's archive."""
    kept = {"postgresql_backup_storage": {"volume": {"size": "1Gi"}}, "postgresql_tls": True}

    def named(**changes: t.Any) -> set[tuple[str, str]]:
        documents = Cluster("production", kept | changes).documents("postgresql")
        return {(document["kind"], document["metadata"]["name"]) for document in documents}

    beside = {"postgresql_name": "before", "postgresql_restored_from": "postgres"}
    assert not named() & named(**beside) and ("CronJob", "postgres-backup-restore") in named()
    assert not [name for kind, name in named(**beside) if kind == "CronJob"]
    statefulset = one("StatefulSet", "before", **kept, **beside)["spec"]
    assert statefulset["selector"] == {"matchLabels": {"app": "before"}}
    assert "archive_mode" not in settings(**kept, **beside)["postgresql"]["parameters"]
    (rule,) = one("Role", "before-restore", **kept, **beside)["rules"]
    assert rule["resourceNames"] == ["before-auth"]
    assert one("RoleBinding", "before-restore", **kept, **beside)["subjects"][0]["name"] == "postgres-backup"


def test_a_copy_that_has_taken_over_archives_under_a_name_of_its_own() -> None:
    values = Cluster("production", {"platform_postgresql_name": "before"})
    assert values.value("postgresql", "postgresql_backup_name") != Cluster("production").value("postgresql", "postgresql_backup_name")
    assert values.value("app", "app_postgresql")["primary"].startswith("before-primary.")
    # The playbooks wait for it, and look for what is left of it, by the same name that the role applies it under.
    assert component_sets(["progressive.platform.redis_cluster", "progressive.platform.postgresql"], "before") == [
        "redis-cluster",
        values.value("postgresql", "__postgresql_set"),
    ]
    assert Cluster("production").value("postgresql", "__postgresql_set") == component_sets(["postgresql"])[0] == "postgresql"
