# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is broken, and the words that must be in the chain: one row a cause."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from ansible_collections.progressive.platform.plugins.module_utils._debug.causes import diagnose
from ansible_collections.progressive.platform.plugins.module_utils._debug.scene import Finding, Scene

from .scenes import NOW, endpoints, event, meta, node, pod, scene, service, shop, unready, waiting

Json = dict[str, Any]
Objects = dict[str, list[Json]]


def never(_certificate: bytes) -> Any:
    return NOW + timedelta(days=400)


def findings(it: Scene) -> list[Finding]:
    return diagnose(it, never)


def told(it: Scene) -> str:
    return "\n".join(finding.sentence() for finding in findings(it))


def test_a_shop_that_works_has_no_finding() -> None:
    assert findings(scene(shop())) == []


# ---- pods ---------------------------------------------------------------------------------------------------------------------


def crashed(objects: Objects, code: int, reason: str = "Error", **more: Any) -> Json:
    ended = {"lastState": {"terminated": {"exitCode": code, "reason": reason, **more}}, "restartCount": 4}
    return unready(objects, **waiting("CrashLoopBackOff"), **ended)


def image(objects: Objects) -> None:
    unready(objects, **waiting("ImagePullBackOff", "Back-off pulling image"), image="registry/web:nope")
    objects["Event"] = [event("Failed", 'Failed to pull image "registry/web:nope": manifest unknown: not found')]


def image_secret(objects: Objects) -> None:
    unready(objects, **waiting("ErrImagePull", "pull access denied, authorization failed: 401 Unauthorized"))


def no_config_map(objects: Objects) -> None:
    unready(objects, **waiting("CreateContainerConfigError", 'configmap "settigns" not found'))
    objects["ConfigMap"] = [{"kind": "ConfigMap", "metadata": meta("settings")}]


def no_key(objects: Objects) -> None:
    unready(objects, **waiting("CreateContainerConfigError", "couldn't find key levle in ConfigMap shop/settings"))
    objects["ConfigMap"] = [{"kind": "ConfigMap", "metadata": meta("settings"), "data": {"level": "info"}}]


def no_secret(objects: Objects) -> None:
    unready(objects, **waiting("CreateContainerConfigError", 'secret "app-secrets" not found'))


def out_of_memory(objects: Objects) -> None:
    crashed(objects, 137, "OOMKilled")["spec"]["containers"][0]["resources"] = {"limits": {"memory": "64Mi"}}


def command(objects: Objects) -> None:
    crashed(objects, 128, "StartError", message='exec: "nope": executable file not found in $PATH')


def failed(objects: Objects) -> None:
    crashed(objects, 1)


def liveness(objects: Objects) -> None:
    crashed(objects, 137)
    objects["Event"] = [event("Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 500")]


def readiness_status(objects: Objects) -> None:
    unready(objects)["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"path": "/health", "port": 8080}}
    objects["Event"] = [event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")]


def readiness_port(objects: Objects) -> None:
    unready(objects)["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"path": "/health", "port": 9999}}
    objects["Event"] = [event("Unhealthy", "Readiness probe failed: dial tcp 10.0.0.1:9999: connect: connection refused")]


def unscheduled(objects: Objects, message: str) -> Json:
    broken = unready(objects)
    broken["spec"].pop("nodeName")
    broken["status"] = {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}],
    }
    return broken


def too_large(objects: Objects) -> None:
    broken = unscheduled(objects, "0/1 nodes are available: 1 Insufficient memory.")
    broken["spec"]["containers"][0]["resources"] = {"requests": {"memory": "64Gi"}}


def node_full(objects: Objects) -> None:
    unscheduled(objects, "0/1 nodes are available: 1 Insufficient cpu.")["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1"}}


def taint(objects: Objects) -> None:
    unscheduled(objects, "0/1 nodes are available: 1 node(s) had untolerated taint {database-workload: true}.")


def selector(objects: Objects) -> None:
    unscheduled(objects, "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.")["spec"]["nodeSelector"] = {
        "pool": "gpu"
    }


def claim(objects: Objects, storage_class: str | None) -> None:
    broken = unscheduled(objects, "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims.")
    broken["spec"]["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": "data-web-0"}}]
    spec = {"storageClassName": storage_class} if storage_class else {}
    objects["PersistentVolumeClaim"] = [
        {"kind": "PersistentVolumeClaim", "metadata": meta("data-web-0"), "spec": spec, "status": {"phase": "Pending"}}
    ]


