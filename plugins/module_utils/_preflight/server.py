# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the cluster offers, held against what the roles need: read-only, side by side, bounded (private: may change without notice)."""

from __future__ import annotations

import re
import typing as t
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal

from ansible_collections.progressive.platform.plugins.module_utils._kube import deprecations
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client
from ansible_collections.progressive.platform.plugins.module_utils._kube.nodes import condition_problems
from ansible_collections.progressive.platform.plugins.module_utils._kube.readiness import conditions
from ansible_collections.progressive.platform.plugins.module_utils._preflight.findings import Finding
from ansible_collections.progressive.platform.plugins.module_utils._preflight.quantities import humane, quantity
from ansible_collections.progressive.platform.plugins.module_utils._redis import engines

Json = dict[str, t.Any]

# Minor versions of Kubernetes 1.x: refused below, warned about at, tested from, tested to.
REFUSED_BELOW, BEST_EFFORT, TESTED_TO = 34, 34, 37
ASK_TIMEOUT = 5.0  # seconds for one question
SIDE_BY_SIDE = 8
CLUSTER_WIDE = {"namespaces", "priorityclasses.scheduling.k8s.io"}
# Who else may answer for a host from outside.
EDGES = {
    "Gateway": "/apis/gateway.networking.k8s.io/v1/gateways",
    "Gateway of Istio": "/apis/networking.istio.io/v1/gateways",
    "VirtualServer": "/apis/k8s.nginx.org/v1/virtualservers",
    "Ingress": "/apis/networking.k8s.io/v1/ingresses",
}
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"


@dataclass(frozen=True)
class Seen:
    """What the server answered; every field is plain API JSON, so that the judgement below needs no server."""

    version: str = ""
    refused: Sequence[str] = ()
    nodes: Sequence[Json] | None = None
    classes: Sequence[Json] | None = None
    workloads: Mapping[str, Json] = field(default_factory=dict)
    metrics: bool = True
    owners: Mapping[str, Json] = field(default_factory=dict)
    absent: Sequence[str] = ()
    edges: Mapping[str, Sequence[Json]] = field(default_factory=dict)
    recorded: deprecations.Recorded = field(default_factory=deprecations.Recorded)


def look(client: Client, needs: Mapping[str, t.Any], stored: bool = False) -> Seen:
    """Ask everything at once; ``stored``: also in which API versions objects were sent.

    Raises ApiError when the server cannot be reached or does not accept the credentials.
    """
    version = _ask(client, "GET", "/version")  # first and alone: when this fails, so would all others, with worse messages
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        rights = {
            (verb, resource): pool.submit(_allowed, client, verb, resource, needs.get("namespace"))
            for resource in needs.get("sends") or []
            for verb in ("create", "patch")
        }
        nodes = pool.submit(_items, client, "/api/v1/nodes")
        classes = pool.submit(_items, client, "/apis/storage.k8s.io/v1/storageclasses")
        metrics = pool.submit(_found, client, "/apis/metrics.k8s.io/v1beta1")
        owners = {
            owner["api"]: pool.submit(_found, client, f"/apis/apiregistration.k8s.io/v1/apiservices/{owner['api']}")
            for owner in needs.get("owners") or []
        }
        edges = {kind: pool.submit(_found, client, path) for kind, path in EDGES.items() if needs.get("hosts")}
        definitions = {wanted["api"]: pool.submit(_found, client, f"/apis/{wanted['api']}") for wanted in needs.get("definitions") or []}
        workloads = {
            claim["workload"]: pool.submit(
                _found, client, f"/apis/apps/v1/namespaces/{needs.get('namespace')}/statefulsets/{claim['workload']}"
            )
            for claim in needs.get("claims") or []
        }
        recorded = pool.submit(deprecations.recorded, client, str(needs.get("namespace"))) if stored else None
        return Seen(
            version=str(version.get("gitVersion", "")),
            refused=[f"{verb} {resource}" for (verb, resource), answer in rights.items() if not answer.result()],
            nodes=nodes.result(),
            classes=classes.result(),
            workloads={key: found for key, answer in workloads.items() if (found := answer.result())},
            metrics=metrics.result() is not None,
            owners={key: found for key, answer in owners.items() if (found := answer.result())},
            absent=[key for key, answer in definitions.items() if answer.result() is None],
            edges={kind: (answer.result() or {}).get("items") or [] for kind, answer in edges.items()},
            recorded=recorded.result() if recorded else deprecations.Recorded(),
        )


