# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module secret on a real API server: made once, never again, never shown."""

from __future__ import annotations

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client

Json = dict[str, Any]


def values(client: Client, namespace: str) -> dict[str, str]:
    data = client.get(client.resource("v1", "Secret").path(namespace, "auth"))["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def version(client: Client, namespace: str) -> str:
    return str(client.get(client.resource("v1", "Secret").path(namespace, "auth"))["metadata"]["resourceVersion"])


def test_made_once(secret_module: Callable[..., Json], client: Client, namespace: str) -> None:
    call = {"name": "auth", "namespace": namespace, "generate": {"password": {"length": 40}}, "data": {"user": "app-user"}}
    predicted = secret_module(check=True, **call)
    assert client.find(client.resource("v1", "Secret").path(namespace, "auth")) is None
    first = secret_module(**call)
    assert (
        first
        == predicted
        == {
            "changed": True,
            "name": "auth",
            "namespace": namespace,
            "keys": ["password", "user"],
            "generated": ["password"],
            "phase": "steady",
        }
    )
    made, at = values(client, namespace), version(client, namespace)
    assert len(made["password"]) == 40
    assert made["user"] == "app-user"
    for check in (True, False):
        again = secret_module(check=check, **call)
        assert not again["changed"]
        assert again["generated"] == []
    assert (values(client, namespace), version(client, namespace)) == (made, at)

    more = secret_module(**{**call, "generate": {**call["generate"], "second": {}}})
    assert (more["changed"], more["generated"]) == (True, ["second"])
    assert values(client, namespace).items() >= made.items()
    for text in (str(first), str(more)):
        assert made["password"] not in text


def test_a_value_somebody_rotated_stays(
    secret_module: Callable[..., Json], client: Client, kubectl: Callable[..., str], namespace: str
) -> None:
    call = {"name": "auth", "namespace": namespace, "generate": {"password": {}}}
    secret_module(**call)
    kubectl("-n", namespace, "patch", "secret", "auth", "-p", '{"stringData":{"password":"rotated-by-hand"}}')
    assert not secret_module(**call).get("failed")
    assert values(client, namespace) == {"password": "rotated-by-hand"}
    assert not secret_module(**call)["changed"]


def test_a_given_value_that_another_owns_is_a_conflict(
    secret_module: Callable[..., Json], client: Client, kubectl: Callable[..., str], namespace: str
) -> None:
    call = {"name": "auth", "namespace": namespace, "data": {"user": "ours"}}
    secret_module(**call)
    kubectl("-n", namespace, "patch", "secret", "auth", "-p", '{"stringData":{"user":"theirs"}}')
    refused = secret_module(**call)
    assert refused["failed"]
    assert ".data.user" in refused["msg"]
    assert secret_module(force=True, **call)["changed"]
    assert values(client, namespace) == {"user": "ours"}


def test_a_given_value_of_ours_changes(secret_module: Callable[..., Json], namespace: str) -> None:
    """What the first run created belongs to its kind of write, which is no other owner."""
    secret_module(name="given", namespace=namespace, data={"key": "one"})
    assert secret_module(name="given", namespace=namespace, data={"key": "two"})["changed"]
    assert not secret_module(name="given", namespace=namespace, data={"key": "two"})["changed"]


def test_runs_at_the_same_time_agree(secret_module: Callable[..., Json], client: Client, namespace: str) -> None:
    def run(_number: int) -> Json:
        return secret_module(name="auth", namespace=namespace, generate={"password": {}})

    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(run, range(6)))
    assert not [result["msg"] for result in results if result.get("failed")]
    made = values(client, namespace)
    assert not run(0)["changed"]
    assert values(client, namespace) == made


def test_a_namespace_that_is_not_there(secret_module: Callable[..., Json], absent_namespace: str) -> None:
    call = {"name": "auth", "namespace": absent_namespace, "generate": {"password": {}}}
    assert secret_module(check=True, **call)["changed"]
    result = secret_module(**call)
    assert result["failed"]
    assert f"kubectl create namespace {absent_namespace}" in result["msg"]


@pytest.mark.parametrize("connection", ["local", "community.general.chroot"])
def test_nothing_is_printed(play: Callable[..., Any], client: Client, namespace: str, connection: str) -> None:
    options = {"name": "auth", "namespace": namespace, "generate": {"password": {}}, "data": {"key": "a-given-value"}}
    result, printed = play([{"progressive.platform.secret": options}], connection=connection)
    assert result["changed"]
    assert values(client, namespace)["password"] not in printed
    assert base64.b64encode(values(client, namespace)["password"].encode()).decode() not in printed
    assert set(result["keys"]) == {"key", "password"}
