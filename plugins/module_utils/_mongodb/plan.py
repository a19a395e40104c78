# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what the members say to the next command: pure, no clock, no network (private: may change without notice).

``decide`` runs the stages in the order of repair; the first that has something to do decides, and whatever it decides is carried out and observed again
before anything else. A state that no stage knows ends in a wait with a limit: it is never taken for another one.
"""

from __future__ import annotations

import typing as t
from collections.abc import Iterable

from ansible_collections.progressive.platform.plugins.module_utils._members.model import Refuse, Wait
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.model import Decision, Done
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.picture import Picture
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.stages.elections import agreement, election, forced
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.stages.formation import first_user, initiate, strangers
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.stages.membership import (
    join,
    leave,
    names,
    voters,
)
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.stages.presence import absent, copying, sick, split, unusable
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.stages.rolling import rolling
from ansible_collections.progressive.platform.plugins.module_utils._mongodb.stages.settings import configured, defaults, users

Stage: t.TypeAlias = "t.Callable[[Picture], Decision | None]"

STAGES: tuple[Stage, ...] = (
    unusable,
    split,
    strangers,
    forced,
    initiate,
    election,
    first_user,
    names,
    leave,
    absent,
    join,
    copying,
    sick,
    voters,
    agreement,
    configured,
    defaults,
    users,
    rolling,
)


def decide(picture: Picture) -> Decision:
    """The one thing to do now."""
    return next(iter(_decisions(picture)), Done())


def findings(picture: Picture) -> list[Decision]:
    """What every stage has to say, for a report; only the first is acted upon, the others may settle with it."""
    return list(_decisions(picture))


def _decisions(picture: Picture) -> Iterable[Decision]:
    for stage in STAGES:
        decision = stage(picture)
        if isinstance(decision, Wait) and picture.age(decision.key) > decision.limit:
            decision = Refuse(decision.state, decision.refusal)
        if decision is not None:
            yield decision
            if stage in {unusable, split, initiate}:
                return
