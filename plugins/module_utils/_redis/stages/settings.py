# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings for the moment of forming and back, and the last word of every node (private: may change without notice)."""

from __future__ import annotations

from ansible_collections.progressive.platform.plugins.module_utils._members.model import Wait
from ansible_collections.progressive.platform.plugins.module_utils._redis.model import FORMATION_TIMEOUT, Act, Action, Decision
from ansible_collections.progressive.platform.plugins.module_utils._redis.picture import Picture

FORMING_AT_MOST = 10.0
"""Seconds with formation settings; a formation that needs longer goes on with the nodes' own settings, for a timeout of 500 ms is no way to live."""


def prepare(picture: Picture) -> Decision | None:
    """Distinct epochs while the nodes are alone (only then SET-CONFIG-EPOCH is legal), and settings that let an empty cluster form in half a second."""
    if not picture.forming or not picture.gap or picture.strangers:
        return None
    if picture.age("forming") > FORMING_AT_MOST:
        return None
    actions = []
    epoch = max(max(node.me.epoch, node.current_epoch) for node in picture.live)
    for node in picture.live:
        if node.node_timeout_ms > FORMATION_TIMEOUT:
            reason = f"says ok after 0.5 s and not after {min(node.node_timeout_ms, 5000) / 1000:g} s while the cluster is empty; restored afterwards"
            actions.append(Action(node.name, ("CONFIG", "SET", "cluster-node-timeout", str(FORMATION_TIMEOUT)), reason))
        if node.sync_delay_s > 0:
            reason = f"its replicas do not wait {node.sync_delay_s} s for company while the cluster is empty; restored afterwards"
            actions.append(Action(node.name, ("CONFIG", "SET", "repl-diskless-sync-delay", "0"), reason))
        if node.fresh:
            epoch += 1
            actions.append(Action(node.name, ("CLUSTER", "SET-CONFIG-EPOCH", str(epoch)), "distinct epochs, so that masters never collide"))
    return Act("S1" if not picture.owned else "S3", "prepare", "an empty cluster is formed", tuple(actions)) if actions else None


def restore_early(picture: Picture) -> Decision | None:
    """Formation settings on a cluster that holds data, or that has been forming for too long, come off before anything else."""
    if not picture.empty or picture.age("forming") > FORMING_AT_MOST:
        return restore(picture)
    return None


def restore(picture: Picture) -> Decision | None:
    """Formation settings back to what each node had; cluster-node-timeout to node_timeout_ms where the caller gives it."""
    marker = picture.observation.marker
    actions = []
    for node in picture.live:
        saved = dict(marker.settings.get(node.id, {})) if marker else {}
        if picture.desired.node_timeout_ms:
            saved["cluster-node-timeout"] = str(picture.desired.node_timeout_ms)
        now = {"cluster-node-timeout": str(node.node_timeout_ms), "repl-diskless-sync-delay": str(node.sync_delay_s)}
        actions += [
            Action(node.name, ("CONFIG", "SET", name, value), f"as it was before the formation, {now[name]} now")
            for name, value in saved.items()
            if now.get(name) != value and int(now.get(name, "0")) >= 0
        ]
    return Act("S1", "restore", "the nodes' own settings come back", tuple(actions)) if actions else None


def verdict(picture: Picture) -> Decision | None:
    """S32: everything is assigned and agreed, but a node does not say ok yet."""
    not_ok = [node.name for node in picture.live if not node.cluster_ok]
    if not not_ok:
        return None
    limit = max(picture.desired.agreement_timeout, 2 * picture.node_timeout + 5)
    text = f"All slots are owned and agreed, but after {limit:.0f} s {', '.join(not_ok)} still say cluster_state:fail. Look at their logs."
    return Wait("S32", "verdict", f"cluster_state is not ok yet on {', '.join(not_ok)}", limit, text)
