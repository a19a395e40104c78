# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What variables mean beyond their types: tables first, then the rules that look at more than one value (private).

Patterns are variable paths; ``*`` stands for one key or list index. Where a rule comes from: Kubernetes' own validation, Redis'
documentation, or an installation that went wrong; see the table "What the original gets wrong" in the design.
"""

from __future__ import annotations

import re
import typing as t
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from urllib.parse import urlsplit

from ansible_collections.progressive.platform.plugins.module_utils._istio import rules as mesh
from ansible_collections.progressive.platform.plugins.module_utils._preflight import kinds
from ansible_collections.progressive.platform.plugins.module_utils._preflight.findings import Finding, Path, name, suggestion, wrong
from ansible_collections.progressive.platform.plugins.module_utils._preflight.kinds import Kind, between
from ansible_collections.progressive.platform.plugins.module_utils._preflight.quantities import humane, quantity
from ansible_collections.progressive.platform.plugins.module_utils._redis.users import RULES, rules_of
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

Values = Mapping[str, t.Any]
Spec = Mapping[str, t.Any]


@dataclass(frozen=True)
class Role:
    """One role as it would run: its specification, its variables' values, and, where it has stateless services, the complete ones."""

    name: str
    specs: Mapping[str, Spec] = field(default_factory=dict)
    values: Values = field(default_factory=dict)
    broken: Mapping[str, str] = field(default_factory=dict)
    services: Mapping[str, Values] = field(default_factory=dict)
    needs: Values = field(default_factory=dict)


# ---- tables -----------------------------------------------------------------------------------------------------------------------

_AMOUNTS: Spec = {
    "type": "dict",
    "options": {"cpu": {"type": "raw"}, "memory": {"type": "raw"}, "ephemeral-storage": {"type": "raw"}},
}
_FLOW: Spec = {
    "type": "dict",
    "options": {"pods": {"type": "dict"}, "namespaces": {"type": "dict"}, "ports": {"type": "list", "elements": "raw", "required": True}},
}
_RATE: Spec = {
    "requests": {"type": "int", "required": True},
    "unit": {"type": "str", "choices": ["second", "minute", "hour"]},
    "burst": {"type": "int"},
}
_TEXTS: Spec = {"type": "list", "elements": "str"}

# What the free keys of a mapping hold: an argument specification can only describe options whose names it knows.
SERVICE_SHAPES: dict[str, Spec] = {
    "ports.*": {"type": "dict", "options": {"container": {"type": "int", "required": True}, "service": {"type": "int"}}},
    "environment.*": {"type": "str"},
    "environment_fields.*": {"type": "str"},
    "environment_secrets.*": {
        "type": "dict",
        "options": {"secret": {"type": "str", "required": True}, "key": {"type": "str", "required": True}},
    },
    "files.*": {
        "type": "dict",
        "options": {
            "secret": {"type": "str", "required": True},
            "path": {"type": "str", "required": True},
            "items": {"type": "dict", "required": True},
        },
    },
    "config.*": {"type": "str"},
    "init.*": {"type": "dict", "options": {"command": _TEXTS, "image": {"type": "str"}, "resources": {"type": "dict"}}},
    "volumes.*": {"type": "dict", "options": {"path": {"type": "str"}, "size": {"type": "str"}}},
    "resources.requests": _AMOUNTS,
    "resources.limits": _AMOUNTS,
    "network.from.*": _FLOW,
    "network.to.*": _FLOW,
    "mesh.allow.*": {
        "type": "dict",
        "options": {
            **dict.fromkeys(("accounts", "namespaces", "methods", "paths"), _TEXTS),
            "ports": {"type": "list", "elements": "raw"},
        },
    },
    "rules.*": {
        "type": "dict",
        "options": dict.fromkeys(("apiGroups", "resources", "resourceNames", "nonResourceURLs"), _TEXTS)
        | {"verbs": {**_TEXTS, "required": True}},
    },
}
SHAPES: dict[str, Spec] = {
    "platform_images.*": {"type": "str"},
    "platform_image_digests.*": {"type": "str"},
    "platform_pools.*": {
        "type": "dict",
        "options": {
            "labels": {"type": "dict"},
            "taints": {
                "type": "list",
                "elements": "dict",
                "options": {"key": {"required": True}, "value": {}, "effect": {"required": True}},
            },
            "nodes": _TEXTS,
        },
    },
    "catalog_images.*": {
        "type": "dict",
        "options": {"repository": {"required": True}, "tag": {}, "digest": {}, "licence": {"required": True}, "end_of_life": {}},
    },
    "baseline_priority_classes.*": {"type": "dict", "options": {"value": {"type": "int", "required": True}, "description": {}}},
    "baseline_secrets.*": {"type": "dict", "options": {"type": {}, "data": {"type": "dict", "required": True}}},
    "baseline_secrets.*.data.*": {"type": "str", "required": True},
    "baseline_container_requests": _AMOUNTS,
    "baseline_container_limits": _AMOUNTS,
    "redis_cluster_resources.requests": _AMOUNTS,
    "redis_cluster_resources.limits": _AMOUNTS,
    "mongodb_resources.requests": _AMOUNTS,
    "mongodb_resources.limits": _AMOUNTS,
    "mongodb_users.*": {"type": "dict", "options": {"roles": {**_TEXTS, "required": True}, "database": {"type": "str"}}},
    "postgresql_resources.requests": _AMOUNTS,
    "postgresql_resources.limits": _AMOUNTS,
    "postgresql_databases.*": {
        "type": "dict",
        "options": {"owner": {"type": "str", "required": True}, "extensions": _TEXTS, "grants": {"type": "dict"}},
    },
    "postgresql_users.*": {
        "type": "dict",
        "options": {"connection_limit": {"type": "int"}, "settings": {"type": "dict"}, "roles": {"type": "list", "elements": "str"}},
    },
    "app_agents.*": {"type": "str"},
    "istio_resources.requests": _AMOUNTS,
    "istio_resources.limits": _AMOUNTS,
    "istio_proxy_resources.requests": _AMOUNTS,
    "istio_proxy_resources.limits": _AMOUNTS,
    "istio_kiali_resources.requests": _AMOUNTS,
    "istio_kiali_resources.limits": _AMOUNTS,
    "istio_ztunnel_resources.requests": _AMOUNTS,
    "istio_ztunnel_resources.limits": _AMOUNTS,
    "istio_waypoint_resources.requests": _AMOUNTS,
    "istio_waypoint_resources.limits": _AMOUNTS,
    "istio_egress.*": {"type": "dict", "options": {"hosts": {**_TEXTS, "required": True}, "ports": {"type": "dict", "required": True}}},
    "istio_tracing": {"type": "dict", "options": {"service": {"type": "str"}, "port": {"type": "int"}, "sampling": {"type": "float"}}},
    "tracing_resources.requests": _AMOUNTS,
    "tracing_resources.limits": _AMOUNTS,
    "tracing_collector_resources.requests": _AMOUNTS,
    "tracing_collector_resources.limits": _AMOUNTS,
    "tracing_transaction": {"type": "dict", "options": {"service": {"type": "str"}, "port": {}, "path": {}}},
    "autoscaling_resources.requests": _AMOUNTS,
    "autoscaling_resources.limits": _AMOUNTS,
    "autoscaling_cluster_autoscaler.resources.requests": _AMOUNTS,
    "autoscaling_cluster_autoscaler.resources.limits": _AMOUNTS,
    "autoscaling_descheduler_resources.requests": _AMOUNTS,
    "autoscaling_descheduler_resources.limits": _AMOUNTS,
    "autoscaling_descheduler_strategies.*": {"type": "dict"},
    "autoscaling_vertical.*": {
        "type": "dict",
        "options": {
            "kind": {"type": "str", "choices": ["Deployment", "StatefulSet"]},
            "container": {"type": "str"},
            "mode": {"type": "raw"},
            "resources": _TEXTS,
            "min": {"type": "dict", "required": True},
            "max": {"type": "dict", "required": True},
        },
    },
    "autoscaling_node_groups.*": {
        "type": "dict",
        "options": {
            **{option: {"type": "int", "required": True} for option in ("min", "max", "priority", "cpu")},
            "pool": {"type": "str"},
            "group": {"type": "str"},
            "instances": {**_TEXTS, "required": True},
            "memory": {"type": "str", "required": True},
        },
    },
    "monitoring_resources.requests": _AMOUNTS,
    "monitoring_resources.limits": _AMOUNTS,
    "monitoring_grafana_resources.requests": _AMOUNTS,
    "monitoring_grafana_resources.limits": _AMOUNTS,
    "monitoring_small_resources.requests": _AMOUNTS,
    "monitoring_small_resources.limits": _AMOUNTS,
    "gateway_resources.requests": _AMOUNTS,
    "gateway_resources.limits": _AMOUNTS,
    "gateway_ui_resources.requests": _AMOUNTS,
    "gateway_ui_resources.limits": _AMOUNTS,
    "gateway_uis.*": {
        "type": "dict",
        "options": {
            "host": {"type": "str", "required": True},
            "service": {"type": "str"},
            "namespace": {"type": "str"},
            "port": {"type": "int"},
            "target": {"type": "int"},
            "pods": {"type": "dict"},
        },
    },
    "gateway_rate_limits.*": {"type": "dict", "options": _RATE},
    "gateway_routes.*": {
        "type": "dict",
        "options": {
            "prefix": {"type": "str", "required": True},
            "rewrite": {"type": "str"},
            "service": {"type": "str", "required": True},
            "port": {"type": "int"},
            "timeout": {"type": "int"},
            "attempt_timeout": {"type": "int"},
            "max_body": {"type": "str"},
            "rate_limit": {"type": "dict", "options": _RATE},
            "response_headers": {"type": "dict"},
            "canary": {"type": "dict", "options": {"service": {"type": "str"}, "weight": {"type": "int"}, "header": {"type": "str"}}},
        },
    },
}

