# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of a Redis Cluster: views, slots, links, placement, keys written and read back (private: may change without notice)."""

from __future__ import annotations

import binascii
import secrets
import time
import typing as t
from collections import Counter
from collections.abc import Sequence

from ansible_collections.progressive.platform.plugins.module_utils._health.model import Finding, Options, plural, verdict
from ansible_collections.progressive.platform.plugins.module_utils._health.scene import Scene
from ansible_collections.progressive.platform.plugins.module_utils._members import credentials
from ansible_collections.progressive.platform.plugins.module_utils._members.credentials import Access
from ansible_collections.progressive.platform.plugins.module_utils._members.places import Pods
from ansible_collections.progressive.platform.plugins.module_utils._redis import slots
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Action, Node
from ansible_collections.progressive.platform.plugins.module_utils._redis.nodes import Cluster
from ansible_collections.progressive.platform.plugins.module_utils._redis.placement import Member, assess
from ansible_collections.progressive.platform.plugins.module_utils._redis.resp import ConnectionLost, Reply, ReplyError

PREFIX = "progressive.platform:health"
LIFETIME = 60_000  # milliseconds after which a key is gone even if this process is killed
ACKNOWLEDGED_WITHIN = 1_000  # milliseconds a replica has to take a write over

View = tuple[tuple[str, str, str], ...]
"""What a node believes: (id, its master or "", its slots) of every member, in order; the redis-cli "config signature" with replicas."""


def redis(options: Options, scene: Scene, until: float) -> Finding:
    """The nodes agree, serve every slot, are linked and spread, and a key written to each master is read from its replicas."""
    wanted = options["masters"] * (1 + options["replicas_per_master"])
    shape = f"{plural(options['masters'], 'master')} with {plural(options['replicas_per_master'], 'replica')} each"
    expected = f"{shape}, one view, {slots.COUNT} slots"
    source = Pods(scene.cluster.client, options["namespace"], options["selector"], options["port"])
    with Cluster(source, access(options, scene), scene.clock) as cluster:
        nodes = cluster.observe(None).nodes
        if not nodes:
            problem = f"no pod has the labels {options['selector']} in namespace {options['namespace']}: the StatefulSet is gone or empty"
            return verdict(expected, "no pod", [problem])
        problems = problems_of(nodes, wanted, options["replicas_per_master"])
        problems += ending(nodes, options["certificate_days"], time.time())
        tried = 0
        if options["write"] and not scene.check_mode:
            tried, unread = probe(cluster, nodes)
            problems += unread
    shards = shards_of(nodes)
    covered = slots.size(_served(nodes))
    wrote = "no key written in check mode" if scene.check_mode and options["write"] else f"{plural(tried, 'key')} read back"
    observed = f"{sum(node.live for node in nodes)} of {plural(wanted, 'node')} answer, {covered} slots, {wrote}"
    name = options["title"] or options["selector"].partition("=")[2] or options["selector"]
    details = {
        "nodes": [_row(node, nodes) for node in nodes],
        "placement": list(_assess(nodes)),
        "versions": {"redis": ", ".join(sorted({node.version for node in nodes if node.version}))},
        "topology": {"name": name, "namespace": options["namespace"], "covered": covered, "shards": shards},
    }
    return verdict(expected, observed, problems, details)


def access(options: Options, scene: Scene) -> Access:
    """User, password and TLS as the Secrets say; raises PlatformError when one is not there. None of them is ever shown."""
    return credentials.access_of({**options, "pods": {"namespace": options["namespace"]}}, scene.cluster.client)


