# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is said of a mesh, for what istiod, a proxy and the API server said."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._health import mesh
from ansible_collections.progressive.platform.plugins.module_utils._health.mesh import Probe

NOW = datetime(2026, 11, 23, 18, 0, tzinfo=UTC).timestamp()
CDS = "type.googleapis.com/envoy.config.cluster.v3.Cluster"


def pod(*containers: str, ready: bool = True, revision: str = "1-31-1", native: bool = True, **labels: str) -> dict[str, Any]:
    apps = [
        {"name": name, "ports": [{"name": "metrics", "containerPort": 9090}, {"name": "http", "containerPort": 8000}]}
        for name in containers
    ]
    proxy = [{"name": "istio-proxy"}] if revision else []
    return {
        "metadata": {"name": "mca-1", "namespace": "shop", "labels": labels, "annotations": {"istio.io/rev": revision} if revision else {}},
        "spec": {"initContainers": proxy if native else [], "containers": [*apps, *([] if native else proxy)]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


def status(**resource: str) -> dict[str, Any]:
    return mesh.statuses([[], [{"proxy": "mca-1.shop", "istio_version": "1.31.1", "resources": {CDS: resource}}]])


@pytest.mark.parametrize(
    ("one", "known", "problems"),
    [
        (pod("app"), status(sent="a", acked="a"), []),
        (pod("app", native=False), status(), []),
        (pod("app"), status(sent="b", acked="a"), ["mca-1 has not taken its newest Cluster yet"]),
        (pod("app"), status(sent="b", acked="a", lastError="no such cluster"), ["mca-1 refused its Cluster: no such cluster"]),
        (pod("app"), {}, ["mca-1: no control plane knows its proxy"]),
        (pod("app", ready=False), {}, []),
        (
            pod("app", revision=""),
            {},
            ["mca-1 has no proxy: it was made before its namespace joined (istio.io/rev=prod); restart its workload"],
        ),
        (pod("app", revision="", **{"sidecar.istio.io/inject": "false"}), {}, []),
        (pod("app", revision="1-30-5"), status(), ["mca-1 is of revision 1-30-5, 1-31-1 is wanted; restart its workload"]),
    ],
)
def test_a_pod_by_what_the_control_plane_knows(one: dict[str, Any], known: dict[str, Any], problems: list[str]) -> None:
    assert mesh.pod_problems(one, "1-31-1", "prod", known) == problems


@pytest.mark.parametrize(
    ("ends", "problem"),
    [
        (["2026-11-24T18:00:00Z"], ""),
        (["2026-11-24T18:00:00Z", "2026-11-23T23:00:00Z"], "ends in 5 h"),
        (["2026-11-23T17:00:00Z"], "ended 60 min ago"),
        ([], "has no certificate"),
    ],
)
def test_the_first_certificate_that_ends_counts(ends: list[str], problem: str) -> None:
    certs = {"certificates": [{"ca_cert": [], "cert_chain": [{"expiration_time": end}]} for end in ends]}
    found = mesh.certificate_problems("mca-1", mesh.certificate_left(certs, NOW), 6)
    assert (problem in found[0]) if problem else not found


@pytest.mark.parametrize(
    ("probe", "problem"),
    [
        (Probe(502, 'error trying to reach service: EOF'), ""),
        (Probe(503, "error trying to reach service: read tcp 10.0.0.1->10.0.0.2: read: connection reset by peer"), ""),
        (Probe(0, mesh.SILENCE), ""),
        (Probe(200, "ok"), "was answered on port 8000 (200: ok); is PeerAuthentication STRICT?"),
        (Probe(403, "RBAC: access denied"), "was answered on port 8000 (403"),  # a policy answered, so it was let in
        (Probe(503, "no healthy upstream"), "was answered on port 8000 (503"),
        (Probe(403, 'pods "mca-1" is forbidden: User "x" cannot get resource "pods/proxy"'), "these credentials may not get pods/proxy"),
    ],
)  # fmt: skip
def test_only_silence_is_a_refusal_of_plain_text(probe: Probe, problem: str) -> None:
    found = mesh.plain_text_problems("mca-1", 8000, probe)
    assert (problem in found[0]) if problem else not found


def test_the_port_that_is_probed() -> None:
    assert mesh.served_port(pod("app")) == 8000
    assert mesh.served_port(pod()) is None
    assert mesh.served_port(pod("app", **{"gateway.networking.k8s.io/gateway-name": "edge"})) is None, (
        "it serves the world in plain text as well"
    )