def quota(objects: Objects) -> None:
    unready(objects)
    objects["Pod"] = []
    objects["Event"] = [event("FailedCreate", 'pods "web-0" is forbidden: exceeded quota: small, requested: pods=1', "web", "StatefulSet")]
    objects["ResourceQuota"] = [{"metadata": meta("small"), "status": {"hard": {"pods": "1"}, "used": {"pods": "1"}}}]


def security(objects: Objects) -> None:
    unready(objects)
    objects["Pod"] = []
    objects["Event"] = [
        event("FailedCreate", 'pods "web-0" is forbidden: violates PodSecurity "restricted:latest": privileged', "web", "StatefulSet")
    ]


def evicted(objects: Objects) -> None:
    unready(objects)["status"].update(phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    objects["Node"] = [node(MemoryPressure="True")]


def mount(objects: Objects) -> None:
    unready(objects, **waiting("ContainerCreating"))["status"]["phase"] = "Pending"
    objects["Event"] = [event("FailedMount", 'MountVolume.SetUp failed for volume "tls" : secret "web-tls" not found')]


def node_down(objects: Objects) -> None:
    unready(objects)
    objects["Pod"][0]["status"]["containerStatuses"][0].update(ready=True)
    objects["Node"] = [node(Ready="Unknown")]


def stuck(objects: Objects) -> None:
    unready(objects)["metadata"].update(deletionTimestamp="2026-11-26T11:00:00Z", finalizers=["example.com/wait"])


def first_container(objects: Objects) -> None:
    broken = unready(objects, **waiting("PodInitializing"))
    broken["spec"]["initContainers"] = [{"name": "migrate"}]
    broken["status"]["initContainerStatuses"] = [{"name": "migrate", "ready": False, "started": False, "state": {"running": {}}}]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (image, ["has no image", "registry/web:nope", "no such image or tag"]),
        (image_secret, ["the registry asks for credentials"]),
        (no_config_map, ["there is no ConfigMap settigns; there are settings"]),
        (no_key, ["ConfigMap settings has no key levle; its keys are level"]),
        (no_secret, ["there is no Secret app-secrets in namespace shop"]),
        (out_of_memory, ["4 restarts", "OOMKilled (limit: 64Mi)"]),
        (command, ["it cannot be started", "executable file not found"]),
        (failed, ["exit code 1: the program reported an error", "its last words: starting | cannot read settings"]),
        (liveness, ["its liveness probe failed", "statuscode: 500"]),
        (readiness_status, ["runs, but container app is not ready", "GET /health on port 8080", "statuscode: 503"]),
        (readiness_port, ["nothing listens on port 9999; the container declares 8080"]),
        (too_large, ["finds no node", "asks for 64Gi of memory, and the largest node has 8Gi: no node is that large"]),
        (node_full, ["the others have given away what they have"]),
        (taint, ["database-workload", "it tolerates no taint"]),
        (selector, ["it wants a node with pool=gpu, and no node has these labels"]),
        (
            lambda objects: claim(objects, "slow-ssd"),
            ["claim data-web-0 has no volume", "there is no StorageClass slow-ssd; there are fast"],
        ),
        (lambda objects: claim(objects, None), ["it names no StorageClass, and no class is the default"]),
        (lambda objects: claim(objects, "fast"), ["StorageClass fast has not made one yet"]),
        (quota, ["no pod may be created", "exceeded quota", "pods: 1 of 1", "ResourceQuota small is used up"]),
        (security, ["Pod Security level forbids"]),
        (evicted, ["Evicted", "low on resource: memory", "Node node-1 has MemoryPressure"]),
        (mount, ["a volume cannot be mounted", "there is no Secret web-tls"]),
        (node_down, ["node node-1 is NotReady"]),
        (stuck, ["should have been gone 3600 s ago", "finalizers hold it: example.com/wait"]),
        (first_container, ["its first container migrate has not ended yet"]),
    ],
)
def test_why_a_pod_does_not_run(damage: Callable[[Objects], object], words: list[str]) -> None:
    objects = shop()
    damage(objects)
    text = told(scene(objects, before={("web-1", "app"): "starting\ncannot read settings\n"}))
    for piece in words:
        assert piece in text, text
    assert text.startswith("StatefulSet web: "), text


