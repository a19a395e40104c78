# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection's playbooks as a person runs them, and a platform of a test's own by them.

With PROGRESSIVE_THERE=1 the platform of the test's namespace is there already, and stays.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RUN_TIMEOUT = 900  # seconds


def playbook(name: str, variables: Path, *options: str, fails: bool | None = False, enter: Sequence[str] = ()) -> str:
    """What it printed on the local cluster; ``fails`` is whether it is expected to, None is either; ``enter`` is a command that runs another elsewhere."""
    command = [
        *enter,
        str(ROOT / ".venv/bin/ansible-playbook"),
        "-i",
        "inventories/local",
        f"playbooks/{name}.yml",
        "-e",
        f"@{variables}",
        *options,
    ]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=RUN_TIMEOUT, check=False)
    printed = done.stdout + done.stderr
    why = printed[printed.find("[ERROR]") :][:3000]  # before what the failed task returned, which may be a whole report
    assert fails is None or (done.returncode != 0) == fails, f"{why}\n...\n{printed[-3000:]}"
    return printed


def eventually(what: str, question: Callable[[], Any], timeout: float, pause: float = 1.0) -> Any:
    """The first answer that is true; a failure names ``what`` was waited for, in seconds."""
    deadline = time.monotonic() + timeout
    while not (answer := question()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout:g} s"
        time.sleep(pause)
    return answer


@contextlib.contextmanager
def installed(folder: Path, wanted: dict[str, Any]) -> Iterator[Path]:
    """A platform by site.yml, and its variables' file; gone by teardown.yml afterwards. Its reports are in ``folder``."""
    variables = folder / "variables.json"
    usual = {
        "platform_reports_dir": str(folder / "reports"),
        "postgresql_delete_volumes": True,
        "redis_cluster_delete_volumes": True,
        "teardown_confirm": "local",
    }
    variables.write_text(json.dumps(usual | wanted))
    there = bool(os.environ.get("PROGRESSIVE_THERE"))
    try:
        if not there:
            playbook("site", variables)
        yield variables
    finally:
        if not there:
            playbook("teardown", variables)
