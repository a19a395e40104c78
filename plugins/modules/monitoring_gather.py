#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: monitoring_gather
short_description: Gather what components want scraped, alerted about and looked at
version_added: 0.2.0
description:
  - Every role says in its C(templates/monitoring.yaml.j2) which pods are scraped and which rules hold for it. This puts all of it into the words of
    Prometheus' own configuration, and into those of its operator.
  - With O(dashboards) it makes Grafana's dashboards of what they say in C(templates/dashboards.yaml.j2), by Grafana's own builders
    (package grafana-foundation-sdk of PyPI), which are wanted then.
  - A wish that is not complete (an alert without severity, summary or what to do about it, a job of two roles, an unknown option) is refused.
  - With role P(progressive.platform.monitoring#role) among them, every job gets an alert for having no target at all.
author:
  - The progressive.platform founders (@progressive-platform)
extends_documentation_fragment:
  - progressive.platform.kubernetes
  - progressive.platform.attributes
options:
  roles:
    description:
      - Roles by name, or by fully qualified name for roles of another collection. A role without that file wants nothing.
      - The templates are rendered on the controller with the role's variables and those of the task.
    type: list
    elements: str
    default: []
  components:
    description:
      - What further components want, by name, with C(targets), C(rules) and C(dashboards) as the files of a role have them.
      - A target has C(job), C(kind) (C(pods), C(nodes) or C(apiservers)), C(namespace), C(selector) (labels of the pods), C(port) (its name), C(number)
        (the port that is asked in its place, a sidecar's), C(path), C(scheme), C(verify), C(interval), C(samples) (most samples of a scrape), C(keep)
        and C(drop) (expressions for names of metrics), C(labels) (of the pods, by the name that samples get), C(honor_labels), and C(through) (an
        exporter that is asked for each pod, C(address), C(path) and C(target), in which C({pod}) is the pod's name).
      - A rule has C(expr), C(labels) and C(record), or C(alert) with C(for), C(severity), C(summary) (in which C({pod}) is a label and
        C({value:humanize}) the value by that function), and for its page C(means) and C(do).
      - A dashboard has C(name), C(title) and C(rows), each with C(title) and C(panels). A panel has C(title), C(unit) (C(count), C(share), C(seconds),
        C(bytes), C(bytes/s), C(requests/s), C(operations/s), C(cores), or money as C(EUR/month)), C(kind) (C(line), C(number) or C(bars)), C(expr) and
        C(legend) (in which C({pod}) is a label) or C(queries) (expressions by legend), C(means), and C(warning) and C(bad) (values from which it is one).
    type: dict
    default: {}
  namespace:
    description: Namespace of the rules that are for the operator.
    type: str
    default: monitoring
  labels:
    description: Labels of all objects that are for the operator.
    type: dict
    default: {}
  operator_labels:
    description: Further labels, by which the operator's Prometheus chooses them.
    type: dict
    default: {}
  runbooks:
    description: Address of the pages that alerts point to, a page a role. Empty leaves them without.
    type: str
    default: ""
  dashboards:
    description: Whether dashboards are made.
    type: bool
    default: false
  folder:
    description: Grafana's folder that they are put into.
    type: str
    default: Platform
attributes:
  action_group: {}
  check_mode:
    support: full
    details: Nothing is ever changed.
  diff_mode:
    support: none
  idempotent:
    support: full
notes:
  - The options of the connection are accepted so that the group's defaults may be set; nothing here talks to a cluster.
seealso:
  - module: progressive.platform.apply
"""

EXAMPLES = r"""
- name: What the platform wants watched, and something of our own
  progressive.platform.monitoring_gather:
    roles: [monitoring, redis_cluster, app]
    components:
      shop:
        targets:
          - {job: shop, namespace: shop, selector: {app: shop}, port: metrics}
        rules:
          - alert: ShopDown
            expr: sum(up{job="shop"}) == 0
            for: 1m
            severity: critical
            summary: No pod of the shop can be scraped.
            means: All of them are gone, or do not answer.
            do: Look at the pods of namespace shop.
  register: gathered
"""

RETURN = r"""
scrapes:
  description: Jobs of Prometheus' configuration.
  returned: success
  type: list
  elements: dict
groups:
  description: Groups of rules by role.
  returned: success
  type: dict
documents:
  description: The same as PodMonitors and PrometheusRules.
  returned: success
  type: list
  elements: dict
dashboards:
  description: ConfigMaps with a dashboard each, by the label that Grafana's sidecar looks for.
  returned: success
  type: list
  elements: dict
jobs:
  description: Names of all jobs.
  returned: success
  type: list
  elements: str
"""

from ansible_collections.progressive.platform.plugins.module_utils._monitoring.gather import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run)


if __name__ == "__main__":
    main()
