# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ``istioctl analyze`` says of everything that would be sent, as preflight's findings (private: may change without notice).

It is asked without a cluster: what is in the bundle is all it knows. The codes are those of Istio 1.32 (``pkg/config/analysis/msg/messages.yaml``); a test
holds the tables to that file.
"""

from __future__ import annotations

import json
import os
import typing as t
from collections.abc import Iterator, Sequence
from pathlib import Path

from ansible_collections.progressive.platform.plugins.module_utils._kube.bundle import Document
from ansible_collections.progressive.platform.plugins.module_utils._local.shell import call, unfinished
from ansible_collections.progressive.platform.plugins.module_utils._preflight.findings import Finding
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

TIMEOUT = 60.0  # seconds
ALLOWED = "manifests that istioctl analyze finds nothing in"
NO_CLUSTER = {"KUBECONFIG": os.devnull}
# What an analysis of files alone can say, and what to do about it.
REMEDIES = {
    "IST0001": "It is istioctl's own fault; try another release of it (platform_sources.istioctl).",
    "IST0002": "Write what its documentation names in its place; the next release may not read it.",
    "IST0101": "Correct the name, or add what it names; requests to it are answered with an error.",
    "IST0102": "Put the namespace into istio_namespaces, or take its pods' mesh option away.",
    "IST0106": "Correct the field it names; the API server would refuse it, or Istio would leave it out.",
    "IST0107": "Move the annotation to the kind it is for; here nobody reads it.",
    "IST0108": "Correct the annotation's name; nobody reads this one.",
    "IST0109": "Let one of them have the host; which of them counts is chance otherwise.",
    "IST0110": "Let one Sidecar select the pods; which of them counts is chance otherwise.",
    "IST0111": "Leave one Sidecar without a selector in the namespace; role istio brings one (istio_visible).",
    "IST0112": "Name the port (gateway_routes.NAME.port).",
    "IST0116": "Give the port one protocol in all Services of the pods; the proxy can speak only one.",
    "IST0118": "Begin the port's name with its protocol (http-, grpc-, tcp-), or it is treated as plain TCP.",
    "IST0123": "Leave one label: istio.io/rev is role baseline's, istio-injection would win over it.",
    "IST0125": "Correct the annotation's value.",
    "IST0126": "Correct meshNetworks in istio_mesh_config.",
    "IST0127": "Correct the selector, or remove the rule: it holds for no pod.",
    "IST0128": "Name caCertificates in the DestinationRule; whoever answers is believed otherwise.",
    "IST0129": "Name caCertificates for that port in the DestinationRule; whoever answers is believed otherwise.",
    "IST0130": "Put the narrower rule first, or remove it: no request ever reaches it.",
    "IST0131": "Remove the match: an earlier one takes all its requests.",
    "IST0132": "Put the host into gateway_hosts, or take it out of the VirtualService.",
    "IST0133": "Read the field's documentation: Istio takes it, and does not do what it seems to say.",
    "IST0134": "Name addresses in the ServiceEntry, or a protocol that carries a host's name.",
    "IST0135": "Write the annotation that took its place.",
    "IST0136": "It may change without notice; leave it out where that matters.",
    "IST0137": "Let all Services that lead to a container's port have one port number for it.",
    "IST0138": "Let one gateway serve the certificate's hosts: browsers send requests for one host over a connection for another.",
    "IST0140": "Use a Service a version in place of subsets; a gateway does not see them.",
    "IST0143": "Let the server listen on all addresses.",
    "IST0144": "Give the pod another user (platform_user); 1337 is the proxy's, whose traffic is not looked at.",
    "IST0145": "Give each gateway hosts of its own (gateway_hosts).",
    "IST0146": "Label its namespace for injection (istio_namespaces); without that nobody puts the proxy's image there.",
    "IST0147": "Label its namespace for injection (istio_namespaces); without that nobody puts the proxy's image there.",
    "IST0149": "Set gateway_jwt: a route by a claim needs tokens that were checked.",
    "IST0150": "Name the port tcp-, or leave the name out.",
    "IST0151": "Give the EnvoyFilter a priority, or INSERT_FIRST.",
    "IST0152": "Use REPLACE for filters only; MERGE for the rest.",
    "IST0153": "Use MERGE: ADD is left out there.",
    "IST0154": "Use MERGE: REMOVE is left out there.",
    "IST0155": "Give the EnvoyFilter a priority, and take its proxyVersion away.",
    "IST0157": "Name a provider in the Telemetry (istio_tracing), or remove it.",
    "IST0159": "Let one Telemetry select the pods.",
    "IST0160": "Leave one Telemetry without a selector; role istio brings one (istio_tracing).",
    "IST0161": "Correct the Secret: tls.crt and tls.key must belong together and be valid (gateway_tls_secret).",
    "IST0162": "Put the port into the gateway's Service (gateway_service).",
    "IST0165": "Name the Gateway of the Gateway API as parent of an HTTPRoute; the internal one is Istio's.",
    "IST0166": "Use targetRefs in place of the selector: it does not hold for this gateway.",
    "IST0167": "Correct what the policy is for: it holds for nothing.",
    "IST0173": "Correct the subset's labels: no pod has them, and its requests are answered with 503.",
    "IST0174": "Correct the DestinationRule's host: there is no such Service.",
    "IST0175": "Give the keys themselves (gateway_jwt.jwks), or set BLOCKED_CIDRS_IN_JWKS_URIS in istio_environment.",
    "IST0177": "Let all of istio_egress have one protocol for the host and port.",
}
# What only a running cluster can make it say.
LIVE = {
    *("IST0103", "IST0139", "IST0141", "IST0142", "IST0148", "IST0156", "IST0158", "IST0163", "IST0164"),
    *("IST0168", "IST0169", "IST0170", "IST0171", "IST0172", "IST0176"),
}
# What is said of every EnvoyFilter there is. Role gateway's is held to a real istiod and Envoy by a test (test_edge_envoy.py), so of that one it is no news.
EXPECTED = ("gateway", "EnvoyFilter ", "Schema validation warning: EnvoyFilter exposes internal implementation details")
# Where an inventory says what becomes a document of this role.
VARIABLES = {"istio": "istio_namespaces", "gateway": "gateway_routes", "baseline": "baseline_namespaces"}


class Said(t.NamedTuple):
    """One message. ``origin`` is ``Kind namespace/name``, empty where nothing of the bundle is to blame."""

    code: str
    level: str
    message: str
    origin: str = ""


def analyze(program: Path, documents: Sequence[Document], scratch: Path, root: str) -> list[Said]:
    """Everything istioctl says of the documents; ``root`` is the control plane's namespace. PlatformError where it does not answer."""
    scratch.mkdir(parents=True, exist_ok=True)
    bundle = unfinished(scratch / "analysis.yaml")
    bundle.write_text("\n---\n".join(map(json.dumps, documents)), encoding="utf-8")
    command = [str(program), "analyze", "--use-kube=false", "--all-namespaces", "--istioNamespace", root, "--output", "json", str(bundle)]
    try:
        answer = call(command, timeout=TIMEOUT, env=NO_CLUSTER)
    finally:
        bundle.unlink(missing_ok=True)
    try:
        return [said_of(entry) for entry in json.loads(answer or "[]") or []]
    except (ValueError, KeyError, TypeError) as error:
        raise PlatformError(f"{program} answers something else than its findings: {answer[:200]!r}. Is it istioctl?") from error


