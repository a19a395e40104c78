# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One direct connection to each member, by pymongo (private: may change without notice).

The driver brings the wire protocol, SCRAM and TLS; its discovery of other members is switched off, because every member is asked for its own view.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import tempfile
import typing as t
from collections.abc import Mapping
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._members.credentials import OPTIONS, Access, Tls
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

if t.TYPE_CHECKING:
    from pymongo import MongoClient

LOGIN: dict[str, t.Any] = {
    **OPTIONS,
    # The driver verifies the name it connects to; there is no other.
    "tls": {**OPTIONS["tls"], "options": {name: option for name, option in OPTIONS["tls"]["options"].items() if name != "server_name"}},
}
CONNECT_WITHIN = 3.0
"""Seconds to find, connect to and greet one member."""
ANSWER_WITHIN = 15.0
"""Seconds for one command; longer than the server itself waits for a configuration to be committed."""
AUTHENTICATION_FAILED, UNAUTHORIZED = 18, 13
RETRIABLE = frozenset({50, 91, 103, 109, 112, 189, 262, 308, 10107, 11600, 11602, 13435, 13436})
"""Codes of what passes: an election or a reconfiguration under way, a former configuration that is not committed, a time that has run out."""


class Lost(Exception):
    """The member cannot be reached, or the connection broke."""


class Refused(Exception):
    """The member is there and does not let us in. ``kind`` is auth, tls or foreign; ``hint`` says what to do next."""

    def __init__(self, kind: str, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.hint = hint


@dataclasses.dataclass
class Connection:
    """A client of one member, and how it was let in (model.Node.login)."""

    client: MongoClient[dict[str, t.Any]]
    login: str

    def command(self, document: Mapping[str, t.Any], database: str = "admin") -> dict[str, t.Any]:
        """The reply, which may be a refusal (``ok`` 0 with ``code`` and ``errmsg``). Raises Lost."""
        from pymongo.errors import ConnectionFailure, NotPrimaryError, OperationFailure, PyMongoError

        try:
            return dict(self.client[database].command(dict(document)))
        except (OperationFailure, NotPrimaryError) as error:  # the driver takes the latter for a broken connection; it is an answer
            details = dict(t.cast("Mapping[str, t.Any]", error.details) or {})
            return {"code": 0, "errmsg": str(error), **details, "ok": 0.0}
        except ConnectionFailure as error:
            raise Lost(_short(error)) from error
        except PyMongoError as error:
            raise Lost(f"{type(error).__name__}: {_short(error)}") from error

    def close(self) -> None:
        self.client.close()


def require() -> None:
    """Refuse before the first connection where the library is missing."""
    try:
        import pymongo  # noqa: F401
    except ImportError as error:
        from ansible.module_utils.basic import missing_required_lib

        raise PlatformError(missing_required_lib("pymongo", url="https://pypi.org/project/pymongo/")) from error


class Door:
    """Opens connections for one run. Certificates are files to the driver: they lie in a folder of their own that goes with the run."""

    def __init__(self, access: Access, answer: float = ANSWER_WITHIN) -> None:
        self.access = access
        self._answer = answer
        self._stack = contextlib.ExitStack()
        self._tls = self._options(access.tls) if access.tls else {}

    def close(self) -> None:
        self._stack.close()

    def open(self, host: str, port: int) -> Connection:
        """Logged in with the first password that is taken, or without where the server asks nobody. Raises Lost and Refused."""
        _reached(host, port)
        for rank, password in enumerate(self.access.passwords):
            connection = self._client(host, port, "user" if rank == 0 else "former", username=self.access.username, password=password)
            reply = self._greeted(connection, {"ping": 1})
            if reply.get("ok"):
                return connection
            connection.close()
            if reply.get("code") != AUTHENTICATION_FAILED:
                raise Refused("auth", f"it answers the login with {reply.get('errmsg')}")
        connection = self._client(host, port, "open")
        reply = self._greeted(connection, {"replSetGetStatus": 1})
        if reply.get("code") != UNAUTHORIZED:
            return connection
        connection.close()
        if self.access.passwords:
            hint = "Give the one these members have in password or password_secret; a former one, while it is being changed, in former_password."
            raise Refused("auth", f"it refuses the password of user {self.access.username!r}", hint)
        raise Refused("auth", "it wants a login and none was given", "Give username, and password or password_secret.")

    def _greeted(self, connection: Connection, command: dict[str, t.Any]) -> dict[str, t.Any]:
        try:
            return connection.command(command)
        except Lost as error:
            connection.close()
            text = str(error)
            if "CERTIFICATE_VERIFY_FAILED" in text or "certificate verify failed" in text:
                hint = "Give the authority that issued it in tls.ca_cert; pods are reached as localhost, so it must be for that name too."
                raise Refused("tls", f"its certificate is not accepted ({text})", hint) from error
            raise

    def _client(self, host: str, port: int, login: str, **credentials: t.Any) -> Connection:
        from pymongo import MongoClient

        client: MongoClient[dict[str, t.Any]] = MongoClient(
            host,
            port,
            directConnection=True,
            connectTimeoutMS=int(CONNECT_WITHIN * 1000),
            serverSelectionTimeoutMS=int(CONNECT_WITHIN * 1000),
            socketTimeoutMS=int(self._answer * 1000),
            serverMonitoringMode="poll",
            retryReads=False,
            retryWrites=False,
            maxPoolSize=1,
            appname="progressive.platform",
            **credentials,
            **self._tls,
        )
        return Connection(client, login)

    def _options(self, tls: Tls) -> dict[str, t.Any]:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="progressive-")))
        options: dict[str, t.Any] = {"tls": True}
        if tls.ca:
            options["tlsCAFile"] = _private(folder / "ca.pem", tls.ca)
        if tls.cert:
            options["tlsCertificateKeyFile"] = _private(folder / "client.pem", f"{tls.cert}\n{tls.key}")
        return options


def _private(path: Path, text: str) -> str:
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(text)
    return str(path)


def _reached(host: str, port: int) -> None:
    """A refused connection is told at once; the driver would try until its time is up."""
    try:
        socket.create_connection((host, port), timeout=CONNECT_WITHIN).close()
    except OSError as error:
        raise Lost(f"cannot connect: {error.strerror or error}") from error


def _short(error: Exception) -> str:
    """The driver's own words without its picture of the topology."""
    return str(error).partition(", Timeout:")[0].partition(" (configured timeouts")[0]
