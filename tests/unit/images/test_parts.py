# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The services' pure parts: planning, settings, rates, logs, answers of Redis, the frontend's build."""

from __future__ import annotations

import gzip
import importlib.util
import json
import logging
import re
import typing as t
from pathlib import Path

import pytest
from progressive import planning, settings
from progressive.backends import cluster_info
from progressive.logs import JsonFormatter
from progressive.metrics import Metrics, Rate
from progressive.transaction import Part, identifier

from .conftest import SERVICES  # it puts the services on the path

assert SERVICES

FRONTEND = Path(__file__).parents[3] / "images/frontend"


@pytest.mark.parametrize(
    ("total", "weights", "parts"),
    [
        (10, {"a": 1, "b": 1, "c": 1}, {"a": 4, "b": 3, "c": 3}),
        (2000, {"breakfast": 25, "lunch": 35, "snack": 10, "dinner": 30}, {"breakfast": 500, "lunch": 700, "snack": 200, "dinner": 600}),
        (0, {"a": 1, "b": 2}, {"a": 0, "b": 0}),
        (1, {"a": 1, "b": 9}, {"a": 0, "b": 1}),
    ],
)
def test_split_adds_up(total: int, weights: dict[str, int], parts: dict[str, int]) -> None:
    assert planning.split(total, weights) == parts
    assert sum(parts.values()) == total


@pytest.mark.parametrize("goal", planning.GOALS)
@pytest.mark.parametrize("days", range(1, 7))
def test_plans_are_consistent(goal: str, days: int) -> None:
    person = planning.profile({"goal": goal, "days": days, "sex": "male"})
    food = planning.plan("nutrition", person)
    assert sum(food["meals"].values()) == food["energy"]
    assert abs(4 * food["protein"] + 9 * food["fat"] + 4 * food["carbohydrate"] - food["energy"]) <= 4
    week = planning.plan("workout", person)
    assert len(week["days"]) == days
    assert all(week["days"]), "no training day is empty"
    assert week["sets"] == 6 * {"lose": 10, "keep": 12, "gain": 16}[goal]
    assert sum(planning.plan("sleep", person)["minutes"].values()) == 300


def test_energy_is_mifflin_st_jeor() -> None:
    # 10*80 + 6.25*180 - 5*30 + 5 = 1780, times 1.2 for little activity.
    assert planning.nutrition(planning.Profile(80, 180, 30, "male", "low"))["energy"] == 2136


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({"PORT": "x"}, "PORT is 'x'"),
        ({"PORT": "70000"}, "a port is between 0 and 65535"),
        ({"METRICS_PORT": "-1"}, "METRICS_PORT is '-1'"),
        ({"CALL_SECONDS": "soon"}, "CALL_SECONDS is 'soon'"),
        ({"DRAIN_SECONDS": "inf"}, "zero or more seconds"),
        ({"DRAIN_SECONDS": "nan"}, "zero or more seconds"),
        ({"AGENTS": "mca=mca-service"}, "is not name=http://host"),
        ({"AGENTS": "=http://mca"}, "is not name=http://host"),
        ({"AGENTS_GRPC": "mca=host"}, "AGENTS_GRPC is 'mca=host'"),
        ({"LOG_LEVEL": "all"}, "one of DEBUG"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}, "wanted http://host:port"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector"}, "wanted http://host:port"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/v1/traces"}, "wanted http://host:port"),
        ({"OTEL_TRACES_SAMPLER_ARG": "1.5"}, "a ratio is between 0 and 1"),
        ({"OTEL_TRACES_SAMPLER_ARG": "-0.1"}, "a ratio is between 0 and 1"),
        ({"OTEL_TRACES_SAMPLER_ARG": "nan"}, "a ratio is between 0 and 1"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "0"}, "room for 1 to 100000 spans"),
    ],
)
def test_a_wrong_setting_is_named(environ: dict[str, str], reason: str) -> None:
    with pytest.raises(settings.SettingsError) as refused:
        settings.app_settings(environ)
    assert reason in str(refused.value)


def test_all_wrong_settings_are_told_at_once() -> None:
    with pytest.raises(settings.SettingsError) as refused:
        settings.app_settings({"PORT": "x", "AGENTS": "y", "LOG_LEVEL": "z"})
    assert len(refused.value.problems) == 3


