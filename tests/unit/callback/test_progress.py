# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The progress display: its pure parts as tables, and whole playbooks on a real pseudo-terminal whose screen is rebuilt by pyte."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pyte
import pytest
from ansible_collections.progressive.platform.plugins.callback.progress import (
    ASCII,
    Board,
    Event,
    Plain,
    Tail,
    cells,
    clean,
    clock,
    fit,
    is_ci,
    parse,
)

ROWS, COLUMNS = 30, 90
PLAYBOOK = str(Path(sys.executable).with_name("ansible-playbook"))
PLAY = f"""
- name: Play
  hosts: all
  gather_facts: false
  connection: local
  vars:
    ansible_python_interpreter: {sys.executable}
  tasks:
    - name: Wait for the platform
      ansible.builtin.command: {sys.executable} {{{{ playbook_dir }}}}/waits.py STEP
    - name: Say something
      ansible.builtin.debug:
        msg: hello
"""


WAITS = """
import sys, time
from ansible_collections.progressive.platform.plugins.module_utils._run import Progress

progress = Progress()
for count in range(6):
    progress.report("redis_cluster", f"{count} of 6 pods ready")
    progress.report("app", "image is pulled")
    time.sleep(0.15)
progress.report("redis_cluster", "all 6 pods ready", done=True)
time.sleep(float(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b'{"component": "a", "message": "b", "done": false}', Event("a", "b")),
        (b'{"component": "a", "message": "b", "done": true}', Event("a", "b", True)),
        (b'{"component": "a", "message": "two\\n lines \\u001b[31m"}', Event("a", "two lines  [31m")),
        (b'{"component": "a"}', None),
        (b'["a", "b"]', None),
        (b"12", None),
        (b"half a li", None),
        (b"\xff\xfe", None),
    ],
)
def test_lines_of_the_file(line, event):
    assert parse(line) == event


def test_the_file_is_read_on_and_half_a_line_waits(tmp_path):
    path = tmp_path / "events"
    tail = Tail(str(path))
    assert tail.read() == []
    path.write_text('{"component": "a", "message": "1"}\n{"component": "a", "mess')
    assert tail.read() == [Event("a", "1")]
    with path.open("a") as file:
        file.write('age": "2"}\nnonsense\n')
    assert tail.read() == [Event("a", "2")]
    assert tail.read() == []


@pytest.mark.parametrize(
    ("text", "width", "fitted"),
    [("abc", 5, "abc  "), ("abcdef", 4, "abc~"), ("日本語", 6, "日本語"), ("日本語", 5, "日本~"), ("日本語", 4, "日~ "), ("", 2, "  ")],
)
def test_text_fits_its_columns(text, width, fitted):
    assert fit(text, width, "~") == fitted
    assert sum(map(cells, fitted)) == width


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (67, "1:07"), (754, "12:34")])
def test_time_as_minutes(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("value", "ci"), [(None, False), ("", False), ("false", False), ("0", False), ("true", True), ("1", True), ("woodpecker", True)]
)
def test_ci(value, ci):
    assert is_ci({} if value is None else {"CI": value}) is ci


def test_a_board_has_a_line_a_component():
    board = Board()
    board.take(Event("redis_cluster", "1 of 6"), 0.0)
    board.take(Event("app", "x" * 100), 1.0)
    board.take(Event("redis_cluster", "6 of 6", done=True), 8.0)
    rows = board.render(50, 5, 10.0, ASCII)
    assert rows == ["+ redis_cluster  6 of 6                       0:08", "- app            " + "x" * 26 + "~  0:09"]
    assert [row.split()[1] for row in board.render(50, 1, 10.0, ASCII)] == ["app"]
    assert all(len(row) <= 20 for row in board.render(20, 5, 10.0, ASCII))


def test_plain_lines_are_changes_and_rare():
    plain = Plain(interval=10.0)
    assert plain.take([Event("a", "1"), Event("b", "x")], 0.0) == ["a: 1", "b: x"]
    assert plain.take([Event("a", "2"), Event("a", "3")], 2.0) == []
    assert plain.take([], 9.0) == []
    assert plain.take([], 10.0) == ["a: 3"]
    assert plain.take([Event("a", "3"), Event("b", "x")], 30.0) == []
    assert plain.take([Event("a", "4", done=True)], 31.0) == ["a: 4"]
    assert plain.take([Event("a", "5")], 32.0) == []
    assert plain.flush(33.0) == ["a: 5"]


def test_control_characters_do_not_reach_the_terminal():
    assert clean("a\x1b[2Jb\r\nc\x07") == "a [2Jb c "


# ---- whole playbooks --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "waits.py").write_text(WAITS)
    (tmp_path / "play.yml").write_text(PLAY.replace("STEP", "0.4"))
    (tmp_path / "ansible.cfg").write_text("[defaults]\ncallbacks_enabled = progressive.platform.progress\nlocalhost_warning = false\n")
    return tmp_path


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key not in ("CI", "ANSIBLE_CONFIG") and not key.startswith("PROGRESSIVE_")}
    return {**kept, "TERM": "xterm", "LANG": "C.UTF-8", "ANSIBLE_NOCOLOR": "1", **more}


# What the callback ends each of its frames with.
FRAME_END = b"\x1b[J"


class Terminal:
    """A playbook on a pseudo-terminal; ``screens`` are the distinct screens a person saw, the last line break first."""

    def __init__(self, folder: Path, *arguments: str, **variables: str) -> None:
        self.screen = pyte.HistoryScreen(COLUMNS, ROWS, history=1000)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = self.unseen = b""
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execve(PLAYBOOK, [PLAYBOOK, "-i", "local,", "play.yml", *arguments], environment(**variables))
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))

    def read_until(self, what: str, seconds: float = 60.0) -> None:
        """Until the screen shows a text; "" is until the end."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if what and what in "\n".join(self.screen.display):
                return
            if self.unseen:
                self.look()
            elif select.select([self.master], [], [], 0.2)[0]:
                try:
                    data = os.read(self.master, 65536)
                except OSError:
                    data = b""
                if not data:
                    assert not what, f"{what!r} never came:\n" + self.text()
                    return
                self.raw += data
                self.unseen = data
        raise AssertionError(f"{what!r} did not come within {seconds:g} s:\n" + self.text())

    def look(self) -> None:
        """At one frame more: on a busy machine one read brings several, and a person sees each."""
        frame, end, rest = self.unseen.partition(FRAME_END)
        self.stream.feed(frame + end)
        self.unseen = rest

    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display).strip()

    def wait(self) -> int:
        self.read_until("")
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.master)
        return status


