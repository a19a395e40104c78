# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The services' documents in a real FerretDB on a real PostgreSQL: migrated by ten at once, kept through restarts, under logins that change."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._mongodb import users
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError
from ansible_collections.progressive.platform.tests.mongodb.ferret import ADMIN, PASSWORD, Ferret

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "images/services"))
from progressive.backends import BackendError, MongoBackend, backends_from
from progressive.settings import SettingsError

# FerretDB is compiled for them, which takes minutes where nobody has done it yet.
pytestmark = pytest.mark.slow

FIRST, SECOND = "first-never-shown", "second-never-shown"


@pytest.fixture
def environ(ferret: Ferret, tmp_path: Path) -> dict[str, str]:
    """What a pod gets; the database is empty."""
    with ferret.client() as client:
        client.drop_database("progressive")
    (tmp_path / "username").write_text(f"{ADMIN}\n")
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    login = {f"MONGODB_{name}_FILE": str(tmp_path / file) for name, file in (("USER", "username"), ("PASSWORD", "password"))}
    return {"MONGODB_NODES": ferret.address, "MONGODB_DATABASE": "progressive", **login}


def made(environ: dict[str, str]) -> MongoBackend:
    backend = backends_from(environ)["mongodb"]
    assert isinstance(backend, MongoBackend)
    return backend


def test_ten_pods_migrate_at_once(environ: dict[str, str], ferret: Ferret) -> None:
    async def all_of_them() -> list[tuple[int, int]]:
        backends = [made(environ) for _pod in range(10)]
        try:
            return list(await asyncio.gather(*(backend.migrate() for backend in backends)))
        finally:
            await asyncio.gather(*(backend.close() for backend in backends))

    first = asyncio.run(all_of_them())
    assert (0, 1) in first and set(first) <= {(0, 1), (1, 1)}
    assert set(asyncio.run(all_of_them())) == {(1, 1)}
    with ferret.client() as client:
        assert list(client.progressive.schema.find()) == [{"_id": "version", "version": 1}]
        assert set(client.progressive.traces.index_information()) == {"_id_", "at_1"}


def test_documents_survive_a_restart_of_ferretdb_and_of_postgresql(environ: dict[str, str], ferret: Ferret) -> None:
    """Each is lost while a request is under way; what a client may expect is a slow answer."""

    async def through(lose: Callable[[], None], back: Callable[[], None]) -> None:
        backend = made(environ)
        backend.timeout = 60.0
        try:
            await backend.put("notes", "before", {"words": "kept"})
            await asyncio.to_thread(lose)
            helper = threading.Timer(1.0, back)
            helper.start()
            await backend.touch("during", "1")
            await asyncio.to_thread(helper.join)
            found = await backend.get("notes", "before")
            assert found is not None and found["words"] == "kept"
            await backend.check()
        finally:
            await backend.close()

    asyncio.run(through(ferret.kill, ferret.start))
    asyncio.run(through(ferret.postgres.stop, ferret.postgres.start))


def test_what_is_away_is_named_in_time(environ: dict[str, str], ferret: Ferret) -> None:
    async def ask() -> str:
        backend = made(environ | {"MONGODB_NODES": "127.0.0.1:1"})
        backend.timeout = 1.0
        try:
            await backend.touch("a", "b")
        except BackendError as error:
            return str(error)
        finally:
            await backend.close()
        return ""

    said = asyncio.run(ask())
    assert said.startswith("mongodb") and PASSWORD not in said
    with pytest.raises(SettingsError, match="MONGODB_DATABASE is not set"):
        backends_from({"MONGODB_NODES": "mongodb:27017"})


class Secret:
    """Stands for the Kubernetes Secret, whose steps module secret makes (tests/unit/kube)."""

    def __init__(self) -> None:
        self.values = {"password": PASSWORD, "app-login": "app", "app-password": FIRST}

    def stage(self) -> None:
        self.values |= {"next-app-login": "app-b", "next-app-password": SECOND}

    def promote(self) -> None:
        for key in ("app-login", "app-password"):
            self.values |= {key: self.values.pop(f"next-{key}"), f"former-{key}": self.values[key]}

    def retire(self) -> None:
        self.values = {key: value for key, value in self.values.items() if not key.startswith("former-")}


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> Secret:
    held = Secret()
    monkeypatch.setattr(users.credentials, "secret_data", lambda *_arguments: ("Secret x/mongodb-auth", held.values))
    monkeypatch.setattr(users.server, "connect", lambda *_arguments: contextlib.nullcontext())
    return held