def problems_of(nodes: Sequence[Node], wanted: int, replicas: int) -> list[str]:
    """Everything that is wrong, causes before consequences: absent nodes, then what the others say of them, then slots, links, spread."""
    live = [node for node in nodes if node.live]
    problems = [f"{plural(len(nodes), 'Redis pod')} instead of {wanted}"] if len(nodes) != wanted else []
    problems += [f"{node.name}: {node.problem}" for node in nodes if not node.live]
    if not live:
        return [*problems, "no node answers"]
    problems += _disagreements(live)
    problems += [f"{node.name} says cluster_state:fail" for node in live if not node.cluster_ok]
    if missing := slots.ALL & ~_served(nodes):
        owner = "none of them was ever assigned" if missing == slots.ALL else "their owner is gone"
        problems.append(f"{plural(slots.size(missing), 'slot')} served by no answering master: {slots.text(missing)} ({owner})")
    problems += [f"{node.name} has slot {slot} {state}" for node in live for slot, (state, _other) in node.me.open_slots.items()]
    masters = [node for node in live if node.slots]
    copies = Counter(node.master for node in live if node.master)
    problems += [
        f"master {node.name} has {plural(copies[node.id], 'replica')} instead of {replicas}"
        for node in masters
        if copies[node.id] != replicas
    ]
    problems += [f"{node.name} is a member without slots and without a master" for node in live if not node.slots and not node.master]
    problems += [
        f"the link of replica {node.name} to {_name(node.master, nodes)} is down" for node in live if node.master and not node.link_up
    ]
    return problems + _crowded(nodes)


def ending(nodes: Sequence[Node], days: int, now: float) -> list[str]:
    """Certificates that nodes serve and that end within ``days``: whoever renews them has had weeks by then."""
    left = {node.name: (node.certificate_ends - now) / 86400 for node in nodes if node.certificate_ends}
    return [f"the certificate {name} serves ends in {left[name]:.0f} days" for name in left if left[name] < days]


def view_of(node: Node) -> View:
    """Entries without an address are being forgotten and belong to no view."""
    known = [entry for entry in node.entries.values() if "noaddr" not in entry.flags]
    return tuple(sorted((entry.id, entry.master, slots.text(entry.slots)) for entry in known))


def _disagreements(live: Sequence[Node]) -> list[str]:
    """Views that differ from the commonest, and nodes that others hold for failed or do not know."""
    views = Counter(view_of(node) for node in live)
    commonest = views.most_common(1)[0][0]
    problems = []
    if len(views) > 1:
        strays = [node.name for node in live if view_of(node) != commonest]
        problems.append(f"the nodes have {len(views)} different views of the cluster; {', '.join(strays)} differ from the rest")
    for node in live:
        strangers = [other.name for other in live if not node.knows(other.id)]
        if strangers:
            problems.append(f"{node.name} does not know {', '.join(strangers)}")
    failed: dict[str, list[str]] = {}
    for node in live:
        for entry in node.entries.values():
            if (entry.failed or entry.suspected) and "noaddr" not in entry.flags:
                failed.setdefault(entry.id, []).append(node.name)
    for identity, sayers in failed.items():
        who = f"{sayers[0]} says" if len(sayers) == 1 else f"{len(sayers)} nodes say"
        problems.append(f"{who} that {_name(identity, live)} has failed")
    return problems


def _served(nodes: Sequence[Node]) -> int:
    """Slots that an answering master owns by its own word."""
    served = 0
    for node in nodes:
        if node.live and not node.master:
            served |= node.slots
    return served


def _crowded(nodes: Sequence[Node]) -> list[str]:
    """Shards with all copies in one node or zone although there are several: no failover changes that. Masters that crowd are not red."""
    problems = []
    for domain in ("node", "zone"):
        if len({getattr(node.target, domain) for node in nodes if getattr(node.target, domain)}) < 2:
            continue
        for master in (node for node in nodes if node.live and node.slots):
            members = [master, *(node for node in nodes if node.live and node.master == master.id)]
            places = {getattr(member.target, domain) for member in members}
            if len(members) > 1 and len(places) == 1 and places != {""}:
                problems.append(
                    f"all copies of the shard of {master.name} are in {domain} {places.pop()}: {', '.join(m.name for m in members)}"
                )
    return problems


def _assess(nodes: Sequence[Node]) -> tuple[str, ...]:
    live = [node for node in nodes if node.live]
    masters = [node.id for node in live if node.slots]
    master_of = {node.id: node.master for node in live if node.master in masters}
    return assess([Member(node.id, node.target.node, node.target.zone) for node in live], masters, master_of).violations