SERVICE_VALUES: dict[str, Kind] = {
    "image": kinds.optional_image,
    "names.*": kinds.service_name,
    "labels": kinds.labels,
    "ports.*.container": kinds.port,
    "ports.*.service": kinds.port,
    "affinity_seconds": between(0, 86400, "seconds"),
    "environment_secrets.*.secret": kinds.dns_subdomain,
    "environment_secrets.*.key": kinds.config_key,
    "files.*.secret": kinds.dns_subdomain,
    "config_maps.*": kinds.dns_subdomain,
    "secrets.*": kinds.dns_subdomain,
    "init.*.image": kinds.image,
    "resources.requests.*": kinds.amount,
    "resources.limits.*": kinds.amount,
    "probes.*.path": kinds.http_path,
    "probes.*.delay": between(0, None, "seconds"),
    "probes.*.period": between(1, None, "second"),
    "probes.*.timeout": between(1, None, "second"),
    "probes.*.failures": between(1),
    "volumes.*.path": kinds.absolute_path,
    "volumes.*.size": kinds.amount,
    "replicas": between(0),
    "scaling.min": between(1),
    "scaling.max": between(1),
    "scaling.cpu": between(1, 1000, "percent"),
    "scaling.memory": between(1, 1000, "percent"),
    "scaling.requests_per_second": between(0),
    "scaling.*.percent": between(1, None, "percent"),
    "scaling.*.period": between(1, 1800, "seconds"),
    "scaling.*.window": between(0, 3600, "seconds"),
    "rollout.*": kinds.count_or_percent,
    "budget.*": kinds.count_or_percent,
    "priority_class": kinds.dns_subdomain,
    "grace_seconds": between(0, None, "seconds"),
    "drain_seconds": between(0, None, "seconds"),
    "network.*.*.ports.*": kinds.port_or_name,
    "network.*.*.pods": kinds.labels,
    "network.*.*.namespaces": kinds.labels,
}
SERVICE_KEYS: dict[str, Kind] = {
    "ports": kinds.port_name,
    "volumes": kinds.dns_label,
    "init": kinds.dns_label,
    "environment": kinds.environment_name,
    "environment_fields": kinds.environment_name,
    "environment_secrets": kinds.environment_name,
    "config": kinds.environment_name,
}
VALUES: dict[str, Kind] = {
    "platform_name": kinds.label_value,
    "platform_environment": kinds.label_value,
    "platform_namespace": kinds.dns_label,
    "platform_registry": kinds.registry,
    "platform_images.*": kinds.image,
    "platform_image_digests.*": kinds.digest,
    "platform_file_mirror": kinds.place,
    "platform_pull_secrets.*": kinds.dns_subdomain,
    "platform_user": between(1, 2**31 - 1),
    "platform_pools.*.labels": kinds.labels,
    "platform_pools.*.nodes.*": kinds.dns_subdomain,
    "platform_pools.*.taints.*.key": kinds.label_key,
    "platform_pools.*.taints.*.value": kinds.label_value,
    "platform_pools.*.taints.*.effect": kinds.taint_effect,
    "platform_storage_class": kinds.optional_subdomain,
    "platform_cluster_domain": kinds.dns_subdomain,
    "platform_tracing_namespace": kinds.dns_label,
    "platform_tracing_collector": kinds.matching(
        r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+:[0-9]{1,5}",
        "service.namespace.svc:port, without http://, as OpenTelemetry over gRPC is served (4317)",
    ),
    "platform_tracing_ratio": kinds.share,
    "platform_wait_timeout": between(1, None, "second"),
    "catalog_images.*.repository": kinds.repository,
    "catalog_images.*.tag": kinds.tag,
    "catalog_images.*.digest": kinds.digest,
    "baseline_namespaces.*.name": kinds.dns_label,
    "baseline_namespaces.*.labels": kinds.labels,
    "baseline_quota.*": kinds.optional_amount,
    "baseline_container_requests.*": kinds.amount,
    "baseline_container_limits.*": kinds.amount,
    "baseline_api_server_cidrs.*": kinds.network,
    "baseline_api_server_ports.*": kinds.port,
    "baseline_dns_ports.*": kinds.port,
    "baseline_priority_classes.*.value": between(-(2**31), 10**9),
    "redis_cluster_image": kinds.image,
    # A majority must be left when one master is gone (https://redis.io/docs/latest/operate/oss_and_stack/management/scaling/).
    "redis_cluster_masters": between(3, 1000),
    "redis_cluster_replicas_per_master": between(0, 10),
    "redis_cluster_resources.requests.*": kinds.amount,
    "redis_cluster_resources.limits.*": kinds.amount,
    "redis_cluster_maxmemory_percent": between(60, 75, "percent"),
    "redis_cluster_node_timeout": between(501, 60000, "milliseconds"),
    "redis_cluster_replica_validity_factor": between(0),
    "redis_cluster_backlog": kinds.amount,
    "redis_cluster_storage.size": kinds.amount,
    "redis_cluster_storage.class": kinds.optional_subdomain,
    "redis_cluster_priority_class": kinds.dns_subdomain,
    "redis_cluster_user": between(1, 2**31 - 1),
    "redis_cluster_group": between(1, 2**31 - 1),
    "redis_cluster_probe_period": between(1, 300, "seconds"),
    "redis_cluster_stop_timeout": between(5, 600, "seconds"),
    "redis_cluster_password_length": between(12, 1024, "characters"),
    "redis_cluster_converge_timeout": between(1, None, "second"),
    "redis_cluster_debug_lines": between(1, 100000, "lines"),
    "redis_cluster_tls_secret": kinds.dns_subdomain,
    "redis_cluster_tls_days": between(2, 3650, "days"),
    "redis_cluster_tls_renew_before": between(1, 3649, "days"),
    "mongodb_image": kinds.image,
    "mongodb_members": between(1, 50),
    "mongodb_replica_set": kinds.matching(r"[A-Za-z0-9._-]{1,63}", "letters, digits, dots, dashes and underscores"),
    "mongodb_resources.requests.*": kinds.amount,
    "mongodb_resources.limits.*": kinds.amount,
    "mongodb_oplog_size": kinds.amount,
    "mongodb_users.*.roles.*": kinds.matching(r"[A-Za-z]+@[^\s@]+", "role@database"),
    "mongodb_storage.size": kinds.amount,
    "mongodb_storage.class": kinds.optional_subdomain,
    "mongodb_priority_class": kinds.dns_subdomain,
    "mongodb_user": between(1, 2**31 - 1),
    "mongodb_group": between(1, 2**31 - 1),
    "mongodb_probe_period": between(1, 300, "seconds"),
    "mongodb_stop_timeout": between(20, 3600, "seconds"),
    "mongodb_password_length": between(12, 1024, "characters"),
    "mongodb_converge_timeout": between(1, None, "second"),
    "mongodb_sync_timeout": between(1, None, "second"),
    "mongodb_postgresql.host": kinds.dns_subdomain,
    "mongodb_postgresql.port": kinds.port,
    "mongodb_postgresql.database": kinds.identifier,
    "mongodb_postgresql.user": kinds.identifier,
    "mongodb_postgresql.secret": kinds.dns_subdomain,
    "platform_postgresql_name": kinds.dns_label,
    "postgresql_name": kinds.dns_label,
    "postgresql_image": kinds.image,
    "postgresql_members": between(1, 9),
    "postgresql_resources.requests.*": kinds.amount,
    "postgresql_resources.limits.*": kinds.amount,
    "postgresql_storage.size": kinds.amount,
    "postgresql_storage.class": kinds.optional_subdomain,
    "postgresql_synchronous_standbys": between(1, 8),
    "postgresql_databases.*.grants.*": kinds.matching("connect|read|write", "connect, read or write"),
    "postgresql_max_connections": between(10, 10000),
    # Patroni refuses a lock that is shorter.
    "postgresql_ttl": between(20, 300, "seconds"),
    "postgresql_loop_wait": between(1, 60, "seconds"),
    "postgresql_retry_timeout": between(3, 120, "seconds"),
    "postgresql_primary_start_timeout": between(0, 3600, "seconds"),
    "postgresql_failover_lag": kinds.amount,
    "postgresql_priority_class": kinds.dns_subdomain,
    "postgresql_user": between(1, 2**31 - 1),
    "postgresql_group": between(1, 2**31 - 1),
    "postgresql_probe_period": between(1, 60, "seconds"),
    "postgresql_stop_timeout": between(10, 3600, "seconds"),
    "postgresql_password_length": between(12, 1024, "characters"),
    "postgresql_converge_timeout": between(1, None, "second"),
    "postgresql_debug_lines": between(1, 100000, "lines"),
    "postgresql_tls_secret": kinds.dns_subdomain,
    "postgresql_tls_days": between(2, 3650, "days"),
    "postgresql_tls_renew_before": between(1, 3649, "days"),
    "platform_prometheus": kinds.url,
    "autoscaling_namespace": kinds.dns_label,
    "autoscaling_keda.namespace": kinds.dns_label,
    "autoscaling_keda.service": kinds.dns_label,
    "autoscaling_replicas": between(1, 10),
    "autoscaling_resources.requests.*": kinds.amount,
    "autoscaling_resources.limits.*": kinds.amount,
    "autoscaling_metrics.*": kinds.matching(r"[a-zA-Z_][a-zA-Z0-9_]*", "the name of a series"),
    "autoscaling_relist.interval": between(5, 600, "seconds"),
    "autoscaling_relist.age": between(60, 86400, "seconds"),
    "autoscaling_tls_days": between(2, 3650, "days"),
    "autoscaling_tls_renew_before": between(1, 3649, "days"),
    "autoscaling_vertical.*.resources.*": kinds.matching("cpu|memory", "cpu or memory"),
    # Without quotes Off is false in YAML.
    "autoscaling_vertical.*.mode": kinds.matching("Off|False|InPlaceOrRecreate", "Off or InPlaceOrRecreate"),
    "autoscaling_vertical.*.min.*": kinds.amount,
    "autoscaling_vertical.*.max.*": kinds.amount,
    "autoscaling_node_groups.*.min": between(0),
    "autoscaling_node_groups.*.max": between(1),
    "autoscaling_node_groups.*.priority": between(0, 100),
    "autoscaling_node_groups.*.cpu": between(1),
    "autoscaling_node_groups.*.memory": kinds.amount,
    "autoscaling_cluster_autoscaler.resources.requests.*": kinds.amount,
    "autoscaling_cluster_autoscaler.resources.limits.*": kinds.amount,
    "autoscaling_cluster_autoscaler.secret": kinds.optional_subdomain,
    "autoscaling_descheduler_interval": between(1, 1440, "minutes"),
    "autoscaling_descheduler_namespaces.*": kinds.dns_label,
    "autoscaling_descheduler_spares.priority": kinds.dns_subdomain,
    "autoscaling_descheduler_spares.replicas": between(0),
    "autoscaling_descheduler_spares.age": between(0, 10080, "minutes"),
    "autoscaling_descheduler_limits.*": between(1),
    "autoscaling_descheduler_resources.requests.*": kinds.amount,
    "autoscaling_descheduler_resources.limits.*": kinds.amount,
    "autoscaling_priority_class": kinds.dns_subdomain,
    "autoscaling_user": between(1, 2**31 - 1),
    "monitoring_namespace": kinds.dns_label,
    "monitoring_namespaces.*": kinds.dns_label,
    "monitoring_interval": between(5, 120, "seconds"),
    "monitoring_replicas": between(1, 10),
    "monitoring_alertmanagers": between(1, 10),
    "monitoring_storage.size": kinds.amount,
    "monitoring_storage.class": kinds.optional_subdomain,
    "monitoring_retention.time": kinds.matching(r"[1-9][0-9]*[hdwy]", "a number and h, d, w or y"),
    # The log of the last hours counts too, and a block is written before the one it replaces goes.
    "monitoring_retention.percent": between(10, 90, "percent"),
    "monitoring_resources.requests.*": kinds.amount,
    "monitoring_resources.limits.*": kinds.amount,
    "monitoring_small_resources.requests.*": kinds.amount,
    "monitoring_small_resources.limits.*": kinds.amount,
    "monitoring_grafana_address": kinds.matching(r"https?://\S+", "an address (https://grafana.example.com), or nothing", empty=True),
    "monitoring_grafana_resources.requests.*": kinds.amount,
    "monitoring_grafana_resources.limits.*": kinds.amount,
    "monitoring_prices.currency": kinds.matching("[A-Z]{3}", "a code of three capitals (EUR)"),
    "monitoring_secret": kinds.optional_subdomain,
    "monitoring_priority_class": kinds.dns_subdomain,
    "monitoring_user": between(1, 2**31 - 1),
    "monitoring_health_severities.*": kinds.matching("critical|warning|info", "critical, warning or info"),
    "monitoring_health_delay": between(10, 3600, "seconds"),
    "tracing_secret": kinds.optional_subdomain,
    "tracing_memory_traces": between(1, 10_000_000, "traces"),
    "tracing_volume.size": kinds.amount,
    "tracing_volume.class": kinds.optional_subdomain,
    "tracing_retention": between(1, 8760, "hours"),
    "tracing_replicas": between(1, 10),
    "tracing_resources.requests.*": kinds.amount,
    "tracing_resources.limits.*": kinds.amount,
    "tracing_collectors": between(1, 20),
    "tracing_collector_resources.requests.*": kinds.amount,
    "tracing_collector_resources.limits.*": kinds.amount,
    "tracing_queue": between(100, 1_000_000, "spans"),
    "tracing_priority_class": kinds.dns_subdomain,
    "tracing_user": between(1, 2**31 - 1),
    "tracing_transaction.service": kinds.dns_label,
    "tracing_transaction.path": kinds.http_path,
    "tracing_health_patience": between(1, 300, "seconds"),
    "istio_revision": kinds.dns_label,
    "istio_namespace": kinds.dns_label,
    "istio_kiali_namespace": kinds.dns_label,
    "istio_kiali_resources.requests.*": kinds.amount,
    "istio_kiali_resources.limits.*": kinds.amount,
    "istio_namespaces.*": kinds.dns_label,
    "istio_cni_bin_dir": kinds.matching(r"/[^\0:]*", "an absolute path, or nothing", empty=True),
    "istio_resources.requests.*": kinds.amount,
    "istio_resources.limits.*": kinds.amount,
    "istio_proxy_resources.requests.*": kinds.amount,
    "istio_proxy_resources.limits.*": kinds.amount,
    "istio_ztunnel_resources.requests.*": kinds.amount,
    "istio_ztunnel_resources.limits.*": kinds.amount,
    "istio_waypoint_resources.requests.*": kinds.amount,
    "istio_waypoint_resources.limits.*": kinds.amount,
    "istio_waypoint_scaling.min": between(1),
    "istio_waypoint_scaling.max": between(1),
    "istio_waypoint_scaling.cpu": between(1, 1000, "percent"),
    "istio_scaling.min": between(1),
    "istio_scaling.max": between(1),
    "istio_scaling.cpu": between(1, 1000, "percent"),
    "istio_egress.*.ports.*": kinds.port,
    "istio_drain_seconds": between(0, 3600, "seconds"),
    "istio_certificate_hours": between(1, 23, "hours"),
    "gateway_name": kinds.dns_label,
    "gateway_hosts.*": kinds.matching(
        r"(\*\.)?[a-z0-9][-a-z0-9]*(\.[a-z0-9][-a-z0-9]*)+", "a DNS name in small letters, or *. and the end of one"
    ),
    "gateway_nginx.*": kinds.dns_subdomain,
    "gateway_uis.*.host": kinds.matching(r"[a-z0-9][-a-z0-9]*(\.[a-z0-9][-a-z0-9]*)+", "a DNS name in small letters, without a star"),
    "gateway_uis.*.service": kinds.service_name,
    "gateway_uis.*.namespace": kinds.dns_label,
    "gateway_uis.*.port": kinds.port,
    "gateway_uis.*.target": kinds.port,
    "gateway_uis.*.pods": kinds.labels,
    "gateway_ui_login.client": kinds.dns_subdomain,
    "gateway_ui_login.users": kinds.dns_subdomain,
    "gateway_ui_login.hours": between(1, 168, "hours"),
    "gateway_ui_replicas": between(1),
    "gateway_ui_resources.requests.*": kinds.amount,
    "gateway_ui_resources.limits.*": kinds.amount,
    "gateway_tls_secret": kinds.dns_subdomain,
    "gateway_tls_days": between(2, 3650, "days"),
    "gateway_tls_renew_before": between(1, 3649, "days"),
    "gateway_routes.*.prefix": kinds.http_path,
    "gateway_routes.*.rewrite": kinds.http_path,
    "gateway_routes.*.service": kinds.service_name,
    "gateway_routes.*.port": kinds.port,
    "gateway_routes.*.timeout": between(0, 3600, "seconds"),
    "gateway_routes.*.attempt_timeout": between(0, 3600, "seconds"),
    # Envoy counts the bytes it holds back in 32 bits.
    "gateway_routes.*.max_body": kinds.bytes_below(2**32),
    "gateway_routes.*.rate_limit.requests": between(1, 1_000_000, "requests"),
    "gateway_routes.*.rate_limit.burst": between(1, 1_000_000, "requests"),
    "gateway_rate_limits.*.requests": between(1, 1_000_000, "requests"),
    "gateway_rate_limits.*.burst": between(1, 1_000_000, "requests"),
    # Envoy's own bounds of a request's headers.
    "gateway_clients.headers_kb": between(1, 8192, "KiB"),
    "gateway_clients.headers_seconds": between(1, 300, "seconds"),
    "gateway_clients.idle_seconds": between(1, 86400, "seconds"),
    "gateway_clients.streams": between(1, 100_000, "requests"),
    "gateway_routes.*.canary.service": kinds.service_name,
    "gateway_resources.requests.*": kinds.amount,
    "gateway_resources.limits.*": kinds.amount,
    "gateway_scaling.min": between(1),
    "gateway_scaling.max": between(1),
    "gateway_scaling.cpu": between(1, 1000, "percent"),
    "app_image": kinds.image,
    "app_redis": kinds.host_port,
    "app_postgresql.primary": kinds.host_port,
    "app_postgresql.replica": kinds.host_port,
    "app_postgresql.database": kinds.identifier,
    "app_postgresql.user": kinds.identifier,
    "app_agents.*": kinds.url,
    "agents_image": kinds.image,
    "agents_redis": kinds.host_port,
    "agents_coordinator": kinds.dns_label,
}
KEYS: dict[str, Kind] = {
    "platform_pools": kinds.dns_label,
    "baseline_priority_classes": kinds.dns_label,
    "baseline_secrets": kinds.dns_subdomain,
    "app_services": kinds.service_name,
    "agents_services": kinds.service_name,
    "workload_services": kinds.service_name,
    "gateway_uis": kinds.dns_label,
    "mongodb_users": kinds.dns_label,
    "postgresql_databases": kinds.identifier,
    "postgresql_users": kinds.identifier,
}

