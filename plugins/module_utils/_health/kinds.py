# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kinds of checks, their options, and how a check in a file becomes a Check (private: may change without notice)."""

from __future__ import annotations

import typing as t
from collections.abc import Iterable, Mapping

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.progressive.platform.plugins.module_utils._health import (
    autoscalers,
    backups,
    edge,
    foundation,
    mesh,
    mongodb,
    postgresql,
    prometheus,
    redis,
    services,
    tracing,
    workloads,
)
from ansible_collections.progressive.platform.plugins.module_utils._health.model import Check
from ansible_collections.progressive.platform.plugins.module_utils._health.scene import Looker
from ansible_collections.progressive.platform.plugins.module_utils._members import credentials
from ansible_collections.progressive.platform.plugins.module_utils._monitoring.model import PANEL
from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

Spec = dict[str, t.Any]


class Kind(t.NamedTuple):
    """A function that looks, and the options it takes, as an Ansible argument specification."""

    look: Looker
    options: Spec


NAMESPACE: Spec = {"namespace": {"type": "str", "required": True}}
SERVICE: Spec = {
    **NAMESPACE,
    "service": {"type": "str", "required": True},
    "port": {"type": "str"},
    "minimum": {"type": "int", "default": 1},
}

KINDS: dict[str, Kind] = {
    "api": Kind(foundation.api, {"minimum": {"type": "str", "default": "1.31"}}),
    "nodes": Kind(foundation.nodes, {"minimum": {"type": "int", "default": 1}, "zones": {"type": "int", "default": 0}}),
    "volumes": Kind(
        foundation.volumes,
        {**NAMESPACE, "selector": {"type": "dict", "default": {}}, "minimum": {"type": "int", "default": 1}},
    ),
    "budgets": Kind(foundation.budgets, {**NAMESPACE, "selector": {"type": "dict", "default": {}}}),
    "certificates": Kind(
        foundation.certificates,
        {"namespaces": {"type": "list", "elements": "str", "default": []}, "minimum_days": {"type": "float", "default": 14.0}},
    ),
    "workloads": Kind(
        workloads.workloads,
        {
            **NAMESPACE,
            "workloads": {"type": "list", "elements": "str", "required": True},
            "services": {"type": "list", "elements": "str", "default": []},
            "restarts": {"type": "int", "default": 3},
            "restart_window": {"type": "float", "default": 600.0},
        },
    ),
    "http": Kind(
        services.http,
        {
            **SERVICE,
            "path": {"type": "str", "default": "/health"},
            "method": {"type": "str", "default": "GET", "choices": ["GET", "HEAD"]},
            "status": {"type": "list", "elements": "int", "default": [200]},
            "json": {"type": "dict", "default": {}},
        },
    ),
    "grpc": Kind(services.grpc, {**SERVICE, "names": {"type": "list", "elements": "str", "default": [""]}}),
    "metrics": Kind(
        services.metrics,
        {**SERVICE, "path": {"type": "str", "default": "/metrics"}, "names": {"type": "list", "elements": "str", "default": []}},
    ),
    "transaction": Kind(
        services.transaction,
        {
            **{name: spec for name, spec in SERVICE.items() if name != "minimum"},
            "path": {"type": "str", "default": "/api/v1/transaction"},
            "body": {"type": "dict", "default": {}},
            "steps": {"type": "list", "elements": "str", "default": []},
        },
    ),
    "trace": Kind(
        tracing.trace,
        {
            **{name: spec for name, spec in SERVICE.items() if name != "minimum"},
            "path": {"type": "str", "default": "/api/v1/transaction"},
            "body": {"type": "dict", "default": {}},
            "jaeger_namespace": {"type": "str", "required": True},
            "jaeger_service": {"type": "str", "required": True},
            "jaeger_port": {"type": "str", "default": "query"},
            "collector": {"type": "str", "default": ""},
            "patience": {"type": "float", "default": 15.0},
        },
    ),
    "autoscalers": Kind(
        autoscalers.autoscalers,
        {
            **NAMESPACE,
            "owner": {"type": "str", "default": ""},
            "api": {"type": "str", "default": "v1beta1.external.metrics.k8s.io"},
            "keda": {"type": "bool", "default": False},
        },
    ),
    "recommendations": Kind(autoscalers.recommendations, {**NAMESPACE, "names": {"type": "list", "elements": "str", "required": True}}),
    "backups": Kind(
        backups.backups,
        {
            **NAMESPACE,
            "record": {"type": "str", "required": True},
            "since": {"type": "str", "default": ""},
            "maximum_age": {"type": "float", "default": 26.0},
            "drill_maximum_age": {"type": "float", "default": 0.0},
        },
    ),
    "edge": Kind(
        edge.edge,
        {
            **{name: spec for name, spec in SERVICE.items() if name != "port"},
            "host": {"type": "str", "required": True},
            "paths": {"type": "list", "elements": "str", "default": ["/"]},
            "open": {"type": "list", "elements": "str", "default": []},
            "limits": {"type": "dict", "default": {}},
            "guarded": {"type": "list", "elements": "str", "default": []},
            "authority": {"type": "str", "default": ""},
        },
    ),
    "mesh": Kind(
        mesh.mesh,
        {
            **NAMESPACE,
            "namespaces": {"type": "list", "elements": "str", "required": True},
            "service": {"type": "str", "required": True},
            "revision": {"type": "str", "required": True},
            "tag": {"type": "str", "default": ""},
            "certificate_hours": {"type": "float", "default": 6.0},
            "mtls": {"type": "str", "default": "STRICT", "choices": ["STRICT", "PERMISSIVE"]},
            "mode": {"type": "str", "default": "sidecar", "choices": ["sidecar", "ambient"]},
            "waypoint": {"type": "str", "default": "waypoint"},
        },
    ),
    "mongodb": Kind(
        mongodb.mongodb,
        {
            **NAMESPACE,
            "selector": {"type": "str", "required": True},
            "domain": {"type": "str", "required": True},
            "port": {"type": "int", "default": 27017},
            "replica_set": {"type": "str", "default": "rs0"},
            "members": {"type": "int", "default": 3},
            "lag": {"type": "float", "default": 10.0},
            "oplog_hours": {"type": "float", "default": 0.0},
            "username": {"type": "str", "default": "admin"},
            **{option: credentials.OPTIONS[option] for option in ("password_secret", "tls")},
            "write": {"type": "bool", "default": True},
        },
    ),
    "postgresql": Kind(
        postgresql.postgresql,
        {
            **NAMESPACE,
            "selector": {"type": "str", "required": True},
            "port": {"type": "int", "default": 5432},
            "rest_port": {"type": "int", "default": 8008},
            "service": {"type": "str", "default": ""},
            "members": {"type": "int", "default": 3},
            "synchronous": {"type": "bool", "default": False},
            "lag": {"type": "int", "default": 16777216},
            "delay": {"type": "float", "default": 30.0},
            "archive": {"type": "str", "default": ""},
            "secrets": {"type": "list", "elements": "str", "default": []},
            "rotation_within": {"type": "float", "default": 900.0},
            "password_secret": {
                "type": "dict",
                "options": {"namespace": {"type": "str"}, "name": {"type": "str", "required": True}},
                "no_log": False,
            },
            "write": {"type": "bool", "default": True},
        },
    ),
    "prometheus": Kind(
        prometheus.prometheus,
        {
            **SERVICE,
            "delay": {"type": "float", "default": 60.0},
            "severities": {"type": "list", "elements": "str", "default": ["critical"]},
            "notifies": {"type": "bool", "default": True},
            "panels": {"type": "list", "elements": "dict", "default": [], "options": PANEL},
        },
    ),
    "redis": Kind(
        redis.redis,
        {
            **NAMESPACE,
            "selector": {"type": "str", "required": True},
            "title": {"type": "str", "default": ""},
            "port": {"type": "int", "default": 6379},
            "masters": {"type": "int", "default": 3},
            "replicas_per_master": {"type": "int", "default": 1},
            **{option: credentials.OPTIONS[option] for option in ("username", "password_secret", "tls")},
            "certificate_days": {"type": "int", "default": 14},
            "write": {"type": "bool", "default": True},
        },
    ),
}

