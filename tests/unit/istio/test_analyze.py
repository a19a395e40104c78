# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What preflight says of everything that an inventory sends with a mesh and an edge, by a real istioctl (`make mesh` builds it) and by our own rules."""

from __future__ import annotations

import os
import re
import subprocess
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._istio import analysis
from ansible_collections.progressive.platform.plugins.module_utils._preflight.findings import Finding
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.plugins.plugin_utils import _examine
from ansible_collections.progressive.platform.tests.unit.istio.test_uis import UIS, example
from ansible_collections.progressive.platform.tests.unit.roles import rendering

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "progressive-platform"
ISTIOCTL = CACHE / "bin/istioctl"
COMPONENTS = ["baseline", "istio", "gateway", "postgresql", "redis_cluster", "app", "agents"]
HERE = {"platform_sources": {"istioctl": {"version": "1.32.0", "path": str(ISTIOCTL)}}}

real = [pytest.mark.slow, pytest.mark.mesh]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing that was found before counts."""
    monkeypatch.setattr(_examine, "default_cache", lambda: tmp_path)
    return tmp_path


def examine(inventory: str, changes: dict[str, t.Any], again: bool = False) -> list[Finding]:
    cluster = rendering.Cluster(inventory, {"platform_components": COMPONENTS, **HERE, **changes})
    known: dict[str, t.Any] = {}
    components = list(cluster.value("catalog", "platform_components"))
    _examine.examine_variables(cluster.templar, cluster.vars, components, known)
    return _examine.examine_documents(cluster.templar, cluster.vars, components, known, again)


@pytest.mark.slow
@pytest.mark.mesh
@pytest.mark.parametrize("mode", ["sidecar", "ambient"])
@pytest.mark.parametrize("api", [True, False], ids=["Gateway API", "Istio's own API"])
@pytest.mark.parametrize("inventory", rendering.INVENTORIES)
def test_nothing_is_found_in_what_an_inventory_sends(inventory: str, api: bool, mode: str) -> None:
    assert examine(inventory, {"gateway_api": api, "istio_mode": mode}) == []


@pytest.mark.slow
@pytest.mark.mesh
@pytest.mark.parametrize("mode", ["sidecar", "ambient"])
@pytest.mark.parametrize("api", [True, False], ids=["Gateway API", "Istio's own API"])
def test_nor_with_uis_and_the_frontend(api: bool, mode: str) -> None:
    """Monitoring is not rendered for this, so its UIs' Services are not there; nothing refers to them but the guards."""
    assert examine("production", {**UIS, **example(), "gateway_api": api, "istio_mode": mode}) == []


@pytest.mark.slow
@pytest.mark.mesh
@pytest.mark.parametrize(
    ("changes", "variable", "part", "warning"),
    [
        (
            {"istio_egress": {name: {"hosts": ["a.example"], "ports": {port: 443}} for name, port in (("one", "https"), ("two", "http"))}},
            "istio_namespaces",
            "(IST0177)",
            True,
        ),
        (
            {"gateway_api": False, "gateway_routes": {"a": {"prefix": "/", "service": "nobody-service"}}},
            "gateway_routes",
            "is no Service",
            False,
        ),
        (
            {"gateway_api": True, "gateway_routes": {"a": {"prefix": "/", "service": "nobody-service"}}},
            "gateway_routes",
            "is no Service",
            False,
        ),
        (
            {"platform_components": ["baseline", "istio", "gateway"], "gateway_api": False},
            "gateway_routes",
            "is no Service",
            True,
        ),
    ],
    ids=["conflicting hosts outside", "a route to nobody, Istio's own", "a route to nobody, Gateway API", "without the services"],
)
def test_a_fault_is_found_with_its_variable_and_a_remedy(changes: dict[str, t.Any], variable: str, part: str, warning: bool) -> None:
    found = [one for one in examine("production", changes) if part in one.seen]
    assert found and all(one.remedy and one.variable == variable and one.warning is warning for one in found), examine(
        "production", changes
    )


@pytest.mark.slow
@pytest.mark.mesh
def test_what_was_found_is_read_again_while_nothing_changed(cache: Path) -> None:
    broken = {"gateway_routes": {"a": {"prefix": "/", "service": "nobody-service"}}}
    first = examine("production", broken)
    (kept,) = (cache / "sources/analyses").glob("*.json")
    began = kept.stat().st_mtime_ns
    assert first and examine("production", broken) == first and kept.stat().st_mtime_ns == began
    assert examine("production", broken, again=True) == first and kept.stat().st_mtime_ns > began, "preflight itself looks anew"
    assert examine("production", {}) == [] and len(list((cache / "sources/analyses").glob("*.json"))) == 2, (
        "other variables, other documents"
    )


def test_without_istioctl_our_own_rules_count_and_the_rest_is_said_plainly(cache: Path) -> None:
    nowhere = {"platform_sources": {}, "gateway_routes": {"a": {"prefix": "/", "service": "nobody-service"}}}
    found = examine("production", nowhere)
    assert [one.variable for one in found] == ["gateway_routes", "platform_sources.istioctl"]
    assert "is not on this machine yet" in str(found[1]) and found[1].warning and "is no Service" in str(found[0]) and not found[0].warning
    assert not list(cache.rglob("*.json")), "it is asked as soon as it is there"


@pytest.mark.parametrize(("role", "message", "told"), [("gateway", "", 0), ("app", "", 1), ("gateway", " and more is wrong", 1)])
def test_of_the_gateways_own_filter_alone_it_is_no_news_that_it_is_one(role: str, message: str, told: int) -> None:
    text = analysis.EXPECTED[2] if not message else f"Schema validation warning:{message}"
    said = [analysis.Said("IST0133", "Warning", text, "EnvoyFilter here/edge")]
    assert len(list(analysis.findings(said, {"EnvoyFilter here/edge": role}, whole=True))) == told


def test_without_the_mesh_nothing_is_rendered() -> None:
    began = time.perf_counter()
    assert _examine.examine_documents(t.cast(t.Any, None), {}, ["app", "agents"], {}) == []
    assert time.perf_counter() - began < 0.01


def test_a_template_that_cannot_be_rendered_is_a_finding() -> None:
    (found,) = examine("production", {"gateway_routes": {"a": {"prefix": "/"}}})
    assert "gateway.yaml.j2" in found.seen and "service" in found.seen


def test_a_program_that_is_no_istioctl_is_named(tmp_path: Path) -> None:
    program = tmp_path / "istioctl"
    program.write_text("#!/bin/sh\necho hello\n")
    program.chmod(0o755)
    with pytest.raises(PlatformError, match="Is it istioctl"):
        analysis.analyze(program, [], tmp_path / "scratch", "istio-system")
    assert not list((tmp_path / "scratch").iterdir())


def codes() -> set[str]:
    """Every code that this release of Istio knows, by its own table."""
    cache = subprocess.run(["go", "env", "GOMODCACHE"], capture_output=True, text=True, check=True).stdout.strip()
    (table, *_others) = Path(cache).glob("istio.io/istio@*/pkg/config/analysis/msg/messages.yaml")
    return set(re.findall(r"^ +code: (IST\d{4})$", table.read_text(), re.MULTILINE))


@pytest.mark.slow
@pytest.mark.mesh
def test_every_code_has_a_remedy_or_needs_a_cluster() -> None:
    known = set(analysis.REMEDIES)
    assert known | analysis.LIVE == codes() and not known & analysis.LIVE
