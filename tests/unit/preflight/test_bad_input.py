# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wrong inventories: each is refused by the variable's full name, with what was seen and what is allowed; nothing needs a server.

Every case is the production inventory with one mistake, given as an extra variable.
"""

from __future__ import annotations

import copy
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.progressive.platform.plugins.module_utils._preflight.findings import Finding
from ansible_collections.progressive.platform.plugins.plugin_utils._examine import examine_variables
from ansible_collections.progressive.platform.tests.unit.roles import rendering

ROLES = Path(__file__).resolve().parents[3] / "roles"


def examine(changes: dict[str, t.Any], inventory: str = "production") -> list[Finding]:
    cluster = rendering.Cluster(inventory, changes)
    found, _needs = examine_variables(cluster.templar, cluster.vars, changes.get("platform_components", rendering.COMPONENTS))
    return found


def changed(variable: str, **changes: t.Any) -> dict[str, t.Any]:
    """A role's default with some of its values replaced: ``a__b`` is ``b`` in ``a``."""
    for path in ROLES.glob("*/defaults/main.yml"):
        defaults = yaml.safe_load(path.read_text())
        if variable in defaults:
            value = copy.deepcopy(defaults[variable])
            for key, new in changes.items():
                *path_to, last = key.split("__")
                place = value
                for piece in path_to:
                    place = place.setdefault(piece, {})
                place[last] = new
            return {variable: value}
    raise KeyError(variable)


def npa(**spec: t.Any) -> dict[str, t.Any]:
    return changed("agents_services", npa=spec)


def fourth(name: str, **spec: t.Any) -> dict[str, t.Any]:
    return changed("agents_services", **{name: spec})


