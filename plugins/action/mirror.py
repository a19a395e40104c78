# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.progressive.platform.plugins.module_utils._mirror.mirror import ARGUMENTS, CONSTRAINTS, run
from ansible_collections.progressive.platform.plugins.plugin_utils._local_action import LocalAction


class ActionModule(LocalAction):
    """Copies from the controller, where the bill and the archive are."""

    module = "progressive.platform.mirror"
    argument_spec = ARGUMENTS
    constraints = CONSTRAINTS
    run_function = run
    on_controller = True
