# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The frame every module of the collection runs in (private: may change without notice).

A module is an argument spec and a function ``run(params, context) -> result``. The function never sees an
AnsibleModule: an action plugin calls it in the controller's worker when the connection is local, the ordinary
module calls it when the task is sent to another host. Both give the same result.
"""

from __future__ import annotations

import json
import os
import time
import typing as t
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ansible.module_utils.basic import AnsibleModule

PROGRESS_FILE = "PROGRESSIVE_PLATFORM_PROGRESS"

Params = Mapping[str, t.Any]
Result = dict[str, t.Any]


class PlatformError(Exception):
    """What was wanted, what was seen, and the next command to run; ``details`` become keys of the failed result."""

    def __init__(self, message: str, **details: t.Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class Clock:
    """Real time, in seconds; tests pass a double, so that no unit test sleeps."""

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Progress:
    """Tells the progress callback what a long wait is waiting for: one JSON line ``{component, message, done}`` an event.

    The callback names the file in the environment; without a callback nothing is written. Messages never hold secrets.
    ``cluster`` stands before the component where a run has several of them, which write into one file.
    """

    def __init__(self, path: str | None = None, cluster: str = "") -> None:
        self.path = path if path is not None else os.environ.get(PROGRESS_FILE, "")
        self.cluster = cluster

    def report(self, component: str, message: str, done: bool = False) -> None:
        if self.path:
            name = f"{self.cluster}: {component}" if self.cluster else component
            line = json.dumps({"component": name, "message": message, "done": done}) + "\n"
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(line)


@dataclass(frozen=True)
class Context:
    """How a run was asked for: check mode, diff mode, where progress goes, and the clock."""

    check: bool = False
    diff: bool = False
    progress: Progress = field(default_factory=Progress)
    clock: Clock = field(default_factory=Clock)


Run = Callable[[Params, Context], Result]


def run_module(argument_spec: dict[str, t.Any], run: Run, **constraints: t.Any) -> None:
    """The whole ``main()`` of a module; constraints are those of AnsibleModule (required_one_of, ...)."""
    module = AnsibleModule(argument_spec=argument_spec, supports_check_mode=True, **constraints)
    try:
        result = run(module.params, Context(check=module.check_mode, diff=module._diff))
    except PlatformError as error:
        module.fail_json(msg=error.message, **error.details)
    module.exit_json(**result)
