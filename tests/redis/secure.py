# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab with locks on: redis-server processes that speak TLS only, know users only, and whose certificates come from the collection's own authority."""

from __future__ import annotations

import datetime
import socket
import ssl
import time
import typing as t
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._kube import certificate
from ansible_collections.progressive.platform.plugins.module_utils._redis import grants
from ansible_collections.progressive.platform.plugins.module_utils._redis.access import hashed
from ansible_collections.progressive.platform.plugins.module_utils._redis.converge import ARGUMENTS, INFO_ARGUMENTS, run, run_info
from ansible_collections.progressive.platform.plugins.module_utils._redis.resp import Connection, Reply
from ansible_collections.progressive.platform.plugins.module_utils._redis.users import RULES, rules_of
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, Context, Result
from ansible_collections.progressive.platform.tests.redis.lab import Lab, Server, arguments

TESTER = ("tester", "the-test-looks-with-this")
"""A user of the tests' own, who may do everything; the module leaves users alone that it was not told of."""
NAME = "redis.example.test"


class SecureServer(Server):
    """TLS only and users only. ``folder`` holds ca.crt, tls.crt and tls.key; ``passwords`` those that the file of users begins with."""

    folder: Path
    passwords: t.ClassVar[dict[str, tuple[str, ...]]] = {}
    default = "off"

    def launch(self, **options: str) -> None:
        lines = [f"user default {self.default}", f"user {TESTER[0]} on {hashed(TESTER[1])} ~* &* +@all"]
        lines += [
            f"user {name} on {' '.join(hashed(password) for password in passwords)} {' '.join(rules_of(name))}"
            for name, passwords in self.passwords.items()
        ]
        (self.directory / "users.acl").write_text("\n".join(lines) + "\n")
        tls = {
            "port": "0",
            "tls-port": str(self.port),
            "tls-replication": "yes",
            "tls-cluster": "yes",
            "tls-auth-clients": "no",
            "tls-ca-cert-file": str(self.folder / "ca.crt"),
            "tls-cert-file": str(self.folder / "tls.crt"),
            "tls-key-file": str(self.folder / "tls.key"),
            "aclfile": str(self.directory / "users.acl"),
            # Without it 7.0.15 ends with an assertion when a peer hangs up before its MEET is read (seen while TLS handshakes were slow).
            "cluster-announce-ip": self.host,
        }
        if "replication" in self.passwords:
            tls |= {"masteruser": "replication", "masterauth": self.passwords["replication"][0]}
        super().launch(**tls, **options)

    def pipeline(self, commands: list[tuple[str, ...]]) -> list[Reply]:
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        plain = socket.create_connection((self.host, self.port), timeout=5)
        try:
            connection = Connection(context.wrap_socket(plain, server_hostname=NAME), Clock())
        except OSError:
            plain.close()
            raise
        try:
            deadline = time.monotonic() + 10
            assert connection.call([("AUTH", *TESTER)], deadline) == ["OK"]
            return connection.call(commands, deadline)
        finally:
            connection.close()


class SecureLab(Lab):
    """``authority`` issues, ``certify`` writes what the servers read; ``given`` are the options every call of a module gets."""

    def __init__(self, directory: Path, passwords: dict[str, tuple[str, ...]], **attributes: t.Any) -> None:
        super().__init__(directory)
        self.folder = directory / "tls"
        self.folder.mkdir(parents=True)
        now = datetime.datetime.now(datetime.UTC)
        self.authority = certificate.authority("test authority", 3650, now)
        (self.folder / "ca.crt").write_text(self.authority.cert)
        self.certify([NAME], 90)
        self.kind = type("LabServer", (SecureServer,), {"folder": self.folder, "passwords": passwords, **attributes})
        self.given: dict[str, t.Any] = {
            "username": "operator",
            "password": passwords.get("operator", ("",))[0],
            "tls": {"ca_cert": str(self.folder / "ca.crt"), "server_name": NAME},
        }

    def certify(self, names: list[str], days: int, since: int = 0) -> certificate.Pair:
        """A new certificate under the old paths, made as if ``since`` days ago."""
        when = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=since)
        pair = certificate.issue(self.authority, names, days, when)
        (self.folder / "tls.crt").write_text(pair.cert)
        (self.folder / "tls.key").write_text(pair.key)
        return pair

    def converge(self, check: bool = False, diff: bool = False, **params: t.Any) -> Result:
        given = {"addresses": self.addresses, "timeout": 60.0, **self.given, **params}
        return run(arguments(ARGUMENTS, given), Context(check=check, diff=diff))

    def info(self, **params: t.Any) -> Result:
        return run_info(arguments(INFO_ARGUMENTS, {"addresses": self.addresses, **self.given, **params}), Context())

    def users(self, passwords: dict[str, tuple[str, ...]], check: bool = False, **params: t.Any) -> Result:
        """Module redis_users with these passwords, the one to use first."""
        users = [{"name": name, "rules": "", "key": None, "passwords": list(given)} for name, given in passwords.items()]
        given = {"addresses": self.addresses, "users": users, **self.given, **params}
        return grants.run(arguments(grants.ARGUMENTS, given), Context(check=check))


def secrets() -> dict[str, tuple[str, ...]]:
    """A first password for each of the five users, none of them like another's."""
    return {name: (f"{name}-first-{index:08d}",) for index, name in enumerate(RULES)}
