# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pods that still run an older template are replaced, one at a time, the primary last (private: may change without notice).

The stage comes last, so every step waits until the set is whole again. It remembers nothing: who is to be replaced is asked of the API server.
"""

from __future__ import annotations

from ansible_collections.progressive.platform.plugins.module_utils._members.model import Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.model import EVICT, Act, Action, Decision, Node
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.stages.common import FOREVER, step_down

CONTROLLER_WITHIN = 60.0


def rolling(picture: Picture) -> Decision | None:
    """M19: secondaries from the highest ordinal down; then the primary hands over and follows."""
    if not picture.desired.roll:
        return None
    nodes = picture.observation.nodes
    unseen = [node.name for node in nodes if node.target.update == "unseen"]
    if unseen:
        text = f"The controller of {unseen[0]} has not looked at its newest template for {CONTROLLER_WITHIN:g} s. Does kube-controller-manager run?"
        return Wait("M19", "revision", f"the controller of {unseen[0]} has not seen its newest template yet", CONTROLLER_WITHIN, text)
    outdated = [node for node in picture.live if node.target.outdated]
    if not outdated:
        return None
    waiting = [node.name for node in nodes if not node.target.ready]
    progress = f"{sum(not node.target.outdated for node in nodes)} of {len(nodes)} pods have the newest template"
    if waiting:
        return Wait("M19", "ready", f"{progress}; {', '.join(waiting)} is not ready yet", FOREVER, "")
    node = max(outdated, key=lambda one: (one is not picture.primary, one.target.ordinal))
    if node is not picture.primary:
        return _replace(node, progress)
    if not any(entry.electable for name, entry in picture.entries_of.items() if name != node.name):
        return Refuse(
            "M19",
            f"{node.name} has an older template and no other member may become primary. Give one a priority above 0 (member_options).",
        )
    return step_down("M19", "handover", node, f"{node.name} hands over, its pod is replaced next ({progress})")


def _replace(node: Node, progress: str) -> Act:
    why = f"{node.name} is replaced by a pod of the newest template ({progress})"
    action = Action(node.name, {EVICT: node.target.uid}, "evicted within the disruption budget; its controller makes it anew")
    return Act("M19", "replace", why, action)
