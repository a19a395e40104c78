#!/usr/bin/python

# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: health
short_description: Look at everything and say what is wrong
version_added: 0.1.0
author: The progressive.platform founders (@progressive-platform)
description:
  - Runs named checks side by side and returns every result, never only the first failure. A red result names its cause.
  - What could not be seen does not pass. An error, a missing object or an answer that never came is red.
  - Writes a report as JSON, as JUnit XML and as one self-contained HTML page that draws zones, nodes, pods and the shards of Redis.
  - Pods are reached by port-forward through the API server, with the rights of the kubeconfig; nothing has to be exposed.
extends_documentation_fragment:
  - progressive.platform.kubernetes
  - progressive.platform.kubernetes.wait
  - progressive.platform.attributes
attributes:
  action_group: {}
  check_mode:
    support: full
    details:
      - Nothing is written to the platform. The keys and rows of checks of databases are not written, and checks of kinds V(transaction)
        and V(trace) are not sent; both are marked in the report. The report itself is written.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  roles:
    description:
      - Roles whose checks are run, by name, or by fully qualified name for roles of another collection.
      - The checks of a role are the YAML list in its C(templates/checks.yaml.j2), rendered on the controller with the role's variables
        and those of the task. A role without that file has no checks.
    type: list
    elements: str
    default: []
  checks:
    description:
      - Checks to run besides those of O(roles). Every check has C(name) and C(kind), may have C(component) (the heading it stands under)
        and C(wait) (seconds in which a red answer may still turn green, in place of O(settle)).
      - C(api) takes C(minimum) (oldest version). The API server is ready.
      - C(nodes) takes C(minimum) and C(zones) (numbers). All nodes are Ready, without pressure, and their kubelets answer.
      - C(volumes) takes C(namespace), C(selector) (labels) and C(minimum). All claims are Bound.
      - C(budgets) takes C(namespace) and C(selector). Each pod of a replicated workload has exactly one disruption budget, and none
        blocks a drain.
      - C(certificates) takes C(namespaces) (whose TLS Secrets are read) and C(minimum_days). Nothing expires within that time, the
        API server's and the kubeconfig's certificates included.
      - C(workloads) takes C(namespace), C(workloads) (a list of C(Kind/name)), C(services) (names that must exist), C(restarts) and
        C(restart_window) (so many restarts, the last within so many seconds, are red, unless the container went with its machine).
        Rollouts are complete, pods ready, and every Service in front of them leads to exactly the ready pods.
      - C(http) takes C(namespace), C(service), C(port) (name or number), C(path), C(method), C(status) (a list), C(json) (values by
        dotted path) and C(minimum) (pods). Every ready pod answers.
      - C(grpc) takes C(namespace), C(service), C(port), C(names) and C(minimum). Every ready pod says SERVING by the standard
        health service.
      - C(metrics) takes C(namespace), C(service), C(port), C(path), C(names) and C(minimum). Every ready pod gives a valid
        exposition with these metrics.
      - C(transaction) takes C(namespace), C(service), C(port), C(path), C(body) and C(steps) (C(component), C(backend) or
        C(component/backend)). One request succeeds in every step.
      - C(trace) takes C(namespace), C(service), C(port), C(path) and C(body) of a transaction, C(jaeger_namespace), C(jaeger_service) and C(jaeger_port)
        of Jaeger's query API, C(collector) (told where nothing comes) and C(patience) (seconds). The transaction's trace has no gap and a span for every
        step and the call it made.
      - C(edge) takes C(namespace) and C(service) of a gateway, C(host), C(paths), C(open) (paths that ask for no token; none does, where this is empty),
        C(authority) (a Secret with C(ca.crt), or namespace/Secret) and C(minimum). Every path leads to a backend, or is refused where it asks for a
        token.
        Port 80 redirects. C(guarded) are hosts where who has not signed in is asked to, and sees nothing else. C(limits) says by path how many requests at
        once the gateway takes (its burst), which it tells with every answer.
      - C(mesh) takes C(namespace) and C(service) of the control plane, C(namespaces) that are in the mesh, C(revision), C(tag), C(certificate_hours)
        (that every proxy's certificate must still last) and C(mtls). With C(mtls=STRICT) the API server, which is in no mesh, asks every pod in plain text
        and must get no answer. With C(mode=ambient) no pod has a sidecar and every one was taken in by its node's plugin, istiod knows every ztunnel, the
        Gateway C(waypoint) of every namespace is programmed, every Service that asks for it is behind it, and every policy is taken as it was meant; plain
        text is not tried, for what comes from a pod's own node is let in as the kubelet is.
      - C(mongodb) takes C(namespace), C(selector), C(domain), C(port), C(replica_set), C(members), C(lag) (seconds), C(oplog_hours), C(username),
        C(password_secret), C(tls) and C(write). One primary that every member follows, nobody behind, a full oplog that reaches back so many
        hours (0 for any), and a row written by majority is read from a majority.
      - C(postgresql) takes C(namespace), C(selector), C(port), C(rest_port), C(service) (the writers'), C(members), C(synchronous), C(lag)
        (bytes), C(delay) (seconds), C(password_secret) and C(write). One primary that all agree on and the Service leads to, replicas
        that stream and are not behind, slots and archive in order, and a row written to the primary is read from each replica.
      - C(prometheus) takes C(namespace), C(service), C(port), C(minimum) (servers), C(delay) (oldest sample, in seconds), C(severities) (of alerts that
        turn it red, the others are listed), C(notifies) (whether a receiver must have been told) and C(panels) (of a dashboard, as module
        P(progressive.platform.monitoring_gather#module) has them; the page draws their last hour). Every target is up, no job is without one, no rule
        fails.
      - C(redis) takes C(namespace), C(selector), C(port), C(masters), C(replicas_per_master), C(password_secret) (C(name), C(key),
        C(namespace)), C(username), C(tls) (as module P(progressive.platform.redis_cluster#module) takes them), C(certificate_days), C(write) and
        C(title). Every node's view is equal, all slots are served, links are up, shards are spread over nodes and zones, no certificate ends
        within so many days, and a key written to each master is read from its replicas.
    type: list
    elements: dict
    default: []
  cluster:
    description: Name of the cluster in the report. The action plugin gives C(inventory_hostname).
    type: str
    default: cluster
  reports_dir:
    description:
      - Folder that C(health.json), C(health.xml) and C(health.html) are written to, on the host that runs the module.
      - It is made if need be.
      - Without it no report is written.
    type: path
  fail:
    description: Whether the task fails when a check is red.
    type: bool
    default: true
  render_only:
    description: Whether nothing is looked at, and the valid checks are only returned as RV(rendered), for somebody else to carry out.
    type: bool
    default: false
  settle:
    description:
      - How long a red answer may still turn green, in seconds, when O(wait=false). Endpoints, for one, follow their pods after a moment.
    type: float
    default: 3.0
  timeout:
    description: Longest time of a single look, in seconds. A check that has not come back by then is red.
    type: float
    default: 30.0
  wait:
    description: Whether red checks are looked at again until they are green or O(wait_timeout) is over.
seealso:
  - module: progressive.platform.wait
  - module: progressive.platform.redis_cluster_info
"""

EXAMPLES = r"""
- name: Prove that the platform works, and write a report
  progressive.platform.health:
    kubeconfig: ~/.kube/config
    context: production
    roles: [baseline, redis_cluster, app, agents]
    reports_dir: reports/{{ inventory_hostname }}

- name: Give a fresh installation five minutes to become green
  progressive.platform.health:
    roles: [redis_cluster]
    wait: true
    wait_timeout: 300

- name: Look at something of our own
  progressive.platform.health:
    checks:
      - name: shop pods
        kind: workloads
        namespace: shop
        workloads: [Deployment/shop]
      - name: shop answers
        kind: http
        namespace: shop
        service: shop
        port: http
        path: /healthz
        json: {status: ok, database.connected: true}
    fail: false
  register: health

- name: Tell what is red
  ansible.builtin.debug:
    msg: "{{ health.checks | rejectattr('ok') | map(attribute='message') }}"
"""

RETURN = r"""
rendered:
  description: The checks as O(checks) takes them.
  type: list
  elements: dict
  returned: with O(render_only=true)
ok:
  description: Whether every check is green.
  type: bool
  returned: with O(render_only=false)
cluster:
  description: Name of the cluster.
  type: str
  returned: with O(render_only=false)
checks:
  description: Every result, in the order of the checks.
  type: list
  elements: dict
  returned: with O(render_only=false)
  contains:
    name:
      description: Name of the check.
      type: str
    component:
      description: Role or heading it belongs to.
      type: str
    kind:
      description: Kind of the check.
      type: str
    ok:
      description: Whether it is green.
      type: bool
    expected:
      description: What was wanted.
      type: str
    observed:
      description: What was seen.
      type: str
    message:
      description: A sentence for people; the cause when it is red.
      type: str
    seconds:
      description: How long it took, all looks together.
      type: float
    started:
      description: When it began, in seconds after the start of the run.
      type: float
    attempts:
      description: How often it looked.
      type: int
    skipped:
      description: Present and true when check mode forbade to look.
      type: bool
    details:
      description: What was seen in full, by kind; C(problems) lists everything that is wrong.
      type: dict
versions:
  description: Versions that were met (kubernetes, redis, collection, ansible).
  type: dict
  returned: always
report:
  description: Paths of the report by kind (json, xml, html).
  type: dict
  returned: always
  sample: {html: reports/local/health.html, json: reports/local/health.json, xml: reports/local/health.xml}
"""

from ansible_collections.progressive.platform.plugins.module_utils._health.health import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run)


if __name__ == "__main__":
    main()
