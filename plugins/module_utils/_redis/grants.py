# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module redis_users: who may log in, with which passwords, to do what, on every node, live (private: may change without notice).

One class of change after the other, each on every node before the next begins, so that a run killed anywhere leaves a cluster that works: first rights and
passwords are added, then replicas are told what to log in with, then former passwords go, then the default user. What is wanted follows from the passwords
alone (a Secret says which are next, current and former), so the next run finishes what a killed one began.
"""

from __future__ import annotations

import dataclasses
import itertools
import typing as t
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.progressive.platform.plugins.module_utils._kube.client import connect
from ansible_collections.progressive.platform.plugins.module_utils._members import credentials
from ansible_collections.progressive.platform.plugins.module_utils._members.store import LOCK_WITHIN
from ansible_collections.progressive.platform.plugins.module_utils._redis import converge
from ansible_collections.progressive.platform.plugins.module_utils._redis.access import DEFAULT_USER, hashed, shown
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import Action, Desired, Node
from ansible_collections.progressive.platform.plugins.module_utils._redis.nodes import Cluster
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._redis.resp import ConnectionLost, Reply, ReplyError
from ansible_collections.progressive.platform.plugins.module_utils._redis.stages.presence import unusable
from ansible_collections.progressive.platform.plugins.module_utils._redis.users import (
    OPERATOR,
    REPLICATION,
    RULES,
    Categories,
    evaluate,
    parse_list,
    rules_of,
    with_newer,
)
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock, Context, Params, PlatformError, Result

ARGUMENTS: dict[str, t.Any] = {
    **converge.NODES,
    "users": {
        "type": "list",
        "elements": "dict",
        "options": {
            "name": {"type": "str", "required": True},
            "rules": {"type": "str", "default": ""},
            "key": {"type": "str", "no_log": False},
            "passwords": {"type": "list", "elements": "str", "no_log": True},
        },
    },
    "passwords_secret": {"type": "dict", "no_log": False, "options": credentials.SECRET},
    "default_user": {"type": "str", "choices": ["keep", "off"], "default": "keep"},
    "save": {"type": "bool", "default": False},
    "complete": {"type": "bool", "default": True},
    "timeout": {"type": "float", "default": 60.0},
}
CONSTRAINTS = converge.CONSTRAINTS
ADD, LOGIN, RELINK, REMOVE, CLOSE, SAVE = range(6)
"""Orders of the actions: none of the next is sent anywhere before all of one were answered well everywhere."""
SETTLE_WITHIN = 20.0
ROUNDS = 5
"""Who logs in anew, and a default user that goes after that, take a second round; so many rounds and seconds without an end are no progress."""
POLL = 0.2
SHORTEST = 12


@dataclass(frozen=True)
class Wanted:
    """A user and its passwords: ``passwords[0]`` is what logs in from now on, the others are taken as well."""

    name: str
    rules: tuple[str, ...]
    passwords: tuple[str, ...] = field(repr=False)

    @property
    def hashes(self) -> frozenset[str]:
        return frozenset(hashed(password) for password in self.passwords)


@dataclass(frozen=True)
class Server:
    """What a node says of its users. ``masterauth`` is only compared."""

    name: str
    users: Mapping[str, tuple[str, ...]] = field(repr=False)
    categories: Categories = field(repr=False)
    masteruser: str
    masterauth: str = field(repr=False)
    default_clients: tuple[str, ...]
    default_links: tuple[str, ...]
    aclfile: bool


def run(params: Params, context: Context) -> Result:
    """Result: changed, plan, users, left_out (nodes that did not answer), warnings."""
    wanted = wanted_users(params, context)
    with converge.opened(params, context) as (cluster, store):
        servers, skipped = _look(cluster, params, context.clock)
        plan, warnings = plan_of(servers, wanted, params)
        if plan and not context.check:
            with store.lock(LOCK_WITHIN):
                plan, skipped, warnings = _converge(cluster, wanted, params, context.clock)
    return {
        "changed": bool(plan),
        "plan": [{"node": action.node, "command": shown(action.command), "reason": action.reason} for action in plan],
        "users": [{"name": user.name, "rules": " ".join(user.rules), "passwords": len(user.passwords)} for user in wanted],
        "left_out": [node.name for node in skipped],
        "warnings": warnings,
    }


def _converge(cluster: Cluster, wanted: Sequence[Wanted], params: Params, clock: Clock) -> tuple[list[Action], list[Node], list[str]]:
    """Look, send, look again, until nothing is left to send: everything that was sent, who was left out, what was left undone."""
    deadline = 0.0
    sent: list[Action] = []
    for rounds in itertools.count():
        servers, skipped = _look(cluster, params, clock)
        plan, warnings = plan_of(servers, wanted, params)
        if not plan:
            return sent, skipped, warnings
        # Time runs from the first command: on a busy machine a look alone may take long.
        deadline = deadline or clock.now() + SETTLE_WITHIN
        if rounds >= ROUNDS and clock.now() > deadline:
            raise PlatformError(
                f"The users are not as wanted after {rounds} rounds: {plan[0].node}, {plan[0].reason}, in spite of {shown(plan[0].command)}.",
                changed=bool(sent),
            )
        _send(cluster, plan)
        sent += plan
        clock.sleep(POLL)
    raise AssertionError("unreachable")


def wanted_users(params: Params, context: Context) -> list[Wanted]:
    """Everything checked before the first connection; raises PlatformError."""
    given = params.get("users")
    if given is None:
        given = [{"name": name, "rules": "", "key": None, "passwords": None} for name in RULES]
    names = [user["name"] for user in given]
    for name in names:
        if names.count(name) > 1:
            raise PlatformError(f"users names {name!r} twice.")
        if name == DEFAULT_USER or not name or any(letter.isspace() for letter in name):
            raise PlatformError(f"users: {name!r} cannot be a user here; the default user has the option default_user.")
    secret: dict[str, str] = {}
    where = "users.passwords"
    if params.get("passwords_secret"):
        with connect(params, context.clock) as client:
            where, secret = credentials.secret_data(params, client, params["passwords_secret"], "passwords_secret")
    wanted = []
    for user in given:
        passwords = tuple(dict.fromkeys(user.get("passwords") or ()))
        if not passwords:
            key = user.get("key") or key_of(user["name"])
            chosen = [secret.get(prefix + key, "") for prefix in (credentials.NEXT, "", credentials.FORMER)]
            passwords = tuple(dict.fromkeys(value for value in chosen if value))
            if not passwords or not secret.get(key):
                known = f" (key {key!r}; its keys: {', '.join(sorted(secret)) or 'none'})" if params.get("passwords_secret") else ""
                raise PlatformError(f"{where} has no password for user {user['name']!r}{known}.")
        if any(len(password) < SHORTEST for password in passwords):
            raise PlatformError(
                f"A password of user {user['name']!r} has less than {SHORTEST} characters; Redis can be asked a million times a second."
            )
        wanted.append(Wanted(user["name"], rules_of(user["name"], user.get("rules") or ""), passwords))
    return wanted


def key_of(name: str) -> str:
    """Key of a user's password in the Secret: the operator's is the one that was there before there were users."""
    return "password" if name == OPERATOR else f"{name}-password"


def plan_of(servers: Sequence[Server], wanted: Sequence[Wanted], params: Params) -> tuple[list[Action], list[str]]:
    """What is to be sent, in order, and what is left undone with the reason: pure."""
    actions: list[Action] = []
    warnings: list[str] = []
    for server in servers:
        for user in wanted:
            actions += _user(server, user)
        login = next((user for user in wanted if user.name == REPLICATION), None)
        if login is not None:
            actions += _masterauth(server, login)
        if params["default_user"] == "off":
            actions += _default(server, warnings)
    if params["save"]:
        touched = dict.fromkeys(action.node for action in actions)
        files = {server.name for server in servers if server.aclfile}
        for name in touched:
            commands = [("ACL", "SAVE"), ("CONFIG", "REWRITE")] if name in files else [("CONFIG", "REWRITE")]
            actions += [Action(name, command, "a restart finds it as it is now", SAVE) for command in commands]
    return sorted(actions, key=lambda action: action.order), warnings


def _user(server: Server, user: Wanted) -> list[Action]:
    rules = with_newer(user.name, user.rules, server.categories)
    want = evaluate(("on", *sorted(user.hashes), *rules), server.categories)
    have = evaluate(server.users.get(user.name, ()), server.categories)
    extra = have.hashes - want.hashes
    actions = []
    if user.name not in server.users or not want.same_rights(have) or want.hashes - have.hashes:
        reason = (
            "is not there yet"
            if user.name not in server.users
            else "has other rights"
            if not want.same_rights(have)
            else "gets a further password"
        )
        command = ("ACL", "SETUSER", user.name, "reset", "on", *sorted(want.hashes | extra), *rules)
        actions.append(Action(server.name, command, f"user {user.name} {reason}", ADD))
    if extra:
        command = ("ACL", "SETUSER", user.name, *("!" + one[1:] for one in sorted(extra)))
        actions.append(Action(server.name, command, f"user {user.name}: {len(extra)} former passwords end", REMOVE))
    return actions


def _masterauth(server: Server, login: Wanted) -> list[Action]:
    if (server.masteruser, server.masterauth) == (login.name, login.passwords[0]):
        return []
    command = ("CONFIG", "SET", "masteruser", login.name, "masterauth", login.passwords[0])
    return [Action(server.name, command, f"as a replica it logs in to its master as {login.name}, with the newest password", LOGIN)]


def _default(server: Server, warnings: list[str]) -> list[Action]:
    """Who is logged in as the default user would be cut off: such clients are named and left, and the next run looks again."""
    tokens = server.users.get(DEFAULT_USER, ())
    now = evaluate(tokens, server.categories)
    if not now.enabled and not now.commands:
        return []
    if server.default_links:
        reason = "a replica is logged in here as the default user; it comes back as the replication user and goes on where it was"
        return [Action(server.name, ("CLIENT", "KILL", "ID", client), reason, RELINK) for client in server.default_links]
    if server.default_clients:
        warnings.append(
            f"{server.name}: the default user stays on as long as clients use it ({', '.join(server.default_clients[:5])}); "
            "log them in as a user of their own and run again"
        )
        return []
    return [Action(server.name, ("ACL", "SETUSER", DEFAULT_USER, "reset"), "nobody uses the default user", CLOSE)]


QUESTIONS: tuple[tuple[str, ...], ...] = (
    ("ACL", "LIST"),
    ("CONFIG", "GET", "masteruser"),
    ("CONFIG", "GET", "masterauth"),
    ("CONFIG", "GET", "aclfile"),
    ("CLIENT", "LIST"),
)


def _look(cluster: Cluster, params: Params, clock: Clock) -> tuple[list[Server], list[Node]]:
    """The users of every node that answers; raises PlatformError when one does not let us in, or when all must answer and one does not."""
    deadline = clock.now() + params["timeout"]
    while True:
        servers, silent = _ask(cluster)
        if not silent or not params["complete"]:
            return servers, silent
        if clock.now() > deadline:
            break
        clock.sleep(POLL)
    listed = "; ".join(f"{node.name}: {node.problem}" for node in silent)
    raise PlatformError(
        f"Not every node answered within {params['timeout']:g} s ({listed}). Bring them back and run again, or leave them out with complete: false."
    )


def _ask(cluster: Cluster) -> tuple[list[Server], list[Node]]:
    """One look: the users of the nodes that answer, and the nodes that do not, or stop to."""
    observation = cluster.observe(None)
    refusal = unusable(Picture(observation, Desired()))
    if refusal is not None:
        raise PlatformError(refusal.reason, state=refusal.state)
    silent = [node for node in observation.nodes if not node.live]
    answers = cluster.ask({node.name: QUESTIONS for node in observation.live})
    categories: dict[str, Categories] = {}
    servers = []
    for node in observation.live:
        try:
            listed, user, auth, file, clients = _replies(node.name, QUESTIONS, answers[node.name])
            if node.version not in categories:
                categories[node.version] = _categories(cluster, node.name)
        except ConnectionLost as error:
            silent.append(dataclasses.replace(node, problem=str(error), kind="absent"))
            continue
        users = parse_list(t.cast("list[str]", listed))
        said = [str(t.cast("list[Reply]", one)[1]) for one in (user, auth, file)]
        default = _as_default(str(clients), cluster, node.name)
        servers.append(Server(node.name, users, categories[node.version], said[0], said[1], *default, bool(said[2])))
    return servers, silent


def _categories(cluster: Cluster, name: str) -> Categories:
    """One node of each version is asked which commands it has. Raises ConnectionLost."""
    question = [("ACL", "CAT")]
    names = [str(one) for one in t.cast("list[Reply]", _replies(name, question, cluster.ask({name: question})[name])[0])]
    questions = [("ACL", "CAT", category) for category in names]
    lists = _replies(name, questions, cluster.ask({name: questions})[name])
    return {
        category: frozenset(str(one) for one in t.cast("list[Reply]", commands)) for category, commands in zip(names, lists, strict=True)
    }


def _as_default(clients: str, cluster: Cluster, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Who is logged in as the default user, ourselves left out: addresses of clients, and client IDs of replicas' links."""
    ours = cluster.login(name)
    addresses, links = [], []
    for line in clients.splitlines():
        fields = dict(part.partition("=")[::2] for part in line.split(" "))
        flags = set(fields.get("flags", ""))
        mine = fields.get("cmd", "").startswith("client") and (ours is None or ours.user in {"", DEFAULT_USER})
        if fields.get("user") != DEFAULT_USER or "M" in flags or mine:
            continue
        if "S" in flags:
            links.append(fields["id"])
        else:
            addresses.append(fields.get("addr", "?"))
    return tuple(addresses), tuple(links)


def _replies(name: str, questions: Sequence[tuple[str, ...]], answers: Sequence[Reply] | ConnectionLost) -> Sequence[Reply]:
    if isinstance(answers, ConnectionLost):
        raise answers
    for question, answer in zip(questions, answers, strict=True):
        if isinstance(answer, ReplyError):
            name_of = "|".join(question[:2]).lower()
            raise PlatformError(
                f"{name} refuses {' '.join(question)}: {answer}. The user this is done as needs it: ACL SETUSER USER +{name_of} "
                "(Redis 6.0 and older cannot: users need 7.0)."
            )
    return answers


def _send(cluster: Cluster, plan: Sequence[Action]) -> None:
    """Whatever is not answered is looked at again; what is refused ends the run."""
    for action, reply in cluster.send(plan).items():
        if isinstance(reply, ReplyError):
            raise PlatformError(
                f"{action.node} refuses {shown(action.command)} ({action.reason}): {reply}. What was sent before it stays, and later steps were not begun; "
                "run again when it is mended.",
                changed=True,
            )
