# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real load makes real pods (`make monitoring` before): MCA by requests a second, from its minimum up and back, in namespaces of the test's own.

PROGRESSIVE_WRITE_DOCS=1 writes the table and the picture of docs/autoscaling.md anew; with PROGRESSIVE_THERE=1 the platform of the namespace is there
already, and stays.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client
from ansible_collections.progressive.platform.tests.cluster import load
from ansible_collections.progressive.platform.tests.cluster.playbooks import ROOT, installed, playbook
from ansible_collections.progressive.platform.tests.unit.roles.rendering import Cluster

DOCS, PICTURE = ROOT / "docs/autoscaling.md", ROOT / "docs/autoscaling.svg"
NAMESPACE, WATCH, ADAPTER = "scaling-probes", "scaling-probes-system", "scaling-probes-adapter"
COMPONENTS = ["baseline", "redis_cluster", "agents", "monitoring", "autoscaling"]
API = "/apis/external.metrics.k8s.io/v1beta1"
METRIC = "agent_requests_per_second"

LEAST, MOST, EACH = 2, 5, 8  # pods, pods, requests a second and pod
QUIET, BUSY = 4, 30  # requests a second: of one pod's share half, and what four pods are for
WINDOW = 30  # seconds that the autoscaler looks back before it takes pods away; 300 in production
LOOKS = 15  # seconds between two looks of an autoscaler: so long before the load's end it may have seen the most of it
PLAN = [(QUIET, 40), (BUSY, 150), (QUIET, 300)]
SAMPLE = 0.5  # seconds between two looks

pytestmark = [pytest.mark.slow, pytest.mark.monitoring]

Json = dict[str, Any]


def wanted() -> Json:
    pace = {"percent": 100, "period": 15}
    return {
        "platform_namespace": NAMESPACE,
        "platform_components": COMPONENTS,
        "platform_prometheus": f"http://prometheus.{WATCH}.svc.cluster.local:9090",
        "monitoring_namespace": WATCH,
        "monitoring_interval": 5,
        "monitoring_nodes": False,
        "autoscaling_namespace": ADAPTER,
        "agents_services": {
            "mca": {
                "labels": {"component": "coordination-agent"},
                "environment": {"AGENT_SPECIALIZATION": "coordination"},
                # By requests alone: whatever else this machine does, its processor's load makes no pods.
                "scaling": {
                    "min": LEAST,
                    "max": MOST,
                    "cpu": None,
                    "memory": None,
                    "requests_per_second": EACH,
                    "up": {**pace, "window": 0},
                    "down": {**pace, "window": WINDOW},
                },
            },
            "npa": {
                "labels": {"component": "nutrition-agent"},
                "environment": {"AGENT_SPECIALIZATION": "nutrition"},
                "scaling": {"max": 1},
            },
        },
    }


@dataclass
class Moment:
    """What was seen at one moment, in seconds since the load began; values that nobody could say are None."""

    at: float
    rate: float  # what the plan wants
    prometheus: float | None  # the sum that Prometheus has
    served: float | None  # what the API of external metrics says
    desired: int
    pods: dict[str, tuple[bool, bool]] = field(default_factory=dict)  # (scheduled, ready) by name

    @property
    def ready(self) -> int:
        return sum(ready for _scheduled, ready in self.pods.values())


