# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Logs and objects as hostile as they come: the secret does not leave, and what helps a person stays."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.masks import HIDDEN
from ansible_collections.progressive.platform.plugins.module_utils._kube.redact import Redactor, looks_random, telling

SECRET = "correct horse 9!"
WORD = "tr0ub4dor"  # no pattern finds this one by itself
GENERATED = "aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1eF"
PEM = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIABCDEFabcdef0123456789+/x\n-----END EC PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJlLXRoYXQtaXMtbG9uZw"


@pytest.mark.parametrize(
    ("line", "leak"),
    [
        (f"DB_PASSWORD={WORD} started", WORD),
        (f"password: {WORD}", WORD),
        (f"dbPassword : '{SECRET}' given", "horse"),
        (f'{{"level":"info","password":"{WORD}","user":"app"}}', WORD),
        ('{"password":"with \\" quote"}', "quote"),
        (f'{{"msg":"{{\\"api_key\\":\\"{WORD}\\"}}"}}', WORD),
        (f"connecting to postgresql://app:{WORD}@postgres:5432/app", WORD),
        ("connecting to redis://:p@ss/word@cache:6379/0", "ss/word"),
        (f"GET / Authorization: Bearer {WORD}{WORD}", WORD),
        (f"authorization=Basic {base64.b64encode(b'app:tr0ub4dor').decode()}", "YXBw"),
        (f"-H 'X-Auth-Token: {WORD}'", WORD),
        (f"token {JWT} refused", "eyJ"),
        (f"loaded\n{PEM}\nready", "MHcCAQEE"),
        ("tail cut -----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA", "MIIE"),
        (f"ALTER USER app PASSWORD '{SECRET}'", "horse"),
        (f"CREATE USER app IDENTIFIED BY '{SECRET}'", "horse"),
        (f"requirepass {WORD}", WORD),
        (f"masterauth {WORD}", WORD),
        (f"user app on ~* +@all >{WORD} >{WORD}2", WORD),
        (f"AUTH app {WORD}", WORD),
        (f"curl -u app:{WORD} https://x", WORD),
        (f"mysqld --password {WORD} --verbose", WORD),
        ("rolpassword SCRAM-SHA-256$4096:c2FsdA==$aaa:bbb", "c2FsdA"),
        ("hash $2b$12$abcdefghijklmnopqrstuv", "abcdefghij"),
        ("AKIAIOSFODNN7EXAMPLE used", "AKIA"),
        ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "ghp_"),
        ("Set-Cookie: sid=abc; HttpOnly", "abc"),
        (f"the key is {GENERATED}, keep it", GENERATED),
        (f"https://x/login?user=a&access_token={WORD}&next=/", WORD),
        (f"env:\n  - SECRET_KEY={WORD}\n", WORD),
        (f"Traceback: OperationalError(password='{WORD}', host='db')", WORD),
        (f"PGPASSWORD={WORD} psql", WORD),
    ],
)
def test_a_line_of_a_log_loses_its_secret(line: str, leak: str) -> None:
    redactor = Redactor()
    shown = redactor.text(line)
    assert leak not in shown
    assert HIDDEN in shown
    assert redactor.hidden
    assert Redactor().text(shown) == shown, "what is hidden stays as it is"


@pytest.mark.parametrize(
    "form",
    [
        "x {value} y",
        "x{value}y",
        "{base64}",
        "{url}",
        "{json}",
        "{repr}",
    ],
)
@pytest.mark.parametrize("value", [WORD, 'with\nline\tand "quote"', "p@ss/w%rd&1", "ünïcode-ß"])
def test_a_known_value_is_found_in_every_dress(value: str, form: str) -> None:
    import urllib.parse

    dressed = form.format(
        value=value,
        base64=base64.b64encode(value.encode()).decode(),
        url=urllib.parse.quote(value, safe=""),
        json=json.dumps(value),
        repr=repr(value),
    )
    shown = Redactor([value]).text(dressed)
    assert value not in shown
    assert dressed.strip("xy \"'")[:8] not in shown


