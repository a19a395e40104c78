# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real KEDA (`make autoscalers`) acts on the ScaledObjects that site.yml sends, on a control plane whose nodes and pods are KWOK's.

Its operator and its metrics server run on this machine, with the token of their ServiceAccount and the rights of their own manifests. A real Prometheus
scrapes a server of this test, which says what the agents would. The tests go on from each other: the first installs a platform without KEDA.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.tests.kwok import lab
from ansible_collections.progressive.platform.tests.unit.roles import rendering

pytestmark = pytest.mark.slow  # what it runs is compiled for many minutes

Json = dict[str, Any]
MODULE = "github.com/kedacore/keda/v2@v2.21.0"  # the Makefile's KEDA
NAMESPACE, ELSEWHERE, KEDA = "progressive-framework-prod", "elsewhere", "keda"
SERVICE = "keda-operator-metrics-apiserver"  # as the chart calls it, and autoscaling_keda by default; loopback stands behind it
API = "v1beta1.external.metrics.k8s.io"
METRIC = "agent_requests_per_second"
HPA, TARGET = "mca-hpa", "mca-deployment"
LEAST, MOST, EACH = 2, 6, 50  # pods, pods, requests a second and pod
QUIET, BUSY = 80, 230  # requests a second: of the least pods' share, and what five pods are for
PACE = {"percent": 100, "period": 15, "window": 0}

# An API server asks another with a certificate of its own, in the name of whoever asked it; who may do so is read from kube-system.
AGGREGATION = [
    *("--proxy-client-cert-file=server.crt", "--proxy-client-key-file=server.key"),
    *("--requestheader-client-ca-file=server.crt", "--requestheader-allowed-names=lab"),
    *("--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group"),
    "--requestheader-extra-headers-prefix=X-Remote-Extra-",
]
LOOKS = ["--horizontal-pod-autoscaler-sync-period=2s"]


def wanted(provider: str) -> Json:
    """The agents of a platform, scaled by requests alone: nobody here says how busy a processor is."""
    # Without KEDA requests alone are refused.
    by_processor = 80 if provider == "none" else None
    scaling = {"cpu": by_processor, "memory": None, "requests_per_second": EACH, "up": PACE, "down": PACE}
    sized = lab.variables()
    return {
        **sized,
        "platform_components": ["baseline", "agents", *(["autoscaling"] if provider != "none" else [])],
        "platform_metrics_provider": provider,
        "agents_defaults": {**sized["agents_defaults"], "scaling": {**scaling, "min": 1, "max": 3}},
        "agents_services": {"mca": {"scaling": {"min": LEAST, "max": MOST}}, "npa": {}},
    }


class Agents(ThreadingHTTPServer):
    """What the pods of mca would say together, half of it each; beside it another platform's agent of that name, which is none of ours."""

    def __init__(self) -> None:
        self.rate: float | None = QUIET
        super().__init__(("127.0.0.1", 0), Metrics)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def text(self) -> str:
        lines = [
            f'{METRIC}{{namespace="{ELSEWHERE}",agent="mca",pod="a"}} 100000',
            f'{METRIC}{{namespace="{NAMESPACE}",agent="npa",pod="a"}} 1',
        ]
        if self.rate is not None:
            lines += [f'{METRIC}{{namespace="{NAMESPACE}",agent="mca",pod="{pod}"}} {self.rate / 2}' for pod in "ab"]
        return "\n".join([*lines, ""])


class Metrics(BaseHTTPRequestHandler):
    server: Agents

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(self.server.text().encode())

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


