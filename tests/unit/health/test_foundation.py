# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._health.foundation import (
    budget_problems,
    client_certificate,
    expiry,
    node_problems,
    release,
)
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError
from ansible_collections.progressive.platform.tests.unit.health.objects import node, pod
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.datetime(2026, 11, 23, 12, 0, 0, tzinfo=datetime.UTC).timestamp()


def lease(seconds_ago: float) -> dict:
    renewed = datetime.datetime.fromtimestamp(NOW - seconds_ago, datetime.UTC).isoformat().replace("+00:00", "Z")
    return {"spec": {"leaseDurationSeconds": 40, "renewTime": renewed}}


@pytest.mark.parametrize(
    ("found", "seconds_ago", "problems"),
    [
        pytest.param(node(), 5, [], id="well"),
        pytest.param(node(MemoryPressure="False"), 5, [], id="no pressure"),
        pytest.param(node(), 24, [], id="one renewal missed"),
        pytest.param(
            node(), 26, ["the kubelet of node node-1 is silent: it renewed its lease 26 s ago, 10 s is usual"], id="silent kubelet"
        ),
        pytest.param(node(ready="False"), 5, ["node node-1 is NotReady: ReadyReason: so it is"], id="not ready"),
        pytest.param(node(ready="Unknown"), 300, ["node node-1 is NotReady: ReadyReason: so it is"], id="unknown, said once"),
        pytest.param(node(DiskPressure="True"), 5, ["node node-1 has DiskPressure: so it is"], id="pressure"),
        pytest.param({"metadata": {"name": "node-1"}}, 5, ["node node-1 reports no Ready condition"], id="no status at all"),
    ],
)
def test_nodes(found, seconds_ago, problems):
    assert node_problems(found, lease(seconds_ago), NOW) == problems


def test_a_cluster_without_leases_is_judged_by_its_conditions():
    assert node_problems(node(), None, NOW) == []


def budget(name: str = "web", allowed: int = 1, healthy: int = 2, expected: int = 2, selector: dict | None = None) -> dict:
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"selector": {"matchLabels": {"app": "web"}} if selector is None else selector},
        "status": {"disruptionsAllowed": allowed, "currentHealthy": healthy, "expectedPods": expected},
    }


TWO = [pod("web-1", owner="ReplicaSet/web-1f"), pod("web-2", owner="ReplicaSet/web-1f")]


@pytest.mark.parametrize(
    ("pods", "budgets", "problems"),
    [
        pytest.param(TWO, [budget()], [], id="exactly one"),
        pytest.param(TWO, [], ["pod web-1 has no budget", "pod web-2 has no budget"], id="none"),
        pytest.param(TWO[:1], [], [], id="a single replica needs none"),
        pytest.param([pod("bare"), pod("agent", owner="DaemonSet/agent")], [], [], id="bare and daemon pods need none"),
        pytest.param([pod("job", phase="Succeeded", owner="Job/job")] * 2, [], [], id="nor do jobs"),
        pytest.param(
            TWO[:1],
            [budget("a"), budget("b")],
            ["pod web-1 has 2 budgets (a, b): it cannot be evicted at all"],
            id="two on one pod",
        ),
        pytest.param(
            TWO,
            [budget(allowed=0)],
            ["budget web allows no eviction although 2 of 2 pods are healthy: a drain would hang"],
            id="a budget that blocks every drain",
        ),
        pytest.param(TWO, [budget(allowed=0, healthy=1)], [], id="one pod is unhealthy: no eviction now is right"),
        pytest.param(TWO, [budget(selector={})], [], id="an empty selector takes all"),
        pytest.param(
            TWO,
            [budget(selector={"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]})],
            ["pod web-1 has no budget", "pod web-2 has no budget"],
            id="expressions count",
        ),
    ],
)
def test_budgets(pods, budgets, problems):
    assert budget_problems(pods, budgets) == problems


@pytest.mark.parametrize(
    ("version", "parsed"), [("v1.36.3", (1, 36)), ("1.31", (1, 31)), ("v1.30+", (1, 30)), ("v1.36.3+k3s1", (1, 36)), ("?", (0,))]
)
def test_versions(version, parsed):
    assert release(version) == parsed


@pytest.fixture(scope="module")
def certificate() -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
    begin, end = datetime.datetime(2026, 1, 1), datetime.datetime(2027, 2, 3, 4, 5, 6)
    return builder.not_valid_before(begin).not_valid_after(end).sign(key, hashes.SHA256())


@pytest.mark.parametrize("encoding", [serialization.Encoding.PEM, serialization.Encoding.DER])
def test_the_end_of_a_certificate_is_read(certificate, encoding):
    assert expiry(certificate.public_bytes(encoding)) == datetime.datetime(2027, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)


@pytest.mark.parametrize("junk", [b"", b"hello", b"-----BEGIN CERTIFICATE-----\nnope\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_is_an_error(junk):
    with pytest.raises(PlatformError, match="cannot be read"):
        expiry(junk)


def test_the_kubeconfigs_client_certificate(tmp_path):
    (tmp_path / "client.crt").write_bytes(b"file")
    config = tmp_path / "config"
    config.write_text(
        "current-context: a\n"
        "contexts: [{name: a, context: {user: inline}}, {name: b, context: {user: file}}, {name: c, context: {user: token}}]\n"
        "users: [{name: inline, user: {client-certificate-data: aW5saW5l}}, {name: file, user: {client-certificate: client.crt}},"
        " {name: token, user: {token: x}}]\n"
    )
    seen = [client_certificate({"kubeconfig": str(config), "context": context}) for context in (None, "b", "c", "unknown")]
    assert seen == [b"inline", b"file", None, None]
    assert client_certificate({"host": "https://10.0.0.1", "kubeconfig": str(config)}) is None
