# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The services' PostgreSQL: migrated by ten at once, written to the primary, read from a replica, and from the primary where there is none."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.progressive.platform.tests.postgresql.lab import SETTINGS, Lab, Member

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "images/services"))
from progressive.backends import BackendError, PostgresBackend, backends_from
from progressive.settings import SettingsError

PASSWORD = "app-never-shown"


def place(member: Member) -> str:
    return f"{member.host}:{member.ports['sql']}"


@pytest.fixture
def environ(lab: Lab, tmp_path: Path) -> dict[str, str]:
    """What a pod gets, with the members' own addresses in place of the Services; the database is empty."""
    for member in lab.members:
        if member.process is None or member.process.poll() is not None:
            member.start()
    users, databases = {"app": {}}, {"app": {"owner": "app"}}
    lab.converge(config=SETTINGS, users=users, user_passwords={"app": PASSWORD}, databases=databases)
    primary = lab.primary()
    lab.sql(primary, "drop table if exists traces, schema_version", "app")
    replica = next(member for member in lab.members if member is not primary)
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    (tmp_path / "username").write_text("app\n")
    files = {"POSTGRES_USER_FILE": str(tmp_path / "username"), "POSTGRES_PASSWORD_FILE": str(tmp_path / "password")}
    names = {"POSTGRES_DATABASE": "app", **files}
    return {"POSTGRES_PRIMARY": place(primary), "POSTGRES_REPLICA": place(replica), **names}


def made(environ: dict[str, str]) -> PostgresBackend:
    backend = backends_from(environ)["postgresql"]
    assert isinstance(backend, PostgresBackend)
    return backend


def test_ten_pods_migrate_at_once(environ: dict[str, str]) -> None:
    async def all_of_them() -> list[tuple[int, int]]:
        backends = [made(environ) for _pod in range(10)]
        try:
            return list(await asyncio.gather(*(backend.migrate() for backend in backends)))
        finally:
            await asyncio.gather(*(backend.close() for backend in backends))

    assert sorted(asyncio.run(all_of_them())) == [(0, 1)] + [(1, 1)] * 9


def run(environ: dict[str, str], work: Callable[[PostgresBackend], Any]) -> Any:
    async def life() -> Any:
        backend = made(environ)
        try:
            await backend.migrate()
            return await work(backend)
        finally:
            await backend.close()

    return asyncio.run(life())


def test_what_is_written_is_read_from_the_replica(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    once = PostgresBackend._once

    async def noted(self: PostgresBackend, address: Any, work: Any) -> Any:
        asked.append(address[1])
        return await once(self, address, work)

    monkeypatch.setattr(PostgresBackend, "_once", noted)

    async def work(backend: PostgresBackend) -> None:
        await backend.check()
        await backend.touch("one", "value")
        await backend.touch("one", "another")

    run(environ, work)
    primary, replica = (int(environ[name].rpartition(":")[2]) for name in ("POSTGRES_PRIMARY", "POSTGRES_REPLICA"))
    assert asked[-1] == replica and asked.count(primary) == 4, "migration, check, two writes; the reads went to the replica"


def test_without_a_replica_the_primary_answers(environ: dict[str, str]) -> None:
    run({**environ, "POSTGRES_REPLICA": "127.0.77.9:1"}, lambda backend: backend.touch("two", "value"))
    run({**environ, "POSTGRES_REPLICA": ""}, lambda backend: backend.touch("three", "value"))


def test_old_traces_go(environ: dict[str, str], lab: Lab) -> None:
    run(environ, lambda backend: backend.touch("old", "value"))
    lab.sql(lab.primary(), "update traces set at = now() - interval '2 hours'", "app")
    run(environ, lambda backend: backend.touch("new", "value"))
    assert lab.sql(lab.primary(), "select key from traces", "app") == [["new"]]


def test_connections_that_the_server_closed_are_no_failure(environ: dict[str, str], lab: Lab) -> None:
    async def work(backend: PostgresBackend) -> None:
        await backend.touch("four", "value")
        ended = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'progressive'"
        assert int(lab.sql(lab.primary(), ended)[0][0]) > 0
        await backend.touch("five", "value")

    run(environ, work)


def test_while_dns_is_silent_the_last_addresses_are_used(environ: dict[str, str], lab: Lab) -> None:
    host, _colon, port = environ["POSTGRES_PRIMARY"].rpartition(":")
    named = {**environ, "POSTGRES_PRIMARY": f"postgres-primary.test:{port}", "POSTGRES_REPLICA": ""}
    answers = [[(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0))]]

    async def dns(*_name: Any, **_options: Any) -> list[Any]:
        await asyncio.sleep(0 if answers else 60)
        return answers.pop()

    async def work() -> None:
        asyncio.get_running_loop().getaddrinfo = dns  # type: ignore[method-assign]
        backend = made(named)
        backend.RESOLVE = 0.2  # type: ignore[misc]
        try:
            await backend.migrate()
            assert not answers
            await backend.close()
            await backend.touch("dns", "value")
        finally:
            await backend.close()
        stranger = made(named)
        stranger.RESOLVE = 0.2  # type: ignore[misc]
        with pytest.raises(BackendError, match=r"postgres-primary\.test cannot be resolved: DNS is silent"):
            await stranger.check()

    asyncio.run(work())