class Platform:
    """The cluster, what is scraped, and ways to look at what comes of it."""

    def __init__(self, cluster: lab.Cluster, agents: Agents, module: Path) -> None:
        self.cluster, self.agents, self.module = cluster, agents, module
        self.client: Client = cluster.client()
        self.prometheus, self.grpc, self.api, *self.spare = lab.free_ports(6)

    # ---- what runs --------------------------------------------------------------------------------------------------------------

    def start_prometheus(self) -> None:
        target = {"targets": [f"127.0.0.1:{self.agents.server_port}"]}
        scrape = {"job_name": "agents", "honor_labels": True, "static_configs": [target]}
        config = self.cluster.folder / "prometheus.yml"
        config.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": [scrape]}))
        own = [f"--storage.tsdb.path={self.cluster.folder}/prometheus", f"--web.listen-address=127.0.0.1:{self.prometheus}"]
        self.cluster.start("prometheus", ["prometheus", f"--config.file={config}", *own])

    def manifests(self, *paths: str) -> list[Json]:
        """Of KEDA's module, as they are."""
        texts = [(self.module / "config" / path).read_text() for path in paths]
        return [document for text in texts for document in yaml.safe_load_all(text) if document]

    def install(self) -> None:
        """KEDA's definitions, its account with its own rights, and its two programs; the API server asks the second by a Service."""
        self.send(
            lab.named("Namespace", KEDA, ""),
            *self.manifests(*(f"crd/bases/{path.name}" for path in sorted((self.module / "config/crd/bases").iterdir()))),
            *self.manifests("service_account/service_account.yaml", "rbac/role.yaml", "rbac/role_binding.yaml"),
            *self.manifests("metrics-server/role.yaml", "metrics-server/role_binding.yaml", "rbac/aggregate_cluster_roles.yaml"),
            # By these somebody with the usual right to edit may send ScaledObjects; the lab's user is bound to kinds by name.
            *(bound("platform", role) for role in ("keda:edit", "keda:view")),
            lab.loopback(SERVICE, KEDA),
        )
        certificates = self.cluster.folder / "certificates"
        certificates.mkdir()
        lab.certificate(certificates / "tls", f"{SERVICE}.{KEDA}.svc")
        shutil.copy(certificates / "tls.crt", certificates / "ca.crt")
        (registered,) = self.manifests("metrics-server/api_service.yaml")
        registered["spec"] |= {
            "service": {"name": SERVICE, "namespace": KEDA, "port": self.api},
            "caBundle": base64.b64encode((certificates / "ca.crt").read_bytes()).decode(),
        }
        kubeconfig = self.cluster.write_account(KEDA, "keda-operator")
        surroundings = [
            "env",
            f"KUBECONFIG={kubeconfig}",
            f"POD_NAMESPACE={KEDA}",
            f"KEDA_CLUSTER_OBJECT_NAMESPACE={KEDA}",
            "WATCH_NAMESPACE=",
        ]
        probes, metrics, other = self.spare
        self.cluster.start(
            "keda",
            [
                *(*surroundings, lab.CACHE / "keda", "--zap-encoder=console", f"--cert-dir={certificates}"),
                f"--metrics-service-bind-address=127.0.0.1:{self.grpc}",
                *(f"--health-probe-bind-address=127.0.0.1:{probes}", f"--metrics-bind-address=127.0.0.1:{metrics}"),
            ],
        )
        self.cluster.start(
            "keda-adapter",
            [
                *(*surroundings, lab.CACHE / "keda-adapter", f"--cert-dir={certificates}", f"--port={other}"),
                *("--bind-address=127.0.0.1", f"--secure-port={self.api}", f"--client-ca-file={certificates}/ca.crt"),
                *(f"--tls-cert-file={certificates}/tls.crt", f"--tls-private-key-file={certificates}/tls.key"),
                *(f"--{what}-kubeconfig={kubeconfig}" for what in ("lister", "authentication", "authorization")),
                *(f"--metrics-service-address=127.0.0.1:{self.grpc}", "--metrics-service-grpc-authority=localhost"),
            ],
        )
        self.send(registered)
        self.until(
            lambda: states(self.get("apiregistration.k8s.io/v1", "APIService", API, "")).get("Available") == "True", "KEDA serves its API"
        )

    def send(self, *documents: Json, namespace: str = NAMESPACE) -> None:
        lab.send(self.client, *documents, namespace=namespace)

    def playbook(self, name: str, provider: str, *options: str) -> tuple[int, str]:
        """Its return code and its words, for the platform whose metrics are served by ``provider``."""
        variables = {**wanted(provider), "platform_prometheus": f"http://127.0.0.1:{self.prometheus}"}
        at = lab.inventory(self.cluster.folder, {"one": self.cluster.kubeconfig}, variables)
        done = lab.playbook(name, at, *options)
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    # ---- what is seen -----------------------------------------------------------------------------------------------------------

    def get(self, version: str, kind: str, name: str, namespace: str = NAMESPACE) -> Json:
        return self.client.find(self.client.resource(version, kind).path(namespace, name)) or {}

    def autoscaler(self, namespace: str = NAMESPACE) -> Json:
        return self.get("autoscaling/v2", "HorizontalPodAutoscaler", HPA, namespace)

    def scaled(self) -> Json:
        return self.get("keda.sh/v1alpha1", "ScaledObject", TARGET)

    def pods(self) -> int:
        """Ready ones of mca."""
        items = self.client.list(self.client.resource("v1", "Pod"), NAMESPACE)["items"]
        mine = [pod for pod in items if pod["metadata"]["labels"].get("app") == "mca" and not pod["metadata"].get("deletionTimestamp")]
        return sum(lab.is_ready(pod) for pod in mine)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        def holds() -> bool:
            for name in ("keda", "keda-adapter", "prometheus"):
                process = self.cluster.processes.get(name)
                assert process is None or process.poll() is None, (self.cluster.folder / f"{name}.log").read_text()[-3000:]
            return condition()

        try:
            lab.until(holds, what)
        except AssertionError as error:
            seen = {"HorizontalPodAutoscaler": self.autoscaler().get("status")}
            with contextlib.suppress(Exception):  # before KEDA there is no such kind
                seen["ScaledObject"] = self.scaled().get("status")
            raise AssertionError(f"{error}: {json.dumps(seen, indent=1)}") from error

    def failures(self, scaled: Json) -> int:
        """How often KEDA was asked for the metric, and had none, since it had one."""
        (counted,) = (scaled["status"].get("health") or {"": {}}).values()
        return int(counted.get("numberOfFailures") or 0)