# Directives the role itself decides; another value would break what it promises.
_REDIS_OWN = {
    *(
        "bind",
        "port",
        "dir",
        "daemonize",
        "pidfile",
        "include",
        "protected-mode",
        "requirepass",
        "masterauth",
        "masteruser",
        "aclfile",
        "user",
    ),
    *("tls-port", "tls-replication", "tls-cluster", "tls-cert-file", "tls-key-file", "tls-ca-cert-file", "tls-auth-clients"),
    "cluster-preferred-endpoint-type",
    *("cluster-enabled", "cluster-config-file", "cluster-node-timeout", "cluster-require-full-coverage"),
    *("cluster-allow-replica-migration", "cluster-replica-validity-factor", "cluster-announce-ip", "cluster-announce-hostname"),
    *("appendonly", "maxmemory", "maxmemory-policy", "repl-backlog-size"),
}

# Parameters that Patroni or the role decides; another value would be overruled, or break what it promises.
_POSTGRESQL_OWN = {
    *("listen_addresses", "port", "cluster_name", "hot_standby", "wal_level", "wal_log_hints", "unix_socket_directories"),
    *("data_directory", "hba_file", "ident_file", "config_file", "external_pid_file", "archive_mode", "archive_command"),
    *("primary_conninfo", "primary_slot_name", "restore_command", "recovery_target_timeline", "promote_trigger_file"),
    *("synchronous_standby_names", "synchronous_commit", "max_connections", "password_encryption", "fsync", "full_page_writes"),
}
# Directives of mongod.conf that the role itself decides, by path.
_MONGODB_OWN = {
    *("net.port", "net.bindIp", "net.bindIpAll", "replication.replSetName", "replication.oplogSizeMB"),
    *("security.keyFile", "security.authorization", "storage.dbPath"),
}
_POSTGRESQL_BUILT_IN = {"postgres", "replicator", "replicator_2", "rewind", "rewind_2", "template0", "template1", "patroni"}


