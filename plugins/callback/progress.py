# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Shows, while a task runs, what the platform's modules are waiting for and why."""

from __future__ import annotations

DOCUMENTATION = r"""
name: progress
type: aggregate
short_description: Shows what a long wait is waiting for
version_added: 0.1.0
author: The progressive.platform founders (@progressive-platform)
description:
  - During a task of this collection shows one line a component, for example
    C(redis_cluster  4 of 6 pods ready; redis-cluster-4 ContainerCreating), redrawn on a terminal until the task ends.
  - The lines stand below the ordinary output and are gone before the next ordinary line is written, whatever stdout callback is in use.
  - Nothing is drawn with C(--check), when E(CI) is set, or when the output is no terminal.
  - When C(log_path) is configured, changes are written to that log as plain lines.
requirements:
  - enabled with C(callbacks_enabled = progressive.platform.progress) in C(ansible.cfg)
options:
  plain:
    description:
      - Writes plain lines (changes only, rate-limited) to the ordinary output when it is no terminal or E(CI) is set.
      - Without it such output stays clean.
    type: bool
    default: false
    env:
      - name: PROGRESSIVE_PLATFORM_PROGRESS_PLAIN
    ini:
      - section: callback_progress
        key: plain
  interval:
    description: Shortest time between two plain lines of one component, in seconds. Its last word is always written.
    type: float
    default: 10.0
    env:
      - name: PROGRESSIVE_PLATFORM_PROGRESS_INTERVAL
    ini:
      - section: callback_progress
        key: interval
"""

import atexit
import json
import os
import shutil
import sys
import threading
import time
import typing as t
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field

from ansible import constants as C
from ansible import context
from ansible.plugins.callback import CallbackBase
from ansible_collections.progressive.platform.plugins.module_utils._run import PROGRESS_FILE

