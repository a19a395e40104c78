# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The init container's command: wait for every backend, then bring its schema to this release; repeating it changes nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time

from progressive import logs
from progressive.backends import Backend, BackendError, backends_from
from progressive.settings import SECRET_VARIABLES, SettingsError, seconds

logger = logging.getLogger("progressive.migrate")


async def migrate(backend: Backend, deadline: float, pause: float = 1.0) -> bool:
    """Try until the deadline (monotonic seconds); False, with the last reason logged, when it passed."""
    while True:
        try:
            await backend.check()
            before, now = await backend.migrate()
        except BackendError as error:
            if time.monotonic() + pause > deadline:
                logs.event(logger, f"{error}; gave up waiting (MIGRATE_SECONDS)", level=logging.ERROR, backend=backend.name)
                return False
            logs.event(logger, f"{error}; waiting", level=logging.WARNING, backend=backend.name)
            await asyncio.sleep(pause)
        else:
            message = f"schema {before} -> {now}" if before != now else f"schema {now} is there already"
            logs.event(logger, message, backend=backend.name)
            return True


async def migrate_all(environ: dict[str, str]) -> int:
    backends = backends_from(environ)
    deadline = time.monotonic() + seconds(environ.get("MIGRATE_SECONDS") or "120")
    try:
        done = await asyncio.gather(*(migrate(backend, deadline) for backend in backends.values()))
    finally:
        await asyncio.gather(*(backend.close() for backend in backends.values()))
    return 0 if all(done) else 1


def main() -> int:
    environ = dict(os.environ)
    secrets = tuple(value for name in SECRET_VARIABLES if (value := environ.get(name)))
    logs.configure("INFO", {"component": "migrate", "instance": environ.get("POD_NAME", "")}, secrets)
    try:
        return asyncio.run(migrate_all(environ))
    except (SettingsError, ValueError) as error:
        logger.error("%s", error)
        return 78


if __name__ == "__main__":
    sys.exit(main())
