# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backup, drill and restore where servers speak TLS only and know users only: with the rights of the operator, and no password in anything."""

from __future__ import annotations

import json
import subprocess
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._redis import backup, restore
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError, Result
from ansible_collections.progressive.platform.tests.redis.lab import arguments
from ansible_collections.progressive.platform.tests.redis.secure import SecureLab, secrets

KEYS = 60


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureLab]:
    lab = SecureLab(tmp_path_factory.mktemp("vault"), secrets())
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_STATE_HOME", str(lab.directory / "state"))
            lab.add(6)
            lab.converge()
            lab.fill(KEYS)
            yield lab
    finally:
        lab.stop()


def test_what_was_backed_up_over_tls_is_restored_over_tls(secure: SecureLab, tmp_path: Path) -> None:
    place = {"path": str(tmp_path / "backups"), "s3": None, "spool": None}

    def call(module: t.Any, **params: t.Any) -> Result:
        given = {"addresses": secure.addresses, "storage": place, **secure.given, **params}
        return dict(module.run(arguments(module.ARGUMENTS, given), Context()))

    taken = call(backup)
    assert taken["backup"]["keys"] == KEYS and {item["role"] for item in taken["plan"]} == {"replica"} and taken["warnings"] == []
    drilled = call(restore, mode="drill")
    assert drilled["drill"]["ok"] and drilled["compared"]["equal"] == KEYS
    assert call(restore, mode="compare")["compared"]["equal"] == KEYS
    with pytest.raises(PlatformError, match="The cluster is not empty"):
        call(restore)
    for server in secure.masters():
        server("FLUSHALL")
    secure.wait(secure.settled)
    assert call(restore)["restored"]["restored"] == KEYS and secure.read(KEYS) == KEYS
    with pytest.raises(PlatformError, match="certificate"):
        call(backup, tls={"server_name": "another.example.test", "ca_cert": secure.given["tls"]["ca_cert"]})
    manifest = next((tmp_path / "backups").rglob("manifest.json")).read_text()
    for passwords in secrets().values():
        assert not any(password in json.dumps([taken, drilled]) + manifest for password in passwords)


def test_a_drill_fills_the_server_beside_it(secure: SecureLab, tmp_path: Path) -> None:
    """As in the pod of a job: somebody else starts the scratch server, the module gets its socket."""
    place = {"path": str(tmp_path / "backups"), "s3": None, "spool": None}
    given = {"addresses": secure.addresses, "storage": place, **secure.given}
    backup.run(arguments(backup.ARGUMENTS, given), Context())
    socket = tmp_path / "redis.sock"
    command = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--dir", str(tmp_path), "--save", ""]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    scratch = {"socket": str(socket), "namespace": None, "selector": None, "port": 6379}
    asked = arguments(restore.ARGUMENTS, {**given, "mode": "drill", "scratch": scratch})
    try:
        assert restore.run(asked, Context())["compared"]["equal"] == KEYS
        with pytest.raises(PlatformError, match=f"is not empty \\({KEYS} keys\\); it is not touched"):
            restore.run(asked, Context())
    finally:
        process.kill()
        process.wait(10)
