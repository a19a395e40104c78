# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What role mongodb renders to for either engine. No mongod can be had here, so for engine mongodb this and the simulator are all there is."""

from __future__ import annotations

import functools
import itertools
import os
import stat
import subprocess
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.progressive.platform.plugins.module_utils._health.kinds import parse
from ansible_collections.progressive.platform.plugins.module_utils._mongodb import users
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.converge import ARGUMENTS, wanted
from ansible_collections.progressive.platform.plugins.module_utils._preflight.quantities import quantity
from ansible_collections.progressive.platform.plugins.plugin_utils import _roles
from ansible_collections.progressive.platform.tests.unit.roles import rendering

Document = dict[str, t.Any]
ENGINES = ["mongodb", "ferretdb"]
each_inventory = pytest.mark.parametrize("inventory", rendering.INVENTORIES)
each_engine = pytest.mark.parametrize("engine", ENGINES)


@functools.cache
def documents(inventory: str, engine: str) -> list[Document]:
    return list(rendering.Cluster(inventory, {"mongodb_engine": engine}).documents("mongodb"))


def one(inventory: str, engine: str, kind: str, name: str = "mongodb") -> Document:
    (found,) = [document for document in documents(inventory, engine) if document["kind"] == kind and document["metadata"]["name"] == name]
    return found


def pod(inventory: str, engine: str) -> Document:
    spec: Document = one(inventory, engine, "StatefulSet" if engine == "mongodb" else "Deployment")["spec"]["template"]["spec"]
    return spec


def configuration(inventory: str, changes: Document | None = None) -> Document:
    cluster = rendering.Cluster(inventory, {"mongodb_engine": "mongodb"} | (changes or {}))
    (config,) = [document for document in cluster.documents("mongodb") if document["kind"] == "ConfigMap"]
    parsed: Document = yaml.safe_load(config["data"]["mongod.conf"])
    return parsed


@each_engine
@each_inventory
def test_pods_are_restricted_and_their_images_fixed(inventory: str, engine: str) -> None:
    spec = pod(inventory, engine)
    assert spec["securityContext"]["runAsNonRoot"] and spec["automountServiceAccountToken"] is False
    (container,) = spec["containers"]
    assert container["image"] == rendering.Cluster(inventory).value("catalog", "platform_image_references")[engine]
    assert container["securityContext"]["readOnlyRootFilesystem"] and container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["readinessProbe"] != container["livenessProbe"]
    assert all(volume["emptyDir"].get("sizeLimit") for volume in spec.get("volumes", []) if "emptyDir" in volume)


@each_engine
@each_inventory
def test_clients_are_the_same_for_both_engines(inventory: str, engine: str) -> None:
    service = one(inventory, engine, "Service")
    assert [port["port"] for port in service["spec"]["ports"] if port["name"] == "mongodb"] == [27017]
    policies = [document for document in documents(inventory, engine) if document["kind"] == "NetworkPolicy"]
    peers = [peer for policy in policies for rule in policy["spec"]["ingress"] for peer in rule["from"]]
    assert {"podSelector": {"matchLabels": {"progressive.platform/mongodb-client": "true"}}} in peers


