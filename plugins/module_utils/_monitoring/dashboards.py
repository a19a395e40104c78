# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a role wants to be looked at, as its ``templates/dashboards.yaml.j2`` says it, in the words of Grafana (private: may change without notice).

Grafana's own types and builders make the document (PyPI: grafana-foundation-sdk), so that a field that Grafana does not know cannot be written. They are
wanted only where dashboards are; without them there is an error that names the package. A role says nothing of colours, sizes or places.
"""

from __future__ import annotations

import json
import re
import typing as t
from collections.abc import Mapping

from ansible_collections.progressive.platform.plugins.module_utils._monitoring.model import PLACEHOLDER, UNITS, Item, queries
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

try:
    from grafana_foundation_sdk.builders import bargauge, common, prometheus, stat, timeseries
    from grafana_foundation_sdk.builders import dashboard as builders
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models import common as words
    from grafana_foundation_sdk.models import dashboard as models
except ImportError as error:
    MISSING: ImportError | None = error
else:
    MISSING = None

TAG = "progressive-platform"
SOURCE = "datasource"  # the dashboard's variable: whichever Prometheus Grafana has
WIDTHS = {"number": 4, "bars": 8, "line": 8}
HEIGHTS = {"number": 4, "bars": 8, "line": 8}
GOOD, WARNING, BAD = "green", "orange", "red"


def document(wanted: Item) -> Item:
    """The dashboard as Grafana reads it."""
    if MISSING:
        raise PlatformError(
            f"Dashboards are wanted, and Grafana's builders are not there ({MISSING}). Run on the controller: pip install grafana-foundation-sdk; "
            "or set monitoring_dashboards: false."
        )
    variable = builders.DatasourceVariable(SOURCE).label("Prometheus").type("prometheus")
    made = builders.Dashboard(wanted["title"]).uid(uid(wanted)).tags([TAG]).readonly().timezone("browser")
    made = made.refresh("30s").time("now-1h", "now").tooltip(models.DashboardCursorSync.CROSSHAIR).with_variable(variable)
    made = made.link(
        builders.DashboardLink("Platform").type(models.DashboardLinkType.DASHBOARDS).tags([TAG]).as_dropdown(True).keep_time(True)
    )
    for row in wanted["rows"]:
        made = made.with_row(builders.Row(row["title"]))
        for entry in row["panels"]:
            made = made.with_panel(panel(entry))
    found: Item = json.loads(json.dumps(made.build(), cls=JSONEncoder))
    return found


def panel(wanted: Item) -> t.Any:
    """A panel's builder: a line over time, one number, or a bar for each."""
    source = models.DataSourceRef(type_val="prometheus", uid="${" + SOURCE + "}")
    builder: t.Any = {"line": timeseries.Panel, "number": stat.Panel, "bars": bargauge.Panel}[wanted["kind"]]
    made = (
        builder()
        .title(wanted["title"])
        .unit(unit(wanted["unit"]))
        .datasource(source)
        .span(WIDTHS[wanted["kind"]])
        .height(HEIGHTS[wanted["kind"]])
    )
    if wanted["means"]:
        made = made.description(wanted["means"])
    if wanted["kind"] == "line":
        made = made.fill_opacity(8).show_points(words.VisibilityMode.NEVER).min(0)
        made = made.legend(
            common.VizLegendOptions().display_mode(words.LegendDisplayMode.LIST).placement(words.LegendPlacement.BOTTOM).show_legend(True)
        )
    if wanted["warning"] is not None or wanted["bad"] is not None:
        steps = [models.Threshold(value=None, color=GOOD)]
        steps += [
            models.Threshold(value=wanted[limit], color=color)
            for limit, color in (("warning", WARNING), ("bad", BAD))
            if wanted[limit] is not None
        ]
        made = made.thresholds(builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps))
    for index, (legend, expression) in enumerate(queries(wanted).items()):
        query = prometheus.Dataquery().expr(expression).legend_format(spoken(legend)).ref_id(chr(ord("A") + index)).datasource(source)
        made = made.with_target(query.range() if wanted["kind"] == "line" else query.instant())
    return made


def unit(name: str) -> str:
    """Ours in the word of Grafana: money is an amount of a currency, by hour or month."""
    money = re.fullmatch(r"([A-Z]{3})/(hour|month)", name)
    return f"suffix: {money[1]} a {money[2]}" if money else UNITS[name]


def uid(wanted: Item) -> str:
    return f"platform-{wanted['name']}"


def spoken(legend: str) -> str:
    """``{pod}`` in the template of Grafana."""
    return PLACEHOLDER.sub(lambda match: "{{" + match[1] + "}}", legend)


def config_map(wanted: Item, namespace: str, labels: Mapping[str, str], folder: str) -> Item:
    """A dashboard where Grafana's sidecar finds it, and our own Grafana too."""
    text = json.dumps(document(wanted), indent=1, sort_keys=True, ensure_ascii=False)
    metadata = {
        "name": f"dashboard-{wanted['name']}",
        "namespace": namespace,
        "labels": {**labels, "grafana_dashboard": "1"},
        "annotations": {"grafana_folder": folder},
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {f"{wanted['name']}.json": text + "\n"}}