class Scaled:
    """The platform with its adapter, and ways to look at it."""

    def __init__(self, client: Client, variables: Path) -> None:
        self.client, self.variables = client, variables

    def pods(self, selector: str, namespace: str = NAMESPACE) -> list[Json]:
        found: list[Json] = self.client.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)["items"]
        return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

    def addresses(self) -> list[tuple[str, int]]:
        return [(pod["status"]["podIP"], 8000) for pod in self.pods("app=mca") if state(pod, "Ready")]

    def served(self) -> float | None:
        try:
            items = self.client.get(f"{API}/namespaces/{NAMESPACE}/{METRIC}", labelSelector="job=agents,agent=mca")["items"]
        except ApiError:
            return None
        return number(items[0]["value"]) if items else None

    def prometheus(self) -> float | None:
        name = self.pods("app=prometheus", WATCH)[0]["metadata"]["name"]
        query = f"sum%28{METRIC}%7Bagent%3D%22mca%22%7D%29"
        path = f"/api/v1/namespaces/{WATCH}/pods/{name}:9090/proxy/api/v1/query?query={query}"
        try:
            found = json.loads(self.client.text(path))["data"]["result"]
        except ApiError:
            return None
        return float(found[0]["value"][1]) if found else None

    def autoscaler(self) -> Json:
        found: Json = self.client.get(f"/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers/mca-hpa")
        return found

    def look(self, began: float, rate: float) -> Moment:
        at = time.monotonic() - began
        pods = {pod["metadata"]["name"]: (state(pod, "PodScheduled"), state(pod, "Ready")) for pod in self.pods("app=mca")}
        return Moment(at, rate, self.prometheus(), self.served(), self.autoscaler()["status"].get("desiredReplicas", 0), pods)

    def wait(self, what: str, holds: Callable[[], Any], seconds: float = 120) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := holds()):
            assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s; {self.autoscaler()['status']}"
            time.sleep(1)
        return found


def state(pod: Json, condition: str) -> bool:
    return any(one["type"] == condition and one["status"] == "True" for one in pod["status"].get("conditions") or [])


def number(quantity: str) -> float:
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


@pytest.fixture(scope="module")
def scaled(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scaled]:
    with installed(tmp_path_factory.mktemp("autoscaling"), wanted()) as variables:
        yield Scaled(client, variables)


def test_the_metric_is_served_by_its_owner(scaled: Scaled) -> None:
    """What health has just said, seen by other eyes: TLS verified, one owner, one metric and no other."""
    service = scaled.client.get("/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.external.metrics.k8s.io")
    assert service["spec"]["service"] == {"namespace": ADAPTER, "name": "prometheus-adapter", "port": 443}
    assert service["spec"]["caBundle"] and not service["spec"].get("insecureSkipTLSVerify")
    scaled.wait("the metric is served", lambda: scaled.served() is not None)
    assert {one["name"] for one in scaled.client.get(API)["resources"]} == {METRIC}
    states = {one["type"]: one["status"] for one in scaled.autoscaler()["status"]["conditions"]}
    assert states["ScalingActive"] == "True"


def test_a_second_owner_is_refused_before_anything_is_sent(scaled: Scaled) -> None:
    said = playbook("preflight", scaled.variables, "-e", "autoscaling_namespace=elsewhere", fails=None)
    assert f"v1beta1.external.metrics.k8s.io, which Service {ADAPTER}/prometheus-adapter owns" in " ".join(said.split())
    said = " ".join(playbook("preflight", scaled.variables, "-e", "platform_metrics_provider=keda", fails=None).split())
    assert "which Service" in said and "keda.sh/v1alpha1" in said


