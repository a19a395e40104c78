# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of PostgreSQL under Patroni: one primary, streaming, lag, slots, archive, a row written and read back (private: may change without notice)."""

from __future__ import annotations

import datetime
import secrets
import time
from collections.abc import Sequence

from ansible_collections.progressive.platform.plugins.module_utils._backup.catalog import parse_time
from ansible_collections.progressive.platform.plugins.module_utils._health.model import Finding, Options, age, plural, verdict
from ansible_collections.progressive.platform.plugins.module_utils._health.scene import Scene
from ansible_collections.progressive.platform.plugins.module_utils._kube.client import ApiError, Client, quote
from ansible_collections.progressive.platform.plugins.module_utils._members.credentials import NEXT
from ansible_collections.progressive.platform.plugins.module_utils._postgresql import report
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.converge import secret_of
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.members import Cluster, Pods, access_of
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.model import Desired, Member, Observation
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.plan import Picture
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.wire import Lost, SqlError, literal

READ_WITHIN = 5.0  # seconds a replica has to show a row that its primary has acknowledged
WRITE_WITHIN = 8.0  # seconds for the primary to acknowledge it; with strict commits and no standby it never would
WRITE = """
set client_min_messages = warning;
create schema if not exists progressive_platform;
create table if not exists progressive_platform.marker (name text primary key, word text not null, at timestamptz not null default now());
insert into progressive_platform.marker values ('health', {word}) on conflict (name) do update set word = excluded.word, at = now()"""
READ = "select word from progressive_platform.marker where name = 'health'"
SILENT = 30.0  # seconds without a word from the API server that are worth telling
STALE_SLOT = 16 * 1024 * 1024  # bytes that a slot nobody reads from may hold back before it is worth telling


def postgresql(options: Options, scene: Scene, until: float) -> Finding:
    """One primary that all agree on, replicas that stream and are not behind, and a row written to the primary is read from each of them."""
    wanted = int(options["members"])
    expected = f"one primary, {plural(wanted - 1, 'replica')} streaming"
    client = scene.cluster.client
    secret = secret_of({**options, "pods": {"namespace": options["namespace"]}}, client, "password_secret")
    source = Pods(client, options["namespace"], options["selector"], options["rest_port"], options["port"])
    with Cluster(source, access_of(secret), scene.clock, time.time) as cluster:
        seen = cluster.observe()
        if not seen.members:
            problem = f"no pod has the labels {options['selector']} in namespace {options['namespace']}: the StatefulSet is gone or empty"
            return verdict(expected, "no pod", [problem])
        problems = problems_of(seen, options)
        problems += half_done(client, options, datetime.datetime.now(datetime.UTC))
        if options["service"]:
            slices = scene.cluster.slices(options["namespace"], options["service"])
            problems += misled(
                seen, options["service"], {address for endpoint, _ports in slices for address in endpoint.get("addresses") or []}
            )
        read = 0
        if options["write"] and not scene.check_mode and seen.primary:
            read, unread = probe(cluster, seen.primary, seen, scene)
            problems += unread
    picture = Picture(seen, Desired(members=wanted))
    streaming = sum(member.streaming for member in seen.members)
    primary = seen.primary.target.name if seen.primary else "nobody"
    wrote = "no row written in check mode" if scene.check_mode and options["write"] else f"a row read back from {plural(read, 'replica')}"
    observed = f"{len(seen.live)} of {plural(wanted, 'member')} answer, {primary} is primary, {streaming} stream, {wrote}"
    details = {
        "members": report.member_rows(picture),
        "slots": report.slot_rows(seen),
        "archive": report.archive_row(seen),
        "versions": {"postgresql": ", ".join(sorted({report.version(member.version) for member in seen.live if member.version}))},
    }
    return verdict(expected, observed, problems, details)


def problems_of(seen: Observation, options: Options) -> list[str]:
    """Everything that is wrong, causes before consequences: silent members, the primary, streaming, lag, slots, archive."""
    wanted = int(options["members"])
    problems = [f"{plural(len(seen.members), 'PostgreSQL pod')} instead of {wanted}"] if len(seen.members) != wanted else []
    problems += [f"{member.target.name}: {member.problem}" for member in seen.members if not member.live]
    if not seen.live:
        return [*problems, "no member answers"]
    problems += _leadership(seen)
    problems += [text for member in seen.replicas for text in _replica(member, seen, options)]
    problems += _commits(seen, options)
    for member in seen.live:
        if member.pending:
            problems.append(f"{member.target.name} waits for a restart that {', '.join(member.pending)} take")
        if member.target.update == "outdated":
            problems.append(
                f"{member.target.name} runs an older template; postgresql_cluster with roll: true replaces it in the right order"
            )
        if member.failsafe or member.silence > SILENT:
            problems.append(f"{member.target.name} has not reached the API server for {age(member.silence)}")
    return problems + _facts(seen, options)


def half_done(client: Client, options: Options, now: datetime.datetime) -> list[str]:
    """Rotations that began and went no further: a Secret that has held passwords nobody gives yet for longer than a rotation takes."""
    problems = []
    for name in options["secrets"]:
        found = client.find(quote("api", "v1", "namespaces", options["namespace"], "secrets", name)) or {}
        if not any(key.startswith(NEXT) for key in found.get("data") or {}):
            continue
        stamps = [str(one["time"]) for one in found["metadata"].get("managedFields") or [] if one.get("time")]
        since = (now - parse_time(max(stamps))).total_seconds() if stamps else options["rotation_within"]
        if since >= options["rotation_within"]:
            problems.append(
                f"Secret {name} has held the next passwords for {age(since)}: a rotation was interrupted, and the ones before are still in use; "
                "playbooks/rotate.yml --tags postgresql goes on with it"
            )
    return problems


