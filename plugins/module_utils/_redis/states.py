# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every state that a cluster can be found in, in words: a finding's name, and the table of docs/redis_cluster.md (private: may change without notice)."""

from __future__ import annotations

from ansible_collections.progressive.platform.plugins.module_utils._members.model import State

STATES: dict[str, State] = {
    "S1": State(
        "all nodes are fresh",
        "No node knows another, owns a slot, holds a key or a function.",
        "Epochs and formation settings, every node meets every other, slots to masters chosen by placement, replicas, settings back; a killed formation "
        "is taken up where it stopped.",
        "Fewer nodes than wanted (after `timeout`); `masters` below 3; a node holds keys or functions (`discard_data`); a marker remembers a cluster here "
        "(R3; `allow_data_loss` with its fingerprint).",
    ),
    "S2": State(
        "some nodes have met, nobody owns slots",
        "Nodes in several groups, no slots anywhere.",
        "The rest is met, IDs stay, then as S1.",
        "A group knows a live owner that is not among the nodes given (S21), or remembers slots of a dead one (S11).",
    ),
    "S3": State(
        "some slots never had an owner",
        "Some masters own slots, the rest is unassigned, everything is empty and was never complete.",
        "The missing slots go to wanted masters that have none.",
        "Keys are there, or the marker says it was complete once: S11.",
    ),
    "S4": State(
        "healthy and as wanted", "All agree, all say ok, as many masters and replicas as wanted.", "Nothing; only readers are sent.", "-"
    ),
    "S5": State(
        "one node has a new address",
        "Peers look for one live ID at an address where it no longer is.",
        "Gossip gets 2 node timeouts, then as S6.",
        "-",
    ),
    "S6": State(
        "several nodes have new addresses",
        "Live IDs are looked for elsewhere and their links are down: every pod was restarted.",
        "One `MEET` at the present address from every node that looks at the old one. A link that works is left alone, whatever its address.",
        "One ID answers at two addresses (a cloned volume).",
    ),
    "S7": State(
        "a replica's link is down",
        "Gossip is fine, `master_link_status` is down; or it is up and the master has never heard of it (a `SYNC` after a refused `PSYNC`).",
        "2 node timeouts and the diskless delay are waited, a running copy up to `load_timeout`; then `REPLICATE` of the same master. "
        "One that has acknowledged nothing for 10 s is reset (`RESET SOFT`), joins, and copies its master again, one at a time.",
        "Its `masterauth` is not the password; the copy does not end within `load_timeout`.",
    ),
    "S8": State(
        "a node came back without its volume",
        "A fresh node among the targets, its former ID dead, its shard has a master.",
        "It meets the others, becomes a replica by placement, copies; the former ID is S22.",
        "It holds keys or remembers others: S23.",
    ),
    "S9": State(
        "an owner failed and a live replica exists",
        "An ID with slots is silent or gone; a replica of it answers.",
        "The election gets 2 node timeouts and 10 s; while the node may be coming back, until `timeout`. With `allow_data_loss: [ID]` the replica with "
        "the highest offset is promoted (`FAILOVER FORCE`: the other masters still vote).",
        "Nobody was elected (data too old, `cluster-replica-no-failover`, or wiped in place at the same address): prints the ID and the command.",
    ),
    "S10": State(
        "most masters are gone",
        "More owners are silent or gone than answer, so no election can be won.",
        "Silent ones are waited for. With `allow_takeover` the replica with the highest offset of each lost shard takes over without votes "
        "(`FAILOVER TAKEOVER`): at once when every target answers under another ID, else after 2 node timeouts and 10 s; the result warns of it.",
        "`allow_takeover` is not given: prints IDs, slots and the exact command for each shard.",
    ),
    "S11": State(
        "slots have lost their owner",
        "Slots nobody owns in a cluster that was complete or holds data; the owner's ID is dead without a replica, or somebody removed them.",
        "Keys of these slots are counted on every node. On one master only: it gets the slot (`ADDSLOTSRANGE`, `BUMPEPOCH`). No key anywhere: with "
        "`allow_data_loss: ['0-99']` they go to masters that need slots, else to the smallest.",
        "No key anywhere and the range is not named; keys on several nodes or on a replica alone (slots, IDs and counts are printed).",
    ),
    "S12": State(
        "a move of slots was left half done",
        "A slot migrates from its owner to a node that imports it.",
        "Its remaining keys are moved, then `SETSLOT NODE` on the taker first, the giver, the others.",
        "The other end does not answer (by its ID in `allow_data_loss` the slot is closed without it).",
    ),
    "S13": State(
        "a slot is open on one side only",
        "A node imports a slot that its owner does not migrate, or migrates one that nobody imports.",
        "No key has arrived: `SETSLOT STABLE`. Keys have: they go to the owner. An importer whose source has failed does not hear of the new owner, and is "
        "told first (`SETSLOT NODE`), or its `MIGRATE` is refused for ever.",
        "A key is on both sides with different values and `on_conflict` is `refuse` (`owner` and `importer` decide).",
    ),
    "S14": State(
        "several nodes claim or import one slot",
        "Two owners by their own word, several importers, or keys on a node that does not own their slot.",
        "The owner with the higher epoch counts. Importers without keys are closed; keys go to the owner, or on to the node that the owner migrates to.",
        "As S13; a node does not say how many keys it has.",
    ),
    "S15": State(
        "a slot is open on a replica",
        "`SETSLOT` is refused there, and closing it on the master does not reach it.",
        "The replica is reset (`RESET SOFT`), joins, and copies its master again, one at a time.",
        "Its master is not a live owner: the copy may be the last.",
    ),
    "S16": State(
        "a node loads its data",
        "`loading:1`, or every command is answered `LOADING`.",
        "It counts as present and is waited for, with its own estimate as progress.",
        "It still loads after `load_timeout`.",
    ),
    "S17": State(
        "a node is suspected, or does not answer",
        "`fail?` in some views, or no connection.",
        "Waited for: a suspicion one node timeout, a silent node up to `timeout`.",
        "`timeout` is over: names the node and why.",
    ),
    "S18": State(
        "views differ, or links are missing",
        "Nodes see other owners than the owners themselves do, or older epochs of theirs, or cannot reach each other's bus port.",
        "30 s, or 2 node timeouts and 5 s if that is longer.",
        "Still so: prints the nodes, what owners they should see, or the blocked pairs and bus ports.",
    ),
    "S19": State(
        "two masters share a config epoch",
        "Equal `configEpoch` of two owners.",
        "The servers settle it; after 2 node timeouts `BUMPEPOCH` on one of them.",
        "-",
    ),
    "S20": State(
        "two clusters",
        "Groups of nodes that do not know each other each own slots.",
        "No key anywhere and no slot with two owners: they meet (a creation that died before its nodes met). All but one without a key: those are dissolved "
        "(`RESET SOFT`) and join it. Parts with disjoint slots meet when the marker remembers them as one cluster, or `adopt_data` names them; before that, "
        "views let go of former owners with a higher epoch (`DELSLOTS`), whose word would make a server drop the slots and their keys.",
        "Two or more hold keys: prints the inventory of each. A group to be dissolved has other members, which may hold its keys.",
    ),
    "S21": State(
        "a live node that is not among those given",
        "An ID that peers reach and no target has.",
        "With `forget_node_ids: [ID]` every node forgets it in one pass.",
        "It is not named (after 2 node timeouts); it owns slots; a node that is given replicates from it (S22).",
    ),
    "S22": State(
        "dead IDs are remembered",
        "`fail` or `noaddr` IDs without slots that no target has.",
        "`FORGET` on every node in one pass, after everything else.",
        "A live replica still names it as its master and has no other to go to.",
    ),
    "S23": State(
        "a newcomer holds data, or is another cluster's",
        "A node that is to join has keys or functions, or remembers others; or it is no cluster node at all.",
        "`discard_data: [ID]`: emptied (`FLUSHALL`, `FUNCTION FLUSH`, `RESET HARD`), then as S8. `adopt_data: [ID]`: joins with its keys if none of "
        "their slots has an owner, and gets those slots (S11).",
        "Not named; another cluster's nodes still answer it (always); a key to be adopted is in a slot that has an owner (slots and counts are printed).",
    ),
    "S24": State(
        "replicas are unevenly spread",
        "A shard has fewer than wanted, another has one to spare.",
        "One replica moves at a time, the one that keeps the placement best.",
        "No shard has one to spare; the copy would not fit the replica's `maxmemory`.",
    ),
    "S25": State(
        "copies of a shard share a host or a zone",
        "The placement score is above what is possible.",
        "Reported as score and violations. With `rebalance_topology` a replica takes over where that helps (S28), then replicas move one at a time.",
        "A shard with data would have fewer copies meanwhile: asks for one more node for that time. Never while slots are open.",
    ),
    "S26": State(
        "a master without slots",
        "A member that is a master and owns nothing.",
        "Not wanted as a master: becomes a replica. Wanted: gets its share (S29).",
        "It holds keys (`discard_data: [ID]` drops them); a master is wanted and no empty node is free.",
    ),
    "S27": State(
        "a replica of a replica, or of a master without slots",
        "Its master owns nothing.",
        "It becomes a replica of a shard that needs one. In a cluster that never held anything it becomes a master where one is missing (`RESET SOFT`).",
        "-",
    ),
    "S28": State(
        "masters sit elsewhere than meant",
        "After a failover a master is on another ordinal, or several share a host or zone.",
        "Left alone: roles are dynamic. With `failback` masters come back to where they spread best and then to the lowest ordinals, with "
        "`rebalance_topology` only where the score improves: one planned failover at a time, to a replica whose link is up.",
        "The replica stays more than 1 MiB behind for 30 s.",
    ),
    "S29": State(
        "more masters are wanted",
        "Fewer owners than `masters`, nodes for them are there.",
        "They join, replicas are attached to them first, then the fewest slots move with their keys, ranges kept whole.",
        "No node is free; a taker's memory forecast is above 80 % of its `maxmemory`; a new master does not say ok.",
    ),
    "S30": State(
        "fewer masters are wanted",
        "More owners than `masters`.",
        "Nodes that stay take over where too few of them are masters; the others hand all slots straight to their final owners, are forgotten and made fresh, "
        "and are reported as removable.",
        "A taker's memory forecast is above 80 %; takers have no replica and givers have; a leaver still holds keys or functions.",
    ),
    "S31": State(
        "more or fewer replicas are wanted",
        "Nodes without a shard, or beyond the wanted number.",
        "More: attached by placement. Fewer: forgotten and made fresh, reported as removable (`surplus: keep` leaves them as further replicas).",
        "Masters take writes only with more replicas than are wanted (`min-replicas-to-write`).",
    ),
    "S32": State(
        "a node says fail though everything is assigned",
        "`cluster_state:fail` with 16384 agreed slots: just started, or just back from a minority.",
        "Waited for as long as for S18.",
        "Still so: names the nodes.",
    ),
    "S33": State(
        "a node cannot keep its data, or its files keep it from starting",
        "`MISCONF`, a failed snapshot or append; a pod in a crash loop (damaged append-only file or nodes.conf).",
        "Reported with the node and its own last words. `recreate_replica: [pod]` deletes a damaged replica's pod and claims while its shard has a healthy "
        "master; then as S8.",
        "Not named; it is a master, or its master is not healthy (the only copy); it is no pod (says what to do by hand).",
    ),
    "S34": State(
        "the nodes run different versions",
        "An upgrade is under way.",
        "Verified, failed over, met again; with `roll` pods of an older template are replaced, replicas first, each master after a planned failover.",
        "Anything else that would change the topology; a step back to a version that cannot read the data.",
    ),
    "S35": State(
        "nodes take different passwords",
        "A rotation was left half done, or the password is wrong.",
        "With `former_password` both are tried; the new one is added everywhere, then replicas log in with it.",
        "Neither works, the user lacks a right, or TLS does not agree: each in its own words.",
    ),
}
