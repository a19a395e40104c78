# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is too small, too slow, or about to end: scaling, resources, quotas, certificates, and what logs say (private: may change without notice). Pure."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Callable, Iterator

from ansible_collections.progressive.platform.plugins.module_utils._debug import network, pods
from ansible_collections.progressive.platform.plugins.module_utils._debug.scene import (
    ERROR,
    WARNING,
    About,
    Finding,
    Json,
    Scene,
    containers_of,
    name_of,
    one_line,
    owner_of,
    statuses_of,
)
from ansible_collections.progressive.platform.plugins.module_utils._kube.readiness import State, conditions, readiness
from ansible_collections.progressive.platform.plugins.module_utils._preflight.quantities import humane, quantity

FULL = 0.9  # of a limit
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
SOON = 14  # days
# What programs say when the cause is elsewhere, and what it means.
SAYINGS: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(
            r"no such host|name or service not known|failure in name resolution|could not translate host name|getaddrinfo|ENOTFOUND|EAI_AGAIN",
            re.IGNORECASE,
        ),
        "a name does not resolve",
    ),
    (re.compile(r"connection refused|ECONNREFUSED", re.IGNORECASE), "nobody listens where it connects to"),
    (
        re.compile(
            r"password authentication failed|WRONGPASS|NOAUTH|invalid username-password|authentication failed|access denied for user",
            re.IGNORECASE,
        ),
        "a server does not accept its password",
    ),
    (
        re.compile(
            r"x509|certificate (?:has expired|verify failed|is not (?:yet )?valid)|CERTIFICATE_VERIFY_FAILED|tls: (?:bad|unknown) certificate",
            re.IGNORECASE,
        ),
        "a certificate is not accepted",
    ),
    (re.compile(r"no space left on device|ENOSPC|disk quota exceeded", re.IGNORECASE), "a disk is full"),
    (re.compile(r"read-only file ?system|EROFS", re.IGNORECASE), "it writes where it must not (the root filesystem is read-only)"),
    (re.compile(r"permission denied|EACCES|operation not permitted", re.IGNORECASE), "it may not read, write or run something"),
    (re.compile(r"out of memory|cannot allocate memory|heap out of memory|MemoryError", re.IGNORECASE), "its memory is used up"),
    (
        re.compile(r"too many (?:open files|connections|clients)|remaining connection slots|EMFILE", re.IGNORECASE),
        "there are too many connections or files",
    ),
    (
        re.compile(r"cannot execute .* in a read-only transaction|READONLY You can't write|not primary", re.IGNORECASE),
        "it writes to a server that is no primary",
    ),
    (re.compile(r"i/o timeout|timed out|ETIMEDOUT|deadline exceeded|no route to host", re.IGNORECASE), "somebody does not answer in time"),
    (re.compile(r"address already in use|EADDRINUSE", re.IGNORECASE), "its port is taken"),
)


