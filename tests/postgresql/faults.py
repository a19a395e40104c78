# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of docs/postgresql_faults.md, made of what the tests that bring the faults about have seen; ``make docs`` writes it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SEEN = ROOT / "reports/postgresql_faults"
DOCUMENT = ROOT / "docs/postgresql_faults.md"
BEGIN, END = "<!-- faults: made by `make docs` from what the tests saw -->", "<!-- end of faults -->"
ROW = re.compile(r"^\| (?P<fault>[^|]+?) \| .*\|$", re.MULTILINE)


def record(fault: str, health: str, healed: str, silence: float | None = None, where: str = "cluster") -> None:
    """What a test saw: what health said, what healed it or why it was refused, and for how long a client had no row acknowledged."""
    SEEN.mkdir(parents=True, exist_ok=True)
    row = {"fault": fault, "health": health, "healed": healed, "silence": silence, "where": where}
    (SEEN / f"{re.sub('[^a-z0-9]+', '-', fault.lower()).strip('-')}.json").write_text(json.dumps(row, indent=2) + "\n")


def rewritten() -> str:
    """The document with the rows of the tests that were run since; those of others stay."""
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _unused, rest = text.partition(BEGIN)
    old, _unused, after = rest.partition(END)
    rows = {found["fault"]: found[0] for found in ROW.finditer(old) if found["fault"] not in ("Fault", "---")}
    for path in sorted(SEEN.glob("*.json")) if SEEN.exists() else []:
        row = json.loads(path.read_text())
        rows[row["fault"]] = _line(row)
    lines = [BEGIN, "", "| Fault | What health says | What heals it | No write for | Where |", "| --- | --- | --- | --- | --- |"]
    return before + "\n".join([*lines, *(rows[fault] for fault in sorted(rows)), "", END]) + after


def _line(row: dict[str, Any]) -> str:
    health = re.sub(r"\d+\.\d+\.\d+\.\d+(:\d+)?", "<address>", row["health"])
    health = re.sub(r"(?<=system identifier )\d+", "<number>", health).replace("|", "/").replace("\n", " ")
    silence = "-" if row["silence"] is None else f"{row['silence']:.1f} s"
    return f"| {row['fault']} | {health} | {row['healed']} | {silence} | {row['where']} |"


if __name__ == "__main__":
    DOCUMENT.write_text(rewritten(), encoding="utf-8")
    print(DOCUMENT.relative_to(ROOT))