def piped(folder: Path, *arguments: str, **variables: str) -> str:
    command = [PLAYBOOK, "-i", "local,", "play.yml", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(**variables), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def without_times(text: str) -> list[str]:
    return [line.rstrip() for line in text.replace("\r", "").splitlines() if line.strip()]


def test_lines_are_drawn_and_leave_no_trace(folder):
    terminal = Terminal(folder)
    terminal.read_until("3 of 6 pods ready")
    during = terminal.text()
    assert terminal.wait() == 0
    after = terminal.text()
    assert "image is pulled" in during
    assert len([line for line in during.splitlines() if "redis_cluster" in line]) == 1
    assert "redis_cluster" not in after
    assert b"all 6 pods ready" in terminal.raw
    # What is left on the screen is exactly what the stdout callback writes without us.
    (folder / "ansible.cfg").write_text("[defaults]\nlocalhost_warning = false\n")
    plain = Terminal(folder)
    assert plain.wait() == 0
    assert without_times(after) == without_times(plain.text())


def test_ctrl_c_leaves_a_clean_terminal(folder):
    (folder / "play.yml").write_text(PLAY.replace("STEP", "60"))
    terminal = Terminal(folder)
    terminal.read_until("all 6 pods ready")
    os.write(terminal.master, b"\x03")
    assert terminal.wait() != 0
    assert "User interrupted execution" in terminal.text()
    assert "pods ready" not in terminal.text()
    assert terminal.screen.cursor.x == 0


def test_a_narrow_and_low_terminal_is_not_broken(folder):
    terminal = Terminal(folder)
    fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("HHHH", 4, 30, 0, 0))
    terminal.screen.resize(4, 30)
    os.kill(terminal.pid, signal.SIGWINCH)
    terminal.read_until("redis_")
    assert len([line for line in terminal.text().splitlines() if "redis_" in line]) == 1
    assert terminal.wait() == 0
    assert "redis_" not in terminal.text()


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [(["--check"], {}), ([], {"CI": "true"}), ([], {"TERM": "dumb"}), (["--check"], {"PROGRESSIVE_PLATFORM_PROGRESS_PLAIN": "1"})],
    ids=["check", "ci", "dumb", "check although plain"],
)
def test_a_terminal_that_must_stay_clean(folder, arguments, variables):
    terminal = Terminal(folder, *arguments, **variables)
    assert terminal.wait() == 0
    assert b"redis_cluster" not in terminal.raw
    assert b"\x1b" not in terminal.raw


def test_a_pipe_stays_clean(folder):
    text = piped(folder)
    assert "redis_cluster" not in text
    assert "\x1b" not in text


@pytest.mark.parametrize("variables", [{}, {"CI": "true"}], ids=["pipe", "ci"])
def test_plain_lines_when_asked_for(folder, variables):
    lines = piped(folder, PROGRESSIVE_PLATFORM_PROGRESS_PLAIN="1", **variables).splitlines()
    assert [line for line in lines if "redis_cluster" in line] == ["redis_cluster: 0 of 6 pods ready", "redis_cluster: all 6 pods ready"]
    assert lines.count("app: image is pulled") == 1
    assert lines.index("redis_cluster: all 6 pods ready") < lines.index("changed: [local]")


def test_a_log_gets_plain_lines_and_the_terminal_does_not(folder):
    terminal = Terminal(folder, ANSIBLE_LOG_PATH="log", PROGRESSIVE_PLATFORM_PROGRESS_INTERVAL="0")
    assert terminal.wait() == 0
    log = (folder / "log").read_text()
    assert "redis_cluster: 2 of 6 pods ready" in log
    assert log.count("redis_cluster: all 6 pods ready") == 1
    assert "\x1b" not in log
    assert "redis_cluster" not in terminal.text()


def test_several_clusters_at_once_share_the_display(folder):
    terminal = Terminal(folder, "-i", "one,two,three,")
    assert terminal.wait() == 0
    assert "redis_cluster" not in terminal.text()
    assert all(f"changed: [{host}]" in terminal.text() for host in ("one", "two", "three"))


def test_the_file_is_gone_afterwards(folder):
    (folder / "play.yml").write_text(
        PLAY.replace("msg: hello", "msg: \"{{ lookup('env', 'PROGRESSIVE_PLATFORM_PROGRESS') }}\"").replace("STEP", "0")
    )
    terminal = Terminal(folder, "-e", "ansible_python_interpreter=" + sys.executable)
    assert terminal.wait() == 0
    path = next(line.split('"')[3] for line in terminal.text().replace("\n", "").split("msg")[1:] for line in ['"msg' + line])
    assert path.endswith("events.jsonl")
    assert not Path(path).exists()
