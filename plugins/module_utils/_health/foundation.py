# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of what the platform stands on: API, nodes, volumes, disruption budgets, certificates (private: may change without notice)."""

from __future__ import annotations

import base64
import os
import ssl
import typing as t
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._health.cluster import (
    Object,
    controller,
    is_true,
    labels_of,
    name_of,
    namespace_of,
    selects,
)
from ansible_collections.progressive.platform.plugins.module_utils._health.model import Finding, Options, age, plural, verdict
from ansible_collections.progressive.platform.plugins.module_utils._health.scene import Scene
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, quote
from ansible_collections.progressive.platform.plugins.module_utils._kube.nodes import condition_problems
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

try:
    import yaml
except ImportError:  # pragma: no cover - ansible-core itself needs PyYAML; only sanity's import test lacks it
    yaml = None  # type: ignore[assignment]

ZONE = "topology.kubernetes.io/zone"
MANY = 100  # nodes; above, only kubelets whose lease is not fresh are asked one by one
LEASE_SHARE = 0.625  # of a lease's duration: a kubelet renews after a quarter of it, so more than one renewal is missing
RUNS_MANY = ("ReplicaSet", "StatefulSet")  # controllers whose pods a drain evicts and waits for
DAY = 86400.0  # seconds


# ---- api --------------------------------------------------------------------------------------------------------------------


def api(options: Options, scene: Scene, until: float) -> Finding:
    """The API server says it is ready, and is not older than ``minimum``."""
    client = scene.cluster.client
    left = until - scene.clock.now()
    version = client.request("GET", "/version", timeout=left)[2]
    shown = str(version.get("gitVersion", "?"))
    problems = []
    if release(shown) < release(options["minimum"]):
        problems.append(f"the server is {shown}, older than {options['minimum']}")
    try:
        said = client.text("/readyz", timeout=left).strip()
        if said != "ok":
            problems.append(f"/readyz answers {said[:200]!r}")
    except ApiError as error:
        problems.append(f"the API server is not ready: {error.server_message}")
    return verdict(
        f"ready, {options['minimum']} or newer", f"ready, {shown}" if not problems else shown, problems, {"versions": {"kubernetes": shown}}
    )


def release(version: str) -> tuple[int, ...]:
    """``v1.36.3+k3s1`` as (1, 36); an unreadable part counts as 0."""
    return tuple(int("".join(char for char in part if char.isdigit()) or 0) for part in version.lstrip("v").split(".")[:2])


# ---- nodes ------------------------------------------------------------------------------------------------------------------


def nodes(options: Options, scene: Scene, until: float) -> Finding:
    """Every node is Ready, without pressure, with a kubelet that answers, in the zones and numbers that are wanted."""
    found = scene.cluster.objects("Node")
    leases = {name_of(lease): lease for lease in scene.cluster.objects("Lease", "kube-node-lease")}
    now = scene.cluster.now()
    silent = kubelet_problems(scene, [name_of(node) for node in found if doubtful(leases.get(name_of(node)), now, len(found))], until)
    problems = []
    for node in found:
        kubelet = silent.get(name_of(node), "")
        problems += node_problems(node, leases.get(name_of(node)), now) or ([kubelet] if kubelet else [])
    zones = Counter(zone for node in found if (zone := labels_of(node).get(ZONE)))
    if len(found) < options["minimum"]:
        problems.append(f"{plural(len(found), 'node')}, at least {options['minimum']} wanted")
    if len(zones) < options["zones"]:
        problems.append(f"the nodes stand in {plural(len(zones), 'zone')}, at least {options['zones']} wanted")
    ready = sum(1 for node in found if is_true(node, "Ready"))
    expected = f"at least {plural(options['minimum'], 'node')}, all Ready, no pressure, kubelets answer"
    return verdict(expected, f"{ready} of {plural(len(found), 'node')} Ready", problems, {"zones": dict(zones)})


def doubtful(lease: Object | None, now: float, count: int) -> bool:
    """Whether a kubelet is asked itself: each of a few, and of many those that have not just renewed their lease, which every kubelet does in time."""
    if count <= MANY or lease is None:
        return True
    duration, renewed = float(lease["spec"].get("leaseDurationSeconds") or 40), lease["spec"].get("renewTime")
    return not renewed or now - datetime.fromisoformat(renewed).timestamp() > duration / 4


def kubelet_problems(scene: Scene, nodes: Sequence[str], until: float) -> dict[str, str]:
    """What is wrong with kubelets that do not answer, by node. Who may not ask the first may ask none of them."""
    if not nodes:
        return {}
    first = kubelet_problem(scene, nodes[0], until)
    if first is None:
        return {}
    with ThreadPoolExecutor(8) as pool:
        others = pool.map(lambda node: kubelet_problem(scene, node, until) or "", nodes[1:])
        return dict(zip(nodes, [first, *others], strict=True))


