# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ansible's own import of collections, before any test imports one: without it templates do not find the collection's filters."""

from __future__ import annotations

from collections import Counter

import pytest
from ansible.plugins.loader import init_plugin_loader

init_plugin_loader()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What became of the random damage (tests/redis/test_chaos.py); here, for side by side only this process sees every report."""
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if "test_random_damage" in report.nodeid
    ]
    verdicts = Counter(str(value) for report in reports for name, value in report.user_properties if name == "chaos")
    if reports:
        seconds = sum(report.duration for report in reports) / len(reports)
        failures = sum(report.failed for report in reports)
        listed = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items(), key=lambda item: (-item[1], item[0])))
        terminalreporter.write_line(f"random damage: {len(reports)} cases of {seconds:.1f} s: {listed}, {failures} failures")
