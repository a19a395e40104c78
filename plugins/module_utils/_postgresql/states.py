# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every state that a cluster can be found in, in words: a finding's name, and the table of docs/postgresql.md (private: may change without notice)."""

from __future__ import annotations

from ansible_collections.progressive.platform.plugins.module_utils._members.model import State

STATES: dict[str, State] = {
    "P1": State(
        "data of different clusters",
        "Members tell different system identifiers: a volume of another cluster was attached, or one was initialized twice.",
        "Nothing.",
        "Always: prints whose data has which identifier. A person decides which is wanted and removes the others' volumes.",
    ),
    "P2": State(
        "nobody answers",
        "No member's REST interface answers, or there is no pod.",
        "Waited for: pods are scheduled, images pulled, volumes mounted.",
        "Still so after 180 s: prints what is wrong with each.",
    ),
    "P3": State(
        "two primaries",
        "Two members run as primary by their own word.",
        "Waited for: the one without the lock stops itself within the lock's life.",
        "Still so after 90 s: names both, and the command.",
    ),
    "P4": State(
        "no primary",
        "Members answer and none is primary: the first start, an election, a crash recovery.",
        "Waited for: an election 90 s, members that are away 180 s, one that recovers or copies `copy_timeout`.",
        "Then: names the members' states, and how one is promoted that lacks commits. At once where Patroni is paused.",
    ),
    "P5": State(
        "no agreement on the primary",
        "Some take another member, or nobody, for the leader.",
        "Waited for.",
        "Still so after 90 s: names them.",
    ),
    "P6": State(
        "settings differ",
        "The dynamic configuration is not as wanted.",
        "One `PATCH /config` with what differs. `synchronous_mode_strict` waits for a standby that streams, or no write would be acknowledged; a shorter "
        "`loop_wait` of a forming cluster stays until everybody streams.",
        "Nobody gives the configuration for 30 s, or Patroni refuses the patch for 30 s.",
    ),
    "P7": State(
        "users or databases differ",
        "Roles, passwords, databases, owners, extensions or grants are missing or otherwise.",
        "The missing statements, to the primary. Passwords go as what the server stores of them. Nothing is ever dropped.",
        "The primary refuses a statement (with its own words), or does not answer to SQL for 30 s.",
    ),
    "P8": State(
        "too few members",
        "Fewer pods than members wanted.",
        "Waited for.",
        "Still so after 180 s.",
    ),
    "P9": State(
        "a member does not answer",
        "A pod is not running, or its Patroni is silent; the others serve.",
        "Waited for; while it is away nobody is restarted or replaced.",
        "Still so after 180 s: names the pod's own reason.",
    ),
    "P10": State(
        "a member copies or starts",
        "A replica copies the primary's data, is rewound, or a server starts.",
        "Waited for, up to `copy_timeout`.",
        "Then: names it.",
    ),
    "P11": State(
        "a replica does not stream",
        "It runs, is Ready perhaps, and has no stream from the primary: it replays an archive, or WAL it needs is gone.",
        "Waited for: Patroni rewinds it or copies it anew by itself.",
        "Still so after 90 s: names it, and `reinit`.",
    ),
    "P12": State(
        "no standby is synchronous",
        "`synchronous_mode` is on, a replica streams, and no commit waits for it yet.",
        "Waited for: Patroni chooses one in its next round.",
        "Still so after 60 s.",
    ),
    "P13": State(
        "a copy is asked for",
        "`reinit` names a replica.",
        "Patroni drops its data and copies the primary's, once a run.",
        "It is the primary. One that does not answer is waited for (P9).",
    ),
    "P14": State(
        "a restart is due",
        "A parameter has changed that takes effect by a restart alone.",
        "One at a time and only while all stream: replicas, then a switchover to the best standby, then the former primary. What a replica may not have "
        "less of than its primary (`max_connections` and its like) is lowered on the primary first, by a restart of a second or two where it stands.",
        "No replica could take over for 90 s. With `restart: false` the parameters are named in a warning.",
    ),
    "P15": State(
        "pods of an older template",
        "The StatefulSet has a newer template: image, resources, scripts.",
        "With `roll`: evicted within the disruption budget, in the order of P14. Otherwise named in a warning.",
        "No replica could take over for 90 s; the controller does not look at its template for 60 s.",
    ),
    "P16": State(
        "a switchover is asked for",
        "`switchover` names a member that is not the primary.",
        "It takes over.",
        "It is no member, or does not stream; with synchronous commits it is still none of the synchronous standbys after 60 s.",
    ),
    "P17": State(
        "more members than wanted",
        "Pods with ordinals beyond `members`.",
        "A primary among them hands over to the best of those that stay; then they are returned as `removable`, and the role takes the pods away.",
        "None of those that stay could take over for 90 s.",
    ),
    "P18": State(
        "the slot of a member that is gone",
        "The primary has a replication slot of a pod beyond `members` that is no longer there; it would hold WAL back.",
        "`member_slots_ttl` goes to 1 s until Patroni has dropped it, then to what it was. (Dropped by hand, Patroni would make it again.)",
        "It is still there after 60 s.",
    ),
}