def scaling(scene: Scene) -> Iterator[Finding]:
    """Autoscalers that see no metrics or no target, are at their end, or ask for more than there is."""
    for item in scene.all("HorizontalPodAutoscaler"):
        name, spec, status = name_of(item), item.get("spec") or {}, item.get("status") or {}
        about: About = ("HorizontalPodAutoscaler", name)
        look = f"kubectl -n {scene.namespace} describe hpa {name}"
        target = spec.get("scaleTargetRef") or {}
        whom = f"{target.get('kind')} {target.get('name')}"
        found = conditions(item)
        if scene.find(str(target.get("kind")), str(target.get("name"))) is None and target.get("kind") in ("Deployment", "StatefulSet"):
            yield Finding(about, (f"HorizontalPodAutoscaler {name} scales nothing", f"there is no {whom}"), look)
            continue
        active = found.get("ScalingActive") or {}
        if active.get("status") == "False" and active.get("reason") != "ScalingDisabled":
            chain: tuple[str, ...] = (
                f"HorizontalPodAutoscaler {name} does not scale {whom}",
                f"it has no metrics: {one_line(str(active.get('message', '')))}",
            )
            if "metrics.k8s.io" in str(active.get("message")) and "could not find the requested resource" in str(active.get("message")):
                chain += ("no metrics server is installed",)
            elif "missing request for" in str(active.get("message")):
                chain += ("a container of its pods has no request, and a percentage of nothing is nothing",)
            yield Finding(about, chain, look, WARNING)
        able = found.get("AbleToScale") or {}
        if able.get("status") == "False":
            yield Finding(about, (f"HorizontalPodAutoscaler {name} cannot scale {whom}", one_line(str(able.get("message", "")))), look)
        limited = found.get("ScalingLimited") or {}
        if limited.get("status") == "True" and limited.get("reason") == "TooManyReplicas":
            most = spec.get("maxReplicas")
            yield Finding(
                about,
                (f"HorizontalPodAutoscaler {name} would scale {whom} beyond its {most} pods", f"maxReplicas is {most}"),
                "Raise maxReplicas, or make a pod do more.",
                WARNING,
            )
        if (status.get("desiredReplicas") or 0) > (status.get("currentReplicas") or 0) and active.get("status") != "False":
            workload = scene.find(str(target.get("kind")), str(target.get("name")))
            if workload is not None and readiness(workload).state is not State.READY:
                yield Finding(
                    about,
                    (
                        f"HorizontalPodAutoscaler {name} asks for {status['desiredReplicas']} pods of {whom} and has {status.get('currentReplicas', 0)}",
                        readiness(workload).reason,
                    ),
                    look,
                    WARNING,
                )
    for item in scene.all("VerticalPodAutoscaler"):
        yield from _recommended(scene, item)


def _recommended(scene: Scene, item: Json) -> Iterator[Finding]:
    """Containers whose request is far from what the autoscaler recommends."""
    name, target = name_of(item), (item.get("spec") or {}).get("targetRef") or {}
    pods_of = scene.pods_of(str(target.get("kind")), str(target.get("name")))
    for advice in ((item.get("status") or {}).get("recommendation") or {}).get("containerRecommendations") or []:
        container = next((one for pod in pods_of for one in containers_of(pod) if one.get("name") == advice.get("containerName")), None)
        for what, lower in (advice.get("lowerBound") or {}).items() if container else ():
            asked = ((t.cast(Json, container).get("resources") or {}).get("requests") or {}).get(what)
            if asked is not None and quantity(asked) < quantity(lower):
                chain = (
                    f"container {advice['containerName']} of {target.get('kind')} {target.get('name')} asks for too little {what}",
                    f"it requests {asked}, and by what it used at least {lower} is recommended (target {(advice.get('target') or {}).get(what)})",
                )
                yield Finding(("VerticalPodAutoscaler", name), chain, "Raise the request.", WARNING)


def resources(scene: Scene) -> Iterator[Finding]:
    """Containers near their limits, and quotas that are used up."""
    for pod in scene.all("Pod"):
        kind, name = owner_of(pod)
        for container in containers_of(pod):
            used = scene.usage.get((name_of(pod), container.get("name", "")))
            limits = (container.get("resources") or {}).get("limits") or {}
            for what in ("memory", "cpu"):
                if not used or what not in limits or what not in used:
                    continue
                share = quantity(used[what]) / quantity(limits[what]) if quantity(limits[what]) else 0
                if share >= FULL:
                    effect = "it is about to be killed" if what == "memory" else "it is slowed down"
                    chain = (
                        f"container {container['name']} of {kind} {name} is at its limit of {what}: {effect}",
                        f"pod {name_of(pod)} uses {humane(quantity(used[what]), what)} of {limits[what]}",
                    )
                    yield Finding((kind, name), chain, "Raise the limit, scale out, or find out what uses it.", WARNING)
    for quota in scene.all("ResourceQuota"):
        status = quota.get("status") or {}
        for what, hard in (status.get("hard") or {}).items():
            used = (status.get("used") or {}).get(what, "0")
            if quantity(hard) and quantity(used) >= quantity(hard):
                yield Finding(
                    ("ResourceQuota", name_of(quota)),
                    (
                        f"ResourceQuota {name_of(quota)} is used up: {what} is at {used} of {hard}",
                        "nothing more of it can be made in this namespace",
                    ),
                    "Raise the quota, or make something smaller.",
                    WARNING,
                )


