# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every alert is made to fire, and left quiet by what is well, by promtool on the rules that are sent (alerts/<role>.yml); every one has its page."""

from __future__ import annotations

import re
import shutil
import subprocess
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.progressive.platform.tests.unit.monitoring import gathered, runbooks

HERE = Path(__file__).parent
ROLES = sorted(path.stem for path in (HERE / "alerts").glob("*.yml"))


def promtool(*arguments: str | Path) -> str:
    program = shutil.which("promtool")
    assert program, "promtool is wanted: make promtool"
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def cases(role: str) -> dict[str, dict[str, t.Any]]:
    """The cases of a role's alerts, words filled in."""
    found = yaml.load((HERE / f"alerts/{role}.yml").read_text(), yaml.BaseLoader)
    words = found.pop("_words", {})

    def filled(series: dict[str, str]) -> dict[str, str]:
        # 0x10 is a number to promtool, and ten zeros here.
        return {
            re.sub(r"\b[A-Z]{2,}\b", lambda match: words.get(match[0], match[0]), name): re.sub(
                r"(?<!\S)0x(\d+)", lambda match: " ".join("0" * (int(match[1]) + 1)), value
            )
            for name, value in series.items()
        }

    return {name: {**case, **{side: filled(case[side]) for side in ("fires", "quiet") if side in case}} for name, case in found.items()}


def promtool_tests(role: str) -> list[dict[str, t.Any]]:
    made = []
    for name, case in cases(role).items():
        labels = {"alertname": name, "alertstate": "firing", **case.get("labels", {})}
        alerts = "ALERTS{" + ",".join(f'{label}="{value}"' for label, value in labels.items()) + "}"
        for series, wanted in ((case["fires"], "count({}) > bool 0"), (case.get("quiet"), "absent({}) * 0 + 1")):
            if series is None:
                continue
            given = {**case["fires"], **series}
            made.append(
                {
                    "interval": case.get("step", "1m"),
                    "name": f"{name} {'quiet' if wanted.startswith('absent') else 'fires'}",
                    "input_series": [{"series": key, "values": value} for key, value in given.items()],
                    "promql_expr_test": [
                        {
                            "expr": f"sum({wanted.format(alerts)})",
                            "eval_time": case.get("at", "10m"),
                            "exp_samples": [{"labels": "{}", "value": 1}],
                        }
                    ],
                }
            )
    return made


def run_tests(folder: Path, role: str, tests: list[dict[str, t.Any]]) -> subprocess.CompletedProcess[str]:
    """Of the rules only the alert and what is recorded, evaluated as often as there are samples: a hundred alerts in seconds."""
    (group,) = gathered.gathered("production")["groups"][role]
    files = []
    for test in tests:
        alert = test["name"].split()[0]
        rules = folder / f"{alert}.rules.yml"
        rules.write_text(
            yaml.safe_dump({"groups": [{**group, "rules": [rule for rule in group["rules"] if rule.get("alert", alert) == alert]}]})
        )
        files.append(folder / f"{test['name'].replace(' ', '.')}.yml")
        files[-1].write_text(yaml.safe_dump({"rule_files": [str(rules)], "evaluation_interval": test["interval"], "tests": [test]}))
    return subprocess.run(
        [str(shutil.which("promtool")), "test", "rules", *map(str, files)], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rules")
    for role, groups in gathered.gathered("production")["groups"].items():
        (folder / f"{role}.yml").write_text(yaml.safe_dump({"groups": groups}))
    return folder


def test_rules_are_valid(rules: Path) -> None:
    said = promtool("check", "rules", *sorted(rules.glob("*.yml")))
    assert said.count("SUCCESS") == len(ROLES)


@pytest.mark.parametrize("role", ROLES)
def test_every_alert_fires_and_stays_quiet(role: str, tmp_path: Path) -> None:
    done = run_tests(tmp_path, role, promtool_tests(role))
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def test_every_alert_has_a_case_and_every_case_an_alert() -> None:
    alerts = {component.name: {alert["alert"] for alert in component.alerts} for component in gathered.components("production")}
    assert {role: set(cases(role)) for role in ROLES} == alerts
    without = [name for role in ROLES for name, case in cases(role).items() if "quiet" not in case]
    assert without == ["Watchdog"], "what leaves it quiet is as much of a proof"


@pytest.mark.parametrize("role", ROLES)
def test_a_case_that_does_not_make_its_alert_fire_is_seen(role: str, tmp_path: Path) -> None:
    """The tests can fail: with the series of the quiet case every case that is to fire does not."""
    made = [test for test in promtool_tests(role) if not test["name"].startswith("Watchdog")]
    pairs = zip(made[::2], made[1::2], strict=True)
    swapped = [{**fires, "input_series": quiet["input_series"]} for fires, quiet in pairs]
    done = run_tests(tmp_path, role, swapped)
    assert (done.stdout + done.stderr).count("got:") == len(swapped)


@pytest.mark.parametrize("role", ROLES)
def test_every_alert_has_its_page(role: str) -> None:
    page = runbooks.PAGES / f"{role}.md"
    assert page.read_text() == runbooks.pages()[role], "run: make docs"
    for group in gathered.gathered("production")["groups"][role]:
        for rule in group["rules"]:
            if "alert" in rule:
                assert rule["annotations"]["runbook_url"] == f"{gathered.RUNBOOKS}/{role}.md#{rule['alert'].lower()}"
                assert f"\n## {rule['alert']}\n" in page.read_text()


@pytest.mark.parametrize("inventory", ["local", "development", "staging", "preproduction", "production"])
def test_every_inventory_gathers_its_rules(inventory: str, tmp_path: Path) -> None:
    files = []
    for role, groups in gathered.gathered(inventory)["groups"].items():
        files.append(tmp_path / f"{role}.yml")
        files[-1].write_text(yaml.safe_dump({"groups": groups}))
    promtool("check", "rules", *files)
    assert all(severity in ("critical", "warning", "info", "none") for severity in severities(inventory))


def severities(inventory: str) -> list[str]:
    groups = gathered.gathered(inventory)["groups"].values()
    return [rule["labels"]["severity"] for found in groups for group in found for rule in group["rules"] if "alert" in rule]