def test_pods_with_the_same_cause_are_told_once() -> None:
    objects = shop()
    image(objects)
    second = unready(objects)
    objects["Pod"].append({**second, "metadata": {**second["metadata"], "name": "web-2"}})
    text = told(scene(objects))
    assert "pod web-1 (and 1 more) cannot start" in text


def test_a_pod_of_nobody() -> None:
    objects = shop()
    objects["Pod"].append(pod("lonely", "other", owner=""))
    objects["Pod"][1]["status"]["containerStatuses"][0].update(waiting("ImagePullBackOff"))
    assert "Pod lonely cannot start" in told(scene(objects))


def test_ready_now_but_killed_before() -> None:
    objects = shop()
    objects["Pod"][0]["status"]["containerStatuses"][0].update(
        restartCount=1, lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    )
    found = findings(scene(objects))
    assert [it.level for it in found] == ["warning"]
    assert "OOMKilled" in found[0].sentence()


def test_a_claim_that_waits_for_a_pod_is_no_finding() -> None:
    objects = shop()
    objects["PersistentVolumeClaim"] = [
        {"kind": "PersistentVolumeClaim", "metadata": meta("later"), "spec": {"storageClassName": "fast"}, "status": {"phase": "Pending"}}
    ]
    objects["Event"] = [{**event("WaitForFirstConsumer", "waiting", "later", "PersistentVolumeClaim"), "type": "Normal"}]
    assert findings(scene(objects)) == []
    objects["Event"] = []
    assert "PersistentVolumeClaim later is not bound" in told(scene(objects))


# ---- network ------------------------------------------------------------------------------------------------------------------


def mistyped_selector(objects: Objects) -> None:
    objects["Service"] = [service(selector={"app": "wbe"})]
    objects["EndpointSlice"] = []


def no_such_name(objects: Objects) -> None:
    objects["Pod"][0]["spec"]["containers"][0]["env"] = [{"name": "MCA_URL", "value": "http://web-servise:80/health"}]


def no_such_name_in_config(objects: Objects) -> None:
    objects["Pod"][0]["spec"]["containers"][0]["envFrom"] = [{"configMapRef": {"name": "settings"}}]
    objects["ConfigMap"] = [{"kind": "ConfigMap", "metadata": meta("settings"), "data": {"REDIS": "redis-cluster:6379"}}]


def wrong_port(objects: Objects) -> None:
    objects["Pod"][0]["spec"]["containers"][0]["env"] = [{"name": "MCA_URL", "value": "http://web-service.shop.svc.cluster.local:8000"}]


def wrong_target(objects: Objects) -> None:
    objects["Service"] = [service(target=3000)]


def named_target(objects: Objects) -> None:
    objects["Service"] = [service(target="metrics")]
    objects["EndpointSlice"] = [endpoints(addresses=0)]


def policy(name: str, pods: dict[str, str], **spec: Any) -> Json:
    return {"kind": "NetworkPolicy", "metadata": meta(name), "spec": {"podSelector": {"matchLabels": pods}, **spec}}


def closed(objects: Objects) -> None:
    objects["Pod"].append(pod("shopper-1", "shopper", owner="shopper"))
    objects["Pod"][1]["spec"]["containers"][0]["env"] = [{"name": "URL", "value": "http://web-service"}]
    objects["NetworkPolicy"] = [
        policy("web-in", {"app": "web"}, ingress=[{"from": [{"podSelector": {"matchLabels": {"app": "gateway"}}}]}])
    ]


def no_dns(objects: Objects) -> None:
    objects["NetworkPolicy"] = [
        policy("web-out", {"app": "web"}, policyTypes=["Egress"], egress=[{"ports": [{"protocol": "TCP", "port": 443}]}])
    ]


def own_dns(objects: Objects) -> None:
    objects["Pod"][0]["spec"].update(dnsPolicy="None", dnsConfig={"nameservers": ["127.0.0.1"]})


def no_sidecar(objects: Objects) -> None:
    objects["Namespace"][0]["metadata"]["labels"] = {"istio.io/rev": "platform"}


def subset(objects: Objects) -> None:
    route = {"route": [{"destination": {"host": "web-service", "subset": "canary"}}]}
    objects["VirtualService"] = [{"kind": "VirtualService", "metadata": meta("web"), "spec": {"http": [route]}}]