def converge(ferret: Ferret, check: bool = False, **changes: Any) -> dict[str, Any]:
    given = {name: option.get("default") for name, option in users.ARGUMENTS.items()}
    app = {"name": "app", "logins": ["app", "app-b"], "roles": ["readWrite@progressive"]}
    given |= {"addresses": [ferret.address], "username": ADMIN, "password": PASSWORD, "passwords_secret": {"name": "x"}, "users": [app]}
    return users.run({**given, **changes}, Context(check=check))


@pytest.fixture
def nobody(ferret: Ferret) -> Iterator[None]:
    """No user but the administrator."""
    with ferret.client() as client:
        there = [user["user"] for user in client.admin.command("usersInfo", 1)["users"]]
        for name in set(there) - {ADMIN}:
            client.admin.command("dropUser", name)
    yield


@pytest.mark.usefixtures("nobody")
def test_a_password_changes_without_a_failed_request(environ: dict[str, str], ferret: Ferret, secret: Secret, tmp_path: Path) -> None:
    """Requests all the time, by a client that reads its login from files; every step of the change is killed and run again."""
    assert [act["command"] for act in converge(ferret, check=True)["plan"]] == ["createUser app"]
    first = converge(ferret)
    assert first["changed"] and first["engine"] == "ferretdb" and FIRST not in str(first)
    assert not converge(ferret)["changed"]
    files = {"app-login": tmp_path / "username", "app-password": tmp_path / "password"}

    def publish() -> None:
        """As the kubelet brings a changed Secret into a pod, only not both files at once."""
        for key, file in files.items():
            file.write_text(secret.values[key])

    async def change() -> tuple[int, list[str]]:
        publish()
        backend, done, failed, over = made(environ), 0, list[str](), False

        async def requests() -> None:
            nonlocal done
            while not over:
                try:
                    await backend.touch(f"key-{done % 7}", str(done))
                    done += 1
                except BackendError as error:
                    failed.append(str(error))

        load = asyncio.create_task(requests())
        for step in (secret.stage, secret.promote, secret.retire):
            step()
            if step == secret.promote:
                publish()
            before = done
            for _again in range(2):
                await asyncio.to_thread(converge, ferret)
            while done < before + 20 and not failed:
                await asyncio.sleep(0.01)
        over = True
        await load
        await backend.close()
        return done, failed

    done, failed = asyncio.run(change())
    assert done >= 60 and failed == []
    assert not converge(ferret)["changed"]
    with ferret.client() as client:
        assert {user["user"] for user in client.admin.command("usersInfo", 1)["users"]} == {ADMIN, "app-b"}


@pytest.mark.usefixtures("nobody")
def test_a_password_of_somebody_elses_making_is_put_right(ferret: Ferret, secret: Secret) -> None:
    converge(ferret)
    with ferret.client() as client:
        client.admin.command("updateUser", "app", pwd="changed-by-hand-0", roles=[])
    assert [act["command"] for act in converge(ferret)["plan"]] == ["updateUser app"]
    with ferret.client("app", FIRST) as client:
        assert client.progressive.list_collection_names() is not None


@pytest.mark.usefixtures("nobody")
def test_the_administrators_own_password_changes(ferret: Ferret, secret: Secret) -> None:
    """In one step, as nobody keeps a connection under his name; a run that was killed between the server and the Secret goes on."""
    converge(ferret)
    secret.values["next-password"] = SECOND
    assert [act["command"] for act in converge(ferret)["plan"]] == [f"updateUser {ADMIN}"]
    try:
        assert not converge(ferret, password=SECOND, former_password=PASSWORD)["changed"]
        with pytest.raises(PlatformError, match="No MongoDB server can be used") as refused:
            converge(ferret)
        assert PASSWORD not in str(refused.value)
    finally:
        secret.values.pop("next-password")
        converge(ferret, password=SECOND)
    assert not converge(ferret)["changed"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"password": PASSWORD}, "has no app-login and app-password for user app; its keys: password"),
        ({"password": PASSWORD, "app-login": "root", "app-password": FIRST}, "logs in as root, which is none of its logins"),
        ({"password": PASSWORD, "app-login": "app", "app-password": "short"}, "less than 12 characters"),
        ({"password": "short", "app-login": "app", "app-password": FIRST}, "has no key 'password' of 12 characters"),
    ],
)
def test_a_secret_that_does_not_do_is_refused(ferret: Ferret, secret: Secret, values: dict[str, str], words: str) -> None:
    secret.values = values
    with pytest.raises(PlatformError, match=words) as refused:
        converge(ferret)
    assert FIRST not in str(refused.value)