def misled(seen: Observation, service: str, addresses: set[str]) -> list[str]:
    """Where the writers' Service leads, when it is not to the primary and to nobody else."""
    primary = seen.primary
    if primary is None or addresses == {primary.target.host}:
        return []
    names = {member.target.host: member.target.name for member in seen.members}
    others = ", ".join(sorted(f"{names.get(address, 'no member')} ({address})" for address in addresses)) or "nobody"
    return [f"Service {service} leads to {others}, not to the primary {primary.target.name} alone"]


def _leadership(seen: Observation) -> list[str]:
    if len(seen.primaries) > 1:
        return [f"{', '.join(member.target.name for member in seen.primaries)} both run as primary"]
    primary = seen.primary
    if primary is None:
        states = ", ".join(f"{member.target.name} is {member.state}" for member in seen.live)
        return [f"no member is primary ({states}): nothing can be written"]
    systems = {member.system for member in seen.live if member.system}
    problems = [f"the members hold data of {len(systems)} different clusters"] if len(systems) > 1 else []
    problems += [
        f"{member.target.name} takes {member.leader or 'nobody'} for the primary, not {primary.name}"
        for member in seen.live
        if member.known and member.leader != primary.name
    ]
    paused = any(member.paused for member in seen.live)
    return problems + (["Patroni is paused: nobody would take over from a lost primary"] if paused else [])


def _replica(member: Member, seen: Observation, options: Options) -> list[str]:
    """Streaming and not just ready: a replica that only replays an archive, or nothing, may look healthy for days."""
    primary = seen.primary
    if not member.streaming:
        return [f"{member.target.name} does not stream: it is {member.state}{f' ({member.replication})' if member.replication else ''}"]
    if primary and member.timeline and member.timeline != primary.timeline:
        return [f"{member.target.name} is on timeline {member.timeline}, the primary on {primary.timeline}"]
    lag = Picture(seen, Desired()).lag(member)
    problems = (
        [f"{member.target.name} is {lag} bytes behind, more than {options['lag']}"] if lag is not None and lag > options["lag"] else []
    )
    link = next((link for link in (seen.facts.links if seen.facts else ()) if link.name == member.name), None)
    if link and link.delay is not None and link.delay > options["delay"]:
        problems.append(f"{member.target.name} applies what it gets {link.delay:.0f} s late, more than {options['delay']:g} s")
    return problems


def _commits(seen: Observation, options: Options) -> list[str]:
    """With synchronous commits asked for, somebody must be there to have them."""
    if not options["synchronous"] or seen.primary is None:
        return []
    links = seen.facts.links if seen.facts else seen.primary.links
    if any(link.sync in ("sync", "quorum") for link in links):
        return []
    return ["no standby is synchronous: what is committed now is on the primary alone"]


def _facts(seen: Observation, options: Options) -> list[str]:
    if seen.facts is None:
        return [f"the primary does not answer to SQL: {seen.facts_problem}"] if seen.facts_problem else []
    problems = [
        f"slot {slot.name} has lost WAL that its reader needs ({slot.status})"
        for slot in seen.facts.slots
        if slot.status in ("lost", "unreserved")
    ]
    problems += [
        f"slot {slot.name} holds back {slot.retained // 2**20} MiB of WAL and nobody reads from it"
        for slot in seen.facts.slots
        if not slot.active and slot.retained > STALE_SLOT
    ]
    archive = seen.facts.archive
    if archive.mode != "off" and archive.failing:
        last = f"the last success was {age(archive.last)} ago" if archive.last is not None else "it never succeeded"
        where = f" in {options['archive']}" if options.get("archive") else ""
        problems.append(f"the archive of WAL{where} fails ({plural(archive.failed, 'failure')}, {last})")
    return problems


# ---- a row written and read back --------------------------------------------------------------------------------------------


def probe(cluster: Cluster, primary: Member, seen: Observation, scene: Scene) -> tuple[int, list[str]]:
    """Writes a random word to the marker's row of the primary and waits until every replica shows it. How many did, and what went wrong."""
    word = secrets.token_hex(8)
    try:
        cluster.query(primary, _write(word), within=WRITE_WITHIN)
    except (SqlError, Lost, OSError, ApiError) as error:
        return 0, [f"primary {primary.target.name} does not take a write: {error}"]
    deadline = scene.clock.now() + READ_WITHIN
    problems = []
    replicas = [member for member in seen.replicas if member.running]
    for member in replicas:
        problem = _awaited(cluster, member, word, scene, deadline)
        problems += [problem] if problem else []
    return len(replicas) - len(problems), problems


def _write(word: str) -> str:
    return WRITE.replace("{word}", literal(word))


def _awaited(cluster: Cluster, member: Member, word: str, scene: Scene, deadline: float) -> str:
    """Why the replica does not show the word; empty when it does."""
    while True:
        try:
            rows: Sequence[Sequence[str | None]] = cluster.query(member, READ)
        except SqlError as error:
            rows, said = [], str(error)
        except (Lost, OSError, ApiError) as error:
            return f"replica {member.target.name} does not answer to SQL: {error}"
        else:
            said = "it shows an older one"
        if rows and rows[0][0] == word:
            return ""
        if scene.clock.now() > deadline:
            return f"replica {member.target.name} does not show the row just written to its primary ({said})"
        scene.clock.sleep(0.1)
