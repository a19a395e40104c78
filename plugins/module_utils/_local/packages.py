# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Debian packages: installed when missing, and without starting what they bring."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._local.shell import call
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

DATABASE = Path("/var/lib/dpkg/status")
POLICY = Path("/usr/sbin/policy-rc.d")
# invoke-rc.d asks this program before it starts a service; 101 is "no" (Debian's policy-rc.d specification).
NO_SERVICES = "#!/bin/sh\nexit 101\n"


def installed(status: str) -> set[str]:
    """Names of the installed packages in the text of dpkg's status database."""
    names = set()
    name = ""
    for line in status.splitlines():
        if line.startswith("Package: "):
            name = line[9:]
        elif line.startswith("Status: ") and line.endswith(" installed"):
            names.add(name)
    return names


def missing(wanted: Iterable[str]) -> list[str]:
    """Those of ``wanted`` that are not installed. Reads dpkg's database itself: five times quicker than asking dpkg-query."""
    try:
        have = installed(DATABASE.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        raise PlatformError(
            f"The local cluster installs Debian packages, and this machine has no {DATABASE} ({error.strerror}). "
            "Use a Debian machine, or set local_cluster_provider to kind or existing."
        ) from error
    return [name for name in wanted if name not in have]


def install(names: Iterable[str], timeout: float = 900.0) -> None:
    """Install ``names`` with apt; a policy that was there already is respected and stays."""
    if not shutil.which("apt-get"):
        raise PlatformError(f"apt-get is wanted to install {', '.join(names)} and not there.")
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    ours = not POLICY.exists()
    if ours:
        POLICY.write_text(NO_SERVICES, encoding="ascii")
        POLICY.chmod(0o755)
    try:
        call(["apt-get", "update", "-qq"], timeout=timeout, env=environment)
        call(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *names], timeout=timeout, env=environment)
    finally:
        if ours:
            POLICY.unlink(missing_ok=True)