def said_of(entry: t.Mapping[str, t.Any]) -> Said:
    return Said(entry["code"], str(entry.get("level", "Error")), entry["message"], str(entry.get("origin", "")))


def findings(said: Sequence[Said], senders: t.Mapping[str, str], whole: bool) -> Iterator[Finding]:
    """As preflight shows them. ``senders``: roles by ``Kind namespace/name``; ``whole``: all that is referred to is in the bundle."""
    for one in said:
        role = senders.get(one.origin, "istio")
        if role == EXPECTED[0] and one.origin.startswith(EXPECTED[1]) and one.message.startswith(EXPECTED[2]):
            continue
        seen = f"{one.origin or 'the mesh'}: {one.message} ({one.code})"
        remedy = REMEDIES.get(one.code, f"Read https://istio.io/latest/docs/reference/config/analysis/{one.code.lower()}/.")
        lenient = one.level != "Error" or (one.code == "IST0101" and not whole)
        yield Finding(variable_of(role), seen, ALLOWED, remedy, warning=lenient)


def variable_of(role: str) -> str:
    return VARIABLES.get(role, f"{role}_services" if role in ("app", "agents", "workload") else f"role {role}")


def origin_of(document: Document) -> str:
    """As istioctl names what it read: ``Kind namespace/name``, or without a namespace."""
    metadata = document["metadata"]
    place = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    return f"{document['kind']} {place}{metadata['name']}"


def absent(version: str) -> Finding:
    """Preflight fetches nothing, so before the first run there may be no istioctl."""
    return Finding(
        "platform_sources.istioctl",
        f"istioctl {version} is not on this machine yet".replace("  ", " "),
        ALLOWED,
        "What istioctl analyze would say is not known; it is asked as soon as it is here (a run of role istio fetches it, make mesh builds it).",
        warning=True,
    )
