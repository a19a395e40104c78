# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pods that still run an older template are replaced, one at a time, the primary last (private: may change without notice).

The stage comes last, so every step waits until the set is whole again. It remembers nothing: who is to be replaced is asked of the API server.
"""

from __future__ import annotations

from ansible_collections.progressive.platform.plugins.module_utils._members import rolling as members
from ansible_collections.progressive.platform.plugins.module_utils._members.model import Refuse
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.model import EVICT, Act, Action, Decision, Node
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.stages.common import step_down


def rolling(picture: Picture) -> Decision | None:
    """M19: secondaries from the highest ordinal down; then the primary hands over and follows."""
    if not picture.desired.roll:
        return None
    targets = [node.target for node in picture.observation.nodes]
    unseen = members.unseen("M19", targets)
    if unseen is not None:
        return unseen
    outdated = [node for node in picture.live if node.target.outdated]
    if not outdated:
        return None
    unready = members.unready("M19", targets)
    if unready is not None:
        return unready
    progress = members.progress(targets)
    node = max(outdated, key=lambda one: (one is not picture.primary, members.turn(one.target)))
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
    action = Action(node.name, {EVICT: node.target.uid}, members.EVICTED)
    return Act("M19", "replace", why, action)
