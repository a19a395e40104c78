# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Configuration from environment variables (12-factor): read once, checked completely, never changed afterwards."""

from __future__ import annotations

import socket
import typing as t
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

Environment = Mapping[str, str]
Address = tuple[str, int]
T = t.TypeVar("T")


class SettingsError(ValueError):
    """Everything wrong in the environment, one line a variable: its name, what was seen, what is allowed."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def port(text: str) -> int:
    """A TCP port, 0 to 65535; 0 lets the system choose one (tests)."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise ValueError("a port is between 0 and 65535")
    return number


def seconds(text: str) -> float:
    """A duration in seconds, zero or more."""
    number = float(text)
    if not 0 <= number < float("inf"):
        raise ValueError("a duration is zero or more seconds")
    return number


def addresses(text: str) -> tuple[Address, ...]:
    """``host:port,host:port``; IPv6 in brackets."""
    found = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        split = urlsplit(f"//{part}")
        if not split.hostname or split.port is None:
            raise ValueError(f"{part!r} is not host:port")
        found.append((split.hostname, split.port))
    return tuple(found)


def urls(text: str) -> dict[str, str]:
    """``name=http://host[:port],...`` in the given order."""
    found = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _unused, url = part.partition("=")
        split = urlsplit(url)
        if not name or split.scheme not in ("http", "https") or not split.hostname:
            raise ValueError(f"{part!r} is not name=http://host[:port]")
        found[name] = url.rstrip("/")
    return found


def pairs(text: str) -> dict[str, str]:
    """``name=host:port,...``."""
    found = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _unused, address = part.partition("=")
        if not name or len(addresses(address)) != 1:
            raise ValueError(f"{part!r} is not name=host:port")
        found[name] = address
    return found


def endpoint(text: str) -> str:
    """``http://host:port`` or ``https://host:port``, of gRPC; empty is none."""
    split = urlsplit(text)
    if text and (split.scheme not in ("http", "https") or not split.hostname or not split.port or split.path.strip("/")):
        raise ValueError("wanted http://host:port or https://host:port, as OTLP over gRPC has it")
    return text


def ratio(text: str) -> float:
    """A share, 0 to 1."""
    number = float(text)
    if not 0 <= number <= 1:
        raise ValueError("a ratio is between 0 and 1")
    return number


def spans(text: str) -> int:
    """A number of spans to keep; each takes some kilobytes."""
    number = int(text)
    if not 1 <= number <= 100_000:
        raise ValueError("a queue has room for 1 to 100000 spans")
    return number


def level(text: str) -> str:
    """A name of Python's logging levels."""
    if text.upper() not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise ValueError("one of DEBUG, INFO, WARNING, ERROR")
    return text.upper()


@dataclass(frozen=True)
class Settings:
    """What both services need; durations in seconds. Backends read their own variables (see backends.py)."""

    component: str
    instance: str
    node: str
    environment: str
    specialization: str
    host: str
    port: int
    ops_port: int
    grpc_port: int
    agents: Mapping[str, str]
    agents_grpc: Mapping[str, str]
    coordinator: str
    check_seconds: float
    call_seconds: float
    drain_seconds: float
    shutdown_seconds: float
    log_level: str
    trace_name: str = ""
    trace_endpoint: str = ""
    trace_ratio: float = 1.0
    trace_queue: int = 2048
    secrets: tuple[str, ...] = field(repr=False, default=())


# Variables whose values never appear in a log line, whatever a library puts into its messages.
SECRET_VARIABLES = ("REDIS_PASSWORD", "POSTGRES_PASSWORD", "MONGODB_PASSWORD")


def app_settings(environ: Environment) -> Settings:
    """The app: HTTP on PORT (3000), metrics and health on METRICS_PORT (9090), agents from AGENTS."""
    return _read(environ, component="app", peers="AGENTS", port_default="3000", ops_default="9090", call_default="10")


def agent_settings(environ: Environment) -> Settings:
    """An agent: HTTP on PORT (8000), metrics and health on METRICS_PORT (8090), gRPC on GRPC_PORT (9000), peers from PEERS."""
    kind = environ.get("AGENT_TYPE", "").strip().lower()
    settings = _read(environ, component=kind or "agent", peers="PEERS", port_default="8000", ops_default="8090", call_default="5")
    if not kind:
        raise SettingsError(["AGENT_TYPE is not set: wanted mca, npa, wpa or another short name"])
    return settings


def _read(environ: Environment, *, component: str, peers: str, port_default: str, ops_default: str, call_default: str) -> Settings:
    problems: list[str] = []

    def get(name: str, default: str, parse: Callable[[str], T]) -> T | None:
        text = environ.get(name) or default
        try:
            return parse(text)
        except ValueError as error:
            problems.append(f"{name} is {text!r}: {error}")
            return None

    values = {
        "component": component,
        "instance": environ.get("AGENT_ID") or environ.get("POD_NAME") or socket.gethostname(),
        "node": environ.get("NODE_NAME", ""),
        "environment": environ.get("ENVIRONMENT", ""),
        "specialization": environ.get("AGENT_SPECIALIZATION", ""),
        "host": environ.get("HOST") or "0.0.0.0",  # noqa: S104 a pod's own network
        "port": get("PORT", port_default, port),
        "ops_port": get("METRICS_PORT", ops_default, port),
        "grpc_port": get("GRPC_PORT", "9000", port),
        "agents": get(peers, "", urls),
        "agents_grpc": get(f"{peers}_GRPC", "", pairs),
        "coordinator": environ.get("COORDINATOR") or "mca",
        "check_seconds": get("CHECK_SECONDS", "2", seconds),
        "call_seconds": get("CALL_SECONDS", call_default, seconds),
        "drain_seconds": get("DRAIN_SECONDS", "5", seconds),
        "shutdown_seconds": get("SHUTDOWN_SECONDS", "15", seconds),
        "log_level": get("LOG_LEVEL", "INFO", level),
        # By the names that OpenTelemetry gives them.
        "trace_name": environ.get("OTEL_SERVICE_NAME") or component,
        "trace_endpoint": get("OTEL_EXPORTER_OTLP_ENDPOINT", "", endpoint),
        "trace_ratio": get("OTEL_TRACES_SAMPLER_ARG", "1", ratio),
        "trace_queue": get("OTEL_BSP_MAX_QUEUE_SIZE", "2048", spans),
        "secrets": tuple(value for name in SECRET_VARIABLES if (value := environ.get(name))),
    }
    if problems:
        raise SettingsError(problems)
    return Settings(**values)  # type: ignore[arg-type]  # no None is left: each one would be a problem