def test_defaults_are_the_originals_ports() -> None:
    app = settings.app_settings({})
    agent = settings.agent_settings({"AGENT_TYPE": "MCA", "PEERS": "npa=http://npa-service, wpa=http://wpa-service/"})
    assert (app.port, app.ops_port) == (3000, 9090)
    assert (agent.port, agent.ops_port, agent.grpc_port) == (8000, 8090, 9000)
    assert agent.component == "mca"
    assert agent.agents == {"npa": "http://npa-service", "wpa": "http://wpa-service"}
    assert "secret" not in repr(settings.app_settings({"REDIS_PASSWORD": "secret"}))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a:1,b:2", (("a", 1), ("b", 2))),
        (" a:1 , ", (("a", 1),)),
        ("[::1]:6379", (("::1", 6379),)),
        ("", ()),
        ("a", None),
        ("a:b", None),
        ("a:1:2", None),
    ],
)
def test_addresses(text: str, found: tuple[tuple[str, int], ...] | None) -> None:
    if found is None:
        with pytest.raises(ValueError, match=re.escape(text) + "|[Pp]ort"):
            settings.addresses(text)
    else:
        assert settings.addresses(text) == found


def test_rate_rises_at_once_and_falls_to_zero() -> None:
    now = [100.0]
    rate = Rate(window=10, clock=lambda: now[0])
    for _unused in range(20):
        rate.count()
    assert rate.value() == 20, "a young process divides by its age, at least a second"
    now[0] += 4
    assert rate.value() == 5
    now[0] += 100
    assert rate.value() == 0
    rate.count()
    assert rate.value() == pytest.approx(0.1)
    assert len(rate.seconds) == 1, "what is over is forgotten"


def test_metrics_have_the_names_the_alerts_use() -> None:
    metrics = Metrics("agent", {"agent_type": "npa"})
    metrics.answered(200, 0.02)
    metrics.answered(503, 12)
    text = metrics.render("text/plain")[0].decode()
    for line in (
        'agent_requests_total{agent_type="npa"} 2.0',
        'agent_errors_total{agent_type="npa"} 1.0',
        'agent_request_duration_seconds_bucket{agent_type="npa",le="10.0"} 1.0',
        'agent_requests_per_second{agent_type="npa"} 2.0',
    ):
        assert line in text


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ("cluster_state:ok\r\ncluster_slots_ok:16384\r\n", "ok"),
        ({"cluster_state": "fail"}, "fail"),
        ({"127.0.0.1:1": {"cluster_state": "ok"}}, "ok"),
        ({"127.0.0.1:1": "cluster_state:ok\r\n"}, "ok"),
        ("", None),
        ({}, None),
        (None, None),
    ],
)
def test_cluster_info_in_every_form_the_client_gives(answer: t.Any, state: str | None) -> None:
    assert cluster_info(answer).get("cluster_state") == state


@pytest.mark.parametrize("secret", ["pass word", 'quo"te\\', "ümlaut"])
def test_log_lines_are_json_and_hide_secrets(secret: str) -> None:
    formatter = JsonFormatter({"component": "app", "node": ""}, (secret,))
    record = logging.makeLogRecord({"msg": f"auth with {secret} failed", "levelname": "ERROR", "name": "x", "fields": {"status": 503}})
    entry = json.loads(formatter.format(record))
    assert entry["message"] == "auth with *** failed"
    assert (entry["level"], entry["component"], entry["status"]) == ("error", "app", 503)
    assert "node" not in entry
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", entry["time"])


@pytest.mark.parametrize(
    ("given", "kept"), [("order-66", True), (None, False), ("", False), ("a b", False), ("x" * 129, False), ("a\r\nb", False)]
)
def test_a_callers_id_is_taken_only_when_it_is_one(given: str | None, kept: bool) -> None:
    assert (identifier(given) == given) is kept
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", identifier(given))


def test_one_failed_step_fails_the_transaction_and_hides_no_other() -> None:
    good, bad = {"ok": True, "backend": "redis"}, {"ok": False, "backend": "npa"}
    answer, status = Part.join([Part([good], {"a": 1}), Part([bad]), Part([good], {"b": 2})]).answer("id-1")
    assert status == 503
    assert answer == {"ok": False, "id": "id-1", "plan": {"a": 1, "b": 2}, "steps": [good, bad, good]}


def test_the_frontend_names_assets_by_content_and_compresses_them(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("frontend_build", FRONTEND / "build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.build(FRONTEND / "site", tmp_path)
    page = (tmp_path / "index.html").read_text()
    named = re.findall(r"/(assets/[\w.]+)", page)
    assert len(named) == 2
    for name in named:
        assert re.fullmatch(r"assets/\w+\.[0-9a-f]{12}\.(css|js)", name)
        assert gzip.decompress((tmp_path / f"{name}.gz").read_bytes()) == (tmp_path / name).read_bytes()
    first = (tmp_path / "index.html.gz").read_bytes()
    module.build(FRONTEND / "site", tmp_path)
    assert (tmp_path / "index.html.gz").read_bytes() == first, "a rebuild gives the same bytes"