def test_requests_make_pods_and_silence_takes_them_away(scaled: Scaled) -> None:
    scaled.wait(
        f"{LEAST} pods to begin with",
        lambda: len(scaled.addresses()) == LEAST and scaled.autoscaler()["status"].get("desiredReplicas") == LEAST,
    )
    traffic = load.Load(scaled.addresses, "/api/v1/info")
    moments: list[Moment] = []
    began = time.monotonic()
    thread = traffic.start([load.Step(*step) for step in PLAN])
    quiet_again = sum(seconds for _rate, seconds in PLAN[:2])
    while thread.is_alive():
        moments.append(scaled.look(began, traffic.rate))
        last = moments[-1]
        if last.at > quiet_again + 20 and last.ready == len(last.pods) == last.desired == LEAST:
            traffic.stop()  # it is back: what comes after tells nothing new
        time.sleep(max(0.0, began + last.at + SAMPLE - time.monotonic()))
    answers = [load.Answer(answer.due - began, answer.took, answer.ok) for answer in traffic.answers]
    parts = times(moments, PLAN[0][1])
    failed = sum(not answer.ok for answer in answers)
    most = max(moment.ready for moment in moments)
    back = next((moment.at for moment in moments if moment.at > quiet_again and len(moment.pods) == LEAST), None)
    print(
        f"{len(answers)} requests, {failed} failed, up to {most} pods ready; {parts}; back {back and back - quiet_again:.0f} s after the load"
    )
    if os.environ.get("PROGRESSIVE_WRITE_DOCS"):
        PICTURE.write_text(picture(moments, answers, failed))
        table("load", parts | {"all": (f"back to {LEAST} pods, after the load ended", (back or 0) - quiet_again)})
    assert moments[-1].desired == LEAST and back, f"the pods are not taken away again: {moments[-1]}"
    # A machine that is behind answers in bursts, which ask for more.
    assert most >= min(MOST, -(-BUSY // EACH)), f"at most {most} pods were ready"
    # Never before the load asked for them, and no sooner away than the window says.
    assert all(moment.desired == LEAST for moment in moments if moment.at < PLAN[0][1])
    assert back - quiet_again >= WINDOW - LOOKS
    assert failed <= len(answers) / 100, f"{failed} of {len(answers)} requests failed"


def test_without_the_metric_nothing_moves_and_health_names_it(scaled: Scaled) -> None:
    """Prometheus away: the autoscaler is blind and leaves as many pods as there are; health says which metric is missing."""
    scaled.wait("as many pods as at least", lambda: len(scaled.addresses()) == LEAST)
    path = f"/apis/apps/v1/namespaces/{WATCH}/statefulsets/prometheus/scale"
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "prometheus", "namespace": WATCH}}
    try:
        scaled.client.request("PUT", path, {**scale, "spec": {"replicas": 0}})

        def blind() -> bool:
            return any(one["type"] == "ScalingActive" and one["status"] == "False" for one in scaled.autoscaler()["status"]["conditions"])

        scaled.wait("the autoscaler is blind", blind, 240)
        said = " ".join(playbook("verify", scaled.variables, "-e", '{"platform_components": ["autoscaling"]}', fails=None).split())
        assert "autoscaler mca-hpa cannot read its metrics and leaves the pods as many as they are" in said and METRIC in said, said[-3000:]
        assert len(scaled.addresses()) == LEAST
    finally:
        scaled.client.request("PUT", path, {**scale, "spec": {"replicas": 1}})
    scaled.wait("the metric is served again", lambda: scaled.served() is not None, 240)
    scaled.wait("the autoscaler sees again", lambda: not blind(), 120)


CRDS = {
    "github.com/kedacore/keda/v2@v2.21.0": "config/crd/bases/keda.sh_scaledobjects.yaml",
    "k8s.io/autoscaler/vertical-pod-autoscaler@v1.8.1": "deploy/vpa-v1-crd-gen.yaml",
    "sigs.k8s.io/karpenter@v1.15.0": "pkg/apis/crds/karpenter.sh_nodepools.yaml",
}
PRODUCTION: Json = {"platform_namespace": NAMESPACE, "platform_components": COMPONENTS, "autoscaling_namespace": ADAPTER}
SIZES = {"container": "postgres", "kind": "StatefulSet", "min": {"cpu": 1, "memory": "1Gi"}, "max": {"cpu": 4, "memory": "8Gi"}}