def judge(seen: Seen, needs: Mapping[str, t.Any]) -> list[Finding]:
    """Everything the cluster lacks."""
    judges: Iterable[Callable[[], Iterator[Finding]]] = (
        lambda: _version(seen),
        lambda: _rights(seen, needs),
        lambda: _storage(seen, needs),
        lambda: _existing(seen, needs),
        lambda: _nodes(seen, needs),
        lambda: _autoscaling(seen, needs),
        lambda: _owners(seen, needs),
        lambda: _definitions(seen, needs),
        lambda: _minors(seen, needs),
        lambda: _hosts(seen, needs),
        lambda: _deprecations(seen, needs),
    )
    return [finding for one in judges for finding in one()]


# ---- questions --------------------------------------------------------------------------------------------------------------------


def _ask(client: Client, method: str, path: str, body: Json | None = None) -> Json:
    return client.request(method, path, body, timeout=ASK_TIMEOUT)[2]


def _items(client: Client, path: str) -> list[Json] | None:
    """The list, or None when the credentials may not see it."""
    try:
        return _ask(client, "GET", path).get("items") or []
    except ApiError as error:
        if error.status == 403:
            return None
        raise


def _found(client: Client, path: str) -> Json | None:
    try:
        return _ask(client, "GET", path)
    except ApiError as error:
        if error.status in (403, 404, 503):
            return None
        raise