def route_to_nobody(objects: Objects) -> None:
    route = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": meta("web")}
    objects["HTTPRoute"] = [{**route, "spec": {"rules": [{"backendRefs": [{"name": "web-service-canary"}]}]}}]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            mistyped_selector,
            ["Service web-service has no ready endpoint", "no pod has its labels app=wbe", "StatefulSet web, where app is 'web'"],
        ),
        (readiness_status, ["Service web-service has no ready endpoint", "pod web-1 runs, but container app is not ready", "503"]),
        (
            no_such_name,
            ["StatefulSet web calls web-servise (environment variable MCA_URL)", "no Service web-servise; there are web-service"],
        ),
        (no_such_name_in_config, ["calls redis-cluster (REDIS of ConfigMap settings)", "does not resolve"]),
        (wrong_port, ["at port 8000", "Service web-service has only the ports 80"]),
        (wrong_target, ["sends port 80 to 3000", "declare only the ports 8080"]),
        (named_target, ["goes to 'metrics', and no container has a port of that name; there are http"]),
        (
            closed,
            ["StatefulSet shopper calls web-service", "no NetworkPolicy lets in this call at StatefulSet web (port 8080): web-in apply"],
        ),
        (no_dns, ["StatefulSet web cannot resolve names", "web-out"]),
        (own_dns, ["may not resolve names of Services", "it asks 127.0.0.1"]),
        (no_sidecar, ["StatefulSet web is not in the mesh"]),
        (subset, ["sends to subset canary of web-service", "no DestinationRule defines that subset"]),
        (route_to_nobody, ["HTTPRoute web sends to web-service-canary", "there is no Service web-service-canary"]),
    ],
)
def test_why_one_does_not_reach_another(damage: Callable[[Objects], object], words: list[str]) -> None:
    objects = shop()
    damage(objects)
    text = told(scene(objects))
    for piece in words:
        assert piece in text, text


@pytest.mark.parametrize(
    "value",
    [
        "https://api.example.com/v1",
        "http://localhost:8080",
        "http://127.0.0.1:8080",
        "http://web-service.other.svc.cluster.local",
        "redis-cluster",
        "12:30:00",
        "key: value",
        "user@example.com",
        "http://web-service",
        "postgresql://app:secret@web-service:80/app",
    ],
)
def test_what_is_no_call_of_a_missing_service(value: str) -> None:
    objects = shop()
    objects["Pod"][0]["spec"]["containers"][0]["env"] = [{"name": "X", "value": value}]
    assert findings(scene(objects)) == []


def test_an_open_policy_is_no_finding() -> None:
    objects = shop()
    closed(objects)
    objects["NetworkPolicy"][0]["spec"]["ingress"] = [{"from": [{"namespaceSelector": {}}], "ports": [{"port": 8080}]}]
    assert findings(scene(objects)) == []


def test_the_clusters_dns_is_down() -> None:
    objects = shop()
    labels = {"k8s-app": "kube-dns"}
    dns_service = {"kind": "Service", "metadata": meta("kube-dns", labels), "spec": {"selector": labels, "ports": [{"port": 53}]}}
    text = told(scene(objects, dns={"Service": [dns_service], "Pod": [], "EndpointSlice": []}))
    assert "No name of the cluster resolves" in text
    assert "no pod has its labels k8s-app=kube-dns" in text


# ---- limits -------------------------------------------------------------------------------------------------------------------


def autoscaler(**status: str) -> Json:
    conditions = [{"type": "ScalingActive", "status": "True"}, {"type": "AbleToScale", "status": "True"}]
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": meta("web"),
        "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web"}},
        "status": {"currentReplicas": 1, "desiredReplicas": 1, "conditions": [*conditions, status] if status else conditions},
    }


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (
            {
                "type": "ScalingActive",
                "status": "False",
                "reason": "FailedGetResourceMetric",
                "message": "unable to get metrics for resource cpu: missing request for cpu",
            },
            "a container of its pods has no request",
        ),
        (
            {
                "type": "ScalingActive",
                "status": "False",
                "reason": "FailedGetResourceMetric",
                "message": "the server could not find the requested resource (get pods.metrics.k8s.io)",
            },
            "no metrics server is installed",
        ),
        ({"type": "AbleToScale", "status": "False", "reason": "FailedGetScale", "message": "no scale"}, "cannot scale StatefulSet web"),
        ({"type": "ScalingLimited", "status": "True", "reason": "TooManyReplicas", "message": "x"}, "beyond its 3 pods"),
        ({"type": "ScalingActive", "status": "False", "reason": "ScalingDisabled", "message": "x"}, ""),
    ],
)
def test_an_autoscaler(condition: dict[str, str], words: str) -> None:
    objects = shop()
    objects["HorizontalPodAutoscaler"] = [autoscaler(**condition)]
    text = told(scene(objects))
    assert (words in text) if words else not text