def values_of(table: Mapping[str, Kind], keys: Mapping[str, Kind], root: Path, value: t.Any, skip: int = 0) -> Iterator[Finding]:
    """Every value and key at and under ``root`` that its line of the tables does not allow; patterns begin after ``skip`` pieces."""
    for path, item in walk(root, value):
        if (kind := lookup(table, path[skip:])) and (allowed := kind(item)):
            yield wrong(path, item, allowed)
        if isinstance(item, Mapping) and (kind := lookup(keys, path[skip:])):
            for key in item:
                if allowed := kind(key):
                    yield Finding(name((*path, str(key))), f"the name {key}", allowed, f"Rename {name((*path, str(key)))}.")


def walk(path: Path, value: t.Any) -> Iterator[tuple[Path, t.Any]]:
    """The value itself and everything in it, with paths."""
    yield path, value
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from walk((*path, str(key)), item)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from walk((*path, str(index)), item)


T = t.TypeVar("T")


def lookup(table: Mapping[str, T], path: Path) -> T | None:
    """The line of the table whose pattern matches the path."""
    for pattern, entry in table.items():
        pieces = pattern.split(".")
        if len(pieces) == len(path) and all(piece in ("*", own) for piece, own in zip(pieces, path, strict=True)):
            return entry
    return None


# ---- one service ------------------------------------------------------------------------------------------------------------------


def service_rules(path: Path, service: Values, shared: Values) -> Iterator[Finding]:
    """Rules about one complete service; ``path`` is its variable, ``shared`` the values of the catalog and of baseline."""
    if not service["image"]:
        yield wrong((*path, "image"), service["image"], "an image reference", f"Set {name(path)}.image, or the image of all its kind.")
    for kind, object_name in service["names"].items():
        if allowed := kinds.service_name(object_name):
            yield wrong(
                (*path, "names", kind),
                object_name,
                allowed,
                f"Choose a shorter or simpler name than {path[-1]}, or set {name(path)}.names.{kind}.",
            )
    if service["labels"].get("app") != path[-1]:
        yield wrong((*path, "labels", "app"), service["labels"].get("app"), path[-1], "The pods are selected by this label; leave it out.")
    yield from _resources(path, service)
    yield from _ports(path, service)
    yield from _scaling(path, service)
    yield from _disruption(path, service)
    yield from pools_exist((*path, "pools"), service["pools"], shared)
    yield from priority_exists((*path, "priority_class"), service["priority_class"], shared)
    if int(service["drain_seconds"]) >= int(service["grace_seconds"]):
        yield wrong(
            (*path, "drain_seconds"),
            service["drain_seconds"],
            f"less than grace_seconds ({service['grace_seconds']})",
            f"Lower it, or raise {name(path)}.grace_seconds.",
        )
    volumes, files, environment, secrets = (service[key] or {} for key in ("volumes", "files", "environment", "environment_secrets"))
    for volume in sorted(set(volumes) & set(files)):
        if volumes[volume] and files[volume]:
            yield Finding(name((*path, "files", volume)), "also one of volumes", "names of their own", "Rename one of them.")
    for variable in sorted(set(environment) & set(secrets)):
        if environment[variable] is not None and secrets[variable] is not None:
            yield Finding(
                name((*path, "environment", variable)),
                "set twice",
                "one source",
                f"Remove it here or from {name(path)}.environment_secrets.",
            )


def limits_hold(path: Path, resources: Values) -> Iterator[Finding]:
    """Requests are there, and not above their limits."""
    requests, limits = resources.get("requests") or {}, resources.get("limits") or {}
    for resource in ("cpu", "memory"):
        if requests.get(resource) is None:
            yield wrong((*path, "requests", resource), None, "a quantity", "Without a request the scheduler packs pods blindly.")
    if limits.get("memory") is None:
        yield wrong((*path, "limits", "memory"), None, "a quantity", "Without a memory limit one pod can take its node down.")
    for resource, wanted in requests.items():
        limit = limits.get(resource)
        if wanted is not None and limit is not None and quantity(wanted) > quantity(limit):
            yield wrong(
                (*path, "requests", resource),
                wanted,
                f"at most the limit, {limit}",
                f"Lower it, or raise {name((*path, 'limits', resource))}.",
            )


def _resources(path: Path, service: Values) -> Iterator[Finding]:
    yield from limits_hold((*path, "resources"), service["resources"])
    storage = (service["resources"].get("limits") or {}).get("ephemeral-storage")
    folders = {key: folder for key, folder in (service["volumes"] or {}).items() if folder}
    for key, folder in folders.items():
        for part in ("path", "size"):
            if not folder.get(part):
                yield wrong((*path, "volumes", key, part), None, "a value, it is required", f"Set {name((*path, 'volumes', key, part))}.")
    sizes = [quantity(folder["size"]) for folder in folders.values() if folder.get("size")]
    if storage is not None and sum(sizes) > quantity(storage):
        yield wrong(
            (*path, "resources", "limits", "ephemeral-storage"),
            storage,
            f"at least {humane(int(sum(sizes)))}, the volumes' sizes together",
            "The kubelet evicts a pod whose folders outgrow it.",
        )
    for where, number in Counter(folder.get("path") for folder in folders.values()).items():
        if where and number > 1:
            yield wrong((*path, "volumes"), f"{where} {number} times", "each path once")


def _ports(path: Path, service: Values) -> Iterator[Finding]:
    ports = {key: number for key, number in service["ports"].items() if number}
    for side in ("container", "service"):
        for number, times in Counter(port[side] for port in ports.values() if port.get(side) is not None).items():
            if times > 1:
                yield wrong((*path, "ports"), f"{side} port {number} {times} times", "each port once")
    for probe, check in service["probes"].items():
        if check and check["port"] not in ports:
            meant = suggestion(str(check["port"]), ports)
            remedy = f"Did you mean {meant}?" if meant else ""
            yield wrong((*path, "probes", probe, "port"), check["port"], f"one of the ports {', '.join(ports)}", remedy)
    for index, flow in enumerate((service["network"] or {}).get("from") or []):
        for port in flow["ports"]:
            if not str(port).isdigit() and port not in ports:
                yield wrong((*path, "network", "from", str(index), "ports"), port, f"one of the ports {', '.join(ports)}, or a number")
    for index, flow in enumerate((service["network"] or {}).get("to") or []):
        if not flow.get("pods") and not flow.get("namespaces"):
            yield wrong((*path, "network", "to", str(index)), "no pods and no namespaces", "labels of pods or of namespaces")


