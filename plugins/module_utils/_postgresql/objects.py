# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Users, databases, extensions and grants: from what is there to the statements that are missing. Pure (private: may change without notice).

Nothing is ever dropped: a user or database that is taken out of the inventory stays, and a grant above the wanted level is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ansible_collections.progressive.platform.plugins.module_utils._postgresql.model import Database, Desired, Facts, Statement, User
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.observe import LEVELS
from ansible_collections.progressive.platform.plugins.module_utils._postgresql.wire import identifier, literal, verifier, verifies

MAINTENANCE = "postgres"
"""The database that statements about the whole cluster are sent to."""


def missing(desired: Desired, facts: Facts) -> list[Statement]:
    """Statements in the order in which one needs the other."""
    found = [statement for name, user in desired.users.items() for statement in _user(name, user, facts.users.get(name))]
    for name, database in desired.databases.items():
        found += _database(name, database, facts.databases.get(name))
    return found


def _user(name: str, wanted: User, there: User | None) -> Iterator[Statement]:
    role = identifier(name)
    if there is None:
        if wanted.over or (wanted.system and not wanted.of):
            return  # a turn that never came; Patroni makes its own users
        attributes = " ".join(["LOGIN", *wanted.attributes.split(), f"CONNECTION LIMIT {wanted.connections}"])
        shown = f"CREATE ROLE {role} {attributes}" + (f" IN ROLE {identifier(wanted.of)}" if wanted.of else "")
        secret = f" PASSWORD {literal(verifier(wanted.password))}" if wanted.password else ""
        yield Statement(MAINTENANCE, shown + secret, shown)
    else:
        if wanted.over and there.password:
            yield _plain(f"ALTER ROLE {role} PASSWORD NULL")
        elif wanted.password and not verifies(wanted.password, there.password):
            text = f"ALTER ROLE {role} PASSWORD {literal(verifier(wanted.password))}"
            yield Statement(MAINTENANCE, text, f"ALTER ROLE {role} PASSWORD (of the Secret)")
        if wanted.connections != there.connections and not wanted.system:
            yield _plain(f"ALTER ROLE {role} CONNECTION LIMIT {wanted.connections}")
    if wanted.system:
        return
    settings: Mapping[str, str] = there.settings if there else {}
    for key, value in wanted.settings.items():
        if settings.get(key) != value:
            yield _plain(f"ALTER ROLE {role} SET {identifier(key)} TO {literal(value)}")
    for key in sorted(set(settings) - set(wanted.settings)):
        yield _plain(f"ALTER ROLE {role} RESET {identifier(key)}")
    for group in sorted(wanted.roles - (there.roles if there else frozenset())):
        yield _plain(f"GRANT {identifier(group)} TO {role}")


def _database(name: str, wanted: Database, there: Database | None) -> Iterator[Statement]:
    database, owner = identifier(name), identifier(wanted.owner)
    if there is None:
        yield _plain(f"CREATE DATABASE {database} OWNER {owner}")
        # By default everybody may connect to a database; here those who are named.
        yield _plain(f"REVOKE CONNECT, TEMPORARY ON DATABASE {database} FROM PUBLIC")
    elif there.owner != wanted.owner:
        yield _plain(f"ALTER DATABASE {database} OWNER TO {owner}")
    for extension in sorted(wanted.extensions - (there.extensions if there else frozenset())):
        yield _plain(f"CREATE EXTENSION IF NOT EXISTS {identifier(extension)} CASCADE", name)
    for user, level in wanted.grants.items():
        if _rank(there.grants.get(user, "") if there else "") < _rank(level):
            yield from _grant(name, wanted.owner, user, level)


def _grant(database: str, owner: str, user: str, level: str) -> Iterator[Statement]:
    role = identifier(user)
    yield _plain(f"GRANT CONNECT ON DATABASE {identifier(database)} TO {role}")
    if level == "connect":
        return
    tables, sequences = ("SELECT", "SELECT") if level == "read" else ("SELECT, INSERT, UPDATE, DELETE", "SELECT, USAGE")
    later = f"ALTER DEFAULT PRIVILEGES FOR ROLE {identifier(owner)} IN SCHEMA public GRANT"
    for text in (
        f"GRANT USAGE ON SCHEMA public TO {role}",
        f"GRANT {tables} ON ALL TABLES IN SCHEMA public TO {role}",
        f"GRANT {sequences} ON ALL SEQUENCES IN SCHEMA public TO {role}",
        f"{later} {tables} ON TABLES TO {role}",
        f"{later} {sequences} ON SEQUENCES TO {role}",
    ):
        yield _plain(text, database)


def _rank(level: str) -> int:
    return LEVELS.index(level) + 1 if level else 0


def _plain(text: str, database: str = MAINTENANCE) -> Statement:
    return Statement(database, text, text)
