# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real processes: started so that they outlive us, recognised by their start time, and never confused with somebody else's."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._local import processes
from ansible_collections.progressive.platform.plugins.module_utils._local.layout import Daemon
from ansible_collections.progressive.platform.plugins.module_utils._local.processes import Cgroups, Processes
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

DAEMON = Daemon("sleeper", ("sleep", "60"))


@pytest.fixture
def cgroups(tmp_path: Path) -> Cgroups:
    """Plain files in place of two hierarchies of version 1; the kernel's rules about them are not imitated."""
    for name in ("cpuset", "pids"):
        (tmp_path / "cgroup" / name).mkdir(parents=True)
        (tmp_path / "cgroup" / name / "cgroup.procs").touch()
    for name in ("cpuset.cpus", "cpuset.mems"):
        (tmp_path / "cgroup/cpuset" / name).write_text("0-1\n")
        (tmp_path / "cgroup/cpuset/progressive-platform/group").mkdir(parents=True, exist_ok=True)
        for directory in ("progressive-platform", "progressive-platform/group"):
            (tmp_path / "cgroup/cpuset" / directory / name).write_text("\n")
    return Cgroups(tmp_path / "cgroup")


@pytest.fixture
def ours(tmp_path: Path, cgroups: Cgroups) -> Iterator[Processes]:
    started = Processes(tmp_path / "records", cgroups)
    yield started
    started.stop(started.records().values(), grace=0.1)


def test_started_and_stopped(ours: Processes, tmp_path: Path) -> None:
    record = ours.start(DAEMON, "group", tmp_path / "log")
    assert ours.records() == {"sleeper": record}
    assert ours.alive(record)
    assert os.getsid(record.pid) == record.pid, "a session of its own: it does not end with ours"
    ours.until(record, lambda: ours.cgroups.processes("group") == {record.pid}, tmp_path / "log", 10)  # its shell moves itself
    assert (tmp_path / "cgroup/cpuset/progressive-platform/group/cpuset.cpus").read_text() == "0-1\n"
    assert abs(processes.started_at(record.start) - time.time()) < 5
    assert ours.stop([record]) == ["sleeper"]
    assert not ours.alive(record)
    assert ours.records() == {}


def open_files(pid: int) -> set[str]:
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(os.readlink(descriptor))
    return found


def test_no_descriptor_is_inherited(ours: Processes, tmp_path: Path) -> None:
    with open(tmp_path / "held", "w", encoding="ascii") as held:
        os.set_inheritable(held.fileno(), True)
        record = ours.start(DAEMON, "group", tmp_path / "log")
        deadline = time.monotonic() + 10
        # A program that begins opens more for a moment.
        while (opened := open_files(record.pid)) != {"/dev/null", str(tmp_path / "log")} and time.monotonic() < deadline:
            time.sleep(0.05)
    assert opened == {"/dev/null", str(tmp_path / "log")}


def test_a_number_given_to_somebody_else_is_not_ours(ours: Processes, tmp_path: Path) -> None:
    other = subprocess.Popen(["sleep", "60"])
    try:
        stale = {"name": "sleeper", "pid": other.pid, "start": 1, "boot": processes.boot_id(), "fingerprint": "", "holder": ""}
        (tmp_path / "records").mkdir()
        (tmp_path / "records/sleeper.json").write_text(json.dumps(stale))
        assert not ours.alive(ours.records()["sleeper"])
        assert ours.stop(ours.records().values()) == []
        assert other.poll() is None, "it was not signalled"
        reboot = {**stale, "start": processes.start_time(other.pid), "boot": "another"}
        (tmp_path / "records/sleeper.json").write_text(json.dumps(reboot))
        assert not ours.alive(ours.records()["sleeper"])
    finally:
        other.kill()
        other.wait(timeout=10)


def test_zombie_is_dead() -> None:
    child = subprocess.Popen(["true"])
    deadline = time.monotonic() + 10
    while processes.start_time(child.pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert processes.start_time(child.pid) is None
    child.wait(timeout=10)


def test_broken_record_is_ignored(ours: Processes, tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    (tmp_path / "records/a.json").write_text("{")
    (tmp_path / "records/b.json").write_text('{"name": "b"}')
    assert ours.records() == {}


def test_an_earlier_start_that_was_never_recorded_is_ended(ours: Processes, tmp_path: Path) -> None:
    first = ours.start(DAEMON, "group", tmp_path / "log")
    ours.until(first, lambda: Path(f"/proc/{first.pid}/comm").read_text() == "sleep\n", tmp_path / "log", timeout=10)
    (tmp_path / "records/sleeper.json").unlink()
    second = ours.start(DAEMON, "group", tmp_path / "log")
    assert not ours.alive(first)
    assert ours.alive(second)


def test_deafness_to_sigterm_does_not_help(ours: Processes, tmp_path: Path) -> None:
    stubborn = Daemon("stubborn", ("sh", "-c", "trap '' TERM; echo ready; while true; do sleep 1; done"))
    record = ours.start(stubborn, "group", tmp_path / "log")
    ours.until(record, lambda: "ready" in (tmp_path / "log").read_text(), tmp_path / "log", timeout=10)
    begun = time.monotonic()
    assert ours.stop([record], grace=0.2) == ["stubborn"]
    assert not ours.alive(record)
    assert time.monotonic() - begun < 5


def test_daemon_that_ends_tells_its_last_words(ours: Processes, tmp_path: Path) -> None:
    record = ours.start(Daemon("brief", ("sh", "-c", "sleep 0.2; echo no such option >&2; exit 1")), "group", tmp_path / "log")
    with pytest.raises(PlatformError, match=r"brief ended while it was starting.*\n.*no such option"):
        ours.until(record, lambda: False, tmp_path / "log", timeout=10)


def test_wait_is_bounded(ours: Processes, tmp_path: Path) -> None:
    record = ours.start(DAEMON, "group", tmp_path / "log")
    with pytest.raises(PlatformError, match=r"not ready within 0\.1 s"):
        ours.until(record, lambda: False, tmp_path / "log", timeout=0.1)


def test_files_are_written_before_the_start(ours: Processes, tmp_path: Path) -> None:
    daemon = Daemon("reader", ("sh", "-c", f"cat {tmp_path}/conf/a; sleep 60"), {tmp_path / "conf/a": "wanted"})
    record = ours.start(daemon, "group", tmp_path / "log")
    ours.until(record, lambda: (tmp_path / "log").read_text() == "wanted", tmp_path / "log", timeout=10)
    os.kill(record.pid, signal.SIGKILL)


def test_without_control_groups_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="Control groups are wanted"):
        Cgroups(tmp_path / "nothing")
