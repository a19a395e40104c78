# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who may do what: the users every cluster has, and what a line of ACL LIST means: pure (private: may change without notice).

A server does not give back the rules it was given: 7.0 writes them anew from the commands they came to. So two sets of rules are compared by what they come
to on that very server, whose commands ACL CAT lists.
"""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Iterable, Mapping, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._run import PlatformError

Categories: t.TypeAlias = "Mapping[str, frozenset[str]]"
"""What ACL CAT says: category to its commands, a subcommand as ``config|get``. Every command is in one of them at least."""

OPERATOR = "operator"
REPLICATION = "replication"
HEALTH_KEYS = "~progressive.platform:health:*"

RULES: dict[str, str] = {
    # The module redis_cluster and the pods' own scripts: all of the cluster's administration, and keys only as far as moving slots needs them.
    OPERATOR: (
        "~* -@all +ping +info +role +command +dbsize +time +select +wait +readonly +readwrite +asking +cluster "
        "+config|get +config|set +config|rewrite +config|resetstat +acl|cat +acl|list +acl|getuser +acl|setuser +acl|deluser +acl|save +acl|whoami "
        "+client|list +client|info +client|kill +client|setname +client|no-evict +client|pause +client|unpause "
        "+function|list +function|dump +function|load +function|restore +function|delete +function|flush "
        "+scan +type +ttl +pttl +pexpiretime +exists +object +memory|usage +memory|stats +memory|doctor +latency +slowlog "
        "+migrate +dump +restore +restore-asking +del +unlink +get +set +flushall +save "
        "+bgsave +bgrewriteaof +lastsave +psync +replconf +shutdown"
    ),
    # A replica's login at its master, and nothing else.
    REPLICATION: "-@all +ping +psync +replconf",
    # Data commands of every kind on every key; no administration, nothing that stops or empties a server.
    "application": (
        "~* &* -@all +@read +@write +@connection +@pubsub +@transaction +@scripting -@admin -@dangerous -function -script|debug -script|kill "
        "+info +cluster|info +cluster|nodes +cluster|slots +cluster|shards +cluster|myid +cluster|keyslot +cluster|countkeysinslot"
    ),
    # An exporter. No CONFIG GET: it would show masterauth.
    "monitor": (
        "-@all +ping +info +role +dbsize +command|count +client|setname +client|list "
        "+cluster|info +cluster|nodes +cluster|slots +cluster|shards +cluster|myid +cluster|links "
        "+latency|latest +latency|history +latency|histogram +slowlog|len +slowlog|get +memory|stats"
    ),
    # The probes in the pods and module health: looks, and writes, reads and removes keys of its own.
    "health": (
        f"{HEALTH_KEYS} -@all +ping +info +role +readonly +wait +get +set +del +function|list "
        "+cluster|info +cluster|nodes +cluster|myid +cluster|countkeysinslot"
    ),
}
"""Rules of the users that every cluster has, without passwords."""
NEWER: dict[str, str] = {REPLICATION: "+cluster|syncslots", OPERATOR: "+migrateslots +cluster|migration"}
"""Commands of newer servers (Valkey 9 and Redis 8.4 move slots by them), given where the server knows them: it refuses a rule with a command it does not."""


@dataclasses.dataclass(frozen=True)
class Grant:
    """What a user may, in a form that can be compared. ``hashes`` of passwords as ACL LIST shows them."""

    enabled: bool
    hashes: frozenset[str] = dataclasses.field(repr=False)
    keys: frozenset[str]
    channels: frozenset[str]
    commands: frozenset[str]
    open_to_all: bool = False

    def same_rights(self, other: Grant) -> bool:
        return (self.enabled, self.keys, self.channels, self.commands, self.open_to_all) == (
            other.enabled,
            other.keys,
            other.channels,
            other.commands,
            other.open_to_all,
        )


def rules_of(name: str, given: str = "") -> tuple[str, ...]:
    """The rules of a user, its own or those of the user of that name that every cluster has; raises PlatformError for what no rule here may say."""
    text = given or RULES.get(name, "")
    if not text:
        raise PlatformError(f"users: {name!r} has no rules, and it is none of {', '.join(RULES)}. Example: rules: '~orders:* +@read'")
    for token in text.split():
        if token[0] not in "~&%+-@":
            raise PlatformError(
                f"users: {name}: {token!r} is no rule that is taken here; wanted are key patterns (~, %R~, %W~), channel patterns (&) and commands (+, -). "
                "Passwords have options of their own."
            )
    return tuple(text.split())


def with_newer(name: str, rules: Sequence[str], categories: Categories) -> tuple[str, ...]:
    """The rules with what only newer servers know, as far as this one does."""
    known = everything(categories)
    return (*rules, *(token for token in NEWER.get(name, "").split() if token[1:] in known))


def everything(categories: Categories) -> frozenset[str]:
    return frozenset().union(*categories.values())


def evaluate(rules: Iterable[str], categories: Categories) -> Grant:
    """What rules come to on a server, the later ones overruling the earlier. Containers stand for all of their subcommands."""
    every = everything(categories)
    commands: set[str] = set()
    keys: set[str] = set()
    channels: set[str] = set()
    hashes: set[str] = set()
    enabled = open_to_all = False
    for rule in rules:
        word = rule[1:]
        if rule in {"on", "off"}:
            enabled = rule == "on"
        elif rule == "nopass":
            open_to_all = True
        elif rule in {"allkeys", "allchannels"}:
            (keys if rule == "allkeys" else channels).add("~*" if rule == "allkeys" else "&*")
        elif rule in {"resetkeys", "resetchannels"}:
            (keys if rule == "resetkeys" else channels).clear()
        elif rule in {"allcommands", "nocommands"}:
            commands = set(every) if rule == "allcommands" else set()
        elif rule.startswith("#"):
            hashes.add(rule)
        elif rule[0] in "~%":
            keys.add("~" + rule[4:] if rule.startswith(("%RW~", "%WR~")) else rule)
        elif rule[0] == "&":
            channels.add(rule)
        elif rule[0] in "+-":
            meant = _meant(word.lower(), every, categories)
            commands = commands | meant if rule[0] == "+" else commands - meant
    leaves = {command for command in commands if "|" in command or not any(other.startswith(command + "|") for other in every)}
    return Grant(enabled, frozenset(hashes), frozenset(keys), frozenset(channels), frozenset(leaves), open_to_all)


def _meant(word: str, every: frozenset[str], categories: Categories) -> set[str]:
    if word == "@all":
        return set(every)
    if word.startswith("@"):
        return set(categories.get(word[1:], frozenset()))
    return {command for command in every if command == word or command.startswith(word + "|")}


def parse_list(lines: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """ACL LIST by user: ``user NAME RULE ...``."""
    found = {}
    for line in lines:
        _user, name, *tokens = line.split()
        found[name] = tuple(tokens)
    return found


def file_lines(users: Mapping[str, str]) -> dict[str, str]:
    """What each user's line of an ACL file says behind its passwords, for every server from 7.0: the users every cluster has, then the given ones."""
    return {name: " ".join(rules_of(name, users.get(name, ""))) for name in (*RULES, *(name for name in users if name not in RULES))}