def test_an_autoscaler_of_nobody() -> None:
    objects = shop()
    objects["HorizontalPodAutoscaler"] = [autoscaler()]
    objects["HorizontalPodAutoscaler"][0]["spec"]["scaleTargetRef"]["name"] = "wbe"
    assert "there is no StatefulSet wbe" in told(scene(objects))


def test_a_recommendation_above_the_request() -> None:
    objects = shop()
    objects["Pod"][0]["spec"]["containers"][0]["resources"] = {"requests": {"memory": "64Mi"}}
    advice = {"containerName": "app", "lowerBound": {"memory": "128Mi"}, "target": {"memory": "200Mi"}}
    spec = {"targetRef": {"kind": "StatefulSet", "name": "web"}}
    status = {"recommendation": {"containerRecommendations": [advice]}}
    objects["VerticalPodAutoscaler"] = [{"kind": "VerticalPodAutoscaler", "metadata": meta("web"), "spec": spec, "status": status}]
    assert "requests 64Mi, and by what it used at least 128Mi is recommended (target 200Mi)" in told(scene(objects))


@pytest.mark.parametrize(
    ("used", "words"),
    [({"memory": "60Mi", "cpu": "10m"}, "at its limit of memory"), ({"cpu": "990m"}, "slowed down"), ({"cpu": "10m"}, "")],
)
def test_use_near_the_limit(used: dict[str, str], words: str) -> None:
    objects = shop()
    objects["Pod"][0]["spec"]["containers"][0]["resources"] = {"limits": {"memory": "64Mi", "cpu": "1"}}
    text = told(scene(objects, usage={("web-1", "app"): used}))
    assert (words in text) if words else not text


@pytest.mark.parametrize(("days", "words"), [(-1, "ended on"), (3, "ends on"), (100, "")])
def test_a_certificate_in_a_config_map(days: int, words: str) -> None:
    objects = shop()
    data = {"ca.crt": "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"}
    objects["ConfigMap"] = [{"kind": "ConfigMap", "metadata": meta("trust"), "data": data}]
    found = diagnose(scene(objects), lambda _text: NOW + timedelta(days=days))
    text = "\n".join(it.sentence() for it in found)
    assert (f"the certificate ca.crt in ConfigMap trust {words}" in text) if words else not found


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("getaddrinfo ENOTFOUND mca-service", "a name does not resolve"),
        ('psycopg.OperationalError: FATAL:  password authentication failed for user "app"', "does not accept its password"),
        ("Error: connect ECONNREFUSED 10.0.0.3:5432", "nobody listens where it connects to"),
        ("tls: failed to verify certificate: x509: certificate has expired", "a certificate is not accepted"),
        ("OSError: [Errno 30] Read-only file system: '/app/x'", "the root filesystem is read-only"),
        ("ERROR: cannot execute INSERT in a read-only transaction", "a server that is no primary"),
        ("GET /health 200", ""),
    ],
)
def test_what_logs_say(line: str, words: str) -> None:
    text = told(scene(shop(), logs={("web-1", "app"): f"start\n{line}\nend"}))
    assert (words in text and line[:20] in text) if words else not text


def test_who_waited_and_then_did_its_work_has_nothing_to_say() -> None:
    objects = shop()
    ended = {"name": "migrate", "ready": True, "state": {"terminated": {"exitCode": 0}}}
    objects["Pod"][0]["status"]["initContainerStatuses"] = [ended]
    logs = {("web-1", "migrate"): "connection refused, waiting"}
    assert findings(scene(objects, logs=logs)) == []
    ended["state"]["terminated"]["exitCode"] = 1
    assert "nobody listens" in told(scene(objects, logs=logs))


def test_a_headless_service_without_selector_is_a_record_and_no_address() -> None:
    objects = shop()
    objects["Service"].append({"kind": "Service", "metadata": meta("lock"), "spec": {"clusterIP": "None"}})
    assert findings(scene(objects)) == []
    objects["Service"][1]["spec"]["clusterIP"] = "10.0.0.9"
    assert "nobody has given it endpoints" in told(scene(objects))