@pytest.mark.parametrize(
    "line",
    [
        "GET /health 200 in 3 ms",
        "Back-off restarting failed container app in pod progressive-framework-v5-7d9f8b6c5d-x2x7p_shop",
        'secret "app-secrets" not found',
        "secretName: app-tls",
        "token_count=512 passwordPolicy: strict",
        "image localhost/progressive/agent:sha-0123456789abcdef@sha256:" + "a1" * 32,
        "trace 4bf92f3577b34da6a3ce929d0e0e4736",
        "uid 0b3c2c1e-7c0e-4f6e-9d7a-2f0d3a7e9b11",
        "https://kubernetes.default.svc:443/api/v1/namespaces",
        "0/3 nodes are available: 1 node(s) had untolerated taint {cache-workload: true}, 2 Insufficient memory.",
        "automountServiceAccountToken: false",
        "applyset-0eFHV8ySqp7XoShsGvyWFQD3s96yqwHmzc4e0HR1dsY-v1",
        "PASSWORD authentication failed for user app",
        "/var/lib/postgresql/data/pg_wal/000000010000000000000001",
        "progressive.platform.redis-cluster-marker-of-the-first-cluster",
    ],
)
def test_what_helps_a_person_stays(line: str) -> None:
    redactor = Redactor()
    assert redactor.text(line) == line
    assert not redactor.hidden


def test_an_object_loses_what_looks_like_a_secret() -> None:
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "app",
            "labels": {"pod-template-hash": "7d9f8b6c5d"},
            "annotations": {
                "example.com/token": WORD,
                "note": f"password={WORD}",
                "kubectl.kubernetes.io/last-applied-configuration": WORD,
            },
            "managedFields": [{"manager": "x"}],
        },
        "spec": {
            "imagePullSecrets": [{"name": "registry-credentials"}],
            "volumes": [{"name": "tls", "secret": {"secretName": "app-tls"}}],
            "containers": [
                {
                    "name": "app",
                    "command": ["app", f"--password={WORD}"],
                    "env": [
                        {"name": "DB_PASSWORD", "value": WORD},
                        {"name": "URL", "value": f"postgres://a:{WORD}@db/x"},
                        {"name": "LEVEL", "value": "debug"},
                        {"name": "API_KEY", "valueFrom": {"secretKeyRef": {"name": "app-secrets", "key": "api-key"}}},
                    ],
                }
            ],
        },
    }
    shown = Redactor().item(pod)
    assert WORD not in json.dumps(shown)
    container = shown["spec"]["containers"][0]
    assert container["env"][2] == {"name": "LEVEL", "value": "debug"}
    assert container["env"][3]["valueFrom"]["secretKeyRef"] == {"name": "app-secrets", "key": "api-key"}
    assert shown["spec"]["volumes"] == pod["spec"]["volumes"]
    assert shown["spec"]["imagePullSecrets"] == pod["spec"]["imagePullSecrets"]
    assert "managedFields" not in shown["metadata"]
    assert pod["metadata"]["annotations"]["example.com/token"] == WORD, "the object itself is not touched"


def test_of_a_secret_only_the_names_are_left() -> None:
    shown = Redactor().item(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "annotations": {"a": WORD}}, "data": {"k": WORD}}
    )
    assert shown == {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"k": HIDDEN}}


def test_a_config_map_with_a_password_in_it() -> None:
    data = {"redis.conf": f"port 6379\nrequirepass {WORD}\n", "password": WORD, "url": "http://mca-service:80"}
    shown = Redactor().item({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": data})
    assert shown["data"] == {"redis.conf": f"port 6379\nrequirepass {HIDDEN}\n", "password": HIDDEN, "url": "http://mca-service:80"}


@pytest.mark.parametrize(("name", "verdict"), [("DB_PASSWORD", True), ("apiKey", True), ("secretName", False), ("LEVEL", False)])
def test_names_that_tell(name: str, verdict: bool) -> None:
    assert telling(name) is verdict


def test_random_words() -> None:
    assert looks_random(GENERATED)
    assert not looks_random("FailedGetResourceMetric")
    assert not looks_random("progressive-framework-v5-service-account")
