#!/usr/bin/python
# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: apply
short_description: Apply a bundle of Kubernetes objects as one set
version_added: 0.1.0
author:
  - progressive.platform contributors (@progressive-platform)
description:
  - Sends a whole bundle by server-side apply, many objects in flight over kept connections, each as soon as what it needs is there.
    That is the Namespace it lives in, the CustomResourceDefinition of its kind, and for workloads what their pods refer to;
    webhook configurations come last.
  - The objects form an ApplySet, with the labels and annotations of C(kubectl apply --prune --applyset). Its parent is the ConfigMap
    C(applyset-<set>) in O(namespace).
  - An object is changed when the server says that it changed it, never by comparing a stored hash.
    So drift is repaired, and a second run changes nothing.
  - Unknown fields are refused. Everything that is wrong with a bundle is reported in one answer.
  - A pod template with the annotation C(progressive.platform/config-checksum) gets a checksum of the ConfigMaps and Secrets it refers to,
    so that its pods roll when these change.
  - An object with the annotation C(progressive.platform/yields), C(<field manager>:<path>), is sent without that field while that manager owns it
    (M(progressive.platform.canary) and the weights of a route).
extends_documentation_fragment:
  - progressive.platform.kubernetes
  - progressive.platform.kubernetes.wait
  - progressive.platform.attributes
options:
  set:
    description: Name of the ApplySet. The objects' field manager is C(progressive.platform.<set>).
    type: str
    required: true
  namespace:
    description: Namespace of the set's parent and of namespaced objects that name none. Without it that of the kubeconfig's context.
    type: str
  templates:
    description:
      - Jinja templates, rendered on the controller with the task's variables. They are searched for like those of
        M(ansible.builtin.template), in the role's C(templates/) first.
      - Every YAML document that comes out is applied; empty ones are left out.
    type: list
    elements: str
    default: []
  files:
    description: Files of the controller with further documents, YAML or JSON, as a renderer (M(progressive.platform.istio_manifest)) or a maker wrote them.
    type: list
    elements: path
    default: []
  definition:
    description: More objects, a mapping, a list of mappings, or YAML text.
    type: raw
  state:
    description:
      - V(present) applies the bundle.
      - V(absent) deletes every member of the set, waits until they are gone, and deletes the set. The bundle is not needed for it.
      - V(rendered) writes the bundle to O(dest) and talks to no API server.
      - V(compared) changes nothing and returns RV(drift), what the cluster has otherwise than the bundle and who made it so.
        As a task it also adds to the fact C(platform_drift), from which M(progressive.platform.drift) makes a report.
    type: str
    choices: [present, absent, rendered, compared]
    default: present
  prune:
    description:
      - Whether members that the bundle no longer names are deleted. Only what this set itself applied is ever deleted.
      - Namespaces, PersistentVolumeClaims and CustomResourceDefinitions are kept, with a warning, because other data goes with them.
    type: bool
    default: true
  force:
    description:
      - Whether fields that another field manager owns are taken over.
      - Without it such a conflict is an error that names field and owner.
    type: bool
    default: false
  scale_in:
    description:
      - Whether a StatefulSet may get fewer replicas than it has. With V(false) the larger number is sent, in check mode too, and
        the rest of the object as it is in the bundle.
      - For stateful pods whose data has to be moved elsewhere first. Send the bundle once more with V(true) when that is done.
    type: bool
    default: true
  keep_volumes:
    description:
      - Whether O(state=absent) leaves PersistentVolumeClaims of the set and every Namespace in which claims are, whoever made them, with a warning
        that names them. The set then still knows what was left.
    type: bool
    default: false
  dest:
    description: File, or directory in which C(<set>.yaml) is written, for O(state=rendered). With a Secret in it the file's mode is 0600.
    type: path
  sealed:
    description: Values of Secrets on their way to another host. Set by the action plugin; of no use in a task.
    type: str
attributes:
  action_group: {}
  check_mode:
    support: full
    details:
      - A dry run on the server. It also answers for objects whose Namespace or CustomResourceDefinition does not exist yet.
        The former are validated by the server in the namespace C(default), of the latter it is only said that they would be created.
  diff_mode:
    support: full
    details: The objects as the server has them before and after; values of Secrets are hidden.
  idempotent:
    support: full
seealso:
  - module: progressive.platform.wait
  - module: progressive.platform.secret
"""

EXAMPLES = r"""
- name: Everything of one role, in one call
  progressive.platform.apply:
    set: redis-cluster
    namespace: "{{ platform_namespace }}"
    templates:
      - config.yaml.j2
      - workload.yaml.j2

- name: What would change, seen with --check --diff
  progressive.platform.apply:
    set: settings
    namespace: application
    definition:
      apiVersion: v1
      kind: ConfigMap
      metadata:
        name: settings
      data:
        level: debug

- name: Files for a repository instead of a cluster
  progressive.platform.apply:
    set: app
    templates: [workload.yaml.j2]
    state: rendered
    dest: "build/{{ inventory_hostname }}/"

- name: All of it goes
  progressive.platform.apply:
    set: redis-cluster
    namespace: "{{ platform_namespace }}"
    state: absent
"""

RETURN = r"""
objects:
  description: Every object of the bundle and every member that was deleted or kept, with what became of it.
  returned: always, when the API server was reached
  type: list
  elements: dict
  contains:
    apiVersion:
      description: As in the object.
      type: str
    kind:
      description: As in the object.
      type: str
    namespace:
      description: Empty for cluster-wide kinds.
      type: str
    name:
      description: As in the object.
      type: str
    action:
      description: One of C(created), C(configured), C(unchanged), C(pruned), C(deleted), and C(kept) for what O(prune) spares.
      type: str
  sample: [{apiVersion: v1, kind: ConfigMap, namespace: application, name: settings, action: configured}]
failures:
  description: A sentence for each object that could not be applied.
  returned: failure
  type: list
  elements: str
pending:
  description: What is not ready, with the reasons.
  returned: when the wait fails
  type: list
  elements: dict
drift:
  description: What differs, for M(progressive.platform.drift).
  returned: O(state=compared)
  type: dict
  contains:
    compared:
      description: How many objects were looked at.
      type: int
    objects:
      description: Those that differ, with their fields and the owners of these.
      type: list
      elements: dict
    refused:
      description: Why the server would not take an object.
      type: list
      elements: str
dest:
  description: The file that was written.
  returned: O(state=rendered)
  type: str
"""

from ansible_collections.progressive.platform.plugins.module_utils._kube.apply import ARGUMENTS, CONSTRAINTS, run
from ansible_collections.progressive.platform.plugins.module_utils._run import run_module


def main() -> None:
    run_module(ARGUMENTS, run, **CONSTRAINTS)


if __name__ == "__main__":
    main()
