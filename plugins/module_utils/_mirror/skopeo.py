# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Registries, by skopeo (private: may change without notice).

What is tried again is what may pass by itself (an address that does not answer, 5xx, a connection that breaks); what a registry has decided is not.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import typing as t
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._local import packages
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, PlatformError

T = t.TypeVar("T")

# What registries answer for what is not there (distribution specification: MANIFEST_UNKNOWN, NAME_UNKNOWN).
ABSENT = re.compile(r"manifest unknown|name unknown|repository name not known|StatusCode: 404|: not found", re.IGNORECASE)
# What stays as it is, however often it is asked.
DECIDED = re.compile(
    r"unauthorized|authentication required|denied|forbidden|x509|gave HTTP response to HTTPS client|does not match|instructed to preserve"
    r"|invalid reference|Invalid (?:source|destination) name|authfile|no such file|unsupported|unknown (?:flag|shorthand)",
    re.IGNORECASE,
)
SAID = re.compile(r'level=(?:fatal|error) msg="((?:[^"\\]|\\.)*)"')
LONGEST_WAIT = 30.0
INSPECT_SECONDS = 60.0
POLICIES = (Path("/etc/containers/policy.json"), Path("~/.config/containers/policy.json"))


class Trouble(PlatformError):
    """What skopeo said; ``final`` when trying again is of no use."""

    def __init__(self, message: str, final: bool) -> None:
        super().__init__(message)
        self.final = final


@dataclass(frozen=True)
class Skopeo:
    """Reads and copies images. Credentials stand in ``authfile`` (``skopeo login``, ``docker login``), never on a command line."""

    authfile: str = ""
    source_tls_verify: bool = True
    tls_verify: bool = True
    attempts: int = 5
    timeout: float = 1800.0  # of one copy
    clock: Clock = field(default_factory=Clock)
    report: Callable[[str], None] = lambda _line: None

    def ready(self, check: bool) -> None:
        """Install the program where it is not there; in check mode say so."""
        if not shutil.which("skopeo"):
            if check:
                raise PlatformError("The program skopeo is wanted and not on this machine; run without check mode, or install it.")
            packages.install(["skopeo"])

    def digest(self, reference: str, at_source: bool = False) -> str:
        """The digest of what a registry has, an index's where it has one; empty where it has nothing of that name."""
        verify = self.source_tls_verify if at_source else self.tls_verify
        command = ["skopeo", "inspect", "--raw", *self._authfile(), _tls("", verify), f"docker://{reference}"]
        try:
            manifest = self._patiently(reference, lambda: run(command, INSPECT_SECONDS))
        except Trouble as trouble:
            if ABSENT.search(trouble.message):
                return ""
            raise
        return f"sha256:{hashlib.sha256(manifest).hexdigest()}"

    def labels(self, reference: str, architecture: str) -> dict[str, str]:
        """The labels of an image in a registry, of its ``architecture`` where it has several."""
        command = ["skopeo", f"--override-arch={architecture}", "--override-os=linux", "inspect", "--config", *self._authfile()]
        command += [_tls("", self.tls_verify), f"docker://{reference}"]
        config = json.loads(self._patiently(reference, lambda: run(command, INSPECT_SECONDS)))
        return dict((config.get("config") or {}).get("Labels") or {})

    def copy(self, source: str, target: str, digest: str) -> None:
        """Copy an image with all its platforms, byte for byte; PlatformError unless ``target``, in a registry, then has ``digest``."""
        policy = [] if any(path.expanduser().exists() for path in POLICIES) else ["--insecure-policy"]  # the digest says what is trusted
        command = ["skopeo", *policy, "copy", "--quiet", "--all", "--preserve-digests", *self._authfile()]
        command += [_tls("src-", self.source_tls_verify)] if source.startswith("docker://") else []
        command += [_tls("dest-", self.tls_verify)] if target.startswith("docker://") else []
        self._patiently(source, lambda: run([*command, source, target], self.timeout))
        if target.startswith("docker://") and (seen := self.digest(target.removeprefix("docker://"))) != digest:
            raise PlatformError(f"{target} was copied from {source} and is {seen or 'not there'}, not {digest}. Ask who else writes there.")

    def _patiently(self, what: str, do: Callable[[], T]) -> T:
        return patiently(do, what, self.attempts, self.clock, self.report)

    def _authfile(self) -> Sequence[str]:
        return ("--authfile", self.authfile) if self.authfile else ()


def patiently(do: Callable[[], T], what: str, attempts: int, clock: Clock, report: Callable[[str], None]) -> T:
    """Try up to ``attempts`` times, 1, 2, 4 ... seconds apart, 30 at most; the last trouble is raised."""
    for attempt in range(1, attempts + 1):
        try:
            return do()
        except Trouble as trouble:
            if trouble.final or attempt == attempts:
                tried = f" Tried {attempt} times." if attempt > 1 else ""
                raise Trouble(f"{trouble.message}{tried}", trouble.final) from trouble
            wait = min(2.0 ** (attempt - 1), LONGEST_WAIT)
            report(f"{what}: {trouble.message} Again in {wait:g} s.")
            clock.sleep(wait)
    raise PlatformError(f"{what}: attempts is {attempts}; at least 1 is wanted.")


def run(command: Sequence[str], timeout: float) -> bytes:
    """Standard output of a command, byte for byte, for a digest is made of it; Trouble with what it said."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, env={**os.environ}, check=False)
    except subprocess.TimeoutExpired as error:
        raise Trouble(f"{command[0]} did not end within {timeout:g} s.", final=False) from error
    except FileNotFoundError as error:
        raise Trouble(f"The program {command[0]} is wanted and not on this machine; install it and run again.", final=True) from error
    if done.returncode:
        text = done.stderr.decode("utf-8", "replace")
        said = "; ".join(match.replace('\\"', '"') for match in SAID.findall(text)) or text.strip()[-1000:] or "nothing"
        raise Trouble(
            f"{command[0]} ended with code {done.returncode} and said: {said}.", bool(DECIDED.search(said) or ABSENT.search(said))
        )
    return done.stdout


def _tls(side: str, verify: bool) -> str:
    return f"--{side}tls-verify={str(verify).lower()}"