def _scaling(path: Path, service: Values) -> Iterator[Finding]:
    scaling = service["scaling"]
    if not scaling:
        return
    if int(scaling["max"]) < int(scaling["min"]):
        remedy = f"Raise it, or lower {name(path)}.scaling.min."
        yield wrong((*path, "scaling", "max"), scaling["max"], f"at least scaling.min ({scaling['min']})", remedy)
    if not any(scaling.get(metric) for metric in ("cpu", "memory", "requests_per_second")):
        yield wrong((*path, "scaling"), "no metric", "cpu, memory or requests_per_second", f"Set one, or {name(path)}.scaling to null.")


def _least(service: Values) -> int:
    return int(service["scaling"]["min"] if service["scaling"] else service["replicas"])


def _disruption(path: Path, service: Values) -> Iterator[Finding]:
    budget, least = service["budget"], _least(service)
    if budget:
        low, high = budget.get("min_available"), budget.get("max_unavailable")
        remedy = f"Lower it, raise {name(path)}.scaling.min, or use max_unavailable; as it is no node can be drained."
        if low is not None and (str(low) == "100%" or (not str(low).endswith("%") and int(low) >= least)):
            yield wrong((*path, "budget", "min_available"), low, f"less than the fewest pods ({least})", remedy)
        elif low is None and str(high) in ("0", "0%", "None"):
            yield wrong((*path, "budget", "max_unavailable"), high, "at least 1", "With none no node can be drained.")
    rollout = service["rollout"]
    if all(str(rollout[key]) in ("0", "0%") for key in ("max_unavailable", "max_surge")):
        yield wrong(
            (*path, "rollout"),
            "max_unavailable 0 and max_surge 0",
            "at least one of them above 0",
            "As it is no new version can ever start.",
        )


def pools_exist(path: Path, pools: Sequence[str], shared: Values) -> Iterator[Finding]:
    known = shared.get("platform_pools") or {}
    for index, pool in enumerate(pools):
        if pool not in known:
            meant = suggestion(str(pool), known)
            yield wrong((*path, str(index)), pool, f"one of platform_pools: {', '.join(known)}", f"Did you mean {meant}?" if meant else "")


def priority_exists(path: Path, wanted: str, shared: Values) -> Iterator[Finding]:
    known = shared.get("baseline_priority_classes")
    if known is not None and wanted and wanted not in known and not str(wanted).startswith("system-"):
        yield wrong(path, wanted, f"one of baseline_priority_classes: {', '.join(known)}", f"Define it there, or correct {name(path)}.")


# ---- whole roles ------------------------------------------------------------------------------------------------------------------


def catalog_rules(values: Values, shared: Values) -> Iterator[Finding]:
    components = [str(component) for component in values["platform_components"]]
    for component, times in Counter(components).items():
        if times > 1:
            yield wrong(("platform_components",), f"{component} {times} times", "each component once")
    if "baseline" in components and components[0] != "baseline":
        remedy = "It makes the namespace the others live in."
        yield wrong(("platform_components",), ", ".join(components), "baseline first", remedy)
    owners: dict[str, str] = {}
    for pool, options in values["platform_pools"].items():
        for index, node in enumerate((options or {}).get("nodes") or []):
            if node in owners:
                yield wrong(("platform_pools", pool, "nodes", str(index)), node, f"a node of one pool, it is in {owners[node]} already")
            owners[node] = pool
    for image, entry in values["catalog_images"].items():
        if not entry.get("tag") and not entry.get("digest"):
            yield wrong(
                ("catalog_images", image), "neither tag nor digest", "at least one of them", "An image without both is whatever is newest."
            )
    unknown = set(values["platform_images"]) - set(values["catalog_images"])
    for image in sorted(unknown):
        meant = suggestion(image, values["catalog_images"])
        allowed = f"one of catalog_images: {', '.join(values['catalog_images'])}"
        yield Finding(
            name(("platform_images", image)), "an image that does not exist", allowed, f"Did you mean {meant}?" if meant else "Remove it."
        )


def baseline_rules(values: Values, shared: Values) -> Iterator[Finding]:
    names = [namespace["name"] for namespace in values["baseline_namespaces"]]
    for namespace, times in Counter(names).items():
        if times > 1:
            yield wrong(("baseline_namespaces",), f"{namespace} {times} times", "each namespace once")
        if namespace in ("default", "kube-system", "kube-public", "kube-node-lease"):
            yield wrong(
                ("baseline_namespaces",),
                namespace,
                "a namespace of the platform's own",
                "Its default-deny would cut the cluster's own parts off.",
            )
    if shared["platform_namespace"] not in names:
        yield wrong(("baseline_namespaces",), ", ".join(names) or None, f"platform_namespace ({shared['platform_namespace']}) among them")
    yield from limits_hold(
        ("baseline_container",), {"requests": values["baseline_container_requests"], "limits": values["baseline_container_limits"]}
    )


def redis_cluster_rules(values: Values, shared: Values) -> Iterator[Finding]:
    yield from limits_hold(("redis_cluster_resources",), values["redis_cluster_resources"])
    yield from pools_exist(("redis_cluster_pools",), values["redis_cluster_pools"], shared)
    yield from priority_exists(("redis_cluster_priority_class",), values["redis_cluster_priority_class"], shared)
    limit, backlog = quantity(values["redis_cluster_resources"]["limits"]["memory"]), values["redis_cluster_backlog"]
    if quantity(backlog) > limit / 5:
        remedy = "The backlog, forks and buffers share what data leaves of the memory."
        yield wrong(("redis_cluster_backlog",), backlog, f"at most a fifth of the memory limit ({humane(int(limit / 5))})", remedy)
    if quantity(values["redis_cluster_storage"]["size"]) < limit:
        remedy = "A log being rewritten needs room for the data twice."
        yield wrong(
            ("redis_cluster_storage", "size"),
            values["redis_cluster_storage"]["size"],
            f"at least the memory limit ({humane(int(limit))})",
            remedy,
        )
    for directive in sorted(set(values["redis_cluster_config"]) & _REDIS_OWN):
        yield Finding(
            name(("redis_cluster_config", directive)),
            "a directive the role sets",
            "other directives",
            "Use the role's variable, or leave it.",
        )
    for user, rules in sorted(values["redis_cluster_users"].items()):
        try:
            rules_of(user, rules)
        except PlatformError as error:
            yield wrong(("redis_cluster_users", user), rules, "keys (~), channels (&) and commands (+, -)", error.message)
        if user in {"default", *RULES} - {"application", "monitor"}:
            yield wrong(
                ("redis_cluster_users", user),
                rules,
                "application, monitor, or a name of your own",
                "The collection itself logs in as this user.",
            )
    if int(values["redis_cluster_tls_renew_before"]) >= int(values["redis_cluster_tls_days"]):
        wanted = f"less than redis_cluster_tls_days ({values['redis_cluster_tls_days']})"
        yield wrong(
            ("redis_cluster_tls_renew_before",), values["redis_cluster_tls_renew_before"], wanted, "Every run would issue a certificate."
        )
    if int(values["redis_cluster_replicas_per_master"]) == 0:
        remedy = "Every pod that is lost takes its keys with it, and a drain of its node stops that part of the cluster."
        yield wrong(("redis_cluster_replicas_per_master",), 0, "at least 1 for data that is to survive", remedy, warning=True)