TICK = 0.1  # seconds between two looks at the file; also one step of the spinner
FANCY = ("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "✔", "…")
ASCII = ("-\\|/", "+", "~")


@dataclass(frozen=True)
class Event:
    """What a module said: one line of the progress file."""

    component: str
    message: str
    done: bool = False


class Tail:
    """The events appended to a file since the last look; half-written and foreign lines are left alone."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.offset = 0

    def read(self) -> list[Event]:
        try:
            with open(self.path, "rb") as file:
                file.seek(self.offset)
                data = file.read()
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        return [event for line in whole.splitlines() if (event := parse(line)) is not None]


def parse(line: bytes) -> Event | None:
    """An event, or None for a line that is none: the display never fails because of its input."""
    try:
        entry = json.loads(line)
        return Event(clean(str(entry["component"])), clean(str(entry["message"])), entry.get("done") is True)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def clean(text: str) -> str:
    """One line without control characters: messages quote pods' logs, which may hold escape sequences."""
    return "".join(char if char.isprintable() else " " for char in " ".join(text.split()))


def cells(char: str) -> int:
    """Columns a character takes on a terminal (Unicode annex 11)."""
    return 0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1


def fit(text: str, width: int, ellipsis: str) -> str:
    """The text padded or cut to exactly ``width`` columns."""
    total = sum(map(cells, text))
    if total <= width:
        return text + " " * (width - total)
    kept, used = "", 0
    for char in text:
        if used + cells(char) > width - 1:
            break
        kept, used = kept + char, used + cells(char)
    return kept + ellipsis + " " * (width - used - 1)


@dataclass
class Line:
    message: str
    since: float
    done: bool = False
    until: float = 0.0


@dataclass
class Board:
    """One line a component, in order of appearance: events and a time in, text out."""

    lines: dict[str, Line] = field(default_factory=dict)

    def take(self, event: Event, now: float) -> None:
        line = self.lines.setdefault(event.component, Line(event.message, now))
        line.message, line.done, line.until = event.message, event.done, now

    def render(self, width: int, height: int, now: float, marks: tuple[str, str, str] = FANCY) -> list[str]:
        """At most ``height`` lines of at most ``width`` columns; finished components leave first when room is short."""
        spinner, tick, ellipsis = marks
        shown = list(self.lines.items())
        if len(shown) > height:
            keep = sorted(shown, key=lambda item: item[1].done)[:height]
            shown = [item for item in shown if item in keep]
        label = min(max((len(name) for name, _unused in shown), default=0), max(width // 3, 1))
        rows = []
        for name, line in shown:
            mark = tick if line.done else spinner[int(now / TICK) % len(spinner)]
            elapsed = clock((line.until if line.done else now) - line.since)
            room = width - label - len(elapsed) - 6
            if room < 8:
                rows.append(fit(f"{mark} {name}", width, ellipsis).rstrip())
            else:
                rows.append(f"{mark} {fit(name, label, ellipsis)}  {fit(line.message, room, ellipsis)}  {elapsed}")
        return rows


def clock(seconds: float) -> str:
    """``0:07``, ``12:30``: minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


@dataclass
class Plain:
    """Lines for a log: a component's changes only, not more often than ``interval`` seconds, its last word always."""

    interval: float
    written: dict[str, tuple[float, Event]] = field(default_factory=dict)
    held: dict[str, Event] = field(default_factory=dict)

    def take(self, events: list[Event], now: float) -> list[str]:
        out: list[str] = []
        for event in events:
            self.held[event.component] = event
            if event.done:
                self._release(event.component, now, out)
        for component in list(self.held):
            last = self.written.get(component)
            if last is None or now - last[0] >= self.interval:
                self._release(component, now, out)
        return out

    def flush(self, now: float) -> list[str]:
        """What was held back, at the end of a task."""
        out: list[str] = []
        for component in list(self.held):
            self._release(component, now, out)
        self.written.clear()
        return out

    def _release(self, component: str, now: float, out: list[str]) -> None:
        event = self.held.pop(component)
        last = self.written.get(component)
        if last is None or last[1] != event:
            self.written[component] = (now, event)
            out.append(f"{component}: {event.message}")


class Terminal:
    """Lines below the ordinary output. The cursor rests at the start of the line after them; no mode of the terminal is ever changed."""

    def __init__(self, stream: t.TextIO) -> None:
        self.stream = stream
        self.height = 0
        self.marks = FANCY if (stream.encoding or "").lower().replace("-", "") == "utf8" else ASCII

    def size(self) -> tuple[int, int]:
        """Columns and rows that lines may take: one column and two rows are left free, so that nothing wraps or scrolls away."""
        try:
            columns, rows = os.get_terminal_size(self.stream.fileno())
        except (OSError, ValueError):
            columns, rows = 80, 24
        return max(columns - 1, 10), max(rows - 2, 1)

    def draw(self, lines: list[str]) -> None:
        self._write(self._back() + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J")
        self.height = len(lines)

    def erase(self) -> None:
        if self.height:
            self._write(self._back() + "\x1b[J")
            self.height = 0

    def _back(self) -> str:
        return f"\r\x1b[{self.height}A" if self.height else ""

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except (OSError, ValueError):  # the terminal went away: the playbook goes on without it
            self.height = 0


def is_ci(environment: t.Mapping[str, str]) -> bool:
    return environment.get("CI", "").lower() not in ("", "0", "false", "no")


class CallbackModule(CallbackBase):
    """Tails the progress file in a thread and shows it; see DOCUMENTATION."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "progressive.platform.progress"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: t.Any, **kwargs: t.Any) -> None:
        super().__init__(*args, **kwargs)
        self.terminal: Terminal | None = None
        self.plain: Plain | None = None
        self.board = Board()
        self.tail = Tail("")
        self.running: set[tuple[str, str]] = set()
        self.pid = os.getpid()
        self.stopping = threading.Event()
        self.thread: threading.Thread | None = None
        # Ansible holds this lock while it forks a worker and while it writes a line: holding it while drawing keeps both whole.
        self.lock: t.Any = getattr(self._display, "_lock", None) or threading.RLock()
        self.original: Callable[..., None] | None = None
        self.folder = ""

    # -- events of a playbook ----------------------------------------------------------------------------------------------

    def v2_playbook_on_start(self, playbook: t.Any) -> None:
        # A playbook started by a module of another one reports to the outer one's display.
        if context.CLIARGS.get("check") or os.environ.get(PROGRESS_FILE):
            return
        if sys.stdout.isatty() and not is_ci(os.environ) and os.environ.get("TERM", "dumb") != "dumb":
            self.terminal = Terminal(sys.stdout)
        if (self.terminal is None and self.get_option("plain")) or C.DEFAULT_LOG_PATH:
            self.plain = Plain(self.get_option("interval"))
        if self.terminal or self.plain:
            self._start()

    def v2_runner_on_start(self, host: t.Any, task: t.Any) -> None:
        with self.lock:
            self.running.add((host.get_name(), task._uuid))

    def v2_runner_on_ok(self, result: t.Any) -> None:
        self._ended(result)

    def v2_runner_on_failed(self, result: t.Any, ignore_errors: bool = False) -> None:
        self._ended(result)

    def v2_runner_on_skipped(self, result: t.Any) -> None:
        self._ended(result)

    def v2_runner_on_unreachable(self, result: t.Any) -> None:
        self._ended(result)

    def v2_playbook_on_stats(self, stats: t.Any) -> None:
        self._stop()

    # -- the display -------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self.folder = os.path.join(C.DEFAULT_LOCAL_TMP, "progressive-platform-progress")
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        self.tail = Tail(os.path.join(self.folder, "events.jsonl"))
        os.environ[PROGRESS_FILE] = self.tail.path
        if self.terminal:
            self._stand_aside(self.terminal)
        atexit.register(self._stop)
        self.thread = threading.Thread(target=self._watch, name="progress", daemon=True)
        self.thread.start()

    def _stand_aside(self, terminal: Terminal) -> None:
        """Every line Ansible writes finds the progress lines gone: stdout callbacks run before this one, so an event would be too late."""
        original = self.original = self._display.display

        def display(*args: t.Any, **kwargs: t.Any) -> None:
            if os.getpid() != self.pid:  # a worker: its words travel to the parent
                return original(*args, **kwargs)
            with self.lock:
                terminal.erase()
                return original(*args, **kwargs)

        self._display.display = display

    def _watch(self) -> None:
        while not self.stopping.wait(TICK):
            with self.lock:
                if self.running and not self.stopping.is_set():
                    self._look()

    def _look(self) -> None:
        now = time.monotonic()
        events = self.tail.read()
        if self.plain:
            self._log(self.plain.take(events, now))
        if self.terminal:
            for event in events:
                self.board.take(event, now)
            if self.board.lines:
                self.terminal.draw(self.board.render(*self.terminal.size(), now, self.terminal.marks))

    def _log(self, lines: list[str]) -> None:
        for line in lines:
            self._display.display(line, log_only=not self.get_option("plain") or self.terminal is not None)

    def _ended(self, result: t.Any) -> None:
        with self.lock:
            self.running.discard((result.host.get_name(), result.task._uuid))
            if self.running or not self.thread:
                return
            now = time.monotonic()
            events = self.tail.read()
            if self.plain:
                self._log(self.plain.take(events, now) + self.plain.flush(now))
            self.board.lines.clear()
            if self.terminal:
                self.terminal.erase()

    def _stop(self) -> None:
        """Also at exit, after Ctrl-C: the terminal is left as Ansible's own output left it."""
        if not self.thread or os.getpid() != self.pid:
            return
        with self.lock:
            self.stopping.set()
            if self.terminal:
                self.terminal.erase()
            if self.original:
                self._display.display = self.original
        self.thread.join(timeout=1.0)
        self.thread = None
        os.environ.pop(PROGRESS_FILE, None)
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self._stop)
