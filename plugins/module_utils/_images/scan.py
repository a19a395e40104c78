# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Vulnerabilities of an image, by a scanner that reads its bill of materials (private: may change without notice).

The scanners are other people's programs with databases of their own; nothing is installed and nothing is decided here but what is too grave to be pushed.
"""

from __future__ import annotations

import json
import shutil
import typing as t
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._local.shell import call
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

# From harmless to grave; grype's negligible is unknown's neighbour here.
SEVERITIES = ("unknown", "negligible", "low", "medium", "high", "critical")
NAMED = 10  # findings that a message names


@dataclass(frozen=True, order=True)
class Finding:
    """One vulnerability of one package; ``fixed`` names the versions that do not have it, empty while there is none."""

    severity: str
    name: str
    package: str
    version: str
    fixed: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.severity}) in {self.package} {self.version}" + (f", fixed in {self.fixed}" if self.fixed else "")


def trivy(report: t.Any) -> Iterator[Finding]:
    """Of ``trivy sbom --format json`` (schema version 2)."""
    for result in report.get("Results") or []:
        for it in result.get("Vulnerabilities") or []:
            yield Finding(
                _severity(it.get("Severity")),
                it["VulnerabilityID"],
                it["PkgName"],
                it.get("InstalledVersion", ""),
                it.get("FixedVersion", ""),
            )


def grype(report: t.Any) -> Iterator[Finding]:
    """Of ``grype --output json``."""
    for it in report.get("matches") or []:
        found, artifact = it["vulnerability"], it["artifact"]
        fixed = ", ".join((found.get("fix") or {}).get("versions") or [])
        yield Finding(_severity(found.get("severity")), found["id"], artifact["name"], artifact.get("version", ""), fixed)


# How each is called with a bill of materials, and how its report is read.
SCANNERS: dict[str, tuple[Callable[[Path], Sequence[str]], Callable[[t.Any], Iterator[Finding]]]] = {
    "trivy": (lambda bill: ("trivy", "sbom", "--quiet", "--format", "json", str(bill)), trivy),
    "grype": (lambda bill: ("grype", "--quiet", "--output", "json", f"sbom:{bill}"), grype),
}


def choose(wanted: str) -> str:
    """The scanner to use, empty for none; ``auto`` is the first that is there. PlatformError when one is wanted by name and not there."""
    if wanted == "none":
        return ""
    if wanted == "auto":
        return next(filter(shutil.which, SCANNERS), "")
    if not shutil.which(wanted):
        raise PlatformError(
            f"images_scanner is {wanted}, and there is no {wanted} on this machine. Install it, or set images_scanner to auto (whatever is there) or none."
        )
    return wanted


def scan(scanner: str, bill: Path, report: Path, timeout: float) -> list[Finding]:
    """What ``scanner`` finds in ``bill``, the gravest first; its own words go to ``report``. PlatformError when it fails, or what it says is no report."""
    command, read = SCANNERS[scanner]
    said = call(command(bill), timeout=timeout)
    try:
        found = sorted(set(read(json.loads(said))), key=lambda it: (-SEVERITIES.index(it.severity), it.name, it.package))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlatformError(
            f"{scanner} did not answer with its report of {bill}: {error!r}. Run '{' '.join(command(bill))}' by hand."
        ) from error
    report.write_text(said, encoding="utf-8")
    return found


def refused(findings: Iterable[Finding], severity: str, unfixed: bool) -> list[Finding]:
    """Those at or above ``severity`` (``none`` refuses nothing); without ``unfixed`` only those that another version of the package does not have."""
    if severity == "none":
        return []
    least = SEVERITIES.index(severity)
    return [it for it in findings if SEVERITIES.index(it.severity) >= least and (unfixed or it.fixed)]


def refuse(reference: str, findings: Sequence[Finding], report: Path) -> None:
    """PlatformError that names the gravest of ``findings``; nothing without any."""
    if findings:
        more = f" and {len(findings) - NAMED} more" if len(findings) > NAMED else ""
        raise PlatformError(
            f"{reference} is not pushed: {len(findings)} vulnerabilities are at or above images_severity: {'; '.join(map(str, findings[:NAMED]))}{more}. "
            f"All are in {report}. Build anew with the updates of the day (raise images_revision), take another base, or raise images_severity."
        )


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """How many of each severity, the gravest first."""
    severities = [it.severity for it in findings]
    return {severity: severities.count(severity) for severity in reversed(SEVERITIES) if severity in severities}


def _severity(word: str | None) -> str:
    lowered = (word or "").lower()
    return lowered if lowered in SEVERITIES else "unknown"
