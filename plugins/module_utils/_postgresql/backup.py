# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module postgresql_backup: a backup that the archive of WAL leads on from (private: may change without notice)."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.progressive.platform.plugins.module_utils._backup import storage
from ansible_collections.progressive.platform.plugins.module_utils._backup.catalog import parse_time, stamp
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import Client
from ansible_collections.progressive.platform.plugins.module_utils._members.store import Files, Objects, Store
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.converge import CONSTRAINTS as MEMBER_CONSTRAINTS
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.converge import MEMBERS, opened, secret_of
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.marker import write
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.members import Cluster
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.model import Member, Observation
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.programs import Programs
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.providers import Address, Provider, Taken, provider_of
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.wire import Lost, SqlError
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, Context, Params, PlatformError, Result

COMPONENT = "postgresql"
NEXT = "heal it first: playbooks/site.yml --tags postgresql, or module postgresql_cluster"

REPOSITORY: dict[str, t.Any] = {
    **MEMBERS,
    "name": {"type": "str", "default": "postgres"},
    "provider": {"type": "str", "choices": ["pgbackrest", "basebackup"], "default": "pgbackrest"},
    "backup_name": {"type": "str", "default": "main"},
    "config": {"type": "path", "default": "/etc/pgbackrest/pgbackrest.conf"},
    "storage": {**storage.ARGUMENTS["storage"], "required": False},
    "binaries": {"type": "path"},
    "user": {"type": "str", "default": "postgres"},
    "timeout": {"type": "float", "default": 3600.0},
}
ARGUMENTS: dict[str, t.Any] = {
    **REPOSITORY,
    "kind": {"type": "str", "choices": ["full", "diff", "incr"], "default": "full"},
    "keep": {"type": "int", "default": 0},
    "follows": {"type": "str"},
    "replication_password": {"type": "str", "no_log": True},
}
CONSTRAINTS: dict[str, t.Any] = MEMBER_CONSTRAINTS


def run(params: Params, context: Context) -> Result:
    """The module postgresql_backup."""
    if params["keep"] < 0 or params["timeout"] <= 0:
        raise PlatformError("keep must not be negative, and timeout must be more than 0.")
    provider = provider_of(params, Programs(params.get("binaries") or "", params["user"]))
    if params["kind"] not in provider.kinds:
        raise PlatformError(f"kind is {params['kind']}; provider {params['provider']} takes {', '.join(provider.kinds)}.")
    with opened(params, context) as (cluster, client):
        primary = primary_of(cluster.observe())
        known = provider.system()
        follows = bool(known) and known == params.get("follows") != primary.system
        if known and known != primary.system and not follows:
            raise PlatformError(
                f"{provider} holds the backups of another cluster (system identifier {known}, this one has {primary.system}). "
                "Give this cluster a backup_name of its own; a restored one goes on under a new name."
            )
        if context.check:
            return {
                "changed": True,
                "plan": [f"a {params['kind']} backup of {primary.target.name} goes to {provider}"],
                "backups": rows(provider),
            }
        if follows:
            provider.follow()
        elif not known or params["provider"] == "basebackup":
            provider.prepare()
        began = context.clock.now()
        _mark(cluster, primary)
        secret = secret_of(params, client, "password_secret")
        password = secret.get("replication") or params.get("replication_password") or ""
        source = Address(primary.target.host, primary.target.sql_port, "replicator", password)
        context.progress.report(COMPONENT, f"backup: {params['kind']} to {provider}")
        taken = provider.take(params["kind"], source, primary.system, params["keep"], params["timeout"])
        summary = summary_of(taken, context.clock.now() - began)
        store_of(params, client, context.clock).keep("backup", {**summary, "storage": str(provider)})
        left = rows(provider)
    context.progress.report(COMPONENT, f"backup {taken.id} is complete", done=True)
    return {"changed": True, "backup": summary, "backups": left}


def summary_of(taken: Taken, seconds: float) -> dict[str, t.Any]:
    """What a task returns and the health report reads. From ``recovery_point`` on, the archive leads to every later moment."""
    return {
        "id": taken.id,
        "kind": taken.kind,
        "recovery_point": taken.finished,
        "system": taken.system,
        "bytes": taken.size,
        "stored_bytes": taken.stored,
        "seconds": round(seconds, 3),
        "megabytes_per_second": round(taken.size / 1e6 / max(seconds, 0.001), 1),
    }


def rows(provider: Provider) -> list[dict[str, t.Any]]:
    return [
        {"id": one.id, "kind": one.kind, "finished": one.finished, "bytes": one.size, "stored_bytes": one.stored}
        for one in provider.backups()
    ]


def primary_of(seen: Observation) -> Member:
    """Whom to back up, and to compare a restored server with."""
    primary = seen.primary
    if primary is None:
        silent = "; ".join(f"{member.target.name}: {member.problem or member.state}" for member in seen.members) or "there are none"
        raise PlatformError(f"No member is the one primary ({silent}); {NEXT}.")
    return primary


def store_of(params: Params, client: Client | None, clock: Clock) -> Store:
    pods = params.get("pods")
    if pods and client is not None:
        return Objects(client, pods["namespace"], params["name"], clock)
    return Files("postgresql", params.get("addresses") or (), clock)


def age_of(text: str) -> float:
    """Seconds since."""
    return (datetime.datetime.now(datetime.UTC) - parse_time(text)).total_seconds()


def now() -> str:
    return stamp(datetime.datetime.now(datetime.UTC))


def _mark(cluster: Cluster, primary: Member) -> None:
    """Makes the table whose rows a drill looks for."""
    try:
        cluster.query(primary, write("backup"))
    except (SqlError, Lost, OSError) as error:
        raise PlatformError(f"Primary {primary.target.name} does not take a row ({error}); {NEXT}.") from error
