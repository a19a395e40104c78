# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every state that a replica set can be found in, in words: a finding's name, and the table of docs/mongodb.md (private: may change without notice)."""

from __future__ import annotations

from ansible_collections.progressive.platform.plugins.module_utils._members.model import State

STATES: dict[str, State] = {
    "M1": State(
        "no set yet",
        "No member has a configuration.",
        "When all expected members are there, nobody has used any, and no set is remembered: `replSetInitiate` with all, then the first "
        "election is asked for at once.",
        "A marker remembers a set whose storage is still there (`allow_data_loss` with its fingerprint); the server refuses members "
        "with data (110).",
    ),
    "M2": State(
        "newcomer",
        "A fresh member, or a removed one of this set, is in no entry.",
        "It joins with votes 0 and priority 0, one at a time.",
        "-",
    ),
    "M3": State(
        "copying",
        "A member is in STARTUP2, or lost its disk and has its old name.",
        "Waits, up to `sync_timeout`; it is not part of `timeout`.",
        "-",
    ),
    "M4": State(
        "healthy",
        "One primary that all follow, one configuration, as wanted.",
        "Nothing; readers only. What was formed is remembered in the marker.",
        "-",
    ),
    "M5": State(
        "votes",
        "A member that has the data has no vote and should, or the other way round.",
        "One vote a reconfiguration; a primary hands over before it loses its own.",
        "-",
    ),
    "M6": State(
        "name",
        "An entry names an address, or another name than the member keeps.",
        "One name a reconfiguration, secondaries first; the primary steps down and comes last.",
        "-",
    ),
    "M7": State(
        "no primary",
        "A majority of voters answers.",
        "Three election timeouts, then `replSetStepUp` of the member with the newest write, then three more.",
        "Nobody is elected; nobody can be.",
    ),
    "M8": State(
        "majority lost",
        "Fewer voters answer than a majority.",
        "Waits `return_timeout`.",
        "Always, unless `force_reconfig` names exactly the members that answer: then `replSetReconfig` with `force` on the one with the "
        "newest write.",
    ),
    "M9": State(
        "two sets",
        "Members with different replica set IDs, or a set of another name.",
        "Nothing.",
        "Always.",
    ),
    "M10": State(
        "used before",
        "A member has users and no configuration.",
        "Nothing.",
        "Always: joining would drop what it holds.",
    ),
    "M11": State(
        "not serving",
        "RECOVERING, ROLLBACK, REMOVED by another's hand.",
        "Waits `return_timeout`.",
        "Still so; the message says whether another copy exists before it speaks of emptying a volume.",
    ),
    "M12": State(
        "silent",
        "A member does not answer, or there are fewer than wanted.",
        "Waits until `timeout`; the set serves on.",
        "-",
    ),
    "M13": State(
        "too many",
        "An entry of a pod beyond `members`, or of a host that is no target.",
        "First its vote goes, then it; a primary steps down first. Its pod goes afterwards (`removable`).",
        "A host of another domain, unless `remove_members` names it.",
    ),
    "M16": State(
        "settings",
        "Priorities, hidden members, tags or settings differ.",
        "One reconfiguration for all of them: they move no majority.",
        "-",
    ),
    "M17": State(
        "views differ",
        "Configurations or primaries differ, or the configuration is not committed.",
        "Waits 30 s.",
        "Still so: who does not follow whom.",
    ),
    "M19": State(
        "older pods",
        "`roll`, and pods of an older template.",
        "Secondaries from the highest ordinal, each evicted within the disruption budget when the set is whole again; then the primary "
        "steps down and follows. Never with force.",
        "Nobody else may become primary.",
    ),
    "M20": State(
        "not let in",
        "A refused login or certificate; no member of a set (started without `--replSet`, mongos).",
        "Nothing.",
        "Always.",
    ),
    "M21": State(
        "users",
        "Nobody can log in, a user is missing, roles differ.",
        "The first user through the localhost exception, the others by him; passwords are never changed.",
        "-",
    ),
    "M22": State(
        "write concern",
        "Nobody has set a default.",
        "`setDefaultRWConcern`, majority unless told otherwise.",
        "-",
    ),
}
