# Copyright: progressive.platform contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.progressive.platform.plugins.module_utils._mirror.digests import ARGUMENTS, run
from ansible_collections.progressive.platform.plugins.plugin_utils._local_action import LocalAction


class ActionModule(LocalAction):
    """Writes into the inventory, on the controller."""

    module = "progressive.platform.image_digests"
    argument_spec = ARGUMENTS
    run_function = run
    on_controller = True
