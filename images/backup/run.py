# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs one module of the collection: run.py MODULE OPTIONS.json

The options are those of the task; environment variable OPTIONS may hold further ones, also as JSON. The result goes to standard output, and to the
container's last words, where whoever started the job reads it.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

MODULES = "ansible_collections.progressive.platform.plugins.modules"
LAST_WORDS = Path("/dev/termination-log")
LAST_WORDS_AT_MOST = 4096  # bytes that Kubernetes keeps


def main(name: str, options: str) -> int:
    from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
    from ansible_collections.progressive.platform.plugins.module_utils._run import Context, PlatformError

    module = importlib.import_module(f"{MODULES}.{name}")
    checked = ArgumentSpecValidator(module.ARGUMENTS, **getattr(module, "CONSTRAINTS", {})).validate(
        {**json.loads(Path(options).read_text()), **json.loads(os.environ.get("OPTIONS") or "{}")}
    )
    try:
        if checked.error_messages:
            raise PlatformError("; ".join(checked.error_messages))
        result = module.run(checked.validated_parameters, Context())
    except PlatformError as error:
        result = {"failed": True, "msg": error.message, **error.details}
    text = json.dumps(result, default=str)
    print(text, flush=True)
    if LAST_WORDS.exists():
        short = {
            key: result[key] for key in ("failed", "msg", "backup", "restored", "drill", "from", "to", "system", "seconds") if key in result
        }
        words = text if len(text.encode()) <= LAST_WORDS_AT_MOST else json.dumps(short, default=str)
        LAST_WORDS.write_text(words.encode()[:LAST_WORDS_AT_MOST].decode(errors="ignore"))
    return int(bool(result.get("failed")))


def check() -> int:
    """That every module a job may run can be imported."""
    for name in ("redis_cluster_backup", "redis_cluster_restore", "postgresql_backup", "postgresql_restore", "postgresql_upgrade"):
        importlib.import_module(f"{MODULES}.{name}")
    return 0


if __name__ == "__main__":
    sys.exit(check() if sys.argv[1:] == ["--check"] else main(*sys.argv[1:3]))
