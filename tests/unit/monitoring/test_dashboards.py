# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What roles want to be looked at, as Grafana and its builders read it, and Grafana itself as it is sent (no Grafana can be had here)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.progressive.platform.plugins.module_utils._monitoring import dashboards, model
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.tests.unit.monitoring import gathered
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

Document = dict[str, t.Any]
# The others are production in small.
each_inventory = pytest.mark.parametrize("inventory", ["local", "production"])
register_default_plugins()

PANEL: Document = {"title": "Orders", "unit": "operations/s", "expr": "rate(orders[5m])"}


def boards(inventory: str) -> dict[str, Document]:
    found = {}
    for one in gathered.gathered(inventory)["dashboards"]:
        assert one["metadata"]["labels"]["grafana_dashboard"] == "1" and one["metadata"]["annotations"] == {"grafana_folder": "Platform"}
        ((_name, text),) = one["data"].items()
        found[one["metadata"]["name"]] = json.loads(text)
    return found


def panels(board: Document) -> list[Document]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def board(**changes: t.Any) -> Document:
    return {"name": "shop", "title": "Shop", "rows": [{"title": "Now", "panels": [{**PANEL, **changes}]}]}


def made(**changes: t.Any) -> Document:
    (component,) = model.read({"shop": {"dashboards": [board(**changes)]}})
    return panels(dashboards.document(component.dashboards[0]))[0]


@each_inventory
def test_every_component_has_its_own(inventory: str) -> None:
    wanted = {f"agent-{name}" for name in ("mca", "npa", "wpa")}
    wanted |= {"overview", "monitoring", "costs", "app", "redis", "postgresql", "mongodb", "mesh", "edge"}
    assert {name.removeprefix("dashboard-") for name in boards(inventory)} >= wanted


@each_inventory
def test_grafanas_own_types_read_them_and_say_the_same(inventory: str) -> None:
    """The round trip: a field that Grafana does not know would be lost."""
    uids = set()
    for one in boards(inventory).values():
        assert json.loads(json.dumps(Dashboard.from_json(one), cls=JSONEncoder)) == one
        uids.add(one["uid"])
        assert len(one["uid"]) <= 40 and one["editable"] is False
    assert len(uids) == len(boards(inventory))


@each_inventory
def test_no_panel_without_unit_and_none_over_another(inventory: str) -> None:
    for one in boards(inventory).values():
        taken = set()
        for panel in panels(one):
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
            place = panel["gridPos"]
            cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
            assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
            taken |= cells
            assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


@each_inventory
def test_prometheus_understands_every_query(inventory: str, tmp_path: Path) -> None:
    """As rules, which is the only way that promtool of every version reads an expression."""
    expressions = {target["expr"] for one in boards(inventory).values() for panel in panels(one) for target in panel["targets"]}
    rules = [{"record": f"query:{index}", "expr": expression} for index, expression in enumerate(sorted(expressions))]
    path = tmp_path / "queries.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(
        [str(shutil.which("promtool")), "check", "rules", str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0 and f"{len(rules)} rules found" in done.stdout, done.stdout + done.stderr


def test_legends_speak_of_labels() -> None:
    (target,) = made(legend="{pod} of {namespace}")["targets"]
    assert target["legendFormat"] == "{{pod}} of {{namespace}}"
    assert [one["refId"] for one in made(expr=None, queries={"a": "1", "b": "2"})["targets"]] == ["A", "B"]


def test_values_from_which_it_is_a_warning() -> None:
    steps = made(warning=0.8, bad=0.9)["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [(step["value"], step["color"]) for step in steps] == [(None, "green"), (0.8, "orange"), (0.9, "red")]


def test_money() -> None:
    assert made(unit="EUR/month")["fieldConfig"]["defaults"]["unit"] == "suffix: EUR a month"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"unit": None}, "missing required arguments: unit"),
        ({"unit": "furlongs"}, "panel Orders has unit furlongs; there are count, share"),
        ({"kind": "pie"}, "value of kind must be one of: line, number, bars"),
        ({"queries": {"a": "1"}}, "panel Orders has either expr or queries"),
        ({"expr": None}, "panel Orders has either expr or queries"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_is_not_complete_is_refused(changes: Document, words: str) -> None:
    given = board(**changes)
    (panel,) = given["rows"][0]["panels"]
    for key in [key for key, value in panel.items() if value is None]:
        del panel[key]
    with pytest.raises(PlatformError, match=re.escape(words)):
        model.read({"shop": {"dashboards": [given]}})


def test_a_dashboard_has_one_owner() -> None:
    with pytest.raises(PlatformError, match="dashboard shop is of role a and of role b"):
        model.read({"a": {"dashboards": [board()]}, "b": {"dashboards": [board()]}})


def test_without_grafanas_builders_the_next_command_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboards, "MISSING", ImportError("No module named 'grafana_foundation_sdk'"))
    with pytest.raises(PlatformError, match="pip install grafana-foundation-sdk; or set monitoring_dashboards: false"):
        made()


def test_an_operators_stack_gets_them_too() -> None:
    found = [one for one in gathered.manifests("production", "operator") if one["kind"] == "ConfigMap"]
    assert {one["metadata"]["name"] for one in found} == set(boards("production"))
    assert not any(one["kind"] == "Deployment" for one in gathered.manifests("production", "operator"))


def test_by_default_there_are_none() -> None:
    assert not [one for one in gathered.manifests("production") if "grafana" in json.dumps(one) and one["kind"] != "NetworkPolicy"]


@each_inventory
def test_grafana_asks_everybody_who_they_are_and_has_no_password_in_its_manifests(inventory: str) -> None:
    sent = gathered.manifests(inventory, grafana=True)
    (deployment,) = (one for one in sent if one["kind"] == "Deployment" and one["metadata"]["name"] == "grafana")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    environment = {one["name"]: one["value"] for one in container["env"]}
    assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == "false" and environment["GF_USERS_ALLOW_SIGN_UP"] == "false"
    assert {name for name in environment if "PASSWORD" in name or "SECRET" in name} == {
        "GF_SECURITY_ADMIN_PASSWORD__FILE",
        "GF_SECURITY_SECRET_KEY__FILE",
    }
    assert pod["securityContext"]["runAsUser"] == container["securityContext"]["runAsUser"] == 472
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["secrets"]["secret"]["secretName"] == "grafana"
    mounted = {source["configMap"]["name"] for source in volumes["dashboards"]["projected"]["sources"]}
    assert mounted == set(boards(inventory)) <= {one["metadata"]["name"] for one in sent if one["kind"] == "ConfigMap"}
    (config,) = (one for one in sent if one["metadata"]["name"] == "grafana-config")
    sources = yaml.safe_load(config["data"]["datasources.yaml"])["datasources"]
    assert sources[0]["url"] == "http://prometheus.monitoring.svc.cluster.local:9090" and not any(
        "secureJsonData" in one for one in sources
    )