def test_a_primary_that_became_a_replica_is_named(environ: dict[str, str]) -> None:
    run(environ, lambda backend: backend.touch("six", "value"))
    swapped = {**environ, "POSTGRES_PRIMARY": environ["POSTGRES_REPLICA"]}

    async def work() -> None:
        backend = made(swapped)
        backend.timeout = 3.0
        try:
            with pytest.raises(BackendError, match="leads to a replica"):
                await backend.check()
            with pytest.raises(BackendError, match="read-only"):
                await backend.touch("six", "value")
        finally:
            await backend.close()

    asyncio.run(work())


def test_a_wrong_password_is_said_and_not_shown(environ: dict[str, str]) -> None:
    Path(environ["POSTGRES_PASSWORD_FILE"]).write_text("wrong-never-shown")

    async def work() -> str:
        backend = made(environ)
        with pytest.raises(BackendError, match="password authentication failed") as caught:
            await backend.check()
        return str(caught.value)

    assert "never-shown" not in asyncio.run(work())


def test_a_password_that_changes_is_never_a_failure(environ: dict[str, str], lab: Lab) -> None:
    """With every step of its change the services read another file, and each connects anew for every request."""
    steps = [
        {"app": PASSWORD, "app.login": "app", "next-app": "next-never-shown", "next-app.login": "app_2"},
        {"app": "next-never-shown", "app.login": "app_2", "former-app": PASSWORD, "former-app.login": "app"},
        {"app": "next-never-shown", "app.login": "app_2"},
    ]

    async def work(backend: PostgresBackend) -> None:
        for number, secret in enumerate(steps):
            users, databases = {"app": {}}, {"app": {"owner": "app"}}
            lab.converge(config=SETTINGS, users=users, user_passwords=secret, databases=databases)
            for late in (True, False):  # the files come a while after the Secret
                if not late:
                    Path(environ["POSTGRES_USER_FILE"]).write_text(secret["app.login"])
                    Path(environ["POSTGRES_PASSWORD_FILE"]).write_text(secret["app"])
                await backend.close()
                await backend.touch(f"rotation-{number}-{late}", "value")

    try:
        run(environ, work)
    finally:
        lab.converge(config=SETTINGS, users={"app": {}}, user_passwords={"app": PASSWORD}, databases={"app": {"owner": "app"}})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"POSTGRES_PRIMARY": "nowhere"}, "is not host:port"),
        ({"POSTGRES_REPLICA": "a:1,b:2"}, "one host:port is wanted"),
        ({"POSTGRES_USER": ""}, "POSTGRES_USER is not set"),
    ],
)
def test_a_wrong_environment_is_refused(changes: dict[str, str], words: str) -> None:
    given = {"POSTGRES_PRIMARY": "db:5432", "POSTGRES_DATABASE": "app", "POSTGRES_USER": "app"}
    with pytest.raises(SettingsError, match=words):
        backends_from(given | changes)
