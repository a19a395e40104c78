# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Daemons that outlive Ansible, and knowing for certain which processes are ours.

A daemon is recorded as process id, start time and boot: a number the kernel has given to somebody else is never signalled.
Everything a daemon starts in turn (shims, containers) is found by the control group it was born into, which no process leaves by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._local.layout import CGROUP, Daemon
from ansible_collections.progressive.platform.plugins.module_utils._local.shell import tail, write_atomic
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

CGROUP_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Record:
    """A started daemon: ``start`` in clock ticks since ``boot``, ``fingerprint`` of what was wanted, ``holder`` of its node."""

    name: str
    pid: int
    start: int
    boot: str
    fingerprint: str
    holder: str = ""

    @property
    def identity(self) -> str:
        return f"{self.pid}:{self.start}:{self.boot}"


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def start_time(pid: int) -> int | None:
    """When the process was started, in clock ticks since boot; None when it has ended (a zombie has)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The name is in parentheses and may itself hold blanks and parentheses; the fields after it are state (3rd) to start (22nd).
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def started_at(pid_start: int) -> float:
    """A start time in clock ticks since boot as seconds since the epoch."""
    stat = Path("/proc/stat").read_text(encoding="ascii")
    boot = next(int(line.split()[1]) for line in stat.splitlines() if line.startswith("btime "))
    return boot + pid_start / os.sysconf("SC_CLK_TCK")


class Processes:
    """The recorded daemons below ``directory``, their logs, and their control groups."""

    def __init__(self, directory: Path, cgroups: Cgroups) -> None:
        self.directory = directory
        self.cgroups = cgroups
        self.boot = boot_id()

    def records(self) -> dict[str, Record]:
        found = {}
        for path in self.directory.glob("*.json"):
            with contextlib.suppress(ValueError, TypeError, OSError):
                record = Record(**json.loads(path.read_text(encoding="utf-8")))
                found[record.name] = record
        return found

    def alive(self, record: Record | None) -> bool:
        return record is not None and record.boot == self.boot and start_time(record.pid) == record.start

    def start(self, daemon: Daemon, group: str, log: Path, holder: Record | None = None) -> Record:
        """Start ``daemon`` in the control group ``group``, with ``holder`` in that process's namespaces; it inherits no descriptor."""
        for path, content in daemon.files.items():
            write_atomic(path, content)
        log.parent.mkdir(parents=True, exist_ok=True)
        self.cgroups.make(group)
        self.cgroups.kill_named(group, Path(daemon.command[0]).name)
        enter = ("nsenter", f"--target={holder.pid}", "--net", "--mount", "--uts", "--") if holder else ()
        # The shell moves itself and then becomes the daemon: a child can never be born outside the group.
        join = 'for f in $1; do echo $$ > "$f" || exit 125; done; shift; exec "$@"'
        files = " ".join(str(path) for path in self.cgroups.files(group, "cgroup.procs"))
        with open(log, "ab") as output:
            process = subprocess.Popen(
                ["sh", "-c", join, daemon.name, files, *enter, *daemon.command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
            )
        start = start_time(process.pid)
        if start is None:
            raise PlatformError(f"{daemon.name} ended at once; the last lines of {log}:\n{tail(log)}")
        record = Record(daemon.name, process.pid, start, self.boot, daemon.fingerprint, holder.identity if holder else "")
        write_atomic(self.directory / f"{daemon.name}.json", json.dumps(asdict(record)))
        return record

    def until(self, record: Record, ready: Callable[[], bool], log: Path, timeout: float) -> None:
        """Wait until ``ready``; PlatformError with the daemon's last lines when it ends, or after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while not ready():
            reap(record.pid)
            if not self.alive(record):
                raise PlatformError(f"{record.name} ended while it was starting; the last lines of {log}:\n{tail(log)}")
            if time.monotonic() > deadline:
                raise PlatformError(f"{record.name} was not ready within {timeout:g} s; the last lines of {log}:\n{tail(log)}")
            time.sleep(0.05)

    def stop(self, records: Iterable[Record], grace: float = 5.0) -> list[str]:
        """End these daemons, by SIGKILL after ``grace`` seconds; names of those that were running. Their records go."""
        stopping = list(records)
        running = [record for record in stopping if self.alive(record)]
        for sent, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
            rest = [record for record in running if self.alive(record)]
            for record in rest:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(record.pid, sent)
            deadline = time.monotonic() + patience
            while any(self.alive(record) for record in rest) and time.monotonic() < deadline:
                for record in rest:
                    reap(record.pid)
                time.sleep(0.02)
        for record in stopping:
            (self.directory / f"{record.name}.json").unlink(missing_ok=True)
        return [record.name for record in running]


def reap(pid: int) -> None:
    """Collect the process if it is our own child and has ended, or its number would stay taken."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


class Cgroups:
    """Control groups below ``/progressive-platform`` in every hierarchy: version 1 has one for each controller, version 2 one for all."""

    def __init__(self, root: Path = CGROUP_ROOT) -> None:
        self.unified = (root / "cgroup.controllers").exists()
        if self.unified:
            self.hierarchies: list[Path] = [root]
        else:
            # cpu and cpuacct may be two names of one hierarchy.
            self.hierarchies = (
                sorted({path.resolve() for path in root.iterdir() if (path / "cgroup.procs").exists()}) if root.exists() else []
            )
        if not self.hierarchies:
            raise PlatformError(
                f"Control groups are wanted under {root} and are not there; mount them (cgroup v2, or v1 with its controllers)."
            )

    def files(self, group: str, name: str) -> Iterator[Path]:
        for hierarchy in self.hierarchies:
            yield hierarchy / CGROUP / group / name

    def make(self, group: str) -> None:
        """Make the group; a cpuset (version 1) is useless until it has its parent's processors and memory nodes."""
        parts = [CGROUP, *group.split("/")]
        for hierarchy in self.hierarchies:
            path = hierarchy
            for part in parts:
                if self.unified:
                    self.delegate(path)
                parent, path = path, path / part
                path.mkdir(exist_ok=True)
                for name in ("cpuset.cpus", "cpuset.mems"):
                    file = path / name
                    if not self.unified and file.exists() and not file.read_text(encoding="ascii").strip():
                        file.write_text((parent / name).read_text(encoding="ascii"), encoding="ascii")

    @staticmethod
    def delegate(path: Path) -> None:
        """Give a group's children every controller it has itself (version 2)."""
        available = (path / "cgroup.controllers").read_text(encoding="ascii").split()
        given = (path / "cgroup.subtree_control").read_text(encoding="ascii").split()
        if missing := [name for name in available if name not in given]:
            (path / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in missing), encoding="ascii")

    def groups(self, group: str = "") -> list[Path]:
        """The group and all below it, in every hierarchy, the deepest first."""
        found: list[Path] = []
        for hierarchy in self.hierarchies:
            top = hierarchy / CGROUP / group if group else hierarchy / CGROUP
            for directory, _directories, _files in os.walk(top, topdown=False):
                found.append(Path(directory))
        return found

    def processes(self, group: str = "") -> set[int]:
        """Every process in the group or below it."""
        found: set[int] = set()
        for path in self.groups(group):
            with contextlib.suppress(OSError):
                found.update(int(line) for line in (path / "cgroup.procs").read_text(encoding="ascii").split())
        return found

    def kill(self, group: str = "", timeout: float = 10.0) -> int:
        """SIGKILL everything in the group until it is empty; returns how many processes there were."""
        first = self.processes(group)
        deadline = time.monotonic() + timeout
        while pids := {pid for pid in self.processes(group) if pid != os.getpid()}:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                reap(pid)
            if time.monotonic() > deadline:
                raise PlatformError(f"Processes {sorted(pids)[:10]} do not end although killed (they wait for a device or a frozen group).")
            time.sleep(0.02)
        return len(first)

    def kill_named(self, group: str, program: str) -> None:
        """SIGKILL what runs ``program`` in the group: an earlier start that was interrupted before it could be recorded."""
        for pid in self.processes(group):
            with contextlib.suppress(OSError):
                # The kernel keeps 15 bytes of a program's name.
                if Path(f"/proc/{pid}/comm").read_bytes().strip() == program.encode()[:15]:
                    os.kill(pid, signal.SIGKILL)
                    for _attempt in range(250):
                        reap(pid)
                        if start_time(pid) is None:
                            break
                        time.sleep(0.02)

    def tops(self) -> list[Path]:
        """The cluster's own groups that are there, one for each hierarchy."""
        return [path for hierarchy in self.hierarchies if (path := hierarchy / CGROUP).exists()]

    def remove(self, group: str = "") -> None:
        """Remove the empty group and all below it."""
        for path in self.groups(group):
            # A group stays busy for a moment after its last process has gone.
            for _attempt in range(100):
                try:
                    path.rmdir()
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.02)
                else:
                    break
