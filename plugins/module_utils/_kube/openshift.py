# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What OpenShift admits, and documents made so (private: may change without notice).

Pure. Every pod there is held against a SecurityContextConstraints object; ``restricted-v2`` is the one that any service account may use, since 4.11. Its
rules, as OpenShift publishes them (Managing security context constraints, and ``oc get scc restricted-v2 -o yaml``):

    user, group of volumes    from ranges that the namespace has been given; a number of one's own is refused, none is filled in
    capabilities              ALL must be dropped; NET_BIND_SERVICE alone may be added
    privileges                neither privileged nor allowPrivilegeEscalation
    seccomp                   RuntimeDefault, or nothing, which becomes it
    host                      no network, PID, IPC, ports or paths of it
    volumes                   configMap, csi, downwardAPI, emptyDir, ephemeral, persistentVolumeClaim, projected, secret (the newest OpenShift: image too)
    SELinux                   the namespace's own label; nothing of one's own

tests/kwok/test_openshift.py holds them against the fields of an SCC that OpenShift publishes, and against the object itself.
"""

from __future__ import annotations

import copy
import typing as t
from collections.abc import Iterable, Iterator

from ansible_collections.progressive.platform.plugins.module_utils._kube.rollout import pod_of

Json = dict[str, t.Any]

VOLUMES = frozenset({"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"})
ADDABLE = frozenset({"NET_BIND_SERVICE"})
RANGED = ("runAsUser", "fsGroup")  # numbers that a namespace's ranges give; whoever sets one is refused
NUMBERS = (*RANGED, "runAsGroup")  # without one the group is 0, which the images' files belong to
CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
# Sysctls that a kubelet takes from anybody (Kubernetes' own list of safe ones).
SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)


def adapted(documents: Iterable[Json]) -> list[Json]:
    """The documents without users and groups of their own, which the namespace's ranges then fill in. Nothing else is changed: what else is refused is said."""
    return [document if pod_of(document) is None else _nameless(copy.deepcopy(document)) for document in documents]


def _nameless(document: Json) -> Json:
    pod = t.cast(Json, pod_of(document))
    for context in [pod.get("securityContext"), *(container.get("securityContext") for container in _containers(pod))]:
        for number in NUMBERS:
            (context or {}).pop(number, None)
    return document


def refused(documents: Iterable[Json]) -> list[str]:
    """What restricted-v2 would refuse, one sentence each with the object, the field and the rule.

    What it would fill in (capabilities, escalation, seccomp) has to be there too: Pod Security's ``restricted`` asks for it elsewhere, and what is filled
    in by the server is nobody's field.
    """
    found = []
    for document in documents:
        pod = pod_of(document)
        if pod is not None:
            found += [f"{document['kind']} {document['metadata']['name']}: {sentence}" for sentence in _pod(pod)]
    return found


def _containers(pod: Json) -> list[Json]:
    return [container for kind in CONTAINERS for container in pod.get(kind) or []]


def _pod(pod: Json) -> Iterator[str]:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield f"{field} is true; nothing of the host is allowed"
    for volume in pod.get("volumes") or []:
        for kind in sorted(set(volume) - {"name"} - VOLUMES):
            yield f"volume {volume['name']} is a {kind}; allowed are {', '.join(sorted(VOLUMES))}"
    context = pod.get("securityContext") or {}
    yield from _context(context, "the pod")
    for sysctl in context.get("sysctls") or []:
        if sysctl["name"] not in SAFE_SYSCTLS:
            yield f"sysctl {sysctl['name']} is not among the safe ones"
    for container in _containers(pod):
        own = container.get("securityContext") or {}
        where = f"container {container['name']}"
        yield from _context(own, where)
        if own.get("privileged"):
            yield f"{where} is privileged"
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"allowPrivilegeEscalation of {where} is not false"
        capabilities = own.get("capabilities") or {}
        if "ALL" not in (capabilities.get("drop") or []):
            yield f"{where} does not drop ALL capabilities"
        if "seccompProfile" not in context and "seccompProfile" not in own:
            yield f"{where} has no seccomp profile; RuntimeDefault is wanted"
        for capability in sorted(set(capabilities.get("add") or []) - ADDABLE):
            yield f"{where} adds {capability}; only {', '.join(sorted(ADDABLE))} may be"
        for port in container.get("ports") or []:
            if port.get("hostPort"):
                yield f"{where} takes port {port['hostPort']} of the host"


def _context(context: Json, where: str) -> Iterator[str]:
    for number in RANGED:
        if context.get(number) is not None:
            yield f"{number} of {where} is {context[number]}; the namespace's range gives it, so it must not be set"
    if context.get("runAsNonRoot") is False:
        yield f"{where} may run as root"
    profile = (context.get("seccompProfile") or {}).get("type", "RuntimeDefault")
    if profile != "RuntimeDefault":
        yield f"seccomp profile of {where} is {profile}; RuntimeDefault is wanted"
    if context.get("seLinuxOptions"):
        yield f"{where} has SELinux options of its own; the namespace gives the label"
    if context.get("procMount", "Default") != "Default":
        yield f"procMount of {where} is {context['procMount']}; Default is wanted"
