# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One JSON object a line on standard output: what a log collector reads without a parser."""

from __future__ import annotations

import json
import logging
import sys
import typing as t
from collections.abc import Callable
from datetime import UTC, datetime

HIDDEN: set[str] = set()
"""Secrets of the environment, and those that became known after the start; see hide."""


def hide(secret: str) -> None:
    """From now on this value is masked in every line, like those known from the start."""
    if secret:
        HIDDEN.add(secret)


def nothing() -> dict[str, str]:
    return {}


context: Callable[[], dict[str, str]] = nothing
"""What tells which request a line belongs to; tracing puts its own here."""


def masked(text: str) -> str:
    """The text without any secret that this process knows, for what leaves it by another way than the log."""
    for secret in HIDDEN:
        text = text.replace(secret, "***")
    return text


class JsonFormatter(logging.Formatter):
    """``extra={"fields": {...}}`` adds keys; a secret's value is masked wherever a library put it."""

    def __init__(self, constant: dict[str, str], secrets: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.constant = {key: value for key, value in constant.items() if value}
        self.secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, t.Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "logger": record.name,
            **self.constant,
            **context(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        line = json.dumps(entry, default=str, ensure_ascii=False)
        for secret in (*self.secrets, *HIDDEN):
            line = line.replace(json.dumps(secret, ensure_ascii=False)[1:-1], "***")
        return line


def configure(level: str, constant: dict[str, str], secrets: tuple[str, ...] = ()) -> None:
    """Every logger of the process, libraries' too, goes through the one handler."""
    HIDDEN.update(secrets)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(constant, secrets))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("httpx", "httpcore", "uvicorn.error", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def event(logger: logging.Logger, message: str, *, level: int = logging.INFO, **fields: t.Any) -> None:
    """A log line with fields of its own."""
    logger.log(level, message, extra={"fields": fields})
