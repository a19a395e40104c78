# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Module mongodb_users: who may log in, and the logins that take turns while a password is changed (private: may change without notice).

A server of either engine knows one password a user. So a user is given as several login names that take turns: the next password belongs to the next name,
and both are let in until the former one is dropped.
"""

from __future__ import annotations

import dataclasses
import datetime
import typing as t
from collections.abc import Mapping, Sequence

from ansible_collections.progressive.platform.plugins.module_utils._backup.catalog import stamp
from ansible_collections.progressive.platform.plugins.module_utils._members import credentials
from ansible_collections.progressive.platform.plugins.module_utils._members.credentials import FORMER, NEXT
from ansible_collections.progressive.platform.plugins.module_utils._members.store import LOCK_WITHIN
from ansible_collections.progressive.platform.plugins.module_utils._mongodb import server
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.documents import users_of
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.server import FERRETDB, Server, Servers
from ansible_collections.progressive.platform.plugins.module_utils._run import Context, Params, PlatformError, Result

SHORTEST = 12
NOT_THERE = 11
"""Code of a user that is dropped twice."""

ARGUMENTS: dict[str, t.Any] = {
    **server.SERVERS,
    "users": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "logins": {"type": "list", "elements": "str", "required": True},
            "roles": {"type": "list", "elements": "str", "required": True},
        },
    },
    "passwords_secret": {"type": "dict", "required": True, "no_log": False, "options": credentials.SECRET},
    "timeout": {"type": "float", "default": 60.0},
}
CONSTRAINTS: dict[str, t.Any] = server.CONSTRAINTS


@dataclasses.dataclass(frozen=True)
class Login:
    """A name that is let in with this password."""

    name: str
    password: str = dataclasses.field(repr=False)
    roles: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Act:
    """One command, and why; its password is never shown."""

    command: Mapping[str, t.Any] = dataclasses.field(repr=False)
    reason: str = ""

    @property
    def shown(self) -> str:
        verb = next(iter(self.command))
        return f"{verb} {self.command[verb]}"


def run(params: Params, context: Context) -> Result:
    """Result: changed, plan, users, engine, warnings."""
    for user in params["users"]:
        refuse(user)
    with server.opened(params, context, api=True) as servers:
        where, secret = credentials.secret_data(params, t.cast(t.Any, servers.client), params["passwords_secret"], "passwords_secret")
        wanted = {user["name"]: logins_of(user, secret, where) for user in params["users"]}
        admin = admin_of(servers.access.username, secret, where)
        with servers.reached(writing=True, within=params["timeout"]) as one:
            plan = look(servers, one, params["users"], wanted, admin)
            if plan and not context.check:
                with servers.store.lock(LOCK_WITHIN):
                    plan = look(servers, one, params["users"], wanted, admin)
                    for act in plan:
                        send(one, act)
                    # How old passwords are, and since when there has been something to back up.
                    servers.store.keep("logins", {"changed": stamp(datetime.datetime.now(datetime.UTC)), "engine": one.engine})
    return {
        "changed": bool(plan),
        "plan": [{"server": one.name, "command": act.shown, "reason": act.reason} for act in plan],
        "users": [{"name": name, "logins": [login.name for login in logins]} for name, logins in wanted.items()],
        "engine": one.engine,
        "warnings": [f"{one.name} is FerretDB, which lets every user do everything: roles are not kept"]
        if one.engine == FERRETDB and params["users"] and plan
        else [],
    }


def refuse(user: Mapping[str, t.Any]) -> None:
    names = user["logins"]
    if not names or len(set(names)) < len(names) or "" in names:
        raise PlatformError(f"users {user['name']}: logins is {names!r}; different names are wanted, two for passwords to be changed.")
    for role in user["roles"]:
        if not all(role.rpartition("@")[::2]):
            raise PlatformError(f"users {user['name']}: role {role!r} is not role@database.")


def logins_of(user: Mapping[str, t.Any], secret: Mapping[str, str], where: str) -> tuple[Login, ...]:
    """The logins of a user that are let in now: the current one, and the next or the former one while they change."""
    name, roles = user["name"], frozenset(user["roles"])
    found = []
    for prefix in ("", NEXT, FORMER):
        login, password = secret.get(f"{prefix}{name}-login", ""), secret.get(f"{prefix}{name}-password", "")
        if not prefix and not (login and password):
            keys = ", ".join(sorted(secret)) or "none"
            raise PlatformError(f"{where} has no {name}-login and {name}-password for user {name}; its keys: {keys}.")
        if login and password:
            found.append(Login(login, password, roles))
    for login_ in found:
        if login_.name not in user["logins"]:
            raise PlatformError(f"{where}: user {name} logs in as {login_.name}, which is none of its logins: {', '.join(user['logins'])}.")
        if len(login_.password) < SHORTEST:
            raise PlatformError(f"A password of user {name} in {where} has less than {SHORTEST} characters.")
    if len({login_.name for login_ in found}) < len(found):
        raise PlatformError(f"{where}: user {name} has one login name for two passwords. Give it two logins that take turns.")
    return tuple(found)


def admin_of(username: str, secret: Mapping[str, str], where: str) -> Login:
    """Who we log in as. Nobody keeps a connection as him, so his password is replaced as soon as there is a next one."""
    password = secret.get(f"{NEXT}password") or secret.get("password", "")
    if len(password) < SHORTEST:
        raise PlatformError(f"{where} has no key 'password' of {SHORTEST} characters or more for {username}.")
    return Login(username, password)


def look(
    servers: Servers, one: Server, users: Sequence[Mapping[str, t.Any]], wanted: Mapping[str, tuple[Login, ...]], admin: Login
) -> list[Act]:
    """What is there, and what is to be done. A password cannot be read, so it is tried."""
    there = {key.partition(".")[2]: roles for key, roles in users_of(one.expect({"usersInfo": 1})).items() if key.startswith("admin.")}
    known = [login for logins in wanted.values() for login in logins if login.name in there]
    refused = frozenset(login.name for login in [*known, admin] if not servers.lets_in(login.name, login.password, one))
    return plan(there, refused, users, wanted, admin, one.engine == FERRETDB)


def plan(
    there: Mapping[str, frozenset[str]],
    refused: frozenset[str],
    users: Sequence[Mapping[str, t.Any]],
    wanted: Mapping[str, tuple[Login, ...]],
    admin: Login,
    without_roles: bool,
) -> list[Act]:
    """Whoever is to be let in comes before anybody is shut out: pure. ``refused`` are the logins whose password is not taken."""
    concern: dict[str, t.Any] = {} if without_roles else {"writeConcern": {"w": "majority", "wtimeout": 10_000}}
    acts = []
    for user in users:
        for login in wanted[user["name"]]:
            roles = [] if without_roles else [_role(role) for role in sorted(login.roles)]
            fields = {"pwd": login.password, "roles": roles, **concern}
            if login.name not in there:
                acts.append(Act({"createUser": login.name, **fields}, f"user {user['name']} logs in as {login.name}"))
            elif login.name in refused:
                acts.append(Act({"updateUser": login.name, **fields}, f"{login.name} has another password"))
            elif not without_roles and there[login.name] != login.roles:
                acts.append(Act({"updateUser": login.name, "roles": roles, **concern}, f"the roles of {login.name} differ"))
    if admin.name in refused:
        acts.append(Act({"updateUser": admin.name, "pwd": admin.password, **concern}, f"the password of {admin.name} is changed"))
    for user in users:
        let_in = {login.name for login in wanted[user["name"]]}
        acts += [
            Act({"dropUser": name, **concern}, f"user {user['name']} does not log in as {name} any more")
            for name in user["logins"]
            if name in there and name not in let_in
        ]
    return acts


def send(one: Server, act: Act) -> None:
    reply = one.command(act.command)
    gone = "dropUser" in act.command and reply.get("code") == NOT_THERE
    if not reply.get("ok") and not gone:
        raise PlatformError(f"{one.name} refuses {act.shown}: {reply.get('errmsg')} (code {reply.get('code')}).")


def _role(text: str) -> dict[str, str]:
    role, _at, database = text.rpartition("@")
    return {"role": role, "db": database}
