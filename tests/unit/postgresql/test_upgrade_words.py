# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is told of a pg_upgrade that failed, before its files are thrown away."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._postgresql import upgrade


def test_a_log_that_pg_upgrade_names_is_told_by_its_end_and_its_reports_before_it(tmp_path: Path) -> None:
    output = tmp_path / "pg_upgrade_output.d/20261127T113245.480"
    (output / "log").mkdir(parents=True)
    dumped = "x y " * 100 + "\nerror: PASSWORD 'SCRAM-SHA-256$4096:salt$stored:server'\nno such library\n"
    for name, text in {"pg_upgrade_dump_5.log": dumped, "pg_upgrade_internal.log": "internal"}.items():
        (output / "log" / name).write_text(text, encoding="utf-8")
    said = f'Consult the last few lines of "{output}/log/pg_upgrade_dump_5.log"'
    words = upgrade._reports(tmp_path, said)
    assert (
        words.startswith("pg_upgrade_dump_5.log: error: ")
        and words.endswith(" no such library")
        and "internal" not in words
        and "SCRAM" not in words
    )
    (output / "loadable_libraries.txt").write_text("could not load library", encoding="utf-8")
    assert upgrade._reports(tmp_path, said) == "loadable_libraries.txt: could not load library"