def bound(user: str, role: str) -> Json:
    group = "rbac.authorization.k8s.io"
    return {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": f"{user}-{role}"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
    }


def states(item: Json) -> dict[str, str]:
    return {one["type"]: one["status"] for one in (item.get("status") or {}).get("conditions") or []}


def owners(item: Json) -> list[tuple[str, str]]:
    return [(one["kind"], one["name"]) for one in item["metadata"].get("ownerReferences") or []]


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    if reason := lab.missing("keda", "keda-adapter"):
        pytest.skip(reason)
    if not shutil.which("prometheus"):
        pytest.skip("no prometheus: `make autoscalers` installs it and runs this")
    options = {"kube-apiserver": AGGREGATION, "kube-controller-manager": LOOKS}
    with lab.clusters(tmp_path_factory.mktemp("keda"), ["one"], nodes=1, options=options) as (made,), Agents() as agents:
        found = Platform(made, agents, lab.module(MODULE))
        with found.client:
            found.start_prometheus()
            yield found
        agents.shutdown()


def test_a_keda_that_is_not_there_is_refused(platform: Platform) -> None:
    code, said = platform.playbook("preflight", "keda")
    assert code == 2 and "keda.sh/v1alpha1" in said and f"nobody serves {API}" in said, said[-4000:]


def test_autoscalers_that_were_there_are_taken_over(platform: Platform) -> None:
    """From a platform without KEDA to one with it, by site.yml alone; health is green and the second run changes nothing."""
    code, said = platform.playbook("site", "none")
    assert code == 0, said[-4000:]
    before = platform.autoscaler()
    assert not owners(before) and "external" not in before["spec"]["metrics"][0]
    platform.until(lambda: platform.pods() == LEAST, "the agents are there")
    platform.install()
    code, said = platform.playbook("site", "keda")
    assert code == 0, said[-4000:]
    after = platform.autoscaler()
    assert owners(after) == [("ScaledObject", TARGET)] and platform.pods() == LEAST
    assert states(platform.scaled())["Ready"] == states(after)["ScalingActive"] == "True"
    code, said = platform.playbook("site", "keda")
    assert code == 0 and re.search(r"one : ok=\d+ changed=0 ", said), said[-4000:]
    assert platform.autoscaler()["metadata"]["uid"] == after["metadata"]["uid"], "and leaves KEDA's where they are"


def test_another_owner_of_its_api_is_refused(platform: Platform) -> None:
    code, said = platform.playbook("preflight", "prometheus_adapter")
    assert code == 2 and f"{API}, which Service {KEDA}/{SERVICE} owns" in said, said[-4000:]


def test_keda_makes_the_autoscaler_that_the_adapter_would_have(platform: Platform) -> None:
    """Production's own, by processor and memory too: the same one but for the metric's name, and of that name what was there before (with its uid)."""
    made = {}
    for provider in ("prometheus_adapter", "keda"):
        changes = {"platform_components": ["baseline", "agents", "autoscaling"], "platform_metrics_provider": provider}
        made[provider] = [
            it for it in rendering.Cluster("production", changes).documents("agents") if it["metadata"]["name"] in (HPA, TARGET)
        ]
    platform.send(lab.named("Namespace", ELSEWHERE, ""))
    platform.send(*made["prometheus_adapter"], namespace=ELSEWHERE)
    ours = platform.autoscaler(ELSEWHERE)
    platform.send(*(it for it in made["keda"] if it["kind"] == "ScaledObject"), namespace=ELSEWHERE)
    platform.until(lambda: owners(platform.autoscaler(ELSEWHERE)) == [("ScaledObject", TARGET)], "KEDA takes it over")
    theirs = platform.autoscaler(ELSEWHERE)
    assert theirs["metadata"]["uid"] == ours["metadata"]["uid"]
    metrics = [{metric["type"]: [] for metric in item["spec"]["metrics"]} for item in (ours, theirs)]
    for kinds, item in zip(metrics, (ours, theirs), strict=True):
        for metric in item["spec"].pop("metrics"):
            kinds[metric["type"]].append(next(value for key, value in metric.items() if key != "type"))
    assert ours["spec"] == theirs["spec"]
    assert metrics[0]["Resource"] == metrics[1]["Resource"] and [it["name"] for it in metrics[0]["Resource"]] == ["cpu", "memory"]
    targets = [it["target"] for kinds in metrics for it in kinds["External"]]
    assert targets == [{"type": "AverageValue", "averageValue": str(EACH)}] * 2


