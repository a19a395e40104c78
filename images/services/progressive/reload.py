# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""For development (compose.dev.yml): ``python -m progressive.reload progressive.app`` runs a module, and again whenever a source of the package changes."""

from __future__ import annotations

import functools
import runpy
import socket
import sys
from pathlib import Path

from uvicorn import Config
from uvicorn.supervisors import ChangeReload


def run(module: str, sockets: list[socket.socket] | None = None) -> None:
    """In a process of its own; the module opens its own ports."""
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def main(module: str) -> None:
    config = Config(module, reload=True, reload_dirs=[str(Path(__file__).parent)], log_config=None)
    ChangeReload(config, target=functools.partial(run, module), sockets=[]).run()


if __name__ == "__main__":
    main(sys.argv[1])
