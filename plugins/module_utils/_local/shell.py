# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Running other programs: always with a deadline, and a failure carries what the program said."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError


def call(command: Sequence[str], stdin: str = "", timeout: float = 60.0, env: Mapping[str, str] | None = None) -> str:
    """Standard output of ``command``; PlatformError when it is missing, fails, or takes longer than ``timeout`` seconds."""
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=timeout, env={**os.environ, **(env or {})}, check=False
        )
    except FileNotFoundError as error:
        raise PlatformError(f"The program {command[0]} is wanted and not on this machine; install it and run again.") from error
    except subprocess.TimeoutExpired as error:
        raise PlatformError(f"'{' '.join(command)}' did not end within {timeout:g} s.") from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "nothing")[-2000:]
        raise PlatformError(f"'{' '.join(command)}' ended with code {done.returncode} and said: {said}", rc=done.returncode)
    return done.stdout


def succeeds(command: Sequence[str], timeout: float = 60.0) -> bool:
    """Whether ``command`` ends with code 0."""
    try:
        call(command, timeout=timeout)
    except PlatformError:
        return False
    return True


def default_cache() -> Path:
    """``${XDG_CACHE_HOME:-~/.cache}/progressive-platform``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "progressive-platform"


def unfinished(path: Path) -> Path:
    """A hidden name next to ``path`` for what is to be renamed to it, which no other process and no other thread writes."""
    return path.with_name(f".{os.getpid()}.{threading.get_ident()}.{path.name}")


def write_atomic(path: Path, content: str, mode: int = 0o644) -> None:
    """Write a file that is never seen half-written and never, not even for a moment, readable by more than ``mode`` allows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = unfinished(path)
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(content)
    temporary.replace(path)


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a log, for an error message; empty when there is no such file."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 20000))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def symlink(path: Path, target: str) -> None:
    """Make ``path`` a symbolic link to ``target``, replacing what was there in one step."""
    if path.is_symlink() and os.readlink(path) == target:
        return
    temporary = unfinished(path)
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(path)