def test_requests_make_pods_and_silence_takes_them_away(platform: Platform) -> None:
    platform.agents.rate = BUSY
    platform.until(lambda: platform.pods() == 5, f"five pods for {BUSY} requests a second")
    assert states(platform.scaled())["Active"] == "True"
    platform.agents.rate = 10 * BUSY
    platform.until(lambda: platform.pods() == MOST, "and no more than at most")
    platform.agents.rate = 0
    platform.until(lambda: platform.pods() == LEAST, "and at least when there is silence")
    assert states(platform.scaled())["Fallback"] == "False"


@pytest.mark.parametrize("what", ["the series", "Prometheus"])
def test_without_numbers_as_many_pods_stay_and_health_names_it(platform: Platform, what: str) -> None:
    """An empty answer is none, as is none at all: the fallback of the template."""
    platform.agents.rate = BUSY
    platform.until(lambda: platform.pods() == 5, "five pods")
    if what == "Prometheus":
        platform.cluster.stop("prometheus")
    platform.agents.rate = None
    platform.until(lambda: platform.failures(platform.scaled()) > 3, "KEDA has looked in vain three times, and once more")
    platform.until(lambda: platform.failures(platform.scaled()) >= 9, "and looks some times more")
    assert platform.pods() == 5
    assert states(platform.autoscaler())["ScalingActive"] == "True", "it sees the fallback and no failure, so it tells nobody"
    if what == "the series":  # it looks for two minutes and a half whether it comes right
        code, said = platform.playbook("verify", "keda", "-e", '{"platform_components": ["autoscaling"]}')
        assert code == 2 and f"KEDA cannot read sum({METRIC}" in said, said[-4000:]
        assert f"leaves the pods of {TARGET} as many as they are" in said
    # Fewer than at least are none the less made good.
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": TARGET, "namespace": NAMESPACE}, "spec": {"replicas": 1}}
    platform.client.request("PUT", platform.client.resource("apps/v1", "Deployment").path(NAMESPACE, TARGET) + "/scale", scale)
    platform.until(lambda: platform.pods() == LEAST, "never fewer than at least")
    if what == "Prometheus":
        platform.start_prometheus()
    platform.agents.rate = QUIET
    platform.until(lambda: states(platform.scaled())["Fallback"] == "False", "KEDA has numbers again")


def test_a_pause_is_shown_and_is_no_failure(platform: Platform) -> None:
    """`kubectl annotate scaledobject mca-deployment autoscaling.keda.sh/paused=true`: KEDA takes the autoscaler away."""
    path = platform.client.resource("keda.sh/v1alpha1", "ScaledObject").path(NAMESPACE, TARGET)
    for value in ("true", None):
        change = {"metadata": {"annotations": {"autoscaling.keda.sh/paused": value}}}
        platform.client.request("PATCH", path, change, content_type="application/merge-patch+json")
        platform.until(lambda paused=bool(value): bool(platform.autoscaler()) is not paused, "KEDA does as it was told")
        if value:
            platform.agents.rate = BUSY
            code, said = platform.playbook("verify", "keda", "-e", '{"platform_components": ["autoscaling"]}')
            checks = json.loads((platform.cluster.folder / "reports/one/health.json").read_text())["checks"]
            (check,) = [it for it in checks if it["name"] == "autoscalers"]
            assert code == 0 and f"{TARGET} paused" in check["observed"], said[-4000:]
            assert platform.pods() == LEAST
    platform.until(lambda: platform.pods() == 5, "and then it scales again")


def test_the_way_back_leaves_every_service_its_autoscaler(platform: Platform) -> None:
    """The ScaledObject goes first: KEDA would set its autoscaler back, and the server takes it away with its owner."""
    code, said = platform.playbook("site", "none")
    assert code == 0, said[-4000:]
    assert not platform.scaled() and not owners(platform.autoscaler())
    # Whatever has no owner any more would be taken away by now.
    code, said = platform.playbook("site", "none")
    assert code == 0 and re.search(r"one : ok=\d+ changed=0 ", said), said[-4000:]
    assert platform.pods() == 5, "and nobody's pods were touched"
