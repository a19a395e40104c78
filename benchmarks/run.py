# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures the collection beside its rivals, in one run on one cluster; writes benchmarks/results.json and prints tables.

A section is a module ``measure_<section>.py`` beside this file with ``measure(lab: Lab) -> list[Row]``; those that are there are run.
Each row is a way of doing the same work; the first of a group is ours, and every other gets the ratio of its time to ours.

    .venv/bin/python benchmarks/run.py [--sections apply redis site] [--repeat 3] [--kubeconfig FILE]
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible.plugins.loader import init_plugin_loader

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "progressive-platform"
COMMAND_TIMEOUT = 900  # seconds for any one measured command

sys.path.insert(0, str(HERE))


@dataclass
class Row:
    """One way to do the work of ``group``. ``seconds``: measurement name to the times of all repeats, in seconds."""

    group: str
    name: str
    seconds: dict[str, list[float]]
    note: str = ""
    memory: float | None = None  # MB, the largest resident size of the process that did the work


@dataclass
class Lab:
    """Where and how often to measure; ``folder`` is scratch space that is removed."""

    kubeconfig: str
    repeat: int
    folder: Path
    cache: Path = CACHE
    bin: Path = field(default_factory=lambda: Path(sys.executable).parent)

    def timed(self, work: Callable[[], Any]) -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    def command(self, *arguments: str | Path, **environment: str) -> str:
        """Runs a command that must succeed; its output."""
        env = {**os.environ, "KUBECONFIG": self.kubeconfig, "ANSIBLE_NOCOLOR": "1", **environment}
        done = subprocess.run(
            [str(it) for it in arguments], cwd=self.folder, env=env, capture_output=True, text=True, timeout=COMMAND_TIMEOUT, check=False
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(map(str, arguments))} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def table(rows: Iterable[Row]) -> str:
    """The rows of one group with medians, and each median's ratio to ours in the first row."""
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row.seconds))
    lines = [["", *[cell for name in names for cell in (f"{name} s", "ratio")], "memory MB", "note"]]
    ours = {name: statistics.median(rows[0].seconds[name]) for name in rows[0].seconds}
    for row in rows:
        cells = [row.name]
        for name in names:
            if name in row.seconds:
                middle = statistics.median(row.seconds[name])
                cells += [f"{middle:.2f}", f"{middle / ours[name]:.1f}" if ours.get(name) else ""]
            else:
                cells += ["", ""]
        lines.append([*cells, f"{row.memory:.0f}" if row.memory else "", row.note])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def machine() -> dict[str, Any]:
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }


def main() -> None:
    there = sorted(file.stem.removeprefix("measure_") for file in HERE.glob("measure_*.py"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", choices=there, default=there)
    parser.add_argument("--repeat", type=int, default=3, help="times each measurement is taken; the median is shown")
    parser.add_argument("--kubeconfig", default=os.environ.get("KUBECONFIG") or str(CACHE / "run/kubeconfig"))
    options = parser.parse_args()
    if not Path(options.kubeconfig).exists():
        raise SystemExit(f"{options.kubeconfig} does not exist: run `make up`, or give --kubeconfig")
    init_plugin_loader()  # before a section imports anything of the collection
    facts, results, failed = machine(), [], []
    with tempfile.TemporaryDirectory(prefix="progressive-bench-") as folder:
        lab = Lab(options.kubeconfig, options.repeat, Path(folder))
        for section in options.sections:
            try:
                rows: list[Row] = importlib.import_module(f"measure_{section}").measure(lab)
            except Exception:  # what the others measure for minutes is not lost with it
                traceback.print_exc()
                failed.append(section)
                continue
            for group in dict.fromkeys(row.group for row in rows):
                print(f"\n{section}: {group}\n{table(row for row in rows if row.group == group)}", flush=True)
            results += [{"section": section, **vars(row)} for row in rows]
    (HERE / "results.json").write_text(json.dumps({"machine": facts, "repeat": options.repeat, "rows": results}, indent=2) + "\n")
    print(
        f"\n{facts['cores']} cores, load {facts['load_before']} before; median of {options.repeat}; all numbers in benchmarks/results.json"
    )
    if failed:
        raise SystemExit(f"not measured, see above: {', '.join(failed)}")


if __name__ == "__main__":
    # The sections import this file as ``run``; without this they would get a second copy of its classes.
    sys.modules["run"] = sys.modules["__main__"]
    main()
