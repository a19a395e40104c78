# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PostgreSQL's own programs and pgBackRest on the host the module runs on (private: may change without notice)."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import typing as t
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

SAID = 600
"""Characters of a program's last words that an error repeats."""
PATIENCE = r"the database system is (starting up|not yet accepting connections)"
PLACES = ("/opt/postgresql", "/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")


@dataclass(frozen=True)
class Programs:
    """Runs programs as ``user`` where the module itself is root, as PostgreSQL refuses to be; ``folder`` is where its own ones are, found where empty."""

    folder: str = ""
    user: str = "postgres"

    def path(self, name: str) -> str:
        """One of PostgreSQL's own programs, of the newest version there is."""
        if self.folder:
            folders = [Path(self.folder)]
        else:
            folders = sorted((found for place in PLACES for found in Path("/").glob(place.lstrip("/"))), key=_version, reverse=True)
        for folder in folders:
            if (folder / name).exists():
                return str(folder / name)
        where = self.folder or ", ".join(PLACES)
        raise PlatformError(
            f"PostgreSQL's program {name} is not on this host (looked in {where}). Install PostgreSQL, or name its folder in binaries."
        )

    def call(
        self,
        command: Sequence[str],
        within: float,
        env: Mapping[str, str] | None = None,
        stdin: t.BinaryIO | None = None,
        cwd: Path | None = None,
    ) -> str:
        """What it prints; raises PlatformError with its last words when it fails, is not there, or takes longer than ``within`` seconds."""
        name = Path(command[0]).name
        try:
            done = subprocess.run(
                command,
                stdin=stdin or subprocess.DEVNULL,
                capture_output=True,
                timeout=max(within, 1.0),
                check=False,
                **(self.identity(env) | ({"cwd": cwd} if cwd else {})),
            )
        except FileNotFoundError as error:
            raise PlatformError(f"{name} is not on this host. Install it (apt install {name}) and run again.") from error
        except PermissionError as error:
            raise PlatformError(f"{name} cannot be run: {error}.") from error
        except subprocess.TimeoutExpired as error:
            raise PlatformError(f"{name} did not end within {within:.0f} s. Give it longer: timeout.") from error
        if done.returncode:
            raise PlatformError(f"{name} failed: {last_words(done.stderr or done.stdout)}")
        return done.stdout.decode(errors="replace")

    def identity(self, env: Mapping[str, str] | None = None) -> dict[str, t.Any]:
        """What subprocess needs to run as the user."""
        given: dict[str, t.Any] = {"cwd": "/", "env": {**os.environ, "LC_ALL": "C.UTF-8", **(env or {})}}
        if os.geteuid() == 0:
            found = self._account()
            given |= {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
        return given

    def own(self, path: Path) -> Path:
        """Give a file or folder that was made here to the user."""
        if os.geteuid() == 0:
            found = self._account()
            shutil.chown(path, found.pw_uid, found.pw_gid)
        return path

    def _account(self) -> pwd.struct_passwd:
        try:
            return pwd.getpwnam(self.user)
        except KeyError as error:
            raise PlatformError(
                f"PostgreSQL refuses to run as root, and there is no user {self.user} on this host. Name another one in user."
            ) from error


def last_words(output: bytes) -> str:
    """The end of what a program said, on one line; times of its log are no matter."""
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip() and not re.search(PATIENCE, line)]
    errors = [line for line in lines if re.search(r"ERROR|FATAL|PANIC|error:|HINT", line)] or lines
    return re.sub(r"\s+", " ", "; ".join(errors[-4:]))[-SAID:] or "it said nothing"


def _version(folder: Path) -> float:
    """Of /usr/lib/postgresql/15/bin; the image's own place comes first."""
    found = re.search(r"(\d+(\.\d+)?)(/bin)?$", str(folder))
    return float(found[1]) if found else 1000.0
