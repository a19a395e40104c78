# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pods of an older template: how far a roll is, whose turn it is, and what it waits for (private: may change without notice)."""

from __future__ import annotations

from collections.abc import Sequence

from ansible_collections.progressive.platform.plugins.module_utils._members.model import FOREVER, Target, Wait

CONTROLLER_WITHIN = 60.0
EVICTED = "evicted within the disruption budget; its controller makes it anew"


def unseen(state: str, targets: Sequence[Target]) -> Wait | None:
    """Nobody knows what is outdated before the controller has looked at its newest template."""
    names = [target.name for target in targets if target.update == "unseen"]
    if not names:
        return None
    text = (
        f"The controller of {names[0]} has not looked at its newest template for {CONTROLLER_WITHIN:g} s. Does kube-controller-manager run?"
    )
    return Wait(state, "revision", f"the controller of {names[0]} has not seen its newest template yet", CONTROLLER_WITHIN, text)


def unready(state: str, targets: Sequence[Target]) -> Wait | None:
    """One at a time: a pod of the newest template is ready before the next goes. One of an older template is not waited for, the newest may be its cure."""
    names = [target.name for target in targets if not target.ready and not target.outdated]
    return Wait(state, "ready", f"{progress(targets)}; {', '.join(names)} is not ready yet", FOREVER, "") if names else None


def turn(target: Target) -> tuple[bool, int]:
    """The largest is next: a pod that is not ready, then the highest ordinal."""
    return (not target.ready, target.ordinal)


def progress(targets: Sequence[Target]) -> str:
    return f"{sum(not target.outdated for target in targets)} of {len(targets)} pods have the newest template"