@pytest.fixture
def definitions(client: Client, kubectl: Callable[..., str], tmp_path: Path) -> Iterator[None]:
    """The definitions of KEDA, of the Vertical Pod Autoscaler and of Karpenter, from their Go modules: kinds without anybody who acts on them."""
    texts = []
    for module, path in CRDS.items():
        # Go may refuse to build with one of them, having fetched it.
        subprocess.run(["go", "mod", "download", module], cwd=tmp_path, capture_output=True, timeout=300, check=False)
        cache = subprocess.run(["go", "env", "GOMODCACHE"], capture_output=True, text=True, timeout=60, check=True).stdout.strip()
        texts.append((Path(cache) / module / path).read_text())
    bundle = "\n---\n".join(texts)
    try:
        kubectl("apply", "--server-side", "-f", "-", stdin=bundle)
        kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", "-", stdin=bundle)
        yield
    finally:
        kubectl("delete", "--ignore-not-found", "-f", "-", stdin=bundle)


NOBODY_RUNS = [
    ("agents", {"platform_metrics_provider": "keda"}, {"ScaledObject"}),
    ("autoscaling", {"platform_metrics_provider": "none", "autoscaling_vertical": {"postgres": SIZES}}, {"VerticalPodAutoscaler"}),
    ("autoscaling", {"platform_metrics_provider": "none", "autoscaling_nodes": "karpenter"}, {"NodePool"}),
    (
        "autoscaling",
        {"platform_metrics_provider": "none", "autoscaling_nodes": "cluster_autoscaler"},
        {"Deployment", "ClusterRole", "Role", "ConfigMap"},
    ),
]


def test_the_server_takes_what_nobody_runs_here(scaled: Scaled, definitions: None, kubectl: Callable[..., str]) -> None:
    """A dry run of production's manifests: valid for the server, seen to work by nobody."""
    for role, changes, kinds in NOBODY_RUNS:
        documents = Cluster("production", {**PRODUCTION, **changes}).documents(role)
        wanted = [document for document in documents if document["kind"] in kinds]
        assert {document["kind"] for document in wanted} == kinds
        said = kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump_all(wanted))
        assert said.count("(server dry run)") == len(wanted), said


# ---- what was seen ----------------------------------------------------------------------------------------------------------------


def times(moments: list[Moment], began: float) -> dict[str, tuple[str, float]]:
    """How long after the load began each part of the way to the first new pod was done, and so how long it took itself."""
    over = LEAST * EACH * 1.1  # an autoscaler does nothing within a tenth of what it wants
    before = set(moments[0].pods)

    def first(holds: Callable[[Moment], Any]) -> float:
        found = next((moment.at for moment in moments if moment.at >= began and holds(moment)), None)
        assert found is not None, "that was never seen"
        return found

    def new(moment: Moment, which: int) -> bool:
        return any(states[which] for name, states in moment.pods.items() if name not in before)

    steps = [
        ("scrape", "Prometheus has more than the pods are for", first(lambda moment: (moment.prometheus or 0) > over)),
        ("adapter", "the external metrics API says so", first(lambda moment: (moment.served or 0) > over)),
        ("HPA", "the autoscaler wants more pods", first(lambda moment: moment.desired > LEAST)),
        ("scheduling", "a new pod has a node", first(lambda moment: new(moment, 0))),
        ("start", "a new pod is ready", first(lambda moment: new(moment, 1))),
    ]
    done, found = began, {}
    for name, what, at in steps:
        found[name] = (what, max(0.0, at - done))
        done = max(done, at)
    return found | {"first pod": ("from the load to the first new pod that is ready", done - began)}


def table(name: str, rows: dict[str, tuple[str, float]]) -> None:
    lines = [
        "| part | until | took |",
        "| --- | --- | --- |",
        *(f"| {part} | {what} | {took:.1f} s |" for part, (what, took) in rows.items()),
    ]
    pattern = re.compile(rf"(<!-- {name}: [^\n]*-->\n\n).*?(\n\n<!-- end -->)", re.DOTALL)
    text = DOCS.read_text()
    assert pattern.search(text), f"{DOCS.name} has no place for {name}"
    DOCS.write_text(pattern.sub(lambda place: place[1] + "\n".join(lines) + place[2], text))