def _name(identity: str, nodes: Sequence[Node]) -> str:
    return next((node.name for node in nodes if node.id == identity), f"node {identity[:8]} (no such pod)")


def _row(node: Node, nodes: Sequence[Node]) -> dict[str, t.Any]:
    role = "?" if not node.live else f"replica of {_name(node.master, nodes)}" if node.master else "master"
    return {
        "pod": node.name,
        "answers": node.live,
        "role": role,
        "slots": slots.text(node.slots) if node.live and node.slots else "",
        "node": node.target.node,
        "zone": node.target.zone,
        "keys": node.keys,
    }


def shards_of(nodes: Sequence[Node]) -> list[dict[str, t.Any]]:
    """Shards for the drawing, in slot order. One whose master is gone is told by its replicas."""
    live = [node for node in nodes if node.live]
    identities = {node.id for node in live if node.slots} | {node.master for node in live if node.master}
    by_id = {node.id: node for node in live}
    shards = []
    for identity in identities:
        master = by_id.get(identity)
        members = ([master] if master else []) + [node for node in live if node.master == identity]
        shards.append(
            {
                "master": master.name if master else "",
                "slots": [list(part) for part in slots.ranges(master.slots)] if master else [],
                "members": [
                    {
                        "pod": node.name,
                        "master": node is master,
                        "node": node.target.node,
                        "zone": node.target.zone,
                        "ok": node.link_up,
                    }
                    for node in members
                ],
            }
        )
    return sorted(shards, key=lambda shard: (shard["slots"] or [[slots.COUNT, 0]], shard["members"][0]["pod"]))


# ---- keys written and read back ---------------------------------------------------------------------------------------------


def probe(cluster: Cluster, nodes: Sequence[Node]) -> tuple[int, list[str]]:
    """Writes a key to each master, reads it from each of its replicas, removes it. How many were written, and what went wrong.

    The keys carry a random word, expire by themselves, and are in no one's way: ``progressive.platform:health:...``.
    """
    word = secrets.token_hex(8)
    masters = {node.name: node for node in nodes if node.live and node.slots and not node.master}
    keys = {name: key_for(node.slots, word) for name, node in masters.items()}
    replicas = {node.name: master for node in nodes if node.live for master in masters.values() if node.master == master.id}
    writes = {name: Action(name, ("SET", keys[name], word, "PX", str(LIFETIME)), "probe") for name in masters}
    copies = Counter(master.name for master in replicas.values())
    waits = [Action(name, ("WAIT", str(copies[name]), str(ACKNOWLEDGED_WITHIN)), "probe", 1) for name in masters if copies[name]]
    replies = cluster.send([*writes.values(), *waits])
    refused = {name: reply for name, action in writes.items() if (reply := replies.get(action)) != "OK"}
    problems = [f"master {name} does not take a write: {_said(reply)}" for name, reply in refused.items()]
    reads = {name: Action(name, ("GET", keys[master.name]), "probe", 1) for name, master in replicas.items() if master.name not in refused}
    answers = cluster.send([*(Action(name, ("READONLY",), "probe") for name in reads), *reads.values()])
    for name, action in reads.items():
        if answers.get(action) != word:
            what = (
                "does not have the key just written to"
                if answers.get(action) is None
                else f"answered {_said(answers.get(action))} for the key of"
            )
            problems.append(f"replica {name} {what} its master {replicas[name].name}")
    cluster.send([Action(name, ("DEL", keys[name]), "probe") for name in masters if name not in refused])
    return len(masters) - len(refused), problems


def key_for(owned: int, word: str) -> str:
    """A key whose slot is one of ``owned``: CRC16 (XMODEM) modulo 16384, of what stands in braces, as the cluster specification says."""
    number = 0
    while True:
        tag = f"{word}{number}"
        if owned >> (binascii.crc_hqx(tag.encode(), 0) % slots.COUNT) & 1:
            return f"{PREFIX}:{{{tag}}}"
        number += 1


def _said(reply: Reply | ConnectionLost) -> str:
    if reply is None:
        return "nothing"
    return str(reply) if isinstance(reply, (str, ReplyError, ConnectionLost, int)) else "an unexpected reply"
