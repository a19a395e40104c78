# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that several threads write at once, as the nodes of a cluster do when it is made."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._local import shell


def test_threads_that_write_one_file_do_not_take_each_others_unfinished_one(tmp_path: Path) -> None:
    together = threading.Barrier(8)
    path = tmp_path / "file"

    def write(number: int) -> None:
        for _round in range(50):
            together.wait(timeout=20)
            shell.write_atomic(path, f"{number}\n" * 100)

    with ThreadPoolExecutor(max_workers=8) as pool:
        for written in [pool.submit(write, number) for number in range(8)]:
            written.result(timeout=60)
    assert len(set(path.read_text(encoding="utf-8").split())) == 1
    assert list(tmp_path.iterdir()) == [path]