LEFT, WIDTH, HEIGHT, TOP, GAP = 70, 760, 130, 50, 46
BUCKET = 2.0  # seconds of requests that make one point


def picture(moments: list[Moment], answers: list[Any], failed: int) -> str:
    """Three panels over the same time: requests a second, pods, latency."""
    duration = moments[-1].at
    total = TOP + 3 * HEIGHT + 3 * GAP
    buckets: list[list[float]] = [[] for _bucket in range(int(duration / BUCKET) + 1)]
    for answer in answers:
        if answer.due < duration:
            buckets[int(answer.due / BUCKET)].append(answer.took * 1000)
    middle = [((index + 0.5) * BUCKET, statistics.median(bucket)) for index, bucket in enumerate(buckets) if bucket]
    high = [((index + 0.5) * BUCKET, sorted(bucket)[int(len(bucket) * 0.95)]) for index, bucket in enumerate(buckets) if bucket]
    due = [((index + 0.5) * BUCKET, len(bucket) / BUCKET) for index, bucket in enumerate(buckets)]
    panels: list[tuple[str, list[tuple[str, str, list[tuple[float, float]]]]]] = [
        (
            "requests/s",
            [
                ("due by plan", "#1f6fb2", due[:-1]),
                ("as the API of metrics says", "#c0504d", [(moment.at, moment.served) for moment in moments if moment.served is not None]),
            ],
        ),
        (
            "pods",
            [
                ("wanted by the autoscaler", "#888", [(moment.at, float(moment.desired)) for moment in moments]),
                ("ready", "#2e7d32", [(moment.at, float(moment.ready)) for moment in moments]),
            ],
        ),
        ("latency ms", [("95 %", "#c0504d", high), ("middle", "#2e7d32", middle)]),
    ]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 20} {total}" font-family="sans-serif" font-size="12">',
        "<title>An agent under load, scaled by requests a second</title>",
        f'<rect width="{LEFT + WIDTH + 20}" height="{total}" fill="#fff"/>',
        f'<text x="{LEFT}" y="18" font-size="14">{QUIET}, {BUSY} and {QUIET} requests a second to MCA, {EACH} a pod: {len(answers)} requests, '
        f"{failed} failed</text>",
    ]
    for index, (title, lines) in enumerate(panels):
        top = TOP + index * (HEIGHT + GAP)
        most = max((value for _name, _colour, points in lines for _at, value in points), default=1.0) or 1.0
        parts.append(f'<text x="{LEFT - 8}" y="{top + 4}" text-anchor="end">{most:.0f}</text>')
        parts.append(f'<text x="{LEFT - 8}" y="{top + HEIGHT + 4}" text-anchor="end">0</text>')
        parts.append(
            f'<text x="14" y="{top + HEIGHT / 2:.0f}" transform="rotate(-90 14 {top + HEIGHT / 2:.0f})" text-anchor="middle">{title}</text>'
        )
        parts.append(f'<path d="M{LEFT} {top}V{top + HEIGHT}H{LEFT + WIDTH}" fill="none" stroke="#888"/>')
        for place, (name, colour, points) in enumerate(lines):
            drawn = " ".join(f"{LEFT + WIDTH * at / duration:.1f},{top + HEIGHT - HEIGHT * value / most:.1f}" for at, value in points)
            parts.append(f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="1.4"/>')
            parts.append(f'<text x="{LEFT + 8 + 170 * place}" y="{top - 6}" fill="{colour}">{name}</text>')
    for second in range(0, int(duration) + 1, max(int(duration / 10), 1)):
        parts.append(f'<text x="{LEFT + WIDTH * second / duration:.1f}" y="{total - GAP + 18}" text-anchor="middle">{second} s</text>')
    return "\n".join([*parts, "</svg>", ""])