def postgresql_rules(values: Values, shared: Values) -> Iterator[Finding]:
    yield from limits_hold(("postgresql_resources",), values["postgresql_resources"])
    yield from pools_exist(("postgresql_pools",), values["postgresql_pools"], shared)
    yield from priority_exists(("postgresql_priority_class",), values["postgresql_priority_class"], shared)
    ttl, loop, retry = (int(values[f"postgresql_{part}"]) for part in ("ttl", "loop_wait", "retry_timeout"))
    if loop + 2 * retry > ttl:
        remedy = "A primary must notice that it cannot renew its lock before another member may take it."
        yield wrong(("postgresql_ttl",), ttl, f"at least loop_wait and twice retry_timeout ({loop + 2 * retry})", remedy)
    members, standbys = int(values["postgresql_members"]), int(values["postgresql_synchronous_standbys"])
    if members == 1:
        remedy = "With one member every restart is an outage, and a lost volume loses everything."
        yield wrong(("postgresql_members",), 1, "at least 3 for data that is to survive", remedy, warning=True)
    elif standbys >= members:
        yield wrong(("postgresql_synchronous_standbys",), standbys, f"fewer than postgresql_members ({members})")
    if values["postgresql_durability"] == "strict" and members < 3:
        remedy = "With one standby every restart of it would stop all writes."
        yield wrong(("postgresql_durability",), "strict", "at least 3 members", remedy)
    # The WAL, what a slot may hold back, and a base backup's worth of room.
    limit = quantity(values["postgresql_resources"]["limits"]["memory"])
    if limit < 256 * 2**20:
        yield wrong(
            ("postgresql_resources", "limits", "memory"), humane(int(limit)), "at least 256Mi", "The servers and Patroni need that much."
        )
    if quantity(values["postgresql_storage"]["size"]) < 512 * 2**20:
        yield wrong(("postgresql_storage", "size"), values["postgresql_storage"]["size"], "at least 512Mi", "The WAL alone fills less.")
    for parameter in sorted(set(values["postgresql_parameters"]) & _POSTGRESQL_OWN):
        yield Finding(
            name(("postgresql_parameters", parameter)),
            "a parameter the role sets",
            "other parameters",
            "Use the role's variable, or leave it.",
        )
    users = values["postgresql_users"]
    for variable in ("postgresql_users", "postgresql_databases"):
        for taken in sorted(set(values[variable]) & _POSTGRESQL_BUILT_IN):
            yield Finding(name((variable, taken)), f"the name {taken}", "another name", "PostgreSQL or Patroni has one of that name.")
    if values["postgresql_exporter"] and "monitor" in users:
        yield wrong(("postgresql_users", "monitor"), "monitor", "another name", "The exporter logs in by that name.")
    for user in sorted(users):
        if f"{user}_2" in users:
            remedy = f"{user}_2 is the login that takes turns with {user} when its password changes."
            yield wrong(("postgresql_users", f"{user}_2"), f"{user}_2", "another name", remedy)
    if int(values["postgresql_tls_renew_before"]) >= int(values["postgresql_tls_days"]):
        days = f"less than postgresql_tls_days ({values['postgresql_tls_days']})"
        yield wrong(("postgresql_tls_renew_before",), values["postgresql_tls_renew_before"], days, "Every run would issue a certificate.")
    for database, options in values["postgresql_databases"].items():
        for named in ((options or {}).get("owner"), *((options or {}).get("grants") or {})):
            if named not in users:
                meant = suggestion(str(named), users)
                allowed = f"one of postgresql_users: {', '.join(users)}"
                yield wrong(("postgresql_databases", database), named, allowed, f"Did you mean {meant}?" if meant else "")


def mongodb_rules(values: Values, shared: Values) -> Iterator[Finding]:
    if values["mongodb_engine"] != "mongodb":
        return
    yield from limits_hold(("mongodb_resources",), values["mongodb_resources"])
    yield from pools_exist(("mongodb_pools",), values["mongodb_pools"], shared)
    yield from priority_exists(("mongodb_priority_class",), values["mongodb_priority_class"], shared)
    members = int(values["mongodb_members"])
    voters = members - sum(1 for option in values["mongodb_member_options"] if option.get("votes") == 0)
    if voters % 2 == 0:
        remedy = (
            "One more voter survives no more failures and makes ties; give one votes: 0 in mongodb_member_options, or change the number."
        )
        yield wrong(("mongodb_members",), members, "an odd number of voting members", remedy)
    if members == 1:
        remedy = "With one member every restart is an outage, and a lost volume loses everything."
        yield wrong(("mongodb_members",), 1, "at least 3 for data that is to survive", remedy, warning=True)
    limit = quantity(values["mongodb_resources"]["limits"]["memory"])
    if limit < 512 * 2**20:
        remedy = "The smallest cache is 256Mi, and connections and sorts need as much again."
        yield wrong(("mongodb_resources", "limits", "memory"), humane(int(limit)), "at least 512Mi", remedy)
    if 2 * quantity(values["mongodb_oplog_size"]) > quantity(values["mongodb_storage"]["size"]):
        remedy = "The data and their indexes need the rest."
        yield wrong(
            ("mongodb_oplog_size",),
            values["mongodb_oplog_size"],
            f"at most half of the volume, {values['mongodb_storage']['size']}",
            remedy,
        )
    for path, value in walk((), values["mongodb_config"]):
        if ".".join(path) in _MONGODB_OWN:
            yield wrong(("mongodb_config", *path), value, "other directives", "The role sets this one: use its variable, or leave it.")
    if values["mongodb_exporter"] and "monitor" in values["mongodb_users"]:
        yield wrong(("mongodb_users", "monitor"), "monitor", "another name", "The exporter logs in by that name.")
    if "admin" in values["mongodb_users"]:
        yield Finding(name(("mongodb_users", "admin")), "the name admin", "another name", "The administrator has it.")


# Options of Alertmanager's receivers that are secret; each has a twin that names a file.
_RECEIVER_SECRETS = {
    "api_key": "api_key_file", "api_secret": "api_secret_file", "api_url": "api_url_file", "auth_password": "auth_password_file",
    "bot_token": "bot_token_file", "credentials": "credentials_file", "password": "password_file", "routing_key": "routing_key_file",
    "service_key": "service_key_file", "token": "token_file", "user_key": "user_key_file", "webhook_url": "webhook_url_file",
}  # fmt: skip


def monitoring_rules(values: Values, shared: Values) -> Iterator[Finding]:
    yield from limits_hold(("monitoring_resources",), values["monitoring_resources"])
    yield from limits_hold(("monitoring_small_resources",), values["monitoring_small_resources"])
    yield from limits_hold(("monitoring_grafana_resources",), values["monitoring_grafana_resources"])
    if missing := [
        key
        for key in ("currency", "cpu_hour", "memory_hour", "storage_month")
        if values["monitoring_prices"] and key not in values["monitoring_prices"]
    ]:
        yield wrong(
            ("monitoring_prices",), "some prices", f"{', '.join(missing)} too", "What has no price counts as one of 0: say so, or empty it."
        )
    if values["monitoring_grafana"] and values["monitoring_provider"] == "operator":
        yield wrong(
            ("monitoring_grafana",),
            True,
            "false with an operator's stack",
            "That one has a Grafana, which finds the dashboards by their label.",
        )
    if values["monitoring_grafana"] and not values["monitoring_dashboards"]:
        yield wrong(("monitoring_dashboards",), False, "true where Grafana is", "It would come up empty.")
    yield from pools_exist(("monitoring_pools",), values["monitoring_pools"], shared)
    yield from priority_exists(("monitoring_priority_class",), values["monitoring_priority_class"], shared)
    receivers = [str(receiver.get("name")) for receiver in values["monitoring_receivers"]]
    for receiver, times in Counter(receivers).items():
        if times > 1 or receiver in ("none", "watchdog"):
            yield wrong(("monitoring_receivers",), receiver, "a name of its own", "The role has receivers none and watchdog.")
    wanted = [("monitoring_receiver", values["monitoring_receiver"])]
    wanted += [("monitoring_routes", route["receiver"]) for route in routes_of(values["monitoring_routes"]) if "receiver" in route]
    for variable, receiver in wanted:
        if receiver not in (*receivers, "none"):
            meant = suggestion(str(receiver), receivers)
            allowed = f"one of monitoring_receivers: {', '.join(receivers) or 'there is none'}; or none"
            yield wrong((variable,), receiver, allowed, f"Did you mean {meant}?" if meant else "Add the receiver.")
    given = {"monitoring_receivers": values["monitoring_receivers"], "monitoring_remote_write": values["monitoring_remote_write"]}
    for variable, entries in given.items():
        for path, value in leaves((variable,), entries):
            option = str(path[-1])
            if option in _RECEIVER_SECRETS and value:
                remedy = f"Put it into Secret monitoring_secret and name the file: {_RECEIVER_SECRETS[option]}."
                yield Finding(name((variable, *map(str, path[1:]))), "a secret in the configuration", "a file of monitoring_secret", remedy)
            if option.endswith("_file") and str(value).startswith("/etc/monitoring/secrets/") and not values["monitoring_secret"]:
                yield wrong(("monitoring_secret",), "", f"the Secret with the file {value}", f"{variable} reads it.")
    if int(values["monitoring_replicas"]) == 1 and shared.get("platform_environment") == "production":
        remedy = "While its node is away nobody sees what else is."
        yield wrong(("monitoring_replicas",), 1, "at least 2 in production", remedy, warning=True)


def routes_of(routes: t.Any) -> Iterator[Mapping[str, t.Any]]:
    for route in routes or []:
        yield route
        yield from routes_of(route.get("routes"))