COMMON: Spec = {
    "name": {"type": "str", "required": True},
    "kind": {"type": "str", "required": True, "choices": sorted(KINDS)},
    "component": {"type": "str", "default": ""},
    "wait": {"type": "float"},
}


def parse(entries: Iterable[t.Any]) -> list[Check]:
    """The checks, their options complete. Raises PlatformError with everything that is wrong in all of them."""
    checks: list[Check] = []
    problems: list[str] = []
    for index, entry in enumerate(entries, 1):
        if not isinstance(entry, Mapping):
            problems.append(f"check {index} is {type(entry).__name__}, not a mapping with name and kind")
            continue
        label = f"check {entry.get('name') or index}"
        kind = KINDS.get(str(entry.get("kind")))
        outcome = ArgumentSpecValidator({**(kind.options if kind else {}), **COMMON}).validate(dict(entry))
        if outcome.error_messages:
            # With an unknown kind every option is unknown too: only the kind is named then.
            said = outcome.error_messages if kind else [f"kind is {entry.get('kind')!r}; it must be one of {', '.join(sorted(KINDS))}"]
            problems += [f"{label}: {message}" for message in said]
            continue
        options = dict(outcome.validated_parameters)
        name, of_kind, component, wait = (options.pop(key) for key in ("name", "kind", "component", "wait"))
        problems += [f"{label}: {problem}" for problem in _nonsense(of_kind, options)]
        checks.append(Check(name, of_kind, options, component, wait))
    names = [check.name for check in checks]
    problems += [f"{names.count(name)} checks have the name {name}" for name in sorted({name for name in names if names.count(name) > 1})]
    if problems:
        raise PlatformError("The checks are not valid, nothing was looked at: " + "; ".join(problems) + ".", problems=problems)
    return checks


def _nonsense(kind: str, options: Mapping[str, t.Any]) -> list[str]:
    """What types cannot say."""
    if kind == "workloads":
        known = ", ".join(workloads.KINDS)
        return [
            f"workloads has {reference!r}; it must be Kind/name with a kind of {known}"
            for reference in options["workloads"]
            if reference.partition("/")[0] not in workloads.KINDS or not reference.partition("/")[2]
        ]
    return []
