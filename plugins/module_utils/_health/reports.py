# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as data, as JUnit XML, and as files (private: may change without notice)."""

from __future__ import annotations

import json
import os
import tempfile
import typing as t
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from ansible_collections.progressive.platform.plugins.module_utils._health.page import page
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

Report = Mapping[str, t.Any]


def junit(report: Report) -> str:
    """JUnit XML as CI servers read it: a suite a component, a case a check, the cause as the failure's message."""
    root = ElementTree.Element("testsuites", name=f"health of {report['cluster']}", time=f"{report['seconds']:.3f}")
    components: dict[str, list[Mapping[str, t.Any]]] = {}
    for check in report["checks"]:
        components.setdefault(check["component"] or "platform", []).append(check)
    for component, checks in components.items():
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=component,
            tests=str(len(checks)),
            failures=str(sum(1 for check in checks if not check["ok"])),
            skipped=str(sum(1 for check in checks if check.get("skipped"))),
            errors="0",
            time=f"{sum(check['seconds'] for check in checks):.3f}",
            timestamp=report["time"],
        )
        for check in checks:
            case = ElementTree.SubElement(
                suite, "testcase", classname=f"{report['cluster']}.{component}", name=check["name"], time=f"{check['seconds']:.3f}"
            )
            if not check["ok"]:
                failure = ElementTree.SubElement(case, "failure", type=check["kind"], message=printable(check["message"]))
                problems = (check.get("details") or {}).get("problems") or [check["message"]]
                failure.text = printable("\n".join([f"expected: {check['expected']}", f"observed: {check['observed']}", *problems]))
            elif check.get("skipped"):
                ElementTree.SubElement(case, "skipped", message=printable(check["message"]))
    for totals in ("tests", "failures", "skipped"):
        root.set(totals, str(sum(int(suite.get(totals, "0")) for suite in root)))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def printable(text: str) -> str:
    """Without the control characters that XML 1.0 forbids; a pod's last log line may hold any."""
    return "".join(char for char in text if char >= " " or char in "\t\n\r")


FILES: dict[str, t.Callable[[Report], str]] = {
    "health.json": lambda report: json.dumps(report, indent=2, ensure_ascii=False) + "\n",
    "health.xml": junit,
    "health.html": page,
}


def write(folder: Path, report: Report) -> dict[str, str]:
    """Writes the three files, each whole or not at all; returns their paths by kind."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return {name.rpartition(".")[2]: _replace(folder / name, render(report)) for name, render in FILES.items()}
    except OSError as error:
        raise PlatformError(
            f"The report cannot be written to {folder}: {error.strerror}. Set reports_dir to a folder that can be written."
        ) from error


def _replace(path: Path, text: str) -> str:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return str(path)