def kubelet_problem(scene: Scene, node: str, until: float) -> str | None:
    """A killed kubelet shows here at once, in the node's conditions only after the grace period (40-50 s). None: asking is not allowed."""
    try:
        scene.cluster.client.text(quote("api", "v1", "nodes", node, "proxy", "healthz"), timeout=min(5.0, until - scene.clock.now()))
    except ApiError as error:
        if error.status in (401, 403):  # without the right to ask, the lease has to do
            return None
        return f"the kubelet of node {node} does not answer: {error.server_message}"
    return ""


def node_problems(node: Object, lease: Object | None, now: float) -> list[str]:
    """What is wrong with a node. Its lease tells of a silent kubelet before the node turns NotReady."""
    name, problems = name_of(node), condition_problems(node)
    if lease is not None and is_true(node, "Ready"):
        duration = float(lease["spec"].get("leaseDurationSeconds") or 40)
        renewed = datetime.fromisoformat(lease["spec"]["renewTime"]).timestamp()
        if now - renewed > duration * LEASE_SHARE:
            problems.append(
                f"the kubelet of node {name} is silent: it renewed its lease {age(now - renewed)} ago, {age(duration / 4)} is usual"
            )
    return problems


# ---- volumes ----------------------------------------------------------------------------------------------------------------


def volumes(options: Options, scene: Scene, until: float) -> Finding:
    """Every claim (of a selector, at least ``minimum``) is Bound."""
    claims = [
        claim
        for claim in scene.cluster.objects("PersistentVolumeClaim", options["namespace"])
        if selects({"matchLabels": options["selector"]}, labels_of(claim))
    ]
    problems = []
    for claim in claims:
        phase = (claim.get("status") or {}).get("phase", "unknown")
        if claim["metadata"].get("deletionTimestamp"):
            problems.append(f"claim {name_of(claim)} is being deleted")
        elif phase != "Bound":
            storage_class = claim["spec"].get("storageClassName") or "the default"
            problems.append(f"claim {name_of(claim)} is {phase}: storage class {storage_class}{_why(scene, claim)}")
    if len(claims) < options["minimum"]:
        labels = ",".join(f"{key}={value}" for key, value in options["selector"].items()) or "any labels"
        problems.append(
            f"{plural(len(claims), 'claim')} with {labels} in {options['namespace']}, {options['minimum']} wanted: were they deleted?"
        )
    bound = sum(1 for claim in claims if (claim.get("status") or {}).get("phase") == "Bound")
    sizes = {name_of(claim): ((claim.get("status") or {}).get("capacity") or {}).get("storage", "") for claim in claims}
    return verdict(
        f"at least {plural(options['minimum'], 'claim')}, all Bound", f"{bound} of {len(claims)} Bound", problems, {"capacity": sizes}
    )


