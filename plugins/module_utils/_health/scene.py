# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every check is given besides its options (private: may change without notice)."""

from __future__ import annotations

import typing as t
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ansible_collections.progressive.platform.plugins.module_utils._health.cluster import Cluster
from ansible_collections.progressive.platform.plugins.module_utils._health.model import Finding, Options
from ansible_collections.progressive.platform.plugins.module_utils._run import Clock


@dataclass(frozen=True)
class Scene:
    """The cluster, the clock, whether nothing may be written, and the module's own parameters."""

    cluster: Cluster
    clock: Clock
    check_mode: bool = False
    params: Mapping[str, t.Any] = field(default_factory=dict)


Looker = Callable[[Options, Scene, float], Finding]
"""A kind of check: options, scene, and the time of the clock by which it must be back."""