def certificates(scene: Scene, expiry: Callable[[bytes], t.Any]) -> Iterator[Finding]:
    """Certificates that ended or soon will, as far as they can be seen without asking for a Secret: in ConfigMaps, and cert-manager's own words."""
    for config in scene.all("ConfigMap"):
        for key, value in (config.get("data") or {}).items():
            for text in CERTIFICATE.findall(str(value))[:1]:
                end = expiry(text.encode())
                left = (end - scene.now).total_seconds() / 86400
                if left < SOON:
                    words = f"ended on {end:%Y-%m-%d}" if left < 0 else f"ends on {end:%Y-%m-%d}"
                    yield Finding(
                        ("ConfigMap", name_of(config)),
                        (f"the certificate {key} in ConfigMap {name_of(config)} {words}",),
                        "Renew it, and give it to its readers.",
                        ERROR if left < 0 else WARNING,
                    )
    for item in scene.all("Certificate"):
        verdict = readiness(item)
        if verdict.state is not State.READY:
            yield Finding(
                ("Certificate", name_of(item)),
                (f"Certificate {name_of(item)} is not issued: {one_line(verdict.reason)}",),
                f"kubectl -n {scene.namespace} describe certificate {name_of(item)}",
            )


def sayings(scene: Scene) -> Iterator[Finding]:
    """What the last words of pods say about a cause elsewhere: of every pod, each cause once, the last line that names it."""
    told: set[tuple[About, str]] = set()
    unwell = {
        name_of(pod)
        for pod in scene.all("Pod")
        if not all(status.get("ready") for status in statuses_of(pod)) or any(status.get("restartCount") for status in statuses_of(pod))
    }
    owners = {name_of(pod): owner_of(pod) for pod in scene.all("Pod")}
    # What complained while it waited, and then did its work, has nothing left to say.
    done = {
        (name_of(pod), status.get("name"))
        for pod in scene.all("Pod")
        for status in statuses_of(pod)
        if ((status.get("state") or {}).get("terminated") or {}).get("exitCode") == 0
    }
    for source, when in ((scene.before, "before its last restart, "), (scene.logs, "")):
        for (pod, container), text in source.items():
            if pod not in owners or (pod, container) in done:
                continue
            kind, name = owners[pod]
            for line in reversed(text.splitlines()):
                meaning = next((meaning for pattern, meaning in SAYINGS if pattern.search(line)), "")
                if meaning and ((kind, name), meaning) not in told:
                    told.add(((kind, name), meaning))
                    level = ERROR if pod in unwell else WARNING
                    chain = (f"{kind} {name} says that {meaning}", f"{when}pod {pod}, container {container}: {one_line(line, 300)}")
                    yield Finding(
                        (kind, name),
                        chain,
                        f"kubectl -n {scene.namespace} logs {pod} -c {container}" + (" --previous" if when else ""),
                        level,
                    )


def diagnose(scene: Scene, expiry: Callable[[bytes], t.Any]) -> list[Finding]:
    """Everything that is wrong, what stops first; a chain that is told twice is told once."""
    found = [
        *pods.workloads(scene),
        *pods.claims(scene),
        *network.services(scene),
        *network.references(scene),
        *network.names(scene),
        *network.policies(scene),
        *network.mesh(scene),
        *scaling(scene),
        *resources(scene),
        *certificates(scene, expiry),
        *pods.nodes(scene),
        *sayings(scene),
    ]
    return sorted(dict.fromkeys(found), key=lambda finding: finding.level != ERROR)