def leaves(path: tuple[t.Any, ...], value: t.Any) -> Iterator[tuple[tuple[t.Any, ...], t.Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from leaves((*path, key), inner)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from leaves((*path, number), inner)
    else:
        yield path, value


# A span in the collector's queue is taken to need this much.
_SPAN_BYTES = 2048


def tracing_rules(values: Values, shared: Values) -> Iterator[Finding]:
    yield from limits_hold(("tracing_resources",), values["tracing_resources"])
    yield from limits_hold(("tracing_collector_resources",), values["tracing_collector_resources"])
    yield from pools_exist(("tracing_pools",), values["tracing_pools"], shared)
    yield from priority_exists(("tracing_priority_class",), values["tracing_priority_class"], shared)
    storage, servers = values["tracing_storage"], values["tracing_servers"]
    web = storage in ("elasticsearch", "opensearch")
    wanted = "https://host:9200" if web else "host:9042"
    if storage in ("memory", "badger"):
        if int(values["tracing_replicas"]) > 1:
            remedy = f"Each would have a part of the traces; several want elasticsearch, opensearch or cassandra in place of {storage}."
            yield wrong(("tracing_replicas",), values["tracing_replicas"], "1", remedy)
        for option in ("tracing_servers", "tracing_secret"):
            if values[option]:
                remedy = "Empty it, or say in tracing_storage what it is for."
                yield wrong((option,), values[option], f"nothing, for {storage} is Jaeger's own", remedy)
    elif not servers:
        yield wrong(
            ("tracing_servers",), servers, f"the addresses of the {storage} ({wanted})", "Jaeger would have nowhere to keep a trace."
        )
    else:
        form = r"https?://[^\s/:@]+(:\d{1,5})?(/\S*)?" if web else r"[A-Za-z0-9][-A-Za-z0-9.]*:\d{1,5}"
        for place, server in enumerate(servers):
            if not re.fullmatch(form, str(server)):
                remedy = "User and password belong into Secret tracing_secret." if "@" in str(server) else ""
                seen = re.sub(r"//[^@]*@", "//***@", str(server))
                yield wrong(("tracing_servers", str(place)), seen, wanted, remedy)
    if values["tracing_transaction"] and not values["tracing_transaction"].get("service"):
        yield wrong(("tracing_transaction", "service"), None, "the Service that takes the transaction, or no tracing_transaction at all")
    limit = (values["tracing_collector_resources"].get("limits") or {}).get("memory")
    room = int(quantity(limit) * 2 / 5 / _SPAN_BYTES) if limit is not None else None
    if room is not None and int(values["tracing_queue"]) > room:
        remedy = (
            f"Its queue may fill two fifths of its memory, {_SPAN_BYTES} bytes a span. Or raise tracing_collector_resources.limits.memory."
        )
        yield wrong(("tracing_queue",), values["tracing_queue"], f"at most {room} where a collector may use {limit}", remedy)
    if storage == "memory" and shared.get("platform_environment") == "production":
        yield wrong(
            ("tracing_storage",), storage, "one that outlives its pod in production", "Every rollout forgets all traces.", warning=True
        )


def autoscaling_rules(values: Values, shared: Values) -> Iterator[Finding]:
    yield from limits_hold(("autoscaling_resources",), values["autoscaling_resources"])
    yield from pools_exist(("autoscaling_pools",), values["autoscaling_pools"], shared)
    yield from priority_exists(("autoscaling_priority_class",), values["autoscaling_priority_class"], shared)
    if int(values["autoscaling_tls_renew_before"]) >= int(values["autoscaling_tls_days"]):
        allowed = f"less than autoscaling_tls_days ({values['autoscaling_tls_days']})"
        yield wrong(("autoscaling_tls_renew_before",), values["autoscaling_tls_renew_before"], allowed)
    if int(values["autoscaling_relist"]["age"]) < int(values["autoscaling_relist"]["interval"]):
        yield wrong(("autoscaling_relist", "age"), values["autoscaling_relist"]["age"], "not less than autoscaling_relist.interval")
    for workload, spec in values["autoscaling_vertical"].items():
        path = ("autoscaling_vertical", workload)
        for resource in _vertical_resources(spec) if spec else []:
            low, high = (quantity((spec[bound] or {}).get(resource) or 0) for bound in ("min", "max"))
            if not low or not high:
                yield wrong((*path, "min" if not low else "max", resource), None, f"the {'smallest' if not low else 'largest'} request")
            elif low > high:
                yield wrong((*path, "max", resource), spec["max"][resource], f"at least min.{resource} ({spec['min'][resource]})")
    groups = {group: spec for group, spec in values["autoscaling_node_groups"].items() if spec}
    for group, spec in groups.items():
        path = ("autoscaling_node_groups", group)
        if int(spec["max"]) < int(spec["min"]):
            yield wrong((*path, "max"), spec["max"], f"at least min ({spec['min']})")
        if spec.get("pool"):
            yield from pools_exist((*path, "pool"), [spec["pool"]], shared)
    if values["autoscaling_nodes"] != "none" and not any(spec.get("group") for spec in groups.values()):
        yield wrong(("autoscaling_node_groups",), "no group with a name at the provider", "at least one")

    if values["autoscaling_descheduler"]:
        yield from descheduler_rules(values, shared)


# Plugins of the descheduler 0.36 and their arguments, but for those that want further rights (metricsUtilization) or say again what stands once
# (namespaces).
STRATEGIES = {
    "HighNodeUtilization": ("thresholds", "numberOfNodes", "evictionModes", "evictableNamespaces"),
    "LowNodeUtilization": (
        "useDeviationThresholds",
        "thresholds",
        "targetThresholds",
        "numberOfNodes",
        "evictableNamespaces",
        "evictionLimits",
    ),
    "PodLifeTime": (
        "labelSelector",
        "ownerKinds",
        "maxPodLifeTimeSeconds",
        "states",
        "conditions",
        "exitCodes",
        "includingInitContainers",
        "includingEphemeralContainers",
    ),
    "RemoveDuplicates": ("excludeOwnerKinds",),
    "RemoveFailedPods": ("labelSelector", "excludeOwnerKinds", "minPodLifetimeSeconds", "reasons", "exitCodes", "includingInitContainers"),
    "RemovePodsHavingTooManyRestarts": ("labelSelector", "podRestartThreshold", "includingInitContainers", "states"),
    "RemovePodsViolatingInterPodAntiAffinity": ("labelSelector",),
    "RemovePodsViolatingNodeAffinity": ("labelSelector", "nodeAffinityType"),
    "RemovePodsViolatingNodeTaints": ("labelSelector", "includePreferNoSchedule", "excludedTaints", "includedTaints"),
    "RemovePodsViolatingTopologySpreadConstraint": ("labelSelector", "constraints", "topologyBalanceNodeFit"),
}


def descheduler_rules(values: Values, shared: Values) -> Iterator[Finding]:
    """What the descheduler would end at in its first second, or take without a word and do something else."""
    yield from limits_hold(("autoscaling_descheduler_resources",), values["autoscaling_descheduler_resources"])
    yield from priority_exists(
        ("autoscaling_descheduler_spares", "priority"), values["autoscaling_descheduler_spares"].get("priority"), shared
    )
    variable = ("autoscaling_descheduler_namespaces",)
    for namespace in values[variable[0]]:
        if str(namespace).startswith("kube-"):
            yield wrong(variable, namespace, "namespaces of the platform's own", "The cluster's own parts are not its to move.")
    if not values[variable[0]]:
        yield wrong(variable, None, "at least one", "Or switch autoscaling_descheduler off.")
    limits = values["autoscaling_descheduler_limits"]
    for part in ("node", "namespace"):
        if int(limits[part]) > int(limits["total"]):
            yield wrong(("autoscaling_descheduler_limits", part), limits[part], f"at most total ({limits['total']})")
    strategies = {strategy: spec for strategy, spec in values["autoscaling_descheduler_strategies"].items() if spec is not None}
    if not strategies:
        yield wrong(("autoscaling_descheduler_strategies",), None, "at least one", "Or switch autoscaling_descheduler off.")
    for strategy, arguments in strategies.items():
        path = ("autoscaling_descheduler_strategies", strategy)
        if strategy not in STRATEGIES:
            meant = suggestion(strategy, STRATEGIES)
            allowed = f"one of {', '.join(STRATEGIES)}"
            yield Finding(name(path), "a strategy that does not exist", allowed, f"Did you mean {meant}?" if meant else "Remove it.")
            continue
        for argument in sorted(set(arguments) - set(STRATEGIES[strategy])):
            meant = suggestion(argument, STRATEGIES[strategy])
            remedy = (
                f"Did you mean {meant}?"
                if meant
                else "Whose pods are looked at stands in autoscaling_descheduler_namespaces, for all of them."
            )
            allowed = ", ".join(STRATEGIES[strategy])
            yield Finding(name((*path, argument)), "an argument that it does not have here", allowed, remedy)
        if strategy.endswith("NodeUtilization"):
            yield from _thresholds(path, arguments)
    if {"LowNodeUtilization", "HighNodeUtilization"} <= set(strategies):
        remedy = "One empties nodes that the other fills."
        yield wrong(("autoscaling_descheduler_strategies",), "LowNodeUtilization and HighNodeUtilization", "one of them", remedy)


def _thresholds(path: Path, arguments: Values) -> Iterator[Finding]:
    """Percent of what a node has, by resource: below the first it is empty, above the second it is full."""
    both = ("thresholds", "targetThresholds") if path[-1] == "LowNodeUtilization" else ("thresholds",)
    given = {bound: arguments.get(bound) for bound in both}
    bad = [bound for bound, spec in given.items() if not isinstance(spec, Mapping) or not spec]
    for bound in bad:
        yield wrong((*path, bound), given[bound], "percent by resource, such as {cpu: 20, memory: 20, pods: 20}")
    if bad:
        return
    for bound, spec in given.items():
        for resource, percent in t.cast("Values", spec).items():
            if between(0, 100)(percent):
                yield wrong((*path, bound, resource), percent, "0 to 100 percent")
                return
    if len(both) == 1:
        return
    low, high = (t.cast("Values", given[bound]) for bound in both)
    if set(low) != set(high):
        yield wrong((*path, "targetThresholds"), ", ".join(high), f"the resources of thresholds ({', '.join(low)})")
    elif not arguments.get("useDeviationThresholds"):
        for resource in low:
            if int(low[resource]) >= int(high[resource]):
                remedy = "A node would be empty and full at once, and pods would go to and fro."
                yield wrong((*path, "targetThresholds", resource), high[resource], f"above thresholds.{resource} ({low[resource]})", remedy)


def _vertical_resources(spec: Values) -> list[str]:
    return list(spec.get("resources") or ("cpu", "memory"))


def agents_rules(values: Values, shared: Values) -> Iterator[Finding]:
    agents = [agent for agent, spec in values["agents_services"].items() if spec is not None]
    if agents and values["agents_coordinator"] not in agents:
        yield wrong(("agents_coordinator",), values["agents_coordinator"], f"one of agents_services: {', '.join(agents)}")


ROLE_RULES: dict[str, Callable[[Values, Values], Iterator[Finding]]] = {
    "catalog": catalog_rules,
    "baseline": baseline_rules,
    "redis_cluster": redis_cluster_rules,
    "mongodb": mongodb_rules,
    "monitoring": monitoring_rules,
    "tracing": tracing_rules,
    "postgresql": postgresql_rules,
    "agents": agents_rules,
    "autoscaling": autoscaling_rules,
    "istio": mesh.istio_rules,
    "gateway": lambda values, shared: chain(mesh.gateway_rules(values, shared), mesh.router_rules(values, shared)),
}


# ---- between roles ----------------------------------------------------------------------------------------------------------------


def one_owner(roles: Sequence[Role]) -> Iterator[Finding]:
    """No two services share an object's name, or the label that selects pods: with two budgets for one pod no eviction works."""
    taken: dict[tuple[str, str], str] = {
        (kind, "redis-cluster"): "role redis_cluster" for kind in ("app", "service", "account", "budget", "config")
    }
    if not any(role.name == "redis_cluster" for role in roles):
        taken = {}
    for role in roles:
        for service, spec in role.services.items():
            variable = name((f"{role.name}_services", service))
            for kind, text in {"app": service, **spec["names"]}.items():
                if kind == "container":
                    continue
                owner = taken.setdefault((kind, text), variable)
                if owner == variable:
                    continue
                if kind == "app":
                    allowed = f"a name that {owner} does not have"
                    yield Finding(
                        variable,
                        f"the name {text}",
                        allowed,
                        "Rename it: two disruption budgets would select the same pods, and none could be evicted.",
                    )
                else:
                    yield Finding(f"{variable}.names.{kind}", text, f"a name that {owner} does not have", f"Set {variable}.names.{kind}.")


def distribution_rules(roles: Sequence[Role], shared: Values) -> Iterator[Finding]:
    """What OpenShift brings itself, and what its SCC restricted-v2 would refuse anyway."""
    if shared.get("platform_distribution") != "openshift":
        return
    by_name = {role.name: role.values for role in roles}
    if "istio" in by_name:
        remedy = "Its CNI plugin and proxies need rights that OpenShift gives to its own Service Mesh operator only."
        yield wrong(("platform_components",), "istio", "components without istio on OpenShift", remedy)
    if by_name.get("gateway", {}).get("gateway_provider", "route") != "route":
        yield wrong(("gateway_provider",), by_name["gateway"]["gateway_provider"], "route on OpenShift")
    monitoring = by_name.get("monitoring")
    if monitoring and monitoring["monitoring_provider"] != "operator":
        remedy = "OpenShift has a monitoring stack: enable user workload monitoring, and let the role send what it reads."
        yield wrong(("monitoring_provider",), monitoring["monitoring_provider"], "operator on OpenShift", remedy)
    if monitoring and monitoring["monitoring_namespace"] != shared["platform_namespace"]:
        remedy = "User workload monitoring evaluates rules in the namespace they are about."
        yield wrong(
            ("monitoring_namespace",),
            monitoring["monitoring_namespace"],
            f"{shared['platform_namespace']}, the platform's, on OpenShift",
            remedy,
        )


def callees_exist(roles: Sequence[Role], shared: Values) -> Iterator[Finding]:
    """What the application calls by a bare Service name is one of the agents' Services."""
    by_name = {role.name: role for role in roles}
    if "app" not in by_name or "agents" not in by_name:
        return
    offered = {spec["names"]["service"] for spec in by_name["agents"].services.values()}
    for agent, address in by_name["app"].values["app_agents"].items():
        host = urlsplit(str(address)).hostname or ""
        if address is not None and "." not in host and host not in offered:
            meant = suggestion(host, offered)
            remedy = f"Did you mean {meant}?" if meant else "Add the agent, or remove it here."
            yield wrong(("app_agents", agent), address, f"one of the Services {', '.join(sorted(offered))}", remedy)


def routes_lead_somewhere(roles: Sequence[Role], shared: Values) -> Iterator[Finding]:
    """What the gateway routes to is one of the services of the application and the agents, where both are there."""
    by_name = {role.name: role for role in roles}
    if {"gateway", "app", "agents"} <= set(by_name):
        offered = [spec["names"]["service"] for name in ("app", "agents") for spec in by_name[name].services.values()]
        yield from mesh.routes_lead_somewhere(by_name["gateway"].values["gateway_routes"], offered)
    if "gateway" in by_name:
        values = {name: role.values for name, role in by_name.items()}
        yield from mesh.uis_lead_somewhere(values["gateway"]["gateway_uis"], shared["platform_components"], values)


def quota_holds(roles: Sequence[Role], shared: Values) -> Iterator[Finding]:
    """What all pods ask for, scaled up as far as they may, fits the namespace's quota."""
    quota = shared.get("baseline_quota") or {}
    total: dict[str, t.Any] = Counter()
    for pod in (pod for role in roles for pod in pods_of(role)):
        total["pods"] += pod["most"]
        for side in ("requests", "limits"):
            for resource, wanted in (pod[side] or {}).items():
                if wanted is not None:
                    total[f"{side}.{resource}"] += quantity(wanted) * pod["most"]
    for claim in (claim for role in roles for claim in role.needs.get("claims") or []):
        total["persistentvolumeclaims"] += int(claim["count"])
        total["requests.storage"] += quantity(claim["size"]) * int(claim["count"])
    for resource, limit in quota.items():
        if limit is not None and total.get(resource, 0) > quantity(limit):
            wanted = humane(total[resource], "cpu" if resource.endswith(("cpu", "pods", "claims")) else "memory")
            remedy = "Raise it, or lower what the components may grow to: as it is, pods would be refused when they are needed most."
            yield wrong(("baseline_quota", resource), limit, f"at least {wanted}, what all components together may come to", remedy)


def one_hand_on_a_size(roles: Sequence[Role], shared: Values) -> Iterator[Finding]:
    """No resource of a workload is what its horizontal autoscaler counts by and what a vertical one changes: each would answer the other's doing."""
    by_name = {role.name: role for role in roles}
    vertical = by_name["autoscaling"].values["autoscaling_vertical"] if "autoscaling" in by_name else {}
    for role in roles:
        for service, spec in role.services.items():
            wanted = vertical.get(spec["names"]["deployment"])
            if not wanted or not spec["scaling"] or wanted.get("kind", "Deployment") != "Deployment":
                continue
            for resource in _vertical_resources(wanted):
                if spec["scaling"].get(resource):
                    variable = name((f"{role.name}_services", service))
                    yield Finding(
                        name(("autoscaling_vertical", spec["names"]["deployment"], "resources")),
                        resource,
                        f"a resource that {variable}.scaling does not count by",
                        f"Take it out, or set {variable}.scaling.{resource} to null.",
                    )


def requests_are_served(roles: Sequence[Role], shared: Values) -> Iterator[Finding]:
    """What services count requests by is a metric that is served, of this service alone."""
    provider = shared.get("platform_metrics_provider")
    by_name = {role.name: role for role in roles}
    served = by_name["autoscaling"].values["autoscaling_metrics"] if "autoscaling" in by_name else None
    for role in roles:
        for service, spec in role.services.items():
            scaling = spec["scaling"] or {}
            path = (f"{role.name}_services", service, "scaling")
            if not int(scaling.get("requests_per_second") or 0):
                continue
            if provider in (None, "none"):
                if not scaling.get("cpu") and not scaling.get("memory"):
                    allowed = "cpu or memory beside it, or a platform_metrics_provider"
                    yield wrong(path, "requests_per_second alone, which nothing serves", allowed, f"Set one, or {name(path)} to null.")
                continue
            if not any((scaling.get("selector") or {}).values()):
                yield wrong(
                    (*path, "selector"), "no label", "at least one label", "Without one the requests of all services count as this one's."
                )
            if provider == "prometheus_adapter" and served is not None and scaling["metric"] not in served:
                meant = suggestion(str(scaling["metric"]), served)
                remedy = f"Did you mean {meant}?" if meant else "Add it there."
                yield wrong((*path, "metric"), scaling["metric"], f"one of autoscaling_metrics: {', '.join(served)}", remedy)


def pods_of(role: Role) -> Iterator[dict[str, t.Any]]:
    """Every kind of pod of a role: how many at least and at most, what they ask for, and where they may run."""
    for pod in role.needs.get("pods") or []:
        yield {**pod, "least": int(pod["count"]), "most": int(pod["count"])}
    for service, spec in role.services.items():
        yield {
            "variable": name((f"{role.name}_services", service)),
            "name": service,
            "least": _least(spec),
            "most": int(spec["scaling"]["max"] if spec["scaling"] else spec["replicas"]),
            "requests": dict(spec["resources"]["requests"]),
            "limits": dict(spec["resources"]["limits"]),
            "pools": list(spec["pools"]),
        }