def _why(scene: Scene, claim: Object) -> str:
    """The newest warning about an object, as ``; reason: message``."""
    uid = claim["metadata"].get("uid")
    events = [e for e in scene.cluster.objects("Event", namespace_of(claim)) if (e.get("involvedObject") or {}).get("uid") == uid]
    warnings = [event for event in events if event.get("type") == "Warning"] or events
    if not warnings:
        return ""
    newest = max(warnings, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
    return f"; {newest.get('reason')}: {str(newest.get('message', '')).strip()}"


# ---- budgets ----------------------------------------------------------------------------------------------------------------


def budgets(options: Options, scene: Scene, until: float) -> Finding:
    """Exactly one disruption budget a pod, and each lets a drain go on when all its pods are healthy."""
    namespace = options["namespace"]
    pods = [pod for pod in scene.cluster.objects("Pod", namespace) if selects({"matchLabels": options["selector"]}, labels_of(pod))]
    found = scene.cluster.objects("PodDisruptionBudget", namespace)
    problems = budget_problems(pods, found)
    counted = sum(1 for pod in pods if (controller(pod) or ("", ""))[0] in RUNS_MANY)
    return verdict("exactly one budget for every replicated pod", f"{plural(len(found), 'budget')} for {plural(counted, 'pod')}", problems)


def budget_problems(pods: Sequence[Object], found: Sequence[Object]) -> list[str]:
    """Two budgets on a pod make every eviction fail. A workload of one replica may have none: a budget could only block its drain."""
    live = [pod for pod in pods if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")]
    replicas = Counter(controller(pod) for pod in live)
    problems = []
    for pod in live:
        covering = [
            name_of(b) for b in found if namespace_of(b) == namespace_of(pod) and selects(b["spec"].get("selector"), labels_of(pod))
        ]
        owner = controller(pod)
        if len(covering) > 1:
            problems.append(f"pod {name_of(pod)} has {len(covering)} budgets ({', '.join(sorted(covering))}): it cannot be evicted at all")
        elif not covering and owner is not None and owner[0] in RUNS_MANY and replicas[owner] > 1:
            problems.append(f"pod {name_of(pod)} has no budget")
    for budget in found:
        status = budget.get("status") or {}
        expected, healthy = status.get("expectedPods") or 0, status.get("currentHealthy") or 0
        if expected > 0 and healthy >= expected and not status.get("disruptionsAllowed"):
            problems.append(
                f"budget {name_of(budget)} allows no eviction although {healthy} of {expected} pods are healthy: a drain would hang"
            )
    return problems


# ---- certificates -----------------------------------------------------------------------------------------------------------


def certificates(options: Options, scene: Scene, until: float) -> Finding:
    """The API server's certificate, the kubeconfig's client certificate and the TLS Secrets live at least ``minimum_days`` longer."""
    now = scene.cluster.now()
    ends: dict[str, datetime] = {}
    problems = []
    client = scene.cluster.client
    serving = client.dial()
    try:
        if isinstance(serving.sock, ssl.SSLSocket):
            ends["API server"] = expiry(serving.sock.getpeercert(binary_form=True) or b"")
    finally:
        serving.close()
    own = client_certificate(scene.params)
    if own:
        ends["client certificate of the kubeconfig"] = expiry(own)
    for namespace in options["namespaces"]:
        # Only this type is asked for: other Secrets are none of this check's business.
        for secret in client.list(client.resource("v1", "Secret"), namespace, fieldSelector="type=kubernetes.io/tls")["items"]:
            label = f"Secret {namespace}/{name_of(secret)}"
            try:
                ends[label] = expiry(base64.b64decode((secret.get("data") or {}).get("tls.crt", "")))
            except (PlatformError, ValueError):
                problems.append(f"{label} holds no certificate in tls.crt")
    for label, end in ends.items():
        left = end.timestamp() - now
        if left < 0:
            problems.append(f"{label}: expired on {end:%Y-%m-%d}")
        elif left < options["minimum_days"] * DAY:
            problems.append(f"{label}: expires on {end:%Y-%m-%d}, in {age(left)}")
    if not ends:
        problems.append("no certificate was found: is the server reached without TLS?")
    soonest = min(ends.items(), key=lambda item: item[1], default=None)
    observed = f"{plural(len(ends), 'certificate')}" + (f", the first expires in {age(soonest[1].timestamp() - now)}" if soonest else "")
    details = {"expires": {label: end.isoformat() for label, end in ends.items()}}
    return verdict(f"valid for {options['minimum_days']:g} days more", observed, problems, details)


def expiry(certificate: bytes) -> datetime:
    """When a certificate (PEM, the first of a chain; or DER) ends. Raises PlatformError when it cannot be read."""
    try:
        from cryptography import x509
    except ImportError as error:
        raise PlatformError("Reading certificates needs the Python package cryptography. Run `pip install cryptography`.") from error
    try:
        loaded = (
            x509.load_pem_x509_certificate(certificate) if b"-----BEGIN" in certificate else x509.load_der_x509_certificate(certificate)
        )
    except ValueError as error:
        raise PlatformError(f"A certificate cannot be read: {error}") from error
    if hasattr(loaded, "not_valid_after_utc"):  # cryptography 42
        return loaded.not_valid_after_utc
    return loaded.not_valid_after.replace(tzinfo=UTC)


def client_certificate(params: Mapping[str, t.Any]) -> bytes | None:
    """The client certificate in the kubeconfig that is in use; None when it authenticates another way."""
    if params.get("host"):
        return None
    named = params.get("kubeconfig") or os.environ.get("KUBECONFIG") or "~/.kube/config"
    file = Path(named).expanduser()
    if not file.is_file():
        return None
    config = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    wanted = params.get("context") or config.get("current-context")
    context: Mapping[str, t.Any] = next((entry["context"] for entry in config.get("contexts") or [] if entry["name"] == wanted), {})
    user = next((entry.get("user") or {} for entry in config.get("users") or [] if entry["name"] == context.get("user")), {})
    if user.get("client-certificate-data"):
        return base64.b64decode(user["client-certificate-data"])
    if user.get("client-certificate"):
        return (file.parent / user["client-certificate"]).read_bytes()
    return None