IMAGE = "registry.example.com/a:1"
# variables, the variable that is named, a part of what is seen or allowed or advised
CASES: dict[str, tuple[dict[str, t.Any], str, str]] = {
    # unknown names
    "unknown variable of a role": ({"redis_cluster_master": 3}, "redis_cluster_master", "Did you mean redis_cluster_masters?"),
    "unknown variable of the collection": ({"platform_name_space": "x"}, "platform_name_space", "Did you mean platform_namespace?"),
    "prefix forgotten": ({"agent_services": {}}, "agent_services", "Did you mean agents_services?"),
    "unknown option of a mapping": (
        changed("redis_cluster_storage", sise="1Gi"),
        "redis_cluster_storage.sise",
        "Did you mean size?",
    ),
    "unknown option of an agent": (npa(replica=3), "agents_services.npa.replica", "Did you mean replicas?"),
    "unknown option deep in an agent": (
        npa(scaling={"maximum": 3}),
        "agents_services.npa.scaling.maximum",
        "an option that does not exist",
    ),
    "unknown option of the agents' defaults": (
        changed("agents_defaults", scalling={}),
        "agents_defaults.scalling",
        "Did you mean scaling?",
    ),
    "unknown option of a port": (npa(ports={"http": {"containerPort": 8000}}), "agents_services.npa.ports.http.containerPort", "container"),
    "unknown option of a namespace": (
        {"baseline_namespaces": [{"name": "a", "label": {}}]},
        "baseline_namespaces.0.label",
        "Did you mean labels?",
    ),
    "unknown resource": (npa(resources={"requests": {"ram": "1Gi"}}), "agents_services.npa.resources.requests.ram", "memory"),
    "unknown option of a flow": (npa(network={"from": [{"pod": {}, "ports": [1]}]}), "agents_services.npa.network.from.0.pod", "pods"),
    "unknown option of a taint": (
        changed("platform_pools", app__taints=[{"key": "a", "effects": "NoSchedule", "effect": "NoSchedule"}]),
        "platform_pools.app.taints.0.effects",
        "Did you mean effect?",
    ),
    "unknown component": ({"platform_components": ["baseline", "redis"]}, "platform_components", "no role redis"),
    "unknown image": ({"platform_images": {"rediss": "a:1"}}, "platform_images.rediss", "Did you mean redis?"),
    # types
    "text for a number": ({"redis_cluster_masters": "three"}, "redis_cluster_masters", "a whole number"),
    "fraction for a whole number": ({"redis_cluster_masters": 3.5}, "redis_cluster_masters", "a whole number"),
    "switch for a number": ({"redis_cluster_masters": True}, "redis_cluster_masters", "a whole number"),
    "number for a list": ({"platform_pull_secrets": 5}, "platform_pull_secrets", "a list"),
    "text for a list": ({"redis_cluster_pools": "cache"}, "redis_cluster_pools", "a list"),
    "text for a mapping": ({"app_services": "app"}, "app_services", "a mapping"),
    "list for a mapping": (npa(environment=["A=b"]), "agents_services.npa.environment", "a mapping"),
    "mapping for a text": ({"platform_namespace": {"name": "x"}}, "platform_namespace", "a text"),
    "text for a switch": ({"redis_cluster_append_only": "perhaps"}, "redis_cluster_append_only", "true or false"),
    "mapping in a list of texts": ({"platform_pull_secrets": [{"name": "x"}]}, "platform_pull_secrets.0", "a text"),
    "mapping for an environment variable": (npa(environment={"A": {"b": 1}}), "agents_services.npa.environment.A", "a text"),
    "missing required option": ({"baseline_namespaces": [{"labels": {}}]}, "baseline_namespaces.0.name", "required"),
    "missing key of a Secret": (
        npa(environment_secrets={"A": {"secret": "x"}}),
        "agents_services.npa.environment_secrets.A.key",
        "required",
    ),
    "value outside the choices": (
        {"redis_cluster_maxmemory_policy": "allkeys_lru"},
        "redis_cluster_maxmemory_policy",
        "Did you mean allkeys-lru?",
    ),
    "Pod Security level that does not exist": (
        {"baseline_namespaces": [{"name": "progressive-framework-prod", "pod_security": "strict"}]},
        "baseline_namespaces.0.pod_security",
        "restricted or baseline or privileged",
    ),
    "pull policy that does not exist": ({"platform_image_pull_policy": "always"}, "platform_image_pull_policy", "Did you mean Always?"),
    "template with a missing variable": ({"app_redis": "{{ nowhere }}:6379"}, "app_redis", "cannot be computed"),
    # quantities
    "quantity with a wrong unit": (npa(resources={"limits": {"memory": "1Gib"}}), "agents_services.npa.resources.limits.memory", "1Gib"),
    "quantity with a space": ({**changed("redis_cluster_storage", size="100 Gi")}, "redis_cluster_storage.size", "100 Gi"),
    "quantity below zero": (npa(resources={"requests": {"cpu": "-100m"}}), "agents_services.npa.resources.requests.cpu", "above zero"),
    "quota that is no quantity": ({"baseline_quota": {"requests.cpu": "many"}}, "baseline_quota['requests.cpu']", "a quantity"),
    "volume without a proper size": (npa(volumes={"tmp": {"size": "64MB"}}), "agents_services.npa.volumes.tmp.size", "64MB"),
    "request above its limit": (
        npa(resources={"requests": {"memory": "1Gi"}}),
        "agents_services.npa.resources.requests.memory",
        "at most the limit",
    ),
    "request above its limit, Redis": (
        changed("redis_cluster_resources", requests__memory="2Gi"),
        "redis_cluster_resources.requests.memory",
        "at most the limit, 1Gi",
    ),
    "folders larger than the pod's disk": (
        npa(volumes={"logs": {"size": "5Gi"}}),
        "agents_services.npa.resources.limits.ephemeral-storage",
        "the volumes' sizes together",
    ),
    "no memory limit": (
        npa(resources={"limits": {"memory": None}}),
        "agents_services.npa.resources.limits.memory",
        "Without a memory limit",
    ),
    "quota too small for what may come": (
        {"baseline_quota": {"limits.cpu": "10"}},
        "baseline_quota['limits.cpu']",
        "all components together",
    ),
    # names
    "namespace with capitals": ({"platform_namespace": "Production"}, "platform_namespace", "small letters"),
    "namespace with an underscore": ({"platform_namespace": "progressive_prod"}, "platform_namespace", "small letters"),
    "namespace of the cluster itself": (
        {"platform_namespace": "kube-system", "baseline_namespaces": [{"name": "kube-system"}]},
        "baseline_namespaces",
        "of the platform's own",
    ),
    "agent with an underscore": (fourth("sleep_agent"), "agents_services.sleep_agent", "small letters"),
    "agent with a digit first": (fourth("4th"), "agents_services.4th", "beginning with a letter"),
    "agent with too long a name": (fourth("a" * 60), f"agents_services.{'a' * 60}.names.deployment", "up to 63"),
    "port name too long": (npa(ports={"a-very-long-port": {"container": 1}}), "agents_services.npa.ports.a-very-long-port", "up to 15"),
    "environment variable with a space": (npa(environment={"MY VAR": "x"}), "agents_services.npa.environment.MY VAR", "letters, digits"),
    "label value that is a switch": (npa(labels={"team": True}), "agents_services.npa.labels", "a text in quotes"),
    "label key with a space": (npa(labels={"my team": "x"}), "agents_services.npa.labels", "a label key"),
    "selector label overridden": (npa(labels={"app": "mca"}), "agents_services.npa.labels.app", "npa"),
    "storage class with capitals": ({"platform_storage_class": "Fast_SSD"}, "platform_storage_class", "a DNS name"),
    "pull secret with a slash": ({"platform_pull_secrets": ["a/b"]}, "platform_pull_secrets.0", "a DNS name"),
    # images
    "agent without an image": (npa(image=""), "agents_services.npa.image", "an image reference"),
    "image without a tag": ({"app_image": "registry.example.com/app"}, "app_image", "a tag other than latest"),
    "image latest": ({"redis_cluster_image": "redis:latest"}, "redis_cluster_image", "other than latest"),
    "image with capitals": (npa(image="Registry/Agent:1"), "agents_services.npa.image", "an image reference"),
    "digest that is too short": (npa(image="a@sha256:abc"), "agents_services.npa.image", "with a digest"),
    "replaced image latest": ({"platform_images": {"redis": "redis:latest"}}, "platform_images.redis", "other than latest"),
    "catalog without a tag": (changed("catalog_images", app__tag=""), "catalog_images.app", "neither tag nor digest"),
    "catalog with latest": (changed("catalog_images", app__tag="latest"), "catalog_images.app.tag", "not latest"),
    "registry with a scheme": ({"platform_registry": "https://registry.example.com"}, "platform_registry", "a registry with a path"),
    # numbers and what they mean
    "two masters": ({"redis_cluster_masters": 2}, "redis_cluster_masters", "3 to 1000"),
    "replicas below zero": ({"redis_cluster_replicas_per_master": -1}, "redis_cluster_replicas_per_master", "0 to 10"),
    "maxmemory of everything": ({"redis_cluster_maxmemory_percent": 100}, "redis_cluster_maxmemory_percent", "60 to 75"),
    "node timeout in seconds": ({"redis_cluster_node_timeout": 5}, "redis_cluster_node_timeout", "501 to 60000"),
    "password too short": ({"redis_cluster_password_length": 8}, "redis_cluster_password_length", "12 to 1024"),
    "root as user": ({"redis_cluster_user": 0}, "redis_cluster_user", "1 to"),
    "backlog larger than the memory": ({"redis_cluster_backlog": "2Gi"}, "redis_cluster_backlog", "a fifth of the memory limit"),
    "volume smaller than the memory": (
        changed("redis_cluster_storage", size="512Mi"),
        "redis_cluster_storage.size",
        "at least the memory limit",
    ),
    "directive the role sets": (
        {"redis_cluster_config": {"maxmemory": "1gb"}},
        "redis_cluster_config.maxmemory",
        "a directive the role sets",
    ),
    "port out of range": (npa(ports={"http": {"container": 80000}}), "agents_services.npa.ports.http.container", "1 to 65535"),
    "two ports of one number": (npa(ports={"extra": {"container": 8000}}), "agents_services.npa.ports", "each port once"),
    "probe of a port that is not there": (
        npa(probes={"liveness": {"port": "htp"}}),
        "agents_services.npa.probes.liveness.port",
        "Did you mean http?",
    ),
    "probe of no path": (npa(probes={"liveness": {"path": "health"}}), "agents_services.npa.probes.liveness.path", "begins with a slash"),
    "probe every zero seconds": (npa(probes={"liveness": {"period": 0}}), "agents_services.npa.probes.liveness.period", "at least 1"),
    "flow to a port that is not there": (
        npa(network={"from": [{"pods": {}, "ports": ["https"]}]}),
        "agents_services.npa.network.from.0.ports",
        "one of the ports",
    ),
    "affinity for days": (npa(affinity_seconds=100000), "agents_services.npa.affinity_seconds", "0 to 86400"),
    "autoscaler's maximum under its minimum": (
        npa(scaling={"min": 4, "max": 3}),
        "agents_services.npa.scaling.max",
        "at least scaling.min (4)",
    ),
    "autoscaler's minimum of zero": (npa(scaling={"min": 0}), "agents_services.npa.scaling.min", "at least 1"),
    "autoscaler without a metric": (
        npa(scaling={"cpu": None, "memory": None, "requests_per_second": 0}),
        "agents_services.npa.scaling",
        "no metric",
    ),
    "budget that keeps every pod": (npa(budget={"min_available": 1}), "agents_services.npa.budget.min_available", "no node can be drained"),
    "budget that lets none go": (
        npa(budget={"max_unavailable": 0}),
        "agents_services.npa.budget.max_unavailable",
        "no node can be drained",
    ),
    "budget that is no percentage": (npa(budget={"max_unavailable": "half"}), "agents_services.npa.budget.max_unavailable", "a percentage"),
    "percentage above a hundred": (npa(rollout={"max_surge": "250%"}), "agents_services.npa.rollout.max_surge", "a percentage"),
    "rollout that cannot move": (
        npa(rollout={"max_surge": 0, "max_unavailable": 0}),
        "agents_services.npa.rollout",
        "no new version can ever start",
    ),
    "drain longer than the grace": (npa(drain_seconds=60), "agents_services.npa.drain_seconds", "less than grace_seconds (45)"),
    "timeout of zero": ({"platform_wait_timeout": 0}, "platform_wait_timeout", "at least 1"),
    "API server's network with host bits": (
        {"baseline_api_server_cidrs": ["10.0.0.1/8"]},
        "baseline_api_server_cidrs.0",
        "without host bits",
    ),
    "priority above the highest": (
        changed("baseline_priority_classes", data={"value": 2000000000}),
        "baseline_priority_classes.data.value",
        "1000000000",
    ),
    # things that must fit together
    "two budgets for one pod": (
        fourth("progressive-framework-v5"),
        "agents_services.progressive-framework-v5",
        "two disruption budgets would select the same pods",
    ),
    "agent called as the cache": (fourth("redis-cluster"), "agents_services.redis-cluster", "two disruption budgets"),
    "two agents with one Service": (npa(names={"service": "wpa-service"}), "agents_services.wpa.names.service", "agents_services.npa"),
    "pool that does not exist": (npa(pools=["apps"]), "agents_services.npa.pools.0", "Did you mean app?"),
    "pool that does not exist, Redis": ({"redis_cluster_pools": ["caches"]}, "redis_cluster_pools.0", "Did you mean cache?"),
    "taint without such an effect": (
        changed("platform_pools", app__taints=[{"key": "a", "value": "b", "effect": "NoRun"}]),
        "platform_pools.app.taints.0.effect",
        "NoSchedule",
    ),
    "node in two pools": (
        changed("platform_pools", app__nodes=["n1"], cache__nodes=["n1"]),
        "platform_pools.cache.nodes.0",
        "it is in app already",
    ),
    "priority class that does not exist": (npa(priority_class="high"), "agents_services.npa.priority_class", "baseline_priority_classes"),
    "component twice": ({"platform_components": ["baseline", "app", "app"]}, "platform_components", "app 2 times"),
    "baseline not first": ({"platform_components": ["app", "baseline"]}, "platform_components", "baseline first"),
    "platform's namespace not made": ({"baseline_namespaces": [{"name": "other"}]}, "baseline_namespaces", "platform_namespace"),
    "coordinator that is no agent": ({"agents_coordinator": "boss"}, "agents_coordinator", "one of agents_services: mca, npa, wpa"),
    "application calls an agent that is not there": (
        {"app_agents": {"mca": "http://mcca-service"}},
        "app_agents.mca",
        "Did you mean mca-service?",
    ),
    "agent's address without a scheme": ({"app_agents": {"mca": "mca-service"}}, "app_agents.mca", "a URL"),
    "cache without a port": ({"app_redis": "redis-cluster"}, "app_redis", "host:port"),
    "variable from two sources": (
        npa(environment={"REDIS_PASSWORD": "x"}, environment_secrets={"REDIS_PASSWORD": {"secret": "a", "key": "b"}}),
        "agents_services.npa.environment.REDIS_PASSWORD",
        "set twice",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_is_refused_by_name(case: str) -> None:
    changes, variable, part = CASES[case]
    found = [finding for finding in examine(changes) if not finding.warning]
    named = [str(finding) for finding in found if finding.variable == variable]
    assert named, f"nothing about {variable}; found: {[str(finding) for finding in found]}"
    assert any(part in text for text in named), named
    assert all(finding.seen and finding.allowed and finding.remedy for finding in found)


def test_there_are_many_cases() -> None:
    assert len(CASES) >= 60


@pytest.mark.parametrize("inventory", rendering.INVENTORIES)
def test_our_inventories_are_right(inventory: str) -> None:
    assert [str(finding) for finding in examine({}, inventory)] == []


def test_everything_is_found_at_once() -> None:
    changes = {"redis_cluster_masters": 2, "app_image": "app", **npa(scaling={"min": 4, "max": 3}), "redis_cluster_mastres": 3}
    assert {finding.variable for finding in examine(changes)} >= {"redis_cluster_masters", "app_image", "redis_cluster_mastres"}


@pytest.mark.parametrize(
    "changes",
    [
        {"baseline_secrets": {"registry": {"data": {"password": ["hunter2"]}}}},
        {"baseline_secrets": {"registry": "hunter2"}},
        {"redis_cluster_password": "hunter2"},
        npa(environment={"API_TOKEN": {"value": "hunter2"}}),
        npa(environment_secrets={"DB_PASSWORD": "hunter2"}),
    ],
)
def test_secrets_are_not_shown(changes: dict[str, t.Any]) -> None:
    found = examine(changes)
    assert found
    assert "hunter2" not in str([finding.as_dict() for finding in found])


def test_a_warning_is_no_refusal() -> None:
    found = examine({"redis_cluster_replicas_per_master": 0})
    assert [finding.warning for finding in found if finding.variable == "redis_cluster_replicas_per_master"] == [True]
