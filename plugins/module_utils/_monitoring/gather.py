# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that the components want watched, as their Prometheus takes it (private: may change without notice)."""

from __future__ import annotations

import typing as t

from ansible_collections.progressive.platform.plugins.module_utils._kube.arguments import CONNECTION
from ansible_collections.progressive.platform.plugins.module_utils._monitoring import dashboards, scrape
from ansible_collections.progressive.platform.plugins.module_utils._monitoring.model import RULE, Component, Item, read
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

OWN = "monitoring"  # the role that what belongs to no other is said to be of

ARGUMENTS: dict[str, t.Any] = {
    "roles": {"type": "list", "elements": "str", "default": []},
    "components": {"type": "dict", "default": {}},
    "namespace": {"type": "str", "default": "monitoring"},
    "labels": {"type": "dict", "default": {}},
    "operator_labels": {"type": "dict", "default": {}},
    "runbooks": {"type": "str", "default": ""},
    "dashboards": {"type": "bool", "default": False},
    "folder": {"type": "str", "default": "Platform"},
    **CONNECTION,
}


def run(params: Params, context: Context) -> Result:
    """What the module does, for its options. It only puts words into another form, so check mode makes no difference."""
    if params["roles"]:
        raise PlatformError("What roles want is rendered on the controller; without the action plugin give it in components.")
    components = complete(read(params["components"]))
    groups = {component.name: scrape.rule_groups(component, params["runbooks"]) for component in components}
    labels = {**params["labels"], **params["operator_labels"]}
    documents: list[Item] = []
    for component in components:
        documents += scrape.monitors(component, params["operator_labels"], params["labels"])
        if groups[component.name]:
            documents.append(scrape.prometheus_rule(component.name, groups[component.name], params["namespace"], labels))
    return {
        "changed": False,
        "scrapes": [scrape.scrape_config(target) for component in components for target in component.targets],
        "groups": {name: found for name, found in groups.items() if found},
        "documents": documents,
        "dashboards": boards_of(components, params) if params["dashboards"] else [],
        "jobs": [target["job"] for component in components for target in component.targets],
    }


def boards_of(components: list[Component], params: Params) -> list[Item]:
    wanted = [board for component in components for board in component.dashboards]
    return [dashboards.config_map(board, params["namespace"], params["labels"], params["folder"]) for board in wanted]


def complete(components: list[Component]) -> list[Component]:
    """With the alerts that hold for every job."""
    added = [{**dict.fromkeys(RULE), "labels": {}, **rule} for rule in scrape.missing(components)]
    if not any(component.name == OWN for component in components):
        return components
    return [component._replace(rules=component.rules + added) if component.name == OWN else component for component in components]
