# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of a MongoDB replica set: one primary that is followed, members, lag, a row written by majority and read back (private: may change without notice)."""

from __future__ import annotations

import dataclasses
import secrets
import typing as t

from ansible_collections.progressive.platform.plugins.module_utils._health.model import Finding, Options, age, plural, verdict
from ansible_collections.progressive.platform.plugins.module_utils._health.scene import Scene
from ansible_collections.progressive.platform.plugins.module_utils._members import credentials
from ansible_collections.progressive.platform.plugins.module_utils._mongodb import report
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.driver import Door, Lost, require
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.model import SERVING, Action, Desired
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.nodes import Cluster, Members
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.picture import Picture

DATABASE, COLLECTION, ROW = "progressive_platform", "health", "probe"
"""One document, replaced by every look."""
ACKNOWLEDGED_WITHIN = 5_000
HOUR = 3600.0


def mongodb(options: Options, scene: Scene, until: float) -> Finding:
    """Every member serves and follows one primary, none lags, and a row written with w: majority is read from a majority."""
    require()
    expected = f"{plural(options['members'], 'member')}, one primary that all follow, lag at most {options['lag']:g} s"
    expected += f", an oplog of {options['oplog_hours']:g} h" if options["oplog_hours"] else ""
    source = Members(scene.cluster.client, options["namespace"], options["selector"], options["port"], options["domain"])
    access = credentials.access_of({**options, "pods": {"namespace": options["namespace"]}}, scene.cluster.client)
    with Cluster(source, Door(dataclasses.replace(access, username=options["username"])), closer=True) as cluster:
        picture = Picture(cluster.observe(None), Desired(options["replica_set"], members=options["members"]))
        if not picture.observation.nodes:
            problem = f"no pod has the labels {options['selector']} in namespace {options['namespace']}: the StatefulSet is gone or empty"
            return verdict(expected, "no pod", [problem])
        problems = problems_of(picture, options["lag"], options["oplog_hours"] * HOUR)
        wrote = "no row written"
        if options["write"] and not scene.check_mode and picture.primary is not None:
            unread = probe(cluster, picture)
            problems += unread
            wrote = "no row read back" if unread else "a row read back"
    rows = report.node_rows(picture)
    serving = sum(node.state in SERVING for node in picture.live)
    primary = picture.primary.name if picture.primary else "none"
    details = {
        "members": rows,
        "warnings": report.warnings(picture),
        "versions": {"mongodb": ", ".join(sorted({row["version"] for row in rows} - {""}))},
    }
    return verdict(expected, f"{serving} of {plural(options['members'], 'member')} serve, primary {primary}, {wrote}", problems, details)


def problems_of(picture: Picture, lag: float, window: float = 0.0) -> list[str]:
    """Everything that is wrong, causes before consequences. ``window``: seconds that a full oplog must reach back."""
    nodes, config, primary = picture.observation.nodes, picture.config, picture.primary
    wanted = picture.desired.members
    problems = [f"{plural(len(nodes), 'MongoDB pod')} instead of {wanted}"] if len(nodes) != wanted else []
    problems += [f"{node.name}: {node.problem}" for node in nodes if not node.live]
    if config is None:
        return [*problems, "no member has a replica-set configuration" if picture.live else "no member answers"]
    sets = {node.config.set_id for node in picture.formed if node.config and node.config.set_id}
    if len(sets) > 1:
        problems.append(f"the members belong to {len(sets)} different replica sets: {', '.join(sorted(sets))}")
    problems += [f"{node.name} is in no replica set" for node in picture.live if node.config is None]
    problems += [f"{node.name} is not in the configuration" for node in picture.outside if node.config is not None]
    problems += [f"{node.name} is {node.state}" for node in picture.formed if node.name in picture.entries_of and node.state not in SERVING]
    problems += [
        f"{picture.nodes_of[entry.id].name} is known as {entry.host} instead of {picture.nodes_of[entry.id].host}"
        for entry in config.entries
        if entry.id in picture.nodes_of and picture.nodes_of[entry.id].host != entry.host
    ]
    if primary is None:
        return [
            *problems,
            f"there is no primary; {len(picture.voting)} of {len(config.voters)} voters answer, {config.majority} are needed",
        ]
    host = picture.entries_of[primary.name].host if primary.name in picture.entries_of else ""
    problems += [f"{node.name} also calls itself primary" for node in picture.formed if node.state == "PRIMARY" and node is not primary]
    problems += [f"{node.name} follows {node.primary or 'nobody'}, not {primary.name}" for node in picture.formed if node.primary != host]
    if len(config.voters) % 2 == 0:
        problems.append(f"{len(config.voters)} members vote; an odd number is wanted")
    problems += [
        f"the oplog of {node.name} reaches back {age(node.oplog[0])}, {age(window)} is wanted: who is away for longer must copy everything, and a backup that "
        "takes longer fails; make it larger (mongodb_oplog_size)"
        for node in picture.live
        if node.oplog and node.oplog[2] and node.oplog[0] < window
    ]
    behind = {node.name: report.lag(picture, node) for node in picture.live}
    return problems + [
        f"{name} is {seconds} s behind {primary.name}" for name, seconds in behind.items() if seconds is not None and seconds > lag
    ]


def probe(cluster: Cluster, picture: Picture) -> list[str]:
    """Replaces the row with a random word by majority, and reads it from the members; a majority must have it."""
    primary = t.cast(t.Any, picture.primary)
    word = secrets.token_hex(8)
    change = {"q": {"_id": ROW}, "u": {"_id": ROW, "word": word}, "upsert": True}
    concern = {"w": "majority", "wtimeout": ACKNOWLEDGED_WITHIN}
    try:
        reply = cluster.send(Action(primary.name, {"update": COLLECTION, "updates": [change], "writeConcern": concern}, "probe", DATABASE))
    except Lost as error:
        return [f"primary {primary.name} does not take a write: {error}"]
    failure = reply.get("writeConcernError") or next(iter(reply.get("writeErrors", [])), None) or (None if reply.get("ok") else reply)
    if failure:
        return [f"primary {primary.name} does not take a write by majority: {failure.get('errmsg')}"]
    voters = picture.voting
    read = {"find": COLLECTION, "filter": {"_id": ROW}, "limit": 1, "$readPreference": {"mode": "secondaryPreferred"}}
    having = 0
    for node in voters:
        try:
            batch = cluster.send(Action(node.name, read, "probe", DATABASE)).get("cursor", {}).get("firstBatch", [])
        except Lost:
            batch = []
        having += bool(batch and batch[0].get("word") == word)
    needed = picture.config.majority if picture.config else 1
    return [] if having >= needed else [f"the row acknowledged by a majority is on {having} of {plural(len(voters), 'voter')}"]
