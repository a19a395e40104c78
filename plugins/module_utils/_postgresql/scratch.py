# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server on a data directory that was just restored, which only this process can reach (private: may change without notice)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._postgresql.programs import Programs, last_words
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.wire import Lost, Row, Session, SqlError
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, PlatformError

PORT = 5432
POLL = 0.1
STOP_WITHIN = 60.0
SHORT = "recovery ended before configured recovery target was reached"
# It must neither reach the cluster it was copied from, nor be reached, nor put anything into its archive.
SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "port": str(PORT),
    "ssl": "off",
    "archive_mode": "off",
    "primary_conninfo": "",
    "primary_slot_name": "",
    "synchronous_standby_names": "",
    "shared_buffers": "32MB",
    "huge_pages": "off",
    "hot_standby": "on",
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_min_messages": "warning",
}


class Server:
    """The server of ``data``, stopped with the context whatever happens; its log is in memory of nobody but ``words``."""

    def __init__(self, data: Path, programs: Programs, clock: Clock, deadline: float) -> None:
        self.data = data
        self._programs = programs
        self._clock = clock
        self._deadline = deadline
        self._room = Path(tempfile.mkdtemp(prefix="progressive-scratch-"))
        self._log = self._room / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._sessions: dict[str, Session] = {}

    def __enter__(self) -> Server:
        self._programs.own(self._room)
        access = self._room / "pg_hba.conf"
        access.write_text("local all all trust\n", encoding="utf-8")
        self._programs.own(access)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._close()
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_WITHIN)
        shutil.rmtree(self._room, ignore_errors=True)

    def start(self, settings: Mapping[str, str] | None = None) -> None:
        """Start it, and wait until it answers; raises PlatformError with its own words when it ends instead."""
        wanted = {**SETTINGS, "unix_socket_directories": str(self._room), "hba_file": f"{self._room}/pg_hba.conf", **(settings or {})}
        options = [part for name, value in wanted.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("wb") as log:
            command = [self._programs.path("postgres"), "-D", str(self.data), *options]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **self._programs.identity())
        self.until("select true", "it answers")

    def until(self, condition: str, what: str) -> None:
        """Wait until a query's answer is true."""
        while True:
            with contextlib.suppress(Lost, OSError, SqlError):
                if self.query(condition)[0][0] == "t":
                    return
            if self._process is None or self._process.poll() is not None:
                said = self.words()
                hint = "; the archive does not reach it yet, or never will: name an earlier target, or latest" if SHORT in said else ""
                raise PlatformError(f"The restored server ended before {what}: {said}{hint}.")
            if self._clock.now() > self._deadline:
                raise PlatformError(
                    f"The restored server has not come so far in time that {what}: {self.words()}. Give it longer: timeout."
                )
            self._clock.sleep(POLL)

    def query(self, text: str, database: str = "postgres", within: float = 0.0) -> list[Row]:
        if database not in self._sessions:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.settimeout(5.0)
                sock.connect(f"{self._room}/.s.PGSQL.{PORT}")
                self._sessions[database] = Session(sock, "postgres", "", database)
            except BaseException:
                sock.close()
                raise
        try:
            return self._sessions[database].query(text, within)
        except Lost:
            self._sessions.pop(database).close()
            raise

    def stop(self) -> None:
        """As an orderly shutdown, after which the directory can be started by anybody."""
        self._close()
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(max(self._deadline - self._clock.now(), STOP_WITHIN))
        except subprocess.TimeoutExpired as error:
            raise PlatformError(f"The restored server does not stop: {self.words()}") from error

    def words(self) -> str:
        return last_words(self._log.read_bytes()[-8192:]) if self._log.exists() else "it said nothing"

    def _close(self) -> None:
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()


def empty_directory(path: Path, programs: Programs) -> Path:
    """Make a data directory; raises PlatformError when there is something in it."""
    try:
        if path.exists() and any(path.iterdir()):
            raise PlatformError(
                f"{path} is not empty, so nothing is restored into it. Name another directory, or remove what is there yourself."
            )
        path.mkdir(mode=0o700, exist_ok=True)
        path.chmod(0o700)
        return programs.own(path)
    except OSError as error:
        raise PlatformError(f"{path} cannot be made: {error.strerror}.") from error


def refuse_no_room(path: Path, size: int, what: str) -> None:
    """A tenth more than the data, for the WAL of the recovery."""
    found = os.statvfs(path)
    free, wanted = found.f_bavail * found.f_frsize, size * 11 // 10 + 64 * 1024 * 1024
    if free < wanted:
        raise PlatformError(
            f"{what} needs {wanted / 1e6:.0f} MB in {path}, and {free / 1e6:.0f} MB are left. Make room, or name another directory."
        )