@each_inventory
def test_members_keep_their_names_and_are_spread(inventory: str) -> None:
    workload = one(inventory, "mongodb", "StatefulSet")["spec"]
    assert (
        workload["replicas"] == 3 and workload["podManagementPolicy"] == "Parallel" and workload["updateStrategy"] == {"type": "OnDelete"}
    )
    headless = one(inventory, "mongodb", "Service", workload["serviceName"])["spec"]
    assert headless["clusterIP"] == "None" and headless["publishNotReadyAddresses"], "members must find each other to become ready"
    keys = {constraint["topologyKey"] for constraint in pod(inventory, "mongodb")["topologySpreadConstraints"]}
    assert keys == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
    assert one(inventory, "mongodb", "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


@each_inventory
def test_the_cache_leaves_room_within_the_limit(inventory: str) -> None:
    limit = quantity(pod(inventory, "mongodb")["containers"][0]["resources"]["limits"]["memory"])
    cache = configuration(inventory)["storage"]["wiredTiger"]["engineConfig"]["cacheSizeGB"] * 2**30
    assert 0.25 * 2**30 <= cache <= max(float(limit) / 2, 0.25 * 2**30)


def test_the_cache_is_half_of_what_is_beyond_one_gibibyte() -> None:
    for memory, gigabytes in (("1Gi", 0.25), ("4Gi", 1.5), ("9Gi", 4.0)):
        resources = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": memory}}
        found = configuration("production", {"mongodb_resources": resources})["storage"]["wiredTiger"]["engineConfig"]["cacheSizeGB"]
        assert found == gigabytes, memory


def test_members_ask_for_logins_and_the_inventory_may_add_directives() -> None:
    found = configuration("production", {"mongodb_config": {"storage": {"journal": {"commitIntervalMs": 50}}}})
    assert found["security"] == {"authorization": "enabled", "keyFile": "/run/progressive/keyfile"}
    assert found["storage"]["journal"] == {"commitIntervalMs": 50} and found["storage"]["dbPath"] == "/data/db"


def test_a_member_sees_its_key_and_no_password() -> None:
    (auth,) = [volume["secret"] for volume in pod("production", "mongodb")["volumes"] if volume["name"] == "auth"]
    assert auth["secretName"] == "mongodb-keyfile" and "keyfile" not in rendering.Cluster("production").value(
        "mongodb", "__mongodb_generate"
    )
    assert not [variable for variable in pod("production", "mongodb")["containers"][0]["env"] if "valueFrom" in variable]


def test_another_configuration_rolls_the_pods_and_a_label_does_not() -> None:
    def checksum(changes: Document) -> str:
        (workload,) = [one for one in rendering.Cluster("production", changes).documents("mongodb") if one["kind"] == "StatefulSet"]
        return str(workload["spec"]["template"]["metadata"]["annotations"]["progressive.platform/restart-checksum"])

    assert checksum({}) != checksum({"mongodb_oplog_size": "8Gi"})
    assert checksum({}) == checksum({"mongodb_probe_period": 5})


@each_inventory
def test_ferretdb_keeps_nothing_and_shows_no_password(inventory: str) -> None:
    spec = pod(inventory, "ferretdb")
    assert not [document for document in documents(inventory, "ferretdb") if document["kind"] in {"StatefulSet", "PersistentVolumeClaim"}]
    variables = {variable["name"]: variable for variable in spec["containers"][0]["env"]}
    assert variables["FERRETDB_POSTGRESQL_URL"]["value"].startswith("postgres://postgres-primary.")
    sources = {"PGUSER": ("postgres-users", "ferretdb.login"), "PGPASSWORD": ("postgres-users", "ferretdb")}
    for variable, source in {**sources, "FERRETDB_SETUP_PASSWORD": ("mongodb-auth", "password")}.items():
        reference = variables[variable]["valueFrom"]["secretKeyRef"]
        assert (reference["name"], reference["key"]) == source
    labels = one(inventory, "ferretdb", "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels["progressive.platform/postgres-client"] == "true"


@each_engine
def test_the_checks_are_ones_health_knows(engine: str) -> None:
    cluster = rendering.Cluster("production", {"mongodb_engine": engine})
    text = _roles.render(cluster.templar, _roles.role_path("mongodb") / "templates/checks.yaml.j2", cluster.variables("mongodb"))
    kinds = [check.kind for check in parse(yaml.safe_load(text))]
    assert kinds == (["workloads", "volumes", "mongodb"] if engine == "mongodb" else ["workloads"])


@each_inventory
def test_the_module_takes_what_the_role_gives_it(inventory: str) -> None:
    cluster = rendering.Cluster(inventory)
    given = {name: cluster.value("mongodb", f"mongodb_{name}") for name in ("members", "member_options", "settings", "write_concern")}
    defaults = {name: option.get("default") for name, option in ARGUMENTS.items()}
    desired = wanted(defaults | given | {"timeout": float(cluster.value("mongodb", "mongodb_converge_timeout"))})
    assert desired.members == 3
    (account,) = cluster.value("mongodb", "__mongodb_accounts")
    users.refuse(account)
    keys = cluster.value("mongodb", "__mongodb_generate")
    assert keys[f"{account['name']}-login"]["turns"] == account["logins"] and f"{account['name']}-password" in keys


def test_members_of_neighbouring_steps_let_each_other_in_while_their_key_is_changed(tmp_path: Path) -> None:
    """start.sh as it is, with another program in mongod's place: of every step the key shown first is one that the steps beside it have in their files."""
    (tmp_path / "mongod").write_text("#!/bin/sh\n")
    (tmp_path / "mongod").chmod(0o755)
    script = (_roles.role_path("mongodb") / "templates/scripts/start.sh").read_text()
    script = script.replace("/etc/progressive/auth", str(tmp_path / "auth")).replace("/run/progressive", str(tmp_path))
    steps = [
        {"keyfile": "one"},
        {"keyfile": "one", "next-keyfile": "two"},
        {"keyfile": "two", "former-keyfile": "one"},
        {"keyfile": "two"},
    ]
    files: list[list[str]] = []
    for number, keys in enumerate(steps):
        auth = tmp_path / f"auth-{number}"
        auth.mkdir()
        for name, value in keys.items():
            (auth / name).write_text(value)
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        subprocess.run(["sh", "-c", script.replace(str(tmp_path / "auth"), str(auth))], env=environment, check=True, timeout=30)
        assert stat.S_IMODE((tmp_path / "keyfile").stat().st_mode) == 0o600
        files.append(yaml.safe_load((tmp_path / "keyfile").read_text()))
    assert files == [["one"], ["one", "two"], ["two", "one"], ["two"]]
    for one, other in itertools.pairwise(files):
        assert one[0] in other and other[0] in one