def _allowed(client: Client, verb: str, resource: str, namespace: str | None) -> bool:
    plural, _unused, group = resource.partition(".")
    attributes = {"verb": verb, "group": group, "resource": plural} | ({} if resource in CLUSTER_WIDE else {"namespace": namespace})
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}}
    answer = _ask(client, "POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    return bool((answer.get("status") or {}).get("allowed"))


# ---- judgements -------------------------------------------------------------------------------------------------------------------


def _version(seen: Seen) -> Iterator[Finding]:
    match = re.match(r"v?(\d+)\.(\d+)", seen.version)
    major, minor = (int(match[1]), int(match[2])) if match else (0, 0)
    allowed = f"Kubernetes 1.{BEST_EFFORT + 1} to 1.{TESTED_TO}"
    text = f"Kubernetes {seen.version or 'of an unknown version'}"
    if major != 1 or minor < REFUSED_BELOW:
        yield Finding(
            "platform_context", text, allowed, "Upgrade the cluster, or point platform_kubeconfig and platform_context at another."
        )
    elif minor == BEST_EFFORT:
        yield Finding("platform_context", text, allowed, "It should work and is not tested; upgrade the cluster.", warning=True)
    elif minor > TESTED_TO:
        yield Finding(
            "platform_context",
            text,
            allowed,
            "It should work and is not tested; look for a newer release of this collection.",
            warning=True,
        )


def _rights(seen: Seen, needs: Mapping[str, t.Any]) -> Iterator[Finding]:
    if seen.refused:
        yield Finding(
            "platform_context",
            f"the credentials may not {', '.join(sorted(seen.refused))} in {needs.get('namespace')}",
            "create and patch of everything that is sent",
            f"Bind a role that allows it; check with: kubectl auth can-i {seen.refused[0]} -n {needs.get('namespace')}",
        )


def _storage(seen: Seen, needs: Mapping[str, t.Any]) -> Iterator[Finding]:
    if seen.classes is None:
        return
    known = {entry["metadata"]["name"]: entry["metadata"].get("annotations") or {} for entry in seen.classes}
    for claim in needs.get("claims") or []:
        wanted, variable = claim.get("class"), f"{claim['variable']}.class"
        there = f"one of {', '.join(sorted(known)) or 'none, the cluster has no StorageClass'}"
        if wanted and wanted not in known:
            yield Finding(
                variable, f"{wanted}, which the cluster does not have", there, "Set platform_storage_class to one of them, or create it."
            )
        elif not wanted and not any(notes.get(DEFAULT_CLASS) == "true" for notes in known.values()):
            yield Finding(variable, "nothing, and the cluster has no default StorageClass", there, "Set platform_storage_class.")


def _existing(seen: Seen, needs: Mapping[str, t.Any]) -> Iterator[Finding]:
    """A StatefulSet's volume claims cannot be changed."""
    for claim in needs.get("claims") or []:
        there = seen.workloads.get(claim["workload"])
        if not there:
            continue
        for template in there["spec"].get("volumeClaimTemplates") or []:
            if template["metadata"]["name"] != claim["claim"]:
                continue
            size = template["spec"]["resources"]["requests"]["storage"]
            if quantity(claim["size"]) != quantity(size):
                smaller = quantity(claim["size"]) < quantity(size)
                remedy = "A volume never shrinks." if smaller else "Growing volumes is not done by this release."
                yield Finding(f"{claim['variable']}.size", str(claim["size"]), f"{size}, the size of the volumes there are", remedy)
            class_there = template["spec"].get("storageClassName")
            if claim.get("class") and class_there and claim["class"] != class_there:
                yield Finding(
                    f"{claim['variable']}.class",
                    str(claim["class"]),
                    f"{class_there}, the class of the volumes there are",
                    "Move the data first.",
                )
        yield from _engine(there, claim)


def _engine(there: Json, claim: Mapping[str, t.Any]) -> Iterator[Finding]:
    """Servers that read each other's data only forwards: judged by the template there is, whose pods have written it."""
    containers = there["spec"].get("template", {}).get("spec", {}).get("containers") or []
    container = next((one for one in containers if one["name"] == claim.get("container")), None)
    new = engines.parse(str(claim.get("release", "")))
    if container is None or new is None:
        return
    engine = next((one.get("value", "") for one in container.get("env") or [] if one["name"] == "ENGINE"), "redis")
    old = engines.of_image(engine, container["image"])
    reason = engines.refusal(old, new) if old else ""
    if reason:
        yield Finding(claim["engine"], str(new), f"what can read the data of {old}", reason[0].upper() + reason[1:] + ".")


def _nodes(seen: Seen, needs: Mapping[str, t.Any]) -> Iterator[Finding]:
    if seen.nodes is None:
        yield Finding(
            "platform_pools",
            "the credentials may not list the cluster's nodes",
            "list nodes",
            "Pools, zones and sizes were not checked; allow it to have them checked.",
            warning=True,
        )
        return
    pools = needs.get("pools") or {}
    names = {node["metadata"]["name"] for node in seen.nodes}
    for node in sorted(set(needs.get("nodes") or []) - names):
        yield Finding(
            "platform_pools", f"node {node}, which the cluster does not have", ", ".join(sorted(names)), "Correct the pool's nodes."
        )
    groups: dict[tuple[str, ...], list[Json]] = {}
    for pod in needs.get("pods") or []:
        groups.setdefault(tuple(pod["pools"]), []).append(pod)
    for names_of_pools, pods in groups.items():
        nodes = [node for node in seen.nodes if usable(node, names_of_pools, pools)]
        which = " or ".join(names_of_pools)
        if not nodes:
            wanted = "; ".join(f"{pool}: {_labels(pools.get(pool) or {})}" for pool in names_of_pools)
            ill = [problem for node in seen.nodes if _of_pool(node, names_of_pools, pools) for problem in condition_problems(node)]
            yield Finding(
                f"platform_pools.{names_of_pools[0] if names_of_pools else ''}",
                f"no ready node is of pool {which}" + (f" ({'; '.join(ill)})" if ill else ""),
                f"nodes labelled {wanted}, with no other taints than the pool's",
                "Label the nodes, list them in the pool's nodes, or let the components use another pool."
                if not ill
                else "Make the nodes well first (kubectl describe nodes); a disk that is full takes pods again five minutes after it has room.",
            )
            continue
        yield from _sizes(pods, nodes, which)
    for spread in needs.get("zones") or []:
        nodes = [node for node in seen.nodes if usable(node, spread["pools"], pools)]
        zones = {(node["metadata"].get("labels") or {}).get("topology.kubernetes.io/zone", "") for node in nodes} - {""}
        if nodes and len(zones) < 3:
            yield Finding(
                spread["variable"],
                f"{spread['members']} masters over {len(zones)} zones and {len(nodes)} nodes",
                "three zones",
                "With fewer, the loss of one zone can take the majority of the masters with it.",
                warning=True,
            )


def usable(node: Json, pools_of_pod: Iterable[str], pools: Mapping[str, t.Any]) -> bool:
    """Ready, not cordoned, with all labels of one of the pools and no taint that the pods do not tolerate."""
    spec = node.get("spec") or {}
    chosen = [pools.get(pool) or {} for pool in pools_of_pod]
    tolerated = {(taint["key"], str(taint.get("value", "")), taint["effect"]) for pool in chosen for taint in pool.get("taints") or []}
    hindering = {
        (taint["key"], str(taint.get("value", "")), taint["effect"])
        for taint in spec.get("taints") or []
        if taint["effect"] in ("NoSchedule", "NoExecute")
    }
    ready = (conditions(node).get("Ready") or {}).get("status") == "True"
    return ready and not spec.get("unschedulable") and _of_pool(node, pools_of_pod, pools) and hindering <= tolerated


def _of_pool(node: Json, pools_of_pod: Iterable[str], pools: Mapping[str, t.Any]) -> bool:
    """It has all labels of one of the pools, or is listed by name in one: role baseline gives those their labels and taints."""
    name, own = node["metadata"]["name"], node["metadata"].get("labels") or {}
    return any(
        name in (pool.get("nodes") or []) or all(own.get(key) == value for key, value in (pool.get("labels") or {}).items())
        for pool in (pools.get(one) or {} for one in pools_of_pod)
    )


def _sizes(pods: Sequence[Json], nodes: Sequence[Json], which: str) -> Iterator[Finding]:
    for resource in ("cpu", "memory", "ephemeral-storage"):
        room = [quantity((node.get("status") or {}).get("allocatable", {}).get(resource, "0")) for node in nodes]
        total = Decimal(0)
        for pod in pods:
            wanted = quantity((pod["requests"] or {}).get(resource) or 0)
            total += wanted * pod["least"]
            if wanted > max(room):
                yield Finding(
                    f"{pod['variable']}.requests.{resource}"
                    if "resources" in pod["variable"]
                    else f"{pod['variable']}.resources.requests.{resource}",
                    humane(wanted, resource),
                    f"at most {humane(max(room), resource)}, what the largest node of pool {which} can give",
                    "Lower it, or add larger nodes.",
                )
        if total > sum(room):
            yield Finding(
                f"platform_pools.{which.split(' or ', maxsplit=1)[0]}",
                f"{humane(sum(room), resource)} {resource} on the {len(nodes)} nodes of pool {which}",
                f"at least {humane(total, resource)}, what {', '.join(pod['name'] for pod in pods)} ask for at least",
                "Add nodes, or lower requests or replicas.",
            )


def _autoscaling(seen: Seen, needs: Mapping[str, t.Any]) -> Iterator[Finding]:
    if needs.get("scales") and not seen.metrics:
        yield Finding(
            "platform_components",
            "the cluster serves no resource metrics (metrics.k8s.io)",
            "a metrics server",
            "Without one the autoscalers stand still; install metrics-server.",
            warning=True,
        )


def _owners(seen: Seen, needs: Mapping[str, t.Any]) -> Iterator[Finding]:
    """An aggregated API has one owner in a cluster: a second one would take it from the first without a word."""
    for owner in needs.get("owners") or []:
        wanted = f"{owner['namespace']}/{owner['service']}"
        service = ((seen.owners.get(owner["api"]) or {}).get("spec") or {}).get("service") or {}
        holder = f"{service.get('namespace')}/{service.get('name')}" if service else ""
        if holder and holder != wanted:
            yield Finding(
                owner["variable"],
                f"{owner['api']}, which Service {holder} owns",
                f"nobody, or Service {wanted}",
                f"Choose what is there, or remove it first, with its APIService: kubectl delete apiservice {owner['api']}",
            )
        elif not holder and not owner["brought"]:
            yield Finding(
                owner["variable"],
                f"nobody serves {owner['api']}",
                f"Service {wanted}, which this collection does not install",
                f"Install it first (its own chart), or set {owner['variable']} to prometheus_adapter or none.",
            )


def _definitions(seen: Seen, needs: Mapping[str, t.Any]) -> Iterator[Finding]:
    for wanted in needs.get("definitions") or []:
        if wanted["api"] in seen.absent:
            yield Finding(
                wanted["variable"],
                f"the cluster has no {wanted['api']}",
                f"a cluster with {wanted['brings']}, which this collection does not install",
                f"Install {wanted['brings']} first, or leave {wanted['variable']} as it is by default.",
            )


def _minors(seen: Seen, needs: Mapping[str, t.Any]) -> Iterator[Finding]:
    """Programs that simulate the scheduler are of the cluster's own minor version: v1.36.1, or v0.36.1 as its parts are numbered."""
    own = re.match(r"v?(\d+\.(\d+))", seen.version)
    for wanted in needs.get("minors") or []:
        tag = str(wanted["image"]).partition("@")[0].rpartition(":")[2]
        found = re.match(r"v?[01]\.(\d+)\.", tag)
        if own and found and own[2] != found[1]:
            yield Finding(
                wanted["variable"],
                f"{tag} for Kubernetes {seen.version}",
                f"a release of {own[1]}",
                "It computes what the scheduler of its own version would do; name that release in platform_images.",
                warning=True,
            )


def _hosts(seen: Seen, needs: Mapping[str, t.Any]) -> Iterator[Finding]:
    """A host's name leads to one place: another environment's edge that has it too would get this one's requests, or the other way round."""
    for wanted in needs.get("hosts") or []:
        for kind, items in seen.edges.items():
            for item in items:
                where = f"{item['metadata'].get('namespace')}/{item['metadata']['name']}"
                both = sorted({host for host in wanted["hosts"] for other in served_hosts(item) if same_host(host, other)})
                if item["metadata"].get("namespace") != wanted["namespace"] and both:
                    yield Finding(
                        wanted["variable"],
                        f"{', '.join(both)}, which {kind} {where} answers for already",
                        "hosts of this environment alone",
                        f"Take them out of one of the two inventories; see kubectl -n {item['metadata'].get('namespace')} get "
                        f"{kind.partition(' ')[0].lower()} {item['metadata']['name']}.",
                    )


def served_hosts(item: Json) -> set[str]:
    """The hosts that an object of an edge names, whichever kind it is; one that names none is no other environment's."""
    spec = item.get("spec") or {}
    found = [listener.get("hostname") for listener in spec.get("listeners") or []]
    found += [host.rpartition("/")[2] for server in spec.get("servers") or [] for host in server.get("hosts") or []]
    found += [spec.get("host"), *(rule.get("host") for rule in spec.get("rules") or [])]
    return {str(host) for host in found if host and host != "*"}


def same_host(one: str, other: str) -> bool:
    """Equal, or one is the end of the other behind a star, of one label as TLS and the Gateway API's first choice have it."""
    wide, narrow = (one, other) if one.startswith("*.") else (other, one)
    return one == other or (wide.startswith("*.") and narrow.endswith(wide[1:]))


def _deprecations(seen: Seen, needs: Mapping[str, t.Any]) -> Iterator[Finding]:
    """API versions that this server does not serve, or the next will not. What was sent in one long ago needs nobody once it is gone."""
    match = re.match(r"v?1\.(\d+)", seen.version)
    if not match:
        return
    sent = [deprecations.Use(deprecations.TABLE[version, kind], "sent", whom) for version, kind, whom in needs.get("deprecated") or []]
    for verdict in deprecations.judged([*sent, *seen.recorded.uses], int(match[1])):
        ours = verdict.what in {use.what for use in sent}
        if verdict.next or (verdict.gone and ours):
            remedy = (
                "Use a newer release of this collection, or a cluster of an older version."
                if ours
                else "Tell whoever sends it, before the cluster is upgraded."
            )
            allowed = f"API versions that Kubernetes 1.{match[1]} and 1.{int(match[1]) + 1} serve"
            yield Finding("platform_context", verdict.sentence, allowed, remedy, warning=not verdict.gone)
    for name, sentence in seen.recorded.definitions:
        remedy = (
            "Write its objects anew (kubectl get ... -o json | kubectl replace -f -), then take the version out of status.storedVersions."
        )
        yield Finding(
            "platform_context", f"{name}: {sentence}", "definitions whose objects are stored in one served version", remedy, warning=True
        )
    if seen.recorded.unseen:
        remedy = "What is stored was checked without them; allow it to have them checked too."
        said = f"the credentials may not read {', '.join(seen.recorded.unseen)}"
        yield Finding("platform_context", said, "get and list of them", remedy, warning=True)


def _labels(pool: Mapping[str, t.Any]) -> str:
    return ",".join(f"{key}={value}" for key, value in (pool.get("labels") or {}).items()) or "anyhow"
